"""A self-contained HTML page about a finished run: photos, our pictures and the truth side by side.

Sections without input are left out. Pictures belong together if their file names are equal up to the suffix.
"""

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.io.page import figure, page, row, scatter, section, spread, table
from cocogs.io.truth_file import TruthFile, TruthFrame, read_truth
from cocogs.measure.alignment import align
from cocogs.measure.headings import MEASURES

ROWS = 4
"""Largest number of training views, and of test views, to show."""


@dataclass(frozen=True)
class Report:
    """What a page is made from; None where it is not there.

    Args:
        photos: folder of the photos that training used.
        sharp: folder of our sharp pictures of the same views.
        truth: folder of sharp photos of the test views.
        refocused: folder of our refocused pictures, NAME.png or Z/NAME.png.
        refocus_truth: folder of the true ones, NAME.png or NAME_Z.png.
        eval: what `cocogs eval RUN --json` printed.
        lens: RUN/lens.json.
        truth_json: truth.json of a ray-traced scene.
        sparse: folder of the COLMAP model of the run; tells the length of its unit.
        commands: that made the run.
    """

    photos: Path
    sharp: Path
    truth: Path | None = None
    refocused: Path | None = None
    refocus_truth: Path | None = None
    eval: Path | None = None
    lens: Path | None = None
    truth_json: Path | None = None
    sparse: Path | None = None
    commands: tuple[str, ...] = ()
    title: str = "Sharp 3D from defocused photos"


# --------------------------------------------------------------------------------------------- reading


