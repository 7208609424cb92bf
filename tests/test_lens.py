"""The thin lens: closed forms and limits."""

import math

import pytest
import torch

from cocogs.optics.aperture import lens_samples, sampled_disc
from cocogs.optics.lens import (
    DISC_SIGMA,
    blur_variance,
    coc_diameter,
    depth_of_field,
    focus_between,
)
from cocogs.optics.lens_models.paper import paper_radius

FX = 500.0


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_coc_is_zero_in_focus_and_changes_sign_there():
    coc = coc_diameter(f64(1.0, 2.0, 4.0), f64(2.0), f64(80.0))
    torch.testing.assert_close(coc, f64(40.0, 0.0, -20.0))


def test_coc_far_behind_focus_at_infinity_vanishes():
    assert coc_diameter(f64(1e9), f64(math.inf), f64(80.0)).abs() < 1e-6


def test_aperture_zero_is_a_pinhole():
    assert (coc_diameter(f64(0.3, 1.0, 9.0), f64(2.0), f64(0.0)) == 0).all()


def test_points_at_or_behind_the_camera_stay_finite():
    assert coc_diameter(f64(-1.0, 0.0), f64(2.0), f64(80.0)).isfinite().all()


def test_coc_is_the_exact_thin_lens():
    """A pinhole at a u, re-aimed so that the focus plane stays put, sees the point shifted by -c u / 2."""
    z, focus, aperture, u = 3.0, 2.0, 90.0, 0.6
    radius_of_aperture = aperture / FX / 2
    # From (a u, 0, 0) the point (0, 0, z) appears at x = -a u f / z; re-aiming adds a u f / z_f.
    pixel = FX * radius_of_aperture * u * (1 / focus - 1 / z)
    torch.testing.assert_close(-coc_diameter(f64(z), f64(focus), f64(aperture)) / 2 * u, f64(pixel))


def test_paper_units_leave_the_factor_out():
    z, focus, aperture = f64(0.7, 1.5, 6.0), f64(2.0), f64(90.0)
    paper = paper_radius(z, focus, aperture)
    torch.testing.assert_close(paper, coc_diameter(z, focus, aperture).abs() / 2)


