"""SfM from photos alone: real runs on a small textured room, the cache, and photos that cannot be used."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pycolmap
import pytest
import torch
from datasets import make_cameras, take_photo, write_photos
from PIL import ExifTags, Image

from cocogs.camera import Camera, pose_at
from cocogs.errors import InputError
from cocogs.io import mapping, matching, sfm, sfm_checks
from cocogs.io.intrinsics_file import Answer, write_intrinsics
from cocogs.io.lens_estimate import LensEstimate
from cocogs.io.photos import list_photos
from cocogs.io.source import Intrinsics, Source
from cocogs.scene import open_scene

COUNT = 6


def _reconstruct(folder: Path, cache: Path, seed: int = 0) -> tuple[Source, list[str]]:
    said: list[str] = []
    return sfm.reconstruct(folder, list_photos(folder), cache, seed, said.append), said


@pytest.fixture(scope="module")
def cameras() -> list[Camera]:
    return make_cameras(COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cameras: list[Camera]) -> Path:
    """Photos with spaces in their names, in EXIF-turned copies too, and one that shows something else."""
    folder = tmp_path_factory.mktemp("photos")
    for name in write_photos(folder, cameras):
        (folder / name).rename(folder / f"photo {name}")
    turned = Image.open(folder / "photo 002.png")
    exif = turned.getexif()
    exif[ExifTags.Base.Orientation] = 6
    turned.transpose(Image.Transpose.ROTATE_90).save(folder / "photo 002.png", exif=exif)
    random = np.random.default_rng(9).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    Image.fromarray(random).save(folder / "stranger.png")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "sfm"


@pytest.fixture(scope="module")
def result(folder: Path, cache: Path) -> tuple[Source, list[str]]:
    return _reconstruct(folder, cache)


def test_a_full_disk_keeps_what_was_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pycolmap would end the process."""
    used = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as full:
        full.setattr("cocogs.io.matching.shutil.disk_usage", lambda _: used._replace(free=1000))
        with pytest.raises(InputError, match="MB of disk for its next step, and has less: free space"):
            _reconstruct(folder, tmp_path / "sfm")
    assert (tmp_path / "sfm" / ".work" / "database.db").is_file()


