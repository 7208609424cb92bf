"""Where every triangle lies in the texture."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.mesh.drawing import Drawing, draw_flat
from cocogs.mesh.surface import Mesh, package_of_meshes

PADDING = 2  # texels between charts
LARGEST = 4096  # texels of a side
FILLED = 0.75  # of the texture, about, that triangles cover
MAX_COST = 8.0  # of a chart; xatlas's own 2 makes more charts in twice the time


@dataclass(frozen=True)
class Atlas:
    """A mesh whose vertices have places in a texture: vertices on seams occur several times.

    Args:
        places: (column, row) in texels; the first texel's centre is at 0.5.
        width, height: of the texture.
    """

    mesh: Mesh
    places: Float[Tensor, "V 2"]
    width: int
    height: int

    @property
    def corners(self) -> Float[Tensor, "F 3 2"]:
        """Places of the triangles' corners."""
        return self.places[self.mesh.faces]

    def texels(self) -> Drawing:
        """Which triangle covers the centre of each texel."""
        flat = torch.cat([self.places, torch.ones_like(self.places[:, :1])], 1)
        return draw_flat(flat, self.mesh.faces, self.width, self.height, 0.5)


def unwrapper():
    """The package.

    Raises:
        InputError: it is missing.
    """
    return package_of_meshes("xatlas", "xatlas")


def unwrapped(mesh: Mesh, texel: float) -> Atlas:
    """The mesh cut into charts, packed side by side.

    Args:
        texel: side of a texel on the surface, scene units; larger where the texture would exceed `LARGEST`.
    """
    xatlas = unwrapper()
    triangle = mesh.vertices[mesh.faces]
    across = torch.linalg.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    area = float(across.double().norm(dim=1).sum()) / 2
    texel = max(texel, (area / FILLED) ** 0.5 / LARGEST)
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_cost = MAX_COST
    packing.padding, packing.bilinear, packing.texels_per_unit = PADDING, True, 1.0
    atlas = xatlas.Atlas()
    # In units of texels: xatlas compares lengths and areas with small constants.
    atlas.add_mesh((mesh.vertices / texel).numpy(), mesh.faces.numpy().astype(np.uint32))
    atlas.generate(charts, packing)
    numbers, faces, places = atlas[0]
    size = torch.tensor([atlas.width, atlas.height])
    return Atlas(
        Mesh(mesh.vertices[torch.from_numpy(numbers.astype(np.int64))], _long(faces)),
        torch.from_numpy(places) * size,
        atlas.width,
        atlas.height,
    )


def _long(numbers: np.ndarray) -> Int64[Tensor, "F 3"]:
    return torch.from_numpy(numbers.astype(np.int64))
