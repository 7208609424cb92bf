"""Pictures of a textured mesh, linear in its texels, and their transpose: texels from pictures."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.camera import Camera
from cocogs.mesh.atlas import Atlas
from cocogs.mesh.drawing import draw

FINER = 2  # points along each side of a pixel


@dataclass(frozen=True)
class Sampling:
    """Which texels each pixel shows: the mean of the texture at its points, bilinear.

    Args:
        places: (column, row) in the texture, in texels, of `FINER`^2 points in every pixel.
        there: share of a pixel's points at which there is a mesh.
        depth: of the nearest point, scene units; infinite where there is none.
    """

    places: Float[Tensor, "S P 2"]
    shows: Float[Tensor, "S P"]
    depth: Float[Tensor, "H W"]
    size: tuple[int, int]

    @property
    def there(self) -> Float[Tensor, "H W"]:
        return self.shows.mean(0).view(self.depth.shape)

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.places, self.shows, self.depth))

    def texels(self) -> tuple[Int64[Tensor, "S P 4"], Float[Tensor, "S P 4"]]:
        """The four texels around each point, and their shares in its pixel."""
        width, height = self.size
        place = self.places - 0.5
        first = place.floor()
        right, down = (place - first).unbind(-1)
        column, row = first.long().unbind(-1)
        columns, rows = (
            torch.stack([start, start + 1], -1).clamp(0, size - 1)
            for start, size in ((column, width), (row, height))
        )
        across, along = torch.stack([1 - right, right], -1), torch.stack([1 - down, down], -1)
        numbers = (rows[..., :, None] * width + columns[..., None, :]).flatten(-2)
        shares = (along[..., :, None] * across[..., None, :]).flatten(-2)
        return numbers, shares * (self.shows / len(self.shows))[..., None]

    def picture(self, light: Float[Tensor, "T 3"]) -> Float[Tensor, "3 H W"]:
        """What the texels show; black where there is no mesh."""
        numbers, shares = self.texels()
        points = zip(numbers, shares, strict=True)
        color = torch.stack([(light[n] * s[..., None]).sum(1) for n, s in points]).sum(0)
        return color.T.reshape(3, *self.depth.shape)

    def spread(self, picture: Float[Tensor, "C H W"], texels: Float[Tensor, "T C"]) -> None:
        """Add a picture to the texels that it shows: the transpose of `picture`."""
        values = picture.flatten(1).T
        for numbers, shares in zip(*self.texels(), strict=True):
            for n, s in zip(numbers.T, shares.T, strict=True):
                texels.index_add_(0, n, values * s[:, None])


def sampling_of(atlas: Atlas, camera: Camera) -> Sampling:
    """How a camera sees the textured mesh."""
    fine = camera.resized(FINER * camera.width, FINER * camera.height)
    drawing = draw(atlas.mesh.vertices, atlas.mesh.faces, fine)
    places, shows = drawing.mixed(atlas.corners), (drawing.faces >= 0).float()
    depth = _points(drawing.depth[..., None]).amin(0)[:, 0].view(camera.height, camera.width)
    size = atlas.width, atlas.height
    return Sampling(_points(places), _points(shows[..., None])[..., 0], depth, size)


def _points(fine: Float[Tensor, "h w C"]) -> Float[Tensor, "S P C"]:
    """The values at the points of the pixels, point by point."""
    height, width, channels = fine.shape
    blocks = fine.view(height // FINER, FINER, width // FINER, FINER, channels)
    return blocks.permute(1, 3, 0, 2, 4).reshape(FINER**2, -1, channels).contiguous()
