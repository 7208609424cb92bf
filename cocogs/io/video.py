"""Frames of a video as photos: sharp ones, spread evenly over the camera's way.

PyAV decodes (the extra `video`). A first pass looks at every frame in small: how sharp it is, and how far the
picture moved since the frame before. A second pass writes the chosen frames, upright, as sRGB.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cocogs.errors import InputError, reason_of
from cocogs.io.atomic import replacing, write_text
from cocogs.io.json_file import read_own_json
from cocogs.io.mapping import FEWEST_PHOTOS
from cocogs.io.progress import Progress, Say
from cocogs.io.video_color import to_srgb

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv")
LOOK = 640  # px, the longer side at which frames are compared
BLOCK = 64  # px of LOOK's quarter: motion is measured block by block
STEP = 0.06  # of the picture's width that the picture moves between two chosen frames, unless told otherwise
PER_SECOND = 1.0  # chosen frames at least
MOST_PARTS = 4  # empty ones included, for each chosen frame
WHOLE = 0.95  # of the frames that a video counts can be decoded, unless it is damaged
FEWEST, MOST = 30, 240  # chosen frames, unless told otherwise
QUALITY = 97  # of the JPEG files
_STAMP = "frames.json"
_VERSION = 1


@dataclass(frozen=True)
class Look:
    """What the first pass sees of the F frames of a video.

    Args:
        sharpness: (F,) mean square of the Laplacian of the brightness.
        moved: (F,) how far the picture moved since the frame before, in widths of the picture; first 0.
        seconds: how long the video is; 0 where it does not tell.
    """

    sharpness: np.ndarray
    moved: np.ndarray
    seconds: float


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def extract_frames(video: Path, folder: Path, count: int | None, settled: bool, say: Say) -> Path:
    """The folder with the chosen frames as JPEG files, named by their numbers in the video.

    Args:
        folder: where they go; those that lie there are used again if they are of the same video.
        count: how many frames to choose; None: by how far the camera moved.
        settled: a scene was trained with the frames that lie there.

    Raises:
        InputError: PyAV is missing, or the file is no video that can be read, or too short.
    """
    status = video.stat()
    stamp = [_VERSION, str(video.resolve()), status.st_size, status.st_mtime_ns, count]
    if settled or read_own_json(folder / _STAMP) == stamp:
        return folder
    look = _look(video, say)
    chosen = choose_frames(look, count)
    if len(chosen) < FEWEST_PHOTOS:
        raise InputError(f"{video} has {len(look.moved)} frames: give a video with at least {FEWEST_PHOTOS}.")
    for old in [folder / _STAMP, *folder.glob("*.jpg")]:
        old.unlink(missing_ok=True)
    progress = Progress("Writing frames", len(chosen), say)
    wanted = set(chosen)
    for number, frame in enumerate(_frames(video)):
        if number in wanted:
            with replacing(folder / f"{number:06d}.jpg") as temporary:
                Image.fromarray(upright(to_srgb(frame), frame.rotation)).save(
                    temporary, quality=QUALITY, subsampling=0
                )
            progress.add(1)
    say(f"{len(chosen)} of the {len(look.moved)} frames of {video} are used: {folder}.")
    write_text(folder / _STAMP, json.dumps(stamp))
    return folder


def choose_frames(look: Look, count: int | None) -> list[int]:
    """Numbers of the chosen frames: the camera's way is cut into equal parts, and the sharpest frame of each
    part is taken. Where the camera stands still, no part begins.

    Args:
        count: frames at most; None: as the way and the video's length ask for.
    """
    way = np.cumsum(look.moved)
    if count is None:
        wanted = max(way[-1] / STEP, PER_SECOND * look.seconds)
        count = int(np.clip(np.ceil(wanted), FEWEST, MOST))
    if way[-1] == 0:  # hardly a video of a scene; spread in time
        way = np.arange(len(way), dtype=np.float64)
    way = way / max(way[-1], 1e-12)
    most = MOST_PARTS * count
    parts = _parts(way, count if count < len(way) else most - 1)  # no parts give more frames than there are
    for more in range(count + 1, most if count < len(way) else 0):  # where the camera jumps, parts stay empty
        if len(np.unique(finer := _parts(way, more))) > count:
            break
        parts = finer
    order = np.lexsort((-look.sharpness, parts))
    firsts = np.unique(parts[order], return_index=True)[1]
    return sorted(order[firsts].tolist())


def _parts(way: np.ndarray, count: int) -> np.ndarray:
    """The part of the way in [0, 1] on which each frame lies, of equal ones."""
    return np.minimum((way * count).astype(int), count - 1)


def upright(pixels: np.ndarray, rotation: float) -> np.ndarray:
    """(H, W, 3) turned as the video's display matrix says: degrees counter-clockwise, of which whole quarters
    count."""
    return np.ascontiguousarray(np.rot90(pixels, round(rotation / 90)))


def _look(video: Path, say: Say) -> Look:
    sharpness, moved, before, seconds, length = [], [], None, 0.0, 0
    with _opened(video) as container:
        stream = container.streams.video[0]
        length, seconds = stream.frames, float((stream.duration or 0) * (stream.time_base or 0))
    progress = Progress("Looking at frames", length, say) if length else None
    for frame in _frames(video):
        scale = min(1.0, LOOK / max(frame.width, frame.height))
        size = [max(16, round(side * scale)) for side in (frame.width, frame.height)]
        grey = frame.reformat(width=size[0], height=size[1], format="gray").to_ndarray().astype(np.float32)
        middle = grey[1:-1, 1:-1]
        around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        sharpness.append(float(np.square(4 * middle - around).mean()))
        width, height = (side // 2 for side in size)
        small = grey[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))
        moved.append(0.0 if before is None else motion(before, small))
        before = small
        if progress and len(moved) <= length:
            progress.add(1)
    if not moved:
        raise InputError(f"{video} holds no picture that can be decoded: give another video.")
    if len(moved) < WHOLE * length:
        say(f"{video} is damaged: only the first {len(moved)} of its {length} frames can be decoded.")
    return Look(np.array(sharpness), np.array(moved), seconds)


def motion(before: np.ndarray, after: np.ndarray) -> float:
    """How far a picture moved, in widths of the picture: the mean over its blocks, each by phase correlation,
    so that turns and zooms count as well as shifts.

    Args:
        before, after: (h, w) float32 brightness.
    """
    height, width = before.shape
    size = min(BLOCK, height, width)
    window = np.outer(np.hanning(size), np.hanning(size))
    lengths = []
    for top in range(0, height - size + 1, size):
        for left in range(0, width - size + 1, size):
            one, other = (picture[top : top + size, left : left + size] for picture in (before, after))
            if min(one.std(), other.std()) < 1:  # a plain wall tells nothing
                continue
            spectra = [np.fft.rfft2((part - part.mean()) * window) for part in (one, other)]
            product = spectra[0] * spectra[1].conj()
            peak = int(np.fft.irfft2(product / np.maximum(np.abs(product), 1e-6), s=(size, size)).argmax())
            down, right = ((place + size // 2) % size - size // 2 for place in divmod(peak, size))
            lengths.append(math.hypot(down, right))
    return float(np.mean(lengths)) / width if lengths else 0.0


def _frames(video: Path) -> Iterator["VideoFrame"]:
    """All frames that can be decoded; a video that is cut off ends where it does."""
    from av.error import FFmpegError

    with _opened(video) as container:
        container.streams.video[0].thread_type = "AUTO"
        try:
            yield from container.decode(video=0)
        except (FFmpegError, EOFError):
            return


def _opened(video: Path) -> "InputContainer":
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise InputError(f"{video} is a video, which PyAV reads: `pip install 'cocogs[video]'`.") from error
    try:
        container = av.open(str(video))
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{video} cannot be read as a video ({reason_of(error)}): give another file."
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"{video} has no pictures: give another file.")
    return container
