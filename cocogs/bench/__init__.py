"""`cocogs bench`: many runs of a benchmark, tabulated.

OUT/bench.json                 what decides every run
OUT/data/                      photos rearranged for training, as links
OUT/runs/SCENE/METHOD/seedN/   a run folder, with log.txt, costs.json, eval.json and pictures/ besides
OUT/table.md, .csv, .json      the figures
OUT/report.html                the figures and pictures

A finished run is not repeated, an interrupted one goes on, a failed one is tried again. Ctrl-C and SIGTERM
stop all runs, which save first.
"""

from pathlib import Path

from cocogs.bench.report import write_report
from cocogs.bench.runs import BenchSettings, collect, keep_settings, plan, run_all
from cocogs.bench.suites import Suite
from cocogs.bench.table import make_rows, write_tables
from cocogs.io.progress import Say


def bench(suite: Suite, settings: BenchSettings, methods: tuple[str, ...], seeds: tuple[int, ...], out: Path,
          workers: int, say: Say) -> list[str]:  # fmt: skip
    """Run what is missing and write the tables and the page; returns a sentence per failed run.

    Raises:
        InputError: `out` holds a benchmark with other settings, or cannot be written.
    """
    keep_settings(settings, out)
    jobs = plan(suite, methods, seeds, out, say)
    failures = run_all(jobs, settings, workers, say)
    results = collect(jobs)
    rows = make_rows(results, methods, suite)
    write_tables(rows, results, suite, settings, failures, out)
    write_report(rows, results, suite, settings, failures, out)
    return failures
