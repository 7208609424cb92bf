"""transforms.json (nerfstudio, instant-ngp, Blender synthetic scenes) -> Source.

`transform_matrix` is world-from-camera with OpenGL axes: x right, y up, z backward. The cameras belong to the
pixels as stored: the programs that write and read these files ignore the EXIF orientation.
"""

import math
import os.path
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plyfile
import torch
from torch import Tensor

from cocogs.camera import is_rotation, pose_from_opengl
from cocogs.errors import InputError, reason_of
from cocogs.io.json_file import read_json
from cocogs.io.photos import SUFFIXES, read_header
from cocogs.io.progress import Say
from cocogs.io.source import Intrinsics, Shot, Source, fits_float32, is_size, opencv_lens
from cocogs.io.undistort import is_possible

FILES = ("transforms.json", "transforms_train.json")
_FISHEYE = "OPENCV_FISHEYE"
# What "camera_model" may be: lenses whose distortion k1 to k3, p1 and p2 describe, or k1 to k4.
_PERSPECTIVE = (
    *("PERSPECTIVE", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL"),
    *("OPENCV", "FULL_OPENCV"),
)
# Keys by which instant-ngp tells a lens that is neither.
_OTHER_LENSES = ("ftheta_p0", "latlong")


@dataclass(frozen=True)
class _Frame:
    """One entry of "frames".

    Args:
        name: the photo's name.
        photo: the photo's file, which may be absent.
        settings: the entry over the file's general settings.
        path: the json file, for messages.
    """

    name: str
    photo: Path
    settings: Mapping
    path: Path


def find_transforms(data: Path) -> Path | None:
    """transforms.json, or the transforms_train.json of a Blender scene."""
    return next((data / file for file in FILES if (data / file).is_file()), None)


def read_transforms(path: Path, say: Say = print) -> tuple[Source, dict[str, Path]]:
    """Cameras, points and split; and the photo files by name.

    A transforms_test.json beside transforms_train.json gives the test photos. Test frames without a file are
    left out.

    Args:
        say: receives a line about frames left out.

    Raises:
        InputError: the file is broken or lacks what is needed.
    """
    content = _load(path)
    frames = _frames(content, path)
    tests = _test_names(content, frames, path)
    test_file = path.with_name("transforms_test.json")
    if path.name == "transforms_train.json" and test_file.is_file():
        test_frames = _frames(_load(test_file), test_file)
        frames, tests = frames + test_frames, frozenset(frame.name for frame in test_frames)
    frames = _with_photos(frames, tests, say)
    shots = [
        Shot(frame.name, _intrinsics(frame), _pose(frame), upright=False, mask=_mask(frame))
        for frame in frames
    ]
    points, colors = _points(content, path)
    source = Source(sorted(shots, key=lambda shot: shot.name), points, colors, test_names=tests)
    return source, {frame.name: frame.photo for frame in frames}


def _with_photos(frames: list[_Frame], tests: frozenset[str] | None, say: Say) -> list[_Frame]:
    """The frames whose photos exist; only test frames may lack theirs.

    Raises:
        InputError: a frame to train on has no file.
    """
    absent = [frame for frame in frames if not os.path.isfile(frame.photo)]
    needed = [frame for frame in absent if frame.name not in (tests or ())]
    if needed:
        more = f" (nor do {len(needed) - 1} more)" if len(needed) > 1 else ""
        raise InputError(
            f"{needed[0].photo} does not exist{more} but {needed[0].path} names it: copy it there or remove "
            "the frame."
        )
    if absent:
        say(
            f"{len(absent)} of {len(tests or ())} test photos that {absent[0].path} names do not exist and "
            f"are left out ({absent[0].name}{', ...' if len(absent) > 1 else ''})."
        )
    return [frame for frame in frames if os.path.isfile(frame.photo)]


def _load(path: Path) -> dict:
    content = read_json(path, "copy or export it again")
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list) or not content["frames"]:
        raise InputError(f'{path} has no list "frames" with photos in it: export it again.')
    return content


