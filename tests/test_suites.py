"""Benchmarks on disk: protocols as the papers state them; incomplete or contradicting downloads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import make_colmap, make_llff, write_truth_scene
from PIL import Image

from cocogs.bench.protocols import PROTOCOLS
from cocogs.bench.suites import BenchScene, open_suite
from cocogs.errors import InputError
from cocogs.scene import open_scene

REAL = dict(cake=9, caps=5, cisco=7, coral=10, cupcake=6, cups=8, daisy=8, sausage=6, seal=6, tools=7)
"""N of "every Nth photo is a test view", by scene."""
PHOTOS = 12


@pytest.fixture(scope="module")
def llff_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and poses_bounds.npy. Do not change it."""
    data = tmp_path_factory.mktemp("llff") / "scene"
    make_llff(data, PHOTOS)
    return data


def lay_out(root: Path, scene: Path, names: list[str]) -> Path:
    """A suite of scenes that are copies of one."""
    for name in names:
        shutil.copytree(scene, root / name)
    return root


def held_out(scene: BenchScene, cache: Path) -> list[str]:
    opened = open_scene(
        scene.data, cache, downscale=scene.downscale, test_every=scene.test_every, say=lambda line: None
    )
    return [view.name for view in opened.test_views]


@pytest.mark.parametrize("prefix", ["", "defocus"])
def test_deblur_nerf_real_holds_out_by_scene(tmp_path: Path, llff_scene: Path, prefix: str) -> None:
    root = lay_out(tmp_path / "real", llff_scene, [prefix + name for name in [*REAL, "bush"]])
    for name, hold in REAL.items():
        (root / (prefix + name) / f"hold={hold}").touch()
    suite = open_suite(root, tmp_path / "work")
    assert suite.title == "Deblur-NeRF, real defocus"
    assert {scene.name: scene.test_every for scene in suite.scenes} == REAL
    assert {scene.downscale for scene in suite.scenes} == {4}
    assert [p.psnr for p in suite.published] == [23.70, 23.97, 23.85, 23.48, 23.38]
    coral = next(scene for scene in suite.scenes if scene.name == "coral")
    assert held_out(coral, tmp_path / "cache") == ["000.png", "010.png"]


def test_holds_are_known_without_the_file(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "real", llff_scene, ["cake", "caps"])
    suite = open_suite(root, tmp_path / "work", scenes=("cake", "caps"))
    assert [scene.test_every for scene in suite.scenes] == [9, 5]
    assert suite.published == ()  # an average over other scenes means something else


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("key", "names", "factor"),
    [
        ("deblur-nerf-synthetic", "cozy2room factory pool tanabata wine", 1),
        ("nerf-llff", "fern flower fortress horns leaves orchids room trex", 4),
    ],
)
def test_even_protocols(tmp_path: Path, llff_scene: Path, key: str, names: str, factor: int) -> None:
    suite = open_suite(lay_out(tmp_path / "suite", llff_scene, names.split()), tmp_path / "work")
    assert suite.title == PROTOCOLS[key].title
    assert [scene.name for scene in suite.scenes] == names.split()
    assert {(scene.test_every, scene.downscale) for scene in suite.scenes} == {(8, factor)}
    assert held_out(suite.scenes[0], tmp_path / "cache") == ["000.png", "008.png"]


def test_another_size_leaves_published_figures_out(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "s", llff_scene, ["cozy2room", "factory", "pool", "tanabata", "wine"])
    assert open_suite(root, tmp_path / "work").published[0].psnr == 30.84
    assert open_suite(root, tmp_path / "work", downscale=2).published == ()


def test_missing_images_4_are_made_from_images(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "llff", llff_scene, ["fern"])
    suite = open_suite(root, tmp_path / "work", scenes=("fern",))
    scene = suite.scenes[0]
    opened = open_scene(scene.data, tmp_path / "cache", downscale=4, test_every=8, say=lambda line: None)
    photo = np.asarray(Image.open(llff_scene / "images" / "003.png"), np.float32)
    expected = photo.reshape(45, 4, 60, 4, 3).mean((1, 3)) / 255
    made = opened.photo(opened.views[3]).permute(1, 2, 0).numpy()
    assert np.abs(made - expected).max() < 0.5 / 255 + 1e-6


def test_images_4_are_taken_where_they_are(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "llff", llff_scene, ["fern"])
    small = root / "fern" / "images_4"
    small.mkdir()
    for index in range(PHOTOS):
        Image.fromarray(np.full((45, 60, 3), 10 * index, np.uint8)).save(small / f"image{index:03d}.png")
    scene = open_suite(root, tmp_path / "work", scenes=("fern",)).scenes[0]
    opened = open_scene(scene.data, tmp_path / "cache", downscale=4, say=lambda line: None)
    assert float(opened.photo(opened.views[7]).mean()) == pytest.approx(70 / 255)


