"""The native rasterizer by itself: derivatives in double, the torch ops, instruction set levels, threads,
memory, and that its mathematics compiles for a GPU. test_rasterize.py compares its pictures.
"""

import gc
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.compiled import cpu_module
from cocogs.rasterize import constants, native, rasterize

MODULE = cpu_module()
LEVELS = MODULE.levels()
CUDA_EXT = Path(__file__).parents[1] / "cuda_ext"

Splats = dict[str, Any]
"""Tensors by the name of the argument of `rasterize`; Any, because ** could mean any argument."""


@pytest.fixture(autouse=True)
def default_level() -> Iterator[None]:
    before = MODULE.level()
    yield
    MODULE.set_level(before)


def small_camera(width: int = 24, height: int = 18) -> Camera:
    intrinsics = torch.tensor([[22.0, 0, 10.5], [0, 20.0, 8.2], [0, 0, 1]], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([0.1, -0.05, 0.2])
    return Camera(intrinsics, pose, width, height)


def smooth_scene(sets: int, count: int, seed: int = 0) -> Splats:
    """Splats wide and faint enough that no threshold lies within a finite difference's step: each covers the
    whole image by more than 1/255, no pixel comes near its end, no colour near 0."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    depths = 2 + torch.arange(count, dtype=torch.float64) / count
    means = torch.stack([uniform(count) - 0.5, uniform(count) - 0.5, depths], -1)
    return {
        "means": means.expand(sets, -1, -1) + 0.02 * uniform(sets, count, 3),
        "quats": torch.randn(1, count, 4, generator=g, dtype=torch.float64),
        "scales": 1.5 + uniform(sets, count, 3),
        "opacities": 0.1 + 0.2 * uniform(count),
        "sh0": 1 + uniform(count, 1, 3),
        "shN": 0.05 * torch.randn(count, 15, 3, generator=g, dtype=torch.float64),
        "blur": 2 * uniform(sets, count),
        "shift": uniform(sets, count, 2) - 0.5,
    }


def ordinary_scene(count: int, seed: int = 0) -> Splats:
    """Float32 splats of a few px, some outside the image and behind the camera."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.tensor([3.0, 3.0, 4.0])
    return {
        "means": torch.rand(count, 3, generator=g) * spread + torch.tensor([-1.5, -1.5, -0.5]),
        "quats": torch.randn(count, 4, generator=g),
        "scales": 0.02 + 0.1 * torch.rand(count, 3, generator=g),
        "opacities": torch.rand(count, generator=g),
        "sh0": torch.randn(count, 1, 3, generator=g),
        "shN": 0.1 * torch.randn(count, 15, 3, generator=g),
        "blur": torch.rand(count, generator=g),
    }


def random_loss(images: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    weights = [torch.randn(image.shape, generator=generator, dtype=image.dtype) for image in images]
    return torch.stack([(image * w).sum() for image, w in zip(images, weights, strict=True)]).sum()


def gradients_of(scene: Splats, camera: Camera, seed: int = 0) -> Splats:
    """Pictures of a scene and the gradients of a fixed random loss on them."""
    leaves = {name: value.clone().requires_grad_() for name, value in scene.items()}
    picture = rasterize(**leaves, camera=camera, with_depth=True)
    assert picture.depths is not None
    g = torch.Generator().manual_seed(seed)
    random_loss((picture.colors, picture.alphas, picture.depths), g).backward()
    result = {"colors": picture.colors.detach(), "alphas": picture.alphas.detach(), "radii": picture.radii}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        result[name] = leaf.grad
    return result


# Derivatives


@pytest.mark.thorough
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_gradients_in_double(sh_degree: int) -> None:
    scene = smooth_scene(sets=2, count=4)
    leaves = tuple(value.requires_grad_() for value in scene.values())

    def pictures(*values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs: Splats = dict(zip(scene, values, strict=True))
        background = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
        picture = rasterize(
            **inputs, camera=small_camera(8, 6), with_depth=True, sh_degree=sh_degree, background=background
        )
        assert picture.depths is not None
        return picture.colors, picture.alphas, picture.depths

    assert torch.autograd.gradcheck(pictures, leaves, eps=1e-6, atol=1e-7)


@pytest.mark.thorough
def test_background_has_a_gradient() -> None:
    scene = smooth_scene(sets=1, count=3)
    background = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda value: rasterize(**scene, camera=small_camera(), background=value).colors, background
    )


def test_probe_adds_up_how_hard_each_pixel_pulls_at_the_projected_mean() -> None:
    """Moving the principal point moves the one projected mean of each set."""
    scene, camera = smooth_scene(sets=2, count=1), small_camera()
    weights = torch.randn(2, 3, camera.height, camera.width, dtype=torch.float64)
    probe = torch.zeros(2, 1, 2, dtype=torch.float64, requires_grad=True)
    (rasterize(**scene, camera=camera, means2d_probe=probe).colors * weights).sum().backward()
    assert probe.grad is not None

    def losses(axis: int, shift: float) -> torch.Tensor:
        """(2, H, W), what each pixel adds to the loss."""
        intrinsics = camera.intrinsics.clone()
        intrinsics[axis, 2] += shift
        return (rasterize(**scene, camera=replace(camera, intrinsics=intrinsics)).colors * weights).sum(1)

    step = 1e-5
    for axis in range(2):
        slopes = (losses(axis, step) - losses(axis, -step)) / (2 * step)
        pull = slopes.abs().sum((1, 2))
        assert bool((pull > 2 * slopes.sum((1, 2)).abs()).all())  # there is something that would cancel
        torch.testing.assert_close(probe.grad[:, 0, axis], pull, rtol=1e-6, atol=1e-8)


def test_only_wanted_gradients_are_computed() -> None:
    scene, camera = ordinary_scene(200), small_camera()
    everything = gradients_of(scene, camera)
    for name in scene:
        leaf = scene[name].clone().requires_grad_()
        picture = rasterize(**(scene | {name: leaf}), camera=camera, with_depth=True)
        assert picture.depths is not None
        g = torch.Generator().manual_seed(0)
        images = (picture.colors, picture.alphas, picture.depths)
        random_loss(images, g).backward()
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, everything[name])


# The torch ops


def op_arguments(scene: Splats, camera: Camera, with_depth: bool) -> tuple:
    dtype = scene["means"].dtype
    return (
        scene["means"],
        scene["quats"],
        scene["scales"],
        scene["opacities"][None].clone().detach().requires_grad_(),
        scene["blur"],
        scene["shift"],
        scene["sh0"],
        scene["shN"],
        torch.tensor([0.2, 0.5, 0.9], dtype=dtype),
        torch.zeros(*scene["means"].shape[:2], 2, dtype=dtype, requires_grad=True),
        camera.numbers,
        None,
        camera.width,
        camera.height,
        3,
        True,
        with_depth,
    )


@pytest.mark.parametrize("with_depth", [False, True])
def test_op_keeps_the_contract_of_torch(with_depth: bool) -> None:
    scene = {name: value.requires_grad_() for name, value in smooth_scene(sets=2, count=4).items()}
    arguments = op_arguments(scene, small_camera(8, 6), with_depth)
    # All of opcheck but the last: it wants equal results of two calls, and the handles differ by design.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(native.rasterize_op, arguments, test_utils=checks)


def test_op_can_be_traced() -> None:
    """What opcheck's last check is about: traced ahead of time, pictures and gradients are the same."""
    arguments = op_arguments(smooth_scene(sets=2, count=4), small_camera(8, 6), True)
    opacities = arguments[3]

    def loss(*values: Tensor) -> Tensor:
        colors, alphas, depths, *_ = native.rasterize_op(*values)
        return colors.square().sum() + alphas.square().sum() + depths.square().sum()

    expected = loss(*arguments)
    (gradient,) = torch.autograd.grad(expected, opacities)
    traced = torch.compile(loss, backend="aot_eager", fullgraph=True)(*arguments)
    assert torch.equal(traced, expected)
    assert torch.equal(torch.autograd.grad(traced, opacities)[0], gradient)


# Levels, threads


@pytest.mark.parametrize("level", LEVELS)
def test_levels_agree(level: str) -> None:
    scene, camera = ordinary_scene(700), small_camera(61, 47)
    MODULE.set_level(LEVELS[-1])
    expected = gradients_of(scene, camera)
    MODULE.set_level(level)
    for name, found in gradients_of(scene, camera).items():
        error = (found - expected[name]).norm() / expected[name].norm()
        assert error < 2e-4, f"{name} differs by {error:.1e}"


@pytest.mark.parametrize("level", LEVELS)
def test_threads_change_nothing(level: str) -> None:
    MODULE.set_level(level)
    scene, camera = ordinary_scene(5000), small_camera(61, 47)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradients_of(scene, camera)
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            for name, found in gradients_of(scene, camera).items():
                assert torch.equal(found, expected[name]), name
    finally:
        torch.set_num_threads(before)


def test_level_of_the_forward_pass_serves_the_backward_pass() -> None:
    scene, camera = ordinary_scene(300), small_camera()
    MODULE.set_level(LEVELS[0])
    expected = gradients_of(scene, camera)
    leaf = scene["means"].clone().requires_grad_()
    picture = rasterize(**(scene | {"means": leaf}), camera=camera, with_depth=True)
    MODULE.set_level(LEVELS[-1])
    assert picture.depths is not None
    g = torch.Generator().manual_seed(0)
    images = (picture.colors, picture.alphas, picture.depths)
    random_loss(images, g).backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, expected["means"])


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="abacus"):
        MODULE.set_level("abacus")


