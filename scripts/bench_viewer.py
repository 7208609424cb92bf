"""How many pictures a second the viewer shows while one turns around the scene, in a real browser; how soon a
click on a thing, with the tool Object, shows it selected.

    python scripts/bench_viewer.py runs/mine [--seconds 10] [--click 0.4,0.6]

Needs chromium and playwright. The browser has no window and draws on the CPU, on the same cores.
"""

import argparse
import math
import shutil
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright  # pyright: ignore[reportMissingImports]

from cocogs.viewer.exhibit import open_exhibit
from cocogs.viewer.pointer import OBJECT
from cocogs.viewer.server import LOOPBACK, PANEL_WIDTH, Viewer, free_port
from cocogs.viewer.session import Session

WIDTH, HEIGHT = 640, 426
CLICKS = 7
COUNT_PICTURES = """
window.pictures = 0;
const original = URL.createObjectURL;
URL.createObjectURL = (blob) => { if (blob.type === "image/jpeg") window.pictures++; return original(blob); };
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures a second while one turns around the scene.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--click", help="a place in the window, as parts of its sides, where a thing is seen")
    options = parser.parse_args()
    viewer = Viewer(open_exhibit(options.scene), LOOPBACK, free_port(LOOPBACK, None))
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as profile:
        browser = driver.chromium.launch_persistent_context(
            profile, executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"],
            viewport={"width": WIDTH + PANEL_WIDTH, "height": HEIGHT},
        )  # fmt: skip
        page = browser.pages[0]
        page.add_init_script(COUNT_PICTURES)
        page.goto(viewer.url)
        while not viewer.sessions:
            time.sleep(0.1)
        session = next(iter(viewer.sessions.values()))
        page.wait_for_timeout(5000)
        time_still(session)
        if options.click:
            x, y = map(float, options.click.split(","))
            click(page, session, x * WIDTH, y * HEIGHT)
        drag(page, session, options.seconds)
        browser.close()
    viewer.stop()


def time_still(session: Session) -> None:
    """One picture at full size, in interactive quality, without a browser."""
    camera, exhibit = session.window(), session.exhibit
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        exhibit.draw(camera, session.lens, 0, lambda: None)
        seconds.append(time.perf_counter() - began)
    print(f"{camera.width}x{camera.height}, {torch.get_num_threads()} threads: "
          f"{1000 * sorted(seconds)[5]:.0f} ms a picture at full size")  # fmt: skip


def click(page: Page, session: Session, x: float, y: float) -> None:
    """Seconds from a click on a thing to the picture that highlights it, and to the end of the search."""
    bench = session.edit()
    bench.do(lambda: bench.choose(OBJECT))
    shown, found = [], []
    for _ in range(CLICKS):
        bench.do(bench.editor.select_none)
        page.wait_for_timeout(5000)
        began = time.perf_counter()
        page.mouse.click(x, y)
        while session._painter.marks is None:
            time.sleep(0.001)
        before = session.drawn
        while session.drawn is before:
            time.sleep(0.001)
        shown.append(time.perf_counter() - began)
        while bench.is_busy:
            time.sleep(0.001)
        found.append(time.perf_counter() - began)
    count, size = int(bench.editor.selected.sum()), len(bench.editor.selected)
    median, whole = sorted(shown)[CLICKS // 2], sorted(found)[CLICKS // 2]
    print(f"a click selects {count:,} of {size:,} splats: highlighted after {median:.2f} s "
          f"({min(shown):.2f} to {max(shown):.2f}), whole after {whole:.2f} s")  # fmt: skip


def drag(page: Page, session: Session, seconds: float) -> None:
    """Turn to and fro with the mouse, counting what the browser receives."""
    x, y = WIDTH / 2, HEIGHT / 2
    page.mouse.move(x, y)
    page.mouse.down()
    scales = []
    before, began = page.evaluate("window.pictures"), time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        page.mouse.move(x + 60 * math.sin(elapsed), y + 20 * math.sin(1.7 * elapsed))
        if session.drawn is not None:
            scales.append(session.drawn[1].scale)
    pictures = page.evaluate("window.pictures") - before
    page.mouse.up()
    print(f"{pictures / elapsed:.1f} pictures a second while dragging, "
          f"at {sum(scales) / len(scales):.2f} of the full width")  # fmt: skip


if __name__ == "__main__":
    main()
