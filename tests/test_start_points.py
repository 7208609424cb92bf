"""Start points: around those of SfM, and on what the photos show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import make_colmap, mask_as_prepared
from PIL import Image
from torch import Tensor

from cocogs.scene import Scene, open_scene
from cocogs.train import start_points
from cocogs.train.start_points import add_start_points, lift_pixels, scatter_points, thumbnail


@pytest.fixture
def room(tmp_path: Path) -> Scene:
    """Five photos of a room; of its 400 SfM points half lie on the walls, half float before them."""
    make_colmap(tmp_path / "data", 5)
    scene = open_scene(tmp_path / "data", tmp_path / "cache", say=lambda line: None)
    generator = torch.Generator().manual_seed(0)
    camera = scene.views[2].camera
    pixels = torch.rand(400, 2, generator=generator) * torch.tensor([camera.width, camera.height])
    points = on_the_walls(camera.position.float(), camera.unproject(pixels, torch.ones(400)))
    points[::2] = camera.position.float() + 0.6 * (points[::2] - camera.position.float())
    scene.points, scene.point_colors = points, torch.rand(400, 3, generator=generator)
    return scene


def on_the_walls(start: Tensor, towards: Tensor) -> Tensor:
    """Where the rays meet the room of `datasets.take_photo`."""
    rays = towards - start
    distances = torch.stack([(place - start[axis]) / rays[:, axis] for axis, place in WALLS])
    return start + torch.where(distances > 0, distances, torch.inf).amin(0)[:, None] * rays


WALLS = [(2, 4.0), (1, 1.0), (0, -1.5)]


def wall_error(points: Tensor) -> Tensor:
    """(P,) distance to the nearest wall, scene units; the walls are some 4 away."""
    return torch.stack([(points[:, axis] - place).abs() for axis, place in WALLS]).amin(0)


def test_lifted_pixels_lie_on_what_the_photos_show(room: Scene) -> None:
    """Half of the depths on offer are wrong; the other photos tell which."""
    torch.manual_seed(0)
    points, _ = lift_pixels(room, room.points, 1000)
    assert points.shape == (1000, 3)
    assert float((wall_error(room.points) < 0.1).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float((wall_error(points) < 0.1).float().mean()) > 0.85


def test_of_many_photos_some_are_lifted_from(room: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_points, "MOST_LIFTED", 4)
    monkeypatch.setattr(start_points, "MOST_JUDGES", 2)
    read, photo = set(), room.photo
    monkeypatch.setattr(room, "photo", lambda view: read.add(view.name) or photo(view))
    torch.manual_seed(0)
    points, _ = lift_pixels(room, room.points, 1000)
    assert points.shape == (1000, 3) and len(read) == 4
    assert float((wall_error(points) < 0.1).float().mean()) > 0.8


def test_lifted_pixels_keep_their_colour(room: Scene) -> None:
    torch.manual_seed(0)
    points, colors = lift_pixels(room, room.points, 1000)
    of_first = slice(0, 200)  # a fifth of the points per photo, in the photos' order
    view = room.train_views[0]
    x, y = view.camera.project(points[of_first])[0].unbind(1)
    torch.testing.assert_close(x % 1, torch.full_like(x, 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(colors[of_first], room.photo(view)[:, y.long(), x.long()].T)


def test_only_pixels_within_the_masks_are_lifted(room: Scene, tmp_path: Path) -> None:
    mask = np.zeros((room.views[0].camera.height, room.views[0].camera.width), dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "nothing.png")
    mask[100:, :120] = 255
    Image.fromarray(mask).save(tmp_path / "corner.png")
    room.views = [
        replace(view, mask_path=mask_as_prepared(tmp_path / ("corner.png" if index == 1 else "nothing.png")))
        for index, view in enumerate(room.views)
    ]
    torch.manual_seed(0)
    points, _ = lift_pixels(room, room.points, 500)
    assert len(points) == 100  # the share of the one photo that may be used
    x, y = room.views[1].camera.project(points)[0].unbind(1)
    assert bool((x < 120.01).all()) and bool((y > 99.99).all())


def test_nothing_is_lifted_where_no_photo_can_judge(room: Scene) -> None:
    behind = room.points * torch.tensor([1.0, 1.0, -1.0])
    assert len(lift_pixels(room, behind, 100)[0]) == 0
    room.views = room.views[:1]
    assert len(lift_pixels(room, room.points, 100)[0]) == 0


def test_the_same_seed_gives_the_same_points(room: Scene) -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(add_start_points(room, room.points, room.point_colors, 300))
    (points, colors), (again, colors_again) = drawn
    assert points.shape == colors.shape == (700, 3)
    assert torch.equal(points[:400], room.points) and torch.equal(colors[:400], room.point_colors)
    assert torch.equal(points, again) and torch.equal(colors, colors_again)


def test_no_more_points(room: Scene) -> None:
    points, colors = add_start_points(room, room.points, room.point_colors, 0)
    assert torch.equal(points, room.points) and torch.equal(colors, room.point_colors)


def test_scattered_points_surround_their_origin_in_its_colour() -> None:
    torch.manual_seed(0)
    points = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])
    colors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    scattered, tints = scatter_points(points, colors, 4000, torch.tensor([0.5, 2.0]))
    assert scattered.shape == tints.shape == (4000, 3)
    blue = tints[:, 2] == 1
    assert 0.4 < float(blue.float().mean()) < 0.6
    for mask, origin, distance in ((~blue, points[0], 0.5), (blue, points[1], 2.0)):
        offsets = scattered[mask] - origin
        torch.testing.assert_close(offsets.std(0), torch.full((3,), 2 * distance), rtol=0.1, atol=0)


def test_thumbnails_are_means_and_never_larger_than_the_photo() -> None:
    photo = torch.rand(3, 400, 200)
    assert thumbnail(photo).shape == (3, 100, 50)
    torch.testing.assert_close(thumbnail(photo)[:, 7, 9], photo[:, 28:32, 36:40].mean((1, 2)))
    assert torch.equal(thumbnail(photo[:, :90, :90]), photo[:, :90, :90])
