"""Pictures of a run, and the map of the circles of confusion."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import FX, HEIGHT, VIEWS, WIDTH, tiny_camera, tiny_run

from cocogs.coc.expand import PhotoLens
from cocogs.coc.lens import coc_diameter
from cocogs.errors import InputError
from cocogs.render import coc_map, colored_coc, picture_names, render_views, write_png
from cocogs.run import Run, load_run

TEST_NAMES = ["view_0.png", "view_4.png"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


@pytest.fixture(scope="module")
def pinhole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255


def test_sharp_test_views(run: Run, tmp_path: Path) -> None:
    paths = render_views(run, "test", tmp_path / "new/folder")
    assert [path.name for path in paths] == TEST_NAMES
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == TEST_NAMES
    expected = run.model.sharp(run.scene.test_views[0].camera).colors[0].detach().clamp(0, 1)
    assert (pixels(paths[0]) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_defocused_is_what_training_predicts(run: Run, tmp_path: Path) -> None:
    paths = render_views(run, "train", tmp_path, defocused=True)
    assert len(paths) == len(run.scene.train_views) == VIEWS - len(TEST_NAMES)
    expected = run.model.defocused(run.scene.train_views[3].camera, 3).detach().clamp(0, 1)
    assert (pixels(paths[3]) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_refocusing_with_a_closed_lens_is_sharp(run: Run, tmp_path: Path) -> None:
    sharp = render_views(run, "all", tmp_path / "sharp")
    closed = render_views(run, "all", tmp_path / "closed", focus=4.0, aperture_factor=0.0)
    opened = render_views(run, "all", tmp_path / "opened", focus=4.0, aperture_factor=3.0)
    assert len(sharp) == VIEWS
    for a, b, c in zip(sharp, closed, opened, strict=True):
        assert a.read_bytes() == b.read_bytes() != c.read_bytes()


def test_focus_at_infinity_draws(run: Run, tmp_path: Path) -> None:
    paths = render_views(run, "test", tmp_path, focus=float("inf"))
    assert pixels(paths[0]).max() > 0


def test_aperture_is_one_by_default(run: Run, tmp_path: Path) -> None:
    plain = render_views(run, "test", tmp_path / "plain", focus=4.0)
    factor = render_views(run, "test", tmp_path / "factor", focus=4.0, aperture_factor=1.0)
    assert plain[0].read_bytes() == factor[0].read_bytes()


def test_a_pinhole_shows_its_photos_sharp(pinhole: Run, tmp_path: Path) -> None:
    sharp = render_views(pinhole, "train", tmp_path / "sharp")
    defocused = render_views(pinhole, "train", tmp_path / "defocused", defocused=True)
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(sharp, defocused, strict=True))
    with pytest.raises(InputError, match="has no lens to refocus"):
        render_views(pinhole, "test", tmp_path, focus=3.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "tests"}, "no views named 'tests'"),
        ({"views": "test", "defocused": True}, "Only training photos have a learned focus"),
        ({"views": "all", "defocused": True}, "Only training photos have a learned focus"),
        ({"views": "train", "defocused": True, "focus": 2.0}, "leave out --focus"),
        ({"views": "train", "aperture_factor": 2.0}, "give --focus with it"),
        ({"views": "train", "focus": 0.0}, "--focus 0 is not in front"),
        ({"views": "train", "focus": float("nan")}, "--focus nan is not in front"),
        ({"views": "train", "focus": 2.0, "aperture_factor": -1.0}, "--aperture -1 is negative"),
    ],
)
def test_options_that_do_not_fit(run: Run, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_views(run, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/view_0\.png cannot be written"):
        render_views(run, "test", tmp_path / "file")


def test_run_without_its_photos(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    config = (tmp_path / "run/config.json").read_text()
    (tmp_path / "run/config.json").write_text(config.replace(str(run.scene.source), str(tmp_path / "gone")))
    with pytest.raises(InputError, match="gone does not exist"):
        load_run(tmp_path / "run")


def test_picture_names() -> None:
    assert picture_names(["a.jpg", "left/a.jpg", "b.c.tiff"]) == ["a.png", "left/a.png", "b.c.png"]
    assert picture_names(["a.jpg", "a.png", "b.png"]) == ["a.jpg.png", "a.png.png", "b.png"]
    assert picture_names(["../../a.jpg", "/etc/b.jpg"]) == ["a.png", "etc/b.png"]


def test_png_is_clamped_and_rounded(tmp_path: Path) -> None:
    write_png(torch.tensor([-1.0, 0.5, 2.0]).expand(3, 1, 3), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (0, 0, 0)
    assert Image.open(tmp_path / "a.png").getpixel((1, 0)) == (128, 128, 128)
    assert Image.open(tmp_path / "a.png").getpixel((2, 0)) == (255, 255, 255)


def test_coc_map_is_the_thin_lens() -> None:
    lens = PhotoLens(torch.tensor(4.0), torch.tensor(20.0))
    depths = torch.linspace(2, 9, HEIGHT * WIDTH).view(HEIGHT, WIDTH)
    coc = coc_map(depths, tiny_camera(0), lens)
    assert torch.allclose(coc, coc_diameter(depths, lens.focus_distance, lens.aperture), atol=1e-5)
    assert coc[0, 0] > 0 > coc[-1, -1]


def test_coc_map_of_a_paper_lens() -> None:
    """On the optical axis Euclidean depth is z; aside it is longer by the ray's length."""
    lens = PhotoLens(torch.tensor(4.0), torch.tensor(0.5), units="paper", depth="euclidean")
    camera = tiny_camera(0)
    coc = coc_map(torch.full((HEIGHT, WIDTH), 2.0), camera, lens)
    ray = torch.tensor([(0.5 - camera.cx) / FX, (0.5 - camera.cy) / FX, 1.0]).norm()
    expected = 0.5 * (1 / (2 * ray) - 1 / 4) * FX / 2
    assert float(coc[0, 0]) == pytest.approx(float(expected), rel=1e-5)
    assert float(coc[HEIGHT // 2, WIDTH // 2]) == pytest.approx(0.5 / 4 * FX / 2, rel=1e-3)


def test_colors_of_the_coc_map() -> None:
    """White in focus; red and blue tell near from far; black where nothing is."""
    coc, alphas = torch.tensor([[0.0, 50.0, -50.0, 50.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    focused, near, far, nothing = colored_coc(coc, alphas)[:, 0].T
    assert focused.tolist() == [1, 1, 1]
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert not nothing.any()
