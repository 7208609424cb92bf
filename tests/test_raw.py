"""RAW photos: linear light on one scale, the sensor's white balance, borders, EXIF of all containers."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from datasets import make_cameras, take_photo, write_colmap
from PIL import ExifTags, Image
from raw_files import BLACK, RGGB, WHITE, mosaic, write_dng
from test_exif import maker_block

from cocogs.errors import InputError
from cocogs.io import color, photos, prepare, raw
from cocogs.io.exif import read_lens_facts, read_raw_exif
from cocogs.io.pixels import resize_area
from cocogs.scene import open_scene

TINT = np.array([0.2, 0.4, 0.1])
FACTS = {33437: (5, 2.8), 37386: (5, 50), 41989: (3, 75), 37382: (5, 1.5)}


def _light(height: int = 40, width: int = 60) -> np.ndarray:
    """(H, W, 3): one colour on the left, grey on the right."""
    light = np.full((height, width, 3), 0.5)
    light[:, : width // 2] = TINT
    return light


def _read(path: Path, **options) -> np.ndarray:
    """(H, W, 3) linear light."""
    return color.decode(photos.read_photo(path, **options) / 65535)


@pytest.mark.parametrize("neutral", [(1, 1, 1), (0.5, 1, 0.6)])
def test_light_comes_back_linear_and_white_balanced(tmp_path: Path, neutral: tuple) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic(_light(), neutral), neutral)
    assert photos.read_photo(path).dtype == np.uint16
    assert np.allclose(_read(path)[:, :25], TINT, atol=2e-4)
    assert np.allclose(_read(path)[:, 35:], 0.5, atol=2e-4)


def test_all_photos_have_one_scale(tmp_path: Path) -> None:
    """Neither the brightest pixel nor the average decides; what is above the white level is white."""
    for brightest in (0.02, 0.8, 1.5):
        light = np.full((40, 60, 3), 0.02)
        light[:, 30:] = brightest
        seen = _read(write_dng(tmp_path / "a.dng", mosaic(light)))
        assert np.allclose(seen[:, :25], 0.02, atol=2e-4)
        assert np.allclose(seen[:, 35:], min(brightest, 1), atol=2e-4)


def test_linear_raw_of_phones(tmp_path: Path) -> None:
    values = np.rint(_light() * WHITE).astype(np.uint16)
    path = write_dng(tmp_path / "a.dng", values, black=0)
    assert np.allclose(_read(path), _light(), atol=2e-4)
    assert _read(path, shrink=10).shape == (40, 60, 3)  # no mosaic, no half size


@pytest.mark.parametrize("pattern", [RGGB, (1, 0, 2, 1), (2, 1, 1, 0), (1, 2, 0, 1)])
def test_half_size_is_not_displaced(tmp_path: Path, pattern: tuple) -> None:
    """Red and blue as bright as at full size on a slope, at every place of theirs in the mosaic."""
    slope = 0.2 + 0.3 * np.add.outer(np.arange(40) / 40, np.arange(60) / 60)[..., None] * [1, 0.8, 0.6]
    path = write_dng(
        tmp_path / "a.dng", mosaic(slope, (0.5, 1, 0.6), pattern), (0.5, 1, 0.6), pattern=pattern
    )
    half = _read(path, shrink=raw.HALF_FROM)
    assert half.shape == (20, 30, 3)
    inside = np.s_[2:-2, 2:-2]
    assert np.abs(half - resize_area(slope.astype(np.float32), 30, 20))[inside].max() < 3e-4
    assert _read(path, shrink=raw.HALF_FROM - 0.1).shape == (40, 60, 3)


def test_the_picture_is_what_the_camera_calls_it(tmp_path: Path) -> None:
    light = np.zeros((40, 60, 3))
    light[2:38, 2:58] = 0.5
    for crop, size in [((2, 2, 56, 36), (36, 56)), ((4, 2, 80, 36), (40, 60)), ((4, 2, 8, 6), (40, 60))]:
        path = write_dng(tmp_path / "a.dng", mosaic(light), crop=crop)
        header = photos.read_header(path)
        assert (header.height, header.width) == size == photos.read_photo(path).shape[:2]
    assert np.allclose(
        _read(write_dng(path, mosaic(light), crop=(2, 2, 56, 36)), shrink=8)[2:-2, 2:-2], 0.5, atol=1e-3
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_counts_once(tmp_path: Path, orientation: int) -> None:
    light = np.full((40, 60, 3), 0.1)
    light[:20, :30] = 0.9
    path = write_dng(tmp_path / "a.dng", mosaic(light), orientation=orientation)
    header, upright = photos.read_header(path), _read(path)[..., 1]
    assert header.orientation == orientation and header.size(upright=False) == (60, 40)
    assert upright.shape == (header.height, header.width)
    assert photos.read_photo(path, upright=False).shape == (40, 60, 3)
    corners = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}
    row = 3 if corners[orientation][0] == "t" else -4
    column = 3 if corners[orientation][1] == "l" else -4
    assert upright[row, column] > 0.8 and (upright > 0.5).mean() == pytest.approx(0.25, abs=0.05)


def test_without_a_white_balance_daylight_is_taken(tmp_path: Path) -> None:
    """The same for every photo, whatever it shows."""
    for other in (0.1, 0.9):
        light = _light()
        light[:, 30:, 0] = other
        path = write_dng(tmp_path / "a.dng", mosaic(light), neutral=None)
        assert not photos.read_header(path).says_white
        assert np.allclose(_read(path)[:, :25], TINT, atol=2e-3)


def test_lens_facts(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic(_light()), exif=FACTS, model="Cam 5")
    facts = photos.read_header(path).lens
    assert (facts.camera_model, facts.focal_length_mm, facts.f_number) == ("Cam 5", 50, 2.8)
    assert (facts.focal_length_35mm, facts.focus_distance) == (75, 1.5)
    assert photos.read_header(write_dng(path, mosaic(_light()))).lens.focal_length_mm is None
    assert raw.read_lens(write_dng(path, mosaic(_light()), exif=FACTS)) == (50, pytest.approx(2.8))


def test_canons_focus_distance(tmp_path: Path) -> None:
    (tmp_path / "a.cr2").write_bytes(maker_block(b"Canon", 150).removeprefix(b"Exif\0\0"))
    assert read_lens_facts(*read_raw_exif(tmp_path / "a.cr2")).focus_distance == 1.5


def _tiff(tags: Mapping, inner: Mapping | None = None) -> bytes:
    exif = Image.Exif()
    exif.update(tags)
    if inner:
        exif.get_ifd(ExifTags.IFD.Exif).update(inner)
    return exif.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("kind", ["ORF", "RW2", "RAF", "CR3"])
def test_lens_facts_of_other_containers(tmp_path: Path, kind: str) -> None:
    outer = {ExifTags.Base.Model: "Cam 5", ExifTags.Base.Make: "Maker"}
    lens = {ExifTags.Base.FocalLength: 50.0, ExifTags.Base.FNumber: 2.8}
    tiff = _tiff(outer, lens)
    order = tiff[:2]
    path = tmp_path / f"a.{kind}"
    if kind in ("ORF", "RW2"):
        path.write_bytes(order + {"ORF": b"RO", "RW2": b"U\0"}[kind] + tiff[4:])
    elif kind == "RAF":
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + tiff)
        preview = (tmp_path / "a.jpg").read_bytes()
        head = b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">II", 92, len(preview))
        path.write_bytes(head + preview)
    else:
        blocks = {b"CMT1": _tiff(outer), b"CMT2": _tiff(lens)}
        boxes = [struct.pack(">I", 8 + len(data)) + name + data for name, data in blocks.items()]
        path.write_bytes(struct.pack(">I", 24) + b"ftypcrx ".ljust(20, b"\0") + b"".join(boxes))
    facts = read_lens_facts(*read_raw_exif(path))
    assert (facts.camera_model, facts.focal_length_mm, facts.f_number) == ("Cam 5", 50, 2.8)
    for cut in range(4, path.stat().st_size, 23):
        path.write_bytes(path.read_bytes()[:-cut])
        read_lens_facts(*read_raw_exif(path))


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.6, 0.99])
def test_damaged_files_end_in_one_sentence(tmp_path: Path, part: float, capfd: pytest.CaptureFixture) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic(_light(400, 600)), exif=FACTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=r"a\.dng cannot be read as a RAW file \(.+\): replace or remove it"):
        photos.read_photo(path)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.dng does not exist"):
        photos.read_header(tmp_path / "a.dng")


def test_a_scene_of_raw_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are prepared with 16 bits, as the light that was there."""
    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)
    cameras = make_cameras(4)
    (tmp_path / "data" / "images").mkdir(parents=True)
    lights = [color.decode(take_photo(camera)[..., [1, 1, 1]] / 255) for camera in cameras]
    for index, light in enumerate(lights):
        write_dng(tmp_path / "data" / "images" / f"{index}.DNG", mosaic(light), neutral=None)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / "images" / f"{index}.JPG")
    write_colmap(tmp_path / "data" / "sparse" / "0", cameras, [f"{index}.DNG" for index in range(4)])
    said: list[str] = []
    scene = open_scene(tmp_path / "data", tmp_path / "cache", say=said.append)
    assert "4 RAW photos (0.DNG, ...) lack a white balance: daylight's is taken." in said
    assert any(line.endswith(" are used. For 4 photos the RAW is used, not the JPEG.") for line in said)
    for view, light in zip(scene.views, lights, strict=True):
        assert prepare.open_pixels(view.image_path).dtype == np.uint16
        seen = scene.photo(view).permute(1, 2, 0).numpy()
        error = np.abs(color.decode(seen) - light)[4:-4, 4:-4]
        assert np.median(error) < 0.005


def test_copies_for_sfm_keep_the_focal_length(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", mosaic(_light()), orientation=6, exif=FACTS, model="Cam 5")
    Image.new("RGB", (8, 8)).save(tmp_path / "copy.jpg", exif=photos.exif_for_copy(path))
    header = photos.read_header(tmp_path / "copy.jpg")
    assert header.orientation == 1
    assert (header.lens.camera_model, header.lens.focal_length_35mm) == ("Cam 5", 75)


def test_the_black_level_is_no_light(tmp_path: Path) -> None:
    values = np.full((40, 60), BLACK, np.uint16)
    assert not photos.read_photo(write_dng(tmp_path / "a.dng", values)).any()
