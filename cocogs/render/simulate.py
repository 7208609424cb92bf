"""A scene as a given camera takes it, in metres, with the truth beside the pictures: for the training of
networks that see.

Beside NAME.png lie NAME_depth and NAME_coc; transforms.json has the poses and the settings of every picture.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import opengl_from_pose
from cocogs.errors import InputError, check_number
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import write_text
from cocogs.io.camera_file import (
    CAMERA,
    NEAREST_AND_FARTHEST,
    CameraFile,
    read_camera_file,
    write_camera_file,
)
from cocogs.io.camera_path import LARGEST_DRAWN
from cocogs.io.lock import alone_in
from cocogs.io.progress import Say
from cocogs.optics.lens import focus_between
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.render import refuse_photos
from cocogs.render.files import write_pictures
from cocogs.render.frames import Frame, plan
from cocogs.render.lenses import metres_per_unit
from cocogs.render.options import RenderOptions
from cocogs.render.refocusing import coc_of, light_through, sharp_depth
from cocogs.run import Run

FORMATS = ("png", "png16", "exr")
MOST_STEPS = 1000  # of a bracket
MOST_STOPS = 30
BRACKETS = "focus:0.5m:3m:7 or exposure:-2:2:5"


@dataclass(frozen=True)
class SimulateOptions:
    """What to take; None = not given. cocogs/cli/simulate.py describes every field for users."""

    camera: Path
    out: Path
    views: str | None = None
    view: str | None = None
    path: str | None = None
    frames: int | None = None
    bracket: str | None = None
    samples: int = 64
    format: str = "png"
    seed: int = 0
    metres_per_unit: float | None = None


@dataclass(frozen=True)
class Simulated:
    """A picture of a simulated camera and what is true of it.

    Args:
        image: pixel values in [0, 1].
        depth: along the optical axis, metres; infinite where nothing is.
        coc: signed diameter of the circle of confusion, px; 0 where nothing is.
    """

    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    coc: Float[Tensor, "H W"]


@torch.no_grad()
def photograph(
    gaussians: Gaussians,
    camera: PhysicalCamera,
    cam_from_world: Float[Tensor, "4 4"],
    samples: int = 64,
    seed: int = 0,
) -> Simulated:
    """A scene in metres as the camera takes it; for thousands of pictures without a file in between.

    `PhysicalCamera.render` is quicker and keeps gradients, but its near things do not hide far ones as they
    do behind a real lens.

    Args:
        gaussians: in metres (`Gaussians.transformed` scales them).
        cam_from_world: rigid, metres.
        samples: points of the aperture; see `refocus`.
        seed: of the noise.
    """
    pinhole, lens = camera.at(cam_from_world), camera.as_set()
    light = light_through(gaussians, pinhole, lens, samples)
    depth = sharp_depth(gaussians, pinhole)
    return Simulated(camera.develop(light, seed), depth, coc_of(depth, pinhole, lens))


def simulate(run: Run, options: SimulateOptions, say: Say = print) -> list[Path]:
    """Take the pictures that `options` ask for.

    Returns:
        The pictures.

    Raises:
        InputError: options or a camera that do not fit, or a file that cannot be written.
    """
    if options.format not in FORMATS:
        raise InputError(f"`format` must be one of {', '.join(FORMATS)}, not {options.format}.")
    check_number("seed", options.seed, least=0, most=2**31, whole=True)
    check_number("metres_per_unit", options.metres_per_unit, least=1e-6, most=1e6)
    file = read_camera_file(options.camera)
    if max(file.sensor.width, file.sensor.height) > LARGEST_DRAWN:
        raise InputError(
            f"{options.camera} asks for more than {LARGEST_DRAWN} px a side, which cannot be drawn: "
            "lower the sensor's width and height."
        )
    metres = options.metres_per_unit or metres_per_unit(run, "give `metres_per_unit`")
    where = RenderOptions(options.out, options.views, options.view, options.path, frames=options.frames)
    drawing = replace(where, samples=options.samples, depth=True, coc=True)
    drawing.check_numbers()
    places, _ = plan(run, where)
    frames = list(_frames(places, list(settings(file, options.bracket)), metres, options.seed))
    refuse_photos(run, options.out, frames)
    with alone_in(options.out):
        with _in_metres(run, metres):
            paths = write_pictures(run, frames, drawing, options.out, options.format, say)
        write_camera_file(file, options.out / CAMERA)
        _write_transforms(frames, paths, options.out)
    return paths


@contextmanager
def _in_metres(run: Run, metres: float) -> Iterator[None]:
    """The run's scene is scaled to metres within the block."""
    own = run.model.gaussians
    run.model.gaussians = own.scaled(metres)
    try:
        yield
    finally:
        run.model.gaussians = own


