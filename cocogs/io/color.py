"""Colours of a photo -> sRGB, by its ICC profile or the code points that HEIF and AVIF files have instead.

8-bit colours are converted by LittleCMS (`PIL.ImageCms`), for which Pillow has no 16-bit RGB. 16-bit colours
and grey are converted here, for the profiles that cameras and editors write: three curves and a matrix, or
one curve for grey (ICC.1:2022, 9.2 and 10). Both convert relative to white; colours outside sRGB are clipped.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageCms

from cocogs import srgb
from cocogs.io.pixels import from_float, largest

# Linear light of sRGB from XYZ under D50, which all profiles speak (IEC 61966-2-1, Bradford-adapted).
_SRGB_FROM_XYZ = np.linalg.inv(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
# XYZ under D50 of Adobe RGB (1998), whose curve is a power of 563/256.
_XYZ_FROM_ADOBE = np.array(
    [
        [0.6097559, 0.2052401, 0.1492240],
        [0.3111242, 0.6256560, 0.0632197],
        [0.0194811, 0.0608902, 0.7448387],
    ]
)
# A profile that moves no colour further than this (of 255) is sRGB: pixels stay as they are.
_SAME = 2
# Rows converted at a time.
_ROWS = 256

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Simple:
    """A profile of curves and a matrix.

    Args:
        curves: of each channel, encoded to linear light, both in [0, 1].
        to_srgb: (3, 3), linear light of the profile to linear light of sRGB; None for grey.
    """

    curves: tuple[Curve, ...]
    to_srgb: np.ndarray | None


def adobe_rgb_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 sRGB of Adobe RGB (1998)."""
    return _convert(pixels, _Simple((lambda v: v ** (563 / 256),) * 3, _SRGB_FROM_XYZ @ _XYZ_FROM_ADOBE))


def to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 sRGB of pixels in an ICC profile's colours.

    Pixels stay as they are where the profile is sRGB, damaged, for another kind of pixels, or, with 16 bits,
    one of tables.
    """
    return pixels if leaves_colors(profile) else _apply(pixels, profile)


def _apply(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    if kind(profile) == "GRAY" and (pixels != pixels[..., :1]).any():  # a grey profile in a file of colours
        return pixels
    if kind(profile) == "GRAY" or pixels.dtype == np.uint16:
        simple = _parse(profile)
        return pixels if simple is None else _convert(pixels, simple)
    transform = _transform(profile, "RGB")
    if transform is None:
        return pixels
    converted = np.empty_like(pixels)
    for rows in _strips(len(pixels)):
        strip = Image.fromarray(np.ascontiguousarray(pixels[rows]))
        converted[rows] = np.asarray(ImageCms.applyTransform(strip, transform))
    return converted


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """RGB of a CMYK image, by its profile where that is one for CMYK, else by Pillow's plain formula."""
    transform = _transform(profile, "CMYK") if kind(profile) == "CMYK" else None
    converted = image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


def cicp_to_srgb(pixels: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """(H, W, 3) uint8 or uint16 sRGB of pixels in the colours of two code points (ITU-T H.273).

    Of HDR, what is brighter than reference white is white (203 cd/m^2, or 75 % of HLG's
    signal; ITU-R BT.2408).
    """
    if leaves_cicp(primaries, transfer):
        return pixels
    to_srgb = _SRGB_FROM_PRIMARIES.get(primaries)
    return _convert(pixels, _Simple((_TRANSFERS.get(transfer, decode),) * 3, to_srgb))


def leaves_cicp(primaries: int, transfer: int) -> bool:
    """The code points are sRGB's, or ones whose pixels are shown like sRGB's, or unknown ones."""
    return primaries not in _SRGB_FROM_PRIMARIES and transfer not in _TRANSFERS


def kind(profile: bytes) -> str:
    """The pixels that a profile is for: RGB, GRAY, CMYK, ...; empty where it is no profile."""
    return profile[16:20].decode("ascii", "replace").strip() if profile[36:40] == b"acsp" else ""


@lru_cache(maxsize=16)
def leaves_colors(profile: bytes) -> bool:
    """A profile for RGB or grey that leaves a grid of colours as they are; or one that cannot be used."""
    if kind(profile) not in ("RGB", "GRAY"):
        return True
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    if kind(profile) == "GRAY":
        grid = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    return bool(np.abs(_apply(grid, profile).astype(int) - grid).max() <= _SAME)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """LittleCMS's way from a profile to sRGB, relative to white; None where it cannot read the profile."""
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except Exception:  # ImageCms raises PyCMSError, OSError, ... for damaged profiles
        return None


def _convert(pixels: np.ndarray, profile: _Simple) -> np.ndarray:
    """(H, W, 3) of the same type: curves, matrix, and sRGB's curve."""
    values = np.arange(largest(pixels) + 1) / largest(pixels)
    tables = [curve(values).astype(np.float32) for curve in profile.curves]
    converted = np.empty_like(pixels)
    for rows in _strips(len(pixels)):
        light = np.stack([tables[c % len(tables)][pixels[rows, :, c]] for c in range(3)], axis=-1)
        if profile.to_srgb is not None:
            light = light @ profile.to_srgb.T.astype(np.float32)
        converted[rows] = from_float(encode(light.clip(0, 1)), pixels.dtype)
    return converted


def _strips(height: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, height, _ROWS)]


