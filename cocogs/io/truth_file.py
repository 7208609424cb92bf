"""truth.json: what is true of a ray-traced scene.

scripts/make_truth_scene.py and scripts/make_demo_scene.py write it, data/demo/README.md describes it. Keys
that nothing reads (renderer, samples, ...) are for people.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from cocogs.camera import is_rotation, position_of
from cocogs.errors import InputError
from cocogs.io.json_file import read_json


@dataclass(frozen=True)
class TruthFrame:
    """A photo of the scene.

    Args:
        name: of its file in images/.
        test: kept out of training.
        focus_distance: true units; None: the photo is sharp everywhere.
        cam_from_world: true pose, OpenCV axes, true units.
    """

    name: str
    test: bool
    focus_distance: float | None
    cam_from_world: Float64[Tensor, "4 4"]

    @property
    def position(self) -> Float64[Tensor, "3"]:
        """Camera centre, true units."""
        return position_of(self.cam_from_world)


@dataclass(frozen=True)
class TruthRefocused:
    """A picture of the scene through a known lens.

    Args:
        name: of its file in refocus/.
        view: name of the frame that it was taken like.
        focus_distance, aperture_diameter: true units.
    """

    name: str
    view: str
    focus_distance: float
    aperture_diameter: float


@dataclass(frozen=True)
class TruthFile:
    """The contents of a truth.json.

    Args:
        aperture_diameter: of the lens of all defocused photos, true units.
        focal_px: fx of all photos, px; None where the file does not tell.
        frames: by name.
        refocused: pictures through known lenses; may be empty.
    """

    path: Path
    aperture_diameter: float
    focal_px: float | None
    frames: dict[str, TruthFrame]
    refocused: list[TruthRefocused]


def read_truth(path: Path) -> TruthFile:
    """Read a truth.json.

    Raises:
        InputError: the file is missing, is no truth.json, or holds an impossible value.
    """
    document = read_json(path, "restore the file or make the scene again")
    try:
        diameter = _positive(document, "aperture_diameter")
        focal_px = _positive(document, "fx") if "fx" in document else None
        frames = {frame.name: frame for frame in map(_frame, document["frames"])}
        refocused = [_refocused(entry, diameter, frames) for entry in document["refocus"]]
        if not frames or len(frames) < len(document["frames"]):
            raise ValueError("frames is empty or names a photo twice")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path} is not a truth.json of a rendered scene ({_reason(error)}): restore the file or make "
            "the scene again."
        ) from error
    return TruthFile(path, diameter, focal_px, frames, refocused)


def _frame(entry: dict[str, Any]) -> TruthFrame:
    pose = torch.tensor(entry["w2c"], dtype=torch.float64)
    if pose.shape not in ((3, 4), (4, 4)) or not pose.isfinite().all():
        raise ValueError(f"w2c of {entry['name']} is not 3x4 or 4x4 numbers")
    if not is_rotation(pose[:3, :3]):
        raise ValueError(f"w2c of {entry['name']} is not a rigid transform")
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3] = pose[:3]
    focus = None if entry["focus_distance"] is None else _positive(entry, "focus_distance")
    return TruthFrame(_text(entry, "name"), bool(entry["test"]), focus, whole)


def _refocused(entry: dict[str, Any], diameter: float, frames: Iterable[str]) -> TruthRefocused:
    view = _text(entry, "view")
    if view not in frames:
        raise ValueError(f"refocus names {view}, which is not among the frames")
    scale = float(entry["aperture_scale"])
    if not (scale >= 0 and math.isfinite(scale)):
        raise ValueError(f"aperture_scale must be a number from 0, not {scale}")
    return TruthRefocused(_text(entry, "name"), view, _positive(entry, "focus_distance"), diameter * scale)


def _text(entry: dict[str, Any], key: str) -> str:
    if not isinstance(entry[key], str):
        raise ValueError(f"{key} must be a text, not {entry[key]!r}")
    return entry[key]


def _positive(entry: dict[str, Any], key: str) -> float:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{key} must be a number above 0, not {value!r}")
    return float(value)


def _reason(error: Exception) -> str:
    """What is wrong with the file, in words that say something about the file."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "it has another structure"
    return " ".join(str(error).split())
