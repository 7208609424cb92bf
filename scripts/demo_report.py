"""Writes one self-contained HTML page about a finished run: photos beside our pictures beside the truth.

    python scripts/demo_report.py --photos data/demo/images --sharp DIR --out report.html
        [--truth DIR] [--refocused DIR] [--refocus-truth DIR] [--eval eval.json] [--lens RUN/lens.json]
        [--truth-json data/demo/truth.json] [--sparse data/demo/sparse/0] [--command "cocogs train ..."]...

A section whose input is not given is left out. Pictures are matched by file name (without suffix).
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.io.page import figure, page, row, scatter, section, spread, table

ROWS = 4
"""At most so many training views and so many test views are shown."""

MEASURES = {
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim_gaussian_11": ("SSIM, Gaussian 11", ".4f"),
    "ssim_uniform_7": ("SSIM, uniform 7", ".4f"),
    "flip": ("FLIP", ".4f"),
    "lpips": ("LPIPS", ".4f"),
}
"""Heading and format of the figures that `cocogs eval --json` writes."""


@dataclass(frozen=True)
class Truth:
    """truth.json of a rendered scene: (3,) camera centres and focus distances (None: sharp), by name stem."""

    centers: dict[str, np.ndarray]
    focus_distances: dict[str, float | None]
    aperture_diameter: float


# --------------------------------------------------------------------------------------------- reading


def pictures(folder: Path | None, needed: str = "") -> dict[str, Path]:
    """The pictures of a folder by name without suffix, sorted; none where no folder is given.

    Raises:
        InputError: a folder was named but it does not exist, or `needed` (its option) and it is empty.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one with pictures in it.")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".png", ".jpg", ".jpeg")}
    if needed and not found:
        raise InputError(f"{folder} has no PNG or JPEG picture: give another folder for {needed}.")
    return found


def read_json(path: Path | None) -> dict[str, Any]:
    """The object in a JSON file; empty where no file is given."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({error}): write it again or leave it out."
        ) from error
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no JSON object: write it again or leave it out.")
    return document


def read_truth(path: Path | None) -> Truth | None:
    if path is None:
        return None
    document = read_json(path)
    try:
        poses = {Path(f["name"]).stem: np.array(f["w2c"], float) for f in document["frames"]}
        return Truth(
            {name: -pose[:3, :3].T @ pose[:3, 3] for name, pose in poses.items()},
            {Path(f["name"]).stem: f["focus_distance"] for f in document["frames"]},
            float(document["aperture_diameter"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is no truth.json of a rendered scene ({error!r}): leave it out.") from error


def truth_unit(truth: Truth | None, sparse: Path | None) -> float | None:
    """The truth's length of one unit of the COLMAP model: the ratio of how far the cameras are spread."""
    if truth is None or sparse is None:
        return None
    import pycolmap

    try:
        images = pycolmap.Reconstruction(str(sparse)).images.values()
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"{sparse} holds no readable COLMAP model: give the one that the run used."
        ) from error
    found = {Path(i.name).stem: i.projection_center() for i in images if i.has_pose}
    names = sorted(found.keys() & truth.centers.keys())
    if len(names) < 3:
        raise InputError(
            f"{sparse} shares fewer than 3 photos with the truth: give the model that the run used."
        )
    spread = [np.linalg.norm(np.stack([c[n] for n in names]).std(0)) for c in (truth.centers, found)]
    return float(spread[0] / spread[1])


def held_out(args: argparse.Namespace, scores: dict[str, dict], truth: Truth | None) -> set[str]:
    """Names of the test views: from truth.json, else eval.json, else a truth folder of its own."""
    if truth:
        return {name for name, distance in truth.focus_distances.items() if distance is None}
    if scores or not args.truth or args.truth.resolve() == args.photos.resolve():
        return set(scores)
    return set(pictures(args.truth))


# ---------------------------------------------------------------------------------------------- pieces


def neighbour(name: str, candidates: list[str], truth: Truth | None) -> str:
    """The candidate photographed nearest to view `name`; by the order of names where no truth is known."""
    known = [c for c in candidates if truth and c in truth.centers]
    if truth and name in truth.centers and known:
        return min(known, key=lambda c: float(np.linalg.norm(truth.centers[c] - truth.centers[name])))
    order = sorted([*candidates, name])
    place = order.index(name)
    return order[place - 1] if place else order[1]


# -------------------------------------------------------------------------------------------- sections


def unseen_section(
    args: argparse.Namespace, tests: set[str], scores: dict[str, dict], truth: Truth | None
) -> str:
    """Held-out views: the nearest photo, our picture, the truth."""
    photos, sharp, true = pictures(args.photos), pictures(args.sharp), pictures(args.truth)
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
    text = "Places that no training photo was taken from, after what the nearest photo saw."
    return section("Sharp pictures from new places", text, "".join(rows)) if rows else ""


def photo_section(args: argparse.Namespace, tests: set[str]) -> str:
    """Training views from the nearest to the farthest focus: photo, our sharp picture."""
    photos, sharp = pictures(args.photos, "--photos"), pictures(args.sharp, "--sharp")
    distances = {Path(p["name"]).stem: p["focus_distance"] for p in read_json(args.lens).get("photos", [])}
    names = sorted((photos.keys() & sharp.keys()) - tests, key=lambda n: (distances.get(n, math.inf), n))
    rows = [
        row([figure(photos[n], f"photo {photos[n].name}"), figure(sharp[n], "our picture, sharp everywhere")])
        for n in spread(names, ROWS)
    ]
    text = (
        "Photos that the training used, from near to far focus, beside the same view without the lens's blur."
    )
    return section("Photos made sharp", text, "".join(rows)) if rows else ""


