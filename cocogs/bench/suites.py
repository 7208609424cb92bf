"""Benchmarks: which scenes, which photos are held out, what was published; and whether a download is whole.

Facts of the protocols and published averages: METHOD.md section 4, from Lee et al., CoCoGaussian, CVPR 2025,
Ma et al., Deblur-NeRF, CVPR 2022, Wu et al., DoF-NeRF, ACM MM 2022, Mildenhall et al., LLFF, 2019. Nobody's
data come with cocogs; docs/benchmarks.md says where to get them and how to lay them out. Scenes of
scripts/make_truth_scene.py are the fifth kind: truth.json says what is true of them.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io import colmap, folders, llff
from cocogs.io.photos import list_photos, read_header
from cocogs.io.truth_file import read_truth


@dataclass(frozen=True)
class Published:
    """What a paper states: averages over a benchmark's scenes.

    Args:
        method: as the field calls it.
        ssim_uniform_7: skimage's SSIM, uniform 7 x 7 window, pictures in [-1, 1].
        lpips: AlexNet, v0.1.
    """

    method: str
    psnr: float
    ssim_uniform_7: float
    lpips: float


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is run.

    Args:
        title: its name in tables.
        holds: every N-th photo in name order is a test view, from the first; N by scene, None where the
            scene's own file hold=N has to say it.
        downscale: how much smaller than full size the photos are.
        prefix: what the published folders put before a scene's name (allowed, not needed).
        triplets: photos come as all in focus, focused on the foreground, focused on the background.
        size: width and height of the photos trained with, where the protocol states them, px.
        published: figures of papers that follow this protocol.
    """

    title: str
    holds: dict[str, int | None]
    downscale: int
    prefix: str = ""
    triplets: bool = False
    size: tuple[int, int] | None = None
    published: tuple[Published, ...] = ()


def _even(hold: int | None, names: str) -> dict[str, int | None]:
    return dict.fromkeys(names.split(), hold)


PROTOCOLS = {
    "deblur-nerf-real": Protocol(
        "Deblur-NeRF, real defocus",
        # An eleventh scene, bush, is left out: every view of it is blurred alike.
        dict(cake=9, caps=5, cisco=7, coral=10, cupcake=6, cups=8, daisy=8, sausage=6, seal=6, tools=7),
        downscale=4,
        prefix="defocus",
        published=(
            Published("CoCoGaussian", 23.70, 0.7531, 0.0825),
            Published("DoF-Gaussian", 23.97, 0.756, 0.093),
            Published("PDRF-10", 23.85, 0.7382, 0.1746),
            Published("BAGS", 23.48, 0.7408, 0.0962),
            Published("3DGS", 23.38, 0.6655, 0.3140),
        ),
    ),
    "deblur-nerf-synthetic": Protocol(
        "Deblur-NeRF, synthetic defocus",
        _even(8, "cozy2room factory pool tanabata wine"),
        downscale=1,
        prefix="defocus",
        published=(
            Published("CoCoGaussian", 30.84, 0.9212, 0.0478),
            Published("BAGS", 30.65, 0.9128, 0.0631),
            Published("3DGS", 25.11, 0.7476, 0.2148),
        ),
    ),
    "dof-nerf-real": Protocol(
        "DoF-NeRF, real",
        _even(None, "amiya camera desk kendo plant shelf turtle"),
        downscale=1,
        triplets=True,
        size=(497, 331),
        published=(
            Published("CoCoGaussian", 30.14, 0.9127, 0.0701),
            Published("BAGS", 29.87, 0.8816, 0.1100),
            Published("3DGS", 25.72, 0.8291, 0.1817),
        ),
    ),
    "nerf-llff": Protocol(
        "NeRF-LLFF (sharp)",
        _even(8, "fern flower fortress horns leaves orchids room trex"),
        downscale=4,
        # Published averages exist (3DGS 27.10, CoCoGaussian 27.76 dB) but not the size they were measured at.
    ),
}


@dataclass(frozen=True)
class BenchScene:
    """One scene, ready to be trained on.

    Args:
        name: of the scene.
        data: folder to train on.
        test_every, downscale: what to tell `cocogs train`.
        has_truth: a truth.json with refocused pictures lies beside the photos.
        sharp_data: the same scene with sharp photos, for the ceiling; None where there are none.
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
        title: for tables.
        scenes: in order of names.
        published: figures of papers that used these very scenes, views, sizes and measures.
    """

    title: str
    scenes: list[BenchScene]
    published: tuple[Published, ...] = ()


