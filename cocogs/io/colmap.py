"""A COLMAP model (binary or text) -> Source; and undistortion with COLMAP's camera models.

The files are parsed here, not by pycolmap: given a truncated or corrupted model, pycolmap 4.2.1 returns
uninitialised cameras, allocates without bound or never comes back. Only cameras, images and points3D are
read: since COLMAP 3.12 rigs and frames lie beside them, but the poses in `images` already include them.
"""

import math
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pycolmap
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.io.source import MAX_SIDE, Intrinsics, Shot, Source, fits_float32

_PARTS = ("cameras", "images", "points3D")


def find_model(data: Path) -> Path | None:
    """The folder of the COLMAP model of a dataset: sparse/0, sparse, or None. A half model counts."""
    for folder in (data / "sparse" / "0", data / "sparse"):
        if any((folder / f"{part}{suffix}").is_file() for part in _PARTS for suffix in (".bin", ".txt")):
            return folder
    return None


def read_model(folder: Path) -> Source:
    """Cameras, poses and points of a COLMAP model.

    Raises:
        InputError: a file is missing, truncated or garbage, or says impossible things.
    """
    suffix = ".bin" if any((folder / f"{part}.bin").is_file() for part in _PARTS) else ".txt"
    for part in _PARTS:
        if not (folder / f"{part}{suffix}").is_file():
            raise InputError(
                f"{folder / (part + suffix)} is missing: copy the complete COLMAP model, with its cameras, "
                "images and points3D files."
            )
    read = _read_binary if suffix == ".bin" else _read_text
    lenses, images, points = (read(folder / f"{part}{suffix}", part) for part in _PARTS)
    cameras = dict(lenses)
    shots = [_shot(image, cameras, folder / f"images{suffix}") for image in images]
    if not shots:
        raise InputError(f"{folder / ('images' + suffix)} names no photo: run COLMAP again.")
    _refuse_twins(shots, folder / f"images{suffix}")
    positions, colors = _points(points, folder / f"points3D{suffix}")
    return Source(sorted(shots, key=lambda shot: shot.name), positions, colors)


@dataclass(frozen=True)
class _Image:
    """One entry of `images`: quaternion (w, x, y, z), translation, camera id, name."""

    quat: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    name: str


def _shot(image: _Image, cameras: dict[int, Intrinsics], path: Path) -> Shot:
    if image.camera_id not in cameras:
        raise InputError(f"{path} gives photo {image.name} a camera that the model lacks: run COLMAP again.")
    pose = pose_from_quaternion(image.quat, image.translation)
    if pose is None:
        raise InputError(
            f"{path} holds no valid pose for photo {image.name} (zero, NaN or huge): run COLMAP again."
        )
    # COLMAP reads the pixels as stored and ignores the EXIF orientation.
    return Shot(image.name, cameras[image.camera_id], pose, upright=False)


def pose_from_quaternion(quat: tuple[float, ...], translation: tuple[float, ...]) -> Tensor | None:
    """(4, 4) float64 pose of a quaternion (w, x, y, z) of any length; None when it is zero, not finite, or
    huge."""
    length = math.sqrt(sum(value * value for value in quat))
    if not (1e-6 < length < math.inf and fits_float32(translation)):
        return None
    w, x, y, z = (value / length for value in quat)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    pose[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return pose


def _refuse_twins(shots: list[Shot], path: Path) -> None:
    names = [shot.name for shot in shots]
    if len(set(names)) < len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} names photo {twin} twice: run COLMAP again.")


def _points(points: list[tuple], path: Path) -> tuple[Tensor, Tensor]:
    """(P, 3) positions and (P, 3) colours in [0, 1]."""
    if not points:
        raise InputError(f"{path} holds no 3D point: run COLMAP again with more overlapping photos.")
    table = np.array(points, dtype=np.float64)
    if not fits_float32(table):
        raise InputError(f"{path} holds 3D points that are not finite, or huge: run COLMAP again.")
    return torch.from_numpy(table[:, :3]).float(), torch.from_numpy(table[:, 3:] / 255).float()


def _intrinsics(model: str, width: int, height: int, params: tuple[float, ...], path: Path) -> Intrinsics:
    """Checked intrinsics."""
    if model not in pycolmap.CameraModelId.__members__:
        raise InputError(
            f"{path} names the camera model {model:.30}, which pycolmap does not know: copy it again or run "
            "COLMAP again."
        )
    # Before pycolmap sees them: it takes neither negative sizes nor those beyond 64 bits.
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and fits_float32(params)):
        raise _broken(path)
    try:
        camera = pycolmap.Camera(model=model, width=width, height=height, params=list(params))
        complete = camera.verify_params()
        all_round = camera.is_spherical()
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise _broken(path) from error
    if all_round:
        raise InputError(f"{path} has a {model} camera, which sees all round: export perspective views.")
    if not (complete and all(params[index] > 0 for index in camera.focal_length_idxs())):
        raise _broken(path)
    return Intrinsics(model, width, height, params)