# Memory


def test_forward_passes_wait_for_their_backward_passes() -> None:
    gc.collect()
    before = MODULE.saved_passes()
    camera = small_camera(40, 30)
    scenes = [ordinary_scene(400, seed) for seed in range(3)]
    expected = [gradients_of(scene, camera)["means"] for scene in scenes]
    leaves = [scene["means"].clone().requires_grad_() for scene in scenes]
    pictures = [
        rasterize(**(scene | {"means": leaf}), camera=camera, with_depth=True)
        for scene, leaf in zip(scenes, leaves, strict=True)
    ]
    assert MODULE.saved_passes() == before + 3
    for index in (1, 2, 0):
        g = torch.Generator().manual_seed(0)
        picture = pictures[index]
        assert picture.depths is not None
        images = (picture.colors, picture.alphas, picture.depths)
        random_loss(images, g).backward()
    for leaf, gradient in zip(leaves, expected, strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, gradient)
    del picture, pictures, images
    gc.collect()
    assert MODULE.saved_passes() == before


def test_nothing_is_kept_without_a_graph() -> None:
    gc.collect()
    before = MODULE.saved_passes()
    picture = rasterize(**ordinary_scene(100), camera=small_camera())
    assert MODULE.saved_passes() == before
    leaf = ordinary_scene(100)["means"].requires_grad_()
    picture = rasterize(**(ordinary_scene(100) | {"means": leaf}), camera=small_camera())
    assert MODULE.saved_passes() == before + 1
    del picture
    gc.collect()
    assert MODULE.saved_passes() == before


def test_memory_can_be_returned() -> None:
    gradients_of(ordinary_scene(1000), small_camera())
    MODULE.release_memory()
    gradients_of(ordinary_scene(1000), small_camera())


# Hidden splats


def behind_a_wall(wall: bool) -> tuple[Splats, Camera]:
    """2,000 faint splats, each as large as the picture (28 tiles), with or without a wall before them."""
    camera = small_camera(110, 60)
    scene = ordinary_scene(2003)
    scene["means"] = torch.zeros(2003, 3)
    scene["means"][:, 2] = torch.linspace(4, 8, 2003)
    scene["scales"] = torch.full((2003, 3), 200.0)
    scene["opacities"] = torch.full((2003,), 0.005)
    if wall:
        scene["opacities"][:3] = 1
    return scene, camera


def test_hidden_splats_cost_little() -> None:
    """CPU time of the two passes over the pixels, where all but three splats are hidden."""

    def cost(wall: bool) -> float:
        scene, camera = behind_a_wall(wall)
        times = []
        for _ in range(3):
            gradients_of(scene, camera)
            _, _, forward, backward, *_ = MODULE.stage_seconds()
            times.append(forward + backward)
        return min(times)

    assert cost(wall=True) < 0.3 * cost(wall=False)


@pytest.mark.parametrize("level", LEVELS)
def test_hidden_splats_have_no_gradient(level: str) -> None:
    """Whatever lies in the memory that the pass gets."""
    MODULE.set_level(level)
    gradients_of(*behind_a_wall(wall=False))
    found = gradients_of(*behind_a_wall(wall=True))
    assert found["sh0"][:3].any()
    for name in ("means", "quats", "scales", "opacities", "sh0", "shN", "blur"):
        assert not found[name][3:].any(), name


# Borders of the domain


@pytest.mark.parametrize("count", [0, 1, 15, 17, 2048, 2049])
def test_any_number_of_gaussians(count: int) -> None:
    result = gradients_of(ordinary_scene(count), small_camera())
    assert all(value.isfinite().all() for value in result.values())
    assert result["means"].shape == (count, 3)


