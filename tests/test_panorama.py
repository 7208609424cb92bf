"""Panoramas: the geometry of their faces, which photos are panoramas, and their cameras by SfM."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import make_colmap
from panoramas import directions, panorama_of, room, save, turned, xmp
from PIL import ExifTags, Image

from cocogs.camera import position_of
from cocogs.errors import InputError
from cocogs.io import faces, panorama
from cocogs.io.exif import read_exif
from cocogs.io.faces import cut_panoramas, find_panoramas
from cocogs.io.panorama import FACES, cut_face, face_lens, face_size
from cocogs.io.photos import list_photos, read_header, read_photo, write_png
from cocogs.io.source import Shot, Source
from cocogs.scene import Scene, View, open_scene
from cocogs.scene.split import names_for_testing

# --- Geometry -------------------------------------------------------------------------------------------


def _waves(direction: np.ndarray) -> np.ndarray:
    """(..., 3) colours in [0, 1] of (..., 3) unit vectors: smooth, and different everywhere."""
    x, y, z = np.moveaxis(direction, -1, 0)
    waves = [np.sin(5 * x + 2 * y), np.cos(4 * y - 3 * z), np.sin(3 * z + 4 * x * y)]
    return 0.5 + 0.4 * np.stack(waves, axis=-1)


def _rays(face: str, size: int) -> np.ndarray:
    """(size, size, 3) unit vectors of a face's pixels in the panorama's axes, by its pinhole camera."""
    fx, fy, cx, cy = face_lens(size).params
    x, y = np.meshgrid((np.arange(size) + 0.5 - cx) / fx, (np.arange(size) + 0.5 - cy) / fy)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ FACES[face]
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("face", FACES)
def test_a_faces_pixels_show_what_lies_in_their_directions(face: str, dtype: type) -> None:
    width = 512
    most = np.iinfo(dtype).max
    whole = np.rint(_waves(directions(width)) * most).astype(dtype)
    cut = cut_face(whole, face, face_size(width))
    assert cut.shape == (128, 128, 3) and cut.dtype == dtype
    # The error of sampling: a face's pixel is the mean of its square.
    assert np.abs(cut / most - _waves(_rays(face, 128))).max() < (2.5 / 255 if dtype == np.uint8 else 2e-3)


def test_faces_look_where_their_names_say() -> None:
    ahead = {face: (turn.T @ (0, 0, 1)).tolist() for face, turn in FACES.items()}
    assert ahead == {
        "front": [0, 0, 1],
        "right": [1, 0, 0],
        "back": [0, 0, -1],
        "left": [-1, 0, 0],
        "up": [0, -1, 0],
        "down": [0, 1, 0],
    }
    for turn in FACES.values():
        assert np.array_equal(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)


def test_the_middle_of_a_panorama_is_the_middle_of_its_front() -> None:
    whole = np.zeros((64, 128, 3), np.uint8)
    whole[20:44, 52:76] = 255, 0, 0
    assert (cut_face(whole, "front", 32)[14:18, 14:18] == (255, 0, 0)).all()
    assert not cut_face(whole, "back", 32).any()


def test_the_back_has_no_seam() -> None:
    """It lies across the panorama's border; turned by half a circle, it lies in the middle."""
    whole = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    turned_round = np.roll(whole, 64, axis=1)
    difference = cut_face(whole, "back", 32).astype(int) - cut_face(turned_round, "front", 32)
    assert np.abs(difference).max() <= 1


def test_beyond_a_pole_lies_its_far_side() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    window = panorama._window(whole, range(-2, 18), range(-3, 35))
    assert np.array_equal(window[2:-2, 3:-3], whole)
    far = np.roll(whole, 16, axis=1)
    assert np.array_equal(window[:2, 3:-3], far[[1, 0]])
    assert np.array_equal(window[-2:, 3:-3], far[[-1, -2]])


