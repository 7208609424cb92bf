"""The specification against closed forms, limits and finite differences, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from scenes import CASES, Case, random_splats, tilted_camera, to_world
from torch import Tensor

from cocogs.camera import Camera
from cocogs.rasterize import reference
from cocogs.rasterize.reference_harmonics import sh_basis


def facing_camera(width: int = 21, height: int = 21, focal: float = 20.0) -> Camera:
    """At the origin, looking along z, with the principal point in the middle of the image."""
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).double()
    return Camera(intrinsics, torch.eye(4).double(), width, height)


def render(
    camera: Camera,
    means: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor | None = None,
    blur: Tensor | None = None,
    background: Tensor | None = None,
    quats: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One set of splats of constant colour: colors (3, H, W), alphas, depths (H, W), radii (N,)."""
    count = len(means)
    colors = means.new_ones(count, 3) if colors is None else colors
    quats = means.new_tensor([1, 0, 0, 0]).expand(count, 4) if quats is None else quats
    return reference.rasterize_set(
        means,
        quats,
        scales,
        opacities,
        (colors[:, None] - 0.5) * math.sqrt(4 * math.pi),
        means.new_zeros(count, 15, 3),
        camera,
        blur,
        None,
        3,
        means.new_zeros(3) if background is None else background,
        False,
        None,
    )


def double(values: float | list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Projection


def test_quat_to_rotation_turns_by_the_right_hand() -> None:
    quarter = math.sqrt(0.5)
    about_z = reference.quat_to_rotation(double([[quarter, 0, 0, quarter]]))[0]
    assert torch.allclose(about_z @ double([1, 0, 0]), double([0, 1, 0]))
    about_x = reference.quat_to_rotation(double([[quarter, quarter, 0, 0]]))[0]
    assert torch.allclose(about_x @ double([0, 1, 0]), double([0, 0, 1]))


def test_quat_to_rotation_ignores_length() -> None:
    quats = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rotations = reference.quat_to_rotation(quats)
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).double().expand(50, 3, 3))
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(50).double())
    assert torch.allclose(reference.quat_to_rotation(1e-6 * quats), rotations)
    assert torch.allclose(reference.quat_to_rotation(-1e6 * quats), rotations)


def test_project_ewa_of_a_ball() -> None:
    """A ball of deviation s: C = (f s / z)^2 (1 + r r^T) + 0.3, where r = (x, y) / z."""
    camera, scale = facing_camera(), 0.3
    local = double([[0.5, -0.4, 2.0]])
    factors = scale * torch.eye(3).double()[None]
    means2d, covars2d, determinants = reference.project_ewa(local, factors, camera)
    x, y = 0.25, -0.2
    assert torch.allclose(means2d, double([[10.5 + 20 * x, 10.5 + 20 * y]]))
    size = (20 * scale / 2) ** 2
    expected = double([[size * (1 + x * x) + 0.3, size * x * y, size * (1 + y * y) + 0.3]])
    assert torch.allclose(covars2d, expected)
    xx, xy, yy = expected[0]
    assert torch.allclose(determinants, xx * yy - xy * xy)


def test_project_ewa_puts_means_where_the_camera_does() -> None:
    camera = tilted_camera(cx=3.5, cy=40.0)
    means = random_splats(50, camera).means
    local = means @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    means2d, _, _ = reference.project_ewa(local, torch.eye(3).double().expand(50, 3, 3), camera)
    assert torch.allclose(means2d, camera.project(means)[0])


def test_project_ewa_is_the_projection_of_points_to_first_order() -> None:
    """Points a thousandth of the splat away project where the ellipse's axes say."""
    camera = tilted_camera(cx=30.0, cy=11.0)
    splats = random_splats(20, camera, spread=0.9)
    factors = reference.covariance_factor(splats.quats, splats.scales)
    local = splats.means @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    _, covars2d, _ = reference.project_ewa(local, factors, camera)
    step = 1e-5
    ahead = camera.project(splats.means[:, None] + step * factors.mT)[0]
    behind = camera.project(splats.means[:, None] - step * factors.mT)[0]
    axes = (ahead - behind) / (2 * step)
    covars = axes.mT @ axes + 0.3 * torch.eye(2).double()
    assert torch.allclose(torch.stack([covars[:, 0, 0], covars[:, 0, 1], covars[:, 1, 1]], -1), covars2d)


