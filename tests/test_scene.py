"""open_scene: what it recognises, sizes, split, masks, memory; and what it refuses."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pycolmap
import pytest
import torch
from conftest import SHARED_DATA
from datasets import (
    HEIGHT,
    WIDTH,
    make_cameras,
    make_colmap,
    make_llff,
    make_nerfstudio,
    room_points,
    take_photo,
    write_colmap,
    write_photos,
)
from PIL import ExifTags, Image

from cocogs.camera import Camera, pose_at
from cocogs.errors import InputError
from cocogs.io import photos
from cocogs.scene import Scene, open_scene, opening
from cocogs.scene.frame import offset_of
from cocogs.scene.split import named


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COLMAP project of four pinhole photos."""
    make_colmap(tmp_path / "data")
    return tmp_path / "data"


def _open(data: Path, **options) -> tuple[Scene, list[str]]:
    said: list[str] = []
    return open_scene(data, data.parent / "cache", say=said.append, **options), said


def _refused(data: Path, message: str, **options) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _open(data, **options)
    assert str(caught.value).count("\n") == 0


def _picture(data: Path, index: int) -> torch.Tensor:
    """(3, H, W) truth of a photo."""
    pixels = photos.read_photo(data / "images" / f"{index:03d}.png")
    return torch.from_numpy(photos.to_float(pixels)).permute(2, 0, 1)


# --- What a scene holds ------------------------------------------------------------------------------------


def test_a_colmap_project_at_full_size(data: Path) -> None:
    scene, said = _open(data)
    assert [view.name for view in scene.views] == ["000.png", "001.png", "002.png", "003.png"]
    for index, (view, camera) in enumerate(zip(scene.views, make_cameras(4), strict=True)):
        assert view.original.path == data / "images" / view.name
        assert (
            torch.allclose(view.camera.intrinsics, camera.intrinsics)
            and view.camera.intrinsics.dtype == torch.float64
        )
        assert torch.allclose(view.camera.cam_from_world, camera.cam_from_world)
        assert (view.camera.width, view.camera.height) == (WIDTH, HEIGHT)
        assert torch.equal(scene.photo(view), _picture(data, index))
        assert scene.mask(view) is None
    assert scene.points.shape == scene.point_colors.shape == (50, 3)
    assert scene.train_views == scene.views and scene.test_views == []
    assert any("training at 240x180" in line for line in said)


def test_downscale_averages_areas_and_scales_the_camera(data: Path) -> None:
    scene, said = _open(data, downscale=3)
    view = scene.views[1]
    assert (view.camera.width, view.camera.height) == (80, 60)
    assert torch.allclose(view.camera.intrinsics[:2], make_cameras(4)[1].intrinsics[:2] / 3)
    expected = torch.nn.functional.avg_pool2d(_picture(data, 1), 3)
    assert (scene.photo(view) - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert any("training at 80x60." in line for line in said)


@pytest.mark.thorough
def test_automatic_downscale_is_said_aloud(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_nerfstudio(data)
    for path in (data / "images").iterdir():
        Image.open(path).resize((4 * WIDTH, 4 * HEIGHT)).save(path)
    scene, said = _open(data)
    assert (scene.views[0].camera.width, scene.views[0].camera.height) == (480, 360)
    assert any("960x720" in line and "480x360 (`downscale` 1 for full size)" in line for line in said)


def test_distorted_photos_are_undistorted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    lens = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=[220.0, 123, 88, 0.05])
    make_colmap(data, lens=lens)
    scene, said = _open(data)
    view = scene.views[0]
    assert view.image_path.parent == tmp_path / "cache" / "photos"
    assert any("undistorted" in line for line in said)
    distorted = pycolmap.Bitmap.from_array(photos.read_photo(data / "images" / "000.png"))
    theirs, camera = pycolmap.undistort_image(pycolmap.UndistortCameraOptions(), distorted, lens)
    assert np.allclose([view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy], camera.params)
    # pycolmap samples bilinearly, which softens: the same picture but for its finest detail.
    difference = scene.photo(view) * 255 - torch.from_numpy(theirs.to_array()).permute(2, 0, 1)
    assert torch.nn.functional.avg_pool2d(difference, 8).abs().mean() < 1
    monkeypatch.setattr(photos, "read_photo", None)
    again, _ = _open(data)
    assert again.views[0].image_path == view.image_path


def test_undistorted_and_shrunk_pixels_stay_square(tmp_path: Path) -> None:
    lens = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=[220.0, 123, 88, 0.05])
    make_colmap(tmp_path / "data", lens=lens)
    scene, _ = _open(tmp_path / "data", downscale=4)
    assert scene.views[0].camera.fx == scene.views[0].camera.fy == pytest.approx(55)
    full, _ = _open(tmp_path / "data", downscale=1)
    fine, coarse = full.photo(full.views[0]), scene.photo(scene.views[0])
    rows, columns = (size // 4 for size in fine.shape[1:])
    averaged = torch.nn.functional.avg_pool2d(fine, 4)[:, :rows, :columns]
    assert (averaged - coarse[:, :rows, :columns]).abs().mean() < 0.01


def test_a_changed_photo_is_prepared_anew(data: Path) -> None:
    before, _ = _open(data, downscale=2)
    Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)).save(data / "images" / "000.png")
    after, _ = _open(data, downscale=2)
    assert before.views[0].image_path != after.views[0].image_path
    assert torch.allclose(after.photo(after.views[0]).amax(dim=(1, 2)), torch.tensor([1.0, 0.0, 0.0]))


