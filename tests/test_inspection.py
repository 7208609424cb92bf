"""`cocogs inspect`: what photos of a known lens have in focus, what none has, and what it cannot tell."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from datasets import make_cameras, take_photo, write_colmap
from PIL import Image
from torch import Tensor

from cocogs.camera import Camera
from cocogs.cli import main
from cocogs.io.lens_file import Metres
from cocogs.io.truth_file import read_truth
from cocogs.measure.alignment import align
from cocogs.measure.inspection import (
    DepthStep,
    ExifAgreement,
    Inspection,
    depth_steps,
    in_focus_range,
    inspect_scene,
)
from cocogs.optics.evidence import Evidence
from cocogs.optics.search import fit_blurs, variation
from cocogs.optics.sharpness import blur_map, gaussian_blur
from cocogs.scene import open_scene

APERTURE, WIDE = 40.0, 60.0
"""K in px x scene unit; the room lies between 2.6 and 4.6, so circles of confusion reach 6 and 10 px."""
VIEWS = 9
VARIED = [float(1 / v) for v in np.linspace(1 / 2.7, 1 / 4.6, VIEWS)[[3, 0, 6, 1, 8, 4, 2, 7, 5]]]


def room_cameras(count: int) -> list[Camera]:
    """Those of `datasets`, away from the left wall, so that nothing is nearer than about 2.6."""
    cameras = []
    for camera in make_cameras(count):
        pose = camera.cam_from_world.clone()
        pose[:3, 3] -= pose[:3, :3] @ torch.tensor([1.3, 0.0, 0.0], dtype=torch.float64)
        cameras.append(Camera(camera.intrinsics, pose, camera.width, camera.height))
    return cameras


def room_depths(camera: Camera) -> Tensor:
    """(H, W) z-depth of the room of `datasets`: the walls z = 4, y = 1, x = -1.5."""
    x, y = torch.meshgrid(torch.arange(camera.width) + 0.5, torch.arange(camera.height) + 0.5, indexing="xy")
    rays = torch.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)], -1)
    rays = rays.double() @ camera.cam_from_world[:3, :3]
    nearest = torch.full(x.shape, math.inf, dtype=torch.float64)
    for axis, place in ((2, 4.0), (1, 1.0), (0, -1.5)):
        distance = (place - camera.position[axis]) / rays[..., axis]
        nearest = torch.where((distance > 0) & (distance < nearest), distance, nearest)
    return nearest.float()  # rays have length 1 along z: the distance is the depth


def defocused(camera: Camera, focus_distance: float | None, aperture: float) -> np.ndarray:
    """The room through the lens: each pixel from the copy of the photo that is blurred as its depth wants."""
    photo = torch.from_numpy(take_photo(camera)).permute(2, 0, 1).float() / 255
    if focus_distance is None:
        return take_photo(camera)
    wanted = aperture * (1 / room_depths(camera) - 1 / focus_distance).abs() / 4  # deviation of a disc
    levels = [0.0, 0.25, 0.5, 0.75, 1.0, 1.35, 1.75, 2.25, 3.0, 4.0]
    copies = torch.stack([photo if s == 0 else gaussian_blur(photo, s) for s in levels])
    upper = torch.searchsorted(torch.tensor(levels), wanted).clamp(1, len(levels) - 1)
    low, high = (torch.tensor(levels)[i] for i in (upper - 1, upper))
    share = ((wanted - low) / (high - low)).clamp(0, 1)
    below, above = (copies.gather(0, i[None, None].expand(1, 3, -1, -1))[0] for i in (upper - 1, upper))
    return ((1 - share) * below + share * above).mul(255).round().byte().permute(1, 2, 0).numpy()


def write_room(folder: Path, focus_distances: list[float | None], aperture: float) -> Path:
    """A COLMAP project of the room, with points on all its walls."""
    cameras = room_cameras(len(focus_distances))
    names = [f"{i:03d}.png" for i in range(len(cameras))]
    write_colmap(folder / "sparse" / "0", cameras, names)
    model = pycolmap.Reconstruction(str(folder / "sparse" / "0"))
    for camera in cameras[::4]:
        depths = room_depths(camera)
        x, y = torch.meshgrid(torch.arange(6, 234, 7), torch.arange(6, 174, 7), indexing="xy")
        z = depths[y, x]
        rays = torch.stack([(x + 0.5 - camera.cx) / camera.fx, (y + 0.5 - camera.cy) / camera.fy,
                            torch.ones_like(z)], -1)  # fmt: skip
        local = (rays * z[..., None]).reshape(-1, 3).double() - camera.cam_from_world[:3, 3]
        for point in (local @ camera.cam_from_world[:3, :3]).numpy():
            model.add_point3D(point, pycolmap.Track(), np.array([128, 128, 128], np.uint8))
    model.write_binary(folder / "sparse" / "0")
    (folder / "images").mkdir()
    for name, camera, focus in zip(names, cameras, focus_distances, strict=True):
        Image.fromarray(defocused(camera, focus, aperture)).save(folder / "images" / name)
    return folder


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each photo focused elsewhere. Do not change it."""
    return write_room(tmp_path_factory.mktemp("varied") / "room", list(VARIED), WIDE)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All photos focused at 2.8. Do not change it."""
    return write_room(tmp_path_factory.mktemp("alike") / "room", [2.8] * VIEWS, APERTURE)


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed aperture. Do not change it."""
    return write_room(tmp_path_factory.mktemp("sharp") / "room", [None] * VIEWS, 0.0)