def test_project_ewa_stops_at_the_margin() -> None:
    """Beyond 15 % outside the image the shape stays what it is there; the mean goes on."""
    camera = facing_camera(20, 20)
    factors = torch.eye(3).double().expand(3, 3, 3)
    # The image ends at x/z = 0.5, the margin at 0.65.
    x = double([0.65, 0.66, 5.0]).requires_grad_()
    local = torch.stack([x, torch.zeros(3).double(), torch.ones(3).double()], -1)
    means2d, covars2d, _ = reference.project_ewa(local, factors, camera)
    assert torch.allclose(covars2d, covars2d[:1].expand(3, 3))
    assert torch.allclose(means2d[:, 0], 10 + 20 * x)
    assert not torch.autograd.grad(covars2d[1:].sum(), x)[0][1:].any()


def test_determinant_keeps_its_digits_for_needles() -> None:
    """In float32 xx yy - xy^2 of a slanting needle is rounding noise; the determinant is not."""
    camera = facing_camera()
    half = math.radians(30) / 2
    quats, scales = double([[math.cos(half), 0, 0, math.sin(half)]]), double([[1e3, 1e-3, 1e-3]])
    found = {}
    for dtype in (torch.float32, torch.float64):
        factors = reference.covariance_factor(quats.to(dtype), scales.to(dtype))
        local = double([[0, 0, 1]]).to(dtype)
        _, covars2d, determinants = reference.project_ewa(local, factors, camera)
        found[dtype] = determinants.double()
        xx, xy, yy = covars2d.double()[0]
        naive = xx * yy - xy * xy
    assert torch.allclose(found[torch.float64], naive, rtol=1e-5)
    assert torch.allclose(found[torch.float32], found[torch.float64], rtol=1e-5)


def test_add_blur() -> None:
    covars2d = double([[3.0, 1.0, 2.0]])
    blurred, determinant, opacity = reference.add_blur(covars2d, double([5.0]), double([0.8]), double([4.0]))
    assert torch.allclose(blurred, double([[7.0, 1.0, 6.0]]))
    assert torch.allclose(determinant, double([41.0]))
    assert torch.allclose(opacity, double([0.8 * math.sqrt(5 / 41)]))


def test_conic_of_inverts() -> None:
    a, b, c = reference.conic_of(double([[3.0, 1.0, 2.0]]), double([5.0]))[0]
    product = double([[3, 1], [1, 2]]) @ torch.stack([torch.stack([a, b]), torch.stack([b, c])])
    assert torch.allclose(product, torch.eye(2).double())


# Colour


def sphere_quadrature() -> tuple[Tensor, Tensor]:
    """Directions (P, 3) and weights (P,) that integrate polynomials of degree 7 over the sphere."""
    # Gauss-Legendre nodes of order 4 in z, 8 equal steps around.
    inner, outer = (math.sqrt(3 / 7 - sign * 2 / 7 * math.sqrt(6 / 5)) for sign in (1, -1))
    z = double([-outer, -inner, inner, outer])
    big, small = (18 + math.sqrt(30)) / 36, (18 - math.sqrt(30)) / 36
    z_weights = double([small, big, big, small])
    turn = torch.arange(8).double() * (2 * math.pi / 8)
    radius = (1 - z * z).sqrt()
    directions = torch.stack(
        [radius[:, None] * turn.cos(), radius[:, None] * turn.sin(), z[:, None].expand(4, 8)], -1
    )
    weights = z_weights[:, None].expand(4, 8) * (2 * math.pi / 8)
    return directions.reshape(-1, 3), weights.reshape(-1)


def test_sh_basis_is_orthonormal() -> None:
    directions, weights = sphere_quadrature()
    basis = sh_basis(3, directions)
    assert torch.allclose(basis.mT @ (weights[:, None] * basis), torch.eye(16).double(), atol=1e-12)


def test_sh_basis_has_the_signs_of_3dgs() -> None:
    diagonal = double([[1, 1, 1]]) / math.sqrt(3)
    signs = sh_basis(3, diagonal)[0].sign()
    assert signs[:4].tolist() == [1, -1, 1, -1]
    assert signs[[4, 5, 7]].tolist() == [1, -1, -1]
    assert signs[[9, 10, 11, 13, 15]].tolist() == [-1, 1, -1, -1, 1]


@pytest.mark.parametrize("degree", range(4))
def test_sh_basis_is_a_prefix(degree: int) -> None:
    directions, _ = sphere_quadrature()
    assert torch.equal(sh_basis(degree, directions), sh_basis(3, directions)[:, : (degree + 1) ** 2])


