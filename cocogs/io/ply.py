"""The .ply of 3D Gaussians as Kerbl et al. (2023) defined it and every viewer reads it.

One vertex per Gaussian, little-endian float32: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_0..44,
opacity, scale_0..2, rot_0..3. Raw values: opacities are logits, scales logarithms, rotations wxyz.
The 45 higher harmonics go colour by colour: 15 for red, 15 for green, 15 for blue.
A comment `antialiased` tells that the scene was trained so, and is to be drawn so where a viewer can.
"""

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement
from torch import Tensor

from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import replacing

MEANS, NORMALS = ("x", "y", "z"), ("nx", "ny", "nz")
SH0 = tuple(f"f_dc_{i}" for i in range(3))
SHN = tuple(f"f_rest_{i}" for i in range(45))
OPACITY = ("opacity",)
SCALES = tuple(f"scale_{i}" for i in range(3))
QUATS = tuple(f"rot_{i}" for i in range(4))
ANTIALIASED = "antialiased"
SHN_COUNTS = (0, 9, 24, 45)  # of spherical harmonics of degree 0, 1, 2, 3


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write all Gaussians with harmonics of degree 3.

    Raises:
        InputError: the file cannot be written.
    """
    g = gaussians
    columns = torch.cat([
        g.means, torch.zeros_like(g.means), g.sh0[:, 0], g.shN.transpose(1, 2).flatten(1),
        g.opacities[:, None], g.scales, g.quats,
    ], dim=1).detach().cpu().numpy()  # fmt: skip
    names = (*MEANS, *NORMALS, *SH0, *SHN, *OPACITY, *SCALES, *QUATS)
    vertices = np.empty(len(columns), dtype=[(name, "<f4") for name in names])
    for index, name in enumerate(names):
        vertices[name] = columns[:, index]
    with replacing(path) as temporary:
        comments = [ANTIALIASED] if g.antialiased else []
        elements = [PlyElement.describe(vertices, "vertex")]
        PlyData(elements, byte_order="<", comments=comments).write(str(temporary))


def read_ply(path: Path) -> Gaussians:
    """Read Gaussians with harmonics of any degree up to 3; the missing ones are zero.

    Raises:
        InputError: no such file, not a .ply, or a compressed one, properties missing, values that are not
            finite.
    """
    vertices, antialiased = _read_vertices(path)
    names = vertices.dtype.names or ()
    if "packed_position" in names:
        raise InputError(
            f"{path} is a compressed .ply, which only other viewers read: give the one that "
            "`cocogs export RUN SCENE.ply` writes."
        )
    needed = (*MEANS, *SH0, *OPACITY, *SCALES, *QUATS)
    if missing := [name for name in needed if name not in names]:
        raise InputError(
            f"{path} lacks the properties {', '.join(missing)}: export it again as a .ply of 3D Gaussians."
        )
    count = sum(name.startswith("f_rest_") for name in names)
    if count not in SHN_COUNTS or any(name not in names for name in SHN[:count]):
        raise InputError(
            f"{path} has {count} properties f_rest_*, not {', '.join(map(str, SHN_COUNTS))} of them: "
            "export it again with spherical harmonics up to degree 3."
        )

    def columns(wanted: tuple[str, ...]) -> Tensor:
        values = torch.from_numpy(np.stack([vertices[name].astype(np.float32) for name in wanted], axis=1))
        if not values.isfinite().all():
            bad = wanted[int((~values.isfinite()).any(0).nonzero()[0])]
            raise InputError(f"{path} has values that are not finite in {bad}: export it again.")
        return values

    shN = torch.zeros(len(vertices), 15, 3)
    if count:
        shN[:, : count // 3] = columns(SHN[:count]).unflatten(1, (3, count // 3)).transpose(1, 2)
    return Gaussians(
        antialiased,
        means=columns(MEANS),
        quats=columns(QUATS),
        scales=columns(SCALES),
        opacities=columns(OPACITY)[:, 0],
        sh0=columns(SH0)[:, None],
        shN=shN,
    )


def _read_vertices(path: Path) -> tuple[np.ndarray, bool]:
    """The structured array of the element `vertex`, scalar properties only; and whether it is antialiased."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .ply of 3D Gaussians.")
    try:
        file = PlyData.read(str(path))
        vertices = file["vertex"].data
    except Exception as error:  # plyfile raises a different type for every way a file can be broken
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise InputError(f"{path} is not a whole .ply ({reason}): export it again.") from error
    scalars = [name for name in vertices.dtype.names or () if vertices.dtype[name].kind in "fiu"]
    return vertices[scalars], ANTIALIASED in file.comments
