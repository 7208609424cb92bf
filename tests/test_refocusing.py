"""Refocusing: limits, closed forms of one splat, occlusion, convergence, and the depth at a pixel."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_camera, tiny_gaussians
from torch import Tensor

import cocogs
from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.optics.lens import Lens
from cocogs.rasterize import rasterize
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import along_ray, depth_at, refocus, seen_from
from cocogs.srgb import compress_highlights, expand_highlights, to_linear, to_srgb

CAMERA = Camera(
    torch.tensor([[100.0, 0, 40.0], [0, 100.0, 30.0], [0, 0, 1]]).double(), torch.eye(4).double(), 80, 60
)


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    torch.manual_seed(3)
    return tiny_gaussians(400)


def splats(*places: tuple[float, float, float], size: float = 0.02, color: float = 1.0) -> Gaussians:
    """Small opaque round white splats."""
    count = len(places)
    return Gaussians(
        means=torch.tensor(places),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.full((count, 3), math.log(size)),
        opacities=torch.full((count,), 6.0),
        sh0=torch.full((count, 1, 3), (color - 0.5) / SH_C0),
        shN=torch.zeros(count, 15, 3),
    )


def thinner(scene: Gaussians, antialiased: bool) -> Gaussians:
    """Splats of about a pixel, so that it matters how pixels see."""
    raw = {name: getattr(scene, name) for name in Gaussians.names}
    return Gaussians(antialiased, **raw | {"scales": scene.scales - math.log(5)})


def sharp(gaussians: Gaussians, camera: Camera) -> Tensor:
    with torch.no_grad():
        splats = *gaussians.activated(), gaussians.sh0, gaussians.shN
        return rasterize(*splats, camera, antialiased=gaussians.antialiased).colors[0]


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def centroid(light: Tensor) -> tuple[float, float]:
    light = light.mean(0) / light.mean(0).sum()
    x, y = torch.arange(light.shape[1]) + 0.5, torch.arange(light.shape[0]) + 0.5
    return float((light.sum(0) * x).sum()), float((light.sum(1) * y).sum())


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("samples", [0, 7])
def test_aperture_zero_is_the_sharp_view_to_the_bit(samples: int, antialiased: bool) -> None:
    """Down to the faintest splats."""
    scene = thinner(tiny_gaussians(400), antialiased)
    with torch.no_grad():
        scene.opacities.copy_(torch.linspace(-8, 4, 400))
    assert torch.equal(refocus(scene, tiny_camera(2), Lens(4.0, 0.0), samples), sharp(scene, tiny_camera(2)))


@pytest.mark.parametrize("samples", [0, 24])
@pytest.mark.parametrize("focus", [0.5, 4.0, 1e6, math.inf])
@pytest.mark.parametrize("aperture", [0.01, 0.4, 4.0])
def test_every_setting_gives_a_picture(scene: Gaussians, samples: int, focus: float, aperture: float) -> None:
    """From a hundredth to ten times the tiny run's aperture, in focus, far out of it and at infinity."""
    picture = refocus(scene, tiny_camera(1), Lens(focus, aperture), samples)
    assert picture.isfinite().all() and (picture >= 0).all()
    assert not picture.requires_grad


@pytest.mark.thorough
def test_doubling_the_samples_changes_less_and_less(scene: Gaussians) -> None:
    camera, lens = tiny_camera(2), Lens(3.0, 0.8)
    pictures = [refocus(scene, camera, lens, n) for n in (4, 8, 16, 32, 64, 128, 256)]
    steps = [rms(a, b) for a, b in itertools.pairwise(pictures)]
    assert all(b < a for a, b in itertools.pairwise(steps)), steps
    assert steps[-1] < 0.1 * steps[0] and steps[-1] < 1 / 255