def refocus_section(args: argparse.Namespace) -> str:
    """Up to three pictures focused elsewhere, each beside its truth where there is one."""
    ours, true = pictures(args.refocused), pictures(args.refocus_truth)
    if args.refocused:
        for folder in sorted(f for f in args.refocused.iterdir() if f.is_dir()):
            ours |= {f"{view}_{folder.name}": path for view, path in pictures(folder).items()}
    names = sorted(ours.keys() & true.keys() if true else ours)[:3]
    if not names:
        return ""
    found = [figure(ours[n], f"ours: {n}") for n in names]
    pairs = zip(found, (figure(true[n], f"truth: {n}") for n in names), strict=True) if true else [found]
    return section(
        "Refocused",
        "The same scene through the learned lens, focused anew.",
        "".join(map(row, map(list, pairs))),
    )


def score_section(document: dict) -> str:
    """PSNR and the other figures, a row per test view and their mean."""
    views, mean = document.get("views"), document.get("mean")
    if not views or not mean:
        return ""
    measures = [m for m in MEASURES if m in mean]
    try:
        rows = [
            [str(name), *(format(float(scores[m]), MEASURES[m][1]) for m in measures)]
            for name, scores in [*((view["name"], view) for view in views), ("mean", mean)]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The figures lack {error}: write them again with `cocogs eval RUN --json`."
        ) from error
    facts = [
        f"{name} {document[name]:,}" for name in ("step", "gaussians") if isinstance(document.get(name), int)
    ]
    text = f"Held-out views against their sharp truth; preset {document.get('preset', 'unknown')}."
    text = " ".join([text, *(f"{fact[0].upper()}{fact[1:]}." for fact in facts)])
    return section("Figures", text, table(["view", *(MEASURES[m][0] for m in measures)], rows))


def lens_section(args: argparse.Namespace, truth: Truth | None) -> str:
    """What was learned about the lens, against the truth where it is known."""
    photos = [p for p in read_json(args.lens).get("photos", []) if not p.get("test")]
    if not photos:
        return ""
    try:
        names = [Path(p["name"]).stem for p in photos]
        focus, aperture = (
            np.array([float(p[k]) for p in photos]) for k in ("focus_distance", "aperture_diameter")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{args.lens} lacks a photo's {error}: train again to write it.") from error
    unit = truth_unit(truth, args.sparse)
    known = [i for i, n in enumerate(names) if truth and truth.focus_distances.get(n)]
    if truth is None or unit is None or not known:
        facts = [["photos", str(len(names))], ["aperture diameter", f"{aperture.mean():.4g}"]]
        facts.append(["focus distances", f"{focus.min():.3g} to {focus.max():.3g}"])
        return section("The lens it found", "In the unit of the camera poses.", table(["", "learned"], facts))
    true_focus = np.array([truth.focus_distances[names[i]] for i in known], float)
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
    text = "Focus distance of every photo and the aperture, learned from the blur alone."
    return section("The lens it found", text, table(["", "learned", "truth"], facts) + plot)


def command_section(commands: list[str]) -> str:
    if not commands:
        return ""
    return section("Commands", "What made this page.", f"<pre>{escape(chr(10).join(commands))}</pre>")


def build(args: argparse.Namespace) -> str:
    """The page as HTML text."""
    document, truth = read_json(args.eval), read_truth(args.truth_json)
    scores = {Path(v.get("name", "")).stem: v for v in document.get("views") or []}
    tests = held_out(args, scores, truth)
    sections = [
        unseen_section(args, tests, scores, truth),
        photo_section(args, tests),
        refocus_section(args),
        lens_section(args, truth),
        score_section(document),
        command_section(args.command),
    ]
    return page(args.title, sections)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A one-page HTML report of a finished run.")
    parser.add_argument("--photos", type=Path, help="the photos that were trained on (needed)")
    parser.add_argument("--sharp", type=Path, help="our sharp pictures of the same views (needed)")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    parser.add_argument("--truth", type=Path, help="sharp photos of the test views")
    parser.add_argument("--refocused", type=Path, help="our refocused pictures NAME.png or Z/NAME.png")
    parser.add_argument("--refocus-truth", type=Path, help="true pictures NAME.png or NAME_Z.png")
    parser.add_argument("--eval", type=Path, help="what `cocogs eval RUN --json` wrote")
    parser.add_argument("--lens", type=Path, help="RUN/lens.json")
    parser.add_argument("--truth-json", type=Path, help="truth.json of a rendered scene")
    parser.add_argument(
        "--sparse", type=Path, help="the COLMAP model of the run, to compare lengths with the truth"
    )
    parser.add_argument("--command", action="append", default=[], help="a command to list; may be repeated")
    parser.add_argument("--title", default="Sharp 3D from defocused photos")
    args = parser.parse_args(argv)
    try:
        for option in ("photos", "sharp"):
            if getattr(args, option) is None:
                raise InputError(f"--{option} is missing: give the folder of its pictures.")
        text = build(args)
        with replacing(args.out) as path:
            path.write_text(text)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
