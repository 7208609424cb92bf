"""Write what was found about a set of photos: a page with focus by depth, a table, and sharpness maps."""

import math
from html import escape
from pathlib import Path

import numpy as np
import torch

from cocogs.io.atomic import replacing, write_text
from cocogs.io.page import figure, page, row, section, table
from cocogs.io.pictures import picture_names, to_picture
from cocogs.measure.focal_lengths import PhotoFocal, focal_table
from cocogs.measure.inspection import IN_FOCUS, Inspection
from cocogs.optics.evidence import BLUR_POINTS
from cocogs.optics.sharpness import blur_map
from cocogs.scene import Scene

SHARP_COLOR, SOFT_COLOR = np.array([255, 214, 90]), np.array([40, 20, 90])
ABOUT_FOCAL_LENGTHS = (
    "The cameras' are those of training, by SfM or by the dataset; px at training size. Beside them what "
    "each photo's EXIF says, and intrinsics.json where it lies beside the photos. Off: in joint standard "
    "deviations."
)
SOFTEST = 3.0
"""px; blur (standard deviation) from which on the colour is darkest."""


def about_table(inspection: Inspection) -> str:
    """What its figures mean and, of many photos, how they were read."""
    about = f"Distances in scene units; in focus = circle of confusion up to {IN_FOCUS:g} px."
    if not inspection.glanced:
        return about
    return (
        f"{about} {inspection.glanced} of the {len(inspection.photos)} photos were read only around points "
        f"of the scene; their blur was measured at up to {BLUR_POINTS} of these."
    )


def write_inspection(inspection: Inspection, scene: Scene, out: Path) -> None:
    """Write inspection.json, inspection.html, coverage.svg and sharpness/NAME.png in `out`."""
    write_text(out / "inspection.json", inspection.to_json() + "\n")
    picture = coverage_svg(inspection)
    write_text(out / "coverage.svg", picture)
    views = scene.train_views
    maps = {}
    for view, name in zip(views, picture_names([v.name for v in views]), strict=True):
        maps[view.name] = sharpness_picture(scene, view.name)
        with replacing(out / "sharpness" / name) as path:
            to_picture(torch.from_numpy(maps[view.name]).permute(2, 0, 1) / 255).save(path)
    about = f"{about_table(inspection)} {inspection.exif.sentence}"
    sections = [
        section("Focus by depth", " ".join(inspection.summary), picture),
        section("Photos", about, table(*photo_table(inspection))),
        section("Focal lengths", ABOUT_FOCAL_LENGTHS, table(*focal_table(inspection.focal_lengths))),
        section(
            "Sharpness",
            "Yellow is sharp, violet is blurred, black has no texture. Soft texture looks blurred.",
            row([figure(sharpness, name) for name, sharpness in maps.items()]),
        ),
    ]
    write_text(out / "inspection.html", page(f"Inspection of {inspection.source}", sections))


def photo_table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table: what each photo has in focus."""
    heads = ["photo", "focus distance", "in focus from", "in focus to", "least blur, px", "EXIF"]
    heads += ["focal length, px", "by others"]
    focal_lengths = {photo.name: photo for photo in inspection.focal_lengths}
    cells, nearest = [], min((photo.near for photo in inspection.photos), default=1.0)
    decimals = min(max(2 - math.floor(math.log10(nearest)), 0), 9)  # three digits of the shortest distance
    for photo in inspection.photos:
        lens = photo.lens
        facts = [f"f/{lens.f_number:g}" if lens.f_number else ""]
        facts.append(f"{lens.focal_length_mm:g} mm" if lens.focal_length_mm else "")
        facts.append(f"{lens.focus_distance:g} m" if lens.focus_distance else "")
        cells.append([
            photo.name, f"{photo.focus_distance:.{decimals}f}", f"{photo.near:.{decimals}f}",
            "infinity" if photo.far is None else f"{photo.far:.{decimals}f}",
            "" if photo.blur is None else f"{photo.blur:.2f}" + (" too blurred" if photo.too_blurred else ""),
            " ".join(filter(None, facts)), *_focal_cells(focal_lengths.get(photo.name)),
        ])  # fmt: skip
    return heads, cells


def _focal_cells(photo: PhotoFocal | None) -> list[str]:
    """The camera's focal length, and by how much others differ from it."""
    if photo is None:
        return ["", ""]
    others = [
        f"{one.source} {100 * (one.focal_px / photo.focal_px - 1):+.1f} % ({one.off:+.1f} sd)"
        for one in photo.sources
        if one.focal_px is not None
    ]
    return [f"{photo.focal_px:.0f}", ", ".join(others)]


def sharpness_picture(scene: Scene, name: str) -> np.ndarray:
    """(H, W, 3) uint8 from `blur_map`: light where sharp, dark where blurred, black without texture."""
    view = next(v for v in scene.train_views if v.name == name)
    blur = blur_map(scene.photo(view)).numpy()
    share = np.clip((blur - 0.4) / (SOFTEST - 0.4), 0, 1)[..., None]
    colors = (1 - share) * SHARP_COLOR + share * SOFT_COLOR
    return np.where(np.isnan(share), 0, colors).astype(np.uint8)


def coverage_svg(inspection: Inspection) -> str:
    """SVG: a bar for the depths that each photo has in focus, near on the left, even in 1/z. Below: how many
    photos have each depth in focus. Depths that no photo has sharp are red."""
    steps = inspection.depths
    nearest, farthest = 1 / steps[0].near, 1 / steps[-1].far
    left, width, line, top = 60, 520, 9, 20

    def place(depth: float | None) -> float:
        inverse = 0.0 if depth is None else 1 / depth
        return left + width * min(max((nearest - inverse) / (nearest - farthest), 0), 1)

    photos = sorted(inspection.photos, key=lambda photo: photo.focus_distance)
    bottom = top + line * len(photos)
    shapes = [
        f'<rect x="{place(near):.1f}" y="{top}" width="{place(far) - place(near):.1f}" '
        f'height="{bottom - top + 90}" fill="#d33" fill-opacity=".35"/>'
        for near, far in inspection.lost_ranges
    ]
    for index, photo in enumerate(photos):
        x, y = place(photo.near), top + line * index
        length = max(place(photo.far) - x, 1.5)
        title = f"<title>{escape(photo.name)}: {photo.focus_distance:.4g}</title>"
        shapes.append(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{line - 3}" rx="2" '
                      f'fill="#e0912a">{title}</rect>')  # fmt: skip
    most = max([step.photos_in_focus or 0 for step in steps] + [1])
    for step in steps:
        high = 60 * (step.photos_in_focus or 0) / most
        x, end = place(step.near), place(step.far)
        shapes.append(f'<rect x="{x:.1f}" y="{bottom + 80 - high:.1f}" width="{end - x - 1:.1f}" '
                      f'height="{high:.1f}" fill="#3a7bd5"/>')  # fmt: skip
    marks = [1 / (nearest + (farthest - nearest) * k / 5) for k in range(6)]
    labels = "".join(
        f'<text x="{place(z):.0f}" y="{bottom + 98}" text-anchor="middle">{z:.3g}</text>' for z in marks
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {bottom + 125}" style="max-width:48rem" '
        f'role="img" aria-label="Focus by depth">{"".join(shapes)}'
        f'<g font-size="12" fill="currentColor">{labels}'
        f'<text x="{left + width / 2}" y="{bottom + 118}" text-anchor="middle">depth, scene units</text>'
        f'<text x="4" y="{bottom + 84}">0 photos</text><text x="4" y="{bottom + 26}">{most}</text>'
        f'<text x="4" y="{top + 8}">photos</text></g></svg>'
    )
