"""An object lifted by its depth, moved and projected: `cocogs.photo.lift`."""

import math

import pytest
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.photo.lift import Correspondences, Motion, follow, move_features

WIDTH, HEIGHT, FOCAL = 120, 90, 100.0


def camera(width: int = WIDTH, height: int = HEIGHT, focal: float = FOCAL) -> Camera:
    K = torch.tensor([[focal, 0, width / 2 + 1.3], [0, focal, height / 2 - 0.7], [0, 0, 1]])
    return Camera(K.double(), torch.eye(4).double(), width, height)


def motion(
    move: tuple[float, float, float] = (0, 0, 0), degrees: float = 0, scale: float = 1, axis: int = 1
) -> Motion:
    vector = torch.zeros(3, 3, dtype=torch.float64)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    vector[a, b], vector[b, a] = -math.radians(degrees), math.radians(degrees)
    pivot = torch.tensor([0.1, -0.05, 2.0], dtype=torch.float64)
    return Motion(torch.linalg.matrix_exp(vector), scale, torch.tensor(move).double(), pivot)


def centres(width: int = WIDTH, height: int = HEIGHT) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y], -1).double()


def rays(view: Camera) -> Tensor:
    flat = torch.nn.functional.pad(centres(view.width, view.height), (0, 1), value=1.0)
    return flat @ view.intrinsics.inverse().T


def disc(radius: float = 25) -> Tensor:
    return (centres() - torch.tensor([55.0, 45.0])).norm(dim=-1) < radius


def errors(ways: Correspondences, view: Camera, moved: Motion, depth: Tensor) -> Tensor:
    """px between the target's pixels and where their sources, on the true surface, are projected."""
    there = ways.there
    source = ways.source[there]
    z = depth[there]
    points = torch.nn.functional.pad(source, (0, 1), value=1.0) @ view.intrinsics.inverse().T * z[:, None]
    flat = moved(points) @ view.intrinsics.T
    return (flat[:, :2] / flat[:, 2:] - centres()[there]).norm(dim=1)


def plane_depth(at: Tensor, view: Camera) -> Tensor:
    """Depth at positions (px) of a slanted plane: 1/z = (n . ray) / d."""
    flat = torch.nn.functional.pad(at, (0, 1), value=1.0) @ view.intrinsics.inverse().T
    return 1 / (flat @ torch.tensor([0.35, -0.2, 0.5]).double())


def ball_depth(at: Tensor, view: Camera) -> Tensor:
    """Depth of the near side of a ball; NaN beside it."""
    flat = torch.nn.functional.pad(at, (0, 1), value=1.0) @ view.intrinsics.inverse().T
    centre, radius = torch.tensor([-0.05, 0.0, 2.0]).double(), 0.5
    a, b = flat.square().sum(-1), flat @ centre
    return (b - (b * b - a * (centre.square().sum() - radius**2)).sqrt()) / a


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (40, 30), (33, 31)])
def test_what_does_not_move_stays_bit_for_bit(size: tuple[int, int]) -> None:
    view = camera()
    features = torch.rand(5, size[1], size[0], generator=torch.Generator().manual_seed(0))
    moved = move_features(features, ball_depth(centres(), view).nan_to_num(3.0), disc(), view, motion())
    there = moved.depth.isfinite()
    assert int(there.sum()) > 0.9 * int(disc().sum()) * size[0] * size[1] / (WIDTH * HEIGHT)
    assert torch.equal(moved.features[:, there], features[:, there])
    assert torch.equal(moved.source[there], centres(*size)[there]), "0 px"
    assert not bool(moved.uncovered.any()) and not bool(moved.torn.any())
    if size == (WIDTH, HEIGHT):
        assert torch.equal(there, disc())


@pytest.mark.parametrize(
    "moved",
    [
        motion((0.2, 0.1, -0.5)),
        motion((-0.1, 0, 0.7), degrees=25),
        motion(degrees=-35, axis=0),
        motion((0, 0, -0.9), degrees=10, scale=0.8, axis=2),
        motion(scale=2.0),
    ],
)
@pytest.mark.parametrize("surface", [plane_depth, ball_depth])
def test_correspondences_of_a_plane_and_a_ball_are_true(surface, moved: Motion) -> None:
    view = camera()
    depth = surface(centres(), view)
    mask = disc() & ~depth.isnan()
    ways = follow(depth.nan_to_num(1), mask, view, moved)
    at_source = torch.full_like(depth, torch.nan)
    at_source[ways.there] = surface(ways.source[ways.there], view)
    error = errors(ways, view, moved, at_source)
    assert int(ways.there.sum()) > 200
    error = error[~error.isnan()]  # within half a pixel beside the ball
    print(float(error.max()), float(error.mean()))
    assert float(error.max()) < 0.5 and float(error.mean()) < 0.05
    assert int((~ways.there & filled(ways.there)).sum()) == 0, "no cracks"


def filled(there: Tensor) -> Tensor:
    from scipy import ndimage

    return torch.from_numpy(ndimage.binary_fill_holes(there.numpy()))