def test_eval_sh_constant_and_floor() -> None:
    sh0 = double([[[1.0, -1.0, -3.0]]])
    color = reference.eval_sh(0, double([[0.3, 2.0, -1.0]]), sh0, torch.zeros(1, 15, 3).double())
    step = 0.5 / math.sqrt(math.pi)
    assert torch.allclose(color, double([[0.5 + step, 0.5 - step, 0.0]]))


def test_eval_sh_looks_from_the_camera_to_the_splat() -> None:
    """The first band rises with z, so a splat in front of the camera gets its coefficient in full."""
    camera = facing_camera()
    shN = torch.zeros(1, 15, 3).double()
    shN[0, 1] = 1
    colors, alphas, _, _ = reference.rasterize_set(
        double([[0, 0, 2]]),
        double([[1, 0, 0, 0]]),
        double([[9, 9, 9]]),
        double([0.5]),
        torch.zeros(1, 1, 3).double(),
        shN,
        camera,
        None,
        None,
        1,
        torch.zeros(3).double(),
        False,
        None,
    )
    expected = 0.5 + math.sqrt(3 / (4 * math.pi))
    assert torch.allclose(colors[:, 10, 10] / alphas[10, 10], double([expected] * 3))


# Compositing


def test_single_splat_is_a_gaussian() -> None:
    """alpha = o exp(-r^2 / 2 v) with v = (f s / z)^2 + 0.3; the colour and the background share the rest."""
    camera, color, background = facing_camera(), double([[0.9, 0.2, 0.4]]), double([0.1, 0.8, 0.3])
    colors, alphas, depths, radii = render(
        camera,
        double([[0, 0, 4]]),
        double([[0.5, 0.5, 0.5]]),
        double([0.8]),
        color,
        background=background,
    )
    variance = (20 * 0.5 / 4) ** 2 + 0.3
    steps = torch.arange(21).double() - 10
    expected = 0.8 * (-(steps**2 + steps[:, None] ** 2) / (2 * variance)).exp()
    expected = expected.where(expected >= 1 / 255, 0)
    assert torch.allclose(alphas, expected)
    shown = expected * color[0][:, None, None] + (1 - expected) * background[:, None, None]
    assert torch.allclose(colors, shown)
    assert torch.allclose(depths[expected > 0], double([4.0]))
    assert not depths[expected == 0].any()
    assert torch.allclose(radii, double([math.sqrt(2 * math.log(255 * 0.8) * variance)]))


def test_radius_is_that_of_the_longer_side() -> None:
    """Just inside the radius along the longer side the splat is drawn, just outside it is not."""
    camera = facing_camera(41, 41)
    _, alphas, _, radii = render(camera, double([[0, 0, 1]]), double([[0.1, 0.2, 0.1]]), double([0.9]))
    reach = radii[0].item()
    distances = torch.arange(41).double() - 20
    assert torch.equal(alphas[:, 20] > 0, distances.abs() <= reach)
    assert (alphas[20] > 0).sum() < (alphas[:, 20] > 0).sum()


def test_off_centre_principal_point_shifts_the_picture() -> None:
    splats = double([[0.1, -0.2, 2], [-0.3, 0.1, 3]]), double([[0.1] * 3, [0.2] * 3]), double([0.7, 0.6])
    camera = facing_camera(30, 30)
    _, centred, _, _ = render(camera, *splats)
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, 2] += 7
    intrinsics[1, 2] -= 4
    _, shifted, _, _ = render(replace(camera, intrinsics=intrinsics), *splats)
    assert torch.allclose(shifted[:-4, 7:], centred[4:, :-7])


def test_nearer_splats_hide_farther_ones_whatever_their_order() -> None:
    camera = facing_camera()
    means, scales = double([[0, 0, 3], [0, 0, 2]]), double([[1.0] * 3, [1.0] * 3])
    opacities, reds = double([0.5, 0.6]), double([[1, 0, 0], [0, 1, 0]])
    colors, alphas, depths, radii = render(camera, means, scales, opacities, reds)
    assert torch.allclose(colors[:, 10, 10], double([0.4 * 0.5, 0.6, 0]))
    assert torch.allclose(alphas[10, 10], double(0.8))
    assert torch.allclose(depths[10, 10], double((0.6 * 2 + 0.2 * 3) / 0.8))
    swapped = render(camera, means.flip(0), scales, opacities.flip(0), reds.flip(0))
    assert torch.equal(swapped[0], colors) and torch.equal(swapped[2], depths)
    assert torch.equal(swapped[3].flip(0), radii)