def test_finer_stripes_than_a_face_can_show_become_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripes a pixel wide, in the middle of a face, whose pixels are 1.27 times as wide."""
    whole = np.zeros((384, 768, 3), np.uint8)
    whole[:, ::2] = 255
    middle = cut_face(whole, "front", face_size(768))[80:112, 80:112]
    monkeypatch.setattr(panorama, "FINE", 1)
    aliased = cut_face(whole, "front", face_size(768))[80:112, 80:112]
    assert abs(float(middle.mean()) - 127.5) < 2
    assert float(middle.std()) < 0.6 * float(aliased.std())


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = panorama_of(_waves, 256)
    for face in ("back", "down"):
        at_once = cut_face(whole, face, 64).astype(int)
        with monkeypatch.context() as patched:
            patched.setattr(panorama, "_BLOCK", 2048)
            assert np.abs(cut_face(whole, face, 64) - at_once).max() <= 1


# --- Which photos are panoramas -------------------------------------------------------------------------


def _find(folder: Path, stated: bool = False) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return list(find_panoramas(folder, list_photos(folder), stated, said.append)), said


ELEMENTS = (
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/">'
    b"<GPano:ProjectionType>equirectangular</GPano:ProjectionType></rdf:Description>"
)


@pytest.mark.parametrize("metadata", [xmp(), xmp(FullPanoWidthPixels=64), ELEMENTS])
def test_panoramas_are_known_by_their_metadata(metadata: bytes, tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.zeros((32, 64, 3), np.uint8), metadata)
    save(tmp_path / "b.jpg", np.zeros((32, 64, 3), np.uint8), None)
    assert _find(tmp_path) == (["a.jpg"], [])


def test_photos_that_may_be_panoramas_are_told(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.zeros((1000, 2000, 3), np.uint8), None)
    save(tmp_path / "b.jpg", np.zeros((1000, 1900, 3), np.uint8), None)
    found, said = _find(tmp_path)
    assert found == []
    assert len(said) == 1 and "1 of 2 photos have the shape of 360-degree photos (a.jpg)" in said[0]
    assert _find(tmp_path, stated=True) == (["a.jpg"], [])


def test_a_statement_that_cannot_be_true_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.zeros((30, 64, 3), np.uint8), None)
    with pytest.raises(InputError, match=r"`panoramas`: no photo in .* is twice as wide as high"):
        _find(tmp_path, stated=True)


@pytest.mark.parametrize(
    ("size", "facts", "problem"),
    [
        (
            (64, 32),
            {
                "FullPanoWidthPixels": 128,
                "FullPanoHeightPixels": 64,
                "CroppedAreaImageWidthPixels": 64,
                "CroppedAreaImageHeightPixels": 32,
            },
            r"a\.jpg shows a part of the sphere only \(64x32 of 128x64 px",
        ),
        ((64, 20), {}, r"a\.jpg is a 360-degree photo by its metadata, but its 64x20 px"),
        ((64, 64), {}, "only one of a stereo pair"),
    ],
)
def test_what_does_not_show_all_around_is_refused(
    size: tuple[int, int], facts: dict[str, int], problem: str, tmp_path: Path
) -> None:
    save(tmp_path / "a.jpg", np.zeros((size[1], size[0], 3), np.uint8), xmp(**facts))
    with pytest.raises(InputError, match=problem):
        _find(tmp_path)


# --- Files ----------------------------------------------------------------------------------------------


def _cut(
    folder: Path, cache: Path, masks: dict[str, Path] | None = None, settled: bool = False
) -> list[faces.Face]:
    found = find_panoramas(folder, list_photos(folder), False, lambda line: None)
    return cut_panoramas(folder, found, masks or {}, cache, settled, lambda line: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Sphere 1"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.FocalLengthIn35mmFilm: 7, ExifTags.Base.FNumber: 2.0}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "S", 2: (52.0, 31.0, 1.0), 3: "W", 4: (13.0, 24.0, 18.0)})
    save(tmp_path / "photos" / "in" / "a.b.jpg", panorama_of(_waves, 128), xmp(), exif=exif)
    return tmp_path / "photos"


def test_faces_are_files_named_by_their_panorama(folder: Path, tmp_path: Path) -> None:
    cut = _cut(folder, tmp_path / "faces")
    assert [face.name for face in cut] == [f"in/a.b_{direction}.jpg" for direction in FACES]
    whole = read_photo(folder / "in" / "a.b.jpg")
    for face in cut:
        assert (face.panorama, face.size, face.mask) == ("in/a.b.jpg", 32, None)
        difference = read_photo(face.path).astype(int) - cut_face(whole, face.direction, 32)
        assert np.abs(difference).mean() < 1.5
        header = read_header(face.path)
        assert (header.lens.camera_model, header.lens.f_number) == ("Sphere 1", 2.0)
        assert header.lens.focal_length_35mm is None, "that of a face is another"
        with Image.open(face.path) as image:
            assert dict(read_exif(image).get_ifd(ExifTags.IFD.GPSInfo))[3] == "W"


def test_faces_are_made_once(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "faces"

    def times() -> list[int]:
        return [face.path.stat().st_mtime_ns for face in _cut(folder, cache)]

    first = times()
    assert times() == first
    save(folder / "in" / "a.b.jpg", panorama_of(_waves, 256), xmp())
    changed = _cut(folder, cache)
    assert [face.size for face in changed] == [64] * 6
    assert read_photo(changed[0].path).shape == (64, 64, 3)
    changed[3].path.unlink()
    assert all(face.path.is_file() for face in _cut(folder, cache)), "a lost one is made again"


def test_a_trained_scene_keeps_its_faces(folder: Path, tmp_path: Path) -> None:
    before = [face.path.stat().st_mtime_ns for face in _cut(folder, tmp_path / "faces")]
    save(folder / "in" / "a.b.jpg", 255 - panorama_of(_waves, 128), xmp())
    settled = _cut(folder, tmp_path / "faces", settled=True)
    assert [face.path.stat().st_mtime_ns for face in settled] == before


def test_masks_are_cut_too(folder: Path, tmp_path: Path) -> None:
    mask = np.full((64, 128), 255, np.uint8)
    mask[54:] = 0  # the tripod
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cut = _cut(folder, tmp_path / "faces", {"in/a.b.jpg": tmp_path / "mask.png"})
    for face in cut:
        assert face.mask is not None
        shown = read_photo(face.mask)[..., 0]
        assert set(np.unique(shown)) <= {0, 255}
        # Row 54 of 64 is 62 degrees down: within 28 degrees of straight down.
        down = _rays(face.direction, 32)[..., 1] > np.cos(np.radians(90 - 61.875))
        assert ((shown == 0) != down).mean() < 0.05 and (shown == 0).any() == (face.direction == "down")
    Image.fromarray(mask[:32]).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask\.png has 128x32 px but its photo has 128x64"):
        _cut(folder, tmp_path / "faces", {"in/a.b.jpg": tmp_path / "mask.png"})


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    whole = (panorama_of(_waves, 128).astype(np.uint16) << 8) + 7
    (tmp_path / "photos").mkdir()
    write_png(tmp_path / "photos" / "a.png", whole)
    found = find_panoramas(tmp_path / "photos", ["a.png"], True, lambda line: None)
    front = cut_panoramas(tmp_path / "photos", found, {}, tmp_path / "faces", False, lambda line: None)[0]
    assert front.name == "a_front.png"
    assert np.array_equal(read_photo(front.path), cut_face(whole, "front", 32))


def test_names_that_would_be_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.jpeg"):
        save(tmp_path / "photos" / name, panorama_of(_waves, 64), xmp())
    with pytest.raises(InputError, match=r"holds a\.jpeg and a\.jpg, whose faces"):
        _cut(tmp_path / "photos", tmp_path / "faces")


def test_a_photo_that_is_called_as_a_face_is_refused(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / "in" / "a.b_up.jpg")
    with pytest.raises(InputError, match=r"a\.b_up\.jpg has the name of a face of in/a\.b\.jpg: rename"):
        open_scene(folder, tmp_path / "cache", say=lambda line: None)


def test_cameras_that_are_known_are_those_of_no_panorama(tmp_path: Path) -> None:
    make_colmap(tmp_path)
    with pytest.raises(InputError, match="`panoramas` is for photos without cameras"):
        open_scene(tmp_path, tmp_path / "cache", panoramas=True, say=lambda line: None)


# --- Split ----------------------------------------------------------------------------------------------


def _source(*panoramas: str, plain: tuple[str, ...] = ()) -> Source:
    lens, pose = face_lens(64), torch.eye(4, dtype=torch.float64)
    shots = [
        Shot(f"{name[:-4]}_{direction}.jpg", lens, pose, panorama=name)
        for name in panoramas
        for direction in FACES
    ]
    shots += [Shot(name, lens, pose) for name in plain]
    return Source(sorted(shots, key=lambda shot: shot.name))


def test_all_faces_of_a_panorama_are_tested_or_none(tmp_path: Path) -> None:
    source = _source("a.jpg", "b.jpg", "c.jpg", plain=("a_e.jpg",))
    of = {shot.name: shot.photo for shot in source.shots}
    tests = names_for_testing(tmp_path, source, 2, None)
    assert {of[name] for name in tests} == {"a.jpg", "b.jpg"} and len(tests) == 12
    for asked in ("c.jpg", "c_up.jpg", "c_*"):
        assert {of[name] for name in names_for_testing(tmp_path, source, None, asked)} == {"c.jpg"}
        assert len(names_for_testing(tmp_path, source, None, asked)) == 6
    assert names_for_testing(tmp_path, source, None, "a_e.jpg") == {"a_e.jpg"}
    with pytest.raises(InputError, match="no photo to train on"):
        names_for_testing(tmp_path, source, None, "*_up.jpg, a_e.jpg")


# --- Cameras --------------------------------------------------------------------------------------------

PLACES = np.array([[-0.7, 0.0, 0.1], [-0.2, 0.15, -0.2], [0.3, 0.0, 0.15], [0.8, 0.1, 0.0]])
TURNS = (0.0, 0.4, -0.3, 0.9)
NAMES = ("a 0.jpg", "b.jpg", "c.jpg", "d.jpg")
ORDINARY = np.array([0.0, -0.1, 0.05])
WIDTH = 512
CEILING = 2  # of the walls of `room`


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, list[str], Path]:
    """Four panoramas of a room whose ceiling has no texture, and an ordinary photo."""
    data = tmp_path_factory.mktemp("data")
    for name, place, turn in zip(NAMES, PLACES, TURNS, strict=True):
        save(data / name, room(place, turned(turn), WIDTH, (CEILING,)), xmp())
    fifth = room(ORDINARY, turned(0.2), WIDTH, (CEILING,))
    save(data / "plain.jpg", cut_face(fifth, "front", face_size(WIDTH)), None)
    said: list[str] = []
    cache = tmp_path_factory.mktemp("run") / "cache"
    return open_scene(data, cache, test_every=3, say=said.append), said, cache


def _positions(views: list[View]) -> np.ndarray:
    return torch.stack([position_of(view.camera.cam_from_world) for view in views]).numpy()


@pytest.mark.thorough
def test_faces_of_a_panorama_share_a_place_and_their_turns(opened: tuple[Scene, list[str], Path]) -> None:
    scene, _, _ = opened
    assert len(scene.views) == 25
    for name in NAMES:
        views = {Path(view.name).stem.split("_")[1]: view for view in scene.views if view.panorama == name}
        assert views.keys() == FACES.keys(), "the ceiling too, which shows nothing"
        places = _positions(list(views.values()))
        assert np.ptp(places, axis=0).max() < 1e-6 * np.ptp(_positions(scene.views), axis=0).max()
        front = views["front"].camera.cam_from_world[:3, :3].numpy()
        for direction, view in views.items():
            turn = view.camera.cam_from_world[:3, :3].numpy() @ front.T
            assert np.abs(turn - FACES[direction]).max() < 1e-6
            assert (view.camera.fx, view.camera.cx) == (64, 64), "known, and not estimated"


def test_panoramas_and_photos_lie_where_they_were_taken(opened: tuple[Scene, list[str], Path]) -> None:
    """Distances between all cameras in one unit, and turns of panoramas to each other."""
    scene, _, _ = opened
    fronts = [view for view in scene.views if view.name.endswith("_front.jpg")]
    plain = next(view for view in scene.views if view.name == "plain.jpg")
    found, true = _positions([*fronts, plain]), np.vstack([PLACES, ORDINARY])
    pairs = list(combinations(range(5), 2))
    distances, truth = (
        np.array([np.linalg.norm(places[one] - places[other]) for one, other in pairs])
        for places in (found, true)
    )
    of_panoramas = np.array([other < 4 for _, other in pairs])
    ratios = distances[of_panoramas] / truth[of_panoramas]
    assert ratios.std() / ratios.mean() < 0.003
    errors = np.abs(distances / ratios.mean() - truth)[~of_panoramas]
    assert errors.max() < 0.05, "of the photo, whose focal length is not known"
    first = fronts[0].camera.cam_from_world[:3, :3].numpy()
    for view, turn in zip(fronts, TURNS, strict=True):
        between = view.camera.cam_from_world[:3, :3].numpy() @ first.T
        assert np.abs(between - turned(turn) @ turned(TURNS[0]).T).max() < 5e-3


def test_what_is_said_names_panoramas(opened: tuple[Scene, list[str], Path]) -> None:
    scene, said, _ = opened
    assert any(line.startswith("Cameras found for 5 of 5 photos.") for line in said)
    assert any("4 of 5 photos show all around" in line for line in said)
    assert any(line.startswith(f"All 5 photos in {scene.source} are used.") for line in said)
    assert {view.panorama or view.name for view in scene.test_views} == {"a 0.jpg", "d.jpg"}
    assert len(scene.test_views) == 12


def test_a_second_run_reads_all_of_it(
    opened: tuple[Scene, list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, _, cache = opened
    monkeypatch.setattr(faces, "cut_face", None)
    monkeypatch.setattr("cocogs.io.sfm._run", None)
    again = open_scene(scene.source, cache, test_every=3, say=lambda line: None)
    assert again.fingerprint() == scene.fingerprint()
    assert torch.equal(again.points, scene.points)