@pytest.mark.thorough
def test_damaged_notes_are_passed_over(
    result: tuple[Source, list[str]], folder: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(cache, tmp_path / "sfm")
    (tmp_path / "sfm" / "sparse" / "notes.json").write_text('{"apart": 5, "zoomed": [1]}')
    source, said = _reconstruct(folder, tmp_path / "sfm")
    assert [shot.name for shot in source.shots] == [shot.name for shot in result[0].shots]
    assert any("Cameras found for" in line for line in said)


def test_an_emptied_database_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("cocogs.io.sfm.match_features", stop)
        with pytest.raises(KeyboardInterrupt):
            _reconstruct(folder, tmp_path / "sfm")
    (tmp_path / "sfm" / ".work" / "database.db").write_bytes(b"")
    with pytest.raises(InputError, match="finding the cameras failed"):
        _reconstruct(folder, tmp_path / "sfm")


def test_cameras_are_found_up_to_a_similarity(
    result: tuple[Source, list[str]], cameras: list[Camera]
) -> None:
    source, _ = result
    assert [shot.name for shot in source.shots] == [f"photo {index:03d}.png" for index in range(COUNT)]
    found = torch.stack(
        [-shot.cam_from_world[:3, :3].T @ shot.cam_from_world[:3, 3] for shot in source.shots]
    )
    truth = torch.stack([camera.position for camera in cameras])
    ratios = torch.pdist(found) / torch.pdist(truth)
    assert float(ratios.std() / ratios.mean()) < 0.05
    lens = source.shots[0].intrinsics
    assert (lens.model, lens.width, lens.height) == ("SIMPLE_RADIAL", 240, 180)
    assert lens.params[0] == pytest.approx(cameras[0].fx, rel=0.1)
    assert source.points is not None and len(source.points) > 100


def test_photos_that_do_not_register_are_named(result: tuple[Source, list[str]]) -> None:
    _, said = result
    assert any(line.startswith("Cameras found for 6 of 7 photos") for line in said)
    assert any("1 photo could not be placed" in line and line.endswith("stranger.png.") for line in said)


def test_progress_is_said(result: tuple[Source, list[str]]) -> None:
    _, said = result
    for step in ("Finding features", "Matching pairs of photos", "Placing cameras"):
        assert any(line.startswith(step) for line in said)
    assert "Finding features: 100 %" in said


def test_second_run_reads_the_cache(
    result: tuple[Source, list[str]], folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sfm, "_run", None)
    again, said = _reconstruct(folder, cache)
    assert all(
        torch.equal(one.cam_from_world, other.cam_from_world)
        for one, other in zip(result[0].shots, again.shots, strict=True)
    )
    assert not any(line.startswith("Finding") for line in said)
    assert [path.name for path in cache.iterdir()] == ["sparse"]


@pytest.mark.thorough
def test_the_same_photos_and_seed_give_the_same_cameras(
    result: tuple[Source, list[str]], folder: Path, tmp_path: Path
) -> None:
    again, _ = _reconstruct(folder, tmp_path)
    assert again.points is not None and result[0].points is not None
    assert torch.equal(again.points, result[0].points)
    for one, other in zip(result[0].shots, again.shots, strict=True):
        assert one.intrinsics == other.intrinsics
        assert torch.equal(one.cam_from_world, other.cam_from_world)


def test_a_changed_photo_or_damaged_cache_is_computed_anew(
    result: tuple[Source, list[str]],
    folder: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ran(Exception):
        pass

    def run(*_: object) -> None:
        raise Ran

    monkeypatch.setattr(sfm, "_run", run)
    with pytest.raises(Ran):
        _reconstruct(folder, cache, seed=1)
    stamp = cache / "sparse" / "stamp.json"
    content = stamp.read_text()
    stamp.write_text(content[:20])
    with pytest.raises(Ran):
        _reconstruct(folder, cache)
    stamp.write_text(content)
    images = cache / "sparse" / "images.bin"
    whole = images.read_bytes()
    images.write_bytes(whole[:-5])
    with pytest.raises(Ran):
        _reconstruct(folder, cache)
    images.write_bytes(whole)
    assert [path.name for path in cache.iterdir()] == ["sparse"], "a failed run leaves nothing behind"


@pytest.mark.thorough
def test_portrait_and_landscape_photos_of_one_size_get_a_camera_each(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    cameras = make_cameras(5)
    write_photos(photos, cameras)
    upright = Camera(cameras[2].intrinsics, cameras[2].cam_from_world, 180, 240)
    Image.fromarray(take_photo(upright)).save(photos / "002.png")
    source, _ = _reconstruct(photos, tmp_path / "cache")
    sizes = {shot.name: (shot.intrinsics.width, shot.intrinsics.height) for shot in source.shots}
    assert len(sizes) >= 4
    assert all(size == ((180, 240) if name == "002.png" else (240, 180)) for name, size in sizes.items())


@pytest.mark.thorough
def test_crops_with_given_lenses_keep_their_principal_points_into_training(tmp_path: Path) -> None:
    """Without their lenses, photos of different sizes are refused."""
    photos, cameras, answers = tmp_path / "photos", make_cameras(10), {}
    for index, name in enumerate(write_photos(photos, cameras)):
        width = 240
        if index % 2:
            width = 200
            cropped = Image.open(photos / name).crop((40, 0, 240, 180))
            cropped.save(photos / name)
        K = cameras[index].intrinsics
        focal, center = (float(K[0, 0]), float(K[1, 1])), (float(K[0, 2]) - 240 + width, float(K[1, 2]))
        lens = LensEstimate("given", (width, 180), focal, (1.0, 1.0), center, (1.0, 1.0), "")
        answers[name] = Answer(lens)
    with pytest.raises(InputError, match=r"different sizes.*cocogs calibrate photo"):
        open_scene(photos, tmp_path / "cache", say=lambda _: None)
    write_intrinsics(answers, {}, photos / "intrinsics.json", shared=False)
    said: list[str] = []
    scene = open_scene(photos, tmp_path / "cache", say=said.append)
    assert any("intrinsics.json tells the lenses of 10 photos" in line for line in said)
    assert {int(view.name[:3]) % 2 for view in scene.views} == {0, 1}
    for view in scene.views:  # undistorted, so a px off at most
        offset = view.camera.cx - view.camera.width / 2
        assert offset == pytest.approx(-20.0 if int(view.name[:3]) % 2 else 0.0, abs=1.5)


# --- Interrupted searches -------------------------------------------------------------------------------


class Calls(list[str]):
    """Notes what pycolmap is asked for, and interrupts the first call of a name that would be the `nth`."""

    def __init__(self, patch: pytest.MonkeyPatch, interrupted: str = "", nth: int = 1) -> None:
        for name in ("import_images", "extract_features", "match_image_pairs", "incremental_mapping"):
            number = nth if name == interrupted else 0
            patch.setattr(pycolmap, name, self._noting(name, getattr(pycolmap, name), number))

    def _noting(self, name: str, function: Callable, nth: int) -> Callable:
        def call(*args: object, **options: object) -> object:
            if self.count(name) + 1 == nth:
                raise KeyboardInterrupt
            self.append(name)
            return function(*args, **options)

        return call


@pytest.mark.thorough
def test_an_interrupted_search_goes_on_where_it_stopped(
    result: tuple[Source, list[str]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in every step, it does nothing twice, and ends in the same bits."""
    monkeypatch.setattr(matching, "FEATURE_BATCH", 4)
    monkeypatch.setattr(matching, "PAIR_BATCH", 10)
    expected = {
        ("import_images", 1): [],
        ("extract_features", 2): ["import_images", "extract_features"],
        ("match_image_pairs", 3): ["extract_features", "match_image_pairs", "match_image_pairs"],
        ("incremental_mapping", 1): ["match_image_pairs"],
    }
    for (step, nth), calls in expected.items():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            made = Calls(patch, step, nth)
            _reconstruct(folder, tmp_path)
        assert made == calls
    with monkeypatch.context() as patch:
        made = Calls(patch)
        source, _ = _reconstruct(folder, tmp_path)
    assert made == ["incremental_mapping"]
    assert source.points is not None and result[0].points is not None
    assert torch.equal(source.points, result[0].points)
    for ours, first in zip(source.shots, result[0].shots, strict=True):
        assert ours.intrinsics == first.intrinsics and torch.equal(ours.cam_from_world, first.cam_from_world)
    assert [path.name for path in tmp_path.iterdir()] == ["sparse"]


@pytest.mark.thorough
def test_cameras_that_were_placed_before_an_interruption_stay(
    result: tuple[Source, list[str]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unfinished model is completed, from the last time that it was saved."""
    monkeypatch.setattr(mapping, "SNAPSHOT", 2)

    def say(line: str) -> None:
        if line == "Placing cameras: 70 %":  # 5 of 7
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sfm.reconstruct(folder, list_photos(folder), tmp_path, 0, say)
    (saved,) = (tmp_path / ".work" / "snapshots").iterdir()
    assert mapping._placed(saved) == 4
    (saved / "points3D.bin").rename(tmp_path / "points3D.bin")
    assert mapping._placed(saved) == 0, "of a model that was not saved in full"
    (tmp_path / "points3D.bin").rename(saved / "points3D.bin")
    source, said = _reconstruct(folder, tmp_path)
    assert [line for line in said if line.startswith("Placing")] == [
        "Placing cameras: 70 %",
        "Placing cameras: 80 %",
    ]
    assert [shot.name for shot in source.shots] == [shot.name for shot in result[0].shots]
    cameras = {shot.name: camera for shot, camera in zip(source.shots, make_cameras(COUNT), strict=True)}
    assert _spread_of_ratios(source, cameras) < 0.05


@pytest.mark.thorough
def test_an_interrupted_search_of_other_photos_starts_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = Path(shutil.copytree(folder, tmp_path / "photos"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Calls(patch, "incremental_mapping")
        _reconstruct(photos, tmp_path / "cache")
    assert (tmp_path / "cache" / ".work" / "database.db").exists()
    (photos / "photo 001.png").touch()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Calls(patch, "import_images")
        _reconstruct(photos, tmp_path / "cache")
    assert not (tmp_path / "cache" / ".work" / "database.db").exists()


# --- Lenses, masks, groups -----------------------------------------------------------------------------


def _two_lenses() -> list[Camera]:
    """Every second photo is taken at 1.5 times the focal length, as by a phone's other lens."""
    cameras = make_cameras(8)
    for index in range(1, 8, 2):
        intrinsics = cameras[index].intrinsics.clone()
        intrinsics[0, 0] = intrinsics[1, 1] = 1.5 * intrinsics[0, 0]
        cameras[index] = replace(cameras[index], intrinsics=intrinsics)
    return cameras


def _spread_of_ratios(source: Source, cameras: dict[str, Camera]) -> float:
    """How far the cameras' distances are from the true ones times one factor, as a part of them."""
    found = torch.stack(
        [-shot.cam_from_world[:3, :3].T @ shot.cam_from_world[:3, 3] for shot in source.shots]
    )
    ratios = torch.pdist(found) / torch.pdist(torch.stack([cameras[s.name].position for s in source.shots]))
    return float(ratios.std() / ratios.mean())


@pytest.mark.thorough
@pytest.mark.parametrize("told", [True, False])
def test_photos_of_two_focal_lengths(tmp_path: Path, told: bool) -> None:
    """EXIF gives each its own lens; without it, the odd photos are named."""
    cameras = {f"{index:03d}.jpg": camera for index, camera in enumerate(_two_lenses())}
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, camera in cameras.items():
        exif = Image.Exif()
        if told:
            in_35mm = round(36 * camera.fx / camera.width)
            exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: in_35mm}
        Image.fromarray(take_photo(camera)).save(photos / name, quality=97, subsampling=0, exif=exif)
    source, said = _reconstruct(photos, tmp_path / "cache")
    warnings = [line for line in said if "another focal length" in line]
    if told:
        focal = {shot.name: shot.intrinsics.params[0] for shot in source.shots}
        assert len(focal) == 8 and all(focal[n] == pytest.approx(c.fx, rel=0.1) for n, c in cameras.items())
        assert _spread_of_ratios(source, cameras) < 0.05 and not warnings
    else:
        assert _spread_of_ratios(source, cameras) > 0.1, "nothing can be done, so it is said"
        (warning,) = warnings
        assert warning.startswith("4 photos seem to be of another focal length (about 3")
        assert warning.endswith(": 001.jpg, 003.jpg, 005.jpg, 007.jpg.")
        again = _reconstruct(photos, tmp_path / "cache")[1]
        assert again == ["Cameras found for 8 of 8 photos.", warning], "from the cache, too"


@pytest.mark.thorough
def test_masks_hide_what_does_not_move_with_the_scene(tmp_path: Path) -> None:
    """A tripod leg in every photo: without the masks it holds all cameras in one place."""
    photos, cameras = tmp_path / "photos", make_cameras(COUNT)
    names = write_photos(photos, cameras)
    coarse = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    still = np.asarray(Image.fromarray(coarse).resize((240, 160), Image.Resampling.BICUBIC))
    mask = np.zeros((340, 240), np.uint8)
    mask[:180] = 255
    (tmp_path / "masks").mkdir()
    for name in names:
        whole = np.concatenate([np.asarray(Image.open(photos / name)), still])
        Image.fromarray(whole).save(photos / name)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    masks = {name: tmp_path / "masks" / name for name in names}
    said: list[str] = []
    source = sfm.reconstruct(photos, names, tmp_path / "cache", 0, said.append, masks=masks)
    assert len(source.shots) == COUNT
    assert _spread_of_ratios(source, dict(zip(names, cameras, strict=True))) < 0.1
    Image.fromarray(mask[:100]).save(masks[names[0]])
    with pytest.raises(InputError, match=r"masks/000\.png has 240x100 px but its photo has 240x340"):
        sfm.reconstruct(photos, names, tmp_path / "cache", 0, said.append, masks=masks)


def test_photos_without_a_mask_beside_masked_ones_have_features(tmp_path: Path) -> None:
    names = write_photos(tmp_path, make_cameras(2))
    job = matching.Job(tmp_path, 0, lambda line: None)
    left = np.arange(240) < 120
    with matching.quiet():
        lens = Intrinsics("SIMPLE_RADIAL", 240, 180, (288.0, 120.0, 90.0, 0.0))
        matching.enter_photos(job, [matching.Group(names, lens)])
        matching.write_mask(job, names[0], np.broadcast_to(left, (180, 240)))
        matching.extract_features(job, names)
        with pycolmap.Database.open(job.database) as database:
            across = [database.read_keypoints(number)[:, 0] for number in (1, 2)]
    assert len(across[0]) > 50 and across[0].max() <= 120
    assert len(across[1]) > 100 and across[1].max() > 200


@pytest.mark.thorough
def test_a_group_that_overlaps_too_little_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of the photos show another room."""
    photos = tmp_path / "photos"
    write_photos(photos, make_cameras(6))
    pattern = datasets._pattern
    monkeypatch.setattr(datasets, "_pattern", lambda number: pattern(number + 10))
    for index, camera in enumerate(make_cameras(4)):
        Image.fromarray(take_photo(camera)).save(photos / f"other{index}.png")
    _, said = _reconstruct(photos, tmp_path / "cache")
    groups = [line for line in said if "form a separate group that overlaps too little" in line]
    assert len(groups) == 1 and groups[0].startswith("4 photos") and "other0.png, other1.png" in groups[0]
    assert not any("too blurred" in line for line in said)


# --- Photos that cannot be used -------------------------------------------------------------------------


def _refused(folder: Path, cache: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _reconstruct(folder, cache)


@pytest.mark.parametrize("count, words", [(1, "holds 1 photo"), (2, "holds 2 photos")])
def test_too_few_photos(tmp_path: Path, count: int, words: str) -> None:
    write_photos(tmp_path / "photos", make_cameras(count))
    _refused(tmp_path / "photos", tmp_path / "cache", f"{words}: give at least 3")


def test_photos_of_different_sizes(tmp_path: Path) -> None:
    names = write_photos(tmp_path / "photos", make_cameras(4))
    Image.new("RGB", (100, 90)).save(tmp_path / "photos" / names[2])
    _refused(
        tmp_path / "photos", tmp_path / "cache", r"different sizes \(002\.png: 100x90 px, the others 240x180"
    )


@pytest.mark.parametrize("keep", [0, 50, 0.5])
def test_damaged_photo(tmp_path: Path, keep: float) -> None:
    names = write_photos(tmp_path / "photos", make_cameras(4))
    path = tmp_path / "photos" / names[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    _refused(tmp_path / "photos", tmp_path / "cache", r"001\.png cannot be read as a picture")


def test_photos_without_anything_in_common(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 256, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{index}.png")
    _refused(tmp_path / "photos", tmp_path / "cache", "none of 4 photos could be placed: take more photos")


def test_photos_without_any_texture(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(3):
        Image.new("RGB", (160, 120), (index, 100, 100)).save(tmp_path / "photos" / f"{index}.png")
    _refused(tmp_path / "photos", tmp_path / "cache", "none of 3 photos could be placed")


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", make_cameras(3))
    (tmp_path / "photos" / "001.png").write_bytes(b"")
    _refused(tmp_path / "photos", tmp_path / "cache", "cannot be read")
    Image.new("RGB", (240, 180)).save(tmp_path / "photos" / "001.png")
    with pytest.raises(InputError):
        _reconstruct(tmp_path / "photos", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", make_cameras(3))
    (tmp_path / "file").touch()
    _refused(tmp_path / "photos", tmp_path / "file" / "sfm", "cannot be written .*choose a writable folder")


def test_a_trained_scene_keeps_its_cameras(
    folder: Path, cache: Path, result: tuple[Source, list[str]], tmp_path: Path
) -> None:
    """Whatever becomes of the photos, and though a new search would find other cameras."""
    shutil.copytree(cache, tmp_path / "sfm")
    photos = Path(shutil.copytree(folder, tmp_path / "photos"))
    (photos / "photo 001.png").touch()
    shutil.copy(photos / "photo 000.png", photos / "new.png")
    names = list_photos(photos)
    source = sfm.reconstruct(photos, names, tmp_path / "sfm", 5, lambda line: None, settled=True)
    for ours, first in zip(source.shots, result[0].shots, strict=True):
        assert ours.name == first.name and torch.equal(ours.cam_from_world, first.cam_from_world)
    assert source.shots[0].upright


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    names = ["a.png", os.fsdecode(b"caf\xe9.png"), "b.png"]
    with pytest.raises(InputError, match=r"whose name is not UTF-8, .*: rename it"):
        sfm.reconstruct(tmp_path, names, tmp_path / "cache", 0, lambda line: None)


# --- Results that cannot be true ------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_camera_that_only_turns(tmp_path: Path) -> None:
    still = [
        replace(camera, cam_from_world=pose_at(camera.cam_from_world[:3, :3], torch.zeros(3).double()))
        for camera in make_cameras(6)
    ]
    write_photos(tmp_path / "photos", still)
    _refused(tmp_path / "photos", tmp_path / "cache", r"show hardly any parallax, .*: move sideways between")


@pytest.mark.parametrize(
    "focal, distortion, problem",
    [
        (220.0, 0.05, None),
        (10 * 240.0, 0.0, "focal length of 10 picture widths"),
        (20.0, 0.0, "focal length of 0.083 picture widths"),
        (8 * 240.0, 30.0, "distortion of 30"),
        (220.0, -1.5, "distortion of -1.5"),
    ],
)
def test_impossible_lenses_are_told(focal: float, distortion: float, problem: str | None) -> None:
    model = pycolmap.Reconstruction()
    lens = pycolmap.Camera(
        camera_id=1, model="SIMPLE_RADIAL", width=240, height=180, params=[focal, 120, 90, distortion]
    )
    model.add_camera_with_trivial_rig(lens)
    model.add_image_with_trivial_frame(pycolmap.Image(name="a", camera_id=1, image_id=1), pycolmap.Rigid3d())
    assert sfm_checks.impossible_lens(model) == problem
