"""Pictures that a simulated camera takes of a run: `cocogs simulate` and its Python door."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import tiny_gaussians, tiny_run

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.camera_file import CameraFile, Noise, Sensor, Vignetting, read_camera_file, write_camera_file
from cocogs.io.photos import read_photo
from cocogs.optics.lens import Lens
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.render.files import COC_STEP, COC_ZERO
from cocogs.render.refocusing import light_through, refocus
from cocogs.render.simulate import photograph, settings
from cocogs.run import load_run
from cocogs.srgb import to_linear, to_srgb

FILE = CameraFile(
    Sensor(3.6, 2.4, 48, 32), focal_length_mm=4.0, f_number=1.4, focus_distance_m=1.0, shutter_s=0.01,
    iso=100.0, vignetting=Vignetting(((-0.4, 0.0, 0.0),)), noise=Noise(0.003, 0.004),
)  # fmt: skip
METRES = 0.5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.getbasetemp(), "lens")


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    write_camera_file(FILE, tmp_path / "camera.json")
    return tmp_path / "camera.json"


def command(run: Path, camera: Path, out: Path, *more: str) -> list[str]:
    words = ["simulate", str(run), "--camera", str(camera), "--out", str(out), "--samples", "4", *more]
    return [*words, "--metres-per-unit", str(METRES)]


def scene_in_metres(run: Path) -> tuple:
    """Gaussians, and pose of the first test photo."""
    loaded = load_run(run)
    gaussians = loaded.model.gaussians.transformed(torch.eye(3), torch.zeros(3), METRES)
    pose = loaded.model.camera(loaded.scene.test_views[0]).cam_from_world.clone()
    pose[:3, 3] *= METRES
    return gaussians, pose


def test_light_through_a_lens_is_what_refocusing_shows() -> None:
    gaussians, lens = tiny_gaussians(), Lens(4.0, 0.3)
    pinhole = PhysicalCamera(FILE).at(torch.eye(4, dtype=torch.float64))
    for samples in (0, 4):
        shown = refocus(gaussians, pinhole, lens, samples)
        assert torch.allclose(to_srgb(light_through(gaussians, pinhole, lens, samples)), shown, atol=1e-6)


def test_files_hold_what_python_gives(run: Path, camera: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(command(run, camera, out)) == 0
    gaussians, pose = scene_in_metres(run)
    frames = json.loads((out / "transforms.json").read_text())["frames"]
    first = frames[0]
    taken = photograph(gaussians, PhysicalCamera(FILE), pose, samples=4, seed=first["seed"])
    picture = torch.from_numpy(read_photo(out / first["file_path"])).permute(2, 0, 1) / 255
    assert float((picture - taken.image).abs().max()) < 1 / 255
    there = taken.depth.isfinite()
    assert bool(there.any())
    scale = json.loads((out / "depth.json").read_text())["metres per step"]
    depth = torch.from_numpy(
        np.array(Image.open(out / first["file_path"].replace(".png", "_depth.png")))
    ).float()
    assert float((depth * scale - taken.depth)[there].abs().max()) < 2 * scale
    coc = np.array(Image.open(out / first["file_path"].replace(".png", "_coc.png"))).astype(np.float32)
    assert float((torch.from_numpy(coc - COC_ZERO) * COC_STEP - taken.coc).abs().max()) < COC_STEP
    assert read_camera_file(out / "camera.json") == FILE
    position = torch.tensor(first["transform_matrix"])[:3, 3].double()
    assert torch.allclose(position, -pose[:3, :3].T @ pose[:3, 3], atol=1e-6)
    assert first["fl_x"] == pytest.approx(float(PhysicalCamera(FILE).focal_px.detach()))


def test_noise_is_the_seed_s_and_another_in_every_picture(run: Path, camera: Path, tmp_path: Path) -> None:
    taken = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert main(command(run, camera, tmp_path / name, "--seed", seed)) == 0
        taken.append([path.read_bytes() for path in sorted((tmp_path / name).glob("view_?.png"))])
    assert taken[0] == taken[1] and taken[0][0] != taken[2][0]
    assert main(["render", str(run), "--out", str(tmp_path / "a")]) == 2, "they are not overwritten"
    assert taken[0] == [path.read_bytes() for path in sorted((tmp_path / "a").glob("view_?.png"))]
    seeds = [f["seed"] for f in json.loads((tmp_path / "a/transforms.json").read_text())["frames"]]
    assert seeds == list(range(7, 7 + len(seeds))) and len(seeds) > 1


def test_brackets_change_one_setting(run: Path, camera: Path, tmp_path: Path) -> None:
    assert main(command(run, camera, tmp_path / "e", "--bracket", "exposure:-1:1:3", "--format", "exr")) == 0
    frames = json.loads((tmp_path / "e/transforms.json").read_text())["frames"]
    assert [frame["shutter_s"] for frame in frames[:3]] == pytest.approx([0.005, 0.01, 0.02])
    assert frames[0]["file_path"].endswith("_exposure0.exr")
    assert main(command(run, camera, tmp_path / "f", "--bracket", "focus:0.5m:2m:3")) == 0
    frames = json.loads((tmp_path / "f/transforms.json").read_text())["frames"]
    assert [frame["focus_distance_m"] for frame in frames[:3]] == pytest.approx([0.5, 0.8, 2.0])


def test_twice_the_shutter_time_is_twice_the_light() -> None:
    dark = torch.full((3, 32, 48), 0.1)
    cameras = [PhysicalCamera(replace(file, noise=None)) for _, file in settings(FILE, "exposure:0:1:2")]
    once, twice = (to_linear(camera.develop(dark)) for camera in cameras)
    assert torch.allclose(2 * once, twice, atol=1e-5)


def test_gradients_reach_the_lens_through_the_rasterizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """f-number, focus distance and shutter, against finite differences in double."""
    scene = tiny_gaussians().double()
    pose = torch.eye(4, dtype=torch.float64)
    camera = PhysicalCamera(replace(FILE, noise=None, focus_distance_m=3.0, focal_length_mm=8.0)).double()

    pinhole = camera.at(pose)
    monkeypatch.setattr(camera, "at", lambda pose: pinhole)  # the angle of view has no gradient

    def loss() -> torch.Tensor:
        return camera.render(scene, pose).square().sum()

    for value in (camera.f_number, camera.focus_distance, camera.shutter):
        assert value is not None
        (slope,) = torch.autograd.grad(loss(), value)
        step = 1e-5 * float(value.detach())
        with torch.no_grad():
            value += step
            above = loss()
            value -= 2 * step
            below = loss()
            value += step
        assert float(slope) == pytest.approx(float(above - below) / (2 * step), rel=1e-3)
        assert abs(float(slope)) > 1e-9


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--bracket", "focus:1:2"], "--bracket must be like focus:0.5m:3m:7"),
        (["--bracket", "zoom:1:2:3"], "--bracket must be like"),
        (["--bracket", "focus:0:2:3"], "--bracket must go from 0.0001"),
        (["--bracket", "exposure:nan:2:3"], "--bracket must go from -30 to 30"),
        (["--format", "mp4"], "--format must be one of png, png16, exr"),
        (["--seed", "-1"], "--seed must be a whole number"),
    ],
)
def test_misuse_is_one_sentence(
    run: Path, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], complaint: str
) -> None:
    assert main(command(run, camera, tmp_path / "out", *words)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sensor_too_large_to_draw(
    run: Path, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_camera_file(replace(FILE, sensor=replace(FILE.sensor, width=10**6)), camera)
    assert main(command(run, camera, tmp_path / "out")) == 2
    assert "px a side, which cannot be drawn" in capsys.readouterr().err


def test_an_unknown_scale_or_camera_is_told(run: Path, camera: Path, tmp_path: Path) -> None:
    words = ["simulate", str(run), "--out", str(tmp_path / "out")]
    assert main([*words, "--camera", str(camera)]) == 2, "the tiny photos have no EXIF"
    assert main([*words, "--camera", str(tmp_path / "none.json")]) == 2
    write_camera_file(CameraFile(FILE.sensor), camera)
    assert main(command(run, camera, tmp_path / "out")) == 2
    with pytest.raises(InputError, match="add f_number, shutter_s and iso"):
        list(settings(CameraFile(FILE.sensor), "exposure:-1:1:3"))


def test_one_sentence_names_all_that_a_calibrated_camera_lacks(
    run: Path, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_camera_file(CameraFile(FILE.sensor, noise=FILE.noise), camera)
    assert main(command(run, camera, tmp_path / "out")) == 2
    assert "lacks focal_length_mm, f_number, focus_distance_m: add" in capsys.readouterr().err
    assert main(command(run, tmp_path / "absent.json", tmp_path / "out")) == 2
    assert "absent.json does not exist" in capsys.readouterr().err


def test_one_picture_is_counted_as_one(
    run: Path, camera: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = load_run(run).scene.test_views[0].name
    assert main(command(run, camera, tmp_path / "out", "--view", name)) == 0
    assert "1 picture in" in capsys.readouterr().out
