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
from cocogs.io.photos import read_photo, to_float
from cocogs.io.pictures import write_png
from cocogs.optics.lens import Lens, coc_diameter
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import refocus
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


WRONG = {
    "wide": ("round", {"aperture_diameter": 0.18 * 1.1}),
    "narrow": ("round", {"aperture_diameter": 0.18 * 0.9}),
    "focus": ("round", {"focus_distance": 0.9 * 1.1}),
    "turned": ("bladed", {"blade_rotation": 10.0 + 30}),
    "mirrored": ("bladed", {"blade_rotation": -10.0}),
    "upside-down": ("bladed", {"blade_rotation": 10.0 + 180}),
}


@pytest.mark.parametrize(("name", "change"), WRONG.values(), ids=WRONG)
def test_a_wrong_lens_is_noticed(name: str, change: dict[str, float], tmp_path: Path) -> None:
    """What gives `test_lens` its worth."""
    true = golden(name)
    picture = refocus(shells(true.balls), camera(), replace(true.lens, **change), SAMPLES)
    with shown(tmp_path, picture, true.picture):
        assert picture_psnr(picture, true.picture) < ALIKE[name] - 3


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
