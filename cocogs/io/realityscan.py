"""RealityScan's (RealityCapture's) cameras -> Source: a table (.csv, "Internal/External camera parameters"),
or metadata beside each photo (.xmp). Its COLMAP, Bundler and transforms.json exports are read as such.

Lengths are parts of the longer side: as 35 mm film, 36 of them, or as they are. The coefficients are OpenCV's
(RealityScan's help, "Camera geometry").
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cocogs.camera import pose_at, pose_from_opengl
from cocogs.errors import InputError
from cocogs.io.folders import list_largest, photo_folder, stored_sizes
from cocogs.io.source import Intrinsics, Shot, Source, opencv_lens

FILM = 36.0  # mm, the longer side
_XCR = "{http://www.capturingreality.com/ns/xcr/1.1#}"


def find_table(data: Path) -> Path | None:
    """The first .csv of a folder with RealityScan's headings."""
    files = (file for file in sorted(data.glob("*.csv")) if file.is_file())
    return next((file for file in files if _headings_at(file) is not None), None)


def _headings_at(file: Path) -> int | None:
    """The number of the line with the headings, one of the first two."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        for number in range(2):
            line = stream.readline(1000).replace(" ", "")
            if line.startswith("#name,") and ",heading,pitch,roll,f," in line:
                return number
    return None


def read_table(path: Path, data: Path) -> Source:
    """x, y and alt are the position. heading, pitch and roll, in degrees, turn a camera that looks down (-z)
    with its top to the north (y)."""
    skip = _headings_at(path)
    assert skip is not None
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream.readlines()[skip:], skipinitialspace=True))
    sizes = stored_sizes(data, [row["#name"] for row in rows])
    shots = []
    for row in rows:
        heading, pitch, roll = (float(row[name]) for name in ("heading", "pitch", "roll"))
        turn = Rotation.from_euler("ZXY", (-heading, pitch, roll), degrees=True).as_matrix()
        pose = pose_from_opengl(turn, np.array([float(row[name]) for name in ("x", "y", "alt")]))
        focal, px, py = (float(row[name]) / FILM for name in ("f", "px", "py"))
        terms = [float(row.get(name) or 0) for name in ("k1", "k2", "k3", "k4", "t1", "t2")]
        lens = _lens(path, row["#name"], sizes[row["#name"]], (focal, px, py), terms)
        shots.append(Shot(row["#name"], lens, pose, upright=False))
    return Source(sorted(shots, key=lambda shot: shot.name))


def find_sidecars(data: Path) -> Path | None:
    """The folder of the photos, if metadata files with poses lie beside them (Lightroom's have none)."""
    folder = photo_folder(data)
    first = next((file for file in sorted(folder.rglob("*.xmp")) if _has_pose(file)), None)
    return None if first is None else folder


def _has_pose(file: Path) -> bool:
    content = file.read_bytes()[:10_000] if file.is_file() else b""
    return b"capturingreality.com" in content and b"Rotation" in content


def read_sidecars(path: Path, data: Path) -> Source:
    """Rotation is camera-from-world with OpenCV axes, row by row; Position is the camera's."""
    files = {file.relative_to(path).with_suffix("").as_posix(): file for file in path.rglob("*.xmp")}
    names = [name for name in list_largest(data) if Path(name).with_suffix("").as_posix() in files]
    sizes = stored_sizes(data, names)
    shots = []
    for name in names:
        file = files[Path(name).with_suffix("").as_posix()]
        if not _has_pose(file):
            continue
        said = _metadata(file)
        rotation = np.array(said["Rotation"].split(), dtype=np.float64).reshape(3, 3)
        position = np.array(said["Position"].split(), dtype=np.float64).reshape(3)
        pose = pose_at(torch.from_numpy(rotation), torch.from_numpy(position))
        focal = float(said["FocalLength35mm"]) / FILM
        u, v = (float(said.get(f"PrincipalPoint{axis}", 0)) for axis in "UV")
        terms = [float(term) for term in said.get("DistortionCoeficients", "").split()]
        lens = _lens(file, name, sizes[name], (focal, u, v), [*terms, *[0.0] * (6 - len(terms))])
        shots.append(Shot(name, lens, pose, upright=False))
    return Source(shots)


def _metadata(file: Path) -> Mapping[str, str]:
    """What RealityScan wrote, as attributes or as elements."""
    said = {}
    for element in ElementTree.parse(file).getroot().iter():
        pairs = [*element.attrib.items(), (element.tag, element.text or "")]
        said |= {key.removeprefix(_XCR): value for key, value in pairs if key.startswith(_XCR)}
    return said


def _lens(
    path: Path, name: str, size: tuple[int, int], principal: tuple[float, float, float], terms: list[float]
) -> Intrinsics:
    """One of COLMAP's camera models.

    Args:
        principal: focal length, and principal point from the middle, as parts of the longer side.
        terms: k1, k2, k3, k4, t1, t2.
    """
    width, height = size
    f, x, y = (part * max(size) for part in principal)
    k1, k2, k3, k4, t1, t2 = terms
    if k4:
        raise InputError(
            f"{path}: the lens of {name} has a fourth radial coefficient, which cannot be read: align with "
            "the distortion model Brown3, or export undistorted photos."
        )
    return opencv_lens(size, (f, f, width / 2 + x, height / 2 + y), (k1, k2, k3), (t1, t2))
