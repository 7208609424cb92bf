"""What the viewer shows: a run, or a .ply, perhaps with its .lens.json, as data and functions that draw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cocogs.camera import Camera, intrinsics_matrix, mean_up, most_central
from cocogs.edits import edited_scene
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, z_curve_order
from cocogs.io.lens_file import LensFile, Metres, lens_beside, read_lens_file
from cocogs.io.ply import read_ply
from cocogs.metres import sentences
from cocogs.optics.lens import Lens
from cocogs.quantiles import quantiles
from cocogs.render.refocusing import depth_at, refocus, sharp_depth
from cocogs.run import Run, load_run
from cocogs.scene.frame import near_plane

START_SIZE = (640, 426)  # px; of the pictures of a scene without photos
START_FOCAL_LENGTH = 600.0  # px; the view then spans 56 degrees
START_OPENING = 0.03  # aperture / focus distance: that of a 50 mm lens at f/1.7, focused at 1 m
UNKNOWN_LENGTH = "How long a scene unit is in metres is not known."
GLANCE = 96  # px; width of the small renders that measure the depth of a scene


@dataclass(frozen=True)
class Photo:
    """A photo of the scene.

    Args:
        load: gives (3, H, W) sRGB, at the size of `camera`; None where only the camera is known.
        lens: the learned one; None where none was learned (test photos, preset 3dgs).
    """

    name: str
    camera: Camera
    load: Callable[[], Tensor] | None
    lens: Lens | None


@dataclass(frozen=True)
class Exhibit:
    """A scene to look at.

    Args:
        title: its name for the user.
        draw: (camera, lens, samples, check) -> (3, H, W) sRGB; `check` is called between lens samples and may
            raise to stop the work.
        depth: camera -> (H, W) z-depth in scene units, infinite where nothing is.
        depth_at: (camera, x, y) -> z-depth of what is seen at a point; raises InputError where nothing is.
        photos: in the order of their names; empty where only Gaussians are known.
        start: camera at the start.
        up: (3,) the direction that is up in the scene.
        lens: at the start.
        depth_range: smallest and largest depth of the scene, scene units.
        focal_length: of the lens that took the photos, in scene units: f-number = focal_length / aperture
            diameter. None where the photos' EXIF has no f-number.
        metres: one scene unit in metres; None where EXIF does not tell.
        about_metres: a sentence for the user: how long a scene unit is, or that it cannot be known.
        target: the run folder or .ply, whose edits can be written; None where there is none.
    """

    title: str
    draw: Callable[[Camera, Lens, int, Callable[[], None]], Tensor]
    depth: Callable[[Camera], Tensor]
    depth_at: Callable[[Camera, float, float], float]
    photos: Sequence[Photo]
    start: Camera
    up: Tensor
    lens: Lens
    depth_range: tuple[float, float]
    focal_length: float | None = None
    metres: float | None = None
    about_metres: str = UNKNOWN_LENGTH
    target: Path | None = None

    @property
    def shows_photos(self) -> bool:
        """Whether the photos' pictures are at hand."""
        return any(photo.load is not None for photo in self.photos)


def open_exhibit(path: Path) -> Exhibit:
    """Open a run folder, or a .ply of 3D Gaussians with the .lens.json beside it, if there is one.

    Raises:
        InputError: the path is neither, or cannot be read.
    """
    if path.is_dir():
        return replace(exhibit_run(load_run(path)), target=path)
    if path.suffix.lower() == ".ply":
        beside = lens_beside(path)
        gaussians = read_ply(path)
        gaussians = edited_scene(path, gaussians)[1].gaussians
        in_order = gaussians[z_curve_order(gaussians.means)]  # many are drawn in half the time
        file = read_lens_file(beside) if beside.is_file() else None
        return replace(exhibit_gaussians(in_order, path.stem, file), target=path)
    problem = "is neither a run folder nor a .ply nor a photo" if path.exists() else "does not exist"
    raise InputError(
        f"{path} {problem}: give what `cocogs train --out` wrote, a .ply of 3D Gaussians, or a photo."
    )


def exhibit_run(run: Run) -> Exhibit:
    has_lens = run.has_lens
    photos = [
        Photo(
            view.name,
            run.model.camera(view),
            partial(run.scene.photo, view),
            run.lens(view.name) if has_lens and not view.is_test else None,
        )
        for view in run.scene.views
    ]
    gaussians, title = run.model.gaussians, run.folder.resolve().name
    if not has_lens:
        return exhibit_photographed(gaussians, title, photos)
    learned = run.learned
    shown = exhibit_photographed(gaussians, title, photos, run.lens(), learned.f_number, learned.metres)
    return replace(shown, about_metres=learned.about_metres)


