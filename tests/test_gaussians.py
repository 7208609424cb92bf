"""The base Gaussians: how they start, what their parameters mean, how they are taken, joined and moved."""

import time
from dataclasses import replace

import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_run import tiny_camera, tiny_gaussians
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, keep_largest, neighbour_distance, z_curve_order
from cocogs.rasterize import rasterize
from cocogs.rasterize.reference import eval_sh


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


def test_a_z_curve_visits_every_point_once_and_neighbours_soon() -> None:
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.2])
    points[0] = 1e6  # one far away squeezes nothing together
    order = z_curve_order(points)
    assert order.sort().values.tolist() == list(range(5000))

    def step(path: Tensor) -> float:
        return float((path[1:] - path[:-1]).norm(dim=1).median())

    assert step(points[order]) < step(points) / 5
    assert [z_curve_order(torch.zeros(n, 3)).tolist() for n in (0, 1, 3)] == [[], [0], [0, 1, 2]]


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


# --- parts and wholes


def colourful(count: int = 160) -> Gaussians:
    """Splats with harmonics of every degree, at depths that `tiny_camera` sees."""
    torch.manual_seed(2)
    made = tiny_gaussians(count)
    with torch.no_grad():
        made.shN.normal_(std=0.2)
        made.opacities.normal_()
    return made


def same(a: Gaussians, b: Gaussians) -> bool:
    return a.antialiased == b.antialiased and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in Gaussians.names
    )


@pytest.mark.parametrize("antialiased", [False, True])
def test_a_part_by_mask_indices_or_slice(antialiased: bool) -> None:
    whole = colourful(6)
    whole.antialiased = antialiased
    mask = torch.tensor([False, True, False, True, True, False])
    part = whole[mask]
    assert part.antialiased == antialiased and len(part) == 3
    for name in Gaussians.names:
        assert torch.equal(getattr(part, name), getattr(whole, name)[[1, 3, 4]])
    assert same(whole[torch.tensor([4, 1])], part[torch.tensor([2, 0])])
    assert same(whole[3:5], part[1:])
    assert len(whole[torch.zeros(6, dtype=torch.bool)]) == 0


def test_a_part_is_a_copy() -> None:
    whole = colourful(4)
    with torch.no_grad():
        whole[1:].means.zero_()
        whole[torch.arange(4)].means.zero_()
        Gaussians.joined([whole]).means.zero_()
        whole.transformed(torch.eye(3), torch.zeros(3)).opacities.zero_()
    assert same(whole, colourful(4))


def test_parts_join_to_the_whole() -> None:
    whole = colourful(6)
    assert same(Gaussians.joined([whole[:2], whole[2:2], whole[2:]]), whole)


def test_scenes_that_are_drawn_differently_do_not_join() -> None:
    one, other = colourful(2), colourful(2)
    other.antialiased = True
    with pytest.raises(InputError, match="Antialiased splats cannot be joined with others"):
        Gaussians.joined([one, other])


# --- moving a scene

ROTATIONS = [[0.0, 0.0, 0.0], [0.3, -1.0, 2.0], [torch.pi, 0.0, 0.0], [0.0, torch.pi, 0.0], [0.0, 0.0, 1e-7]]
"""Vectors: none, any, and half turns, where the axis is badly known; radians."""


def rotation_of(vector: list[float]) -> Tensor:
    return torch.from_numpy(Rotation.from_rotvec(vector).as_matrix())


def moved_camera(camera: Camera, rotation: Tensor, translation: Tensor, scale: float) -> Camera:
    """The camera that stays with a scene moved by x -> scale R x + t, its unit of length scaled along."""
    pose = camera.cam_from_world.clone()
    pose[:3, :3] = camera.cam_from_world[:3, :3] @ rotation.T
    pose[:3, 3] = scale * camera.cam_from_world[:3, 3] - pose[:3, :3] @ translation
    return replace(camera, cam_from_world=pose)


def picture(gaussians: Gaussians, camera: Camera) -> Tensor:
    return rasterize(*gaussians.activated(), gaussians.sh0, gaussians.shN, camera).colors.detach()


@pytest.mark.parametrize("vector", ROTATIONS)
@pytest.mark.parametrize("scale", [1.0, 0.2, 30.0])
def test_a_camera_moved_along_sees_the_same(vector: list[float], scale: float) -> None:
    scene, rotation, translation = colourful(), rotation_of(vector), torch.tensor([3.0, -2.0, 1.0]).double()
    moved = scene.transformed(rotation, translation, scale)
    for index in (0, 5):
        camera = tiny_camera(index)
        expected = picture(scene, camera)
        assert expected.std() > 0.1
        seen = picture(moved, moved_camera(camera, rotation, translation, scale))
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("vector", ROTATIONS)
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_turn_with_the_scene(vector: list[float], degree: int) -> None:
    """Each degree by itself, against the specification's basis, in float64."""
    scene, rotation = colourful(50).double(), rotation_of(vector)
    with torch.no_grad():
        scene.sh0.fill_(5.0)  # so that no colour is clipped at 0
        scene.shN[:, : degree**2 - 1] = 0
        scene.shN[:, (degree + 1) ** 2 - 1 :] = 0
    moved = scene.transformed(rotation, torch.zeros(3))
    directions = torch.randn(50, 3, dtype=torch.float64)
    expected = eval_sh(3, directions, scene.sh0, scene.shN)
    seen = eval_sh(3, directions @ rotation.T, moved.sh0, moved.shN)
    torch.testing.assert_close(seen, expected, rtol=1e-12, atol=0)
    assert (expected - expected.mean()).abs().max() > 0.05


