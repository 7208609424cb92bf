"""What a photo's EXIF says: how the camera was held, its lens, and the distance in focus."""

import io
import logging
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import exifread
from PIL import ExifTags, Image, ImageFile

# Without a handler, Python prints the library's warnings about odd files on the terminal.
logging.getLogger("exifread").addHandler(logging.NullHandler())

# Metres. Cameras write distances as 16-bit numbers of centimetres; the largest one means infinity.
NEAREST, FARTHEST = 0.01, 655.35
# mm; that of a 36 x 24 mm frame.
DIAGONAL_35MM = math.hypot(36, 24)
# Standard deviation, as a part: lenses are up to 5 % off what is written on them, evenly distributed.
NAMED_FOCAL_LENGTH = 0.05 / math.sqrt(3)
# Likewise: from the sensor or the lens? and how finely the camera knows it; moldcape_f25.
NOTED_DISTANCE = 0.05
# mm in a unit of FocalPlaneResolutionUnit: inch, cm, mm, micrometre (Exif 2.32 and TIFF/EP).
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
# mm; longer sides of sensors, from the smallest phone's to beyond medium format. Others are damage.
_SENSORS = 2.0, 80.0
# What there is: focal lengths in mm, f-numbers (in air none is below .5; pinholes have hundreds), exposures
# in s, sensitivities. Others are damage.
_FOCAL_LENGTHS, _F_NUMBERS, _EXPOSURES, _ISOS = (0.1, 1e4), (0.5, 2e3), (1e-7, 1e6), (0.1, 1e8)
# The numerator of SubjectDistance that means infinity (Exif 2.32, tag 0x9206).
_INFINITE = 0xFFFFFFFF
# A directory of an EXIF block counts its values in 32 bits; a larger block than this is damaged. RAW files
# have their directories of EXIF before that.
_LARGEST_BLOCK = 1 << 20


LENGTHS = range(1, 1000)  # of a text in EXIF that is copied; a JPEG has room for 64 kB in all


@dataclass(frozen=True)
class LensFacts:
    """What a photo's EXIF says about its lens; None where it says nothing.

    Args:
        focal_length_mm: the lens's focal length in mm.
        focal_length_35mm: the focal length in mm that gives the same view on a 36 x 24 mm frame.
        f_number: focal length divided by aperture diameter.
        camera_model: the maker's name of the camera.
        focus_distance: metres, between `NEAREST` and `FARTHEST`. From Canon's maker note, else from EXIF's
            SubjectDistance.
        sensor_mm: longer and shorter side of the sensor, by the size in px that EXIF tells and
            FocalPlaneXResolution. Programs that make photos smaller leave both as they were.
        shutter_s: the exposure time in s.
        iso: the sensitivity.
        camera_maker, lens_model: by the maker's names.
        told_px: width and height that EXIF tells, of the stored pixels. Programs that make photos smaller or
            crop them often leave these as they were.
        digital_zoom: by how much the camera enlarged a part of the picture; None where it did not.
        software: the program that wrote the file; most cameras write the version of their own.
    """

    focal_length_mm: float | None = None
    focal_length_35mm: float | None = None
    f_number: float | None = None
    camera_model: str | None = None
    focus_distance: float | None = None
    sensor_mm: tuple[float, float] | None = None
    shutter_s: float | None = None
    iso: float | None = None
    camera_maker: str | None = None
    lens_model: str | None = None
    told_px: tuple[int, int] | None = None
    digital_zoom: float | None = None
    software: str | None = None

    @property
    def stops(self) -> float | None:
        """How bright a scene comes out: log2(t ISO / N^2)."""
        if self.shutter_s is None or self.iso is None or self.f_number is None:
            return None
        return math.log2(self.shutter_s * self.iso / self.f_number**2)

    @property
    def aperture_diameter(self) -> float | None:
        """Metres: focal length / f-number."""
        if self.focal_length_mm is None or self.f_number is None:
            return None
        return self.focal_length_mm / 1000 / self.f_number