@pytest.mark.thorough
def test_a_moderate_number_of_samples_leaves_no_ghosts() -> None:
    """One splat far out of focus: a smooth disc, not as many dots as there are samples."""
    lens = Lens(1.0, 0.6)  # c = 60 (1 - 1/4) = 45 px
    one = splats((0.0, 0.0, 4.0), size=0.08)
    few, many = (to_linear(refocus(one, CAMERA, lens, n)).mean(0) for n in (32, 1024))
    inner = slice(15, 45), slice(25, 55)
    assert float(many[inner].std() / many[inner].mean()) < 0.1
    assert float(few[inner].std() / few[inner].mean()) < 0.2


def test_blur_of_a_splat_is_the_discs() -> None:
    """Variance c^2 / 16 per axis is added, in linear light, and nothing moves."""
    depth, aperture, focus = 4.0, 0.5, 2.0
    one = splats((0.0, 0.0, depth), size=0.1)
    light = to_linear(refocus(one, CAMERA, Lens(focus, aperture), 256))
    x, y = centroid(light)
    assert (x, y) == (pytest.approx(CAMERA.cx, abs=0.02), pytest.approx(CAMERA.cy, abs=0.02))
    spread = [float((light.mean((0, 1 + axis)) / light.mean(0).sum() * light.shape[1 + axis])
              .mul((torch.arange(light.shape[2 - axis]) + 0.5 - centre).square()).sum())
              for axis, centre in ((0, x), (1, y))]  # fmt: skip
    coc = aperture * CAMERA.fx * (1 / focus - 1 / depth)
    base = to_linear(sharp(one, CAMERA))
    base_spread = float((base.mean((0, 1)) / base.mean(0).sum() * 60)
                        .mul((torch.arange(80) + 0.5 - x).square()).sum())  # fmt: skip
    assert spread[0] - base_spread == pytest.approx(coc**2 / 16, rel=0.03)
    assert spread[1] - base_spread == pytest.approx(coc**2 / 16, rel=0.03)
    assert float(light.sum()) == pytest.approx(float(base.sum()), rel=0.02)


def test_near_things_hide_far_ones_partially() -> None:
    """Focus on a far dot behind the edge of a near wall: one half of the lens sees past it."""
    near = [(-0.05 * i, 0.05 * j, 1.0) for i in range(1, 12) for j in range(-8, 9)]
    wall, dot = splats(*near, size=0.03, color=0.0), (0.0, 0.0, 4.0)
    both = splats(*near, dot, size=0.03)
    with torch.no_grad():
        both.sh0[: len(near)] = wall.sh0[0]
    lens, middle = Lens(4.0, 0.4), (slice(None), slice(28, 32), slice(38, 42))
    free = float(to_linear(refocus(splats(dot, size=0.03), CAMERA, lens, 64))[middle].sum())
    seen = float(to_linear(refocus(both, CAMERA, lens, 64))[middle].sum())
    assert 0.25 * free < seen < 0.6 * free


def test_shifted_cameras_leave_the_plane_in_focus_in_place() -> None:
    camera, lens = tiny_camera(1), Lens(3.0, 0.5)
    local = torch.tensor([[0.3, -0.2, 3.0], [0.3, -0.2, 5.0]]).double()
    world = (local - camera.cam_from_world[:3, 3]) @ camera.cam_from_world[:3, :3]
    point = torch.tensor([0.6, -0.8])
    before, _ = camera.project(world)
    after, z = seen_from(camera, lens, point).project(world)
    torch.testing.assert_close(z, local[:, 2])
    torch.testing.assert_close(after[0], before[0])
    # docs/method.md, "The thin lens": dx(u) = a u (z / z_f - 1), at the depth z.
    expected = 0.25 * point.double() * (5 / 3 - 1) * camera.fx / 5
    torch.testing.assert_close(after[1] - before[1], expected)


