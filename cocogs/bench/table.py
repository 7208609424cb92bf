"""The figures of a benchmark as one table: Markdown for people, CSV for spreadsheets, JSON for programs."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

from cocogs.bench.outcome import ALL_SCENES, COLUMNS, Outcome, Row
from cocogs.bench.protocols import Published
from cocogs.bench.runs import BenchSettings
from cocogs.io.atomic import replacing, write_text


def used_columns(rows: list[Row]) -> list[str]:
    """Names of the columns that have a figure."""
    return [c for c in COLUMNS if any(row.figures[c][0] is not None for row in rows)]


def cell(row: Row, column: str) -> str:
    """The text of a figure, such as 31.25 ± 0.08; empty if there is none."""
    mean, spread = row.figures[column]
    if mean is None:
        return ""
    form = COLUMNS[column].format
    mean = round(mean, 9) + 0.0  # a mean of -1e-15 reads 0.0, not -0.0
    return format(mean, form) + (f" ± {format(spread, form)}" if spread is not None else "")


def published_cells(entry: Published, columns: list[str]) -> list[str]:
    """A paper's figures in the table's columns."""
    figures = {"psnr": entry.psnr, "ssim_uniform_7": entry.ssim_uniform_7, "lpips": entry.lpips}
    return [format(figures[c], COLUMNS[c].format) if c in figures else "" for c in columns]


def heads_and_cells(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table; published figures come last and are marked."""
    columns, total = used_columns(outcome.rows), len(outcome.scenes)
    heads = ["scene", "method", "seeds", *(COLUMNS[c].title for c in columns)]
    cells = []
    for row in outcome.rows:
        missing = row.scene == ALL_SCENES and row.scenes < total
        scene = f"{row.scenes} of {total} scenes" if missing else row.scene
        cells.append([scene, row.method, str(row.seeds), *(cell(row, c) for c in columns)])
    for entry in outcome.published:
        cells.append([ALL_SCENES, f"{entry.method} (published)", "", *published_cells(entry, columns)])
    return heads, cells


def to_markdown(outcome: Outcome) -> str:
    """The text of table.md."""
    heads, cells = heads_and_cells(outcome)
    lines = [f"# {outcome.suite.title}", "", settings_sentence(outcome.settings), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(line) + " |" for line in cells]
    lines += ["", *notes(outcome)]
    if outcome.failures:
        lines += ["", "Failed:", "", *(f"- {failure}" for failure in outcome.failures)]
    return "\n".join(lines) + "\n"


NOTE = (
    "Measured on sharp views that training never saw. ± is the standard deviation between seeds. Affine "
    "colour: after the affine map of colour that brings each render closest to its photo. Gap closed: where "
    "PSNR lies between that of 3dgs trained on the photos (0) and on their sharp twins, `sharp` (100). "
    "Errors of the lens and refocused pictures are measured against truth.json. Seconds and memory are those "
    "of training."
)
PUBLISHED_NOTE = (
    "Published: averages from the papers, for the same scenes, test views, picture size and measures."
)


def notes(outcome: Outcome) -> list[str]:
    """Sentences that readers of the figures need."""
    versions = outcome.versions
    mixed = f"Different versions of cocogs trained the runs: {', '.join(versions)}. table.json says which."
    trained = f"Trained by cocogs {versions[0]}." if len(versions) == 1 else mixed
    return [NOTE, *([trained] if versions else []), *([PUBLISHED_NOTE] if outcome.published else [])]


def settings_sentence(settings: BenchSettings) -> str:
    """What was trained and how, as one sentence."""
    parts = [f"`{settings.suite}`"]
    parts.append(f"{settings.iterations:,} steps" if settings.iterations else "steps as the presets say")
    limit = settings.max_gaussians
    parts.append(f"at most {limit:,} Gaussians" if limit else "Gaussians as the presets say")
    if settings.downscale:
        parts.append(f"photos shrunk {settings.downscale} times")
    return ", ".join(parts) + "."


def write_tables(outcome: Outcome, out: Path) -> None:
    """table.md, table.csv and table.json in `out`."""
    write_text(out / "table.md", to_markdown(outcome))
    with (
        replacing(out / "table.csv") as path,
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        measures = [f"{column}_{kind}" for column in COLUMNS for kind in ("mean", "spread")]
        writer.writerow(["scene", "method", "scenes", "seeds", *measures])
        for row in outcome.rows:
            values = [value for column in COLUMNS for value in row.figures[column]]
            writer.writerow([row.scene, row.method, row.scenes, row.seeds, *values])
    write_text(out / "table.json", json.dumps(to_document(outcome), indent=2) + "\n")


def to_document(outcome: Outcome) -> dict:
    """What table.json holds."""
    return {
        "schema": "cocogs-bench/1",
        "suite": outcome.suite.title,
        "settings": asdict(outcome.settings),
        "rows": [
            {**asdict(row), "figures": {c: {"mean": m, "spread": s} for c, (m, s) in row.figures.items()}}
            for row in outcome.rows
        ],
        "runs": [
            {
                "scene": r.scene,
                "method": r.method,
                "seed": r.seed,
                "folder": str(r.folder),
                "code": r.code,
                **r.figures,
            }
            for r in outcome.results
        ],
        "published": [asdict(entry) for entry in outcome.published],
        "failures": outcome.failures,
    }