def test_sixteen_bit_photos_stay_deep(data: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    photos.write_png(data / "images" / "000.png", deep)
    scene, _ = _open(data, downscale=2)
    expected = torch.nn.functional.avg_pool2d(_picture(data, 0), 2)
    assert (scene.photo(scene.views[0]) - expected).abs().max() <= 0.5 / 65535 + 1e-6


def test_extent_is_measured_over_training_cameras(data: Path) -> None:
    scene, _ = _open(data, test_every=3)
    positions = torch.stack([camera.position for camera in make_cameras(4)[1:3]])
    assert scene.extent == pytest.approx(1.1 * float((positions[0] - positions[1]).norm()) / 2)


def test_extent_of_cameras_in_one_place_is_above_zero(data: Path) -> None:
    scene, _ = _open(data)
    still = [scene.views[0], scene.views[0]]
    assert Scene(still, scene.points, scene.point_colors, False, data).extent > 1
    here = scene.views[0].camera.position[None].float()
    assert Scene(still, here, scene.point_colors[:1], False, data).extent > 0


def test_fingerprint_tells_datasets_and_splits_apart(data: Path) -> None:
    prints = {
        _open(data, **options)[0].fingerprint() for options in ({}, {"downscale": 2}, {"test_every": 2})
    }
    assert len(prints) == 3
    assert _open(data)[0].fingerprint() in prints


def test_fingerprint_knows_a_camera_computed_anew(data: Path) -> None:
    """Another library rounds the last bit otherwise; a camera that moved is another."""
    scene, _ = _open(data)

    def with_pose_times(factor: float) -> str:
        camera = scene.views[1].camera
        moved = replace(camera, cam_from_world=camera.cam_from_world * factor)
        views = [scene.views[0], replace(scene.views[1], camera=moved), *scene.views[2:]]
        return replace(scene, views=views).fingerprint()

    assert with_pose_times(1 + 1e-15) == scene.fingerprint() != with_pose_times(1 + 1e-6)


def test_lens_facts_are_those_of_the_original_photo(data: Path) -> None:
    image = Image.open(data / "images" / "000.png")
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FNumber: 2.5}
    image.save(data / "images" / "000.png", exif=exif)
    scene, _ = _open(data, downscale=2)
    assert scene.views[0].lens.f_number == 2.5
    assert scene.views[1].lens.f_number is None


def test_the_photos_used_last_stay_in_memory(data: Path) -> None:
    size = 3 * 4 * WIDTH * HEIGHT
    scene = replace(_open(data)[0], memory_budget=int(2.5 * size))
    first, second, third, _ = scene.views
    kept = scene.photo(first)
    assert scene.photo(second) is scene.photo(second) and scene.photo(first) is kept
    scene.photo(third)  # the second one was used least recently
    assert [scene.is_at_hand(view) for view in scene.views] == [True, False, True, False]
    assert torch.equal(scene.photo(second), _picture(data, 1))
    tight = replace(_open(data)[0], memory_budget=size - 1)
    assert tight.photo(first) is not tight.photo(first)


