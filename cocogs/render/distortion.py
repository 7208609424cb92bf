"""Pictures as a real lens distorts them: what training takes out of photos, put back."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.errors import InputError
from cocogs.io.camera_file import read_camera_file
from cocogs.io.camera_path import LARGEST_DRAWN
from cocogs.io.source import Intrinsics
from cocogs.io.undistort import (
    as_pycolmap,
    distortion_grid,
    from_camera,
    is_pinhole,
    pinhole,
    resized,
    sampled,
    slopes,
)
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.render.options import RenderOptions, parse_size
from cocogs.run import Run
from cocogs.scene import View

PHOTOS = "photos"  # instead of a camera.json: the photos' own lenses
MARGIN = 2  # px around what a picture shows, which bicubic samples read
ALIKE = 0.01  # relative difference between the shapes of pictures that count as one


def choose_distortion(
    run: Run, views: Sequence[View | None], options: RenderOptions
) -> list[Intrinsics | None]:
    """The lens whose distortion each picture shows, with the picture's size; None: a pinhole.

    Args:
        views: of each picture, the photo from whose place it is drawn; None on a path.

    Raises:
        InputError: no such camera, or a size of another shape.
    """
    if options.camera is None:
        return [None] * len(views)
    if options.camera == PHOTOS:
        lenses = [as_trained(view or _only(run)) for view in views]
    else:
        lenses = [PhysicalCamera(read_camera_file(Path(options.camera))).distorting()] * len(views)
    return [_sized(lens, options) for lens in lenses]


def as_trained(view: View) -> Intrinsics:
    """The lens of a photo, for pictures whose pixels are as large as training's."""
    lens, flat = view.original.lens, pinhole(view.original.lens)
    return resized(
        lens, *(max(1, round(side * view.camera.width / flat.width)) for side in (lens.width, lens.height))
    )


def _only(run: Run) -> View:
    """A photo, whose lens is that of all photos.

    Raises:
        InputError: there are several lenses.
    """
    views = run.scene.views
    if any(view.original.lens != views[0].original.lens for view in views):
        raise InputError(
            "The photos have several lenses, so `camera=photos` does not tell that of a path: name a photo "
            "with `view`, or give a camera.json."
        )
    return views[0]


def _sized(lens: Intrinsics, options: RenderOptions) -> Intrinsics:
    """The lens for the size that was asked for."""
    width, height = (lens.width, None) if options.size is None else parse_size(options.size)
    natural = lens.height * width / lens.width
    if height is not None and abs(height / natural - 1) > ALIKE and abs(height - natural) > 1:
        raise InputError(
            f"`size` {options.size} has another shape than the {lens.width}x{lens.height} px of `camera`, "
            f"whose distortion fills its own: give `size={width}`."
        )
    height = height or max(1, round(natural))
    if max(width, height) > LARGEST_DRAWN:
        raise InputError(f"`camera` has {width}x{height} px, too many to draw: give a smaller `size`.")
    return resized(lens, width, height)


def covering(lens: Intrinsics, place: Camera) -> Camera:
    """The pinhole at a place that sees all that the lens shows, in pixels as large as those in its middle.

    Raises:
        InputError: the lens sees wider than a pinhole's picture can show.
    """
    fx, fy, cx, cy = _middle(lens)
    seen = slopes(lens, _border(lens)) * (fx, fy) + (cx, cy)
    left, top = (math.floor(side) - MARGIN for side in seen.min(0))
    right, bottom = (math.ceil(side) + MARGIN for side in seen.max(0))
    if max(right - left, bottom - top) > LARGEST_DRAWN:
        raise InputError(
            f"The lens sees too wide an angle for a pinhole, which would need {right - left}x{bottom - top} "
            "px: give a smaller `size`, or leave out `camera`."
        )
    matrix = intrinsics_matrix(fx, fy, cx - left, cy - top)
    return replace(
        place, intrinsics=matrix.to(place.intrinsics), width=right - left, height=bottom - top, full_view=None
    )


def _border(lens: Intrinsics) -> np.ndarray:
    """(P, 2) places around the picture, px apart."""
    x, y = np.arange(lens.width + 1.0), np.arange(lens.height + 1.0)
    sides = [(x, 0 * x), (x, 0 * x + lens.height), (0 * y, y), (0 * y + lens.width, y)]
    return np.concatenate([np.stack(side, 1) for side in sides])


def _middle(lens: Intrinsics) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of the pinhole that a lens is in its middle."""
    if is_pinhole(lens):
        fx, fy, cx, cy = pinhole(lens).params
        return fx, fy, cx, cy
    camera = as_pycolmap(lens)
    return camera.focal_length_x, camera.focal_length_y, camera.principal_point_x, camera.principal_point_y


def distorted(
    picture: Float[Tensor, "*C h w"], lens: Intrinsics, camera: Camera, mode: str = "bicubic"
) -> Float[Tensor, "*C H W"]:
    """What the lens shows of a picture drawn by `camera`, which comes from `covering`."""
    grid = distortion_grid(lens, from_camera(camera))
    planes = picture.reshape(-1, *picture.shape[-2:])
    shown = sampled(planes, grid.to(picture.device), mode)
    return shown.reshape(*picture.shape[:-2], *shown.shape[-2:])
