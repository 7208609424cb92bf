"""A whole camera in a photographer's numbers: gradients, the order of light, its file."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.camera_file import (
    CameraFile,
    Distortion,
    Noise,
    Reference,
    Sensor,
    Vignetting,
    read_camera_file,
    write_camera_file,
)
from cocogs.io.source import opencv_lens
from cocogs.io.undistort import from_camera, undistort
from cocogs.optics.aperture import lens_samples
from cocogs.optics.layers import aperture_kernel, photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.optics.photometry import Response, Vignette
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.optics.sensor import add_noise
from cocogs.srgb import to_srgb

SENSOR = Sensor(36.0, 24.0, 36, 24)
FILE = CameraFile(
    SENSOR, focal_length_mm=50.0, f_number=2.0, focus_distance_m=1.5, shutter_s=0.02, iso=200.0,
    white_balance=(1.1, 1.0, 0.9), response=(0.0, 0.2, 0.45, 0.7, 1.0), reference=Reference(2.0, 0.02, 100.0),
    vignetting=Vignetting(((-0.1, -0.05, 0.0),), ((-0.2, -0.1, 0.02),), 1.4, (0.02, -0.03)),
    distortion=Distortion(-0.1, 0.02, 0.001, -0.002),
)  # fmt: skip


def picture(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Linear light, and depth in metres: a rough slope behind a square. No two depths are equal."""
    generator = torch.Generator().manual_seed(seed)
    light = 0.05 + 0.3 * torch.rand(3, 24, 36, generator=generator, dtype=torch.float64)
    depth = torch.linspace(2.0, 4.0, 36, dtype=torch.float64).expand(24, 36).clone()
    depth[6:16, 8:20] = 1.1
    return light, depth + 0.05 * torch.rand(24, 36, generator=generator, dtype=torch.float64)


