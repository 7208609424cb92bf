"""Depth maps inside photos: portraits of iPhones (HEIC) and of Android phones (JPEG with Google's GDepth, or
with Dynamic Depth).

Files may be hostile: every length is checked, and XMP is searched for names, never expanded.
"""

import binascii
import io
import math
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocogs.errors import InputError, reason_of
from cocogs.io import decoding, photos
from cocogs.io.depth_file import BEYOND, DepthKind, StoredDepth, known
from cocogs.io.exif import read_exif, read_orientation

MOST_PIXELS = 1 << 26  # of a depth map inside a photo
MOST_XMP = 1 << 27  # bytes
MOST_PACKETS, LONGEST_PACKET = 32, 1 << 16  # packets of XMP that are looked at, and bytes of each
FARTHEST_NEXT = 1 << 16  # bytes between a photo's end and the picture that follows it
NEAREST = 1e-6  # of distances that can be meant
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
# The next marker within a scan of a JPEG: neither a stuffed 255, nor a restart, nor a filling byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# XMP tells NAME="VALUE", or <NAME>VALUE<. No value holds < or >, so each byte is looked at once.
_VALUE = rb"(?<!/)\b%s:(\w+)[ \t\r\n]{0,20}(?:=[ \t\r\n]{0,20}[\"']|>)([^\"'<>]*)[\"'<]"
_GDEPTH, _DEPTHMAP, _APPLE = (
    re.compile(_VALUE % name) for name in (b"GDepth", b"DepthMap", b"(?:apdi|depthData)")
)
_EXTENDED = re.compile(rb"xmpNote:HasExtendedXMP[ \t\r\n]{0,20}(?:=[ \t\r\n]{0,20}[\"']|>)([0-9A-Fa-f]{32})")
_PACKET = re.compile(rb"<x:xmpmeta")
_ITEM = re.compile(rb"<\w+:Item\b([^<>]*)>")
_ATTRIBUTE = re.compile(rb"\w+:(\w+)[ \t\r\n]{0,20}=[ \t\r\n]{0,20}[\"']([^\"'<>]*)[\"']")
_REFERENCE = re.compile(rb"&#\w{1,6};|\s")  # line ends within an attribute
_FORMATS = {
    "1751411059": "disparity",
    "1717856627": "disparity",
    "1751410032": "depth",
    "1717855600": "depth",
}
"""Apple's NativeFormat: the letters hdis, fdis, hdep, fdep as numbers."""


def read_depth_inside(path: Path) -> StoredDepth | None:
    """The depth map that a photo holds, turned upright with it; None where there is none.

    Raises:
        InputError: the photo cannot be read, or it says that it holds a depth map and does not.
    """
    with decoding.opened(path) as image:
        kind, orientation, size = image.format, read_orientation(read_exif(image)), image.size
        images = image.info.get("depth_images") or []
    if kind == "HEIF":
        return _of_heif(path, images[0]) if images else None
    if kind not in ("JPEG", "MPO"):
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _of_jpeg(path, data)
    return None if found is None else _turned(found, orientation, size)


def _turned(found: StoredDepth, orientation: int, size: tuple[int, int]) -> StoredDepth:
    """The depth map, stored like the photo's pixels, turned as the photo is; some are stored upright.

    Args:
        size: of the photo as stored.
    """
    height, width = found.values.shape
    if orientation >= 5 and (width - height) * (size[0] - size[1]) < 0:
        return found
    values = photos.turned(found.values, orientation)
    return StoredDepth(values, found.kind, found.metric, found.source, found.warnings)


def _of_heif(path: Path, image: Any) -> StoredDepth:
    """Apple's, of 8 bit. libheif turns them as it turns the photo."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _broken(path, f"of {width}x{height} px")
    try:
        pixels = np.asarray(image)
    except Exception as error:  # libheif's own
        raise _broken(path, f"that cannot be read ({reason_of(error)})") from error
    share = pixels[..., 0] if pixels.ndim == 3 else pixels
    share = share.astype(np.float32) / np.float32(255 if share.dtype == np.uint8 else share.max() or 1)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        apple = _apple_names(data)
    return _of_apple(path, share, image.info.get("metadata") or {}, apple)


def _apple_names(data: Any) -> dict[str, str]:
    """What Apple's XMP says of a depth map; mattes beside it have XMP of the same kind."""
    for start in islice(_PACKET.finditer(data), MOST_PACKETS):
        names = _names(
            _APPLE, data[start.start() : start.start() + LONGEST_PACKET].partition(b"</x:xmpmeta>")[0]
        )
        if names.get("AuxiliaryImageType") in ("depth", "disparity") or "Accuracy" in names:
            return names
    return {}


