"""The standard .ply of 3D Gaussians: layout, round trip, and files that are not one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.ply import read_ply, write_ply

NAMES = (
    ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    + [f"f_rest_{i}" for i in range(45)]
    + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
)


def some_gaussians(count: int = 7) -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh0": (1, 3), "shN": (15, 3)}
    return Gaussians(**{n: torch.randn(count, *shape, generator=generator) for n, shape in shapes.items()})


def write_vertices(path: Path, names: list[str], values: np.ndarray) -> None:
    vertices = np.empty(len(values), dtype=[(name, "<f4") for name in names])
    for index, name in enumerate(names):
        vertices[name] = values[:, index]
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(path))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_round_trip_keeps_every_bit(tmp_path: Path, count: int) -> None:
    gaussians = some_gaussians(count)
    write_ply(tmp_path / "scene.ply", gaussians)
    read = read_ply(tmp_path / "scene.ply")
    for name in Gaussians.names:
        assert torch.equal(getattr(read, name), getattr(gaussians, name)), name


@pytest.mark.parametrize("antialiased", [False, True])
def test_file_tells_how_it_is_drawn(tmp_path: Path, antialiased: bool) -> None:
    gaussians = some_gaussians()
    gaussians.antialiased = antialiased
    write_ply(tmp_path / "scene.ply", gaussians)
    assert PlyData.read(str(tmp_path / "scene.ply")).comments == ["antialiased"] * antialiased
    assert read_ply(tmp_path / "scene.ply").antialiased == antialiased


def test_layout_is_the_standard_one(tmp_path: Path) -> None:
    gaussians = some_gaussians()
    write_ply(tmp_path / "scene.ply", gaussians)
    assert (tmp_path / "scene.ply").read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\n")
    vertex = PlyData.read(str(tmp_path / "scene.ply"))["vertex"]
    assert [p.name for p in vertex.properties] == NAMES
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    assert vertex["rot_0"][2] == gaussians.quats[2, 0]
    assert vertex["opacity"][2] == gaussians.opacities[2]
    # Colour by colour: 15 coefficients of red, then green, then blue.
    assert vertex["f_rest_1"][2] == gaussians.shN[2, 1, 0]
    assert vertex["f_rest_15"][2] == gaussians.shN[2, 0, 1]
    assert vertex["f_rest_44"][2] == gaussians.shN[2, 14, 2]


@pytest.mark.parametrize(("degree", "count"), [(0, 0), (1, 9), (2, 24)])
def test_lower_degrees_are_filled_with_zeros(tmp_path: Path, degree: int, count: int) -> None:
    names = [n for n in NAMES if not n.startswith("f_rest_")] + [f"f_rest_{i}" for i in range(count)]
    values = np.arange(2 * len(names), dtype=np.float32).reshape(2, -1)
    write_vertices(tmp_path / "low.ply", names, values)
    read = read_ply(tmp_path / "low.ply")
    bands = (degree + 1) ** 2 - 1
    assert read.shN.shape == (2, 15, 3)
    assert not read.shN[:, bands:].any()
    expected = torch.from_numpy(values[:, len(names) - count :]).reshape(2, 3, bands).transpose(1, 2)
    assert torch.equal(read.shN[:, :bands], expected)


def test_extra_properties_and_ascii_are_read(tmp_path: Path) -> None:
    gaussians = some_gaussians(2)
    write_ply(tmp_path / "scene.ply", gaussians)
    data = PlyData.read(str(tmp_path / "scene.ply"))
    data.text = True
    data.write(str(tmp_path / "ascii.ply"))
    read = read_ply(tmp_path / "ascii.ply")
    assert torch.allclose(read.means, gaussians.means, atol=1e-6)


@pytest.mark.parametrize("lost", ["x", "opacity", "rot_3", "f_dc_1"])
def test_missing_property_is_named(tmp_path: Path, lost: str) -> None:
    names = [name for name in NAMES if name != lost]
    write_vertices(tmp_path / "part.ply", names, np.zeros((3, len(names)), np.float32))
    with pytest.raises(InputError, match=rf"part\.ply lacks the properties {lost}:"):
        read_ply(tmp_path / "part.ply")


def test_odd_number_of_harmonics(tmp_path: Path) -> None:
    names = [name for name in NAMES if name != "f_rest_44"]
    write_vertices(tmp_path / "odd.ply", names, np.zeros((3, len(names)), np.float32))
    with pytest.raises(InputError, match=r"odd\.ply has 44 properties f_rest_\*"):
        read_ply(tmp_path / "odd.ply")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    values = np.zeros((3, len(NAMES)), np.float32)
    values[1, NAMES.index("scale_2")] = value
    write_vertices(tmp_path / "bad.ply", NAMES, values)
    with pytest.raises(InputError, match=r"bad\.ply has values that are not finite in scale_2"):
        read_ply(tmp_path / "bad.ply")


def test_files_that_are_no_ply(tmp_path: Path) -> None:
    write_ply(tmp_path / "scene.ply", some_gaussians())
    whole = (tmp_path / "scene.ply").read_bytes()
    (tmp_path / "short.ply").write_bytes(whole[:-10])
    (tmp_path / "header.ply").write_bytes(whole[:40])
    (tmp_path / "text.ply").write_text("not a ply\n")
    (tmp_path / "empty.ply").write_bytes(b"")
    header = "ply\nformat ascii 1.0\nelement face 0\nproperty float a\nend_header\n"
    (tmp_path / "faces.ply").write_text(header)
    for name in ("short", "header", "text", "empty", "faces"):
        with pytest.raises(InputError, match=rf"{name}\.ply is not a whole \.ply"):
            read_ply(tmp_path / f"{name}.ply")
    with pytest.raises(InputError, match=r"absent\.ply does not exist"):
        read_ply(tmp_path / "absent.ply")
