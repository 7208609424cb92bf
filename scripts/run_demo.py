"""`make demo`: train, measure and render the bundled scene, write a report page and print its path.

python scripts/run_demo.py [RUN]    # default runs/demo; a second call continues an interrupted run
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import demo_report  # pyright: ignore[reportMissingImports]

from cocogs.errors import InputError
from cocogs.io.truth_file import read_truth

DATA = Path("data/demo")
MAX_GAUSSIANS = 60_000
"""Fewer than the default: enough for pictures of this size, and quick to train on two cores."""
FOCUS_DISTANCES = (0.75, 1.05, 1.7)
"""Metres; truth.json has a refocused picture of test view 006 at each of them."""


def cocogs(*arguments: object, output: Path | None = None) -> str:
    """Run one command as a user would, with its output into a file if one is given. Return the command line.

    Raises:
        SystemExit: the command failed; with its exit code.
    """
    words = [str(a) for a in arguments]
    shown = shlex.join(["cocogs", *words]) + (f" > {shlex.quote(str(output))}" if output else "")
    print(f"\n$ {shown}", flush=True)
    finished = subprocess.run(
        [sys.executable, "-m", "cocogs", *words], stdout=subprocess.PIPE if output else None
    )
    if finished.returncode:
        raise SystemExit(finished.returncode)
    if output:
        output.write_bytes(finished.stdout)
    return shown


def run_demo(run: Path) -> int:
    started = (run / "checkpoint.pt").exists()
    options = ["--resume"] if started else ["--max-gaussians", MAX_GAUSSIANS]
    commands = [cocogs("train", DATA, "--out", run, *options)]
    commands.append(cocogs("eval", run, "--json", output=run / "eval.json"))
    commands.append(cocogs("render", run, "--views", "all", "--out", run / "sharp"))
    metre = 1 / unit_in_metres()
    for distance in FOCUS_DISTANCES:
        out = run / "refocused" / f"f{distance:g}"
        focus = f"{distance * metre:.4f}"
        commands.append(cocogs("render", run, "--views", "test", "--focus", focus, "--out", out))
    pages = {
        "photos": DATA / "images",
        "truth": DATA / "images",
        "truth-json": DATA / "truth.json",
        "sparse": DATA / "sparse" / "0",
        "refocus-truth": DATA / "refocus",
        "sharp": run / "sharp",
        "refocused": run / "refocused",
        "eval": run / "eval.json",
        "out": run / "report.html",
    }
    if (run / "lens.json").exists():
        pages["lens"] = run / "lens.json"
    words = [word for name, path in pages.items() for word in (f"--{name}", str(path))]
    words += [word for command in commands for word in ("--command", command)]
    print("\nThe report:")
    return demo_report.main(words)


def unit_in_metres() -> float:
    """Metres in one unit of the bundled COLMAP model, which is the unit of the run's focus distances."""
    unit = demo_report.truth_unit(read_truth(DATA / "truth.json"), DATA / "sparse" / "0")
    if unit is None:
        raise InputError(f"{DATA} lacks its truth or its COLMAP model: restore them from the repository.")
    return unit


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Train, measure and render the bundled scene; write a report."
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"), help="folder for the result")
    run = parser.parse_args().run
    if not DATA.is_dir():
        print(f"{DATA} is not here: start this script from the root of the repository.", file=sys.stderr)
        return 2
    return run_demo(run)


if __name__ == "__main__":
    sys.exit(main())