def exhibit_gaussians(gaussians: Gaussians, title: str, file: LensFile | None = None) -> Exhibit:
    """A scene without its photos, perhaps with a file of their cameras and lenses.

    Raises:
        InputError: there are no Gaussians.
    """
    if len(gaussians) == 0:
        raise InputError(f"{title} holds no Gaussians: give another .ply.")
    if file is not None:
        cameras = [photo.camera for photo in file.photos]
        near = near_plane(cameras, gaussians.means.detach())
        photos = [
            Photo(p.name, replace(p.camera, near=near), None, None if p.lens is None else Lens(*p.lens))
            for p in file.photos
        ]
        typical = None if file.typical is None else Lens(*file.typical)
        return exhibit_photographed(gaussians, title, photos, typical, file.f_number, file.metres)
    start = overview(gaussians)
    depths = seen_depths(gaussians, [start])
    return Exhibit(
        title=title,
        **drawing(lambda: gaussians),
        photos=(),
        start=start,
        up=torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64),  # as COLMAP's and most .ply scenes
        lens=guess_lens(depths),
        depth_range=depth_range(depths, []),
    )


def exhibit_photographed(
    gaussians: Gaussians, title: str, photos: Sequence[Photo], lens: Lens | None = None,
    f_number: float | None = None, metres: Metres | None = None,
) -> Exhibit:  # fmt: skip
    """A scene with the cameras of its photos.

    Args:
        lens: the typical one; None where none was learned.
        f_number: of the aperture of `lens`; None where it is unknown.
        metres: in a scene unit; None where it is unknown.
    """
    cameras = [photo.camera for photo in photos]
    depths = seen_depths(gaussians, cameras[:: math.ceil(len(cameras) / 8)])
    return Exhibit(
        title=title,
        **drawing(lambda: gaussians),
        photos=photos,
        start=cameras[most_central(cameras)],
        up=mean_up(cameras),
        lens=lens or guess_lens(depths),
        depth_range=depth_range(depths, [p.lens.focus_distance for p in photos if p.lens]),
        focal_length=None if lens is None or f_number is None else f_number * lens.aperture_diameter,
        metres=None if metres is None else metres.per_unit,
        about_metres=UNKNOWN_LENGTH if metres is None else sentences(metres),
    )


def drawing(scene: Callable[[], Gaussians]) -> dict:
    """The functions of an `Exhibit` that draw Gaussians.

    Args:
        scene: gives them once they are to be drawn, the same ones every time.
    """

    def draw(camera: Camera, lens: Lens, samples: int, check: Callable[[], None]) -> Tensor:
        return refocus(scene(), camera, lens, samples, check)

    return {
        "draw": draw,
        "depth": lambda camera: sharp_depth(scene(), camera),
        "depth_at": lambda camera, x, y: depth_at(scene(), camera, x, y),
    }


def seen_depths(gaussians: Gaussians, cameras: Sequence[Camera]) -> Tensor:
    """(P,) depths of what is seen from `cameras`; never empty."""
    glances = [c.resized(GLANCE, max(1, round(GLANCE * c.height / c.width))) for c in cameras]
    depths = torch.cat([sharp_depth(gaussians, camera).flatten() for camera in glances])
    depths = depths[depths.isfinite()]
    return depths if len(depths) else torch.ones(1)


def depth_range(depths: Tensor, focus_distances: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest depth of what is seen and of what photos are focused on, with some margin.

    A focus far outside of what is seen, such as infinity, widens the range only a little.
    """
    near, far = quantiles(depths, 0.02, 0.98).tolist()
    focused = [min(max(distance, near / 2), 2 * far) for distance in focus_distances]
    return 0.7 * min([near, *focused]), 1.3 * max([far, *focused])


def guess_lens(depths: Tensor) -> Lens:
    """A lens that blurs visibly, for a scene whose lens is unknown."""
    typical = float(depths.median())
    return Lens(typical, START_OPENING * typical)


@torch.no_grad()
def overview(gaussians: Gaussians) -> Camera:
    """A camera that looks along z and has most of the scene in front of it."""
    means = gaussians.means[gaussians.opacities.sigmoid() > 0.1]
    means = (means if len(means) else gaussians.means).double().cpu()
    center = means.median(0).values
    radius = float((means - center).norm(dim=1).kthvalue(math.ceil(0.8 * len(means))).values)
    radius = max(radius, float(gaussians.scales.exp().median()))  # of a single splat, for example
    width, height = START_SIZE
    focal = START_FOCAL_LENGTH
    intrinsics = intrinsics_matrix(focal, focal, width / 2, height / 2)
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[:3, 3] = -center
    cam_from_world[2, 3] += radius * 2 * focal / height
    camera = Camera(intrinsics, cam_from_world, width, height)
    return replace(camera, near=near_plane([camera], gaussians.means))
