"""The lens of one photo from its straight lines: exact segments, drawn pictures, and pictures that tell
nothing."""

import math

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cocogs.calibrate import lines, orthogonal
from cocogs.calibrate.lines import LinesFound, estimate_by_lines
from cocogs.calibrate.lines_picture import draw_lines
from cocogs.calibrate.segments import Segments
from cocogs.io.lens_estimate import Abstention

WIDTH, HEIGHT = 900, 600
FOCAL = 800.0  # px
TURN = Rotation.from_euler("yxz", (35, 12, 3), degrees=True).as_matrix()


def box_edges(rng: np.random.Generator, count: int = 60) -> np.ndarray:
    """(count, 2, 2) ends of segments along three orthogonal directions, seen by the camera; px from the
    middle."""
    found: list[np.ndarray] = []
    while len(found) < count:
        start = rng.uniform((-3, -2, 3), (3, 2, 8))
        ends = np.stack([start, start + TURN[:, len(found) % 3] * rng.uniform(0.5, 2)])
        pixels = FOCAL * ends[:, :2] / ends[:, 2:]
        inside = (np.abs(pixels) < (WIDTH / 2, HEIGHT / 2)).all() and ends[:, 2].min() > 1
        if inside and np.linalg.norm(pixels[1] - pixels[0]) > 40:
            found.append(pixels)
    return np.array(found)


def fitted(ends: np.ndarray, noise: float) -> orthogonal.Fit:
    """Of ends in px from the middle, whose standard deviation is `noise` px."""
    segments = Segments(ends / WIDTH, np.full(len(ends), noise / WIDTH))
    return orthogonal.fits(segments, np.random.default_rng(0))[0]


def test_exact_segments_give_focal_length_and_principal_point() -> None:
    fit = fitted(box_edges(np.random.default_rng(1)), 0.05)
    assert math.exp(fit.camera.log_focal) * WIDTH == pytest.approx(FOCAL, rel=1e-3)
    assert fit.camera.center * WIDTH == pytest.approx([0, 0], abs=1)


def test_errors_are_as_large_as_their_deviations() -> None:
    off = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ends = box_edges(rng)
        fit = fitted(ends + rng.normal(0, 0.5, ends.shape), 0.5)
        off.append((fit.camera.log_focal - math.log(FOCAL / WIDTH)) / math.sqrt(fit.covariance[0, 0]))
    assert np.abs(off).max() < 3.5
    assert 0.3 < np.sqrt(np.mean(np.square(off))) < 1.6


def test_outliers_hardly_count() -> None:
    """40 % of the segments lie anywhere."""
    rng = np.random.default_rng(2)
    wild = rng.uniform((-WIDTH / 2, -HEIGHT / 2), (WIDTH / 2, HEIGHT / 2), (40, 2))
    wild = wild[:, None] + rng.normal(0, 60, (40, 2, 2))
    fit = fitted(np.concatenate([box_edges(rng), wild]), 0.3)
    assert math.exp(fit.camera.log_focal) * WIDTH == pytest.approx(FOCAL, rel=0.02)


def drawn_room() -> np.ndarray:
    """Tiles, and boxes on them, as the camera sees them: (H, W, 3) uint8."""
    picture = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)

    def polygon(corners: np.ndarray, color: tuple[int, int, int]) -> None:
        corners = corners @ TURN.T + (0, 0, 9)
        if corners[:, 2].min() > 0.5:
            pixels = FOCAL * corners[:, :2] / corners[:, 2:] + (WIDTH / 2, HEIGHT / 2)
            cv2.fillConvexPoly(picture, np.round(pixels * 16).astype(np.int32), color, cv2.LINE_AA, 4)

    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    for row in range(-4, 4):
        for column in range(-4, 4):
            flat = np.insert(square + np.array([column, row]), 1, 1.5, axis=1)
            polygon(flat, (90, 80, 70) if (row + column) % 2 else (160, 150, 140))
    for x, z in ((-2.5, 0.0), (0.5, -1.5), (1.5, 1.5)):
        front = np.column_stack([x + square[:, 0], 1.5 - 2 * square[:, 1], np.full(4, z)])
        side = np.column_stack([np.full(4, x), 1.5 - 2 * square[:, 1], z + square[:, 0]])
        polygon(side, (60, 90, 150))
        polygon(front, (190, 120, 60))
    return picture


