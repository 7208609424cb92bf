"""The thin lens through M points of its aperture, which turn from photo to photo."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.gaussians import Activated
from cocogs.optics.aperture import GOLDEN_ANGLE, lens_samples, sampled_disc, turned
from cocogs.optics.copies import Copies
from cocogs.optics.lens import PhotoLens, blur_variance, coc_diameter
from cocogs.optics.lens_models.base import Start
from cocogs.optics.lens_models.widened import Widened
from cocogs.optics.per_photo import PhotoIndex

FINE = 12  # points of the aperture for pictures that nothing is learned from


class Sampled(Widened):
    """M copies of every Gaussian, each through one part of the aperture; `Widened` while the scene forms.

    Near things then hide far ones partially, as they do in a lens. The parts turn from photo to photo, so
    that a few of them stand for the whole disc in the course of a training. In torch's eval mode there are
    `FINE` that stand still.
    """

    bytes_per_pixel = 600
    expands = True

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__(config, start)
        self.register_buffer("samples", lens_samples(config.copies), persistent=False)
        self.register_buffer("angle", torch.zeros(()), persistent=False)

    samples: Float[Tensor, "M 2"]
    angle: Float[Tensor, ""]
    """By which the samples are turned now, radians."""

    def begin_photo(self, seen: int) -> None:
        self.angle.fill_(seen * GOLDEN_ANGLE % (2 * math.pi))

    def copies(self, base: Activated, camera: Camera, index: PhotoIndex, expanded: bool = True) -> Copies:
        if not expanded:
            return super().copies(base, camera, index)
        points = turned(self.samples, self.angle) if self.training else lens_samples(FINE).to(self.samples)
        return sample_lens(base, camera, self.of(index), points)


def sample_lens(base: Activated, camera: Camera, lens: PhotoLens, samples: Float[Tensor, "M 2"]) -> Copies:
    """M copies, each seen through one sub-aperture: shifted sideways and widened by the sub-aperture. They
    are what is nearest to the lens's disc (`sampled_disc`).

    Args:
        samples: the sub-apertures' places, in radii of the aperture (`lens_samples`).
    """
    means, quats, scales, opacities = base
    count = len(samples)
    coc = coc_diameter(camera.depths(means), lens.focus_distance, lens.K * sampled_disc(count))
    blur = blur_variance(coc / math.sqrt(count)) + lens.softness
    shift = -coc[:, None] / 2 * samples[:, None]
    return Copies(means[None], quats[None], scales[None], opacities[None], blur[None], shift)
