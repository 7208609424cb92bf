"""What is to be drawn for a visitor: from where, through which lens, and what of it."""

from dataclasses import dataclass, replace

from cocogs.camera import Camera
from cocogs.optics.lens import Lens
from cocogs.viewer.schedule import Effort

REFOCUSED, SHARP, PHOTO = "Refocused", "Sharp", "Photo"
REFINEMENTS = (0, 16, 64)  # lens samples of a still picture, one after the other


@dataclass(frozen=True)
class Request:
    """A picture to draw.

    Args:
        camera: of the whole window.
        lens: that the visitor has set.
        show: REFOCUSED, SHARP or PHOTO.
        photo: index of the photo that was taken from this very place, if any.
        with_depth: whether 3D landmarks have to be hidden behind the scene.
    """

    camera: Camera
    lens: Lens
    show: str
    photo: int | None
    with_depth: bool

    @property
    def drawn_lens(self) -> Lens:
        return replace(self.lens, aperture_diameter=0.0) if self.show == SHARP else self.lens

    @property
    def looks_through_lens(self) -> bool:
        """Whether lens samples, blades and highlights change the picture: it has blur, and shows no photo."""
        return self.show == REFOCUSED and self.lens.aperture_diameter > 0

    @property
    def refinements(self) -> tuple[int, ...]:
        return REFINEMENTS if self.looks_through_lens else REFINEMENTS[:1]


def even_sized(camera: Camera, width: int) -> Camera:
    """The camera for a picture about `width` px wide; both sides are even, as films need them."""
    even = 2 * max(1, round(width / 2))
    return camera.resized(even, 2 * max(1, round(even * camera.height / camera.width / 2)))


def describe(request: Request, effort: Effort) -> str:
    """What is on the screen, in a few words."""
    if effort.is_coarse:
        return f"{request.show} · draft"
    size = f"{request.camera.width} × {request.camera.height}"
    if len(request.refinements) == 1:
        return f"{request.show} · {size}"
    return f"{request.show} · {size} · {max(effort.samples, 1)} of {request.refinements[-1]} lens samples"