def settings(file: CameraFile, bracket: str | None) -> Iterator[tuple[str, CameraFile]]:
    """The camera at every setting of a bracket, and what is added to the names of its pictures.

    Args:
        bracket: `focus:NEAR:FAR:COUNT` in metres, evenly in 1/distance; `exposure:LOW:HIGH:COUNT` in stops
            of the shutter; None: the camera as it is.

    Raises:
        InputError: no such text, or the camera has no shutter time to change.
    """
    if bracket is None:
        yield "", file
        return
    kind, first, last, count = _parsed(bracket)
    if kind == "exposure":
        if file.shutter_s is None or file.white_at is None:
            raise InputError(
                "A bracket of exposures changes the shutter: add f_number, shutter_s and iso to camera.json."
            )
        file = replace(file, reference=file.white_at)
    for index in range(count):
        t = index / (count - 1)
        if kind == "focus":
            changed = replace(file, focus_distance_m=focus_between(first, last, t))
        else:
            assert file.shutter_s is not None
            changed = replace(file, shutter_s=file.shutter_s * 2 ** (first + t * (last - first)))
        yield f"_{kind}{index:0{len(str(count - 1))}d}", changed


def _parsed(bracket: str) -> tuple[str, float, float, int]:
    """The kind of a bracket, its ends and the number of its steps."""
    try:
        kind, first, last, steps = bracket.lower().split(":")
        start, end, count = float(first.removesuffix("m")), float(last.removesuffix("m")), int(steps)
    except ValueError as error:
        raise InputError(f"`bracket` must be like {BRACKETS}, not {bracket}.") from error
    ranges = {"focus": NEAREST_AND_FARTHEST, "exposure": (-MOST_STOPS, MOST_STOPS)}
    if kind not in ranges or not 2 <= count <= MOST_STEPS:
        raise InputError(f"`bracket` must be like {BRACKETS}, with 2 to {MOST_STEPS} steps, not {bracket}.")
    low, high = ranges[kind]
    if not all(low <= limit <= high for limit in (start, end)):
        raise InputError(f"`bracket` must go from {low:g} to {high:g} at most, not {bracket}.")
    return kind, start, end, count


def _frames(
    places: list[Frame], bracket: list[tuple[str, CameraFile]], metres: float, seed: int
) -> Iterator[Frame]:
    """Every place with every setting; each picture has a noise of its own."""
    cameras = [(suffix, PhysicalCamera(file)) for suffix, file in bracket]
    for place in places:
        there = place.camera.scaled(metres)
        for suffix, camera in cameras:
            lens = camera.as_set()  # first: it names all that the file lacks
            pinhole = replace(camera.at(there.cam_from_world), near=there.near)
            lens.check_range(pinhole)
            yield Frame(place.name + suffix, pinhole, lens, taken_by=camera, seed=seed)
            seed += 1


def _write_transforms(frames: list[Frame], paths: list[Path], folder: Path) -> None:
    entries = [_entry(frame, path.relative_to(folder)) for frame, path in zip(frames, paths, strict=True)]
    write_text(folder / "transforms.json", json.dumps({"frames": entries}, indent=1) + "\n")


def _entry(frame: Frame, path: Path) -> dict:
    camera, taken_by = frame.camera, frame.taken_by
    assert taken_by is not None
    return {
        "file_path": path.as_posix(),
        "transform_matrix": opengl_from_pose(camera.cam_from_world).tolist(),
        "w": camera.width, "h": camera.height,
        "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy,
        **asdict(taken_by.file.distortion),
        "focus_distance_m": taken_by.file.focus_distance_m,
        "shutter_s": taken_by.file.shutter_s,
        "seed": frame.seed,
    }  # fmt: skip
