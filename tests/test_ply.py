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
    assert PlyData.read(str(tmp_path / "scene.ply")).comments == ["SplatRenderMode: mip"] * antialiased
    assert read_ply(tmp_path / "scene.ply").antialiased == antialiased


@pytest.mark.parametrize(
    ("comments", "antialiased"),
    [
        ([], False),
        (["Exported from Brush", "SH degree: 3", "SplatRenderMode: mip"], True),  # as Brush writes
        (["SplatRenderMode: default"], False),
        (["antialiased 1"], True),  # as Postshot writes
        (["antialiased 0"], False),
        (["  SPLATRENDERMODE:   MIP "], True),
        (["SplatRenderMode: mip", "antialiased 0"], False),
        (["antialiased 0", "SplatRenderMode: mip"], True),
        (["SplatRenderMode: mip", "SplatRenderMode: banana"], True),
        (["not antialiased 1", "antialiased 12"], False),
    ],
)
@pytest.mark.parametrize("place", [b"element vertex", b"property float x"])
def test_other_programs_words_for_antialiased(
    tmp_path: Path, comments: list[str], antialiased: bool, place: bytes
) -> None:
    """Before the first element, or within it."""
    write_ply(tmp_path / "scene.ply", some_gaussians())
    lines = b"".join(f"comment {comment}\n".encode() for comment in comments)
    data = (tmp_path / "scene.ply").read_bytes().replace(place, lines + place, 1)
    (tmp_path / "scene.ply").write_bytes(data)
    assert read_ply(tmp_path / "scene.ply").antialiased == antialiased


def test_offset_is_noted_in_every_digit(tmp_path: Path) -> None:
    offset = torch.tensor([500000.125, -5200000.1, 0.0], dtype=torch.float64)
    write_ply(tmp_path / "scene.ply", some_gaussians(), offset)
    [comment] = PlyData.read(str(tmp_path / "scene.ply")).comments
    word, *numbers = comment.split()
    assert word == "offset" and list(map(float, numbers)) == offset.tolist()
    assert torch.equal(read_ply(tmp_path / "scene.ply").means, some_gaussians().means)
    write_ply(tmp_path / "scene.ply", some_gaussians(), torch.zeros(3))
    assert PlyData.read(str(tmp_path / "scene.ply")).comments == []


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
    values = np.arange(2 * len(names), dtype=np.float32).reshape(2, -1) / 10
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


BAD = [("scale_2", np.nan), ("x", np.inf), ("f_rest_44", np.nan), ("scale_0", 1e30), ("opacity", np.nan)]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_splats_are_left_out_and_counted(tmp_path: Path, name: str, value: float) -> None:
    said, values = [], np.ones((5000, len(NAMES)), np.float32)
    values[:, 0] = np.arange(5000)
    values[1:13, NAMES.index(name)] = value
    write_vertices(tmp_path / "bad.ply", NAMES, values)
    read = read_ply(tmp_path / "bad.ply", said.append)
    bad = f"{tmp_path / 'bad.ply'}: 12 of 5,000 splats are not finite and are left out."
    assert said == [bad]
    assert read.means[:, 0].tolist() == [0, *range(13, 5000)]


def test_a_quaternion_of_zeros_has_no_direction(tmp_path: Path) -> None:
    said, values = [], np.ones((3, len(NAMES)), np.float32)
    values[1, -4:] = 0
    write_vertices(tmp_path / "bad.ply", NAMES, values)
    assert len(read_ply(tmp_path / "bad.ply", said.append)) == 2
    assert said[0].endswith("bad.ply: 1 of 3 splats is not finite and is left out.")


def test_numbers_beyond_float32_are_not_finite(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    said, vertices = [], np.ones(3, dtype=[(name, "<f8") for name in NAMES])
    vertices["y"][1] = 1e300
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(tmp_path / "far.ply"))
    assert len(read_ply(tmp_path / "far.ply", said.append)) == 2
    assert len(said) == 1 and not recwarn.list


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_file_of_bad_splats_only_is_refused(tmp_path: Path, name: str, value: float) -> None:
    values = np.ones((3, len(NAMES)), np.float32)
    values[:, NAMES.index(name)] = value
    write_vertices(tmp_path / "bad.ply", NAMES, values)
    with pytest.raises(InputError, match=r"bad\.ply has no splat whose numbers are all finite: make it anew"):
        read_ply(tmp_path / "bad.ply")


def test_infinities_with_a_meaning_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs that convert from rounded formats write them: opaque, invisible, flat."""
    values = np.ones((3, len(NAMES)), np.float32)
    values[:, NAMES.index("opacity")] = np.inf, -np.inf, 0
    values[2, NAMES.index("scale_2")] = -np.inf
    write_vertices(tmp_path / "flat.ply", NAMES, values)
    read = read_ply(tmp_path / "flat.ply")
    _, _, scales, opacities = read.activated()
    assert opacities[0] == 1 and opacities[1] < 1e-8 and scales[2, 2] < 1e-15
    assert all(parameter.isfinite().all() for parameter in read.parameters())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_every_encoding_is_read(tmp_path: Path, text: bool, order: str, kind: str) -> None:
    write_ply(tmp_path / "scene.ply", some_gaussians(9))
    vertices = PlyData.read(str(tmp_path / "scene.ply"))["vertex"].data
    vertices = vertices.astype([(name, kind) for name in NAMES])
    PlyData([PlyElement.describe(vertices, "vertex")], text, order).write(str(tmp_path / "other.ply"))
    read = read_ply(tmp_path / "other.ply")
    for name in Gaussians.names:
        torch.testing.assert_close(getattr(read, name), getattr(some_gaussians(9), name), atol=1e-6, rtol=0)


@pytest.mark.parametrize("format", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    "change",
    [
        ("element vertex 7", "element vertex 999999999999999"),
        ("element vertex 7", "element vertex 4000000000"),
        ("element vertex 7", "element vertex -7"),
        ("element vertex 7", "element vertex 7.5"),
        ("element vertex 7", "element vertex"),
        ("element vertex 7", "element face 3000000000\nproperty list uint float a\nelement vertex 7"),
        ("property float x", "property list uint float x"),
        ("property float x", "property float y"),
        ("property float x", "property colour x"),
        ("property float x\n", ""),
        ("end_header", "end_of_header"),
    ],
)
def test_hostile_headers_end_in_one_sentence(tmp_path: Path, format: str, change: tuple[str, str]) -> None:
    header = "".join(
        ["ply\n", f"format {format} 1.0\n", "element vertex 7\n"]
        + [f"property float {name}\n" for name in NAMES]
        + ["end_header\n"]
    )
    assert change[0] in header
    body = ("0 " * 61 + "0\n").encode() * 7 if format == "ascii" else bytes(4 * 62 * 7)
    (tmp_path / "hostile.ply").write_bytes(header.replace(*change, 1).encode() + body)
    with pytest.raises(InputError, match=r"hostile\.ply ") as caught:
        read_ply(tmp_path / "hostile.ply")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250 + len(str(tmp_path))


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
