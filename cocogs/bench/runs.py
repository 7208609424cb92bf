"""The runs of a benchmark: train, measure and render each one, skipping what is done."""

import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cocogs
from cocogs.bench.processes import Processes, signals_interrupt
from cocogs.bench.suites import BenchScene, Suite
from cocogs.checkpoint import is_trained
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.io.progress import Say
from cocogs.render.files import RECORD
from cocogs.threads import usable_cores

FLOOR, CEILING = "3dgs", "sharp"
METHODS = (FLOOR, CEILING, "lens", "paper", "full")
"""Presets, and `sharp`, which is preset 3dgs trained on the sharp twins of the photos."""
ABLATION = ("paper-coc", "paper-direction", "paper-beta", "paper-aperture")
"""Table 3 of the paper: its model without CoC, direction vector, scaling factors, aperture."""


@dataclass(frozen=True)
class BenchSettings:
    """What decides the figures besides methods and seeds; None leaves a setting to quality standard."""

    suite: str
    downscale: int | None = None
    iterations: int | None = None
    max_gaussians: int | None = None
    lpips_weights: str | None = None


@dataclass(frozen=True)
class Job:
    """One run: a method on a scene with a seed."""

    scene: BenchScene
    method: str
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        return f"{self.scene.name}, {self.method}, seed {self.seed}"

    @property
    def preset(self) -> str:
        return FLOOR if self.method == CEILING else self.method.partition("-")[0]

    @property
    def without(self) -> str:
        """The part of the model that is left out; empty for none."""
        return self.method.partition("-")[2]

    @property
    def data(self) -> Path:
        if self.method != CEILING:
            return self.scene.data
        assert self.scene.sharp_data is not None
        return self.scene.sharp_data


def check_methods(methods: tuple[str, ...]) -> None:
    """Raises InputError for an unknown method."""
    known = (*METHODS, *ABLATION)
    if unknown := [m for m in methods if m not in known]:
        raise InputError(
            f"There is no method {', '.join(unknown)}: choose `methods` among {', '.join(known)}."
        )


def plan(suite: Suite, methods: tuple[str, ...], seeds: tuple[int, ...], out: Path, say: Say) -> list[Job]:
    """All runs, method by method in the order given."""
    jobs = []
    for method in methods:
        scenes = [s for s in suite.scenes if method != CEILING or s.sharp_data is not None]
        if absent := [s.name for s in suite.scenes if s not in scenes]:
            say(f"{', '.join(absent)}: without sharp twins there is no ceiling and no gap closed.")
        for seed in seeds:
            jobs += [Job(s, method, seed, out / "runs" / s.name / method / f"seed{seed}") for s in scenes]
    return jobs


def check_settings(settings: BenchSettings, out: Path) -> None:
    """Raises InputError if OUT holds a benchmark run with other settings."""
    path = out / "bench.json"
    if not path.exists():
        return
    saved = read_json(path, "delete it, or give another `out`")
    if saved != asdict(settings):
        raise InputError(f"{path} holds other settings: give the same settings, or another `out`.")


def keep_settings(settings: BenchSettings, out: Path) -> None:
    """Write OUT/bench.json."""
    write_text(out / "bench.json", json.dumps(asdict(settings), indent=2) + "\n")


