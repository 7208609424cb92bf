"""The highlight of selected splats over a picture, through the lens that it is drawn with."""

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.preview import overlay
from cocogs.gaussians import Gaussians, black_and_white
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import refocus


class Marks:
    """Some of the splats that are drawn.

    Args:
        gaussians: what is drawn.
        some: gives the mask over them once it is needed.
    """

    def __init__(self, gaussians: Gaussians, some: Callable[[], Bool[Tensor, " N"]]) -> None:
        self.gaussians, self._some = gaussians, some

    @cached_property
    def some(self) -> Bool[Tensor, " N"]:
        return self._some()


class Highlighter:
    """Lays a tint over what is marked. It keeps the splats in black and white, for the next picture."""

    def __init__(self) -> None:
        self._marks: Marks | None = None
        self._white: Gaussians | None = None  # where it is marked; black elsewhere

    def over(
        self, picture: Float[Tensor, "3 H W"], marks: Marks, camera: Camera, lens: Lens
    ) -> Float[Tensor, "3 H W"]:
        """The picture with the marks in colour and outlined, in interactive quality."""
        share = refocus(self._in_white(marks), camera, lens)[0].clamp(0, 1).cpu()
        return overlay(picture.clamp(0, 1).cpu(), share, rest=1.0)

    @torch.no_grad()
    def _in_white(self, marks: Marks) -> Gaussians:
        if self._white is None or self._marks is None or self._marks.gaussians is not marks.gaussians:
            raw = {name: getattr(marks.gaussians, name) for name in Gaussians.names}
            raw["shN"] = torch.zeros_like(raw["shN"])
            self._white = Gaussians(marks.gaussians.antialiased, **raw)
        if self._marks is not marks:
            self._white.sh0.copy_(black_and_white(marks.some))
            self._marks = marks
        return self._white
