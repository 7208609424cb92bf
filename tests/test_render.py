"""Pictures and films of a run: what is drawn, into which files, and the maps beside them."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from tiny_run import FX, HEIGHT, VIEWS, WIDTH, tiny_camera, tiny_run

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io import pictures
from cocogs.io.camera_path import CameraPath, LensSetting, PathFrame, path_to_json
from cocogs.io.lock import alone_in
from cocogs.io.photos import read_photo
from cocogs.io.pictures import picture_names, write_png
from cocogs.optics.lens import Lens, PhotoLens, coc_diameter
from cocogs.optics.maps import colored_coc, colored_depth
from cocogs.render import files, render
from cocogs.render.files import COC_STEP, COC_ZERO, RECORD
from cocogs.render.frames import plan, sized
from cocogs.render.options import RenderOptions
from cocogs.render.refocusing import depth_at, refocus, sharp_depth
from cocogs.run import Run, load_run
from cocogs.scene import LensFacts
from cocogs.srgb import to_linear

TEST_NAMES = ["view_0.png", "view_4.png"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


@pytest.fixture(scope="module")
def pinhole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255


def rendered(run: Run, out: Path, **options: Any) -> list[Path]:
    """With few samples, to be quick."""
    return render(run, RenderOptions(out, **{"samples": 4, **options}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- which pictures


@pytest.mark.thorough
def test_sharp_test_views(run: Run, tmp_path: Path) -> None:
    paths = rendered(run, tmp_path / "new/folder")
    assert [path.name for path in paths] == names(tmp_path / "new/folder") == TEST_NAMES
    expected = run.model.sharp(run.scene.test_views[0].camera).colors[0].detach().clamp(0, 1)
    assert (pixels(paths[0]) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_one_view(run: Run, tmp_path: Path) -> None:
    assert [path.name for path in rendered(run, tmp_path, view="view_3.png")] == ["view_3.png"]


def test_defocused_is_what_training_predicts(run: Run, tmp_path: Path) -> None:
    paths = rendered(run, tmp_path, views="train", defocused=True)
    assert len(paths) == len(run.scene.train_views) == VIEWS - len(TEST_NAMES)
    expected = run.model.defocused(run.scene.train_views[3].camera, 3).detach().clamp(0, 1)
    assert (pixels(paths[3]) - expected).abs().max() <= 0.5 / 255 + 1e-6
    (single,) = rendered(run, tmp_path / "single", view="view_5.png", defocused=True)
    assert single.read_bytes() == paths[3].read_bytes()


def test_refocusing_with_a_closed_lens_is_sharp(run: Run, tmp_path: Path) -> None:
    sharp = rendered(run, tmp_path / "sharp", views="all")
    closed = rendered(run, tmp_path / "closed", views="all", focus=4.0, aperture="0x")
    opened = rendered(run, tmp_path / "opened", views="all", focus=4.0, aperture="3")
    assert len(sharp) == VIEWS
    for a, b, c in zip(sharp, closed, opened, strict=True):
        assert a.read_bytes() == b.read_bytes() != c.read_bytes()


def test_a_pinhole_shows_its_photos_sharp(pinhole: Run, tmp_path: Path) -> None:
    sharp = rendered(pinhole, tmp_path / "sharp", views="train")
    defocused = rendered(pinhole, tmp_path / "defocused", views="train", defocused=True)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(sharp, defocused, strict=True))
    with pytest.raises(InputError, match="has no lens to refocus"):
        rendered(pinhole, tmp_path, focus=3.0)


# --- which lens


def lenses(run: Run, **options: Any) -> list[Lens | None]:
    return [shot.lens for shot in plan(run, RenderOptions(Path("out"), **options))[0]]


def lens(run: Run, **options: Any) -> Lens:
    first = lenses(run, **options)[0]
    assert first is not None
    return first


def test_aperture_is_the_learned_one_by_default(run: Run) -> None:
    learned = run.lens().aperture_diameter
    assert lens(run, focus=4.0) == Lens(4.0, learned)
    assert lens(run, focus=math.inf, aperture="1.5x", blades=6, blade_rotation=15.0) == Lens(
        math.inf, 1.5 * learned, 6, 15.0
    )
    assert lenses(run) == [None, None]


def test_picture_is_drawn_through_the_lens(run: Run, tmp_path: Path) -> None:
    (path, _) = rendered(run, tmp_path, focus=3.0, aperture="2x", samples=9, blades=5)
    chosen = Lens(3.0, 2 * run.lens().aperture_diameter, 5)
    expected = refocus(run.model.gaussians, run.scene.test_views[0].camera, chosen, 9).clamp(0, 1)
    assert (pixels(path) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_f_number_is_relative_to_the_photos(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="their EXIF has none"):
        lenses(run, focus=4.0, f_number=2.8)
    views = [replace(v, lens=LensFacts(f_number=4.0)) for v in run.scene.views]
    monkeypatch.setattr(run.scene, "views", views)
    assert lens(run, focus=4.0, f_number=2.0).aperture_diameter == pytest.approx(
        2 * run.lens().aperture_diameter
    )


def test_a_focus_in_metres(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(run.learned), "metres_per_unit", 0.25)
    assert lens(run, focus="1.5m") == lens(run, focus=6.0) == lens(run, focus="6")


@pytest.mark.parametrize(("place", "x", "y"), [("20,15", 20.5, 15.5), ("50%, 50%", 24.0, 18.0)])
def test_focus_at_a_pixel_of_a_photo(run: Run, place: str, x: float, y: float) -> None:
    view = run.scene.views[2]
    expected = depth_at(run.model.gaussians, view.camera, x, y)
    assert lens(run, focus_at=place, view=view.name).focus_distance == pytest.approx(expected)


def test_focus_pull_moves_evenly_in_vergence(run: Run) -> None:
    moving = [shown for shown in lenses(run, focus_pull="2:inf", frames=5) if shown]
    assert [m.focus_distance for m in moving] == pytest.approx([2, 8 / 3, 4, 8, math.inf])
    assert {m.aperture_diameter for m in moving} == {run.lens().aperture_diameter}


def test_aperture_sweep(run: Run) -> None:
    moving = [shown for shown in lenses(run, focus=3.0, aperture_sweep="0x:2x", frames=3) if shown]
    assert [m.aperture_diameter / run.lens().aperture_diameter for m in moving] == pytest.approx([0, 1, 2])


# --- which cameras


@pytest.mark.parametrize("kind", ["photos", "spiral", "orbit"])
def test_paths_name_their_frames(run: Run, tmp_path: Path, kind: str) -> None:
    paths = rendered(run, tmp_path, path=kind, frames=3, focus_pull="3:5")
    assert [path.name for path in paths] == [f"frame_000{i}.png" for i in range(3)]
    assert len({path.read_bytes() for path in paths}) == 3


def test_a_path_from_a_file_brings_its_lens(run: Run, tmp_path: Path) -> None:
    camera = run.scene.views[1].camera
    frames = [PathFrame(camera, LensSetting(3.0, 0.2)), PathFrame(camera)]
    (tmp_path / "path.json").write_text(path_to_json(CameraPath(12.0, frames)))
    own, fps = plan(run, RenderOptions(Path("out"), path=str(tmp_path / "path.json"), blades=5))
    assert fps == 12.0
    assert [shot.lens for shot in own] == [Lens(3.0, 0.2, 5), None]
    assert torch.equal(own[0].camera.cam_from_world, camera.cam_from_world)
    set_by_hand = lenses(run, path=str(tmp_path / "path.json"), focus=4.0)
    assert set_by_hand == [Lens(4.0, run.lens().aperture_diameter)] * 2


def test_size_keeps_the_angle_across() -> None:
    camera = tiny_camera(0)
    double = sized(camera, (2 * WIDTH, None))
    assert (double.width, double.height) == (2 * WIDTH, 2 * HEIGHT)
    assert (double.fx, double.fy, double.cx, double.cy) == (2 * FX, 2 * FX, WIDTH, HEIGHT)
    flat = sized(camera, (WIDTH, HEIGHT // 2))
    assert (flat.fx, flat.fy, flat.cx, flat.cy) == (FX, FX, WIDTH / 2, HEIGHT / 4)


def test_pictures_have_the_size_asked_for(run: Run, tmp_path: Path) -> None:
    (path,) = rendered(run, tmp_path, view="view_0.png", size="60x20", focus=3.0)
    assert read_photo(path).shape == (20, 60, 3)


# --- which files


def test_sixteen_bits(run: Run, tmp_path: Path) -> None:
    (path,) = rendered(run, tmp_path, view="view_0.png", format="png16")
    deep = torch.from_numpy(read_photo(path).astype(np.float64)).permute(2, 0, 1) / 65535
    expected = run.model.sharp(run.scene.views[0].camera).colors[0].detach().clamp(0, 1)
    assert (deep - expected).abs().max() < 1e-5


def test_exr_is_linear_light(run: Run, tmp_path: Path) -> None:
    OpenEXR = pytest.importorskip("OpenEXR")
    (path,) = rendered(run, tmp_path, view="view_1.png", format="exr", focus=3.0, depth=True, coc=True)
    camera, chosen = run.scene.views[1].camera, Lens(3.0, run.lens().aperture_diameter)
    with OpenEXR.File(str(path)) as file:
        light = torch.from_numpy(file.channels()["RGB"].pixels).float().permute(2, 0, 1)
    expected = to_linear(refocus(run.model.gaussians, camera, chosen, 4))
    torch.testing.assert_close(light, expected, atol=1e-3, rtol=1e-3)
    depths = sharp_depth(run.model.gaussians, camera)
    with OpenEXR.File(str(tmp_path / "view_1_depth.exr")) as file:
        torch.testing.assert_close(torch.from_numpy(file.channels()["Z"].pixels), depths)
    with OpenEXR.File(str(tmp_path / "view_1_coc.exr")) as file:
        written = torch.from_numpy(file.channels()["Y"].pixels)
    expected = torch.where(depths.isfinite(), chosen.of(camera).coc(depths), 0)
    torch.testing.assert_close(written, expected)


def test_maps_as_sixteen_bit_png(run: Run, tmp_path: Path) -> None:
    rendered(run, tmp_path, view="view_1.png", focus=3.0, depth=True, coc=True)
    assert names(tmp_path) == [
        "depth.json",
        *(f"view_1{end}.png" for end in ("", "_coc", "_coc_color", "_depth", "_depth_color")),
    ]
    camera = run.scene.views[1].camera
    depths = sharp_depth(run.model.gaussians, camera)
    there = depths.isfinite()
    step = json.loads((tmp_path / "depth.json").read_text())["scene units per step"]
    written = torch.from_numpy(np.array(Image.open(tmp_path / "view_1_depth.png")).astype(np.float32))
    torch.testing.assert_close(written[there] * step, depths[there], atol=step, rtol=0)
    assert (written[~there] == 0).all()
    coc = Lens(3.0, run.lens().aperture_diameter).of(camera).coc(depths)
    written = torch.from_numpy(np.array(Image.open(tmp_path / "view_1_coc.png")).astype(np.float32))
    torch.testing.assert_close((written[there] - COC_ZERO) * COC_STEP, coc[there], atol=COC_STEP, rtol=0)


def test_mp4(run: Run, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    film = tmp_path / "film.mp4"
    assert rendered(run, film, focus_pull="3:5", frames=6, fps=12.0, size="51x37") == [film]
    assert names(tmp_path) == ["film.mp4"]
    command = [ffmpeg.get_ffmpeg_exe(), "-i", film, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True)
    assert re.search(rb"50x36.* 12 fps", decoded.stderr)
    shown = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 36, 50, 3)
    assert len(shown) == 6
    (still,) = rendered(run, tmp_path, view="view_0.png", focus=3.0, size="51x37")
    difference = shown[0].astype(float) - read_photo(still)[:36, :50]
    assert abs(difference).mean() < 6


def test_ffmpeg_that_fails(run: Run, tmp_path: Path) -> None:
    """What it says is passed on, and no broken film is left."""
    pytest.importorskip("imageio_ffmpeg")
    still = rendered(run, tmp_path, view="view_0.png")
    with pytest.raises(InputError, match=r"film\.mp4 cannot be written \(ffmpeg: "):
        pictures.write_film(still, -1.0, tmp_path / "film.mp4")
    assert names(tmp_path) == ["view_0.png"]


def test_gif(run: Run, tmp_path: Path) -> None:
    film = tmp_path / "film.gif"
    rendered(run, film, path="spiral", frames=4, fps=10.0)
    with Image.open(film) as image:
        assert (image.n_frames, image.size) == (4, (WIDTH, HEIGHT))  # type: ignore[attr-defined]
        assert image.info["duration"] == 100
    assert names(tmp_path) == ["film.gif"]


def test_an_interrupted_sequence_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rendered(run, tmp_path / "whole", focus_pull="3:5", frames=4)
    drawn: list[str] = []
    draw = files.draw

    def counted(*args: Any) -> torch.Tensor:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(args[1].name)
        return draw(*args)

    monkeypatch.setattr(files, "draw", counted)
    with pytest.raises(KeyboardInterrupt):
        rendered(run, tmp_path / "broken", focus_pull="3:5", frames=4)
    assert names(tmp_path / "broken") == [RECORD, "frame_0000.png", "frame_0001.png"]
    drawn.clear()
    monkeypatch.setattr(files, "draw", lambda *args: drawn.append(args[1].name) or draw(*args))
    again = rendered(run, tmp_path / "broken", focus_pull="3:5", frames=4)
    assert drawn == ["frame_0002", "frame_0003"]
    assert names(tmp_path / "broken") == [path.name for path in again]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]


def test_another_request_keeps_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered(run, tmp_path, focus_pull="3:5", frames=2)
    first = (tmp_path / "frame_0001.png").read_bytes()
    (tmp_path / RECORD).write_text(json.dumps({"request": "of another lens"}))
    rendered(run, tmp_path, focus_pull="3:4", frames=2)
    assert (tmp_path / "frame_0001.png").read_bytes() != first


def test_an_interrupted_request_keeps_nothing_of_the_one_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files have the right names, and another focus."""
    rendered(run, tmp_path / "whole", focus_pull="3:4", frames=3)
    rendered(run, tmp_path / "out", focus_pull="3:5", frames=3)
    true_draw, drawn = files.draw, 0

    def draw(*arguments: Any) -> torch.Tensor:
        nonlocal drawn
        drawn += 1
        if drawn == 2:
            raise KeyboardInterrupt
        return true_draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(files, "draw", draw)
        with pytest.raises(KeyboardInterrupt):
            rendered(run, tmp_path / "out", focus_pull="3:4", frames=3)
    rendered(run, tmp_path / "out", focus_pull="3:4", frames=3)
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_film_leaves_what_is_not_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "film.gif.frames").mkdir()
    (tmp_path / "film.gif.frames" / "notes.txt").write_text("mine")
    rendered(run, tmp_path / "film.gif", focus_pull="3:5", frames=2)
    assert names(tmp_path / "film.gif.frames") == ["notes.txt"]


