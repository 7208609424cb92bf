"""Features of photos and their matches, into a COLMAP database. SfM and triangulation share these steps.

Each step goes on where an interrupted run stopped in the same work folder.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from cocogs.io.atomic import NoRoom
from cocogs.io.progress import Progress, Say
from cocogs.io.source import Intrinsics

# Photos are searched for features at most at this size (longer side, px).
FEATURE_SIZE = 1600
# 3,000 features lose a sixth of the photos of a defocused scene (docs/method.md).
FEATURES = 8192
# COLMAP's 0.8 is too strict for blurred photos; geometric verification removes wrong matches.
# On a strongly defocused set (blowtorch_f63) 20 of 29 photos are placed instead of 15, all within 2 % of the
# cameras' spread of where SfM on many more photos puts them.
LOWE_RATIO = 0.85
# So many photos and pairs go to pycolmap at a time: enough for all cores, few enough for progress to be seen
# and little to be lost by an interruption.
FEATURE_BATCH = 2 * max(2, os.cpu_count() or 1)
FEATURE_BYTES, PAIR_BYTES = FEATURES * (128 + 24), FEATURES * 16  # in the database: of a photo, of a pair
SPARE = 20_000_000  # bytes of disk that stay free
PAIR_BATCH = 20 * max(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Job:
    """What every step needs.

    Args:
        work: folder with the upright photos and, in masks/, their masks.
        seed: of the random sampling.
        say: receives progress.
    """

    work: Path
    seed: int
    say: Say

    @property
    def database(self) -> Path:
        return self.work / "database.db"

    @property
    def masks(self) -> Path:
        return self.work / "masks"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pycolmap's own log; failures arrive as exceptions."""
    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level


