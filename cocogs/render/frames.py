"""From options to frames: which pictures are drawn, from where, and what they are called."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.camera_path import CameraPath, PathFrame, read_camera_path
from cocogs.io.pictures import picture_names
from cocogs.io.source import Intrinsics
from cocogs.optics.lens import Lens
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.render.distortion import choose_distortion, covering
from cocogs.render.lenses import check_aperture_alone, choose_lenses
from cocogs.render.options import FPS, FRAMES, RenderOptions, choose_views, find_view, parse_size
from cocogs.render.paths import orbit, spiral, through_photos
from cocogs.run import Run
from cocogs.scene import View
from cocogs.scene.frame import size_of, typical_depth

SPECK = 1000  # times its size: a scene so far away is a speck


@dataclass(frozen=True)
class Frame:
    """One picture to draw.

    Args:
        name: of its file, relative to the folder, without suffix.
        camera: at the size to draw.
        lens: None = everything sharp.
        photo: number of the training photo whose own learned focus and blur are drawn instead, or None.
        taken_by: the physical camera that takes the picture; None: the lens alone.
        seed: of its noise.
        distorted_by: the lens whose distortion the picture shows, with the picture's size; None: none.
    """

    name: str
    camera: Camera
    lens: Lens | None = None
    photo: int | None = None
    taken_by: PhysicalCamera | None = None
    seed: int = 0
    distorted_by: Intrinsics | None = None


def plan(run: Run, options: RenderOptions) -> tuple[list[Frame], float]:
    """The pictures to draw, and their frames per second should they become a film.

    Raises:
        InputError: options that do not fit each other or the run.
    """
    options.check_numbers()
    fps = options.fps or FPS
    if options.defocused:
        return _defocused(run, options), fps
    if options.path is not None:
        if (options.view is not None and options.focus_at is None) or options.views is not None:
            raise InputError("`path` moves the camera: leave out `view` and `views` with it.")
        path, own_fps = _path(run, options)
        places, fps = _numbered(path), options.fps or own_fps
        views = [None] * len(places)
    elif options.is_moving:
        first, *others = _chosen(run, options)
        if options.views is not None and others:
            raise InputError("`focus_pull` and `aperture_sweep` film one view: name it with `view`.")
        places = _numbered([PathFrame(run.model.camera(first))] * (options.frames or FRAMES))
        views = [first] * len(places)
    else:
        stills = _stills(run, options)
        places = [(name, PathFrame(run.model.camera(view))) for name, view in stills]
        views = [view for _, view in stills]
    lenses = choose_lenses(run, [place for _, place in places], options)
    shapes = choose_distortion(run, views, options)
    size = None if options.size is None else parse_size(options.size)
    frames = []
    for (name, place), lens, shape in zip(places, lenses, shapes, strict=True):
        camera = place.camera if size is None else sized(place.camera, size)
        if shape is not None:
            camera = covering(shape, place.camera)
        if lens is not None:
            lens.check_range(camera)
        frames.append(Frame(name, camera, lens, distorted_by=shape))
    return frames, fps


def _chosen(run: Run, options: RenderOptions) -> list[View]:
    """The photos from whose places pictures are drawn."""
    if options.view is not None and options.views is not None:
        raise InputError("`view` names one photo and `views` many: give one of the two.")
    return choose_views(run, options.views) if options.view is None else [find_view(run, options.view)]


def _stills(run: Run, options: RenderOptions) -> list[tuple[str, View]]:
    """The photos from whose places single pictures are drawn, and the names of the pictures."""
    views = _chosen(run, options)
    if options.frames is not None:
        raise InputError("`frames` counts the pictures of `path`, `focus_pull` or `aperture_sweep`: add one.")
    names = [name.removesuffix(".png") for name in picture_names([view.name for view in views])]
    return list(zip(names, views, strict=True))


def _path(run: Run, options: RenderOptions) -> tuple[list[PathFrame], float]:
    """The cameras of `path`, with the lens that a file gives them, and their frames per second."""
    cameras, count = [run.model.camera(view) for view in run.scene.views], options.frames or FRAMES
    if options.path == "photos":
        return [PathFrame(camera) for camera in through_photos(cameras, count)], FPS
    if options.path == "spiral":
        return [
            PathFrame(camera) for camera in spiral(cameras, typical_depth(cameras, run.scene.points), count)
        ], FPS
    if options.path == "orbit":
        return [PathFrame(camera) for camera in orbit(cameras, count)], FPS
    file = Path(str(options.path))
    if file.suffix.lower() != ".json":
        raise InputError(f"`path` must be photos, spiral, orbit, or a FILE.json of cameras, not {file}.")
    if options.frames is not None:
        raise InputError(f"`frames` cannot change the number of cameras in {file}: leave it out.")
    path = read_camera_path(file)
    _check_places(run, path, file)
    return [replace(frame, camera=in_scene(frame.camera, cameras[0])) for frame in path.frames], path.fps


def _check_places(run: Run, path: CameraPath, file: Path) -> None:
    """Raises InputError for a camera from which the whole scene is a speck: the path belongs to another."""
    positions = torch.stack([run.model.camera(view).position.double() for view in run.scene.views])
    farthest = SPECK * size_of(positions, run.scene.points)
    for number, frame in enumerate(path.frames):
        if float((frame.camera.position - positions.mean(0)).norm()) > farthest:
            raise InputError(
                f"{file}, frame {number}: the camera is more than {SPECK} times as far away as the scene is "
                f"large: give a path through {run.folder}."
            )


def in_scene(camera: Camera, photo: Camera) -> Camera:
    """A camera from a file, with all that the file does not tell taken from a camera of the scene."""
    return replace(
        photo,
        intrinsics=camera.intrinsics,
        cam_from_world=camera.cam_from_world,
        width=camera.width,
        height=camera.height,
    )


def _numbered(frames: Sequence[PathFrame]) -> list[tuple[str, PathFrame]]:
    return [(f"frame_{index:04d}", frame) for index, frame in enumerate(frames)]


def _defocused(run: Run, options: RenderOptions) -> list[Frame]:
    """Every photo with its own learned focus and blur."""
    if any(v is not None for v in (options.focus, options.focus_at, options.focus_pull)):
        raise InputError("`defocused` keeps the own focus of each photo: leave it out, or leave out `focus`.")
    if options.path or options.size or options.camera or options.is_moving:
        raise InputError(
            "`defocused` draws photos as training sees them: leave out `path`, `size`, `camera` and sweeps."
        )
    check_aperture_alone(options)
    stills = _stills(run, options)
    if any(view.is_test for _, view in stills):
        raise InputError(
            "Only training photos have a learned focus: use `defocused` with `views=train`, "
            "or choose a focus for the test views with `focus`."
        )
    numbers = {view.name: index for index, view in enumerate(run.scene.train_views)}
    return [Frame(name, run.model.camera(view), photo=numbers[view.name]) for name, view in stills]


def sized(camera: Camera, size: tuple[int, int | None]) -> Camera:
    """The camera with pictures of another size (width, height) and the same horizontal angle of view.

    Without a height the shape stays. With another shape, more or less is seen above and below.
    """
    width, height = size
    scale = width / camera.width
    natural = camera.height * scale
    height = height or max(1, round(natural))
    intrinsics = camera.intrinsics * camera.intrinsics.new_tensor([[scale], [scale], [1.0]])
    intrinsics[1, 2] += (height - natural) / 2
    return replace(camera, intrinsics=intrinsics, width=width, height=height)
