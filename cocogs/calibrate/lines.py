"""The lens of one photo from the straight lines that it shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from cocogs.calibrate import vanishing
from cocogs.calibrate.vanishing import CENTERED, CROPPED, Fit, Segments
from cocogs.errors import optional_package
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.pixels import largest

SOURCE = "lines"
WORKING = 1280  # px of the longer side in which segments are looked for
LEVELS = 3  # the photo, and shrunk to 1/2 and 1/4: a blur of 8 px is one of 2 px there
END = 0.11  # px of a level: least standard deviation of an end across its segment
UNPLACED = 0.7  # px: that of an end as LSD gives it
SMOOTHED, STATIONS, REACH = 1.0, 16, 3.0  # px, a number, px: see `_placed`
BENT = 0.0004  # part of a segment's length by which it is not straight, or not quite parallel to its like
SHORTEST = 0.02  # of the longer side
MOST = 500  # segments, the longest ones
FEWEST_LINES, LEAST_SIDE = 12, 64
LEAST_SHARE = 0.3  # of the segments, by length, that must belong to a vanishing point
LEAST_AGREEMENT = 1.2  # nats by which a line's angle is likelier than by chance, on average
RUNNER_UP = 3.0  # nats by which the best camera must beat the best of another focal length
APART = 0.12  # log of focal lengths that are two
MOST_UNSURE = 0.15  # largest relative deviation of a focal length that is worth telling
KNOWN = 0.6  # of its deviation beforehand: a principal point that is known no better is not known


@dataclass(frozen=True)
class LinesFound:
    """What the lines of a photo tell.

    Args:
        lens: the focal length, and the principal point where three vanishing points set it.
        segments: (P, 4) x, y of both ends, px of the upright photo.
        belongs: (P,) the vanishing point of each segment, -1 for none.
        points: (V, 3) homogeneous vanishing points, px: three orthogonal ones, the upright one second; then
            those of buildings that are turned about one of the three.
        horizon: (3,) the line a x + b y + c = 0 of the horizon, px.
    """

    lens: LensEstimate
    segments: np.ndarray
    belongs: np.ndarray
    points: np.ndarray
    horizon: np.ndarray


def estimate_by_lines(photo: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]) -> LinesFound | Abstention:
    """Focal length and principal point from the vanishing points of a photo's straight lines.

    Pixels are taken to be square and lines to be straight in the scene. The principal point may lie anywhere
    near the middle: the photo may be a crop, so the deviations cover both.

    Args:
        photo: sRGB-encoded, upright.

    Raises:
        InputError: OpenCV is missing.
    """
    height, width = photo.shape[:2]
    if min(height, width) < LEAST_SIDE:
        return Abstention(SOURCE, f"The photo is {width}x{height} px: too small for lines.")
    segments = find_segments(photo)
    if len(segments) < FEWEST_LINES:
        return Abstention(SOURCE, f"The photo shows {len(segments)} straight lines, too few to tell.")
    found = vanishing.fits(segments, np.random.default_rng(0))
    if not found:
        return Abstention(SOURCE, "The lines have no two vanishing points that can be orthogonal.")
    return _judged(found, segments, (width, height))


def find_segments(photo: np.ndarray) -> Segments:
    """Straight segments by OpenCV's LSD at several scales, each once."""
    cv2 = optional_package("cv2", "`lines` needs OpenCV: install it with pip install 'cocogs[calibrate]'.")
    height, width = photo.shape[:2]
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if grey.dtype != np.uint8:
        grey = (grey * (255 / largest(photo)) + 0.5).astype(np.uint8)
    unit = max(width, height)
    shrink = min(1.0, WORKING / unit)
    ends, deviations, levels = [np.empty((0, 2, 2))], [np.empty(0)], [np.empty(0)]
    for level in range(LEVELS):
        scale = shrink / 2**level
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = grey if size == (width, height) else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        inner = 0.8 if level == 0 else 1.0  # LSD's own shrinking, against the steps of unblurred edges
        detected = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD, inner).detect(small)[0]
        if detected is None:
            continue
        # LSD's points are half a pixel of its own scale low
        points = (detected.reshape(-1, 2, 2) + 0.5 / inner) * np.array([width / size[0], height / size[1]])
        to_level = np.array([size[0] / width, size[1] / height])
        placed, unsure = _placed(cv2, cv2.GaussianBlur(small, (0, 0), SMOOTHED), points * to_level)
        ends.append((placed / to_level - np.array([width, height]) / 2) / unit)
        deviations.append(unsure / scale / unit)
        levels.append(np.full(len(placed), 1 / scale / unit))
    everything = Segments(np.concatenate(ends), np.concatenate(deviations))
    lengths = everything.lengths
    level = np.concatenate(levels)  # length of its pixels
    long = lengths > np.maximum(SHORTEST, 4 * level)
    single = _once(everything.some(long), level[long])
    single = single.some(np.argsort(-single.lengths)[:MOST])
    return Segments(single.ends, np.hypot(single.deviation, BENT * single.lengths))