def _frames(content: dict, path: Path) -> list[_Frame]:
    general = {key: value for key, value in content.items() if key != "frames"}
    frames: dict[str, _Frame] = {}
    for entry in content["frames"]:
        file = entry.get("file_path") if isinstance(entry, dict) else None
        if not isinstance(file, str) or not Path(_slashes(file)).name:
            raise InputError(f'{path} has a frame without "file_path": export it again.')
        name = _name(file)
        if name in frames:
            raise InputError(f"{path} names photo {name} twice: export it again.")
        frames[name] = _Frame(name, _photo(path, file), {**general, **entry}, path)
    return list(frames.values())


def _name(file: str) -> str:
    """The photo's name: its path without the ./ and images/ that most files begin with."""
    return Path(_slashes(file)).as_posix().removeprefix("images/")


def _slashes(file: str) -> str:
    """Windows separates folders by backslashes."""
    return file.replace("\\", "/")


def _photo(path: Path, file: str) -> Path:
    """The file of a photo. Blender's scenes leave out the suffix, and it may be in capitals."""
    photo = path.parent / _slashes(file)
    candidates = [path.parent / file, photo]
    candidates += [photo.with_name(photo.name + s) for suffix in SUFFIXES for s in (suffix, suffix.upper())]
    candidates += [photo.with_suffix(s) for s in (photo.suffix.lower(), photo.suffix.upper())]
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), photo)


def _mask(frame: _Frame) -> Path | None:
    """The file that "mask_path" names, if any."""
    file = frame.settings.get("mask_path")
    if file is None:
        return None
    mask = _photo(frame.path, str(file))
    if not os.path.isfile(mask):
        raise InputError(
            f"{mask} is not a file but {frame.path} names it as a mask: copy it there or remove its "
            '"mask_path".'
        )
    return mask


def _test_names(content: dict, frames: list[_Frame], path: Path) -> frozenset[str] | None:
    lists = {key: content.get(key) for key in ("train_filenames", "test_filenames")}
    for key, files in lists.items():
        if files is not None and not (
            isinstance(files, list) and all(isinstance(file, str) for file in files)
        ):
            raise InputError(f'{path}: "{key}" is not a list of file names: export it again.')
    names = frozenset(frame.name for frame in frames)
    named = {key: frozenset(map(_name, files)) for key, files in lists.items() if files is not None}
    for key, some in named.items():
        if unknown := some - names:
            raise InputError(
                f'{path}: "{key}" names {min(unknown)}, which is not among its frames: correct the name or '
                "remove it."
            )
    if "test_filenames" in named:
        return named["test_filenames"]
    return names - named["train_filenames"] if "train_filenames" in named else None


def _number(frame: _Frame, key: str, default: float | None = None) -> float:
    value = frame.settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits_float32(value):
        raise InputError(
            f'{frame.path}: "{key}" of {frame.name} is missing or not a number: export it again.'
        )
    return float(value)


