"""The HTML page of a benchmark: the table, and for every scene each method's picture of a few test views."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cocogs.bench.outcome import Outcome, Result
from cocogs.bench.table import heads_and_cells, notes, settings_sentence
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.page import (
    busiest_square,
    difference,
    figure,
    open_picture,
    page,
    row,
    section,
    spread,
    table,
    zoom,
)
from cocogs.io.pictures import picture_names, to_picture
from cocogs.run import open_data, read_config

VIEWS = 2
"""Number of test views shown per scene."""
ZOOM_PART = 5
"""The zoomed square is this many times narrower than the shorter side."""


@dataclass(frozen=True)
class Strip:
    """A test view.

    Args:
        photo: (H, W, 3) uint8.
        pictures: by method: the picture, (H, W, 3) uint8, and its caption.
    """

    view: str
    photo: np.ndarray
    pictures: dict[str, tuple[np.ndarray, str]]


def write_report(outcome: Outcome, out: Path) -> None:
    """Write report.html in `out`: one file that includes its pictures."""
    text = " ".join([settings_sentence(outcome.settings), *notes(outcome)]).replace("`", "")
    sections = [section("Figures", text, table(*heads_and_cells(outcome)))]
    for scene in outcome.scenes:
        sections.append(scene_section(scene, [r for r in outcome.results if r.scene == scene]))
    if outcome.failures:
        sections.append(section("Failed", "", table(["run"], [[failure] for failure in outcome.failures])))
    write_text(out / "report.html", page(outcome.suite.title, sections))


def scene_section(scene: str, results: list[Result]) -> str:
    """The section of a scene: for a few test views the truth, all pictures, their differences, and zooms."""
    text = (
        "First a sharp photo that training never saw, then each method's picture from the same place. Below: "
        "where it is too bright (red) or too dark (blue), exaggerated four times. Last: where the "
        "methods err most."
    )
    try:
        body = "".join(strip_rows(strip) for strip in find_strips(results))
    except InputError as error:  # photos of an earlier call may be gone; the figures are still good
        return section(f"Scene {scene}", f"There are no pictures. {error}", "")
    return section(f"Scene {scene}", text, body) if body else ""


def find_strips(results: list[Result]) -> list[Strip]:
    """At most VIEWS test views with the pictures of every method's first seed.

    Raises:
        InputError: the scene's photos or a picture cannot be read.
    """
    first: dict[str, Result] = {}
    for result in results:
        if result.method not in first or result.seed < first[result.method].seed:
            first[result.method] = result
    if not first:
        return []
    some = next(iter(first.values()))
    config, data = read_config(some.folder)
    opened = open_data(data, some.folder, config.seed, lambda line: None)
    tests = [view.name for view in opened.test_views]
    names = dict(zip(tests, picture_names(tests), strict=True))
    strips = []
    for view in (v for v in opened.test_views if v.name in spread(tests, VIEWS)):
        pictures = {}
        for method, result in first.items():
            path = result.folder / "pictures" / names[view.name]
            if path.is_file():
                psnr = result.view_psnr.get(view.name)
                caption = method if psnr is None else f"{method}, {psnr:.2f} dB"
                pictures[method] = np.asarray(open_picture(path)), caption
        photo = np.asarray(to_picture(opened.photo(view)))
        strips.append(Strip(view.name, photo, pictures))
    return strips


def strip_rows(strip: Strip) -> str:
    """A test view as three rows: pictures, differences, zooms."""
    if not strip.pictures:
        return ""
    shown = list(strip.pictures.values())
    errors = sum(np.abs(picture.astype(float) - strip.photo).mean(2) for picture, _ in shown)
    side = max(8, min(strip.photo.shape[:2]) // ZOOM_PART)
    corner = busiest_square(np.asarray(errors), side)
    whole = [figure(strip.photo, f"truth {strip.view}"), *(figure(p, caption) for p, caption in shown)]
    apart = [figure(difference(p, strip.photo), f"difference: {caption}") for p, caption in shown]
    near = [figure(zoom(strip.photo, corner, side), "zoom: truth")]
    near += [figure(zoom(p, corner, side), f"zoom: {caption}") for p, caption in shown]
    return row(whole) + row(apart) + row(near)
