"""RAW files: what a camera's sensor saw, as sRGB-encoded linear light with 16 bits. LibRaw reads them.

The light stays linear and on one scale: black is the sensor's black level, 65535 its white level, times the
camera's white balance; nothing is brightened, sharpened or cleaned of noise. A JPEG of the same photo is
brighter and steeper, as the camera developed it.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rawpy

from cocogs.errors import InputError
from cocogs.io.color import encode
from cocogs.io.pixels import keys_cubic

SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".rw2", ".rwl", ".orf"),
    *(".pef", ".srw", ".3fr", ".fff", ".iiq", ".mos", ".mef", ".erf", ".kdc", ".dcr", ".mrw", ".x3f", ".gpr"),
)
# A picture that is shrunk by this or more may be read at half size, in a fifth of the time: on photos as soft
# as lenses make them, the result errs less than that of AHD at full size.
HALF_FROM = 4.0
# LibRaw's flips (bit 0: left and right, 1: top and bottom, 2: rows and columns) as EXIF orientations.
_ORIENTATIONS = {0: 1, 1: 2, 3: 3, 2: 4, 4: 5, 6: 6, 7: 7, 5: 8}
# Of LibRaw's ways to guess the two colours that a pixel did not see, the one that errs least: on sharp photos
# put through a mosaic, 2 to 4 dB less than AHD, LibRaw's own choice, also after shrinking. Sensors without a
# Bayer pattern get what LibRaw has for them.
_DEMOSAIC = rawpy.DemosaicAlgorithm.DHT
_capture_lock = threading.Lock()


@dataclass(frozen=True)
class RawHeader:
    """What a RAW file says before its pixels are decoded.

    Args:
        width, height: size in px of the picture as stored, without the sensor's borders.
        orientation: EXIF orientation, 1 (upright) to 8.
    """

    width: int
    height: int
    orientation: int


def is_raw(path: Path) -> bool:
    """By the name: inside, most RAW files are TIFF files with a small preview."""
    return path.name.lower().endswith(SUFFIXES)


def read_header(path: Path) -> RawHeader:
    """Size and orientation of a RAW file.

    Raises:
        InputError: LibRaw does not know the file.
    """
    with _opened(path) as file:
        left, top, right, bottom = _crop(file.sizes)
        return RawHeader(right - left, bottom - top, _ORIENTATIONS.get(file.sizes.flip & 7, 1))


def read_lens(path: Path) -> tuple[float | None, float | None]:
    """(focal length in mm, f-number) as LibRaw finds them, also without EXIF; None where it does not.

    It unpacks all pixels for that, so ask the EXIF first.

    Raises:
        InputError: as for `decode`.
    """
    with _opened(path) as file, _complaints():
        other = file.other
    return (
        other.focal_length if other.focal_length > 0 else None,
        other.aperture if other.aperture > 0 else None,
    )


def decode(path: Path, half: bool = False) -> np.ndarray:
    """(H, W, 3) uint16 sRGB, as stored (not turned).

    What was brighter than the sensor's white level is white. Without a white balance from the camera,
    daylight's is taken.

    Args:
        half: half as many rows and columns will do. Only sensors with a Bayer pattern can give them.

    Raises:
        InputError: the file is damaged or truncated, or of a kind that LibRaw cannot read.
    """
    with _opened(path) as file:
        with _complaints() as complaints:
            file.unpack()
        if complaints:
            raise _unreadable(path, complaints[0])
        left, top, right, bottom = crop = _crop(file.sizes)
        places = _bayer(file) if half and not any(side % 2 for side in crop) else None
        if places:
            return _curve()[_half(file, places)[top // 2 : bottom // 2, left // 2 : right // 2]]
        light = _develop(file, demosaic_algorithm=_DEMOSAIC)
        if light.shape[:2] != (file.sizes.height, file.sizes.width):
            raise _unreadable(path, "its pixels are not square or lie askew")
    light = light[top:bottom, left:right]
    return _curve()[np.broadcast_to(light, (*light.shape[:2], 3))]


def read_mosaic(path: Path) -> np.ndarray:
    """(H, W) float32: what each pixel of the sensor gathered, behind its own colour filter. 0 is black, 1 is
    the sensor's white level; noise goes below 0.

    Raises:
        InputError: as for `decode`; or the file has no mosaic.
    """
    with _opened(path) as file:
        with _complaints() as complaints:
            file.unpack()
        if complaints or file.raw_type != rawpy.RawType.Flat:
            raise _unreadable(path, complaints[0] if complaints else "its pixels are no mosaic")
        black = np.array(file.black_level_per_channel, np.float32)[file.raw_colors_visible]
        return (file.raw_image_visible - black) / (file.white_level - black)


def _develop(file: rawpy.RawPy, **options: Any) -> np.ndarray:
    """(H, W, 1 or 3) uint16 linear light, in sRGB's primaries unless `options` say otherwise."""
    fixed: dict[str, Any] = dict(
        use_camera_wb=_says_white(file),  # where there is none, LibRaw would guess it from the picture
        output_bps=16,
        gamma=(1, 1),
        no_auto_bright=True,
        adjust_maximum_thr=0,  # the white level is the camera's, not the brightest pixel's
        highlight_mode=rawpy.HighlightMode.Clip,
        user_flip=0,
    )
    return file.postprocess(**{**fixed, "output_color": rawpy.ColorSpace.sRGB, **options})


