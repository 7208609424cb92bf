"""OpenMVG's sfm_data.json -> Source.

Rotations are camera-from-world with OpenCV axes, `center` is the camera's position, the intrinsics are in px.
OpenMVG's pixel centres are whole numbers, ours lie at +0.5.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from cocogs.camera import pose_at
from cocogs.errors import InputError
from cocogs.io.json_file import read_json
from cocogs.io.source import Intrinsics, Shot, Source, opencv_lens

_CENTRE = 0.5
_TERMS = ("disto_k1", "disto_k3", "disto_t2", "fisheye")
_KINDS = ("pinhole", "pinhole_radial_k1", "pinhole_radial_k3", "pinhole_brown_t2", "fisheye")


def find(data: Path) -> Path | None:
    """sfm_data.json, or the first sfm_data*.json."""
    return next(iter(sorted(data.glob("sfm_data*.json"))), None)


def read(path: Path, data: Path) -> Source:
    """The views that have a pose, and the points, which have no colours: they become grey."""
    content = read_json(path, "export it again")
    lenses = _lenses(path, content["intrinsics"])
    poses = {entry["key"]: entry["value"] for entry in content["extrinsics"]}
    shots = []
    for view in (entry["value"]["ptr_wrapper"]["data"] for entry in content["views"]):
        if view["id_pose"] in poses and view["id_intrinsic"] in lenses:
            place = poses[view["id_pose"]]
            rotation, center = (
                torch.tensor(place[key], dtype=torch.float64).reshape(shape)
                for key, shape in (("rotation", (3, 3)), ("center", (3,)))
            )
            name = f"{str(view.get('local_path', '')).strip('/')}/{view['filename']}".lstrip("/")
            lens = lenses[view["id_intrinsic"]]
            shots.append(Shot(name, lens, pose_at(rotation, center), upright=False))
    points = [entry["value"]["X"] for entry in content.get("structure") or []]
    shots.sort(key=lambda shot: shot.name)
    if not points:
        return Source(shots)
    return Source(shots, torch.tensor(points, dtype=torch.float64), torch.full((len(points), 3), 0.5))


def _lenses(path: Path, entries: list) -> dict[int, Intrinsics]:
    """COLMAP's camera models by OpenMVG's numbers. Only the first lens of a kind carries its kind's name."""
    kinds: dict[int, str] = {}
    lenses = {}
    for entry in entries:
        value = entry["value"]
        number = value["polymorphic_id"] & 0x7FFFFFFF  # the highest bit marks the first of a kind
        kind = kinds.setdefault(number, value.get("polymorphic_name", ""))
        lenses[entry["key"]] = _lens(path, kind, value["ptr_wrapper"]["data"])
    return lenses


def _lens(path: Path, kind: str, data: Mapping) -> Intrinsics:
    if kind not in _KINDS:
        raise InputError(
            f"{path}: a lens of the kind {kind!r:.40} cannot be read: use one of {', '.join(_KINDS)}."
        )
    data = {**data, **data.get("value0", {})}  # later versions keep what all lenses have in here
    f, (cx, cy) = float(data["focal_length"]), map(float, data["principal_point"])
    width, height, middle = int(data["width"]), int(data["height"]), (cx + _CENTRE, cy + _CENTRE)
    terms = next(([float(term) for term in data[key]] for key in data if key in _TERMS), [])
    if kind == "fisheye":
        four = (*terms, *[0.0] * (4 - len(terms)))
        return Intrinsics("OPENCV_FISHEYE", width, height, (f, f, *middle, *four))
    k1, k2, k3, t1, t2 = [*terms, *[0.0] * (5 - len(terms))]
    # OpenMVG's t1 and t2 are OpenCV's p2 and p1.
    return opencv_lens((width, height), (f, f, *middle), (k1, k2, k3), (t2, t1))
