"""Camera paths: between views that the user chose, through the photos, on a spiral, in an orbit."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cocogs.camera import Camera, mean_up, pose_at, where_axes_meet
from cocogs.errors import InputError
from cocogs.io.camera_path import LensSetting, PathFrame
from cocogs.optics.lens import focus_between

SMOOTHING = 1.0  # photos; standard deviation of the weighted average that smooths a path through them
SPIRAL_TURNS = 2


def fill_in(keyframes: Sequence[PathFrame], count: int) -> list[PathFrame]:
    """`count` >= 2 frames that run through the keyframes, which are evenly spread in time.

    Positions follow a Catmull-Rom spline, rotations turn about one axis between neighbours, and the focus
    moves evenly in 1/z. Size and focal length are those of the first keyframe.
    """
    frames = []
    for index in range(count):
        place = index / (count - 1) * (len(keyframes) - 1)
        first = min(int(place), max(len(keyframes) - 2, 0))
        frames.append(_between(keyframes, first, place - first))
    return frames


def _between(keyframes: Sequence[PathFrame], first: int, t: float) -> PathFrame:
    """`t` in [0, 1] of the way from keyframe `first` to the next."""
    last = len(keyframes) - 1
    before, start, end, after = (keyframes[min(max(first + step, 0), last)] for step in (-1, 0, 1, 2))
    places = [frame.camera.position.double() for frame in (before, start, end, after)]
    camera = _placed(keyframes[0].camera, _turned(start.camera, end.camera, t), _spline(places, t))
    if start.lens is None or end.lens is None:
        return PathFrame(camera)
    focus = focus_between(start.lens.focus_distance, end.lens.focus_distance, t)
    aperture = (1 - t) * start.lens.aperture_diameter + t * end.lens.aperture_diameter
    return PathFrame(camera, LensSetting(focus, aperture))


def _spline(places: Sequence[Tensor], t: float) -> Tensor:
    """Catmull and Rom (1974), uniform: from places[1] to places[2]."""
    a, b, c, d = places
    bend = (2 * a - 5 * b + 4 * c - d) * t + (3 * (b - c) + d - a) * t * t
    return b + t / 2 * (c - a + bend)


def _turned(start: Camera, end: Camera, t: float) -> Tensor:
    """(3, 3) rotation at `t` in [0, 1] of the way between two cameras, about one axis."""
    a, b = (camera.cam_from_world[:3, :3].double() for camera in (start, end))
    return turn(t * torch.from_numpy(Rotation.from_matrix((b @ a.T).numpy()).as_rotvec())) @ a


def turn(vector: Tensor) -> Tensor:
    """(3, 3) rotation about the axis `vector` (3,) by its length in radians."""
    return torch.from_numpy(Rotation.from_rotvec(vector.numpy()).as_matrix())


def _placed(camera: Camera, rotation: Tensor, position: Tensor) -> Camera:
    return replace(camera, cam_from_world=pose_at(rotation, position))


def through_photos(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """`count` cameras along those of the photos in their order, positions and directions smoothed.

    Raises:
        InputError: there is one photo only.
    """
    if len(cameras) < 2:
        raise InputError("A path through the photos needs at least 2 of them: choose `path=orbit`.")
    number = torch.arange(len(cameras), dtype=torch.float64)
    weights = torch.exp(-((number - number[:, None]) / SMOOTHING).square() / 2)
    weights /= weights.sum(1, keepdim=True)
    positions = weights @ torch.stack([camera.position.double() for camera in cameras])
    means = torch.einsum(
        "ij,jkl->ikl", weights, torch.stack([c.cam_from_world[:3, :3].double() for c in cameras])
    )
    keyframes = [
        PathFrame(_placed(camera, nearest_rotation(mean), position))
        for camera, mean, position in zip(cameras, means, positions, strict=True)
    ]
    return [frame.camera for frame in fill_in(keyframes, count)]


def spiral(cameras: Sequence[Camera], depth: float, count: int) -> list[Camera]:
    """`count` cameras that circle among the positions of the photos and look at a point in front of them, for
    photos taken from about one side. The path is closed.

    Args:
        depth: distance of that point from the mean position of the photos, scene units.
    """
    positions = torch.stack([camera.position.double() for camera in cameras])
    axes = nearest_rotation(torch.stack([c.cam_from_world[:3, :3].double() for c in cameras]).mean(0))
    center = positions.mean(0)
    radii = ((positions - center) @ axes.T).abs().quantile(0.8, dim=0)
    target = center + depth * axes[2]
    frames = []
    for turn in (torch.arange(count, dtype=torch.float64) / count * 2 * math.pi).tolist():
        angle = SPIRAL_TURNS * turn
        offset = torch.tensor([math.cos(angle), math.sin(angle), math.sin(turn)], dtype=torch.float64) * radii
        frames.append(looking(cameras[0], center + offset @ axes, target, -axes[1]))
    return frames


def orbit(cameras: Sequence[Camera], count: int) -> list[Camera]:
    """`count` cameras on a circle around the point that the photos look at, at their mean height and
    distance, for photos taken all around. The path is closed.

    Raises:
        InputError: the photos look in parallel and share no point, or were taken from one place.
    """
    positions = torch.stack([camera.position.double() for camera in cameras])
    up = mean_up(cameras)
    up = up / up.norm()
    target, condition = where_axes_meet(cameras)
    if condition > 1e6:
        raise InputError("The photos look in parallel, there is nothing to orbit: choose `path=spiral`.")
    height = float(((positions - target) @ up).mean())
    start = positions[0] - target
    start = start - (start @ up) * up
    radius = float(((positions - target) - ((positions - target) @ up)[:, None] * up).norm(dim=1).mean())
    if radius <= 1e-6 * max(abs(height), float(positions.abs().max())):
        raise InputError(
            "The photos were taken from one place, there is nothing to orbit: choose `path=photos`."
        )
    start = start / start.norm().clamp_min(1e-9) * radius
    turns = [turn(2 * math.pi * index / count * up) for index in range(count)]
    return [looking(cameras[0], target + height * up + turned @ start, target, up) for turned in turns]


def looking(camera: Camera, position: Tensor, target: Tensor, up: Tensor) -> Camera:
    """The same camera at another position, turned so that `target` is in the middle and `up` points up."""
    forward = (target - position) / (target - position).norm()
    right = torch.linalg.cross(forward, up)
    right = right / right.norm().clamp_min(1e-9)
    return _placed(camera, torch.stack([right, torch.linalg.cross(forward, right), forward]), position)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation (3, 3) nearest to a mean of rotations, in the Frobenius norm."""
    U, _, Vt = torch.linalg.svd(matrix)
    U[:, 2] *= torch.sign(torch.linalg.det(U @ Vt))
    return U @ Vt
