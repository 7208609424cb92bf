"""A scene of 8 photos of 48 x 36 px, made with our own rasterizer, and runs trained on it in seconds."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from cocogs.camera import Camera
from cocogs.cli import main
from cocogs.gaussians import Gaussians
from cocogs.optics.lens import Lens
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import refocus

VIEWS, TEST_EVERY = 8, 4
WIDTH, HEIGHT, FX = 48, 36, 50.0
APERTURE = 20.0
"""K in px x scene unit: circles of confusion of up to 4 px."""
FOCUS_DISTANCES = (3.0, 4.0, 5.5)
"""Scene units; taken in turn by the training photos."""


def write_tiny_scene(folder: Path, seed: int = 0, views: int = VIEWS) -> Path:
    """Write a COLMAP project: defocused training photos, every `TEST_EVERY`th photo sharp."""
    torch.manual_seed(seed)
    gaussians = tiny_gaussians()
    images = folder / "images"
    images.mkdir(parents=True)
    poses = []
    for index in range(views):
        camera = tiny_camera(index)
        aperture = 0.0 if index % TEST_EVERY == 0 else APERTURE
        photo = refocus(gaussians, camera, Lens(FOCUS_DISTANCES[index % 3], aperture / FX))
        write_photo(photo, images / f"view_{index}.png")
        poses.append(camera.cam_from_world)
    write_colmap_text(folder / "sparse/0", poses, gaussians.means.detach()[::2])
    return folder


def tiny_gaussians(count: int = 160) -> Gaussians:
    """Coloured splats at depths of about 2.5 to 6.5."""
    means = torch.rand(count, 3) * torch.tensor([3.6, 2.8, 4.0]) + torch.tensor([-1.8, -1.4, 2.5])
    return Gaussians(
        means=means,
        quats=torch.randn(count, 4),
        scales=torch.log(0.05 + 0.15 * torch.rand(count, 3)),
        opacities=torch.full((count,), 2.0),
        sh0=(torch.rand(count, 1, 3) - 0.5) / SH_C0,
        shN=torch.zeros(count, 15, 3),
    )


def tiny_camera(index: int) -> Camera:
    """Side by side along an arc, all looking into the scene."""
    intrinsics = torch.tensor([[FX, 0, WIDTH / 2], [0, FX, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    angle = torch.tensor(0.06 * (index - VIEWS / 2), dtype=torch.float64)
    cam_from_world = torch.eye(4, dtype=torch.float64)
    cam_from_world[0, 0] = cam_from_world[2, 2] = angle.cos()
    cam_from_world[0, 2], cam_from_world[2, 0] = angle.sin(), -angle.sin()
    cam_from_world[:3, 3] = torch.tensor([-4.5 * angle.sin(), 0.02 * (index % 3), 0.0])
    return Camera(intrinsics, cam_from_world, WIDTH, HEIGHT)


def write_photo(photo: Tensor, path: Path) -> None:
    pixels = (photo.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


def write_colmap_text(folder: Path, poses: list[Tensor], points: Tensor) -> None:
    """The three text files of a COLMAP model, with one PINHOLE camera."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FX} {FX} {WIDTH / 2} {HEIGHT / 2}\n")
    images = []
    for index, pose in enumerate(poses):
        half_angle = torch.atan2(pose[0, 2], pose[0, 0]) / 2  # the cameras turn about y only
        quaternion = (half_angle.cos().item(), 0, half_angle.sin().item(), 0)
        numbers = [index + 1, *quaternion, *pose[:3, 3].tolist(), 1, f"view_{index}.png"]
        images.append(" ".join(map(str, numbers)) + "\n\n")
    (folder / "images.txt").write_text("".join(images))
    lines = (f"{i + 1} {x} {y} {z} 128 128 128 0.5\n" for i, (x, y, z) in enumerate(points.tolist()))
    (folder / "points3D.txt").write_text("".join(lines))


SMALL = ("--iterations", "50", "--max-gaussians", "400", "--test-every", str(TEST_EVERY))
"""Options of a run that takes a second."""


def tiny_scene(root: Path) -> Path:
    """The scene, written once. Copy it to change it."""
    return made_once(root, "tiny_scene", write_tiny_scene)


@cache
def tiny_run(root: Path, preset: str) -> Path:
    """A run of 50 steps on `tiny_scene`, trained once, and copied below `root`. Copy it to change it."""

    def train(folder: Path) -> None:
        assert main(["train", str(tiny_scene(root)), "--out", str(folder), "--preset", preset, *SMALL]) == 0

    trained = made_once(root, f"trained_{preset}", train)
    return shutil.copytree(trained, root / f"tiny_run_{preset}")


def made_once(root: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first test to need it makes, for the tests of all of pytest-xdist's workers.

    Args:
        root: pytest's base folder, that of a worker or of all.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder
