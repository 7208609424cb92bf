"""One photo through another lens: `cocogs refocus`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.camera_file import CameraFile, Sensor, write_camera_file
from cocogs.io.exif import LensFacts
from cocogs.optics.layers import blur_layers
from cocogs.optics.lens import Lens, PhotoLens
from cocogs.optics.sharpness import gradient_energy
from cocogs.photo.depth import METRES, PictureDepth
from cocogs.photo.depth_run import LearnedOfPhoto
from cocogs.photo.lenses import find_camera, focus_distance
from cocogs.photo.refocus import DepthPhoto

HEIGHT, WIDTH = 60, 90
NEAR, FAR = 1.0, 3.0  # metres: the left and the right half


def light() -> Tensor:
    """Fine texture everywhere."""
    generator = torch.Generator().manual_seed(4)
    return torch.rand(3, HEIGHT, WIDTH, generator=generator) * 0.6 + 0.1


def halves() -> Tensor:
    depth = torch.full((HEIGHT, WIDTH), FAR)
    depth[:, : WIDTH // 2] = NEAR
    return depth


def picture_depth(unit: str | None = METRES, learned: LearnedOfPhoto | None = None) -> PictureDepth:
    metres = 1.0 if unit == METRES else None
    return PictureDepth(halves(), unit, "a file", learned=learned, metres_per_unit=metres)


def write_photo(folder: Path, exif: dict[int, object] | None = None, deep: bool = False) -> Path:
    """a.png or a.jpg with a_depth.npy beside it."""
    np.save(folder / "a_depth.npy", halves().numpy())
    values = light().permute(1, 2, 0).numpy()
    if deep:
        path = folder / "a.tif"
        tifffile.imwrite(path, (values * 65535).astype(np.uint16), photometric="rgb")
        return path
    block = Image.Exif()
    for tag, value in (exif or {}).items():
        block.get_ifd(0x8769)[tag] = value
    path = folder / "a.jpg"
    Image.fromarray((values * 255).astype(np.uint8)).save(path, quality=98, exif=block)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, dtype=float)


def decibels(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()) + 1e-12)


def test_what_is_focused_stays_sharp_and_the_rest_blurs() -> None:
    photo = DepthPhoto(light(), halves(), 100.0)
    shown = photo.refocused(Lens(NEAR, 0.1)).light  # 100 * .1 * (1 - 1/3) = 6.7 px at the far half
    assert decibels(shown[:, :, :35], light()[:, :, :35]) > 60
    energy = gradient_energy(shown) / gradient_energy(light())
    assert float(energy[10:-10, 60:80].mean()) < 0.1


def test_only_the_difference_of_blur_is_added() -> None:
    plane, sharp = torch.full((HEIGHT, WIDTH), FAR), light()
    once = blur_layers(sharp, torch.full((HEIGHT, WIDTH), 3.0))
    taken = PhotoLens(torch.tensor(math.inf), torch.tensor(9.0))  # 9 / 3 = 3 px
    shown = DepthPhoto(once, plane, 100.0, taken).refocused(Lens(math.inf, 0.15)).light  # 5 px
    truth = blur_layers(sharp, torch.full((HEIGHT, WIDTH), 5.0))
    inner = (..., slice(6, -6), slice(6, -6))
    assert decibels(shown[inner], truth[inner]) > decibels(once[inner], truth[inner]) + 12


def test_blur_that_cannot_be_taken_away_stays_and_is_told() -> None:
    taken = PhotoLens(torch.tensor(NEAR), torch.tensor(20.0))  # 13 px at the far half
    photo = DepthPhoto(light(), halves(), 100.0, taken)
    refused = photo.refocused(Lens(FAR, 0.2))
    assert bool(refused.refused[:, 45:].all()) and not bool(refused.refused[:, :45].any())
    assert decibels(refused.light[:, :, 60:], light()[:, :, 60:]) > 60, "untouched"

    def deblur(light: Tensor, coc: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        trusted = torch.ones(wanted.shape)
        trusted[:10] = 0
        return torch.full_like(light, 0.25), trusted

    taken_away = photo.refocused(Lens(FAR, 0.2), deblur)
    assert float(taken_away.light[:, 20:, 70:].mean()) == pytest.approx(0.25, abs=1e-4)
    assert bool(taken_away.deblurred[10:, 45:].all()) and bool(taken_away.refused[:10, 45:].all())


def test_a_click_takes_the_depth_of_what_lies_there() -> None:
    photo = DepthPhoto(light(), halves(), 100.0)
    assert photo.depth_at(10, 10) == NEAR and photo.depth_at(WIDTH, HEIGHT) == FAR
    with pytest.raises(InputError, match=f"outside the photo, which has {WIDTH}x{HEIGHT} px"):
        photo.depth_at(WIDTH + 1, 3)


# ------------------------------------------------------------------------------------------------- lenses


def test_the_lens_of_a_full_frame_camera_is_its_own() -> None:
    facts = LensFacts(focal_length_mm=50, focal_length_35mm=50, f_number=2.0, focus_distance=1.5)
    camera = find_camera(facts, picture_depth(), None)
    # Focused at 1.5 m, it stands 1 / (1 - .05 / 1.5) focal lengths before the sensor.
    focal_px = 50 / math.hypot(36, 24) * math.hypot(WIDTH, HEIGHT) / (1 - 0.05 / 1.5)
    assert camera.focal_px == pytest.approx(focal_px)
    assert camera.diameter(2.0) == pytest.approx(0.025) == camera.multiple(1.0)
    assert camera.taken is not None and float(camera.taken.focus_distance) == 1.5
    assert float(camera.taken.K) == pytest.approx(0.025 * focal_px)


def test_f_numbers_of_small_sensors_are_those_of_full_frame() -> None:
    facts = LensFacts(focal_length_mm=5, focal_length_35mm=25, f_number=1.8)
    camera = find_camera(facts, picture_depth(), None)
    assert camera.diameter(2.0) == pytest.approx(0.0125)
    assert camera.taken is None, "its own lens blurs less than can be seen"
    assert any("full-frame" in note for note in camera.notes)


def test_what_is_assumed_is_told() -> None:
    notes = " ".join(find_camera(LensFacts(), picture_depth(None), None).notes)
    for words in ("within 2 m", "50 mm on full frame", "aperture: it counts as sharp"):
        assert words in notes
    unknown = LensFacts(focal_length_mm=85, focal_length_35mm=85, f_number=1.4)
    assert "unknown focus" in " ".join(find_camera(unknown, picture_depth(), None).notes)


def test_the_source_can_be_told(tmp_path: Path) -> None:
    camera = find_camera(LensFacts(), picture_depth(), "2@10%,50%")
    assert camera.taken is not None and float(camera.taken.focus_distance) == NEAR
    assert camera.own_diameter == pytest.approx(0.025)
    assert find_camera(LensFacts(), picture_depth(), "sharp").taken is None
    file = CameraFile(Sensor(36, 24, 300, 200), focal_length_mm=40, f_number=4, focus_distance_m=2)
    write_camera_file(file, tmp_path / "camera.json")
    given = find_camera(LensFacts(), picture_depth(), str(tmp_path / "camera.json"))
    assert given.own_diameter == pytest.approx(0.01) and given.focal_px == pytest.approx(100 / 0.98, rel=1e-3)
    for bad in ("2", "x@1m", "0@1m", "-2@1m", "2@", "2@nowhere", "2@0m"):
        with pytest.raises(InputError, match="`source` must be"):
            find_camera(LensFacts(), picture_depth(), bad)


def test_f_numbers_of_a_source_are_the_photos_own() -> None:
    facts = LensFacts(focal_length_mm=4.2, focal_length_35mm=26, f_number=1.8)
    camera = find_camera(facts, picture_depth(), "1.8@1m")
    assert camera.own_diameter == pytest.approx(0.0042 / 1.8)
    assert camera.diameter(1.8) == pytest.approx(0.026 / 1.8), "that which is wanted is of full frame"


def test_a_camera_held_upright_is_the_same_camera(tmp_path: Path) -> None:
    file = CameraFile(Sensor(36, 24, 90, 60), focal_length_mm=40, f_number=4, focus_distance_m=2)
    write_camera_file(file, tmp_path / "camera.json")
    upright = PictureDepth(halves().T, METRES, "a file", metres_per_unit=1.0)
    cameras = [find_camera(LensFacts(), d, str(tmp_path / "camera.json")) for d in (picture_depth(), upright)]
    assert cameras[0].focal_px == pytest.approx(cameras[1].focal_px)
    wide = PictureDepth(halves()[:30], METRES, "a file", metres_per_unit=1.0)
    with pytest.raises(InputError, match="is of pictures of 90x60 px, and the photo has 90x30"):
        find_camera(LensFacts(), wide, str(tmp_path / "camera.json"))


def test_a_camera_file_needs_a_length_for_scene_units(tmp_path: Path) -> None:
    learned = LearnedOfPhoto(1.2, None, None, 0.04)
    file = CameraFile(Sensor(36, 24, 90, 60), focal_length_mm=40, f_number=4, focus_distance_m=2)
    write_camera_file(file, tmp_path / "camera.json")
    with pytest.raises(InputError, match=r"leave the camera\.json out"):
        find_camera(LensFacts(), picture_depth("scene units", learned), str(tmp_path / "camera.json"))


def test_a_run_knows_the_lens_of_its_photos() -> None:
    learned = LearnedOfPhoto(1.2, Lens(2.0, 0.05), 2.8, 0.04)
    camera = find_camera(LensFacts(), picture_depth("scene units", learned), None)
    assert camera.focal_px == pytest.approx(1.2 * WIDTH)
    assert camera.multiple(2.0) == pytest.approx(0.1)
    assert camera.diameter(1.4) == pytest.approx(0.08)
    test_photo = LearnedOfPhoto(1.2, None, None, 0.04)
    with pytest.raises(InputError, match="keeps for testing: tell by `source`"):
        find_camera(LensFacts(), picture_depth("scene units", test_photo), None)
    unknown = find_camera(LensFacts(), picture_depth("scene units", test_photo), "sharp")
    assert unknown.taken is None and unknown.multiple(1.0) == 0.04
    with pytest.raises(InputError, match=r"EXIF has none: give `aperture=1\.5x`"):
        unknown.diameter(2.0)


def test_distances_in_words() -> None:
    metric, relative = picture_depth(), picture_depth(None)
    assert focus_distance("focus", "1.2m", metric) == 1.2
    assert focus_distance("focus", "inf", metric) == math.inf
    assert focus_distance("focus", "1.5x", relative) == 1.5 * float(halves().median())
    assert focus_distance("focus", "20%,20%", relative) == NEAR
    learned = LearnedOfPhoto(1.0, None, None, 1.0)
    assert focus_distance("focus", "2.5", picture_depth("scene units", learned)) == 2.5
    for text, depth, words in (
        ("1.2m", relative, "needs a depth in metres"),
        ("1.2", metric, "needs a unit: give 1.2m or 1.2x"),
        ("0x", metric, "must be a point"),
        ("nan", metric, "must be a point"),
        ("120%,20%", metric, "lies outside the photo"),
    ):
        with pytest.raises(InputError, match=words):
            focus_distance("focus", text, depth)


# ------------------------------------------------------------------------------------------ command line


def refocus(photo: Path, out: Path, *options: str) -> int:
    return main(["refocus", str(photo), "--out", str(out), *options])


def test_a_picture_and_what_is_known_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = write_photo(tmp_path)
    assert refocus(photo, tmp_path / "o.png", "--focus-at", "20%,50%", "--f-number", "1") == 0
    shown, before = pixels(tmp_path / "o.png"), pixels(photo)
    assert np.abs(shown[:, :35] - before[:, :35]).max() <= 1
    assert shown[10:-10, 60:80].std() < 0.5 * before[10:-10, 60:80].std()
    facts = json.loads((tmp_path / "o.refocus.json").read_text())
    assert facts["lenses"][0]["focus_distance"] == NEAR and facts["depth"]["unit"] == "m"
    assert facts["invented"]["deblurred_share"] == 0 and facts["too_blurred_share"] == 0
    assert "50 mm on full frame" in capsys.readouterr().out


def test_no_file_of_the_user_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = write_photo(tmp_path).rename(tmp_path / "o_deblurred.jpg")
    np.save(tmp_path / "o_deblurred_depth.npy", halves().numpy())
    mask = tmp_path / "o_deblurred.png"
    mask.write_bytes(b"somebody's own")
    options = ["--focus", "inf", "--f-number", "8"]
    assert refocus(photo, tmp_path / "o.png", *options) == 2 and mask.read_bytes() == b"somebody's own"
    assert "o_deblurred.png is there already" in capsys.readouterr().err
    assert refocus(photo, tmp_path / "q.png", *options) == 0
    assert json.loads((tmp_path / "q.refocus.json").read_text())["lenses"][0]["focus_distance"] is None
    assert refocus(photo, tmp_path / "q.jpg", *options) == 2
    assert "q.refocus.json tells of another picture" in capsys.readouterr().err
    assert refocus(photo, tmp_path / "o_deblurred_depth.png", *options) == 2, "would be the photo's depth"
    photo = photo.rename(tmp_path / "p_too_blurred.png")
    np.save(tmp_path / "p_too_blurred_depth.npy", halves().numpy())
    assert refocus(photo, tmp_path / "p.png", *options) == 2
    assert "p_too_blurred.png is read, and would be overwritten" in capsys.readouterr().err


def test_16_bits_stay_16_bits(tmp_path: Path) -> None:
    photo = write_photo(tmp_path, deep=True)
    for name in ("o.tif", "p.png"):
        assert refocus(photo, tmp_path / name, "--focus", "1m", "--f-number", "1") == 0
    deep = tifffile.imread(tmp_path / "o.tif")
    assert deep.dtype == np.uint16 and deep.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(deep[:, :35].astype(int) - tifffile.imread(photo)[:, :35]).max() < 8
    assert (tmp_path / "p.png").read_bytes()[24] == 16


def test_a_defocused_photo_keeps_the_blur_that_it_has_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = write_photo(tmp_path)
    options = ["--source", "0.5@10%,50%", "--focus-at", "90%,50%", "--f-number", "2", "--keep-blur"]
    assert refocus(photo, tmp_path / "o.jpg", *options) == 0
    mask = pixels(tmp_path / "o_too_blurred.png")
    assert mask[:, 50:].min() == 255 and mask[:, :40].max() == 0
    assert "keeps more blur than asked for" in capsys.readouterr().out


def test_a_network_takes_blur_away_and_is_named(tmp_path: Path) -> None:
    photo = write_photo(tmp_path)
    options = ["--source", "4@10%,50%", "--focus-at", "90%,50%", "--f-number", "8"]
    assert refocus(photo, tmp_path / "o.png", *options) == 0
    facts = json.loads((tmp_path / "o.refocus.json").read_text())
    masks = [pixels(path) > 0 for path in sorted(tmp_path.glob("o_*.png"))]
    shares = [facts["invented"]["deblurred_share"], facts["too_blurred_share"]]
    assert sum(shares) == pytest.approx(np.mean(np.any(masks, axis=0))) and sum(shares) > 0.4
    by = facts["invented"]["deblurred_by"]
    assert by is None if shares[0] == 0 else by["network"] == "DeblurNet"


def test_films(tmp_path: Path) -> None:
    photo = write_photo(tmp_path)
    pull = ["--focus-pull", "1m:3m", "--f-number", "1", "--frames", "3"]
    assert refocus(photo, tmp_path / "o.gif", *pull) == 0
    assert refocus(photo, tmp_path / "p.gif", "--sweep", "8:1", "--focus", "1m", "--frames", "3") == 0
    for name in ("o.gif", "p.gif"):
        contrasts = []
        with Image.open(tmp_path / name) as film:
            for index in range(3):
                film.seek(index)
                contrasts.append(np.asarray(film.convert("RGB"), dtype=float)[10:-10, 60:80].std())
        assert contrasts == sorted(contrasts, reverse=name == "p.gif")
    assert not list(tmp_path.glob("*.frames"))


def test_a_smaller_picture_has_a_smaller_blur(tmp_path: Path) -> None:
    photo = write_photo(tmp_path)
    assert refocus(photo, tmp_path / "o.png", "--focus", "1m", "--f-number", "1", "--size", "45") == 0
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.size == (45, 30)
    facts = json.loads((tmp_path / "o.refocus.json").read_text())
    assert facts["focal_px"] == pytest.approx(25 / math.hypot(36, 24) * math.hypot(WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--focus", "1m", "--f-number", "0"], "--f-number must be a finite number above 0"),
        (["--focus", "1m"], "give one of --f-number, --aperture and --sweep"),
        (["--f-number", "2"], "give one of --focus-at, --focus and --focus-pull"),
        (["--focus-at", "120%,1%", "--f-number", "2"], "--focus-at 120%,1% lies outside the photo"),
        (["--focus-at", "5", "--f-number", "2"], "--focus-at must be X,Y"),
        (["--focus", "1m", "--aperture", "2x"], "tell by --source how the photo was taken"),
        (["--focus", "1m", "--f-number", "2", "--frames", "3"], "--frames and --fps belong to films"),
        (["--focus", "1m", "--f-number", "2", "--blade-rotation", "3"], "give --blades"),
        (["--focus", "1m", "--f-number", "2", "--size", "900"], "--size must be a width up to"),
        (["--focus", "1m", "--f-number", "0.01"], "use a smaller aperture"),
        (["--focus-pull", "1m:2m", "--f-number", "2"], "let --out end in .mp4 or .gif"),
        (["--focus", "1m", "--f-number", "2", "--depth", "nowhere.npy"], "nowhere.npy"),
        (["--focus", "1m", "--f-number", "2", "--depth-kind", "x"], "--depth-kind must be"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    photo = write_photo(tmp_path)
    assert refocus(photo, tmp_path / "o.png", *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_the_photo_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = write_photo(tmp_path)
    before = photo.read_bytes()
    assert refocus(photo, photo, "--focus", "1m", "--f-number", "2") == 2
    assert "is read, and would be overwritten" in capsys.readouterr().err and photo.read_bytes() == before
    for name, words in (("o", "end in .png"), ("o.webp", "end in .png")):
        assert refocus(photo, tmp_path / name, "--focus", "1m", "--f-number", "2") == 2
        assert words in capsys.readouterr().err
