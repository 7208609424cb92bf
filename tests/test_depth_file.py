"""Depth maps as files and inside photos; damaged and hostile ones."""

import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from phone_photos import (
    GUID,
    app1,
    apple_jpeg,
    dynamic_depth,
    gdepth,
    heic,
    jpeg,
    png,
    stored_map,
    with_xmp,
)

from cocogs.errors import InputError
from cocogs.io.depth_file import DepthKind, StoredDepth, read_depth_file
from cocogs.io.depth_inside import read_depth_inside

NOISE = np.arange(192, dtype=np.uint8).reshape(12, 16) * 7
RAMP = np.linspace(0.5, 4, 12 * 16, dtype=np.float32).reshape(12, 16)


def written(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".exr":
        exr = pytest.importorskip("OpenEXR")
        header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
        exr.File(header, {"ViewLayer.Depth.Z": values, "R": 0 * values}).write(str(path))
    elif path.suffix == ".png":
        path.write_bytes(png(values))
    else:
        tifffile.imwrite(path, values)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.exr", "a.tif"])
def test_floats_are_metres(tmp_path: Path, name: str) -> None:
    found = read_depth_file(written(tmp_path / name, RAMP))
    assert (found.kind, found.metric) == ("depth", True)
    assert np.array_equal(found.values, RAMP)
    assert "taken as metres" in " ".join(found.warnings)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_whole_numbers_of_16_bit_are_millimetres(tmp_path: Path, name: str) -> None:
    values = (RAMP * 1000).astype(np.uint16)
    values[0, 0] = 0
    found = read_depth_file(written(tmp_path / name, values))
    assert (found.kind, found.metric) == ("depth", True)
    assert np.isnan(found.values[0, 0])
    np.testing.assert_allclose(found.values[1:], values[1:] / 1000, rtol=1e-6)
    assert "millimetres" in found.warnings[-1]


def test_what_fills_its_range_is_disparity(tmp_path: Path) -> None:
    found = read_depth_file(written(tmp_path / "a.png", stored_map(dtype=np.uint16)))
    assert (found.kind, found.metric) == ("disparity", False)
    assert not np.isnan(found.values).any()  # 0 is the farthest
    assert "depth_kind" in found.warnings[0]


def test_8_bit_is_disparity_and_the_user_is_warned(tmp_path: Path) -> None:
    found = read_depth_file(written(tmp_path / "a.png", stored_map()))
    assert found.kind == "disparity"
    assert "256" in found.warnings[-1]


@pytest.mark.parametrize(
    ("name", "kind", "expected", "metric"),
    [
        ("a.npy", "inverse", "inverse", True),
        ("a.npy", "disparity", "disparity", False),
        ("a_disparity.npy", None, "disparity", False),
        ("inverse.npy", None, "inverse", True),
        ("a_disparity.npy", "depth", "depth", True),
    ],
)
def test_the_kind_is_said_or_read_in_the_name(
    tmp_path: Path, name: str, kind: DepthKind | None, expected: str, metric: bool
) -> None:
    found = read_depth_file(written(tmp_path / name, RAMP), kind)
    assert (found.kind, found.metric) == (expected, metric)


def test_what_cannot_be_a_depth_is_unknown(tmp_path: Path) -> None:
    values = np.array([[0, -1, np.nan, np.inf, 1e10, 2]], np.float32)
    found = read_depth_file(written(tmp_path / "a.npy", values))
    np.testing.assert_array_equal(found.values, [[np.nan, np.nan, np.nan, np.inf, np.inf, 2]])


def damaged_npy(path: Path, shape: bytes = b"(999999, 999999), }") -> Path:
    """A header that promises 4 TB, or another one."""
    np.save(path, np.zeros((2, 2), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 2), }", shape))
    return path


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda f: f / "gone.png", "does not exist"),
        (lambda f: f / "a.txt", "no depth map"),
        (lambda f: written(f / "a.npy", np.zeros((3, 4, 3), np.float32)), "3x4x3"),
        (lambda f: written(f / "a.npy", np.array([["a"]])), "1x1"),
        (lambda f: written(f / "a.npy", np.array([[{}]], dtype=object)), "cannot be read"),
        (lambda f: damaged_npy(f / "a.npy"), "cannot be read"),
        (lambda f: damaged_npy(f / "a.npy", b"(2, 2, "), "cannot be read"),
        (lambda f: (f / "a.npy").write_bytes(b"\x93NUMPY") and f / "a.npy", "cannot be read"),
        (lambda f: (f / "a.exr").write_bytes(b"nothing") and f / "a.exr", "cannot be read"),
        (lambda f: (f / "a.png").write_bytes(png(NOISE)[:-60]) and f / "a.png", "cannot be read"),
        (
            lambda f: (f / "a.png").write_bytes(png(np.eye(3, dtype=np.uint8)[None] * 255)) and f / "a.png",
            "coloured",
        ),
    ],
)
def test_a_file_that_is_no_depth_map(tmp_path: Path, make, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        read_depth_file(make(tmp_path))
    assert str(tmp_path) in str(error.value)


def inside(path: Path, data: bytes) -> StoredDepth | None:
    path.write_bytes(data)
    return read_depth_inside(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("form", ["RangeInverse", "RangeLinear"])
def test_gdepth(tmp_path: Path, form: str, dtype: type) -> None:
    stored = np.full((12, 16), np.iinfo(dtype).max // 2, dtype)
    stored[0, :2] = 0, np.iinfo(dtype).max
    found = inside(tmp_path / "a.jpg", gdepth(stored, form))
    assert found is not None and (found.kind, found.metric) == ("depth", True)
    middle = 1 / ((1 / 0.5 + 1 / 4) / 2) if form == "RangeInverse" else (0.5 + 4) / 2
    np.testing.assert_allclose(found.values[0, :3], [0.5, 4, middle], rtol=0.02)


def test_gdepth_without_a_unit_is_relative(tmp_path: Path) -> None:
    found = inside(tmp_path / "a.jpg", gdepth(stored_map(), units=""))
    assert found is not None and not found.metric and "no unit" in found.warnings[0]


def test_dynamic_depth_is_turned_with_the_photo(tmp_path: Path) -> None:
    found = inside(tmp_path / "a.jpg", dynamic_depth(stored_map(), jpeg(orientation=6)))
    assert found is not None and (found.kind, found.metric) == ("depth", True)
    assert found.values.shape == (16, 12)
    np.testing.assert_allclose(found.values[[0, -1], 0], [1, 3])  # left comes to lie above


APPLE = "<apdi:NativeFormat>{}</apdi:NativeFormat><apdi:FloatMinValue>{}</apdi:FloatMinValue>"
APPLE += "<apdi:FloatMaxValue>{}</apdi:FloatMaxValue><depthData:Accuracy>{}</depthData:Accuracy>"
HDIS, HDEP = 1751411059, 1751410032


@pytest.mark.parametrize(
    ("apple", "kind", "metric", "ends"),
    [
        (APPLE.format(HDIS, 0.5, 2, "absolute"), "inverse", True, [0.5, 2]),
        (APPLE.format(HDEP, 0.5, 2, "absolute"), "depth", True, [0.5, 2]),
        (APPLE.format(HDIS, 0.5, 2, "relative"), "inverse", False, [0.5, 2]),
        (APPLE.format(HDIS, -1, 2, "relative"), "disparity", False, [-1, 2]),
        ("", "disparity", False, [0, 1]),
    ],
)
def test_portrait_of_an_iphone(
    tmp_path: Path, apple: str, kind: str, metric: bool, ends: list[float]
) -> None:
    heic(tmp_path / "a.heic", stored_map(48, 64), apple)
    found = read_depth_inside(tmp_path / "a.heic")
    assert found is not None and (found.kind, found.metric) == (kind, metric)
    np.testing.assert_allclose(found.values[20, [2, -3]], ends, atol=0.02)
    assert metric or found.warnings


@pytest.mark.parametrize("ends", ["0.5", "1e400", "-1e400", "nan", "x", ""])
def test_portrait_of_an_iphone_in_jpeg(tmp_path: Path, ends: str) -> None:
    apple = APPLE.format(HDIS if ends == "0.5" else "1e400", ends, 2, "absolute")
    found = inside(tmp_path / "a.jpg", apple_jpeg(stored_map(48, 64), apple, orientation=6))
    assert found is not None and found.values.shape == (64, 48)
    assert found.metric == (ends == "0.5")
    if found.metric:
        np.testing.assert_allclose(found.values[[3, -3], 20], [0.5, 2], atol=0.02)


def test_a_map_stored_upright_beside_a_turned_photo(tmp_path: Path) -> None:
    found = inside(tmp_path / "a.jpg", dynamic_depth(stored_map(16, 12), jpeg(orientation=6)))
    assert found is not None
    np.testing.assert_allclose(found.values[0, [0, -1]], [1, 3])


def test_photos_without_depth(tmp_path: Path) -> None:
    assert inside(tmp_path / "a.jpg", jpeg()) is None
    assert inside(tmp_path / "b.jpg", with_xmp(jpeg(), b"<x:xmpmeta/>")) is None
    assert inside(tmp_path / "c.png", png(stored_map())) is None


MAIN = f'<x xmpNote:HasExtendedXMP="{GUID.decode()}" GDepth:Format="RangeLinear"/>'.encode()
BOMB = b'<!DOCTYPE x [<!ENTITY a "' + b"A" * 100 + b'">' + b'<!ENTITY b "&a;&a;&a;">' * 20 + b"]>"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (gdepth(stored_map()).replace(b'GDepth:Data="iVBOR', b'GDepth:Data="AAAAA'), "no picture"),
        (with_xmp(jpeg(), MAIN, b'<a GDepth:Data="A"/>'), "decoded"),
        (with_xmp(jpeg(), MAIN, b'<a GDepth:Data=""/>'), "no picture"),
        (with_xmp(jpeg(), MAIN + BOMB, b'<a GDepth:Data="&b;"/>'), "no picture|decoded"),
        (
            with_xmp(jpeg(), MAIN, b'<a GDepth:Data="AAAA"/>', 8).replace(
                struct.pack(">II", 23, 8), b"\0" * 8
            ),
            "missing",
        ),
        (dynamic_depth(stored_map(), jpeg(), 10**9), "beyond"),
        (dynamic_depth(stored_map(), jpeg())[:-40], "beyond"),
        (dynamic_depth(stored_map(), jpeg(), 20), "no picture"),
    ],
)
def test_depth_inside_that_is_damaged(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        inside(tmp_path / "a.jpg", data)
    assert "a.jpg" in str(error.value)


def test_an_extension_larger_than_the_file_takes_no_memory(tmp_path: Path) -> None:
    part = b"http://ns.adobe.com/xmp/extension/\0" + GUID + struct.pack(">II", 0xFFFFFFF0, 0) + b"x"
    photo = with_xmp(jpeg(), MAIN)
    with pytest.raises(InputError, match="more than the file has"):
        inside(tmp_path / "a.jpg", photo[:2] + app1(part) + photo[2:])


@pytest.mark.parametrize(
    "text", [b"GDepth:a>", b"GDepth:a " + b" " * 50, b"GDepth:" + b"a" * 50, b"<a:Item ", b'DepthMap:a="']
)
def test_xmp_made_to_be_slow_is_not(tmp_path: Path, text: bytes) -> None:
    hostile = with_xmp(jpeg(), MAIN, text * (2_000_000 // len(text)), step=60000)
    start = time.process_time()
    assert inside(tmp_path / "a.jpg", hostile) is None
    assert time.process_time() - start < 3


def test_every_truncation_of_a_photo_gives_a_sentence_or_no_depth(tmp_path: Path) -> None:
    whole = gdepth(stored_map())
    for length in range(2, len(whole), max(1, len(whole) // 60)):
        try:
            found = inside(tmp_path / "a.jpg", whole[:length])
            assert found is None or found.values.shape == (12, 16)  # the photo alone is cut
        except InputError as error:
            assert re.search(r"a\.jpg", str(error))
