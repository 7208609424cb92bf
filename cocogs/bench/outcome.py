"""What a benchmark found: the figures of every run, and their means and spreads.

The figure of a scene is the mean over its seeds; the figure of a method is the mean over its scenes. The
spread is the standard deviation between seeds (for a method: of the mean over its scenes) and needs two
seeds.
"""

import re
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cocogs.bench.protocols import Published
from cocogs.bench.runs import ABLATION, CEILING, FLOOR, METHODS, BenchSettings, Costs
from cocogs.bench.suites import Suite
from cocogs.errors import InputError
from cocogs.io.json_file import read_json
from cocogs.measure.headings import MEASURES, Heading

ALL_SCENES = "all scenes"


@dataclass(frozen=True)
class Result:
    """The figures of a finished run.

    Args:
        folder: OUT/runs/SCENE/METHOD/seedN.
        code: version of the code that trained it (`code_version`); None if unknown.
        figures: by the names in COLUMNS; None for what was not measured or does not apply.
        view_psnr: PSNR of every test view, dB.
    """

    scene: str
    method: str
    seed: int
    folder: Path
    code: str | None
    figures: dict[str, float | None]
    view_psnr: dict[str, float]


COLUMNS = {
    **MEASURES,
    "gap_closed": Heading("gap closed %", ".1f"),
    "aperture_error": Heading("aperture error %", ".1f"),
    "focus_error": Heading("focus error %", ".1f"),
    "refocus_psnr": Heading("refocus PSNR dB", ".2f"),
    "cpu_seconds": Heading("CPU s", ".0f"),
    "wall_seconds": Heading("wall s", ".0f"),
    "peak_gib": Heading("peak GiB", ".2f"),
    "gaussians": Heading("Gaussians", ",.0f"),
}
"""Every figure of a run, in the order of the table."""


def collect(out: Path) -> tuple[list[Result], list[str]]:
    """The figures of all finished runs in OUT, and a sentence for each run whose figures are damaged.

    `gap_closed` follows from the floor and the ceiling of each scene.
    """
    results, damaged = [], []
    for path in sorted(out.glob("runs/*/*/seed*/eval.json")):
        if not re.fullmatch(r"seed\d+", path.parent.name):  # somebody's copy of a run
            continue
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
    """Mean PSNR of a method's results, dB; None if there are none."""
    values = [r.figures["psnr"] for r in results if r.method == method]
    return statistics.fmean(v for v in values if v is not None) if values else None


def read_result(folder: Path) -> Result:
    """The figures of the run in `folder`, which is OUT/runs/SCENE/METHOD/seedN.

    Raises:
        InputError: its eval.json is damaged.
    """
    path = folder / "eval.json"
    scene, method, seed = folder.parts[-3:]
    evaluation, costs = read_json(path, "delete it and start again"), Costs.read(folder)
    try:
        measured = {name: float(value) for name, value in evaluation["mean"].items()}
        figures: dict[str, float | None] = {**dict.fromkeys(COLUMNS), **measured, "psnr": measured["psnr"]}
        figures |= lens_figures(evaluation)
        figures["gaussians"] = float(evaluation["gaussians"])
        view_psnr = {view["name"]: float(view["psnr"]) for view in evaluation["views"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): delete it and start again.") from error
    if costs.known:
        figures |= {"cpu_seconds": costs.cpu_seconds, "wall_seconds": costs.wall_seconds}
        figures["peak_gib"] = costs.peak_bytes / 2**30
    return Result(scene, method, int(seed.removeprefix("seed")), folder, costs.code, figures, view_psnr)


def lens_figures(evaluation: dict[str, Any]) -> dict[str, float | None]:
    """Errors of the lens in per cent and PSNR of refocused pictures, as far as there is a truth."""
    if "truth" not in evaluation:
        return {}
    truth = evaluation["truth"]
    figures: dict[str, float | None] = {"refocus_psnr": truth["mean"]["final"]} if truth["refocused"] else {}
    if lens := truth["lens"]:
        figures["aperture_error"] = 100 * abs(lens["aperture_ratio"] - 1)
    if "focus_error" in lens:  # no training photo of the truth is defocused
        figures["focus_error"] = 100 * lens["focus_error"]
    return figures


# ------------------------------------------------------------------------------------------ mean and spread


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        scenes, seeds: how many went into it.
        figures: (mean, spread) by the names in COLUMNS.
    """

    scene: str
    method: str
    scenes: int
    seeds: int
    figures: dict[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Outcome:
    """Everything that the tables and the page show.

    Args:
        suite: what this call ran; `results` may hold more scenes.
        failures: a sentence for each run without figures.
    """

    suite: Suite
    settings: BenchSettings
    results: list[Result]
    failures: list[str]

    @property
    def scenes(self) -> list[str]:
        """Names of all scenes: first those of the suite in its order, then others."""
        found = sorted(result.scene for result in self.results)
        return list(dict.fromkeys([*(scene.name for scene in self.suite.scenes), *found]))

    @property
    def published(self) -> tuple[Published, ...]:
        """Published figures; none unless all of the suite's scenes have results."""
        return self.suite.published if {r.scene for r in self.results} == set(self.scenes) else ()

    @property
    def versions(self) -> list[str]:
        """Versions of cocogs that trained the runs."""
        return sorted({result.code or "unknown" for result in self.results})

    @cached_property
    def rows(self) -> list[Row]:
        """A row per method over all its scenes, then a row per scene and method."""
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
    """Mean of the values that are not None; None if there are none, or if `complete` and one is None."""
    known = [value for value in values if value is not None]
    if not known or (complete and len(known) < len(values)):
        return None
    return statistics.fmean(known)
