"""What a training learned of the lens: in scene units, in the words of EXIF, and as a file
(docs/lens-json.md)."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median_low
from typing import Any

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.camera_path import LensSetting
from cocogs.io.lens_file import LensFile, LensPhoto, Metres, read_lens_file, write_lens_file
from cocogs.metres import NOT_FOLLOWING, metres_by_exif, sentences, why_unknown
from cocogs.optics.lens import Lens
from cocogs.optics.model import DefocusModel
from cocogs.optics.noted_focus import fits
from cocogs.scene import LensFacts, Scene, View

NAME = "lens.json"


class LearnedLens:
    """The lens of a model with one (`model.lens.has_lens`), and what EXIF says of it.

    Diameters are found once, when they are first asked for: where a network has a say that takes a while.
    """

    def __init__(self, model: DefocusModel, scene: Scene) -> None:
        self._model, self._scene = model, scene

    @property
    def _views(self) -> list[View]:
        return self._scene.train_views

    @property
    def _cameras(self) -> list[Camera]:
        return [self._model.camera(view) for view in self._views]

    @property
    def _facts(self) -> list[LensFacts]:
        return [view.lens for view in self._views]

    def of(self, name: str) -> Lens:
        """The lens that a training photo was taken with.

        Raises:
            InputError: no training photo has this name.
        """
        names = [view.name for view in self._views]
        if name not in names:
            raise InputError(f"{name!r} is no training photo, and only training photos have a learned lens.")
        index = names.index(name)
        return Lens(self.focus_distances[index], self.diameters[index])

    @property
    def typical(self) -> Lens:
        """The median of the focus distances, the geometric mean of the apertures."""
        return Lens(median_low(self.focus_distances), geometric_mean(self.diameters))

    @property
    def focus_distances(self) -> list[float]:
        """Of every training photo, scene units."""
        return self._model.lens.focus.distances.tolist()

    @property
    def softness_px(self) -> list[float]:
        """Of every training photo, px; 0 where the lens model knows none."""
        shown = {name: values for part in self._model.per_photo for name, values in part.shown().items()}
        return shown.get("softness_px", [0.0] * len(self._views))

    @cached_property
    def Ks(self) -> list[float]:
        """Of every training photo, px x scene unit."""
        K = self._model.lens.aperture.K
        return [float(K(index).detach()) for index in range(len(self._cameras))]

    @cached_property
    def diameters(self) -> list[float]:
        """Aperture diameter of every training photo, scene units."""
        diameter = self._model.lens.diameter
        return [diameter(K, camera) for K, camera in zip(self.Ks, self._cameras, strict=True)]

    @property
    def f_number(self) -> float | None:
        """That of `typical`, by EXIF; None where no photo has one."""
        ratios = [
            facts.f_number * diameter
            for facts, diameter in zip(self._facts, self.diameters, strict=True)
            if facts.f_number is not None
        ]
        return geometric_mean(ratios) / self.typical.aperture_diameter if ratios else None

    @cached_property
    def metres(self) -> Metres | None:
        """How long a scene unit is, by EXIF; None where it cannot be known."""
        told = self._model.lens.aperture.is_told
        return metres_by_exif(self._facts, self.focus_distances, self._lengths, told)

    @property
    def metres_per_unit(self) -> float | None:
        """One scene unit in metres, by EXIF; None where it cannot be known."""
        return None if self.metres is None else self.metres.per_unit

    @property
    def about_metres(self) -> str:
        """For the user: how long a scene unit is, or why that cannot be known."""
        if self.metres is not None:
            told = sentences(self.metres)
            believed = fits(self.focus_distances, self._facts)
            return told if believed else f"{told} The {NOT_FOLLOWING}, and are not believed."
        why = why_unknown(self._facts, self.focus_distances, self._lengths)
        return f"How long a scene unit is in metres cannot be known: {why}. Only lengths in metres need it."

    @property
    def _lengths(self) -> list[float] | None:
        """The diameters, unless they are none (preset paper)."""
        return self.diameters if self._model.lens.is_physical else None


def lens_file(model: DefocusModel, scene: Scene) -> LensFile:
    """Cameras and lenses of all photos; of a pinhole the cameras alone."""
    learned = LearnedLens(model, scene) if model.lens.has_lens else None
    rows: Iterator[dict[str, Any]] = iter({} for view in scene.train_views)
    if learned is not None:
        lenses = map(LensSetting, learned.focus_distances, learned.diameters)
        columns = zip(lenses, learned.Ks, learned.softness_px, strict=True)
        rows = ({"lens": lens, "K": K, "softness_px": softness} for lens, K, softness in columns)
    photos, cameras = [], []
    if (photometric := model.photometric) is not None:
        cameras = photometric.cameras()
        gains = zip(photometric.exposure.gains().tolist(), photometric.taken.camera, strict=True)
        rows = ({**row, "gains": tuple(g), "taken_by": c} for row, (g, c) in zip(rows, gains, strict=True))
    for view in scene.views:
        known: dict[str, Any] = {} if view.is_test else next(rows)
        known |= {"f_number": view.lens.f_number, "focal_length_mm": view.lens.focal_length_mm}
        photos.append(LensPhoto(view.name, view.is_test, model.camera(view), **known))
    x, y, z = scene.offset.tolist()
    if learned is None:
        return LensFile(None, None, None, photos, (x, y, z), cameras)
    aperture = learned.typical.aperture_diameter
    return LensFile(aperture, learned.f_number, learned.metres, photos, (x, y, z), cameras)


def write_learned_lens(folder: Path, model: DefocusModel, scene: Scene) -> None:
    """RUN/lens.json."""
    write_lens_file(lens_file(model, scene), folder / NAME)


def read_learned_lens(folder: Path) -> LensFile:
    """What `write_learned_lens` wrote; needs no photos.

    Raises:
        InputError: it is gone or damaged.
    """
    return read_lens_file(folder / NAME, f"cocogs train PHOTOS --out {folder} --resume writes it again")


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))
