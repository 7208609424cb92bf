"""Meshes: drawn triangles, surfaces from splats and from views, textures through a lens, the command."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from tiny_run import tiny_run
from torch import Tensor

import cocogs.mesh
from cocogs.camera import Camera, intrinsics_matrix
from cocogs.cli import main
from cocogs.gaussians import Gaussians
from cocogs.mesh import MeshOptions, make_mesh
from cocogs.mesh.atlas import Atlas, unwrapped
from cocogs.mesh.drawing import draw
from cocogs.mesh.fusion import fuse
from cocogs.mesh.sampling import sampling_of
from cocogs.mesh.shots import Shot, Shots
from cocogs.mesh.surface import Mesh, mesh_of, without_small_pieces
from cocogs.mesh.texture import baked, finished, fitted
from cocogs.mesh.views import places
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.optics.lens_models import Start
from cocogs.optics.lens_models.pinhole import Pinhole
from cocogs.optics.model import DefocusModel
from cocogs.render.paths import looking
from cocogs.render.surface_view import SurfaceView, rays, surface_view
from cocogs.run import Run, load_run
from cocogs.srgb import to_srgb

WIDTH, HEIGHT, FX = 60, 40, 50.0


def camera_at(x: float = 0.0, z: float = 0.0, target: float = 4.0) -> Camera:
    """Looks from (x, 0, z) to (0, 0, target)."""
    start = Camera(intrinsics_matrix(FX, FX, WIDTH / 2, HEIGHT / 2), torch.eye(4).double(), WIDTH, HEIGHT)
    position, aim = torch.tensor([x, 0, z]).double(), torch.tensor([0, 0, target]).double()
    return looking(start, position, aim, torch.tensor([0.0, -1, 0]).double())


def square(depth: float, side: float = 2.0) -> Mesh:
    """Two triangles that face cameras at the origin."""
    s = side / 2
    vertices = torch.tensor([[-s, -s, depth], [s, -s, depth], [s, s, depth], [-s, s, depth]])
    return Mesh(vertices, torch.tensor([[0, 2, 1], [0, 3, 2]]))


def test_what_is_nearer_hides_what_is_farther() -> None:
    far, near = square(4.0, 20.0), square(2.0, 0.96)
    vertices = torch.cat([far.vertices, near.vertices])
    drawing = draw(vertices, torch.cat([far.faces, near.faces + 4]), camera_at())
    assert (drawing.faces >= 0).all()
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[20 - 12 : 20 + 12, 30 - 12 : 30 + 12] = True  # .96 wide at depth 2: 24 px
    assert (drawing.depth[inside] == 2).all()
    assert (drawing.faces >= 2).sum() == 24**2 and (drawing.depth[drawing.faces < 2] == 4).all()
    torch.testing.assert_close(drawing.weights.sum(-1), torch.ones(HEIGHT, WIDTH))
    shown = drawing.mixed(vertices[torch.cat([far.faces, near.faces + 4])])
    ray = rays(camera_at()).permute(1, 2, 0)
    torch.testing.assert_close(shown, ray * drawing.depth[..., None], atol=1e-5, rtol=1e-5)


def test_triangles_that_pass_the_camera_are_drawn() -> None:
    """A floor one below the camera that reaches behind it: z = 1 / slope of the ray."""
    vertices = torch.tensor([[-500.0, 1, -300], [500, 1, -300], [0, 1, 900]])
    drawing = draw(vertices, torch.tensor([[0, 1, 2]]), camera_at())
    down = rays(camera_at())[1]
    expected = torch.where(down > 0, 1 / down, torch.inf)
    torch.testing.assert_close(drawing.depth, expected, rtol=1e-5, atol=0)
    behind = draw(vertices - torch.tensor([0, 0, 1000.0]), torch.tensor([[0, 1, 2]]), camera_at())
    assert (behind.faces < 0).all() and behind.depth.isinf().all()


def test_flat_splats_show_the_depth_of_their_plane() -> None:
    """Large flat splats on a slanted plane: the depth of their centres alone would be off by 10 %."""
    torch.manual_seed(0)
    slope, count = 0.5, 900
    flat = (torch.rand(count, 2) - 0.5) * 6
    means = torch.cat([flat, 4 + slope * flat[:, :1]], 1)
    half = -math.atan(slope) / 2
    quats = torch.tensor([math.cos(half), 0, math.sin(half), 0]).expand(count, 4)
    gaussians = Gaussians(
        means=means, quats=quats, scales=torch.tensor([0.3, 0.3, 1e-4]).log().expand(count, 3),
        opacities=torch.full((count,), 1.0), sh0=torch.zeros(count, 1, 3), shN=torch.zeros(count, 15, 3),
    )  # fmt: skip
    view = surface_view(gaussians, camera_at())
    ray = rays(camera_at())
    depth = 1 / (view.planes * ray).sum(0)
    error = (depth / (4 / (1 - slope * ray[0])) - 1).abs()[5:-5, 5:-5]
    assert float(error.median()) < 1e-3 and float(error.max()) < 0.02
    normal = view.planes[:, 20, 30] / view.planes[:, 20, 30].norm()
    torch.testing.assert_close(normal, torch.tensor([-slope, 0, 1]) / math.hypot(slope, 1), atol=0.02, rtol=0)


def ball_view(camera: Camera, radius: float, middle: Tensor) -> SurfaceView:
    """What a camera sees of a ball."""
    ray, center = rays(camera).double(), camera.local(middle)
    b, square_of_ray = (ray * center[:, None, None]).sum(0), ray.square().sum(0)
    root = b.square() - square_of_ray * (center @ center - radius**2)
    point = ray * ((b - root.clamp_min(0).sqrt()) / square_of_ray)
    normal = point - center[:, None, None]
    planes = normal / (normal * point).sum(0)
    spread = torch.where(root > 0, 0.0, torch.inf)
    return SurfaceView(camera, torch.where(root > 0, planes, 0).float(), spread.float())


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Radius 1 around (0, 0, 4), from views all around, of 2,000 faces."""
    pytest.importorskip("fast_simplification")
    angles = [2 * math.pi * index / 8 for index in range(8)]
    cameras = [camera_at(4 * math.sin(a), 4 - 4 * math.cos(a)) for a in angles]
    views = [ball_view(camera, 1.0, torch.tensor([0, 0, 4]).double()) for camera in cameras]
    everything = lambda points: torch.ones(len(points), dtype=torch.bool)  # noqa: E731
    return mesh_of(fuse(views, 0.08, everything), 2000, everything)


