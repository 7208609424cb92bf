"""Panoramas of a dataset: which of its photos are 360-degree ones, and their faces as files.

Of a panorama a.jpg, the faces are a_front.jpg, a_right.jpg, ... (`cocogs.io.panorama`). They are made once.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from cocogs.errors import InputError
from cocogs.io.atomic import replacing, write_text
from cocogs.io.json_file import read_own_json
from cocogs.io.panorama import FACES, cut_face, face_size
from cocogs.io.photos import PhotoHeader, exif_for_copy, read_header, read_mask, read_photo, write_png
from cocogs.io.progress import Progress, Say

# A photo of this shape is at least so wide if it is a panorama that does not say so. px
LIKELY_WIDTH = 2000
QUALITY = 97  # of the JPEG files
_STAMP = "faces.json"
_VERSION = 1


@dataclass(frozen=True)
class Face:
    """A face of a panorama, as a file.

    Args:
        name: what it is called as a photo: the panorama's name, but PANORAMA_front.jpg for PANORAMA.jpg.
        panorama: the panorama's name, relative to the folder of photos.
        direction: a name in `panorama.FACES`.
        size: width and height in px.
        path: the file.
        mask: its mask; None where the panorama has none.
    """

    name: str
    panorama: str
    direction: str
    size: int
    path: Path
    mask: Path | None


def find_panoramas(folder: Path, names: Sequence[str], stated: bool, say: Say) -> dict[str, PhotoHeader]:
    """Headers of the panoramas among photos, by name.

    A panorama is a photo that Google's Photo Sphere metadata call equirectangular, as 360-degree cameras
    write them. Others of their shape are told.

    Args:
        stated: the user says that all photos which are twice as wide as high are panoramas.

    Raises:
        InputError: a photo is unreadable or shows a part of the sphere only; or none is twice as wide as
            high, though the user says so.
    """
    headers = {name: read_header(folder / name) for name in names}
    found = {
        name: header
        for name, header in headers.items()
        if dict(header.gpano).get("ProjectionType") == "equirectangular" or (stated and _is_double(header))
    }
    for name, header in found.items():
        _check_whole(folder / name, header)
    if stated and not found:
        raise InputError(
            f"`panoramas`: no photo in {folder} is twice as wide as high, as 360-degree photos are: leave "
            "it out."
        )
    alike = [name for name in names if name not in found and _may_be(headers[name])]
    if alike:
        say(
            f"{len(alike)} of {len(names)} photos have the shape of 360-degree photos ({alike[0]}), but no "
            "metadata say that they are: they are taken for ordinary ones. Set `panoramas` if they show all "
            "around."
        )
    return found


def _is_double(header: PhotoHeader) -> bool:
    """Twice as wide as high, but for a pixel."""
    return abs(header.width - 2 * header.height) <= 1


def _may_be(header: PhotoHeader) -> bool:
    return _is_double(header) and header.width >= LIKELY_WIDTH


def _check_whole(path: Path, header: PhotoHeader) -> None:
    """Raises InputError where a panorama does not show every direction once."""
    gpano = dict(header.gpano)
    whole, part = (
        tuple(gpano.get(f"{of}{side}Pixels", "") for side in ("Width", "Height"))
        for of in ("FullPano", "CroppedAreaImage")
    )
    if "" not in (*whole, *part) and whole != part:
        raise InputError(
            f"{path} shows a part of the sphere only ({'x'.join(part)} of {'x'.join(whole)} px by its "
            "metadata): give 360-degree photos that show all of it, or take it out."
        )
    if not _is_double(header):
        raise InputError(
            f"{path} is a 360-degree photo by its metadata, but its {header.width}x{header.height} px are "
            "not twice as wide as high: give it whole, and only one of a stereo pair."
        )


def taken_name(path: Path, face: Face) -> InputError:
    """The error about a photo that is called as a face is."""
    return InputError(f"{path} has the name of a face of {face.panorama}: rename it.")


def cut_panoramas(
    folder: Path,
    panoramas: Mapping[str, PhotoHeader],
    masks: Mapping[str, Path],
    cache: Path,
    settled: bool,
    say: Say,
) -> list[Face]:
    """The faces of panoramas; made unless they lie in `cache`, one panorama after the other.

    Args:
        masks: of panoramas, by name; as large as they are.
        settled: a scene was trained with the faces that lie there.

    Raises:
        InputError: a panorama or mask is damaged, a mask has another size, two panoramas would have faces of
            the same names, or the cache cannot be written.
    """
    _check_names(folder, panoramas)
    stamps = read_own_json(cache / _STAMP)
    stamps = stamps if isinstance(stamps, dict) else {}
    progress = Progress("Cutting 360-degree photos into faces", len(panoramas), say, patience=2)
    found = []
    for name, header in panoramas.items():
        faces = _faces_of(name, header, name in masks, cache)
        stamp = [_VERSION, *_status(folder / name), *(_status(masks[name]) if name in masks else ())]
        is_there = all(face.path.is_file() and (not face.mask or face.mask.is_file()) for face in faces)
        if not (is_there and (settled or stamps.get(name) == stamp)):
            _cut(folder / name, faces, masks.get(name), header)
            stamps[name] = stamp
            write_text(cache / _STAMP, json.dumps(stamps))
        found += faces
        progress.add(1)
    return found


def _check_names(folder: Path, panoramas: Mapping[str, PhotoHeader]) -> None:
    stems: dict[str, str] = {}
    for name in panoramas:
        other = stems.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise InputError(
                f"{folder} holds {other} and {name}, whose faces would have the same names: rename one."
            )


def _faces_of(name: str, header: PhotoHeader, has_mask: bool, cache: Path) -> list[Face]:
    stem, suffix, size = os.path.splitext(name)[0], _suffix(header), face_size(header.width)
    return [
        Face(
            name=f"{stem}_{direction}{suffix}",
            panorama=name,
            direction=direction,
            size=size,
            path=cache / "images" / f"{stem}_{direction}{suffix}",
            mask=cache / "masks" / f"{stem}_{direction}.png" if has_mask else None,
        )
        for direction in FACES
    ]


def _suffix(header: PhotoHeader) -> str:
    return ".jpg" if header.bytes_per_value == 1 else ".png"


def _status(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _cut(path: Path, faces: list[Face], mask: Path | None, header: PhotoHeader) -> None:
    pixels, exif = read_photo(path), _exif(path)
    for face in faces:
        picture = cut_face(pixels, face.direction, face.size)
        with replacing(face.path) as temporary:
            if picture.dtype == np.uint8:
                Image.fromarray(picture).save(temporary, quality=QUALITY, subsampling=0, exif=exif)
            else:
                write_png(temporary, picture)
    if mask is None:
        return
    is_used = read_mask(mask)
    if is_used.shape != pixels.shape[:2]:
        raise InputError(
            f"{mask} has {is_used.shape[1]}x{is_used.shape[0]} px but its photo has {header.width}x"
            f"{header.height}: make the mask as large as the photo, or remove it."
        )
    coverage = np.where(is_used, 255, 0).astype(np.uint8)[..., None]
    for face in faces:
        assert face.mask is not None
        with replacing(face.mask) as temporary:
            cut = cut_face(coverage, face.direction, face.size)[..., 0]
            write_png(temporary, np.where(cut > 127, 255, 0).astype(np.uint8))


def _exif(path: Path) -> bytes:
    """The panorama's camera, f-number and place. Its focal length in 35 mm terms is not the faces'."""
    exif = Image.Exif()
    exif.load(exif_for_copy(path))
    exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.FocalLengthIn35mmFilm, None)
    return exif.tobytes()
