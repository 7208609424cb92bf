"""Closed forms of the camera's conventions."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cocogs.camera import Camera


def double(values: float | list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def camera(transform: Tensor | None = None) -> Camera:
    intrinsics = double([[100, 0, 30.5], [0, 120, 17.25], [0, 0, 1]])
    return Camera(intrinsics, torch.eye(4).double() if transform is None else transform, 64, 40)


def turned() -> Tensor:
    """The camera's x axis is the world's z, its z axis the world's -x; then shifted."""
    return double([[0, 0, 1, 0.5], [0, 1, 0, -2], [-1, 0, 0, 3], [0, 0, 0, 1]])


def test_intrinsics_by_name() -> None:
    assert (camera().fx, camera().fy, camera().cx, camera().cy) == (100, 120, 30.5, 17.25)


def test_project_by_hand() -> None:
    pixels, depths = camera().project(double([[0, 0, 5], [0.1, -0.2, 2]]))
    assert torch.allclose(pixels, double([[30.5, 17.25], [35.5, 5.25]]))
    assert torch.allclose(depths, double([5, 2]))


def test_a_place_stands_for_the_pose() -> None:
    there, points = camera(turned()), double([[0.2, -0.1, 0.5], [1, 3, 0.5]])
    here = replace(camera(), place=there.place_like(points))
    for one, other in zip(here.project(points), there.project(points), strict=True):
        assert torch.equal(one, other)
    pixels, depths = there.project(points)
    assert torch.equal(here.unproject(pixels, depths), there.unproject(pixels, depths))
    assert torch.equal(here.depths(points), depths) and not torch.equal(camera().depths(points), depths)


def test_a_camera_without_use_is_refused() -> None:
    skewed = camera().intrinsics.clone()
    skewed[0, 1] = 2
    with pytest.raises(ValueError, match="must have no skew"):
        replace(camera(), intrinsics=skewed)
    with pytest.raises(ValueError, match="place is read later"):
        replace(camera(), place=camera().place_like(skewed)).scaled(2.0)


def test_project_after_a_turn() -> None:
    # World (1, 3, 0.5) is (1, 1, 2) in the camera.
    pixels, depths = camera(turned()).project(double([1, 3, 0.5]))
    assert torch.allclose(pixels, double([30.5 + 50, 17.25 + 60]))
    assert torch.allclose(depths, double(2))


def test_project_keeps_leading_dimensions_and_dtype() -> None:
    pixels, depths = camera().project(torch.ones(2, 5, 3))
    assert pixels.shape == (2, 5, 2) and depths.shape == (2, 5)
    assert pixels.dtype == depths.dtype == torch.float32


def test_project_is_differentiable() -> None:
    point = double([0.1, -0.2, 2]).requires_grad_()
    (slope,) = torch.autograd.grad(camera().project(point)[0][0], point)
    assert torch.allclose(slope, double([100 / 2, 0, -100 * 0.1 / 4]))


def test_depths_are_along_the_axis_and_signed() -> None:
    points = double([[1, 3, 0.5], [1, -70, 20], [3, 0, 0], [4, 0, 0]])
    assert torch.allclose(camera(turned()).depths(points), double([2, 2, 0, -1]))
    assert torch.allclose(camera(turned()).depths(points), camera(turned()).project(points)[1])
    assert camera().depths(torch.ones(2, 5, 3)).shape == (2, 5)


def test_unproject_by_hand_and_back() -> None:
    assert torch.allclose(camera().unproject(double([130.5, 137.25]), double(2.0)), double([2, 2, 2]))
    points = double([[0.1, -0.2, 2], [-9, 1, 1]])
    pixels, depths = camera(turned()).project(points)
    assert torch.allclose(camera(turned()).unproject(pixels, depths), points)
    several = camera(turned()).unproject(pixels[:, None], depths[:, None] * double([1, 2, 3]))
    assert several.shape == (2, 3, 3) and torch.allclose(several[:, 0], points)


def test_position_maps_to_the_origin() -> None:
    position = camera(turned()).position
    assert torch.allclose(position, double([3, 2, -0.5]))
    local = turned() @ torch.cat([position, double([1])])
    assert torch.allclose(local, double([0, 0, 0, 1]))


