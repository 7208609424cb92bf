"""Exports: what other programs read is what was trained."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from tiny_run import tiny_camera, tiny_gaussians, tiny_run

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.export import ExportOptions, choose, export, export_cameras, export_splats
from cocogs.gaussians import Gaussians
from cocogs.io.colmap import read_model
from cocogs.io.colmap_write import write_model
from cocogs.io.lens_file import read_lens_file
from cocogs.io.lock import alone_in
from cocogs.io.ply import read_ply
from cocogs.learned_lens import write_learned_lens
from cocogs.rasterize import rasterize
from cocogs.rasterize.constants import SH_C0
from cocogs.run import Run, load_run

TRANSFORM = os.environ.get("SPLAT_TRANSFORM") or shutil.which("splat-transform")
needs_transform = pytest.mark.skipif(
    TRANSFORM is None, reason="needs `npm install -g @playcanvas/splat-transform`, 3.7 or newer"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


@pytest.fixture
def gaussians() -> Gaussians:
    """With sheen, unequal scales and quaternions of any length."""
    torch.manual_seed(5)
    scene = tiny_gaussians(300)
    with torch.no_grad():
        scene.shN.normal_(std=0.15)
        scene.opacities.uniform_(-1, 4)
    return scene


@torch.no_grad()
def picture(scene: Gaussians, sh_degree: int = 3) -> torch.Tensor:
    return rasterize(*scene.activated(), scene.sh0, scene.shN, tiny_camera(3), sh_degree=sh_degree).colors[0]


def difference(a: Gaussians, b: Gaussians, sh_degree: int = 3) -> float:
    return float((picture(a, sh_degree) - picture(b, sh_degree)).abs().mean())


def converted(source: Path, target: Path) -> Path:
    """Through @playcanvas/splat-transform."""
    command = [str(TRANSFORM), "-q", "-w", "-g", "cpu", str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def reported(path: Path) -> dict:
    """What splat-transform says of a file."""
    command = [str(TRANSFORM), str(path), "--info=json", "null"]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True)
    return json.loads(answer.stdout)


def test_ply_draws_the_same_through_gsplats_conventions(gaussians: Gaussians, tmp_path: Path) -> None:
    """SH order, activations and quaternion order, judged by code that is not ours."""
    export_splats(gaussians, tmp_path / "a.ply")
    g = read_ply(tmp_path / "a.ply").double()
    theirs = rasterize(*g.activated(), g.sh0, g.shN, tiny_camera(3), backend="gsplat").colors[0].detach()
    torch.testing.assert_close(theirs.float(), picture(gaussians), atol=1e-3, rtol=0)


@needs_transform
def test_splat_transform_reads_our_ply(gaussians: Gaussians, tmp_path: Path) -> None:
    gaussians.antialiased = True  # the header has comments
    export_splats(gaussians, tmp_path / "a.ply", torch.tensor([5e5, 5.2e6, 300]))
    again = read_ply(converted(tmp_path / "a.ply", tmp_path / "b.ply"))
    assert difference(again, gaussians) < 1e-5


@needs_transform
@pytest.mark.parametrize("antialiased", [False, True])
def test_splat_transform_is_told_how_splats_are_drawn(
    gaussians: Gaussians, tmp_path: Path, antialiased: bool
) -> None:
    """And hands it on to the formats that we do not write."""
    gaussians.antialiased = antialiased
    ours, packed = tmp_path / "a.ply", tmp_path / "a.compressed.ply"
    for path in (ours, packed):
        export_splats(gaussians, path)
    others = [converted(ours, tmp_path / f"b.{ending}") for ending in ("sog", "spz", "ply")]
    for path in (ours, packed, *others):
        report = reported(path)
        assert report["model"] == ("antialiased" if antialiased else "default"), path
        assert report["numGaussians"] == len(gaussians)
    assert read_ply(tmp_path / "b.ply").antialiased == antialiased


@needs_transform
@pytest.mark.parametrize(("ending", "degree", "limit"), [("compressed.ply", 3, 0.01), ("splat", 0, 0.01)])
def test_splat_transform_reads_our_other_formats(
    gaussians: Gaussians, tmp_path: Path, ending: str, degree: int, limit: float
) -> None:
    export_splats(gaussians, tmp_path / f"a.{ending}")
    again = read_ply(converted(tmp_path / f"a.{ending}", tmp_path / "b.ply"))
    assert len(again) == len(gaussians)
    assert difference(again, gaussians, degree) < limit


@needs_transform
@pytest.mark.parametrize(("ending", "limit"), [("spz", 0.02), ("sog", 0.02)])
def test_documented_commands_for_spz_and_sog(
    gaussians: Gaussians, tmp_path: Path, ending: str, limit: float
) -> None:
    export_splats(gaussians, tmp_path / "a.ply")
    packed = converted(tmp_path / "a.ply", tmp_path / f"a.{ending}")
    again = read_ply(converted(packed, tmp_path / "b.ply"))
    assert difference(again, gaussians) < limit


def test_splat_layout(gaussians: Gaussians, tmp_path: Path) -> None:
    """32 bytes a splat: place, scales, colour and opacity, quaternion."""
    export_splats(gaussians, tmp_path / "a.splat")
    layout = np.dtype([("place", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
    records = np.fromfile(tmp_path / "a.splat", layout)
    means, quats, scales, opacities = (values.detach() for values in gaussians.activated())
    order = [int((means - torch.from_numpy(r["place"].copy())).norm(dim=1).argmin()) for r in records]
    assert sorted(order) == list(range(len(gaussians)))
    np.testing.assert_allclose(records["scale"], scales[order].numpy(), rtol=1e-5)
    colors = (gaussians.sh0[:, 0].detach() * SH_C0 + 0.5)[order]
    np.testing.assert_allclose(records["rgba"][:, :3], (colors * 255).clamp(0, 255).numpy(), atol=1.01)
    np.testing.assert_allclose(records["rgba"][:, 3], (opacities * 255)[order].numpy(), atol=1.01)
    unit = torch.nn.functional.normalize(quats, dim=-1)[order]
    np.testing.assert_allclose((records["quat"].astype(float) - 128) / 128, unit.numpy(), atol=0.0101)


def test_options_keep_how_splats_are_drawn(gaussians: Gaussians) -> None:
    for antialiased in (False, True):
        gaussians.antialiased = antialiased
        assert choose(gaussians, ExportOptions(max_splats=3)).antialiased == antialiased


def test_options_choose_splats(gaussians: Gaussians) -> None:
    means, _, scales, opacities = (values.detach() for values in gaussians.activated())
    cropped = choose(gaussians, ExportOptions(crop=(1.0, 1.0, 5.0, -1.0, -1.0, 3.0)))
    inside = (means[:, :2].abs() <= 1).all(1) & (means[:, 2] >= 3) & (means[:, 2] <= 5)
    assert torch.equal(cropped.means, means[inside]) and 0 < len(cropped) < len(gaussians)
    solid = choose(gaussians, ExportOptions(min_opacity=0.8))
    assert len(solid) == int((opacities >= 0.8).sum())
    few = choose(gaussians, ExportOptions(max_splats=50))
    assert len(few) == 50
    two = scales.sort(dim=1).values[:, 1:].prod(1)
    assert torch.equal(few.means, means[(opacities * two) >= (opacities * two).topk(50).values[-1]])
    both = choose(gaussians, ExportOptions(max_splats=50, min_opacity=0.8))
    assert len(both) == 50 and float(both.opacities.detach().sigmoid().min()) >= 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_opacity": 1.5}, "`min_opacity` must be a finite number from 0 to 1, not 1.5"),
        ({"max_splats": 0}, "`max_splats` must be a whole number from 1 to 2147483647, not 0"),
        ({"crop": (0, 0, 0, 1, 1, float("nan"))}, "`crop` takes six finite numbers"),
        ({"crop": (90, 90, 90, 91, 91, 91)}, "No splat is left"),
    ],
)
def test_options_that_leave_nothing(gaussians: Gaussians, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(gaussians, ExportOptions(**options))


def test_lens_and_cameras(run: Run, tmp_path: Path) -> None:
    _, path = export(run.folder, tmp_path / "scene.compressed.ply", ExportOptions())
    assert path.name == "scene.lens.json"
    document = json.loads(path.read_text())
    assert document == json.loads((run.folder / "lens.json").read_text())
    assert document["schema"] == "cocogs-lens/1"
    assert document["aperture_diameter"] == pytest.approx(run.lens().aperture_diameter)
    assert [photo["name"] for photo in document["photos"]] == [view.name for view in run.scene.views]
    for photo, view in zip(document["photos"], run.scene.views, strict=True):
        assert photo["cam_from_world"] == view.camera.cam_from_world.tolist()
        assert photo["test"] == view.is_test == (photo["focus_distance"] is None)


def test_a_run_without_a_lens(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    _, path = export(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"), tmp_path / "a.ply", ExportOptions())
    document = json.loads(path.read_text())
    assert document["aperture_diameter"] is None
    assert all(photo["focus_distance"] is None for photo in document["photos"])


def test_a_compressed_file_is_for_others(gaussians: Gaussians, tmp_path: Path) -> None:
    export_splats(gaussians, tmp_path / "a.compressed.ply")
    with pytest.raises(InputError, match=r"a\.compressed\.ply is a compressed \.ply, which only other"):
        read_ply(tmp_path / "a.compressed.ply")


def test_colmap_model_reads_back(run: Run, tmp_path: Path) -> None:
    files = export_cameras(run, tmp_path / "sparse/0")
    names = {file.name for file in files}
    assert names >= {"cameras.bin", "images.bin", "points3D.bin"}
    assert names == {file.name for file in (tmp_path / "sparse/0").iterdir()}
    source = read_model(tmp_path / "sparse/0")
    assert source.points is not None
    torch.testing.assert_close(source.points.float(), run.scene.points)
    for shot, view in zip(source.shots, run.scene.views, strict=True):
        assert shot.name == view.name
        torch.testing.assert_close(shot.cam_from_world, view.camera.cam_from_world, atol=1e-9, rtol=0)
        camera = view.camera
        assert shot.intrinsics.params == (camera.fx, camera.fy, camera.cx, camera.cy)


def test_colmap_model_keeps_spaces_and_lenses(run: Run, tmp_path: Path) -> None:
    first, second = (view.camera for view in run.scene.views[:2])
    cameras = {"left side.jpg": first, "b/right side.jpg": second, "wide.jpg": second.resized(90, 60)}
    write_model(tmp_path, cameras, run.scene.points, run.scene.point_colors)
    model = pycolmap.Reconstruction(str(tmp_path))
    assert {image.name for image in model.images.values()} == set(cameras)
    assert model.num_reg_images() == 3 and model.num_cameras() == 2
    assert model.num_points3D() == len(run.scene.points)
    for name, camera in cameras.items():
        image = model.find_image_with_name(name)
        assert image is not None and image.camera is not None
        assert (image.camera.width, image.camera.height) == (camera.width, camera.height)
        pixels, _ = camera.project(run.scene.points[:5])
        theirs = [image.project_point(p) for p in run.scene.points[:5].double().numpy()]
        torch.testing.assert_close(torch.tensor(np.array(theirs)).float(), pixels.float(), atol=1e-3, rtol=0)


def test_export_writes_all_that_belongs_to_the_splats(run: Run, tmp_path: Path) -> None:
    options = ExportOptions(max_splats=20, colmap=tmp_path / "model")
    splats, lens, *model = export(run.folder, tmp_path / "scene.ply", options, pytest.fail)
    assert (splats, lens) == (tmp_path / "scene.ply", tmp_path / "scene.lens.json")
    assert sorted(model) == sorted((tmp_path / "model").iterdir()) and model
    assert len(read_ply(splats)) == 20


@pytest.fixture
def orphan(run: Run, tmp_path: Path) -> Path:
    """The run, far from its source's origin, without its photos."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace(str(run.scene.source), str(tmp_path / "gone")))
    lens = json.loads((folder / "lens.json").read_text())
    (folder / "lens.json").write_text(json.dumps(lens | {"offset": OFFSET.tolist()}))
    return folder