def test_harmonics_turn_in_float32() -> None:
    scene, rotation = colourful(50), rotation_of(ROTATIONS[1])
    moved = scene.transformed(rotation, torch.zeros(3))
    directions = torch.randn(50, 3)
    seen = eval_sh(3, directions @ rotation.T.float(), moved.sh0, moved.shN)
    torch.testing.assert_close(seen, eval_sh(3, directions, scene.sh0, scene.shN), rtol=1e-5, atol=1e-6)


def test_identity_changes_nothing() -> None:
    for scene in (colourful(), colourful().double()):
        assert same(scene.transformed(torch.eye(3), torch.zeros(3)), scene)


@pytest.mark.parametrize("vector", ROTATIONS[:2])
def test_there_and_back(vector: list[float]) -> None:
    scene, rotation, scale = colourful(), rotation_of(vector), 4.0
    translation = torch.tensor([0.4, 0.3, -0.2]).double()
    back = -(rotation.T @ translation) / scale
    again = scene.transformed(rotation, translation, scale).transformed(rotation.T, back, 1 / scale)
    for name in Gaussians.names:
        torch.testing.assert_close(getattr(again, name), getattr(scene, name), atol=1e-6, rtol=1e-6)


@pytest.mark.thorough
def test_a_million_splats_move_in_seconds() -> None:
    torch.manual_seed(0)
    scene = Gaussians(
        means=torch.rand(1_000_000, 3), quats=torch.rand(1_000_000, 4), scales=torch.rand(1_000_000, 3),
        opacities=torch.rand(1_000_000), sh0=torch.rand(1_000_000, 1, 3), shN=torch.rand(1_000_000, 15, 3),
    )  # fmt: skip
    start = time.process_time()
    moved = scene.transformed(rotation_of(ROTATIONS[1]), torch.ones(3), 2.0)
    assert time.process_time() - start < 20  # 2 s on an idle core
    assert same(moved[:10], scene[:10].transformed(rotation_of(ROTATIONS[1]), torch.ones(3), 2.0))


@pytest.mark.parametrize(
    ("rotation", "translation", "scale", "message"),
    [
        (2 * torch.eye(3), torch.zeros(3), 1.0, "`rotation` is not a rotation"),
        (-torch.eye(3), torch.zeros(3), 1.0, "`rotation` is not a rotation"),
        (torch.full((3, 3), torch.nan), torch.zeros(3), 1.0, "`rotation` is not a rotation"),
        (torch.eye(3), torch.tensor([0, torch.inf, 0]), 1.0, "`translation` must be three finite numbers"),
        (torch.eye(3), torch.zeros(3), 0.0, "`scale` must be a number above 0, not 0"),
        (torch.eye(3), torch.zeros(3), -2.0, "`scale` must be a number above 0, not -2"),
        (torch.eye(3), torch.zeros(3), float("nan"), "`scale` must be a number above 0, not nan"),
    ],
)
def test_what_is_no_similarity(rotation: Tensor, translation: Tensor, scale: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        colourful(2).transformed(rotation, translation, scale)


# --- what can be drawn


@pytest.mark.parametrize(
    ("name", "value", "fine"),
    [
        ("means", torch.nan, False),
        ("means", 1e30, False),
        ("means", 1e9, True),
        ("quats", 0.0, False),
        ("quats", 1e30, False),
        ("quats", -1e3, True),
        ("scales", 80.0, False),
        ("scales", 1e30, False),
        ("scales", -torch.inf, False),
        ("scales", -1e30, True),
        ("opacities", torch.nan, False),
        ("opacities", torch.inf, False),
        ("opacities", 1e30, True),
        ("sh0", torch.inf, False),
        ("shN", torch.nan, False),
    ],
)
def test_what_can_be_drawn(name: str, value: float, fine: bool) -> None:
    """And what is said to be drawable gives a picture of finite colours."""
    scene = colourful(6)
    with torch.no_grad():
        getattr(scene, name)[2] = value
    assert scene.drawable().tolist() == [True, True, fine, True, True, True]
    assert picture(scene[scene.drawable()], tiny_camera(4)).isfinite().all()