def test_alpha_is_capped_and_has_no_slope_there() -> None:
    """An opaque splat covers its centre by 0.999 only, and a neighbouring pixel by its bell."""
    camera = facing_camera(3, 1)
    opacity = double([1.0]).requires_grad_()
    _, alphas, _, _ = render(camera, double([[0, 0, 1]]), double([[1e-6] * 3]), opacity)
    bell = math.exp(-1 / 0.6)
    assert torch.allclose(alphas[0], double([bell, 0.999, bell]))
    slopes = [torch.autograd.grad(alphas[0, x], opacity, retain_graph=True)[0].item() for x in range(3)]
    assert slopes == pytest.approx([bell, 0, bell])


@pytest.mark.parametrize(("opacity", "shown"), [(1 / 254, True), (1 / 256, False), (0.0, False)])
def test_faint_splats_are_left_out(opacity: float, shown: bool) -> None:
    camera = facing_camera()
    _, alphas, _, radii = render(camera, double([[0, 0, 1]]), double([[0.2] * 3]), double([opacity]))
    assert bool(alphas[10, 10] > 0) == bool(radii[0] > 0) == shown


def test_pixel_ends_before_the_splat_that_would_exhaust_it() -> None:
    """0.95 three times leaves 1.25e-4; a fourth would leave less than 1e-4, so it and the rest are out."""
    camera = facing_camera(1, 1)
    colors = torch.eye(6)[:, [0, 3, 4]].double()
    means = torch.stack([torch.zeros(6), torch.zeros(6), torch.arange(1, 7)], -1).double()
    opacities = double([0.95] * 4 + [0.1] * 2)
    picture, alphas, _, _ = render(camera, means, double([[50.0] * 3] * 6), opacities, colors)
    assert torch.allclose(alphas, double([[1 - 0.05**3]]))
    assert torch.allclose(picture[:, 0, 0], double([0.95, 0, 0]))


def test_near_plane() -> None:
    camera = facing_camera()
    means = double([[0, 0, 0.0099], [0, 0, 0.01], [0, 0, 0.0101], [0, 0, -1], [0, 0, 0]])
    _, _, depths, radii = render(camera, means, double([[1e-5] * 3] * 5), double([0.5] * 5))
    assert (radii > 0).tolist() == [False, False, True, False, False]
    assert torch.allclose(depths[10, 10], double(0.0101))


def test_empty_scene_is_the_background() -> None:
    background = double([0.1, 0.8, 0.3])
    colors, alphas, depths, radii = render(
        facing_camera(5, 4), double([]).view(0, 3), double([]).view(0, 3), double([]), background=background
    )
    assert torch.equal(colors, background[:, None, None].expand(3, 4, 5))
    assert not alphas.any() and not depths.any() and radii.shape == (0,)


# Blur


@pytest.mark.parametrize("blur", [0.5, 4.0, 25.0])
def test_blur_keeps_the_integral(blur: float) -> None:
    """The part of a bell above a threshold t integrates to 2 pi sqrt(det) (o - t)."""
    camera = facing_camera(61, 61)
    quats = double([[0.9, 0.1, -0.3, 0.4]])
    splat = double([[0.1, 0.05, 2]]), double([[0.3, 0.1, 0.2]]), double([0.7])
    factors = reference.covariance_factor(quats, splat[1])
    _, covars2d, sharp = reference.project_ewa(splat[0], factors, camera)
    _, wide = reference.widen(covars2d, sharp, blur)
    whole = 2 * math.pi * 0.7 * sharp.sqrt()
    _, alphas, _, _ = render(camera, *splat, blur=double([blur]), quats=quats)
    cut = 2 * math.pi * wide.sqrt() / 255
    assert torch.allclose(alphas.sum(), whole - cut, rtol=5e-3)


def test_no_blur_is_the_pinhole() -> None:
    splats = double([[0.1, -0.2, 2], [-0.3, 0.1, 3]]), double([[0.1] * 3, [0.2] * 3]), double([0.7, 1.0])
    for sharp, blurred in zip(
        render(facing_camera(), *splats),
        render(facing_camera(), *splats, blur=torch.zeros(2).double()),
        strict=True,
    ):
        assert torch.equal(sharp, blurred)


def test_blur_is_the_convolution_of_a_faint_splat() -> None:
    """A faint bell of variance v seen through a bell of variance b is one of v + b, at equal integral."""
    camera, blur = facing_camera(), 3.0
    _, alphas, _, _ = render(
        camera, double([[0, 0, 4]]), double([[0.5] * 3]), double([0.3]), blur=double([blur])
    )
    variance = (20 * 0.5 / 4) ** 2 + 0.3
    steps = torch.arange(21).double() - 10
    expected = (
        0.3
        * variance
        / (variance + blur)
        * (-(steps**2 + steps[:, None] ** 2) / (2 * (variance + blur))).exp()
    )
    assert torch.allclose(alphas, expected.where(expected >= 1 / 255, 0))


