"""Write a COLMAP model of pinhole cameras."""

import shutil
import tempfile
from pathlib import Path

import pycolmap
from torch import Tensor

from cocogs.camera import Camera
from cocogs.io.atomic import replacing
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
