"""What people's folders hold: turned photos beside known cameras, subfolders, kinds of files, masks."""

import json
import os
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import (
    HEIGHT,
    WIDTH,
    make_cameras,
    make_colmap,
    make_llff,
    make_nerfstudio,
    opengl_pose,
    take_photo,
    write_photos,
)
from PIL import ExifTags, Image

from cocogs.errors import InputError
from cocogs.io import decoding, folders, nerfstudio, photos, pixels, prepare
from cocogs.io.source import Intrinsics, Shot
from cocogs.scene import Scene, open_scene


@pytest.fixture(autouse=True)
def no_points_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for points in the photos takes seconds."""

    monkeypatch.setattr("cocogs.io.triangulation.triangulate", lambda *_: None)


def _open(data: Path, **options) -> tuple[Scene, list[str]]:
    said: list[str] = []
    return open_scene(data, data.parent / "cache", say=said.append, **options), said


# --- Orientation


def _turn_files(folder: Path, orientation: int) -> None:
    """Mark all photos as held otherwise; the pixels as stored stay the same."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for path in folder.iterdir():
        Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("make", [make_colmap, make_nerfstudio, make_llff])
def test_known_cameras_belong_to_pixels_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, square: bool, orientation: int
) -> None:
    """And masks with them."""
    side = HEIGHT if square else WIDTH
    if square:
        monkeypatch.setattr("datasets.WIDTH", HEIGHT)
        monkeypatch.setattr("datasets.make_cameras", lambda count: make_cameras(count, HEIGHT, HEIGHT))
    data = tmp_path / "data"
    make(data)
    stored = {path.name: np.asarray(Image.open(path)) for path in (data / "images").iterdir()}
    mask = np.zeros((HEIGHT, side), np.uint8)
    mask[: HEIGHT // 3] = 255
    (data / "masks").mkdir()
    for name in stored:
        Image.fromarray(mask).save(data / "masks" / name)
    _turn_files(data / "images", orientation)
    scene, _ = _open(data)
    assert len(scene.views) == len(stored)
    for view in scene.views:
        seen = (scene.photo(view) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(seen, stored[view.name])
        kept = scene.mask(view)
        assert kept is not None and np.array_equal(kept.numpy() * 255, mask)


def test_masks_that_are_turned_themselves_count_as_stored_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    mask = np.zeros((6, 10), np.uint8)
    mask[:, :3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png", exif=exif)
    Image.new("RGB", (10, 6)).save(tmp_path / "a.png", exif=exif)
    for upright in (False, True):
        lens = Intrinsics("PINHOLE", 10, 6, (9.0, 9.0, 5.0, 3.0))
        shot = Shot("a.png", lens, torch.eye(4).double(), upright=upright)
        fitted = prepare.fit_mask(prepare.fit_photo(shot, tmp_path / "a.png"), shot, tmp_path / "mask.png")
        ready = prepare.open_pixels(prepare.prepared_mask(fitted, lens, tmp_path / "cache"))
        assert np.array_equal(ready, (mask[::-1, ::-1] if upright else mask) > 0)


# --- Kinds and folders


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in photos.PICTURE_SUFFIXES:
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_bytes(b"x")


def test_photos_are_listed_in_all_folders_but_those_of_other_things(tmp_path: Path) -> None:
    wanted = ["000.png", "b.webp", "left/000.jpg", "left/deep/1.TIF", "night_mask.png"]
    _fill(
        tmp_path,
        *wanted,
        "masks/000.png",
        "Depth/000.png",
        "images_4/000.png",
        ".hidden/a.png",
        "left/.a.png",
    )
    _fill(tmp_path, "000_mask.png", "b.webp.mask.png", "left/000_depth_0001.png", "notes.txt")
    _fill(tmp_path, "out/config.json", "out/cache/photos/000-12.png", "out/picture.png")
    (tmp_path / "left" / "loop").symlink_to(tmp_path)
    assert photos.list_photos(tmp_path) == sorted(wanted)


def test_webp_decodes_exactly(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.webp", lossless=True)
    assert np.array_equal(photos.read_photo(tmp_path / "a.webp"), noise)
    lens = Intrinsics("PINHOLE", 10, 6, (9.0, 9.0, 5.0, 3.0))
    photo = prepare.fit_photo(Shot("a.webp", lens, torch.eye(4).double()), tmp_path / "a.webp")
    ready = prepare.prepared_photo(photo, lens, tmp_path / "cache")
    assert np.array_equal(prepare.open_pixels(ready).transpose(1, 2, 0), noise)


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    _fill(tmp_path, "a.png", "b.png", "more/c.jpg", "d.JXL", "e.jxl", "f.gif", "masks/a.png")
    _fill(tmp_path, "a.CR2", "a.MOV", "b.mov", "a.AAE", "b.xmp")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert folders.usage_line(tmp_path, paths) == (
        f"2 of 6 photos in {tmp_path} are used; not used: more/c.jpg; "
        "f.gif (GIF cannot be read: save as JPEG, PNG, TIFF or WebP); "
        "d.JXL, e.jxl (JPEG XL cannot be read: save as JPEG, PNG, TIFF or WebP). "
        "For 1 photo the PNG is used, not the RAW."
    )
    for name in ("d.JXL", "e.jxl", "f.gif", "a.CR2"):
        (tmp_path / name).unlink()
    paths.append(tmp_path / "more" / "c.jpg")
    assert folders.usage_line(tmp_path, paths) == f"All 3 photos in {tmp_path} are used."


def test_pictures_in_folders_with_names_of_other_things_are_told(tmp_path: Path) -> None:
    """Unless cameras name them; masks and smaller copies are never told."""
    _fill(
        tmp_path,
        "a.png",
        "b.png",
        "normal/c.jpg",
        "normal/in/d.jpg",
        "Cache/e.png",
        "masks/a.png",
        "depth/f.txt",
    )
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    all_used = f"All 2 photos in {tmp_path} are used. Left out because of the folder's name: "
    assert folders.usage_line(tmp_path, paths) == f"{all_used}1 picture in Cache/, 2 pictures in normal/."
    named = [*paths, tmp_path / "Cache" / "e.png"]
    assert folders.usage_line(tmp_path, named).endswith("name: 2 pictures in normal/.")
    for path in paths:
        path.unlink()
    with pytest.raises(InputError, match=r"holds pictures only in Cache/, normal/: call the folder"):
        open_scene(tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["1.CR2", "1.JPG", "2.CR2", "2.JPG"], ["1.CR2", "2.CR2"]),
        (["1.dng", "1.HEIC", "1.jpg", "2.heic", "2.jpg"], ["1.HEIC", "2.heic"]),
        (["1.NEF", "1.JPG", "2.JPG"], ["1.JPG", "2.JPG"]),
        (["1.NEF", "2.NEF", "2.JPG", "3.JPG"], ["1.NEF", "2.NEF", "3.JPG"]),
        (["a/1.NEF", "b/1.JPG"], ["a/1.NEF", "b/1.JPG"]),
        (["1.png", "1.jpg"], ["1.jpg", "1.png"]),
    ],
)
def test_of_a_photo_in_several_kinds_one_is_taken(tmp_path: Path, files: list[str], taken: list[str]) -> None:
    """The best kind that all photos have, or the best of each."""
    _fill(tmp_path, *files)
    assert photos.list_photos(tmp_path) == taken


def test_a_file_that_cameras_name_is_taken_whatever_its_kind(tmp_path: Path) -> None:
    _fill(tmp_path, *(f"images/{n}.{kind}" for n in range(3) for kind in ("NEF", "JPG", "MOV")))
    named = [f"{n}.JPG" for n in range(3)]
    pictures = folders.find_pictures(tmp_path, named, folders.FULL_SIZE)
    assert pictures.paths == {name: tmp_path / "images" / name for name in named}
    assert folders.usage_line(tmp_path, list(pictures.paths.values())) == (
        f"All 3 photos in {tmp_path} are used. For 3 photos the JPEG is used, not the RAW."
    )
    without_suffix = folders.find_pictures(tmp_path, ["0.png", "1.png", "2.png"], folders.FULL_SIZE)
    assert set(without_suffix.paths.values()) == {tmp_path / "images" / f"{n}.NEF" for n in range(3)}
    assert folders.usage_line(tmp_path, list(without_suffix.paths.values())).endswith(
        " For 3 photos the RAW is used, not the JPEG."
    )
    (tmp_path / "images" / "2.JPG").unlink()
    mixed = folders.find_pictures(tmp_path, named, folders.FULL_SIZE)
    assert [path.name for path in mixed.paths.values()] == ["0.JPG", "1.JPG", "2.NEF"]


def test_smaller_copies_and_truth_beside_the_photos_are_not_missed(tmp_path: Path) -> None:
    _fill(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "images_4", "sharp") for n in range(5)))
    for folder in ("images", "images_4"):
        used = [tmp_path / folder / f"{n}.png" for n in range(5)]
        assert folders.usage_line(tmp_path, used) == f"All 5 photos in {tmp_path} are used."
        assert folders.usage_line(tmp_path, used[:1]) == (
            f"1 of 5 photos in {tmp_path} are used; not used: "
            f"{folder}/1.png, {folder}/2.png, {folder}/3.png and 1 more."
        )