def pictures(folder: Path | None, needed: bool = False) -> dict[str, Path]:
    """The pictures of a folder by name without suffix, sorted; none if no folder is given.

    Raises:
        InputError: the folder does not exist, or is empty and `needed`.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one with pictures in it.")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".png", ".jpg", ".jpeg")}
    if needed and not found:
        raise InputError(f"{folder} has no PNG or JPEG picture: give another folder.")
    return found


def read_object(path: Path | None) -> dict[str, Any]:
    """The object in a JSON file; empty if no file is given.

    Raises:
        InputError: the file cannot be read.
    """
    if path is None:
        return {}
    document = read_json(path, "write it again or leave it out")
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no JSON object: write it again or leave it out.")
    return document


def truth_unit(truth: TruthFile, sparse: Path) -> float:
    """True units in one unit of the COLMAP model, by the similarity between its cameras and the true ones.

    Raises:
        InputError: the model cannot be read, or shares fewer than 3 photos with the truth.
    """
    import pycolmap

    try:
        images = pycolmap.Reconstruction(str(sparse)).images.values()
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{sparse} holds no readable COLMAP model: give the model of the run.") from error
    found = {image.name: image.projection_center() for image in images if image.has_pose}
    names = sorted(found.keys() & truth.frames.keys())
    if len(names) < 3:
        raise InputError(f"{sparse} shares fewer than 3 photos with {truth.path}: give the model of the run.")
    positions = torch.from_numpy(np.stack([found[name] for name in names]))
    return align(positions, torch.stack([truth.frames[name].position for name in names])).scale


def by_stem(truth: TruthFile | None) -> dict[str, TruthFrame]:
    """The true frames by photo name without suffix; none if no truth is known."""
    return {} if truth is None else {Path(name).stem: frame for name, frame in truth.frames.items()}


def held_out(report: Report, scores: dict[str, dict], truth: TruthFile | None) -> set[str]:
    """Names of the test views: by truth.json, else by eval.json, else by a separate truth folder."""
    if truth:
        return {name for name, frame in by_stem(truth).items() if frame.test}
    if scores or not report.truth or report.truth.resolve() == report.photos.resolve():
        return set(scores)
    return set(pictures(report.truth))


# ---------------------------------------------------------------------------------------------- pieces


def neighbour(name: str, candidates: list[str], truth: TruthFile | None) -> str:
    """The candidate taken nearest to view `name`; the neighbour in name order if no truth is known."""
    frames = by_stem(truth)
    known = [candidate for candidate in candidates if candidate in frames]
    if name in frames and known:
        place = frames[name].position
        return min(known, key=lambda candidate: float((frames[candidate].position - place).norm()))
    order = sorted([*candidates, name])
    index = order.index(name)
    return order[index - 1] if index else order[1]


# -------------------------------------------------------------------------------------------- sections


def unseen_section(report: Report, tests: set[str], scores: dict[str, dict], truth: TruthFile | None) -> str:
    """The section of the test views: the nearest photo, our picture, the truth."""
    photos, sharp, true = pictures(report.photos), pictures(report.sharp), pictures(report.truth)
    training = sorted(photos.keys() - tests)
    rows = []
    for name in spread(sorted(tests & sharp.keys() & true.keys()), ROWS):
        psnr = scores.get(name, {}).get("psnr")
        quality = f", PSNR {psnr:.2f} dB" if isinstance(psnr, float) else ""
        figures = [
            figure(sharp[name], f"our picture of {name}{quality}"),
            figure(true[name], f"truth {name}"),
        ]
        if training:
            nearest = photos[neighbour(name, training, truth)]
            figures.insert(0, figure(nearest, f"nearest photo: {nearest.name}"))
        rows.append(row(figures))
    text = "Views from places where no training photo was taken, beside the nearest training photo."
    return section("Sharp pictures from new places", text, "".join(rows)) if rows else ""


def photo_section(report: Report, tests: set[str]) -> str:
    """The section of the training views, from the nearest focus to the farthest: photo, our sharp picture."""
    photos, sharp = pictures(report.photos, needed=True), pictures(report.sharp, needed=True)
    distances = {
        Path(p["name"]).stem: p["focus_distance"] for p in read_object(report.lens).get("photos", [])
    }
    names = sorted((photos.keys() & sharp.keys()) - tests, key=lambda n: (distances.get(n, math.inf), n))
    rows = [
        row([figure(photos[n], f"photo {photos[n].name}"), figure(sharp[n], "our picture, sharp everywhere")])
        for n in spread(names, ROWS)
    ]
    text = "Training photos from the nearest focus to the farthest, beside the same views without the blur."
    return section("Photos made sharp", text, "".join(rows)) if rows else ""


def refocus_section(report: Report) -> str:
    """The section of up to three refocused pictures, each with its truth if there is one."""
    ours, true = pictures(report.refocused), pictures(report.refocus_truth)
    if report.refocused:
        for folder in sorted(f for f in report.refocused.iterdir() if f.is_dir()):
            ours |= {f"{view}_{folder.name}": path for view, path in pictures(folder).items()}
    names = sorted(ours.keys() & true.keys() if true else ours)[:3]
    if not names:
        return ""
    found = [figure(ours[n], f"ours: {n}") for n in names]
    pairs = zip(found, (figure(true[n], f"truth: {n}") for n in names), strict=True) if true else [found]
    return section(
        "Refocused",
        "The same scene through the learned lens, focused elsewhere.",
        "".join(map(row, map(list, pairs))),
    )


def score_section(document: dict) -> str:
    """The section of the figures: a row per test view, and their mean."""
    views, mean = document.get("views"), document.get("mean")
    if not views or not mean:
        return ""
    try:
        measures = [m for m in MEASURES if m in mean]
        rows = [
            [str(name), *(format(float(scores[m]), MEASURES[m].format) for m in measures)]
            for name, scores in [*((view["name"], view) for view in views), ("mean", mean)]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The figures lack {error}: write them again with `cocogs eval RUN --json`."
        ) from error
    facts = [
        f"{name} {document[name]:,}" for name in ("step", "gaussians") if isinstance(document.get(name), int)
    ]
    preset = document.get("preset", "unknown")
    text = f"Test views, which training never saw, against sharp photos. Preset {preset}."
    text = " ".join([text, *(f"{fact[0].upper()}{fact[1:]}." for fact in facts)])
    return section("Figures", text, table(["view", *(MEASURES[m].title for m in measures)], rows))


def lens_section(report: Report, truth: TruthFile | None) -> str:
    """The section of the learned lens, beside the true one if that is known."""
    photos = [p for p in read_object(report.lens).get("photos", []) if not p.get("test")]
    if not photos:
        return ""
    try:
        names = [Path(p["name"]).stem for p in photos]
        focus, aperture = (
            np.array([float(p[k]) for p in photos]) for k in ("focus_distance", "aperture_diameter")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{report.lens} lacks a photo's {error}: train again to write it.") from error
    unit = truth_unit(truth, report.sparse) if truth and report.sparse else None
    true = {name: frame.focus_distance for name, frame in by_stem(truth).items()}
    known = [i for i, name in enumerate(names) if true.get(name) is not None]
    if truth is None or unit is None or not known:
        facts = [["photos", str(len(names))], ["aperture diameter", f"{aperture.mean():.4g}"]]
        facts.append(["focus distances", f"{focus.min():.3g} to {focus.max():.3g}"])
        return section(
            "The lens it found", "Lengths are in the unit of the camera poses.", table(["", "learned"], facts)
        )
    true_focus = np.array([true[names[i]] for i in known], float)
    found_focus = focus[known] * unit
    error = np.abs(1 / found_focus - 1 / true_focus).mean()
    diameter, true_diameter = aperture.mean() * unit, truth.aperture_diameter
    facts = [
        ["aperture diameter (mm)", f"{1000 * diameter:.2f}", f"{1000 * true_diameter:.2f}"],
        ["off by", f"{100 * abs(diameter / true_diameter - 1):.1f} %", ""],
        ["mean |1/focus - 1/truth| (1/m)", f"{error:.4f}", ""],
    ]
    plot = scatter(
        list(zip(true_focus.tolist(), found_focus.tolist(), strict=True)),
        "true focus distance (m)",
        "learned (m)",
    )
    text = "The aperture and the focus distance of every photo, learned from the blur alone."
    return section("The lens it found", text, table(["", "learned", "truth"], facts) + plot)


def command_section(commands: list[str]) -> str:
    if not commands:
        return ""
    return section(
        "Commands", "These commands made this page.", f"<pre>{escape(chr(10).join(commands))}</pre>"
    )


def build(report: Report) -> str:
    """The page as HTML text."""
    document = read_object(report.eval)
    truth = None if report.truth_json is None else read_truth(report.truth_json)
    scores = {Path(v.get("name", "")).stem: v for v in document.get("views") or []}
    tests = held_out(report, scores, truth)
    sections = [
        unseen_section(report, tests, scores, truth),
        photo_section(report, tests),
        refocus_section(report),
        lens_section(report, truth),
        score_section(document),
        command_section(list(report.commands)),
    ]
    return page(report.title, sections)


def write_report(report: Report, out: Path) -> None:
    """Write the page.

    Raises:
        InputError: an input is absent or damaged, or the page cannot be written; an older page then stays.
    """
    write_text(out, build(report))