def encode(light: np.ndarray) -> np.ndarray:
    """sRGB's curve, as `cocogs.srgb` has it for tensors."""
    return srgb.to_srgb(torch.from_numpy(light)).numpy()


def decode(values: np.ndarray) -> np.ndarray:
    """Inverse of `encode`."""
    return srgb.to_linear(torch.from_numpy(values)).numpy()


def _from_pq(values: np.ndarray) -> np.ndarray:
    """Light, 1 at reference white, of the perceptual quantizer (SMPTE ST 2084; BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    return 10000 / _REFERENCE_WHITE * ((power - c1).clip(0) / (c2 - c3 * power)) ** (1 / m1)


def _from_hlg(values: np.ndarray) -> np.ndarray:
    """Light of the scene, 1 at reference white, of hybrid log-gamma (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073

    def light(signal: np.ndarray) -> np.ndarray:
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)

    return light(values) / light(np.array(0.75))


def _from_primaries(*corners: tuple[float, float]) -> np.ndarray:
    """(3, 3), linear light of sRGB from that of red, green and blue at these (x, y), white at D65."""

    def xyz_from_rgb(*corners: tuple[float, float]) -> np.ndarray:
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*corners, (0.3127, 0.3290))]).T
        return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])

    own = xyz_from_rgb((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
    return np.linalg.inv(own) @ xyz_from_rgb(*corners)


# cd/m^2 (ITU-R BT.2408).
_REFERENCE_WHITE = 203
# By their code points in ITU-T H.273: BT.2020 and Display P3. Others count as sRGB's.
_SRGB_FROM_PRIMARIES = {
    9: _from_primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: _from_primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
# To linear light. Others are shown like sRGB.
_TRANSFERS: dict[int, Curve] = {
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    16: _from_pq,
    18: _from_hlg,
}


@lru_cache(maxsize=16)
def _parse(profile: bytes) -> _Simple | None:
    """Curves and matrix of a profile; None where it has tables instead, or is damaged."""
    try:
        tags = _tags(profile)
        if "A2B0" in tags:
            return None
        if kind(profile) == "GRAY":
            return _Simple((_curve(tags["kTRC"]),), None)
        columns = [np.array(struct.unpack(">3i", tags[f"{c}XYZ"][8:20])) / 65536 for c in "rgb"]
        to_srgb = _SRGB_FROM_XYZ @ np.stack(columns, axis=1)
        return _Simple(tuple(_curve(tags[f"{c}TRC"]) for c in "rgb"), to_srgb)
    except (KeyError, struct.error, ValueError, IndexError):
        return None


def _tags(profile: bytes) -> dict[str, bytes]:
    """The profile's elements by their four-letter signatures."""
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > 1000:
        raise ValueError("a damaged tag table")
    tags = {}
    for index in range(count):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        tags[name.decode("ascii", "replace")] = profile[offset : offset + size]
    return tags


def _curve(element: bytes) -> Curve:
    """A curve of the type `curv` or `para`."""
    if element[:4] == b"curv":
        (count,) = struct.unpack_from(">I", element, 8)
        numbers = np.array(struct.unpack_from(f">{min(count, 1 << 16)}H", element, 12))
        if count == 0:
            return lambda v: v
        if count == 1:
            return lambda v: v ** (numbers[0] / 256)
        return lambda v: np.interp(v, np.linspace(0, 1, len(numbers)), numbers / 65535)
    if element[:4] != b"para":
        raise ValueError("an unknown curve")
    (function,) = struct.unpack_from(">H", element, 8)
    count = (1, 3, 4, 5, 7)[function]
    g, a, b, c, d, e, f = _padded([n / 65536 for n in struct.unpack_from(f">{count}i", element, 12)])
    if function < 3:  # a power from -b/a up (a = 1 and b = 0 where there is none), plus c
        return lambda v: np.where(v >= -b / a, (a * v + b).clip(0) ** g, 0) + (c if function == 2 else 0)
    return lambda v: np.where(v >= d, (a * v + b).clip(0) ** g + e, c * v + f)


def _padded(numbers: list[float]) -> list[float]:
    """The seven parameters of a `para` curve, those it leaves out at values that change nothing."""
    return numbers + [1, 1, 0, 0, 0, 0, 0][len(numbers) :]
