"""`cocogs render --camera`: what a real lens shows, from runs whose photos a lens had distorted."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import FX, HEIGHT, SMALL, WIDTH, tiny_scene

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.camera_file import CameraFile, Distortion, Sensor, write_camera_file
from cocogs.io.photos import read_photo
from cocogs.io.source import Intrinsics
from cocogs.io.undistort import as_pycolmap, from_camera, undistort
from cocogs.render import render
from cocogs.render.distortion import PHOTOS, covering, distorted
from cocogs.render.frames import sized
from cocogs.render.options import RenderOptions
from cocogs.render.refocusing import sharp_depth
from cocogs.run import Run, load_run
from cocogs.train.losses import picture_psnr

K1, K2, P1 = -0.25, 0.05, 0.01
LENS = Intrinsics("OPENCV", WIDTH, HEIGHT, (FX, FX, WIDTH / 2, HEIGHT / 2, K1, K2, P1, 0.0))
FILE = CameraFile(
    Sensor(WIDTH / 10, HEIGHT / 10, WIDTH, HEIGHT),
    focal_length_mm=FX / 10,
    distortion=Distortion(k1=K1, k2=K2, p1=P1),
)
"""The same lens."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("distorted")
    scene = shutil.copytree(tiny_scene(tmp_path_factory.getbasetemp()), root / "scene")
    numbers = " ".join(map(str, LENS.params))
    (scene / "sparse/0/cameras.txt").write_text(f"1 OPENCV {WIDTH} {HEIGHT} {numbers}\n")
    assert main(["train", str(scene), "--out", str(root / "run"), "--preset", "lens", *SMALL]) == 0
    return load_run(root / "run")


def picture(run: Run, out: Path, **options: Any) -> torch.Tensor:
    (path,) = render(run, RenderOptions(out, **{"samples": 0, "view": "view_1.png", **options}))
    return torch.from_numpy(read_photo(path).astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.thorough
def test_the_photos_own_distortion_comes_back(run: Run, tmp_path: Path) -> None:
    """Undistorted as training undistorts photos, the picture is the sharp view that training has."""
    shown = picture(run, tmp_path, camera=PHOTOS)
    assert shown.shape == (3, HEIGHT, WIDTH), "the photo's own size; training's is another"
    camera = run.scene.train_views[0].camera
    assert (camera.width, camera.height) != (WIDTH, HEIGHT)
    flat = torch.from_numpy(undistort(shown.permute(1, 2, 0).numpy(), LENS, from_camera(camera)))
    sharp = run.model.sharp(camera).colors[0].detach()
    same = picture_psnr(flat.permute(2, 0, 1)[:, 2:-2, 2:-2], sharp[:, 2:-2, 2:-2])
    inside = np.s_[:, 2 : HEIGHT - 2, 2 : WIDTH - 2]
    without = picture_psnr(shown[inside], sharp[inside])
    assert same > 33 and same > without + 6, (same, without)


def test_corners_show_the_scene_beyond_trainings_pictures(run: Run, tmp_path: Path) -> None:
    """Each pixel is what its ray meets, also where the undistorted picture has ended."""
    wide = sized(run.model.camera(run.scene.train_views[0]), (WIDTH, HEIGHT))
    matrix = wide.intrinsics.clone()
    matrix[0, 0] = matrix[1, 1] = 8 * FX
    matrix[0, 2], matrix[1, 2] = 8 * WIDTH, 8 * HEIGHT
    wide = replace(wide, intrinsics=matrix, width=16 * WIDTH, height=16 * HEIGHT)
    depths = sharp_depth(run.model.gaussians, wide)
    shown = sharp_depth(run.model.gaussians, covering(LENS, wide))
    shown = distorted(shown, LENS, covering(LENS, wide), "nearest")
    places = np.array([[0.5, 0.5], [WIDTH - 0.5, 0.5], [0.5, HEIGHT - 0.5], [WIDTH / 2, HEIGHT / 2]])
    x, y = (np.asarray(as_pycolmap(LENS).cam_from_img(places)) * 8 * FX + (8 * WIDTH, 8 * HEIGHT)).T
    beyond = 0
    for place, column, row in zip(places, x.astype(int), y.astype(int), strict=True):
        true = depths[row - 4 : row + 5, column - 4 : column + 5].flatten()
        found = shown[int(place[1]), int(place[0])]
        assert found.isinf() == true.isinf().float().mean().gt(0.5) or true.isinf().any()
        if found.isfinite() and true.isfinite().all():
            assert float(found) == pytest.approx(float(true.median()), rel=0.1)
            beyond += 1
    assert beyond >= 2


def test_a_camera_file_of_the_same_lens_shows_the_same(run: Run, tmp_path: Path) -> None:
    write_camera_file(FILE, tmp_path / "camera.json")
    own = picture(run, tmp_path / "a", camera=PHOTOS)
    given = picture(run, tmp_path / "b", camera=str(tmp_path / "camera.json"))
    assert own.shape == given.shape and (own - given).abs().max() <= 1.01 / 255


def test_size_maps_and_paths(run: Run, tmp_path: Path) -> None:
    """Maps lie over the picture; a path takes the lens that all photos share."""
    options = {"camera": PHOTOS, "size": "96", "focus": 4.0, "depth": True, "coc": True}
    assert picture(run, tmp_path / "a", **options).shape == (3, 2 * HEIGHT, 2 * WIDTH)
    for part in ("depth", "coc"):
        assert read_photo(tmp_path / f"a/view_1_{part}.png").shape[:2] == (2 * HEIGHT, 2 * WIDTH)
    paths = render(run, RenderOptions(tmp_path / "b", path="photos", frames=2, camera=PHOTOS))
    assert [read_photo(path).shape for path in paths] == [(HEIGHT, WIDTH, 3)] * 2


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"camera": "gone.json"}, r"gone\.json does not exist"),
        ({"focal_length_mm": None}, {}, "lacks focal_length_mm"),
        ({}, {"size": "48x48"}, "another shape than the 48x36 px of `camera`"),
        ({"distortion": Distortion(k1=-3.0)}, {}, "reaches no ray for some pixels of 48x36"),
        ({"distortion": Distortion(k1=-0.2)}, {"size": "16384"}, "too wide an angle for a pinhole"),
        ({"sensor": Sensor(4.8, 3.6, 48000, 36000)}, {}, "has 48000x36000 px, too many to draw"),
        ({}, {"views": "train", "view": None, "defocused": True}, "leave out `path`, `size`, `camera`"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    run: Run, tmp_path: Path, change: dict, options: dict, message: str
) -> None:
    write_camera_file(replace(FILE, **change), tmp_path / "camera.json")
    with pytest.raises(InputError, match=message):
        picture(run, tmp_path / "out", **{"camera": str(tmp_path / "camera.json"), **options})
    assert not (tmp_path / "out").exists()


def test_a_path_among_several_lenses_needs_a_choice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    other = replace(run.scene.views[1].original, lens=replace(LENS, params=(*LENS.params[:4], 0.1, 0, 0, 0)))
    monkeypatch.setattr(run.scene, "views", [run.scene.views[0], replace(run.scene.views[1], original=other)])
    with pytest.raises(InputError, match="several lenses, so `camera=photos` does not tell that of a path"):
        picture(run, tmp_path / "out", view=None, path="spiral", camera=PHOTOS)
