"""Every back-end against the float64 reference, over one set of scenes, and what they all promise.

A splat at a pixel is drawn or not by two thresholds, so float32 may decide differently from float64 where it
stands on one. Such pixels are found by rendering the reference with both thresholds moved by `NUDGE`: each
may differ by what that changes, and they are left out of the loss whose gradients are compared.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import BACKENDS, Backend, parameters
from scenes import (
    CASES,
    Case,
    Splats,
    dense,
    depth,
    many,
    nothing,
    ordinary,
    own_sets,
    random_splats,
    tilted_camera,
)
from torch import Tensor

from cocogs.camera import Camera, rotation_about
from cocogs.optics.light import mean_light, srgb_curve
from cocogs.rasterize import Render, rasterize, reference

NUDGE = 5e-5
"""Relative change of a threshold that covers float32's rounding of an alpha or a transmittance."""
MOST_BOUNDARY = 0.03
"""Part of a scene's pixels that may stand on a threshold."""

NATIVE = [backend for backend in BACKENDS if backend.name == "native"]


@dataclass(frozen=True)
class Expected:
    """The float64 reference's picture of a case, and its gradients for a fixed loss."""

    colors: Tensor
    alphas: Tensor
    depths: Tensor | None
    radii: Tensor
    slack: dict[str, Tensor]
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]


def leaves(splats: Splats, dtype: torch.dtype) -> dict[str, Tensor]:
    """Fresh tensors that gather gradients, by name."""
    return {name: value.requires_grad_() for name, value in splats.tensors(dtype).items()}


def probe_for(case: Case, dtype: torch.dtype) -> Tensor:
    """Zeros that gather the pixels' pull at the projected means."""
    return torch.zeros(case.splats.sets(), len(case.splats.sh0), 2, dtype=dtype, requires_grad=True)


def render(case: Case, inputs: dict[str, Tensor], backend: Backend, probe: Tensor | None = None) -> Render:
    """`rasterize` as a user calls it, on the back-end's device; the result comes back to the CPU."""
    options = dict(case.options)
    if "background" in options:
        options["background"] = options["background"].to(backend.device, backend.dtype)
    moved = {name: value.to(backend.device) for name, value in inputs.items()}
    probe = None if probe is None else probe.to(backend.device)
    name: Any = backend.name
    picture = rasterize(**moved, camera=case.camera, means2d_probe=probe, backend=name, **options)
    depths = None if picture.depths is None else picture.depths.cpu()
    return Render(picture.colors.cpu(), picture.alphas.cpu(), depths, picture.radii.cpu())


def render_reference(case: Case, inputs: dict[str, Tensor], probe: Tensor | None = None) -> dict[str, Tensor]:
    """The specification itself, past the public call: its broadcasting is under test too."""
    sets, count = case.splats.sets(), len(case.splats.sh0)
    means, quats, scales = (inputs[name].expand(sets, count, -1) for name in ("means", "quats", "scales"))
    blur = inputs["blur"].expand(sets, count) if "blur" in inputs else None
    shift = inputs["shift"].expand(sets, count, 2) if "shift" in inputs else None
    colors, alphas, depths, radii = reference.rasterize(
        means,
        quats,
        scales,
        inputs["opacities"].expand(sets, count),
        inputs["sh0"],
        inputs["shN"],
        case.camera,
        blur,
        shift,
        case.options.get("sh_degree", 3),
        case.options.get("background", torch.zeros(3)).to(means),
        case.options.get("antialiased", False),
        case.options.get("with_depth", False),
        probe,
    )
    pictures = {"colors": colors, "alphas": alphas, "radii": radii}
    return pictures if depths is None else pictures | {"depths": depths}


def nudged(case: Case, factor: float) -> dict[str, Tensor]:
    """The reference with both thresholds multiplied by `factor`."""
    moved = {name: factor * getattr(reference, name) for name in ("ALPHA_MIN", "TRANSMITTANCE_MIN")}
    with mock.patch.multiple(reference, **moved), torch.no_grad():
        return render_reference(case, case.splats.tensors())


