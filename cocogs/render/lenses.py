"""From options to lenses: what is in focus, and how far the lens is open, in every picture."""

import math

from cocogs.errors import InputError
from cocogs.io.camera_path import PathFrame
from cocogs.optics.lens import Lens, focus_between
from cocogs.render.options import RenderOptions, find_view, parse_factor, parse_range
from cocogs.render.refocusing import depth_at
from cocogs.run import Run
from cocogs.scene import View


def choose_lenses(run: Run, frames: list[PathFrame], options: RenderOptions) -> list[Lens | None]:
    """The lens of every picture."""
    count = len(frames)
    looks = (options.blades, options.blade_rotation, options.highlights)
    distances = _focus_distances(run, options, count)
    if distances is None:
        check_aperture_alone(options)
        return [
            None
            if frame.focus_distance is None or frame.aperture_diameter is None
            else Lens(frame.focus_distance, frame.aperture_diameter, *looks)
            for frame in frames
        ]
    learned = run.lens().aperture_diameter
    factors = _aperture_factors(run, options, count)
    return [
        Lens(distance, factor * learned, *looks) for distance, factor in zip(distances, factors, strict=True)
    ]


def check_aperture_alone(options: RenderOptions) -> None:
    for name in ("aperture", "f_number", "aperture_sweep"):
        if getattr(options, name) is not None:
            raise without_focus(name)


def without_focus(name: str) -> InputError:
    """What to tell of an option for refocused pictures where nothing is refocused."""
    option = name.replace("_", "-")
    return InputError(f"--{option} changes a refocused picture: give --focus or --focus-at with it.")


def _focus_distances(run: Run, options: RenderOptions, count: int) -> list[float] | None:
    """Of every picture; None where nothing asks for a focus."""
    given = [n for n in ("focus", "focus_at", "focus_pull") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("--focus, --focus-at and --focus-pull exclude each other: give one.")
    if options.focus is not None:
        if not options.focus > 0:
            raise InputError(f"--focus {options.focus:g} is not in front of the camera: give more than 0.")
        return [options.focus] * count
    if options.focus_at is not None:
        if options.view is None:
            raise InputError("--focus-at means a place in a photo: name the photo with --view.")
        return [focus_at(run, options.focus_at, find_view(run, options.view))] * count
    if options.focus_pull is not None:
        start, end = parse_range("--focus-pull", options.focus_pull)
        if not (start > 0 and end > 0):
            raise InputError(f"--focus-pull {options.focus_pull}: both distances must be above 0.")
        return [focus_between(start, end, t) for t in _steps(count)]
    return None


def focus_at(run: Run, place: str, view: View) -> float:
    """Depth at `X,Y` of a view: pixels of the picture as drawn without --size, or per cent of its sides."""
    camera = run.model.camera(view)
    try:
        x, y = (
            float(text.rstrip("%")) / 100 * side if text.endswith("%") else float(text) + 0.5
            for text, side in zip(
                place.replace(" ", "").split(","), (camera.width, camera.height), strict=True
            )
        )
    except ValueError as error:
        raise InputError(
            f"--focus-at {place} is no place: give X,Y in px, or in per cent as 50%,40%."
        ) from error
    if not (0 <= x <= camera.width and 0 <= y <= camera.height):
        raise InputError(
            f"--focus-at {place} lies outside {view.name}, which has {camera.width}x{camera.height} px here: "
            "count from the upper left corner, or give per cent as 50%,40%."
        )
    return depth_at(run.model.gaussians, camera, x, y)


def _aperture_factors(run: Run, options: RenderOptions, count: int) -> list[float]:
    """Of every picture, times the learned aperture."""
    given = [n for n in ("aperture", "f_number", "aperture_sweep") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("--aperture, --f-number and --aperture-sweep exclude each other: give one.")
    if options.aperture is not None:
        return [parse_factor("--aperture", options.aperture)] * count
    if options.aperture_sweep is not None:
        start, end = parse_range("--aperture-sweep", options.aperture_sweep)
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise InputError(f"--aperture-sweep {options.aperture_sweep}: both factors must be 0 or more.")
        return [(1 - t) * start + t * end for t in _steps(count)]
    if options.f_number is not None:
        if not 0 < options.f_number < math.inf:
            raise InputError(f"--f-number {options.f_number:g} cannot be: give one such as 2.8.")
        known = run.f_number()
        if known is None:
            raise InputError(
                "--f-number needs to know the photos' own, and their EXIF has none: "
                "give --aperture 1.5x, a multiple of the learned aperture."
            )
        return [known / options.f_number] * count
    return [1.0] * count


def _steps(count: int) -> list[float]:
    """From 0 to 1."""
    return [index / max(count - 1, 1) for index in range(count)]
