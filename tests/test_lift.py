"""An object lifted by its depth, moved and projected: `cocogs.photo.lift`."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import ndimage
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
def test_correspondences_of_a_plane_and_a_ball_are_true(
    surface: Callable[[Tensor, Camera], Tensor], moved: Motion
) -> None:
    view = camera()
    depth, middle = surface(centres(), view), torch.tensor([view.cx - 2.5, view.cy])
    mask = (centres() - middle).norm(dim=-1) < 24  # the ball has a radius of 25 px
    ways = follow(depth.nan_to_num(1), mask, view, moved)
    at_source = torch.full_like(depth, torch.nan)
    at_source[ways.there] = surface(ways.source[ways.there], view)
    error = errors(ways, view, moved, at_source)
    assert int(ways.there.sum()) > 400 and not bool(error.isnan().any())
    assert float(error.max()) < 0.5 and float(error.mean()) < 0.05
    true_depth = at_source[ways.there]
    torch.testing.assert_close(ways.depth_before[ways.there].double(), true_depth, rtol=0.02, atol=0)
    whole = ndimage.binary_fill_holes(ways.there.numpy())
    inner = torch.from_numpy(ndimage.binary_erosion(whole, iterations=2))
    assert not bool((inner & ~ways.there).any()), "no cracks"


def test_what_leaves_the_picture_is_dropped_not_clamped() -> None:
    view = camera()
    depth = torch.full((HEIGHT, WIDTH), 2.0).double()
    ways = follow(depth, disc(), view, motion((-1.0, 0, 0)))  # by 50 px to the left
    there = ways.there
    assert 0 < int(there.sum()) < 0.75 * int(disc().sum())
    wanted = centres()[there] + torch.tensor([50.0, 0]).double()
    torch.testing.assert_close(ways.source[there], wanted, atol=1e-4, rtol=0)
    for lost in (motion((-9.0, 0, 0)), motion((0, 0, -1.995)), motion((0, 0, -5.0))):
        gone = follow(depth, disc(), view, lost)
        assert not bool(gone.there.any()) and bool(gone.source.isnan().all())


def test_the_nearer_part_hides_the_farther_one() -> None:
    """Two halves at 2 and 3; moved to the right by 1, the nearer one comes to lie over the other."""
    view = camera()
    depth = torch.full((HEIGHT, WIDTH), 3.0).double()
    depth[:, :40] = 2.0
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[30:60, 20:70] = True
    ways = follow(depth, mask, view, motion((1.0, 0, 0)))  # by 50 px and by 33 px
    row = ways.depth[45]
    assert bool((row[70:90] == 2.0).all()) and bool((row[90:103] == 3.0).all())
    assert bool(row[:70].isinf().all()) and bool(row[104:].isinf().all())
    back = follow(depth, mask, view, motion((-0.3, 0, 0)))  # by 15 px and by 10 px: they come apart
    assert bool(back.torn[45, 25:30].all()) and not bool((back.torn & back.there).any())
    assert not bool(back.torn[:, :25].any()) and not bool(back.torn[:, 30:].any()), "cut, not stretched"


def test_the_back_of_a_surface_is_not_seen() -> None:
    depth = torch.full((HEIGHT, WIDTH), 2.0).double()
    half = Motion(torch.diag(torch.tensor([-1.0, 1, -1])), 1.0, torch.zeros(3), torch.tensor([0, 0, 2.0]))
    assert not bool(follow(depth, disc(), camera(), half).there.any())


def test_features_of_any_size_move_along() -> None:
    """A smooth map of a third of the photo's size, its object brought nearer: values at sources in closed
    form; beside the object there is another value, which must not mix in."""
    view = camera()
    depth = torch.full((HEIGHT, WIDTH), 2.0).double()
    x, y = centres(40, 30).unbind(-1)
    features = torch.stack([0.1 * x, 0.2 * y, torch.sin(0.3 * x)]).float()
    inner = (centres(40, 30) * 3 - torch.tensor([55.0, 45.0])).norm(dim=-1) < 25
    moved = move_features(torch.where(inner, features, -50.0), depth, disc(), view, motion((0.1, 0, -0.5)))
    there = moved.depth.isfinite()
    assert moved.features.shape == (3, 30, 40) and bool((moved.depth[there] == 1.5).all())
    assert bool((moved.features[:, ~there] == 0).all())
    centre = torch.tensor([view.cx / 3, view.cy / 3]).double()
    source = (centres(40, 30) - centre) * 1.5 / 2 + centre - torch.tensor([0.1 * FOCAL / 2 / 3, 0]).double()
    torch.testing.assert_close(moved.source[there], source[there], atol=1e-3, rtol=0)
    near = there & ((source * 3 - torch.tensor([55.0, 45.0])).norm(dim=-1) < 18)
    x, y = source.unbind(-1)
    wanted = torch.stack([0.1 * x, 0.2 * y, torch.sin(0.3 * x)]).float()
    assert int(near.sum()) > 100
    torch.testing.assert_close(moved.features[:, near], wanted[:, near], atol=0.02, rtol=0)
    assert float(moved.features[:, there].min()) > -1.1
    assert bool((moved.uncovered == (inner & ~there)).all())
