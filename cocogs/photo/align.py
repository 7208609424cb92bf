"""Slices of a bracket laid over each other, by OpenCV: focus breathing scales a picture, hands turn it.

Neighbours differ least in their blur, so each slice is aligned with the next one: from coarse to fine by the
enhanced correlation coefficient (Evangelidis and Psarakis, 2008), which exposure does not change, then by
many small patches (Lucas and Kanade, 1981), of which those at depth edges, where blur moves things, are
outvoted. The chain of these transforms leads to the reference.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cocogs.errors import InputError, optional_package
from cocogs.io.progress import Progress, Say
from cocogs.photo.slices import Slices, reduced

FINEST, COARSEST = 1600, 100  # px of the longer side at which slices are compared
WINDOW = 3  # px of the window that evens out noise, at each size
STEPS, ENOUGH = 60, 1e-6  # at most so many; until the correlation gains less
ALIKE = 0.75  # correlation below which two slices show different things
FLAT = 1e-3  # deviation of the values of a picture that shows nothing
PATCHES, PATCH = 1500, 15  # at most so many, each so many px wide
FEWEST = 40  # patches that tell more than the correlation does
RETURNS = 0.1  # px: a patch that is found there and back again lies this near to where it was
AGREES = 0.3  # px: patches nearer than this to a motion vote for it
STILL = 0.15  # px, as compared: slices that moved less stay as they are, unresampled
# So do all slices if none seems to have moved farther than this, and about as many patches vote for no motion
# at all: where blur changes, it looks like motion, always in one direction.
DRIFT, AS_GOOD = 1.0, 0.9
MOST_SCALE, MOST_TURN, MOST_SHIFT = 1.3, 0.2, 0.25  # a factor, radians, a part of the picture's longer side
BORDER = 4  # px at a slice's border that resampling and sharpness cannot use


def align(slices: Slices, paths: tuple[Path, ...], reference: int, say: Say) -> np.ndarray:
    """(S, 2, 3) where each pixel (x, y) of the reference, by whole numbers at the pixels' centres, lies in
    each slice; the identity where nothing moved.

    Raises:
        InputError: OpenCV is missing; neighbours show different things.
    """
    cv2 = _opencv()
    chain, votes = (
        [np.eye(3)],
        np.zeros(2),
    )  # from the first slice to each; of patches, for motion and for none
    with Progress("Aligning slices", len(slices) - 1, say, patience=2) as progress:
        before = _grey(slices.read(0))
        for index in range(1, len(slices)):
            after = _grey(slices.read(index))
            step, told = _between(cv2, before, after, slices.shape[1:3], paths[index - 1 : index + 1])
            chain.append(step @ chain[-1])
            votes += told
            before = after
            progress.add(1)
    back = np.linalg.inv(chain[reference])
    transforms = np.stack([one @ back for one in chain])
    unit = max(1.0, max(slices.shape[1:3]) / FINEST)  # px, for one of the pictures that were compared
    moves = np.array([_displacement(one, slices.shape[1:3]) for one in transforms]) / unit
    on_tripod = moves.max() < DRIFT and votes[1] >= AS_GOOD * votes[0]
    transforms[(moves < STILL) | on_tripod] = np.eye(3)
    return transforms[:, :2]


def moved(pixels: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """A slice (H, W, C) in the reference's frame; its border repeated where it does not reach."""
    if np.array_equal(transform, np.eye(3)[:2]):
        return pixels
    cv2 = _opencv()
    size, flags = pixels.shape[1::-1], cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, transform, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def reach(transform: np.ndarray, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    """(h, w) bool: which pixels of the reference a slice shows.

    Args:
        size: height and width of the pictures.
    """
    if np.array_equal(transform, np.eye(3)[:2]):
        return np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
    y, x = np.mgrid[rows, columns]
    there = transform @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    far = np.array([[size[1]], [size[0]]]) - 1 - BORDER
    return ((there >= BORDER) & (there <= far)).all(0).reshape(x.shape)


def _opencv() -> Any:
    return optional_package(
        "cv2", "Stacking needs OpenCV to align photos: install it with pip install 'cocogs[stack]'."
    )


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(h, w) at the size at which slices are compared."""
    return np.ascontiguousarray(reduced(pixels, FINEST)[..., 1])


def _between(
    cv2: Any, before: np.ndarray, after: np.ndarray, size: tuple[int, int], paths: tuple[Path, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) from full-size pixels of one slice to those of the next; how many patches vote for it, and for
    no motion.

    Raises:
        InputError: they show different things.
    """
    for picture, path in zip((before, after), paths, strict=True):
        if picture.std() < FLAT:
            raise InputError(f"{path} is of one colour, so it cannot be aligned: leave it out.")
    found, correlation = None, 0.0
    try:
        for side in _sides(max(before.shape)):
            one, other = reduced(before[..., None], side)[..., 0], reduced(after[..., None], side)[..., 0]
            scale = _scaling(one.shape, before.shape)
            start = np.linalg.inv(scale) @ found @ scale if found is not None else _shift(cv2, one, other)
            criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, STEPS, ENOUGH)
            correlation, small = cv2.findTransformECC(
                one, other, start[:2].astype(np.float32), cv2.MOTION_AFFINE, criteria, None, WINDOW
            )
            found = scale @ np.vstack([small, [0, 0, 1]]) @ np.linalg.inv(scale)
    except cv2.error:  # no step of it brings them closer
        found = None
    if found is None or correlation < ALIKE or not _is_plausible(found, before.shape):
        raise InputError(
            f"{paths[1]} does not show what {paths[0]} shows: give photos from one place, named in the order "
            "of their focus, with small steps between."
        )
    corners = _corners(before.shape)
    refined, votes = _by_patches(
        cv2, before, after, _similarity(corners.T, (found @ _homogeneous(corners))[:2].T)
    )
    scale = _scaling(before.shape, size)
    return scale @ refined @ np.linalg.inv(scale), votes