def test_a_gif_plays_as_fast_as_asked(run: Run, tmp_path: Path) -> None:
    rendered(run, tmp_path / "film.gif", focus_pull="3:5", frames=6, fps=30.0)
    with Image.open(tmp_path / "film.gif") as film:
        # Frames that are alike are one.
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert sum(durations) == 200 and min(durations) >= 30 and len(durations) > 1
    with pytest.raises(InputError, match=r"`fps` of a gif must be from 0\.01 to 50, not 100"):
        rendered(run, tmp_path / "fast.gif", focus_pull="3:5", frames=2, fps=100.0)


def test_a_path_of_one_frame_takes_the_start_of_a_pull(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    path.write_text(path_to_json(CameraPath(24.0, [PathFrame(run.scene.views[1].camera)])))
    rendered(run, tmp_path / "out", path=str(path), focus_pull="3:5")
    assert names(tmp_path / "out") == ["frame_0000.png"]


def test_photos_in_subfolders_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    """Where --out is a folder above theirs."""
    photo = tmp_path / "images" / "left" / "view_1.png"
    photo.parent.mkdir(parents=True)
    shutil.copy(run.scene.views[1].original.path, photo)
    view = replace(run.scene.views[1], name="left/view_1.png", image_path=photo)
    view = replace(view, original=replace(view.original, path=photo))
    inner = replace(run, scene=replace(run.scene, views=[run.scene.views[0], view]))
    with pytest.raises(InputError, match="would overwrite photos"):
        rendered(inner, tmp_path / "images", views="train")


def test_an_interrupted_film_keeps_its_frames(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.gif"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_write_gif", full)
        with pytest.raises(InputError, match=r"film\.gif cannot be written \(No space"):
            rendered(run, film, focus_pull="3:5", frames=3)
    assert names(tmp_path) == ["film.gif.frames"]
    with monkeypatch.context() as patch:
        patch.setattr(files, "draw", None)
        rendered(run, film, focus_pull="3:5", frames=3)
    assert names(tmp_path) == ["film.gif"]


@pytest.mark.parametrize("fails", [False, True])
def test_memory_is_given_back_after_a_film(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    released: list[int] = []
    monkeypatch.setattr(files, "release_memory", lambda: released.append(1))
    if fails:
        monkeypatch.setattr(files, "draw", None)
        with pytest.raises(TypeError):
            rendered(run, tmp_path / "film.gif", focus_pull="3:5", frames=3)
    else:
        rendered(run, tmp_path / "film.gif", focus_pull="3:5", frames=3)
    assert released == [1]


# --- what cannot be


@pytest.mark.parametrize(("out", "folder"), [("pictures", "pictures"), ("film.gif", "film.gif.frames")])
def test_two_renders_into_one_place_do_not_mix(run: Run, tmp_path: Path, out: str, folder: str) -> None:
    with alone_in(tmp_path / folder), pytest.raises(InputError, match="Another cocogs is at work in"):
        rendered(run, tmp_path / out, focus_pull="3:5", frames=2, format="gif" if "." in out else "png")
    assert names(tmp_path) == []
    assert len(rendered(run, tmp_path / out, focus_pull="3:5", frames=2)) > 0
    assert "film.gif.frames" not in names(tmp_path)


def test_a_spiral_where_the_first_photo_sees_no_point(run: Run) -> None:
    first = run.scene.views[0]
    away = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])).double() @ first.camera.cam_from_world
    views = [replace(first, camera=replace(first.camera, cam_from_world=away)), *run.scene.views[1:]]
    turned = replace(run, scene=replace(run.scene, views=views))
    frames, _ = plan(turned, RenderOptions(Path("out"), path="spiral", frames=4))
    assert all(bool(frame.camera.cam_from_world.isfinite().all()) for frame in frames)


