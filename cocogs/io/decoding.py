"""Pixels of a picture file, 8 and 16 bit, whatever its kind and size; for RAW files see `cocogs.io.raw`.

All errors and warnings of Pillow end here: a file that cannot be read becomes one InputError that names it.
"""

import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cocogs.errors import InputError, reason_of
from cocogs.io import color
from cocogs.io.exif import read_exif, says_adobe_rgb
from cocogs.io.pixels import from_float, to_float
from cocogs.io.source import is_size

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
# Pixels taken out of Pillow at a time: it needs 4 bytes per pixel itself and 10 more for what it hands over.
_STRIP = 1 << 22
_calm_lock = threading.Lock()
_calm_threads: list[int] = []
_calmed = ExitStack()
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF")  # JPEG opens MPO, too
# The start of a file in which HEIF and AVIF say what it holds.
_HEAD = 1 << 16
pillow_heif.register_heif_opener()


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The opened picture: JPEG, PNG, TIFF, WebP, HEIF or AVIF, by its content.

    Of a HEIF file with several pictures it is the primary one, upright, as the file's own turns say.

    Pillow is not told the path: it would map some TIFF files into memory, and scramble those that are to be
    turned by a quarter (seen in 11.0.0 to 13.0.0).

    Raises:
        InputError: the file cannot be read, also where what is done with the picture fails.
    """
    try:
        with calm(), path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if not is_size(*image.size):
                raise _unreadable(path, "an impossible size")
            if image.format in ("AVIF", "HEIF") and _is_cut_short(path):
                raise _unreadable(path, "it is truncated")
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: put it back or name another.") from error
    except UnidentifiedImageError as error:
        raise _unreadable(path, "unknown format") from error
    except Exception as error:  # Pillow raises a different type for every way a file can be broken
        raise _unreadable(path, reason_of(error)) from error


def reduce(image: ImageFile.ImageFile, shrink: float) -> None:
    """Let a JPEG file decode to a half, a quarter or an eighth of its size, where it is to be shrunk by
    `shrink` and at least twice the final size is left. On nine photos that was as sharp as from all pixels
    (gradient energy 1.00 to 1.02 of it; .25 to .5 levels of 255 apart), and three times as fast. Other files
    stay as they are."""
    for part in (8, 4, 2):
        width, height = image.size
        if shrink / part >= 2 and width % part == 0 and height % part == 0:
            image.draft(None, (width // part, height // part))
            return


def decode(path: Path, image: ImageFile.ImageFile, to_srgb: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 of an opened image. Transparent pixels are laid over black.

    Args:
        to_srgb: convert the colours of an ICC profile, or of EXIF's Adobe RGB, to sRGB.

    Raises:
        InputError: the values do not fit 16 bits.
    """
    profile = image.info.get("icc_profile") or b""
    from_adobe = not profile and says_adobe_rgb(read_exif(image))
    is_cmyk = image.mode == "CMYK"
    pixels = _decode(path, image, profile if to_srgb else b"")
    if is_cmyk or not to_srgb:
        return pixels
    if not profile and (cicp := _cicp(path, image)):
        return color.cicp_to_srgb(pixels, *cicp)
    return color.adobe_rgb_to_srgb(pixels) if from_adobe else color.to_srgb(pixels, profile)


def has_alpha(image: ImageFile.ImageFile) -> bool:
    """The file has transparency."""
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def bytes_per_value(image: ImageFile.ImageFile) -> int:
    """1, or 2 for files of more than 8 bits per channel."""
    is_deep = image.mode.startswith("I;16") or _sixteen_bit_order(image) or image.info.get("bit_depth", 8) > 8
    return 2 if is_deep else 1


def stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) of the pixels as stored. Pillow tells the sides of TIFF files as if already turned."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return image.size


@contextmanager
def calm() -> Iterator[None]:
    """Pillow neither warns the user of odd files nor refuses photos of more than 179 megapixels.

    Warning filters and Pillow's limit are the process's: the first of several threads sets them, the last one
    puts them back.
    """
    with _calm_lock:
        if not _calm_threads:
            _calmed.enter_context(_calmly())
        _calm_threads.append(threading.get_ident())
    try:
        yield
    finally:
        with _calm_lock:
            _calm_threads.remove(threading.get_ident())
            if not _calm_threads:
                _calmed.close()


@contextmanager
def _calmly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _is_cut_short(path: Path) -> bool:
    """A file of boxes (ISO/IEC 14496-12, 4.2), such as HEIF, ends before its last box does.

    libheif does not mind, and paints what is missing green.
    """
    end, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= end:
            file.seek(place)
            (size,) = struct.unpack(">I", file.read(4))
            if size == 1:  # it follows the box's name, in 64 bits
                file.seek(place + 8)
                size = int.from_bytes(file.read(8), "big")
            if size == 0:  # up to the end
                return False
            place += max(size, 8)
    return place > end


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as a picture ({reason}): replace or remove it.")


def _decode(path: Path, image: ImageFile.ImageFile, profile: bytes) -> np.ndarray:
    """(H, W, 3) uint8 or uint16, CMYK by its profile."""
    _check_values(path, image)
    if image.format == "HEIF" and image.info["bit_depth"] > 8:
        return _decode_deep_heif(path)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        # Pillow inverts files in which 0 is white, but not these.
        grey = ~grey if _tiff_tag(image, ExifTags.Base.PhotometricInterpretation) == 0 else grey
        return _without_key(np.repeat(grey[..., None], 3, axis=2), image)
    byte_order = _sixteen_bit_order(image)
    if byte_order is not None:
        return _without_key(_decode_sixteen(path, [_layout(tile) for tile in image.tile], byte_order), image)
    return _decode_eight(image, profile)


def _decode_eight(image: ImageFile.ImageFile, profile: bytes) -> np.ndarray:
    """(H, W, 3) uint8, taken out of Pillow in strips."""
    image.load()
    width, height = image.size
    mode = "RGBA" if has_alpha(image) else "RGB"
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        if strip.mode == "CMYK" and profile:
            strip = color.cmyk_to_srgb(strip, profile)
        pixels[top : top + rows] = _over_black(np.asarray(strip.convert(mode)))
    return pixels


def _decode_deep_heif(path: Path) -> np.ndarray:
    """(H, W, 3) uint16 of a HEIF file of 10 or 12 bits, of which Pillow would keep 8."""
    file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    values = np.asarray(file)
    most = (1 << file.info["bit_depth"]) - 1
    pixels = np.rint(np.arange(most + 1) * (65535 / most)).astype(np.uint16)[values]
    pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    return pixels[..., :3] if file.premultiplied_alpha else _over_black(pixels)


def _cicp(path: Path, image: ImageFile.ImageFile) -> tuple[int, int] | None:
    """Primaries and transfer, as code points of ITU-T H.273, of a HEIF or AVIF file that names them."""
    if nclx := image.info.get("nclx_profile"):
        return int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])
    if image.format != "AVIF":
        return None
    with path.open("rb") as file:
        _, found, after = file.read(_HEAD).partition(b"colrnclx")  # Pillow leaves it out
    return struct.unpack_from(">HH", after) if found and len(after) >= 4 else None


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
    with opened(path) as image:
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
