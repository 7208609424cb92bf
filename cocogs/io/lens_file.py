"""The lens file: cameras and lenses of a scene's photos (docs/lens-json.md).

A training writes RUN/lens.json. `cocogs export` writes SCENE.lens.json beside the splats, where
`cocogs view SCENE.ply` finds it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.io.camera_path import camera_from_values, camera_values, number

SCHEMA = "cocogs-lens/1"


@dataclass(frozen=True)
class LensPhoto:
    """A photo of the scene.

    Args:
        focus_distance, aperture_diameter: learned; scene units, > 0; None where none was, as for test photos.
        f_number, focal_length_mm: by EXIF.
        K: learned; px x scene unit, > 0.
        softness_px: learned; standard deviation of what blurs all of the photo alike, >= 0.
    """

    name: str
    is_test: bool
    camera: Camera
    focus_distance: float | None = None
    aperture_diameter: float | None = None
    f_number: float | None = None
    focal_length_mm: float | None = None
    K: float | None = None
    softness_px: float | None = None


@dataclass(frozen=True)
class LensFile:
    """What the file says.

    Args:
        aperture_diameter: typical diameter of the lens, scene units; None where none was learned.
        f_number: of that aperture, and
        metres: in a scene unit; None where EXIF does not tell.
    """

    aperture_diameter: float | None
    f_number: float | None
    metres: float | None
    photos: Sequence[LensPhoto]

    @property
    def focus_distance(self) -> float | None:
        """The photos' median, scene units."""
        distances = [p.focus_distance for p in self.photos if p.focus_distance is not None]
        return median_low(distances) if distances else None


def write_lens_file(file: LensFile, path: Path) -> None:
    """Raises InputError if it cannot be written."""
    document = {
        "schema": SCHEMA,
        "aperture_diameter": file.aperture_diameter,
        "f_number": file.f_number,
        "metres_per_unit": file.metres,
        "photos": [
            {
                "name": photo.name,
                "test": photo.is_test,
                **camera_values(photo.camera),
                "focus_distance": photo.focus_distance,
                "aperture_diameter": photo.aperture_diameter,
                "K": photo.K,
                "softness_px": photo.softness_px,
                "f_number": photo.f_number,
                "focal_length_mm": photo.focal_length_mm,
            }
            for photo in file.photos
        ],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")


def read_lens_file(path: Path) -> LensFile:
    """Read it back.

    Raises:
        InputError: it is not such a file; the message names the photo.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): export again, or delete it.") from error
    entries = document.get("photos") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or document.get("schema") != SCHEMA:
        raise InputError(f"{path} is not what `cocogs export` writes: export again, or move it away.")
    return LensFile(
        aperture_diameter=_positive(document, "aperture_diameter", str(path)),
        f_number=_positive(document, "f_number", str(path)),
        metres=_positive(document, "metres_per_unit", str(path)),
        photos=[_photo(entry, f"{path}, photo {index}") for index, entry in enumerate(entries)],
    )


def _photo(entry: Any, place: str) -> LensPhoto:
    camera = camera_from_values(entry, place)
    names = ("focus_distance", "aperture_diameter", "f_number", "focal_length_mm", "K")
    values = {name: _positive(entry, name, place) for name in names}
    if (values["focus_distance"] is None) != (values["aperture_diameter"] is None):
        raise InputError(f'{place}: "focus_distance" and "aperture_diameter" go together: write it again.')
    name, is_test = str(entry.get("name", "")), bool(entry.get("test"))
    softness = None if entry.get("softness_px") is None else number(entry, "softness_px", place)
    return LensPhoto(name, is_test, camera, **values, softness_px=softness)


def _positive(entry: dict, name: str, place: str) -> float | None:
    """The number above 0 of this name; None where it is absent or null."""
    if entry.get(name) is None:
        return None
    value = number(entry, name, place)
    if not value > 0:
        raise InputError(f'{place}: "{name}" is {value:g}: it must be above 0, write it again.')
    return value
