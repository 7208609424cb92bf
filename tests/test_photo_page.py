"""A single photo in the browser: `cocogs view PHOTO`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cocogs.cli import main
from cocogs.io.photos import read_photo
from cocogs.optics.lens import Lens
from cocogs.photo.refocus_files import OpenedPhoto, open_photo
from cocogs.viewer.photo_page import (
    Frame,
    PhotoSession,
    Wish,
    describe,
    distances,
    drawn,
    photo_page,
    start_lens,
)
from cocogs.viewer.request import PHOTO, REFOCUSED
from cocogs.viewer.server import LOOPBACK, free_port

WIDTH, HEIGHT = 640, 426  # of the photo and of the window without the panel, px
NEAR, FAR = 1.0, 4.0  # metres; the left and the right half


def write_walls(folder: Path) -> Path:
    """Two walls with a pattern of 8 px, and their depth beside them."""
    blocks = np.random.default_rng(1).integers(0, 2, (HEIGHT // 8 + 1, WIDTH // 8 + 1), dtype=np.uint8)
    grey = (40 + 170 * blocks).repeat(8, 0).repeat(8, 1)[:HEIGHT, :WIDTH]
    path = folder / "walls.png"
    Image.fromarray(np.dstack([grey] * 3)).save(path)
    depth = np.full((HEIGHT, WIDTH), NEAR, np.float32)
    depth[:, WIDTH // 2 :] = FAR
    np.save(folder / "walls_depth.npy", depth)
    return path


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> OpenedPhoto:
    return open_photo(write_walls(tmp_path_factory.mktemp("walls")), say=lambda line: None)


def detail(picture: np.ndarray) -> tuple[float, float]:
    """Mean squared gradient of the left (near) and the right (far) wall, off the borders and the notice."""
    rows = picture[200:400].astype(np.float32) / 255
    halves = rows[:, 60 : WIDTH // 2 - 60], rows[:, WIDTH // 2 + 60 : WIDTH - 60]
    near, far = (float(sum((g**2).mean() for g in np.gradient(half))) for half in halves)
    return near, far


@pytest.mark.parametrize(
    ("window", "frame"),
    [((640, 426), (0, 0, 640, 426)), ((1280, 426), (320, 0, 640, 426)), ((320, 426), (0, 106, 320, 213))],
)
def test_the_photo_fits_into_the_window(walls: OpenedPhoto, window: tuple, frame: tuple) -> None:
    width, height = window
    assert Frame.within(width, height, walls.picture) == Frame(*frame)


def test_the_start(walls: OpenedPhoto) -> None:
    near, far = distances(walls)
    assert (near, far) == (NEAR, FAR)
    lens = start_lens(walls)
    assert lens.focus_distance in (NEAR, FAR)
    assert walls.camera.focal_length is not None
    assert lens.aperture_diameter == pytest.approx(walls.camera.focal_length / 2.8)


def test_what_is_drawn(walls: OpenedPhoto) -> None:
    lens = Lens(NEAR, start_lens(walls).aperture_diameter)
    before, kept = drawn(walls.picture, Wish(640, 426, lens, PHOTO), lambda share: None)
    assert np.array_equal(np.asarray(before), read_photo(walls.path)) and kept == 0
    after, _ = drawn(walls.picture, Wish(640, 426, lens, REFOCUSED), lambda share: None)
    (near, far), (own_near, own_far) = (detail(np.asarray(p.convert("L"))) for p in (after, before))
    assert near == pytest.approx(own_near, rel=0.02) and far < 0.2 * own_far


def test_what_stays_blurred_is_told() -> None:
    wish, frame = Wish(640, 426, Lens(1, 0.1), REFOCUSED), Frame(0, 0, 640, 426)
    assert describe(wish, frame, 0) == "Refocused · 640 × 426"
    assert "25% of the photo is blurred more" in describe(wish, frame, 0.25)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["gone.png"], "gone.png does not exist"),
        (["plain.png"], "plain.png has no depth"),
        (["plain.png", "--depth", "gone.npy"], "gone.npy does not exist"),
        (["walls.png", "--depth-kind", "far"], "--depth-kind must be"),
        ([".", "--depth", "gone.npy"], "--depth is for a photo"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list,
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_walls(tmp_path)
    Image.new("RGB", (8, 8)).save("plain.png")
    assert main(["view", *arguments]) == 2
    message = capsys.readouterr().err
    assert problem in message and message.count("\n") == 1


with suppress(pytest.skip.Exception):  # without playwright
    from test_viewer_browser import browser  # noqa: F401  (a fixture)


@pytest.fixture
def visit(walls: OpenedPhoto, request: pytest.FixtureRequest) -> Iterator[tuple[Any, PhotoSession]]:
    """A page with the photo, and its session on our side."""
    eventually = pytest.importorskip("test_viewer_browser").eventually
    served = photo_page(walls, LOOPBACK, free_port(LOOPBACK, None))
    page = request.getfixturevalue("browser").new_page()
    try:
        page.goto(served.url)
        eventually(lambda: bool(served.sessions))
        yield page, next(iter(served.sessions.values()))
    finally:
        page.close()
        served.stop()


@pytest.mark.thorough
@pytest.mark.browser
def test_in_the_browser(visit: tuple[Any, PhotoSession]) -> None:
    page, session = visit
    eventually = pytest.importorskip("test_viewer_browser").eventually

    def shown() -> tuple[float, float]:
        shot = Image.open(BytesIO(page.screenshot())).convert("L").crop((0, 0, WIDTH, HEIGHT))
        return detail(np.asarray(shot))

    def shows(fits: Callable[[float, float], bool]) -> None:
        # Without a GPU viser draws in fewer pixels for a while: a third of the detail comes and goes.
        eventually(lambda: fits(*shown()))

    shows(lambda near, far: near + far > 0.01)
    page.keyboard.press("2")
    eventually(lambda: session.show == PHOTO)
    shows(lambda near, far: near > 0.01 and far > 0.01)
    own = shown()
    page.mouse.click(100, 300)
    eventually(lambda: session.lens.focus_distance == NEAR and session.show == REFOCUSED)
    shows(lambda near, far: near > 0.5 * own[0] and far < 0.2 * own[1])
    page.mouse.click(WIDTH - 100, 300)
    eventually(lambda: session.lens.focus_distance == FAR)
    shows(lambda near, far: near < 0.2 * own[0] and far > 0.5 * own[1])
    number = page.locator("input[inputmode=decimal]").nth(1)  # beside the slider of the f-number
    number.fill("16")
    number.press("Enter")
    assert session.photo.camera.focal_length is not None
    narrow = pytest.approx(session.photo.camera.focal_length / 16)
    eventually(lambda: session.lens.aperture_diameter == narrow)
    shows(lambda near, far: near > 0.3 * own[0] and far > 0.5 * own[1])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    with Image.open(download.value.path()) as saved:
        assert saved.size == (WIDTH, HEIGHT)