def test_prepared_photos_are_made_once_and_anew_where_damaged(data: Path) -> None:
    scene, _ = _open(data)
    before = {view.image_path: view.image_path.stat().st_mtime_ns for view in scene.views}
    broken = scene.views[2].image_path
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged: remove it"):
        scene.photo(scene.views[2])
    again, _ = _open(data)
    after = {view.image_path: view.image_path.stat().st_mtime_ns for view in again.views}
    assert {path for path in before if before[path] != after[path]} == {broken}
    assert torch.equal(again.photo(again.views[2]), _picture(data, 2))
    broken.unlink()
    with pytest.raises(InputError, match="is gone: run the command again"):
        scene.photo(scene.views[2])


def test_a_prepared_photo_is_read_without_the_parser_of_python(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails at times where threads read at once; numpy's own reader uses it."""
    scene, _ = _open(data)

    def fails(*args: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr("ast.parse", fails)
    assert torch.equal(scene.photo(scene.views[1]), _picture(data, 1))


def test_the_disk_that_photos_take_is_said_beforehand(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "TELL_DISK", 1)
    free = shutil.disk_usage(data)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=4 * 3 * WIDTH * HEIGHT - 1))
    _refused(data, r"cache/photos would take 1 MB of disk, .* free space, .* a larger `downscale`")
    assert not (data.parent / "cache").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free._replace(free=4 * 3 * WIDTH * HEIGHT))
    _, said = _open(data)
    assert any(line.startswith("Preparing the photos takes 1 MB of disk in ") for line in said)
    _, said = _open(data)
    assert not any("MB of disk" in line for line in said), "they are there"


# --- Where a scene lies in its world -----------------------------------------------------------------------


def _in_another_frame(cameras: list[Camera], scale: float, shift: torch.Tensor) -> list[Camera]:
    """The cameras after the world was scaled and then shifted."""
    moved = []
    for camera in cameras:
        pose = pose_at(camera.cam_from_world[:3, :3], camera.position * scale + shift)
        moved.append(replace(camera, cam_from_world=pose))
    return moved