# --- Masks


@pytest.mark.parametrize(
    "name",
    [
        *("masks/a.png", "masks/a.PNG", "masks/a.jpg", "masks/a.JPG.png", "masks/a.JPG.mask.png"),
        *("mask/a.png", "masks/a.mask.png", "masks/a_mask.png", "images/a_mask.png", "images/a.JPG.mask.png"),
    ],
)
def test_masks_go_by_many_names(tmp_path: Path, name: str) -> None:
    _fill(tmp_path, "images/a.JPG", "images/b.JPG", name)
    assert folders.find_masks(tmp_path, ["a.JPG", "b.JPG"]) == {"a.JPG": tmp_path / name}
    assert photos.list_photos(tmp_path / "images") == ["a.JPG", "b.JPG"]


@pytest.mark.parametrize("folder", ["masks", "mask"])
def test_masks_of_which_none_fits_are_refused(tmp_path: Path, folder: str) -> None:
    _fill(tmp_path, "images/a.jpg", f"{folder}/mask_1.png", f"{folder}/mask_2.png")
    with pytest.raises(InputError, match=rf"{folder} holds mask_1\.png and 1 more, .* of a\.jpg a\.png"):
        folders.find_masks(tmp_path, ["a.jpg"])
    (tmp_path / "empty" / "masks").mkdir(parents=True)
    assert folders.find_masks(tmp_path / "empty", ["a.jpg"]) == {}