@cache
def expected(name: str) -> Expected:
    """The reference's answer to a scene; every back-end is held to the same."""
    case = CASES[name]()
    inputs, probe = leaves(case.splats, torch.float64), probe_for(case, torch.float64)
    pictures = render_reference(case, inputs, probe)
    radii = pictures.pop("radii")
    fainter, stronger = nudged(case, 1 - NUDGE), nudged(case, 1 + NUDGE)
    slack = {
        key: (fainter[key] - value).abs() + (stronger[key] - value).abs()
        for key, value in ((key, value.detach()) for key, value in pictures.items())
    }
    steady = (slack["colors"].amax(1) < 1e-9) & (slack["alphas"] < 1e-9)
    generator = torch.Generator().manual_seed(7)
    weights = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        * (steady[:, None] if key == "colors" else steady)
        for key, value in pictures.items()
    }
    if "depths" in weights:
        # An expected depth divides by alpha; this loss counts each pixel by what it shows.
        weights["depths"] *= pictures["alphas"].detach()
    assert (~steady).double().mean() <= MOST_BOUNDARY
    loss(pictures, weights).backward()
    return Expected(
        colors=pictures["colors"].detach(),
        alphas=pictures["alphas"].detach(),
        depths=pictures["depths"].detach() if "depths" in pictures else None,
        radii=radii,
        slack=slack,
        weights=weights,
        gradients=gradients(inputs, probe),
    )


