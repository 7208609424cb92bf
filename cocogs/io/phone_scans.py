"""Scans of phone apps -> Source: Polycam's raw data and Record3D's frames.

Both take ARKit's poses: world-from-camera with OpenGL axes (x right, y up, z backward), in metres. Their
drift is not corrected; photos whose cameras were aligned anew reconstruct sharper.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from cocogs.camera import pose_from_opengl
from cocogs.io.json_file import read_json
from cocogs.io.source import Intrinsics, Shot, Source

# Polycam's own correction of the poses comes first.
_POLYCAM = (("corrected_cameras", "corrected_images"), ("cameras", "images"))
_PHOTO_SUFFIXES = (".jpg", ".png", ".jpeg")


def find_polycam(data: Path) -> Path | None:
    """The folder of the camera files, in keyframes/."""
    folders = [data / "keyframes" / cameras for cameras, _ in _POLYCAM]
    return next((folder for folder in folders if any(folder.glob("*.json"))), None)


def read_polycam(path: Path, data: Path) -> Source:
    """One file per photo: t_00 to t_23 are the first three rows of the pose."""
    photos = path.parent / dict(_POLYCAM)[path.name]
    shots = []
    for file in sorted(path.glob("*.json")):
        said = read_json(file, "export it again")
        pose = np.array([[said[f"t_{row}{column}"] for column in range(4)] for row in range(3)], float)
        values = tuple(float(said[key]) for key in ("fx", "fy", "cx", "cy"))
        lens = Intrinsics("PINHOLE", int(said["width"]), int(said["height"]), values)
        name = _photo(photos, file.stem).relative_to(data).as_posix()
        shots.append(Shot(name, lens, pose_from_opengl(pose[:, :3], pose[:, 3]), upright=False))
    return Source(sorted(shots, key=lambda shot: shot.name))


def find_record3d(data: Path) -> Path | None:
    """metadata.json (metadata in an unpacked .r3d) beside a folder rgb/ or rgbd/."""
    for folder in (data, data / "EXR_RGBD"):
        for file in (folder / "metadata.json", folder / "metadata"):
            if file.is_file() and _record3d_photos(file).is_dir():
                return file
    return None


def _record3d_photos(file: Path) -> Path:
    rgb = file.parent / "rgb"
    return rgb if rgb.is_dir() else file.parent / "rgbd"


def read_record3d(path: Path, data: Path) -> Source:
    """`K` is the intrinsic matrix column by column; `perFrameIntrinsicCoeffs` (fx, fy, cx, cy) is better
    where it is given. `poses` are quaternions (x, y, z, w) and positions."""
    said = read_json(path, "export it again")
    photos, K = _record3d_photos(path), said["K"]
    size = int(said["w"]), int(said["h"])
    of_all = (K[0], K[4], K[6], K[7])
    own = said.get("perFrameIntrinsicCoeffs") or [of_all] * len(said["poses"])
    shots = []
    for number, (pose, values) in enumerate(zip(said["poses"], own, strict=True)):
        photo = _photo(photos, str(number))
        if not photo.is_file():  # only every few frames were exported
            continue
        lens = Intrinsics("PINHOLE", *size, tuple(map(float, values[:4])))
        rotation = Rotation.from_quat(np.array(pose[:4], float)).as_matrix()
        placed = pose_from_opengl(rotation, np.array(pose[4:7], float))
        shots.append(Shot(photo.relative_to(data).as_posix(), lens, placed, upright=False))
    return Source(sorted(shots, key=lambda shot: shot.name))


def _photo(folder: Path, stem: str) -> Path:
    """The photo of this stem; where there is none, the name that it would most likely have."""
    files = [folder / f"{stem}{suffix}" for suffix in _PHOTO_SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])
