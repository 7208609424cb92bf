"""Videos: which frames are chosen, how they are turned and coloured, and what cannot be read."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import make_cameras, take_photo
from PIL import Image

from cocogs.errors import InputError
from cocogs.io import video, video_color
from cocogs.scene import open_scene

av = pytest.importorskip("av")

WIDTH, HEIGHT = 320, 192


def pq_signal(light: float) -> float:
    """The signal of a luminance in cd/m^2 (BT.2100, table 4)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (light / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((1600, 480), Image.Resampling.BICUBIC))


def write_video(path: Path, pictures: list[np.ndarray], pixels: str = "yuv420p", **options: int) -> Path:
    """An almost lossless video of (H, W, 3) uint8 pictures; FFmpeg's numbers for its colours."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = pixels, {"crf": "1"}
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def moving(steps: list[int]) -> list[np.ndarray]:
    """Pictures of a wall, each so many px farther along."""
    wall = texture()
    return [np.ascontiguousarray(wall[:HEIGHT, x : x + WIDTH]) for x in np.cumsum(steps)]


def test_motion_is_measured_in_widths_of_the_picture(tmp_path: Path) -> None:
    look = video._look(write_video(tmp_path / "a.mp4", moving([0, 8, 0, 4, 4])), lambda line: None)
    assert look.moved * WIDTH == pytest.approx([0, 8, 0, 4, 4], abs=1)
    assert look.seconds == pytest.approx(5 / 25)


def test_frames_are_spread_over_the_way_and_sharp() -> None:
    """Ten steps, then standing still for long, then ten steps; every third frame is sharp."""
    moved = np.array([0, *[1.0] * 9, *[0.0] * 50, *[1.0] * 11])
    sharpness = np.where(np.arange(len(moved)) % 3 == 0, 2.0, 1.0)
    chosen = video.choose_frames(video.Look(sharpness, moved, 1.0), 5)
    assert len(chosen) == 5
    assert all(number % 3 == 0 for number in chosen)
    assert sum(10 <= number < 60 for number in chosen) <= 1
    assert np.diff(np.cumsum(moved)[chosen]).min() >= 2


def test_the_way_and_the_time_decide_how_many() -> None:
    def count(way: float, seconds: float) -> int:
        frames = 3000
        moved = np.full(frames, way / frames)
        return len(video.choose_frames(video.Look(np.ones(frames), moved, seconds), None))

    assert count(way=1, seconds=5) == video.FEWEST
    assert count(way=6, seconds=5) == pytest.approx(6 / video.STEP, abs=1)
    assert count(way=0, seconds=60) == 60
    assert count(way=100, seconds=5) == video.MOST


@pytest.mark.parametrize("turn", [0, 90, 180, -90])
def test_frames_are_upright(turn: int, tmp_path: Path) -> None:
    exe = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    pictures = moving([0, 8, 8])
    lying = write_video(tmp_path / "lying.mp4", [np.rot90(p, -turn // 90).copy() for p in pictures])
    command = [exe, "-v", "error", "-display_rotation", str(turn), "-i", str(lying), "-c", "copy"]
    subprocess.run([*command, str(tmp_path / "video.mp4")], check=True)
    folder = video.extract_frames(tmp_path / "video.mp4", tmp_path / "frames", 3, False, lambda line: None)
    first = np.asarray(Image.open(min(folder.glob("*.jpg")))).astype(float)
    assert first.shape == pictures[0].shape
    assert np.abs(first - pictures[0]).mean() < 12  # chroma is stored at half the size


@pytest.mark.parametrize(
    ("pixels", "options", "weights"),
    [
        ("yuv444p", {"colorspace": 1, "color_range": 1}, (0.2126, 0.0722)),
        ("yuv444p", {"colorspace": 5, "color_range": 1}, (0.299, 0.114)),
        ("yuv444p", {"colorspace": 1, "color_range": 2}, (0.2126, 0.0722)),
        ("yuv444p10le", {"colorspace": 9, "color_range": 1}, (0.2627, 0.0593)),
    ],
)
def test_matrix_and_range_are_the_video_s(
    pixels: str, options: dict[str, int], weights: tuple[float, float]
) -> None:
    """Frames made here by the standards' formulas become the colours that they were made from."""
    colors = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0.5, 0.25], [0.2, 0.2, 0.9], [0.5, 0.5, 0.5]])
    (red, blue), full = weights, options["color_range"] == 2
    bits = 10 if "10" in pixels else 8
    y = colors @ [red, 1 - red - blue, blue]
    cb, cr = (colors[:, 2] - y) / (2 * (1 - blue)), (colors[:, 0] - y) / (2 * (1 - red))
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    planes = [y * top, *(c * top + (1 << (bits - 1)) for c in (cb, cr))]
    if not full:
        planes = [(16 + 219 * y) * unit, *((128 + 224 * c) * unit for c in (cb, cr))]
    frame = av.VideoFrame(len(colors), 2, pixels)
    for plane, values in zip(frame.planes, planes, strict=True):
        dtype = np.uint8 if bits == 8 else np.dtype("<u2")
        rows = np.zeros((2, plane.line_size // np.dtype(dtype).itemsize), dtype)
        rows[:, : len(colors)] = values.round().clip(0, top)
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = options["colorspace"], options["color_range"]
    assert np.abs(video_color.to_srgb(frame)[0] / 255 - colors).max() < 0.012


def test_white_of_hdr_videos_is_white_and_light_stays_linear() -> None:
    levels = []
    for light in (203.0, 101.5, 406.0):
        signal = pq_signal(light)
        frame = av.VideoFrame(16, 16, "yuv444p10le")
        for plane, value in zip(frame.planes, [(16 + 219 * signal) * 4, 512, 512], strict=True):
            plane.update(np.full(plane.line_size // 2 * 16, round(value), "<u2").tobytes())
        frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, 16, 9
        levels.append(video_color.to_srgb(frame)[0, 0].astype(float) / 255)
    half = 1.055 * 0.5 ** (1 / 2.4) - 0.055
    for level, expected in zip(levels, [1, half, 1], strict=True):
        assert level == pytest.approx([expected] * 3, abs=0.02)


def test_frames_are_used_again_unless_the_video_changed(tmp_path: Path) -> None:
    clip, said = write_video(tmp_path / "a.mp4", moving([0, 8, 8, 8])), []
    folder = video.extract_frames(clip, tmp_path / "frames", 3, False, said.append)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.jpg")}
    assert len(times) == 3 and any("3 of the 4 frames" in line for line in said)
    video.extract_frames(clip, folder, 3, False, said.append)
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("*.jpg")}
    write_video(clip, moving([0, 8, 8, 8, 8]))
    assert video.extract_frames(clip, folder, 3, True, said.append) == folder  # as trained with
    assert times == {path: path.stat().st_mtime_ns for path in folder.glob("*.jpg")}
    video.extract_frames(clip, folder, 4, False, said.append)
    assert len(list(folder.glob("*.jpg"))) == 4


def test_what_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    for content in (b"", b"garbage" * 1000):
        clip.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.mp4 cannot be read as a video \(.*\): give another file\."):
            open_scene(clip, tmp_path / "cache", say=lambda line: None)
    write_video(clip, moving([0, 8]))
    with pytest.raises(InputError, match="has 2 frames: give a video with at least 3"):
        open_scene(clip, tmp_path / "cache", say=lambda line: None)
    with pytest.raises(InputError, match="`frames` must be a whole number from 3"):
        open_scene(clip, tmp_path / "cache", frames=2, say=lambda line: None)


def test_more_frames_than_there_are_take_no_time() -> None:
    moved = np.array([0, 1, 1, 0, 1.0])
    chosen = video.choose_frames(video.Look(np.array([1, 2, 3, 4, 5.0]), moved, 1.0), 10**9)
    assert chosen == [0, 1, 3, 4]  # of two that show the same, the sharper


def test_frames_are_those_of_a_video(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`frames` chooses frames of a video: leave `frames` out"):
        open_scene(tmp_path, tmp_path / "cache", frames=5, say=lambda line: None)


def test_a_folder_with_a_video_alone_is_told_so(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", moving([0, 8, 8]))
    with pytest.raises(InputError, match=f"holds no photo, but a video: give the video itself, {clip}"):
        open_scene(tmp_path, tmp_path / "cache", say=lambda line: None)


def test_a_damaged_video_is_told(tmp_path: Path) -> None:
    clip, said = write_video(tmp_path / "a.mp4", moving([0, *[8] * 59])), []
    content = bytearray(clip.read_bytes())
    start, end = content.index(b"mdat"), content.index(b"moov") - 4
    last = end - (end - start) // 6
    content[last:end] = bytes(end - last)
    clip.write_bytes(content)
    video.extract_frames(clip, tmp_path / "frames", None, False, said.append)
    assert any("only the first" in line and "of its 60 frames can be decoded" in line for line in said)


def test_a_video_becomes_a_scene(tmp_path: Path) -> None:
    """Of twelve frames of a room: cameras stand where they were."""
    cameras = make_cameras(12, 240, 180)
    clip = write_video(tmp_path / "room.mp4", [take_photo(camera) for camera in cameras], "yuv444p")
    scene = open_scene(clip, tmp_path / "cache", frames=6, say=lambda line: None)
    assert 5 <= len(scene.views) <= 6
    numbers = [int(Path(view.name).stem) for view in scene.views]
    found = torch.stack([view.camera.position for view in scene.views])
    true = torch.stack([cameras[number].position for number in numbers])
    ratios = torch.pdist(found) / torch.pdist(true)
    assert float(ratios.std() / ratios.mean()) < 0.05
