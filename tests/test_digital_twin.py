"""examples/digital_twin.py: a car that drives past a box to a ball, by pictures of splats."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cocogs
from cocogs.gaussians import Gaussians

pytest.importorskip("mujoco")
pytest.importorskip("cv2")

BOX = (np.array([-0.06, 0.24, 0.0]), np.array([0.03, 0.3, 0.07]))
"""Between the start and the goal: two corners."""
START, GOAL = np.array([0.0, 0.02]), np.array([0.0, 0.62])


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(cocogs.__file__).parents[1] / "examples"))
    import digital_twin  # pyright: ignore[reportMissingImports]
    import digital_twin_car  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(digital_twin_car, "SAMPLES", 1)
    return digital_twin


def rectangle(corner: np.ndarray, along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Four corners and two triangles."""
    corners = np.array([corner, corner + along, corner + along + across, corner + across], float)
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def rectangles() -> list[tuple[np.ndarray, np.ndarray]]:
    """A table and the box on it."""
    low, high = BOX
    x, y, z = np.diag(high - low)
    sides = [rectangle(low, x, z), rectangle(low, y, z), rectangle(low + x, y, z), rectangle(low + z, x, y)]
    return [rectangle(np.array([-0.5, -0.1, 0]), np.array([1.0, 0, 0]), np.array([0, 1.2, 0])), *sides]


def splats() -> Gaussians:
    """Freckled surfaces of the table and the box."""
    generator = np.random.default_rng(0)
    points = []
    for corners, _ in rectangles():
        along, across = corners[1] - corners[0], corners[3] - corners[0]
        count = int(np.linalg.norm(along) * np.linalg.norm(across) / 0.006**2)
        places = generator.random((count, 2))
        points.append(corners[0] + places[:, :1] * along + places[:, 1:] * across)
    means = torch.from_numpy(np.concatenate(points)).float()
    scene = Gaussians.from_points(
        means, torch.from_numpy(generator.uniform(0.2, 0.7, (len(means), 1))).expand(-1, 3)
    )
    with torch.no_grad():
        scene.opacities.fill_(3.0)
        scene.scales.fill_(float(np.log(0.004)))
    return scene


def mesh() -> tuple[np.ndarray, np.ndarray]:
    parts = rectangles()
    faces = np.concatenate([corners + 4 * number for number, (_, corners) in enumerate(parts)])
    return np.concatenate([corners for corners, _ in parts]), faces


def test_a_car_drives_around_a_box_to_the_ball(twin, tmp_path: Path) -> None:
    scene = twin.with_heights(twin.Scene(splats(), *mesh()))
    done = twin.drive(scene, START, GOAL, seconds=14.0)
    assert done.arrived and not done.touched
    assert np.linalg.norm(done.track[-1] - GOAL) < 0.12
    aside = done.track[(done.track[:, 1] > BOX[0][1]) & (done.track[:, 1] < BOX[1][1]), 0]
    assert len(aside) and ((aside > BOX[1][0] + 0.01) | (aside < BOX[0][0] - 0.01)).all(), "past, not through"
    assert done.frames[0].size == (1120, 480)


def test_the_ground_is_the_largest_level_plane(twin) -> None:
    vertices, faces = mesh()
    turn = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    middle, normal = twin.ground(vertices @ turn.T, faces, np.array([0.0, 0.0, 1.0]))
    assert normal @ turn[:, 2] > 0.9999 and abs(middle @ turn[:, 2]) < 1e-3


def test_stereo_tells_where_the_ball_is(twin) -> None:
    eyes = twin.Eyes(twin.with_ball(splats(), np.array([0.1, 0.5])))
    ahead_is_y = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = eyes.ball(eyes.look(np.zeros(3), ahead_is_y))
    assert found == pytest.approx([0.5, -0.1, twin.BALL_HEIGHT], abs=0.02)
