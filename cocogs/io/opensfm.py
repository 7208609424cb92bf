"""OpenSfM's and OpenDroneMap's reconstruction.json -> Source.

Rotations are camera-from-world as axis times angle, with OpenCV axes. Focal lengths and principal points are
parts of the picture's longer side, the latter from its middle (OpenSfM's documentation, "Geometric Models").
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.json_file import read_json
from cocogs.io.source import Intrinsics, Shot, Source, opencv_lens

FILES = ("reconstruction.json", "opensfm/reconstruction.json")


def find(data: Path) -> Path | None:
    """reconstruction.json, or that of an OpenDroneMap project."""
    return next((data / file for file in FILES if (data / file).is_file()), None)


def read(path: Path, data: Path) -> Source:
    """The cameras and points of the reconstruction with the most photos."""
    content = read_json(path, "export it again")
    best = max(content, key=lambda part: len(part["shots"]))
    lenses = {name: _lens(path, name, camera) for name, camera in best["cameras"].items()}
    shots = []
    for name, shot in sorted(best["shots"].items()):
        pose = torch.eye(4, dtype=torch.float64)
        turn = Rotation.from_rotvec(np.array(shot["rotation"], float).reshape(3))
        pose[:3, :3] = torch.from_numpy(turn.as_matrix())
        pose[:3, 3] = torch.tensor(shot["translation"], dtype=torch.float64).reshape(3)
        shots.append(Shot(name, lenses[shot["camera"]], pose, upright=False))
    return Source(shots, *_points(best.get("points", {})))


def _points(points: Mapping) -> tuple[Tensor, Tensor] | tuple[None, None]:
    if not points:
        return None, None
    positions = torch.tensor([point["coordinates"] for point in points.values()], dtype=torch.float64)
    colors = torch.tensor([point["color"] for point in points.values()], dtype=torch.float32) / 255
    return positions, colors.clamp(0, 1)


def _lens(path: Path, name: str, camera: Mapping) -> Intrinsics:
    """One of COLMAP's camera models."""
    kind = camera.get("projection_type", "perspective")
    width, height = int(camera["width"]), int(camera["height"])
    longer = max(width, height)
    fx = float(camera.get("focal_x", camera.get("focal", 0))) * longer
    fy = float(camera.get("focal_y", camera.get("focal", 0))) * longer
    middle = (
        float(camera.get("c_x", 0)) * longer + width / 2,
        float(camera.get("c_y", 0)) * longer + height / 2,
    )
    k1, k2, k3, k4, p1, p2 = (float(camera.get(key, 0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if kind in ("perspective", "brown", "simple_radial", "radial") and not k4:
        return opencv_lens((width, height), (fx, fy, *middle), (k1, k2, k3), (p1, p2))
    if kind in ("fisheye", "fisheye_opencv") and not (p1 or p2):
        return Intrinsics("OPENCV_FISHEYE", width, height, (fx, fy, *middle, k1, k2, k3, k4))
    raise InputError(
        f"{path}: the lens of {name:.60} ({kind:.20}) cannot be read: undistort the photos (opensfm "
        "undistort, opensfm export_colmap) and give these."
    )