# --- DoF-NeRF's triplets


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    """DoF-NeRF's seven scenes, each photo of one grey: 0 all in focus, 100 foreground, 200 background."""
    scene = tmp_path / "one"
    make_colmap(scene, 6)
    for part, grey in (("images", 0), ("foreground", 100), ("background", 200)):
        (scene / part).mkdir(exist_ok=True)
        for index in range(6):
            Image.fromarray(np.full((180, 240, 3), grey, np.uint8)).save(scene / part / f"{index:03d}.png")
    (scene / "hold=3").touch()
    return lay_out(tmp_path / "dof", scene, list(PROTOCOLS["dof-nerf-real"].holds))


def test_triplets_train_on_half_foreground_half_background(tmp_path: Path, triplets: Path) -> None:
    suite = open_suite(triplets, tmp_path / "work")
    scene = suite.scenes[0]
    assert (scene.test_every, scene.downscale, len(suite.scenes)) == (3, 1, 7)
    opened = open_scene(scene.data, tmp_path / "cache", downscale=1, test_every=3, say=lambda line: None)
    greys = {view.name: round(255 * float(opened.photo(view).mean())) for view in opened.views}
    assert greys == {
        "000.png": 0, "001.png": 100, "002.png": 200, "003.png": 0, "004.png": 100, "005.png": 200,
    }  # fmt: skip
    assert [view.name for view in opened.test_views] == ["000.png", "003.png"]


def test_triplets_are_counted_over_the_photos_that_have_a_camera(tmp_path: Path, triplets: Path) -> None:
    """A photo that did not register shifts neither the test views nor the turns."""
    for part in ("images", "foreground", "background"):
        shutil.copy(triplets / "amiya" / part / "000.png", triplets / "amiya" / part / "000a.png")
    scene = open_suite(triplets, tmp_path / "work").scenes[0]
    opened = open_scene(scene.data, tmp_path / "cache", downscale=1, test_every=3, say=lambda line: None)
    assert [round(255 * float(opened.photo(view).mean())) for view in opened.views] == [
        0, 100, 200, 0, 100, 200,
    ]  # fmt: skip


@pytest.mark.parametrize("hold", [1, 6])
def test_triplets_need_a_split(tmp_path: Path, triplets: Path, hold: int) -> None:
    (triplets / "amiya" / "hold=3").rename(triplets / "amiya" / f"hold={hold}")
    refused(triplets, tmp_path, f"hold={hold} leaves no .* view of 6 photos: rename it")


def test_published_figures_are_for_the_size_of_the_protocol(tmp_path: Path, triplets: Path) -> None:
    assert open_suite(triplets, tmp_path / "work").published == ()  # 240x180, and not 497x331


def test_triplet_without_its_background_is_named(tmp_path: Path, triplets: Path) -> None:
    (triplets / "desk" / "background" / "002.png").unlink()
    with pytest.raises(InputError, match=r"desk/background lacks the photo 002\.png of its triplet"):
        open_suite(triplets, tmp_path / "work")


def test_triplets_need_a_hold_file(tmp_path: Path, triplets: Path) -> None:
    (triplets / "desk" / "hold=3").unlink()
    with pytest.raises(InputError, match=r"desk has no file hold=N: create an empty file"):
        open_suite(triplets, tmp_path / "work")


# --- truth scenes


@pytest.fixture
def truth_scene(tmp_path: Path) -> Path:
    return write_truth_scene(tmp_path / "truth" / "table")


@pytest.mark.parametrize("up", [0, 1], ids=["the scene itself", "its parent"])
def test_truth_scenes_are_found(tmp_path: Path, truth_scene: Path, up: int) -> None:
    suite = open_suite([truth_scene, truth_scene.parent][up], tmp_path / "work")
    (scene,) = suite.scenes
    assert (scene.name, scene.data, scene.test_every, scene.downscale) == ("table", truth_scene, 3, 1)
    assert scene.has_truth
    assert suite.published == ()


def test_sharp_twins_have_the_same_cameras_and_split(tmp_path: Path, truth_scene: Path) -> None:
    for frame in (truth_scene / "sharp").iterdir():
        Image.new("RGB", (240, 180), (9, 9, 9)).save(frame)
    (scene,) = open_suite(truth_scene, tmp_path / "work").scenes
    assert scene.sharp_data is not None
    photos = open_scene(scene.data, tmp_path / "cache", test_every=3, say=lambda line: None)
    twins = open_scene(scene.sharp_data, tmp_path / "cache", test_every=3, say=lambda line: None)
    assert twins.fingerprint() == photos.fingerprint()
    assert all(round(255 * float(twins.photo(v).mean())) == 9 for v in twins.train_views)
    assert all(
        (twins.photo(a) == photos.photo(b)).all()
        for a, b in zip(twins.test_views, photos.test_views, strict=True)
    )


def test_truth_scene_without_twins_has_no_ceiling(tmp_path: Path, truth_scene: Path) -> None:
    shutil.rmtree(truth_scene / "sharp")
    (scene,) = open_suite(truth_scene, tmp_path / "work").scenes
    assert scene.sharp_data is None


def test_bundled_scene_is_a_suite(tmp_path: Path) -> None:
    (scene,) = open_suite(Path(__file__).parents[1] / "data" / "demo", tmp_path / "work").scenes
    assert (scene.name, scene.test_every, scene.sharp_data) == ("demo", 6, None)


