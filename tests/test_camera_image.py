"""The Camera Image of a pinhole, and the pinhole behind one (cocogs/calibrate/camera_image.py)."""

import math

import numpy as np
import pytest

from cocogs.calibrate.camera_image import PinholeFit, decode, encode

SIZE = 256, 192


def pinhole(degrees: float) -> tuple[float, float, float, float]:
    focal = SIZE[0] / 2 / math.tan(math.radians(degrees) / 2)
    return focal, 1.02 * focal, 0.5 * SIZE[0] + 7, 0.5 * SIZE[1] - 11


def errors(fit: PinholeFit | None, true: tuple[float, float, float, float]) -> tuple[float, float]:
    """Of the focal lengths, as a part of them; of the centre, px."""
    assert fit is not None
    off = [abs(found - value) for found, value in zip(fit.pinhole, true, strict=True)]
    return max(off[0] / true[0], off[1] / true[1]), max(off[2:])


def test_angles_are_those_of_the_rays_at_pixel_centres() -> None:
    """Written out anew: K^-1 (u, v, 1), then atan2 and acos."""
    fx, fy, cx, cy = pinhole(60)
    ray = np.array([(3 + 0.5 - cx) / fx, (9 + 0.5 - cy) / fy, 1.0])
    azimuth = math.atan2(ray[0], ray[2]) / math.pi
    elevation = math.acos(ray[1] / np.linalg.norm(ray)) / math.pi
    shown = encode((fx, fy, cx, cy), SIZE)[:, 9, 3]
    assert shown == pytest.approx([(azimuth + 0.31) / 0.62, (elevation - 0.21) / 0.58], abs=1e-12)


@pytest.mark.parametrize("degrees", [5, 20, 60, 100, 120])
def test_an_exact_map_gives_the_pinhole_back(degrees: float) -> None:
    focal, center = errors(decode(encode(pinhole(degrees), SIZE)), pinhole(degrees))
    assert focal < 1e-6
    assert center < 0.02


@pytest.mark.parametrize(("degrees", "allowed"), [(20, 0.0015), (60, 0.0005), (100, 0.0005)])
def test_eight_bits_are_enough(degrees: float, allowed: float) -> None:
    codes = np.round(encode(pinhole(degrees), SIZE) * 255) / 255
    assert errors(decode(codes), pinhole(degrees))[0] < allowed


@pytest.mark.parametrize("degrees", [20, 60, 100])
def test_outliers_count_for_nothing(degrees: float) -> None:
    rng = np.random.default_rng(1)
    shown = encode(pinhole(degrees), SIZE)
    wrong = rng.random(shown.shape[1:]) < 0.4
    shown[:, wrong] = rng.random((2, int(wrong.sum())))
    fit = decode(shown)
    assert errors(fit, pinhole(degrees))[0] < 1e-5
    assert fit is not None and fit.inliers == pytest.approx(0.6, abs=0.03)


def test_a_quarter_of_the_map_from_another_lens_counts_for_nothing() -> None:
    shown, (fx, fy, cx, cy) = encode(pinhole(60), SIZE), pinhole(60)
    shown[:, :96, :128] = encode((1.6 * fx, 1.6 * fy, cx, cy), SIZE)[:, :96, :128]
    assert errors(decode(shown), pinhole(60))[0] < 1e-5


def test_unknown_pixels_are_left_out() -> None:
    shown = encode(pinhole(60), SIZE)
    shown[:, ::2] = np.nan
    assert errors(decode(shown), pinhole(60))[0] < 1e-6


def test_the_deviation_is_that_of_noise() -> None:
    """Of 24 noisy maps two thirds are within a deviation, and all within four."""
    true, off = np.array(pinhole(60)), []
    for seed in range(24):
        noise = np.random.default_rng(seed).normal(0, 0.02, (2, SIZE[1], SIZE[0]))
        fit = decode(encode(pinhole(60), SIZE) + noise)
        assert fit is not None
        off.append((np.array(fit.pinhole) - true) / np.sqrt(np.diag(fit.covariance)))
    within = np.abs(np.array(off))
    assert 0.5 < (within < 1).mean() < 0.85
    assert within.max() < 4.5


@pytest.mark.parametrize(
    "nothing",
    [np.zeros((2, 40, 50)), np.full((2, 40, 50), 0.5), np.full((2, 40, 50), np.nan), np.ones((2, 1, 1)) / 2],
)
def test_no_map_gives_no_pinhole(nothing: np.ndarray) -> None:
    assert decode(nothing) is None


def test_noise_gives_no_pinhole() -> None:
    assert decode(np.random.default_rng(0).random((2, 100, 120))) is None