def inspect(data: Path, tmp_path: Path) -> Inspection:
    return inspect_scene(open_scene(data, tmp_path / "cache", say=lambda line: None))


def test_varied_focus_is_found_and_nothing_is_lost(varied: Path, tmp_path: Path) -> None:
    found = inspect(varied, tmp_path)
    assert found.method == "compared"
    errors = [abs(p.focus_distance / z - 1) for p, z in zip(found.photos, VARIED, strict=True)]
    assert np.mean(np.array(errors) < 0.1) >= 0.9
    assert found.K == pytest.approx(WIDE, rel=0.5)  # the room's texture is not a natural one
    assert found.lost_ranges == [] and found.warnings == []
    for photo in found.photos:
        assert photo.near < photo.focus_distance and (photo.far is None or photo.focus_distance < photo.far)


def test_photos_focused_alike_lose_what_lies_elsewhere(alike: Path, tmp_path: Path) -> None:
    found = inspect(alike, tmp_path)
    assert found.method == "each alone"
    assert np.median([p.focus_distance for p in found.photos]) == pytest.approx(2.8, rel=0.1)
    ((near, far),) = found.lost_ranges
    assert 3.2 < near < 3.9 and far > 4.1
    assert found.warnings[0].startswith(f"No photo is sharp between {near:.3g} and {far:.3g} (scene units)")


@pytest.mark.thorough
def test_the_bundled_scene(tmp_path: Path) -> None:
    """Ray traced, with COLMAP's cameras: each focus distance within 10 % of the truth, K too."""
    assert_near_the_truth(Path(__file__).parents[1] / "data" / "demo", tmp_path, aperture=0.1)


@pytest.mark.slow
def test_the_tiles(shared_data: Path, tmp_path: Path) -> None:
    options = {"downscale": 2, "test_every": 8}
    assert_near_the_truth(shared_data / "truth" / "tiles", tmp_path, aperture=0.15, **options)


@pytest.mark.slow
def test_real_photos_whose_focus_the_camera_wrote_down(shared_data: Path, tmp_path: Path) -> None:
    """Blur is slight there, so what autofocus would choose is what is left: .87."""
    data = shared_data / "real" / "moldcape_f25"
    found = inspect_scene(open_scene(data, tmp_path / "cache", downscale=2, say=lambda line: None))
    assert found.exif.focus_correlation is not None and found.exif.focus_correlation > 0.85
    assert found.lost_ranges == []


def assert_near_the_truth(data: Path, tmp_path: Path, aperture: float, **options: Any) -> None:
    """Nine tenths of the focus distances within 10 % of truth.json, K within `aperture`, and nothing lost."""
    scene, truth = (
        open_scene(data, tmp_path / "cache", say=lambda line: None, **options),
        read_truth(data / "truth.json"),
    )
    found = inspect_scene(scene)
    positions = torch.stack([view.camera.position for view in scene.views])
    unit = align(positions, torch.stack([truth.frames[view.name].position for view in scene.views])).scale
    true_focus = {name: frame.focus_distance for name, frame in truth.frames.items()}
    errors = [abs(p.focus_distance * unit / (true_focus[p.name] or math.nan) - 1) for p in found.photos]
    assert np.mean(np.array(errors) < 0.1) >= 0.9, errors
    true_aperture = truth.aperture_diameter / unit * scene.views[0].camera.fx
    assert found.K == pytest.approx(true_aperture, rel=aperture)
    assert found.method == "compared" and found.lost_ranges == []