def test_resized_scales_every_pixel_position() -> None:
    """Pixel coordinates count from the image's corner, so that they scale by the size."""
    half = camera().resized(32, 10)
    assert (half.width, half.height) == (32, 10)
    points = double([[0.1, -0.2, 2], [1, 1, 9]])
    pixels, depths = half.project(points)
    expected, expected_depths = camera().project(points)
    assert torch.allclose(pixels, expected * double([0.5, 0.25]))
    assert torch.equal(depths, expected_depths)
    assert torch.equal(half.cam_from_world, camera().cam_from_world)


def test_resized_to_its_own_size_changes_nothing() -> None:
    assert torch.equal(camera().resized(64, 40).intrinsics, camera().intrinsics)


def test_shows_what_lies_within_its_borders() -> None:
    pixels = double([[0.1, 0.1], [63.9, 39.9], [-0.1, 5], [5, -0.1], [64.1, 5], [5, 40.1]])
    assert camera().shows(pixels).tolist() == [True, True, False, False, False, False]
    near_the_border = double([[4.1, 4.1], [59.9, 35.9], [3.9, 5], [5, 3.9], [60.1, 5], [5, 36.1]])
    assert camera().shows(near_the_border).all()
    assert camera().shows(near_the_border, margin=4).tolist() == [True, True, False, False, False, False]
    assert camera().shows(torch.zeros(2, 5, 2)).shape == (2, 5)


def test_the_camera_s_numbers_in_order() -> None:
    """The native code reads them by place."""
    numbers = replace(camera(turned()), near=0.5).numbers
    assert numbers[:12] == (0, 0, 1, 0.5, 0, 1, 0, -2, -1, 0, 0, 3)
    assert numbers[12:15] == (3, 2, -0.5)  # the position
    assert numbers[15:20] == (100, 120, 30.5, 17.25, 0.5)
    # The picture is 64 px wide and 40 high; the margin is 15 % on each side.
    expected = [(-30.5 - 9.6) / 100, (33.5 + 9.6) / 100, (-17.25 - 6) / 120, (22.75 + 6) / 120]
    assert numbers[20:] == pytest.approx(expected, rel=1e-12)


def test_cropped_keeps_the_view() -> None:
    crop = camera().cropped(10, 5, 30, 20)
    assert (crop.width, crop.height, crop.cx, crop.cy) == (30, 20, 20.5, 12.25)
    assert crop.slope_limits == pytest.approx(camera().slope_limits)
    again = crop.cropped(-10, -5, 64, 40)
    assert torch.equal(again.intrinsics, camera().intrinsics)
    assert again.full_view == (0, 0, 64, 40)


def test_resized_keeps_the_view() -> None:
    crop = replace(camera(), near=2.0).cropped(10, 5, 30, 20)
    for view in (camera().resized(32, 80), crop.resized(15, 80), crop.resized(15, 80).cropped(1, 2, 3, 4)):
        assert view.slope_limits == pytest.approx(camera().slope_limits)
    assert crop.resized(15, 80).near == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intrinsics": double([[0, 0, 5], [0, 9, 5], [0, 0, 1]])}, "focal lengths must be positive"),
        ({"intrinsics": double([[9, 0, 5], [0, -9, 5], [0, 0, 1]])}, "focal lengths must be positive"),
        ({"intrinsics": double([[9, 0, 5], [0, math.nan, 5], [0, 0, 1]])}, "intrinsics finite"),
        ({"intrinsics": double([[9, 0, math.inf], [0, 9, 5], [0, 0, 1]])}, "intrinsics finite"),
        (
            {"cam_from_world": double([[1, 0, 0, math.nan], *torch.eye(4)[1:].tolist()])},
            "pose must be finite",
        ),
        ({"width": 0}, "at least 1x1 px, not 0x40"),
        ({"height": -3}, "at least 1x1 px"),
        ({"near": 0.0}, "near plane must be positive"),
        ({"near": -1.0}, "near plane must be positive"),
        ({"near": math.nan}, "near plane must be positive"),
        ({"near": math.inf}, "near plane must be positive"),
        ({"full_view": (0.0, 0.0, 0.0, 5.0)}, "full view"),
        ({"full_view": (0.0, math.nan, 5.0, 5.0)}, "full view"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(camera(), **change)
