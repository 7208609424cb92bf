"""The thin lens, as pure functions (METHOD.md section 2).

Symbols: z depth of a point along the optical axis, z_f `focus_distance`, both in scene units;
K `aperture` = aperture diameter (scene units) x fx (px). All functions broadcast, keep gradients,
and are signed: positive on the near side of the focus plane, negative beyond it. The sign is what
makes lens samples occlude each other correctly; the size of the blur is the absolute value.

Lee et al., CoCoGaussian, CVPR 2025, Eq. 7 holds for z_f much larger than the focal length.
"""

import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.rasterize.reference import NEAR_PLANE

MIN_DEPTH = NEAR_PLANE  # scene units; nothing nearer is drawn

# Standard deviation, in radii, of the Gaussian nearest to a uniform disc, by least squares over the plane:
# 1 / (4 pi s^2) - 2 (1 - exp(-1 / (2 s^2))) / pi + 1 / pi is least where exp(-1 / (2 s^2)) = 1/4.
# The disc's own deviation is 1/2, but a Gaussian of that width blurs less (docs/what-we-learned.md).
DISC_SIGMA = 1 / math.sqrt(2 * math.log(4))


def coc_diameter(z: Tensor, focus_distance: Tensor, aperture: Tensor) -> Tensor:
    """Signed diameter of the circle of confusion in px: c = K (1/z - 1/z_f).

    Args:
        z: depths (...,) in scene units; values under `MIN_DEPTH` count as `MIN_DEPTH`.
        focus_distance: > 0, scene units; infinity is allowed.
        aperture: K >= 0 in px x scene unit.
    """
    return aperture * (1 / z.clamp_min(MIN_DEPTH) - 1 / focus_distance)


def depth_of_field(focus_distance: float, aperture: float, coc: float) -> tuple[float, float]:
    """Nearest and farthest depth (perhaps infinite) whose circle of confusion is at most `coc` px wide.

    Args:
        focus_distance: > 0, scene units; infinity is allowed.
        aperture: K > 0 in px x scene unit.
    """
    vergence, slack = 1 / focus_distance, coc / aperture
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


def world_radius(
    z: Tensor, focus_distance: Tensor, aperture: Tensor, fx: float, units: str = "world"
) -> Tensor:
    """Signed radius of the circle of confusion in scene units, at depth z.

    `units="world"` projects the diameter in px back to the depth z: r = (K / fx) / 2 (1 - z / z_f).
    A point seen from the point u of the unit aperture disc moves sideways by -r u against the
    re-aimed camera, dx(u) = a u (z / z_f - 1) with the aperture radius a = K / (2 fx).
    `units="paper"` is Eq. 7 as the paper uses it: K |1/z - 1/z_f| / 2 taken as a world length,
    unsigned. It lacks a factor z / fx, for which its learned factors have to make up.

    Raises:
        ValueError: `units` is neither.
    """
    if units == "world":
        return aperture / fx / 2 * (1 - z / focus_distance)
    if units == "paper":
        return coc_diameter(z, focus_distance, aperture).abs() / 2
    raise ValueError(f"units must be 'world' or 'paper', not {units!r}.")


def lens_samples(
    count: int, overlap: float = 1.0, blades: int = 0, rotation: float = 0.0, settled: bool = False
) -> Float[Tensor, "{count} 2"]:
    """Points of the aperture, a sunflower of equal areas, for the lens's sub-apertures.

    Coordinates x right and y down, in radii of the circle of the aperture's area: the unit disc, or the
    regular polygon of area pi. Each point stands for a sub-aperture of radius sqrt(overlap / count), drawn
    as the Gaussian of `DISC_SIGMA` times that. The pattern is centred and scaled so that its variance plus
    the Gaussians' equals the whole aperture's: without this the sampled lens would be too wide by about
    1/count.

    Args:
        overlap: area of the sub-apertures together, in areas of the aperture; at most `count`.
        blades: corners of the polygon, at least 3; 0 for a disc.
        rotation: of the polygon, degrees from x towards y; 0 puts a corner at the right.
        settled: move every point to the middle of what is nearest to it, until they are spread evenly
            and along the rim (Lloyd 1982): 64 points then show the aperture's shape, a sunflower of 64 frays.
    """
    points = _settled(count, blades) if settled else _sunflower(count, blades)
    angle = math.radians(rotation)
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    points = (points - points.mean(0)) @ points.new_tensor(turn)
    if count == 1:
        return points.float()
    variance = points.square().mean()
    left = max(0.0, _variance(blades) - DISC_SIGMA**2 * overlap / count)
    return (points * math.sqrt(left / float(variance))).float()


