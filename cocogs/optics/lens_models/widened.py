"""The thin lens in one render: every splat widened by its own circle of confusion."""

from cocogs.camera import Camera
from cocogs.gaussians import Activated
from cocogs.optics.copies import Copies, widen
from cocogs.optics.lens_models.base import ThinLens
from cocogs.optics.per_photo import PhotoIndex


class Widened(ThinLens):
    """A thin lens at the price of a pinhole. A widened splat cannot occlude partially, and a Gaussian is no
    disc; `Sampled` mends both."""

    def copies(self, base: Activated, camera: Camera, index: PhotoIndex, expanded: bool = True) -> Copies:
        return widen(base, camera, self.of(index))
