"""What a camera's own photos tell of it, into camera.json: the response from several exposures, noise and
vignetting from flats and darks, f-number and focus distance from charts.

`docs/calibrate.md` tells how to take the frames, and what cannot be told apart.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cocogs.calibrate.defocus import fit_lens, read_charts
from cocogs.calibrate.estimates import Estimate, VignetteFit, fixed_pattern, read_noise, shot_gain, vignette
from cocogs.calibrate.exposures import fit_response, read_exposures
from cocogs.calibrate.frames import Linearise, exif_f_number, linearise_by, read_frames, undone
from cocogs.calibrate.known_lenses import known_lens
from cocogs.calibrate.report import (
    calibration_page,
    chart_sections,
    frame_sections,
    known_section,
    response_section,
)
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.camera_file import (
    NEAREST_AND_FARTHEST,
    CameraFile,
    Noise,
    Sensor,
    Vignetting,
    read_camera_file,
    write_camera_file,
)
from cocogs.io.progress import Say
from cocogs.optics.physical_camera import PhysicalCamera

LARGEST_SENSOR = 1000.0  # mm


@dataclass(frozen=True)
class CalibrateOptions:
    """What to calibrate from; cocogs/cli/calibrate.py describes every field for users."""

    out: Path
    flats: Path | None = None
    darks: Path | None = None
    defocus: Path | None = None
    exposures: Path | None = None
    lens: Path | None = None
    sensor_mm: str | None = None
    camera: Path | None = None
    response: str | None = None
    per_colour: bool = False


@dataclass(frozen=True)
class Calibration:
    """What was measured: the parts of the page, and what cannot be told apart.

    Args:
        camera: as it is known now.
    """

    camera: CameraFile
    sections: list[str]
    remarks: list[str]


def calibrate(options: CalibrateOptions, say: Say = print) -> CameraFile:
    """Measure, and write camera.json with a page of curves beside it.

    Raises:
        InputError: frames that do not serve, or a file that cannot be written.
    """
    if (options.flats is None) != (options.darks is None):
        raise InputError("`flats` and `darks` go together: give both.")
    if not (options.flats or options.defocus or options.exposures or options.lens):
        raise InputError(
            "There is nothing to calibrate from: give `flats` and `darks`, `defocus`, `exposures`, or `lens`."
        )
    if options.exposures is not None and options.response is not None:
        raise InputError("`exposures` measure the response: leave out `response`.")
    camera = None if options.camera is None else read_camera_file(options.camera)
    linearise = linearise_by(options.response or "srgb")
    steps = (
        (_from_database, options.lens),
        (_from_exposures, options.exposures),
        (_from_frames, options.flats),
        (_from_charts, options.defocus),
    )
    sections, remarks = [], []
    for measure, is_wanted in steps:
        if is_wanted is not None:
            found = measure(options, camera, linearise, say)
            camera, sections = found.camera, sections + found.sections
            remarks = remarks + found.remarks
            linearise = undone(camera.response) if options.exposures is not None else linearise
    assert camera is not None
    write_camera_file(camera, options.out)
    write_text(options.out.with_suffix(".html"), calibration_page(sections, remarks))
    return camera


def _from_database(
    options: CalibrateOptions, before: CameraFile | None, linearise: Linearise, say: Say
) -> Calibration:
    """Vignetting and distortion as others measured them, of a lens of this kind."""
    assert options.lens is not None
    known = known_lens(options.lens)
    fields = (
        "vignetting",
        "distortion",
        "focal_length_mm",
        "f_number",
        "focus_distance_m",
        "shutter_s",
        "iso",
    )
    told = {name: value for name in fields if (value := getattr(known.camera, name)) is not None}
    camera = replace(before or known.camera, **told)
    camera = replace(
        camera,
        sensor=replace(camera.sensor, width=known.camera.sensor.width, height=known.camera.sensor.height),
    )
    say(f"lensfun knows this lens as {known.name}.")
    remarks = [
        "lensfun's numbers were measured on another lens of this kind. Flats of your own are better.",
        "The focal length is EXIF's, a rounded number, times lensfun's scale in the middle of the picture.",
    ]
    return Calibration(camera, [known_section(known)], remarks)


def _from_exposures(
    options: CalibrateOptions, before: CameraFile | None, linearise: Linearise, say: Say
) -> Calibration:
    """The response."""
    assert options.exposures is not None
    taken = read_exposures(options.exposures, say)
    fit = fit_response(taken)
    camera = replace(_of_size(before, options, taken.size), response=fit.knots)
    remarks = [
        "A factor on the light of all photos and the light of white cannot be told apart: white is light 1.",
        f"Pixel values from {fit.seen[0]:.0%} to {fit.seen[1]:.0%} of white were seen in several photos. The "
        "curve outside of them is continued smoothly.",
        "The shutter times are EXIF's. Cameras round them, 1/64 s to 1/60 s; the curve is as wrong.",
    ]
    return Calibration(camera, [response_section(fit, taken.times)], remarks)


def _from_frames(
    options: CalibrateOptions, before: CameraFile | None, linearise: Linearise, say: Say
) -> Calibration:
    """Noise and vignetting."""
    assert options.flats is not None and options.darks is not None
    flats = read_frames(options.flats, linearise, evened=True, say=say)
    darks = read_frames(options.darks, linearise, evened=False, say=say)
    if flats.mean.shape != darks.mean.shape:
        raise InputError(
            f"{options.flats} and {options.darks} hold frames of different sizes or kinds: "
            "take both with one camera."
        )
    camera = _of_size(before, options, flats.size)
    f_number = exif_f_number(options.flats)
    noise = {
        "shot_gain": shot_gain(flats, darks),
        "read_noise": read_noise(darks),
        "fixed_pattern": fixed_pattern(darks),
    }
    if noise["shot_gain"].value <= 0:
        say(
            f"Warning: {options.flats} vary no more than {options.darks}, so shot noise cannot be measured: "
            "see whether `response` is right, and whether the camera smooths noise."
        )
    channels = range(3) if options.per_colour and len(flats.mean) == 3 else [None]
    vignettes = [vignette(flats, darks, channel) for channel in channels]
    camera = replace(camera, noise=_noise(noise, camera), vignetting=_vignetting(vignettes, f_number))
    return Calibration(camera, frame_sections(noise, vignettes, flats.count, darks.count), _remarks(f_number))


def _from_charts(
    options: CalibrateOptions, before: CameraFile | None, linearise: Linearise, say: Say
) -> Calibration:
    """f-number and focus distance."""
    assert options.defocus is not None
    if before is None or before.focal_length_mm is None:
        raise InputError(
            "`defocus` needs the focal length: give `camera`, a camera.json with focal_length_mm."
        )
    charts, size = read_charts(options.defocus, linearise, say)
    fits = fit_lens(charts)
    focus = min(fits[0].focus_distance, NEAREST_AND_FARTHEST[1])
    camera = replace(_of_size(before, options, size), focus_distance_m=focus)
    fx = float(PhysicalCamera(camera).focal_px.detach())
    f_number, *others = (fx * before.focal_length_mm / 1000 / fit.K for fit in fits)
    remarks = [
        "The sharp twins count as sharp: a lens stopped down to f/16 makes a lens of f/2 look about f/2.02."
    ]
    for other in others:
        remarks.append(
            f"Another lens fits the charts, with {fits[1].error:.2f} px instead of {fits[0].error:.2f}: "
            f"f/{other:.3g}, focused at {fits[1].focus_distance:.3g} m."
        )
    return Calibration(replace(camera, f_number=f_number), chart_sections(charts, fits[0], f_number), remarks)


def _of_size(before: CameraFile | None, options: CalibrateOptions, size: tuple[int, int]) -> CameraFile:
    """The camera so far, with pictures of this size (width, height)."""
    camera = before or CameraFile(_sensor(options.sensor_mm, size))
    return replace(camera, sensor=replace(camera.sensor, width=size[0], height=size[1]))


def _sensor(size_mm: str | None, size: tuple[int, int]) -> Sensor:
    try:
        width, height = map(float, (size_mm or "").lower().split("x"))
    except ValueError:
        width = height = 0.0
    if not (0 < width <= LARGEST_SENSOR and 0 < height <= LARGEST_SENSOR):
        raise InputError("`sensor_mm` must be the size of the sensor in mm, such as 36x24; or give `camera`.")
    return Sensor(width, height, *size)


def _noise(noise: dict[str, Estimate], before: CameraFile) -> Noise:
    """The dark current stays: darks of one shutter time do not tell it."""
    values = {name: max(estimate.value, 0.0) for name, estimate in noise.items()}
    return Noise(**values, dark_current=before.noise.dark_current if before.noise else 0.0)


def _vignetting(found: list[VignetteFit], f_number: float | None) -> Vignetting:
    coefficients = tuple(one.coefficients for one in found)
    center = tuple(sum(one.center[axis] for one in found) / len(found) for axis in (0, 1))
    if f_number is None:
        return Vignetting(coefficients, center=center)
    return Vignetting(wide_open=coefficients, f_number=f_number, center=center)


def _remarks(f_number: float | None) -> list[str]:
    at = "at one unknown f-number" if f_number is None else f"at f/{f_number:g}"
    effect = "at every f-number alike" if f_number is None else "to go as the lens is stopped down"
    return [
        f"The flats were taken {at}. What the lens loses at any f-number and what goes as it is stopped down "
        f"cannot be told apart: all of it is taken {effect}.",
        "Darks of one shutter time do not tell dark current and black level apart: the former stays.",
        "Where values cannot go below 0, the fixed pattern cannot be told from the read noise.",
        "Light that falls to one side of the flats looks like a vignette off the centre.",
    ]