def _intrinsics(frame: _Frame) -> Intrinsics:
    """One of COLMAP's camera models."""
    width, height = _size(frame)
    fx, fy = _focal_lengths(frame, width, height)
    centre = (_number(frame, "cx", width / 2), _number(frame, "cy", height / 2))
    k1, k2, k3, k4, p1, p2 = (_number(frame, key, 0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if not is_possible(Intrinsics("PINHOLE", width, height, (fx, fy, *centre))):
        raise InputError(
            f"{frame.path}: the focal length or the principal point of {frame.name} is impossible: "
            "export it again."
        )
    if _is_fisheye(frame):
        return Intrinsics(_FISHEYE, width, height, (fx, fy, *centre, k1, k2, k3, k4))
    if k4:
        raise InputError(
            f'{frame.path}: "k4" is only known for {_FISHEYE} cameras: undistort the photos first.'
        )
    return opencv_lens((width, height), (fx, fy, *centre), (k1, k2, k3), (p1, p2))


def _is_fisheye(frame: _Frame) -> bool:
    """COLMAP's OPENCV_FISHEYE, by its name or by instant-ngp's "is_fisheye"; else a perspective lens."""
    model = str(frame.settings.get("camera_model") or "PINHOLE").upper()
    other = next((key for key in _OTHER_LENSES if key in frame.settings), None)
    if other or model not in (*_PERSPECTIVE, _FISHEYE):
        raise InputError(
            f"{frame.path}: the lens of {frame.name} ({other or model:.30}) is neither perspective nor "
            f"{_FISHEYE}: turn the photos into perspective ones and export it again."
        )
    is_fisheye = frame.settings.get("is_fisheye", False)
    if not isinstance(is_fisheye, bool):
        raise InputError(f'{frame.path}: "is_fisheye" of {frame.name} is not true or false: export it again.')
    return model == _FISHEYE or is_fisheye


def _size(frame: _Frame) -> tuple[int, int]:
    if "w" in frame.settings and "h" in frame.settings:
        width, height = round(_number(frame, "w")), round(_number(frame, "h"))
        if not is_size(width, height):
            raise InputError(f"{frame.path}: the size of {frame.name} is {width}x{height}: export it again.")
        return width, height
    return read_header(frame.photo).size(upright=False)


def _focal_lengths(frame: _Frame, width: int, height: int) -> tuple[float, float]:
    """fx and fy in px, from fl_x and fl_y or from the angles of view."""
    if "fl_x" in frame.settings:
        fx = _number(frame, "fl_x")
        return fx, _number(frame, "fl_y", fx)
    fx = _focal_length(width, _number(frame, "camera_angle_x"))
    angle_y = frame.settings.get("camera_angle_y")
    return fx, fx if angle_y is None else _focal_length(height, _number(frame, "camera_angle_y"))


def _focal_length(length: int, angle: float) -> float:
    return length / (2 * math.tan(angle / 2)) if 1e-6 < angle < math.pi else 0.0


def _pose(frame: _Frame) -> Tensor:
    """(4, 4) cam_from_world, OpenCV axes."""
    try:
        world_from_camera = np.array(frame.settings["transform_matrix"], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        world_from_camera = np.empty(0)
    valid = world_from_camera.shape in ((3, 4), (4, 4)) and fits_float32(world_from_camera)
    pose = (
        pose_from_opengl(world_from_camera[:3, :3], world_from_camera[:3, 3]) if valid else torch.zeros(4, 4)
    )
    if not is_rotation(pose[:3, :3]):
        raise InputError(
            f'{frame.path}: "transform_matrix" of {frame.name} is not a rigid pose: export it again.'
        )
    return pose


def _points(content: dict, path: Path) -> tuple[Tensor | None, Tensor | None]:
    """(P, 3) positions and colours of the file that "ply_file_path" names, if any."""
    file = content.get("ply_file_path")
    if file is None:
        return None, None
    ply = path.parent / _slashes(str(file))
    try:
        vertex = plyfile.PlyData.read(ply)["vertex"]
        positions, colors = (
            np.stack([vertex[name] for name in names], axis=1) for names in ("xyz", ("red", "green", "blue"))
        )
        # Floating-point colours are in [0, 1].
        colors = colors.astype(np.float64) / (1 if colors.dtype.kind == "f" else 255)
        positions = positions.astype(np.float64)
    except Exception as error:  # plyfile raises a different type for every way a file can be broken
        raise InputError(
            f"{ply} cannot be read as coloured points ({reason_of(error)}): "
            f'copy it again or remove "ply_file_path" from {path}.'
        ) from error
    if len(positions) == 0 or not fits_float32(positions):
        raise InputError(f'{ply} holds no points or some not finite: remove "ply_file_path" from {path}.')
    if not ((colors >= 0) & (colors <= 1)).all():
        raise InputError(
            f"{ply} holds colours that are neither fractions of 1 nor whole numbers up to 255: save it with "
            f'such colours or remove "ply_file_path" from {path}.'
        )
    return torch.from_numpy(positions), torch.from_numpy(colors).float()
