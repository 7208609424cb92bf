"""Photos with a depth map inside, as phones write them, made small for tests."""

import base64
import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

XMP, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
GUID = b"0123456789ABCDEF0123456789ABCDEF"


def colors(height: int = 24, width: int = 32) -> np.ndarray:
    """(H, W, 3) uint8: the left half red, the right one blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = (200, 40, 30)
    pixels[:, width // 2 :] = (20, 40, 210)
    return pixels


def stored_map(height: int = 12, width: int = 16, dtype: type = np.uint8) -> np.ndarray:
    """(h, w): 0 on the left, the largest number on the right."""
    values = np.zeros((height, width), dtype)
    values[:, width // 2 :] = np.iinfo(dtype).max
    return values


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG")
    return file.getvalue()


def jpeg(orientation: int = 1, pixels: np.ndarray | None = None) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colors() if pixels is None else pixels).save(file, format="JPEG", quality=95, exif=exif)
    return file.getvalue()


def app1(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def with_xmp(photo: bytes, xmp: bytes, extension: bytes = b"", step: int = 300) -> bytes:
    """A JPEG with XMP and, in blocks of `step` bytes, its extension."""
    blocks = [app1(XMP + xmp)]
    for at in range(0, len(extension), step):
        head = GUID + struct.pack(">II", len(extension), at)
        blocks.append(app1(EXTENSION + head + extension[at : at + step]))
    return photo[:2] + b"".join(blocks) + photo[2:]


def gdepth(values: np.ndarray, form: str = "RangeInverse", units: str = 'GDepth:Units="m"') -> bytes:
    """A JPEG with GDepth from 0.5 to 4 (metres)."""
    main = f'<x:xmpmeta xmpNote:HasExtendedXMP="{GUID.decode()}" GDepth:Format="{form}" GDepth:Near="0.5" '
    main += f'GDepth:Far="4" {units} GDepth:Mime="image/png"/>'
    data = base64.b64encode(png(values)).decode()
    return with_xmp(jpeg(), main.encode(), f'<rdf:RDF GDepth:Data="{data}"/>'.encode())


def dynamic_depth(values: np.ndarray, photo: bytes, length: int | None = None) -> bytes:
    """A JPEG with a picture and, after that, a depth map behind it, as Dynamic Depth describes them."""
    other, depth = jpeg(), png(values)
    items = [
        ("primary_image", "image/jpeg", 0, 'Item:Padding="3"'),
        ("android/original_image", "image/jpeg", len(other), ""),
        ("android/depthmap", "image/png", len(depth) if length is None else length, ""),
    ]
    said = "".join(
        f'<Container:Item Item:DataURI="{uri}" Item:Mime="{mime}" Item:Length="{size}" {more}/>'
        for uri, mime, size, more in items
    )
    said += '<Device:X DepthMap:DepthURI="android/depthmap" DepthMap:Format="RangeLinear" DepthMap:Near="1" '
    said += 'DepthMap:Far="3" DepthMap:Units="Meters"/>'
    return with_xmp(photo, said.encode()) + b"\0\0\0" + other + depth


def apple_jpeg(values: np.ndarray, apple: str, orientation: int = 1) -> bytes:
    """A JPEG with another picture and a depth map behind it, as iPhones save them."""
    grey = with_xmp(jpeg(1, np.dstack([values] * 3)), f"<x:xmpmeta>{apple}</x:xmpmeta>".encode())
    matte = with_xmp(jpeg(), b"<x:xmpmeta><apdi:NativeFormat>1278226488</apdi:NativeFormat></x:xmpmeta>")
    return jpeg(orientation) + b"\0" * 9 + matte + grey


def heic(path: Path, values: np.ndarray, apple: str = "") -> None:
    """A HEIC photo with a depth map: its alpha plane, called depth. pillow-heif cannot write depth maps.

    Args:
        values: (H, W) uint8 of the photo's size.
        apple: elements of Apple's XMP, which stands elsewhere in the file.
    """
    rgba = np.dstack([colors(*values.shape), values])
    pillow_heif.from_pillow(Image.fromarray(rgba)).save(path, quality=-1)
    alpha, depth = b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:hevc:2015:auxid:2"
    data = path.read_bytes()
    assert data.count(alpha) == 1
    free = f"<x:xmpmeta>{apple}</x:xmpmeta>".encode()
    path.write_bytes(data.replace(alpha, depth) + struct.pack(">I", len(free) + 8) + b"free" + free)
