"""The lens file: cameras and lenses of a scene's photos (docs/lens-json.md).

A training writes RUN/lens.json. `cocogs export` writes SCENE.lens.json beside the splats, where
`cocogs view SCENE.ply` finds it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.camera_file import Vignetting, list_of, part
from cocogs.io.camera_path import FARTHEST, LensSetting, camera_from_values, camera_values, number
from cocogs.io.json_file import read_json
from cocogs.io.source import MAX_SIDE

SCHEMA = "cocogs-lens/1"
APERTURE, FOCUS_DISTANCES, GIVEN = SOURCES = ("aperture", "focus_distances", "given")
"""What tells the length of a scene unit: EXIF in two ways, or a user."""


def lens_beside(splats: Path, ending: str | None = None) -> Path:
    """Where the lens file of a scene lies, whose splats are in the file `splats`.

    Args:
        ending: of that file; None: its suffix.
    """
    ending = splats.suffix if ending is None else ending
    return splats.with_name(splats.name[: len(splats.name) - len(ending)] + ".lens.json")


@dataclass(frozen=True)
class LensPhoto:
    """A photo of the scene.

    Args:
        lens: learned; both lengths > 0; None where none was, as for test photos.
        f_number, focal_length_mm: by EXIF.
        K: learned; px x scene unit, > 0.
        softness_px: learned; standard deviation of what blurs all of the photo alike, >= 0.
        gains: learned; factors on red, green and blue light, over their geometric mean over all photos.
        taken_by: the camera's place in `LensFile.cameras`.
    """

    name: str
    is_test: bool
    camera: Camera
    lens: LensSetting | None = None
    f_number: float | None = None
    focal_length_mm: float | None = None
    K: float | None = None
    softness_px: float | None = None
    gains: tuple[float, ...] | None = None
    taken_by: int | None = None

    def scaled(self, factor: float) -> "LensPhoto":
        """In other units, of which `factor` make one scene unit."""
        camera = self.camera.scaled(factor)
        lens = None if self.lens is None else LensSetting(*(factor * length for length in self.lens))
        return replace(self, camera=camera, lens=lens, K=None if self.K is None else factor * self.K)


@dataclass(frozen=True)
class LensCamera:
    """What a camera does to the light behind its lens; learned.

    Args:
        name: its model by EXIF; empty where EXIF does not tell.
        vignetting: about the principal point of each photo.
        response: as in camera.json.
    """

    name: str
    vignetting: Vignetting
    response: tuple[float, ...]


@dataclass(frozen=True)
class Metres:
    """How long a scene unit is, by EXIF (`cocogs.metres`) or by a user.

    Args:
        per_unit: metres in a scene unit.
        error: of it, m; standard uncertainty; 0 where a user gave it.
        by_aperture: metres in a unit by the aperture: EXIF's over the learned one; None where EXIF does not
            tell.
        by_focus_distances: by those in EXIF over the learned ones; None where too few photos have one.
        photos: how many have one.
        spread: of these photos' ratios, as a part of them; None where there is none.
        source: which of the two `per_unit` is, "aperture" or "focus_distances", or "given".
    """

    per_unit: float
    error: float = 0.0
    by_aperture: float | None = None
    by_focus_distances: float | None = None
    photos: int = 0
    spread: float | None = None
    source: str = GIVEN

    def scaled(self, factor: float) -> "Metres":
        """For scene units of which `factor` make one of these."""
        ways = (self.by_aperture, self.by_focus_distances)
        by_aperture, by_focus_distances = (None if way is None else way / factor for way in ways)
        per_unit, error = self.per_unit / factor, self.error / factor
        return Metres(per_unit, error, by_aperture, by_focus_distances, self.photos, self.spread, self.source)


@dataclass(frozen=True)
class LensFile:
    """What the file says.

    Args:
        aperture_diameter: typical diameter of the lens, scene units; None where none was learned.
        f_number: of that aperture; None where EXIF does not tell.
        metres: in a scene unit; None where EXIF does not tell.
        offset: source coordinates = coordinates here + offset; scene units.
        cameras: that took the photos; none where nothing was learned of them.
    """

    aperture_diameter: float | None
    f_number: float | None
    metres: Metres | None
    photos: Sequence[LensPhoto]
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cameras: Sequence[LensCamera] = ()

    @property
    def typical(self) -> LensSetting | None:
        """The typical aperture and the photos' median focus distance; None where none was learned."""
        distances = [photo.lens.focus_distance for photo in self.photos if photo.lens is not None]
        if not distances or self.aperture_diameter is None:
            return None
        return LensSetting(median_low(distances), self.aperture_diameter)

    def scaled(self, factor: float) -> "LensFile":
        """In other units, of which `factor` make one scene unit."""
        return replace(
            self,
            aperture_diameter=None if self.aperture_diameter is None else factor * self.aperture_diameter,
            metres=None if self.metres is None else self.metres.scaled(factor),
            photos=[photo.scaled(factor) for photo in self.photos],
            offset=(factor * self.offset[0], factor * self.offset[1], factor * self.offset[2]),
        )


