"""What all lens models have in common: `LensModel`, the interface, and `ThinLens`, a lens with one aperture
and a focus distance per photo."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.errors import InputError
from cocogs.gaussians import Activated
from cocogs.optics.copies import Copies
from cocogs.optics.lens import PhotoLens
from cocogs.optics.noted_focus import NotedFocus
from cocogs.optics.per_photo import Aperture, Focus, PhotoIndex, Softness, of_photo


@dataclass(frozen=True)
class Start:
    """Where a lens starts, as the search before training found it (optics/search.py), and the scene's frame.

    Args:
        focus_distances: of the V training photos, scene units.
        K: of the first photo, px x scene unit.
        ratios: K of every photo over that of the first; see `Aperture`.
        typical_depth: scene units.
        fx: of the first photo, px.
        held: how much training is to keep K near its start value; see `Aperture`.
        center: middle of the scene, scene units, and
        extent: its size; both make the inputs of networks unitless.
        noted: focus distances that cameras noted; None: none to believe.
    """

    focus_distances: Float[Tensor, " V"]
    K: float
    ratios: Float[Tensor, " V"]
    typical_depth: float
    fx: float
    held: float
    center: Float[Tensor, "3"]
    extent: float
    noted: NotedFocus | None = None

    @classmethod
    def unknown(cls, photos: int) -> "Start":
        """A start of the right sizes, for a model whose values will be loaded from a checkpoint."""
        ones = torch.ones(photos)
        return cls(ones, 1.0, ones, 1.0, 1.0, 1.0, torch.zeros(3), 1.0)


class LensModel(nn.Module):
    """How the base Gaussians become the photo that a lens takes of them.

    A subclass says what its lens does: see `optics/lens_models/` for the four that there are, and
    docs/how-to-add.md for a fifth.
    """

    has_lens: ClassVar[bool] = True
    """Whether it learns a lens that can be reported and set anew."""
    is_physical: ClassVar[bool] = True
    """Whether its circle of confusion is a thin lens's in px. Then pixels in focus count more, and no splat
    gets thinner than the blur of the photos."""
    in_light: ClassVar[bool] = True
    """Whether its renders add up as light; else as pixel values, as published."""
    bytes_per_pixel: ClassVar[int] = 400
    """Memory of a training step at its most, per pixel of the photo, as measured (docs/benchmarks.md)."""
    expands: ClassVar[bool] = False
    """Whether it draws several copies of each Gaussian in the last part of a training."""

    focus: Focus
    aperture: Aperture
    """Of the training photos, where `has_lens`."""

    def begin_photo(self, seen: int) -> None:
        """Told before every photo of a training.

        Args:
            seen: photos before this one. What is kept of it is written in place: recorded steps read it.
        """

    def copies(self, base: Activated, camera: Camera, index: PhotoIndex, expanded: bool = True) -> Copies:
        """What to render for training photo `index`, seen from `camera`.

        Args:
            camera: of the photo, or of the photo at half its size; blur and shift are in px of the whole one.
            expanded: False at the start of a training, while the scene still forms: a cheaper stand-in.
        """
        raise NotImplementedError

    def blended(self, renders: Float[Tensor, "S 3 H W"]) -> Float[Tensor, "3 H W"]:
        """The renders as one picture, by their pixel values: for a lens that is not `in_light`."""
        return renders[0] if len(renders) == 1 else renders.mean(0)

    def of(self, index: PhotoIndex) -> PhotoLens:
        """The lens that training photo `index` was taken with."""
        raise InputError("A pinhole has no lens: train with preset full or lens.")

    def coc_map(
        self, depths: Float[Tensor, "H W"], camera: Camera, index: PhotoIndex
    ) -> Float[Tensor, "H W"]:
        """Signed diameter of the circle of confusion in px: positive nearer than the focus, else negative.

        Args:
            depths: z-depths in scene units; infinity is allowed.
        """
        return torch.zeros_like(depths)

    def diameter(self, K: float, camera: Camera) -> float:
        """Aperture diameter in scene units of a lens of this K (px x scene unit)."""
        return K / camera.fx


class ThinLens(LensModel):
    """A thin lens: one aperture, and a focus distance and a softness per photo."""

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__()
        self.focus = Focus(start.focus_distances, start.typical_depth, start.noted)
        self.aperture = Aperture(start.K, start.ratios, config.per_photo_aperture, start.held)
        self.softness = Softness(len(start.focus_distances))

    def of(self, index: PhotoIndex) -> PhotoLens:
        return PhotoLens(
            self.focus.distance(index), self.aperture.K(index), of_photo(self.softness.variance, index)
        )

    def coc_map(
        self, depths: Float[Tensor, "H W"], camera: Camera, index: PhotoIndex
    ) -> Float[Tensor, "H W"]:
        return self.of(index).coc(depths)
