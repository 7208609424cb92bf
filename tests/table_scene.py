"""A table with a ball and a box on it, made of splats: every splat's owner is known."""

from pathlib import Path

import torch

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.gaussians import Gaussians
from cocogs.io.camera_path import LensSetting
from cocogs.io.lens_file import LensFile, LensPhoto, write_lens_file
from cocogs.io.ply import write_ply
from cocogs.rasterize.constants import SH_C0

TABLE, BALL, BOX, FLOATER = range(4)
BALL_RADIUS, BALL_PLACE = 0.22, (0.35, -0.22, -0.1)  # y points down: it stands on y = 0
BOX_SIDE, BOX_PLACE = 0.34, (-0.4, -0.17, 0.25)
COLORS = ((0.55, 0.5, 0.45), (0.8, 0.25, 0.2), (0.2, 0.35, 0.7), (0.9, 0.9, 0.2))
WIDTH, HEIGHT, FOCAL = 240, 180, 255.0


def table_scene() -> tuple[Gaussians, torch.Tensor]:
    """The splats, flat along the surfaces, and the owner of each."""
    draw = torch.Generator().manual_seed(3)
    ticks = torch.linspace(-1.4, 1.4, 57)
    x, z = (grid.flatten() for grid in torch.meshgrid(ticks, ticks, indexing="ij"))
    table = torch.stack([x, 0 * x, z], 1)
    turn, height = torch.arange(900) * 2.399963, 1 - 2 * (torch.arange(900) + 0.5) / 900
    ring = (1 - height.square()).sqrt()
    ball = torch.stack([ring * turn.cos(), height, ring * turn.sin()], 1)
    side = torch.linspace(-0.5, 0.5, 14)
    a, b = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="ij"))
    ends = [(axis, end) for axis in range(3) for end in (-0.5, 0.5)]
    box = torch.cat([torch.stack([a, b, 0 * a + end], 1).roll(axis, 1) for axis, end in ends])
    faces = torch.cat([torch.tensor([0.0, 0, 1]).roll(axis).expand(len(a), 3) for axis, _ in ends])
    floaters = torch.rand(12, 3, generator=draw) * torch.tensor([1.0, 0.15, 0.3])
    floaters += torch.tensor([-0.5, -0.6, -0.9])
    down = torch.tensor([0.0, 1.0, 0.0])
    normals = torch.cat([down.expand(len(table), 3), ball, faces, down.expand(len(floaters), 3)])
    balls, boxes = torch.tensor(BALL_PLACE) + BALL_RADIUS * ball, torch.tensor(BOX_PLACE) + BOX_SIDE * box
    parts = (table, balls, boxes, floaters)
    owner = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
    sizes = torch.tensor([0.03, 0.02, 0.016, 0.02])[owner][:, None] * torch.tensor([1.0, 1.0, 0.1])
    colors = torch.tensor(COLORS)[owner] + 0.04 * torch.randn(len(owner), 3, generator=draw)
    return Gaussians(
        means=torch.cat(parts),
        quats=_turned_to(normals),
        scales=sizes.log(),
        opacities=torch.where(owner == FLOATER, -1.0, 4.0),
        sh0=((colors - 0.5) / SH_C0)[:, None],
        shN=0.02 * torch.randn(len(owner), 15, 3, generator=draw),
    ), owner


def _turned_to(normals: torch.Tensor) -> torch.Tensor:
    """Quaternions (wxyz) of rotations from the z axis to normals."""
    x, y, z = normals.unbind(1)
    back = z < -0.999
    quats = torch.stack([1 + z, -y, x, 0 * x], 1)
    quats[back] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    return torch.nn.functional.normalize(quats, dim=1)


def table_cameras(count: int = 8) -> dict[str, Camera]:
    """Cameras on an arc of 100 degrees that look down at the middle of the table, by their photos' names."""
    cameras = {}
    for index in range(count):
        turn = torch.deg2rad(torch.tensor(100.0 * (index / (count - 1) - 0.5))).double()
        position = torch.stack([2.4 * turn.sin(), torch.tensor(-1.1).double(), -2.4 * turn.cos()])
        forward = torch.nn.functional.normalize(torch.tensor([0.0, -0.1, 0.0]).double() - position, dim=0)
        right = torch.nn.functional.normalize(
            torch.linalg.cross(torch.tensor([0.0, 1, 0]).double(), forward), dim=0
        )
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ position
        intrinsics = intrinsics_matrix(FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)
        cameras[f"photo_{index}.png"] = Camera(intrinsics, pose, WIDTH, HEIGHT)
    return cameras


def write_table(folder: Path) -> Path:
    """SCENE.ply and SCENE.lens.json; returns the .ply."""
    gaussians, _ = table_scene()
    path = folder / "table.ply"
    write_ply(path, gaussians)
    photos = [
        LensPhoto(name, False, camera, LensSetting(2.5, 0.05)) for name, camera in table_cameras().items()
    ]
    write_lens_file(LensFile(0.05, None, None, photos, (0.0, 0.0, 0.0), []), folder / "table.lens.json")
    return path