def test_all_behind_the_camera() -> None:
    scene = ordinary_scene(100)
    scene["means"][:, 2] = -1 - scene["means"][:, 2].abs()
    result = gradients_of(scene, small_camera())
    assert not any(value.any() for value in result.values())


def test_image_larger_than_a_byte_of_tiles() -> None:
    """16 px x 256 = 4096 px: a splat near the far corner of a long image."""
    camera = Camera(
        torch.tensor([[100.0, 0, 4150], [0, 100.0, 5], [0, 0, 1]]).double(), torch.eye(4).double(), 4200, 10
    )
    scene: Splats = ordinary_scene(1) | {"means": torch.tensor([[0.0, 0, 2]]), "opacities": torch.ones(1)}
    column = rasterize(**scene, camera=camera).alphas[0].sum(0).argmax()
    assert abs(int(column) - 4150) <= 1


def test_constants_are_those_of_python() -> None:
    for name, value in MODULE.constants().items():
        assert getattr(constants, name.upper()) == value, name


def test_other_devices_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="CPUs and on NVIDIA GPUs"):
        native.passes_on(torch.device("xpu"))


@pytest.mark.thorough
def test_missing_module_names_the_remedy() -> None:
    """In another process, because the module is loaded here already."""
    script = """
import sys
sys.modules["cocogs._native"] = None
import cocogs.rasterize
from cocogs.compiled import cpu_module
try:
    cpu_module()
except RuntimeError as error:
    assert "pip install" in str(error) and "reference" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# A GPU's compiler

KERNEL = """
#include "math/compositing.h"
#include "math/harmonics.h"
#include "math/projection.h"
#include "math/ssim.h"
using namespace cocogs;
template <class T>
__global__ void every_function(Pinhole<T> camera, Vec3<T> mean, Quaternion<T> quat, Vec3<T> scale,
                               Splat<T> splat, const T* sh, T* out) {
  const Mat3<T> factor = covariance_factor(quat, scale);
  const Projected<T> p = project_ewa(camera, mean, factor);
  const Blurred<T> b = add_blur(p.covar, p.determinant, T(1), T(2));
  const Whitening<T> w = scaled(whitening_of(b.covar, b.determinant));
  const Blend<T> blend = splat_alpha(w.ux - squared_reach(w.uy), T(1));
  const Vec3<T> color = eval_sh<3>(mean, sh);
  Sym2<T> v_covar;
  T v_blur;
  const Sym2<T> v_wide = covar2d_vjp(b.covar, b.determinant, out[0], out[1], out[2]);
  add_blur_vjp(p.covar, p.determinant, b, v_wide, out[3], v_covar, v_blur);
  Vec3<T> v_mean, v_scale;
  Mat3<T> v_factor;
  Quaternion<T> v_quat;
  project_ewa_vjp(camera, mean, factor, mean2d_vjp(w, out[4], out[5]), T(0), v_covar, v_mean, v_factor);
  covariance_factor_vjp(quat, scale, v_factor, v_quat, v_scale);
  v_mean = v_mean + eval_sh_vjp<3>(mean, sh, color, out + 10);
  const T v = splat_alpha_vjp(blend, color.x, color.y);
  out[0] = finishes(blend) ? T(0) : v + v_mean.x + v_scale.x + v_quat.w + v_blur;
  out[1] = least_falloff(splat, mean.x, mean.y, T(1), T(1));
  const SsimTerms<T> terms = ssim_terms(sh[0], sh[1]);
  out[2] = ssim(terms) + ssim_terms_vjp(sh[0], sh[1], ssim_vjp(terms, T(window_weight(0))));
}
template __global__ void every_function(Pinhole<float>, Vec3<float>, Quaternion<float>, Vec3<float>,
                                        Splat<float>, const float*, float*);
template __global__ void every_function(Pinhole<double>, Vec3<double>, Quaternion<double>, Vec3<double>,
                                        Splat<double>, const double*, double*);
"""


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_mathematics_compiles_for_a_gpu(tmp_path: Path) -> None:
    source = tmp_path / "kernel.cu"
    source.write_text(KERNEL)
    command = ["nvcc", "-std=c++17", "-Werror", "all-warnings", f"-I{CUDA_EXT}", "-c", str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "kernel.o")], check=True)
