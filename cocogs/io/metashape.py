"""Agisoft Metashape's cameras (File > Export > Export Cameras, "Agisoft XML") -> Source.

A camera's transform is chunk-from-camera with OpenCV axes; a component's, where there is one, is
world-from-chunk with a scale. The lens belongs to the photos as they were taken. The principal point counts
from the picture's middle, f is in px (Agisoft's manual, appendix "Camera models").
"""

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import torch

from cocogs.camera import pose_at
from cocogs.errors import InputError
from cocogs.io.source import Intrinsics, Shot, Source, opencv_lens

MOST_SKEW = 0.5  # px over the picture that may be left out: no camera model of COLMAP has skew


def find(data: Path) -> Path | None:
    """The first .xml of a folder that begins as Metashape's do."""
    return next((file for file in sorted(data.glob("*.xml")) if file.is_file() and _is_metashape(file)), None)


def _is_metashape(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(2000)
    return b"<document" in head and b"<chunk" in head


def read(path: Path, data: Path) -> Source:
    """The aligned cameras of the first chunk that has any."""
    document = ElementTree.parse(path).getroot()
    chunk = next((c for c in document.iter("chunk") if c.find(".//camera/transform") is not None), None)
    if chunk is None:
        return Source([])
    lenses = {sensor.attrib["id"]: sensor for sensor in chunk.iter("sensor")}
    places = {part.attrib["id"]: _placement(part.find("transform")) for part in chunk.iter("component")}
    shots = []
    for camera in chunk.iter("camera"):
        transform = camera.find("transform")
        if transform is None or camera.get("enabled") in ("0", "false"):
            continue
        scale, turn, shift = places.get(camera.get("component_id", ""), _placement(None))
        matrix = _numbers(transform, 16).reshape(4, 4)
        rotation, position = turn @ matrix[:3, :3], scale * turn @ matrix[:3, 3] + shift
        pose = pose_at(torch.from_numpy(rotation.T.copy()), torch.from_numpy(position))
        lens = _lens(lenses[camera.attrib["sensor_id"]], camera, path)
        shots.append(Shot(camera.attrib["label"], lens, pose, upright=False))
    return Source(sorted(shots, key=lambda shot: shot.name))


def _placement(transform: Element | None) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and translation from the chunk to the world."""
    if transform is None or transform.find("rotation") is None:
        return 1.0, np.eye(3), np.zeros(3)
    scale = float(transform.findtext("scale") or 1)
    if not scale > 0:
        raise ValueError(f"a scale of {scale}")
    rotation = _numbers(transform.find("rotation"), 9).reshape(3, 3)
    return scale, rotation, _numbers(transform.find("translation"), 3)


def _numbers(element: Element | None, count: int) -> np.ndarray:
    numbers = np.array([] if element is None else (element.text or "").split(), dtype=np.float64)
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers in place of {count}")
    return numbers


def _lens(sensor: Element, camera: Element, path: Path) -> Intrinsics:
    """One of COLMAP's camera models: a photo's own calibration, else its sensor's."""
    label, kind = camera.attrib["label"], sensor.get("type", "frame")
    calibrations = [*camera.findall("calibration"), *sensor.findall("calibration")]
    adjusted = [c for c in calibrations if c.get("class") == "adjusted"] or calibrations
    if not adjusted:
        raise ValueError(f"no calibration of {label}")
    if kind not in ("frame", "fisheye"):
        raise InputError(
            f"{path}: {label} was taken by a camera of type {kind}, which cannot be read: convert the photos "
            "to perspective ones and align them again."
        )
    found = adjusted[0]
    value = {element.tag: float(element.text or 0) for element in found if element.tag != "resolution"}
    size = found.find("resolution")
    size = sensor.find("resolution") if size is None else size
    if size is None:
        raise ValueError(f"no size of {label}")
    width, height = int(size.attrib["width"]), int(size.attrib["height"])
    f, b1, b2 = value["f"], value.get("b1", 0.0), value.get("b2", 0.0)
    principal = f + b1, f, width / 2 + value.get("cx", 0.0), height / 2 + value.get("cy", 0.0)
    k1, k2, k3, k4, p1, p2 = (value.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    unknown = {name for name in ("p3", "p4") if value.get(name)}
    unknown |= {"b2"} if abs(b2) * height / (2 * f) > MOST_SKEW else set()
    unknown |= {"k4"} if k4 and kind == "frame" else set()
    unknown |= {"p1", "p2"} if (p1 or p2) and kind == "fisheye" else set()
    if unknown:
        raise InputError(
            f"{path}: the lens of {label} has {', '.join(sorted(unknown))}, which cannot be read: optimize "
            "the cameras without them, or undistort the photos, and export again."
        )
    if kind == "fisheye":
        return Intrinsics("OPENCV_FISHEYE", width, height, (*principal, k1, k2, k3, k4))
    # Metashape's p1 and p2 are OpenCV's p2 and p1.
    return opencv_lens((width, height), principal, (k1, k2, k3), (p2, p1))
