"""The response curve found again in photos with several shutter times, and photos that do not serve."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from cocogs.calibrate import CalibrateOptions, calibrate
from cocogs.calibrate.exposures import fit_response, read_exposures
from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.camera_file import CameraFile, Noise, Reference, Sensor, read_camera_file, write_camera_file
from cocogs.io.photos import read_photo
from cocogs.optics.photometry import Response
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.srgb import to_linear

HEIGHT, WIDTH = 240, 360
TIMES = [2.0**-stop for stop in range(1, 9)]
STEPS = torch.linspace(0, 1, 65, dtype=torch.float64)
GAMMA = tuple((to_linear(STEPS) ** (1 / 2.2)).tolist())
S_CURVE = tuple((STEPS - 0.1 * torch.sin(2 * torch.pi * STEPS)).tolist())
NOISE = Noise(shot_gain=0.0003, read_noise=0.001)


def scene() -> torch.Tensor:
    """(3, H, W) light over 8 stops, in slightly tinted patches of 24 px."""
    columns, rows = torch.arange(WIDTH) // 24, torch.arange(HEIGHT)[:, None] // 24
    light = 2 ** (8 * ((columns * 10 + rows) * 67 % 150) / 150 - 5)
    return light * torch.tensor([1.0, 0.8, 0.6])[:, None, None]


def take(
    folder: Path,
    curve: tuple[float, ...] = (),
    times: list[float] = TIMES,
    light: torch.Tensor | None = None,
) -> Path:
    """JPEG files with noise, by a camera of this response; white is light 1 at half a second."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, time in enumerate(times):
        file = CameraFile(
            Sensor(36, 24, WIDTH, HEIGHT), f_number=4.0, shutter_s=time, iso=100.0,
            reference=Reference(4.0, 0.5, 100.0), response=curve, noise=NOISE,
        )  # fmt: skip
        photo = PhysicalCamera(file).develop(scene() if light is None else light, seed=number).detach()
        save(photo, folder / f"{number}.jpg", time)
    return folder


def save(photo: torch.Tensor, path: Path, time: float | None, f_number: float = 4.0, iso: int = 100) -> None:
    exif = Image.Exif()
    values: dict[int, float] = {ExifTags.Base.FNumber: f_number, ExifTags.Base.ISOSpeedRatings: iso}
    if time is not None:
        values[ExifTags.Base.ExposureTime] = time
    exif.get_ifd(ExifTags.IFD.Exif).update(values)
    pixels = (photo * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path, exif=exif, quality=97, subsampling=0)


def to_tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_photo(path) / 255).permute(2, 0, 1)


def worst(found: tuple[float, ...], true: tuple[float, ...]) -> float:
    """Largest difference of two responses, in parts of full scale."""
    light = torch.linspace(0, 1, 512)
    one, other = (Response(curve or (0.0, 1.0))(light) for curve in (found, true))
    return float((one - other).detach().abs().max())


