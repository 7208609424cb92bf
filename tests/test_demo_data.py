"""The bundled scene is whole, small and consistent: its truth, its pictures and its COLMAP model agree."""

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from cocogs.io.truth_file import read_truth
from cocogs.measure.alignment import align

DEMO = Path(__file__).parents[1] / "data" / "demo"


@pytest.fixture(scope="module")
def truth() -> dict:
    return json.loads((DEMO / "truth.json").read_text())


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    return pycolmap.Reconstruction(str(DEMO / "sparse" / "0"))


def centers(poses: list[np.ndarray]) -> np.ndarray:
    """(n, 3) camera centres of (4, 4) or (3, 4) world-to-camera poses."""
    return np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])


def test_small_enough_for_a_repository():
    assert sum(f.stat().st_size for f in DEMO.rglob("*") if f.is_file()) <= 5_000_000


def test_pictures_are_there_and_of_one_size(truth):
    frames = truth["frames"]
    assert [f["name"] for f in frames] == sorted(p.name for p in (DEMO / "images").iterdir())
    assert sorted(r["name"] for r in truth["refocus"]) == sorted(p.name for p in (DEMO / "refocus").iterdir())
    for path in [*(DEMO / "images").iterdir(), *(DEMO / "refocus").iterdir()]:
        with Image.open(path) as picture:
            assert picture.size == (truth["width"], truth["height"]) and picture.mode == "RGB"
    assert truth["width"] <= 320


def test_truth_can_be_read(truth):
    found = read_truth(DEMO / "truth.json")
    assert list(found.frames) == [f["name"] for f in truth["frames"]]
    assert [r.aperture_diameter for r in found.refocused] == [found.aperture_diameter] * 5


def test_split_follows_the_hold_file(truth):
    (hold,) = DEMO.glob("hold=*")
    every = int(hold.name.removeprefix("hold="))
    assert [f["test"] for f in truth["frames"]] == [i % every == 0 for i in range(len(truth["frames"]))]
    assert sum(not f["test"] for f in truth["frames"]) == 20


def test_lens_is_stated_consistently(truth):
    assert truth["K"] == pytest.approx(truth["aperture_diameter"] * truth["fx"])
    focus = [f["focus_distance"] for f in truth["frames"] if not f["test"]]
    assert all(f["focus_distance"] is None for f in truth["frames"] if f["test"])
    assert len(set(focus)) == len(focus)
    blur = truth["K"] * (1 / min(focus) - 1 / max(focus))
    assert 8 < blur < 12


def test_poses_are_rigid(truth):
    for frame in truth["frames"]:
        pose = np.array(frame["w2c"])
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        np.testing.assert_array_equal(pose[3], [0, 0, 0, 1])


def test_each_test_view_is_sharper_than_its_neighbours(truth):
    def detail(name: str) -> float:
        grey = np.asarray(Image.open(DEMO / "images" / name).convert("L"), np.float32)
        return float(np.abs(np.diff(grey)).mean())

    sharp = [detail(f["name"]) for f in truth["frames"] if f["test"]]
    blurred = [detail(f["name"]) for f in truth["frames"] if not f["test"]]
    assert min(sharp) > 1.1 * max(blurred)


def test_colmap_model_agrees_with_the_truth(truth, model):
    images = {image.name: image for image in model.images.values() if image.has_pose}
    assert sorted(images) == [f["name"] for f in truth["frames"]]
    (camera,) = model.cameras.values()
    assert (camera.width, camera.height) == (truth["width"], truth["height"])
    assert camera.mean_focal_length() == pytest.approx(truth["fx"], rel=0.02)

    true_poses = [np.array(f["w2c"]) for f in truth["frames"]]
    found = torch.from_numpy(centers([images[f["name"]].cam_from_world().matrix() for f in truth["frames"]]))
    true_centers = torch.from_numpy(centers(true_poses))
    similarity = align(found, true_centers)
    assert (similarity.apply(found) - true_centers).norm(dim=1).max() < 0.01  # of about a metre to the scene

    points = torch.from_numpy(np.stack([p.xyz for p in model.points3D.values()]))
    points = similarity.apply(points).numpy()
    assert len(points) > 500
    for frame, pose in zip(truth["frames"], true_poses, strict=True):
        depths = points @ pose[2, :3] + pose[2, 3]
        if frame["focus_distance"] is not None:
            assert depths.min() < frame["focus_distance"] < depths.max()


def test_script_still_plans_the_bundled_frames(truth, monkeypatch):
    monkeypatch.syspath_prepend(str(DEMO.parents[1] / "scripts"))
    import make_demo_scene  # pyright: ignore[reportMissingImports]

    again = make_demo_scene.truth(make_demo_scene.plan_frames(), truth["renderer"], truth["samples"])
    assert again["refocus"] == truth["refocus"]
    for ours, bundled in zip(again["frames"], truth["frames"], strict=True):
        assert ours["name"] == bundled["name"]
        assert ours["focus_distance"] == pytest.approx(bundled["focus_distance"])
        np.testing.assert_allclose(ours["w2c"], bundled["w2c"], atol=1e-12)