def loss(pictures: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor:
    """A weighted sum of everything that is rendered."""
    parts = [(pictures[key] * weight.to(pictures[key])).sum() for key, weight in weights.items()]
    return torch.stack(parts).sum()


def gradients(inputs: dict[str, Tensor], probe: Tensor) -> dict[str, Tensor]:
    """What `backward` left; zeros where it left nothing."""
    return {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in (inputs | {"means2d_probe": probe}).items()
    }


def slope(leaf: Tensor) -> Tensor:
    """The gradient that `backward` left in a leaf, which must be there."""
    assert leaf.grad is not None
    return leaf.grad


def skip_unsupported(case: Case, backend: Backend) -> None:
    if backend.name == "gsplat" and not (case.splats.blur is None and case.splats.shift is None):
        pytest.skip("gsplat has no blur and no shift")


def rounding(case: Case, backend: Backend) -> float:
    """How many times the tolerance a scene takes."""
    return case.rounding if backend.dtype == torch.float32 else 1


@pytest.mark.parametrize("name", CASES)
def test_picture_and_radii_match_reference(name: str, backend: Backend) -> None:
    case, truth = CASES[name](), expected(name)
    skip_unsupported(case, backend)
    picture = render(case, case.splats.tensors(backend.dtype), backend)
    bound = backend.tolerance.forward * rounding(case, backend)
    for key, exact in (("colors", truth.colors), ("alphas", truth.alphas)):
        found = getattr(picture, key)
        assert found.dtype == backend.dtype and found.shape == exact.shape
        excess = (found.double() - exact).abs() - truth.slack[key]
        assert excess.max() <= bound, f"{key} is off by {excess.max():.1e} beyond what thresholds explain"
    if truth.depths is None:
        assert picture.depths is None
    else:
        assert picture.depths is not None
        # An error of alpha weighs 1 / alpha times as much in the expected depth.
        error = (picture.depths.double() - truth.depths).abs() * truth.alphas
        allowed = bound * truth.depths.max().clamp_min(1) + truth.slack["depths"]
        assert (error <= allowed).all(), f"depths are off by {(error - allowed).max():.1e}"
    check_radii(picture.radii, truth.radii, name, backend)


@pytest.mark.parametrize("name", CASES)
def test_gradients_match_reference(name: str, backend: Backend) -> None:
    """Who does not ask for the pixels' pull gets the other gradients to the same bits."""
    case, truth = CASES[name](), expected(name)
    skip_unsupported(case, backend)
    probe = probe_for(case, backend.dtype)
    inputs = pulled(case, truth, backend, probe)
    # What an inverse amplifies, its derivative amplifies twice.
    bound = backend.tolerance.gradient * rounding(case, backend) ** 2
    for key, found in gradients(inputs, probe).items():
        exact, found = truth.gradients[key].flatten(), found.double().flatten()
        assert found.isfinite().all(), key
        if not exact.any():
            assert not found.any(), f"{key} should have no gradient"
            continue
        error = (found - exact).norm() / exact.norm()
        assert error <= bound, f"{key} is off by {error:.1e}"
        cosine = torch.cosine_similarity(found, exact, dim=0)
        assert cosine >= 1 - bound, f"{key} points elsewhere: {cosine}"
    for key, leaf in pulled(case, truth, backend, None).items():
        probed = inputs[key].grad
        assert (probed is None) == (leaf.grad is None)
        assert probed is None or (leaf.grad is not None and torch.equal(probed, leaf.grad)), key


def pulled(case: Case, truth: Expected, backend: Backend, probe: Tensor | None) -> dict[str, Tensor]:
    """The inputs of a case with what `backward` left in them."""
    inputs = leaves(case.splats, backend.dtype)
    picture = render(case, inputs, backend, probe)
    total = loss({key: getattr(picture, key) for key in truth.weights}, truth.weights)
    # gsplat's picture of nothing depends on nothing.
    if total.requires_grad or backend.name != "gsplat":
        total.backward()
    return inputs


def check_radii(found: Tensor, truth: Tensor, name: str, backend: Backend) -> None:
    radii = found.double()
    assert radii.shape == truth.shape and not found.requires_grad
    if backend.name == "gsplat":
        # Its radii know no opacity: up to opacity 1 they are never less than ours.
        assert (radii >= truth).all() or name == "brighter_than_opaque"
    else:
        assert torch.allclose(radii, truth, rtol=1e-4, atol=1e-3)


def differentiable_picture(case: Case, backend: Backend) -> tuple[Render, dict[str, Tensor]]:
    inputs = leaves(case.splats, backend.dtype)
    return render(case, inputs, backend), inputs


def test_order_of_splats_is_irrelevant(backend: Backend) -> None:
    case = depth()
    order = torch.randperm(len(case.splats.sh0), generator=torch.Generator().manual_seed(0))
    inputs = case.splats.tensors(backend.dtype)
    picture = render(case, inputs, backend)
    shuffled = render(case, {name: value[order] for name, value in inputs.items()}, backend)
    assert picture.depths is not None and shuffled.depths is not None
    assert torch.equal(shuffled.colors, picture.colors)
    assert torch.equal(shuffled.alphas, picture.alphas)
    assert torch.equal(shuffled.depths, picture.depths)
    assert torch.equal(shuffled.radii[0], picture.radii[0, order])


def test_alpha_and_background_share_every_pixel(backend: Backend) -> None:
    """Splats of one colour before a background of the same colour make a flat picture."""
    splats = replace(ordinary().splats, sh0=torch.zeros(120, 1, 3), shN=torch.zeros(120, 15, 3))
    case = replace(ordinary(), splats=splats, options={"background": torch.full((3,), 0.5)})
    picture = render(case, splats.tensors(backend.dtype), backend)
    assert torch.allclose(picture.colors, torch.full_like(picture.colors, 0.5), atol=1e-6)


def test_empty_scene_is_the_background(backend: Backend) -> None:
    case = nothing()
    picture, _ = differentiable_picture(case, backend)
    background = case.options["background"].to(backend.dtype)
    assert torch.equal(picture.colors, background[:, None, None].expand(1, 3, 37, 53))
    assert picture.depths is not None and not picture.depths.any()
    assert not picture.alphas.any() and picture.radii.shape == (1, 0)


@pytest.mark.parametrize("antialiased", [False, True])
def test_a_crop_shows_a_part_of_the_whole_picture(antialiased: bool, backend: Backend) -> None:
    """Also of splats that lie outside the crop by more than the view's margin."""
    if backend.name == "gsplat":
        pytest.skip("gsplat takes the crop for the whole view")
    # Few and faint enough that no pixel stands on a threshold.
    camera = tilted_camera(90, 70)
    splats = random_splats(30, camera, 4, size_px=12, opacities=(0.2, 0.4), spread=1.5)
    case = Case(splats, camera, {"with_depth": True, "antialiased": antialiased})
    whole = render(case, splats.tensors(backend.dtype), backend)
    for left, top, width, height in ((32, 16, 16, 16), (7, 3, 20, 30), (60, 50, 30, 20)):
        crop = replace(case, camera=camera.cropped(left, top, width, height))
        part = render(crop, splats.tensors(backend.dtype), backend)
        expected = whole.colors[..., top : top + height, left : left + width]
        error = (part.colors - expected).abs()
        steady = error < backend.tolerance.forward
        assert steady.double().mean() > 0.98 and error.max() < 0.01  # a few pixels stand on `ALPHA_MIN`


def test_near_plane_of_the_camera(backend: Backend) -> None:
    """Scenes in metres of small things need a nearer one."""
    case = depth()
    inputs = case.splats.tensors(backend.dtype)
    z = case.camera.depths(inputs["means"])
    for near in (float(z.median()), 0.001):
        picture = render(replace(case, camera=replace(case.camera, near=near)), inputs, backend)
        kept = {name: value[z > near] for name, value in inputs.items()}
        assert torch.equal(picture.colors, render(case, kept, backend).colors)
    small = inputs | {name: inputs[name] * 1e-3 for name in ("means", "scales")}
    pose = case.camera.cam_from_world.clone()
    pose[:3, 3] *= 1e-3
    macro = replace(case, camera=replace(case.camera, cam_from_world=pose, near=1e-5))
    error = (render(macro, small, backend).colors - render(case, inputs, backend).colors).abs()
    assert error.median() < backend.tolerance.forward and error.max() < 0.01
    assert not render(replace(macro, camera=replace(macro.camera, near=0.01)), small, backend).colors.any()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
def test_splats_that_are_no_numbers_are_left_out(name: str, backend: Backend) -> None:
    """As if they were not there: one broken splat does not hide the others."""
    case = ordinary()
    inputs = case.splats.tensors(backend.dtype)
    without = {key: value[..., 1:, :] if value.dim() > 1 else value[1:] for key, value in inputs.items()}
    without["sh0"], without["shN"] = inputs["sh0"][1:], inputs["shN"][1:]
    broken = inputs[name].clone()
    broken[0] = torch.nan
    picture = render(case, inputs | {name: broken}, backend)
    assert torch.equal(picture.colors, render(case, without, backend).colors)


@pytest.mark.parametrize("name", ["sh0", "shN"])
def test_colours_that_are_no_numbers_reach_the_picture(name: str, backend: Backend) -> None:
    """A training that has broken down must show it: drawn black, such splats look well."""
    case = ordinary()
    inputs = case.splats.tensors(backend.dtype)
    pixels, z = case.camera.project(inputs["means"])
    middle = torch.tensor([case.camera.width / 2, case.camera.height / 2]).to(pixels)
    # The nearest of the splats around the middle of the picture: nothing hides it.
    chosen = int(z.where((pixels - middle).norm(dim=-1) < 10, torch.inf).argmin())
    inputs["opacities"][chosen] = 0.9
    inputs[name][chosen] = torch.nan
    picture = render(case, inputs, backend)
    column, row = pixels[chosen].long().tolist()
    assert picture.colors[0, :, row, column].isnan().all()
    assert picture.alphas.isfinite().all()
    if backend.name == "native":  # the others multiply every splat with every pixel
        assert picture.colors[0, :, 0, 0].isfinite().all()


@pytest.mark.parametrize("backend", parameters(NATIVE), indirect=True)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30, 1e-30])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "blur", "shift", "sh0", "shN"])
def test_impossible_numbers_do_no_harm(name: str, value: float, backend: Backend) -> None:
    """Both passes end, and the splats' other halves are drawn."""
    case = CASES["shifted"]()
    inputs = leaves(case.splats, backend.dtype)
    with torch.no_grad():
        own = inputs[name][0] if name == "shift" else inputs[name]
        own[::2] = value
    picture = render(case, inputs, backend)
    picture.colors.sum().backward()
    assert picture.radii[0, 1::2].any()


