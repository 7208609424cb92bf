"""poses_bounds.npy (LLFF, Deblur-NeRF, NeRF-LLFF) -> Source.

The file has one row of 17 numbers per photo, in the photos' name order: a 3 x 5 matrix, then the nearest and
the farthest depth that the photo shows. The matrix's first three columns are the camera's down, right and
backward axes in the world, the fourth is its position, the fifth (height, width, focal length) in px of the
full size.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cocogs.camera import is_rotation, pose_at
from cocogs.errors import InputError, reason_of
from cocogs.io.source import Intrinsics, Shot, Source, fits_float32
from cocogs.io.undistort import is_possible

FILE = "poses_bounds.npy"


def read_poses_bounds(data: Path, names: list[str]) -> Source:
    """Cameras and depth bounds of the sorted photos `names`; the Source has no points.

    Raises:
        InputError: the file is not such a table, or does not fit the photos.
    """
    path = data / FILE
    table = _read_table(path)
    if len(table) != len(names):
        raise InputError(
            f"{path} has {len(table)} rows but there are {len(names)} photos: "
            "keep exactly the photos it was made for."
        )
    matrices, bounds = table[:, :15].reshape(-1, 3, 5), table[:, 15:]
    shots = []
    for name, matrix, (near, far) in zip(names, matrices, bounds, strict=True):
        height, width, focal = matrix[:, 4].tolist()
        width, height = round(width), round(height)
        lens = Intrinsics("SIMPLE_PINHOLE", width, height, (focal, width / 2, height / 2))
        if not (is_possible(lens) and 0 < near < far):
            raise InputError(
                f"{path} holds an impossible size, focal length or depth of {name}: make it anew."
            )
        # LLFF's poses come from COLMAP, which reads the pixels as stored and ignores the EXIF orientation.
        shots.append(Shot(name, lens, _pose(matrix, path), upright=False))
    return Source(shots, bounds=torch.from_numpy(bounds))


def _read_table(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:  # numpy leaves it open when it takes it for a broken .npz
            table = np.load(file, allow_pickle=False)
    except Exception as error:  # numpy raises a different type for every way a file can be broken
        raise InputError(
            f"{path} cannot be read as a numpy array ({reason_of(error)}): copy it again."
        ) from error
    if not (isinstance(table, np.ndarray) and table.shape[1:] == (17,) and table.dtype.kind in "fiu"):
        shape = getattr(table, "shape", "several arrays")
        raise InputError(
            f"{path} has the shape {shape} where numbers (photos, 17) are needed: copy it again."
        )
    if not fits_float32(table):
        raise InputError(f"{path} holds numbers that are not finite, or huge: make it anew.")
    return table.astype(np.float64)


def _pose(matrix: np.ndarray, path: Path) -> Tensor:
    """(4, 4) cam_from_world, OpenCV axes."""
    down, right, backward, position = matrix[:, :4].T
    rotation = torch.from_numpy(np.stack([right, down, -backward]))
    if not is_rotation(rotation, tolerance=1e-2):
        raise InputError(f"{path} holds axes that are not a rotation: make it anew.")
    return pose_at(rotation, torch.from_numpy(position))
