"""Camera paths: a file gives back what was saved, and a broken one says where."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.camera_path import CameraPath, LensSetting, PathFrame, path_to_json, read_camera_path


def camera(angle: float = 0.3) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 0] = pose[1, 1] = math.cos(angle)
    pose[1, 0], pose[0, 1] = math.sin(angle), -math.sin(angle)
    pose[:3, 3] = torch.tensor([0.1, -2, 3.5])
    intrinsics = torch.tensor([[500, 0, 310.5], [0, 510, 200], [0, 0, 1]], dtype=torch.float64)
    return Camera(intrinsics, pose, 640, 426)


def write(file: Path, **changes: Any) -> Path:
    """A good path whose second frame has `changes`; a value of None takes the entry out."""
    content = json.loads(
        path_to_json(CameraPath(24, [PathFrame(camera()), PathFrame(camera(), LensSetting(3.0, 0.1))]))
    )
    content["frames"][1] |= changes
    content["frames"][1] = {key: value for key, value in content["frames"][1].items() if value is not None}
    file.write_text(json.dumps(content))
    return file


def test_reads_back_what_was_saved(tmp_path: Path) -> None:
    frames = [
        PathFrame(camera(0.1)),
        PathFrame(camera(0.7), LensSetting(3.25, 0.04)),
        PathFrame(camera(), LensSetting(math.inf, 0.0)),
    ]
    file = tmp_path / "path.json"
    file.write_text(path_to_json(CameraPath(29.97, frames)))
    back = read_camera_path(file)
    assert back.fps == 29.97
    assert len(back.frames) == 3
    for frame, expected in zip(back.frames, frames, strict=True):
        assert frame.lens == expected.lens
        assert torch.equal(frame.camera.intrinsics, expected.camera.intrinsics)
        assert torch.equal(frame.camera.cam_from_world, expected.camera.cam_from_world)
        assert (frame.camera.width, frame.camera.height) == (640, 426)


def test_is_json_that_every_reader_takes(tmp_path: Path) -> None:
    text = path_to_json(CameraPath(24, [PathFrame(camera(), LensSetting(math.inf, 0.1))]))
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["frames"][0]["focus_distance"] == "inf"


MIRRORED = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fx": None}, '"fx" is missing'),
        ({"fy": 0}, '"fx" and "fy" are out of range for 640x426 px'),
        ({"fx": 1e38}, '"fx" and "fy" are out of range'),
        ({"cx": -1e38}, '"cx" and "cy" lie far outside'),
        ({"cx": "left"}, '"cx" is missing or not a number'),
        ({"cy": math.nan}, '"cy" is missing or not a number'),
        ({"width": 12.5}, '"width" and "height" must be whole'),
        ({"height": 10**6}, '"width" and "height" must be whole'),
        ({"cam_from_world": None}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": [[1, 0], [0, 1]]}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": MIRRORED}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": [[1, 0, 0, 1e300], *np.eye(4)[1:].tolist()]}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": [[1, 0, 0, 1e38], *np.eye(4)[1:].tolist()]}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": [[1, 0, 0, 10**400], *np.eye(4)[1:].tolist()]}, '"cam_from_world" is not a 4x4'),
        ({"cam_from_world": [["a"] * 4] * 4}, '"cam_from_world" is not a 4x4'),
        ({"focus_distance": -1}, '"focus_distance" must be above 0'),
        ({"aperture_diameter": None}, '"aperture_diameter" is missing'),
        ({"aperture_diameter": -0.1}, '"aperture_diameter" 0 or more'),
    ],
)
def test_names_the_frame_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "path.json", **changes)
    with pytest.raises(InputError) as caught:
        read_camera_path(file)
    assert f"{file}, frame 1: " in str(caught.value)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read (no JSON"),
        ("[]", 'has no list "frames"'),
        ('{"fps": 24, "frames": []}', 'has no list "frames"'),
        ('{"frames": [{}]}', '"fps" is missing'),
        ('{"fps": 0, "frames": [{}]}', '"fps" is 0'),
        ('{"fps": 24, "frames": [3]}', "frame 0: it is not an object"),
    ],
)
def test_names_the_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "path.json"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_camera_path(file)
    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = write(tmp_path / "path.json")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_camera_path(file).frames) == 2


def test_names_the_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_camera_path(tmp_path / "path.json")
