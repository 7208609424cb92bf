"""The Camera Image: intrinsics as a picture of ray angles, and back (DM-Calib, arXiv 2411.17240).

At a pixel's centre (u, v), in px, the ray is (x, y, 1) with x = (u - cx) / fx and y = (v - cy) / fy. The
first channel is its azimuth atan(x), the second its elevation acos(y / |ray|), each scaled from a range of
angles to [0, 1] and clipped. DM-Calib's third channel, the grey photo, says nothing about the lens.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Float64

AZIMUTHS, ELEVATIONS = (-0.31 * math.pi, 0.31 * math.pi), (0.21 * math.pi, 0.79 * math.pi)
CLIPPED = 0.5 / 255  # an angle so near to an end of its range may have been beyond it
DRAWS, SCORED = 128, 2048  # hypotheses, and the pixels that choose among them
NEAR = math.radians(2.0)  # a ray farther off counts for nothing in the choice
TUKEY = 4.685  # times the deviation: beyond it an angle counts for nothing (95 % efficient)
ROUNDS = (4, 4, 4, 2, 2, 1)  # px between the pixels of the map, one number a round
LEAST_DEVIATION = 1e-9  # radians
MARGIN = 2.5  # deviations
WIDEST = 1 / 3  # deviation of a focal length, as a part of it, from which on nothing is known
BLOCKS = 8  # by 8: parts of the map whose errors count as independent
FEWEST = 64  # pixels


@dataclass(frozen=True)
class PinholeFit:
    """The pinhole behind a map of angles.

    Args:
        pinhole: fx, fy, cx, cy; px.
        covariance: of these, px^2, by how much the parts of the map disagree.
        inliers: share of the angles that the pinhole explains.
    """

    pinhole: tuple[float, float, float, float]
    covariance: Float64[np.ndarray, "4 4"]
    inliers: float


def encode(pinhole: tuple[float, float, float, float], size: tuple[int, int]) -> Float64[np.ndarray, "2 H W"]:
    """The Camera Image of a pinhole, in [0, 1].

    Args:
        pinhole: fx, fy, cx, cy; px.
        size: width and height, px.
    """
    fx, fy, cx, cy = pinhole
    x = (np.arange(size[0]) + 0.5 - cx) / fx
    y = (np.arange(size[1])[:, None] + 0.5 - cy) / fy
    azimuth = np.broadcast_to(np.arctan(x), (size[1], size[0]))
    return _scaled(np.stack([azimuth, _elevation(x, y)]))


def decode(camera_image: Float[np.ndarray, "2 H W"]) -> PinholeFit | None:
    """The pinhole that a Camera Image shows; None where it shows none.

    Angles at the ends of their range were clipped, and are left out. The fit is robust in angle: the best of
    some minimal fits, then least squares with Tukey's weights.

    Args:
        camera_image: azimuth and elevation, scaled to [0, 1]; NaN: not known.
    """
    known = (camera_image > CLIPPED) & (camera_image < 1 - CLIPPED)  # NaN is neither
    low, high = _ranges()
    angles = low + np.where(known, camera_image, 0.5) * (high - low)
    if min(known[0].sum(), known[1].sum()) < FEWEST:
        return None
    start = _best_draw(angles, known)
    return None if start is None else _refined(angles, known, start)


@cache
def _ranges() -> tuple[Float64[np.ndarray, "2 1 1"], Float64[np.ndarray, "2 1 1"]]:
    low, high = np.array([AZIMUTHS, ELEVATIONS]).T.reshape(2, 2, 1, 1)
    return low, high


def _scaled(angles: Float64[np.ndarray, "2 H W"]) -> Float64[np.ndarray, "2 H W"]:
    low, high = _ranges()
    return np.clip((angles - low) / (high - low), 0, 1)


def _elevation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """acos(y / |(x, y, 1)|)."""
    return np.arctan2(np.sqrt(1 + x * x), y)


def _best_draw(
    angles: Float64[np.ndarray, "2 H W"], known: Bool[np.ndarray, "2 H W"]
) -> Float64[np.ndarray, "4"] | None:
    """fx, fy, cx, cy of the two pixels that explain the most others best."""
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(known.all(0))
    if len(rows) < FEWEST:
        return None
    pairs = rng.integers(len(rows), size=(2, DRAWS))
    many = rng.integers(len(rows), size=min(SCORED, len(rows)))
    u, v, x, y = _lines(angles, rows[pairs], columns[pairs])
    with np.errstate(all="ignore"):
        fx, fy = (u[0] - u[1]) / (x[0] - x[1]), (v[0] - v[1]) / (y[0] - y[1])
        found = np.stack([fx, fy, u[0] - fx * x[0], v[0] - fy * y[0]])
        # Where all is noise, a line through many pixels is better than any through two.
        u, v, x, y = _lines(angles, rows[many], columns[many])
        gx, gy = np.polyfit(u - u.mean(), x, 1), np.polyfit(v - v.mean(), y, 1)
        all_of_them = [1 / gx[0], 1 / gy[0], u.mean() - gx[1] / gx[0], v.mean() - gy[1] / gy[0]]
    found = np.column_stack([found, all_of_them])
    found = found[:, np.isfinite(found).all(0) & (found[0] > 0) & (found[1] > 0)]
    if not found.shape[1]:
        return None
    rows, columns = rows[many], columns[many]
    fx, fy, cx, cy = found[:, :, None]
    x, y = (columns + 0.5 - cx) / fx, (rows + 0.5 - cy) / fy
    off = (np.arctan(x) - angles[0, rows, columns]) ** 2 + (_elevation(x, y) - angles[1, rows, columns]) ** 2
    return found[:, np.minimum(off, NEAR**2).mean(1).argmin()]


def _lines(
    angles: Float64[np.ndarray, "2 H W"], rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """u, v and the slopes x, y of some pixels: u = fx x + cx, v = fy y + cy."""
    azimuth, elevation = angles[:, rows, columns]
    return columns + 0.5, rows + 0.5, np.tan(azimuth), 1 / np.tan(elevation) / np.cos(azimuth)


@dataclass(frozen=True)
class _Fields:
    """What is left of the angles when a pinhole is taken away, and how that changes with the pinhole.

    Args:
        x, y: (W,) and (H,) slopes of the rays.
        off: (2, H, W) radians.
        by_x, by_y: derivatives of the elevation, as (H, W) times x / fx or 1 / fx, and y / fy or 1 / fy.
        bend: (W,) the same of the azimuth.
    """

    x: np.ndarray
    y: np.ndarray
    off: np.ndarray
    by_x: np.ndarray
    by_y: np.ndarray
    bend: np.ndarray


def _refined(
    angles: Float64[np.ndarray, "2 H W"],
    known: Bool[np.ndarray, "2 H W"],
    pinhole: Float64[np.ndarray, "4"],
) -> PinholeFit | None:
    """Gauss-Newton, weighted by how well each angle is explained; on a part of the map first."""
    inverse, pulls, inliers = np.zeros((4, 4)), np.zeros((1, 4)), 0.0
    for step in ROUNDS:
        part = (slice(None), slice(step // 2, None, step), slice(step // 2, None, step))
        if known[part].sum((1, 2)).min() < FEWEST:
            step, part = 1, (slice(None),) * 3
        fields, weights = _weighed(angles[part], known[part], pinhole, step)
        pulls = _pulls(fields, weights, BLOCKS)
        try:
            inverse = np.linalg.inv(_normal(fields, weights))
        except np.linalg.LinAlgError:
            return None
        inverse = inverse * np.array([pinhole[0], pinhole[1]] * 2)[:, None]  # from logarithms to px
        pinhole = pinhole + inverse @ pulls.sum(0)
        if not (np.isfinite(pinhole).all() and min(pinhole[:2]) > 0):
            return None
        inliers = float((weights[known[part]] > 0).mean())
    covariance = inverse @ (pulls.T @ pulls) @ inverse.T
    if (np.sqrt(np.diag(covariance)[:2]) > WIDEST * pinhole[:2]).any():
        return None
    fx, fy, cx, cy = map(float, pinhole)
    return PinholeFit((fx, fy, cx, cy), covariance, inliers)


def _weighed(
    angles: Float64[np.ndarray, "2 H W"],
    known: Bool[np.ndarray, "2 H W"],
    pinhole: Float64[np.ndarray, "4"],
    step: int,
) -> tuple[_Fields, Float64[np.ndarray, "2 H W"]]:
    """The fields at a pinhole, and Tukey's weights.

    Args:
        step: px between the pixels of the map.
    """
    fx, fy, cx, cy = pinhole
    height, width = angles.shape[1:]
    x = (np.arange(width) * step + step // 2 + 0.5 - cx) / fx
    y = (np.arange(height) * step + step // 2 + 0.5 - cy) / fy
    root, column = np.sqrt(1 + x * x), y[:, None]
    squared = 1 + x * x + column * column
    shown = np.stack([np.broadcast_to(np.arctan(x), (height, width)), _elevation(x, column)])
    off = angles - shown
    fields = _Fields(x, y, off, -(x / root) * column / squared, root / squared, -1 / (1 + x * x))
    deviation = max(
        1.4826 * float(np.median(np.abs(off[known][:: len(angles[0]) // 100 + 1]))), LEAST_DEVIATION
    )
    weights = np.clip(1 - (off / (TUKEY * deviation)) ** 2, 0, None) ** 2
    low, high = _ranges()
    margin = min(MARGIN * deviation, MARGIN * NEAR)  # nearer to the ends, only half of the errors are seen
    return fields, np.where(known & (shown > low + margin) & (shown < high - margin), weights, 0)


def _normal(fields: _Fields, weights: Float64[np.ndarray, "2 H W"]) -> Float64[np.ndarray, "4 4"]:
    """J^T W J for log fx, log fy, cx / fx, cy / fy."""
    x, y, across, down = fields.x, fields.y, fields.by_x, fields.by_y
    own = (weights[0] * fields.bend**2 + weights[1] * across**2).sum(0)
    mixed, upright = weights[1] * across * down, (weights[1] * down**2).sum(1)
    xx, x1, x0 = own @ (x * x), own @ x, own.sum()
    yy, y1, y0 = upright @ (y * y), upright @ y, upright.sum()
    rows, total = y @ mixed, mixed.sum(0)
    normal = np.array(
        [
            [xx, rows @ x, x1, total @ x],
            [0, yy, rows.sum(), y1],
            [0, 0, x0, total.sum()],
            [0, 0, 0, y0],
        ]
    )
    return normal + np.triu(normal, 1).T


def _pulls(fields: _Fields, weights: Float64[np.ndarray, "2 H W"], blocks: int) -> Float64[np.ndarray, "B 4"]:
    """J^T W r of every part of the map, of blocks x blocks."""
    weighted = weights * fields.off
    across = weighted[0] * fields.bend + weighted[1] * fields.by_x
    down = weighted[1] * fields.by_y
    parts = np.stack([across * fields.x, down * fields.y[:, None], across, down])
    rows, columns = (np.arange(blocks) * side // blocks for side in parts.shape[1:])
    return np.add.reduceat(np.add.reduceat(parts, rows, 1), columns, 2).reshape(4, -1).T
