"""HEIC and AVIF photos: depth, orientation, colours, EXIF, and files that are broken."""

from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import ExifTags, Image
from test_color import DISPLAY_P3, SRGB_CURVE, profile

from cocogs.errors import InputError
from cocogs.io import color, photos, prepare
from cocogs.io.source import Intrinsics, Shot

# Nothing lost but what 8 or 10 bits lose: all colours at full size, as RGB.
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def _picture(height: int = 64, width: int = 96) -> np.ndarray:
    """(H, W, 3) uint8: a bright corner at the top left, the rest dark."""
    picture = np.full((height, width, 3), (30, 40, 50), np.uint8)
    picture[: height // 2, : width // 2] = (220, 200, 90)
    return picture


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: orientation, ExifTags.Base.Model: "Phone 7"})
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.FocalLength: 5.7, ExifTags.Base.FocalLengthIn35mmFilm: 26, ExifTags.Base.FNumber: 1.5}
    )
    return exif


def _save(path: Path, pixels: np.ndarray, orientation: int = 1, **options) -> Path:
    image = Image.fromarray(pixels)
    exif = _exif(orientation).tobytes()
    if path.suffix == ".avif" or options.get("format") == "AVIF":
        options["exif"] = exif
    else:
        image.info["exif"] = exif
    image.save(path, **{"quality": 95, **options})
    return path


@pytest.mark.parametrize("kind", ["heic", "avif"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0))])
def test_orientation_counts_once(tmp_path: Path, kind: str, orientation: int, corner: tuple) -> None:
    """The file says it twice, as EXIF and as a turn of its own."""
    path = _save(tmp_path / f"a.{kind}", _picture(), orientation)
    header, upright = photos.read_header(path), photos.read_photo(path)
    assert (header.width, header.height) == ((96, 64) if orientation < 5 else (64, 96))
    assert upright.shape == (header.height, header.width, 3)
    stored = photos.read_photo(path, upright=False)
    assert stored.shape == (header.stored_height, header.stored_width, 3)
    row, column = (10 if side == 0 else -10 for side in corner)
    assert upright[row, column, 0] > 200 and (upright[..., 0] > 128).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_lens_facts_and_what_colmap_is_given(tmp_path: Path, kind: str) -> None:
    path = _save(tmp_path / f"a.{kind}", _picture(), 6)
    Image.new("RGB", (8, 8)).save(tmp_path / "copy.jpg", exif=photos.exif_for_copy(path))
    for header in (photos.read_header(path), photos.read_header(tmp_path / "copy.jpg")):
        facts = header.lens
        assert (facts.camera_model, facts.focal_length_mm, facts.f_number) == ("Phone 7", 5.7, 1.5)
        assert facts.focal_length_35mm == 26
    assert header.orientation == 1


@pytest.mark.parametrize("channels", ["RGB;16", "RGBA;16"])
def test_ten_bits_are_kept(tmp_path: Path, channels: str) -> None:
    ramp = np.repeat(np.linspace(0, 65535, 1024).astype(np.uint16)[None, :, None], 16, axis=0)
    pixels = np.repeat(ramp, len(channels) - 3, axis=2)
    pixels[..., 3:] = 65535
    file = pillow_heif.from_bytes(channels, (1024, 16), pixels.tobytes())
    file.save(tmp_path / "a.heic", **LOSSLESS)
    decoded = photos.read_photo(tmp_path / "a.heic")
    assert decoded.dtype == np.uint16 and decoded.min() == 0 and decoded.max() == 65535
    assert np.abs(decoded.astype(int) - pixels[..., :3]).max() <= 64
    assert len(np.unique(decoded)) > 900


def test_a_profile_and_code_points_name_the_same_colours(tmp_path: Path) -> None:
    """Display P3, which phones write, by both: one picture."""
    icc = profile(SRGB_CURVE, DISPLAY_P3)
    by_profile = _save(tmp_path / "a.heic", _picture(), icc_profile=icc, **LOSSLESS)
    by_points = _save(
        tmp_path / "b.heic", _picture(), color_primaries=12, transfer_characteristics=13, **LOSSLESS
    )
    plain = _save(tmp_path / "c.heic", _picture(), **LOSSLESS)
    pictures = [photos.read_photo(path).astype(int) for path in (by_profile, by_points, plain)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[0] - pictures[2]).max() > 5


def test_code_points_of_avif_count_too(tmp_path: Path) -> None:
    _save(tmp_path / "a.avif", _picture(), subsampling="4:4:4", quality=100)
    content = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "b.avif").write_bytes(content.replace(b"colrnclx\0\1", b"colrnclx\0\14"))
    plain, wide = (photos.read_photo(tmp_path / name) for name in ("a.avif", "b.avif"))
    assert np.abs(wide.astype(int) - color.cicp_to_srgb(plain, 12, 13)).max() <= 1


def test_hdr_light_is_scaled_to_reference_white() -> None:
    """Known values: PQ's signal of 203 and 100 cd/m^2 is 0.5807 and 0.5081 (BT.2408), HLG's white is 75 %."""
    pq = np.rint(np.array([0, 0.5081, 0.5807, 1.0]) * 65535).astype(np.uint16)
    grey = np.repeat(pq[None, :, None], 3, axis=2)
    light = color.decode(color.cicp_to_srgb(grey, 9, 16)[0] / 65535)
    assert np.allclose(light, np.array([0, 100 / 203, 1, 1])[:, None], atol=2e-3)
    hlg = np.rint(np.array([0, 0.375, 0.75, 1.0]) * 65535).astype(np.uint16)
    light = color.decode(color.cicp_to_srgb(np.repeat(hlg[None, :, None], 3, axis=2), 1, 18)[0] / 65535)
    assert np.allclose(light, np.array([0, 0.375**2 / 3 / 0.26496, 1, 1])[:, None], atol=2e-3)


def test_of_several_pictures_the_primary_one_is_the_photo(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (64, 64), (200, 0, 0)), Image.new("RGB", (96, 64), (0, 0, 200))
    first.save(tmp_path / "a.heic", save_all=True, append_images=[second], primary_index=1)
    assert photos.read_header(tmp_path / "a.heic").width == 96
    assert photos.read_photo(tmp_path / "a.heic")[..., 2].min() > 180


@pytest.mark.parametrize("kind", ["heic", "avif"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    content = _save(tmp_path / "whole", noise, format={"heic": "HEIF", "avif": "AVIF"}[kind]).read_bytes()
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError, match=rf"a\.{kind} cannot be read as a picture"):
        photos.read_photo(path)


@pytest.mark.parametrize("name", ["a.heic", "a.avif", "a.jpg"])
def test_what_colmap_cannot_read_is_prepared(tmp_path: Path, name: str) -> None:
    """Also where a phone's HEIC file is called .jpg."""
    kind = "AVIF" if name == "a.avif" else "HEIF"
    path = _save(tmp_path / name, _picture(), format=kind)
    lens = Intrinsics("PINHOLE", 96, 64, (90.0, 90.0, 48.0, 32.0))
    photo = prepare.fit_photo(Shot(name, lens, torch.eye(4).double()), path)
    ready = prepare.prepared_photo(photo, lens, tmp_path / "cache")
    assert not photo.header.is_plain
    assert np.array_equal(prepare.open_pixels(ready).transpose(1, 2, 0), photos.read_photo(path))