def _of_apple(path: Path, share: np.ndarray, said: dict[str, Any], apple: dict[str, str]) -> StoredDepth:
    """Depth or disparity, evenly from a least to a largest value.

    Args:
        said: by the image itself, as libheif tells it.
    """
    least = _number(said.get("d_min", apple.get("FloatMinValue")))
    most = _number(said.get("d_max", apple.get("FloatMaxValue")))
    kind = _kind_of_apple(said, apple)
    source = f"the depth map inside {path}"
    if least is None or most is None or not least < most:
        note = f"{path} does not tell the range of its depth map: it is read as disparity."
        return StoredDepth(share, "disparity", False, source, (note,))
    values = least + share * np.float32(most - least)
    if apple.get("Accuracy", "absolute" if apple else "") == "absolute":
        return StoredDepth(known(values, kind), kind, True, source)
    note = f"The phone calls the depth map inside {path} relative: its metres are not relied on."
    if kind == "inverse" and least <= 0:  # one over it would be negative
        return StoredDepth(values, "disparity", False, source, (note,))
    return StoredDepth(known(values, kind), kind, False, source, (note,))


def _kind_of_apple(said: dict[str, Any], apple: dict[str, str]) -> DepthKind:
    """Apple's own words first: it stores depth, too, with the mark of disparity."""
    word = _FORMATS.get(apple.get("NativeFormat", ""), apple.get("AuxiliaryImageType"))
    if word == "depth" or (word is None and said.get("representation_type") == 2):
        return "depth"
    return "inverse"


@dataclass(frozen=True)
class _Range:
    """How Google's formats map stored shares from 0 to 1 to distances
    (developers.google.com/depthmap-metadata)."""

    near: float
    far: float
    inverse: bool
    metric: bool

    def depth(self, share: np.ndarray) -> np.ndarray:
        if self.inverse:
            nearness = 1 / self.near - share * (1 / self.near - 1 / self.far)
            with np.errstate(divide="ignore"):
                return 1 / nearness.clip(0)
        return self.near + share * (self.far - self.near)


def _of_jpeg(path: Path, data: Any) -> StoredDepth | None:
    blocks, end = _read_jpeg(data)
    xmp = b"".join(_xmp_of(path, blocks, len(data)))
    simple = _names(_GDEPTH, xmp)
    dynamic = _names(_DEPTHMAP, xmp)
    if "Data" in simple:
        stored, said = _from_base64(path, simple["Data"]), simple
    else:
        place = _place_of_item(path, xmp, dynamic, data, end)
        if place is None:
            return _of_apple_jpeg(path, data, end)
        stored, said = data[place], dynamic
    share = _shares(path, stored)
    source = f"the depth map inside {path}"
    span = _range_of(said)
    if span is None:
        note = f"{path} does not tell the range of its depth map: it is read as disparity, far is bright."
        return StoredDepth(1 - share, "disparity", False, source, (note,))
    notes = () if span.metric else (f"The depth map inside {path} has no unit.",)
    if said.get("MeasureType") == "OpticRay":
        notes += (f"{path} measures depth along rays; it is taken as if along the axis.",)
    values = known(span.depth(share).astype(np.float32), "depth")
    return StoredDepth(values, "depth", span.metric, source, notes)


def _of_apple_jpeg(path: Path, data: Any, end: int) -> StoredDepth | None:
    """Of an iPhone that saves JPEG: others follow the photo, one of them the depth map, as its XMP says."""
    for _ in range(MOST_PACKETS):
        start = data.find(b"\xff\xd8\xff", end, end + FARTHEST_NEXT)
        if start < 0:
            return None
        blocks, length = _read_jpeg(part := data[start:])
        apple = _apple_names(b"".join(block for block in blocks if block.startswith(_XMP)))
        if apple:
            return _of_apple(path, _shares(path, part[:length]), {}, apple)
        end = start + length
    return None