def test_disc_sigma_is_that_of_the_nearest_gaussian():
    x = torch.linspace(-4, 4, 801, dtype=torch.float64)
    square = x[:, None].square() + x.square()
    disc = (square <= 1) / math.pi
    sigmas = torch.arange(0.5, 0.7, 0.002, dtype=torch.float64).tolist()
    distances = [
        float((torch.exp(-square / (2 * s**2)) / (2 * math.pi * s**2) - disc).square().sum()) for s in sigmas
    ]
    assert sigmas[distances.index(min(distances))] == pytest.approx(DISC_SIGMA, abs=2e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_sampled_disc_is_the_scale_at_which_the_samples_are_nearest_to_the_disc(count: int):
    """By their Fourier transforms, which have the same distance (Parseval)."""
    frequency = 2 * math.pi * torch.fft.fftfreq(256, 1 / 12, dtype=torch.float64)  # radians in a radius
    fy, fx = torch.meshgrid(frequency, frequency, indexing="ij")
    f = (fx.square() + fy.square()).sqrt().clamp_min(1e-6)
    disc = 2 * torch.special.bessel_j1(f) / f

    def distance(scale: float) -> float:
        shifts = scale * lens_samples(count).double()
        waves = torch.exp(1j * (shifts[:, 0, None, None] * fx + shifts[:, 1, None, None] * fy)).mean(0)
        samples = waves * torch.exp(-((DISC_SIGMA * scale * f) ** 2) / count / 2)
        return float((samples - disc).abs().square().sum())

    scales = torch.arange(0.95, 1.25, 0.002).tolist()
    assert min(scales, key=distance) == pytest.approx(sampled_disc(count), abs=6e-3)


def test_blur_variance_is_that_of_the_disc_s_gaussian():
    assert float(blur_variance(f64(-12.0))) == pytest.approx((6.0 * DISC_SIGMA) ** 2)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("blades", [0, 3, 6])
@pytest.mark.parametrize(("count", "overlap"), [(2, 1.0), (3, 1.0), (5, 2.0), (8, 2.0), (32, 1.0)])
def test_lens_samples_and_their_sub_apertures_have_the_aperture_s_variance(
    count: int, overlap: float, blades: int, settled: bool
):
    points = lens_samples(count, overlap, blades, 10.0, settled).double()
    assert points.shape == (count, 2)
    torch.testing.assert_close(points.mean(0), f64(0.0, 0.0), atol=1e-6, rtol=0)
    total = float(points.square().mean()) + DISC_SIGMA**2 * overlap / count
    assert total == pytest.approx(float(polygon_points(blades).square().mean()), rel=3e-3)


def test_a_single_lens_sample_is_the_centre():
    torch.testing.assert_close(lens_samples(1, blades=5), torch.zeros(1, 2))
    torch.testing.assert_close(lens_samples(1, blades=5, settled=True), torch.zeros(1, 2))


@pytest.mark.parametrize("blades", [0, 5, 6])
def test_settled_lens_samples_leave_no_place_of_the_aperture_far_from_one(blades: int):
    """Of all patterns hexagonal cells have the least mean squared distance, 5 sqrt(3) / 54 of a cell's area;
    the sunflower is 12 % and more above it."""
    least, places = 5 * math.sqrt(3) / 54 * math.pi / 64, polygon_points(blades)[::7]

    def distance(settled: bool) -> float:
        points = lens_samples(64, 0.0, blades, settled=settled).double()  # without overlap: scaled to the rim
        return float(torch.cdist(places, points).amin(1).square().mean())

    assert least < distance(settled=True) < 1.08 * least < 1.12 * least < distance(settled=False)


def polygon_points(blades: int) -> torch.Tensor:
    """A fine grid of the regular polygon of area pi, or of the unit disc, a corner at the right."""
    grid = torch.linspace(-2, 2, 1601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    if blades == 0:
        return points[points.norm(dim=1) <= 1]
    inner = math.sqrt(math.pi / blades / math.tan(math.pi / blades))
    angles = (torch.arange(blades, dtype=torch.float64) + 0.5) * 2 * math.pi / blades
    normals = torch.stack([angles.cos(), angles.sin()], -1)
    return points[(points @ normals.T <= inner).all(1)]


@pytest.mark.parametrize("blades", [3, 4, 5, 6, 9])
def test_bladed_apertures_are_regular_polygons_of_the_disc_s_area(blades: int):
    """No sample outside the polygon's edges; corners and edges are reached; even density."""
    rotation = 15.0
    points = lens_samples(4000, 1.0, blades, rotation).double()
    angles = (torch.arange(blades, dtype=torch.float64) + 0.5) * 2 * math.pi / blades + math.radians(rotation)
    along = points @ torch.stack([angles.cos(), angles.sin()])  # (count, blades) distance towards each edge
    inner = math.sqrt(math.pi / blades / math.tan(math.pi / blades))
    assert float(along.max()) == pytest.approx(inner, rel=0.01)
    assert (along.amax(0) > 0.97 * inner).all()
    # The polygon scaled by 1/2 has a quarter of the area; each edge's sector has its equal share.
    assert float((along.amax(1) < inner / 2).double().mean()) == pytest.approx(1 / 4, abs=0.01)
    shares = torch.bincount(along.argmax(1), minlength=blades) / len(points)
    torch.testing.assert_close(shares, torch.full((blades,), 1 / blades), atol=0.01, rtol=0)
    corner = torch.tensor([math.cos(math.radians(rotation)), math.sin(math.radians(rotation))]).double()
    assert float((points @ corner).max()) == pytest.approx(inner / math.cos(math.pi / blades), rel=0.03)


def test_gradients_reach_focus_and_aperture():
    focus = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    aperture = torch.tensor(80.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda f, k: blur_variance(coc_diameter(f64(1.0, 5.0), f, k)), (focus, aperture)
    )


@pytest.mark.parametrize("focus_distance", [0.5, 3.0, 40.0, 70.0, math.inf])
def test_depth_of_field_ends_where_the_circle_is_as_wide_as_allowed(focus_distance: float) -> None:
    aperture, coc = 30.0, 0.5
    near, far = depth_of_field(focus_distance, aperture, coc)
    assert near < focus_distance <= far
    ends = coc_diameter(f64(near, far), f64(focus_distance), f64(aperture))
    assert ends[0] == pytest.approx(coc)
    if focus_distance < aperture / coc:
        assert ends[1] == pytest.approx(-coc)
    else:  # the hyperfocal distance: infinity is sharp enough
        assert math.isinf(far) and -coc <= ends[1] <= 0


def test_focus_moves_evenly_in_blur() -> None:
    """Halfway, both ends are equally out of focus; infinity is an end like any other."""
    half = torch.tensor(focus_between(2.0, 6.0, 0.5))
    near, far = (coc_diameter(torch.tensor(z), half, torch.tensor(10.0)) for z in (2.0, 6.0))
    assert float(near) == pytest.approx(-float(far))
    assert [focus_between(2.0, math.inf, t) for t in (0.0, 0.5, 1.0)] == [2.0, 4.0, math.inf]
    assert focus_between(math.inf, math.inf, 0.3) == math.inf
