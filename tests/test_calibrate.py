"""Noise and vignetting measured from frames whose truth is known, and frames that do not serve."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from raw_files import BLACK, WHITE, write_dng

from cocogs.calibrate import CalibrateOptions, calibrate
from cocogs.calibrate.estimates import shot_gain, vignette
from cocogs.calibrate.frames import linearise_by, read_frames
from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.camera_file import CameraFile, Noise, Sensor, Vignetting, read_camera_file, write_camera_file
from cocogs.io.pictures import write_png
from cocogs.optics.photometry import Response, Vignette
from cocogs.optics.physical_camera import PhysicalCamera

HEIGHT, WIDTH = 120, 180
FACTS = {33437: (5, 2.8), 37386: (5, 50)}  # EXIF: f-number, focal length
NOISE = Noise(shot_gain=0.0012, read_noise=0.004, fixed_pattern=0.002)
VIGNETTING = Vignetting(((-0.25, 0.07, -0.02),), center=(0.03, -0.02))
FILE = CameraFile(Sensor(36.0, 24.0, WIDTH, HEIGHT), noise=NOISE, vignetting=VIGNETTING)


def take(folder: Path, file: CameraFile, light: float, count: int, seed: int, flicker: float = 0.0) -> Path:
    """Frames of 16 bits, as the camera of a file takes them."""
    folder.mkdir(parents=True)
    camera = PhysicalCamera(file)
    for number in range(count):
        even = torch.full((3, HEIGHT, WIDTH), light * (1 + flicker * (-1) ** number))
        write_png(camera.develop(even, seed + number).detach(), folder / f"{number}.png", 16)
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("frames")
    return take(root / "flats", FILE, 0.6, 12, 1, flicker=0.01), take(root / "darks", FILE, 0.0, 8, 100)


def test_twelve_flats_and_eight_darks_tell_the_camera(frames: tuple[Path, Path], tmp_path: Path) -> None:
    """Within 1 % of the vignette, 2 % of the shot gain, 5 % of the read noise; the lamp flickers."""
    out = tmp_path / "camera.json"
    words = ["calibrate", "camera", "--flats", str(frames[0]), "--darks", str(frames[1])]
    assert main([*words, "--out", str(out), "--sensor-mm", "36x24"]) == 0
    found = read_camera_file(out)
    assert found.noise is not None and found.vignetting is not None
    assert found.noise.shot_gain == pytest.approx(NOISE.shot_gain, rel=0.02)
    # Values below 0 are cut off, and the fixed pattern cannot be told from read noise there.
    assert found.noise.read_noise == pytest.approx(
        math.hypot(NOISE.read_noise, NOISE.fixed_pattern), rel=0.05
    )
    true, fitted = (Vignette(v.coefficients, center=v.center) for v in (VIGNETTING, found.vignetting))
    assert torch.allclose(true((HEIGHT, WIDTH)), fitted((HEIGHT, WIDTH)), atol=0.01)
    assert found.sensor == FILE.sensor
    assert "cannot be told apart" in out.with_suffix(".html").read_text()


def test_above_a_black_level_read_noise_and_pattern_are_told_apart(tmp_path: Path) -> None:
    generator, folders = np.random.default_rng(0), []
    pattern = generator.normal(0, NOISE.fixed_pattern, (3, HEIGHT, WIDTH))
    for name, light, count in (("flats", 0.5, 12), ("darks", 0.0, 8)):
        (tmp_path / name).mkdir()
        folders.append(tmp_path / name)
        for number in range(count):
            shot = generator.normal(0, math.sqrt(NOISE.shot_gain * light), pattern.shape)
            read = generator.normal(0, NOISE.read_noise, pattern.shape)
            values = torch.from_numpy(0.05 + light + shot + read + pattern)
            write_png(values.float(), tmp_path / name / f"{number}.png", 16)
    out = tmp_path / "camera.json"
    options = CalibrateOptions(folders[0], folders[1], out, "36x24", response="linear")
    found = calibrate(options, lambda line: None).noise
    assert found is not None
    assert found.read_noise == pytest.approx(NOISE.read_noise, rel=0.02)
    assert found.fixed_pattern == pytest.approx(NOISE.fixed_pattern, rel=0.05)
    assert found.shot_gain == pytest.approx(NOISE.shot_gain, rel=0.02)


def test_a_known_response_is_undone_and_other_numbers_are_kept(tmp_path: Path) -> None:
    curve = (0.0, 0.35, 0.6, 0.8, 1.0)
    file = CameraFile(FILE.sensor, focal_length_mm=50.0, noise=NOISE, response=curve, vignetting=VIGNETTING)
    write_camera_file(file, tmp_path / "known.json")
    flats, darks = take(tmp_path / "f", file, 0.4, 12, 1), take(tmp_path / "d", file, 0.0, 8, 50)
    known = tmp_path / "known.json"
    found = calibrate(
        CalibrateOptions(
            flats, darks, tmp_path / "new.json", camera=known, response=str(known), per_colour=True
        ),
        lambda line: None,
    )
    assert found.noise is not None and found.vignetting is not None
    assert found.noise.shot_gain == pytest.approx(NOISE.shot_gain, rel=0.03)
    assert len(found.vignetting.coefficients) == 3
    assert found.focal_length_mm == 50.0 and found.response == curve
    light = torch.linspace(0, 1, 9).double().numpy()
    values = Response(curve)(torch.from_numpy(light)).detach().numpy()
    assert np.allclose(linearise_by(str(known))(values), light, atol=1e-5)


@pytest.mark.parametrize("fault", ["texture", "white", "one", "sizes", "none", "aside", "dark", "black"])
def test_frames_that_do_not_serve_are_one_sentence(
    tmp_path: Path, frames: tuple[Path, Path], fault: str, capsys: pytest.CaptureFixture
) -> None:
    flats, darks = frames
    bad = tmp_path / "bad"
    bad.mkdir()
    x, y = torch.arange(WIDTH) / WIDTH, torch.arange(HEIGHT)[:, None] / HEIGHT
    noise = torch.Generator().manual_seed(0)
    pictures = {
        "texture": 0.4 + 0.2 * torch.sin(20 * x) * torch.cos(20 * y),
        "white": torch.where(x < 0.1, 1.0, 0.5) + 0 * y,
        "one": 0.5 + 0 * x + 0 * y,
        "sizes": 0.5 + 0 * x + 0 * y,
        "aside": 0.3 + 0.4 * x + 0 * y,
        "dark": 0.001 + 0 * x + 0 * y,
        "black": 0 * x + 0 * y,
    }
    for number in range({"one": 1, "none": 0}.get(fault, 3)):
        picture = pictures[fault] + 0.002 * torch.randn(HEIGHT, WIDTH, generator=noise) * (fault != "black")
        picture = picture[: HEIGHT - 10 * (fault == "sizes" and number == 1)]
        write_png(picture.expand(3, -1, -1), bad / f"{number}.png", 16)
    flats, darks = (flats, bad) if fault == "black" else (bad, darks)
    words = ["calibrate", "camera", "--flats", str(flats), "--darks", str(darks), "--sensor-mm", "36x24"]
    assert main([*words, "--response", "linear", "--out", str(tmp_path / "camera.json")]) == 2
    complaint = {
        "texture": "from any smooth vignette",
        "white": "is white in places",
        "one": "holds 1 photo:",
        "none": "holds 0 photos:",
        "sizes": "differ in size",
        "aside": "falls to one side",
        "dark": "as dark as the darks",
        "black": "hold nothing but 0",
    }[fault]
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "camera.json").exists()


@pytest.mark.parametrize("size", ["36", "0x24", "axb", "36x24x1", None])
def test_the_size_of_the_sensor_must_be_told(
    frames: tuple[Path, Path], tmp_path: Path, size: str | None
) -> None:
    with pytest.raises(InputError, match="`sensor_mm` must be the size of the sensor in mm, such as 36x24"):
        calibrate(CalibrateOptions(frames[0], frames[1], tmp_path / "camera.json", size), lambda line: None)


def test_the_spread_between_parts_is_the_error_of_a_number(frames: tuple[Path, Path]) -> None:
    flats, darks = (
        read_frames(folder, linearise_by("srgb"), evened, lambda line: None)
        for folder, evened in zip(frames, (True, False), strict=True)
    )
    gain = shot_gain(flats, darks)
    assert 0 < gain.deviation < 0.01 * gain.value
    assert vignette(flats, darks).residual < 0.005


def test_raw_files_are_measured_pixel_by_pixel_of_the_sensor(tmp_path: Path) -> None:
    """Below black, too; the f-number in EXIF says where the vignette belongs."""
    generator = np.random.default_rng(0)
    shape = (80, 120)
    for name, light, count in (("flats", 0.5, 8), ("darks", 0.0, 8)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = math.hypot(0.01, math.sqrt(0.002 * light)) * generator.normal(size=shape)
            counts = np.rint(BLACK + (light + noise) * (WHITE - BLACK)).clip(0).astype(np.uint16)
            write_dng(tmp_path / name / f"{number}.dng", counts, exif=FACTS)
    options = CalibrateOptions(tmp_path / "flats", tmp_path / "darks", tmp_path / "camera.json", "36x24")
    found = calibrate(options, lambda line: None)
    assert found.noise is not None and found.vignetting is not None
    assert found.noise.read_noise == pytest.approx(0.01, rel=0.02)
    assert found.noise.shot_gain == pytest.approx(0.002, rel=0.05)
    assert found.noise.fixed_pattern < 0.001
    assert (found.sensor.width, found.sensor.height) == (120, 80)
    assert found.vignetting.f_number == pytest.approx(2.8)
    assert abs(sum((found.vignetting.wide_open or ((1.0,),))[0])) < 0.01, "evenly lit"
