"""Small made-up datasets on disk: a textured corner of a room, photographed by known pinhole cameras."""

import json
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL._imaging  # noqa: F401  (before pycolmap, see cocogs.io)
import pycolmap
import torch
from PIL import Image

from cocogs.camera import Camera
from cocogs.io.photos import read_mask, read_photo

WIDTH, HEIGHT, FOCAL = 240, 180, 220.0


def make_cameras(count: int, width: int = WIDTH, height: int = HEIGHT, focal: float = FOCAL) -> list[Camera]:
    """Cameras side by side that look into the room, each turned a little; off-centre principal point."""
    cameras = []
    for index in range(count):
        turn = 0.06 * (index - (count - 1) / 2)
        pose = torch.eye(4, dtype=torch.float64)
        cos, sin = np.cos(turn), np.sin(turn)
        pose[:3, :3] = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        position = torch.tensor([0.35 * (index - (count - 1) / 2), 0.1 * (index % 2), 0.05 * index]).double()
        pose[:3, 3] = -pose[:3, :3] @ position
        intrinsics = torch.tensor([[focal, 0, width / 2 + 1], [0, focal, height / 2 - 1], [0, 0, 1]]).double()
        cameras.append(Camera(intrinsics, pose, width, height))
    return cameras


def take_photo(camera: Camera) -> np.ndarray:
    """(H, W, 3) uint8 picture of the back wall (z = 4), the floor (y = 1) and the left wall (x = -1.5)."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], axis=-1)
    rays = rays @ camera.cam_from_world[:3, :3].numpy()
    position = camera.position.numpy()
    nearest = np.full(x.shape, np.inf)
    picture = np.zeros((*x.shape, 3))
    for number, (axis, place) in enumerate([(2, 4.0), (1, 1.0), (0, -1.5)]):
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (place - position[axis]) / rays[..., axis]
        hit = (distance > 0) & (distance < nearest)
        nearest = np.where(hit, distance, nearest)
        where = position + np.where(hit, distance, 0)[..., None] * rays
        picture[hit] = wall_texture(number, np.delete(where, axis, axis=-1)[hit])
    return picture.astype(np.uint8)


def wall_texture(number: int, where: np.ndarray) -> np.ndarray:
    """(P, 3) colours in [0, 255] of a wall at (P, 2) places, bilinear in a random pattern."""
    pattern = _pattern(number)
    place = (where * 60) % (len(pattern) - 1)
    low = place.astype(int)
    high, part = low + 1, place - low
    x, y = part[:, :1], part[:, 1:]
    top = pattern[low[:, 1], low[:, 0]] * (1 - x) + pattern[low[:, 1], high[:, 0]] * x
    bottom = pattern[high[:, 1], low[:, 0]] * (1 - x) + pattern[high[:, 1], high[:, 0]] * x
    contrast = 1.8
    return np.clip(128 + contrast * (top * (1 - y) + bottom * y - 128), 0, 255)


@lru_cache
def _pattern(number: int) -> np.ndarray:
    size = 512
    random = np.random.default_rng(number)
    pattern = np.zeros((size, size, 3))
    for cells in (32, 64, 128, 256):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pattern += np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC)) / 4
    return pattern


def write_photos(folder: Path, cameras: Sequence[Camera], suffix: str = ".png") -> list[str]:
    """Write the photos as 000.png, 001.png, ...; returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{index:03d}{suffix}" for index in range(len(cameras))]
    for name, camera in zip(names, cameras, strict=True):
        Image.fromarray(take_photo(camera)).save(folder / name)
    return names


def room_points(count: int = 50) -> torch.Tensor:
    """(count, 3) float64 points on the back wall."""
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return points * torch.tensor([2.0, 1.5, 0.0]) + torch.tensor([-1.0, -0.75, 4.0])


def write_colmap(
    folder: Path,
    cameras: Sequence[Camera],
    names: Sequence[str],
    lens: pycolmap.Camera | None = None,
    text: bool = False,
    points: Iterable | None = None,
) -> None:
    """Write a COLMAP model with pycolmap: poses of `cameras`, their own PINHOLE intrinsics unless `lens`, and
    `room_points` unless others are given."""
    model = pycolmap.Reconstruction()
    for index, (name, camera) in enumerate(zip(names, cameras, strict=True), start=1):
        params = [camera.fx, camera.fy, camera.cx, camera.cy]
        own = {"model": "PINHOLE", "width": camera.width, "height": camera.height, "params": params}
        if lens is not None:
            own = {
                "model": lens.model_name,
                "width": lens.width,
                "height": lens.height,
                "params": lens.params,
            }
        model.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=index, **own))
        image = pycolmap.Image(name=name, camera_id=index, image_id=index, keypoints=np.array([[5.0, 6.0]]))
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera.cam_from_world[:3].numpy()))
    for point in room_points() if points is None else points:
        track = pycolmap.Track()
        model.add_point3D(np.asarray(point), track, np.array([255, 128, 0], dtype=np.uint8))
    folder.mkdir(parents=True)
    model.write_text(folder) if text else model.write_binary(folder)


