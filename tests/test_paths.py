"""Camera paths through photos, on a spiral, in an orbit."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from tiny_run import VIEWS, tiny_camera

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.camera_path import PathFrame
from cocogs.render.paths import (
    fill_in,
    looking,
    nearest_rotation,
    orbit,
    spiral,
    through_photos,
    turn,
)

TARGET = torch.tensor([0.5, -0.3, 4.0]).double()
UP = torch.tensor([0.0, -1.0, 0.0]).double()


def ring(count: int = 12, radius: float = 3.0) -> list[Camera]:
    """Cameras that look at `TARGET` from all around and a little above."""
    cameras = []
    for angle in (torch.arange(count) / count * 2 * math.pi).tolist():
        offset = torch.tensor([radius * math.cos(angle), -1.0, radius * math.sin(angle)]).double()
        cameras.append(looking(tiny_camera(0), TARGET + offset, TARGET, UP))
    return cameras


def assert_rigid(cameras: list[Camera]) -> None:
    for camera in cameras:
        rotation = camera.cam_from_world[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double())
        assert float(torch.linalg.det(rotation)) == pytest.approx(1)


def steps(cameras: list[Camera]) -> list[float]:
    return [float((b.position - a.position).norm()) for a, b in itertools.pairwise(cameras)]


def test_orbit_circles_what_the_photos_look_at() -> None:
    cameras = orbit(ring(), 40)
    assert_rigid(cameras)
    for camera in cameras:
        pixel, depth = camera.project(TARGET)
        torch.testing.assert_close(pixel, torch.tensor([camera.cx, camera.cy]).double())
        assert float(depth) == pytest.approx(math.sqrt(9 + 1))
        assert float(camera.position[1]) == pytest.approx(-1.3)  # a little above
        assert float(camera.cam_from_world[1, :3] @ UP) < 0  # upright: y points down
    round_trip = steps([*cameras, cameras[0]])
    assert max(round_trip) == pytest.approx(min(round_trip), rel=1e-6)


def test_nothing_to_orbit_from_one_place() -> None:
    """A panorama: all lines of sight meet where the photographer stood."""
    place = torch.tensor([1.0, 2.0, 3.0]).double()
    around = [looking(tiny_camera(0), place, camera.position + place, UP) for camera in ring()]
    with pytest.raises(InputError, match="from one place, there is nothing to orbit"):
        orbit(around, 5)


def test_orbit_needs_a_common_point() -> None:
    cameras = [tiny_camera(4)] * 3
    with pytest.raises(InputError, match="nothing to orbit: choose `path=spiral`"):
        orbit(cameras, 5)


def test_spiral_stays_among_the_photos_and_closes() -> None:
    photos = [tiny_camera(index) for index in range(VIEWS)]
    cameras = spiral(photos, 4.0, 48)
    assert_rigid(cameras)
    places, box = (torch.stack([c.position for c in group]) for group in (cameras, photos))
    assert (places >= box.amin(0) - 0.05).all() and (places <= box.amax(0) + 0.05).all()
    assert float((places.amax(0) - places.amin(0)).max()) > 0.5 * float((box.amax(0) - box.amin(0)).max())
    assert max(steps([*cameras, cameras[0]])) < 3 * max(steps(cameras))
    target = torch.stack([c.project(torch.tensor([0.0, 0.0, 4.0]).double())[0] for c in cameras])
    assert float(target.std(0).max()) < 5  # px: it looks at a point about there


def test_through_the_photos_is_smooth_and_keeps_near_them() -> None:
    shaken = ring()
    shaken[5] = looking(shaken[5], shaken[5].position * 1.2, TARGET, UP)
    cameras = through_photos(shaken, 60)
    assert_rigid(cameras)
    assert len(cameras) == 60
    moves = steps(cameras)
    assert max(moves) < 3 * sorted(moves)[30]
    for camera in cameras:
        assert min(float((camera.position - photo.position).norm()) for photo in shaken) < 1.4
    with pytest.raises(InputError, match="at least 2"):
        through_photos(shaken[:1], 10)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.5, 3.0, math.pi - 1e-9, math.pi])
def test_half_way_between_two_views(angle: float) -> None:
    """Also where they look in opposite directions."""
    start, whole = tiny_camera(0), turn(angle * torch.tensor([0.6, 0.0, -0.8]).double())
    pose = start.cam_from_world.clone()
    pose[:3, :3] = whole @ pose[:3, :3]
    frames = fill_in([PathFrame(start), PathFrame(replace(start, cam_from_world=pose))], 3)
    a, middle, b = (frame.camera.cam_from_world[:3, :3] for frame in frames)
    torch.testing.assert_close(b @ a.T, whole, atol=1e-7, rtol=0)
    half = middle @ a.T
    torch.testing.assert_close(half @ half, whole, atol=1e-7, rtol=0)


def test_nearest_rotation_is_no_mirror() -> None:
    mirror = torch.diag(torch.tensor([1.0, 1.0, -0.5]).double())
    assert float(torch.linalg.det(nearest_rotation(mirror))) == pytest.approx(1)
