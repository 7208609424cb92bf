"""The options of a render, and how their texts are read: factors, ranges, sizes, photos."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from cocogs.errors import InputError, check_number
from cocogs.io.camera_path import LARGEST_DRAWN
from cocogs.render.refocusing import MOST_SAMPLES
from cocogs.run import Run
from cocogs.scene import View

FPS, FRAMES = 24.0, 96  # of a film, where nothing is said
MOST_FRAMES, MOST_BLADES, BRIGHTEST = 100_000, 100, 1000.0
FORMATS = ("png", "png16", "exr", "mp4", "gif")
FILMS = ("mp4", "gif")
# No folder is meant by a name with one of these endings.
FILES = ("png", "exr", "jpg", "jpeg", "tif", "tiff", "webp", "mov", "webm", "avi", "mkv")


@dataclass(frozen=True)
class RenderOptions:
    """What to render; None = not given. cocogs/cli/render.py describes every field for users.

    The range of every number is checked by `check_numbers`; how options fit each other, where they are used.
    """

    out: Path
    views: str | None = None
    view: str | None = None
    path: str | None = None
    defocused: bool = False
    focus: float | str | None = None
    focus_at: str | None = None
    focus_pull: str | None = None
    aperture: str | None = None
    f_number: float | None = None
    aperture_sweep: str | None = None
    blades: int = 0
    blade_rotation: float = 0.0
    highlights: float = 1.0
    samples: int = 64
    frames: int | None = None
    fps: float | None = None
    size: str | None = None
    camera: str | None = None
    format: str | None = None
    depth: bool = False
    coc: bool = False

    @property
    def is_moving(self) -> bool:
        """Whether the lens changes from picture to picture."""
        return self.focus_pull is not None or self.aperture_sweep is not None

    def check_numbers(self) -> None:
        """Raises InputError for a number out of its range."""
        check_number("f_number", self.f_number, above=0, example="2.8")
        check_number("samples", self.samples, least=0, most=MOST_SAMPLES, whole=True)
        check_film(self.frames, self.fps)
        check_looks(self.blades, self.blade_rotation, self.highlights)


def check_looks(blades: int, blade_rotation: float, highlights: float) -> None:
    """Raises InputError for a number out of its range."""
    check_number("blades", blades, least=0, most=MOST_BLADES, whole=True)
    check_number("blade_rotation", blade_rotation)
    check_number("highlights", highlights, least=1, most=BRIGHTEST)
    if blade_rotation and not blades:
        raise InputError("`blade_rotation` turns the blades: give `blades`, such as 6, with it.")


def check_film(frames: int | None, fps: float | None) -> None:
    """Raises InputError for a number out of its range."""
    check_number("frames", frames, least=2, most=MOST_FRAMES, whole=True)
    check_number("fps", fps, above=0, most=1000, example="24")


def choose_format(options: RenderOptions) -> str:
    """The format that was asked for, or that the ending of `out` means, or png.

    Raises:
        InputError: no such format, or one that does not fit `out`.
    """
    ending = options.out.suffix.lower().lstrip(".")
    kind = options.format or (ending if ending in FILMS else "png")
    if kind not in FORMATS:
        raise InputError(f"`format` must be one of {', '.join(FORMATS)}, not {kind}.")
    if (kind in FILMS or ending in FILMS) and kind != ending:
        raise InputError(f"{options.out} does not end in .{kind}: make `out` and `format` agree.")
    if ending in FILES and not options.out.is_dir():
        raise InputError(
            f"{options.out} names a file: let `out` be a folder for pictures, or a video's name that ends in "
            ".mp4 or .gif."
        )
    if kind not in FILMS and options.out.is_file():
        raise InputError(f"{options.out} is a file: let `out` be a folder for the pictures.")
    return kind


def parse_factor(name: str, text: str) -> float:
    """The factor, 0 or more, of `1.5x` or `1.5`; raises InputError for anything else."""
    try:
        factor = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise InputError(f"`{name}` must be a factor of 0 (all sharp) or more, such as 1.5x, not {text}.")
    return factor


def parse_range(name: str, text: str) -> tuple[float, float]:
    """The two numbers of `A:B`, an x after each allowed; raises InputError for anything else."""
    try:
        start, end = (float(part.strip().lower().removesuffix("x")) for part in text.split(":"))
    except ValueError as error:
        raise InputError(f"`{name}` must be two numbers, such as 1.5:4, not {text}.") from error
    if math.isnan(start) or math.isnan(end):
        raise InputError(f"`{name}` must be two numbers, such as 1.5:4, not {text}.")
    return start, end


def parse_point(name: str, text: str, width: int, height: int, picture: str) -> tuple[float, float]:
    """The point `X,Y` of a picture, px from its left and upper border.

    Args:
        text: X and Y in px, the first of which is 0, or in per cent of the sides.
        picture: what it is called.

    Raises:
        InputError: no such text, or a point outside.
    """
    try:
        x, y = (
            float(part.rstrip("%")) / 100 * side if part.endswith("%") else float(part) + 0.5
            for part, side in zip(text.replace(" ", "").split(","), (width, height), strict=True)
        )
    except ValueError as error:
        raise InputError(
            f"`{name}` must be X,Y in px, or in per cent such as 50%,40%, not {text}."
        ) from error
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(
            f"`{name}` {text} lies outside {picture}, which has {width}x{height} px here: count from the "
            "upper left corner, or give per cent such as 50%,40%."
        )
    return x, y


def parse_f_number(text: str) -> float:
    """Of `2.8` or `f/2.8`; NaN for what is no number above 0."""
    try:
        value = float(text.strip().lower().removeprefix("f/"))
    except ValueError:
        return math.nan
    return value if 0 < value < math.inf else math.nan


def parse_size(text: str) -> tuple[int, int | None]:
    """Width and height, in px, of `W` or `WxH`; raises InputError for anything else."""
    parts = text.lower().split("x")
    if (
        len(parts) > 2
        or not all(re.fullmatch("0*[1-9][0-9]{0,4}", part) for part in parts)
        or (max(map(int, parts)) > LARGEST_DRAWN)
    ):
        raise InputError(
            f"`size` must be a width, or WIDTHxHEIGHT such as 1920x1080, up to {LARGEST_DRAWN} px, not "
            f"{text[:40]}."
        )
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def find_view(run: Run, name: str) -> View:
    """The view of this name.

    Raises:
        InputError: there is none; the message lists the most similar names.
    """
    by_name = {view.name: view for view in run.scene.views}
    if name in by_name:
        return by_name[name]
    raise no_photo(name, list(by_name), run.folder)


def no_photo(name: str, names: Sequence[str], place: Path) -> InputError:
    """The error for a photo that `place` does not have; it lists the most similar names."""
    same_numbers = [other for other in names if _numbers(other) == _numbers(name) != []]
    similar = get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    *most, last = list(dict.fromkeys([*same_numbers, *similar]))[:3]
    choice = f"{', '.join(most)} or {last}" if most else last
    return InputError(f"There is no photo {name!r} in {place}: did you mean {choice}?")


def _numbers(name: str) -> list[str]:
    """The numbers in a photo's name: those of 7.jpg and of IMG_007.png are alike."""
    return [digits.lstrip("0") for digits in "".join(c if c.isdigit() else " " for c in name).split()]


def choose_views(run: Run, views: str | None) -> list[View]:
    """The views that `test`, `train` or `all` means; None means test.

    Raises:
        InputError: another word, or no view is left.
    """
    views = "test" if views is None else views
    choices = {"test": run.scene.test_views, "train": run.scene.train_views, "all": run.scene.views}
    if views not in choices:
        raise InputError(
            f"`views` must be one of {', '.join(choices)}, not {views}; `view` takes the name of one photo."
        )
    if not choices[views]:
        raise InputError(
            f"{run.folder} has no test views: render with `views=train`, or train with `test_every=8`."
        )
    return choices[views]
