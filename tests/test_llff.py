"""poses_bounds.npy: axes, scaling, seed points, and tables that are broken."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import make_cameras, make_llff, poses_bounds

from cocogs.errors import InputError
from cocogs.io import llff
from cocogs.scene import open_scene

NAMES = ["000.png", "001.png", "002.png", "003.png"]


def _open(data: Path, tmp_path: Path, **options):
    said: list[str] = []
    return open_scene(data, tmp_path / "cache", say=said.append, **options), said


@pytest.fixture(autouse=True)
def no_points_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for points in the photos, which takes seconds, finds none here; test_scene.py lets it."""
    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)


def test_poses_become_opencv_and_points_are_drawn_where_photos_look(tmp_path: Path) -> None:
    cameras = make_llff(tmp_path / "data")
    scene, said = _open(tmp_path / "data", tmp_path)
    for view, camera in zip(scene.views, cameras, strict=True):
        assert torch.allclose(view.camera.cam_from_world, camera.cam_from_world, atol=1e-12)
        assert torch.allclose(view.camera.intrinsics, camera.intrinsics)
    assert any("drawn at random" in line for line in said) and scene.drawn
    assert scene.points.shape == scene.point_colors.shape == (20_000, 3)
    assert scene.point_colors.min() >= 0 and scene.point_colors.max() <= 1
    seen = torch.zeros(len(scene.points))
    for camera in cameras:
        pixels, depth = camera.project(scene.points.double())
        inside = (pixels >= 0).all(1) & (pixels < torch.tensor([camera.width, camera.height])).all(1)
        seen += inside & (depth > 1.99) & (depth < 5.01)
    assert seen.min() >= 2


def test_drawn_points_depend_on_the_seed_alone(tmp_path: Path) -> None:
    make_llff(tmp_path / "data")
    first, again = (_open(tmp_path / "data", tmp_path, seed=5)[0].points for _ in range(2))
    other = _open(tmp_path / "data", tmp_path, seed=6)[0].points
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_focal_length_follows_the_size_of_the_pictures(tmp_path: Path) -> None:
    cameras = make_llff(tmp_path / "data")
    table = poses_bounds(cameras)
    table[:, [4, 9, 14]] *= 3  # made at three times the size of the pictures on disk
    np.save(tmp_path / "data" / "poses_bounds.npy", table)
    scene, _ = _open(tmp_path / "data", tmp_path, downscale=2)
    camera = scene.views[0].camera
    assert (camera.width, camera.height) == (120, 90)
    assert camera.fx == pytest.approx(cameras[0].fx / 2)
    assert camera.cx == pytest.approx(60)


def test_bounds_are_handed_on(tmp_path: Path) -> None:
    make_llff(tmp_path)
    source = llff.read_poses_bounds(tmp_path, NAMES)
    assert source.points is None and source.bounds is not None
    assert torch.equal(source.bounds, torch.tensor([2.0, 5.0]).double().expand(4, 2))


def _refused(tmp_path: Path, table: np.ndarray, message: str) -> None:
    np.save(tmp_path / "poses_bounds.npy", table)
    with pytest.raises(InputError, match=rf"poses_bounds\.npy {message}"):
        llff.read_poses_bounds(tmp_path, NAMES)


@pytest.mark.parametrize("shape", [(4, 15), (17,), (4, 3, 5), (4, 17, 1), ()])
def test_wrong_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    _refused(tmp_path, np.ones(shape), "has the shape .*copy it again")


def test_wrong_number_of_rows_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, poses_bounds(make_cameras(3)), "has 3 rows but there are 4 photos")


def test_text_instead_of_numbers_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, np.full((4, 17), "x"), "has the shape .* where numbers")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    table = poses_bounds(make_cameras(4))
    table[2, 3] = value
    _refused(tmp_path, table, "holds numbers that are not finite")


@pytest.mark.parametrize(
    "column, value",
    [(4, 0.0), (9, -1.0), (9, 1e18), (14, 0.0), (14, 1e30), (14, 1e-9), (15, 0.0), (15, 9.0)],
    ids=["height", "width", "huge width", "focal", "huge focal", "tiny focal", "near", "far"],
)
def test_impossible_sizes_and_depths_are_refused(tmp_path: Path, column: int, value: float) -> None:
    table = poses_bounds(make_cameras(4))
    table[1, column] = value
    _refused(tmp_path, table, r"holds an impossible size, focal length or depth of 001\.png")


def test_axes_that_are_not_a_rotation_are_refused(tmp_path: Path) -> None:
    table = poses_bounds(make_cameras(4))
    table[:, [0, 5, 10]] = 0
    _refused(tmp_path, table, "holds axes that are not a rotation")


def _header(text: str) -> bytes:
    """The beginning of a .npy file."""
    return b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117).encode() + b"\n"


HUGE = _header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 17), }")
UNCLOSED = _header("{'descr': '<f8', 'fortran_order': False, 'shape': ((4, 17), }")
NO_PYTHON = _header("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 17), } = ")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"garbage", b"PK\x03\x04" + bytes(100), HUGE, UNCLOSED, NO_PYTHON, None],
    ids=["empty", "cut name", "text", "no zip", "huge", "unclosed", "no python", "cut"],
)
def test_unreadable_table_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "poses_bounds.npy"
    np.save(path, poses_bounds(make_cameras(4)))
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(InputError, match=r"poses_bounds\.npy cannot be read .*: copy it again") as caught:
        llff.read_poses_bounds(tmp_path, NAMES)
    assert "\n" not in str(caught.value)