@pytest.mark.thorough
def test_blades_show_as_polygons() -> None:
    """A highlight out of focus takes the aperture's shape: a triangle's corners reach far."""
    one = splats((0.0, 0.0, 4.0))
    round_, bladed = (
        to_linear(refocus(one, CAMERA, Lens(1.0, 0.4, blades), 256)).mean(0) for blades in (0, 3)
    )
    radius = 0.4 * 100 * 0.75 / 2
    corner = 1.555 * radius  # of the triangle of the disc's area; its edges are at 0.778 radius
    x, y = torch.arange(80) + 0.5 - CAMERA.cx, torch.arange(60)[:, None] + 0.5 - CAMERA.cy
    beyond = (x.square() + y.square()).sqrt() > 1.15 * radius
    assert float(round_[beyond].sum() / round_.sum()) < 0.02
    assert float(bladed[beyond].sum() / bladed.sum()) > 0.05
    # Beyond the focus a point moves with the lens: the corner at the lens's right is at the picture's right.
    at_the_corner = slice(28, 32), int(40 + 0.85 * corner)
    assert float(bladed[at_the_corner].sum()) > 10 * float(round_[at_the_corner].sum())
    assert float(bladed.sum()) == pytest.approx(float(round_.sum()), rel=0.05)


@pytest.mark.thorough
def test_highlights_are_brighter_out_of_focus_and_as_they_were_in_focus() -> None:
    """A white patch of 8 px and a grey one: of the light of the white one there was four times as much."""
    lens, bright = Lens(1.0, 0.4), Lens(1.0, 0.4, highlights=4.0)
    patch = [(x / 20, y / 20, 4.0) for x in range(-3, 4) for y in range(-3, 4)]
    white, grey = splats(*patch, size=0.05), splats(*patch, size=0.05, color=0.5)
    blurred, glowing = (to_linear(refocus(white, CAMERA, x, 64)) for x in (lens, bright))
    assert float(glowing.sum()) > 2 * float(blurred.sum()) and bool((glowing > blurred - 1e-6).all())
    assert float(glowing.max()) < 1
    torch.testing.assert_close(refocus(grey, CAMERA, bright, 64), refocus(grey, CAMERA, lens, 64))
    in_focus, shown = (refocus(white, CAMERA, replace(x, focus_distance=4.0), 64) for x in (lens, bright))
    torch.testing.assert_close(shown, in_focus.clamp(max=1), atol=2e-3, rtol=0)


@pytest.mark.parametrize("white", [1.0, 1.5, 4.0, 100.0])
def test_highlights_come_back_from_the_light_that_was_there(white: float) -> None:
    light = torch.linspace(0, 1, 201, dtype=torch.float64)
    there = expand_highlights(light, white)
    torch.testing.assert_close(compress_highlights(there, white), light)
    assert torch.equal(there[light < 0.69], light[light < 0.69]) and float(there[-1]) == pytest.approx(white)
    slopes = there.diff() / light.diff()
    assert bool((slopes.diff() > -1e-3).all())  # no step and no kink downwards
    above = float(expand_highlights(torch.tensor([1.7]), white))
    assert above == pytest.approx(1.7 if white == 1 else white, rel=1e-4)


@pytest.mark.parametrize(
    "values",
    [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, -0.1), (1.0, math.inf), (1.0, math.nan),
     (1.0, 1.0, 2), (1.0, 1.0, -3), (1.0, 1.0, 5, math.nan), (1.0, 1.0, 0, 0.0, 0.5),
     (1.0, 1.0, 0, 0.0, math.inf)],
)  # fmt: skip
def test_impossible_lenses(values: tuple) -> None:
    with pytest.raises(
        InputError, match=r"^(The focus|The aperture|A lens|The blades|The light).*not \S+\.$"
    ):
        Lens(*values)


def test_negative_samples(scene: Gaussians) -> None:
    with pytest.raises(InputError, match="`samples` must be a whole number from 0 to 4096, not -1"):
        refocus(scene, CAMERA, Lens(1.0, 0.1), -1)


def test_depth_is_that_of_what_is_seen() -> None:
    """Nothing between two depths is ever reported, nor is haze."""
    far = [(0.1 * i, 0.1 * j, 5.0) for i in range(-8, 9) for j in range(-8, 9)]
    near = [(-0.04 * i, 0.04 * j, 2.0) for i in range(1, 16) for j in range(-15, 16)]
    scene = splats(*far, *near, (0.0, 0.0, 1.0), size=0.06)
    with torch.no_grad():
        scene.opacities[-1] = -2.0  # a veil of 12 %
    for x in range(30, 50):
        assert depth_at(scene, CAMERA, x + 0.5, 30.0) in (pytest.approx(2.0), pytest.approx(5.0)), x
    assert depth_at(scene, CAMERA, 32.0, 30.0) == pytest.approx(2.0)
    assert depth_at(scene, CAMERA, 48.0, 30.0) == pytest.approx(5.0)


