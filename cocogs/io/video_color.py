"""From a video's frame to sRGB: the matrix and range of its YCbCr, and high dynamic range (PQ, HLG).

Sources: ITU-R BT.601, BT.709, BT.2020 (matrices, primaries), BT.2100 (PQ, HLG), BT.2408 (reference white).
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# FFmpeg's numbers.
_PQ, _HLG, _FULL = 16, 18, 2
_BT601, _BT709, _BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
_MATRIX = {1: _BT709, 5: _BT601, 6: _BT601, 9: _BT2020, 10: _BT2020}
"""Weights of red and blue in the brightness, by the matrix's number."""
# Linear light, from BT.2020's primaries to sRGB's.
_TO_SRGB = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    dtype=np.float32,
)
_WHITE = 203.0  # cd/m^2 of white paper in a PQ video (BT.2408)
_HLG_WHITE = 0.75  # signal of white paper in an HLG video (BT.2408)


def to_srgb(frame: "VideoFrame") -> np.ndarray:
    """(H, W, 3) uint8 sRGB of a frame, as it lies in the video.

    White paper of a PQ or HLG video becomes white. What is brighter is clipped, as in
    photos; below, light stays linear, which a lens needs.
    """
    rgb = _rgb(frame)
    if frame.color_trc in (_PQ, _HLG):
        light = pq_light(rgb) / _WHITE if frame.color_trc == _PQ else hlg_light(rgb) / hlg_light(_HLG_WHITE)
        light = (light @ _TO_SRGB.T).clip(0, 1)
        rgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    # BT.709's curve is meant to be seen as sRGB's is: videos of standard range stay as they are.
    return (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Luminance in cd/m^2 of a PQ signal in [0, 1] (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.asarray(signal).clip(0, 1) ** (1 / m2)
    return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def hlg_light(signal: np.ndarray | float) -> np.ndarray:
    """Light of the scene in [0, 1] of an HLG signal in [0, 1] (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.asarray(signal).clip(0, 1)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _rgb(frame: "VideoFrame") -> np.ndarray:
    """(H, W, 3) float32 R'G'B', about [0, 1]."""
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb48le").astype(np.float32) / 65535
    bits = frame.format.components[0].bits
    # Chroma in full size; neither matrix nor range change.
    whole = frame if frame.format.name.startswith(("yuv444", "yuvj444")) else _upsampled(frame, bits)
    planes = [_plane(plane, bits, frame.width, frame.height) for plane in whole.planes[:3]]
    top = float((1 << bits) - 1)
    if frame.color_range == _FULL or frame.format.name.startswith("yuvj"):
        y, cb, cr = planes[0] / top, *((plane - (1 << (bits - 1))) / top for plane in planes[1:])
    else:
        unit = 1 << (bits - 8)
        y = (planes[0] - 16 * unit) / (219 * unit)
        cb, cr = ((plane - 128 * unit) / (224 * unit) for plane in planes[1:])
    # Unnamed: small pictures are BT.601's, large ones BT.709's, as players do.
    usual = _BT709 if frame.height >= 720 else _BT601
    red, blue = _MATRIX.get(int(frame.colorspace), usual)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], axis=-1)


def _upsampled(frame: "VideoFrame", bits: int) -> "VideoFrame":
    kind = "yuvj444p" if frame.format.name.startswith("yuvj") else "yuv444p"
    return frame.reformat(format=kind if bits == 8 else f"yuv444p{bits}le")


def _plane(plane, bits: int, width: int, height: int) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
    return rows[:height, :width].astype(np.float32)
