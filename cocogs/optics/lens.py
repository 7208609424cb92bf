"""The thin lens: pure functions, and a lens as one photo had it or as a user sets it (docs/method.md).

Symbols: z depth of a point along the optical axis, z_f `focus_distance`, both in scene units;
`K` = aperture diameter (scene units) x fx (px). All functions broadcast, keep gradients,
and are signed: positive on the near side of the plane in focus, negative beyond it. The sign is what
makes lens samples occlude each other correctly; the size of the blur is the absolute value.

Lee et al., CoCoGaussian, CVPR 2025, Eq. 7 holds for z_f much larger than the focal length.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.scene.frame import NEAR_PART

WIDEST = 10  # aperture / distance, of the plane in focus and of the scene; measured pictures are black beyond
MIN_DEPTH = 1e-9  # scene units; keeps 1/z finite. What is nearer than `Camera.near` is not drawn anyway

# Standard deviation, in radii, of the Gaussian nearest to a uniform disc, by least squares over the plane:
# 1 / (4 pi s^2) - 2 (1 - exp(-1 / (2 s^2))) / pi + 1 / pi is least where exp(-1 / (2 s^2)) = 1/4.
# The disc's own deviation is 1/2, but a Gaussian of that width blurs less (docs/lab/lens.md).
DISC_SIGMA = 1 / math.sqrt(2 * math.log(4))


def coc_diameter(z: Tensor, focus_distance: Tensor, K: Tensor) -> Tensor:
    """Signed diameter of the circle of confusion in px: c = K (1/z - 1/z_f).

    Args:
        z: depths (...,) in scene units; values under `MIN_DEPTH` count as `MIN_DEPTH`.
        focus_distance: > 0, scene units; infinity is allowed.
        K: >= 0, px x scene unit.
    """
    return K * (1 / z.clamp_min(MIN_DEPTH) - 1 / focus_distance)


def depth_of_field(focus_distance: float, K: float, coc: float) -> tuple[float, float]:
    """Nearest and farthest depth (perhaps infinite) whose circle of confusion is at most `coc` px wide.

    Args:
        focus_distance: > 0, scene units; infinity is allowed.
        K: > 0, px x scene unit.
    """
    vergence, slack = 1 / focus_distance, coc / K
    return 1 / (vergence + slack), 1 / (vergence - slack) if vergence > slack else math.inf


def focus_between(start: float, end: float, t: float) -> float:
    """The focus distance `t` in [0, 1] of the way from one to another, evenly in 1/z, in which blur grows.

    Args:
        start, end: > 0, scene units; infinity is allowed.
    """
    vergence = (1 - t) / start + t / end
    return 1 / vergence if vergence > 0 else math.inf


def blur_variance(coc: Tensor) -> Tensor:
    """Variance per axis, in px^2, of the Gaussian that stands for a disc of diameter `coc` px."""
    return (DISC_SIGMA / 2 * coc).square()


@dataclass(frozen=True)
class PhotoLens:
    """The lens that one photo was taken with, as the formulas take it.

    Args:
        focus_distance: scene units.
        K: px x scene unit.
        softness: variance, px^2, of what blurs all of the photo alike.
    """

    focus_distance: Float[Tensor, ""]
    K: Float[Tensor, ""]
    softness: Float[Tensor, ""] | float = 0.0

    def coc(self, z: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """Signed diameter in px of the circle of confusion at depths z."""
        return coc_diameter(z, self.focus_distance, self.K)


@dataclass(frozen=True)
class Lens:
    """A lens as a photographer sets it.

    Args:
        focus_distance: depth in focus along the optical axis, scene units, > 0; infinity is allowed.
        aperture_diameter: of the opening, scene units, >= 0; 0 is a pinhole, which shows all sharp.
            (The K of the formulas is `aperture_diameter` x fx, in px x scene unit.)
        blades: number of aperture blades, 0 for a round opening, else at least 3. The polygon has the
            area of the circle with this diameter, so that blades change the shape and not the light.
        blade_rotation: turns the polygon, degrees, clockwise in the picture.
        highlights: how much light there was where the photos are white, from 1 (no more than they show) on.
            They cannot tell; with 4 or so, bright points out of focus stand out as discs, as in photos. What
            is in focus keeps its brightness.

    Raises:
        InputError: a value is out of its range.
    """

    focus_distance: float
    aperture_diameter: float
    blades: int = 0
    blade_rotation: float = 0.0
    highlights: float = 1.0

    def __post_init__(self) -> None:
        if not self.focus_distance > 0:
            raise InputError(f"The focus distance must be above 0, not {self.focus_distance:g}.")
        if not 0 <= self.aperture_diameter < math.inf:
            raise InputError(f"The aperture must be a diameter from 0 on, not {self.aperture_diameter:g}.")
        if self.blades < 0 or self.blades in (1, 2):
            raise InputError(f"A lens has 0 (round) or at least 3 blades, not {self.blades}.")
        if not math.isfinite(self.blade_rotation):
            raise InputError(
                f"The blades' rotation must be an angle in degrees, not {self.blade_rotation:g}."
            )
        if not 1 <= self.highlights < math.inf:
            raise InputError(f"The light of highlights must be 1 or more, not {self.highlights:g}.")

    def check_range(self, camera: Camera) -> None:
        """Check that pictures of `camera` can show something.

        Through an aperture far wider than the distances to the scene and to what is in focus, every point
        spreads over much more than the picture, which goes black.

        Raises:
            InputError: the lens is out of range.
        """
        if self.focus_distance < camera.near:
            raise InputError(
                f"A focus distance of {self.focus_distance:g} is out of range: what lies nearer than "
                f"{camera.near:.3g} scene units is not drawn."
            )
        widest = WIDEST * min(self.focus_distance, camera.near / NEAR_PART)
        if self.aperture_diameter > widest:
            raise InputError(
                f"An aperture {self.aperture_diameter:g} scene units wide is out of range where the focus "
                f"distance is {self.focus_distance:g}: above {widest:.3g} pictures are black."
            )

    def of(self, camera: Camera) -> PhotoLens:
        """The same as the formulas take it, for pictures of this camera."""
        K = self.aperture_diameter * camera.fx
        return PhotoLens(torch.tensor(float(self.focus_distance)), torch.tensor(K))