# --- transforms.json as Windows and Blender write it


def _blender(data: Path, slash: str = "/") -> None:
    """Rendered photos to train on; nobody rendered those to test with."""
    cameras = make_cameras(5)
    write_photos(data / "train", cameras[:4])
    for part, chosen in (("train", cameras[:4]), ("test", cameras)):
        frames = [
            {"file_path": f"{part}{slash}{index:03d}.png", "transform_matrix": opengl_pose(camera)}
            for index, camera in enumerate(chosen)
        ]
        content = {"camera_angle_x": 1.0, "frames": frames}
        (data / f"transforms_{part}.json").write_text(json.dumps(content), encoding="utf-8-sig")


@pytest.mark.parametrize("slash", ["/", "\\"])
def test_test_frames_without_a_file_are_left_out(tmp_path: Path, slash: str) -> None:
    _blender(tmp_path, slash)
    said: list[str] = []
    source, paths = nerfstudio.read_transforms(tmp_path / "transforms_train.json", said.append)
    assert [shot.name for shot in source.shots] == [f"train/{index:03d}.png" for index in range(4)]
    assert all(path.is_file() for path in paths.values())
    assert (
        len(said) == 1
        and said[0].startswith("5 of 5 test photos")
        and "left out (test/000.png, ...)" in said[0]
    )
    (tmp_path / "train" / "002.png").unlink()
    with pytest.raises(InputError, match=r"train/002\.png does not exist but .*copy it there or remove"):
        nerfstudio.read_transforms(tmp_path / "transforms_train.json", said.append)