def test_a_drawn_room() -> None:
    found = estimate_by_lines(drawn_room())
    assert isinstance(found, LinesFound)
    lens = found.lens
    assert lens.focal[0] == pytest.approx(FOCAL, rel=0.03)
    assert abs(lens.focal[0] - FOCAL) < 3 * lens.focal_deviation[0]
    assert lens.size == (WIDTH, HEIGHT)
    # The horizon is where the floor's two directions vanish: its normal is the upright axis.
    matrix = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    true = np.linalg.inv(matrix).T @ TURN[:, 1]
    assert abs(found.horizon @ true) / np.linalg.norm(found.horizon) / np.linalg.norm(true) > 0.999


def test_sixteen_bits_and_twice_the_size_tell_the_same() -> None:
    room = drawn_room()
    large = cv2.resize(room, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.uint16) * 257
    found = estimate_by_lines(large)
    assert isinstance(found, LinesFound)
    assert found.lens.focal[0] == pytest.approx(2 * FOCAL, rel=0.03)


def test_the_lines_are_drawn_over_the_photo() -> None:
    room = drawn_room()
    found = estimate_by_lines(room)
    assert isinstance(found, LinesFound)
    picture = draw_lines(room, found)
    assert picture.shape == room.shape
    colors = np.array([(230, 80, 60), (70, 170, 80), (70, 120, 240)])
    for color in colors:
        assert (picture == color).all(2).sum() > 100


def fisheye() -> np.ndarray:
    """A checkerboard through an equidistant fisheye of 150 degrees."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] - np.array([HEIGHT / 2, WIDTH / 2])[:, None, None]
    angle = np.hypot(u, v) / WIDTH * math.radians(150)
    around = np.arctan2(v, u)
    ray = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], -1) @ TURN
    face = np.abs(ray).max(-1, keepdims=True)
    tile = np.floor(4 * ray / face).sum(-1).astype(int) % 2
    return np.repeat(np.where(tile, 60, 190).astype(np.uint8)[..., None], 3, 2)


def circles() -> np.ndarray:
    picture, rng = np.full((HEIGHT, WIDTH, 3), 128, np.uint8), np.random.default_rng(3)
    for _ in range(60):
        center = rng.integers((0, 0), (WIDTH, HEIGHT)).tolist()
        cv2.circle(
            picture, center, int(rng.integers(10, 80)), rng.integers(0, 255, 3).tolist(), -1, cv2.LINE_AA
        )
    return picture


def noise(blur: float = 0.0) -> np.ndarray:
    picture = np.random.default_rng(4).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture


@pytest.mark.parametrize(
    "picture",
    [
        np.full((HEIGHT, WIDTH, 3), 90, np.uint8),
        np.zeros((800, 10, 3), np.uint8),
        circles(),
        noise(),
        noise(4),
    ],
    ids=["one colour", "10 px wide", "circles", "noise", "smooth noise"],
)
def test_pictures_that_tell_nothing(picture: np.ndarray) -> None:
    assert isinstance(estimate_by_lines(picture), Abstention)


def test_a_fisheye_is_not_answered_as_if_it_were_none() -> None:
    assert isinstance(estimate_by_lines(fisheye()), Abstention)


@pytest.mark.thorough
def test_random_segments_are_no_answer() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        starts = rng.uniform((-WIDTH / 2, -HEIGHT / 2), (WIDTH / 2, HEIGHT / 2), (120, 2))
        ends = np.stack([starts, starts + rng.normal(0, 60, (120, 2))], 1)
        segments = Segments(ends / WIDTH, np.full(120, 0.5 / WIDTH))
        found = orthogonal.fits(segments, np.random.default_rng(0))
        judged = lines.judged(found, segments, (WIDTH, HEIGHT)) if found else None
        assert not isinstance(judged, LinesFound)
