"""Camera models: from a real lens (`Intrinsics`) to a pinhole camera, and pictures undistorted to match.

The camera models are COLMAP's; pycolmap evaluates them.
"""

from functools import lru_cache

import numpy as np
import pycolmap
import torch
from torch import Tensor

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.errors import InputError
from cocogs.io.source import Intrinsics, fits_float32, is_size
from cocogs.plain_torch import serves_gradients

# Focal lengths, and how far the principal point may lie from the corner, in picture sizes. A lens of 2 m
# before 35 mm film has 56. What lies beyond comes from a damaged file.
FOCAL_LENGTHS = 1e-2, 1e4
FARTHEST_CENTER = 100

# Pixels of an undistorted picture. Of smaller ones it is kept where their pixels lie in the distorted one; of
# larger ones that is found anew for every photo, for so many pixels at a time.
KEPT_GRID = 1 << 22


def is_pinhole(intrinsics: Intrinsics) -> bool:
    """Whether the lens has no distortion."""
    return intrinsics.model in ("PINHOLE", "SIMPLE_PINHOLE")


@lru_cache(maxsize=64)
def pinhole(intrinsics: Intrinsics) -> Intrinsics:
    """The PINHOLE camera of the undistorted picture, which shows nothing from outside the distorted one."""
    if is_pinhole(intrinsics):
        *focal, cx, cy = intrinsics.params
        return Intrinsics("PINHOLE", intrinsics.width, intrinsics.height, (focal[0], focal[-1], cx, cy))
    flat = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), as_pycolmap(intrinsics))
    return Intrinsics(flat.model_name, flat.width, flat.height, tuple(map(float, flat.params)))


def resized(intrinsics: Intrinsics, width: int, height: int) -> Intrinsics:
    """The same lens for a picture of another size in px."""
    if (width, height) == (intrinsics.width, intrinsics.height):
        return intrinsics
    camera = as_pycolmap(intrinsics)
    camera.rescale(width, height)
    return Intrinsics(intrinsics.model, width, height, tuple(map(float, camera.params)))


def to_camera(intrinsics: Intrinsics, cam_from_world: Tensor) -> Camera:
    """Our Camera from PINHOLE intrinsics and a (4, 4) pose."""
    matrix = intrinsics_matrix(*intrinsics.params)
    return Camera(matrix, cam_from_world, intrinsics.width, intrinsics.height)


def from_camera(camera: Camera) -> Intrinsics:
    """The PINHOLE intrinsics of our Camera."""
    params = (camera.fx, camera.fy, camera.cx, camera.cy)
    return Intrinsics("PINHOLE", camera.width, camera.height, params)


def as_pycolmap(intrinsics: Intrinsics) -> pycolmap.Camera:
    """The same lens as pycolmap's object."""
    return pycolmap.Camera(
        model=intrinsics.model,
        width=intrinsics.width,
        height=intrinsics.height,
        params=list(intrinsics.params),
    )


def is_possible(lens: Intrinsics) -> bool:
    """Whether pictures can have this size, and their lens these focal lengths and this principal point."""
    if not (is_size(lens.width, lens.height) and fits_float32(lens.params)):
        return False
    camera, size = as_pycolmap(lens), max(lens.width, lens.height)
    if not camera.verify_params():  # too few or too many
        return False
    focal_lengths = [lens.params[index] for index in camera.focal_length_idxs()]
    center = [lens.params[index] for index in camera.principal_point_idxs()]
    shortest, longest = FOCAL_LENGTHS
    return all(shortest * size <= focal <= longest * size for focal in focal_lengths) and all(
        abs(value) <= FARTHEST_CENTER * size for value in center
    )


@lru_cache(maxsize=4)
@serves_gradients
def _kept_grid(lens: Intrinsics, flat: Intrinsics) -> Tensor:
    return undistortion_grid(lens, flat, range(flat.height))


def undistortion_grid(lens: Intrinsics, flat: Intrinsics, rows: range) -> Tensor:
    """Where each pixel of some rows of the undistorted picture lies in the distorted one.

    Args:
        lens: the distorted picture's.
        flat: the undistorted picture's, PINHOLE.

    Returns:
        (len(rows), w, 2) float32 positions (x, y) in the distorted picture, scaled to [-1, 1] from border to
        border (the grid that `torch.nn.functional.grid_sample` takes with align_corners=False).
    """
    fx, fy, cx, cy = flat.params
    x = (np.arange(flat.width) + 0.5 - cx) / fx
    y = (np.arange(rows.start, rows.stop) + 0.5 - cy) / fy
    rays = np.stack([*np.meshgrid(x, y), np.ones((len(rows), flat.width))], axis=-1)
    pixels = np.asarray(as_pycolmap(lens).img_from_cam(rays.reshape(-1, 3)))
    grid = pixels.reshape(len(rows), flat.width, 2) * (2 / lens.width, 2 / lens.height) - 1
    return torch.from_numpy(grid).float()


def undistort(picture: np.ndarray, lens: Intrinsics, flat: Intrinsics) -> np.ndarray:
    """(h, w, C) float32 pinhole picture from a distorted (H, W, C) float32 one.

    Sampling is bicubic. Bilinear sampling, which COLMAP uses, takes a fifth of the contrast off stripes that
    are 4 px apart. Bicubic sampling may overshoot: a picture in [0, 1] can come out slightly outside.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    flattened = np.empty((flat.height, flat.width, picture.shape[2]), np.float32)
    is_small = flat.width * flat.height <= KEPT_GRID
    step = flat.height if is_small else max(1, KEPT_GRID // flat.width)
    for top in range(0, flat.height, step):
        rows = range(top, min(top + step, flat.height))
        grid = _kept_grid(lens, flat) if is_small else undistortion_grid(lens, flat, rows)
        flattened[rows.start : rows.stop] = sampled(image, grid).permute(1, 2, 0).numpy()
    return flattened


def sampled(picture: Tensor, grid: Tensor, mode: str = "bicubic") -> Tensor:
    """(C, h, w) samples of a (C, H, W) picture at the places of a (h, w, 2) grid; keeps gradients."""
    options = {"mode": mode, "padding_mode": "border", "align_corners": False}
    return torch.nn.functional.grid_sample(picture[None], grid[None].to(picture), **options)[0]


@lru_cache(maxsize=4)
@serves_gradients
def distortion_grid(lens: Intrinsics, flat: Intrinsics) -> Tensor:
    """Where each pixel of the distorted picture lies in the undistorted one; see `undistortion_grid`.

    Raises:
        InputError: some pixels lie nowhere.
    """
    centers = np.stack(np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5), axis=-1)
    rays = slopes(lens, centers.reshape(-1, 2))
    fx, fy, cx, cy = flat.params
    pixels = (rays * (fx, fy) + (cx, cy)).reshape(lens.height, lens.width, 2)
    return torch.from_numpy(pixels * (2 / flat.width, 2 / flat.height) - 1).float()


def slopes(lens: Intrinsics, pixels: np.ndarray) -> np.ndarray:
    """(P, 2) float64 x/z and y/z of the rays that meet (P, 2) pixels of the distorted picture.

    Raises:
        InputError: no ray meets some of them.
    """
    rays = np.asarray(as_pycolmap(lens).cam_from_img(pixels))
    if not np.isfinite(rays).all():
        raise InputError(
            f"The distortion ({lens.model} {lens.params[4:]}) reaches no ray for some pixels of "
            f"{lens.width}x{lens.height}: see whether its numbers and the focal length belong to this camera."
        )
    return rays