def test_views_of_a_ball_make_a_ball(ball: Mesh) -> None:
    from_middle = ball.vertices - torch.tensor([0, 0, 4.0])
    seen = from_middle[:, 1].abs() < 0.8  # the cameras stand at its equator
    assert float((from_middle.norm(dim=1) - 1)[seen].abs().max()) < 0.02
    triangle = from_middle[ball.faces]
    across = torch.linalg.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    assert ((across * triangle.mean(1)).sum(1) > 0).all()  # anticlockwise from outside
    assert 1900 <= len(ball.faces) <= 2000
    area = float(across.norm(dim=1).sum()) / 2  # the poles are seen too much at a slant, and open
    assert 0.7 * 4 * math.pi < area < 1.01 * 4 * math.pi


def test_small_pieces_are_dropped() -> None:
    points = np.concatenate([square(1.0, 2.0).vertices.numpy(), square(2.0, 0.1).vertices.numpy()])
    corners = np.concatenate([square(1.0).faces.numpy(), square(1.0).faces.numpy() + 4])
    kept, faces = without_small_pieces(points, corners)
    assert len(kept) == 4 and len(faces) == 2 and (kept[:, 2] == 1).all()


def test_places_are_those_of_the_photos_and_between_them() -> None:
    cameras = [camera_at(x) for x in (0.0, 1.0, 3.0)]
    found = places(cameras, 5)
    assert found[:3] == cameras and len(found) == 5
    assert [round(float(camera.position[0]), 6) for camera in found[3:]] == [0.5, 2.0]
    assert places(cameras, 2) == [cameras[0], cameras[1]]