@pytest.mark.parametrize("curve", [(), GAMMA, S_CURVE], ids=["srgb", "gamma", "s"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_known_response_is_found(tmp_path: Path, curve: tuple[float, ...], step: int) -> None:
    """Within 2 % of full scale, of 8 JPEG files a stop apart and of 4, two stops apart."""
    pytest.importorskip("cv2")
    fit = fit_response(read_exposures(take(tmp_path, curve, TIMES[::step]), lambda line: None))
    assert worst(fit.knots, curve) < 0.02
    assert fit.knots[0] == 0 and fit.knots[-1] == 1 and min(np.diff(fit.knots)) > 0
    assert fit.disagreement < 0.02 and fit.seen[0] < 0.1 and fit.seen[1] > 0.9
    if curve == S_CURVE:
        assert worst((), curve) > 0.08, "what makes the check worth something"


def test_the_command_writes_response_and_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("cv2")
    known = CameraFile(Sensor(36, 24, 10, 10), focal_length_mm=50.0)
    write_camera_file(known, tmp_path / "known.json")
    words = ["calibrate", "camera", "--exposures", str(take(tmp_path / "photos", S_CURVE))]
    out = tmp_path / "camera.json"
    assert main([*words, "--camera", str(tmp_path / "known.json"), "--out", str(out)]) == 0
    assert "Response curve" in capsys.readouterr().out
    found = read_camera_file(out)
    assert worst(found.response, S_CURVE) < 0.02
    assert replace(found, response=()) == replace(known, sensor=Sensor(36, 24, WIDTH, HEIGHT))
    page = out.with_suffix(".html").read_text()
    assert "From 8 photos of 0.003906 to 0.5 s" in page and "white is light 1" in page


@pytest.mark.thorough
def test_flats_are_undone_by_the_response_just_found(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    light = {"flats": 0.4, "darks": 0.0}
    flats, darks = (
        take(tmp_path / name, S_CURVE, [0.5] * 8, torch.full((3, HEIGHT, WIDTH), value))
        for name, value in light.items()
    )
    exposures = take(tmp_path / "exposures", S_CURVE)
    options = CalibrateOptions(tmp_path / "c.json", flats, darks, exposures=exposures, sensor_mm="36x24")
    noise = calibrate(options, lambda line: None).noise
    assert noise is not None and noise.shot_gain == pytest.approx(NOISE.shot_gain, rel=0.1)


@pytest.mark.thorough
def test_a_tint_of_the_curve_is_told(tmp_path: Path) -> None:
    """One response is kept; that the colours differ is said."""
    pytest.importorskip("cv2")
    for number, path in enumerate(sorted(take(tmp_path).iterdir())):
        pixels = to_tensor(path)
        pixels[0] **= 0.7
        save(pixels, path, TIMES[number])
    assert fit_response(read_exposures(tmp_path, lambda line: None)).disagreement > 0.04


FAULTS = {
    "one": "holds 1 photo: take a still scene with several shutter times",
    "equal": "have the shutter time 0.1 s: take some with others",
    "untold": "has no shutter time in its EXIF",
    "sizes": "has another size than",
    "moved": "Something moved, or its light changed, between",
    "white": "neither black nor white in two photos",
    "narrow": "of white only: take some with longer and shorter shutter times",
    "iso": "differ in f-number or ISO",
    "raw": "is a RAW file, whose values are light as they are",
    "response": "--exposures measure the response: leave out --response",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_photos_that_do_not_serve_are_one_sentence(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture
) -> None:
    times = {"one": TIMES[:1], "equal": [0.1] * 3, "white": [0.5, 2.0**-6], "narrow": [0.25, 0.2]}
    flat = torch.full((3, HEIGHT, WIDTH), 0.2)
    photos = take(
        tmp_path / "photos", times=times.get(fault, TIMES[:4]),
        light={"white": flat * 20, "narrow": flat}.get(fault),
    )  # fmt: skip
    second = photos / "1.jpg"
    pixels = to_tensor(sorted(photos.iterdir())[-1])
    if fault in ("sizes", "moved"):
        save(pixels[:, :60] if fault == "sizes" else to_tensor(second).roll(5, 2), second, TIMES[1])
    if fault in ("untold", "iso"):
        save(pixels, second, None if fault == "untold" else TIMES[1], iso=200)
    if fault == "raw":
        shutil.move(second, photos / "a.dng")
    words = ["calibrate", "camera", "--exposures", str(photos), "--sensor-mm", "36x24"]
    words += ["--response", "srgb"] if fault == "response" else []
    assert main([*words, "--out", str(tmp_path / "camera.json")]) == 2
    assert FAULTS[fault] in capsys.readouterr().err
    assert not (tmp_path / "camera.json").exists()


def test_a_missing_opencv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    options = CalibrateOptions(tmp_path / "c.json", exposures=take(tmp_path / "p"), sensor_mm="36x24")
    with pytest.raises(InputError, match=r"needs OpenCV: install it with pip install 'cocogs\[calibrate\]'"):
        calibrate(options, lambda line: None)
