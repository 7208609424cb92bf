"""No lens: everything is sharp. What 3DGS does."""

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.gaussians import Activated
from cocogs.optics.copies import Copies, as_they_are
from cocogs.optics.lens_models.base import LensModel, Start
from cocogs.optics.per_photo import PhotoIndex


class Pinhole(LensModel):
    """One render of the Gaussians as they are."""

    has_lens = False
    is_physical = False
    in_light = False

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__()

    def copies(self, base: Activated, camera: Camera, index: PhotoIndex, expanded: bool = True) -> Copies:
        return as_they_are(base)
