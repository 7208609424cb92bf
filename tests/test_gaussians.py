"""The base Gaussians: how they start, and what their raw parameters mean."""

import pytest
import torch
from tiny_run import tiny_camera
from torch import Tensor

from cocogs.gaussians import Gaussians, keep_largest, neighbour_distance
from cocogs.rasterize import rasterize


def cloud(count: int = 60, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))


def test_from_points_starts_round_faint_and_coloured() -> None:
    points, colors = cloud(), cloud(seed=1)
    gaussians = Gaussians.from_points(points, colors)
    means, quats, scales, opacities = gaussians.activated()
    assert len(gaussians) == len(points)
    torch.testing.assert_close(means.detach(), points)
    torch.testing.assert_close(quats.norm(dim=1), torch.ones(len(points)))
    torch.testing.assert_close(scales.detach(), neighbour_distance(points)[:, None].expand(-1, 3))
    torch.testing.assert_close(opacities.detach(), torch.full((len(points),), 0.1))
    assert gaussians.shN.shape == (len(points), 15, 3) and (gaussians.shN == 0).all()


def test_from_points_of_any_precision_can_be_drawn() -> None:
    for count in (1, 60):
        gaussians = Gaussians.from_points(cloud(count).double(), cloud(count).double())
        assert {values.dtype for values in gaussians.parameters()} == {torch.float32}


def test_from_points_shows_the_points_colours() -> None:
    """A huge opaque splat before the camera fills its pixels with the colour it was made of."""
    color = torch.tensor([[0.9, 0.4, 0.1]])
    gaussians = Gaussians.from_points(torch.tensor([[0.0, 0.0, 3.0]]), color)
    means, quats, _, _ = gaussians.activated()
    camera = tiny_camera(4)
    picture = rasterize(
        means, quats, torch.full((1, 3), 5.0), torch.ones(1), gaussians.sh0, gaussians.shN, camera
    ).colors  # fmt: skip
    middle = picture[0, :, camera.height // 2, camera.width // 2].detach()
    torch.testing.assert_close(middle, color[0], atol=5e-3, rtol=0)


def test_parameters_are_copies() -> None:
    points = cloud()
    gaussians = Gaussians.from_points(points, cloud(seed=1))
    with torch.no_grad():
        gaussians.means.add_(1)
    torch.testing.assert_close(points, cloud())


def test_same_seed_same_gaussians() -> None:
    def make() -> Tensor:
        torch.manual_seed(5)
        return Gaussians.from_points(cloud(), cloud(seed=1)).quats.detach()

    assert torch.equal(make(), make())


def test_every_name_is_a_parameter() -> None:
    gaussians = Gaussians.from_points(cloud(), cloud(seed=1))
    assert [name for name, _ in gaussians.named_parameters()] == list(Gaussians.names)


def test_activations_keep_extreme_values_in_range() -> None:
    raw = torch.tensor([-30.0, 0.0, 15.0])
    zeros = torch.zeros(3, 3)
    gaussians = Gaussians(
        means=zeros, quats=torch.ones(3, 4), scales=raw[:, None].repeat(1, 3), opacities=raw,
        sh0=torch.zeros(3, 1, 3), shN=torch.zeros(3, 15, 3),
    )  # fmt: skip
    _, _, scales, opacities = gaussians.activated()
    assert (scales > 0).all() and scales.isfinite().all()
    assert (opacities >= 0).all() and (opacities <= 1).all()
    torch.testing.assert_close(opacities[1].detach(), torch.tensor(0.5))
    torch.testing.assert_close(scales[1].detach(), torch.ones(3))


def test_neighbour_distance_on_a_grid_is_its_spacing() -> None:
    axis = torch.arange(5.0) * 0.25
    grid = torch.cartesian_prod(axis, axis, axis)
    torch.testing.assert_close(neighbour_distance(grid), torch.full((125,), 0.25), atol=1e-4, rtol=0)


def test_neighbour_distance_is_the_root_mean_square_of_three() -> None:
    points = torch.tensor([0.0, 1.0, 3.0, 6.0, 100.0])[:, None] * torch.tensor([1.0, 0.0, 0.0])
    expected = torch.tensor([(1 + 9 + 36) / 3, (1 + 4 + 25) / 3, (4 + 9 + 9) / 3, (9 + 25 + 36) / 3]).sqrt()
    torch.testing.assert_close(neighbour_distance(points)[:4], expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_neighbour_distance_scales_with_the_scene(scale: float) -> None:
    points = cloud()
    torch.testing.assert_close(
        neighbour_distance(points * scale), neighbour_distance(points) * scale, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("coincident", [8, 60])
def test_coincident_points_get_a_size(coincident: int) -> None:
    """Also where all points are one."""
    points = cloud()
    points[:coincident] = torch.tensor([0.3, 0.4, 0.5])
    distance = neighbour_distance(points)
    assert (distance > 0).all() and distance.isfinite().all()
    scales = Gaussians.from_points(points, cloud(seed=1)).scales
    assert scales.isfinite().all()


def test_a_lone_outlier_does_not_cover_the_scene() -> None:
    points = torch.cat([cloud(), torch.tensor([[1e4, 0.0, 0.0]])])
    distance = neighbour_distance(points)
    assert distance[-1] <= 10.001 * distance.median()
    torch.testing.assert_close(distance[:-1], neighbour_distance(points[:-1]), rtol=1e-2, atol=0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_few_points_still_start(count: int) -> None:
    gaussians = Gaussians.from_points(cloud(count), cloud(count, seed=1))
    assert len(gaussians) == count
    assert (gaussians.activated()[2] > 0).all() and gaussians.scales.isfinite().all()


def test_keep_largest() -> None:
    assert keep_largest(torch.tensor([3.0, 1.0, 5.0, 2.0]), 2).tolist() == [True, False, True, False]
    assert not keep_largest(torch.ones(3), 0).any()
    assert keep_largest(torch.ones(3), 5).all()
