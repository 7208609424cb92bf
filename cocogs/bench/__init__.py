"""`cocogs bench`: many runs of a benchmark, tabulated.

OUT/bench.json                 what decides every run
OUT/data/                      photos rearranged for training, as links
OUT/runs/SCENE/METHOD/seedN/   a run folder, with log.txt, costs.json, eval.json and pictures/ besides
OUT/table.md, .csv, .json      the figures
OUT/report.html                the figures and pictures

A second call with the same OUT skips finished runs, continues interrupted ones and repeats failed ones.
Tables and page show all runs in OUT, whichever call made them. Ctrl-C and SIGTERM stop all runs; they save
first.
"""

from pathlib import Path

from cocogs.bench.cluster import run_on_cluster
from cocogs.bench.outcome import Outcome, collect
from cocogs.bench.report import write_report
from cocogs.bench.runs import BenchSettings, check_settings, keep_settings, plan, run_all
from cocogs.bench.suites import open_suite
from cocogs.bench.table import write_tables
from cocogs.io.lock import alone_in
from cocogs.io.progress import Say


def bench(
    folder: Path,
    settings: BenchSettings,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    scenes: tuple[str, ...],
    workers: int,
    say: Say,
    cluster: str | None = None,
) -> list[str]:
    """Run what is missing, then write the tables and the page. Return a sentence for each failed run.

    Args:
        folder: the suite.
        out: OUT, see above.
        scenes: names of the scenes to run; empty for all.
        workers: number of runs at the same time, on this machine.
        cluster: address of a Ray cluster that does the runs instead; see `cocogs.bench.cluster`.
        say: receives lines for the user.

    Raises:
        InputError: `folder` holds no suite or an incomplete one; `out` holds a benchmark with other settings,
            is in use, or cannot be written.
    """
    with alone_in(out):
        check_settings(settings, out)
        suite = open_suite(folder, out / "data", scenes, settings.downscale)
        keep_settings(settings, out)
        jobs = plan(suite, methods, seeds, out, say)
        if cluster is None:
            failures = run_all(jobs, settings, workers, say)
        else:
            failures = run_on_cluster(jobs, settings, cluster, say)
        results, damaged = collect(out)
        outcome = Outcome(suite, settings, results, failures + damaged)
        write_tables(outcome, out)
        write_report(outcome, out)
    return outcome.failures