@pytest.mark.parametrize("antialiased", [False, True])
def test_a_ray_meets_what_the_rasterizer_draws(scene: Gaussians, antialiased: bool) -> None:
    """The weights sum to its alpha and average the depths to its expected depth."""
    camera = tiny_camera(0)
    scene = thinner(scene, antialiased)
    with torch.no_grad():
        splats = *scene.activated(), scene.sh0, scene.shN
        render = rasterize(*splats, camera, antialiased=antialiased, with_depth=True)
        assert render.depths is not None
        for x, y in torch.cartesian_prod(torch.arange(0, 48, 5), torch.arange(0, 36, 5)).tolist():
            depths, weights, _ = along_ray(scene, camera, x + 0.5, y + 0.5)
            assert (depths[1:] >= depths[:-1]).all()
            assert float(weights.sum()) == pytest.approx(float(render.alphas[0, y, x]), abs=1e-4)
            if len(weights):
                mean = float((weights * depths).sum() / weights.sum())
                assert mean == pytest.approx(float(render.depths[0, y, x]), rel=1e-3)


def test_depth_where_nothing_is() -> None:
    one = splats((0.2, 0.1, 4.0), size=0.05)
    with pytest.raises(InputError, match=r"nothing at \(70, 10\): the nearest place with something is \(4\d"):
        depth_at(one, CAMERA, 70.0, 10.0)
    with pytest.raises(InputError, match="choose another view"):
        depth_at(splats((0.0, 0.0, -4.0)), CAMERA, 70.0, 10.0)
    with pytest.raises(InputError, match=r"outside the picture of 80x60 px"):
        depth_at(one, CAMERA, 80.5, 10.0)


def test_srgb_is_the_standards() -> None:
    encoded = torch.linspace(0, 1.5, 1501, dtype=torch.float64)
    torch.testing.assert_close(to_srgb(to_linear(encoded)), encoded, atol=2e-7, rtol=0)
    # IEC 61966-2-1: mid grey 0.5 is 0.21404 of white's light.
    assert float(to_linear(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(0.214041, abs=1e-6)
    assert float(to_linear(torch.tensor(1.0, dtype=torch.float64))) == pytest.approx(1.0)


def test_names_for_notebooks() -> None:
    assert cocogs.Lens is Lens and cocogs.refocus is refocus
    with pytest.raises(AttributeError, match="no attribute 'lense'"):
        _ = cocogs.lense


@pytest.mark.parametrize(("focus", "aperture"), [(0.2, 0.3), (0.05, 0.3), (0.5, 3.0)])
@pytest.mark.parametrize("samples", [0, 16])
def test_a_scene_far_out_of_focus_keeps_its_light(samples: int, focus: float, aperture: float) -> None:
    """A wall of many small splats, larger than its circles of confusion: no hole and no darkening."""
    generator = torch.Generator().manual_seed(0)
    count, half = 20_000, 16.0
    places = (torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([2 * half, 2 * half, 0.01])
    wall = splats(*(places + torch.tensor([0, 0, 4.0])).tolist(), size=0.15)
    with torch.no_grad():
        wall.scales[:, 2] = -9.0  # flat, to be as dense when seen from the side
    assert aperture / 2 * (4 / focus - 1) + 2 < half  # no light comes from beyond the wall
    before = to_linear(sharp(wall, CAMERA))
    after = to_linear(refocus(wall, CAMERA, Lens(focus, aperture), samples))
    assert float(after.mean()) == pytest.approx(float(before.mean()), rel=0.1)
    assert float(after.min()) > 0.8 * float(after.mean())
