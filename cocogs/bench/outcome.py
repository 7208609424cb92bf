"""What a benchmark found: the figures of every run, and what is summed up over scenes and seeds.

Mean and spread: a scene's figure is the mean over its seeds, a method's the mean over its scenes. The spread
is the standard deviation between seeds (of the mean over the scenes, for a method); it needs two seeds.
"""

import json
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cocogs.bench.runs import ABLATION, CEILING, FLOOR, METHODS, BenchSettings, Costs
from cocogs.bench.suites import Published, Suite
from cocogs.errors import InputError

ALL_SCENES = "all scenes"


@dataclass(frozen=True)
class Result:
    """What a finished run gave.

    Args:
        code: what it was trained by (`code_version`), None where that is not known.
        figures: PSNR and so on, by the names in COLUMNS; None where a figure has no meaning.
        view_psnr: dB of every test view.
    """

    scene: str
    method: str
    seed: int
    folder: Path
    code: str | None
    figures: dict[str, float | None]
    view_psnr: dict[str, float]


COLUMNS = {
    "psnr": ("PSNR dB", ".2f"),
    "ssim_gaussian_11": ("SSIM Gaussian 11", ".4f"),
    "ssim_uniform_7": ("SSIM uniform 7", ".4f"),
    "flip": ("FLIP", ".4f"),
    "lpips": ("LPIPS", ".4f"),
    "gap_closed": ("gap closed %", ".1f"),
    "aperture_error": ("aperture error %", ".1f"),
    "focus_error": ("focus error %", ".1f"),
    "refocus_psnr": ("refocus PSNR dB", ".2f"),
    "cpu_seconds": ("CPU s", ".0f"),
    "wall_seconds": ("wall s", ".0f"),
    "peak_gib": ("peak GiB", ".2f"),
    "gaussians": ("Gaussians", ",.0f"),
}
"""Heading and format of every figure."""


def collect(out: Path) -> tuple[list[Result], list[str]]:
    """The figures of all finished runs in OUT, and a sentence for each whose figures are damaged. Gap closed
    follows from the floor and the ceiling of each scene."""
    results, damaged = [], []
    for path in sorted(out.glob("runs/*/*/seed*/eval.json")):
        try:
            results.append(read_result(path.parent))
        except InputError as error:
            damaged.append(str(error))
    for scene in {r.scene for r in results}:
        here = [r for r in results if r.scene == scene]
        floor, ceiling = (mean_psnr(here, method) for method in (FLOOR, CEILING))
        if floor is None or ceiling is None or ceiling <= floor:
            continue
        for result in here:
            psnr = result.figures["psnr"]
            assert psnr is not None
            result.figures["gap_closed"] = 100 * (psnr - floor) / (ceiling - floor)
    return results, damaged


def mean_psnr(results: list[Result], method: str) -> float | None:
    values = [r.figures["psnr"] for r in results if r.method == method]
    return statistics.fmean(v for v in values if v is not None) if values else None


def read_result(folder: Path) -> Result:
    """Of the run in `folder`, OUT/runs/SCENE/METHOD/seedN.

    Raises:
        InputError: its eval.json is damaged.
    """
    path = folder / "eval.json"
    scene, method, seed = folder.parts[-3:]
    try:
        evaluation, costs = json.loads(path.read_text()), Costs.read(folder)
        figures: dict[str, float | None] = dict.fromkeys(COLUMNS) | evaluation["mean"]
        figures |= lens_figures(evaluation)
        figures["gaussians"] = float(evaluation["gaussians"])
        view_psnr = {view["name"]: float(view["psnr"]) for view in evaluation["views"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): delete it and start again.") from error
    if costs.known:
        figures |= {"cpu_seconds": costs.cpu_seconds, "wall_seconds": costs.wall_seconds}
        figures["peak_gib"] = costs.peak_bytes / 2**30
    return Result(scene, method, int(seed.removeprefix("seed")), folder, costs.code, figures, view_psnr)


def lens_figures(evaluation: dict[str, Any]) -> dict[str, float | None]:
    """Errors of the lens in per cent, and PSNR of refocused pictures, where a truth was given."""
    if "truth" not in evaluation:
        return {}
    truth = evaluation["truth"]
    figures: dict[str, float | None] = {"refocus_psnr": truth["mean"]["final"]} if truth["refocused"] else {}
    if lens := truth["lens"]:
        figures["aperture_error"] = 100 * abs(lens["aperture_ratio"] - 1)
        figures["focus_error"] = 100 * lens["focus_error"]
    return figures


# ------------------------------------------------------------------------------------------ mean and spread


@dataclass(frozen=True)
class Row:
    """A line of the table: `scenes` and `seeds` say how many went into it; (mean, spread) by column."""

    scene: str
    method: str
    scenes: int
    seeds: int
    figures: dict[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Outcome:
    """All that tables and page are made of.

    Args:
        suite: what the last call ran; OUT may hold results of more scenes.
        failures: a sentence per run without figures.
    """

    suite: Suite
    settings: BenchSettings
    results: list[Result]
    failures: list[str]

    @property
    def scenes(self) -> list[str]:
        """Names, in the suite's order first."""
        found = sorted(result.scene for result in self.results)
        return list(dict.fromkeys([*(scene.name for scene in self.suite.scenes), *found]))

    @property
    def published(self) -> tuple[Published, ...]:
        """Only beside figures of the same scenes."""
        return self.suite.published if {r.scene for r in self.results} == set(self.scenes) else ()

    @property
    def versions(self) -> list[str]:
        """Of cocogs, by which the runs were trained."""
        return sorted({result.code or "unknown" for result in self.results})

    @cached_property
    def rows(self) -> list[Row]:
        """One per method over all its scenes, then one per scene and method."""
        rows = []
        for scene in [ALL_SCENES, *(self.scenes if len(self.scenes) > 1 else [])]:
            for method in (*METHODS, *ABLATION):
                here = [r for r in self.results if r.method == method and scene in (ALL_SCENES, r.scene)]
                if here:
                    rows.append(_row(scene, method, here))
        return rows


def _row(scene: str, method: str, results: list[Result]) -> Row:
    scenes, seeds = sorted({r.scene for r in results}), sorted({r.seed for r in results})
    figures = {}
    for column in COLUMNS:
        values = {(r.scene, r.seed): r.figures[column] for r in results}
        by_scene = [_mean([values.get((s, seed)) for seed in seeds]) for s in scenes]
        by_seed = [_mean([values.get((s, seed)) for s in scenes], complete=True) for seed in seeds]
        whole = [value for value in by_seed if value is not None]
        spread = statistics.stdev(whole) if len(whole) > 1 else None
        figures[column] = (_mean(by_scene), spread)
    return Row(scene, method, len(scenes), len(seeds), figures)


def _mean(values: list[float | None], complete: bool = False) -> float | None:
    """Mean of those that are known; None where none is, or where `complete` and one is not."""
    known = [value for value in values if value is not None]
    if not known or (complete and len(known) < len(values)):
        return None
    return statistics.fmean(known)
