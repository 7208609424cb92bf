"""Photos -> cameras and points: structure from motion with pycolmap, the only one in the package.

The work goes on in a hidden folder in the cache; when all is done the model takes its place beside a stamp of
what it was made from, so that the next run reads it and a killed run leaves nothing half-made.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import torch
from PIL import ExifTags, Image
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io import colmap
from cocogs.io.lock import alone_in
from cocogs.io.photos import PhotoHeader, from_float, read_header, read_photo, to_float
from cocogs.io.progress import Progress, Say
from cocogs.io.source import Source

# Photos are searched for features at most at this size (longer side, px).
FEATURE_SIZE = 1600
# 3,000 features lose a sixth of the photos of a defocused scene (FINDINGS.md 4).
FEATURES = 8192
# Each photo is matched in full with this many others: the most alike by a quick look at LOOK features each.
NEIGHBOURS = 16
LOOK = 1024
# More tolerant than COLMAP's 0.8 and 30, for blurred photos: geometric verification sorts out what is wrong.
# On a strongly defocused set (blowtorch_f63) 20 of 29 photos are placed instead of 15, all within 2 % of the
# cameras' spread of where SfM on many more photos puts them.
LOWE_RATIO = 0.85
FEWEST_INLIERS = 15
FEWEST_PHOTOS = 3
FEWEST_POINTS = 100  # with known cameras; fewer say little of the scene
_WORK = ".work-"
# Raise it when the same photos give other cameras than before.
_VERSION = 1


@dataclass(frozen=True)
class _Job:
    """What every step needs: the folder with the upright photos, the seed, the user's ear."""

    work: Path
    seed: int
    say: Say

    @property
    def database(self) -> Path:
        return self.work / "database.db"


def reconstruct(
    folder: Path, names: list[str], cache: Path, seed: int, say: Say, settled: bool = False
) -> Source:
    """Find the cameras of photos that share one lens and zoom; photos that do not register are left out.

    Args:
        folder: where the photos lie.
        names: file names in it, sorted.
        cache: folder for the result.
        seed: of the random sampling; the same photos and seed give the same cameras.
        say: receives progress.
        settled: take the cached model as it is, whatever became of the photos: a scene was trained with it.

    Raises:
        InputError: too few photos, of different sizes, unreadable, or too few that show the same things.
    """
    model = cache / "sparse"
    if settled and model.is_dir():
        return _upright(colmap.read_model(model))
    if len(names) < FEWEST_PHOTOS:
        raise InputError(
            f"{folder} holds {_count(len(names), 'photo')}: give at least {FEWEST_PHOTOS} of the same scene, "
            "taken from different places."
        )
    # What a name that is no UTF-8 has in Python; COLMAP's files cannot hold it.
    if strange := [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]:
        raise InputError(f"{folder} holds a photo named {strange[0]!r}, which is no UTF-8: rename it.")
    headers = {name: read_header(folder / name) for name in names}
    groups = _size_groups(folder, headers)
    stamp = _stamp({name: folder / name for name in names}, seed)
    source = _read_cached(model, stamp)
    if source is None:
        with _work_folder(cache) as work, _quiet():
            plain = _gather(folder, headers, work)
            found = _run(_Job(work, seed, say), [[plain[name] for name in group] for group in groups], folder)
            names_of = {number: name for name, number in plain.items()}
            _save(found, names_of, work / "result", stamp)
            _replace_folder(work / "result", model)
        source = colmap.read_model(model)
    _report(source, names, say)
    return _upright(source)