def _broken(path: Path) -> InputError:
    return InputError(f"{path} is truncated or not a COLMAP file: copy it again or run COLMAP again.")


# --- Binary files (layout: https://colmap.github.io/format.html, little-endian) ---------------------------


class _Bytes:
    """Reads a file from front to back and never past its end."""

    def __init__(self, path: Path):
        self.path = path
        self.data = read_bytes(path)
        self.at = 0

    def take(self, layout: str) -> tuple:
        """Values of a `struct` layout."""
        start = self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def skip(self, size: int) -> int:
        """Pass over bytes; returns where they begin."""
        start = self.at
        self.at += size
        if self.at > len(self.data):
            raise _broken(self.path)
        return start

    def text(self) -> str:
        """A zero-terminated name."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise _broken(self.path)
        name = self.data[self.at : end].decode(errors="replace")
        self.at = end + 1
        return name

    def entries(self, smallest: int) -> Iterator[None]:
        """One step per announced entry of at least `smallest` bytes; then the file must be at its end."""
        (count,) = self.take("Q")
        if count * smallest > len(self.data):
            raise _broken(self.path)
        for _ in range(count):
            yield
        if self.at != len(self.data):
            raise _broken(self.path)


def _read_binary(path: Path, part: str) -> list:
    reader = {"cameras": _binary_camera, "images": _binary_image, "points3D": _binary_point}[part]
    smallest = {"cameras": 24, "images": 65, "points3D": 51}[part]
    file = _Bytes(path)
    return [reader(file) for _ in file.entries(smallest)]


def _binary_camera(file: _Bytes) -> tuple[int, Intrinsics]:
    camera_id, model_id, width, height = file.take("IiQQ")
    try:
        model = pycolmap.CameraModelId(model_id)
        count = len(pycolmap.Camera.create_from_model_id(0, model, 1.0, 1, 1).params)
    except ValueError as error:
        raise _broken(file.path) from error
    return camera_id, _intrinsics(model.name, width, height, file.take(f"{count}d"), file.path)


def _binary_image(file: _Bytes) -> _Image:
    _, *pose, camera_id = file.take("I7dI")
    name = file.text()
    (observations,) = file.take("Q")
    file.skip(observations * struct.calcsize("<ddQ"))
    return _Image(tuple(pose[:4]), tuple(pose[4:]), camera_id, name)


def _binary_point(file: _Bytes) -> tuple:
    _, x, y, z, red, green, blue, _ = file.take("Q3d3Bd")
    (track,) = file.take("Q")
    file.skip(track * struct.calcsize("<II"))
    return x, y, z, red, green, blue


# --- Text files ------------------------------------------------------------------------------------------


def _read_text(path: Path, part: str) -> list:
    try:
        lines = read_bytes(path).decode().splitlines()
        lines = [line for line in lines if not line.lstrip().startswith("#")]
        if part == "images":
            # Two lines each; the second lists observations and may be empty.
            while lines and not lines[0].strip():
                lines.pop(0)
            return [_text_image(line) for line in lines[::2] if line.strip()]
        reader = {"cameras": _text_camera, "points3D": _text_point}[part]
        return [reader(line.split(), path) for line in lines if line.strip()]
    except (ValueError, IndexError) as error:
        raise _broken(path) from error


def _text_camera(fields: list[str], path: Path) -> tuple[int, Intrinsics]:
    params = tuple(float(field) for field in fields[4:])
    return int(fields[0]), _intrinsics(fields[1], int(fields[2]), int(fields[3]), params, path)


def _text_image(line: str) -> _Image:
    fields = line.split(maxsplit=9)
    pose = [float(field) for field in fields[1:8]]
    return _Image(tuple(pose[:4]), tuple(pose[4:]), int(fields[8]), fields[9].strip())


def _text_point(fields: list[str], path: Path) -> tuple:
    _, x, y, z, red, green, blue, *_ = fields
    # `bytes` refuses colours that are not 0 to 255.
    return float(x), float(y), float(z), *bytes([int(red), int(green), int(blue)])


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


# --- Undistortion ----------------------------------------------------------------------------------------


def is_pinhole(intrinsics: Intrinsics) -> bool:
    return intrinsics.model in ("PINHOLE", "SIMPLE_PINHOLE")


@lru_cache(maxsize=64)
def pinhole(intrinsics: Intrinsics) -> Intrinsics:
    """The PINHOLE camera whose picture holds no pixel from outside the distorted one."""
    if is_pinhole(intrinsics):
        *focal, cx, cy = intrinsics.params
        return Intrinsics("PINHOLE", intrinsics.width, intrinsics.height, (focal[0], focal[-1], cx, cy))
    flat = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), _pycolmap_camera(intrinsics))
    return Intrinsics(flat.model_name, flat.width, flat.height, tuple(map(float, flat.params)))


def resized(intrinsics: Intrinsics, width: int, height: int) -> Intrinsics:
    """The same lens over another pixel grid."""
    if (width, height) == (intrinsics.width, intrinsics.height):
        return intrinsics
    camera = _pycolmap_camera(intrinsics)
    camera.rescale(width, height)
    return Intrinsics(intrinsics.model, width, height, tuple(map(float, camera.params)))


def to_camera(intrinsics: Intrinsics, cam_from_world: Tensor) -> Camera:
    """Our Camera of a PINHOLE one."""
    fx, fy, cx, cy = intrinsics.params
    matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    return Camera(matrix, cam_from_world, intrinsics.width, intrinsics.height)


def from_camera(camera: Camera) -> Intrinsics:
    """The PINHOLE of our Camera."""
    params = (camera.fx, camera.fy, camera.cx, camera.cy)
    return Intrinsics("PINHOLE", camera.width, camera.height, params)


def write_model(folder: Path, cameras: dict[str, Camera], points: Tensor, colors: Tensor) -> list[Path]:
    """Write a binary model: pinhole cameras, points without tracks. (Of a text model COLMAP would cut the
    names of photos at a space.)

    Args:
        cameras: by the names of their photos.
        points: (P, 3) in the world.
        colors: (P, 3) in [0, 1].

    Returns:
        The files written.

    Raises:
        InputError: a file cannot be written.
    """
    model, lenses = pycolmap.Reconstruction(), {}
    for number, (photo, camera) in enumerate(cameras.items(), 1):
        lens = from_camera(camera)
        if lens not in lenses:
            lenses[lens] = len(lenses) + 1
            pinhole = _pycolmap_camera(lens)
            pinhole.camera_id = lenses[lens]
            model.add_camera_with_trivial_rig(pinhole)
        pose = pycolmap.Rigid3d(camera.cam_from_world.double().numpy()[:3])
        image = pycolmap.Image(name=photo, camera_id=lenses[lens], image_id=number)
        model.add_image_with_trivial_frame(image, pose)
    rgb = (colors.clamp(0, 1) * 255).round().byte().numpy()
    for place, color in zip(points.double().numpy(), rgb, strict=True):
        model.add_point3D(place, pycolmap.Track(), color)
    with tempfile.TemporaryDirectory() as whole:
        model.write_binary(whole)
        written = sorted(Path(whole).iterdir())
        for file in written:
            with replacing(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
    return [folder / file.name for file in written]


@lru_cache(maxsize=4)
def undistortion_grid(lens: Intrinsics, flat: Intrinsics) -> Tensor:
    """Where each pixel of the pinhole picture lies in the distorted one.

    Returns:
        (h, w, 2) float32 positions (x, y) in the distorted picture, scaled to [-1, 1] from border to border
        (the grid that `torch.nn.functional.grid_sample` takes with align_corners=False).
    """
    fx, fy, cx, cy = flat.params
    x = (np.arange(flat.width) + 0.5 - cx) / fx
    y = (np.arange(flat.height) + 0.5 - cy) / fy
    rays = np.stack([*np.meshgrid(x, y), np.ones((flat.height, flat.width))], axis=-1)
    pixels = np.asarray(_pycolmap_camera(lens).img_from_cam(rays.reshape(-1, 3)))
    grid = pixels.reshape(flat.height, flat.width, 2) * (2 / lens.width, 2 / lens.height) - 1
    return torch.from_numpy(grid).float()


def undistort(picture: np.ndarray, lens: Intrinsics, flat: Intrinsics) -> np.ndarray:
    """(h, w, C) float32 pinhole picture of a distorted (H, W, C) float32 one.

    Sampled bicubically: bilinear sampling, as COLMAP has it, takes a fifth of the contrast off stripes 4 px
    apart. It may overshoot: values of a picture in [0, 1] can come out slightly outside.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    grid = undistortion_grid(lens, flat)[None]
    sampled = torch.nn.functional.grid_sample(
        image, grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return sampled[0].permute(1, 2, 0).numpy()


def _pycolmap_camera(intrinsics: Intrinsics) -> pycolmap.Camera:
    return pycolmap.Camera(
        model=intrinsics.model,
        width=intrinsics.width,
        height=intrinsics.height,
        params=list(intrinsics.params),
    )
