"""Runs of a benchmark on the machines of a Ray cluster (extra `cluster`).

All machines see the benchmark's folders under the same paths, and have the same cocogs. A run is one task:
it trains, measures and renders as on one machine, so a task that starts again continues where the lost one
stopped.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocogs.bench.processes import Processes
from cocogs.bench.runs import BenchSettings, Job, run_job
from cocogs.config import preset
from cocogs.errors import InputError
from cocogs.io.lock import Occupied, alone_in
from cocogs.io.progress import Say
from cocogs.train.memory import bytes_needed

if TYPE_CHECKING:
    from types import ModuleType

CPUS = 2  # of a run
PIXELS = 1 << 20  # of a photo of a benchmark, at most; a run asks for memory before its photos are opened
PATIENCE = 5.0  # seconds between two looks at a folder where another process is at work
RETRIES = 3  # of a run whose machine is lost


@dataclass(frozen=True)
class Needs:
    """What a run asks of a machine. GPUs: 1 where the cluster has any."""

    cpus: int
    gpus: int
    memory: int  # bytes


def run_on_cluster(jobs: list[Job], settings: BenchSettings, address: str, say: Say) -> list[str]:
    """Run all jobs, as many at a time as the cluster has room for. Return a sentence for each failed one.

    Args:
        address: of the cluster's head, such as 10.0.0.1:6379; "auto" finds the one on this machine.

    Raises:
        InputError: Ray is missing, or the cluster cannot be reached or has no machine that is large enough.
    """
    ray = _connected(address)
    try:
        tasks = {}
        for job in jobs:
            needs = needs_of(job, settings, ray.cluster_resources())
            task = ray.remote(_work).options(
                num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory, max_retries=RETRIES
            )
            tasks[task.remote(job, settings)] = job
        return _gather(ray, tasks, say)
    finally:
        ray.shutdown()


def needs_of(job: Job, settings: BenchSettings, resources: dict[str, float]) -> Needs:
    """What a run asks for.

    Args:
        resources: of the cluster, as Ray lists them.

    Raises:
        InputError: the cluster has fewer CPUs than a run takes.
    """
    if resources.get("CPU", 0) < CPUS:
        raise InputError(
            f"The cluster has {resources.get('CPU', 0):g} CPUs, and a run takes {CPUS}: add machines."
        )
    config = preset(job.preset)
    if settings.max_gaussians is not None:
        config = replace(config, strategy=replace(config.strategy, max_gaussians=settings.max_gaussians))
    return Needs(CPUS, 1 if resources.get("GPU", 0) >= 1 else 0, bytes_needed(config, PIXELS))


def _connected(address: str) -> "ModuleType":
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("A cluster needs Ray: `pip install 'cocogs[cluster]'`.") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"There is no Ray cluster at {address}: start Ray on its machines, and give the head's address."
        ) from error
    return ray


def _work(job: Job, settings: BenchSettings) -> tuple[list[str], str | None]:
    """One run, on a machine of the cluster: what it says, and why it failed."""
    said: list[str] = []
    processes = Processes()
    _wait_for(job.folder)
    try:
        run_job(job, settings, CPUS, processes, said.append)
        return said, None
    except InputError as error:  # known reasons come back as words; Ray would wrap them in its own
        return said, str(error)
    finally:
        processes.stop()


def _wait_for(folder: Path) -> None:
    """Where a task was lost and its machine was not, the training that it had started is still at work."""
    while True:
        try:
            with alone_in(folder):
                return
        except Occupied:
            time.sleep(PATIENCE)


def _gather(ray: Any, tasks: dict[Any, Job], say: Say) -> list[str]:
    """Wait for all tasks; say what they say."""
    failures = []
    left = list(tasks)
    try:
        while left:
            done, left = ray.wait(left, num_returns=1)
            try:
                lines, reason = ray.get(done[0])
            except ray.exceptions.RayError as error:
                lines, reason = [], f"lost on the cluster ({str(error).strip().splitlines()[0]})"
            for line in lines:
                say(line)
            if reason is not None:
                failures.append(f"{tasks[done[0]].title}: {reason}")
                say(f"FAILED {failures[-1]}")
    except KeyboardInterrupt:
        for task in left:
            ray.cancel(task)  # runs save and end
        raise
    return failures