@cache
def code_version() -> str:
    """Version of cocogs and a hash of its files. Runs trained by different versions are not comparable."""
    files = sorted(Path(cocogs.__path__[0]).rglob("*.py"))
    specs = [find_spec(f"cocogs.{name}") for name in ("_native", "_cuda")]
    files += [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    return f"{cocogs.__version__} {digest.hexdigest()[:8]}"


# --------------------------------------------------------------------------------------------- running


def run_all(jobs: list[Job], settings: BenchSettings, workers: int, say: Say) -> list[str]:
    """Run all jobs, `workers` at a time. Return a sentence for each one that failed.

    When interrupted, it stops all of them, waits until they have saved, and raises KeyboardInterrupt.
    """
    threads = max(1, usable_cores() // workers)
    failures: list[str] = []
    processes = Processes()

    def work(job: Job) -> None:
        try:
            run_job(job, settings, threads, processes, say)
        except InputError as error:
            if processes.stopped:
                return
            failures.append(f"{job.title}: {error}")
            say(f"FAILED {failures[-1]}")

    with signals_interrupt(), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop_all(processes, pool)
            raise
    return failures


def stop_all(processes: Processes, pool: ThreadPoolExecutor) -> None:
    """Stop all processes and wait until the last one has saved and ended. A second Ctrl-C kills them."""
    processes.stop()
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        processes.stop(signal.SIGKILL)


def run_job(job: Job, settings: BenchSettings, threads: int, processes: Processes, say: Say) -> None:
    """Train, measure and render one run, skipping what is done.

    Raises:
        InputError: a command failed. The message is the command's own; RUN/log.txt holds the rest.
    """
    environment = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", **os.environ}
    costs = Costs.read(job.folder)
    if not costs.finished:
        say(f"Training {job.title}")
        costs.train(train_command(job, settings), processes, environment)
    if not is_measured(job.folder):
        options = ["--lpips-weights", settings.lpips_weights] if settings.lpips_weights else []
        if job.scene.has_truth:
            options.append("--truth")
        usage = processes.run(["eval", str(job.folder), "--json", *options], job.folder, environment)
        usage.check()
        write_text(job.folder / "eval.json", usage.output)
        say(f"Measured {job.title}: {json.loads(usage.output)['mean']['psnr']:.2f} dB")
    pictures = job.folder / "pictures"
    if (pictures / RECORD).exists() or not any(pictures.rglob("*.png")):
        options = ["--views", "test", "--out", str(pictures)]
        processes.run(["render", str(job.folder), *options], job.folder, environment).check()


def is_measured(folder: Path) -> bool:
    """Whether eval.json exists and is complete."""
    try:
        return {"mean", "views"} <= read_json(folder / "eval.json").keys()
    except (InputError, AttributeError):
        return False


@dataclass
class Costs:
    """What the training of one run has taken so far, kept in RUN/costs.json.

    Args:
        finished: the training reached its end.
        running: a training was started and its end was not seen. If it is not running any more, it was
            killed, and nobody knows what it took.
        known: no training was killed in that way.
        code: see `code_version`; None before the first training.
    """

    folder: Path
    finished: bool = False
    running: bool = False
    known: bool = True
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_bytes: int = 0
    code: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "Costs":
        """The costs in `folder`; of an untrained run if there is no readable file."""
        try:
            return cls(folder, **read_json(folder / "costs.json"))
        except (InputError, TypeError):
            return cls(folder)

    def train(self, command: list[str], processes: Processes, environment: dict[str, str]) -> None:
        """Run a training and add what it takes. Raises InputError if it fails."""
        self.known = self.known and not self.running
        self.running, self.code = True, code_version()
        self.write()
        try:
            usage = processes.run(command, self.folder, environment)
        except InputError:  # not even started
            self.running = False
            self.write()
            raise
        self.running, self.finished = False, usage.error is None
        self.cpu_seconds += usage.cpu_seconds
        self.wall_seconds += usage.wall_seconds
        self.peak_bytes = max(self.peak_bytes, usage.peak_bytes)
        self.write()
        usage.check()

    def write(self) -> None:
        values = {name: value for name, value in vars(self).items() if name != "folder"}
        write_text(self.folder / "costs.json", json.dumps(values) + "\n")


def train_command(job: Job, settings: BenchSettings) -> list[str]:
    """Arguments of `cocogs train`: those that continue the run if it has a checkpoint."""
    command = ["train", str(job.data), "--out", str(job.folder)]
    if is_trained(job.folder):
        return [*command, "--resume"]
    command += ["--preset", job.preset, "--quality", "standard", "--seed", str(job.seed)]
    command += ["--test-every", str(job.scene.test_every), "--downscale", str(job.scene.downscale)]
    if settings.iterations is not None:
        command += ["--iterations", str(settings.iterations)]
    if settings.max_gaussians is not None:
        command += ["--max-gaussians", str(settings.max_gaussians)]
    return [*command, "--ablate", job.without] if job.without else command
