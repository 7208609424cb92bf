"""One photo: decoding, depth, orientation, EXIF, the area filter, and files that are broken."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cocogs.errors import InputError
from cocogs.io import photos


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
    image.save(path, exif=exif, quality=95)
    return path


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
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bit_tiff_keeps_every_bit(
    tmp_path: Path, deep_pixels: np.ndarray, order: str, compression: str | None
) -> None:
    tifffile = pytest.importorskip("tifffile")
    options = {"byteorder": order, "compression": compression, "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tiff", deep_pixels, **options)
    assert np.array_equal(photos.read_photo(tmp_path / "a.tiff"), deep_pixels)


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(
    tmp_path: Path, pixels: np.ndarray, orientation: int
) -> None:
    path = _with_exif(pixels, tmp_path / "a.png", Orientation=orientation)
    # Turning the stored picture by Pillow's own names for the eight orientations.
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    image = Image.fromarray(pixels)
    expected = np.asarray(image.transpose(turns[orientation]) if orientation > 1 else image)
    header = photos.read_header(path)
    assert np.array_equal(photos.read_photo(path), expected)
    assert np.array_equal(photos.read_photo(path, upright=False), pixels)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.size(upright=False) == (10, 6)


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
        with pytest.raises(InputError, match=r"text\.jpg.*replace or remove"):
            read(path)


def test_absent_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg does not exist"):
        photos.read_photo(tmp_path / "gone.jpg")


def test_floating_point_tiff_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match=r"a\.tiff holds floating-point values"):
        photos.read_photo(tmp_path / "a.tiff")