def open_suite(folder: Path, work: Path, only: tuple[str, ...] = (), downscale: int | None = None) -> Suite:
    """Find out which benchmark lies in `folder`, and check that all of it is there.

    Args:
        folder: truth scenes, or a single one, or the scenes of one of PROTOCOLS.
        work: folder for data that training needs in another arrangement (links to the photos).
        only: names of scenes to run; empty for all.
        downscale: another size than the benchmark's; published figures are then left out.

    Raises:
        InputError: no benchmark is found there, or scenes or files of it are missing or contradict it.
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
        _check_others(folder, truths, only)
        chosen = _choose(folder, truths, list(truths), only)
        return Suite(
            "Truth scenes", [_truth_scene(name, truths[name], work, downscale or 1) for name in chosen]
        )
    protocol, found = _recognise(folder)
    chosen = _choose(folder, found, list(protocol.holds), only)
    factor = downscale or protocol.downscale
    scenes = [_protocol_scene(protocol, name, found[name], work, factor) for name in chosen]
    same = not only and factor == protocol.downscale and _has_size(protocol, scenes)
    return Suite(protocol.title, scenes, protocol.published if same else ())


def _has_size(protocol: Protocol, scenes: list[BenchScene]) -> bool:
    """Whether the photos are as large as the protocol says, where it does."""
    if protocol.size is None:
        return True
    photos = [folders.photo_folder(scene.data) for scene in scenes]
    headers = [read_header(folder / list_photos(folder)[0]) for folder in photos]
    return all((header.width, header.height) == protocol.size for header in headers)


def _titles() -> str:
    *most, last = (protocol.title for protocol in PROTOCOLS.values())
    return f"{', '.join(most)} or {last}"


def _recognise(folder: Path) -> tuple[Protocol, dict[str, Path]]:
    """The protocol that most subfolders belong to, and the folders of its scenes that are there."""
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


def _choose(folder: Path, found: dict[str, Path], all_names: list[str], only: tuple[str, ...]) -> list[str]:
    """The scenes to run; raises InputError where one is absent."""
    if unknown := [name for name in only if name not in all_names]:
        raise InputError(
            f"--scenes {' '.join(unknown)}: {folder} is a suite of {', '.join(all_names)}; choose among them."
        )
    wanted = [name for name in all_names if not only or name in only]
    if absent := [name for name in wanted if name not in found]:
        raise InputError(
            f"{folder} lacks scenes {', '.join(absent)}: download them, or name those to run with --scenes."
        )
    return wanted


def _check_others(folder: Path, truths: dict[str, Path], only: tuple[str, ...]) -> None:
    """Raises InputError for a scene beside truth scenes whose truth is gone."""
    beside = {path.name for path in folder.iterdir() if (path / "images").is_dir()} - truths.keys()
    if beside and not only and folder not in truths.values():
        raise InputError(
            f"{folder / min(beside)} has images but no truth.json: make the scene again, or name those to "
            "run with --scenes."
        )


# ----------------------------------------------------------------------------------- the field's datasets


def _protocol_scene(protocol: Protocol, name: str, folder: Path, work: Path, downscale: int) -> BenchScene:
    test_every = _hold(protocol, name, folder)
    data = folder
    if protocol.triplets:
        data = _arrange_triplets(folder, work / f"{name}-triplets", test_every)
    folders.find_pictures(data, _photo_names(data), downscale)
    return BenchScene(name, data, test_every, downscale)


def _hold(protocol: Protocol, name: str, folder: Path) -> int:
    """N of "every N-th photo is a test view"; raises InputError where file and protocol disagree."""
    written, ruled = folders.read_hold(folder), protocol.holds[name]
    if written is None and ruled is None:
        raise InputError(
            f"{folder} has no file hold=N: make an empty file named, for example, hold=8 there, "
            "to say that every 8th photo is a test view."
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
    """Names of the photos that have a camera, sorted: the test views are counted over these.

    Raises:
        InputError: names what a partial download lacks.
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
    """DoF-NeRF's rule: test views all in focus; training views by turns with the foreground and the
    background in focus. images/ (all in focus), foreground/ and background/ hold photos of the same names."""
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
    path = folder / "truth.json"
    truth = read_truth(path)
    frames = sorted(truth["frames"], key=lambda frame: frame["name"])
    sharp = {f["name"]: folder / "sharp" / f["name"] for f in frames if not f["test"]}
    has_twins = (folder / "sharp").is_dir()
    wanted = [folder / "images" / f["name"] for f in frames]
    wanted += [folder / "refocus" / r["name"] for r in truth["refocus"]]
    wanted += sharp.values() if has_twins else ()
    if missing := [str(file.relative_to(folder)) for file in wanted if not _is_whole(file)]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"{folder} lacks {', '.join(missing[:3])}{more}: render or copy them.")
    tests = [f["name"] for f in frames if f["test"]]
    held = (n for n in range(2, len(frames)) if tests == [f["name"] for f in frames[::n]])
    if (test_every := next(held, None)) is None:
        raise InputError(f"{path} does not keep every N-th view from the first for testing: make it again.")
    if (written := folders.read_hold(folder)) not in (None, test_every):
        raise InputError(
            f"{folder / f'hold={written}'} contradicts truth.json, which keeps every {test_every}th view for "
            f"testing: rename it hold={test_every}."
        )
    folders.find_pictures(folder, _photo_names(folder), downscale)
    has_truth = bool(truth["refocus"])
    if not has_twins:
        return BenchScene(name, folder, test_every, downscale, has_truth)
    sharp |= {test: folder / "images" / test for test in tests}
    twins = _link(work / f"{name}-sharp", folder, sharp)
    return BenchScene(name, folder, test_every, downscale, has_truth, twins)


def _is_whole(file: Path) -> bool:
    """There, and not cut off before it began."""
    return file.is_file() and file.stat().st_size > 0


def _link(data: Path, scene: Path, files: dict[str, Path]) -> Path:
    """A dataset at `data` with the cameras of `scene` and other photos: images/NAME is a link to a file."""
    links = {data / "images" / name: file.resolve() for name, file in files.items()}
    for part in ("sparse", llff.FILE, "truth.json", "refocus"):
        if (scene / part).exists():
            links[data / part] = (scene / part).resolve()
    shutil.rmtree(data, ignore_errors=True)
    for link, file in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return data
