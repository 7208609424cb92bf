"""Focus distances and aperture: what is learned, and how they are found in the photos before training."""

import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_camera, tiny_scene
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics import evidence as evidence_room
from cocogs.optics.evidence import (
    Evidence,
    glance_at_photo,
    mean_depths,
    measure_photo,
    measure_photos,
    thin_out,
)
from cocogs.optics.lens import coc_diameter
from cocogs.optics.search import (
    IN_FOCUS,
    SENSOR_BLUR,
    find_lens,
    fit_blurs,
    fit_lens,
)
from cocogs.optics.sharpness import DETAIL_FLOOR, blur_map, gradient_energy
from cocogs.scene import View, open_scene

WIDTH = 600
"""Of the imagined photos, px."""
FOCUS_DISTANCES = torch.tensor([2.5, 4.0, 6.0])
"""Scene units; taken in turn by the imagined photos."""


def synthetic_evidence(aperture: float, outliers: float = 0.0, views: int = 12, points: int = 300,
                       seed: int = 0, ratios: Tensor | None = None) -> tuple[Evidence, Tensor]:  # fmt: skip
    """What photos of a lens K = `aperture` show, each missing a fifth of the points; and the true z_f (V,).

    Args:
        outliers: share of the observations whose detail has nothing to do with the lens.
        ratios: (V,) focal lengths over the first; None: all alike.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def chance(probability: float) -> Tensor:
        return torch.rand(views, points, generator=generator) < probability

    depths = 2 + 6 * torch.rand(points, generator=generator) + 0.3 * normal(views, points)
    depths = depths.clamp_min(1)
    focus_distances = FOCUS_DISTANCES[torch.arange(views) % len(FOCUS_DISTANCES)]
    own = torch.full((views, 1), aperture) if ratios is None else aperture * ratios[:, None]
    blur = coc_diameter(depths, focus_distances[:, None], own).square() / 16
    texture = torch.exp(-6 + normal(points) + 0.1 * normal(views, points))
    energies = texture * SENSOR_BLUR**2 / (SENSOR_BLUR**2 + blur)
    energies = torch.where(chance(outliers), torch.exp(-6 + 2 * normal(views, points)), energies)
    unseen = chance(0.2)
    depths, energies = depths.masked_fill(unseen, math.nan), energies.masked_fill(unseen, math.nan)
    return Evidence(depths, energies, WIDTH, ratios), focus_distances


# --- evidence


def test_gradient_energy_of_a_ramp_is_its_squared_slope() -> None:
    x, y = torch.arange(30.0), torch.arange(20.0)
    ramp = (0.02 * x + 0.01 * y[:, None]).expand(3, -1, -1)
    energy = gradient_energy(ramp)
    assert energy.shape == (20, 30)
    torch.testing.assert_close(energy[4:-4, 4:-4], torch.full((12, 22), 0.02**2 + 0.01**2))


def test_gradient_energy_is_zero_without_detail_and_falls_with_blur() -> None:
    assert (gradient_energy(torch.full((3, 12, 12), 0.7)) == 0).all()
    photo = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(photo[None], 3, stride=1, padding=1)[0]
    inside = (slice(8, -8), slice(8, -8))
    assert (gradient_energy(blurred)[inside] < gradient_energy(photo)[inside]).all()


def test_evidence_is_read_where_the_point_is_seen() -> None:
    """Detail in the right half only; points left, right, at the border, outside and behind."""
    cameras = [tiny_camera(4), tiny_camera(5)]
    height, width = cameras[0].height, cameras[0].width
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    photo = torch.where(torch.arange(width) < width // 2, 0.5, noise)
    x, z = torch.tensor([-0.8, 0.8, -1.43, 30.0, 0.0]), torch.tensor([3.0, 3.0, 3.0, 3.0, -3.0])
    points = torch.stack([x, torch.zeros(5), z], dim=-1)
    for camera in cameras:
        depths, energies, blurs, colors = measure_photo(camera, photo, None, points)
        assert depths.isnan().tolist() == energies.isnan().tolist() == [False, False, True, True, True]
        assert blurs.isnan().tolist() == [True, False, True, True, True]  # no texture, no blur
        torch.testing.assert_close(depths[:2], camera.depths(points)[:2])
        assert float(energies[0]) == 0 and colors[0].tolist() == [0.5] * 3
        assert colors.isnan().any(1).tolist() == depths.isnan().tolist()
        [x, y] = camera.project(points[1])[0].tolist()
        assert energies[1] == gradient_energy(photo)[int(y), int(x)]
        assert blurs[1] == blur_map(photo)[int(y), int(x)]


def test_masked_points_are_no_evidence() -> None:
    """The mask of a photo leaves one point of two; the other photo has no mask."""
    camera = tiny_camera(4)
    photo = torch.rand(3, camera.height, camera.width, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(camera.width) < camera.width // 2).float().expand(camera.height, -1)
    points = torch.tensor([[-0.8, 0.0, 3.0], [0.8, 0.0, 3.0], [30.0, 0.0, 3.0]])
    masked, whole = (measure_photo(camera, photo, m, points) for m in (mask, None))
    for some, all_of_them in zip(masked[:3], whole[:3], strict=True):
        assert some.isnan().tolist() == [False, True, True]
        assert all_of_them.isnan().tolist() == [False, False, True]
        assert some[0] == all_of_them[0]
    assert masked[3].isnan().any(1).tolist() == [False, True, True]


def test_one_photo_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those that the budget does not keep are not all there at once."""
    scene = replace(open_scene(tiny_scene(tmp_path), tmp_path / "cache"), memory_budget=0)
    read, alive = scene.photo, []

    def photo(view: View) -> Tensor:
        assert all(reference() is None for reference in alive)
        alive.append(weakref.ref(pixels := read(view)))
        return pixels

    monkeypatch.setattr(scene, "photo", photo)
    measure_photos(scene)
    assert len(alive) == len(scene.train_views) > 1


