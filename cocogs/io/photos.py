"""One photo: decoding (8 and 16 bit), EXIF, orientation, the area filter; and masks.

Arrays are numpy, (H, W, 3), in the file's own depth: uint8 or uint16, sRGB-encoded. Pictures are averaged as
they are encoded, not in linear light, like the downscaled copies (images_4, ...) that benchmarks ship.
"""

import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cocogs.errors import InputError
from cocogs.io.makernote import canon_focus_distance

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
# What Pillow raises for broken files; UnidentifiedImageError is an OSError.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, MemoryError),
    Image.DecompressionBombError,
)
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
# The EXIF orientations that undo these; the other six undo themselves.
_TURN_BACK = {6: 8, 8: 6}


@dataclass(frozen=True)
class LensFacts:
    """What a photo's EXIF says about its lens; None where it does not.

    Args:
        focal_length_mm: the lens's focal length in mm.
        focal_length_35mm: the focal length in mm that gives the same view on a 36 x 24 mm frame.
        f_number: focal length divided by aperture diameter.
        camera_model: maker's name of the camera.
        focus_distance: metres, as the camera wrote it (Canon only).
    """

    focal_length_mm: float | None = None
    focal_length_35mm: float | None = None
    f_number: float | None = None
    camera_model: str | None = None
    focus_distance: float | None = None

    @property
    def aperture_diameter(self) -> float | None:
        """Metres: focal length / f-number."""
        if self.focal_length_mm is None or self.f_number is None:
            return None
        return self.focal_length_mm / 1000 / self.f_number


@dataclass(frozen=True)
class PhotoHeader:
    """What a photo file says before its pixels are decoded.

    Args:
        width, height: size in px after turning the picture as EXIF says.
        stored_width, stored_height: size in px of the pixels as stored.
        orientation: EXIF orientation, 1 (upright) to 8.
        has_alpha: the file has transparency.
        lens: lens facts from EXIF.
    """

    width: int
    height: int
    stored_width: int
    stored_height: int
    orientation: int
    has_alpha: bool
    lens: LensFacts

    def size(self, upright: bool) -> tuple[int, int]:
        """(width, height) in px, of the turned or of the stored picture."""
        return (self.width, self.height) if upright else (self.stored_width, self.stored_height)


def list_photos(folder: Path) -> list[str]:
    """Sorted names of the PNG, JPEG and TIFF files directly in `folder`; hidden files are passed over.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions.") from error
    return sorted(
        path.name
        for path in paths
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_header(path: Path) -> PhotoHeader:
    """Size, orientation and lens facts of a photo, without decoding it.

    Raises:
        InputError: the file is not a readable picture.
    """
    try:
        with _opened(path) as image:
            exif = _exif(image)
            orientation = _orientation(exif)
            stored = _stored_size(image)
            has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
            lens = _lens_facts(exif, image.info.get("exif", b""))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    width, height = stored if orientation < 5 else stored[::-1]
    return PhotoHeader(width, height, *stored, orientation, has_alpha, lens)


def read_photo(path: Path, upright: bool = True) -> np.ndarray:
    """Decode a photo to (H, W, 3), uint8, or uint16 for files of 16 bits per channel.

    Transparent pixels are laid over black.

    Args:
        upright: turn the picture as its EXIF orientation says.

    Raises:
        InputError: the file is not a picture, it is truncated, or its values do not fit 16 bits.
    """
    try:
        with _opened(path) as image:
            orientation = _orientation(_exif(image))
            pixels = _decode(path, image)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    # Pillow turns TIFF files, and only these, while it decodes them.
    is_upright = isinstance(image, TiffImageFile)
    if upright == is_upright:
        return pixels
    return _turn(pixels, orientation if upright else _TURN_BACK.get(orientation, orientation))


def read_mask(path: Path, upright: bool = True) -> np.ndarray:
    """Decode a mask to (H, W) bool: True (white) = use.

    Raises:
        InputError: the file is not a picture, or it is truncated.
    """
    green = read_photo(path, upright)[..., 1]
    return green > _largest(green) // 2


def to_float(pixels: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] of uint8 or uint16 values."""
    return pixels.astype(np.float32) / np.float32(_largest(pixels))


