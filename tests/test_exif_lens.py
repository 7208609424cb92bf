"""From EXIF to a focal length in px: twelve cameras by their data sheets, crops, zoom, contradictions."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from cocogs.io.exif import NAMED_FOCAL_LENGTH, LensFacts
from cocogs.io.exif_lens import lens_by_exif, lens_by_facts
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.lens_tables import known_sensor
from cocogs.io.photos import read_header

BASE = ExifTags.Base
# Make, Model; focal length in mm and its 35 mm equivalent, as EXIF has them; pixels; focal-plane resolution
# per inch (None: not written). Then what the data sheet says: width of the sensor in mm (of phones: pixels
# times their pitch); None: only the 35 mm equivalent, by diagonals.
BODIES: dict[str, tuple[str, str, float, int | None, tuple[int, int], float | None, float | None]] = {
    "phone, 26 mm": ("Apple", "iPhone 11", 4.25, 26, (4032, 3024), None, 4032 * 0.0014),
    "phone, 24 mm": ("Google", "Pixel 7", 6.81, 24, (4080, 3072), None, 8160 * 0.0012),
    "phone, 1.8 um": ("samsung", "SM-G991B", 5.4, 26, (4000, 3000), None, 4000 * 0.0018),
    "DSLR, 36 x 24 mm": ("Canon", "Canon EOS 5D Mark II", 50, None, (5616, 3744), 3908.14, 36.0),
    "DSLR, 22.3 x 14.9 mm": ("Canon", "Canon EOS 80D", 35, None, (6000, 4000), 6825.24, 22.3),
    "DSLR, DX": ("NIKON CORPORATION", "NIKON D90", 50, 75, (4288, 2848), None, 23.6),
    "mirrorless, 36 x 24 mm": ("NIKON CORPORATION", "NIKON Z 6", 85, 85, (6048, 4024), None, 35.9),
    "mirrorless, APS-C": ("FUJIFILM", "X-T1", 23, 35, (4896, 3264), 5311.0, 23.6),
    "mirrorless, Four Thirds": ("Panasonic", "DC-GH5", 25, 50, (5184, 3888), None, 17.3),
    "compact, 1 inch": ("Canon", "Canon PowerShot G7 X", 18.138, None, (5472, 3648), 10584.14, 13.2),
    "medium format": ("FUJIFILM", "GFX 50S", 63, 50, (8256, 6192), None, 43.8),
    "drone": ("DJI", "FC300X", 3.61, 20, (4000, 3000), None, None),
    "action camera": ("GoPro", "HERO7 Black", 2.92, 15, (4000, 3000), None, None),
}


def photo(
    path: Path, size: tuple[int, int], told: tuple[int, int] | None = None,
    camera: tuple[str, str] = ("", ""), software: str = "", orientation: int = 1, **tags: Any,
) -> Path:  # fmt: skip
    """A small photo of one colour with the EXIF of a camera.

    Args:
        size: of the file, px. A palette PNG would do; a JPEG of one colour is as small.
        told: size that EXIF tells.
        tags: of EXIF, by Pillow's names.
    """
    exif = Image.Exif()
    named = {BASE.Make: camera[0], BASE.Model: camera[1], BASE.Software: software}
    exif.update({tag: text for tag, text in named.items() if text})
    exif[BASE.Orientation] = orientation
    inner = {BASE[name]: value for name, value in tags.items() if value is not None}
    if told is not None:
        inner |= {BASE.ExifImageWidth: told[0], BASE.ExifImageHeight: told[1]}
    exif[ExifTags.IFD.Exif] = inner
    Image.new("L", size).save(path, exif=exif)
    return path


def rational(value: float) -> IFDRational:
    return IFDRational(round(value * 1000), 1000)


def found(path: Path) -> LensEstimate:
    answer = lens_by_exif(read_header(path))
    assert isinstance(answer, LensEstimate), answer
    return answer


def reason(answer: LensEstimate | Abstention) -> str:
    assert isinstance(answer, Abstention), answer
    return answer.reason


@pytest.mark.parametrize("with_lensfun", [True, False])
@pytest.mark.parametrize("body", BODIES)
def test_cameras_by_their_data_sheets(
    body: str, with_lensfun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within .5 %; without lensfun within two deviations: Nikon writes 75 mm for 76.2."""
    maker, model, mm, equivalent, told, resolution, width_mm = BODIES[body]
    if with_lensfun:
        pytest.importorskip("lensfunpy")
    else:
        monkeypatch.setitem(sys.modules, "lensfunpy", None)
    size = (told[0] // 8, told[1] // 8)  # made smaller, with EXIF as it was
    path = photo(
        tmp_path / "a.jpg", size, told, (maker, model), FocalLength=rational(mm),
        FocalLengthIn35mmFilm=equivalent, FocalPlaneXResolution=resolution and rational(resolution),
    )  # fmt: skip
    if width_mm is not None:
        sheet = mm / width_mm * size[0]
    else:
        assert equivalent is not None
        sheet = equivalent / math.hypot(36, 24) * math.hypot(*size)
    lens = found(path)
    assert lens.source == "exif" and lens.size == size and lens.center == (size[0] / 2, size[1] / 2)
    limit = 0.005 if with_lensfun else 2 * math.sqrt(lens.relative_deviation**2 - NAMED_FOCAL_LENGTH**2)
    assert lens.focal[0] == lens.focal[1] == pytest.approx(sheet, rel=limit)
    assert 0.028 < lens.relative_deviation < (0.15 if maker == "GoPro" else 0.05)


PHONE = LensFacts(4.25, 26.0, 1.8, "Phone", camera_maker="Maker", told_px=(4032, 3024))
FULL = LensFacts(50.0, 50.0, 2.8, "Camera", camera_maker="Maker", told_px=(6000, 4000))


def by_facts(facts: LensFacts, size: tuple[int, int]) -> LensEstimate:
    answer = lens_by_facts(facts, size)
    assert isinstance(answer, LensEstimate), answer
    return answer


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_turned_photo(tmp_path: Path, orientation: int) -> None:
    path = photo(
        tmp_path / "a.jpg", (403, 302), (4032, 3024), orientation=orientation, FocalLengthIn35mmFilm=26
    )
    lens = found(path)
    assert lens.size == ((403, 302) if orientation == 1 else (302, 403))
    assert lens.focal[0] == pytest.approx(26 * math.hypot(403, 302) / math.hypot(36, 24))


@pytest.mark.parametrize("size", [(4032, 3024), (1008, 756), (756, 1008)])
def test_a_smaller_photo_of_the_same_shape_is_whole(size: tuple[int, int]) -> None:
    lens = by_facts(PHONE, size)
    assert lens.focal[0] == pytest.approx(26 * math.hypot(*size) / math.hypot(36, 24))
    assert lens.center_deviation == pytest.approx((0.01 * max(size),) * 2) and not lens.notes


def test_a_crop_that_cannot_have_been_made_smaller() -> None:
    """Its full width is there: its focal length is known, and how high its principal point lies is not."""
    whole, crop = by_facts(FULL, (6000, 4000)), by_facts(FULL, (6000, 2800))
    assert crop.focal == pytest.approx(whole.focal) and crop.focal_deviation == whole.focal_deviation
    assert crop.center_deviation[0] == whole.center_deviation[0]
    assert crop.center_deviation[1] == pytest.approx(math.hypot(60, 1200 / math.sqrt(12)))
    assert "it was cropped, so its principal point may lie off the middle" in crop.notes[0]


def test_a_crop_that_may_have_been_made_smaller() -> None:
    """3000 x 3000 of 6000 x 4000 px: as it is, or 4000 x 4000 made smaller. Both are within two."""
    lens = by_facts(FULL, (3000, 3000))
    for true in (50 / 24 * 3000, 50 / 24 * 4000):
        assert abs(lens.focal[0] - true) < 2 * lens.focal_deviation[0]
    assert "may also have been made smaller, by up to 1.33 times" in lens.notes[1]
    assert lens.center_deviation[0] > 2 * lens.center_deviation[1] > 100


def test_a_far_smaller_crop_is_the_largest_part() -> None:
    lens = by_facts(FULL, (400, 400))
    assert lens.focal[0] == pytest.approx(50 / 24 * 400) and lens.relative_deviation > 0.2


def test_a_high_crop_of_a_wide_photo() -> None:
    lens = by_facts(FULL, (2000, 3800))
    lying, turned = 50 / 24 * 4000, 50 / 24 * 4000 * 3800 / 6000
    assert turned < lens.focal[0] < lying


def test_a_wide_picture_is_a_part_of_the_sensor() -> None:
    """16:9 of a phone's 4:3 sensor, in the camera: its 35 mm equivalent is that of the whole, for most."""
    wide = by_facts(replace(PHONE, told_px=(4032, 2268)), (4032, 2268))
    assert wide.focal[0] == pytest.approx(by_facts(PHONE, (4032, 3024)).focal[0])
    own_diagonal = 26 * math.hypot(4032, 2268) / math.hypot(36, 24)
    assert abs(wide.focal[0] - own_diagonal) < 2 * wide.focal_deviation[0]


def test_digital_zoom() -> None:
    """Apple counts it in the 35 mm equivalent; where the sensor is known it tells; else nobody knows."""
    plain = by_facts(PHONE, (4032, 3024)).focal[0]
    zoomed = replace(PHONE, digital_zoom=2.0, focal_length_35mm=52.0)
    sure, unsure = (
        by_facts(replace(zoomed, camera_maker="Apple"), (4032, 3024)),
        by_facts(zoomed, (4032, 3024)),
    )
    assert sure.focal[0] == unsure.focal[0] == pytest.approx(2 * plain)
    assert sure.relative_deviation < 0.05 and unsure.relative_deviation > 0.25
    assert "digital zoom" in unsure.notes[0] and not sure.notes
    known = replace(PHONE, digital_zoom=2.0, sensor_mm=(5.66, 4.245))
    counted = replace(known, focal_length_35mm=52.0)
    for facts in (known, counted):
        lens = by_facts(facts, (4032, 3024))
        assert lens.focal[0] == pytest.approx(2 * plain, rel=0.01) and lens.relative_deviation < 0.05


def test_a_crop_mode_is_told_by_the_35_mm_equivalent() -> None:
    if known_sensor("SONY", "ILCE-7M3") is None:
        pytest.skip("needs lensfunpy")
    facts = LensFacts(50.0, 75.0, 2.8, "ILCE-7M3", camera_maker="SONY", told_px=(3936, 2624))
    lens = by_facts(facts, (3936, 2624))
    assert lens.focal[0] == pytest.approx(75 * math.hypot(3936, 2624) / math.hypot(36, 24))
    assert "as in a crop mode" in lens.notes[0]


def test_a_close_focus_makes_the_picture_larger() -> None:
    far, near = by_facts(FULL, (600, 400)), by_facts(replace(FULL, focus_distance=0.5), (600, 400))
    assert near.focal[0] == pytest.approx(far.focal[0] / (1 - 0.05 / 0.5))
    assert near.relative_deviation > far.relative_deviation


@pytest.mark.parametrize("software", ["Adobe Lightroom 6.1", "GIMP 2.10", "Instagram", "RawTherapee 5.8"])
def test_programs_that_crop_without_a_trace(software: str) -> None:
    plain = by_facts(replace(FULL, software="Ver.1.00"), (6000, 4000))
    edited = by_facts(replace(FULL, software=software), (6000, 4000))
    assert not plain.notes and plain.relative_deviation < 0.05
    assert f"written by {software}" in edited.notes[0] and edited.relative_deviation > 0.1
    assert edited.center_deviation[0] > 4 * plain.center_deviation[0]


def test_an_edited_photo_that_shows_the_whole_sensor() -> None:
    """The focal plane that EXIF tells is that of the camera model."""
    facts = LensFacts(
        50.0, None, 2.8, "Canon EOS 5D Mark II", camera_maker="Canon", software="Adobe Photoshop 21",
        told_px=(5616, 3744), sensor_mm=(36.0, 24.0),
    )  # fmt: skip
    assert not by_facts(facts, (5616, 3744)).notes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"focal_length_mm": None, "focal_length_35mm": None}, "EXIF tells no focal length; scans"),
        ({"focal_length_35mm": None, "camera_model": "Box"}, "no table knows the camera (Box)"),
        ({"focal_length_mm": 10000.0}, "a focal length of 10000 mm, which no camera's lens has"),
        ({"focal_length_35mm": 4.0}, "a 35 mm equivalent of 4 mm, which"),
        ({"focal_length_mm": 50.0, "focal_length_35mm": 20.0}, "a focal length of 50 mm one of 20 mm"),
        ({"focal_length_35mm": 177.0}, "no sensor makes a focal length of 4.25 mm one of 177 mm"),
        ({"sensor_mm": (36.0, 27.0)}, "focal length is 476 px, by 26 mm in 35 mm equivalent 3029 px"),
        ({"lens_model": "Olympus M.8mm F1.8 Fisheye PRO"}, "The lens is a fisheye (Olympus"),
    ],
)  # fmt: skip
def test_exif_that_cannot_be_used(changes: dict[str, Any], words: str) -> None:
    assert words in reason(lens_by_facts(replace(PHONE, **changes), (4032, 3024)))


def test_lensfun_knows_fisheyes_by_other_names() -> None:
    pytest.importorskip("lensfunpy")
    facts = LensFacts(
        7.5, None, 3.5, "E-M1", camera_maker="Olympus", lens_model="Samyang 7.5mm f/3.5 UMC Fish-eye MFT"
    )
    assert "fisheye" in reason(lens_by_facts(facts, (4608, 3456)))


def test_stitched_pictures() -> None:
    assert "as stitched panoramas are" in reason(lens_by_facts(replace(PHONE, told_px=None), (9000, 2000)))
    assert lens_by_facts(FULL, (6000, 1500)).source == "exif"  # a strip cut from a photo


def test_zero_is_unknown(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", (40, 30), FocalLength=rational(0), FocalLengthIn35mmFilm=0)
    assert "tells no focal length" in reason(lens_by_exif(read_header(path)))


def test_colmaps_table_is_asked_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lensfunpy", None)
    sensor = known_sensor("NIKON CORPORATION", "NIKON D90")
    assert sensor is not None and sensor.width == pytest.approx(23.6, rel=1e-5)
    assert sensor.table == "COLMAP's table" and known_sensor("Nobody", "Nothing") is None