@cache
def sampled_disc(count: int) -> float:
    """The width, in discs, at which `lens_samples(count)` and their Gaussians come nearest to the disc.

    By least squares, as `DISC_SIGMA`: 1 for a single sample, 1.11 for 5, 1.04 for 16. Few samples of the
    disc's own variance blur too little, because they leave gaps.
    """
    if count == 1:
        return 1.0
    from scipy.optimize import minimize_scalar  # .1 s to load, for `full` only

    x = torch.linspace(-3, 3, 301, dtype=torch.float64)
    plane, points = torch.cartesian_prod(x, x), lens_samples(count).double()
    disc = (plane.norm(dim=1) <= 1) / math.pi

    def distance(scale: float) -> float:
        variance = (DISC_SIGMA * scale) ** 2 / count
        away = torch.cdist(plane, scale * points).square()
        samples = torch.exp(-away / (2 * variance)).mean(1) / (2 * math.pi * variance)
        return float((samples - disc).square().sum())

    return minimize_scalar(distance, bounds=(0.9, 1.3), method="bounded").x


def _sunflower(count: int, blades: int) -> Float[Tensor, "{count} 2"]:
    index = torch.arange(count, dtype=torch.float64) + 0.5
    return torch.sqrt(index / count)[:, None] * _rim(index * (3 - math.sqrt(5)) / 2, blades)


@cache
def _settled(count: int, blades: int) -> Float[Tensor, "{count} 2"]:
    from scipy.spatial import KDTree  # .3 s, for final pictures only

    points, aperture = _sunflower(count, blades), _sunflower(32 * count, blades)
    for _ in range(20):
        nearest = torch.from_numpy(KDTree(points.numpy()).query(aperture.numpy())[1])
        share = torch.bincount(nearest, minlength=count)[:, None]
        points = torch.zeros_like(points).index_add_(0, nearest, aperture) / share
    return points


def _rim(turns: Float[Tensor, " *P"], blades: int) -> Float[Tensor, "*P 2"]:
    """Points of the aperture's rim, `turns` times around it: scaled towards the centre by the root
    of a uniform number, points spread evenly along the rim spread evenly over the area."""
    angle = 2 * math.pi * turns
    if blades == 0:
        return torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)
    sector = 2 * math.pi / blades
    corner = torch.floor(turns * blades)
    along = (turns * blades - corner)[..., None]
    angle = corner * sector
    start, end = (torch.stack([torch.cos(a), torch.sin(a)], dim=-1) for a in (angle, angle + sector))
    return _corner_radius(blades) * torch.lerp(start, end, along)


def _corner_radius(blades: int) -> float:
    """Distance of the corners of a regular polygon of area pi from its centre."""
    sector = 2 * math.pi / blades
    return math.sqrt(sector / math.sin(sector))


def _variance(blades: int) -> float:
    """Per axis, of the unit disc (1/4) or the regular polygon of area pi (a little more)."""
    if blades == 0:
        return 1 / 4
    return _corner_radius(blades) ** 2 * (2 + math.cos(2 * math.pi / blades)) / 12


def camera_depth(
    points: Float[Tensor, "N 3"], cam_from_world: Float[Tensor, "4 4"], depth: str = "z"
) -> Float[Tensor, " N"]:
    """Depth of world points: along the optical axis, or the paper's Euclidean distance.

    Raises:
        ValueError: `depth` is neither "z" nor "euclidean".
    """
    if depth == "z":
        return points @ cam_from_world[2, :3] + cam_from_world[2, 3]
    if depth == "euclidean":
        position = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
        return (points - position).norm(dim=-1)
    raise ValueError(f"depth must be 'z' or 'euclidean', not {depth!r}.")
