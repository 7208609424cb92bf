"""Opening a suite: which benchmark lies in a folder, which photos it holds out, and whether it is complete.

Nobody's data come with cocogs: docs/benchmarks.md says where to get them and where to put them. Besides the
benchmarks in `cocogs.bench.protocols` there are truth scenes, made by scripts/make_truth_scene.py.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cocogs.bench.protocols import PROTOCOLS, Protocol, Published
from cocogs.errors import InputError, listed
from cocogs.io import colmap, folders, llff
from cocogs.io.photos import list_photos, read_header
from cocogs.io.source import MAX_SIDE
from cocogs.io.truth_file import TruthFile, read_truth


@dataclass(frozen=True)
class BenchScene:
    """One scene, ready to be trained on.

    Args:
        data: folder to train on.
        test_every, downscale: options of `cocogs train`.
        has_truth: a truth.json with refocused pictures lies beside the photos.
        sharp_data: folder of the same scene with sharp photos, for the ceiling; None if there are none.
    """

    name: str
    data: Path
    test_every: int
    downscale: int
    has_truth: bool = False
    sharp_data: Path | None = None


@dataclass(frozen=True)
class Suite:
    """What `cocogs bench` runs.

    Args:
        title: of the tables.
        scenes: in the protocol's order.
        published: figures of papers that used the same scenes, views, sizes and measures.
    """

    title: str
    scenes: list[BenchScene]
    published: tuple[Published, ...] = ()


def open_suite(folder: Path, work: Path, scenes: tuple[str, ...] = (), downscale: int | None = None) -> Suite:
    """Recognise the benchmark in `folder`, and check that it is complete.

    Args:
        folder: holds truth scenes, or is one, or holds the scenes of one of `PROTOCOLS`.
        work: folder for data that training needs in another arrangement (links to the photos).
        scenes: names of the scenes to run; empty for all.
        downscale: shrinks the photos this many times; None: as the benchmark says. With another factor there
            are no published figures.

    Raises:
        InputError: the folder holds no benchmark; or scenes or files are missing, or contradict its protocol.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder: give one with truth scenes or with the scenes of {_titles()}."
        )
    if (folder / "truth.json").is_file():
        truths = {folder.resolve().name: folder}
    else:
        truths = {path.parent.name: path.parent for path in sorted(folder.glob("*/truth.json"))}
    if truths:
        _check_others(folder, truths, scenes)
        chosen = _choose(folder, truths, list(truths), scenes)
        return Suite(
            "Truth scenes", [_truth_scene(name, truths[name], work, downscale or 1) for name in chosen]
        )
    protocol, found = _recognise(folder)
    chosen = _choose(folder, found, list(protocol.holds), scenes)
    factor = downscale or protocol.downscale
    opened = [_protocol_scene(protocol, name, found[name], work, factor) for name in chosen]
    same = not scenes and factor == protocol.downscale and _has_size(protocol, opened)
    return Suite(protocol.title, opened, protocol.published if same else ())


def _has_size(protocol: Protocol, scenes: list[BenchScene]) -> bool:
    """Whether the photos have the size that the protocol states, if it states one."""
    if protocol.size is None:
        return True
    photos = [folders.photo_folder(scene.data) for scene in scenes]
    headers = [read_header(folder / list_photos(folder)[0]) for folder in photos]
    return all((header.width, header.height) == protocol.size for header in headers)


def _titles() -> str:
    *most, last = (protocol.title for protocol in PROTOCOLS.values())
    return f"{', '.join(most)} or {last}"


def _recognise(folder: Path) -> tuple[Protocol, dict[str, Path]]:
    """The protocol with the most scenes among the subfolders, and the folders of these scenes."""
    best: tuple[Protocol, dict[str, Path]] | None = None
    for protocol in PROTOCOLS.values():
        found = {}
        for name in protocol.holds:
            candidates = [folder / name, folder / f"{protocol.prefix}{name}"]
            if path := next((c for c in candidates if c.is_dir()), None):
                found[name] = path
        if found and (best is None or len(found) > len(best[1])):
            best = protocol, found
    if best is None:
        raise InputError(
            f"{folder} holds no scene that cocogs knows: give a folder with truth scenes (each with a "
            f"truth.json) or with the scenes of {_titles()}."
        )
    return best


def _choose(folder: Path, found: dict[str, Path], known: list[str], scenes: tuple[str, ...]) -> list[str]:
    """Names of the scenes to run: all `known` ones, or `scenes`.

    Raises:
        InputError: a scene is not known, or not among those found.
    """
    if unknown := [name for name in scenes if name not in known]:
        raise InputError(
            f"{folder} has no scene {', '.join(unknown)}: choose `scenes` among {', '.join(known)}."
        )
    wanted = [name for name in known if not scenes or name in scenes]
    if absent := [name for name in wanted if name not in found]:
        raise InputError(
            f"{folder} lacks the scenes {', '.join(absent)}: download them, or name the `scenes` to run."
        )
    return wanted


def _check_others(folder: Path, truths: dict[str, Path], scenes: tuple[str, ...]) -> None:
    """Raises InputError if a scene beside truth scenes has lost its truth."""
    beside = {path.name for path in folder.iterdir() if (path / "images").is_dir()} - truths.keys()
    if beside and not scenes and folder not in truths.values():
        raise InputError(
            f"{folder / min(beside)} has images but no truth.json: make the scene again, or name the "
            "`scenes` to run."
        )


# ----------------------------------------------------------------------------------- the field's datasets