@pytest.mark.parametrize(
    "written", ["images\\000.png", "images/000", "images\\000", "images/000.png", "images/000.png"]
)
@pytest.mark.parametrize("suffix", ["png", "PNG"])
def test_paths_written_on_windows_are_found(tmp_path: Path, written: str, suffix: str) -> None:
    make_nerfstudio(tmp_path)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][0] |= {"file_path": written, "mask_path": "seen\\0.png"}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    (tmp_path / "images" / "000.png").rename(tmp_path / "images" / f"000.{suffix}")
    _fill(tmp_path, "seen/0.png")
    source, paths = nerfstudio.read_transforms(path)
    assert paths[source.shots[0].name] == tmp_path / "images" / f"000.{suffix}"
    assert source.shots[0].name == written.replace("\\", "/").removeprefix("images/")
    assert source.shots[0].mask == tmp_path / "seen" / "0.png"


# --- Huge photos


@pytest.mark.parametrize("size", [(1, 1), (13, 7), (64, 48), (100, 75)])
def test_the_area_filter_gives_the_same_bits_in_blocks(monkeypatch: pytest.MonkeyPatch, size: tuple) -> None:
    picture = take_photo(make_cameras(1)[0])
    whole = pixels.resize_area(pixels.to_float(picture), *size)
    monkeypatch.setattr(pixels, "_BLOCK", 1000)
    assert np.array_equal(pixels.resize_area(picture, *size), whole)
    assert np.array_equal(pixels.resize_area(picture.astype(np.uint16) * 257, *size), whole)


