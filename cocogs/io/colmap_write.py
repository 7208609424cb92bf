"""Write a COLMAP model of pinhole cameras, or cameras alone."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pycolmap
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.atomic import replacing, write_text
from cocogs.io.source import Intrinsics
from cocogs.io.undistort import as_pycolmap, from_camera


def write_model(folder: Path, cameras: dict[str, Camera], points: Tensor, colors: Tensor) -> list[Path]:
    """Write a binary model: pinhole cameras, and points without tracks. The model is binary because COLMAP
    cuts photo names at a space when it reads a text model.

    Args:
        cameras: by the names of their photos.
        points: (P, 3) in the world, scene units.
        colors: (P, 3) in [0, 1], sRGB.

    Returns:
        The files written.

    Raises:
        InputError: a file cannot be written.
    """
    model, lenses = pycolmap.Reconstruction(), {}
    for number, (photo, camera) in enumerate(cameras.items(), 1):
        lens = from_camera(camera)
        if lens not in lenses:
            lenses[lens] = len(lenses) + 1
            pinhole = as_pycolmap(lens)
            pinhole.camera_id = lenses[lens]
            model.add_camera_with_trivial_rig(pinhole)
        pose = pycolmap.Rigid3d(camera.cam_from_world.double().numpy()[:3])
        image = pycolmap.Image(name=photo, camera_id=lenses[lens], image_id=number)
        model.add_image_with_trivial_frame(image, pose)
    rgb = (colors.clamp(0, 1) * 255).round().byte().numpy()
    for place, color in zip(points.double().numpy(), rgb, strict=True):
        model.add_point3D(place, pycolmap.Track(), color)
    with tempfile.TemporaryDirectory() as whole:
        model.write_binary(whole)
        written = sorted(Path(whole).iterdir())
        for file in written:
            with replacing(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
    return [folder / file.name for file in written]


MARK = "# Cameras by cocogs calibrate photo."


def write_cameras(path: Path, lenses: Mapping[str, Intrinsics]) -> None:
    """Write a cameras.txt, with a camera for each lens. Comments name their photos.

    Args:
        lenses: by the names of their photos.

    Raises:
        InputError: the file is there and another program wrote it, or it cannot be written.
    """
    check_cameras(path)
    photos = defaultdict(list)
    for photo, lens in lenses.items():
        photos[lens].append(photo)
    lines = [MARK, "# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, (lens, names) in enumerate(photos.items(), 1):
        params = " ".join(f"{value:.10g}" for value in lens.params)
        lines.append(f"# Camera {number} took {', '.join(names)}".replace("\n", " "))
        lines.append(f"{number} {lens.model} {lens.width} {lens.height} {params}")
    write_text(path, "\n".join(lines) + "\n")


def check_cameras(path: Path) -> None:
    """Raises InputError where another program's file would be replaced."""
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise InputError(f"{path} is there already, from another program: give another name.")