def read_exif(image: ImageFile.ImageFile) -> Image.Exif:
    """The EXIF of an opened file; empty where it is damaged.

    Where a PNG does not begin with its EXIF, Pillow would decode all pixels (to 8 bits) to look behind them.
    Hardly any program writes it there.
    """
    begins_with_exif = any("exif" in str(key).lower() for key in image.info)
    if image.format == "PNG" and not begins_with_exif:
        return Image.Exif()
    try:
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # Pillow raises a different type for every way the block can be damaged
        return Image.Exif()
    return exif


def read_raw_exif(path: Path) -> tuple[Image.Exif, bytes]:
    """The EXIF of a RAW file, and the block that holds its maker note, as for `read_lens_facts`.

    Most RAW files are TIFF files, some with other first bytes (Olympus, Panasonic). Fujifilm's .RAF holds its
    EXIF in a JPEG, Canon's .CR3 in several blocks. Empty where there is none, or it is damaged.
    """
    exif = Image.Exif()
    try:
        with path.open("rb") as file:
            head = file.read(_LARGEST_BLOCK)
            if head.startswith(b"FUJIFILMCCD-RAW"):
                start, size = struct.unpack_from(">II", head, 84)
                file.seek(start)
                with Image.open(io.BytesIO(file.read(size)), formats=("JPEG",)) as preview:
                    return read_exif(preview), b""
            if head[4:11] == b"ftypcrx":
                exif.load(_cr3_block(head, b"CMT1"))
                inner = Image.Exif()
                inner.load(_cr3_block(head, b"CMT2"))
                exif.get_ifd(ExifTags.IFD.Exif).update(inner)
                return exif, b""
        head = {b"II": b"II*\0", b"MM": b"MM\0*"}[head[:2]] + head[4:]
        exif.load(b"Exif\0\0" + head)
        exif.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # as in read_exif
        return Image.Exif(), b""
    return exif, head


def says_white_balance(exif: Image.Exif) -> bool:
    """False for a DNG file that lacks both AsShotNeutral and AsShotWhiteXY. Other RAW files have theirs."""
    dng_version, neutral, white = 50706, 50728, 50729
    return dng_version not in exif or neutral in exif or white in exif


def _cr3_block(head: bytes, name: bytes) -> bytes:
    """The TIFF block in a box of a .CR3 file: its size, its name, the block."""
    place = head.index(name)
    (size,) = struct.unpack_from(">I", head, place - 4)
    return b"Exif\0\0" + head[place + 4 : place - 4 + size]


def copied_exif(exif: Image.Exif) -> bytes:
    """An EXIF block for an upright copy of a photo: camera, lens and place.

    Left out are the orientation and all that may be too long for a JPEG, such as maker notes.
    """
    copy = Image.Exif()
    tags, inner = ExifTags.Base, ExifTags.IFD.Exif
    copy.update({tag: exif[tag] for tag in (tags.Make, tags.Model) if len(str(exif.get(tag, ""))) in LENGTHS})
    wanted = (tags.FocalLength, tags.FocalLengthIn35mmFilm, tags.FNumber)
    wanted += (tags.FocalPlaneXResolution, tags.FocalPlaneYResolution, tags.FocalPlaneResolutionUnit)
    lens = exif.get_ifd(inner)
    copy.get_ifd(inner).update({tag: lens[tag] for tag in wanted if tag in lens})
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    copy.get_ifd(ExifTags.IFD.GPSInfo).update({t: v for t, v in place.items() if len(str(v)) in LENGTHS})
    return copy.tobytes()


