"""Every back-end against the float64 reference, over one set of scenes, and what they all promise.

A splat at a pixel is drawn or not by two thresholds, so float32 may decide differently from float64 where it
stands on one. Such pixels are found by rendering the reference with both thresholds moved by `NUDGE`: each
may differ by what that changes, and they are left out of the loss whose gradients are compared.
"""

from dataclasses import dataclass
from functools import cache
from unittest import mock

import pytest
import torch
from conftest import Backend
from scenes import CASES, Case, Splats
from torch import Tensor

from cocogs.rasterize import Render, rasterize, reference

NUDGE = 2e-4
"""Relative change of a threshold that covers float32's rounding of an alpha or a transmittance."""
MOST_BOUNDARY = 0.03
"""Part of a scene's pixels that may stand on a threshold."""


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
    """Zeros that gather the gradients of the projected means."""
    return torch.zeros(case.splats.sets(), len(case.splats.sh0), 2, dtype=dtype, requires_grad=True)


def render(case: Case, inputs: dict[str, Tensor], backend: Backend, probe: Tensor | None = None) -> Render:
    """`rasterize` as a user calls it."""
    options = dict(case.options)
    if "background" in options:
        options["background"] = options["background"].to(backend.dtype)
    return rasterize(**inputs, camera=case.camera, means2d_probe=probe, backend=backend.name, **options)


def render_reference(case: Case, inputs: dict[str, Tensor], probe: Tensor | None = None) -> dict[str, Tensor]:
    """The specification itself, past the public call: its broadcasting is under test too."""
    sets, count = case.splats.sets(), len(case.splats.sh0)
    means, quats, scales = (inputs[name].expand(sets, count, -1) for name in ("means", "quats", "scales"))
    blur = inputs["blur"].expand(sets, count) if "blur" in inputs else None
    colors, alphas, depths, radii = reference.rasterize(
        means,
        quats,
        scales,
        inputs["opacities"].expand(sets, count),
        inputs["sh0"],
        inputs["shN"],
        case.camera,
        blur,
        case.options.get("sh_degree", 3),
        case.options.get("background", torch.zeros(3)).to(means),
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


def skip_unsupported(case: Case, backend: Backend) -> None:
    if backend.name == "gsplat" and case.splats.blur is not None:
        pytest.skip("gsplat has no blur")


@pytest.mark.parametrize("name", CASES)
def test_picture_matches_reference(name: str, backend: Backend) -> None:
    case, truth = CASES[name](), expected(name)
    skip_unsupported(case, backend)
    picture = render(case, case.splats.tensors(backend.dtype), backend)
    bound = backend.tolerance.forward * case.rounding
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


@pytest.mark.parametrize("name", CASES)
def test_gradients_match_reference(name: str, backend: Backend) -> None:
    case, truth = CASES[name](), expected(name)
    skip_unsupported(case, backend)
    inputs, probe = leaves(case.splats, backend.dtype), probe_for(case, backend.dtype)
    picture = render(case, inputs, backend, probe)
    pictures = {key: getattr(picture, key) for key in truth.weights}
    total = loss(pictures, truth.weights)
    # gsplat's picture of nothing depends on nothing.
    if total.requires_grad or backend.name != "gsplat":
        total.backward()
    for key, found in gradients(inputs, probe).items():
        exact, found = truth.gradients[key].flatten(), found.double().flatten()
        assert found.isfinite().all(), key
        if not exact.any():
            assert not found.any(), f"{key} should have no gradient"
            continue
        error = (found - exact).norm() / exact.norm()
        assert error <= backend.tolerance.gradient, f"{key} is off by {error:.1e}"
        cosine = torch.cosine_similarity(found, exact, dim=0)
        assert cosine >= 1 - backend.tolerance.gradient, f"{key} points elsewhere: {cosine}"


@pytest.mark.parametrize("name", CASES)
def test_radii(name: str, backend: Backend) -> None:
    case, truth = CASES[name](), expected(name).radii
    skip_unsupported(case, backend)
    found = render(case, case.splats.tensors(backend.dtype), backend)
    radii = found.radii.double()
    assert radii.shape == truth.shape and not found.radii.requires_grad
    if backend.name == "gsplat":
        # Its radii know no opacity: they are never less than ours.
        assert (radii >= truth).all()
    else:
        assert torch.allclose(radii, truth, rtol=1e-4, atol=1e-3)
