"""ICC profiles become sRGB: 8 and 16 bit, grey, CMYK, EXIF's Adobe RGB, damaged profiles."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from cocogs.io import color, photos
from cocogs.io.pixels import png_chunk

# Columns of linear light to XYZ under D50.
DISPLAY_P3 = [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)]
ADOBE = [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)]
# What Apple writes: sRGB's curve as a parametric one.
SRGB_CURVE = struct.pack(
    ">4sIHH5i",
    b"para",
    0,
    3,
    0,
    *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
)
GAMMA_22 = struct.pack(">4sIIH", b"curv", 0, 1, round(2.19921875 * 256)) + b"\0\0"
LINEAR = struct.pack(">4sII", b"curv", 0, 0)
TABLE = struct.pack(">4sII256H", b"curv", 0, 256, *np.rint(65535 * np.linspace(0, 1, 256) ** 1.8).astype(int))


def profile(curve: bytes, columns: list[tuple] | None) -> bytes:
    """An ICC profile of one curve and the three columns of a matrix, or of a grey curve alone."""

    def xyz(values: tuple) -> bytes:
        return struct.pack(">4sI3i", b"XYZ ", 0, *(round(value * 65536) for value in values))

    text = (
        b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2, 28) + "x".encode("utf-16-be") + b"\0\0"
    )
    elements = {b"desc": text, b"cprt": text, b"wtpt": xyz((0.9642, 1, 0.8249))}
    if columns is None:
        elements[b"kTRC"] = curve
    else:
        elements |= {b"%cXYZ" % c: xyz(column) for c, column in zip(b"rgb", columns, strict=True)}
        elements |= {b"%cTRC" % c: curve for c in b"rgb"}
    table, data, start = b"", b"", 132 + 12 * len(elements)
    for name, element in elements.items():
        table += struct.pack(">4sII", name, start + len(data), len(element))
        data += element + bytes(-len(element) % 4)
    body = struct.pack(">I", len(elements)) + table + data
    space = b"GRAY" if columns is None else b"RGB "
    head = struct.pack(
        ">I4sI4s4s4s12s4s", 128 + len(body), b"none", 0x04000000, b"mntr", space, b"XYZ ", bytes(12), b"acsp"
    )
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 10, 3), dtype=np.uint8)  # more than one strip


def _save(path: Path, pixels: np.ndarray, icc: bytes) -> Path:
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path, icc_profile=icc)
        return path
    photos.write_png(path, pixels)
    content = path.read_bytes()
    chunk = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    path.write_bytes(content[:33] + chunk + content[33:])  # after the header
    return path


def test_display_p3_becomes_srgb_as_css_says(tmp_path: Path) -> None:
    """CSS Color 4 defines display-p3 by this matrix between the two linear lights."""
    p3 = np.array([0.5, 0.25, 0.75])
    light = np.where(p3 <= 0.04045, p3 / 12.92, ((p3 + 0.055) / 1.055) ** 2.4)
    to_srgb = np.array(
        [[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786361, 1.0982736]]
    )
    expected = 1.055 * (to_srgb @ light) ** (1 / 2.4) - 0.055
    for dtype, tolerance in ((np.uint8, 1.5 / 255), (np.uint16, 1e-3)):
        most = np.iinfo(dtype).max
        stored = np.full((4, 4, 3), np.rint(p3 * most), dtype)
        path = _save(tmp_path / "a.png", stored, profile(SRGB_CURVE, DISPLAY_P3))
        assert np.abs(photos.read_photo(path) / most - expected).max() < tolerance, dtype


@pytest.mark.parametrize("columns", [DISPLAY_P3, ADOBE, None], ids=["P3", "Adobe", "grey"])
@pytest.mark.parametrize(
    "curve", [SRGB_CURVE, GAMMA_22, LINEAR, TABLE], ids=["sRGB", "2.2", "linear", "table"]
)
def test_sixteen_bits_agree_with_littlecms(
    tmp_path: Path, pixels: np.ndarray, curve: bytes, columns: list | None
) -> None:
    if columns is None:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    icc = profile(curve, columns)
    eight = photos.read_photo(_save(tmp_path / "a.png", pixels, icc))
    sixteen = photos.read_photo(_save(tmp_path / "b.png", pixels.astype(np.uint16) * 257, icc))
    assert sixteen.dtype == np.uint16
    assert np.abs(sixteen / 257 - eight).max() < (0.6 if columns is None else 3 if curve == LINEAR else 1.6)
    is_srgb = curve == SRGB_CURVE and columns is None
    assert np.array_equal(eight, pixels) == is_srgb


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_an_srgb_profile_changes_no_bit(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path, icc_profile=srgb_profile(), lossless=True)
    assert np.array_equal(photos.read_photo(path), pixels)
    deep = pixels.astype(np.uint16) * 257
    assert np.array_equal(photos.read_photo(_save(tmp_path / "deep.png", deep, srgb_profile())), deep)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_profiles_are_found_in_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    icc = profile(SRGB_CURVE, DISPLAY_P3)
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / f"a{suffix}", icc_profile=icc, quality=100)
    decoded = photos.read_photo(tmp_path / f"a{suffix}")[8, 8].astype(int)
    expected = color.to_srgb(np.array([[[200, 100, 50]]], np.uint8), icc)[0, 0]
    assert expected[0] > 210
    assert np.abs(decoded - expected).max() <= (2 if suffix in (".jpg", ".webp") else 0)


def test_adobe_rgb_told_by_exif_alone(tmp_path: Path) -> None:
    """Cameras set to Adobe RGB write R03 and no profile."""
    image, exif = Image.new("RGB", (16, 16), (100, 200, 100)), Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[40965] = {1: "R03"}
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    by_profile = color.to_srgb(np.asarray(image), profile(GAMMA_22, ADOBE))
    assert by_profile[0, 0, 0] < 60
    assert np.abs(photos.read_photo(tmp_path / "a.jpg").astype(int) - by_profile).max() <= 2


def test_masks_are_not_converted(tmp_path: Path) -> None:
    """A linear 100 is a bright grey, but a mask says what it says."""
    path = _save(tmp_path / "a.png", np.full((4, 4, 3), 100, np.uint8), profile(LINEAR, DISPLAY_P3))
    assert photos.read_photo(path).min() > 128
    assert not photos.read_mask(path).any()


@pytest.mark.parametrize("icc", [b"garbage", srgb_profile()[:200], profile(LINEAR, ADOBE)[:140] + bytes(500)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_damaged_profiles_count_as_srgb(tmp_path: Path, pixels: np.ndarray, icc: bytes, depth: type) -> None:
    path = _save(tmp_path / "a.png", pixels.astype(depth), icc)
    assert np.array_equal(photos.read_photo(path), pixels)


def test_a_profile_for_other_pixels_counts_as_none(tmp_path: Path, pixels: np.ndarray) -> None:
    assert np.array_equal(photos.read_photo(_save(tmp_path / "a.png", pixels, profile(LINEAR, None))), pixels)
    cmyk = Image.fromarray(pixels).convert("CMYK")
    cmyk.save(tmp_path / "a.tif", icc_profile=profile(LINEAR, ADOBE))
    cmyk.save(tmp_path / "plain.tif")
    plain = photos.read_photo(tmp_path / "plain.tif")
    assert np.array_equal(plain, np.asarray(cmyk.convert("RGB")))
    assert np.array_equal(photos.read_photo(tmp_path / "a.tif"), plain)


def _cmyk_profile() -> bytes:
    """Made here: a table of two points along each ink, C = M = Y = 0 is white, and K alone makes it dark."""
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lab = np.stack([100 * (1 - grid.max(axis=1)), np.zeros(16), np.zeros(16)], axis=1)
    encoded = np.rint(lab * [655.35, 257, 257] + [0, 32896, 32896]).astype(int)
    table = struct.pack(">4sIBBBB9i", b"mft2", 0, 4, 3, 2, 0, *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table += struct.pack(">HH", 2, 2) + struct.pack(">8H", *[0, 65535] * 4)
    table += struct.pack(f">{encoded.size}H", *encoded.ravel()) + struct.pack(">6H", *[0, 65535] * 3)
    text = b"desc" + struct.pack(">II2s", 0, 2, b"x\0") + bytes(79)
    white = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)
    elements = {b"desc": text, b"cprt": b"text" + bytes(8), b"wtpt": white, b"A2B0": table}
    tags, data, start = b"", b"", 132 + 12 * len(elements)
    for name, element in elements.items():
        tags += struct.pack(">4sII", name, start + len(data), len(element))
        data += element + bytes(-len(element) % 4)
    body = struct.pack(">I", len(elements)) + tags + data
    head = struct.pack(
        ">I4sI4s4s4s12s4s",
        128 + len(body),
        b"none",
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        bytes(12),
        b"acsp",
    )
    return (head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + body


def test_cmyk_profiles_are_used(tmp_path: Path) -> None:
    """Full cyan is black by this profile, and cyan by Pillow's formula."""
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    image.save(tmp_path / "a.tif", icc_profile=_cmyk_profile())
    assert photos.read_photo(tmp_path / "a.tif").max() < 10
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "w.tif", icc_profile=_cmyk_profile())
    assert photos.read_photo(tmp_path / "w.tif").min() > 245
    image.save(tmp_path / "plain.tif")
    assert photos.read_photo(tmp_path / "plain.tif")[0, 0].tolist() == [0, 255, 255]
