"""`cocogs bench`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.options import STANDARD_DECIDES, check_whole_numbers, split_list, split_whole_numbers
from cocogs.cli.words import speaker
from cocogs.errors import InputError


@dataclass
class Bench:
    """Train and measure many runs, and write one table and one page about them.

    `cocogs bench refocus` measures the refocusing of single pictures instead (--help tells more).
    SUITE is a folder of rendered truth scenes, or of the scenes of Deblur-NeRF, DoF-NeRF or NeRF-LLFF
    (docs/benchmarks.md says where they come from). Each run is a process of its own. The same command
    continues an interrupted benchmark.
    """

    suite: Annotated[Positional[Path], arg(metavar="SUITE")]
    """Folder that holds the scenes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the runs, the tables and the page."""
    methods: Annotated[str, arg(metavar="A,B,...")] = "3dgs,sharp,lens,full"
    """Presets, and sharp: 3dgs trained on the sharp twins of the photos, the best that can be reached.
    paper is possible too, but takes half an hour a scene on a CPU."""
    seeds: Annotated[str, arg(metavar="0,1,...")] = "0"
    """Repeat each run with each of these seeds; with two or more the table shows the spread."""
    ablation: bool = False
    """Also run the paper's model without its parts, one at a time (its Table 3)."""
    scenes: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint="(default: all)")] = None
    """Only these scenes."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Number of runs at the same time; they share the processor's cores."""
    cluster: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="(default: this machine)")] = (
        None
    )
    """Do the runs on a Ray cluster, by the address of its head, such as 10.0.0.1:6379; auto finds one that
    was started here. All machines must see the folders under the same paths."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=STANDARD_DECIDES)] = None
    """Training steps of every run."""
    max_gaussians: Annotated[int | None, arg(metavar="N", help_behavior_hint=STANDARD_DECIDES)] = None
    """Largest number of splats of every run."""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the benchmark's)")] = None
    """Shrink the photos N times; truth scenes are not shrunk by default."""
    lpips_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: no LPIPS)")] = None
    """Also measure LPIPS, with the weight files in this folder (see cocogs eval --help)."""

    def run(self) -> int:
        if sys.platform == "win32":
            raise InputError("`cocogs bench` needs signals and figures that Windows lacks: run it in WSL.")
        from cocogs.bench import bench
        from cocogs.bench.runs import ABLATION, BenchSettings, check_methods
        from cocogs.measure.lpips import Lpips

        methods = split_list("methods", self.methods)
        methods += tuple(m for m in ABLATION if self.ablation and m not in methods)
        check_methods(methods)
        seeds = split_whole_numbers("seeds", self.seeds)
        check_whole_numbers(self)
        only = split_list("scenes", self.scenes) if self.scenes is not None else ()
        weights = None
        if self.lpips_weights is not None:
            Lpips.from_folder(self.lpips_weights)  # now, not after hours of training
            weights = str(self.lpips_weights.resolve())
        settings = BenchSettings(
            str(self.suite.resolve()), self.downscale, self.iterations, self.max_gaussians, weights
        )
        failures = bench(
            self.suite, settings, methods, seeds, self.out, only, self.jobs, speaker(self), self.cluster
        )
        print((self.out / "table.md").read_text(encoding="utf-8"))
        print(f"The page with pictures: {self.out / 'report.html'}")
        return 1 if failures else 0


@dataclass
class BenchRefocus:
    """Refocus sharp pictures with depth in several ways, and compare each with ray-traced pictures."""

    suite: Annotated[Positional[Path], arg(metavar="SUITE")]
    """A truth scene with depth, or a folder of some (scripts/make_truth_scene.py makes them)."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the tables and the page."""
    depth: Annotated[
        str | None, arg(metavar="run:RUNS/{scene}|WEIGHTS", help_behavior_hint="(default: true)")
    ] = None
    """Use another depth than the true one: of a run per scene, where {scene} stands for its name, or of a
    network, as in `cocogs refocus`."""

    def run(self) -> int:
        from cocogs.bench.refocus import bench_refocus

        bench_refocus(self.suite, self.out, self.depth, speaker(self))
        print((self.out / "refocus.md").read_text(encoding="utf-8"))
        print(f"The page with pictures: {self.out / 'refocus.html'}")
        return 0