def test_a_ball_is_unwrapped_without_overlap(ball: Mesh) -> None:
    pytest.importorskip("xatlas")
    atlas = unwrapped(ball, 0.05)
    low, high = atlas.places.min(0).values, atlas.places.max(0).values
    assert (low >= 0).all() and (high <= torch.tensor([atlas.width, atlas.height])).all()
    one, two, three = atlas.corners.unbind(1)
    area = torch.linalg.det(torch.stack([two - one, three - one], 1)).abs().sum() / 2
    covered = int((atlas.texels().faces >= 0).sum())
    assert 0.9 < float(area) / covered < 1.1  # overlapping triangles would cover fewer texels
    triangle = ball.vertices[ball.faces]
    across = torch.linalg.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    assert 0.9 < float(area) * 0.05**2 / (float(across.norm(dim=1).sum()) / 2) < 1.2


def flat_atlas(depth: float = 4.0, texels: int = 120) -> Atlas:
    """A square of 4 x 4 with one texture; the camera sees 50 of its px."""
    mesh = square(depth, 4.0)
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * texels
    return Atlas(mesh, corners, texels, texels)


def test_spreading_is_the_transpose_of_showing() -> None:
    atlas = flat_atlas()
    sampling = sampling_of(atlas, camera_at(0.4))
    light, picture = torch.rand(120 * 120, 3), torch.rand(3, HEIGHT, WIDTH)
    texels = torch.zeros(120 * 120, 3)
    sampling.spread(picture, texels)
    torch.testing.assert_close((sampling.picture(light) * picture).sum(), (light * texels).sum())
    constant = sampling.picture(torch.full((120 * 120, 3), 0.3))
    torch.testing.assert_close(constant, 0.3 * sampling.there.expand(3, -1, -1))


class GivenShots(Shots):
    """Shots that were not read from a run; the camera does nothing but the sRGB curve."""

    def __init__(self, atlas: Atlas, shots: list[Shot]) -> None:
        self.atlas, self.shots = atlas, shots

    def __len__(self) -> int:
        return len(self.shots)

    def __getitem__(self, index: int) -> Shot:
        return self.shots[index]

    def developed(self, light: Tensor, shot: Shot) -> Tensor:
        return to_srgb(light)


def given_shots(atlas: Atlas, light: Tensor, through_lens: bool) -> GivenShots:
    """Blurred photos of a square."""
    shots = []
    for index, (x, distance) in enumerate([(-0.6, 2.5), (0.0, 3.0), (0.5, 2.2), (0.9, 2.8)]):
        camera = camera_at(x)
        sampling, lens = sampling_of(atlas, camera), PhotoLens(torch.tensor(distance), torch.tensor(25.0))
        photo = to_srgb(photograph_layers(sampling.picture(light), sampling.depth, lens)).clamp(0, 1)
        there = (sampling.there > 0.999).float()
        shot = Shot(index, camera, sampling, photo, torch.zeros_like(photo), sampling.depth, there, lens)
        shots.append(shot if through_lens else replace(shot, lens=None))
    return GivenShots(atlas, shots)


def test_a_texture_fitted_through_the_lens_is_sharper() -> None:
    torch.manual_seed(0)
    atlas = flat_atlas()
    cells = torch.rand(3, 15, 15)
    light = torch.nn.functional.interpolate(cells[None], size=(120, 120))[0].flatten(1).T.contiguous()
    held_out = sampling_of(atlas, camera_at(0.2))
    truth = to_srgb(held_out.picture(light))
    score = {}
    for through_lens in (True, False):
        shots = given_shots(atlas, light, through_lens)
        start, _ = baked(shots)
        for name, texels in (("baked", start), ("fitted", fitted(shots, start, 20))):
            error = (to_srgb(held_out.picture(texels)) - truth)[:, held_out.there > 0.999]
            score[name, through_lens] = -10 * math.log10(float(error.square().mean()))
    assert score["fitted", True] > score["fitted", False] + 3
    assert score["fitted", True] > score["baked", True] + 3


