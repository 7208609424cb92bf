"""`cocogs bench refocus`: sharp pictures with depth, refocused in several ways, against ray-traced pictures.

OUT/refocus.md, .csv, .json   the figures
OUT/refocus.html              the figures and pictures
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.bench.simple_lenses import gather, layers_without_fill, scatter
from cocogs.errors import InputError
from cocogs.io.atomic import replacing, scratch, write_text
from cocogs.io.page import difference, figure, page, row, section, table
from cocogs.io.photos import read_photo
from cocogs.io.pictures import to_picture
from cocogs.io.progress import Progress, Say
from cocogs.io.truth_file import read_truth
from cocogs.measure.evaluate import compare
from cocogs.measure.headings import MEASURES, Heading
from cocogs.optics.layers import blur_layers
from cocogs.optics.lens import PhotoLens
from cocogs.optics.sharpness import gradient_energy
from cocogs.photo.depth import find_depth
from cocogs.photo.slices import light_of
from cocogs.srgb import to_linear, to_srgb

Way = Callable[[Float[Tensor, "3 H W"], Float[Tensor, "H W"]], Float[Tensor, "3 H W"]]
"""From sharp light and signed CoC diameters to blurred light."""
WAYS: dict[str, Way] = {
    "layers": blur_layers,
    "layers, nothing behind": layers_without_fill,
    "gather": gather,
    "scatter": scatter,
    "untouched": lambda light, coc: light,
}
SCORES = ("psnr", "ssim_gaussian_11", "flip")
COLUMNS = {
    **{name: MEASURES[name] for name in SCORES},
    "blur_correlation": Heading("blur-level correlation", ".4f"),
    "clicks": Heading("clicked point sharpest %", ".1f"),
}
SMALLEST = 32  # px
MOST_BORDER = 40  # px left out at the picture's borders, where what lies outside comes in
APERTURES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)  # of the truth's; what blur levels are compared at
CLICKS = 50  # in each scene
OTHERS = 6  # focus distances that a click's is compared with
APART = 1.0  # px of blur at the clicked point, at least, of those others
TEXTURED = 1e-4  # gradient energy of the sharp picture, from which a point can be clicked


@dataclass(frozen=True)
class Pair:
    """A sharp picture and what a lens makes of it.

    Args:
        sharp, truth: (3, H, W), sRGB-encoded.
        lens: that of `truth`, in the unit of the depth.
    """

    scene: str
    name: str
    sharp: Float[Tensor, "3 H W"]
    truth: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    lens: PhotoLens


@dataclass(frozen=True)
class Figures:
    """What one way reached on one scene, by the names in `COLUMNS`."""

    scene: str
    way: str
    values: dict[str, float]


def bench_refocus(suite: Path, out: Path, depth: str | None, say: Say) -> list[Figures]:
    """Refocus the test views of truth scenes in every way, and write tables and page.

    Args:
        suite: a truth scene or a folder of some (scripts/make_truth_scene.py).
        depth: None for the true depth; else what `find_depth` takes, such as a folder of weights or
            run:RUNS/{scene}, where {scene} stands for each name. It is brought to the truth's scale by the
            median ratio.

    Raises:
        InputError: a scene is incomplete, or `out` cannot be written.
    """
    files = [suite / "truth.json"] if (suite / "truth.json").is_file() else suite.glob("*/truth.json")
    scenes = sorted(file.parent for file in files)
    if not scenes:
        raise InputError(f"{suite} holds no truth scene: make some with scripts/make_truth_scene.py.")
    with scratch(out / "refocus.md"):  # can it be written? now, not after minutes
        pass
    figures, pictures = [], []
    with Progress("Refocusing", len(scenes) * len(WAYS), say) as progress:
        for folder in scenes:
            pairs = list(read_pairs(folder, depth))
            for name, way in WAYS.items():
                figures.append(Figures(folder.name, name, measure(pairs, way)))
                progress.add(1)
            pictures.append(_pictures(pairs[0]))
    figures += [_mean(figures, way) for way in WAYS] if len(scenes) > 1 else []
    text = f"Sharp test views of {suite}, depth: {depth or 'true'}. {NOTE}"
    _write(figures, text, pictures, out)
    return figures


NOTE = (
    "PSNR, SSIM and FLIP against ray-traced pictures, away from the picture's border. Blur-level "
    "correlation: minus that of the logarithms of the Laplacian's variance and of the aperture. Clicked "
    "point sharpest: of 50 random points, those that no other focus shows sharper."
)


def read_pairs(folder: Path, depth: str | None) -> Iterator[Pair]:
    """The refocused pictures of a truth scene.

    Raises:
        InputError: pictures or depths are missing.
    """
    truth = read_truth(folder / "truth.json")
    if not truth.refocused or truth.focal_px is None:
        raise InputError(f"{truth.path} lacks refocused pictures or fx: make the scene again.")
    for entry in truth.refocused:
        own = folder / "depth" / f"{Path(entry.view).stem}.npy"
        photo = folder / "images" / entry.view
        z = find_depth(photo, str(own), "depth").depth
        if depth is not None:
            other = find_depth(photo, depth.replace("{scene}", folder.name), None).depth
            z = other * (z / other).nanmedian()
        sharp, shown = _encoded(photo), _encoded(folder / "refocus" / entry.name)
        if sharp.shape != shown.shape or min(shown.shape[1:]) < SMALLEST:
            raise InputError(
                f"{folder / 'refocus' / entry.name} must be as large as {photo}, and at least {SMALLEST} px "
                "a side: make the scene again."
            )
        K = entry.aperture_diameter * truth.focal_px
        lens = PhotoLens(torch.tensor(entry.focus_distance), torch.tensor(K))
        yield Pair(folder.name, entry.name, sharp, shown, z, lens)


def _encoded(path: Path) -> Float[Tensor, "3 H W"]:
    return to_srgb(light_of(read_photo(path)))


def measure(pairs: list[Pair], way: Way) -> dict[str, float]:
    """The figures of one way on one scene, by the names in `COLUMNS`."""
    scores = [_score(pair, way) for pair in pairs]
    values = {name: fmean(score[name] for score in scores) for name in scores[0]}
    values["blur_correlation"] = fmean(blur_correlation(pair, way) for pair in pairs)
    values["clicks"] = 100 * clicked_share(pairs, way)
    return values


def refocused(
    pair: Pair, way: Way, focus: Tensor | None = None, factor: float = 1.0
) -> Float[Tensor, "3 H W"]:
    """sRGB-encoded, in [0, 1].

    Args:
        focus: another focus distance than the truth's.
        factor: on the truth's aperture.
    """
    lens = PhotoLens(pair.lens.focus_distance if focus is None else focus, pair.lens.K * factor)
    return to_srgb(way(to_linear(pair.sharp), lens.coc(pair.depth)).clamp_min(0)).clamp(0, 1)


def _score(pair: Pair, way: Way) -> dict[str, float]:
    widest = math.ceil(float(pair.lens.coc(pair.depth).abs().max()) / 2) + 2
    border = min(widest, MOST_BORDER, min(pair.depth.shape) // 2 - SMALLEST // 4)
    inner = (..., slice(border, -border), slice(border, -border))
    shown = compare(refocused(pair, way)[inner].contiguous(), pair.truth[inner].contiguous(), None, None)
    return {name: shown[name] for name in SCORES}


def blur_correlation(pair: Pair, way: Way) -> float:
    """How well the blur of pictures follows the aperture: minus the correlation of the logarithms of the
    Laplacian's variance and of the aperture."""
    levels = []
    for factor in APERTURES:
        grey = refocused(pair, way, factor=factor).mean(0)
        laplacian = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
        levels.append(math.log(float(laplacian.var()) + 1e-12))
    if max(levels) - min(levels) < 1e-9:
        return 0.0
    return -float(np.corrcoef(levels, np.log(APERTURES))[0, 1])


