"""What the passes on a CPU keep, give back and refuse to take; and that signals end them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from scenes import random_splats, tilted_camera

from cocogs.camera import Camera
from cocogs.compiled import cpu_module
from cocogs.errors import InputError
from cocogs.rasterize import PassTooLarge, Render, rasterize, release_memory

MODULE = cpu_module()
PASSES_KEPT = 8


def draw(count: int, camera: Camera, size_px: float = 3, dtype: torch.dtype = torch.float32) -> Render:
    inputs: dict[str, Any] = random_splats(count, camera, 1, size_px=size_px).tensors(dtype)
    return rasterize(**inputs, camera=camera)


def test_no_more_is_kept_than_the_last_passes_needed() -> None:
    release_memory()
    assert MODULE.kept_memory() == 0
    small = tilted_camera(64, 48)
    draw(100, small)
    little = MODULE.kept_memory()
    draw(20_000, tilted_camera(640, 480))
    much = MODULE.kept_memory()
    assert 0 < little < much / 20
    for _ in range(PASSES_KEPT + 1):
        draw(100, small)
    assert MODULE.kept_memory() <= 2 * little


def test_passes_alike_use_the_same_memory() -> None:
    """Photos of two sizes taking turns, as in a training, are alike too."""
    release_memory()
    cameras = [tilted_camera(320, 240), tilted_camera(240, 320)]
    sizes = []
    for _ in range(6):
        for camera in cameras:
            draw(5000, camera)
        sizes.append(MODULE.kept_memory())
    assert sizes[0] > 0 and len(set(sizes[1:])) == 1


@pytest.mark.thorough
def test_released_memory_is_the_system_s_again() -> None:
    """In a process of its own, whose resident memory is compared before a pass and after."""
    script = """
import torch
from cocogs.camera import Camera
from cocogs.rasterize import rasterize, release_memory

def resident():  # MB
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

def one_pass(count, width, height):
    intrinsics = torch.tensor([[800.0, 0, width / 2], [0, 800.0, height / 2], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), width, height)
    means = torch.rand(count, 3) * torch.tensor([2, 1.5, 2]) + torch.tensor([-1, -0.75, 1])
    means.requires_grad_()
    picture = rasterize(means, torch.ones(count, 4), torch.full((count, 3), 0.01), torch.full((count,), 0.5),
                        torch.rand(count, 1, 3), torch.zeros(count, 15, 3), camera)
    picture.colors.square().sum().backward()

torch.set_num_threads(1)
one_pass(10, 32, 32)
release_memory()
before = resident()
one_pass(50_000, 1000, 800)
kept = resident()
release_memory()
after = resident()
print(before, kept, after)
assert kept > before + 60, "the pass is too small to tell"
assert after < before + 25
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
def test_more_memory_than_there_is_is_refused_before_it_is_taken() -> None:
    """In a process that may only take 600 MB more than it has."""
    script = """
import resource, torch
from cocogs.camera import Camera
from cocogs.rasterize import PassTooLarge, rasterize

torch.set_num_threads(1)
camera = Camera(torch.tensor([[100.0, 0, 1000], [0, 100.0, 1000], [0, 0, 1]]), torch.eye(4), 2000, 2000)
count = 20_000  # x 15,625 tiles x 12 bytes = 3.75 GB
means = torch.tensor([0.0, 0.0, 3.0]).expand(count, 3)
inputs = (means, torch.ones(count, 4), torch.full((count, 3), 100.0), torch.ones(count),
          torch.ones(count, 1, 3), torch.zeros(count, 15, 3), camera)
rasterize(*(value[:1] if isinstance(value, torch.Tensor) else value for value in inputs))
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (600 << 20), resource.RLIM_INFINITY))
try:
    rasterize(*inputs)
except PassTooLarge as error:
    print(error)
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("Drawing 20,000 Gaussians on 2000 x 2000 px needs 3.7 GB of memory, but 0.")
    assert "(they touch 312,500,000 image tiles in all)" in line and line.endswith(".")


def test_a_picture_larger_than_the_memory_is_refused() -> None:
    """By torch, or, where the system promises memory that it does not have, by the pass."""
    side = int((MODULE.available_memory() / 16) ** 0.5 * 1.1)
    refusal = rf"on {side} x {side} px needs [\d,.]+ GB of memory|can't allocate memory"
    with pytest.raises((PassTooLarge, RuntimeError), match=refusal):
        draw(1, tilted_camera(side, side))


def test_more_intersections_than_can_be_numbered_are_refused() -> None:
    camera = tilted_camera(4096, 2048)  # 32,768 tiles
    with pytest.raises(PassTooLarge, match=r"touch 4,[\d,]+ image tiles in all, more than 2\^32") as caught:
        draw(150_000, camera, size_px=20_000)
    assert isinstance(caught.value, InputError) and isinstance(caught.value, ValueError)


# Signals


class Alarm(Exception):
    """What the handler raises."""


@pytest.fixture
def alarm() -> Iterator[list[float]]:
    """When SIGALRM came. Its handler raises `Alarm`."""
    times: list[float] = []

    def ring(number: int, frame: FrameType | None) -> None:
        times.append(time.monotonic())
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield times
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def large() -> tuple[dict[str, Any], Camera]:
    """A pass that takes a core some ten seconds: faint splats over all pixels, in double."""
    camera = tilted_camera(1000, 1000)
    splats = random_splats(2000, camera, 1, size_px=3000).tensors(torch.float64)
    return splats | {"opacities": torch.full((2000,), 0.005, dtype=torch.float64)}, camera


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_whose_handler_raises_ends_a_pass(alarm: list[float], threads: int) -> None:
    before = draw(500, tilted_camera(90, 70)).colors
    passes = MODULE.saved_passes()
    inputs, camera = large()
    inputs["means"].requires_grad_()
    torch.set_num_threads(threads)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(Alarm):
            rasterize(**inputs, camera=camera)
        assert time.monotonic() - alarm[0] < 2
    finally:
        torch.set_num_threads(1)
    assert MODULE.saved_passes() == passes
    assert torch.equal(draw(500, tilted_camera(90, 70)).colors, before)


def test_a_signal_whose_handler_only_notes_it_changes_nothing() -> None:
    """As Ctrl-C in a training, which is to finish its step."""
    noted = []
    inputs, camera = large()
    inputs = {name: value[:60].contiguous() for name, value in inputs.items()}
    expected = rasterize(**inputs, camera=camera).colors
    before = signal.signal(signal.SIGALRM, lambda *_: noted.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        found = rasterize(**inputs, camera=camera).colors
        ended = time.monotonic()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert torch.equal(found, expected)
    assert noted and noted[0] < ended
