"""The viewer in a real browser: Debian's chromium without a window, driven by playwright.

Skipped where one of them is absent. To run: apt install chromium; pip install playwright.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from table_scene import BALL, BOX, table_scene, write_table
from tiny_run import tiny_run

from cocogs.camera import Camera
from cocogs.edits import edits_path
from cocogs.gaussians import Gaussians
from cocogs.io.camera_path import read_camera_path
from cocogs.io.pictures import to_picture
from cocogs.optics.lens import Lens
from cocogs.rasterize.constants import SH_C0
from cocogs.viewer.exhibit import Exhibit, exhibit_gaussians, open_exhibit
from cocogs.viewer.server import LOOPBACK, PANEL_WIDTH, Viewer, free_port
from cocogs.viewer.session import Session
from cocogs.viewer.workbench import Workbench

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is absent"),
]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTH, HEIGHT, FOCAL = 640, 426, 600.0  # of the picture, px
NEAR, FAR = 4.0, 8.0  # depths of the two walls
APERTURE = 0.2  # blurs the one by 15 px when the other is in focus
METRES, F_NUMBER = 0.5, 2.0  # of a scene unit; of the lens at the start
PATIENCE = 60  # seconds; a busy machine draws pages slowly


@dataclass
class Visit:
    """A page with the viewer, and its session on our side."""

    viewer: Viewer
    page: Any
    session: Session
    problems: list[str]

    def wait_for_still(self) -> None:
        """Until what the window asks for is drawn at full size, with lens samples where they matter."""

        def is_still() -> bool:
            if self.session.drawn is None:
                return False
            request, effort = self.session.drawn
            there = torch.equal(request.camera.cam_from_world, self.session.window().cam_from_world)
            return there and request.lens == self.session.lens and effort.samples == request.refinements[-1]

        eventually(is_still)

    def picture(self) -> np.ndarray:
        """(HEIGHT, WIDTH) what the page shows, grey, in [0, 1]."""
        shot = Image.open(BytesIO(self.page.screenshot())).convert("L").crop((0, 0, WIDTH, HEIGHT))
        return np.asarray(shot, dtype=np.float32) / 255

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def number(self, row: int) -> Any:
        """The number beside a slider of the lens: 0 is the focus, 1 the aperture, 2 the blades' rotation,
        3 the highlights."""
        return self.page.locator("input[inputmode=decimal]").nth(row)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, args=FLAGS,
            viewport={"width": WIDTH + PANEL_WIDTH, "height": HEIGHT},
        )  # fmt: skip
        yield browser
        browser.close()


@contextmanager
def visiting(exhibit: Exhibit, browser: Any) -> Iterator[Visit]:
    viewer = Viewer(exhibit, LOOPBACK, free_port(LOOPBACK, None))
    problems: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    try:
        page.goto(viewer.url)
        eventually(lambda: bool(viewer.sessions))
        visit = Visit(viewer, page, next(iter(viewer.sessions.values())), problems)
        eventually(lambda: visit.session.drawn is not None)
        yield visit
    finally:
        page.close()
        viewer.stop()


@pytest.fixture(scope="module")
def walls(browser: Any) -> Iterator[Visit]:
    with visiting(walls_exhibit(), browser) as visit:
        yield visit


@pytest.fixture(scope="module")
def run(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    exhibit = open_exhibit(tiny_run(tmp_path_factory.getbasetemp(), "lens"))
    with visiting(exhibit, browser) as visit:
        yield visit


@pytest.fixture(scope="module")
def table(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """A scene that is being edited: a ball and a box on a table."""
    with visiting(open_exhibit(write_table(tmp_path_factory.mktemp("table"))), browser) as visit:
        visit.page.get_by_text("Edit", exact=True).click()
        visit.button("Edit this scene").click()
        eventually(lambda: visit.session._bench is not None)
        visit.button("Save edits").wait_for()
        yield visit


def walls_exhibit() -> Exhibit:
    """Two walls with a pattern of 10 px, seen head on: `NEAR` on the left, `FAR` on the right."""
    means, colors = [], []
    generator = torch.Generator().manual_seed(1)
    pitch = 5
    for depth, start in ((NEAR, -WIDTH / 2 - 40), (FAR, 0)):
        x = torch.arange(start, start + WIDTH / 2 + 40, pitch) + pitch / 2
        y = torch.arange(-HEIGHT / 2 - 20, HEIGHT / 2 + 20, pitch) + pitch / 2
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) * depth / FOCAL
        means.append(torch.cat([grid, torch.full((*grid.shape[:2], 1), depth)], dim=-1).reshape(-1, 3))
        blocks = torch.rand(grid.shape[0] // 2 + 1, grid.shape[1] // 2 + 1, generator=generator).round()
        fine = blocks.repeat_interleave(2, 0).repeat_interleave(2, 1)[: grid.shape[0], : grid.shape[1]]
        colors.append(fine.reshape(-1))
    centres, grey = torch.cat(means), 0.15 + 0.7 * torch.cat(colors)
    count = len(centres)
    sizes = (0.5 * pitch / FOCAL * centres[:, 2:]).log().repeat(1, 3)
    gaussians = Gaussians(
        means=centres, quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1), scales=sizes,
        opacities=torch.full((count,), 4.0), sh0=((grey - 0.5) / SH_C0)[:, None, None].repeat(1, 1, 3),
        shN=torch.zeros(count, 15, 3),
    )  # fmt: skip
    intrinsics = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], dtype=torch.float64)
    start = Camera(intrinsics, torch.eye(4, dtype=torch.float64), WIDTH, HEIGHT)
    shown = exhibit_gaussians(gaussians, "walls")
    return replace(
        shown, start=start, lens=Lens(6.0, APERTURE), depth_range=(3.0, 10.0),
        metres=METRES, focal_length=F_NUMBER * APERTURE,
    )  # fmt: skip


def detail(picture: np.ndarray) -> tuple[float, float]:
    """Mean squared gradient of the left (near) and the right (far) wall, off the borders and the notice."""
    rows = picture[160:400]
    halves = rows[:, 30 : WIDTH // 2 - 40], rows[:, WIDTH // 2 + 40 : WIDTH - 30]
    near, far = (float(sum((g**2).mean() for g in np.gradient(half))) for half in halves)
    return near, far


def drag_focus_slider(visit: Visit, distance: float) -> None:
    """With the mouse, from where the thumb is to `distance` (scene units)."""
    thumb = visit.page.get_by_role("slider").first
    low, high = (float(thumb.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
    track = thumb.locator("xpath=..").bounding_box()
    box = thumb.bounding_box()
    y = box["y"] + box["height"] / 2
    visit.page.mouse.move(box["x"] + box["width"] / 2, y)
    visit.page.mouse.down()
    visit.page.mouse.move(track["x"] + track["width"] * (distance * METRES - low) / (high - low), y, steps=6)
    visit.page.mouse.up()


def test_the_page_loads_without_errors(walls: Visit) -> None:
    assert walls.page.get_by_text("walls", exact=True).is_visible()
    assert walls.button("Refocused").is_visible()
    assert walls.problems == []


def test_every_visitor_has_their_own_lens(walls: Visit, browser: Any) -> None:
    other_page = browser.new_page()
    other_page.goto(walls.viewer.url)
    eventually(lambda: len(walls.viewer.sessions) == 2)
    other = next(session for session in walls.viewer.sessions.values() if session is not walls.session)
    other.set_lens(Lens(7.0, 0.0))
    assert walls.session.lens == Lens(6.0, APERTURE)
    other_page.close()
    eventually(lambda: list(walls.viewer.sessions.values()) == [walls.session])
    eventually(lambda: not other._loop._thread.is_alive())


def test_the_focus_slider_sharpens_the_depth_it_names(walls: Visit) -> None:
    drag_focus_slider(walls, NEAR)
    eventually(lambda: walls.session.lens.focus_distance == pytest.approx(NEAR, rel=0.03))
    eventually(lambda: detail(walls.picture())[0] > 4 * detail(walls.picture())[1])
    near_when_near, far_when_near = detail(walls.picture())

    drag_focus_slider(walls, FAR)
    eventually(lambda: walls.session.lens.focus_distance == pytest.approx(FAR, rel=0.03))
    eventually(lambda: detail(walls.picture())[1] > 4 * detail(walls.picture())[0])
    near_when_far, far_when_far = detail(walls.picture())
    assert near_when_near > 4 * near_when_far
    assert far_when_far > 4 * far_when_near


@pytest.mark.parametrize("x", [0.1, 0.4, 0.6, 0.93])
@pytest.mark.parametrize("y", [0.55, 0.9])
def test_a_click_focuses_on_what_is_clicked(walls: Visit, x: float, y: float) -> None:
    """Depth is along the optical axis: towards the corners the distance to the eye is 10 % more."""
    walls.session.set_lens(replace(walls.session.lens, focus_distance=6.0))
    walls.page.mouse.click(x * WIDTH, y * HEIGHT)
    expected = NEAR if x < 0.5 else FAR
    eventually(lambda: walls.session.lens.focus_distance != 6.0)
    assert walls.session.lens.focus_distance == pytest.approx(expected, rel=0.02)
    eventually(lambda: float(walls.number(0).input_value()) == pytest.approx(expected * METRES, rel=0.02))


def test_the_lens_is_set_as_on_a_camera_and_in_scene_units(walls: Visit) -> None:
    walls.session.set_lens(Lens(NEAR, APERTURE))
    eventually(lambda: [float(walls.number(i).input_value()) for i in (0, 1)] == [NEAR * METRES, F_NUMBER])
    walls.number(1).fill("4")
    walls.number(1).press("Enter")
    eventually(lambda: walls.session.lens.aperture_diameter == pytest.approx(APERTURE / 2))
    walls.number(0).fill("3")
    walls.number(0).press("Enter")
    eventually(lambda: walls.session.lens.focus_distance == pytest.approx(6))
    assert walls.page.get_by_text("Sharp from").inner_text().endswith(" m.")
    walls.page.get_by_label("Units").click()
    walls.page.get_by_role("option", name="Scene units").click()
    eventually(lambda: [float(walls.number(i).input_value()) for i in (0, 1)] == [6, APERTURE / 2])
    assert walls.page.get_by_text("Sharp from").inner_text().endswith(" scene units.")
    walls.page.get_by_label("Units").click()
    walls.page.get_by_role("option", name="As on a camera").click()
    walls.button("Reset").click()
    eventually(lambda: walls.session.lens == Lens(6.0, APERTURE))


def test_blades_and_highlights_are_chosen_where_there_is_blur(walls: Visit) -> None:
    walls.session.turn_lens(focus_distance=NEAR, aperture_diameter=APERTURE)
    walls.page.get_by_label("Blades").click()
    walls.page.get_by_role("option", name="6", exact=True).click()
    eventually(lambda: walls.session.lens.blades == 6)
    walls.page.get_by_text("Rotation (°)").wait_for()
    walls.number(2).fill("20")
    walls.number(2).press("Enter")
    eventually(lambda: walls.session.lens == Lens(NEAR, APERTURE, 6, 20.0))
    walls.number(3).fill("4")
    walls.number(3).press("Enter")
    eventually(lambda: walls.session.lens == Lens(NEAR, APERTURE, 6, 20.0, 4.0))
    walls.wait_for_still()
    walls.button("Sharp").click()
    eventually(lambda: not walls.page.get_by_label("Blades").is_visible())
    walls.button("Reset").click()
    eventually(lambda: walls.session.lens == Lens(6.0, APERTURE))


def test_sharp_shows_both_walls_sharp(walls: Visit) -> None:
    walls.session.set_lens(replace(walls.session.lens, focus_distance=NEAR))
    eventually(lambda: detail(walls.picture())[0] > 4 * detail(walls.picture())[1])
    walls.button("Sharp").click()
    eventually(lambda: detail(walls.picture())[1] > 0.5 * detail(walls.picture())[0])
    assert walls.session.frame().lens is None
    drag_focus_slider(walls, FAR)  # who turns the lens wants to see it
    eventually(lambda: detail(walls.picture())[1] > 4 * detail(walls.picture())[0])
    assert walls.session.show == "Refocused" and walls.session.lens.aperture_diameter == APERTURE


def test_dragging_moves_and_a_picture_follows(walls: Visit) -> None:
    before = walls.session.window().cam_from_world
    walls.page.mouse.move(200, 300)
    walls.page.mouse.down()
    walls.page.mouse.move(220, 305, steps=5)
    walls.page.mouse.up()
    eventually(lambda: not torch.allclose(walls.session.window().cam_from_world, before, atol=1e-3))
    walls.wait_for_still()
    drawn = walls.session.drawn
    assert drawn is not None
    torch.testing.assert_close(drawn[0].camera.cam_from_world, walls.session.window().cam_from_world)


def test_flipping_to_the_photo_shows_the_photo(run: Visit) -> None:
    run.button("Photo").click()
    exhibit = run.session.exhibit
    index = run.session.photo
    load = exhibit.photos[index].load
    assert load is not None
    photo = to_picture(load()).convert("L")
    width = round(HEIGHT * photo.width / photo.height)  # 3:4 in a window of 3:2: it fills the height
    left = (WIDTH - width) // 2
    expected = np.asarray(photo.resize((width, HEIGHT), Image.Resampling.LANCZOS), dtype=np.float32) / 255

    def difference() -> float:
        seen = run.picture()[:, left : left + width]
        return float(np.abs(seen - expected)[160:].mean())

    eventually(lambda: difference() < 0.02)
    run.button("Sharp").click()
    eventually(lambda: difference() > 0.03)
    run.button("Refocused").click()


def test_the_next_photo_is_gone_to_with_its_focus(run: Visit) -> None:
    photos = run.session.exhibit.photos
    index = (run.session.photo + 1) % len(photos)
    run.button("Next ▶").click()
    eventually(lambda: run.session.photo == index)
    eventually(lambda: run.session._places.find(run.session.window()) == index)
    if (lens := photos[index].lens) is not None:
        assert run.session.lens.focus_distance == pytest.approx(lens.focus_distance)


def test_a_click_on_a_camera_goes_there(run: Visit) -> None:
    photos = run.session.exhibit.photos
    camera = photos[4].camera
    back = camera.cam_from_world.clone()
    back[2, 3] += 1.5
    run.session.go_to(replace(camera, cam_from_world=back))
    run.page.get_by_label("Cameras").click()
    run.wait_for_still()
    run.page.wait_for_timeout(1500)
    target = 2
    pixel, _ = run.session.window().project(photos[target].camera.position)
    window = run.session.window()
    run.page.mouse.click(float(pixel[0]) / window.width * WIDTH, float(pixel[1]) / window.height * HEIGHT)
    eventually(lambda: run.session.photo == target)
    eventually(lambda: run.session._places.find(run.session.window()) == target)
    lens = photos[target].lens
    assert lens is not None and run.session.lens.focus_distance == pytest.approx(lens.focus_distance)
    assert run.problems == []


def test_a_picture_is_saved(run: Visit, tmp_path: Path) -> None:
    run.session.visit(1)
    width = run.page.get_by_label("Width (px)")
    width.fill("320")
    width.press("Enter")
    eventually(lambda: run.session._panel.picture_width() == 320)
    with run.page.expect_download() as download:
        run.button("Save picture").click()
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as saved:
        assert saved.size == (320, 240)  # the photo's shape
    assert download.value.suggested_filename == "tiny_run_lens.png"


def test_the_photo_is_saved_where_it_is_shown(run: Visit, tmp_path: Path) -> None:
    run.session.visit(1)
    run.button("Photo").click()
    eventually(lambda: run.session.drawn is not None and run.session.drawn[0].show == "Photo")
    width = run.page.get_by_label("Width (px)")
    width.fill("48")  # as wide as it is
    width.press("Enter")
    eventually(lambda: run.session._panel.picture_width() == 48)
    with run.page.expect_download() as download:
        run.button("Save picture").click()
    download.value.save_as(tmp_path / "saved.png")
    run.button("Refocused").click()
    load = run.session.exhibit.photos[1].load
    assert load is not None
    with Image.open(tmp_path / "saved.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(to_picture(load())))


def test_a_focus_pull_is_played_and_saved_for_render(run: Visit, tmp_path: Path) -> None:
    run.session.visit(1)
    run.page.get_by_text("Focus pull").click()
    before = run.session.lens.focus_distance
    run.button("Play").first.click()
    eventually(lambda: abs(run.session.lens.focus_distance - before) > 0.2)
    run.button("Stop").first.click()
    with run.page.expect_download() as download:
        run.button("Save path").first.click()
    download.value.save_as(tmp_path / "pull.json")
    path = read_camera_path(tmp_path / "pull.json")
    distances = [frame.lens.focus_distance for frame in path.frames if frame.lens]
    assert path.fps == 24 and len(distances) == 4 * 24 + 1
    near, far = run.session.depth_range
    assert distances[0] == pytest.approx(near, rel=0.01) and distances[-1] == pytest.approx(far, rel=0.01)


# Editing.


def bench_of(visit: Visit) -> Workbench:
    assert visit.session._bench is not None
    return visit.session._bench


def take(visit: Visit, key: str, tool: str) -> None:
    """A tool, by its key; the page has heard of it, too."""
    visit.page.keyboard.press(key)
    eventually(lambda: bench_of(visit).tool == tool)
    visit.page.wait_for_timeout(500)


def places(visit: Visit, owner: int) -> torch.Tensor:
    """(K, 2) where the page shows the splats of a thing as it is edited, px."""
    gaussians, window = bench_of(visit).editor.subject.gaussians, visit.session.window()
    pixels, _ = window.project(gaussians.means.detach()[table_scene()[1] == owner])
    return pixels * WIDTH / window.width


def seen_at(visit: Visit, owner: int) -> tuple[float, float]:
    """Where the page shows the middle of a thing, px."""
    x, y = places(visit, owner).mean(0).tolist()
    return x, y


def drag(visit: Visit, *points: tuple[float, float]) -> None:
    visit.page.mouse.move(*points[0])
    visit.page.mouse.down()
    for point in points[1:]:
        visit.page.mouse.move(*point, steps=4)
        visit.page.wait_for_timeout(100)
    visit.page.mouse.up()


def chosen(visit: Visit, owner: int) -> float:
    """The part of a thing that is selected."""
    return float(bench_of(visit).editor.selected[table_scene()[1] == owner].float().mean())


def test_a_click_selects_and_the_gizmo_moves_for_good(table: Visit) -> None:
    take(table, "o", "Object")
    table.wait_for_still()
    x, y = seen_at(table, BALL)
    plain = table.picture()
    table.page.mouse.click(x, y)
    eventually(lambda: chosen(table, BALL) > 0.9 and chosen(table, BOX) == 0)
    around = np.s_[round(y) - 10 : round(y) + 10, round(x) - 10 : round(x) + 10]
    eventually(lambda: float((table.picture() - plain)[around].mean()) > 0.1)  # orange on red: brighter

    take(table, "g", "Move")
    bench = bench_of(table)
    center, _ = table.session.window().project(bench._rest.position)
    x, y = (float(center[i]) / table.session.window().width * WIDTH for i in (0, 1))
    drag(table, (x + 50, y), (x + 80, y), (x + 120, y))  # the red arrow
    eventually(lambda: len(bench.editor.state.edits.steps) == 1)
    eventually(lambda: seen_at(table, BALL)[0] > x + 40)
    eventually(lambda: float(np.abs(table.picture() - plain)[around].mean()) > 0.03)
    table.button("Save edits").click()
    eventually(lambda: bench.editor.is_saved)
    target = table.session.exhibit.target
    assert target is not None and edits_path(target).exists()
    table.page.keyboard.press("Control+z")
    eventually(lambda: not bench.editor.state.edits.steps)
    assert table.problems == []


@pytest.mark.parametrize(("key", "tool"), [("r", "Rectangle"), ("l", "Lasso")])
def test_what_is_drawn_with_the_mouse_is_selected(table: Visit, key: str, tool: str) -> None:
    bench = bench_of(table)
    bench.do(bench.editor.select_none)
    before = table.session.window().cam_from_world
    take(table, key, tool)
    pixels = places(table, BALL)  # the box lies under the browser's notice
    (left, top), (right, bottom) = (pixels.amin(0) - 4).tolist(), (pixels.amax(0) + 4).tolist()
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    drag(table, *(corners[::2] if tool == "Rectangle" else corners))
    eventually(lambda: chosen(table, BALL) == 1)
    assert chosen(table, BOX) == 0
    assert torch.equal(table.session.window().cam_from_world, before)  # the view is not dragged along


def test_a_brush_adds_with_shift(table: Visit) -> None:
    bench = bench_of(table)
    bench.do(lambda: bench.editor.select(table_scene()[1] == BALL))
    take(table, "b", "Brush")
    x, y = seen_at(table, BOX)
    table.page.keyboard.down("Shift")
    drag(table, (x - 30, y), (x + 30, y))
    table.page.keyboard.up("Shift")
    eventually(lambda: 0 < chosen(table, BOX) < 1)
    assert chosen(table, BALL) == 1
    take(table, "v", "Look")
