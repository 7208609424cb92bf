"""The lens of one photo from the straight lines that it shows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8, UInt16

from cocogs.calibrate import orthogonal
from cocogs.calibrate.orthogonal import CENTERED, CROPPED, Fit
from cocogs.calibrate.segments import Segments, find_segments
from cocogs.io.lens_estimate import Abstention, LensEstimate

SOURCE = "lines"
FEWEST_LINES, LEAST_SIDE = 12, 64
FEWEST_OF_ONE = 5.0  # lines of the third direction
FARTHEST_CENTER = 0.33  # longer sides from the middle
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


def estimate_by_lines(
    photo: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"],
) -> LinesFound | Abstention:
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
    found = orthogonal.fits(segments, np.random.default_rng(0))
    if not found:
        return Abstention(SOURCE, "The lines have no two vanishing points that can be orthogonal.")
    return judged(found, segments, (width, height))


def judged(found: list[Fit], segments: Segments, size: tuple[int, int]) -> LinesFound | Abstention:
    best = found[0]
    weights = orthogonal.belonging(best.camera, segments)
    share = float(segments.lengths @ weights.sum(0) / segments.lengths.sum())
    many = weights.sum()
    if many < FEWEST_LINES or share < LEAST_SHARE:
        return Abstention(
            SOURCE, f"Only {many:.0f} of {len(segments)} lines agree on vanishing points, too few to tell."
        )
    if best.per_line < LEAST_AGREEMENT:
        return Abstention(SOURCE, "The lines agree on vanishing points little better than by chance.")
    told = np.sort(weights.sum(1))[::-1]
    if len(told) < 3 or told[2] < FEWEST_OF_ONE:
        return Abstention(SOURCE, "The lines have two vanishing points, which tell less than three.")
    if np.linalg.norm(best.camera.center) > FARTHEST_CENTER:
        return Abstention(
            SOURCE, "The lines fit only a photo of which most was cut off; they may lie in texture."
        )
    centered = orthogonal.refine(best.camera, segments, CENTERED)
    log_focal, center, deviation = _mixed([best, centered])
    if deviation[0] > MOST_UNSURE:
        return Abstention(
            SOURCE,
            f"The vanishing points leave the focal length open by {deviation[0]:.0%}: they are few, or far.",
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
    weights = orthogonal.belonging(best.camera, segments)
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
        lens,
        ends.reshape(-1, 4),
        np.where(belongs < 0, -1, back[belongs]),
        points,
        horizon / np.hypot(*horizon[:2]),
    )
