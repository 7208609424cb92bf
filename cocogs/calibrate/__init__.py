"""What a camera's own frames tell of it: noise and vignetting from flats and darks, into camera.json.

`docs/calibrate.md` tells how to take the frames, and what cannot be told apart.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cocogs.calibrate.estimates import Estimate, Vignette, fixed_pattern, read_noise, shot_gain, vignette
from cocogs.calibrate.frames import exif_f_number, linearise_by, read_frames
from cocogs.calibrate.report import calibration_page
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.camera_file import CameraFile, Noise, Sensor, Vignetting, read_camera_file, write_camera_file
from cocogs.io.progress import Say

LARGEST_SENSOR = 1000.0  # mm


@dataclass(frozen=True)
class CalibrateOptions:
    """What to calibrate from; cocogs/cli/calibrate.py describes every field for users."""

    flats: Path
    darks: Path
    out: Path
    sensor_mm: str | None = None
    camera: Path | None = None
    response: str = "srgb"
    per_colour: bool = False


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Args:
        noise: by the names of `Noise`.
        vignettes: one, or three for red, green and blue.
        remarks: what cannot be told apart, for people.
    """

    noise: dict[str, Estimate]
    vignettes: list[Vignette]
    remarks: list[str]


def calibrate(options: CalibrateOptions, say: Say = print) -> CameraFile:
    """Measure, and write camera.json with a page of curves beside it.

    Raises:
        InputError: frames that do not serve, or a file that cannot be written.
    """
    before = None if options.camera is None else read_camera_file(options.camera)
    linearise = linearise_by(options.response)
    flats = read_frames(options.flats, linearise, evened=True, say=say)
    darks = read_frames(options.darks, linearise, evened=False, say=say)
    if flats.mean.shape != darks.mean.shape:
        raise InputError(
            f"{options.flats} and {options.darks} hold frames of different sizes or kinds: "
            "take both with one camera."
        )
    camera = before or CameraFile(_sensor(options.sensor_mm, flats.size))
    if (camera.sensor.width, camera.sensor.height) != flats.size:
        camera = replace(camera, sensor=replace(camera.sensor, width=flats.size[0], height=flats.size[1]))
    f_number = exif_f_number(options.flats)
    noise = {
        "shot_gain": shot_gain(flats, darks),
        "read_noise": read_noise(darks),
        "fixed_pattern": fixed_pattern(darks),
    }
    channels = range(3) if options.per_colour and len(flats.mean) == 3 else [None]
    found = Calibration(noise, [vignette(flats, darks, channel) for channel in channels], _remarks(f_number))
    camera = replace(camera, noise=_noise(noise, camera), vignetting=_vignetting(found.vignettes, f_number))
    page = calibration_page(found, flats.count, darks.count)
    write_camera_file(camera, options.out)
    write_text(options.out.with_suffix(".html"), page)
    return camera


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


def _vignetting(found: list[Vignette], f_number: float | None) -> Vignetting:
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