def test_what_no_photo_saw_is_filled_in_and_counted() -> None:
    atlas = flat_atlas(texels=40)
    seen = torch.ones(40, 40)
    seen[:, 30:] = 0
    light = torch.full((40, 40, 3), 0.5)
    light[:, 30:] = 0
    texture = finished(atlas, light.view(-1, 3), seen.flatten())
    assert texture.invented == pytest.approx(0.25)
    torch.testing.assert_close(texture.pixels, to_srgb(torch.full((3, 40, 40), 0.5)).permute(1, 2, 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose splats are a wall with coloured stripes at depth 4."""
    run = load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))
    x, y = torch.meshgrid(torch.linspace(-1.8, 1.8, 30), torch.linspace(-1.4, 1.4, 24), indexing="ij")
    means = torch.stack([x.flatten(), y.flatten(), torch.full((720,), 4.0)], 1)
    colors = torch.stack([torch.sin(5 * means[:, 0] + turn) for turn in (0.0, 2.0, 4.0)], 1)
    run.model.gaussians = Gaussians(
        means=means, quats=torch.tensor([1.0, 0, 0, 0]).expand(720, 4),
        scales=torch.tensor([0.07, 0.07, 0.002]).log().expand(720, 3),
        opacities=torch.full((720,), 4.0), sh0=colors[:, None], shN=torch.zeros(720, 15, 3),
    )  # fmt: skip
    return run


@pytest.mark.thorough
@pytest.mark.parametrize("known", [None, 0.25], ids=["scene units", "metres"])
def test_a_wall_of_splats_becomes_a_wall(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: float | None
) -> None:
    pytest.importorskip("xatlas")
    pytest.importorskip("fast_simplification")
    if known is not None:
        monkeypatch.setattr(cocogs.mesh, "metres_per_unit", lambda run, remedy: known)
    lines: list[str] = []
    files = make_mesh(run, tmp_path / "wall.ply", MeshOptions(faces=500, steps=2), lines.append)
    assert [file.name for file in files] == ["wall.ply", "wall.png", "wall.mesh.json"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    facts = json.loads(files[-1].read_text())
    assert 0 < facts["faces"] <= 500 and facts["texture_fitted_through"] == "lens"
    assert facts["up"][1] < -0.9 and 0 <= facts["invented_texels"] < 0.5
    assert facts["metres_per_unit"] == known and facts["unit"] == ("metre" if known else "scene unit")
    assert any("the mesh is in scene units" in line for line in lines) == (known is None)
    vertices = PlyData.read(files[0])["vertex"]
    z = np.asarray(vertices["z"]) / (known or 1)
    assert np.abs(z - 4).max() < 0.05 and np.ptp(np.asarray(vertices["x"])) / (known or 1) > 3


def test_without_a_lens_the_photos_count_as_sharp(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("xatlas")
    pytest.importorskip("fast_simplification")
    lens = Pinhole(run.config.model, Start.unknown(6))
    pinhole = replace(run, model=DefocusModel(run.model.gaussians, lens))
    lines: list[str] = []
    files = make_mesh(pinhole, tmp_path / "a.glb", MeshOptions(faces=200, steps=1), lines.append)
    assert json.loads(files[-1].read_text())["texture_fitted_through"] == "pinhole"
    assert any("has no thin lens" in line for line in lines)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.getbasetemp(), "lens")


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("a.stl", [], "must end in .glb, .obj or .ply"),
        ("gone/a.glb", [], "is no folder: make it first"),
        ("a.glb", ["--faces", "3"], "--faces must be a whole number from 100"),
        ("a.glb", ["--steps", "-1"], "--steps must be"),
        ("a.glb", ["--crop", "0", "0", "0", "0", "1", "1"], "--crop takes six finite numbers"),
        ("a.glb", [], "no surface that they agree on"),  # 50 steps are too few
    ],
)
def test_wrong_requests_end_in_one_sentence(
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    options: list[str],
    message: str,
) -> None:
    pytest.importorskip("xatlas")
    pytest.importorskip("fast_simplification")
    assert main(["mesh", str(run_folder), str(tmp_path / file), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["xatlas", "fast_simplification"])
def test_a_missing_package_is_named_with_its_extra(
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["mesh", str(run_folder), str(tmp_path / "a.glb")]) == 2
    assert "pip install 'cocogs[mesh]'" in capsys.readouterr().err