def make_colmap(data: Path, count: int = 4, **options) -> list[Camera]:
    """images/ and sparse/0 of a dataset."""
    cameras = make_cameras(count)
    write_colmap(data / "sparse" / "0", cameras, write_photos(data / "images", cameras), **options)
    return cameras


def make_llff(data: Path, count: int = 4) -> list[Camera]:
    """images/ and poses_bounds.npy; LLFF knows no principal point, so it lies in the centre."""
    cameras = [_centred(camera) for camera in make_cameras(count)]
    write_photos(data / "images", cameras)
    np.save(data / "poses_bounds.npy", poses_bounds(cameras))
    return cameras


def poses_bounds(cameras: Sequence[Camera]) -> np.ndarray:
    """(C, 17) rows of LLFF's table; the room lies between depths 2 and 5."""
    rows = []
    for camera in cameras:
        right, down, forward = camera.cam_from_world[:3, :3].numpy()
        size = np.array([camera.height, camera.width, camera.fx])
        matrix = np.stack([down, right, -forward, camera.position.numpy(), size], axis=1)
        rows.append([*matrix.ravel(), 2.0, 5.0])
    return np.array(rows)


def make_nerfstudio(data: Path, count: int = 4, **settings) -> list[Camera]:
    """images/ and transforms.json, with more entries of the file as `settings`."""
    cameras = make_cameras(count)
    names = write_photos(data / "images", cameras)
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": opengl_pose(camera)}
        for name, camera in zip(names, cameras, strict=True)
    ]
    lens = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": cameras[0].cx, "cy": cameras[0].cy, "w": WIDTH, "h": HEIGHT}
    (data / "transforms.json").write_text(json.dumps({**lens, "frames": frames, **settings}))
    return cameras


def opengl_pose(camera: Camera) -> list[list[float]]:
    """4 x 4 world-from-camera with OpenGL axes."""
    return (torch.linalg.inv(camera.cam_from_world) * torch.tensor([1, -1, -1, 1])).tolist()


def _centred(camera: Camera) -> Camera:
    intrinsics = camera.intrinsics.clone()
    intrinsics[:2, 2] = torch.tensor([camera.width / 2, camera.height / 2])
    return Camera(intrinsics, camera.cam_from_world, camera.width, camera.height)


def write_truth_scene(folder: Path, views: int = 6, hold: int = 3) -> Path:
    """A scene as scripts/make_truth_scene.py leaves it, of photos that show nothing defocused."""
    cameras = make_colmap(folder, views)
    frames = [
        {
            "name": f"{i:03d}.png",
            "test": i % hold == 0,
            "focus_distance": None if i % hold == 0 else 3.0 + 0.2 * i,
            "w2c": camera.cam_from_world.tolist(),
        }
        for i, camera in enumerate(cameras)
    ]
    refocus = [{"name": "000_f3.png", "view": "000.png", "focus_distance": 3.0, "aperture_scale": 1.0}]
    facts = {"fx": cameras[0].fx, "aperture_diameter": 0.1, "K": 0.1 * cameras[0].fx}
    facts |= {"width": cameras[0].width, "height": cameras[0].height}
    (folder / "truth.json").write_text(json.dumps({**facts, "frames": frames, "refocus": refocus}))
    (folder / "sharp").mkdir()
    for frame in frames:
        if not frame["test"]:
            shutil.copy(folder / "images" / frame["name"], folder / "sharp")
    (folder / "refocus").mkdir()
    shutil.copy(folder / "images" / "000.png", folder / "refocus" / "000_f3.png")
    return folder


def as_prepared(picture: Path) -> Path:
    """What the cache would hold of an upright photo."""
    np.save(prepared := picture.with_suffix(".npy"), read_photo(picture).transpose(2, 0, 1))
    return prepared


def mask_as_prepared(picture: Path) -> Path:
    """The same of a mask."""
    np.save(prepared := picture.with_suffix(".npy"), read_mask(picture))
    return prepared
