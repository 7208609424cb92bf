"""One photo: decoding, depth, orientation, EXIF, the area filter, and files that are broken."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from cocogs.errors import InputError
from cocogs.io import photos, prepare
from cocogs.io.pixels import png_chunk
from cocogs.io.source import Intrinsics, Shot


@pytest.fixture
def pixels() -> np.ndarray:
    """(6, 10, 3) uint8 noise."""
    return np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


@pytest.fixture
def deep_pixels() -> np.ndarray:
    """(6, 10, 3) uint16 noise."""
    return np.random.default_rng(0).integers(0, 65536, (6, 10, 3), dtype=np.uint16)


def _with_exif(pixels: np.ndarray, path: Path, **tags: object) -> Path:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    lens = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in tags.items():
        tag = ExifTags.Base[name]
        (exif if name in ("Orientation", "Model") else lens)[tag] = value
    image.save(path, exif=exif, quality=100, subsampling=0)
    return path


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright picture of stored pixels, by Pillow's own names for the eight orientations."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    height, width, channels = pixels.shape
    places = Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width))
    order = np.asarray(places.transpose(turns[orientation]) if orientation > 1 else places)
    return pixels.reshape(-1, channels)[order]


def _write_tiff(path: Path, pixels: np.ndarray, orientation: int = 1, **options) -> Path:
    """With tifffile: Pillow writes neither 16-bit colour nor strips, tiles and planes."""
    tifffile = pytest.importorskip("tifffile")
    if options.get("planarconfig") == "separate":
        pixels = pixels.transpose(2, 0, 1)
    tags = [(ExifTags.Base.Orientation, "H", 1, orientation, True)]
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", "extratags": tags, **options})
    return path


def _refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        photos.read_photo(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_eight_bit_files_decode_exactly(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    decoded = photos.read_photo(tmp_path / f"a{suffix}")
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, pixels)


def test_jpeg_decodes(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 100, dtype=np.uint8)).save(tmp_path / "a.jpg")
    assert np.abs(photos.read_photo(tmp_path / "a.jpg").astype(int) - 100).max() <= 1


def test_sixteen_bit_png_keeps_every_bit(tmp_path: Path, deep_pixels: np.ndarray) -> None:
    photos.write_png(tmp_path / "a.png", deep_pixels)
    decoded = photos.read_photo(tmp_path / "a.png")
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, deep_pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 2},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "rowsperstrip": 4},
        {"compression": "zlib"},
        {"compression": "zlib", "rowsperstrip": 2, "predictor": True},
    ],
    ids=lambda options: "-".join(map(str, options)) or "one strip",
)
def test_sixteen_bit_tiff_keeps_every_bit(tmp_path: Path, order: str, options: dict) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    path = _write_tiff(tmp_path / "a.tiff", pixels, byteorder=order, **options)
    decoded = photos.read_photo(path)
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("extra, shown", [("unassalpha", "over black"), ("assocalpha", "as it is")])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff_with_alpha(
    tmp_path: Path, deep_pixels: np.ndarray, extra: str, shown: str, compression: str | None
) -> None:
    alpha = np.full((6, 10, 1), 13107, np.uint16)  # a fifth
    pixels = np.concatenate([deep_pixels, alpha], axis=2)
    path = _write_tiff(tmp_path / "a.tiff", pixels, extrasamples=[extra], compression=compression)
    expected = np.rint(deep_pixels / 5) if shown == "over black" else deep_pixels
    assert np.array_equal(photos.read_photo(path), expected)


def test_fourth_channel_that_is_no_alpha_is_left_out(tmp_path: Path, deep_pixels: np.ndarray) -> None:
    pixels = np.concatenate([deep_pixels, deep_pixels[..., :1]], axis=2)
    path = _write_tiff(tmp_path / "a.tiff", pixels, extrasamples=["unspecified"])
    assert np.array_equal(photos.read_photo(path), deep_pixels)


def test_sixteen_bit_grey_png_with_alpha(tmp_path: Path, deep_pixels: np.ndarray) -> None:
    grey, alpha = deep_pixels[..., 0], np.full((6, 10), 13107, np.uint16)
    photos.write_png(tmp_path / "a.png", np.stack([grey, alpha], axis=2).reshape(6, 20))
    content = bytearray((tmp_path / "a.png").read_bytes())
    # Pillow does not write it: the same bytes, told as 10 pixels of grey and alpha instead of 20 of grey.
    content[16:26] = struct.pack(">IIBB", 10, 6, 16, 4)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    expected = np.repeat(np.rint(grey / 5)[..., None], 3, axis=2)
    decoded = photos.read_photo(tmp_path / "a.png")
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_grey_tiff_in_which_0_is_white(
    tmp_path: Path, deep_pixels: np.ndarray, compression: str | None
) -> None:
    options = {"photometric": "miniswhite", "compression": compression}
    path = _write_tiff(tmp_path / "a.tif", deep_pixels[..., 0], 1, **options)
    assert np.array_equal(photos.read_photo(path)[..., 2], 65535 - deep_pixels[..., 0])


def test_sixteen_bit_grey_becomes_three_channels(tmp_path: Path, deep_pixels: np.ndarray) -> None:
    Image.fromarray(deep_pixels[..., 0]).save(tmp_path / "a.png")
    decoded = photos.read_photo(tmp_path / "a.png")
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, np.repeat(deep_pixels[..., :1], 3, axis=2))


def test_grey_and_palette_files_become_colour(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(pixels[..., 0]).convert("P").save(tmp_path / "palette.png")
    expected = np.repeat(pixels[..., :1], 3, axis=2)
    assert np.array_equal(photos.read_photo(tmp_path / "grey.png"), expected)
    assert np.array_equal(photos.read_photo(tmp_path / "palette.png"), expected)


def test_transparency_is_laid_over_black(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.full((6, 10, 1), 51, dtype=np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "a.png")
    assert photos.read_header(tmp_path / "a.png").has_alpha
    assert np.array_equal(photos.read_photo(tmp_path / "a.png"), np.rint(pixels / 5).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_sixteen_bit_png_is_laid_over_black(
    tmp_path: Path, deep_pixels: np.ndarray, channels: int
) -> None:
    """Pillow writes no such file: the chunk that names the colour is put before the pixels."""
    path, key = tmp_path / "a.png", deep_pixels[2, 3, :channels]
    photos.write_png(path, deep_pixels if channels == 3 else deep_pixels[..., 0])
    head, body = path.read_bytes().split(b"IDAT", 1)
    chunk = png_chunk(b"tRNS", struct.pack(f">{channels}H", *key))
    path.write_bytes(head[:-4] + chunk + head[-4:] + b"IDAT" + body)
    assert photos.read_header(path).has_alpha
    expected = deep_pixels if channels == 3 else np.repeat(deep_pixels[..., :1], 3, axis=2)
    expected = np.where((expected == key).all(axis=2, keepdims=True), 0, expected)
    assert (expected[2, 3] == 0).all() and expected.any()
    assert np.array_equal(photos.read_photo(path), expected)


def _check_turned(path: Path, stored: np.ndarray, orientation: int, tolerance: int = 0) -> None:
    """Pixels and sizes, upright and as stored."""
    header = photos.read_header(path)
    assert header.orientation == orientation
    for upright, expected in ((True, _turned(stored, orientation)), (False, stored)):
        decoded = photos.read_photo(path, upright)
        assert decoded.dtype == stored.dtype and decoded.shape == expected.shape
        assert np.abs(decoded.astype(int) - expected.astype(int)).max() <= tolerance
        assert header.size(upright) == expected.shape[1::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_exif_orientation_is_applied_as_pillow_does(
    tmp_path: Path, pixels: np.ndarray, suffix: str, orientation: int
) -> None:
    path = _with_exif(pixels, tmp_path / f"a{suffix}", Orientation=orientation)
    _check_turned(path, pixels, orientation, tolerance=10 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_files_are_turned_once(
    tmp_path: Path, deep_pixels: np.ndarray, orientation: int, depth: type, compression: str | None
) -> None:
    """Pillow turns them while it decodes them; and scrambled grey ones and those with alpha."""
    pixels = deep_pixels.astype(depth)
    solid = np.full((6, 10, 1), np.iinfo(depth).max, depth)
    path = tmp_path / "a.tif"
    options: dict = {"orientation": orientation, "compression": compression}
    _check_turned(_write_tiff(path, pixels, **options), pixels, orientation)
    with_alpha = np.concatenate([pixels, solid], axis=2)
    _check_turned(_write_tiff(path, with_alpha, extrasamples=["unassalpha"], **options), pixels, orientation)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    _check_turned(_write_tiff(path, grey[..., 0], photometric="minisblack", **options), grey, orientation)


@pytest.mark.parametrize("orientation", [3, 6])
def test_cameras_of_stored_pixels_get_them_from_tiff_files(
    tmp_path: Path, deep_pixels: np.ndarray, orientation: int
) -> None:
    """As COLMAP's are."""
    path = _write_tiff(tmp_path / "a.tif", deep_pixels, orientation)
    lens = Intrinsics("PINHOLE", 10, 6, (9.0, 9.0, 5.0, 3.0))
    photo = prepare.fit_photo(Shot("a.tif", lens, torch.eye(4).double(), upright=False), path)
    ready = prepare.prepared_photo(photo, photo.lens, tmp_path / "cache")
    assert photo.lens == lens
    assert np.array_equal(prepare.open_pixels(ready).transpose(1, 2, 0), deep_pixels)