def _placed(cv2: Any, smooth: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P, 2, 2) moved across their segments to where the picture changes most, px, and their deviations.

    LSD's segments lean towards rows and columns where a picture is aliased. Here a line is laid through the
    centres of the gradient that `STATIONS` profiles across the segment show.
    """
    way = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(way, axis=1)
    normal = np.stack([-way[:, 1], way[:, 0]], 1) / np.maximum(length, 1e-9)[:, None]
    t = (np.arange(STATIONS) + 0.5) / STATIONS - 0.5
    offsets = np.arange(-REACH, REACH + 0.1, 0.5)
    at = ends.mean(1)[:, None] + t[:, None] * way[:, None]
    at = at[:, :, None] + offsets[:, None] * normal[:, None, None] - 0.5
    maps = at.reshape(len(ends), -1, 2).astype(np.float32)
    light = cv2.remap(
        smooth.astype(np.float32), maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).reshape(len(ends), STATIONS, -1)
    change = np.diff(light, axis=2)
    change = np.maximum(change * np.sign(change.sum((1, 2)))[:, None, None], 0)
    between = (offsets[1:] + offsets[:-1]) / 2
    line, trust = np.zeros((len(ends), 2)), np.ones((len(ends), STATIONS))
    basis = np.stack([np.ones(STATIONS), t], 1)
    places = np.zeros((len(ends), STATIONS))
    for _ in range(4):
        window = change * np.exp(-0.5 * ((between - (line @ basis.T)[..., None]) / 1.3) ** 2)
        strength = window.sum(2) + 1e-6
        places = (window * between).sum(2) / strength
        weight = trust * np.sqrt(strength)
        normals = np.einsum("ps,si,sj->pij", weight, basis, basis) + 1e-9 * np.eye(2)
        line = np.linalg.solve(normals, np.einsum("ps,si,ps->pi", weight, basis, places)[..., None])[..., 0]
        off = np.abs(places - line @ basis.T)
        scale = np.median(off, axis=1, keepdims=True) * 1.5 + 0.03
        trust = 1 / (1 + (off / scale / 2) ** 2)
    independent = np.minimum(STATIONS, np.maximum(length / (2.5 * SMOOTHED), 2.5))
    unsure = np.hypot(6 * scale[:, 0] / np.sqrt(independent), END)
    steps = line[:, :1] + line[:, 1:] * np.array([-0.5, 0.5])  # (P, 2 ends)
    good = np.abs(steps).max(1) < REACH - 0.5
    moved = ends + np.where(good[:, None], steps, 0)[..., None] * normal[:, None]
    return moved, np.where(good, unsure, UNPLACED)


def _once(segments: Segments, level: np.ndarray) -> Segments:
    """Without those that lie on a finer or longer one for most of their length."""
    order = np.lexsort((-segments.lengths, level))
    kept: list[int] = []
    middles = segments.ends.mean(1)
    ways = segments.ends[:, 1] - segments.ends[:, 0]
    lengths = segments.lengths
    ways = ways / lengths[:, None]
    for i in order:
        if kept:
            k = np.array(kept)
            near = segments.ends[i][None] - middles[k][:, None]  # (K, 2 ends, 2)
            along = (near * ways[k][:, None]).sum(2)
            across = np.abs(near[..., 0] * ways[k][:, None, 1] - near[..., 1] * ways[k][:, None, 0])
            reach = lengths[k] / 2
            low, high = along.min(1).clip(-reach, reach), along.max(1).clip(-reach, reach)
            close = across.max(1) < 1.5 * np.maximum(level[i], level[k])
            if (high - low)[close].sum() > 0.5 * lengths[i]:
                continue
        kept.append(int(i))
    return segments.some(np.array(kept, int))


def _judged(found: list[Fit], segments: Segments, size: tuple[int, int]) -> LinesFound | Abstention:
    best = found[0]
    weights = vanishing.belonging(best.camera, segments)
    share = float(segments.lengths @ weights.sum(0) / segments.lengths.sum())
    many = weights.sum()
    if many < FEWEST_LINES or share < LEAST_SHARE:
        return Abstention(
            SOURCE, f"Only {many:.0f} of {len(segments)} lines agree on vanishing points, too few to tell."
        )
    if best.per_line < LEAST_AGREEMENT:
        return Abstention(SOURCE, "The lines agree on vanishing points little better than by chance.")
    centered = vanishing.refine(best.camera, segments, CENTERED)
    log_focal, center, deviation = _mixed([best, centered])
    if deviation[0] > MOST_UNSURE:
        return Abstention(
            SOURCE,
            f"The vanishing points leave the focal length open by {100 * deviation[0]:.0f} %: too few of them, or too far.",
        )
    others = [f for f in found[1:] if _differ(f, best)]
    if others and others[0].evidence > best.evidence - RUNNER_UP:
        one, other = (np.exp(f.camera.log_focal) * max(size) for f in (best, others[0]))
        return Abstention(SOURCE, f"The lines fit two focal lengths alike, {one:.0f} and {other:.0f} px.")
    return _told(best, segments, size, log_focal, center, deviation, many)


def _differ(one: Fit, other: Fit) -> bool:
    """Whether their focal lengths differ by more than they are unsure."""
    unsure = np.sqrt(one.covariance[0, 0] + other.covariance[0, 0])
    return abs(one.camera.log_focal - other.camera.log_focal) > max(APART, 2 * unsure)


def _mixed(found: list[Fit]) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean and deviation of log focal length and principal point of several fits, by their evidence."""
    weight = np.exp([f.evidence - max(g.evidence for g in found) for f in found])
    weight /= weight.sum()
    values = np.array([[f.camera.log_focal, *f.camera.center] for f in found])
    mean = weight @ values
    spread = weight @ [np.diag(f.covariance) for f in found] + weight @ (values - mean) ** 2
    return float(mean[0]), mean[1:], np.sqrt(spread)


