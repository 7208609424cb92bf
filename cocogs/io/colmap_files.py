"""The files of a COLMAP model, binary and text: cameras, images and points3D.

We parse them ourselves because pycolmap 4.2.1 fails badly on a truncated or corrupted model: it returns
uninitialised cameras, allocates without bound or never returns. Rig and frame files, which COLMAP writes
since 3.12, are not read: the poses in `images` already include them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from cocogs.errors import InputError
from cocogs.io.source import Intrinsics, fits_float32, is_size
from cocogs.io.undistort import is_possible

PARTS = ("cameras", "images", "points3D")
# The smallest size in bytes of one entry of a binary file.
_SMALLEST = {"cameras": 24, "images": 65, "points3D": 51}


@dataclass(frozen=True)
class ImageEntry:
    """One entry of `images`.

    Args:
        quat: rotation of cam_from_world as a quaternion (w, x, y, z) of any length.
        translation: of cam_from_world, scene units.
        camera_id: of its camera in `cameras`.
        name: path of the photo relative to the folder of photos, with forward slashes.
    """

    quat: tuple[float, ...]
    translation: tuple[float, ...]
    camera_id: int
    name: str


# (x, y, z, red, green, blue): position in scene units, colour from 0 to 255.
PointEntry = tuple[float, float, float, int, int, int]


def read_cameras(path: Path) -> dict[int, Intrinsics]:
    """Cameras by id.

    Raises (as `read_images` and `read_points` do):
        InputError: the file is unreadable, truncated or not a COLMAP file.
    """
    return dict(_entries(path, _binary_camera, lambda lines: _each(lines, path, _text_camera)))


def read_images(path: Path) -> list[ImageEntry]:
    """Photos with their poses, in the order of the file."""
    return _entries(path, _binary_image, _text_images)


def read_points(path: Path) -> list[PointEntry]:
    """3D points with their colours, in the order of the file."""
    return _entries(path, _binary_point, lambda lines: _each(lines, path, _text_point))


def count_images(folder: Path) -> int:
    """How many photos the model in a folder holds, as its images file says; 0 where that is not readable."""
    try:
        binary, text = folder / "images.bin", folder / "images.txt"
        if binary.is_file():
            with binary.open("rb") as file:
                (count,) = struct.unpack("<Q", file.read(8))
            return min(count, binary.stat().st_size // _SMALLEST["images"])
        return len(read_images(text)) if text.is_file() else 0
    except (OSError, struct.error, InputError):
        return 0


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): check the file and its permissions."
        ) from error


def _entries(path: Path, binary, text) -> list:
    """All entries of one file, by the reader that suits its suffix."""
    if path.suffix == ".bin":
        file = _Bytes(path)
        return [binary(file) for _ in file.entries(_SMALLEST[path.stem])]
    try:
        # Editors on Windows put a byte order mark first and end lines with CR LF.
        lines = read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").split("\n")
        return text([line for line in lines if not line.lstrip().startswith("#")])
    except (ValueError, IndexError) as error:
        raise _broken(path) from error


def _broken(path: Path) -> InputError:
    return InputError(f"{path} is truncated or not a COLMAP file: copy it again or run COLMAP again.")


def _checked(model: str, width: int, height: int, params: tuple[float, ...], path: Path) -> Intrinsics:
    """Intrinsics whose numbers are possible."""
    if model not in pycolmap.CameraModelId.__members__:
        raise InputError(
            f"{path} names the camera model {model:.30}, which pycolmap does not know: copy it again or run "
            "COLMAP again."
        )
    # Checked before pycolmap sees them: it takes neither negative sizes nor those beyond 64 bits.
    if not (is_size(width, height) and fits_float32(params)):
        raise _broken(path)
    try:
        camera = pycolmap.Camera(model=model, width=width, height=height, params=list(params))
        complete = camera.verify_params()
        all_round = camera.is_spherical()
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise _broken(path) from error
    if all_round:
        raise InputError(f"{path} has a {model} camera, which sees all round: export perspective views.")
    lens = Intrinsics(model, width, height, params)
    if not (complete and is_possible(lens)):
        raise _broken(path)
    return lens


def _forward_slashes(name: str) -> str:
    """Programs on Windows write left\\a.jpg; COLMAP itself always writes left/a.jpg."""
    return name.replace("\\", "/")


# --- Binary files (layout: https://colmap.github.io/format.html, little-endian) ---------------------------


class _Bytes:
    """Reads a file from front to back and never past its end."""

    def __init__(self, path: Path):
        self.path = path
        self.data = read_bytes(path)
        self.at = 0

    def take(self, layout: str) -> tuple:
        """Values of a `struct` layout."""
        start = self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def skip(self, size: int) -> int:
        """Pass over bytes; returns where they begin."""
        start = self.at
        self.at += size
        if self.at > len(self.data):
            raise _broken(self.path)
        return start

    def text(self) -> str:
        """A zero-terminated name."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise _broken(self.path)
        name = self.data[self.at : end].decode(errors="replace")
        self.at = end + 1
        return name

    def entries(self, smallest: int) -> Iterator[None]:
        """One step per announced entry of at least `smallest` bytes; then the file must be at its end."""
        (count,) = self.take("Q")
        if count * smallest > len(self.data):
            raise _broken(self.path)
        for _ in range(count):
            yield
        if self.at != len(self.data):
            raise _broken(self.path)