def link(source: Path, target: Path) -> None:
    """Symbolic link, or a copy where the system has none; nothing where an interrupted run has made it."""
    if target.exists():
        return
    try:
        target.symlink_to(source.resolve())
    except OSError:
        with whole(target) as unfinished:
            shutil.copyfile(source, unfinished)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path beside `target` in the work folder; what is written there gets its name at the end."""
    unfinished = target.with_name(f"unfinished-{target.name}")
    yield unfinished
    unfinished.replace(target)


def write_mask(job: Job, name: str, mask: np.ndarray) -> None:
    """Let no feature of a photo lie where its mask says so.

    Args:
        name: the photo's file name in the work folder.
        mask: (H, W) bool of the photo's size, True = use.
    """
    target = job.masks / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as unfinished:
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(unfinished)


@dataclass(frozen=True)
class Group:
    """Photos that share a camera.

    Args:
        names: their file names in the work folder.
        lens: what SfM or triangulation starts with.
        trusted: its focal length counts as known.
    """

    names: Sequence[str]
    lens: Intrinsics
    trusted: bool = True

    @property
    def reader(self) -> pycolmap.ImageReaderOptions:
        """How pycolmap reads them. What EXIF says is in the lens already: COLMAP's own reading of it takes
        photos that were made smaller or cropped for whole ones."""
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model, reader.camera_params = self.lens.model, ",".join(map(repr, self.lens.params))
        return reader


def enter_photos(job: Job, groups: Iterable[Group], rigs: Sequence[pycolmap.RigConfig] = ()) -> None:
    """Photos into a new database, unless an interrupted run has entered them.

    Args:
        groups: of all photos.
        rigs: which photos were taken by cameras that are fixed to each other (`cocogs.io.rigs`).
    """
    if job.database.exists():
        return
    unfinished = job.work / "unfinished.db"
    for left in job.work.glob(f"{unfinished.name}*"):
        left.unlink()
    pycolmap.Database.open(unfinished).close()
    groups = list(groups)
    progress = Progress("Reading photos", sum(len(one.names) for one in groups), job.say, patience=2)
    for group in groups:
        reader = group.reader
        # In name order: the threads that find features would number the photos as they happen to finish.
        for batch in batches(group.names, 32):
            pycolmap.import_images(unfinished, job.work, pycolmap.CameraMode.SINGLE, batch, reader)
            with pycolmap.Database.open(unfinished) as database:
                first = database.read_image_with_name(group.names[0])
                assert first is not None
                reader.existing_camera_id = first.camera_id
                camera = database.read_camera(first.camera_id)
                camera.has_prior_focal_length = group.trusted
                database.update_camera(camera)
            progress.add(len(batch))
    if rigs:
        with pycolmap.Database.open(unfinished) as database:
            pycolmap.apply_rig_config(rigs, database)
    unfinished.rename(job.database)


def extract_features(job: Job, names: Sequence[str]) -> None:
    """SIFT features of photos that are in the database, but for those that an interrupted run has found."""
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = FEATURE_SIZE
    options.sift.max_num_features = FEATURES
    plain, masked = pycolmap.ImageReaderOptions(), pycolmap.ImageReaderOptions()
    masked.mask_path = job.masks
    with pycolmap.Database.open(job.database) as database:
        numbers = image_ids(database)
        left = [name for name in names if not database.exists_descriptors(numbers[name])]
    progress = Progress("Finding features", len(names), job.say, start=len(names) - len(left))
    for batch in batches(left, FEATURE_BATCH):
        check_room(job, len(batch) * FEATURE_BYTES)
        with_mask = {name for name in batch if (job.masks / f"{name}.png").is_file()}
        # Among photos with masks, pycolmap finds no feature in one without.
        for reader, chosen in ((masked, with_mask), (plain, set(batch) - with_mask)):
            if chosen:
                some = [name for name in batch if name in chosen]
                mode = pycolmap.CameraMode.SINGLE
                pycolmap.extract_features(
                    job.database, job.work, some, mode, reader, extraction_options=options
                )
        progress.add(len(batch))


def match_features(job: Job, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> None:
    """Matches between photos, geometrically verified, into the database.

    Args:
        names: photos in the database.
        pairs: places in `names`. Those that an interrupted run has matched are passed over.
    """
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job.seed
    matching = pycolmap.FeatureMatchingOptions()
    matching.sift.max_ratio = LOWE_RATIO
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = job.work / "pairs.txt"
    with pycolmap.Database.open(job.database) as database:
        numbers = image_ids(database)
        ids = [numbers[name] for name in names]
        left = [pair for pair in pairs if not database.exists_two_view_geometry(ids[pair[0]], ids[pair[1]])]
    progress = Progress("Matching pairs of photos", len(pairs), job.say, start=len(pairs) - len(left))
    for batch in batches(left, PAIR_BATCH):
        check_room(job, len(batch) * PAIR_BYTES)
        lines = (f"{names[one]} {names[other]}\n" for one, other in batch)
        Path(pairing.match_list_path).write_text("".join(lines), encoding="utf-8")
        pycolmap.match_image_pairs(job.database, matching, pairing, verification)
        progress.add(len(batch))


def check_room(job: Job, needed: int) -> None:
    """Raises NoRoom where the disk is too full for so many bytes: pycolmap would end the process.

    The database takes them twice, in its journal too.
    """
    if shutil.disk_usage(job.work).free < SPARE + 2 * needed:
        raise NoRoom(
            f"{job.work} needs {(SPARE + 2 * needed) / 1e6:.0f} MB of disk for its next step, and has less: "
            "free space and give the same command again, which goes on from there."
        )


@dataclass(frozen=True)
class MatchedPair:
    """Two photos and the features that both show.

    Args:
        one, other: the photos' names in the work folder.
        pixels_one, pixels_other: (M, 2) float64 positions of the M matched features, px.
    """

    one: str
    other: str
    pixels_one: np.ndarray
    pixels_other: np.ndarray


def matched_pairs(job: Job, most: int | None = None) -> list[MatchedPair]:
    """The verified matches in the database, the pair with the most matches first.

    Args:
        most: how many pairs are read, for those of many photos do not fit into memory; None reads all.
    """
    with pycolmap.Database.open(job.database) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        counted = zip(*database.read_two_view_geometry_num_inliers(), strict=True)
        ranked = sorted(((count, pair) for pair, count in counted if count), key=lambda found: -found[0])
        found = []
        for _, pair in ranked[:most]:
            one, other = pycolmap.pair_id_to_image_pair(pair)
            rows = np.asarray(database.read_two_view_geometry(one, other).inlier_matches)
            pixels = [database.read_keypoints(number)[:, :2].astype(np.float64) for number in (one, other)]
            found.append(MatchedPair(names[one], names[other], pixels[0][rows[:, 0]], pixels[1][rows[:, 1]]))
    return found


def image_ids(database: pycolmap.Database) -> dict[str, int]:
    """The numbers of the photos in a database, by name."""
    return {image.name: image.image_id for image in database.read_all_images()}


def batches(items: Sequence, size: int) -> Iterator[Sequence]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