def test_a_path_of_another_scene(run: Run, tmp_path: Path) -> None:
    """Its pictures would be black."""
    camera, path = run.scene.views[1].camera, tmp_path / "path.json"
    pose = camera.cam_from_world.clone()
    pose[2, 3] += 1e5
    frames = [PathFrame(camera), PathFrame(replace(camera, cam_from_world=pose))]
    path.write_text(path_to_json(CameraPath(24.0, frames)))
    with pytest.raises(
        InputError, match=r"path\.json, frame 1: the camera is more than 1000 times as far away"
    ):
        rendered(run, tmp_path / "out", path=str(path))
    path.write_text(path_to_json(CameraPath(24.0, [PathFrame(camera, LensSetting(3.0, 1e30))])))
    with pytest.raises(InputError, match=r"An aperture 1e.30 scene units wide is out of range"):
        rendered(run, tmp_path / "out", path=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "tests"}, "`views` must be one of test, train, all, not tests"),
        ({"views": "test", "defocused": True}, "Only training photos have a learned focus"),
        ({"view": "view_0.png", "defocused": True}, "Only training photos have a learned focus"),
        ({"views": "train", "defocused": True, "focus": 2.0}, "leave out `focus`"),
        ({"views": "train", "defocused": True, "size": "60"}, "leave out `path`, `size`"),
        ({"views": "train", "defocused": True, "aperture": "2x"}, "give `focus`"),
        ({"views": "train", "aperture": "2"}, "`aperture` changes a refocused picture"),
        ({"f_number": 2.0}, "`f_number` changes a refocused picture"),
        ({"aperture_sweep": "0:1"}, "`aperture_sweep` changes a refocused picture"),
        ({"focus": 0.0}, "`focus` must be a number above 0, not 0"),
        ({"focus": -1.0}, "`focus` must be a number above 0, not -1"),
        (
            {"focus": "1.2m"},
            "cannot be known: the photos' EXIF lacks.*; give `focus` in scene units",
        ),
        ({"focus": "near"}, "`focus` must be a distance in scene units such as 3.4, in metres .* not near"),
        ({"focus": "-1m"}, "`focus` must be a number above 0, not -1"),
        ({"focus": math.nan}, "`focus` must be a number above 0, not nan"),
        ({"focus": 1e-30}, "A focus distance of 1e-30 is out of range: what lies nearer than"),
        ({"focus": 4.0, "aperture": "1e30x"}, r"An aperture .* scene units wide is out of range"),
        ({"focus": 4.0, "f_number": 1e-30}, "their EXIF has none"),
        ({"samples": 100_000_000_000}, "`samples` must be a whole number from 0 to 4096"),
        ({"focus": 4.0, "blades": 10**20}, "`blades` must be a whole number from 0 to 100"),
        ({"focus": 4.0, "highlights": 1e30}, "`highlights` must be a finite number from 1 to 1000"),
        ({"size": "9" * 5000}, r"`size` must be a width, .* not 9{40}\.$"),
        ({"size": "20000"}, "up to 16384 px, not 20000"),
        ({"view": ""}, "There is no photo ''"),
        ({"views": ""}, "`views` must be one of test, train, all, not ;"),
        ({"focus": 2.0, "focus_pull": "1:2"}, "exclude each other"),
        ({"focus": 2.0, "aperture": "-1"}, "`aperture` must be a factor of 0 .* not -1"),
        ({"focus": 2.0, "aperture": "wide"}, "`aperture` must be a factor of 0 .* not wide"),
        ({"focus": 2.0, "aperture": "1x", "f_number": 2.0}, "exclude each other"),
        ({"focus": 2.0, "f_number": 0.0}, "`f_number` must be a finite number above 0, such as 2.8, not 0"),
        ({"focus": 2.0, "f_number": 2.0}, "their EXIF has none"),
        ({"focus": 2.0, "blades": 2}, "at least 3 blades"),
        ({"focus": 2.0, "samples": -1}, "`samples` must be a whole number from 0 to 4096, not -1"),
        ({"focus_pull": "1"}, "`focus_pull` must be two numbers, such as 1.5:4, not 1"),
        ({"focus_pull": "0:2"}, "`focus_pull` must be two distances above 0, not 0:2"),
        (
            {"focus": 2.0, "aperture_sweep": "a:b"},
            "`aperture_sweep` must be two numbers, such as 1.5:4, not a:b",
        ),
        (
            {"focus": 2.0, "aperture_sweep": "0:-1"},
            "`aperture_sweep` must be two factors of 0 or more, not 0:-1",
        ),
        ({"focus_at": "3,4"}, "name the photo with `view`"),
        ({"focus_at": "3;4", "view": "view_1.png"}, "`focus_at` must be X,Y in px, .* not 3;4"),
        ({"focus_at": "48,4", "view": "view_1.png"}, r"lies outside view_1\.png, which has 48x36 px"),
        ({"focus_at": "-3,4", "view": "view_1.png"}, "lies outside"),
        ({"view": "view_11.png"}, "no photo 'view_11.png' in .*did you mean view_1.png"),
        ({"view": "001.jpg"}, r"did you mean view_1\.png, \S+ or \S+\?"),
        ({"view": "view_1.png", "views": "all"}, "give one of the two"),
        ({"path": "zoom"}, "`path` must be photos, spiral, orbit, .* not zoom"),
        ({"path": "orbit", "view": "view_1.png"}, "leave out `view`"),
        ({"path": "orbit", "frames": 1}, "`frames` must be a whole number from 2 to 100000, not 1"),
        ({"path": "gone.json"}, r"gone\.json does not exist"),
        ({"frames": 5}, "`frames` counts the pictures of"),
        (
            {"focus_pull": "1:2", "fps": 0.0},
            "`fps` must be a finite number above 0 and up to 1000, such as 24, not 0",
        ),
        ({"size": "0x4"}, "`size` must be a width, .* not 0x4"),
        ({"size": "big"}, "`size` must be a width, .* not big"),
        ({"format": "jpg"}, "`format` must be one of png, png16, exr, mp4, gif, not jpg"),
        ({"format": "mp4"}, r"does not end in \.mp4"),
        ({"coc": True}, "give `focus` with it"),
        ({"focus": 2.0, "samples": 0, "blades": 6}, "`blades` needs lens samples"),
        ({"focus": 2.0, "samples": 0, "highlights": 4.0}, "`highlights` needs lens samples"),
        ({"blades": 6}, "`blades` changes a refocused picture"),
        (
            {"views": "train", "defocused": True, "highlights": 2.0},
            "`highlights` changes a refocused picture",
        ),
        ({"focus": 2.0, "blade_rotation": 30.0}, "`blade_rotation` turns the blades: give `blades`"),
        ({"path": "orbit", "fps": 12.0}, "`fps` is the speed of a video"),
        ({"views": "all", "focus_pull": "1:2"}, "film one view: name it with `view`"),
        ({"focus": 2.0, "highlights": 0.5}, "`highlights` must be a finite number from 1 to 1000, not 0.5"),
    ],
)
def test_options_that_do_not_fit(run: Run, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rendered(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_film_of_pictures_of_several_sizes_cannot_be(run: Run, tmp_path: Path) -> None:
    """A path by hand; --size makes them alike."""
    camera = run.scene.views[1].camera
    frames = [PathFrame(camera), PathFrame(camera.resized(WIDTH // 2, HEIGHT // 2))]
    (tmp_path / "path.json").write_text(path_to_json(CameraPath(12.0, frames)))
    with pytest.raises(InputError, match=r"one size; those of .*path\.json differ: give `size"):
        rendered(run, tmp_path / "film.gif", path=str(tmp_path / "path.json"))
    rendered(run, tmp_path / "film.gif", path=str(tmp_path / "path.json"), size="40x30")
    assert names(tmp_path) == ["film.gif", "path.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "A video needs `path`"),
        ({"focus_pull": "3:5", "depth": True}, "go with single pictures"),
        ({"focus_pull": "3:5", "format": "png"}, "make `out` and `format` agree"),
    ],
)
def test_films_that_cannot_be(run: Run, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rendered(run, tmp_path / "film.gif", **options)


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("film.mp4", "imageio_ffmpeg", "pip install imageio-ffmpeg"),
        ("folder", "OpenEXR", "pip install OpenEXR"),
    ],
)
def test_missing_packages(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("PATH", "")
    kind = "exr" if package == "OpenEXR" else None
    with pytest.raises(InputError, match=message):
        rendered(run, tmp_path / name, focus_pull="3:5", format=kind)
    assert names(tmp_path) == []


def test_advice_on_where_to_focus_helps(run: Run) -> None:
    """Given back as it stands, it names a place with something."""
    view = run.scene.views[1]
    empty = sharp_depth(run.model.gaussians, view.camera).isinf().nonzero()
    row, column = empty[len(empty) // 3].tolist()
    with pytest.raises(InputError, match="nothing at") as advice:
        lenses(run, focus_at=f"{column},{row}", view=view.name)
    place = re.search(r"[\d.]+%,[\d.]+%", str(advice.value))
    assert place is not None
    assert lens(run, focus_at=place[0], view=view.name).focus_distance < math.inf


def test_focus_at_empty_background(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        before = run.model.gaussians.opacities.clone()
        run.model.gaussians.opacities -= 20
    try:
        with pytest.raises(InputError, match=r"nothing at \(5\.5, 5\.5\): .*choose another view"):
            lenses(run, focus_at="5,5", view="view_1.png")
    finally:
        with torch.no_grad():
            run.model.gaussians.opacities.copy_(before)


def test_a_focus_before_the_whole_scene_is_told(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for focus in (0.1, run.lens().focus_distance):
        rendered(run, tmp_path / f"{focus}", view="view_1.png", focus=focus, samples=0)
        told = "Focus 0.1 lies in front of everything in the scene; the photos are focused at "
        assert (told in capsys.readouterr().out) == (focus == 0.1)


def test_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file: let `out` be a folder"):
        rendered(run, tmp_path / "file")
    with pytest.raises(InputError, match="file/inner cannot be written"):
        rendered(run, tmp_path / "file/inner")
    with pytest.raises(InputError, match=r"sharp\.png names a file: let `out` be a folder for pictures"):
        rendered(run, tmp_path / "sharp.png")


def test_the_command_passes_everything_on(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "render",
        str(run.folder),
        "--out",
        str(tmp_path / "a"),
        "--view",
        "view_1.png",
        "--size",
        "40",
    ]
    assert (
        main([*command, "--focus-at", "50%,50%", "--aperture", "2x", "--samples", "2", "--blades", "5"]) == 0
    )
    assert capsys.readouterr().out.endswith(f"1 picture in {tmp_path / 'a'}\n")
    assert read_photo(tmp_path / "a/view_1.png").shape == (30, 40, 3)
    assert main([*command, "--focus", "inf", "--f-number", "2"]) == 2
    assert "cocogs: error: --f-number needs the photos" in capsys.readouterr().err


def test_run_without_its_photos(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    config = (tmp_path / "run/config.json").read_text()
    (tmp_path / "run/config.json").write_text(config.replace(str(run.scene.source), str(tmp_path / "gone")))
    with pytest.raises(InputError, match=r"gone, which .* is gone: put it back"):
        load_run(tmp_path / "run")


def test_picture_names() -> None:
    assert picture_names(["a.jpg", "left/a.jpg", "b.c.tiff"]) == ["a.png", "left/a.png", "b.c.png"]
    assert picture_names(["a.jpg", "a.png", "b.png"]) == ["a.jpg.png", "a.png.png", "b.png"]
    assert picture_names(["a.jpg", "a.png", "a.jpg.png"]) == ["a.jpg.png", "a.png.png", "a.jpg.png.png"]
    assert picture_names(["../../a.jpg", "/etc/b.jpg"]) == ["a.png", "etc/b.png"]


def test_png_is_clamped_and_rounded(tmp_path: Path) -> None:
    write_png(torch.tensor([-1.0, 0.5, 2.0]).expand(3, 1, 3), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (0, 0, 0)
    assert Image.open(tmp_path / "a.png").getpixel((1, 0)) == (128, 128, 128)
    assert Image.open(tmp_path / "a.png").getpixel((2, 0)) == (255, 255, 255)


# --- maps


def test_coc_of_a_photos_lens_is_that_of_the_formula() -> None:
    lens = PhotoLens(torch.tensor(4.0), torch.tensor(20.0))
    depths = torch.linspace(2, 9, HEIGHT * WIDTH).view(HEIGHT, WIDTH)
    assert torch.equal(lens.coc(depths), coc_diameter(depths, lens.focus_distance, lens.K))
    assert lens.coc(depths)[0, 0] > 0 > lens.coc(depths)[-1, -1]
    assert float(lens.coc(torch.tensor(math.inf))) == -5


def test_colors_of_the_coc_map() -> None:
    """White in focus; red and blue tell near from far; black where nothing is."""
    coc, alphas = torch.tensor([[0.0, 50.0, -50.0, 50.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    focused, near, far, nothing = colored_coc(coc, alphas)[:, 0].T
    assert focused.tolist() == [1, 1, 1]
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert not nothing.any()


def test_colors_of_the_depth_map() -> None:
    depths = torch.cat([torch.linspace(1, 5, 100), torch.tensor([math.inf])])[None]
    near, far, nothing = colored_depth(depths)[:, 0, [0, 99, 100]].T
    assert near[0] > near[2] and far[2] > far[0] and not nothing.any()
    assert not colored_depth(torch.full((2, 2), math.inf)).any()