@pytest.mark.parametrize("degree", range(4))
def test_unused_bands_have_no_gradient(degree: int, backend: Backend) -> None:
    case = CASES[f"sh_degree_{degree}"]()
    picture, inputs = differentiable_picture(case, backend)
    picture.colors.square().sum().backward()
    slopes = inputs["shN"].grad
    used = (degree + 1) ** 2 - 1
    assert slopes is None or not slopes[:, used:].any()
    assert used == 0 or (slopes is not None and slopes[:, :used].any())


@pytest.mark.parametrize("part", ["colors", "alphas", "depths"])
def test_each_output_alone_has_gradients(part: str, backend: Backend) -> None:
    """A loss on one output leaves the gradients of the others undefined, not wrong."""
    case = depth()
    found, exact = leaves(case.splats, backend.dtype), leaves(case.splats, torch.float64)
    getattr(render(case, found, backend), part).mean().backward()
    render_reference(case, exact)[part].mean().backward()
    for name in ("means", "quats", "scales", "opacities"):
        truth = slope(exact[name])
        # Depths divide by faint alphas, which float32 knows less well.
        error = (slope(found[name]).double() - truth).norm()
        assert error <= 10 * backend.tolerance.gradient * truth.norm()


def test_gradients_only_where_asked(backend: Backend) -> None:
    case = ordinary()
    everything, inputs = differentiable_picture(case, backend)
    everything.colors.square().sum().backward()
    partly = case.splats.tensors(backend.dtype)
    partly["opacities"].requires_grad_()
    render(case, partly, backend).colors.square().sum().backward()
    assert partly["means"].grad is None
    assert torch.equal(slope(partly["opacities"]), slope(inputs["opacities"]))


