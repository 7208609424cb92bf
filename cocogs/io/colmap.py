"""A COLMAP model -> Source: which folder holds it, and checks on what it says."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cocogs.errors import InputError
from cocogs.gaussians import rotation_matrices
from cocogs.io.colmap_files import (
    PARTS,
    ImageEntry,
    PointEntry,
    count_images,
    read_cameras,
    read_images,
    read_points,
)
from cocogs.io.source import Intrinsics, Shot, Source, fits_float32, is_file_name, named_twice


def find_models(data: Path) -> dict[Path, int]:
    """Folders of a dataset's COLMAP models (sparse/0, sparse/1, ..., sparse), with their numbers of photos.

    The model with the most photos comes first: an incremental mapper numbers its models as it makes them, so
    sparse/0 may be a small one. An incomplete model counts, so that reading it names what is missing.
    """
    numbered = [folder for folder in (data / "sparse").glob("[0-9]*") if folder.name.isdecimal()]
    folders = [*sorted(numbered, key=lambda folder: int(folder.name)), data / "sparse"]
    found = [
        folder
        for folder in folders
        if any((folder / f"{part}{suffix}").is_file() for part in PARTS for suffix in (".bin", ".txt"))
    ]
    counts = {folder: count_images(folder) for folder in found}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def find_model(data: Path) -> Path | None:
    """The folder of the dataset's COLMAP model with the most photos; None where there is no model."""
    return next(iter(find_models(data)), None)


def read_model(folder: Path) -> Source:
    """Cameras, poses and points of a COLMAP model. `Source.points` is None where the model has no points.

    Raises:
        InputError: a file is missing, truncated or garbage, or says impossible things.
    """
    suffix = ".bin" if any((folder / f"{part}.bin").is_file() for part in PARTS) else ".txt"
    cameras_file, images_file, points_file = (folder / f"{part}{suffix}" for part in PARTS)
    for file in (cameras_file, images_file, points_file):
        if not file.is_file():
            raise InputError(
                f"{file} is missing: copy the complete COLMAP model, with its cameras, images and points3D "
                "files."
            )
    cameras = read_cameras(cameras_file)
    shots = [_shot(image, cameras, images_file) for image in read_images(images_file)]
    if not shots:
        raise InputError(f"{images_file} names no photo: run COLMAP again.")
    if nameless := [shot.name for shot in shots if not is_file_name(shot.name)]:
        raise InputError(f"{images_file} names a photo {nameless[0]!r}: run COLMAP again.")
    _refuse_twins(shots, images_file)
    positions, colors = _points(read_points(points_file), points_file)
    return Source(sorted(shots, key=lambda shot: shot.name), positions, colors)


def _shot(image: ImageEntry, cameras: dict[int, Intrinsics], path: Path) -> Shot:
    if image.camera_id not in cameras:
        raise InputError(
            f"{path} gives photo {image.name} a camera that the model does not have: run COLMAP again."
        )
    pose = pose_from_quaternion(image.quat, image.translation)
    if pose is None:
        raise InputError(
            f"{path} holds no valid pose for photo {image.name} (zero, NaN or huge): run COLMAP again."
        )
    # COLMAP reads the pixels as stored and ignores the EXIF orientation.
    return Shot(image.name, cameras[image.camera_id], pose, upright=False)


def pose_from_quaternion(quat: Sequence[float], translation: Sequence[float]) -> Tensor | None:
    """(4, 4) float64 pose from a quaternion (w, x, y, z) of any length; None when a number is not finite or
    huge, or the quaternion is zero."""
    length = math.sqrt(sum(value * value for value in quat))
    if not (1e-6 < length < math.inf and fits_float32(translation)):
        return None
    pose = torch.eye(4, dtype=torch.float64)
    unit = torch.tensor([value / length for value in quat], dtype=torch.float64)
    pose[:3, :3] = rotation_matrices(unit)
    pose[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return pose


def _refuse_twins(shots: list[Shot], path: Path) -> None:
    if twin := named_twice(shots):
        raise InputError(f"{path} names photo {twin} twice: run COLMAP again.")


def _points(points: list[PointEntry], path: Path) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """(P, 3) float64 positions and (P, 3) float32 colours in [0, 1]; None where there are none."""
    if not points:
        return None, None
    table = np.array(points, dtype=np.float64)
    if not fits_float32(table):
        raise InputError(f"{path} holds 3D points that are not finite, or huge: run COLMAP again.")
    positions, colors = np.ascontiguousarray(table[:, :3]), table[:, 3:] / 255
    return torch.from_numpy(positions), torch.from_numpy(colors).float()
