"""The figures of a benchmark as one table: Markdown for people, CSV for spreadsheets, JSON for programs.

Mean and spread: a scene's figure is the mean over its seeds, a method's the mean over its scenes. The spread
is the standard deviation between seeds (of the mean over the scenes, for a method); it needs two seeds.
"""

import csv
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from cocogs.bench.runs import COLUMNS, BenchSettings, Result
from cocogs.bench.suites import Published, Suite
from cocogs.io.atomic import replacing

ALL_SCENES = "all scenes"


@dataclass(frozen=True)
class Row:
    """A line of the table: `scenes` and `seeds` say how many went into it; (mean, spread) by column."""

    scene: str
    method: str
    scenes: int
    seeds: int
    figures: dict[str, tuple[float | None, float | None]]


def make_rows(results: list[Result], methods: tuple[str, ...], suite: Suite) -> list[Row]:
    """One row per method over all its scenes, then one per scene and method."""
    scenes = [scene.name for scene in suite.scenes]
    rows = []
    for scene in [ALL_SCENES, *(scenes if len(scenes) > 1 else [])]:
        for method in methods:
            chosen = [r for r in results if r.method == method and scene in (ALL_SCENES, r.scene)]
            if chosen:
                rows.append(_row(scene, method, chosen))
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


def used_columns(rows: list[Row]) -> list[str]:
    return [c for c in COLUMNS if any(row.figures[c][0] is not None for row in rows)]


def cell(row: Row, column: str) -> str:
    """Such as 31.25 ± 0.08; empty where there is no figure."""
    mean, spread = row.figures[column]
    if mean is None:
        return ""
    form = COLUMNS[column][1]
    mean = round(mean, 9) + 0.0  # a mean of -1e-15 reads 0.0, not -0.0
    return format(mean, form) + (f" ± {format(spread, form)}" if spread is not None else "")


def published_cells(entry: Published, columns: list[str]) -> list[str]:
    """A paper's figures in the table's columns."""
    figures = {"psnr": entry.psnr, "ssim_uniform_7": entry.ssim_uniform_7, "lpips": entry.lpips}
    return [format(figures[c], COLUMNS[c][1]) if c in figures else "" for c in columns]


def heads_and_cells(rows: list[Row], suite: Suite) -> tuple[list[str], list[list[str]]]:
    """The table as text, published figures last and marked as such."""
    columns = used_columns(rows)
    heads = ["scene", "method", "seeds", *(COLUMNS[c][0] for c in columns)]
    cells = []
    for row in rows:
        missing = row.scene == ALL_SCENES and row.scenes < len(suite.scenes)
        scene = f"{row.scenes} of {len(suite.scenes)} scenes" if missing else row.scene
        cells.append([scene, row.method, str(row.seeds), *(cell(row, c) for c in columns)])
    for entry in suite.published:
        cells.append([ALL_SCENES, f"{entry.method} (published)", "", *published_cells(entry, columns)])
    return heads, cells


def to_markdown(rows: list[Row], suite: Suite, settings: BenchSettings, failures: list[str]) -> str:
    heads, cells = heads_and_cells(rows, suite)
    lines = [f"# {suite.title}", "", settings_sentence(settings), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(line) + " |" for line in cells]
    lines += ["", NOTE]
    if suite.published:
        lines += ["", PUBLISHED_NOTE]
    if failures:
        lines += ["", "Failed:", "", *(f"- {failure}" for failure in failures)]
    return "\n".join(lines) + "\n"


NOTE = (
    "Sharp views that training never saw. ± is the standard deviation between seeds. Gap closed: where PSNR "
    "lies between that of 3dgs on the photos (0) and on their sharp twins, `sharp` (100). Errors of the lens "
    "and refocused pictures are against truth.json. CPU and wall seconds and memory are those of training."
)
PUBLISHED_NOTE = "Published: averages as the papers state them, same scenes, test views, size and measures."


def settings_sentence(settings: BenchSettings) -> str:
    """What was trained and how, in one line."""
    parts = [f"`{settings.suite}`"]
    parts.append(f"{settings.iterations:,} steps" if settings.iterations else "steps as the presets say")
    limit = settings.max_gaussians
    parts.append(f"at most {limit:,} Gaussians" if limit else "Gaussians as the presets say")
    if settings.downscale:
        parts.append(f"photos shrunk {settings.downscale} times")
    return ", ".join(parts) + "."


def write_tables(
    rows: list[Row],
    results: list[Result],
    suite: Suite,
    settings: BenchSettings,
    failures: list[str],
    out: Path,
) -> None:
    """table.md, table.csv and table.json in `out`."""
    with replacing(out / "table.md") as path:
        path.write_text(to_markdown(rows, suite, settings, failures))
    with replacing(out / "table.csv") as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        measures = [f"{column}_{kind}" for column in COLUMNS for kind in ("mean", "spread")]
        writer.writerow(["scene", "method", "scenes", "seeds", *measures])
        for row in rows:
            values = [value for column in COLUMNS for value in row.figures[column]]
            writer.writerow([row.scene, row.method, row.scenes, row.seeds, *values])
    document = {
        "schema": "cocogs-bench/1",
        "suite": suite.title,
        "settings": asdict(settings),
        "rows": [
            {**asdict(row), "figures": {c: {"mean": m, "spread": s} for c, (m, s) in row.figures.items()}}
            for row in rows
        ],
        "runs": [
            {"scene": r.scene, "method": r.method, "seed": r.seed, "folder": str(r.folder), **r.figures}
            for r in results
        ],
        "published": [asdict(entry) for entry in suite.published],
        "failures": failures,
    }
    with replacing(out / "table.json") as path:
        path.write_text(json.dumps(document, indent=2) + "\n")