def clicked_share(pairs: list[Pair], way: Way) -> float:
    """The share of `CLICKS` random textured points that are sharpest in the picture that is focused on them,
    of pictures focused on them and on other depths; NaN where no other depth would blur them."""
    generator = torch.Generator().manual_seed(0)
    hits, total = 0, 0
    for number, pair in enumerate(pairs):
        places = (gradient_energy(pair.sharp) > TEXTURED).nonzero()
        count = CLICKS * (number + 1) // len(pairs) - CLICKS * number // len(pairs)
        others = _spread(pair)
        energies = [gradient_energy(refocused(pair, way, focus)) for focus in others]
        for place in map(tuple, places[torch.randperm(len(places), generator=generator)[:count]].tolist()):
            z = pair.depth[place]
            own = gradient_energy(refocused(pair, way, z))[place]
            blurs = [abs(float(PhotoLens(focus, pair.lens.K).coc(z))) for focus in others]
            rivals = [e[place] for e, blur in zip(energies, blurs, strict=True) if blur >= APART]
            hits += bool(rivals) and all(bool(own > rival) for rival in rivals)
            total += bool(rivals)
    return hits / total if total else math.nan


def _spread(pair: Pair) -> Float[Tensor, " n"]:
    """Focus distances over the picture's depths, evenly in 1/z."""
    nearness = 1 / pair.depth
    return 1 / torch.linspace(float(nearness.min()), float(nearness.max()), OTHERS)


def _mean(figures: list[Figures], way: str) -> Figures:
    own = [f.values for f in figures if f.way == way]
    values = {name: [v[name] for v in own if math.isfinite(v[name])] for name in own[0]}
    return Figures("all scenes", way, {name: fmean(v) if v else math.nan for name, v in values.items()})


def _cells(figures: list[Figures]) -> tuple[list[str], list[list[str]]]:
    heads = ["scene", "method", *(heading.title for heading in COLUMNS.values())]
    rows = [
        [f.scene, f.way, *(format(f.values[name], heading.format) for name, heading in COLUMNS.items())]
        for f in figures
    ]
    return heads, rows


def _pictures(pair: Pair) -> str:
    """The section of a scene: truth, every way's picture, and where they differ."""

    def pixels(picture: Tensor) -> np.ndarray:
        return np.asarray(to_picture(picture))

    truth = pixels(pair.truth)
    shown = {name: pixels(refocused(pair, way)) for name, way in WAYS.items()}
    whole = [figure(truth, f"truth {pair.name}"), *(figure(p, name) for name, p in shown.items())]
    apart = [figure(difference(p, truth), f"difference: {name}") for name, p in shown.items()]
    return section(
        f"Scene {pair.scene}", "Below: too bright in red, too dark in blue.", row(whole) + row(apart)
    )


def _write(figures: list[Figures], text: str, pictures: list[str], out: Path) -> None:
    heads, rows = _cells(figures)
    lines = ["# Refocused pictures", "", text, "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    write_text(out / "refocus.md", "\n".join(lines) + "\n")
    entries = [
        {
            "scene": f.scene,
            "method": f.way,
            **{k: v if math.isfinite(v) else None for k, v in f.values.items()},
        }
        for f in figures
    ]
    write_text(out / "refocus.json", json.dumps(entries, indent=1, allow_nan=False) + "\n")
    with replacing(out / "refocus.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(entries[0]))
        writer.writeheader()
        writer.writerows(entries)
    write_text(
        out / "refocus.html",
        page("Refocused pictures", [section("Figures", text, table(heads, rows)), *pictures]),
    )
