"""Facts about the lens from EXIF: focus distances of Canon's maker note and of the standard's tag."""

import struct
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from cocogs.io.exif import LensFacts, canon_focus_distance, read_lens_facts
from cocogs.io.photos import read_header

EXIF_IFD, MAKE, MAKER_NOTE, SHOT_INFO = 0x8769, 0x010F, 0x927C, 0x0004


def maker_block(maker: bytes, centimetres: int) -> bytes:
    """An EXIF block whose maker note has Canon's layout: ShotInfo's number 19 is a distance."""
    name = maker + b"\0"
    numbers = struct.pack("<20H", 40, *[7] * 18, centimetres)
    exif_at = 8 + 2 + 2 * 12 + 4
    note_at = exif_at + 2 + 12 + 4
    info_at = note_at + 2 + 12 + 4
    name_at = info_at + len(numbers)
    note = struct.pack("<HHHIII", 1, SHOT_INFO, 3, 20, info_at, 0)
    block = b"II*\0" + struct.pack("<I", 8)
    block += struct.pack("<HHHIIHHIII", 2, MAKE, 2, len(name), name_at, EXIF_IFD, 4, 1, exif_at, 0)
    block += struct.pack("<HHHIII", 1, MAKER_NOTE, 7, len(note) + len(numbers), note_at, 0)
    return b"Exif\0\0" + block + note + numbers + name


def _facts(path: Path, exif: Image.Exif | bytes) -> LensFacts:
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return read_header(path).lens


@pytest.mark.parametrize(("centimetres", "metres"), [(0, None), (1, 0.01), (65534, 655.34), (65535, None)])
def test_canon_writes_unknown_and_infinity_as_numbers(
    tmp_path: Path, centimetres: int, metres: float | None
) -> None:
    block = maker_block(b"Canon", centimetres)
    if centimetres < 65535:
        assert canon_focus_distance(block) == metres
    assert _facts(tmp_path / "a.jpg", block).focus_distance == metres


@pytest.mark.parametrize("maker", [b"CASIO COMPUTER CO.,LTD", b"NIKON", b"Somebody"])
def test_other_makers_notes_are_not_read_as_canon(tmp_path: Path, maker: bytes) -> None:
    assert _facts(tmp_path / "a.jpg", maker_block(maker, 7)).focus_distance is None


@pytest.mark.parametrize("cut", range(20, 190, 10))
def test_damaged_notes_say_nothing(tmp_path: Path, cut: int, capfd: pytest.CaptureFixture) -> None:
    distance = _facts(tmp_path / "a.jpg", maker_block(b"Canon", 150)[:cut]).focus_distance
    assert distance in (None, 1.5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "metres"),
    [
        (IFDRational(250, 100), 2.5),
        (IFDRational(0, 100), None),  # unknown
        (IFDRational(0xFFFFFFFF, 1), None),  # infinity
        (IFDRational(0xFFFFFFFF, 100), None),
        (IFDRational(0, 0), None),
        (IFDRational(65535, 100), None),  # the largest number of centimetres: infinity
        (IFDRational(4, 1000), None),
    ],
)
def test_subject_distance_of_the_standard(tmp_path: Path, value: IFDRational, metres: float | None) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.SubjectDistance] = value
    exif[MAKE] = "Casio"
    assert _facts(tmp_path / "a.jpg", exif).focus_distance == metres


def test_nothing_nearer_than_the_focal_length_is_in_focus(tmp_path: Path) -> None:
    for focal_length, expected in ((50.0, 0.1), (200.0, None)):
        exif = Image.Exif()
        tags = exif.get_ifd(ExifTags.IFD.Exif)
        tags[ExifTags.Base.SubjectDistance], tags[ExifTags.Base.FocalLength] = 0.1, focal_length
        exif[MAKE] = "Casio"
        assert _facts(tmp_path / "a.jpg", exif).focus_distance == expected


def test_a_photo_by_canon(shared_data: Path, tmp_path: Path) -> None:
    photo = min((shared_data / "real" / "moldcape_f25" / "images").iterdir())
    distance = read_header(photo).lens.focus_distance
    assert distance is not None and 0.3 < distance < 3
    whole = photo.read_bytes()
    (tmp_path / "garbage.jpg").write_bytes(whole[:40] + bytes(400) + whole[440:])
    assert read_header(tmp_path / "garbage.jpg").lens.focus_distance is None


@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        (ExifTags.Base.FocalLength, IFDRational(50_000, 1), "focal_length_mm"),
        (ExifTags.Base.FNumber, IFDRational(1, 10), "f_number"),
        (ExifTags.Base.FNumber, IFDRational(1, 0xFFFFFFFF), "f_number"),
        (ExifTags.Base.ExposureTime, IFDRational(0xFFFFFFFF, 1), "shutter_s"),
    ],
)
def test_what_no_lens_has_is_unknown(tag: int, value: IFDRational, name: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[tag] = value
    assert getattr(read_lens_facts(exif), name) is None