def test_lens_facts_come_from_exif(tmp_path: Path, pixels: np.ndarray) -> None:
    tags = {"FocalLength": 18.1, "FocalLengthIn35mmFilm": 50, "FNumber": 2.5, "Model": "Camera X"}
    path = _with_exif(pixels, tmp_path / "a.jpg", **tags)
    assert photos.read_header(path).lens == photos.LensFacts(18.1, 50.0, 2.5, "Camera X")


def test_unknown_lens_facts_are_none(tmp_path: Path, pixels: np.ndarray) -> None:
    path = _with_exif(pixels, tmp_path / "a.jpg", FocalLength=0, FNumber=0)
    assert photos.read_header(path).lens == photos.LensFacts()


@pytest.mark.parametrize("width, height", [(5, 3), (4, 3), (7, 4), (3, 5), (1, 1)])
def test_area_filter_averages_exact_areas(pixels: np.ndarray, width: int, height: int) -> None:
    picture = photos.to_float(pixels)
    # Every pixel repeated so often that the new pixels hold whole numbers of them.
    fine = np.repeat(np.repeat(picture, height, axis=0), width, axis=1)
    expected = fine.reshape(height, 6, width, 10, 3).mean(axis=(1, 3))
    assert np.allclose(photos.resize_area(picture, width, height), expected, atol=1e-6)