def _told(
    best: Fit,
    segments: Segments,
    size: tuple[int, int],
    log_focal: float,
    center: np.ndarray,
    deviation: np.ndarray,
    many: float,
) -> LinesFound:
    unit, middle = max(size), np.array(size) / 2
    focal = float(np.exp(log_focal) * unit)
    known = deviation[1:] < KNOWN * CROPPED
    places = np.where(known, middle + center * unit, middle)
    unsure = np.where(known, deviation[1:] * unit, np.inf)
    weights = vanishing.belonging(best.camera, segments)
    belongs = np.where(weights.max(0) > 0.5, weights.argmax(0), -1)
    to_px = np.array([[unit, 0, middle[0]], [0, unit, middle[1]], [0, 0, 1]])
    camera = best.camera
    upright = camera.upright
    order = [(upright + 2) % 3, upright, (upright + 1) % 3, *range(3, len(camera.directions))]
    back = np.argsort(order)
    points = camera.points[order] @ to_px.T
    horizon = np.cross(points[0], points[2])
    lines = sum(1 for b in belongs if b >= 0)
    finite = len({int(b) for b in belongs if b >= 0})
    lens = LensEstimate(
        SOURCE,
        size,
        (focal, focal),
        (focal * deviation[0],) * 2,
        (float(places[0]), float(places[1])),
        (float(unsure[0]), float(unsure[1])),
        f"{finite} vanishing points of {lines} lines",
    )
    ends = segments.ends * unit + middle
    return LinesFound(
        lens, ends.reshape(-1, 4), np.where(belongs < 0, -1, back[belongs]), points, horizon / np.hypot(*horizon[:2])
    )
