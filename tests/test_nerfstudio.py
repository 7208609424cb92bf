"""transforms.json: axes, lenses, points, splits, and files that are broken."""

import json
import math
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from datasets import FOCAL, HEIGHT, WIDTH, make_cameras, make_nerfstudio, opengl_pose, write_photos
from PIL import Image

from cocogs.errors import InputError
from cocogs.io import nerfstudio, prepare
from cocogs.io.photos import read_photo
from cocogs.scene import Scene, open_scene


def _open(data: Path, tmp_path: Path, **options) -> Scene:
    return open_scene(data, tmp_path / "cache", say=lambda line: None, **options)


def _edit(data: Path, frame: dict | None = None, **settings) -> None:
    """Change entries of transforms.json, of the file or of its first frame; None removes."""
    path = data / "transforms.json"
    content = json.loads(path.read_text())
    for place, changes in ((content, settings), (content["frames"][0], frame or {})):
        for key, value in changes.items():
            place.pop(key, None)
            if value is not None:
                place[key] = value
    path.write_text(json.dumps(content))


def _write_ply(
    path: Path, count: int = 5, color: str = "u1", green: float = 51, far: float = 4
) -> np.ndarray:
    columns = [(axis, "f8") for axis in "xyz"] + [(channel, color) for channel in ("red", "green", "blue")]
    vertices = np.zeros(count, dtype=columns)
    vertices["x"], vertices["z"], vertices["green"] = np.arange(count), far, green
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(path)
    return vertices