def test_mask_is_white_above_the_middle(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert photos.read_mask(tmp_path / "m.png").tolist() == [[False, False, True, True]]


def test_rounding_to_integers_and_back(pixels: np.ndarray, deep_pixels: np.ndarray) -> None:
    for original in (pixels, deep_pixels):
        assert np.array_equal(photos.from_float(photos.to_float(original), original.dtype), original)


def test_list_is_sorted_and_passes_over_other_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.TIFF", ".hidden.png", "notes.txt", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert photos.list_photos(tmp_path) == ["a.png", "b.JPG", "c.TIFF"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_truncated_photo_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"half{suffix}.*replace or remove"):
        photos.read_photo(path)


@pytest.mark.parametrize("content", [b"", b"not a picture at all"])
def test_unreadable_photo_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    for read in (photos.read_header, photos.read_photo, photos.read_mask):
        with pytest.raises(InputError, match=r"text\.jpg.*\(unknown format\): replace or remove"):
            read(path)


@pytest.mark.parametrize("size", [(1_000_000, 665_625), (60_000, 60_000), (1 << 21, 1)])
def test_a_header_that_promises_too_much(tmp_path: Path, size: tuple[int, int]) -> None:
    """70 bytes that would keep the decoder busy for minutes."""
    Image.new("L", (1, 1)).save(path := tmp_path / "large.png")
    header = b"IHDR" + struct.pack(">II", *size) + b"\x08\0\0\0\0"
    whole = path.read_bytes()
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    for read in (photos.read_header, photos.read_photo, photos.read_mask):
        with pytest.raises(InputError, match=r"large\.png cannot be read .*\(an impossible size\)"):
            read(path)


def test_absent_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg does not exist"):
        photos.read_photo(tmp_path / "gone.jpg")


@pytest.mark.parametrize(
    "dtype, kind",
    [(np.float32, "floating-point"), (np.int32, "32-bit"), (np.uint32, "32-bit"), (np.int16, "signed")],
)
def test_values_that_would_be_cut_are_refused(tmp_path: Path, dtype: type, kind: str) -> None:
    path = _write_tiff(tmp_path / "a.tiff", np.ones((4, 4), dtype=dtype), photometric="minisblack")
    _refused(path, rf"a\.tiff holds .*{kind}.* values: save it as an 8- or 16-bit PNG")


def test_twelve_bit_tiff_is_refused(tmp_path: Path) -> None:
    """It would come out dark."""
    path = _write_tiff(tmp_path / "a.tiff", np.ones((4, 4), dtype=np.uint16), photometric="minisblack")
    bits = struct.Struct("<HHIH")
    content = path.read_bytes()
    assert bits.pack(258, 3, 1, 16) in content
    path.write_bytes(content.replace(bits.pack(258, 3, 1, 16), bits.pack(258, 3, 1, 12)))
    _refused(path, r"a\.tiff holds 12-bit values")


@pytest.mark.parametrize("options", [{"planarconfig": "separate", "compression": "zlib"}, {"cmyk": True}])
def test_sixteen_bit_tiff_that_pillow_would_cut_is_refused(
    tmp_path: Path, deep_pixels: np.ndarray, options: dict
) -> None:
    if "cmyk" in options:
        deep_pixels = np.concatenate([deep_pixels, deep_pixels[..., :1]], axis=2)
        options = {"photometric": "separated"}
    path = _write_tiff(tmp_path / "a.tiff", deep_pixels, **options)
    _refused(path, r"a\.tiff holds 16-bit values as CMYK or in compressed planes.*as a 16-bit RGB PNG")


def test_tiff_with_damaged_offsets_is_named(tmp_path: Path, pixels: np.ndarray) -> None:
    """Text where the place of the pixels should be: Pillow raises a TypeError."""
    path = _write_tiff(tmp_path / "a.tiff", pixels)
    content = path.read_bytes()
    entry = content.index(struct.pack("<H", 273), content.index(struct.pack("<H", 262)))
    path.write_bytes(content[: entry + 2] + struct.pack("<H", 2) + content[entry + 4 :])
    _refused(path, r"a\.tiff cannot be read as a picture")