def _protocol_scene(protocol: Protocol, name: str, folder: Path, work: Path, downscale: int) -> BenchScene:
    test_every = _hold(protocol, name, folder)
    data = folder
    if protocol.triplets:
        data = _arrange_triplets(folder, work / f"{name}-triplets", test_every)
    folders.find_pictures(data, _photo_names(data), folders.Size(MAX_SIDE, downscale))
    return BenchScene(name, data, test_every, downscale)


def _hold(protocol: Protocol, name: str, folder: Path) -> int:
    """N of "every N-th photo is a test view".

    Raises:
        InputError: neither the protocol nor a file hold=N tells N, or the two disagree.
    """
    written, ruled = folders.read_hold(folder), protocol.holds[name]
    if written is None and ruled is None:
        raise InputError(
            f"{folder} has no file hold=N: create an empty file hold=8 there, for example, to make every 8th "
            "photo a test view."
        )
    if written is not None and ruled is not None and written != ruled:
        raise InputError(
            f"{folder / f'hold={written}'} contradicts the protocol of {protocol.title}, which keeps every "
            f"{ruled}th photo of {name} for testing: rename it hold={ruled}."
        )
    hold = ruled or written
    assert hold is not None
    return hold


def _photo_names(data: Path) -> list[str]:
    """Sorted names of the photos with a camera. Test views are counted over these.

    Raises:
        InputError: the download lacks files; the message names them.
    """
    if model := colmap.find_model(data):
        return [shot.name for shot in colmap.read_model(model).shots]
    if (data / llff.FILE).is_file():
        names = folders.list_largest(data)
        llff.read_poses_bounds(data, names)
        return names
    raise InputError(
        f"{data} has neither {llff.FILE} nor sparse/0/cameras.bin, images.bin and points3D.bin: "
        "download the scene again."
    )


def _arrange_triplets(scene: Path, data: Path, test_every: int) -> Path:
    """Choose photos by DoF-NeRF's rule: test views are all in focus, training views have the foreground and
    the background in focus by turns. images/ (all in focus), foreground/ and background/ hold photos of the
    same names."""
    for part in ("images", "foreground", "background"):
        if not (scene / part).is_dir():
            raise InputError(f"{scene / part} is missing: put there the photos of {part} of every triplet.")
    stems = {
        part: {Path(name).stem: name for name in list_photos(scene / part)}
        for part in ("images", "foreground", "background")
    }
    names = _photo_names(scene)
    if not 2 <= test_every < len(names):
        kind = "training" if test_every < 2 else "second test"
        raise InputError(
            f"{scene / f'hold={test_every}'} leaves no {kind} view of {len(names)} photos: rename it, for "
            "example, hold=8."
        )
    files, turn = {}, 0
    for index, name in enumerate(names):
        part = "images" if index % test_every == 0 else ("foreground", "background")[turn % 2]
        turn += part != "images"
        if Path(name).stem not in stems[part]:
            raise InputError(f"{scene / part} lacks the photo {name} of its triplet: download it again.")
        files[name] = scene / part / stems[part][Path(name).stem]
    return _link(data, scene, files)


# ------------------------------------------------------------------------------------------ truth scenes


def _truth_scene(name: str, folder: Path, work: Path, downscale: int) -> BenchScene:
    truth = read_truth(folder / "truth.json")
    frames = [truth.frames[name] for name in sorted(truth.frames)]
    sharp = {frame.name: folder / "sharp" / frame.name for frame in frames if not frame.test}
    has_twins = (folder / "sharp").is_dir()
    wanted = [folder / "images" / frame.name for frame in frames]
    wanted += [folder / "refocus" / entry.name for entry in truth.refocused]
    wanted += sharp.values() if has_twins else ()
    if missing := [str(file.relative_to(folder)) for file in wanted if not _is_whole(file)]:
        raise InputError(f"{folder} lacks {listed(missing)}: render or copy them.")
    test_every = _truth_split(folder, truth)
    folders.find_pictures(folder, _photo_names(folder), folders.Size(MAX_SIDE, downscale))
    has_truth = bool(truth.refocused)
    if not has_twins:
        return BenchScene(name, folder, test_every, downscale, has_truth)
    sharp |= {frame.name: folder / "images" / frame.name for frame in frames if frame.test}
    twins = _link(work / f"{name}-sharp", folder, sharp)
    return BenchScene(name, folder, test_every, downscale, has_truth, twins)


def _truth_split(folder: Path, truth: TruthFile) -> int:
    """N of "every N-th photo is a test view", by truth.json.

    Raises:
        InputError: it keeps other views for testing, or a file hold=N contradicts it.
    """
    names = sorted(truth.frames)
    tests = [name for name in names if truth.frames[name].test]
    test_every = next((n for n in range(2, len(names)) if tests == names[::n]), None)
    if test_every is None:
        raise InputError(
            f"{truth.path} does not keep every N-th view from the first for testing: make the scene again."
        )
    if (written := folders.read_hold(folder)) not in (None, test_every):
        raise InputError(
            f"{folder / f'hold={written}'} contradicts truth.json, which keeps every {test_every}th view for "
            f"testing: rename it hold={test_every}."
        )
    return test_every


def _is_whole(file: Path) -> bool:
    """Whether a file exists and is not empty."""
    return file.is_file() and file.stat().st_size > 0


def _link(data: Path, scene: Path, files: dict[str, Path]) -> Path:
    """Make a dataset at `data` with the cameras of `scene` and other photos: images/NAME links to a file."""
    links = {data / "images" / name: file.resolve() for name, file in files.items()}
    for part in ("sparse", llff.FILE, "truth.json", "refocus"):
        if (scene / part).exists():
            links[data / part] = (scene / part).resolve()
    shutil.rmtree(data, ignore_errors=True)
    for link, file in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return data