def test_gradients_of_every_number_are_those_of_finite_differences() -> None:
    camera = PhysicalCamera(FILE).double()
    light, depth = picture()
    depth.requires_grad_()
    goal = torch.rand(3, 24, 36, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss() -> Tensor:
        return (camera.apply_to(light, depth, seed=None) * goal).sum()

    numbers = {**dict(camera.named_parameters()), "depth": depth}
    slopes = dict(zip(numbers, torch.autograd.grad(loss(), list(numbers.values())), strict=True))
    for name, value in numbers.items():
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        step = 1e-6 * float(value.detach().abs().mean())
        with torch.no_grad():
            value += step * direction
            above = loss()
            value -= 2 * step * direction
            below = loss()
            value += step * direction
        expected = float((above - below) / (2 * step))
        assert float((slopes[name] * direction).sum()) == pytest.approx(expected, rel=1e-3), name
        assert abs(expected) > 1e-6, f"{name} does nothing"


def test_millimetres_become_the_k_of_the_thin_lens() -> None:
    """A = f^2 / (N p (1 - f / U)), in px x metre; and in scene units."""
    camera = PhysicalCamera(FILE)
    f, pitch = 0.05, 0.001
    A = f**2 / (2.0 * pitch * (1 - f / 1.5))
    assert float(camera.lens().K.detach()) == pytest.approx(A, rel=1e-6)
    assert float(camera.lens(metres=0.25).K.detach()) == pytest.approx(A / 0.25, rel=1e-6)
    assert float(camera.lens(metres=0.25).focus_distance.detach()) == pytest.approx(6.0)
    pose = torch.eye(4, dtype=torch.float64)
    assert camera.as_set().aperture_diameter * camera.at(pose).fx == pytest.approx(A, rel=1e-6)
    assert float(PhysicalCamera(replace(FILE, focus_distance_m=None)).focal_px.detach()) == pytest.approx(
        50.0
    )
    with pytest.raises(InputError, match="lacks focal_length_mm: add"):
        PhysicalCamera(CameraFile(SENSOR)).at(pose)


def test_a_camera_of_which_only_the_sensor_is_known_changes_nothing() -> None:
    light, _ = picture()
    shown = PhysicalCamera(CameraFile(SENSOR)).develop(light.float())
    assert torch.allclose(shown, to_srgb(light.float()), atol=1e-6)


def test_exposure_goes_by_shutter_iso_and_f_number() -> None:
    file = CameraFile(SENSOR, f_number=4.0, shutter_s=0.01, iso=400.0, reference=Reference(2.8, 0.01, 100.0))
    expected = 400 / 100 / (4.0 / 2.8) ** 2
    assert PhysicalCamera(file).exposure().tolist() == pytest.approx([expected] * 3)
    assert PhysicalCamera(replace(file, reference=None)).exposure().tolist() == pytest.approx([1.0] * 3)


def test_vignetting_falls_as_the_lens_is_stopped_down() -> None:
    vignette = Vignette(((-0.1, 0.0, 0.0),), ((-0.3, 0.0, 0.0),), 2.0)

    def corner(f_number: float | None) -> float:
        at = None if f_number is None else torch.tensor(f_number)
        return float(vignette((1001, 1001), at)[0, 0, 0].detach())

    assert [corner(f_number) for f_number in (None, 1.4, 2.0, 4.0)] == pytest.approx(
        [0.6, 0.6, 0.6, 1 - 0.1 - 0.3 / 4], abs=2e-3
    )
    assert float(vignette((1001, 1001))[0, 500, 500].detach()) == pytest.approx(1.0)


def test_responses_rise_from_0_to_1_and_can_be_undone() -> None:
    light = torch.linspace(0, 1, 101)
    curve = Response((0.0, 0.1, 0.5, 0.8, 1.0))
    values = curve(light).detach()
    assert values[0] == 0 and values[-1] == pytest.approx(1.0)
    assert bool((values[1:] > values[:-1]).all())
    assert torch.allclose(curve.inverse(values), light, atol=1e-5)
    assert torch.allclose(Response.linear()(light).detach(), light, atol=1e-3)
    assert Response()(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([0.0, 1.0])


def test_noise_has_its_variance_and_its_seed() -> None:
    noise = Noise(shot_gain=0.01, read_noise=0.02, dark_current=0.5, fixed_pattern=0.03)
    even = torch.full((3, 200, 200), 0.4)
    first, again, other = (add_noise(even, noise, 0.1, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    light = 0.4 + 0.5 * 0.1
    fresh = 0.01 * light + 0.02**2
    assert float(first.mean()) == pytest.approx(light, abs=2e-3)
    assert float(first.var()) == pytest.approx(fresh + 0.03**2, rel=0.03)
    assert float((first - other).var()) == pytest.approx(2 * fresh, rel=0.03), "the pattern is the same"


@pytest.mark.parametrize("diameter", [0.0, 0.3, -1.0, 5.0, 24.0])
@pytest.mark.parametrize("blades", [0, 6])
def test_the_aperture_keeps_its_light_and_its_variance(diameter: float, blades: int) -> None:
    size = (64, 65)
    spectrum = aperture_kernel(torch.tensor(diameter).double(), size, blades)
    kernel = torch.fft.irfft2(spectrum, s=size)
    x, y = (torch.arange(65) + 32) % 65 - 32.0, (torch.arange(64) + 32) % 64 - 32.0
    assert float(kernel.sum()) == pytest.approx(1)
    assert float((kernel.sum(0) * x).sum()) == pytest.approx(0, abs=1e-5)
    sector = math.pi / 3  # a hexagon's
    spread = 1.0 if blades == 0 else sector / math.sin(sector) * (2 + math.cos(sector)) / 3
    variance = float((kernel.sum(0) * x.square()).sum() + (kernel.sum(1) * y.square()).sum())
    assert variance == pytest.approx(diameter**2 / 8 * spread, rel=3e-3)


def test_what_is_in_focus_stays_and_a_blurred_plane_is_blurred_evenly() -> None:
    light, _ = picture()
    lens = PhotoLens(torch.tensor(2.0).double(), torch.tensor(20.0).double())
    assert torch.allclose(photograph_layers(light, torch.full((24, 36), 2.0).double(), lens), light)
    dot = torch.zeros(3, 41, 41, dtype=torch.float64)
    dot[:, 20, 20] = 1
    blurred = photograph_layers(dot, torch.full((41, 41), 4.0).double(), lens)[0]  # by 20 (1/2 - 1/4) = 5 px
    lit = blurred > 0.5 / (math.pi * 2.5**2)
    assert float(blurred.sum()) == pytest.approx(1, abs=0.02)
    assert int(lit.sum()) == pytest.approx(math.pi * 2.5**2, abs=5)


def test_layers_show_what_points_of_the_aperture_show() -> None:
    """A square before a wall, against the mean of 101 pinholes of the aperture."""
    near, far, K = 1.0, 3.0, 9.0

    def seen(x: float, y: float, focus: float) -> tuple[Tensor, Tensor]:
        depth = torch.full((64, 80), far, dtype=torch.float64)
        layers = []
        for number, z in enumerate((far, near)):
            shift = K / 2 * (1 / z - 1 / focus)
            columns = torch.arange(80).double()[None] + 0.5 - shift * x
            rows = torch.arange(64).double()[:, None] + 0.5 - shift * y
            waves = torch.stack(
                [0.3 + 0.2 * torch.sin(columns / (2 + c) + number) * torch.cos(rows / 3) for c in range(3)]
            )
            inside = (20 - (columns - 40).abs() + 0.5).clamp(0, 1) * (16 - (rows - 32).abs() + 0.5).clamp(
                0, 1
            )
            layers.append((waves, inside))
        (wall, _), (square, alpha) = layers
        return wall * (1 - alpha) + square * alpha, torch.where(alpha > 0.5, near, depth)

    for focus in (near, far):
        truth = torch.stack([seen(x, y, focus)[0] for x, y in lens_samples(101, 1e-9).tolist()]).mean(0)
        sharp, depth = seen(0, 0, focus)
        lens = PhotoLens(torch.tensor(focus).double(), torch.tensor(K).double())
        shown = photograph_layers(sharp, depth, lens)
        error, untouched = ((picture - truth).square().mean() for picture in (shown, sharp))
        assert 10 * math.log10(float(untouched / error)) > 6
        assert -10 * math.log10(float(error)) > 38


def test_depths_must_be_above_0_and_the_blur_no_wider_than_the_picture() -> None:
    light, depth = picture()
    lens = PhotoLens(torch.tensor(1.5).double(), torch.tensor(20.0).double())
    for bad in (0.0, -1.0, math.nan):
        depth[3, 3] = bad
        with pytest.raises(InputError, match="Every depth must be above 0"):
            photograph_layers(light, depth, lens)
    depth[3, 3] = 1e-3
    with pytest.raises(InputError, match="more than the picture's size: use a smaller aperture"):
        photograph_layers(light, depth, lens)


def test_distortion_is_what_undistorting_takes_out() -> None:
    file = CameraFile(
        Sensor(36.0, 24.0, 90, 60), focal_length_mm=40.0, distortion=Distortion(-0.2, 0.05, 1e-3, 2e-3)
    )
    camera = PhysicalCamera(file)
    pinhole = camera.at(torch.eye(4, dtype=torch.float64))
    columns, rows = torch.arange(90) / 8, torch.arange(60)[:, None] / 6
    smooth = (0.5 + 0.3 * torch.sin(columns) * torch.cos(rows)).expand(3, 60, 90)
    bent = camera.distorted(smooth)
    lens = opencv_lens((90, 60), (pinhole.fx, pinhole.fy, 45.0, 30.0), (-0.2, 0.05, 0.0), (1e-3, 2e-3))
    back = undistort(bent.detach().permute(1, 2, 0).numpy(), lens, from_camera(pinhole))
    inside = np.s_[8:-8, 8:-8]
    assert (
        np.abs(bent.detach().permute(1, 2, 0).numpy() - smooth.permute(1, 2, 0).numpy())[inside].max() > 0.03
    )
    assert np.abs(back - smooth.permute(1, 2, 0).numpy())[inside].max() < 0.01


def test_the_file_comes_back_as_it_was(tmp_path: Path) -> None:
    write_camera_file(FILE, tmp_path / "camera.json")
    assert read_camera_file(tmp_path / "camera.json") == FILE
    least = {"schema": "cocogs-camera/1", "sensor": vars(SENSOR)}
    (tmp_path / "least.json").write_text(json.dumps(least))
    assert read_camera_file(tmp_path / "least.json") == CameraFile(SENSOR)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "cocogs-lens/1"}, "is not a camera file of cocogs"),
        ({"sensor": None}, '"sensor" is missing'),
        ({"sensor": {"width_mm": 36, "height_mm": 24, "width": 36}}, '"sensor": "height" is missing'),
        ({"sensor": vars(SENSOR) | {"width_mm": 0}}, '"width_mm" must be a number from'),
        ({"f_number": "2.8"}, '"f_number" is missing or not a number'),
        ({"f_number": -2}, '"f_number" must be a number from 0.1'),
        ({"focal_lenght_mm": 50}, '"focal_lenght_mm" is not among sensor, focal_length_mm'),
        ({"blades": 5.5}, '"blades" must be a whole number'),
        ({"response": [0, 0.5, 0.4, 1]}, '"response" must rise from 0 to 1'),
        ({"white_balance": [1, 1]}, '"white_balance" must be 3 numbers'),
        ({"vignetting": {"coefficients": [1, 2, 3]}}, "must be one or three lists of three numbers"),
        ({"vignetting": {"wide_open": [[0, 0, 0]]}}, '"wide_open" and "f_number" go together'),
        ({"noise": 3}, '"noise" is not an object'),
        ({"focus_distance_m": 0.04}, "nearer than the focal length"),
        ({"blades": 2}, "blades"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(tmp_path: Path, change: dict, complaint: str) -> None:
    path = tmp_path / "camera.json"
    write_camera_file(FILE, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=re.escape(complaint)) as error:
        read_camera_file(path)
    assert str(path) in str(error.value)