def test_no_grad(backend: Backend) -> None:
    with torch.no_grad():
        picture, _ = differentiable_picture(depth(), backend)
    assert not picture.colors.requires_grad and not picture.alphas.requires_grad


def test_strided_tensors(backend: Backend) -> None:
    """Inputs that are views of something else, and a gradient of stride 0."""
    case = ordinary()
    plain, strided = leaves(case.splats, backend.dtype), leaves(case.splats, backend.dtype)
    views = {name: torch.stack([value, value], -1)[..., 1] for name, value in strided.items()}
    assert not views["means"].is_contiguous()
    render(case, plain, backend).colors.sum().backward()
    render(case, views, backend).colors.sum().backward()
    for name, value in plain.items():
        assert torch.allclose(slope(strided[name]), slope(value), rtol=1e-5, atol=1e-6)


def test_interleaved_pictures_keep_their_own_gradients(backend: Backend) -> None:
    """Two pictures, then their gradients in the same order: the second must not disturb the first."""
    first, second = dense(), own_sets()
    alone, inputs = differentiable_picture(first, backend)
    alone.colors.square().sum().backward()
    picture, again = differentiable_picture(first, backend)
    other, _ = differentiable_picture(second, backend)
    picture.colors.square().sum().backward()
    other.colors.square().sum().backward()
    for name, value in inputs.items():
        assert torch.equal(slope(value), slope(again[name]))