def test_sharp_photos_are_well(sharp: Path, tmp_path: Path) -> None:
    found = inspect(sharp, tmp_path)
    assert found.lost_ranges == [] and found.warnings == [] and found.method == "none"
    assert found.summary[0].startswith("No blur could be measured")
    assert all(step.photos_in_focus for step in found.depths if step.photos_in_focus is not None)


def test_photo_without_a_sharp_place_is_named(varied: Path, tmp_path: Path) -> None:
    data = shutil.copytree(varied, tmp_path / "room")
    path = data / "images" / "004.png"
    photo = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float()
    Image.fromarray(gaussian_blur(photo, 4.0).byte().permute(1, 2, 0).numpy()).save(path)
    found = inspect(data, tmp_path)
    assert [p.name for p in found.photos if p.too_blurred] == ["004.png"]
    assert "Too blurred to be of use: 004.png; leave them out." in found.warnings


def test_photo_without_a_camera_is_named(varied: Path, tmp_path: Path) -> None:
    data = shutil.copytree(varied, tmp_path / "room")
    shutil.copy(data / "images" / "000.png", data / "images" / "zzz.png")
    assert inspect(data, tmp_path).unplaced == ["zzz.png"]


# --- the command


def test_command_writes_page_picture_maps_and_json(varied: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["inspect", str(varied), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "inspection.json").read_text())
    assert printed["schema"] == "cocogs-inspection/1" and len(printed["photos"]) == VIEWS
    page, svg = (out / "inspection.html").read_text(), (out / "coverage.svg").read_text()
    assert svg in page and svg.count("<title>") == VIEWS and "#d33" not in svg
    assert len(list((out / "sharpness").iterdir())) == VIEWS
    assert not re.search(r'src="(?!data:)', page)
    picture = np.asarray(Image.open(out / "sharpness" / "000.png"))
    assert picture.shape == (180, 240, 3)


