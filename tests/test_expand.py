"""From base Gaussians to CoC copies: what holds whatever was learned, and what holds at the start."""

import math
from dataclasses import replace

import pytest
import torch

from cocogs.camera import Camera
from cocogs.config import Ablation
from cocogs.optics.aperture import lens_samples, sampled_disc, turned
from cocogs.optics.copies import widen
from cocogs.optics.encoding import GaussianEncoding, fourier
from cocogs.optics.lens import PhotoLens, blur_variance, coc_diameter
from cocogs.optics.lens_models.paper import PaperExpansion, paper_copies, sphere_points
from cocogs.optics.lens_models.sampled import sample_lens

COUNT, COPIES, FX = 40, 5, 300.0


@pytest.fixture
def base():
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(COUNT, 3, generator=generator) * 2 + torch.tensor([-1.0, -1.0, 2.0])
    quats = torch.nn.functional.normalize(torch.randn(COUNT, 4, generator=generator), dim=-1)
    scales = torch.rand(COUNT, 3, generator=generator) * 0.05 + 0.01
    return means, quats, scales, torch.rand(COUNT, generator=generator)


LENS = PhotoLens(torch.tensor(3.0), torch.tensor(60.0))


INTRINSICS = torch.tensor([[FX, 0, 50], [0, FX, 40], [0, 0, 1]], dtype=torch.float64)
CAMERA = Camera(INTRINSICS, torch.eye(4, dtype=torch.float64), 100, 80)


def test_widening_moves_nothing_and_blurs_by_the_coc(base):
    copies = widen(base, CAMERA, LENS)
    coc = coc_diameter(base[0][:, 2], LENS.focus_distance, LENS.K)
    torch.testing.assert_close(copies.means[0], base[0])
    torch.testing.assert_close(copies.blur, blur_variance(coc)[None])


def test_samples_are_the_lens_s_disc(base):
    copies = sample_lens(base, CAMERA, LENS, lens_samples(COPIES))
    coc = coc_diameter(base[0][:, 2], LENS.focus_distance, LENS.K)
    expected = -sampled_disc(COPIES) * coc[:, None] / 2 * lens_samples(COPIES)[:, None]
    assert copies.blur is not None and copies.shift is not None
    torch.testing.assert_close(copies.shift, expected)
    assert torch.equal(copies.means, base[0][None])
    # The spread of the copies plus each one's own blur is that of the whole disc, and a little more.
    total = copies.shift.square().mean((0, 2)) + copies.blur[0]
    torch.testing.assert_close(total, (sampled_disc(COPIES) * coc).square() / 16, rtol=1e-3, atol=1e-6)


def test_a_soft_photo_blurs_every_copy_alike(base):
    soft = replace(LENS, softness=torch.tensor(0.7))
    points = lens_samples(COPIES)
    for still, shaken in (
        (widen(base, CAMERA, LENS), widen(base, CAMERA, soft)),
        (sample_lens(base, CAMERA, LENS, points), sample_lens(base, CAMERA, soft, points)),
    ):
        assert still.blur is not None and shaken.blur is not None
        torch.testing.assert_close(shaken.blur, still.blur + 0.7)
        assert torch.equal(shaken.means, still.means)


def test_turned_samples_go_from_x_to_y():
    points = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    quarter = turned(points, torch.tensor(math.pi / 2))
    torch.testing.assert_close(quarter, torch.tensor([[0.0, 1.0], [-0.5, 0.0]]), atol=1e-6, rtol=0)


def test_the_mlp_never_moves_the_scene(base):
    base = tuple(x.clone().requires_grad_() for x in base)
    expansion = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())
    factors = expansion(base, torch.ones(3))
    (factors.directions.sum() + factors.beta.sum() + factors.scale_factors.sum()).backward()
    assert all(x.grad is None for x in base)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in expansion.parameters())


