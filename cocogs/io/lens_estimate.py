"""What a source says of the lens of one photo, and how sure it is."""

import math
from dataclasses import dataclass, replace

from cocogs.io.source import Intrinsics

SIGMAS = 3.0
"""Standard deviations by which two sources may differ; beyond it they contradict each other."""


@dataclass(frozen=True)
class LensEstimate:
    """The lens of a photo. Pixels are those of the upright photo, with centres at +.5: the middle of the
    picture is (width / 2, height / 2). Deviations are standard deviations.

    Args:
        source: "exif", "lines", "views", or the name of a network.
        size: width and height of the upright photo, px.
        focal: fx, fy in px.
        focal_deviation: of fx, fy; px.
        center: principal point, px.
        center_deviation: px; infinite: not known, and the middle is assumed.
        basis: what it rests on, in a few words, such as "26 mm on full frame".
        k1: radial distortion, k of COLMAP's SIMPLE_RADIAL; None: not known.
        k1_deviation: None where k1 is.
        notes: sentences for the user.
        generative: a network made it up; nothing was measured.
    """

    source: str
    size: tuple[int, int]
    focal: tuple[float, float]
    focal_deviation: tuple[float, float]
    center: tuple[float, float]
    center_deviation: tuple[float, float]
    basis: str
    k1: float | None = None
    k1_deviation: float | None = None
    notes: tuple[str, ...] = ()
    generative: bool = False

    @property
    def relative_deviation(self) -> float:
        """Of the less certain focal length, as a part of it."""
        return max(sd / f for sd, f in zip(self.focal_deviation, self.focal, strict=True))

    @property
    def fields_of_view(self) -> tuple[float, float, float]:
        """Horizontal, vertical and diagonal, in degrees, without distortion."""
        (fx, fy), (cx, cy), (width, height) = self.focal, self.center, self.size
        left, right, top, bottom = -cx / fx, (width - cx) / fx, -cy / fy, (height - cy) / fy
        across = math.atan(right) - math.atan(left)
        down = math.atan(bottom) - math.atan(top)
        return math.degrees(across), math.degrees(down), math.degrees(_angle((left, top), (right, bottom)))

    @property
    def is_square(self) -> bool:
        """Pixels are as high as wide, as far as anybody can tell."""
        fx, fy = self.focal
        return abs(fx - fy) <= max(1e-6 * fx, math.hypot(*self.focal_deviation))

    def sigmas_from(self, other: "LensEstimate") -> float:
        """By how many standard deviations two estimates of a photo's lens differ, at most; what either does
        not know counts for nothing."""
        found = [0.0]
        pairs = zip(self.focal, other.focal, self.focal_deviation, other.focal_deviation, strict=True)
        for f, g, f_off, g_off in pairs:
            found.append(abs(math.log(f / g)) / max(math.hypot(f_off / f, g_off / g), 1e-6))
        centers = zip(self.center, other.center, self.center_deviation, other.center_deviation, strict=True)
        found += [abs(c - d) / max(math.hypot(c_off, d_off), 1e-3) for c, d, c_off, d_off in centers]
        if self.k1 is not None and other.k1 is not None:
            off = math.hypot(self.k1_deviation or 0.0, other.k1_deviation or 0.0)
            found.append(abs(self.k1 - other.k1) / max(off, 1e-6))
        return max(found)

    def resized(self, width: int, height: int) -> "LensEstimate":
        """Of the same photo at another size in px."""
        x, y = width / self.size[0], height / self.size[1]

        def scaled(pair: tuple[float, float]) -> tuple[float, float]:
            return pair[0] * x, pair[1] * y

        return replace(
            self,
            size=(width, height),
            focal=scaled(self.focal),
            focal_deviation=scaled(self.focal_deviation),
            center=scaled(self.center),
            center_deviation=scaled(self.center_deviation),
        )

    @property
    def intrinsics(self) -> Intrinsics:
        """As the simplest of COLMAP's camera models."""
        (fx, fy), k1 = self.focal, self.k1 or 0.0
        if fx == fy:
            params = (fx, *self.center, k1) if k1 else (fx, *self.center)
            return Intrinsics("SIMPLE_RADIAL" if k1 else "SIMPLE_PINHOLE", *self.size, params)
        params = (fx, fy, *self.center)
        if k1:
            return Intrinsics("OPENCV", *self.size, (*params, k1, 0.0, 0.0, 0.0))
        return Intrinsics("PINHOLE", *self.size, params)


@dataclass(frozen=True)
class Abstention:
    """A source that does not know.

    Args:
        source: as in `LensEstimate`.
        reason: one sentence for the user.
    """

    source: str
    reason: str


def _angle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Radians between the rays through two points of the plane at distance 1."""
    dot = one[0] * other[0] + one[1] * other[1] + 1
    return math.acos(max(-1.0, min(1.0, dot / (math.hypot(*one, 1) * math.hypot(*other, 1)))))