def write_lens_file(file: LensFile, path: Path) -> None:
    """Raises InputError if it cannot be written."""
    document = {
        "schema": SCHEMA,
        "aperture_diameter": file.aperture_diameter,
        "f_number": file.f_number,
        "metres_per_unit": None if file.metres is None else file.metres.per_unit,
        "metres": _without_unit(file.metres),
        "offset": list(file.offset),
        "cameras": [asdict(camera) for camera in file.cameras],
        "photos": [
            {
                "name": photo.name,
                "test": photo.is_test,
                **camera_values(photo.camera),
                **(photo.lens._asdict() if photo.lens else dict.fromkeys(LensSetting._fields)),
                "K": photo.K,
                "softness_px": photo.softness_px,
                "f_number": photo.f_number,
                "focal_length_mm": photo.focal_length_mm,
                "gains": photo.gains,
                "camera": photo.taken_by,
            }
            for photo in file.photos
        ],
    }
    write_text(path, json.dumps(document, indent=2) + "\n")


def read_lens_file(path: Path, advice: str = "export again, or delete it") -> LensFile:
    """Read it back.

    Args:
        advice: what the user can do where the file is damaged.

    Raises:
        InputError: it is not such a file; the message names the photo.
    """
    document = read_json(path, advice)
    entries = document.get("photos") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or document.get("schema") != SCHEMA:
        raise InputError(f"{path} is not a lens file of cocogs: {advice}.")
    return LensFile(
        aperture_diameter=_positive(document, "aperture_diameter", str(path)),
        f_number=_positive(document, "f_number", str(path)),
        metres=_metres(document, str(path)),
        photos=[_photo(entry, f"{path}, photo {index}") for index, entry in enumerate(entries)],
        offset=_offset(document, str(path)),
        cameras=[_camera(entry, str(path)) for entry in document.get("cameras") or []],
    )


def _without_unit(metres: Metres | None) -> dict[str, Any] | None:
    """The object "metres" of the file; its length of a unit stands beside it."""
    return None if metres is None else {k: v for k, v in asdict(metres).items() if k != "per_unit"}


def _metres(document: dict, place: str) -> Metres | None:
    per_unit, entry = _positive(document, "metres_per_unit", place), document.get("metres")
    if per_unit is None:
        return None
    if not isinstance(entry, dict) or entry.get("source") not in SOURCES:
        raise InputError(f'{place}: "metres" is damaged: write it again.')
    names = ("by_aperture", "by_focus_distances")
    by_aperture, by_focus_distances = (_positive(entry, name, place) for name in names)
    spread = None if entry.get("spread") is None else number(entry, "spread", place)
    error, photos = number(entry, "error", place), int(number(entry, "photos", place))
    return Metres(per_unit, error, by_aperture, by_focus_distances, photos, spread, entry["source"])


def _camera(entry: Any, place: str) -> LensCamera:
    if not isinstance(entry, dict) or not isinstance(entry.get("vignetting"), dict):
        raise InputError(f'{place}: "cameras" is damaged: write it again.')
    response = list_of("response", entry.get("response"), place)
    return LensCamera(str(entry.get("name", "")), part(Vignetting, entry["vignetting"], place), response)


def _photo(entry: Any, place: str) -> LensPhoto:
    camera = camera_from_values(entry, place, MAX_SIDE)
    focus, aperture = (_positive(entry, name, place) for name in LensSetting._fields)
    if (focus is None) != (aperture is None):
        raise InputError(f'{place}: "focus_distance" and "aperture_diameter" go together: write it again.')
    lens = None if focus is None or aperture is None else LensSetting(focus, aperture)
    values = {name: _positive(entry, name, place) for name in ("f_number", "focal_length_mm", "K")}
    name, is_test = str(entry.get("name", "")), bool(entry.get("test"))
    softness = None if entry.get("softness_px") is None else number(entry, "softness_px", place)
    gains = None if entry.get("gains") is None else list_of("gains", entry["gains"], place)
    taken_by = None if entry.get("camera") is None else int(number(entry, "camera", place))
    return LensPhoto(
        name, is_test, camera, lens, **values, softness_px=softness, gains=gains, taken_by=taken_by
    )


def _offset(document: dict, place: str) -> tuple[float, float, float]:
    values = document.get("offset", [0, 0, 0])
    if not isinstance(values, list) or len(values) != 3:
        raise InputError(f'{place}: "offset" is not a list of three numbers: write it again.')
    entry = dict(zip("xyz", values, strict=True))
    return number(entry, "x", place), number(entry, "y", place), number(entry, "z", place)


def _positive(entry: dict, name: str, place: str) -> float | None:
    """The number above 0 of this name; None where it is absent or null."""
    if entry.get(name) is None:
        return None
    value = number(entry, name, place)
    if not 1 / FARTHEST <= value <= FARTHEST:
        raise InputError(f'{place}: "{name}" is {value:g}, which is out of range: write it again.')
    return value