def read_orientation(exif: Image.Exif) -> int:
    """1 (upright) to 8; 1 where the file says nothing or nonsense."""
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def read_lens_facts(exif: Image.Exif, block: bytes = b"") -> LensFacts:
    """What the EXIF says about the lens.

    Args:
        block: the EXIF as the file holds it, for the maker note; empty where it is not at hand.
    """
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    focal_length = _within(_FOCAL_LENGTHS, tags.get(ExifTags.Base.FocalLength))
    zoom = _positive(tags.get(ExifTags.Base.DigitalZoomRatio))
    distances = [_subject_distance(tags)]
    if str(exif.get(ExifTags.Base.Make, "")).strip("\0 ") == "Canon" and ExifTags.Base.MakerNote in tags:
        distances.insert(0, canon_focus_distance(block))
    return LensFacts(
        focal_length_mm=focal_length,
        focal_length_35mm=_within(_FOCAL_LENGTHS, tags.get(ExifTags.Base.FocalLengthIn35mmFilm)),
        f_number=_within(_F_NUMBERS, tags.get(ExifTags.Base.FNumber)),
        camera_model=_name(exif.get(ExifTags.Base.Model)),
        focus_distance=next((d for d in distances if d is not None and _plausible(d, focal_length)), None),
        sensor_mm=_sensor(tags),
        shutter_s=_within(_EXPOSURES, tags.get(ExifTags.Base.ExposureTime)),
        iso=_within(_ISOS, _first(tags.get(ExifTags.Base.ISOSpeedRatings))),
        camera_maker=_name(exif.get(ExifTags.Base.Make)),
        lens_model=_name(tags.get(ExifTags.Base.LensModel)),
        told_px=_told_px(tags),
        digital_zoom=zoom if zoom is not None and zoom > 1 else None,
        software=_name(exif.get(ExifTags.Base.Software)),
    )


def says_adobe_rgb(exif: Image.Exif) -> bool:
    """The camera wrote Adobe RGB without a profile: the interoperability index R03 of DCF 2.0."""
    try:
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # as in read_exif
        return False
    return str(index).strip("\0 ") == "R03"


def canon_focus_distance(block: bytes) -> float | None:
    """FocusDistanceUpper of a Canon maker note in metres; None where it is absent, unknown or infinite.

    Args:
        block: an EXIF block that names Canon as the maker.
    """
    if not 0 < len(block) <= _LARGEST_BLOCK:
        return None
    try:
        tags = exifread.process_file(io.BytesIO(block.removeprefix(b"Exif\0\0")), extract_thumbnail=False)
        centimetres = int(tags["MakerNote SubjectDistance"].values)
    except Exception:  # exifread raises a different type for every way the note can be damaged
        return None
    return centimetres / 100 or None


def _subject_distance(tags: Mapping[int, object]) -> float | None:
    """Metres; None where EXIF does not know it (0) or calls it infinite."""
    value = tags.get(ExifTags.Base.SubjectDistance)
    return None if getattr(value, "numerator", None) == _INFINITE else _positive(value)


def _told_px(tags: Mapping[int, object]) -> tuple[int, int] | None:
    width, height = (_positive(tags.get(tag)) for tag in (0xA002, 0xA003))  # PixelXDimension, PixelYDimension
    return None if width is None or height is None else (round(width), round(height))


def _sensor(tags: Mapping[int, object]) -> tuple[float, float] | None:
    """Longer and shorter side in mm; None where EXIF does not tell, or tells what no sensor is."""
    base = ExifTags.Base
    pixels = _told_px(tags)
    x = _positive(tags.get(base.FocalPlaneXResolution))
    y = _positive(tags.get(base.FocalPlaneYResolution)) or x
    unit = _UNITS.get(tags.get(base.FocalPlaneResolutionUnit, 2))  # type: ignore[call-overload]
    if pixels is None or x is None or y is None or unit is None:
        return None
    shorter, longer = sorted((pixels[0] / x * unit, pixels[1] / y * unit))
    return (longer, shorter) if _SENSORS[0] <= longer <= _SENSORS[1] and shorter > longer / 4 else None


def _plausible(distance: float, focal_length_mm: float | None) -> bool:
    """A lens cannot focus on what is nearer than its focal length."""
    return max(NEAREST, (focal_length_mm or 0) / 1000) <= distance < FARTHEST


def _name(value: object) -> str | None:
    return str(value).strip("\0 ") or None if value else None


def _first(value: object) -> object:
    """Some cameras write several values of ISO."""
    return value[0] if isinstance(value, tuple) and value else value


def _within(range_: tuple[float, float], value: object) -> float | None:
    """A number of what there is."""
    number = _positive(value)
    return number if number is not None and range_[0] <= number <= range_[1] else None


def _positive(value: object) -> float | None:
    """EXIF writes 0 (or 0/0) where it does not know."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < float("inf") else None
