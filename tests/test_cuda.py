"""The GPU's passes: what is theirs alone. What every back-end promises is in test_rasterize.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from conftest import ROOT, Backend, parameters
from scenes import CASES, Splats, dense, random_splats, tilted_camera
from torch import Tensor

from cocogs.camera import Camera
from cocogs.compiled import cuda_module
from cocogs.rasterize import PassTooLarge, Render, native_cuda, rasterize
from cocogs.rasterize.room import Room, current_room, use_room

HOST = Backend("native", torch.float32, "host")


def draw(inputs: dict[str, Tensor], camera: Camera, **options: Any) -> Render:
    """`rasterize`, whose keywords a type checker cannot match with a dictionary's."""
    arguments: dict[str, Any] = {**inputs, **options}
    return rasterize(**arguments, camera=camera)


def on_host(function):
    """The test runs the kernels on a CPU."""
    return pytest.mark.parametrize("backend", parameters([HOST]), indirect=True)(function)


def pictures_and_gradients(splats: Splats, camera: Camera, device: str) -> dict[str, Tensor]:
    """Everything that both passes give, on the CPU."""
    inputs = splats.tensors(torch.float32)
    leaves = {name: value.to(device).requires_grad_() for name, value in inputs.items()}
    picture = draw(leaves, camera, with_depth=True)
    assert picture.depths is not None
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(picture.colors.shape, generator=generator).to(device)
    ((picture.colors * weights).sum() + picture.alphas.square().sum()).backward()
    result = {"colors": picture.colors, "alphas": picture.alphas, "depths": picture.depths}
    result |= {f"v_{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return {name: value.detach().cpu() for name, value in result.items()}


@on_host
def test_too_many_intersections_are_refused(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_cuda, "MOST_INTERSECTIONS", 20)
    with pytest.raises(PassTooLarge, match=r"touch [\d,]+ image tiles.*too large, or too many"):
        draw(dense().splats.tensors(torch.float32), dense().camera)


@on_host
def test_with_room_to_spare_nothing_changes(backend: Backend) -> None:
    splats, camera = dense().splats, dense().camera
    room = Room(torch.device("cpu"))
    with use_room(room):
        expected = pictures_and_gradients(splats, camera, "cpu")
    needed = room.most
    assert needed is not None and needed > 100
    for room.most in (needed, needed + 1, 2 * needed):
        with use_room(room):
            found = pictures_and_gradients(splats, camera, "cpu")
        assert room.needed.tolist() == [needed]
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@on_host
def test_a_room_is_of_one_thread(backend: Backend) -> None:
    """A viewer's pass beside a training that records: it draws all splats, and notes nothing."""
    inputs, camera = dense().splats.tensors(torch.float32), dense().camera
    expected = draw(inputs, camera).colors
    found: list[Tensor] = []
    room = Room(torch.device("cpu"), 1)
    with use_room(room):
        other = Thread(target=lambda: found.append(draw(inputs, camera).colors))
        other.start()
        other.join()
        assert room.needed.item() == 0
        with pytest.raises(KeyError), use_room(Room(torch.device("cpu"))):
            raise KeyError
        assert current_room() is room
    assert current_room() is None
    assert torch.equal(found[0], expected)


@on_host
@pytest.mark.parametrize("most", [0, 1, 50])
def test_what_finds_no_room_is_not_drawn(backend: Backend, most: int) -> None:
    """The picture is that of the nearest splats alone."""
    camera = tilted_camera(70, 50)
    splats = random_splats(40, camera, 1, size_px=6)
    room = Room(torch.device("cpu"))

    def of(chosen: Tensor) -> dict[str, Tensor]:
        return {name: value[chosen] for name, value in splats.tensors(torch.float32).items()}

    near_to_far = camera.depths(splats.means).argsort()
    tiles = []
    for splat in near_to_far:
        room.most = None
        with use_room(room):
            draw(of(splat[None]), camera)
        tiles.append(room.most)
    assert sum(tiles) > most
    fits = torch.tensor(tiles).cumsum(0) <= most
    near, far = (near_to_far[chosen] for chosen in (fits, ~fits))

    room.most = most
    with use_room(room):
        found = pictures_and_gradients(splats, camera, "cpu")
    assert room.needed.item() == sum(tiles)
    torch.testing.assert_close(found["colors"], draw(of(near.sort().values), camera).colors)
    assert not found["v_means"][far].any()
    assert found["v_means"][near].any() == (len(near) > 0)


@on_host
def test_double_is_refused(backend: Backend) -> None:
    with pytest.raises(ValueError, match="float32"):
        draw(dense().splats.tensors(torch.float64), dense().camera)


@on_host
def test_larger_than_a_mask_of_tiles(backend: Backend) -> None:
    """Splats over more than 64 tiles are dealt out by their whole rectangle; the picture is the same."""
    camera = tilted_camera(211, 190)
    splats = random_splats(12, camera, 5, size_px=60)
    found = pictures_and_gradients(splats, camera, "cpu")
    exact = draw(splats.tensors(torch.float64), camera, backend="reference")
    assert (found["colors"] - exact.colors).abs().max() < 2e-2  # pixels that stand on a threshold
    assert (found["colors"] - exact.colors).abs().median() < 1e-6


@pytest.mark.thorough
def test_missing_module_names_the_remedy() -> None:
    """In another process, because the module may be loaded here already."""
    script = """
import sys, torch
sys.modules["cocogs._cuda"] = None
from cocogs.rasterize import native
try:
    native.passes_on(torch.device("cuda"))
except RuntimeError as error:
    assert "nvcc" in str(error) and "pip install" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_installed_with_cuda_where_there_is_a_compiler() -> None:
    """Installing compiled every kernel; and the module loads on a machine without a GPU."""
    assert cuda_module()


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize("wish", ["AUTO", "OFF", "ON"])
def test_without_nvcc(wish: str, tmp_path: Path) -> None:
    """AUTO builds for the CPU and says so, OFF is silent, ON is an error."""
    command = ["cmake", "-S", str(ROOT), "-B", str(tmp_path), f"-DPython_EXECUTABLE={sys.executable}"]
    environment = os.environ | {"CUDACXX": "/nowhere/nvcc"}
    done = subprocess.run(
        [*command, f"-DCOCOGS_CUDA={wish}"], env=environment, capture_output=True, text=True
    )
    said = " ".join(done.stderr.split())
    assert (done.returncode == 0) == (wish != "ON"), done.stdout + done.stderr
    assert ("cocogs is built for the CPU only" in said) == (wish == "AUTO")
    assert ("COCOGS_CUDA is ON, but nvcc was not found" in said) == (wish == "ON")


# On a GPU


@pytest.mark.cuda
@pytest.mark.parametrize("size", [(1, 1), (17, 1), (1, 300), (33, 47), (1999, 15), (640, 427)])
@pytest.mark.parametrize("count", [1, 1000, 50_000])
def test_gpu_equals_cpu(size: tuple[int, int], count: int) -> None:
    camera = tilted_camera(*size)
    splats = random_splats(count, camera, 1, size_px=4)
    compare(pictures_and_gradients(splats, camera, "cuda"), pictures_and_gradients(splats, camera, "cpu"))


@pytest.mark.cuda
def test_a_million_gaussians() -> None:
    camera = tilted_camera(1600, 1066)
    splats = random_splats(1_000_000, camera, 1, size_px=3)
    compare(pictures_and_gradients(splats, camera, "cuda"), pictures_and_gradients(splats, camera, "cpu"))


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to rounding, but for the few pixels that stand on a threshold."""
    for name, exact in expected.items():
        error = (found[name] - exact).abs()
        if name.startswith("v_"):
            assert error.norm() <= 1e-3 * exact.norm().clamp_min(1e-12), name
        else:
            assert (error > 1e-4 * exact.abs().max().clamp_min(1)).float().mean() < 1e-3, name


@pytest.mark.cuda
def test_works_in_the_current_stream() -> None:
    case = CASES["ordinary"]()
    inputs = {name: value.cuda() for name, value in case.splats.tensors(torch.float32).items()}
    first = draw(inputs, case.camera).colors
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        second = draw(inputs, case.camera).colors
    stream.synchronize()
    assert torch.equal(first, second)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_works_on_a_device_that_is_not_the_current_one() -> None:
    case = CASES["ordinary"]()
    results = [pictures_and_gradients(case.splats, case.camera, device) for device in ("cuda:0", "cuda:1")]
    compare(*results)


@pytest.mark.cuda
def test_too_little_memory_is_one_error() -> None:
    camera, splats = tilted_camera(4000, 3000), dense().splats
    torch.cuda.empty_cache()  # what earlier tests left there would be enough
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            pictures_and_gradients(splats, camera, "cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