def test_a_glance_finds_the_same_detail_as_the_whole_photo(tmp_path: Path) -> None:
    scene = open_scene(tiny_scene(tmp_path), tmp_path / "cache")
    view = scene.train_views[1]
    points = torch.cat(
        [scene.points, view.camera.unproject(4 + 40 * torch.rand(500, 2), torch.full((500,), 4.0))]
    )
    pixels = scene.stored(view)[0]
    half = np.arange(pixels.shape[2])[None].repeat(pixels.shape[1], 0) < 24
    for mask in (None, half):
        whole = measure_photo(
            view.camera, scene.photo(view), None if mask is None else torch.from_numpy(mask).float(), points
        )
        depths, energies, blurs, colors = glance_at_photo(view.camera, pixels, mask, points, len(points))
        torch.testing.assert_close(depths, whole[0], equal_nan=True)
        torch.testing.assert_close(energies, whole[1], equal_nan=True, rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(blurs, whole[2], equal_nan=True, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(colors, whole[3], equal_nan=True)
        some = glance_at_photo(view.camera, pixels, mask, points, blur_points=50)[2]
        assert 10 < int((~some.isnan()).sum()) <= 50
        assert 100 < int((~depths.isnan()).sum()) < len(points)


def test_of_many_photos_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = open_scene(tiny_scene(tmp_path), tmp_path / "cache")
    monkeypatch.setattr(evidence_room, "MOST_COMPARED", 4)
    read = []
    photo = scene.photo
    monkeypatch.setattr(scene, "photo", lambda view: read.append(view.name) or photo(view))
    evidence, blurs = measure_photos(scene)
    assert evidence.compared is not None and len(evidence.compared) == 4
    assert read == [scene.train_views[index].name for index in evidence.compared]
    known = (~blurs.isnan()).any(1).nonzero()[:, 0].tolist()
    assert set(known) <= set(evidence.compared)
    assert not evidence.energies.isnan().all(1).any(), "the others are glanced at"
    read.clear()
    _, every = measure_photos(scene, every=True)
    assert len(read) == 4
    assert (~every.isnan()).any(1).sum() > len(known)


def test_mean_depths() -> None:
    nan = math.nan
    depths = torch.tensor([[1.0, 3.0, nan], [nan, nan, 8.0], [nan, nan, nan]])
    evidence = Evidence(depths, torch.ones_like(depths), WIDTH)
    torch.testing.assert_close(mean_depths(evidence), torch.tensor([2.0, 8.0, 4.0]))


# --- the fit


def test_photos_that_were_not_compared_find_their_focus() -> None:
    """A third of the photos tells the lens; the others differ from them as their focus does."""
    evidence, focus_distances = synthetic_evidence(60.0, views=30, points=800)
    some = [*range(0, 30, 4), 1, 2]
    blurs = torch.full_like(evidence.depths, math.nan)
    alone, K, _ = find_lens(evidence.of(some), blurs[some])
    focus, of_all, method = find_lens(replace(evidence, compared=some), blurs)
    assert method == "compared" and of_all == K and torch.equal(focus[some], alone)
    others = [index for index in range(30) if index not in some]
    assert (1 / focus - 1 / focus_distances)[others].abs().max() < 0.02


@pytest.mark.parametrize("outliers", [0.0, 0.15])
@pytest.mark.parametrize("blur", [75.0, 200.0])
def test_fit_finds_the_lens(blur: float, outliers: float) -> None:
    """Evidence is of K beside the photos' own softness, so that is what is given here."""
    aperture = blur * SENSOR_BLUR
    evidence, truth = synthetic_evidence(aperture, outliers)
    found, found_aperture = fit_lens(evidence)
    # A tenth is one step of the aperture's grid; outliers hide some of the blur.
    assert found_aperture == pytest.approx(aperture, rel=0.12 if outliers == 0 else 0.22)
    error = (1 / found - 1 / truth).abs()
    assert error.max() < 0.04 and error.median() < 0.01  # of inverse depths from 0.12 to 0.5


def test_a_zoom_lens_has_one_opening() -> None:
    """Half of the photos at thrice the focal length: K is that of the first photo, not one between."""
    ratios = torch.tensor([1.0, 3.0]).repeat(6)
    evidence, truth = synthetic_evidence(40.0, ratios=ratios)
    for found, aperture in (
        fit_lens(evidence),
        fit_blurs(evidence, blurs_of(evidence, truth, 40.0))[:2],
    ):
        assert aperture == pytest.approx(40.0, rel=0.12)
        assert (1 / found - 1 / truth).abs().max() < 0.04
    unaware = Evidence(evidence.depths, evidence.energies, WIDTH)
    assert fit_lens(unaware)[1] > 1.3 * 40


def test_fit_survives_many_outliers() -> None:
    evidence, truth = synthetic_evidence(60.0, outliers=0.3)
    found, found_aperture = fit_lens(evidence)
    assert found_aperture == pytest.approx(60.0, rel=0.3)
    assert (1 / found - 1 / truth).abs().max() < 0.04


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_fit_scales_with_the_scene(scale: float) -> None:
    evidence, _ = synthetic_evidence(60.0)
    found, aperture = fit_lens(evidence)
    larger, larger_aperture = fit_lens(Evidence(evidence.depths * scale, evidence.energies, WIDTH))
    torch.testing.assert_close(larger, found * scale, rtol=1e-3, atol=0)
    assert larger_aperture == pytest.approx(aperture * scale, rel=1e-3)


def test_fit_does_not_depend_on_contrast() -> None:
    """Twice the contrast is four times the energy, that of the noise included."""
    evidence, _ = synthetic_evidence(60.0)
    found, aperture = fit_lens(evidence)
    stronger = Evidence(evidence.depths, 4 * evidence.energies + 3 * DETAIL_FLOOR, WIDTH)
    again, again_aperture = fit_lens(stronger)
    torch.testing.assert_close(again, found)
    assert again_aperture == pytest.approx(aperture)


def test_sharp_photos_have_a_small_aperture_and_no_clear_focus() -> None:
    evidence, _ = synthetic_evidence(60.0)
    sharp = torch.where(evidence.depths.isnan(), math.nan, torch.rand(evidence.depths.shape[1]) * 0.01)
    found, aperture = fit_lens(Evidence(evidence.depths, sharp, WIDTH))
    middle = mean_depths(evidence)
    coc = coc_diameter(evidence.depths, middle[:, None], torch.tensor(aperture)).abs()
    assert coc.nanmedian() < 1  # px
    torch.testing.assert_close(found, middle, rtol=0.05, atol=0)


def test_photo_that_sees_few_points_keeps_their_mean_depth() -> None:
    evidence, truth = synthetic_evidence(60.0)
    depths, energies = evidence.depths.clone(), evidence.energies.clone()
    depths[5, 10:], energies[5, 10:] = math.nan, math.nan
    partly = Evidence(depths, energies, WIDTH)
    found, _ = fit_lens(partly)
    torch.testing.assert_close(found[5], mean_depths(partly)[5])
    others = torch.arange(len(found)) != 5
    assert (1 / found - 1 / truth).abs()[others].max() < 0.04


@pytest.mark.parametrize(("views", "points"), [(2, 300), (1, 300), (8, 10)])
def test_little_evidence_falls_back_to_mean_depths(views: int, points: int) -> None:
    """The typical circle of confusion is then 1 % of the width, in any unit."""
    evidence, _ = synthetic_evidence(60.0, views=views, points=points)
    for scale in (1.0, 40.0):
        scaled = Evidence(evidence.depths * scale, evidence.energies, WIDTH)
        found, aperture = fit_lens(scaled)
        torch.testing.assert_close(found, mean_depths(scaled))
        coc = coc_diameter(scaled.depths, found[:, None], torch.tensor(aperture)).abs()
        assert float(coc.nanmedian()) == pytest.approx(0.01 * WIDTH, rel=1e-3)


# --- which search


def blurs_of(evidence: Evidence, focus_distances: Tensor, aperture: float) -> Tensor:
    """What `measure_photos` would see of this lens, a tenth off."""
    coc = coc_diameter(evidence.depths, focus_distances[:, None], evidence.K_per_photo(aperture))
    noise = torch.randn(coc.shape, generator=torch.Generator().manual_seed(3))
    return (SENSOR_BLUR**2 + coc.square() / 16).sqrt() * torch.exp(0.1 * noise)


def test_comparing_starts_where_each_photo_by_itself_points() -> None:
    """Half the observations are nonsense; begun at the mean depths the search ends farther off."""
    evidence, truth = synthetic_evidence(60.0, outliers=0.5)
    focus, aperture, method = find_lens(evidence, blurs_of(evidence, truth, 60.0))
    assert method == "compared" and aperture == pytest.approx(60.0, rel=0.5)
    error = (1 / focus - 1 / truth).abs()
    assert error.max() < 0.04 and error.mean() < (1 / fit_lens(evidence)[0] - 1 / truth).abs().mean()


def test_without_own_blur_photos_are_still_compared() -> None:
    evidence, truth = synthetic_evidence(60.0)
    noise = torch.rand(evidence.depths.shape, generator=torch.Generator().manual_seed(4))
    focus, aperture, method = find_lens(evidence, noise)
    assert method == "compared" and aperture == pytest.approx(60.0, rel=0.2)
    assert (1 / focus - 1 / truth).abs().max() < 0.04


def test_a_flat_thing_photographed_head_on_has_a_lens() -> None:
    """All points at one depth: no focus distance explains blur better than another."""
    evidence, _ = synthetic_evidence(60.0)
    flat = torch.where(evidence.depths.isnan(), math.nan, 3.0)
    for energies in (evidence.energies, torch.full_like(evidence.energies, 1e-3)):
        focus, aperture, _ = find_lens(Evidence(flat, energies, WIDTH), torch.rand(flat.shape))
        torch.testing.assert_close(focus, torch.full_like(focus, 3.0), rtol=1e-3, atol=0)
        assert 0 < aperture < math.inf


def test_photos_blurred_alike_are_measured_each_alone() -> None:
    evidence, _ = synthetic_evidence(60.0)
    alike = Evidence(evidence.depths, torch.full_like(evidence.energies, 1e-3), WIDTH)
    truth = torch.full((len(evidence.depths),), 3.0)
    focus, aperture, method = find_lens(alike, blurs_of(evidence, truth, 60.0))
    assert method == "each alone" and aperture == pytest.approx(60.0, rel=0.15)
    assert (focus / 3.0 - 1).abs().max() < 0.05


def test_sharp_photos_get_no_visible_blur() -> None:
    evidence, truth = synthetic_evidence(60.0)
    alike = Evidence(evidence.depths, torch.full_like(evidence.energies, 1e-3), WIDTH)
    focus, aperture, method = find_lens(alike, blurs_of(evidence, truth, 0.0))
    assert method == "none"
    coc = coc_diameter(evidence.depths, focus[:, None], torch.tensor(aperture)).abs()
    assert coc.nanmedian() < IN_FOCUS


def test_only_many_points_are_thinned_out() -> None:
    """Evenly: what lies next to each other in a file is one region of the scene."""
    few, many = torch.rand(4_999, 3), torch.rand(12_000, 3)
    assert torch.equal(thin_out(few), few)
    assert torch.equal(thin_out(many), many[[3 * k for k in range(4_000)]])
    assert len(thin_out(torch.rand(0, 3))) == 0