def _range_of(said: dict[str, str]) -> _Range | None:
    near, far = _number(said.get("Near")), _number(said.get("Far"))
    if near is None or far is None:
        return None
    unit = said.get("Units", "").lower()
    scale = 0.001 if unit in ("mm", "millimeters") else 1.0
    if unit == "diopters" and near > 0 and far >= 0:
        near, far = 1 / near, (1 / far if far else math.inf)
    form = said.get("Format", "")
    if not NEAREST < near < far or form not in ("RangeLinear", "RangeInverse"):
        return None
    if math.isinf(far) and form == "RangeLinear":
        return None
    metric = unit in ("m", "mm", "meters", "millimeters", "diopters")
    return _Range(near * scale, far * scale, form == "RangeInverse", metric)


def _read_jpeg(data: Any) -> tuple[list[bytes], int]:
    """The APP1 blocks of a JPEG, and where it ends."""
    blocks, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return blocks, at + 2
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if marker == 0xE1:
            blocks.append(data[at + 4 : at + 2 + length])
        at += 2 + max(length, 2)
        if marker == 0xDA:
            following = _MARKER.search(data, at)
            at = following.start() if following else len(data)
    return blocks, min(at + 2, len(data)) if data[at : at + 2] == b"\xff\xd9" else len(data)


def _xmp_of(path: Path, blocks: list[bytes], size: int) -> Iterator[bytes]:
    """The XMP, and its extension where it has one: in blocks of 64 kB (XMP specification 3, 1.1.3.1)."""
    guid = b""
    for block in blocks:
        if block.startswith(_XMP):
            yield block[len(_XMP) :]
            if found := _EXTENDED.search(block):
                guid = found[1]
    parts = [block[len(_EXTENSION) :] for block in blocks if guid and block.startswith(_EXTENSION + guid)]
    if not parts:
        return
    if any(len(part) < 40 for part in parts):
        raise _broken(path, "in a damaged block")
    (full,) = struct.unpack(">I", parts[0][32:36])
    placed = sorted((struct.unpack(">I", part[36:40])[0], part[40:]) for part in parts)
    if full > min(MOST_XMP, size):
        raise _broken(path, f"of {full} bytes, more than the file has")
    at = 0
    for offset, part in placed:
        if offset != at:
            raise _broken(path, "in blocks of which some are missing")
        at += len(part)
    if at != full:
        raise _broken(path, "in blocks of which some are missing")
    yield b"".join(part for _, part in placed)


def _place_of_item(path: Path, xmp: bytes, said: dict[str, str], data: Any, end: int) -> slice | None:
    """Where the depth map lies after the end of the photo (Dynamic Depth 1.0, "Container")."""
    items = [
        {k.decode(): v.decode("latin1") for k, v in _ATTRIBUTE.findall(m[1])} for m in _ITEM.finditer(xmp)
    ]
    uri, at = said.get("DepthURI"), end
    for index, item in enumerate(items):
        length = _whole(item.get("Length", "0"))
        is_depth = item.get("Semantic", "").lower() == "depth" or (uri and item.get("DataURI") == uri)
        if is_depth and index > 0:
            if not 0 < length <= len(data) - at:
                raise _broken(path, "beyond the end of the file")
            return slice(at, at + length)
        at += (length if index > 0 else 0) + _whole(item.get("Padding", "0"))
    return None


def _from_base64(path: Path, text: str) -> bytes:
    try:
        return binascii.a2b_base64(_REFERENCE.sub(b"", text.encode("latin1")))
    except (binascii.Error, ValueError) as error:
        raise _broken(path, f"that cannot be decoded ({reason_of(error)})") from error


def _shares(path: Path, stored: bytes) -> np.ndarray:
    """(H, W) float32 from 0 to 1 of a JPEG or PNG within the photo."""
    try:
        with decoding.calm(), Image.open(io.BytesIO(stored), formats=("JPEG", "PNG")) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width}x{height} px")
            deep = image.mode.startswith("I")
            pixels = np.asarray(image if deep else image.convert("L"), dtype=np.float32)
    except Exception as error:  # Pillow raises a different type for every way a file can be broken
        raise _broken(path, f"that is no picture ({reason_of(error)})") from error
    return pixels / np.float32(65535 if deep else 255)


def _names(pattern: re.Pattern[bytes], data: Any) -> dict[str, str]:
    """The values of a namespace by their names, the first of each."""
    found: dict[str, str] = {}
    for match in pattern.finditer(data):
        found.setdefault(match[1].decode("latin1"), match[2].decode("latin1").strip())
    return found


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < BEYOND else None


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _broken(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} says that it holds a depth map, {what}: take the photo as the phone saved it, or give "
        "`depth`."
    )
