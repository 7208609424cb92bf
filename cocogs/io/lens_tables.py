"""Sensors by camera model, and lenses by name: lensfun's database where it is installed, else COLMAP's table.

Neither is copied here. COLMAP's table is asked by a tiny photo that names the camera.
"""

import importlib
import math
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pycolmap
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from cocogs.io.exif import DIAGONAL_35MM

# mm and px of the photo that COLMAP's table is asked by.
_ASKED_FOCAL, _ASKED_SIDE = 10, 64
# Standard deviations, as parts of the value. lensfun gives full-frame cameras a crop factor of 1, and some
# are 1 % smaller. COLMAP's widths are often those of a class of sensors: 2 % off for an iPhone 11, 4 % for a
# GFX 50S.
LENSFUN, COLMAP = 0.006, 0.025
PHONES = 4.0  # crop factor, from which on cameras are mostly phones


@dataclass(frozen=True)
class KnownSensor:
    """The sensor of a camera model.

    Args:
        diagonal: mm; None where the table holds the width.
        width: longer side, mm; None where the table holds the diagonal.
        deviation: as a part of the value.
        table: who knows it.
        sure: the camera has one sensor, and the table the right one. Phones have several by one name.
    """

    diagonal: float | None
    width: float | None
    deviation: float
    table: str
    sure: bool

    def sides(self, aspect: float) -> tuple[float, float]:
        """Longer and shorter side of the sensor in mm, if it has this ratio of them."""
        if self.width is not None:
            return self.width, self.width / aspect
        assert self.diagonal is not None
        short = self.diagonal / math.hypot(aspect, 1)
        return aspect * short, short


def known_sensor(maker: str | None, model: str | None) -> KnownSensor | None:
    """The sensor of a camera that EXIF names; None where neither table has it."""
    if not maker or not model:
        return None
    bodies = find_bodies(maker, model)
    if bodies:
        crop = bodies[0].crop_factor
        return KnownSensor(DIAGONAL_35MM / crop, None, LENSFUN, "lensfun", crop < PHONES)
    width = _colmap_width(maker, model)
    return None if width is None else KnownSensor(None, width, COLMAP, "COLMAP's table", False)


def is_known_fisheye(maker: str | None, model: str | None, lens: str | None) -> bool:
    """Whether lensfun says that the lens which EXIF names maps angles as no rectilinear lens does."""
    if not maker or not model or not lens or not (bodies := find_bodies(maker, model)):
        return False
    lenses = find_lenses(bodies[0], lens)
    return bool(lenses) and lenses[0].type != importlib.import_module("lensfunpy").LensType.RECTILINEAR


def find_bodies(maker: str | None, model: str | None) -> list[Any]:
    """lensfun's cameras of this name; none where lensfunpy is not installed."""
    try:
        importlib.import_module("lensfunpy")
    except ImportError:
        return []
    return _bodies(maker, model)


def find_lenses(body: Any, name: str | None) -> list[Any]:
    """lensfun's lenses that fit a camera of `find_bodies`, likeliest first; all where no name is given."""
    return _database().find_lenses(body, None, name)


@lru_cache(maxsize=1)
def _database() -> Any:
    return importlib.import_module("lensfunpy").Database()


@lru_cache(maxsize=256)
def _bodies(maker: str | None, model: str | None) -> list[Any]:
    return _database().find_cameras(maker, model)


@lru_cache(maxsize=256)
def _colmap_width(maker: str, model: str) -> float | None:
    """mm, as COLMAP's table has it: the focal length in px of a photo of that camera tells it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = maker, model
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLength: IFDRational(_ASKED_FOCAL, 1)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asked.jpg"
        Image.new("L", (_ASKED_SIDE, _ASKED_SIDE)).save(path, exif=exif)
        camera = pycolmap.infer_camera_from_image(path)
    if not camera.has_prior_focal_length:
        return None
    return _ASKED_FOCAL * _ASKED_SIDE / camera.params[0]