# Gradients


def call(case: Case, inputs: list[Tensor], probe: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, alphas and depths of one set, as a function of its tensors."""
    given = dict(zip(case.splats.tensors(), inputs, strict=True))
    blur, shift = given.pop("blur", None), given.pop("shift", None)
    background = double([0.3, 0.6, 0.1])
    means, quats, scales, opacities, sh0, shN = given.values()
    own = means, quats, scales, opacities, sh0, shN
    colors, alphas, depths, _ = reference.rasterize_set(
        *own, case.camera, blur, shift, 3, background, False, probe
    )
    return colors, alphas, depths


@pytest.mark.thorough
@pytest.mark.parametrize("blurred", [False, True])
def test_gradcheck(blurred: bool) -> None:
    camera = tilted_camera(5, 4)
    # Wide, not too faint splats: no pixel comes near a threshold as the inputs move.
    splats = random_splats(3, camera, 3, size_px=6, opacities=(0.3, 0.6))
    if blurred:
        moved = double([[1.0, -0.5], [0.0, 0.3], [-1.0, 0.7]])
        splats = replace(splats, blur=double([0.1, 1.0, 9.0]), shift=moved)
    case = Case(splats, camera)
    inputs = [value.requires_grad_() for value in splats.tensors().values()]
    probe = torch.zeros(3, 2).double()
    assert torch.autograd.gradcheck(lambda *all: call(case, list(all), probe), inputs)


def test_probe_adds_up_how_hard_each_pixel_pulls_at_the_projected_means() -> None:
    """Every splat moved along the picture alone, by what moves its projected mean."""
    camera = tilted_camera(9, 7)
    splats = random_splats(5, camera, 1, size_px=2)
    inputs = list(splats.tensors().values())
    weights = torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(0)).double()
    probe = torch.zeros(5, 2).double().requires_grad_()
    (call(Case(splats, camera), inputs, probe)[0] * weights).sum().backward()
    assert probe.grad is not None

    def losses(index: int, shift: list[float]) -> Tensor:
        """(H, W), what each pixel adds to the loss; a probe that is not zero moves the mean."""
        moved = torch.zeros(5, 2).double()
        moved[index] = double(shift)
        return (call(Case(splats, camera), inputs, moved)[0] * weights).sum(0)

    for index in range(5):
        for axis, step in enumerate(([1e-6, 0.0], [0.0, 1e-6])):
            slopes = (losses(index, step) - losses(index, [-s for s in step])) / 2e-6
            assert torch.allclose(probe.grad[index, axis], slopes.abs().sum(), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_ever_nan(name: str) -> None:
    case = CASES[name]()
    inputs = {key: value.requires_grad_() for key, value in case.splats.tensors().items()}
    first = {
        key: value[0] if value.dim() > {"opacities": 1, "blur": 1, "sh0": 3, "shN": 3}.get(key, 2) else value
        for key, value in inputs.items()
    }
    probe = torch.zeros(len(case.splats.sh0), 2).double().requires_grad_()
    pictures = call(case, list(first.values()), probe)
    assert all(picture.isfinite().all() for picture in pictures)
    torch.stack([picture.square().sum() for picture in pictures]).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in inputs.values())


def test_what_is_not_drawn_has_no_gradient() -> None:
    camera = facing_camera()
    local = double([[0, 0, 2], [0, 0, -2], [0, 0, 0.005], [90, 0, 2], [0, 0, 3]])
    leaves = [to_world(local, camera), double([[0.3] * 3] * 5), double([0.5, 0.5, 0.5, 0.5, 0.001])]
    means, scales, opacities = (leaf.requires_grad_() for leaf in leaves)
    colors, _, depths, radii = render(camera, means, scales, opacities)
    assert (radii > 0).tolist() == [True, False, False, False, False]
    (colors.square().sum() + depths.sum()).backward()
    for leaf in (means, scales, opacities):
        assert leaf.grad is not None and leaf.grad[0].any() and not leaf.grad[1:].any()


def test_float32_stays_float32() -> None:
    camera = tilted_camera()
    means, quats, scales, opacities, sh0, shN = random_splats(5, camera).tensors(torch.float32).values()
    pictures = reference.rasterize_set(
        means, quats, scales, opacities, sh0, shN, camera, None, None, 3, torch.zeros(3), False, None
    )
    assert {picture.dtype for picture in pictures} == {torch.float32}