@pytest.mark.thorough
@pytest.mark.parametrize("backend", parameters(NATIVE), indirect=True)
def test_same_bits_every_time(backend: Backend) -> None:
    """A resumed training must reach the same parameters, on any number of threads."""
    runs = []
    try:
        for threads in (1, 2, 2, 3):
            torch.set_num_threads(threads)
            picture, inputs = differentiable_picture(many(), backend)
            picture.colors.square().sum().backward()
            runs.append([picture.colors, picture.radii, *(slope(leaf) for leaf in inputs.values())])
    finally:
        torch.set_num_threads(1)
    for again in runs[1:]:
        assert all(torch.equal(one, other) for one, other in zip(runs[0], again, strict=True))


def test_a_camera_stands_where_its_place_tells(backend: Backend) -> None:
    """The same bits as from a camera that stands there by its pose, gradients too."""
    case = CASES["ordinary"]()
    pose = case.camera.cam_from_world.clone()
    pose[:3, :3] = rotation_about(torch.tensor([0.05, -0.1, 0.2]).double()) @ pose[:3, :3]
    pose[:3, 3] += 0.1
    moved = replace(case.camera, cam_from_world=pose)
    place = moved.place_like(case.splats.means.to(backend.device, backend.dtype))
    pictures, slopes = [], []
    for camera in (moved, replace(case.camera, place=place), case.camera):
        picture, inputs = differentiable_picture(replace(case, camera=camera), backend)
        picture.colors.square().sum().backward()
        pictures.append(picture.colors)
        slopes.append([slope(leaf) for leaf in inputs.values()])
    assert torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])
    assert all(torch.equal(one, other) for one, other in zip(slopes[0], slopes[1], strict=True))


@pytest.mark.parametrize("backend", [Backend("native", torch.float32)], indirect=True, ids=str)
def test_no_second_derivatives(backend: Backend) -> None:
    """They would be 0 without a word, also where the incoming gradients are constants."""
    for loss in (lambda x: x.square().sum(), lambda x: mean_light(x).sum(), lambda x: x.sum()):
        picture, inputs = differentiable_picture(CASES["ordinary"](), backend)
        value = loss(picture.colors)
        (pull,) = torch.autograd.grad(value, inputs["means"], create_graph=True)
        with pytest.raises(RuntimeError, match="first derivatives alone"):
            (pull.square().sum() + value).backward()


@pytest.mark.parametrize("backend", [Backend("native", torch.float32)], indirect=True, ids=str)
def test_a_picture_in_inference_mode_leaves_gradients_possible(backend: Backend) -> None:
    case = CASES["ordinary"]()
    case = replace(case, camera=replace(case.camera))  # that has kept nothing yet
    srgb_curve.cache_clear()
    with torch.inference_mode():
        picture, _ = differentiable_picture(case, backend)
        mean_light(picture.colors)
        case.camera.depths(case.splats.means)
    picture, inputs = differentiable_picture(case, backend)
    depths = case.camera.depths(inputs["means"])
    (mean_light(picture.colors).sum() + depths.square().sum()).backward()
    assert slope(inputs["means"]).isfinite().all()


@pytest.mark.thorough
@pytest.mark.parametrize("backend", [Backend("native", torch.float64)], indirect=True, ids=str)
def test_gradcheck(backend: Backend) -> None:
    """The native code in double against finite differences of itself."""
    camera = tilted_camera(7, 5)
    splats = random_splats(5, camera, 3, size_px=6, opacities=(0.3, 0.6))
    blur = torch.tensor([0.01, 0.1, 1.0, 3.0, 9.0]).double()  # no finite difference makes it negative
    inputs = leaves(replace(splats, blur=blur), torch.float64)
    probe = torch.zeros(1, 5, 2).double().requires_grad_()
    case = Case(splats, camera, {"with_depth": True})

    def pictures(*values: Tensor) -> tuple[Tensor, ...]:
        *given, moved = values
        picture = render(case, dict(zip(inputs, given, strict=True)), backend, moved)
        assert picture.depths is not None
        return picture.colors, picture.alphas, picture.depths

    # The probe adds nothing to the picture, so that finite differences do not see it.
    assert torch.autograd.gradcheck(lambda *values: pictures(*values, probe), tuple(inputs.values()))