# --- what users get wrong


def refused(folder: Path, tmp_path: Path, message: str, **options) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_suite(folder, tmp_path / "work", **options)
    assert "\n" not in str(caught.value)


def test_wrong_suite_name(tmp_path: Path) -> None:
    refused(tmp_path / "deblur-nerv", tmp_path, "deblur-nerv is not a folder: give one with truth scenes")


def test_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    refused(tmp_path, tmp_path, "holds no scene that cocogs knows")


def test_absent_scenes_are_named(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "s", llff_scene, ["cozy2room", "pool", "tanabata"])
    refused(root, tmp_path, "lacks the scenes factory, wine: download them, or name the `scenes` to run")


def test_unknown_scene_is_refused(tmp_path: Path, truth_scene: Path) -> None:
    refused(truth_scene, tmp_path, "has no scene chair: choose `scenes` among table", scenes=("chair",))


@pytest.mark.parametrize("written", [8, 10])
def test_contradicting_hold_file(tmp_path: Path, llff_scene: Path, written: int) -> None:
    root = lay_out(tmp_path / "s", llff_scene, ["defocuscake"])
    (root / "defocuscake" / f"hold={written}").touch()
    message = f"hold={written} contradicts the protocol of Deblur-NeRF, real defocus, .* rename it hold=9"
    refused(root, tmp_path, message, scenes=("cake",))


def test_scene_without_cameras(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "s", llff_scene, ["fern"])
    (root / "fern" / "poses_bounds.npy").unlink()
    refused(root, tmp_path, r"fern has neither poses_bounds\.npy nor sparse/0/cameras\.bin", scenes=("fern",))


def test_photos_missing_from_a_download(tmp_path: Path) -> None:
    make_colmap(tmp_path / "s" / "fern", 4)
    (tmp_path / "s" / "fern" / "images" / "002.png").unlink()
    refused(tmp_path / "s", tmp_path, r"images lacks 002\.png", scenes=("fern",))


def test_poses_for_more_photos_than_there_are(tmp_path: Path, llff_scene: Path) -> None:
    root = lay_out(tmp_path / "s", llff_scene, ["fern"])
    (root / "fern" / "images" / "002.png").unlink()
    refused(root, tmp_path, "has 12 rows but there are 11 photos", scenes=("fern",))


@pytest.mark.parametrize("gone", ["images/001.png", "refocus/000_f3.png", "sharp/001.png"])
@pytest.mark.parametrize("empty", [True, False])
def test_truth_scene_half_rendered(tmp_path: Path, truth_scene: Path, gone: str, empty: bool) -> None:
    (truth_scene / gone).unlink()
    if empty:
        (truth_scene / gone).touch()
    refused(truth_scene, tmp_path, f"lacks {gone}: render or copy them")


def test_truth_scene_without_its_truth(tmp_path: Path, truth_scene: Path) -> None:
    shutil.copytree(truth_scene, truth_scene.parent / "glass")
    (truth_scene.parent / "glass" / "truth.json").unlink()
    refused(truth_scene.parent, tmp_path, r"glass has images but no truth\.json: make the scene again")
    assert len(open_suite(truth_scene.parent, tmp_path / "work", scenes=("table",)).scenes) == 1


def test_truth_scene_whose_hold_file_contradicts(tmp_path: Path, truth_scene: Path) -> None:
    (truth_scene / "hold=3").touch()
    assert open_suite(truth_scene, tmp_path / "work").scenes[0].test_every == 3
    (truth_scene / "hold=3").rename(truth_scene / "hold=2")
    refused(truth_scene, tmp_path, r"hold=2 contradicts truth\.json, .* rename it hold=3")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("refocus", "view", "absent.png"),
        ("refocus", "name", None),
        ("frames", "w2c", None),
    ],
)
def test_truth_with_an_impossible_entry(
    tmp_path: Path, truth_scene: Path, part: str, key: str, value: str | None
) -> None:
    truth = json.loads((truth_scene / "truth.json").read_text())
    truth[part][0][key] = value
    if value is None:
        del truth[part][0][key]
    (truth_scene / "truth.json").write_text(json.dumps(truth))
    refused(truth_scene, tmp_path, r"truth\.json is not a truth\.json of a rendered scene")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"frames": [{}]}',
        '{"frames": [], "refocus": [], "aperture_diameter": 0}',
    ],
)
def test_broken_truth(tmp_path: Path, truth_scene: Path, text: str) -> None:
    (truth_scene / "truth.json").write_text(text)
    refused(truth_scene, tmp_path, r"truth\.json (cannot be read|is not a truth\.json of a rendered scene)")


def test_split_that_is_no_every_nth(tmp_path: Path, truth_scene: Path) -> None:
    truth = json.loads((truth_scene / "truth.json").read_text())
    truth["frames"][1]["test"] = True
    (truth_scene / "truth.json").write_text(json.dumps(truth))
    refused(truth_scene, tmp_path, "does not keep every N-th view")
