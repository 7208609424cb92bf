"""The faces of panoramas as SfM sees them: pictures of six cameras that are fixed to each other in one point.

SfM then places each panorama as a whole. What is known is not estimated: how the faces are turned to each
other, that they share a centre, and their focal length.
"""

from collections.abc import Iterable

import numpy as np
import pycolmap

from cocogs.io.faces import Face
from cocogs.io.matching import Group
from cocogs.io.panorama import FACES, face_lens


def place_in_rig(face: Face, number: int) -> str:
    """The face's file name in the work folder, of the panorama of this number.

    pycolmap knows by the part before the slash which camera of a rig a photo is of, and by the part behind it
    which photos were taken together. Panoramas of one size are of one rig.
    """
    return f"{_camera(face.size, face.direction)}{number:06d}{face.path.suffix}"


def _camera(size: int, direction: str) -> str:
    return f"{size}-{direction}/"


def face_groups(placed: Iterable[tuple[Face, str]]) -> list[Group]:
    """One camera for all faces that look the same way and have one size.

    Args:
        placed: faces with their names from `place_in_rig`.
    """
    groups: dict[tuple[int, str], list[str]] = {}
    for face, name in placed:
        groups.setdefault((face.size, face.direction), []).append(name)
    return [Group(sorted(names), face_lens(size)) for (size, _), names in sorted(groups.items())]


def rig_configs(sizes: Iterable[int]) -> list[pycolmap.RigConfig]:
    """A rig for each size of faces."""
    return [_rig(size) for size in sorted(set(sizes))]


def _rig(size: int) -> pycolmap.RigConfig:
    cameras = []
    for direction, turn in FACES.items():
        camera = pycolmap.RigConfigCamera()
        camera.image_prefix = _camera(size, direction)
        camera.ref_sensor = not cameras
        if not camera.ref_sensor:  # of the first, the rig has its axes
            rotation = pycolmap.Rotation3d(turn.astype(np.float64))
            camera.cam_from_rig = pycolmap.Rigid3d(rotation, np.zeros(3))
        cameras.append(camera)
    rig = pycolmap.RigConfig()
    rig.cameras = cameras
    return rig
