"""The options of `cocogs refocus`, and what the words in them mean: which lens every picture gets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError, check_number
from cocogs.io.photos import read_header
from cocogs.io.pictures import PHOTO_SUFFIXES, check_speed, check_writer
from cocogs.optics.lens import Lens, focus_between
from cocogs.photo.depth import PictureDepth, beside
from cocogs.photo.lenses import PhotoCamera, focus_distance
from cocogs.photo.opened import OpenedPhoto
from cocogs.photo.written import REFOCUSED, Written
from cocogs.render.options import (
    FILMS,
    FRAMES,
    check_film,
    check_looks,
    parse_f_number,
    parse_factor,
    parse_size,
)

STILLS = (*PHOTO_SUFFIXES, ".exr")
FOCUS = ("focus_at", "focus", "focus_pull")
APERTURE = ("f_number", "aperture", "sweep")


@dataclass(frozen=True)
class RefocusOptions:
    """What to make of a photo; None = not given. cocogs/cli/refocus.py describes every field for users."""

    photo: Path
    out: Path
    focus_at: str | None = None
    focus: str | None = None
    focus_pull: str | None = None
    f_number: float | None = None
    aperture: str | None = None
    sweep: str | None = None
    blades: int = 0
    blade_rotation: float = 0.0
    highlights: float = 1.0
    depth: str | None = None
    depth_kind: str | None = None
    source: str | None = None
    keep_blur: bool = False
    size: str | None = None
    frames: int | None = None
    fps: float | None = None

    @property
    def is_film(self) -> bool:
        return self.focus_pull is not None or self.sweep is not None

    @property
    def kind(self) -> str:
        """The ending of `out`, in small letters."""
        return self.out.suffix.lower().lstrip(".")

    def check(self) -> None:
        """Check all that needs neither the photo's pixels nor its depth.

        Raises:
            InputError: options out of range, or that do not fit each other; a file that would be overwritten.
        """
        check_number("f_number", self.f_number, above=0, example="2.8")
        check_looks(self.blades, self.blade_rotation, self.highlights)
        check_film(self.frames, self.fps)
        if len(self._given(FOCUS)) != 1:
            raise InputError("Say what is to be in focus: give one of `focus_at`, `focus` and `focus_pull`.")
        if len(self._given(APERTURE)) != 1:
            raise InputError("Say how blurred it shall be: give one of `f_number`, `aperture` and `sweep`.")
        if not self.is_film and (self.frames or self.fps):
            raise InputError("`frames` and `fps` belong to films: give `focus_pull` or `sweep` with them.")
        kinds = FILMS if self.is_film else [suffix[1:] for suffix in STILLS]
        if self.kind not in kinds:
            what = "a film" if self.is_film else "one picture"
            raise InputError(
                f"This makes {what}: let `out` end in .{' or .'.join(kinds)}, not {self.out.name}."
            )
        check_writer(self.kind)
        if self.is_film and self.fps is not None:
            check_speed(self.kind, self.fps)
        check_files(REFOCUSED, self.out, self.photo, self.depth, self.source)

    def _given(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]

    def width(self) -> int | None:
        """Of the picture in px; None: the photo's.

        Raises:
            InputError: `size` is no width up to that of the photo.
        """
        if self.size is None:
            return None
        wanted, other = parse_size(self.size)
        own = read_header(self.photo).width
        if other is not None or wanted > own:
            raise InputError(f"`size` must be a width up to that of the photo, {own} px, not {self.size}.")
        return wanted

    def lenses(self, photo: OpenedPhoto) -> Iterator[Lens]:
        """The lens of the picture, or of every frame.

        Raises:
            InputError: words that mean nothing, or do not fit the photo.
        """
        count = (self.frames or FRAMES) if self.is_film else 1
        looks = (self.blades, self.blade_rotation, self.highlights)
        distances, diameters = self._distances(photo.depth), self._diameters(photo.camera)
        for index in range(count):
            t = index / max(count - 1, 1)
            yield Lens(focus_between(*distances, t), (1 - t) * diameters[0] + t * diameters[1], *looks)

    def _distances(self, depth: PictureDepth) -> tuple[float, float]:
        """The focus distance at the start and at the end."""
        if self.focus_pull is None:
            name = "focus" if self.focus_at is None else "focus_at"
            text = self.focus if self.focus_at is None else self.focus_at
            distance = focus_distance(name, str(text), depth, point=self.focus_at is not None)
            return distance, distance
        ends = self.focus_pull.split(":")
        if len(ends) != 2:
            raise InputError(
                "`focus_pull` must be two distances, such as 0.5m:2m, or points, such as 20%,80%:60%,40%, "
                f"not {self.focus_pull}."
            )
        start, end = (focus_distance("focus_pull", end, depth) for end in ends)
        return start, end

    def _diameters(self, camera: PhotoCamera) -> tuple[float, float]:
        """The aperture at the start and at the end."""
        if self.aperture is not None:
            diameter = camera.multiple(parse_factor("aperture", self.aperture))
            return diameter, diameter
        if self.f_number is not None:
            return camera.diameter(self.f_number), camera.diameter(self.f_number)
        numbers = [parse_f_number(end) for end in str(self.sweep).split(":")]
        if len(numbers) != 2 or any(map(math.isnan, numbers)):
            raise InputError(f"`sweep` must be two f-numbers above 0, such as 16:1.8, not {self.sweep}.")
        return camera.diameter(numbers[0]), camera.diameter(numbers[1])


def check_files(
    written: Written, out: Path, photo: Path, depth: str | None, source: str | None, *others: Path
) -> None:
    """Check that a picture made of a photo overwrites nothing that is read, and nothing of a user's.

    Args:
        others: that are read, too.

    Raises:
        InputError: it would.
    """
    read = [Path(name) for name in (photo, depth, source, *others) if name is not None]
    if depth is None:
        read += beside(photo)
    word, _, folder = (depth or "").partition(":")
    if word == "bracket" and out.parent.resolve() == Path(folder).resolve():
        raise InputError(f"{out} would lie among the slices of {folder}: give another `out`.")
    written.check(out, read)