@pytest.mark.parametrize("kind", ["COLMAP", "COLMAP text", "nerfstudio", "LLFF"])
def test_a_far_origin_costs_no_precision(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Georeferenced coordinates in metres: float32 would round them to half a metre."""
    shift = torch.tensor([500_000.0, 5_200_000.0, 300.0], dtype=torch.float64)
    georeferenced = _in_another_frame(make_cameras(4), 1, shift)
    monkeypatch.setattr("datasets.make_cameras", lambda count: georeferenced)
    monkeypatch.setattr("datasets.room_points", lambda: room_points() + shift)
    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)
    make = {
        "COLMAP": make_colmap,
        "COLMAP text": lambda data: make_colmap(data, text=True),
        "nerfstudio": make_nerfstudio,
        "LLFF": make_llff,
    }[kind]
    make(tmp_path / "data")
    scene, said = _open(tmp_path / "data")
    assert torch.equal(scene.offset, shift), "a whole number of metres"
    for view, camera in zip(scene.views, make_cameras(4), strict=True):
        assert (view.camera.position - camera.position).abs().max() < 1e-7
    if kind.startswith("COLMAP"):
        order, expected = scene.points[:, 0].argsort(), room_points()
        expected = expected[expected[:, 0].argsort()]
        assert (scene.points[order] - expected).abs().max() < 1e-6
    else:
        assert float(scene.points.abs().max()) < 20, "random points lie where the cameras look"
    assert any("the scene is moved by (500000, 5200000, 300)" in line for line in said)


def test_an_ordinary_origin_stays(data: Path) -> None:
    scene, said = _open(data)
    assert scene.offset.dtype == torch.float64 and not scene.offset.any()
    assert not any(line.startswith("The origin") for line in said)


@pytest.mark.parametrize("far, moves", [(16.0, False), (18.0, True)])
def test_the_origin_moves_where_float32_would_lose_a_millionth(far: float, moves: bool) -> None:
    positions = torch.tensor([[-1.0, 0, 0], [1, 0, 0]], dtype=torch.float64) / 1.1  # of size 1
    positions[:, 1] = far
    assert bool(offset_of(positions, None).any()) == moves
    exact = positions - offset_of(positions, None)
    assert (exact.float() - exact).abs().max() <= 1e-6
    assert bool((positions.float() - positions).abs().max() <= 1e-6) or moves


@pytest.mark.thorough
@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_length_does_not_matter(tmp_path: Path, scale: float, points: bool) -> None:
    opened = []
    for factor in (1.0, scale):
        data = tmp_path / str(factor)
        cameras = make_cameras(4)
        names = write_photos(data / "images", cameras)
        moved = _in_another_frame(cameras, factor, torch.zeros(3))
        write_colmap(data / "sparse", moved, names, points=factor * room_points() if points else [])
        opened.append(open_scene(data, data / "cache", say=lambda line: None))
    one, other = opened
    assert other.extent == pytest.approx(scale * one.extent)
    assert len(one.points) == len(other.points) >= 50
    errors = (other.points / scale - one.points).norm(dim=1)
    # pycolmap stops refining at tolerances that depend a little on the unit.
    assert float(errors.quantile(1.0 if points else 0.9)) < (2e-6 if points else 5e-3)
    for ours, theirs in zip(one.views, other.views, strict=True):
        assert theirs.camera.near == pytest.approx(scale * ours.camera.near, rel=1e-3)
        assert torch.allclose(theirs.camera.position / scale, ours.camera.position)


def test_the_near_plane_is_a_thousandth_of_the_typical_depth(data: Path) -> None:
    scene, _ = _open(data)
    depths = torch.cat([view.camera.depths(scene.points) for view in scene.views])
    assert {view.camera.near for view in scene.views} == {scene.views[0].camera.near}
    assert scene.views[0].camera.near == pytest.approx(1e-3 * float(depths.median()), rel=0.1)


def test_cameras_in_one_place_show_no_parallax(tmp_path: Path) -> None:
    still = _in_another_frame(make_cameras(4), 0, torch.tensor([0.1, 0, 0]))
    write_colmap(tmp_path / "data" / "sparse", still, write_photos(tmp_path / "data" / "images", still))
    _, said = _open(tmp_path / "data")
    assert any(line.startswith("The photos show hardly any parallax (0 degrees)") for line in said)


def test_cameras_in_one_place_find_no_points(tmp_path: Path) -> None:
    """They differ by rounding: what is triangulated from that is no scene."""
    still = _in_another_frame(make_cameras(4), 0, torch.tensor([0.1, 2.3, 4.5]))
    names = write_photos(tmp_path / "data" / "images", still)
    write_colmap(tmp_path / "data" / "sparse", still, names, points=[])
    _refused(tmp_path / "data", "all cameras stand in one place")


def test_photos_left_in_one_place_are_refused(tmp_path: Path) -> None:
    """Others stand elsewhere, but are kept for testing."""
    still = _in_another_frame(make_cameras(4), 0, torch.tensor([0.1, 2.3, 4.5]))[:3] + make_cameras(4)[3:]
    names = write_photos(tmp_path / "data" / "images", still)
    write_colmap(tmp_path / "data" / "sparse", still, names, points=[])
    _refused(tmp_path / "data", "left to train on are all from one place", test=names[3])


def test_photos_of_long_names_are_prepared(tmp_path: Path) -> None:
    cameras, names = make_cameras(3), [f"{'x' * 240}{index}.png" for index in range(3)]
    for before, after in zip(write_photos(tmp_path / "data" / "images", cameras), names, strict=True):
        (tmp_path / "data" / "images" / before).rename(tmp_path / "data" / "images" / after)
    write_colmap(tmp_path / "data" / "sparse", cameras, names)
    scene, _ = _open(tmp_path / "data")
    assert [view.name for view in scene.views] == names and all(v.image_path.is_file() for v in scene.views)


def test_a_colmap_model_without_points_gets_some(tmp_path: Path) -> None:
    cameras = make_cameras(4)
    data = tmp_path / "data"
    write_colmap(data / "sparse", cameras, write_photos(data / "images", cameras), points=[])
    scene, said = _open(data)
    walls = torch.stack([scene.points[:, 2] - 4, scene.points[:, 1] - 1, scene.points[:, 0] + 1.5])
    assert len(scene.points) > 100 and float(walls.abs().amin(0).median()) < 0.05 and not scene.drawn
    assert any(line.endswith("points found.") for line in said)
    assert not any("parallax" in line for line in said)


def test_photos_that_share_nothing_get_random_points_aloud(tmp_path: Path) -> None:
    cameras = make_cameras(3)
    data = tmp_path / "data"
    write_colmap(data / "sparse", cameras, write_photos(data / "images", cameras), points=[])
    random = np.random.default_rng(0)
    for path in (data / "images").iterdir():
        Image.fromarray(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(path)
    scene, said = _open(data)
    assert scene.drawn and any("points are drawn at random" in line for line in said)
    for name in ("000.png", "001.png", "002.png"):
        _write_mask(data / "masks" / name)
    masked, _ = _open(data)
    assert masked.drawn and len(masked.points) == len(scene.points)
    left = [camera.project(masked.points)[0][:, 0] < WIDTH / 2 + 1 for camera in cameras]
    assert bool(torch.stack(left).any(dim=0).all()), "each lies before the white half of a photo"


def test_the_largest_model_is_taken_and_the_others_are_named(data: Path) -> None:
    (data / "sparse" / "0").rename(data / "sparse" / "1")
    write_colmap(data / "sparse" / "0", make_cameras(4)[:2], ["000.png", "001.png"])
    scene, said = _open(data)
    assert len(scene.views) == 4
    assert any("sparse/1;" in line and "sparse/0 (2 photos) is not used" in line for line in said)


def test_photos_of_several_sizes_are_announced_as_such(tmp_path: Path) -> None:
    cameras = make_cameras(4)
    cameras[1:3] = [camera.resized(2 * WIDTH, 2 * HEIGHT) for camera in cameras[1:3]]
    write_colmap(tmp_path / "data" / "sparse", cameras, write_photos(tmp_path / "data" / "images", cameras))
    _, said = _open(tmp_path / "data")
    assert any("4 photos of 240x180 to 480x360 px" in line for line in said)
    assert any("training at 240x180 to 480x360." in line for line in said)


# --- Where photos lie and how they are turned ---------------------------------------------------------------


def test_points_are_found_where_only_cameras_are_given(tmp_path: Path) -> None:
    make_llff(tmp_path / "data")
    scene, said = _open(tmp_path / "data", test_every=4)
    walls = torch.stack([scene.points[:, 2] - 4, scene.points[:, 1] - 1, scene.points[:, 0] + 1.5])
    assert len(scene.points) > 100 and float(walls.abs().amin(0).median()) < 0.05 and not scene.drawn
    assert any(line.endswith("points found.") for line in said)


def test_photos_beside_the_model_without_an_images_folder(data: Path) -> None:
    for path in (data / "images").iterdir():
        path.rename(data / path.name)
    (data / "images").rmdir()
    assert len(_open(data)[0].views) == 4


def test_photos_in_subfolders(tmp_path: Path) -> None:
    cameras = make_cameras(2)
    for folder in ("left", "right"):
        write_photos(tmp_path / "data" / "images" / folder, cameras[:1])
    write_colmap(tmp_path / "data" / "sparse", cameras, ["left/000.png", "right/000.png"])
    scene, _ = _open(tmp_path / "data", downscale=2)
    assert [view.name for view in scene.views] == ["left/000.png", "right/000.png"]
    assert scene.views[0].image_path != scene.views[1].image_path


def test_photos_of_one_name_in_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    """images_4 has one 000.png, and nothing says whose."""
    cameras = make_cameras(2)
    data = tmp_path / "data"
    for folder in ("left", "right"):
        write_photos(data / "images" / folder, cameras[:1])
    write_photos(data / "images_4", cameras[:1])
    write_colmap(data / "sparse", cameras, ["left/000.png", "right/000.png"])
    _refused(data, "images_4 lacks left/000.png, right/000.png", downscale=4)


def test_smaller_copies_are_used_when_they_fit(tmp_path: Path) -> None:
    """NeRF-LLFF's images_4 are numbered whatever the photos are called."""
    data = tmp_path / "data"
    make_colmap(data)
    (data / "images_4").mkdir()
    for index, camera in enumerate(make_cameras(4)):
        small = Image.fromarray(take_photo(camera)).resize((WIDTH // 4, HEIGHT // 4))
        small.save(data / "images_4" / f"image{index:03d}.png")
    scene, said = _open(data, downscale=4)
    assert scene.views[2].original.path == data / "images_4" / "image002.png"
    assert scene.views[2].name == "002.png"
    assert scene.views[0].camera.fx == pytest.approx(220 / 4)
    assert any("images_4" in line for line in said)
    assert _open(data)[0].views[0].camera.width == WIDTH, "far smaller copies are not taken unasked"
    assert _open(data, downscale=2)[0].views[0].camera.width == WIDTH // 2
    assert _open(data, downscale=8)[0].views[0].camera.width == WIDTH // 8
    for path in (data / "images").iterdir():
        path.unlink()
    assert _open(data, downscale=8)[0].views[0].camera.width == WIDTH // 8
    assert _open(data)[0].views[0].camera.width == WIDTH // 4
    _refused(data, "only holds photos already shrunk by 4: set `downscale` to 4 or more", downscale=2)


def test_the_colmap_model_wins_over_other_cameras(data: Path) -> None:
    make_llff(data)
    scene, said = _open(data)
    assert scene.views[0].camera.cx == make_cameras(4)[0].cx
    assert any("sparse/0" in line and "poses_bounds.npy is not used" in line for line in said)


def test_copies_of_a_suitable_size_are_taken_unasked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_colmap(data)
    for path in (data / "images").iterdir():
        small = data / "images_2" / path.name
        small.parent.mkdir(exist_ok=True)
        Image.open(path).resize((2 * WIDTH, 2 * HEIGHT)).save(small)
        Image.open(path).resize((4 * WIDTH, 4 * HEIGHT)).save(path)
    scene, said = _open(data)
    assert scene.views[0].original.path == data / "images_2" / "000.png"
    assert any("images_2; training at 480x360." in line for line in said)


@pytest.mark.parametrize("as_stored", [True, False])
def test_turned_photos_match_the_orientation_of_their_cameras(data: Path, as_stored: bool) -> None:
    """COLMAP reads pixels as stored; other tools turn them first. The picture's shape tells which."""
    path = data / "images" / "000.png"
    image = Image.open(path)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    expected = _picture(data, 0)
    (image if as_stored else image.transpose(Image.Transpose.ROTATE_90)).save(path, exif=exif)
    scene, _ = _open(data)
    assert torch.equal(scene.photo(scene.views[0]), expected)


# --- The split ---------------------------------------------------------------------------------------------


def test_every_nth_photo_from_the_first_is_for_testing(data: Path) -> None:
    scene, _ = _open(data, test_every=3)
    assert [view.name for view in scene.test_views] == ["000.png", "003.png"]
    assert [view.name for view in scene.train_views] == ["001.png", "002.png"]


def test_photos_for_testing_are_named(data: Path) -> None:
    def tests(names: str) -> list[str]:
        return [view.name for view in _open(data, test=names)[0].test_views]

    assert tests("001.png") == ["001.png"]
    assert tests("00[14].png, *3.png") == ["001.png", "003.png"]
    _refused(data, r"`test` 7\.png: .* has no photo of this name", test="001.png,7.png")
    _refused(data, r"`test` \*\.png leaves no photo to train on", test="*.png")


def test_a_misspelt_photo_for_testing_is_told_before_cameras_are_found(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(data / "sparse")
    monkeypatch.setattr("cocogs.io.sfm.reconstruct", lambda *_, **__: pytest.fail("too late"))
    _refused(data, r"`test` NOPE\.png: .* has no photo of this name", test="NOPE.png")


def test_a_name_with_brackets_means_itself() -> None:
    names = {name: name for name in ("img[2].png", "img2.png", "z.png")}
    assert named(names, " img[2].png", Path("photos")) == {"img[2].png"}
    assert named(names, "img[12].png", Path("photos")) == {"img2.png"}


def test_a_hold_file_gives_the_split_and_the_option_wins(data: Path) -> None:
    (data / "hold=3").touch()
    assert [view.name for view in _open(data)[0].test_views] == ["000.png", "003.png"]
    assert [view.name for view in _open(data, test_every=4)[0].test_views] == ["000.png"]


@pytest.mark.parametrize("name", ["hold=0", "hold=-3", "hold=", "hold=x", "hold=2.5"])
def test_impossible_hold_files_are_refused(data: Path, name: str) -> None:
    (data / name).touch()
    _refused(data, f"{name} is not one hold=N with N at least 1")


def test_two_hold_files_are_refused(data: Path) -> None:
    (data / "hold=3").touch()
    (data / "hold=4").touch()
    _refused(data, "hold=3 is not one hold=N")


def test_a_split_without_training_photos_is_refused(data: Path) -> None:
    (data / "hold=1").touch()
    _refused(data, "hold=1 leaves no photo to train on")


def test_a_single_photo_to_train_on_is_refused(data: Path) -> None:
    _refused(data, "`test` 00.* leaves a single photo to train on", test="00[0-2].png")


def test_photos_that_are_too_small_as_they_are(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "SHORTEST_SIDE", 10**6)
    _refused(data, r"000\.png would be trained on at .* px, and each side needs .*: leave the photo out")


@pytest.mark.parametrize("value", [1, 0, -2])
def test_impossible_test_every_is_refused(data: Path, value: int) -> None:
    _refused(data, "`test_every` must be a whole number from 2", test_every=value)


# --- Masks -------------------------------------------------------------------------------------------------


def _write_mask(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """White in the left half."""
    path.parent.mkdir(exist_ok=True)
    mask = np.zeros((size[1], size[0]), dtype=np.uint8)
    mask[:, : size[0] // 2] = 255
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize("downscale", [1, 2])
def test_masks_are_found_by_both_names(data: Path, downscale: int) -> None:
    _write_mask(data / "masks" / "000.png")
    _write_mask(data / "masks" / "001.png.png")
    scene, _ = _open(data, downscale=downscale)
    for view in scene.views[:2]:
        mask = scene.mask(view)
        assert mask is not None
        assert mask.shape == (HEIGHT // downscale, WIDTH // downscale) and mask.dtype == torch.float32
        half = WIDTH // downscale // 2
        assert mask[:, :half].min() == 1 and mask[:, half:].max() == 0
    assert scene.mask(scene.views[2]) is None


def test_masks_are_undistorted_with_their_photos(tmp_path: Path) -> None:
    lens = pycolmap.Camera(model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=[220.0, 123, 88, 0.2])
    data = tmp_path / "data"
    make_colmap(data, lens=lens)
    for name in ("000.png", "001.png"):
        _write_mask(data / "masks" / name)
    Image.open(data / "masks" / "000.png").convert("RGB").save(data / "images" / "000.png")
    scene, _ = _open(data)
    mask, photo = scene.mask(scene.views[0]), scene.photo(scene.views[0])
    assert mask is not None and mask.shape == photo.shape[1:]
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert ((photo[0] >= 0.5) == (mask == 1)).float().mean() > 0.999


def test_black_masks_are_named(data: Path) -> None:
    """0 and 1 instead of 0 and 255 are as black."""
    ones = Image.fromarray(np.ones((HEIGHT, WIDTH), dtype=np.uint8))
    (data / "masks").mkdir()
    ones.save(data / "masks" / "001.png")
    _, said = _open(data)
    assert any("Black masks" in line and "001.png" in line for line in said)
    for name in ("000.png", "002.png", "003.png"):
        ones.save(data / "masks" / name)
    _refused(data, "All masks of .* are black: make white, 255, what is to be used")


def test_mask_of_another_size_is_refused(data: Path) -> None:
    _write_mask(data / "masks" / "002.png", size=(100, 90))
    _refused(data, r"masks/002\.png has 100x90 px but its photo has 240x180: make the mask as large")


def test_damaged_mask_is_refused(data: Path) -> None:
    _write_mask(data / "masks" / "002.png")
    (data / "masks" / "002.png").write_bytes(b"?")
    _refused(data, r"masks/002\.png cannot be read as a picture")


# --- What is refused ---------------------------------------------------------------------------------------


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "nowhere", "nowhere does not exist: name the folder that holds your photos")
    (tmp_path / "file.jpg").touch()
    _refused(tmp_path / "file.jpg", r"file\.jpg is not a folder")


def test_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").touch()
    _refused(tmp_path / "data", r"holds no photo \(JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW\)")


def test_single_photo_is_refused(tmp_path: Path) -> None:
    write_photos(tmp_path / "alone", make_cameras(1))
    _refused(tmp_path / "alone", "holds 1 photo: give at least 3")
    make_colmap(tmp_path / "data", count=1)
    _refused(tmp_path / "data", "has a single photo")


def test_model_naming_absent_photos_is_refused(data: Path) -> None:
    for index in (0, 1, 2, 3):
        (data / "images" / f"{index:03d}.png").rename(data / "images" / f"x{index}.png")
    _refused(data, r"images lacks 000\.png, 001\.png, 002\.png and 1 more.*copy the missing photos")


def test_model_without_an_images_folder_is_refused(data: Path) -> None:
    for path in (data / "images").iterdir():
        path.unlink()
    (data / "images").rmdir()
    _refused(data, "holds no images folder: put the photos")


def test_one_absent_photo_is_named(data: Path) -> None:
    (data / "images" / "002.png").unlink()
    _refused(data, r"images lacks 002\.png, which the cameras name")


def test_poses_without_photos_are_refused(tmp_path: Path) -> None:
    make_llff(tmp_path / "data")
    for path in (tmp_path / "data" / "images").iterdir():
        path.unlink()
    _refused(tmp_path / "data", "holds no photos: put them into")


def test_photo_of_another_shape_than_its_camera_is_refused(data: Path) -> None:
    Image.new("RGB", (200, 180)).save(data / "images" / "003.png")
    _refused(data, r"003\.png has 200x180 px but its camera was made for 240x180")


@pytest.mark.parametrize("downscale", [1, 2])
def test_truncated_photo_is_named_before_training(data: Path, downscale: int) -> None:
    path = data / "images" / "001.png"
    path.write_bytes(path.read_bytes()[:5000])
    _refused(data, r"001\.png cannot be read as a picture", downscale=downscale)


@pytest.mark.parametrize("downscale", [0, -1])
def test_impossible_downscale_is_refused(data: Path, downscale: int) -> None:
    _refused(data, "`downscale` must be a whole number from 1", downscale=downscale)


def test_downscale_that_leaves_nothing_is_refused(data: Path) -> None:
    _refused(
        data,
        r"000\.png would be trained on at 2x2 px, .*: leave the photo out, or use a smaller `downscale`",
        downscale=100,
    )


def test_broken_model_is_refused(data: Path) -> None:
    (data / "sparse" / "0" / "images.bin").write_bytes(b"garbage")
    _refused(data, r"sparse/0/images\.bin is truncated or not a COLMAP file")


def test_cache_that_cannot_be_written_is_refused(data: Path) -> None:
    (data.parent / "cache").touch()
    _refused(data, "cache/photos/.* cannot be written", downscale=2)


def test_full_disk_is_refused_and_leaves_nothing_half_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: BinaryIO, pixels: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        _refused(data, "cannot be written .*No space left on device.*free space", downscale=2)
    assert list((data.parent / "cache" / "photos").iterdir()) == []
    assert len(_open(data, downscale=2)[0].views) == 4


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared data is not here")
def test_the_ray_traced_scene_opens_without_its_truth(tmp_path: Path) -> None:
    scene = open_scene(
        SHARED_DATA / "truth/tiles", tmp_path, downscale=2, test_every=8, say=lambda line: None
    )
    assert [view.name for view in scene.test_views] == ["000.png", "008.png", "016.png", "024.png"]
    assert len(scene.train_views) == 22
    assert {(view.camera.width, view.camera.height) for view in scene.views} == {(300, 200)}
    assert scene.photo(scene.views[0]).shape == (3, 200, 300)
    assert len(scene.points) == 2265