def _binary_camera(file: _Bytes) -> tuple[int, Intrinsics]:
    camera_id, model_id, width, height = file.take("IiQQ")
    try:
        model = pycolmap.CameraModelId(model_id)
        count = len(pycolmap.Camera.create_from_model_id(0, model, 1.0, 1, 1).params)
    except ValueError as error:
        raise _broken(file.path) from error
    return camera_id, _checked(model.name, width, height, file.take(f"{count}d"), file.path)


def _binary_image(file: _Bytes) -> ImageEntry:
    _, *pose, camera_id = file.take("I7dI")
    name = _forward_slashes(file.text())
    (observations,) = file.take("Q")
    file.skip(observations * struct.calcsize("<ddQ"))
    return ImageEntry(tuple(pose[:4]), tuple(pose[4:]), camera_id, name)


def _binary_point(file: _Bytes) -> PointEntry:
    _, x, y, z, red, green, blue, _ = file.take("Q3d3Bd")
    (track,) = file.take("Q")
    file.skip(track * struct.calcsize("<II"))
    return x, y, z, red, green, blue


# --- Text files ------------------------------------------------------------------------------------------


def _each(lines: list[str], path: Path, read) -> list:
    """Entries of a file with one line each."""
    return [read(line.split(), path) for line in lines if line.strip()]


def _text_camera(fields: list[str], path: Path) -> tuple[int, Intrinsics]:
    params = tuple(float(field) for field in fields[4:])
    return int(fields[0]), _checked(fields[1], int(fields[2]), int(fields[3]), params, path)


def _text_images(lines: list[str]) -> list[ImageEntry]:
    """COLMAP writes two lines a photo: the second lists observations and may be empty. Some exporters leave
    the second line out; then the next photo follows at once."""
    entries, rest = [], iter(lines)
    line = next(rest, None)
    while line is not None:
        if line.strip():
            entries.append(_text_image(line))
            line = next(rest, None)
            if line is not None and line.strip() and not _is_observations(line):
                continue
        line = next(rest, None)
    return entries


def _text_image(line: str) -> ImageEntry:
    fields = line.split(maxsplit=9)
    pose = [float(field) for field in fields[1:8]]
    name = _forward_slashes(fields[9].strip())
    return ImageEntry(tuple(pose[:4]), tuple(pose[4:]), int(fields[8]), name)


def _is_observations(line: str) -> bool:
    """Triples of numbers: x, y and the point's id. A photo's line ends with its name, or has 10 numbers."""
    try:
        return len([float(field) for field in line.split()]) % 3 == 0
    except ValueError:
        return False


def _text_point(fields: list[str], path: Path) -> PointEntry:
    _, x, y, z, red, green, blue, *_ = fields
    color = bytes([int(red), int(green), int(blue)])  # `bytes` refuses values outside 0 to 255
    return float(x), float(y), float(z), color[0], color[1], color[2]
