"""From a video's frame to sRGB: the matrix and range of its YCbCr; `color` does the rest, HDR too.

Sources: ITU-R BT.601, BT.709, BT.2020 (matrices), ITU-T H.273 (their numbers, which are FFmpeg's).
"""

from typing import TYPE_CHECKING

import numpy as np

from cocogs.io import color
from cocogs.io.pixels import from_float

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_FULL = 2
_BT601, _BT709, _BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
_MATRIX = {1: _BT709, 5: _BT601, 6: _BT601, 9: _BT2020, 10: _BT2020}
"""Weights of red and blue in the brightness, by the matrix's number."""


def to_srgb(frame: "VideoFrame") -> np.ndarray:
    """(H, W, 3) uint8 sRGB of a frame, as it lies in the video."""
    deep = from_float(_rgb(frame).clip(0, 1), np.dtype(np.uint16))
    return (color.cicp_to_srgb(deep, frame.color_primaries, frame.color_trc) >> 8).astype(np.uint8)


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