def from_float(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """uint8 or uint16 of values in [0, 1], rounded."""
    return np.rint(np.clip(values, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def resize_area(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average (H, W, ...) float over the exact area that each of the (height, width) new pixels covers.

    Old pixels cut by a new pixel's border count by the fraction inside. Made for shrinking.
    """
    rows = _average_rows(picture, height)
    return np.swapaxes(_average_rows(np.swapaxes(rows, 0, 1), width), 0, 1)


def _average_rows(picture: np.ndarray, count: int) -> np.ndarray:
    """Exact area average along axis 0, to `count` rows."""
    old = picture.shape[0]
    if old == count:
        return picture
    if old % count == 0:
        return picture.reshape(count, old // count, *picture.shape[1:]).mean(axis=1, dtype=np.float32)
    # The running sum is piecewise linear between rows, so its value at a fractional border is exact.
    total = np.zeros((old + 1, *picture.shape[1:]))
    np.cumsum(picture, axis=0, dtype=np.float64, out=total[1:])
    borders = np.arange(count + 1) * (old / count)
    whole = np.minimum(borders.astype(int), old - 1)
    fraction = (borders - whole).reshape(-1, *(1,) * (picture.ndim - 1))
    at_borders = total[whole] + fraction * picture[whole]
    return (np.diff(at_borders, axis=0) * (count / old)).astype(np.float32)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W), uint8 or uint16, as PNG. Pillow cannot write 16-bit colour."""
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
        return
    height, width = pixels.shape[:2]
    grey, rgb = 0, 2
    header = struct.pack(">IIBBBBB", width, height, 16, grey if pixels.ndim == 2 else rgb, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    no_filter = np.zeros((height, 1), np.uint8)
    data = zlib.compress(np.concatenate([no_filter, rows], axis=1).tobytes(), level=1)
    chunks = [_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", data), _png_chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The opened picture. Pillow is not told the path: it would map some TIFF files into memory, and scramble
    those that are to be turned by a quarter (seen in 11.0.0 to 13.0.0)."""
    with path.open("rb") as file, Image.open(file) as image:
        yield image


def _decode(path: Path, image: ImageFile.ImageFile) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 of an opened image, alpha laid over black."""
    _check_values(path, image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        # Pillow inverts files in which 0 is white, but not these.
        grey = ~grey if _tiff_tag(image, ExifTags.Base.PhotometricInterpretation) == 0 else grey
        return _without_key(np.repeat(grey[..., None], 3, axis=2), image)
    byte_order = _sixteen_bit_order(image)
    if byte_order is not None:
        return _without_key(_decode_sixteen(path, [_layout(tile) for tile in image.tile], byte_order), image)
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    return _over_black(np.asarray(image.convert("RGBA" if has_alpha else "RGB")))


def _without_key(pixels: np.ndarray, image: ImageFile.ImageFile) -> np.ndarray:
    """(H, W, 3) uint16 with the one colour that a 16-bit PNG may declare transparent laid over black."""
    key = image.info.get("transparency")
    if key is not None:
        pixels[(pixels == np.asarray(key)).all(axis=2)] = 0
    return pixels


def _check_values(path: Path, image: ImageFile.ImageFile) -> None:
    """Raises InputError for values that Pillow would cut, wrap or leave dark."""
    kinds = {"F": "floating-point values", "I": "32-bit or signed values", "I;12": "12-bit values"}
    raw_mode = _raw_mode(image.tile[0]) if image.tile else ""
    if kind := kinds.get(image.mode) or kinds.get(raw_mode):
        raise InputError(f"{path} holds {kind}: save it as an 8- or 16-bit PNG, JPEG or TIFF.")
    in_planes = _tiff_tag(image, ExifTags.Base.PlanarConfiguration) == 2 and _is_compressed(image)
    if _sixteen_bit_order(image) and (in_planes or image.mode not in ("RGB", "RGBA")):
        raise InputError(
            f"{path} holds 16-bit values as CMYK or in compressed planes, which can only be read as 8-bit: "
            "save it as a 16-bit RGB PNG."
        )


def _sixteen_bit_order(image: ImageFile.ImageFile) -> str | None:
    """Byte order ("big", "little") of a file with 16 bits in each of several channels, else None."""
    if len(image.getbands()) == 1 or not image.tile:
        return None
    if not isinstance(image, TiffImageFile):
        return "big" if _raw_mode(image.tile[0]).endswith(";16B") else None
    if set(image.tag_v2.get(ExifTags.Base.BitsPerSample, ())) != {16}:
        return None
    return sys.byteorder if _is_compressed(image) else {b"II": "little", b"MM": "big"}[image.tag_v2.prefix]


def _decode_sixteen(path: Path, layouts: list[str], byte_order: str) -> np.ndarray:
    """(H, W, 3) uint16, alpha laid over black.

    Pillow keeps one byte of each 16-bit value, so it decodes twice: asked for big-endian values it keeps the
    first byte, asked for little-endian ones the second.

    Args:
        layouts: the channels in each of the file's tiles (or strips, or planes), as Pillow names them.
    """
    if layouts == ["LA"]:
        # Pillow lacks the second byte of these, but four 8-bit channels take as many bytes.
        grey_alpha = _decode_bytes(path, ["RGBA"]).view(">u2").astype(np.uint16)
        return _over_black(grey_alpha[..., [0, 0, 0, 1]])
    names = [layout.upper() for layout in layouts]
    first, second = (
        _decode_bytes(path, [f"{name};16{order}" for name in names]).astype(np.uint16) for order in "BL"
    )
    pixels = first << 8 | second if byte_order == "big" else second << 8 | first
    # A small a: the colours have been multiplied by alpha.
    return pixels[..., :3] if "a" in "".join(layouts) else _over_black(pixels)


def _decode_bytes(path: Path, raw_modes: list[str]) -> np.ndarray:
    """Decode with another raw mode for each tile."""
    with _opened(path) as image:
        tiles = zip(image.tile, raw_modes, strict=True)
        image.tile = [
            tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
            for tile, raw_mode in tiles
        ]
        return np.asarray(image)


def _raw_mode(tile: ImageFile._Tile) -> str:
    """Pillow's name for the values as the file holds them, such as RGB;16B."""
    return str(tile.args[0] if isinstance(tile.args, tuple) else tile.args)


def _layout(tile: ImageFile._Tile) -> str:
    """The channels of a raw mode, such as RGB."""
    return _raw_mode(tile).split(";")[0]


def _is_compressed(image: ImageFile.ImageFile) -> bool:
    """libtiff decodes the TIFF file: as a single tile, in the processor's byte order."""
    return any(tile.codec_name == "libtiff" for tile in image.tile)


def _tiff_tag(image: ImageFile.ImageFile, tag: ExifTags.Base) -> object:
    """Value of a tag of a TIFF file, None in other files."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImageFile) else None


def _over_black(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) of (H, W, 3 or 4)."""
    if pixels.shape[2] == 3:
        return pixels
    return from_float(to_float(pixels[..., :3]) * to_float(pixels[..., 3:]), pixels.dtype)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright picture of stored pixels, for the eight EXIF orientations."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _largest(pixels: np.ndarray) -> int:
    return np.iinfo(pixels.dtype).max


def _lens_facts(exif: Image.Exif, raw: bytes) -> LensFacts:
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    model = exif.get(ExifTags.Base.Model)
    return LensFacts(
        focal_length_mm=_positive(tags.get(ExifTags.Base.FocalLength)),
        focal_length_35mm=_positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm)),
        f_number=_positive(tags.get(ExifTags.Base.FNumber)),
        camera_model=str(model).strip("\0 ") or None if model else None,
        focus_distance=canon_focus_distance(raw),
    )


def _exif(image: ImageFile.ImageFile) -> Image.Exif:
    """EXIF of an opened file.

    Where a PNG does not begin with it, Pillow would decode all pixels (to 8 bits) to look behind them. Hardly
    any program writes it there.
    """
    begins_with_exif = any("exif" in str(key).lower() for key in image.info)
    return image.getexif() if image.format != "PNG" or begins_with_exif else Image.Exif()


def _orientation(exif: Image.Exif) -> int:
    """1 where the file says nothing or nonsense."""
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) of the pixels as stored. Pillow tells the sides of TIFF files as if already turned."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return image.size


def _positive(value: object) -> float | None:
    """EXIF writes 0 (or 0/0) where it does not know."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < float("inf") else None


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} does not exist: put it back or name another folder.")
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "unknown format" if unknown else str(error) or type(error).__name__
    return InputError(f"{path} cannot be read as a picture ({reason}): replace or remove it.")