@pytest.fixture(autouse=True)
def no_points_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for points in the photos, which takes seconds, finds none here; test_scene.py lets it."""
    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)


def test_poses_become_opencv(tmp_path: Path) -> None:
    cameras = make_nerfstudio(tmp_path)
    scene = _open(tmp_path, tmp_path)
    assert [view.name for view in scene.views] == ["000.png", "001.png", "002.png", "003.png"]
    for view, camera in zip(scene.views, cameras, strict=True):
        assert torch.allclose(view.camera.cam_from_world, camera.cam_from_world, atol=1e-12)
        assert torch.allclose(view.camera.intrinsics, camera.intrinsics)


def test_points_come_from_the_ply_file(tmp_path: Path) -> None:
    make_nerfstudio(tmp_path, ply_file_path="points.ply")
    vertices = _write_ply(tmp_path / "points.ply")
    scene = _open(tmp_path, tmp_path)
    assert np.array_equal(scene.points[:, 0], vertices["x"])
    assert torch.allclose(scene.point_colors, torch.tensor([0, 0.2, 0]).expand(5, 3))


@pytest.mark.parametrize("color, green", [("f4", 0.2), ("f8", 0.2), ("u1", 51), ("i4", 51)])
def test_colors_of_points_are_fractions_or_bytes(tmp_path: Path, color: str, green: float) -> None:
    make_nerfstudio(tmp_path, ply_file_path="points.ply")
    _write_ply(tmp_path / "points.ply", color=color, green=green)
    source, _ = nerfstudio.read_transforms(tmp_path / "transforms.json")
    assert source.point_colors is not None
    assert torch.allclose(source.point_colors, torch.tensor([0, 0.2, 0]).expand(5, 3))


def test_without_points_they_are_drawn_before_the_cameras(tmp_path: Path) -> None:
    cameras = make_nerfstudio(tmp_path)
    scene = _open(tmp_path, tmp_path)
    assert len(scene.points) == 20_000
    for camera in cameras:
        assert (camera.depths(scene.points.double()) > 0).float().mean() > 0.9


def test_drawn_points_know_nothing_of_test_photos(tmp_path: Path) -> None:
    """Those are red all over here."""
    make_nerfstudio(tmp_path)
    for name in ("000.png", "002.png"):
        Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).save(tmp_path / "images" / name)
    red = torch.tensor([1.0, 0.0, 0.0])
    assert (_open(tmp_path, tmp_path).point_colors == red).all(1).any()
    assert not (_open(tmp_path, tmp_path, test_every=2).point_colors == red).all(1).any()


def test_angle_of_view_gives_the_focal_length(tmp_path: Path) -> None:
    make_nerfstudio(tmp_path)
    angle = 2 * math.atan(WIDTH / (2 * FOCAL))
    _edit(tmp_path, fl_x=None, fl_y=None, cx=None, cy=None, w=None, h=None, camera_angle_x=angle)
    camera = _open(tmp_path, tmp_path).views[0].camera
    expected = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]]).double()
    assert torch.allclose(camera.intrinsics, expected)


def test_a_frame_may_have_its_own_lens(tmp_path: Path) -> None:
    make_nerfstudio(tmp_path)
    _edit(tmp_path, frame={"fl_x": 300.0, "fl_y": 310.0})
    first, second = (view.camera for view in _open(tmp_path, tmp_path).views[:2])
    assert (first.fx, first.fy) == (300.0, 310.0)
    assert (second.fx, second.fy) == (FOCAL, FOCAL)


@pytest.mark.parametrize(
    "settings, model",
    [
        ({"k1": 0.05, "p2": 0.001}, "OPENCV"),
        ({"k1": 0.05, "k3": 0.01}, "FULL_OPENCV"),
        ({"k1": 0.02, "k4": 0.001, "camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE"),
        ({"k1": 0.02, "is_fisheye": True}, "OPENCV_FISHEYE"),
        ({"k1": 0.05, "is_fisheye": False, "camera_model": "SIMPLE_RADIAL"}, "OPENCV"),
        ({"k1": 0.0, "camera_model": "OPENCV"}, "PINHOLE"),
    ],
)
def test_distortion_becomes_a_colmap_model_and_is_removed(tmp_path: Path, settings: dict, model: str) -> None:
    make_nerfstudio(tmp_path, **settings)
    source, _ = nerfstudio.read_transforms(tmp_path / "transforms.json")
    assert source.shots[0].intrinsics.model == model
    scene = _open(tmp_path, tmp_path)
    view = scene.views[0]
    same = np.array_equal(
        prepare.open_pixels(view.image_path).transpose(1, 2, 0), read_photo(view.original.path)
    )
    assert same == (model == "PINHOLE")


@pytest.mark.parametrize(
    "settings",
    [
        {"test_filenames": ["images/001.png"]},
        {"train_filenames": ["images/000.png", "images/002.png", "images/003.png"]},
        {"train_filenames": ["images/000.png"], "test_filenames": ["./images/001.png"]},
    ],
)
def test_split_of_the_file_is_used(tmp_path: Path, settings: dict) -> None:
    make_nerfstudio(tmp_path, **settings)
    assert [view.name for view in _open(tmp_path, tmp_path).test_views] == ["001.png"]
    assert [view.name for view in _open(tmp_path, tmp_path, test_every=3).test_views] == [
        "000.png",
        "003.png",
    ]


def test_blender_scenes_come_in_two_files(tmp_path: Path) -> None:
    cameras = make_cameras(5)
    for part, chosen in (("train", cameras[:3]), ("test", cameras[3:])):
        names = write_photos(tmp_path / part, chosen)
        frames = [
            {"file_path": f"./{part}/{Path(name).stem}", "transform_matrix": opengl_pose(camera)}
            for name, camera in zip(names, chosen, strict=True)
        ]
        content = {"camera_angle_x": 1.0, "frames": frames}
        (tmp_path / f"transforms_{part}.json").write_text(json.dumps(content))
    scene = _open(tmp_path, tmp_path)
    assert [view.name for view in scene.test_views] == ["test/000", "test/001"]
    assert [view.name for view in scene.train_views] == ["train/000", "train/001", "train/002"]


def _refused(data: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _open(data, data)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"frames": []}', '{"frames": 3}', "\udcff"])
def test_broken_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "transforms.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    _refused(tmp_path, r"transforms\.json .*(export it again|copy or export)")


@pytest.mark.parametrize("opening", ["[", '{"frames":'])
def test_absurdly_nested_files_are_refused(tmp_path: Path, opening: str) -> None:
    (tmp_path / "transforms.json").write_text(opening * 100_000)
    _refused(tmp_path, r"transforms\.json cannot be read")


@pytest.mark.parametrize(
    "entry", [3, {}, {"file_path": 5}, {"file_path": ""}, {"file_path": "/"}, {"file_path": "."}]
)
def test_frames_without_a_file_are_refused(tmp_path: Path, entry: object) -> None:
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [entry]}))
    _refused(tmp_path, r'transforms\.json has a frame without "file_path"')


@pytest.mark.parametrize(
    "settings, frame, message",
    [
        ({"fl_x": None, "fl_y": None}, {}, r'"camera_angle_x" of 000\.png is missing'),
        ({"fl_x": "wide"}, {}, r'"fl_x" of 000\.png is missing or not a number'),
        ({"fl_x": -3.0}, {}, r"focal length or the principal point of 000\.png is impossible"),
        ({"fl_x": 10**400}, {}, r'"fl_x" of 000\.png is missing or not a number'),
        ({"fl_x": 1e300}, {}, r'"fl_x" of 000\.png is missing or not a number'),
        (
            {"fl_x": None, "camera_angle_x": 5e-324},
            {},
            r"focal length or the principal point of 000\.png is impossible",
        ),
        ({"w": 0}, {}, r"size of 000\.png is 0x180"),
        ({"w": 1e9}, {}, r"size of 000\.png is 1000000000x180"),
        ({"camera_model": "EQUIRECTANGULAR"}, {}, r"lens of 000\.png \(EQUIRECTANGULAR\) is neither"),
        ({}, {"camera_model": "FISHEYE624"}, r"lens of 000\.png \(FISHEYE624\) .*export it again"),
        ({"camera_model": 7}, {}, r"lens of 000\.png \(7\) is neither perspective nor OPENCV_FISHEYE"),
        ({"ftheta_p0": 0.0}, {}, r"lens of 000\.png \(ftheta_p0\) is neither"),
        ({}, {"mask_path": "gone.png"}, r"gone\.png is not a file but .*transforms\.json names it as a mask"),
        ({}, {"mask_path": 5}, r"5 is not a file but .* names it as a mask"),
        ({"k4": 0.1}, {}, r'"k4" is only known for OPENCV_FISHEYE'),
        ({"test_filenames": "all"}, {}, r'"test_filenames" is not a list'),
        ({"test_filenames": ["images/01.png"]}, {}, r'"test_filenames" names 01\.png, which is not among'),
        ({"train_filenames": ["000.png", "2.png"]}, {}, r'"train_filenames" names 2\.png, which is not'),
        ({"is_fisheye": "false"}, {}, r'"is_fisheye" of 000\.png is not true or false'),
        ({"is_fisheye": 1}, {}, r'"is_fisheye" of 000\.png is not true or false'),
        ({}, {"cx": 1e30}, r"the principal point of 000\.png is impossible"),
        ({}, {"fl_x": 1e30}, r"the focal length or the principal point of 000\.png is impossible"),
        ({}, {"fl_y": 1e-30}, r"the focal length or the principal point of 000\.png is impossible"),
        ({}, {"transform_matrix": None}, r'"transform_matrix" of 000\.png is not a rigid pose'),
        ({}, {"transform_matrix": [[1, 2], [3, 4]]}, r'"transform_matrix" of 000\.png'),
        ({}, {"transform_matrix": np.zeros((4, 4)).tolist()}, r'"transform_matrix" of 000\.png'),
        ({}, {"transform_matrix": np.full((4, 4), np.nan).tolist()}, r'"transform_matrix" of 000\.png'),
        ({}, {"transform_matrix": (2 * np.eye(4)).tolist()}, r'"transform_matrix" of 000\.png'),
        ({}, {"transform_matrix": [[1, 0, 0, 1e300], *np.eye(3, 4, 1).tolist()]}, r"is not a rigid pose"),
        ({}, {"transform_matrix": [[1, 0, 0, 10**400]] * 3}, r"is not a rigid pose"),
        ({}, {"file_path": "images/gone.png"}, r"gone\.png does not exist but .*transforms\.json names it"),
        ({}, {"file_path": "x" * 300}, r"x does not exist but .*transforms\.json names it"),
        ({}, {"file_path": "images/001.png"}, r"names photo 001\.png twice"),
        ({"ply_file_path": "gone.ply"}, {}, r"gone\.ply cannot be read as coloured points"),
    ],
)
def test_impossible_entries_are_refused(tmp_path: Path, settings: dict, frame: dict, message: str) -> None:
    make_nerfstudio(tmp_path)
    _edit(tmp_path, frame, **settings)
    _refused(tmp_path, message)


def test_broken_and_empty_ply_files_are_refused(tmp_path: Path) -> None:
    make_nerfstudio(tmp_path, ply_file_path="points.ply")
    (tmp_path / "points.ply").write_text("not a ply")
    _refused(tmp_path, r"points\.ply cannot be read as coloured points")
    (tmp_path / "points.ply").write_text("ply\nformat ascii 1.0\nproperty float x\nend_header\n")
    _refused(tmp_path, r"points\.ply cannot be read as coloured points")
    _write_ply(tmp_path / "points.ply", count=0)
    _refused(tmp_path, r"points\.ply holds no points")
    _write_ply(tmp_path / "points.ply", far=1e300)
    _refused(tmp_path, r"points\.ply holds no points or some not finite")
    for color, green in (("u2", 65535), ("f4", 51), ("f4", float("nan"))):
        _write_ply(tmp_path / "points.ply", color=color, green=green)
        _refused(tmp_path, r"points\.ply holds colours that are neither fractions of 1 nor whole numbers")
