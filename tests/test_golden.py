"""Pinhole and lens against pictures by a renderer that is not ours: Blender's Cycles, tests/golden.

`scripts/make_golden_images.py` made them, of balls that shine evenly. Here a ball is a shell of small splats,
so dense that it hides what is behind it: of one colour inside, where it makes no difference that splats are
composited in sRGB, and at its rim as sharp as splats can be. A red one stands before the plane in focus, a
green one in it, a blue one behind.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.gaussians import Gaussians
from cocogs.io.camera_file import CameraFile, Reference, Sensor, Vignetting
from cocogs.io.photos import read_photo, to_float
from cocogs.io.pictures import write_png
from cocogs.optics.lens import Lens, coc_diameter
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import light_through, refocus
from cocogs.srgb import to_linear, to_srgb
from cocogs.train.losses import picture_psnr

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = 256
ALIKE = {"pinhole": 43.0, "round": 44.0, "bladed": 44.0, "hidden": 40.0}
"""dB. Measured: 46.2, 46.8, 46.6 and 42.7; through lenses that are wrong as in `WRONG` 30.6 to 39.2."""
RIM = 1.32
"""px by which splats reach beyond their centres, when they lie as densely as here."""


@dataclass(frozen=True)
class Golden:
    """A picture (3, H, W), sRGB-encoded, and what it shows: `balls` as truth.json lists them."""

    picture: Tensor
    lens: Lens
    balls: list[dict[str, Any]]

    @property
    def centers(self) -> Tensor:
        return torch.tensor([ball["center"] for ball in self.balls], dtype=torch.float64)


def truth() -> dict[str, Any]:
    return json.loads((GOLDEN / "truth.json").read_text())


def camera() -> Camera:
    t = truth()
    intrinsics, pose = (torch.tensor(t[name], dtype=torch.float64) for name in ("K", "cam_from_world"))
    return Camera(intrinsics, pose, t["width"], t["height"])


def golden(name: str) -> Golden:
    (entry,) = (p for p in truth()["pictures"] if p["name"] == f"{name}.png")
    pixels = read_photo(GOLDEN / entry["name"])
    assert pixels.dtype == np.uint16
    return Golden(torch.from_numpy(to_float(pixels)).permute(2, 0, 1), Lens(**entry["lens"]), entry["balls"])


# ------------------------------------------------------------------------------------ the scene in splats


def shells(balls: list[dict[str, Any]]) -> Gaussians:
    """One splat for each px^2 of the balls' surfaces, their outer halves just inside it."""
    parts = [shell(**ball) for ball in balls]
    points, sigmas, colors = (torch.cat(part).float() for part in zip(*parts, strict=True))
    return Gaussians(
        means=points,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(len(points), 1),
        scales=sigmas.log(),
        opacities=torch.full((len(points),), 6.0),
        sh0=((colors - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(len(points), 15, 3),
    )


def shell(center: list[float], radius: float, light: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Points, standard deviations and sRGB colours, each (n, 3), of splats spread evenly over a ball."""
    middle = torch.tensor(center, dtype=torch.float64)
    px = camera().depths(middle) / camera().fx
    count = round(4 * math.pi * float(radius / px) ** 2)
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * index / count, math.pi * (1 + math.sqrt(5)) * index
    around = torch.stack([turn.cos(), turn.sin()], -1) * (1 - height.square()).sqrt()[:, None]
    points = middle + (radius - RIM * px) * torch.cat([around, height[:, None]], -1)
    color = to_srgb(torch.tensor(light, dtype=torch.float64))
    return points, (0.4 * px).expand(count, 3), color.expand(count, 3)


def moments(picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each colour's linear light: sum (3,), centroid (3, 2) in px, variance per axis (3, 2) in px^2."""
    light = to_linear(picture.double())
    total = light.sum((1, 2))
    height, width = light.shape[1:]
    x, y = torch.arange(width).double() + 0.5, torch.arange(height).double() + 0.5
    place = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    centroid = torch.einsum("chw,hwa->ca", light, place) / total[:, None]
    square = torch.einsum("chw,hwa->ca", light, place.square()) / total[:, None]
    return total, centroid, square - centroid.square()


@contextmanager
def shown(folder: Path, picture: Tensor, reference: Tensor) -> Iterator[None]:
    """A check that fails inside leaves both pictures and their difference (grey: none) in `folder`."""
    try:
        yield
    except AssertionError as error:
        views = {"image": picture, "reference": reference, "difference": 0.5 + (picture - reference) / 2}
        for name, view in views.items():
            write_png(view, folder / f"{name}.png")
        raise AssertionError(f"{error}\nSee image.png, reference.png, difference.png in {folder}") from error


# --------------------------------------------------------------------------------------------------- tests


def test_pinhole(tmp_path: Path) -> None:
    """Turned camera, principal point off the middle: every ball where `Camera` and the rasterizer have it."""
    sharp = golden("pinhole")
    assert sharp.lens.aperture_diameter == 0
    picture = refocus(shells(sharp.balls), camera(), sharp.lens)
    (light, place, _), (true_light, true_place, _) = moments(picture), moments(sharp.picture)
    projected, _ = camera().project(sharp.centers)
    with shown(tmp_path, picture, sharp.picture):
        torch.testing.assert_close(projected, true_place, atol=0.05, rtol=0)
        torch.testing.assert_close(place, true_place, atol=0.05, rtol=0)
        torch.testing.assert_close(light, true_light, atol=0, rtol=0.02)
        assert picture_psnr(picture, sharp.picture) > ALIKE["pinhole"]


def test_size_of_the_circle_of_confusion(tmp_path: Path) -> None:
    """The lens adds a disc's variance, c^2 / 16 per axis, to what the pinhole shows."""
    blurred, sharp = golden("round"), golden("pinhole")
    lens = blurred.lens.of(camera())
    coc = coc_diameter(camera().depths(blurred.centers), lens.focus_distance, lens.K)
    assert coc[0] > 15 and coc[1].abs() < 0.1 and coc[2] < -15
    added = moments(blurred.picture)[2] - moments(sharp.picture)[2]
    with shown(tmp_path, blurred.picture, sharp.picture):
        torch.testing.assert_close(added, (coc.square() / 16)[:, None].expand(3, 2), atol=0.02, rtol=0.02)


@pytest.mark.thorough
def test_light_and_place_through_the_lens(tmp_path: Path) -> None:
    """More samples, because the wider the sub-apertures are, the more a shell of splats grows at its rim."""
    true = golden("round")
    picture = refocus(shells(true.balls), camera(), true.lens, 1024)
    (light, place, spread), (true_light, true_place, true_spread) = moments(picture), moments(true.picture)
    with shown(tmp_path, picture, true.picture):
        torch.testing.assert_close(light, true_light, atol=0, rtol=0.03)
        torch.testing.assert_close(place, true_place, atol=0.05, rtol=0)
        torch.testing.assert_close(spread, true_spread, atol=0, rtol=0.03)


@pytest.mark.parametrize("name", ["round", "bladed", "hidden"])
def test_lens(name: str, tmp_path: Path) -> None:
    """Round and bladed, near and far, and a near ball over a far one, both out of focus: what a pixel sees of
    the far one then depends on which way the points of the lens move each of them."""
    true = golden(name)
    picture = refocus(shells(true.balls), camera(), true.lens, SAMPLES)
    with shown(tmp_path, picture, true.picture):
        assert picture_psnr(picture, true.picture) > ALIKE[name]


FALL, EXPOSURES = (-1.2, 0.4), (-1.0, 0.0, 0.5)
"""Vignetting 1 - 1.2 r^2 + .4 r^4, r = 1 in the corners; stops. Measured, in the order of `ALIKE`:
a stop darker 49.9, 49.8 and 45.6; as they are 47.1, 47.0 and 43.0; half a stop brighter 45.8, 45.7, 41.7."""


def as_a_camera_of_this_lens(lens: Lens, stops: float) -> PhysicalCamera:
    """A camera whose numbers come to the golden pictures' lens and angle of view, with a vignette."""
    f = 0.1
    pitch = f / (1 - f / lens.focus_distance) / camera().fx * 1000  # mm
    width, height = camera().width, camera().height
    return PhysicalCamera(
        CameraFile(
            Sensor(width * pitch, height * pitch, width, height),
            focal_length_mm=1000 * f,
            f_number=f / lens.aperture_diameter,
            focus_distance_m=lens.focus_distance,
            shutter_s=0.01 * 2**stops,
            iso=100.0,
            blades=lens.blades,
            blade_rotation=lens.blade_rotation,
            reference=Reference(f / lens.aperture_diameter, 0.01, 100.0),
            vignetting=Vignetting(((*FALL, 0.0),)),
        )
    )


@pytest.mark.parametrize("name", ["round", "bladed", "hidden"])
def test_simulated(name: str, tmp_path: Path) -> None:
    """A camera in millimetres and f-numbers that vignettes and exposes shows what the ray tracer's light
    becomes by the same. A stop brighter multiplies what is left by 2^(1/2.4): 2.5 dB less."""
    true = golden(name)
    middle = as_a_camera_of_this_lens(true.lens, 0.0).at(camera().cam_from_world)
    assert middle.fx == pytest.approx(camera().fx, rel=1e-5)
    where = replace(middle, intrinsics=camera().intrinsics)  # the golden principal point is off the middle
    lens = as_a_camera_of_this_lens(true.lens, 0.0).as_set()
    light = light_through(shells(true.balls), where, lens, SAMPLES)
    x = (np.arange(64) - 31.5) / math.hypot(32, 32)
    squared = torch.from_numpy(x**2 + x[:, None] ** 2).float()
    for stops in EXPOSURES:
        picture = as_a_camera_of_this_lens(true.lens, stops).develop(light, seed=None).detach()
        factors = (1 + FALL[0] * squared + FALL[1] * squared**2) * 2**stops
        expected = to_srgb((to_linear(true.picture) * factors).clamp(max=1))
        with shown(tmp_path, picture, expected):
            assert picture_psnr(picture, expected) > ALIKE[name]
            without = picture_psnr(picture, true.picture)
            assert without < picture_psnr(picture, expected) - 3, "what gives the check its worth"


WRONG = {
    "wide": ("round", {"aperture_diameter": 0.18 * 1.1}),
    "narrow": ("round", {"aperture_diameter": 0.18 * 0.9}),
    "focus": ("round", {"focus_distance": 0.9 * 1.1}),
    "turned": ("bladed", {"blade_rotation": 10.0 + 30}),
    "mirrored": ("bladed", {"blade_rotation": -10.0}),
    "upside-down": ("bladed", {"blade_rotation": 10.0 + 180}),
}


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "change"), WRONG.values(), ids=WRONG)
def test_a_wrong_lens_is_noticed(name: str, change: dict[str, float], tmp_path: Path) -> None:
    """What gives `test_lens` its worth."""
    true = golden(name)
    picture = refocus(shells(true.balls), camera(), replace(true.lens, **change), SAMPLES)
    with shown(tmp_path, picture, true.picture):
        assert picture_psnr(picture, true.picture) < ALIKE[name] - 3


@pytest.mark.thorough
def test_occlusion_is_noticed(tmp_path: Path) -> None:
    """What gives `test_lens` its worth, too: the large balls as if both were transparent."""
    true = golden("hidden")
    alone = [refocus(shells([ball]), camera(), true.lens, SAMPLES) for ball in true.balls]
    picture = to_srgb(to_linear(alone[0]) + to_linear(alone[1]))
    with shown(tmp_path, picture, true.picture):
        assert picture_psnr(picture, true.picture) < ALIKE["hidden"] - 8


def test_a_failure_leaves_its_pictures(tmp_path: Path) -> None:
    black, white = torch.zeros(3, 4, 4), torch.ones(3, 4, 4)
    with pytest.raises(AssertionError) as caught, shown(tmp_path, black, white):
        torch.testing.assert_close(black, white)
    assert str(tmp_path) in str(caught.value)
    values = {path.stem: int(read_photo(path).max()) for path in tmp_path.iterdir()}
    assert values == {"image": 0, "reference": 255, "difference": 0}


def test_pictures_are_what_the_script_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    import make_golden_images  # pyright: ignore[reportMissingImports]

    bundled = truth()
    again = json.loads(json.dumps(make_golden_images.truth(bundled["renderer"])))
    np.testing.assert_allclose(again.pop("cam_from_world"), bundled.pop("cam_from_world"), atol=1e-12)
    assert again == bundled
    assert {p["name"] for p in bundled["pictures"]} == {p.name for p in GOLDEN.glob("*.png")}
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 100_000