def _sides(longest: int) -> list[int]:
    """Longer sides of the pictures that are correlated; the finest size is left to the patches."""
    sides = [max(longest // 2, min(longest, 2 * COARSEST))]
    while sides[0] > 2 * COARSEST:
        sides.insert(0, sides[0] // 2)
    return sides


def _by_patches(
    cv2: Any, before: np.ndarray, after: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) similarity for which most patches vote, `start` where they are few; (2,) how many do, and how
    many vote for no motion."""
    other = moved(after, start[:2])
    other = other * (before.mean() / max(float(other.mean()), 1e-3))  # a patch must keep its brightness
    bytes_before, bytes_after = (np.rint(255 * one.clip(0, 1)).astype(np.uint8) for one in (before, other))
    points = cv2.goodFeaturesToTrack(bytes_before, PATCHES, 0.005, 4, blockSize=5)
    if points is None or len(points) < FEWEST:
        return start, np.zeros(2)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    options = {"winSize": (PATCH, PATCH), "maxLevel": 0, "criteria": criteria}
    there, found, _ = cv2.calcOpticalFlowPyrLK(bytes_before, bytes_after, points, None, **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(bytes_after, bytes_before, there, None, **options)
    good = (found & returned)[:, 0].astype(bool) & (np.linalg.norm(back - points, axis=-1)[:, 0] < RETURNS)
    if good.sum() < FEWEST:
        return start, np.zeros(2)
    source, target = (ends[good, 0].astype(float) for ends in (points, there))
    still = np.linalg.inv(start)
    usual = _robust_similarity(source, target, _similarity(source, target))
    candidates = [_voted(source, target, first) for first in (usual, still)]
    best = max(candidates, key=lambda one: _votes(source, target, one).sum())
    return start @ best, np.array([_votes(source, target, one).sum() for one in (best, still)])


def _robust_similarity(source: np.ndarray, target: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """(3, 3) from (P, 2) points to others, by Tukey's biweight, of a width that follows the deviations."""
    for _ in range(20):
        width = 4.5 * max(float(np.median(_off(source, target, fitted))), 1e-3)
        fitted = _similarity(source, target, _votes(source, target, fitted, width))
    return fitted


def _voted(source: np.ndarray, target: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """(3, 3) similarity near `fitted` with the most votes."""
    for _ in range(20):
        votes = _votes(source, target, fitted)
        if np.count_nonzero(votes) < FEWEST // 2:
            break
        fitted = _similarity(source, target, votes)
    return fitted


def _votes(source: np.ndarray, target: np.ndarray, fitted: np.ndarray, width: float = AGREES) -> np.ndarray:
    """(P,) in [0, 1]: Tukey's biweight of how far points lie from where a similarity takes others."""
    return np.clip(1 - (_off(source, target, fitted) / width) ** 2, 0, None) ** 2


def _off(source: np.ndarray, target: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    return np.linalg.norm(source @ fitted[:2, :2].T + fitted[:2, 2] - target, axis=1)


def _shift(cv2: Any, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(3, 3) translation from one small picture to the other, by phase correlation."""
    window = cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(one, other, window)
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]])


def _scaling(small: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """(3, 3) from pixels of a reduced picture to those of the full one; whole numbers are pixel centres."""
    y, x = (full / part for full, part in zip(size, small, strict=True))
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _corners(size: tuple[int, ...]) -> np.ndarray:
    """(2, 4) corners of a picture."""
    bottom, right = size[0] - 1, size[1] - 1
    return np.array([[0, right, 0, right], [0, 0, bottom, bottom]], float)


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.vstack([points, np.ones(points.shape[1])])


def _displacement(transform: np.ndarray, size: tuple[int, ...]) -> float:
    """How far the farthest corner moves, px."""
    corners = _corners(size)
    return float(np.linalg.norm((transform @ _homogeneous(corners))[:2] - corners, axis=0).max())


def _similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(3, 3) scale, turn and shift from (P, 2) points to others, by weighted least squares."""
    weights = np.ones(len(source)) if weights is None else weights
    middle, middle_there = (np.average(points, axis=0, weights=weights) for points in (source, target))
    one, other = source - middle, target - middle_there
    spread = (weights * (one**2).sum(1)).sum()
    a = (weights * (one * other).sum(1)).sum() / spread
    b = (weights * (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])).sum() / spread
    linear = np.array([[a, -b], [b, a]])
    return np.vstack([np.column_stack([linear, middle_there - linear @ middle]), [0, 0, 1]])


def _is_plausible(transform: np.ndarray, size: tuple[int, ...]) -> bool:
    """Whether a camera held in one place can have moved so."""
    if not np.isfinite(transform).all():
        return False
    left, values, right = np.linalg.svd(transform[:2, :2])
    turn = left @ right
    scaled = 1 / MOST_SCALE < values[1] and values[0] < MOST_SCALE
    turned = abs(np.arctan2(turn[1, 0], turn[0, 0])) < MOST_TURN and np.linalg.det(turn) > 0
    middle = np.array([size[1] / 2, size[0] / 2, 1])
    shift = np.linalg.norm((transform @ middle - middle)[:2])
    return bool(scaled and turned and shift < MOST_SHIFT * max(size))