# Misuse


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("means", (120, 2)),
        ("means", (119, 3)),
        ("quats", (120, 3)),
        ("scales", (120, 1)),
        ("opacities", (120, 1)),
        ("opacities", (2, 119)),
        ("sh0", (120, 3)),
        ("shN", (120, 16, 3)),
        ("blur", (60,)),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_are_refused(name: str, shape: tuple[int, ...], backend: Backend) -> None:
    inputs = ordinary().splats.tensors(backend.dtype) | {name: torch.ones(shape, dtype=backend.dtype)}
    with pytest.raises(ValueError, match="must have shape"):
        render(ordinary(), inputs, backend)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [None, [0.0], 3.0])
@pytest.mark.parametrize("name", ["means", "sh0", "shift", "means2d_probe", "camera"])
def test_what_is_no_tensor_is_refused(name: str, value: Any) -> None:
    case = CASES["ordinary"]()
    arguments: dict[str, Any] = case.splats.tensors() | {"camera": case.camera} | {name: value}
    if value is None and name in ("shift", "means2d_probe"):
        rasterize(**arguments)
        return
    with pytest.raises(ValueError, match=f"{name} must be a (tensor|Camera), not (NoneType|list|float)"):
        rasterize(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_different_numbers_of_sets_are_refused(backend: Backend) -> None:
    inputs = ordinary().splats.tensors(backend.dtype)
    inputs["means"] = inputs["means"].expand(2, -1, -1)
    inputs["scales"] = inputs["scales"].expand(3, -1, -1)
    with pytest.raises(ValueError, match="sets"):
        render(ordinary(), inputs, backend)


@pytest.mark.parametrize("degree", [-1, 4])
def test_unknown_degrees_are_refused(degree: int, backend: Backend) -> None:
    case = replace(ordinary(), options={"sh_degree": degree})
    with pytest.raises(ValueError, match="degree"):
        render(case, case.splats.tensors(backend.dtype), backend)


@pytest.mark.usefixtures("unchecked")
def test_unknown_backend_is_refused() -> None:
    case = ordinary()
    with pytest.raises(ValueError, match="backend"):
        render(case, case.splats.tensors(torch.float32), Backend("opengl", torch.float32))


@pytest.mark.parametrize("size_px", [0.1, 0.5, 2.0])
def test_antialiased_pictures_of_all_sizes_are_alike(size_px: float) -> None:
    """A picture shows what a four times finer one shows on average; classic ones of thin splats do not."""
    camera = tilted_camera(48, 36)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:2] *= 4
    fine = Camera(intrinsics, camera.cam_from_world, 4 * camera.width, 4 * camera.height)
    splats = random_splats(300, camera, 22, size_px=size_px).tensors().values()

    def difference(antialiased: bool) -> float:
        colors = [rasterize(*splats, camera=c, antialiased=antialiased).colors for c in (camera, fine)]
        return float((colors[0] - torch.nn.functional.avg_pool2d(colors[1], 4)).abs().mean())

    assert difference(antialiased=True) < 0.004 < difference(antialiased=False)


def test_gsplat_refuses_blur() -> None:
    pytest.importorskip("gsplat")
    case = CASES["blurred"]()
    with pytest.raises(ValueError, match="blur"):
        render(case, case.splats.tensors(), Backend("gsplat", torch.float64))