@pytest.mark.thorough
def test_of_many_photos_most_are_read_around_points(
    varied: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Their blur is found all the same, and the command says so."""
    every = inspect(varied, tmp_path / "every")
    monkeypatch.setattr("cocogs.optics.evidence.MOST_COMPARED", len(every.photos) - 2)
    assert main(["inspect", str(varied)]) == 0
    assert f"2 of the {len(every.photos)} photos were read only around points" in capsys.readouterr().out
    some = inspect(varied, tmp_path / "some")
    assert every.glanced == 0 and some.glanced == 2
    for one, other in zip(every.photos, some.photos, strict=True):
        assert one.blur is not None and other.blur == pytest.approx(one.blur, rel=0.2)


def test_command_warns_with_exit_code_0(alike: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["inspect", str(alike), "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "in focus = circle of confusion up to 1.5 px." in printed
    assert "Warning: No photo is sharp between" in printed and "cannot be recovered" in printed
    assert "#d33" in (out / "coverage.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("nowhere",), "nowhere does not exist: give the folder that holds the photos"),
        ((".", "--downscale", "0"), "--downscale must be a whole number from 1 to 2147483647, not 0"),
        ((".", "--test-every", "1"), "--test-every must be a whole number from 2 to 2147483647, not 1"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch, capsys, options: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *options]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint and complaint.count("\n") == 1


# --- the parts


@pytest.mark.parametrize("deviation", [0.7, 1.2, 2.0])
def test_blur_map_measures_an_added_blur(deviation: float) -> None:
    photo = torch.from_numpy(take_photo(make_cameras(1)[0])).permute(2, 0, 1).float() / 255
    own, more = blur_map(photo).nanmedian(), blur_map(gaussian_blur(photo, deviation)).nanmedian()
    assert float((more**2 - own**2).sqrt()) == pytest.approx(deviation, rel=0.25)


def test_blur_map_is_silent_without_texture() -> None:
    assert blur_map(torch.full((3, 20, 20), 0.3)).isnan().all()


def test_fit_blurs_and_its_share_explained() -> None:
    """Blurs of a lens are explained by depth; blurs that are noise are not."""
    generator = torch.Generator().manual_seed(0)
    depths = 2 + 3 * torch.rand(6, 300, generator=generator)
    evidence = Evidence(depths, torch.ones_like(depths), 300)
    noise = torch.exp(0.15 * torch.randn(6, 300, generator=generator))
    blurs = (0.5**2 + (60 * (1 / depths - 1 / 2.5) / 4) ** 2).sqrt() * noise
    focus, aperture, explained = fit_blurs(evidence, blurs)
    assert (focus / 2.5 - 1).abs().max() < 0.05
    assert aperture == pytest.approx(60, rel=0.15) and explained > 0.7
    assert fit_blurs(evidence, 0.6 * noise)[2] < 0.1


def test_a_photo_without_texture_stays_at_the_depth_of_what_it_sees() -> None:
    """As far as can be it would otherwise start, where the grid does."""
    depths = 1 + 29 * torch.rand(6, 300, generator=torch.Generator().manual_seed(0))
    depths[1] = math.nan  # sees nothing
    blurs = (0.5**2 + (60 * (1 / depths - 1 / 2.5) / 4) ** 2).sqrt()
    blurs[0] = math.nan
    focus, _, _ = fit_blurs(Evidence(depths, torch.ones_like(depths), 300), blurs)
    assert float(focus[0]) == pytest.approx(float(depths[0].mean()), rel=1e-4)
    assert float(focus[1]) == pytest.approx(float(depths.nanmean()), rel=1e-4)
    assert (focus[2:] / 2.5 - 1).abs().max() < 0.05


def test_variation_tells_focus_that_differs() -> None:
    generator = torch.Generator().manual_seed(0)
    texture = torch.exp(-6 + torch.randn(200, generator=generator)).expand(8, -1)
    depths = torch.ones(8, 200)
    noise = torch.exp(0.2 * torch.randn(8, 200, generator=generator))
    assert variation(Evidence(depths, texture * noise, 300)) < 0.3
    blurred = texture * torch.exp(-2 * torch.rand(8, 200, generator=generator))
    assert variation(Evidence(depths, blurred, 300)) > 0.5
    assert variation(Evidence(depths[:2], blurred[:2], 300)) == 0.0  # no point in four photos


def test_in_focus_range_is_the_thin_lens() -> None:
    near, far = in_focus_range(torch.tensor([2.0, 50.0]), torch.tensor([30.0, 30.0]))
    torch.testing.assert_close(30 * (1 / near - 1 / torch.tensor([2.0, 50.0])), torch.full((2,), 1.5))
    assert 30 * (1 / 2.0 - 1 / float(far[0])) == pytest.approx(1.5)
    assert math.isinf(far[1])
    one, other = (in_focus_range(torch.tensor([2.0]), torch.tensor([K])) for K in (30.0, 12.0))
    both = in_focus_range(torch.tensor([2.0, 2.0]), torch.tensor([30.0, 12.0]))
    torch.testing.assert_close(torch.stack(both), torch.cat([torch.stack(one), torch.stack(other)], dim=1))


def test_steps_with_few_points_say_nothing() -> None:
    depths = torch.cat([torch.full((50,), 2.0), torch.linspace(2, 4, 3), torch.full((50,), 4.0)]).expand(
        3, -1
    )
    steps = depth_steps(Evidence(depths, torch.ones_like(depths), 300), torch.full((3,), 2.0), 40.0)
    assert steps[0].photos_in_focus == 3 and steps[0].least_coc == pytest.approx(0, abs=1e-5)
    assert steps[5].least_coc is None and not steps[5].lost
    assert steps[-1].least_coc == pytest.approx(10.0) and steps[-1].lost


def test_lost_ranges_join_neighbours_and_gaps_without_points() -> None:
    def step(near: float, coc: float | None) -> DepthStep:
        return DepthStep(near, near + 1, 9, None if coc is None else 0, coc)

    steps = [step(1, 5.0), step(2, None), step(3, 4.0), step(4, 0.5), step(5, 9.0)]
    agreement = ExifAgreement(None, [2.0, 2.8], None, None)
    found = Inspection("x", 1.0, "compared", 1.0, [], steps, [], agreement)
    assert found.lost_ranges == [(1, 4), (5, 6)]
    assert found.warnings[-1] == (
        "The photos were taken at f/2, f/2.8. Training takes the ratios of the apertures from EXIF; if EXIF "
        "is wrong, train with `per_photo_aperture`."
    )


def test_how_far_exif_agrees_is_told() -> None:
    assert ExifAgreement(None, [2.0], None, None).sentence == ""
    told = ExifAgreement(1.02, [2.0], 0.8, Metres(0.53, 0.0265, source="aperture")).sentence
    assert told == (
        "EXIF: its focal length is 1.02 of the cameras', its focus distances correlate by 0.80 with those "
        "found. One scene unit is 0.53 m ±5 %, by the f-number and focal length in EXIF."
    )
    assert "The photos are cropped" in ExifAgreement(0.66, [2.0], None, None).sentence
