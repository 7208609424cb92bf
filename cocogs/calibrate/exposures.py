"""The response curve from photos of one still scene with several shutter times, by OpenCV's Debevec."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import isotonic_regression

from cocogs.calibrate.frames import photos_in
from cocogs.errors import InputError, counted, optional_package
from cocogs.io import photos, raw
from cocogs.io.pixels import to_float
from cocogs.io.progress import Progress, Say
from cocogs.srgb import to_srgb

BLOCKS = 128  # on the longer side, at most, over which pixels are averaged: noise falls, movement stays
SMALLEST = 4  # px of a block's side
SIDE = 12  # by SIDE blocks are told to Debevec
LEVELS = 256  # of the pixel values that Debevec takes
SMOOTHNESS = 10.0  # Debevec's lambda: curves of known cameras within 1 %, from 1 to 100 within 4 %
DARK, BRIGHT = 0.05, 0.98  # pixel values that are neither black nor white
ALIKE = 1.05  # shutter times closer than this are one
APART, MOVED = 0.06, 0.02  # a block off what its brightness becomes by APART has moved; share of such blocks
WINDOW = 3.1  # stops between the photos that Debevec is given at a time
NEARBY = 6.0  # levels: deviation within which values tell of each other
NARROWEST = 0.5  # of all pixel values, that must have been seen
KNOTS = 33


@dataclass(frozen=True)
class Exposures:
    """Photos of one still scene, averaged over blocks.

    Args:
        values: (P, B, 3) pixel values in [0, 1], shortest exposure first.
        spread: (B,) largest deviation of the pixels of a block, in any photo.
        times: (P,) seconds.
        size: width and height of the photos in px.
    """

    values: np.ndarray
    spread: np.ndarray
    times: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class ResponseFit:
    """A response curve.

    Args:
        knots: pixel values of light at even steps of its sRGB-encoded value, rising from 0 to 1.
        colours: (256, 3) sRGB-encoded light of each pixel value, by each colour alone.
        disagreement: between a colour's curve and that of all, the largest in pixel values.
        seen: lowest and highest pixel value that several photos tell of.
    """

    knots: tuple[float, ...]
    colours: np.ndarray
    disagreement: float
    seen: tuple[float, float]


def read_exposures(folder: Path, say: Say) -> Exposures:
    """The photos in a folder, with their shutter times by EXIF.

    Raises:
        InputError: fewer than two shutter times, or none by EXIF; other settings or sizes that differ; RAW
            files; something moved.
    """
    paths = photos_in(folder)
    if len(paths) < 2:
        raise InputError(
            f"{folder} holds {counted(len(paths), 'photo')}: take a still scene with several shutter times."
        )
    times = _shutter_times(paths)
    order = sorted(range(len(paths)), key=lambda index: times[index])
    paths, means, spreads, size = [paths[index] for index in order], [], [], None
    with Progress(f"Reading {folder.name}", len(paths), say, patience=2) as progress:
        for path in paths:
            pixels = to_float(photos.read_photo(path, upright=False))
            size = size or pixels.shape
            if pixels.shape != size:
                raise InputError(
                    f"{path} has another size than {paths[0]}: take all with one camera, unturned."
                )
            mean, spread = _blocks(pixels)
            means.append(mean)
            spreads.append(spread)
            progress.add(1)
    assert size is not None
    values = np.stack(means)
    _check_still(values, paths)
    return Exposures(values, np.max(spreads, 0), np.array(times)[order], (size[1], size[0]))


def _shutter_times(paths: list[Path]) -> list[float]:
    """Seconds, by EXIF."""
    times, settings = [], {}
    for path in paths:
        if raw.is_raw(path):
            raise InputError(f"{path} is a RAW file, whose values are light as they are: give its JPEG.")
        lens = photos.read_header(path).lens
        if lens.shutter_s is None:
            raise InputError(
                f"{path} has no shutter time in its EXIF: copy the photos as the camera wrote them."
            )
        times.append(lens.shutter_s)
        settings.setdefault((lens.f_number, lens.iso), path)
    if len(settings) > 1:
        one, other = list(settings.values())[:2]
        raise InputError(f"{one} and {other} differ in f-number or ISO: change nothing but the shutter time.")
    if max(times) < ALIKE * min(times):
        raise InputError(
            f"All photos beside {paths[0]} have the shutter time {times[0]:g} s: take some with others, in "
            "steps of one or two stops."
        )
    return times


def _blocks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, 3) means of square blocks of (H, W, 3) pixels, and (B,) the largest deviation within each."""
    side = max(SMALLEST, -(-max(pixels.shape[:2]) // BLOCKS))
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    cut = pixels[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return cut.mean((1, 3)).reshape(-1, 3), cut.std((1, 3)).max(-1).reshape(-1)


def _check_still(values: np.ndarray, paths: Sequence[Path]) -> None:
    """Whatever the curve, blocks that are alike in one photo of a still scene are alike in a shorter one.

    Raises:
        InputError: they are not.
    """
    for (shorter, longer), (one, other) in zip(pairwise(values[..., 1]), pairwise(paths), strict=True):
        judged = (shorter > DARK) & (longer < BRIGHT)
        level = np.rint(longer * LEVELS / 4).astype(int)
        off = np.zeros(len(level), bool)
        for one_level in np.unique(level[judged]):
            those = judged & (level == one_level)
            off[those] = np.abs(shorter[those] - np.median(shorter[those])) > APART
        if off.sum() > MOVED * max(judged.sum(), 1):
            raise InputError(
                f"Something moved, or its light changed, between {one} and {other} "
                f"({off.sum() / judged.sum():.0%} of what can be compared): use a tripod and a still scene."
            )


def fit_response(exposures: Exposures) -> ResponseFit:
    """The curve of Debevec and Malik (1997), made monotone, with white at light 1.

    Each colour has a curve and a scale of its own, which its value at white fixes; the mean of their
    logarithms is the response.

    Raises:
        InputError: OpenCV is missing, or the photos show too few pixel values that are neither black nor
            white.
    """
    values = exposures.values
    clear = (values > DARK) & (values < BRIGHT)
    told = values[clear & (clear.sum(0) >= 2)]
    if not told.size:
        raise InputError(
            "No place is neither black nor white in two photos: take some with shutter times in between."
        )
    seen = float(told.min()), float(told.max())
    if seen[1] - seen[0] < NARROWEST:
        raise InputError(
            f"The photos show pixel values from {seen[0]:.0%} to {seen[1]:.0%} of white only: take some with "
            "longer and shorter shutter times, or of a scene with more contrast."
        )
    windows = list(_windows(clear, exposures))
    if not windows:
        raise InputError("A colour of the photos is black or white everywhere: take a scene of greys.")
    logs = _joined([_debevec(*window) for window in windows], [values for values, _ in windows])
    logs = np.stack([isotonic_regression(column - column[-1]).x for column in logs.T], 1)
    colours, light = _encoded(logs), _encoded(logs.mean(1))
    pixel = np.arange(LEVELS) / (LEVELS - 1)
    common = np.interp(np.linspace(0, 1, LEVELS), light, pixel)
    each = [np.interp(np.linspace(0, 1, LEVELS), colours[:, c], pixel) for c in range(3)]
    disagreement = max(float(np.abs(one - common).max()) for one in each)
    knots = np.interp(np.linspace(0, 1, KNOTS), light, pixel)
    steps = np.maximum(np.diff(knots), 1e-4)
    knots = np.concatenate([[0], np.cumsum(steps / steps.sum())])
    return ResponseFit((*map(float, knots[:-1]), 1.0), colours, disagreement, seen)


def _windows(clear: np.ndarray, exposures: Exposures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(p, SIDE * SIDE, 3) values and (p,) times of photos that follow each other: of each colour, blocks that
    are clear in all of them. Debevec takes the value of a clipped pixel for true, so it is shown none.

    Args:
        clear: (P, B, 3) whether a block is neither black nor white in a photo.
    """
    stops, ends = np.log2(exposures.times), set()
    for first in range(len(stops) - 1):
        last = max(first + 1, int(np.searchsorted(stops, stops[first] + WINDOW, "right")) - 1)
        window = slice(first, last + 1)
        blocks = [np.flatnonzero(one) for one in np.asarray(clear[window].all(0)).T]
        if last in ends or not all(map(len, blocks)):  # one that begins later and ends there shows less
            continue
        ends.add(last)
        values = exposures.values[window]
        colours = [
            values[:, _chosen(blocks[c], values[..., c].mean(0), exposures.spread), c] for c in range(3)
        ]
        yield np.stack(colours, -1), exposures.times[window]


def _chosen(blocks: np.ndarray, brightness: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """SIDE * SIDE of the blocks, of every brightness, and even: the mean of such is a pixel's value."""
    order = blocks[brightness[blocks].argsort()]
    edges = np.linspace(0, len(order) - 1, SIDE * SIDE + 1).astype(int)
    groups = [order[low : max(high, low + 1)] for low, high in pairwise(edges)]
    return np.array([group[spread[group].argmin()] for group in groups])


def _debevec(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(256, 3) logarithms of the light of pixel values, each colour up to a constant.

    Args:
        values: (P, SIDE * SIDE, 3).
    """
    cv2 = optional_package(
        "cv2", "`exposures` needs OpenCV: install it with pip install 'cocogs[calibrate]'."
    )
    pictures = [np.rint(one * (LEVELS - 1)).astype(np.uint8).reshape(SIDE, SIDE, 3) for one in values]
    solver = cv2.createCalibrateDebevec(SIDE * SIDE, SMOOTHNESS, False)
    return np.log(solver.process(pictures, times.astype(np.float32)).reshape(LEVELS, 3).astype(np.float64))


def _joined(parts: list[np.ndarray], shown: list[np.ndarray]) -> np.ndarray:
    """(256, 3) logarithms of light by all windows: at each pixel value, their slopes count as often as the
    window shows values near it."""
    counts = [
        np.stack([np.histogram(values[..., c], LEVELS, (0, 1))[0] for c in range(3)], 1).astype(float)
        for values in shown
    ]
    weights = np.stack([gaussian_filter1d(count, NEARBY, axis=0, truncate=12) + 1e-30 for count in counts])
    weights = (weights / weights.sum(0))[:, 1:]
    slopes = (weights * np.diff(np.stack(parts), axis=1)).sum(0)
    return np.concatenate([np.zeros((1, 3)), slopes.cumsum(0)])


def _encoded(logs: np.ndarray) -> np.ndarray:
    """sRGB-encoded light of pixel values; 0 has none, which no logarithm tells."""
    light = to_srgb(torch.from_numpy(np.exp(logs))).numpy().clip(0, 1)
    light[0] = 0
    return light
