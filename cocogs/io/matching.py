"""Features of photos and their matches, into a COLMAP database. SfM and triangulation share these steps."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap
import torch
from PIL import Image
from torch import Tensor

from cocogs.io.progress import Progress, Say

# Photos are searched for features at most at this size (longer side, px).
FEATURE_SIZE = 1600
# 3,000 features lose a sixth of the photos of a defocused scene (docs/method.md).
FEATURES = 8192
# Each photo is fully matched with this many others: the most alike by a quick look at LOOK features each.
NEIGHBOURS = 16
LOOK = 1024
# COLMAP's 0.8 is too strict for blurred photos; geometric verification removes wrong matches.
# On a strongly defocused set (blowtorch_f63) 20 of 29 photos are placed instead of 15, all within 2 % of the
# cameras' spread of where SfM on many more photos puts them.
LOWE_RATIO = 0.85


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
    """Symbolic link, or a copy where the system has none."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def write_mask(job: Job, name: str, mask: np.ndarray) -> None:
    """Let no feature of a photo lie where its mask says so.

    Args:
        name: the photo's file name in the work folder.
        mask: (H, W) bool of the photo's size, True = use.
    """
    job.masks.mkdir(exist_ok=True)
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(job.masks / f"{name}.png")


def extract_features(job: Job, names: list[str]) -> None:
    """SIFT features of photos that are in the database."""
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = FEATURE_SIZE
    options.sift.max_num_features = FEATURES
    reader = pycolmap.ImageReaderOptions()
    if job.masks.is_dir():
        reader.mask_path = job.masks
    progress = Progress("Finding features", len(names), job.say)
    for batch in _batches(names, 4):
        pycolmap.extract_features(
            job.database, job.work, batch, pycolmap.CameraMode.SINGLE, reader, extraction_options=options
        )
        progress.add(len(batch))


def match_features(job: Job, names: list[str]) -> None:
    """Matches between photos, geometrically verified, into the database."""
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
        Path(pairing.match_list_path).write_text("".join(lines), encoding="utf-8")
        pycolmap.match_image_pairs(job.database, matching, pairing, verification)
        progress.add(len(batch))


def pairs_to_match(likeness: Tensor) -> list[tuple[int, int]]:
    """Sorted pairs (i < j): each photo, a row of the (P, P) likeness, with its NEIGHBOURS most alike."""
    count = len(likeness)
    others = likeness.clone().fill_diagonal_(-1)
    ranked = others.argsort(dim=1, descending=True, stable=True)[:, : min(NEIGHBOURS, count - 1)]
    return sorted({(min(i, j), max(i, j)) for i in range(count) for j in ranked[i].tolist()})


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


def matched_pairs(job: Job) -> list[MatchedPair]:
    """The verified matches in the database, the pair with the most matches first."""
    found = []
    with pycolmap.Database.open(job.database) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        pixels = {number: database.read_keypoints(number)[:, :2].astype(np.float64) for number in names}
        for pair_id, geometry in zip(*database.read_two_view_geometries(), strict=True):
            one, other = pycolmap.pair_id_to_image_pair(pair_id)
            rows = np.asarray(geometry.inlier_matches)
            if len(rows):
                found.append(
                    MatchedPair(names[one], names[other], pixels[one][rows[:, 0]], pixels[other][rows[:, 1]])
                )
    return sorted(found, key=lambda pair: -len(pair.pixels_one))


def _likeness(job: Job, names: list[str]) -> Tensor:
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


def _batches(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
