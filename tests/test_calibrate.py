"""Noise and vignetting measured from frames whose truth is known, and frames that do not serve."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from raw_files import BLACK, WHITE, write_dng

from cocogs.calibrate import CalibrateOptions, calibrate
from cocogs.calibrate.defocus import Chart, fit_lens
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


def test_a_shot_gain_of_nothing_is_told(frames: tuple[Path, Path], tmp_path: Path) -> None:
    """sRGB's steep beginning makes darks noisier than flats: read as linear, no shot noise is left."""
    lines: list[str] = []
    flats, darks = frames
    options = CalibrateOptions(
        flats=flats, darks=darks, out=tmp_path / "camera.json", sensor_mm="36x24", response="linear"
    )
    found = calibrate(options, lines.append)
    assert found.noise is not None and found.noise.shot_gain == 0
    assert any("shot noise cannot be measured: see whether `response` is right" in line for line in lines)


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
    options = CalibrateOptions(out, folders[0], folders[1], sensor_mm="36x24", response="linear")
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
            tmp_path / "new.json", flats, darks, camera=known, response=str(known), per_colour=True
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
        calibrate(CalibrateOptions(tmp_path / "camera.json", *frames, sensor_mm=size), lambda line: None)


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
    options = CalibrateOptions(
        tmp_path / "camera.json", tmp_path / "flats", tmp_path / "darks", sensor_mm="36x24"
    )
    found = calibrate(options, lambda line: None)
    assert found.noise is not None and found.vignetting is not None
    assert found.noise.read_noise == pytest.approx(0.01, rel=0.02)
    assert found.noise.shot_gain == pytest.approx(0.002, rel=0.05)
    assert found.noise.fixed_pattern < 0.001
    assert (found.sensor.width, found.sensor.height) == (120, 80)
    assert found.vignetting.f_number == pytest.approx(2.8)
    assert abs(sum((found.vignetting.wide_open or ((1.0,),))[0])) < 0.01, "evenly lit"


def chart(seed: int = 0) -> torch.Tensor:
    """(3, H, W) light with edges of every size."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 1, 160, 240)
    for side in (2, 4, 10, 20):
        cells = torch.rand(1, 1, 160 // side, 240 // side, generator=generator).round()
        total += torch.nn.functional.interpolate(cells, scale_factor=side) / 8
    return 0.1 + total[0].expand(3, -1, -1)


def take_charts(folder: Path, distances: list[float], file: CameraFile) -> Path:
    folder.mkdir()
    wide, narrow = (PhysicalCamera(f) for f in (file, replace(file, f_number=32 * (file.f_number or 1))))
    for number, distance in enumerate(distances):
        for camera, suffix in ((wide, ""), (narrow, "_sharp")):
            photo = camera.apply_to(chart(number), torch.full((160, 240), distance), seed=number).detach()
            write_png(photo, folder / f"{distance:g}m{suffix}.png", 16)
    return folder


LENS = CameraFile(
    Sensor(36.0, 24.0, 240, 160),
    focal_length_mm=50.0,
    f_number=1.4,
    focus_distance_m=0.9,
    noise=Noise(0.0005, 0.002),
)


@pytest.mark.parametrize("focus", [0.5, 0.9, 2.0])
def test_charts_at_three_distances_tell_aperture_and_focus(tmp_path: Path, focus: float) -> None:
    """Aperture within 5 %, focus within 2 %; a camera.json with another guess is corrected."""
    true = replace(LENS, focus_distance_m=focus)
    charts = take_charts(tmp_path / "charts", [0.6, 1.0, 1.6, 3.0], true)
    write_camera_file(replace(LENS, f_number=4.0, focus_distance_m=None), tmp_path / "guess.json")
    words = ["calibrate", "camera", "--defocus", str(charts), "--camera", str(tmp_path / "guess.json")]
    assert main([*words, "--out", str(tmp_path / "camera.json")]) == 0
    found = read_camera_file(tmp_path / "camera.json")
    assert found.focus_distance_m == pytest.approx(focus, rel=0.02)
    assert found.f_number == pytest.approx(1.4, rel=0.05)
    assert "Aperture and focus" in (tmp_path / "camera.html").read_text()


def test_the_runner_up_lies_on_the_other_side() -> None:
    """Charts on one side of the focus are explained by a lens that is focused beyond them, nearly."""
    charts = [Chart(z, abs(30 * (1 / z - 1 / 0.8)), 0.0) for z in (1.0, 1.5, 3.0)]
    best, *others = fit_lens(charts)
    assert best.focus_distance == pytest.approx(0.8, rel=1e-3) and best.K == pytest.approx(30, rel=1e-3)
    assert all(other.error > 0.1 for other in others)


@pytest.mark.parametrize("fault", ["name", "twin", "few", "flat", "size", "lens", "nothing", "half"])
def test_charts_that_do_not_serve_are_one_sentence(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture
) -> None:
    charts = take_charts(tmp_path / "charts", [0.6, 1.0] if fault == "few" else [0.6, 1.0, 2.0], LENS)
    write_camera_file(
        replace(LENS, focal_length_mm=None if fault == "lens" else 50.0), tmp_path / "known.json"
    )
    if fault == "name":
        (charts / "1m.png").rename(charts / "near.png")
    if fault == "twin":
        (charts / "1m_sharp.png").unlink()
    if fault in ("flat", "size"):
        side = 100 if fault == "size" else 240
        write_png(chart()[..., :side] * (fault == "size") + 0.2, charts / "1m_sharp.png", 16)
    options = {"nothing": [], "half": ["--flats", str(charts)]}.get(fault, ["--defocus", str(charts)])
    words = ["calibrate", "camera", *options, "--camera", str(tmp_path / "known.json")]
    assert main([*words, "--out", str(tmp_path / "camera.json")]) == 2
    complaint = {
        "name": "does not tell its distance: name it like 0.50m",
        "twin": "has no twin for 1m.png",
        "few": "charts at 2 distances: take 3 or more",
        "flat": "has no detail",
        "size": "has another size",
        "lens": "--defocus needs the focal length: give --camera",
        "nothing": "nothing to calibrate from",
        "half": "--flats and --darks go together",
    }[fault]
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "camera.json").exists()
