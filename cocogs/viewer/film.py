"""Pictures between a few that the user chose: a moving camera, a moving focus."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import viser.transforms

from cocogs.camera import Camera
from cocogs.io.camera_path import PathFrame


def fill_in(keyframes: Sequence[PathFrame], count: int) -> list[PathFrame]:
    """`count` >= 2 frames that run through the keyframes, which are evenly spread in time.

    Positions follow a Catmull-Rom spline, rotations turn about one axis between neighbours, and the focus
    moves evenly in 1/z, in which blur grows evenly. The picture's shape and its angle are the first one's.
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
    if start.focus_distance is None or end.focus_distance is None:
        return PathFrame(camera)
    assert start.aperture is not None and end.aperture is not None
    vergence = (1 - t) / start.focus_distance + t / end.focus_distance
    aperture = (1 - t) * start.aperture + t * end.aperture
    return PathFrame(camera, 1 / vergence if vergence > 0 else math.inf, aperture)


def _spline(places: Sequence[torch.Tensor], t: float) -> torch.Tensor:
    """Catmull and Rom (1974), uniform: from places[1] to places[2]."""
    a, b, c, d = places
    bend = (2 * a - 5 * b + 4 * c - d) * t + (3 * (b - c) + d - a) * t * t
    return b + t / 2 * (c - a + bend)


def _turned(start: Camera, end: Camera, t: float) -> torch.Tensor:
    """(3, 3) rotation, `t` of the way from one camera's to the other's."""
    a, b = (viser.transforms.SO3.from_matrix(c.cam_from_world[:3, :3].double().numpy()) for c in (start, end))
    return torch.from_numpy((viser.transforms.SO3.exp(t * (b @ a.inverse()).log()) @ a).as_matrix())


def _placed(camera: Camera, rotation: torch.Tensor, position: torch.Tensor) -> Camera:
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[:3, :3] = rotation
    cam_from_world[:3, 3] = -rotation @ position
    return replace(camera, cam_from_world=cam_from_world)
