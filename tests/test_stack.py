"""`cocogs stack`: brackets of which everything is known; formats; what people give it by mistake."""

import json
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from brackets import (
    HEIGHT,
    WIDTH,
    Truth,
    breathing,
    brighter,
    exif,
    make_bracket,
    shifted,
    textured,
    write_slices,
)
from PIL import Image

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io import photos
from cocogs.io.pictures import write_photo
from cocogs.io.pixels import write_png
from cocogs.photo import fuse_tiles
from cocogs.photo.align import align, moved, reach
from cocogs.photo.bracket import open_bracket
from cocogs.photo.exposure_steps import evened, find_gains
from cocogs.photo.focus_volume import find_sharp_slices, sharpness
from cocogs.photo.fusion import MARGIN, by_map, by_pyramid, retouched
from cocogs.photo.slices import Slices, slices_beside
from cocogs.photo.stack import Stacked, StackOptions, stack, stack_bracket
from cocogs.srgb import to_linear, to_srgb

pytest.importorskip("cv2")


def silent(_: str) -> None:
    pass


@cache
def truth() -> Truth:
    return make_bracket()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six slices without focus distances."""
    (tmp_path / "slices").mkdir()
    write_slices(truth(), tmp_path / "slices")
    return tmp_path / "slices"


def stacked(folder: Path, **options) -> Stacked:
    chosen = StackOptions(**options)
    bracket = open_bracket([folder], chosen.reference, chosen.focus)
    return stack_bracket(bracket, folder.parent / "scratch.png", chosen, silent)


def stored(tmp_path: Path, pictures: list[np.ndarray]) -> Slices:
    path = tmp_path / "slices.bin"
    path.touch()
    height, width = pictures[0].shape[:2]
    slices = Slices(path, len(pictures), height, width, pictures[0].dtype)
    for index, picture in enumerate(pictures):
        slices.write(index, picture)
    return slices


# --- What it must reach


@pytest.mark.parametrize(("method", "least"), [("depth", 34.0), ("pyramid", 32.0)])
def test_a_bracket_becomes_the_sharp_picture(folder: Path, method: str, least: float) -> None:
    best = max(truth().psnr(pixels) for pixels in truth().pixels)
    got = truth().psnr(stacked(folder, method=method).pixels)
    assert got > least and got > best + 6, (got, best)


def test_the_right_slice_is_found(folder: Path) -> None:
    found = stacked(folder)
    off = (found.fused.index - truth().index.clamp(0, 5)).abs()
    assert float((off <= 1).float().mean()) > 0.96
    sure = found.confidence > found.confidence.median()
    assert float(off[sure].mean()) < 0.18 and float(off.mean()) < 0.22
    assert sum(found.fused.shares) == pytest.approx(1)


def test_hand_held_and_breathing_slices_with_exposure_steps(tmp_path: Path) -> None:
    motions = [breathing(1 + 0.004 * k, 0.3 * (-1) ** k, 1.5 * k, -0.7 * k) for k in range(-2, 4)]
    gains = [0.7, 1.2, 1.0, 0.8, 1.25, 1.1]
    dim = [brighter(pixels, 0.7) for pixels in truth().pixels]  # room for brighter slices
    for number, (pixels, motion, gain) in enumerate(zip(dim, motions, gains, strict=True), 1):
        write_png(tmp_path / f"img{number}.png", shifted(brighter(pixels, gain), motion))
    found = stacked(tmp_path)
    corners = np.array([[0, WIDTH, 0, WIDTH], [0, 0, HEIGHT, HEIGHT], [1, 1, 1, 1]])
    for motion, seen in zip(motions, found.transforms, strict=True):
        assert np.abs((motion - seen) @ corners).max() < 0.5
    np.testing.assert_allclose(found.gains, np.repeat(1 / np.array(gains)[:, None], 3, 1), rtol=0.025)
    sharp = to_srgb(0.7 * to_linear(truth().sharp))
    dim_truth = Truth(sharp, truth().depth, dim, truth().distances)
    assert dim_truth.psnr(found.pixels, border=12) > 31


# --- The parts


def test_slices_on_a_tripod_are_not_resampled(tmp_path: Path) -> None:
    transforms = align(stored(tmp_path, truth().pixels), tuple(map(Path, "abcdef")), 2, silent)
    assert (transforms == np.eye(3)[:2]).all()
    assert moved(truth().pixels[0], transforms[0]) is truth().pixels[0]


def test_where_a_slice_reaches() -> None:
    rows, columns = slice(0, HEIGHT), slice(0, WIDTH)
    assert reach(np.eye(3)[:2], (HEIGHT, WIDTH), rows, columns).all()
    there = reach(np.array([[1.0, 0, 20], [0, 1, 0]]), (HEIGHT, WIDTH), rows, columns)
    assert there[10:-10, : WIDTH - 26].all() is not None and there[10:-10, 8 : WIDTH - 26].all()
    assert not there[:, WIDTH - 20 :].any()


def test_gains_are_found_and_leave_white_white(tmp_path: Path) -> None:
    picture = brighter(truth().pixels[2], 0.5)
    gains = np.array([[1.8, 1.0, 0.6], [1, 1, 1]])
    other = np.stack([brighter(picture, gain)[..., c] for c, gain in enumerate(gains[0])], -1)
    found = find_gains(stored(tmp_path, [other, picture]), np.stack([np.eye(3)[:2]] * 2), 1, silent)
    np.testing.assert_allclose(found, 1 / gains, rtol=0.02)
    even = evened(other, found[0])
    assert np.abs(even.astype(int) - picture).mean() < 1.5
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    darker = evened(ramp, np.array([0.5, 0.5, 0.5]))
    assert darker[0, 255, 0] == 255 and darker[0, 128, 0] < 100
    assert (np.diff(darker[0, :, 0].astype(int)) >= 0).all()
    assert evened(ramp, np.ones(3)) is ramp
    orange = np.array([[[255, 100, 50]]], np.uint8)  # only red is clipped: it must not stay
    np.testing.assert_allclose(evened(orange, np.full(3, 0.5)), brighter(orange, 0.5), atol=2)


def test_black_slices_tell_no_gain(tmp_path: Path) -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    found = find_gains(stored(tmp_path, [black, truth().pixels[0]]), np.stack([np.eye(3)[:2]] * 2), 1, silent)
    assert np.isnan(found[0]).all() and (found[1] == 1).all()


def test_sharpness_of_a_parabola() -> None:
    """Second differences of x^2 / 100 are 2 / 100 along x and 0 along y."""
    grey = (torch.arange(40.0).square() / 100).expand(1, 30, 40)
    torch.testing.assert_close(sharpness(grey)[0, 8:-8, 8:-8], torch.full((14, 24), 0.02))


def test_a_flat_surface_has_no_confidence_and_takes_its_neighbours_slice() -> None:
    sharp = torch.full((5, 40, 60), 0.01)
    sharp[3, :, :20] = sharp[3, :, 40:] = 0.3
    there = torch.ones(5, 40, 60, dtype=torch.bool)
    found = find_sharp_slices(sharp, there, 0.01)
    assert (found.index.round() == 3).all()
    assert float(found.confidence[:, 20:40].max()) == 0 and float(found.confidence[:, :20].min()) > 0.9
    there[3, :, :10] = False
    assert (find_sharp_slices(sharp, there, 0.01).index[:, :10].round() != 3).all()


def test_between_two_slices_the_parabola_decides() -> None:
    """Costs that grow with the squared distance from 1.6."""
    cost = (torch.arange(5.0) - 1.6).square()[:, None, None].expand(5, 20, 20)
    found = find_sharp_slices((-cost).exp(), torch.ones(5, 20, 20, dtype=torch.bool), 0.0)
    torch.testing.assert_close(found.index, torch.full((20, 20), 1.6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_few_slices_are_enough(count: int) -> None:
    sharp = torch.full((count, 20, 20), 0.01)
    sharp[-1] = 0.2
    found = find_sharp_slices(sharp, torch.ones(count, 20, 20, dtype=torch.bool), 0.001)
    torch.testing.assert_close(found.index, torch.full((20, 20), count - 1.0), atol=0.5, rtol=0)


def test_fusing_one_picture_gives_it_back() -> None:
    codes = torch.randint(256, (1, 3, 64, 80), dtype=torch.uint8).expand(4, 3, 64, 80)
    curve, there = torch.linspace(0, 1, 256), torch.ones(4, 64, 80, dtype=torch.bool)
    light = codes / 255
    torch.testing.assert_close(by_pyramid(light, there), light[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(by_map(codes, curve, torch.full((64, 80), 1.3)), light[0])


def test_a_pyramid_takes_nothing_from_where_a_slice_does_not_reach() -> None:
    light = torch.stack([to_linear(textured(3, 64, 96)), 5 * torch.rand(3, 64, 96)])
    there = torch.ones(2, 64, 96, dtype=torch.bool)
    there[1] = False
    torch.testing.assert_close(by_pyramid(light, there), light[0], atol=1e-4, rtol=1e-3)


def test_retouching_takes_slices_and_keeps_the_rest() -> None:
    codes = torch.stack([torch.full((3, 40, 40), value) for value in (1, 5, 9)])
    labels = torch.zeros(40, 40, dtype=torch.int64)
    labels[:20] = 3
    done = retouched(torch.full((3, 40, 40), 0.2), codes, torch.arange(10) / 10, labels)
    torch.testing.assert_close(done[:, :14], torch.full((3, 14, 40), 0.9))
    torch.testing.assert_close(done[:, 26:], torch.full((3, 14, 40), 0.2))


def test_tiles_cover_the_picture_once_whatever_the_number_of_slices() -> None:
    for count, height, width in ((2, 96, 132), (40, 700, 1000), (1000, 300, 500)):
        seen = np.zeros((height, width), int)
        for wide, inner, place in fuse_tiles._tiles(count, height, width):
            seen[place] += 1
            area = (wide[0].stop - wide[0].start) * (wide[1].stop - wide[1].start)
            assert count * area <= max(
                fuse_tiles.VOLUME, count * (fuse_tiles.SMALLEST_TILE + 2 * MARGIN) ** 2
            )
            for axis in range(2):
                assert wide[axis].start + inner[axis].start == place[axis].start
                assert place[axis].start % (1 << fuse_tiles.LEVELS) == 0
        assert (seen == 1).all()


@pytest.mark.parametrize("method", ["depth", "pyramid"])
def test_tiles_leave_no_seams(folder: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    whole = stacked(folder, method=method)
    monkeypatch.setattr(fuse_tiles, "VOLUME", 1)
    assert len(list(fuse_tiles._tiles(6, HEIGHT, WIDTH))) == 6
    tiled = stacked(folder, method=method)
    off = np.abs(whole.pixels.astype(int) - tiled.pixels)
    assert (off > 2).mean() < 0.002


# --- Depth


def test_depth_in_metres_from_exif_or_as_given(tmp_path: Path) -> None:
    write_slices(truth(), tmp_path, with_distances=True)
    by_exif = stacked(tmp_path)
    assert by_exif.unit == "metre" and by_exif.bracket.distances_from == "EXIF"
    sure = by_exif.confidence > by_exif.confidence.median()
    off = (1 / by_exif.depth - 1 / truth().depth).abs()[sure]
    assert float(off.median()) < 0.03  # a slice is .15 / m
    given = stacked(tmp_path, focus="1m:4")
    torch.testing.assert_close(given.depth, by_exif.depth, rtol=0.02, atol=0)


def test_depth_to_infinity(folder: Path) -> None:
    depth = stacked(folder, focus="0.5:inf").depth
    assert float(depth.min()) >= 0.499 and float(depth.max()) > 5
    assert not depth.isnan().any()


def test_depth_without_distances_is_relative(folder: Path, tmp_path: Path) -> None:
    found = stack_bracket(open_bracket([folder]), tmp_path / "x.png", StackOptions(), silent)
    assert found.unit == "relative" and found.light.shape == (3, HEIGHT, WIDTH)
    assert 0.99 < float(found.depth.min()) < 2 and 3 < float(found.depth.max()) <= 6.01
    assert found.confidence.shape == found.depth.shape == (HEIGHT, WIDTH)


def test_distances_that_jump_back_are_no_depth(tmp_path: Path) -> None:
    mixed = Truth(truth().sharp, truth().depth, truth().pixels, [1.0, 2.0, 1.5, 3.0, 3.5, 4.0])
    write_slices(mixed, tmp_path, with_distances=True)
    found = stacked(tmp_path)
    assert found.unit == "relative" and "neither rise nor fall" in found.warnings[0]


# --- Files


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sharp.png"
    words = [
        "stack",
        str(folder),
        "--out",
        str(out),
        "--depthmap",
        "--focus",
        "1:4",
        "--reference",
        "img4.png",
    ]
    assert main(words) == 0
    names = [
        "sharp.png",
        "sharp_depth.png",
        "sharp_depth_color.png",
        "sharp_confidence.png",
        "sharp.stack.json",
    ]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    facts = json.loads((tmp_path / "sharp.stack.json").read_text())
    assert facts["reference"] == "img4.png" and facts["method"] == "depth" and facts["generative"] is False
    assert [one["number"] for one in facts["slices"]] == [1, 2, 3, 4, 5, 6]
    assert facts["slices"][0]["focus_distance_m"] == 1 and facts["slices"][5]["focus_distance_m"] == 4
    meaning = facts["depth"]
    assert (meaning["kind"], meaning["at_0"], meaning["at_65535"]) == ("inverse", 0.25, 1.0)
    values = photos.read_photo(tmp_path / "sharp_depth.png")[..., 0] / 65535
    inverse = meaning["at_0"] + values * (meaning["at_65535"] - meaning["at_0"])
    assert np.abs(inverse - (1 / truth().depth).clamp(0.25, 1).numpy()).mean() < 0.05
    assert photos.read_header(out).lens.focal_length_mm == 50
    assert photos.read_header(out).lens.f_number is None
    assert not list(tmp_path.glob(".cocogs*"))


@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_written_pictures_are_read_again(tmp_path: Path, ending: str, bits: int) -> None:
    picture = truth().pixels[0] if bits == 8 else truth().pixels[0].astype(np.uint16) * 257 - 100
    path = tmp_path / f"a.{ending}"
    write_photo(picture, path, exif(None))
    again = photos.read_photo(path)
    if ending == "jpg":
        assert (
            again.dtype == np.uint8
            and np.abs(again.astype(int) - picture // (257 if bits == 16 else 1)).mean() < 3
        )
    else:
        np.testing.assert_array_equal(again, picture)
    if ending == "tif":
        np.testing.assert_array_equal(tifffile.imread(path), picture)
    else:
        assert photos.read_header(path).lens.focal_length_mm == 50


def test_sixteen_bits_stay_sixteen_beside_eight(tmp_path: Path) -> None:
    for number, pixels in enumerate(truth().pixels):
        deep = pixels.astype(np.uint16) * 257
        write_png(tmp_path / f"{number}.png", deep if number % 2 else pixels)
    found = stacked(tmp_path)
    assert found.pixels.dtype == np.uint16
    assert truth().psnr(found.pixels) > 34


def test_a_result_in_the_folder_is_no_slice(folder: Path) -> None:
    for _ in range(2):
        written = stack([folder], folder / "sharp.png", StackOptions(depthmap=True), silent)
    assert len(json.loads(written[-1].read_text())["slices"]) == 6
    other = stack([folder], folder / "other.jpg", StackOptions(), silent)
    assert len(json.loads(other[-1].read_text())["slices"]) == 6


def test_slices_are_ordered_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        write_png(tmp_path / f"DSC_{number}.png", truth().pixels[0])
    names = [path.name for path in open_bracket(sorted(tmp_path.iterdir())).paths]
    assert names == ["DSC_2.png", "DSC_9.png", "DSC_10.png"]


def test_turned_photos_are_stacked_upright(tmp_path: Path) -> None:
    block = Image.Exif()
    block[274] = 6
    for number in range(3):
        Image.fromarray(truth().pixels[number]).save(tmp_path / f"{number}.png", exif=block)
    assert stacked(tmp_path).pixels.shape == (WIDTH, HEIGHT, 3)


def test_retouching_by_a_file(folder: Path, tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:, :30] = 6
    write_png(tmp_path / "mask.png", labels)
    found = stacked(folder, retouch=tmp_path / "mask.png")
    assert np.abs(found.pixels[:, :22].astype(int) - truth().pixels[5][:, :22]).max() <= 1
    assert found.fused.retouched == pytest.approx(30 / WIDTH)
    np.testing.assert_array_equal(found.pixels[:, 40:], stacked(folder).pixels[:, 40:])


def test_the_temporary_file_goes_when_it_fails(tmp_path: Path) -> None:
    write_slices(truth(), tmp_path)
    bracket = open_bracket([tmp_path])
    with pytest.raises(KeyboardInterrupt), slices_beside(tmp_path / "o.png", bracket) as slices:
        assert slices.path.exists()
        raise KeyboardInterrupt
    assert not list(tmp_path.glob(".cocogs*"))


# --- What people give it by mistake


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["stack", *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    return said


def made_folder(place: Path) -> Path:
    (place / "folder.png").mkdir()
    return place / "folder.png"


def test_one_slice_none_or_the_same_twice(folder: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "o.png")]
    one = str(folder / "img1.png")
    assert "img1.png is one photo: a bracket has two or more" in refused([one, *out], capsys)
    assert "is given twice" in refused([one, one, *out], capsys)
    (tmp_path / "empty").mkdir()
    assert "empty holds no photo" in refused([str(tmp_path / "empty"), *out], capsys)
    assert "No photo is given" in refused(out, capsys)
    made = str(made_folder(tmp_path))
    assert "is a folder: let --out be the name of a file" in refused([str(folder), "--out", made], capsys)
    assert "gone.png does not exist" in refused([one, str(tmp_path / "gone.png"), *out], capsys)


def test_photos_that_are_no_bracket(folder: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "o.png")]
    write_png(tmp_path / "small.png", truth().pixels[0][:-1])
    said = refused([str(folder), str(tmp_path / "small.png"), *out], capsys)
    assert "small.png is 132x95 px" in said and "132x96" in said
    other = np.rint(255 * textured(77).movedim(0, -1).numpy()).astype(np.uint8)
    write_png(tmp_path / "z_other.png", other)
    said = refused([str(folder), str(tmp_path / "z_other.png"), *out], capsys)
    assert "z_other.png does not show what" in said
    write_png(tmp_path / "black.png", np.zeros_like(other))
    said = refused([str(tmp_path / "black.png"), str(folder / "img1.png"), *out], capsys)
    assert "black.png is of one colour" in said
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png cannot be read as a picture" in refused(
        [str(folder), str(tmp_path / "text.png"), *out], capsys
    )
    cut = (folder / "img2.png").read_bytes()
    (folder / "img2.png").write_bytes(cut[: len(cut) // 2])
    assert "img2.png cannot be read as a picture" in refused([str(folder), *out], capsys)
    assert not (tmp_path / "o.png").exists() and not list(tmp_path.glob(".cocogs*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "o.gif"], "--out must end in .png, .tif or .jpg, not 'o.gif'"),
        (["--out", "o"], "--out must end in"),
        (["--method", "magic"], "--method must be depth or pyramid, not 'magic'"),
        (["--focus", "3"], "--focus must be the distances"),
        (["--focus", "0:3"], "--focus must be the distances"),
        (["--focus", "2:2"], "--focus must be the distances"),
        (["--focus", "nan:2"], "--focus must be the distances"),
        (["--focus", "a:b"], "--focus must be the distances"),
        (["--reference", "img9.png"], "--reference names none of the slices: img9.png"),
        (["--retouch", "nothing.png"], "nothing.png does not exist"),
    ],
)  # fmt: skip
def test_wrong_options(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", "o.png"]
    assert message in refused([str(folder), *out, *words], capsys)


def test_masks_that_do_not_fit(folder: Path, tmp_path: Path, capsys) -> None:
    words = [str(folder), "--out", str(tmp_path / "o.png"), "--retouch", str(tmp_path / "mask.png")]
    for mask, message in (
        (np.zeros((HEIGHT, WIDTH - 1), np.uint8), "mask.png is 131x96 px and the slices are 132x96"),
        (np.full((HEIGHT, WIDTH), 7, np.uint8), "mask.png asks for slice 7, and there are 6"),
        (truth().pixels[0], "mask.png is in colour"),
    ):
        write_png(tmp_path / "mask.png", mask)
        assert message in refused(words, capsys)


def test_the_output_is_no_slice(folder: Path, capsys) -> None:
    before = (folder / "img1.png").read_bytes()
    slices = [str(path) for path in sorted(folder.iterdir())]
    assert "img1.png, one of the slices" in refused([*slices, "--out", slices[0]], capsys)
    assert (folder / "img1.png").read_bytes() == before


def test_without_opencv_one_sentence_names_the_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install 'cocogs[stack]'" in refused([str(folder), "--out", str(tmp_path / "o.png")], capsys)


def test_a_full_disk_is_told_beforehand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    said = refused([str(folder), "--out", str(tmp_path / "o.png")], capsys)
    assert "free: free space, or let --out lie on another disk" in said


def test_a_missing_method_is_no_slice_of_work(folder: Path) -> None:
    with pytest.raises(InputError, match="`method` must be"):
        stacked(folder, method="best")


def test_no_file_of_a_user_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    slices = write_slices(make_bracket(), folder)
    before = slices[0].read_bytes()
    words = refused([str(folder), "--out", str(slices[0])], capsys)
    assert "one of the slices" in words and slices[0].read_bytes() == before
    mask = tmp_path / "r.png"
    mask.write_bytes(before)
    assert "is read" in refused([str(folder), "--out", str(mask), "--retouch", str(mask)], capsys)
    assert main(["stack", str(folder), "--out", str(slices[0].with_suffix(".tif"))]) == 0
    assert len(open_bracket([folder]).paths) == len(slices), "01.tif is a result, 01.png is a slice"
    assert "does not exist" in refused([str(tmp_path / "nowhere"), "--out", str(tmp_path / "o.png")], capsys)
    for focus in ("1e-320:1", "1e300:1e301", "2:2"):
        options = ["--out", str(tmp_path / "o.png"), "--focus", focus]
        assert "--focus must be the distances" in refused([str(folder), *options], capsys)
