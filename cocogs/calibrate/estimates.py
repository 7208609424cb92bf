"""Noise and vignetting from flats (an evenly lit surface) and darks (no light)."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import norm

from cocogs.calibrate.frames import Frames
from cocogs.errors import InputError
from cocogs.optics.photometry import falloff

TILES = 4  # by 4: the spread between parts of the frames tells how sure a number is
DIMMEST, BRIGHTEST = 0.02, 0.95  # of white: where the shot gain is measured
BLOCKS = 48  # on the longer side, whose means the vignette is fitted to
UNEVEN = 0.03  # a flat that is off a smooth vignette by more is a picture of something
FARTHEST_CENTER = 0.25  # half diagonals
CENTERED = 0.2  # how much a centre off the middle counts, per half diagonal, against a block's brightness
CLIPPED = 0.01  # share of values at 0 from which the lower half of the noise is taken as cut off


@dataclass(frozen=True)
class Estimate:
    """A number and its standard deviation."""

    value: float
    deviation: float


@dataclass(frozen=True)
class VignetteFit:
    """The fitted vignette of one colour, or of all.

    Args:
        coefficients: a1, a2, a3.
        center: in half diagonals from the middle.
        corner: light in the corners over that in the middle.
        residual: root mean square of what the fit leaves, relative.
        profile: (radius, measured, fitted) of blocks.
    """

    coefficients: tuple[float, float, float]
    center: tuple[float, float]
    corner: float
    residual: float
    profile: np.ndarray


def read_noise(darks: Frames) -> Estimate:
    """Standard deviation of what differs between two darks; each has it anew.

    Where values cannot go below 0, half of the noise is cut off. The share of zeros and the mean then tell
    the deviation of the whole (a censored normal distribution).
    """
    if darks.black > CLIPPED:
        return Estimate(_uncut(darks.black, float(darks.mean.mean())), math.nan)
    tiles = np.sqrt([tile.mean() for tile in _tiles(darks.variance)])
    return Estimate(float(np.sqrt(darks.variance.mean())), _error(tiles))


def _uncut(black: float, mean: float) -> float:
    """The deviation s of a normal distribution of which the share `black` lies below 0, and whose mean is
    `mean` with 0 in the place of what lies below: mean / s = t Phi(t) + phi(t), t = Phi^-1(1 - black).

    Raises:
        InputError: nothing lies above 0.
    """
    if mean <= 0:
        raise InputError(
            "The darks hold nothing but 0, which hides the read noise: save more bits, or use RAW."
        )
    t = float(norm.isf(black))
    return mean / (t * float(norm.cdf(t)) + float(norm.pdf(t)))


def fixed_pattern(darks: Frames) -> Estimate:
    """Standard deviation of what all darks share, from pixel to pixel. The mean of N darks still has 1 / N of
    the read noise's variance, which is taken off. 0 where values cannot go below 0: it then counts as read
    noise."""
    if darks.black > CLIPPED:
        return Estimate(0.0, math.nan)
    variances = [max(float(tile.var() - noise.mean() / darks.count), 0.0)
                 for tile, noise in zip(_tiles(darks.mean), _tiles(darks.variance), strict=True)]  # fmt: skip
    return Estimate(math.sqrt(float(np.mean(variances))), _error(np.sqrt(variances)))


def shot_gain(flats: Frames, darks: Frames) -> Estimate:
    """Variance over mean of light alone: the variance of the flats less that of the darks, over the mean of
    the flats less that of the darks (photon transfer; Janesick 2007).

    Raises:
        InputError: the flats are no brighter than the darks.
    """
    dark_mean, dark_variance = _dark_level(darks)
    light = flats.mean - dark_mean
    usable = (light > DIMMEST) & (flats.mean < BRIGHTEST)
    if usable.mean() < 0.1:
        raise InputError(
            "The flats are about as dark as the darks: light the surface, or expose them longer."
        )
    noise = np.where(usable, flats.variance - dark_variance, 0)
    light = np.where(usable, light, 0)
    tiles = np.array(
        [(n.sum(), m.sum()) for n, m in zip(_tiles(noise), _tiles(light), strict=True) if m.any()]
    )
    return Estimate(float(noise.sum() / light.sum()), _error(tiles[:, 0] / tiles[:, 1]))


def _dark_level(darks: Frames) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Mean and variance of the darks as they would be without a cut at 0."""
    if darks.black > CLIPPED:
        deviation = read_noise(darks).value
        return float(norm.isf(darks.black)) * deviation, deviation**2
    return darks.mean, darks.variance


def vignette(flats: Frames, darks: Frames, channel: int | None = None) -> VignetteFit:
    """c (1 + a1 r^2 + a2 r^4 + a3 r^6) around a free centre, fitted to the means of blocks.

    Args:
        channel: of one colour; None: of all, each brought to the same brightness.

    Raises:
        InputError: the flats show texture, or their light falls to one side.
    """
    light = flats.mean - _dark_level(darks)[0]
    light = light / light.mean((1, 2), keepdims=True)
    values, x, y = _blocks(light.mean(0) if channel is None else light[channel])

    def fitted(p: np.ndarray) -> np.ndarray:
        return p[0] * falloff((x - p[4]) ** 2 + (y - p[5]) ** 2, p[1:4])

    def misfit(p: np.ndarray) -> np.ndarray:
        return np.append(fitted(p) - values, CENTERED * p[4:])  # a flat without vignette has no centre

    start = np.array([values.max(), -0.1, 0.0, 0.0, 0.0, 0.0])
    found = least_squares(misfit, start, loss="soft_l1", f_scale=0.01, x_scale="jac").x
    scale, a1, a2, a3, cx, cy = map(float, found)
    residual = float(np.sqrt(np.mean((fitted(found) / values - 1) ** 2)))
    if residual > UNEVEN:
        raise InputError(
            f"The flats differ by {residual:.1%} from any smooth vignette: photograph an even, evenly lit "
            "surface, out of focus."
        )
    if math.hypot(cx, cy) > FARTHEST_CENTER:
        raise InputError(
            "The light of the flats falls to one side, which cannot be told apart from vignetting: light the "
            "surface evenly, or turn the camera between the flats."
        )
    radius = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
    profile = np.stack([radius, values / scale, fitted(found) / scale], 1)
    return VignetteFit((a1, a2, a3), (cx, cy), 1 + a1 + a2 + a3, residual, profile)


def _blocks(light: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of square blocks, and where their middles lie, in half diagonals from the picture's middle."""
    height, width = light.shape
    side = max(2, max(height, width) // BLOCKS // 2 * 2)  # even: whole squares of a mosaic
    rows, columns = height // side, width // side
    cut = light[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))
    half = math.hypot(width, height) / 2
    x = ((np.arange(columns) + 0.5) * side - width / 2) / half
    y = ((np.arange(rows) + 0.5) * side - height / 2) / half
    x, y = (axis.ravel() for axis in np.meshgrid(x, y))
    return cut.ravel(), x, y


def _tiles(values: np.ndarray) -> list[np.ndarray]:
    """Parts of a (C, H, W) picture."""
    return [tile for strip in np.array_split(values, TILES, 1) for tile in np.array_split(strip, TILES, 2)]


def _error(tiles: np.ndarray) -> float:
    """Standard deviation of the mean of parts."""
    return float(np.std(tiles, ddof=1) / math.sqrt(len(tiles)))