def test_export_needs_no_photos(run: Run, orphan: Path, tmp_path: Path) -> None:
    said: list[str] = []
    splats, lens = export(orphan, tmp_path / "a.ply", ExportOptions(), said.append)
    assert len(read_ply(splats)) == len(run.model.gaussians)
    assert (
        b"\ncomment offset 500000.25 5200000.0 -300.125\n" in splats.read_bytes().partition(b"end_header")[0]
    )
    assert len(said) == 1 and "add (500000.25, 5200000, -300.125)" in said[0]
    assert read_lens_file(lens).offset == tuple(OFFSET.tolist())
    assert len(read_lens_file(lens).photos) == len(run.scene.views)


def test_a_colmap_model_needs_the_photos(orphan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        export(orphan, tmp_path / "b.ply", ExportOptions(colmap=tmp_path / "c"))
    assert not (tmp_path / "b.ply").exists() and not (tmp_path / "c").exists()


@pytest.mark.parametrize("damage", ["absent", "[]", "{"])
def test_a_run_whose_lens_file_is_damaged(orphan: Path, tmp_path: Path, damage: str) -> None:
    (orphan / "lens.json").unlink() if damage == "absent" else (orphan / "lens.json").write_text(damage)
    with pytest.raises(InputError, match=r"run/lens\.json .*--resume writes it again\."):
        export(orphan, tmp_path / "b.ply", ExportOptions())
    assert not (tmp_path / "b.ply").exists()


def test_two_exports_of_one_name_do_not_mix(run: Run, tmp_path: Path) -> None:
    """Both endings have one lens file; other names in the folder are free."""
    with alone_in(tmp_path, ".scene.lens.json.lock"):
        with pytest.raises(InputError, match=r"Another cocogs is at work in .* or give another `file`"):
            export(run.folder, tmp_path / "scene.splat", ExportOptions())
        assert len(export(run.folder, tmp_path / "other.ply", ExportOptions())) == 2
    with (
        alone_in(tmp_path / "model"),
        pytest.raises(InputError, match=r"Another cocogs is at work in .*model: .* `colmap`"),
    ):
        export(run.folder, tmp_path / "scene.ply", ExportOptions(colmap=tmp_path / "model"))
    assert not (tmp_path / "scene.ply").exists()


# --- scenes whose source has coordinates that float32 cannot hold

OFFSET = torch.tensor([500_000.25, 5_200_000.0, -300.125], dtype=torch.float64)


def test_splats_keep_their_coordinates_and_note_the_offset(gaussians: Gaussians, tmp_path: Path) -> None:
    for ending in ("ply", "compressed.ply", "splat"):
        path, said = tmp_path / f"a.{ending}", []
        export_splats(gaussians, path, OFFSET, said.append)
        [line] = said
        assert line.startswith(f"{path} has the scene's own coordinates: add (500000.25, 5200000, -300.125)")
        header = path.read_bytes().partition(b"end_header")[0]
        assert (b"\ncomment offset 500000.25 5200000.0 -300.125\n" in header) == (ending != "splat")
    assert torch.equal(read_ply(tmp_path / "a.ply").means, gaussians.means)


def test_an_ordinary_scene_has_nothing_to_note(gaussians: Gaussians, tmp_path: Path) -> None:
    export_splats(gaussians, tmp_path / "a.ply", torch.zeros(3).double(), pytest.fail)
    assert b"comment" not in (tmp_path / "a.ply").read_bytes()


def test_colmap_model_has_the_sources_coordinates(run: Run, tmp_path: Path) -> None:
    """To a hundredth of a micrometre where the unit is a metre; the lens file keeps those of the splats."""
    far = replace(run, scene=replace(run.scene, offset=OFFSET))
    export_cameras(far, tmp_path / "model")
    write_learned_lens(tmp_path, far.model, far.scene)
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    for view in run.scene.views:
        image = model.find_image_with_name(view.name)
        assert image is not None
        centre = torch.from_numpy(image.projection_center())
        torch.testing.assert_close(centre, view.camera.position + OFFSET, atol=1e-8, rtol=0)
    points = torch.from_numpy(np.array([point.xyz for point in model.points3D.values()]))
    expected = run.scene.points.double() + OFFSET
    torch.testing.assert_close(points.sort(0).values, expected.sort(0).values, atol=1e-8, rtol=0)
    for photo, view in zip(read_lens_file(tmp_path / "lens.json").photos, run.scene.views, strict=True):
        assert torch.equal(photo.camera.cam_from_world, view.camera.cam_from_world)
    assert read_lens_file(tmp_path / "lens.json").offset == tuple(OFFSET.tolist())


# --- splats that a format or a rasterizer cannot hold


@pytest.mark.parametrize("ending", ["ply", "compressed.ply", "splat"])
def test_bad_splats_are_left_out_and_counted(gaussians: Gaussians, tmp_path: Path, ending: str) -> None:
    """gsplat's writers lose all splats where one opacity is not finite."""
    said: list[str] = []
    with torch.no_grad():
        gaussians.opacities[3] = torch.nan
        gaussians.means[5] = torch.inf
        gaussians.scales[7] = 1e30
    export_splats(gaussians, tmp_path / f"a.{ending}", say=said.append)
    assert said == ["The scene: 3 of 300 splats are not finite and are left out."]
    assert (tmp_path / f"a.{ending}").stat().st_size > 297 * 32 - 1


def test_a_compressed_ply_leaves_out_what_is_too_faint(gaussians: Gaussians, tmp_path: Path) -> None:
    said, path = [], tmp_path / "a.compressed.ply"
    with torch.no_grad():
        gaussians.opacities[:10] = -6.0
    export_splats(gaussians, path, say=said.append)
    assert said == [f"{path} leaves out 10 of 300 splats, which are fainter than 1/255."]
    assert b"element vertex 290\n" in path.read_bytes()
    with torch.no_grad():
        gaussians.opacities.fill_(-6.0)
    with pytest.raises(InputError, match=r"too faint for .*a\.compressed\.ply: write a \.ply"):
        export_splats(gaussians, path)
    assert b"element vertex 290\n" in path.read_bytes()  # the file of before is still there


# --- the command


def test_the_command(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scene.ply"
    choice = ["--max-splats", "20", "--crop", *["-9", "-9", "-9", "9", "9", "9"]]
    assert main(["export", str(run.folder), str(out), *choice]) == 0
    assert capsys.readouterr().out.splitlines() == [str(out), str(tmp_path / "scene.lens.json")]
    assert len(read_ply(out)) == 20
    assert main(["export", str(run.folder), str(tmp_path / "scene.obj")]) == 2
    assert "does not end in .ply" in capsys.readouterr().err
