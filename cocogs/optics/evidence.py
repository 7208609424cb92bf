"""What the photos show of the scene's points, from which the lens is found before training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.pixels import to_float
from cocogs.optics.sharpness import REBLUR, blur_by_energies, gaussian_blur, gradient_energy
from cocogs.scene import Scene, View
from cocogs.scene.overlap import covering, seen_by

MOST_POINTS = 5_000
MOST_COMPARED = 150  # photos; comparing takes the longer the more there are, and these tell the lens as well
BLUR_POINTS = 400  # of a photo that is not read in full, at which its blur is measured
FEW_POINTS = 20  # with fewer in a photo nothing is concluded about its focus
# Autofocus takes what is near in the middle: of so many points there, the depth with so many of them nearer.
AIMED_POINTS, AIMED_SHARE = 80, 0.1


@dataclass(frozen=True)
class Evidence:
    """How much detail surrounds P SfM points in V photos, for guessing the lens before training.

    Args:
        depths: z in scene units, NaN where a photo does not see the point.
        energies: local gradient energy there, NaN likewise.
        width: of the first photo, px.
        ratios: K of each photo over that of the first, to which the K of a search belongs; None: all alike.
        compared: the photos that are compared with each other to find the lens; None: all.
        colors: mean pixel values of 8x8 px around the points, NaN likewise; None: not measured.
        aimed: depth that autofocus would choose in each photo, by `aimed_depth`; None: not measured.
    """

    depths: Float[Tensor, "V P"]
    energies: Float[Tensor, "V P"]
    width: int
    ratios: Float[Tensor, " V"] | None = None
    compared: Sequence[int] | None = None
    colors: Float[Tensor, "V P 3"] | None = None
    aimed: Float[Tensor, " V"] | None = None

    def of(self, photos: Sequence[int]) -> "Evidence":
        """That of some photos alone."""
        some = list(photos)
        ratios = None if self.ratios is None else self.ratios[some]
        aimed = None if self.aimed is None else self.aimed[some]
        return Evidence(self.depths[some], self.energies[some], self.width, ratios, aimed=aimed)

    def K_per_photo(self, K: Tensor | float) -> Float[Tensor, "V 1"]:
        """K of every photo, given that of the first."""
        ratios = torch.ones_like(self.depths[:, 0]) if self.ratios is None else self.ratios
        return K * ratios[:, None]


def measure_photos(
    scene: Scene, device: torch.device | str = "cpu", every: bool = False
) -> tuple[Evidence, Float[Tensor, "V P"]]:
    """What the training photos show of the scene's points: detail, and blur by `blur_map`.

    At most `MOST_COMPARED` photos are read in full and compared: where there are more, a choice that sees all
    points. For the others only the surroundings of the points are read, for the detail there.

    Args:
        every: also measure the blur of these others, at `BLUR_POINTS` of their points. Else it stays NaN.

    Raises:
        InputError: none sees any: cameras and points do not fit.
    """
    views, points = scene.train_views, thin_out(scene.points).to(device)
    compared = None
    if len(views) > MOST_COMPARED:
        compared = covering(seen_by([view.camera for view in views], points.cpu()), MOST_COMPARED)
    rows = []
    for index, view in enumerate(views):  # one photo at a time: all of them may be more than the memory holds
        if compared is None or index in compared:
            mask = scene.mask(view)
            mask = None if mask is None else mask.to(device)
            rows.append(measure_photo(view.camera, scene.photo(view).to(device), mask, points))
        else:
            rows.append(
                glance_at_photo(view.camera, *scene.stored(view), points, BLUR_POINTS if every else 0)
            )
    depths, energies, blurs, colors = (torch.stack(row) for row in zip(*rows, strict=True))
    if depths.isnan().all():
        raise InputError(f"No photo of {scene.source} sees its points: give cameras and points of one model.")
    ratios = K_ratios(views).to(depths.device)
    aimed = torch.stack([aimed_depth(v.camera, points, z) for v, z in zip(views, depths, strict=True)])
    return Evidence(depths, energies, views[0].camera.width, ratios, compared, colors, aimed), blurs


def K_ratios(views: Sequence[View]) -> Float[Tensor, " V"]:
    """K of every photo over that of the first: K = aperture diameter x focal length in px.

    The diameter is focal length / f-number by EXIF. A photo whose EXIF does not tell counts as of the median
    diameter; where no photo's does, all count as of one diameter.
    """
    told = [view.lens.aperture_diameter for view in views]
    typical = median([d for d in told if d is not None] or [1.0])
    K = torch.tensor([(d or typical) * view.camera.fx for d, view in zip(told, views, strict=True)])
    return K / K[0]


def thin_out(points: Float[Tensor, "P 3"]) -> Float[Tensor, "Q 3"]:
    """Every k-th of the SfM points, at most `MOST_POINTS`: the search for the lens takes the longer the more
    there are, and 100,000 tell it no more."""
    return points[:: max(1, math.ceil(len(points) / MOST_POINTS))]


def measure_photo(
    camera: Camera,
    photo: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | None,
    points: Float[Tensor, "P 3"],
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, "P 3"]]:
    """Depth of every point, how much detail surrounds it in the photo, how blurred that is, and its colour.

    NaN where the photo does not show it: points outside the mask, which marks what to reconstruct, do not
    count. Where there is no texture the blur is NaN too.
    """
    x, y, z, inside = where_seen(camera, mask, points)

    def at_points(picture: Tensor) -> Tensor:
        values = torch.full_like(z, math.nan)
        values[inside] = picture[y[inside], x[inside]]
        return values

    energies = gradient_energy(photo)
    blurs = blur_by_energies(energies, gradient_energy(gaussian_blur(photo, REBLUR)))
    colors = torch.full((len(z), 3), math.nan, device=z.device)
    rows, columns = (_around(at[inside], size) for at, size in ((y, camera.height), (x, camera.width)))
    colors[inside] = photo[:, rows[:, :, None], columns[:, None, :]].mean((2, 3)).T
    return torch.where(inside, z, math.nan), at_points(energies), at_points(blurs), colors


def glance_at_photo(
    camera: Camera,
    photo: np.ndarray,
    mask: np.ndarray | None,
    points: Float[Tensor, "P 3"],
    blur_points: int = 0,
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, "P 3"]]:
    """Depth, detail, blur and colour as by `measure_photo`, reading 8x8 px around each point, 14x14 px for
    its blur.

    Args:
        photo, mask: as stored.
        blur_points: the blur is measured at up to so many points, evenly spread over their order; it is NaN
            at the others.
    """
    x, y, z, inside = where_seen(
        camera, None if mask is None else torch.from_numpy(mask.copy()), points.cpu()
    )

    def around(places: Tensor, reach: int) -> np.ndarray:
        """(3, K, side, side) pixel values around K points; borders repeated."""
        rows, columns = (
            _around(at[places], size, reach).numpy() for at, size in ((y, camera.height), (x, camera.width))
        )
        return to_float(photo[:, rows[:, :, None], columns[:, None, :]])

    places = inside.nonzero()[:, 0]
    energies, blurs = torch.full_like(z, math.nan), torch.full_like(z, math.nan)
    near, colors = around(places, 0), torch.full((len(z), 3), math.nan)
    energies[places] = _energy(near.mean(0))
    colors[places] = torch.from_numpy(near.mean((2, 3)).T)
    if blur_points and len(places):
        places = places[:: math.ceil(len(places) / blur_points)]
        reach = math.ceil(3 * REBLUR)
        after = gaussian_blur(torch.from_numpy(around(places, reach).mean(0)), REBLUR)
        after = _energy(after[:, reach:-reach, reach:-reach].numpy())
        blurs[places] = blur_by_energies(energies[places], after)
    depths = torch.where(inside, z, math.nan)
    device = points.device
    return depths.to(device), energies.to(device), blurs.to(device), colors.to(device)


def _around(at: Int[Tensor, " K"], size: int, reach: int = 0) -> Int[Tensor, "K side"]:
    """Pixels around some, along a side of the picture; its border repeated."""
    return (at[:, None] + torch.arange(-3 - reach, 5 + reach, device=at.device)).clamp(0, size - 1)


def _energy(around: Float[np.ndarray, "K 8 8"]) -> Float[Tensor, " K"]:
    """`gradient_energy` in the middle of each piece."""
    dx, dy = around[:, :7, 1:] - around[:, :7, :7], around[:, 1:, :7] - around[:, :7, :7]
    return torch.from_numpy((dx**2 + dy**2).mean(axis=(1, 2)))


def where_seen(
    camera: Camera, mask: Shaped[Tensor, "H W"] | None, points: Float[Tensor, "P 3"]
) -> tuple[Int[Tensor, " P"], Int[Tensor, " P"], Float[Tensor, " P"], Bool[Tensor, " P"]]:
    """Pixel x and y and depth of every point, and whether the photo shows it, not too near to its border."""
    pixels, z = camera.project(points)
    inside = (z > 0) & camera.shows(pixels, margin=4)
    x, y = pixels.long().unbind(-1)
    if mask is not None:
        inside[inside.clone()] = mask[y[inside], x[inside]] > 0
    return x, y, z, inside


def aimed_depth(
    camera: Camera, points: Float[Tensor, "P 3"], depths: Float[Tensor, " P"]
) -> Float[Tensor, ""]:
    """Depth that autofocus would choose, which takes what is near in the middle of the picture; NaN where the
    photo shows fewer than `FEW_POINTS`.

    Args:
        depths: of the points, NaN where the photo does not show them.
    """
    seen = ~depths.isnan()
    if seen.sum() < FEW_POINTS:
        return depths.new_tensor(math.nan)
    middle = torch.tensor([camera.width / 2, camera.height / 2]).to(points)
    away = (camera.project(points[seen])[0].to(points) - middle).norm(dim=1)
    there = away.topk(min(AIMED_POINTS, len(away)), largest=False).indices
    return depths[seen][there].quantile(AIMED_SHARE)


def likely_depths(evidence: Evidence) -> Float[Tensor, " V"]:
    """Where photos are likely focused, whatever they show: what autofocus would choose, or the mean of what
    each sees where that is not known."""
    mean = mean_depths(evidence)
    return mean if evidence.aimed is None else torch.where(evidence.aimed.isnan(), mean, evidence.aimed)


def mean_depths(evidence: Evidence) -> Float[Tensor, " V"]:
    """Mean z of the points each photo sees, scene units; the overall mean where it sees none."""
    overall = evidence.depths.nanmean()
    return torch.nan_to_num(evidence.depths.nanmean(1), nan=float(overall))
