"""From options to lenses: what is in focus, and how far the lens is open, in every picture."""

import math

from cocogs.errors import InputError, check_number
from cocogs.io.camera_path import PathFrame
from cocogs.optics.lens import Lens, focus_between
from cocogs.render.options import RenderOptions, find_view, parse_factor, parse_point, parse_range
from cocogs.render.refocusing import depth_at
from cocogs.run import Run
from cocogs.scene import View


def choose_lenses(run: Run, frames: list[PathFrame], options: RenderOptions) -> list[Lens | None]:
    """The lens of every picture; None where everything is sharp.

    Raises:
        InputError: options that do not fit each other or the run.
    """
    count = len(frames)
    looks = (options.blades, options.blade_rotation, options.highlights)
    distances = _focus_distances(run, options, count)
    if distances is None:
        check_aperture_alone(options)
        return [None if frame.lens is None else Lens(*frame.lens, *looks) for frame in frames]
    learned = run.lens().aperture_diameter
    factors = _aperture_factors(run, options, count)
    return [
        Lens(distance, factor * learned, *looks) for distance, factor in zip(distances, factors, strict=True)
    ]


def check_aperture_alone(options: RenderOptions) -> None:
    """Raises InputError for an option of the aperture where nothing is refocused."""
    for name in ("aperture", "f_number", "aperture_sweep"):
        if getattr(options, name) is not None:
            raise without_focus(name)


def without_focus(name: str) -> InputError:
    """The error of an option for refocused pictures where nothing is refocused."""
    return InputError(f"`{name}` changes a refocused picture: give `focus` or `focus_at` with it.")


def _focus_distances(run: Run, options: RenderOptions, count: int) -> list[float] | None:
    """The focus distance of every picture, scene units; None where no option sets a focus."""
    given = [n for n in ("focus", "focus_at", "focus_pull") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("`focus`, `focus_at` and `focus_pull` exclude each other: give one.")
    if options.focus is not None:
        return [_distance(run, options.focus)] * count
    if options.focus_at is not None:
        if options.view is None:
            raise InputError("`focus_at` is a point in a photo: name the photo with `view`.")
        return [focus_at(run, options.focus_at, find_view(run, options.view))] * count
    if options.focus_pull is not None:
        in_metres = all(is_in_metres(end) for end in options.focus_pull.split(":"))
        numbers = options.focus_pull.lower().replace("m", "") if in_metres else options.focus_pull
        start, end = parse_range("focus_pull", numbers)
        if not (start > 0 and end > 0):
            raise InputError(f"`focus_pull` must be two distances above 0, not {options.focus_pull}.")
        if in_metres:
            metres = metres_per_unit(run, "give `focus_pull` in scene units")
            start, end = start / metres, end / metres
        return [focus_between(start, end, t) for t in _steps(count)]
    return None


def _distance(run: Run, focus: float | str) -> float:
    """In scene units, of a number of them or of metres such as 1.2m."""
    text = str(focus).strip().lower()
    try:
        value = float(text.removesuffix("m"))
    except ValueError as error:
        raise InputError(
            "`focus` must be a distance in scene units such as 3.4, in metres such as 1.2m, or inf, "
            f"not {focus}."
        ) from error
    check_number("focus", value, above=0, infinite=True)
    return value / metres_per_unit(run, "give `focus` in scene units") if is_in_metres(text) else value


def is_in_metres(focus: float | str | None) -> bool:
    """Whether a distance is given as 1.2m is."""
    return str(focus).strip().lower().endswith("m")


def metres_per_unit(run: Run, remedy: str) -> float:
    """Length of a scene unit.

    Args:
        remedy: what the user can do where EXIF does not tell.

    Raises:
        InputError: it cannot be known.
    """
    if not run.has_lens:
        raise InputError(f"{run.folder} has no lens that would tell how long a scene unit is: {remedy}.")
    if run.learned.metres_per_unit is None:
        raise InputError(f"{run.folder}: {run.learned.about_metres.removesuffix('.')}; {remedy}.")
    return run.learned.metres_per_unit


def focus_at(run: Run, place: str, view: View) -> float:
    """Depth, in scene units, at the point `X,Y` of a view.

    Args:
        place: X and Y in pixels of the picture as drawn without `size`, or in per cent of its sides.

    Raises:
        InputError: no such text, a point outside the picture, or one where nothing is.
    """
    camera = run.model.camera(view)
    x, y = parse_point("focus_at", place, camera.width, camera.height, view.name)
    return depth_at(run.model.gaussians, camera, x, y)


def _aperture_factors(run: Run, options: RenderOptions, count: int) -> list[float]:
    """How far the lens is open in every picture, as a factor of the learned aperture."""
    given = [n for n in ("aperture", "f_number", "aperture_sweep") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("`aperture`, `f_number` and `aperture_sweep` exclude each other: give one.")
    if options.aperture is not None:
        return [parse_factor("aperture", options.aperture)] * count
    if options.aperture_sweep is not None:
        start, end = parse_range("aperture_sweep", options.aperture_sweep)
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise InputError(
                f"`aperture_sweep` must be two factors of 0 or more, not {options.aperture_sweep}."
            )
        return [(1 - t) * start + t * end for t in _steps(count)]
    if options.f_number is not None:
        known = run.learned.f_number
        if known is None:
            raise InputError(
                "`f_number` needs the photos' own f-number, and their EXIF has none: "
                "give `aperture=1.5x`, a factor of the learned aperture."
            )
        return [known / options.f_number] * count
    return [1.0] * count


def _steps(count: int) -> list[float]:
    """`count` numbers evenly spaced from 0 to 1."""
    return [index / max(count - 1, 1) for index in range(count)]
