"""The .ply of 3D Gaussians as Kerbl et al. (2023) defined it and every viewer reads it.

One vertex per Gaussian, little-endian float32: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_0..44,
opacity, scale_0..2, rot_0..3. Raw values: opacities are logits, scales logarithms, rotations wxyz.
The 45 higher harmonics go colour by colour: 15 for red, 15 for green, 15 for blue.

Two comments in the header may follow `format`:
- `SplatRenderMode: mip` says that the splats are antialiased. Brush writes it, splat-transform knows it.
  `antialiased 1`, which Postshot writes, is read as well. Of several such comments the last one counts.
- `offset X Y Z` (ours): source coordinates = coordinates in the file + offset.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.lib.recfunctions import structured_to_unstructured
from plyfile import PlyData, PlyElement
from torch import Tensor

from cocogs.errors import InputError, reason_of
from cocogs.gaussians import Gaussians, without_bad_ones
from cocogs.io.atomic import replacing
from cocogs.io.progress import Say

MEANS, NORMALS = ("x", "y", "z"), ("nx", "ny", "nz")
SH0 = tuple(f"f_dc_{i}" for i in range(3))
SHN = tuple(f"f_rest_{i}" for i in range(45))
OPACITY = ("opacity",)
SCALES = tuple(f"scale_{i}" for i in range(3))
QUATS = tuple(f"rot_{i}" for i in range(4))
SHN_COUNTS = (0, 9, 24, 45)  # of spherical harmonics of degree 0, 1, 2, 3

RENDER_MODES = {
    "splatrendermode: mip": True,
    "splatrendermode: default": False,
    "antialiased 1": True,
    "antialiased 0": False,
}
"""Header comments in lower case, and whether they say that the splats are antialiased."""

HEADER_BYTES = 1 << 20
"""No header is longer."""
SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}
"""Bytes of a number."""

OPAQUE, FLAT = 20.0, -40.0
"""The logit that stands for an infinite one, and the log scale that stands for minus infinity: other programs
write those for what is fully opaque, fully transparent or flat."""


def write_ply(path: Path, gaussians: Gaussians, offset: Tensor | None = None) -> None:
    """Write all Gaussians with harmonics of degree 3.

    Args:
        offset: (3,) scene units, noted in the header: source coordinates = coordinates in the file + offset.

    Raises:
        InputError: the file cannot be written.
    """
    g = gaussians
    columns = torch.cat([
        g.means, torch.zeros_like(g.means), g.sh0[:, 0], g.shN.transpose(1, 2).flatten(1),
        g.opacities[:, None], g.scales, g.quats,
    ], dim=1).detach().cpu().numpy()  # fmt: skip
    names = (*MEANS, *NORMALS, *SH0, *SHN, *OPACITY, *SCALES, *QUATS)
    vertices = np.ascontiguousarray(columns, "<f4").view([(name, "<f4") for name in names])[:, 0]
    with replacing(path) as temporary:
        elements = [PlyElement.describe(vertices, "vertex")]
        comments = header_comments(g.antialiased, offset)
        PlyData(elements, byte_order="<", comments=comments).write(str(temporary))


def header_comments(antialiased: bool, offset: Tensor | None) -> list[str]:
    """What the header says of the splats, one comment a line; nothing where all is as readers expect."""
    comments = ["SplatRenderMode: mip"] if antialiased else []
    if offset is not None and offset.any():
        comments.append("offset " + " ".join(map(str, offset.double().tolist())))
    return comments


def read_ply(path: Path, say: Say = print) -> Gaussians:
    """Read Gaussians with harmonics of any degree up to 3; the missing ones are zero.

    Splats that cannot be drawn, since a number is not finite, are left out and counted.

    Args:
        say: receives a line for the user if splats are left out.

    Raises:
        InputError: no such file, not a .ply, a compressed one, properties missing, or no splat can be drawn.
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
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            values = structured_to_unstructured(vertices[list(wanted)], np.float32)
        return torch.from_numpy(np.ascontiguousarray(values))

    shN = torch.zeros(len(vertices), 15, 3)
    if count:
        shN[:, : count // 3] = columns(SHN[:count]).unflatten(1, (3, count // 3)).transpose(1, 2)
    gaussians = Gaussians(
        antialiased,
        means=columns(MEANS),
        quats=columns(QUATS),
        scales=columns(SCALES).nan_to_num(torch.nan, torch.inf, FLAT),
        opacities=columns(OPACITY)[:, 0].nan_to_num(torch.nan, OPAQUE, -OPAQUE),
        sh0=columns(SH0)[:, None],
        shN=shN,
    )
    return without_bad_ones(gaussians, path, say)


def _read_vertices(path: Path) -> tuple[np.ndarray, bool]:
    """The structured array of the element `vertex`, scalar properties only; and whether it is antialiased."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .ply of 3D Gaussians.")
    try:
        _check_size(path)
        file = PlyData.read(str(path))
        vertices = file["vertex"].data
    except InputError:
        raise
    except Exception as error:  # plyfile raises a different type for every way a file can be broken
        raise InputError(f"{path} is not a whole .ply ({reason_of(error)}): export it again.") from error
    scalars = [name for name in vertices.dtype.names or () if vertices.dtype[name].kind in "fiu"]
    comments = [*file.comments, *(comment for element in file.elements for comment in element.comments)]
    return vertices[scalars], _is_antialiased(comments)


def _check_size(path: Path) -> None:
    """Refuse a header that promises more than the file holds, before plyfile asks for the memory.

    Raises:
        InputError: the header has lists.
        ValueError, IndexError, KeyError: the file is too short, or the header is broken.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).partition(b"end_header")[0].decode(errors="replace")
    is_text, needed, count = False, 0, 0
    for words in map(str.split, header.splitlines()):
        match words[:1]:
            case ["format"]:
                is_text = words[1] == "ascii"
            case ["element"]:
                count = int(words[2])
            case ["property"]:
                if words[1] == "list":
                    raise InputError(f"{path} has lists, as meshes have: give a .ply of 3D Gaussians.")
                needed += count * (2 if is_text else SIZES[words[1]])  # a digit and a space
    if needed > path.stat().st_size:
        raise ValueError("the file is too short")


def _is_antialiased(comments: Iterable[str]) -> bool:
    antialiased = False
    for comment in comments:
        antialiased = RENDER_MODES.get(" ".join(comment.lower().split()), antialiased)
    return antialiased