def test_paper_factors_stay_in_their_ranges(base):
    torch.manual_seed(0)
    expansion = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())
    for p in expansion.parameters():
        torch.nn.init.normal_(p, std=1.0)
    factors = expansion(base, torch.tensor([5.0, -3.0, 1.0]))
    torch.testing.assert_close(factors.directions.norm(dim=-1), torch.ones(COPIES, COUNT), atol=1e-4, rtol=0)
    assert (factors.beta >= 0).all() and (factors.beta <= 1).all() and (factors.K_factor >= 0).all()
    for factor in (factors.scale_factors, factors.rotation_factors):
        assert factor.min() >= 1 and factor.max() <= 1.1


def test_untrained_paper_copies_are_near_a_lens(base):
    """Spread evenly near the rim, with the K that was found, from wherever one looks."""
    torch.manual_seed(0)
    expansion = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())
    here, there = (expansion(base, torch.full((3,), place)) for place in (0.1, 2.0))
    assert torch.equal(here.directions, there.directions) and torch.equal(here.beta, there.beta)
    even = sphere_points(COPIES)[:, None]
    assert ((here.directions * even).sum(-1) > 0.95).all()
    assert ((here.beta > 0.8) & (here.beta < 0.95)).all()
    assert ((here.K_factor - 1).abs() < 0.1).all()
    (here.directions[..., 0].sum() + here.beta.sum()).backward()
    first = expansion.layers[0]
    assert isinstance(first, torch.nn.Linear) and first.weight.grad is not None
    assert (first.weight.grad[:, -expansion.encode.camera_size :] != 0).any()  # and it learns to look


def test_paper_factors_start_at_one(base):
    torch.manual_seed(0)
    factors = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())(base, torch.ones(3))
    for factor in (factors.scale_factors, factors.rotation_factors):
        assert factor.min() >= 1 and factor.max() < 1.005


def test_paper_copies_keep_the_base_set_last_and_stay_within_the_circle(base):
    torch.manual_seed(0)
    lens = PhotoLens(LENS.focus_distance, torch.tensor(0.2))
    expansion = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())
    copies = paper_copies(base, torch.zeros(3), lens, expansion(base, torch.zeros(3)), Ablation())
    assert copies.means.shape == (COPIES + 1, COUNT, 3)
    torch.testing.assert_close(copies.means[-1], base[0])
    factors = expansion(base, torch.zeros(3))
    radius = (0.2 * factors.K_factor * (1 / base[0].norm(dim=-1) - 1 / 3.0)).abs() / 2
    assert ((copies.means[:-1] - base[0]).norm(dim=-1) <= radius * (1 + 1e-4)).all()


@pytest.mark.parametrize("part", ["coc", "direction", "beta", "aperture"])
def test_every_ablation_changes_the_copies(base, part: str):
    torch.manual_seed(0)
    whole = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation())
    less = PaperExpansion(COPIES, torch.zeros(3), 1.0, Ablation(**{part: True}))
    less.load_state_dict(whole.state_dict())
    lens = PhotoLens(torch.tensor(3.0), torch.tensor(0.2))
    one, other = (
        paper_copies(base, torch.zeros(3), lens, e(base, torch.zeros(3)), e.ablation).means
        for e in (whole, less)
    )
    assert not torch.allclose(one, other)


def test_encoding_does_not_depend_on_the_unit_of_the_scene(base):
    center, extent, scale = torch.tensor([0.1, 0.2, 3.0]), 2.0, 7.0
    means, quats, scales, opacities = base
    one = GaussianEncoding(center, extent, 3, 10)(base, torch.ones(3))
    larger = GaussianEncoding(center * scale, extent * scale, 3, 10)
    other = larger((means * scale, quats, scales * scale, opacities), torch.ones(3) * scale)
    assert one.shape[1] == larger.size
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_fourier_and_sphere():
    assert fourier(torch.zeros(2, 3), 4).shape == (2, 27)
    torch.testing.assert_close(sphere_points(7).norm(dim=-1), torch.ones(7))
    assert math.isclose(float(sphere_points(50).mean(0).norm()), 0, abs_tol=0.05)
