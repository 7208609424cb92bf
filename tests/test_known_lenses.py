"""Vignetting and distortion by lensfun's database, and photos that name no lens."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from cocogs.calibrate.known_lenses import known_lens
from cocogs.cli import main
from cocogs.io.camera_file import read_camera_file
from cocogs.io.undistort import as_pycolmap
from cocogs.optics.photometry import Vignette
from cocogs.optics.physical_camera import PhysicalCamera

WIDTH, HEIGHT = 600, 400
CANON = {"Make": "Canon", "Model": "Canon EOS 5D Mark III"}
EF50 = {**CANON, "LensModel": "EF50mm f/1.8 II", "FocalLength": 50.0, "FNumber": 2.0, "ISOSpeedRatings": 200}


def photo(path: Path, **tags: Any) -> Path:
    exif = Image.Exif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    for name, value in tags.items():
        (exif if name in ("Make", "Model") else inner)[ExifTags.Base[name]] = value
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)
    return path


def test_the_vignette_is_what_lensfun_undoes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """lensfun's own modifier takes our vignette away again: at the photo's f-number, nearly at others."""
    lensfunpy = pytest.importorskip("lensfunpy")
    out = tmp_path / "camera.json"
    words = ["calibrate", "camera", "--lens", str(photo(tmp_path / "a.jpg", **EF50)), "--out", str(out)]
    assert main(words) == 0
    assert "lensfun knows this lens as Canon Canon EF 50mm f/1.8" in capsys.readouterr().out
    file = read_camera_file(out)
    assert (file.f_number, file.iso, file.sensor.width) == (2.0, 200.0, WIDTH)
    assert file.sensor.width_mm == pytest.approx(36, rel=0.01)
    database = lensfunpy.Database()
    body = database.find_cameras(CANON["Make"], CANON["Model"])[0]
    lens = database.find_lenses(body, None, EF50["LensModel"])[0]
    for f_number, off in ((2.0, 0.005), (1.8, 0.1), (2.8, 0.1)):
        modifier = lensfunpy.Modifier(lens, body.crop_factor, WIDTH, HEIGHT)
        flags = lensfunpy.ModifyFlags.VIGNETTING
        modifier.initialize(50.0, f_number, 1000.0, 1.0, pixel_format=np.float32, flags=flags)
        assert file.vignetting is not None
        vignette = Vignette(file.vignetting.coefficients, file.vignetting.wide_open, file.vignetting.f_number)
        shade = vignette((HEIGHT, WIDTH), torch.tensor(f_number)).detach().expand(3, -1, -1)
        light = np.ascontiguousarray(shade.permute(1, 2, 0).numpy())
        assert light[0, 0, 0] < 0.9 and modifier.apply_color_modification(light)
        assert np.abs(light - 1).mean() < off


def test_the_distorting_lens_shows_rays_where_lensfun_fetches_them(tmp_path: Path) -> None:
    """A wide zoom; the scale in the middle is in the focal length."""
    lensfunpy = pytest.importorskip("lensfunpy")
    name, f = "EF24-105mm f/4L IS USM", 24.0
    tags = {**EF50, "LensModel": name, "FocalLength": f, "FNumber": 4.0}
    known = known_lens(photo(tmp_path / "a.jpg", **tags))
    database = lensfunpy.Database()
    body = database.find_cameras(CANON["Make"], CANON["Model"])[0]
    lens = database.find_lenses(body, None, name)[0]
    modifier = lensfunpy.Modifier(lens, body.crop_factor, WIDTH, HEIGHT)
    modifier.initialize(f, 4.0, 1000.0, 1.0, flags=lensfunpy.ModifyFlags.DISTORTION)
    fetched = modifier.apply_geometry_distortion().reshape(-1, 2) + 0.5
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5 - WIDTH / 2, np.arange(HEIGHT) + 0.5 - HEIGHT / 2)
    f_px = f / known.camera.sensor.width_mm * WIDTH
    rays = np.stack([x / f_px, y / f_px, np.ones_like(x)], -1).reshape(-1, 3)
    places = np.asarray(as_pycolmap(PhysicalCamera(known.camera).distorting()).img_from_cam(rays))
    moved = np.abs(fetched - np.stack([x, y], -1).reshape(-1, 2) - (WIDTH / 2, HEIGHT / 2)).max()
    assert moved > 8, "px: there is something to be found"
    assert np.abs(places - fetched).max() < known.off_px + 0.2 < 1


def test_distortion_and_vignetting_tell_what_they_are_off(tmp_path: Path) -> None:
    pytest.importorskip("lensfunpy")
    known = known_lens(photo(tmp_path / "a.jpg", **EF50))
    assert 0 < known.off_px < 1 and known.off_light is not None and 0 < known.off_light < 0.15
    assert known.camera.vignetting is not None and known.camera.vignetting.f_number == pytest.approx(1.8)
    assert abs(known.camera.distortion.k1) > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"FocalLength": 0}, "does not name camera and focal length in its EXIF"),
        ({"Model": "Box", "Make": "Toy"}, "lensfun does not know the Box of"),
        ({"LensModel": "Bottle 33mm"}, "lensfun does not know the Bottle 33mm of"),
        ({"LensModel": "EF8-15mm f/4L FISHEYE USM", "FocalLength": 10.0}, "is a fisheye lens"),
    ],
)
def test_photos_that_do_not_serve_are_one_sentence(
    tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("lensfunpy")
    one = photo(tmp_path / "a.jpg", **{**EF50, **change})
    assert main(["calibrate", "camera", "--lens", str(one), "--out", str(tmp_path / "c.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


def test_a_missing_lensfunpy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lensfunpy", None)
    one = photo(tmp_path / "a.jpg", **EF50)
    assert main(["calibrate", "camera", "--lens", str(one), "--out", str(tmp_path / "c.json")]) == 2
    assert (
        "--lens needs lensfunpy: install it with pip install 'cocogs[calibrate]'" in capsys.readouterr().err
    )
