"""Camera paths as JSON: what the viewer saves and `cocogs render --path FILE.json` reads.

    {"fps": 24,
     "frames": [{"cam_from_world": [[r, r, r, t], [r, r, r, t], [r, r, r, t], [0, 0, 0, 1]],
                 "fx": 673.9, "fy": 673.9, "cx": 320, "cy": 213, "width": 640, "height": 426,
                 "focus_distance": 3.4, "aperture_diameter": 0.03}]}

Axes and pixels as in `cocogs/camera.py`. `focus_distance` ("inf" for infinity) and `aperture_diameter` are in
scene units; a frame has both, or neither if everything is sharp.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.errors import InputError
from cocogs.io.json_file import read_json
from cocogs.io.source import fits_float32

INTRINSICS = ("fx", "fy", "cx", "cy")
LARGEST_DRAWN = 16384  # px; a larger picture is a typing error, and would fill the memory
# Pictures of cameras beyond these limits are of one colour, for the rasterizer computes in float32.
LONGEST_FOCAL = 1e4  # times the picture's larger side, as is the largest distance of the principal point
FARTHEST = 1e15  # scene units from the origin


class LensSetting(NamedTuple):
    """How a lens was set.

    Args:
        focus_distance: > 0, scene units, infinity included.
        aperture_diameter: 0 or more, scene units.
    """

    focus_distance: float
    aperture_diameter: float


@dataclass(frozen=True)
class PathFrame:
    """One picture of a path.

    Args:
        camera: float64.
        lens: None = everything sharp.
    """

    camera: Camera
    lens: LensSetting | None = None


@dataclass(frozen=True)
class CameraPath:
    """Pictures in the order in which they are shown, `fps` > 0 per second."""

    fps: float
    frames: Sequence[PathFrame]


def path_to_json(path: CameraPath) -> str:
    """The file's text."""
    values = {"fps": path.fps, "frames": [_to_values(frame) for frame in path.frames]}
    return json.dumps(values, indent=1) + "\n"


def read_camera_path(file: Path) -> CameraPath:
    """Read a path.

    Raises:
        InputError: no such file, not JSON, or a frame without a valid camera; the message names the frame.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist: give a camera path as `cocogs view` saves it.")
    content = read_json(file, "save the camera path again")
    entries = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{file} has no list "frames" with cameras in it: save the camera path again.')
    fps = number(content, "fps", str(file))
    if not fps > 0:
        raise InputError(f'{file}: "fps" is {fps:g}: give a number above 0.')
    return CameraPath(fps, [_frame(entry, f"{file}, frame {i}") for i, entry in enumerate(entries)])


def _to_values(frame: PathFrame) -> dict[str, Any]:
    values = camera_values(frame.camera)
    if frame.lens is not None:
        values |= frame.lens._asdict()
        if math.isinf(frame.lens.focus_distance):
            values["focus_distance"] = "inf"
    return values


def _frame(entry: Any, place: str) -> PathFrame:
    return PathFrame(camera_from_values(entry, place, LARGEST_DRAWN), _lens(entry, place))


def camera_values(camera: Camera) -> dict[str, Any]:
    """A camera as a JSON object."""
    names = (*INTRINSICS, "width", "height")
    return {
        "cam_from_world": camera.cam_from_world.tolist(),
        **{name: getattr(camera, name) for name in names},
    }


def camera_from_values(entry: Any, place: str, largest: int) -> Camera:
    """The camera, float64, of an object as `camera_values` makes it.

    Args:
        place: of the entry, for the message.
        largest: side of the picture that is allowed, px.

    Raises:
        InputError: the entry is no valid camera.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{place}: it is not an object with a camera in it: write it again.")
    width, height = (number(entry, name, place) for name in ("width", "height"))
    if not all(side.is_integer() and 1 <= side <= largest for side in (width, height)):
        raise InputError(f'{place}: "width" and "height" must be whole numbers from 1 to {largest}.')
    fx, fy, cx, cy = (number(entry, name, place) for name in INTRINSICS)
    far = LONGEST_FOCAL * max(width, height)
    if not all(max(width, height) / LONGEST_FOCAL <= focal <= far for focal in (fx, fy)):
        raise InputError(
            f'{place}: "fx" and "fy" are out of range for {width:g}x{height:g} px: write it again.'
        )
    if not max(abs(cx), abs(cy)) <= far:
        raise InputError(f'{place}: "cx" and "cy" lie far outside the picture: write it again.')
    return Camera(intrinsics_matrix(fx, fy, cx, cy), _pose(entry, place), int(width), int(height))


def _pose(entry: dict, place: str) -> Tensor:
    try:
        pose = torch.tensor(entry["cam_from_world"], dtype=torch.float64)
        rotation, last_row = pose[:3, :3], pose[3]
        rigid = bool(
            pose.shape == (4, 4)
            and bool((pose[:3, 3].abs() <= FARTHEST).all())
            and torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-4)
            and rotation.det() > 0
            and last_row.tolist() == [0, 0, 0, 1]
        )
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError):
        rigid, pose = False, torch.empty(0)
    if not rigid:
        raise InputError(f'{place}: "cam_from_world" is not a 4x4 rigid transform, or lies too far away.')
    return pose


def _lens(entry: dict, place: str) -> LensSetting | None:
    if not any(name in entry for name in LensSetting._fields):
        return None
    infinite = entry.get("focus_distance") == "inf"
    focus_distance = math.inf if infinite else number(entry, "focus_distance", place)
    aperture = number(entry, "aperture_diameter", place)
    if not (focus_distance > 0 and aperture >= 0):
        raise InputError(f'{place}: "focus_distance" must be above 0, and "aperture_diameter" 0 or more.')
    return LensSetting(focus_distance, aperture)


def number(entry: dict, name: str, place: str) -> float:
    """The finite number under this name; raises InputError if there is none."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits_float32(value):
        raise InputError(f'{place}: "{name}" is missing or not a number: write it again.')
    return float(value)