def _bayer(file: rawpy.RawPy) -> dict[int, tuple[int, int]] | None:
    """Where red (0) and blue (2) lie in each 2x2 pixels of a Bayer pattern, as (row, column); else None."""
    pattern, sizes = file.raw_pattern, file.sizes
    if pattern is None or pattern.shape != (2, 2) or file.color_desc != b"RGBG" or sizes.pixel_aspect != 1:
        return None
    places = [(row, column) for row in (0, 1) for column in (0, 1)]
    colors = [file.raw_color(sizes.top_margin + row, sizes.left_margin + column) for row, column in places]
    return {color: places[colors.index(color)] for color in (0, 2)} if {0, 2} <= set(colors) else None


def _half(file: rawpy.RawPy, places: dict[int, tuple[int, int]]) -> np.ndarray:
    """(H/2, W/2, 3) uint16 linear light: one pixel of each 2x2.

    LibRaw takes red and blue as they are, half a pixel of the sensor off the centre to opposite sides. They
    are brought to the centre here, before the camera's colours are mixed.
    """
    light = _develop(file, half_size=True, output_color=rawpy.ColorSpace.raw).astype(np.float32)
    for color, (row, column) in places.items():
        light[..., color] = _shifted(_shifted(light[..., color], (0.5 - row) / 2).T, (0.5 - column) / 2).T
    light @= file.color_matrix[:, :3].T.astype(np.float32)
    return np.rint(light).clip(0, 65535).astype(np.uint16)


def _shifted(values: np.ndarray, by: float) -> np.ndarray:
    """The values `by` rows further on, |by| < 1, by cubic convolution (Keys 1981, a = -1/2)."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    total = np.zeros_like(values)
    for row in range(-2, 3):
        t = abs(row - by)
        near, far = keys_cubic(t)
        if t < 2:
            total += np.float32(near if t <= 1 else far) * padded[row + 2 : row + 2 + len(values)]
    return total


def _says_white(file: rawpy.RawPy) -> bool:
    return file.camera_whitebalance[0] > 0


def _crop(sizes: rawpy.ImageSizes) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what the camera itself calls the picture, within what the sensor saw.

    A JPEG of the same photo has this size. All of the sensor where the file does not say, or says nonsense.
    """
    left, top = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
    right, bottom = left + sizes.crop_width, top + sizes.crop_height
    fits = 0 <= left < right <= sizes.width and 0 <= top < bottom <= sizes.height
    # A crop to less than this is another shape of picture, or not meant for these pixels.
    if fits and sizes.crop_width * sizes.crop_height > 0.8 * sizes.width * sizes.height:
        return left, top, right, bottom
    return 0, 0, sizes.width, sizes.height


def _curve() -> np.ndarray:
    """(65536,) uint16: sRGB's curve for each value of linear light."""
    return np.rint(encode(np.arange(65536) / 65535) * 65535).astype(np.uint16)


@contextmanager
def _opened(path: Path) -> Iterator[rawpy.RawPy]:
    """Its header is read.

    Raises:
        InputError: the file cannot be read, also where what is done with it fails.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: put it back or name another.")
    try:
        with rawpy.RawPy() as file:
            with _complaints():  # it raises as well
                file.open_file(str(path))
            yield file
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise _unreadable(path, reason) from error
    except rawpy.NotSupportedError as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be read as a RAW file ({reason}): replace or remove it, or save the photo as TIFF."
    )


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What LibRaw says of damaged data, filled when the block ends: it only prints it, to standard error.

    One thread at a time: the stream is the process's. What others wrote to it meanwhile goes there later.
    """
    found: list[str] = []
    with _capture_lock, tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        try:
            original = os.dup(2)
        except OSError:  # there is no standard error
            yield found
            return
        os.dup2(captured.fileno(), 2)
        try:
            yield found
        finally:
            os.dup2(original, 2)
            captured.seek(0)
            for line in captured.read().decode("utf-8", "replace").splitlines(keepends=True):
                complaint = line.rpartition(": ")[2].strip()
                if complaint.startswith(("Unexpected end of file", "data corrupted")):
                    found.append(complaint)
                else:
                    os.write(original, line.encode())
            os.close(original)
