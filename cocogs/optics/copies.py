"""Copies of Gaussians that stand for what a lens does to them, ready for `rasterize`."""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.gaussians import Activated
from cocogs.optics.lens import PhotoLens, blur_variance


@dataclass
class Copies:
    """M copies of N Gaussians; 1 in place of M: shared by all copies.

    Attributes:
        blur: variance in px^2 by which each is widened in the picture.
        shift: px by which each is moved in the picture.
    """

    means: Float[Tensor, "#M N 3"]
    quats: Float[Tensor, "#M N 4"]
    scales: Float[Tensor, "#M N 3"]
    opacities: Float[Tensor, "1 N"]
    blur: Float[Tensor, "#M N"] | None
    shift: Float[Tensor, "M N 2"] | None = None

    def __len__(self) -> int:
        return len(self.means if self.shift is None else self.shift)

    def halved(self) -> "Copies":
        """For a picture of half the size."""
        blur = None if self.blur is None else self.blur / 4
        return replace(self, blur=blur, shift=None if self.shift is None else self.shift / 2)


def as_they_are(base: Activated) -> Copies:
    """The Gaussians themselves: what a pinhole sees."""
    means, quats, scales, opacities = base
    return Copies(means[None], quats[None], scales[None], opacities[None], None)


def widen(base: Activated, camera: Camera, lens: PhotoLens) -> Copies:
    """One copy per Gaussian, blurred in the picture by its own circle of confusion.

    The rasterizer adds the variance of the disc's Gaussian to the projected splat and lowers its opacity
    so that the integral stays. That is exact for one splat, and costs no more than a plain render.
    """
    blur = blur_variance(lens.coc(camera.depths(base[0]))) + lens.softness
    copies = as_they_are(base)
    copies.blur = blur[None]
    return copies
