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

    def __init__(self, focus_distances: Tensor, aperture: float, typical_depth: float,
                 per_photo_aperture: bool = False) -> None:  # fmt: skip
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

    typical_depth: Tensor

    @property
    def focus_distances(self) -> Tensor:
        """(V,) in scene units."""
        return self.typical_depth / self.vergence.clamp_min(1e-3)

    def focus_distance(self, view_index: int) -> Tensor:
        return self.typical_depth / self.vergence[view_index].clamp_min(1e-3)

    def aperture(self, view_index: int) -> Tensor:
        """K of one photo (0-d), px x scene unit."""
        return self.log_aperture[view_index if len(self.log_aperture) > 1 else 0].exp()


@dataclass(frozen=True)
class Evidence:
    """Sharpness of P SfM points in V photos, for guessing what is in focus.

    depths (V, P): z in scene units, NaN where a photo does not see the point;
    sharpness (V, P): local gradient energy over the point's 90th percentile over all photos, in [0, 2].
    """

    depths: Tensor
    sharpness: Tensor


def gather_evidence(cameras: list[Camera], photos: list[Tensor], points: Tensor) -> Evidence:
    """Project every SfM point into every photo and measure how much detail surrounds it there."""
    depths, energies = [], []
    for camera, photo in zip(cameras, photos, strict=True):
        pixels, z = camera.project(points)
        x, y = pixels.unbind(-1)
        margin = 4
        inside = (z > 0) & (x > margin) & (x < camera.width - margin) & (y > margin) & (y < camera.height - margin)
        energy = gradient_energy(photo)
        seen = torch.full_like(z, math.nan)
        seen[inside] = energy[y[inside].long(), x[inside].long()]
        energies.append(seen)
        depths.append(torch.where(inside, z, math.nan))
    energy = torch.stack(energies)
    best = torch.nanquantile(energy, 0.9, dim=0).clamp_min(1e-5)
    return Evidence(torch.stack(depths), (energy / best).clamp(0, 2))


def gradient_energy(photo: Tensor) -> Tensor:
    """(H, W) mean squared grey-level gradient of (3, H, W) over 7x7 px."""
    grey = photo.mean(0)
    dx = F.pad(grey[:, 1:] - grey[:, :-1], (0, 1))
    dy = F.pad(grey[1:] - grey[:-1], (0, 0, 0, 1))
    return F.avg_pool2d((dx.square() + dy.square())[None], 7, stride=1, padding=3)[0]


def mean_depths(evidence: Evidence) -> Tensor:
    """(V,) mean z of the points each photo sees, scene units; the fallback start."""
    overall = evidence.depths.nanmean()
    return torch.nan_to_num(evidence.depths.nanmean(1), nan=float(overall))


def sharpest_depths(evidence: Evidence, steps: int = 60, least: int = 20) -> Tensor:
    """(V,) the depth at which each photo is sharpest, scene units.

    Sharpness over inverse depth is smoothed by a Gaussian kernel a twelfth of the photo's depth range
    wide; its peak is the guess. Photos that see fewer than `least` points fall back to the mean depth.
    """
    guesses = mean_depths(evidence)
    for view, (depths, sharpness) in enumerate(zip(evidence.depths, evidence.sharpness, strict=True)):
        seen = ~depths.isnan()
        if seen.sum() < least:
            continue
        inverse = 1 / depths[seen]
        near, far = inverse.quantile(0.98), inverse.quantile(0.02)
        grid = torch.linspace(float(far), float(near), steps)
        width = ((near - far) / 12).clamp_min(1e-6)
        kernel = torch.exp(-((inverse - grid[:, None]) / width).square() / 2)
        profile = (kernel * sharpness[seen]).sum(1) / (kernel.sum(1) + 3)
        guesses[view] = 1 / grid[profile.argmax()]
    return guesses


def start_aperture(evidence: Evidence, focus_distances: Tensor, width: int, share: float = 0.01) -> float:
    """K for which the typical circle of confusion of the points is `share` of the image width.

    Only a start: it is about right for photos that look defocused at all, and K is learned.
    """
    spread = (1 / evidence.depths - 1 / focus_distances[:, None]).abs()
    return float(share * width / spread.nanmedian().clamp_min(1e-9))
