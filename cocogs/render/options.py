"""What `cocogs render` was asked for, and what the words in it mean: factors, ranges, sizes, photos."""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io.camera_path import MAX_SIDE
from cocogs.run import Run
from cocogs.scene import View

FORMATS = ("png", "png16", "exr", "mp4", "gif")
FILMS = ("mp4", "gif")
# Endings that nobody means a folder by.
FILES = ("png", "exr", "jpg", "jpeg", "tif", "tiff", "webp", "mov", "webm", "avi", "mkv")


@dataclass(frozen=True)
class RenderOptions:
    """What `cocogs render` was asked for; None = not given. The texts for users are in cli.py."""

    out: Path
    views: str | None = None
    view: str | None = None
    path: str | None = None
    defocused: bool = False
    focus: float | None = None
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
    format: str | None = None
    depth: bool = False
    coc: bool = False

    @property
    def is_moving(self) -> bool:
        """Whether the lens changes from picture to picture."""
        return self.focus_pull is not None or self.aperture_sweep is not None


def choose_format(options: RenderOptions) -> str:
    """The one asked for, or by --out's ending, or png."""
    ending = options.out.suffix.lower().lstrip(".")
    kind = options.format or (ending if ending in FILMS else "png")
    if kind not in FORMATS:
        raise InputError(f"--format {kind} is not known: choose one of {', '.join(FORMATS)}.")
    if (kind in FILMS or ending in FILMS) and kind != ending:
        raise InputError(f"--out {options.out} does not end in .{kind}: make --out and --format agree.")
    if ending in FILES and not options.out.is_dir():
        raise InputError(
            f"--out {options.out} names a file: give a folder for pictures, or a film's name that ends in "
            ".mp4 or .gif."
        )
    if kind not in FILMS and options.out.is_file():
        raise InputError(f"--out {options.out} is a file: give a folder for the pictures.")
    return kind


def parse_factor(option: str, text: str) -> float:
    """`1.5x` or `1.5`, from 0 on."""
    try:
        factor = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise InputError(f"{option} {text} is no factor from 0 (everything sharp) on: give one such as 1.5x.")
    return factor


def parse_range(option: str, text: str) -> tuple[float, float]:
    """`A:B`, an x after each allowed."""
    try:
        start, end = (float(part.strip().lower().removesuffix("x")) for part in text.split(":"))
    except ValueError as error:
        raise InputError(f"{option} {text} is no range: give two numbers as 1.5:4.") from error
    if math.isnan(start) or math.isnan(end):
        raise InputError(f"{option} {text} is no range: give two numbers as 1.5:4.")
    return start, end


def parse_size(text: str) -> tuple[int, int | None]:
    """`W` or `WxH`, px."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= MAX_SIDE for part in parts):
        raise InputError(
            f"--size {text} is no size: give a width, or WIDTHxHEIGHT as 1920x1080, up to {MAX_SIDE}."
        )
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def check_count(option: str, value: int | None, least: int) -> None:
    if value is not None and not least <= value <= 100_000:
        raise InputError(f"{option} {value} cannot be: give a number from {least} to 100000.")


def find_view(run: Run, name: str) -> View:
    """The view of this name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    by_name = {view.name: view for view in run.scene.views}
    if name in by_name:
        return by_name[name]
    close = get_close_matches(name, by_name, n=3, cutoff=0.3) or list(by_name)[:3]
    raise InputError(f"There is no photo {name!r} in {run.folder}: did you mean {' or '.join(close)}?")


def choose_views(run: Run, views: str | None) -> list[View]:
    """The views that `test`, `train` or `all` means; test where nothing is said.

    Raises:
        InputError: another word, or no view is left.
    """
    views = views or "test"
    choices = {"test": run.scene.test_views, "train": run.scene.train_views, "all": run.scene.views}
    if views not in choices:
        raise InputError(
            f"There are no views named {views!r}: --views takes {', '.join(choices)}; --view names one photo."
        )
    if not choices[views]:
        raise InputError(
            f"{run.folder} has no test views: render with --views train, or train with --test-every 8."
        )
    return choices[views]