def test_photos_beyond_pillows_limits_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """As if they had 200 megapixels: Pillow warns, and from twice its limit on refuses."""
    image = Image.effect_noise((400, 300), 60).convert("RGB")
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        image.save(tmp_path / f"a{suffix}", quality=100, lossless=True)
    for limit in (100_000, 10_000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            assert photos.read_header(tmp_path / f"a{suffix}").width == 400
            assert photos.read_photo(tmp_path / f"a{suffix}").shape == (300, 400, 3)
    assert not recwarn.list


@pytest.mark.thorough
def test_shrinking_a_photo_needs_few_bytes_a_pixel(tmp_path: Path) -> None:
    """tracemalloc sees numpy's arrays; Pillow's own 4 bytes a pixel come on top."""
    Image.new("RGB", (4000, 3000)).save(tmp_path / "a.png")
    lens = Intrinsics("PINHOLE", 4000, 3000, (3000.0, 3000.0, 2000.0, 1500.0))
    photo = prepare.fit_photo(Shot("a.png", lens, torch.eye(4).double()), tmp_path / "a.png")
    flat = Intrinsics("PINHOLE", 571, 429, (428.0, 428.0, 285.5, 214.5))
    tracemalloc.start()
    prepare.prepared_photo(photo, flat, tmp_path / "cache")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * pixels._BLOCK + 5 * 4000 * 3000


def test_a_jpeg_to_be_shrunk_is_decoded_smaller_and_as_sharp(tmp_path: Path) -> None:
    """Only where twice the final size is left, and the sides can be divided."""
    picture = np.asarray(
        Image.fromarray(take_photo(make_cameras(1)[0])).resize((960, 720), Image.Resampling.BICUBIC)
    )
    noise = np.random.default_rng(0).normal(0, 8, picture.shape[:2])[..., None]
    Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    whole = photos.read_photo(tmp_path / "a.jpg")
    for shrink, part in ((3.9, 1), (4, 2), (7.9, 2), (8, 4), (100, 8)):
        half = photos.read_photo(tmp_path / "a.jpg", shrink=shrink)
        assert half.shape == (720 // part, 960 // part, 3)
    fine, fast = (
        pixels.resize_area(photos.read_photo(tmp_path / "a.jpg", shrink=s), 240, 180) for s in (1, 4)
    )
    assert np.abs(fast - fine).mean() < 1.5 / 255
    energies = [np.square(np.diff(p, axis=1)).mean() for p in (fine, fast)]
    assert energies[1] == pytest.approx(energies[0], rel=0.1)
    Image.fromarray(whole[:, :-1]).save(tmp_path / "odd.jpg")
    assert photos.read_photo(tmp_path / "odd.jpg", shrink=4).shape == (720, 959, 3)


def test_threads_read_photos_at_once_and_leave_pillow_as_it_was(tmp_path: Path) -> None:
    Image.effect_noise((400, 300), 60).convert("RGB").save(tmp_path / "a.jpg")
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    both = threading.Barrier(2, timeout=10)

    def read(number: int) -> tuple[int, ...]:
        with decoding.opened(tmp_path / "a.jpg") as image:
            both.wait()  # each is inside while the other is
            return decoding.decode(tmp_path / "a.jpg", image).shape

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(read, range(2))) == [(300, 400, 3)] * 2
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_preparing_stops_at_the_first_photo_that_fails() -> None:
    lens = Intrinsics("PINHOLE", 10, 6, (9.0, 9.0, 5.0, 3.0))
    header = photos.PhotoHeader(10, 6, 10, 6, 1, False, photos.LensFacts())
    done = []

    def work(number: int) -> int:
        if number == 3:
            raise InputError("three.jpg is damaged")
        time.sleep(0.001)
        done.append(number)
        return 2 * number

    picture = prepare.Picture(Path("a.jpg"), lens, True, header)
    assert list(prepare.each(work, range(3), picture, lens)) == [0, 2, 4]
    with pytest.raises(InputError, match="three"):
        list(prepare.each(work, range(2_000), picture, lens))
    assert len(done) < 1_900


def test_a_folder_of_photos_nobody_can_read_says_so(tmp_path: Path) -> None:
    _fill(tmp_path, "IMG_1.JXL", "IMG_2.JXL", "notes.txt")
    with pytest.raises(InputError, match=r"only photos that cannot be read \(JPEG XL\): save them as JPEG"):
        _open(tmp_path)


def test_masks_of_which_none_fits_stop_a_scene_with_cameras(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_colmap(data)
    _fill(data, "masks/left/mask_1.png")
    with pytest.raises(InputError, match=r"masks holds left/mask_1\.png, but no mask of a photo"):
        _open(data)


def test_left_out_test_frames_are_said_on_opening(tmp_path: Path) -> None:
    _blender(tmp_path / "data")
    scene, said = _open(tmp_path / "data")
    assert len(scene.train_views) == 4 and not scene.test_views
    assert any("are left out (test/000.png, ...)" in line for line in said)
    assert any(line.startswith("All 4 photos") for line in said)


def test_links_whose_files_are_gone_are_told(tmp_path: Path) -> None:
    """An unmounted disk, or git-annex without its contents; and JPEGs by their other suffixes."""
    for name in ("a.jpg", "b.jpe", "c.jfif"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, format="JPEG")
    os.symlink("/nowhere/d.jpg", tmp_path / "d.jpg")
    names = photos.list_photos(tmp_path)
    assert names == ["a.jpg", "b.jpe", "c.jfif", "d.jpg"]
    with pytest.raises(InputError, match=r"d\.jpg does not exist: put it back"):
        photos.read_header(tmp_path / "d.jpg")
    told = folders.usage_line(tmp_path, [tmp_path / name for name in names[:3]])
    assert told == f"3 of 4 photos in {tmp_path} are used; not used: d.jpg."
