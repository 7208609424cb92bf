"""COLMAP models: parsing checked by pycolmap, undistortion, and files that are broken."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from conftest import SHARED_DATA
from datasets import make_cameras, room_points, write_colmap

import cocogs.io  # noqa: F401  (loads Pillow before pycolmap)
from cocogs.errors import InputError
from cocogs.io import colmap, undistort
from cocogs.io.source import Intrinsics, Source

CAMERAS = make_cameras(3)
NAMES = ["b.png", "a.png", "sub/c.png"]
PERSPECTIVE = [
    name for name in pycolmap.CameraModelId.__members__ if name not in ("INVALID", "EQUIRECTANGULAR")
]


def _lens(model: str) -> pycolmap.Camera:
    """A camera of 240 x 180 px with a little of every distortion its model has."""
    lens = pycolmap.Camera.create_from_model_name(0, model, 220.0, 240, 180)
    params = np.array(lens.params)
    bent = list(lens.extra_params_idxs())
    params[bent] += 0.02 if model == "EUCM" else 0.01
    params[list(lens.principal_point_idxs())] += [3.0, -2.0]
    lens.params = params.tolist()
    return lens


@pytest.fixture(params=[False, True], ids=["binary", "text"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_colmap(tmp_path / "sparse", CAMERAS, NAMES, text=request.param)
    return tmp_path / "sparse"


def test_model_is_read_sorted_with_its_poses_lenses_and_points(model: Path) -> None:
    source = colmap.read_model(model)
    assert [shot.name for shot in source.shots] == sorted(NAMES)
    expected = {name: camera for name, camera in zip(NAMES, CAMERAS, strict=True)}
    for shot in source.shots:
        camera = expected[shot.name]
        assert torch.allclose(shot.cam_from_world, camera.cam_from_world, atol=1e-12)
        assert shot.intrinsics == Intrinsics("PINHOLE", 240, 180, (220.0, 220.0, 121.0, 89.0))
    assert source.points is not None and source.point_colors is not None
    order = source.points[:, 0].argsort()
    assert torch.allclose(
        source.points[order].double(), room_points()[room_points()[:, 0].argsort()], atol=1e-6
    )
    assert torch.allclose(source.point_colors, torch.tensor([1.0, 128 / 255, 0.0]).expand(50, 3))


def _poses(folder: Path) -> dict[str, list]:
    return {shot.name: shot.cam_from_world.tolist() for shot in colmap.read_model(folder).shots}


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: [""] if line.startswith("5 6") else [line],
        lambda line: [] if line.startswith("5 6") else [line],
        lambda line: [] if line.startswith("5 6") else [line, ""] if line.endswith("a.png") else [line],
        lambda line: [line.replace("sub/", "sub\\")],
        lambda line: [line + "\r"],
        lambda line: ["\ufeff" + line] if line.startswith("# Image list") else [line],
    ],
    ids=["empty", "left out", "left out of some", "backslashes", "CRLF", "byte order mark"],
)
def test_text_models_as_other_programs_write_them(tmp_path: Path, edit: Callable[[str], list[str]]) -> None:
    """One line a photo instead of two, and what Windows does to text."""
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=True)
    expected = _poses(folder)
    path = folder / "images.txt"
    lines = [new for line in path.read_text().splitlines() for new in edit(line)]
    path.write_bytes(("\n".join(lines) + "\n").encode())
    assert _poses(folder) == expected and len(expected) == 3


def _directions(lens: pycolmap.Camera) -> np.ndarray:
    """(180, 240, 2) x/z and y/z of what every pixel sees."""
    y, x = np.mgrid[:180, :240] + 0.5
    return np.asarray(lens.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))).reshape(180, 240, 2)


@pytest.mark.parametrize("name", PERSPECTIVE)
def test_every_camera_model_is_read_and_undistorted(tmp_path: Path, name: str) -> None:
    lens = _lens(name)
    write_colmap(tmp_path / "sparse", CAMERAS, NAMES, lens=lens)
    intrinsics = colmap.read_model(tmp_path / "sparse").shots[0].intrinsics
    assert intrinsics.model == name
    assert np.allclose(intrinsics.params, lens.params)
    flat = undistort.pinhole(intrinsics)
    assert flat.model == "PINHOLE"
    if undistort.is_pinhole(intrinsics):
        return
    # A picture whose colours are directions: undistorted, each pixel must show its own direction.
    rays = _directions(lens)
    sampled = undistort.undistort(rays.astype(np.float32), intrinsics, flat)
    fx, fy, cx, cy = flat.params
    columns, rows = np.meshgrid(
        (np.arange(flat.width) + 0.5 - cx) / fx, (np.arange(flat.height) + 0.5 - cy) / fy
    )
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(sampled[..., 0] - columns)[inner].max() < 1e-3
    assert np.abs(sampled[..., 1] - rows)[inner].max() < 1e-3


def test_undistortion_agrees_with_pycolmap() -> None:
    lens = _lens("OPENCV")
    intrinsics = Intrinsics("OPENCV", 240, 180, tuple(map(float, lens.params)))
    y, x, channel = np.mgrid[:180, :240, :3]
    smooth = np.rint(127 + 120 * np.sin(x / 20 + channel) * np.cos(y / 30)).astype(np.uint8)
    options = pycolmap.UndistortCameraOptions()
    theirs, camera = pycolmap.undistort_image(options, pycolmap.Bitmap.from_array(smooth), lens)
    ours = undistort.undistort(smooth.astype(np.float32), intrinsics, undistort.pinhole(intrinsics))
    assert np.allclose(camera.params, undistort.pinhole(intrinsics).params)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(ours - theirs.to_array().astype(np.float32))[inner].max() < 1.0


def test_undistortion_keeps_fine_stripes() -> None:
    """Stripes 4 px apart come back with their contrast; bilinear sampling takes 20 % of it."""
    lens = _lens("OPENCV")
    intrinsics = Intrinsics("OPENCV", 240, 180, tuple(map(float, lens.params)))
    flat = undistort.pinhole(intrinsics)
    fx, _, cx, _ = flat.params
    rays = _directions(lens)
    distorted = np.cos((rays[..., :1] * fx + cx) * (np.pi / 2))
    truth = np.cos((np.arange(flat.width) + 0.5) * (np.pi / 2))
    sampled = undistort.undistort(distorted.astype(np.float32), intrinsics, flat)[4:-4, 4:-4, 0]
    contrast = (sampled * truth[4:-4]).mean() / (truth[4:-4] ** 2).mean()
    assert contrast == pytest.approx(1, abs=0.03)


def test_resized_lens_scales_focal_length_and_centre() -> None:
    lens = Intrinsics("OPENCV", 240, 180, (220.0, 220.0, 123.0, 88.0, 0.1, 0.01, 0.0, 0.0))
    half = undistort.resized(lens, 120, 90)
    assert half == Intrinsics("OPENCV", 120, 90, (110.0, 110.0, 61.5, 44.0, 0.1, 0.01, 0.0, 0.0))


def test_quaternions_of_any_length_are_normalised() -> None:
    pose = colmap.pose_from_quaternion((0.0, 0.0, 0.0, 2.0), (1.0, 2.0, 3.0))
    assert pose is not None
    assert torch.equal(pose[:3, :3], torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double())


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize("name", ["truth/tiles", "real/blowtorch_f63"])
def test_real_models_agree_with_pycolmap(name: str) -> None:
    folder = colmap.find_model(SHARED_DATA / name)
    assert folder is not None
    source = colmap.read_model(folder)
    theirs = pycolmap.Reconstruction(folder)
    assert source.points is not None
    assert len(source.points) == theirs.num_points3D()
    poses = {image.name: image.cam_from_world().matrix() for image in theirs.images.values()}
    assert sorted(poses) == [shot.name for shot in source.shots]
    for shot in source.shots:
        assert np.allclose(shot.cam_from_world[:3], poses[shot.name], atol=1e-12)


# --- Broken models: pycolmap itself crashes, hangs or returns rubbish on several of these ------------------


def _refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        colmap.read_model(folder)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    whole = (folder / f"{part}.bin").read_bytes()
    for length in {0, 1, 7, 8, 10, len(whole) // 2, len(whole) - 1}:
        (folder / f"{part}.bin").write_bytes(whole[:length])
        _refused(folder, rf"{part}\.bin is truncated")


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("filling", ["random", "ones", "zeros after the count"])
def test_garbage_files_are_refused(tmp_path: Path, part: str, filling: str) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    garbage = {
        "random": np.random.default_rng(0).bytes(5000),
        "ones": b"\xff" * 5000,
        "zeros after the count": struct.pack("<Q", 3) + bytes(5000),
    }[filling]
    (folder / f"{part}.bin").write_bytes(garbage)
    _refused(folder, rf"{part}\.bin is truncated or not a COLMAP file: copy it again")


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_garbage_text_is_refused(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=True)
    (folder / f"{part}.txt").write_text("what is this\n")
    _refused(folder, rf"{part}\.txt is truncated or not a COLMAP file")
    (folder / f"{part}.txt").write_bytes(b"\xff\xfe\x00")
    _refused(folder, rf"{part}\.txt is truncated or not a COLMAP file")


@pytest.mark.parametrize(
    "bad", [(0.0, 0.0, 0.0, 0.0), (float("nan"), 0.0, 0.0, 1.0), (float("inf"), 0.0, 0.0, 0.0)]
)
def test_impossible_quaternions_are_refused(tmp_path: Path, bad: tuple[float, ...]) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    content = bytearray((folder / "images.bin").read_bytes())
    struct.pack_into("<4d", content, 8 + 4, *bad)
    (folder / "images.bin").write_bytes(content)
    _refused(folder, r"images\.bin holds no valid pose for photo .*run COLMAP again")


def test_translation_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    content = bytearray((folder / "images.bin").read_bytes())
    struct.pack_into("<d", content, 8 + 4 + 32, float("nan"))
    (folder / "images.bin").write_bytes(content)
    _refused(folder, r"images\.bin holds no valid pose")


@pytest.mark.parametrize("bad", [float("nan"), -220.0, 0.0, 1e-9, 1e30])
def test_impossible_focal_length_is_refused(tmp_path: Path, bad: float) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    content = bytearray((folder / "cameras.bin").read_bytes())
    struct.pack_into("<2d", content, 8 + 24, bad, bad)
    (folder / "cameras.bin").write_bytes(content)
    _refused(folder, r"cameras\.bin is truncated or not a COLMAP file")


def test_points_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    content = bytearray((folder / "points3D.bin").read_bytes())
    struct.pack_into("<d", content, 8 + 8, float("nan"))
    (folder / "points3D.bin").write_bytes(content)
    _refused(folder, r"points3D\.bin holds 3D points that are not finite")


def _edit_text(folder: Path, part: str, old: str, new: str) -> None:
    """A text model with a replacement in the first line of one of its files that holds `old`."""
    write_colmap(folder, CAMERAS, NAMES, text=True)
    path = folder / f"{part}.txt"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("PINHOLE", "PINHOLEX", "names the camera model PINHOLEX, which pycolmap does not know"),
        ("PINHOLE", "pinhole", "names the camera model pinhole, which pycolmap does not know"),
        (" 240 ", " -240 ", "is truncated or not a COLMAP file"),
        (" 240 ", f" {10**27} ", "is truncated or not a COLMAP file"),
        (" 220 ", " 1e300 ", "is truncated or not a COLMAP file"),
        (" 220 220 ", " -100 540 ", "is truncated or not a COLMAP file"),
        (" 220 220 ", " 220 ", "is truncated or not a COLMAP file"),
    ],
)
def test_impossible_cameras_in_text_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    _edit_text(tmp_path / "sparse", "cameras", old, new)
    _refused(tmp_path / "sparse", rf"cameras\.txt {message}")


@pytest.mark.parametrize(
    "new, message",
    [
        ("1e300 0 4 255 128 0 0", "holds 3D points that are not finite, or huge"),
        (f"0 0 4 255 {10**400} 0 0", "is truncated or not a COLMAP file"),
        ("0 0 4 256 128 0 0", "is truncated or not a COLMAP file"),
        ("0 0 4 255 128", "is truncated or not a COLMAP file"),
    ],
)
def test_impossible_points_in_text_are_refused(tmp_path: Path, new: str, message: str) -> None:
    write_colmap(tmp_path / "sparse", CAMERAS, NAMES, text=True)
    with (tmp_path / "sparse" / "points3D.txt").open("a") as file:
        file.write(f"99 {new}\n")
    _refused(tmp_path / "sparse", rf"points3D\.txt {message}")


def test_translation_beyond_float32_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    content = bytearray((folder / "images.bin").read_bytes())
    struct.pack_into("<d", content, 8 + 4 + 32, 1e300)
    (folder / "images.bin").write_bytes(content)
    _refused(folder, r"images\.bin holds no valid pose for photo .*huge")


@pytest.mark.parametrize("text", [False, True])
def test_a_model_without_points_is_read(tmp_path: Path, text: bool) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=text)
    empty = b"# 3D point list\n" if text else struct.pack("<Q", 0)
    (folder / f"points3D.{'txt' if text else 'bin'}").write_bytes(empty)
    source = colmap.read_model(folder)
    assert len(source.shots) == 3 and source.points is None and source.point_colors is None


def test_no_photos_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES)
    (folder / "images.bin").write_bytes(struct.pack("<Q", 0))
    _refused(folder, r"images\.bin names no photo")


def test_photo_named_twice_is_refused(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse", CAMERAS, ["a.png", "b.png", "a.png"], text=True)
    _refused(tmp_path / "sparse", r"images\.txt names photo a\.png twice")


def test_photo_with_unknown_camera_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=True)
    lines = (folder / "cameras.txt").read_text().splitlines()
    (folder / "cameras.txt").write_text("\n".join(lines[:-1]))
    _refused(folder, r"images\.txt gives photo .* a camera that the model does not have")


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_missing_file_is_named(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=True)
    (folder / f"{part}.txt").unlink()
    assert colmap.find_model(tmp_path) == folder
    _refused(folder, rf"{part}\.txt is missing: copy the complete COLMAP model")


def test_all_round_camera_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sparse"
    write_colmap(folder, CAMERAS, NAMES, text=True)
    (folder / "cameras.txt").write_text("".join(f"{i} EQUIRECTANGULAR 240 180 240 180\n" for i in (1, 2, 3)))
    _refused(folder, "sees all round: export perspective views")


def test_sparse_zero_is_preferred_to_sparse(tmp_path: Path) -> None:
    assert colmap.find_model(tmp_path) is None
    write_colmap(tmp_path / "sparse", CAMERAS, NAMES)
    assert colmap.find_model(tmp_path) == tmp_path / "sparse"
    write_colmap(tmp_path / "sparse" / "0", CAMERAS, NAMES)
    assert colmap.find_model(tmp_path) == tmp_path / "sparse" / "0"
    assert isinstance(colmap.read_model(tmp_path / "sparse" / "0"), Source)


@pytest.mark.parametrize("text", [False, True])
def test_the_model_with_the_most_photos_is_taken(tmp_path: Path, text: bool) -> None:
    for number, count in (("0", 2), ("1", 3), ("10", 3)):
        write_colmap(tmp_path / "sparse" / number, CAMERAS[:count], NAMES[:count], text=text)
    models = colmap.find_models(tmp_path)
    assert {folder.name: count for folder, count in models.items()} == {"1": 3, "10": 3, "0": 2}
    assert colmap.find_model(tmp_path) == tmp_path / "sparse" / "1"
