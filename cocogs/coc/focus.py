"""What the camera was set to: a focus distance per photo and the aperture, and where they start."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.camera import Camera


class FocusPlanes(nn.Module):
    """Focus distance z_f of every training photo and aperture K of the camera, learned.

    Kept as the unitless numbers that behave well under one learning rate in every scene:
    `vergence` (V,) = typical depth / z_f, and `log_aperture` (1,) or, per photo, (V,).
    """

    def __init__(
        self, focus_distances: Tensor, aperture: float, typical_depth: float, per_photo_aperture: bool = False
    ) -> None:
        """
        Args:
            focus_distances: (V,) start values > 0 in scene units.
            aperture: start value of K > 0 in px x scene unit.
            typical_depth: scene units; makes `vergence` about 1.
            per_photo_aperture: one K for every photo instead of one for all.
        """
        super().__init__()
        self.register_buffer("typical_depth", torch.tensor(float(typical_depth)))
        self.vergence = nn.Parameter(typical_depth / focus_distances.float())
        count = len(focus_distances) if per_photo_aperture else 1
        self.log_aperture = nn.Parameter(torch.full((count,), math.log(aperture)))
        self.register_buffer("log_start", torch.tensor(math.log(aperture)))

    typical_depth: Tensor
    log_start: Tensor

    @property
    def focus_distances(self) -> Tensor:
        """(V,) in scene units."""
        return self.typical_depth / self.vergence.clamp_min(1e-3)

    def focus_distance(self, view_index: int) -> Tensor:
        return self.focus_distances[view_index]

    def aperture(self, view_index: int) -> Tensor:
        """K of one photo (0-d), px x scene unit."""
        return self.log_aperture[view_index if len(self.log_aperture) > 1 else 0].exp()


@dataclass(frozen=True)
class Evidence:
    """How much detail surrounds P SfM points in V photos, for guessing the lens before training.

    depths (V, P): z in scene units, NaN where a photo does not see the point;
    energies (V, P): local gradient energy there, NaN likewise; width: of the photos, px.
    """

    depths: Tensor
    energies: Tensor
    width: int


def gather_evidence(
    cameras: list[Camera], photos: list[Tensor], masks: list[Tensor | None], points: Tensor
) -> Evidence:
    """Project every SfM point into every photo and measure how much detail surrounds it there.

    Points outside a photo's mask (H, W), which marks what to reconstruct, do not count.
    """
    depths, energies = [], []
    for camera, photo, mask in zip(cameras, photos, masks, strict=True):
        pixels, z = camera.project(points)
        x, y = pixels.unbind(-1)
        margin = 4
        inside = (
            (z > 0) & (x > margin) & (x < camera.width - margin) & (y > margin) & (y < camera.height - margin)
        )
        if mask is not None:
            inside[inside.clone()] = mask[y[inside].long(), x[inside].long()] > 0
        energy = gradient_energy(photo)
        seen = torch.full_like(z, math.nan)
        seen[inside] = energy[y[inside].long(), x[inside].long()]
        energies.append(seen)
        depths.append(torch.where(inside, z, math.nan))
    return Evidence(torch.stack(depths), torch.stack(energies), cameras[0].width)


def gradient_energy(photo: Tensor) -> Tensor:
    """(H, W) mean squared grey-level gradient of (3, H, W) over 7x7 px."""
    grey = photo.mean(0)
    dx = F.pad(grey[:, 1:] - grey[:, :-1], (0, 1))
    dy = F.pad(grey[1:] - grey[:-1], (0, 0, 0, 1))
    return F.avg_pool2d((dx.square() + dy.square())[None], 7, stride=1, padding=3)[0]


def mean_depths(evidence: Evidence) -> Tensor:
    """(V,) mean z of the points each photo sees, scene units; the overall mean where it sees none."""
    overall = evidence.depths.nanmean()
    return torch.nan_to_num(evidence.depths.nanmean(1), nan=float(overall))


SENSOR_BLUR = 0.4  # px; standard deviation of a photo's own softness, pixels and all, where in focus
DETAIL_FLOOR = 1e-6  # gradient energy of noise
PRIOR_CAP = 0.15  # misfit at which clear evidence overrides "focused on the middle of what it sees"


def fit_lens(evidence: Evidence, sweeps: int = 12, steps: int = 81) -> tuple[Tensor, float]:
    """Focus distances (V,) and aperture K that best explain which points look sharp in which photo.

    A point's texture has gradient energy t in perfect focus; blur of standard deviation c / 4 lowers it
    to about t s^2 / (s^2 + c^2 / 16), s the sharpness of the photo itself (exact for a texture whose
    power falls with the square of frequency, as natural ones do). In logarithms t is a point's median
    over the photos, and z_f and K are found in turn on grids, under a robust cost.

    Shine, occlusion and texture behind edges mislead it alike in all photos, so a photo's z_f stays at the
    mean depth of what it sees unless the evidence against that is clear. On photos with visible blur it is
    (misfit falls by 0.1 to 0.7), on shared/data/real/moldcape_f25 it is not (0.02 to 0.06). With fewer than
    3 photos or 20 points there is no evidence: mean depths, and the K that blurs by 1 % of the width.
    Sharp photos end at the smallest K tried, which blurs by 0.025 % of the width: less than anyone sees.
    """
    inverse = 1 / evidence.depths
    middle = 1 / mean_depths(evidence)
    # A flat wall photographed head-on has no spread of depths: then 1 % of its vergence stands for it.
    typical = (inverse - middle[:, None]).abs().nanmedian().clamp_min(0.01 * float(middle.median()))
    if evidence.depths.isnan().all(0).logical_not().sum() < 20 or len(middle) < 3:
        return 1 / middle, float(0.01 * evidence.width / typical)
    detail = (evidence.energies + DETAIL_FLOOR).log()
    limits = torch.nanquantile(
        inverse.flatten()[:: max(1, inverse.numel() // 1_000_000)], torch.tensor([0.01, 0.99])
    )
    grid = torch.linspace(float(limits[0]), float(limits[1]), steps)
    spread = torch.nanquantile(inverse, 0.9, dim=1) - torch.nanquantile(inverse, 0.1, dim=1)
    apertures = evidence.width / typical * torch.logspace(-3.6, -1.3, 52)
    focus, aperture = middle, apertures[len(apertures) // 2]
    for _ in range(sweeps):
        costs = [misfit(detail, inverse - focus[:, None], k).nanmean() for k in apertures]
        aperture = apertures[torch.stack(costs).argmin()]
        texture = (detail + lost_detail(inverse - focus[:, None], aperture)).nanmedian(0).values
        focus = torch.stack(
            [
                sharpest(detail[v] - texture, inverse[v], aperture, grid, middle[v], spread[v])
                for v in range(len(focus))
            ]
        )
    return 1 / focus, float(aperture)


def lost_detail(defocus: Tensor, aperture: Tensor) -> Tensor:
    """Log of the factor by which blur lowers gradient energy; `defocus` is 1/z - 1/z_f."""
    return torch.log1p((aperture * defocus).square() / 16 / SENSOR_BLUR**2)


def misfit(detail: Tensor, defocus: Tensor, aperture: Tensor) -> Tensor:
    """(V, P) robust distance of each observation from its point's median texture."""
    texture = detail + lost_detail(defocus, aperture)
    return huber(texture - texture.nanmedian(0).values)


def sharpest(
    detail: Tensor, inverse: Tensor, aperture: Tensor, grid: Tensor, middle: Tensor, spread: Tensor
) -> Tensor:
    """1 / z_f of one photo, from `grid`: `detail` (P,) is log energy over the point's own texture."""
    seen = ~detail.isnan()
    if seen.sum() < 20:
        return middle
    costs = huber(detail[seen] + lost_detail(inverse[seen] - grid[:, None], aperture)).mean(1)
    shift = ((grid - middle) / spread.clamp_min(1e-9)).square()
    return grid[(costs + shift / (1 + shift / PRIOR_CAP)).argmin()]


def huber(residual: Tensor, turn: float = 0.7) -> Tensor:
    size = residual.abs()
    return torch.where(size < turn, residual.square() / 2, turn * (size - turn / 2))