def triangulate(
    photos: dict[str, tuple[Path, Camera]], cache: Path, seed: int, say: Say, settled: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Points that photos of known cameras show: (P, 3) float32 in the cameras' world, and (P, 3) float32
    colours in [0, 1]. None where there are hardly any.

    Args:
        photos: by name, a picture that the pinhole camera took, upright.
        cache, seed, say, settled: as for `reconstruct`.

    Raises:
        InputError: a picture is unreadable, or the cache cannot be written.
    """
    model = cache / "points"
    if settled and not model.is_dir():  # none were found, or they are gone, and nobody needs them any more
        return None
    cameras = {name: list(camera.numbers) for name, (_, camera) in photos.items()}
    stamp = _stamp({name: path for name, (path, _) in photos.items()}, seed) | {"cameras": cameras}
    source = colmap.read_model(model) if settled else _read_cached(model, stamp)
    if source is None:
        with _work_folder(cache) as work, _quiet():
            plain, known = {}, {}
            for count, (name, (path, camera)) in enumerate(photos.items()):
                number = f"{count:06d}{path.suffix.lower()}"
                plain[number], known[number] = name, camera
                _link(path, work / number)
            found = _find_points(_Job(work, seed, say), known)
            if found is None or found.num_points3D() < FEWEST_POINTS:
                return None
            _save(found, plain, work / "result", stamp)
            _replace_folder(work / "result", model)
        source = colmap.read_model(model)
    assert source.points is not None and source.point_colors is not None
    return source.points, source.point_colors


def _find_points(job: _Job, cameras: dict[str, Camera]) -> pycolmap.Reconstruction | None:
    """Triangulated from the features of the photos in the work folder; None where that fails."""
    pycolmap.Database.open(job.database).close()
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.num_threads = job.seed, 1  # as in _place_cameras
    try:
        for name, camera in cameras.items():
            reader = pycolmap.ImageReaderOptions()
            reader.camera_model = "PINHOLE"
            reader.camera_params = ",".join(map(repr, colmap.from_camera(camera).params))
            pycolmap.import_images(job.database, job.work, pycolmap.CameraMode.SINGLE, [name], reader)
        _extract(job, list(cameras))
        _match(job, list(cameras))
        model = pycolmap.Reconstruction()
        with pycolmap.Database.open(job.database) as database:
            for lens in database.read_all_cameras():
                model.add_camera_with_trivial_rig(lens)
            for image in database.read_all_images():
                pose = pycolmap.Rigid3d(cameras[image.name].cam_from_world[:3].numpy())
                model.add_image_with_trivial_frame(image, pose)
        output = job.work / "model"
        output.mkdir()
        return pycolmap.triangulate_points(model, job.database, job.work, output, options=options)
    except (RuntimeError, ValueError, MemoryError):
        return None


def _upright(source: Source) -> Source:
    """Our models are made from upright pictures."""
    return replace(source, shots=[replace(shot, upright=True) for shot in source.shots])


def pairs_to_match(likeness: Tensor) -> list[tuple[int, int]]:
    """Sorted pairs (i < j): each photo, a row of the (P, P) likeness, with its NEIGHBOURS most alike."""
    count = len(likeness)
    others = likeness.clone().fill_diagonal_(-1)
    ranked = others.argsort(dim=1, descending=True, stable=True)[:, : min(NEIGHBOURS, count - 1)]
    return sorted({(min(i, j), max(i, j)) for i in range(count) for j in ranked[i].tolist()})


def _size_groups(folder: Path, headers: dict[str, PhotoHeader]) -> list[list[str]]:
    """Names by picture size; only the two orientations of one size are allowed.

    Raises:
        InputError: sizes differ.
    """
    sizes = {name: header.size(upright=True) for name, header in headers.items()}
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    odd = [name for name, size in sizes.items() if sorted(size) != sorted(usual)]
    if odd:
        example = f"{sizes[odd[0]][0]}x{sizes[odd[0]][1]}"
        raise InputError(
            f"{folder} holds photos of different sizes ({_some(odd)}: {example} px, the others "
            f"{usual[0]}x{usual[1]}): keep the uncropped photos of one camera, or give a COLMAP model."
        )
    return [[name for name in sizes if sizes[name] == size] for size in sorted(set(sizes.values()))]


def _gather(folder: Path, headers: dict[str, PhotoHeader], work: Path) -> dict[str, str]:
    """Put all photos upright into `work`, under plain numbers; returns the number-names by the photos' names.

    pycolmap ignores the EXIF orientation and cannot match files with spaces in their names. Every photo is
    decoded once, as a check.
    """
    plain = {}
    for number, (name, header) in enumerate(headers.items()):
        pixels = read_photo(folder / name)
        suffix = Path(name).suffix.lower() if header.orientation == 1 else ".jpg"
        plain[name] = f"{number:06d}{suffix}"
        if header.orientation == 1:
            _link(folder / name, work / plain[name])
            continue
        with Image.open(folder / name) as image:
            exif = image.getexif()  # from which pycolmap takes the focal length
        exif.pop(ExifTags.Base.Orientation, None)
        upright = from_float(to_float(pixels), np.dtype(np.uint8))
        Image.fromarray(upright).save(work / plain[name], quality=95, exif=exif.tobytes())
    return plain


def _link(source: Path, target: Path) -> None:
    """Symbolic link, or a copy where the system has none."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def _run(job: _Job, groups: list[list[str]], folder: Path) -> pycolmap.Reconstruction:
    """Features, matches, cameras; returns the largest model found."""
    try:
        _find_features(job, groups)
        _match(job, sorted(name for group in groups for name in group))
        models = _place_cameras(job, sum(map(len, groups)))
    except (RuntimeError, ValueError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"{folder}: finding the cameras failed ({reason}): check the photos and free disk space."
        raise InputError(message) from error
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    registered = best.num_reg_images() if best else 0
    if best is None or registered < FEWEST_PHOTOS:
        raise InputError(
            f"{folder}: only {registered} of {_count(sum(map(len, groups)), 'photo')} could be placed: "
            "take more photos that overlap by two thirds, with texture in focus, moving sideways in between."
        )
    return best


def _find_features(job: _Job, groups: list[list[str]]) -> None:
    """SIFT features of all photos into the database, one camera per size."""
    pycolmap.Database.open(job.database).close()
    for group in groups:
        # Entered in name order first: threads would number the photos as they happen to finish.
        pycolmap.import_images(job.database, job.work, pycolmap.CameraMode.SINGLE, group)
    _extract(job, [name for group in groups for name in group])


def _extract(job: _Job, names: list[str]) -> None:
    """SIFT features of photos that are in the database."""
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = FEATURE_SIZE
    options.sift.max_num_features = FEATURES
    progress = Progress("Finding features", len(names), job.say)
    for batch in _batches(names, 4):
        pycolmap.extract_features(
            job.database, job.work, batch, pycolmap.CameraMode.SINGLE, extraction_options=options
        )
        progress.add(len(batch))


def _match(job: _Job, names: list[str]) -> None:
    """Matches of features between photos, geometrically verified, into the database."""
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job.seed
    matching = pycolmap.FeatureMatchingOptions()
    matching.sift.max_ratio = LOWE_RATIO
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = job.work / "pairs.txt"
    pairs = pairs_to_match(_likeness(job, names))
    progress = Progress("Matching pairs of photos", len(pairs), job.say)
    for batch in _batches(pairs, 40):
        lines = (f"{names[one]} {names[other]}\n" for one, other in batch)
        Path(pairing.match_list_path).write_text("".join(lines))
        pycolmap.match_image_pairs(job.database, matching, pairing, verification)
        progress.add(len(batch))


def _likeness(job: _Job, names: list[str]) -> Tensor:
    """(P, P) float: how many of the largest features of two photos match.

    Matching all features of a pair takes some 30 times longer, which only the promising pairs are worth.
    """
    with pycolmap.Database.open(job.database) as database:
        numbers = {image.name: image.image_id for image in database.read_all_images()}
        largest = [_largest_features(database, numbers[name]) for name in names]
    likeness = torch.zeros(len(names), len(names))
    pairs = list(combinations(range(len(names)), 2))
    progress = Progress("Comparing photos", len(pairs), job.say, patience=2)
    for one, other in pairs:
        likeness[one, other] = likeness[other, one] = _count_matches(largest[one], largest[other])
        progress.add(1)
    return likeness


def _largest_features(database: pycolmap.Database, image_id: int) -> Tensor:
    """(<= LOOK, 128) unit descriptors of a photo's largest features: the coarse ones survive defocus best."""
    keypoints = database.read_keypoints(image_id)
    if len(keypoints) == 0:
        return torch.empty(0, 128)
    size = np.hypot(keypoints[:, 2], keypoints[:, 4])
    chosen = np.argsort(-size, kind="stable")[:LOOK]
    descriptors = torch.from_numpy(database.read_descriptors(image_id).data[chosen].astype(np.float32))
    return torch.nn.functional.normalize(descriptors, dim=1)


def _count_matches(one: Tensor, other: Tensor) -> int:
    """Mutual best matches of descriptors that pass Lowe's ratio test."""
    if min(len(one), len(other)) < 2:
        return 0
    similarity = one @ other.T
    best, partner = similarity.max(dim=1)
    mutual = similarity.argmax(dim=0)[partner] == torch.arange(len(one))
    second = similarity.scatter_(1, partner[:, None], -1.0).amax(dim=1)
    distinct = torch.acos(best.clamp(-1, 1)) < 0.8 * torch.acos(second.clamp(-1, 1))
    return int((mutual & distinct).sum())


def _place_cameras(job: _Job, count: int) -> dict[int, pycolmap.Reconstruction]:
    """Incremental mapping."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = job.seed
    options.min_model_size = FEWEST_PHOTOS
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    # More threads would sum in an order that changes from run to run.
    options.num_threads = 1
    progress = Progress("Placing cameras", count, job.say)
    output = job.work / "models"
    output.mkdir()
    return pycolmap.incremental_mapping(
        job.database,
        job.work,
        output,
        options,
        initial_image_pair_callback=lambda: progress.add(2),
        next_image_callback=lambda: progress.add(1),
    )


def _report(source: Source, names: list[str], say: Say) -> None:
    registered = {shot.name for shot in source.shots}
    missing = [name for name in names if name not in registered]
    say(f"Cameras found for {len(registered)} of {len(names)} photos.")
    if missing:
        say(
            f"{_count(len(missing), 'photo')} did not register and will not be used (too blurred, or too "
            f"little in common with the others): {', '.join(missing)}."
        )


def _batches(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _work_folder(cache: Path) -> Iterator[Path]:
    """A hidden folder in the cache that goes when the work is done, well or ill."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with alone_in(cache):
            for left_by_a_killed_run in cache.glob(f"{_WORK}*"):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=_WORK) as work:
                yield Path(work)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"{cache} cannot be written ({reason}): free space or choose a writable folder."
        raise InputError(message) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence pycolmap's own log; what fails comes as an exception."""
    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level


def _stamp(files: dict[str, Path], seed: int) -> dict:
    """What a cached model depends on."""
    status = [(name, file.stat()) for name, file in files.items()]
    return {
        "version": _VERSION,
        "pycolmap": pycolmap.__version__,
        "seed": seed,
        "photos": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in status],
    }


def _read_cached(model: Path, stamp: dict) -> Source | None:
    """The cached model; None where there is none, it was made from other things, or it is damaged."""
    try:
        same = json.loads((model / "stamp.json").read_text()) == stamp
        return colmap.read_model(model) if same else None
    except (OSError, ValueError, InputError):
        return None


def _save(found: pycolmap.Reconstruction, names: dict[str, str], folder: Path, stamp: dict) -> None:
    """Write a model under the photos' own names."""
    for image in found.images.values():
        image.name = names[image.name]
    folder.mkdir()
    found.write_binary(folder)
    (folder / "stamp.json").write_text(json.dumps(stamp))


def _replace_folder(new: Path, model: Path) -> None:
    shutil.rmtree(model, ignore_errors=True)
    new.rename(model)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
