"""Pictures and videos as files: PNG and TIFF of 8 and 16 bit, JPEG, OpenEXR, mp4, gif. Every file is whole or
absent."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image
from torch import Tensor

from cocogs.errors import InputError, optional_package
from cocogs.io import photos
from cocogs.io.atomic import replacing
from cocogs.srgb import to_linear

PHOTO_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
SPEEDS = {"mp4": (0.01, 1000.0), "gif": (0.01, 50.0)}  # frames per second


def to_picture(picture: Tensor) -> Image.Image:
    """8-bit RGB of (3, H, W), clamped to [0, 1]."""
    return Image.fromarray(_pixels(picture, np.dtype(np.uint8)))


def write_png(picture: Tensor, path: Path, bits: int = 8) -> None:
    """Write (3, H, W) or (H, W), clamped to [0, 1], as PNG of 8 or 16 bit."""
    with replacing(path) as temporary:
        photos.write_png(temporary, _pixels(picture, np.dtype(np.uint8 if bits == 8 else np.uint16)))


def check_picture_name(path: Path) -> None:
    """Raises InputError where `write_photo` knows no such file."""
    if path.suffix.lower() not in PHOTO_SUFFIXES:
        raise InputError(f"`out` must end in .png, .tif or .jpg, not {path.name!r}.")


def write_photo(pixels: np.ndarray, path: Path, exif: bytes = b"") -> None:
    """Write (H, W, 3) sRGB, uint8 or uint16, as the ending says: PNG or TIFF as deep as the pixels, or JPEG,
    which has 8 bits.

    Args:
        exif: a block of EXIF, as `photos.exif_for_copy` makes it; TIFF leaves it out.

    Raises:
        InputError: the file cannot be written.
    """
    check_picture_name(path)
    kind = path.suffix.lower()
    if kind in (".jpg", ".jpeg") and pixels.dtype != np.uint8:
        pixels = photos.from_float(photos.to_float(pixels), np.dtype(np.uint8))
    with replacing(path) as temporary:
        if kind == ".png":
            photos.write_png(temporary, pixels, exif)
        elif kind in (".jpg", ".jpeg"):
            Image.fromarray(pixels).save(temporary, "JPEG", quality=95, subsampling=0, exif=exif)
        else:
            tifffile.imwrite(temporary, pixels, photometric="rgb", compression="zlib")


def write_picture(picture: Tensor, path: Path, bits: int, exif: bytes = b"") -> None:
    """Write sRGB-encoded (3, H, W) as `write_photo` does, or as OpenEXR of linear light.

    Raises:
        InputError: another ending, a missing package, or the file cannot be written.
    """
    if path.suffix.lower() == ".exr":
        write_exr(linear_channels(picture), path, half=True)
    else:
        write_photo(_pixels(picture, np.dtype(np.uint8 if bits == 8 else np.uint16)), path, exif)


def write_exr(channels: dict[str, Tensor], path: Path, *, half: bool = False) -> None:
    """Write (H, W) channels by name, as they are, as OpenEXR of 32-bit (or 16-bit) floats.

    Raises:
        InputError: the package OpenEXR is not installed, or the file cannot be written.
    """
    exr = _open_exr()
    kind = np.float16 if half else np.float32
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    arrays = {name: values.cpu().numpy().astype(kind) for name, values in channels.items()}
    with replacing(path) as temporary, exr.File(header, arrays) as file:
        file.write(str(temporary))


def linear_channels(picture: Tensor) -> dict[str, Tensor]:
    """R, G, B in linear light of sRGB-encoded (3, H, W), as OpenEXR wants them; highlights stay above 1."""
    return dict(zip("RGB", to_linear(picture.clamp_min(0)), strict=True))


def write_film(frames: Sequence[Path], fps: float, path: Path) -> None:
    """Join 8-bit PNG files of one size to an .mp4 (H.264) or a .gif that repeats.

    Raises:
        InputError: there is no ffmpeg, or the file cannot be written.
    """
    with replacing(path) as temporary:
        if path.suffix.lower() == ".gif":
            _write_gif(frames, fps, temporary)
        else:
            _write_mp4(frames, fps, temporary)


def picture_names(names: list[str]) -> list[str]:
    """PNG names for photos, all different: a.jpg -> a.png, or a.jpg.png where a second one would take that.

    Folders are kept, except .. and the root, so that no picture is written outside its folder.
    """
    inner = [PurePosixPath(*(p for p in PurePosixPath(name).parts if p not in ("/", ".."))) for name in names]
    plain = [str(name.with_suffix(".png")) for name in inner]
    short = [p if plain.count(p) == 1 else f"{name}.png" for p, name in zip(plain, inner, strict=True)]
    return short if len(set(short)) == len(short) else [f"{name}.png" for name in inner]


def check_writer(kind: str) -> None:
    """Check that files of a kind (png, png16, exr, mp4, gif) can be written.

    Raises:
        InputError: a package is missing.
    """
    if kind == "exr":
        _open_exr()
    elif kind == "mp4":
        _find_ffmpeg()


def check_speed(kind: str, fps: float) -> None:
    """Raises InputError for frames per second that a video of this kind cannot have."""
    slowest, fastest = SPEEDS[kind]
    if not slowest <= fps <= fastest:
        raise InputError(f"`fps` of a {kind} must be from {slowest:g} to {fastest:g}, not {fps:g}.")


def _write_mp4(frames: Sequence[Path], fps: float, path: Path) -> None:
    # Players want yuv420p, which wants even sides: an odd last row or column is left out.
    first = photos.read_photo(frames[0])
    height, width = (side // 2 * 2 for side in first.shape[:2])
    if not (width and height):
        raise InputError(f"A video needs pictures of at least 2x2 px, not {first.shape[1]}x{first.shape[0]}.")
    command = [
        *(_find_ffmpeg(), "-y", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}", "-i", "-"),
        # The matrix that players assume for HD. Without a mark they guess it by the size, and colours shift.
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"),
        *("-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
        *("-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
        f"file:{path}",
    ]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=errors, stderr=errors) as ffmpeg,
    ):
        assert ffmpeg.stdin is not None
        with suppress(BrokenPipeError):  # ffmpeg has ended with an error, which it has printed
            for frame in frames:
                ffmpeg.stdin.write(np.ascontiguousarray(photos.read_photo(frame)[:height, :width]).tobytes())
            ffmpeg.stdin.close()
        if ffmpeg.wait() != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise OSError(f"ffmpeg: {said[-1]}")


def _write_gif(frames: Sequence[Path], fps: float, path: Path) -> None:
    def pictures() -> Iterator[Image.Image]:
        for frame in frames:
            image = Image.fromarray(photos.read_photo(frame))
            colors = image.quantize(256)  # takes no dither without a palette
            yield image.quantize(palette=colors, dither=Image.Dither.FLOYDSTEINBERG)

    first, *rest = pictures()
    # GIF counts in hundredths of a second: each frame begins at the nearest one.
    begins = [round(100 * index / fps) for index in range(len(frames) + 1)]
    durations = [10 * (end - begin) for begin, end in pairwise(begins)]
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0)


def _open_exr() -> Any:
    return optional_package(
        "OpenEXR",
        "Writing .exr needs the package OpenEXR: run `pip install OpenEXR`, or choose `format=png16`.",
    )


def _find_ffmpeg() -> str:
    """The program that comes with the package imageio-ffmpeg, or the system's."""
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        if found := shutil.which("ffmpeg"):
            return found
        raise InputError(
            "Writing .mp4 needs ffmpeg: run `pip install imageio-ffmpeg`, or let `out` end in "
            ".gif, or a folder for single pictures."
        ) from error


def _pixels(picture: Tensor, dtype: np.dtype) -> np.ndarray:
    """(H, W, 3) or (H, W) of (3, H, W) or (H, W), clamped to [0, 1] and rounded."""
    values = picture if picture.dim() == 2 else torch.movedim(picture, 0, -1)
    return np.ascontiguousarray(photos.from_float(values.detach().cpu().numpy(), dtype))
