"""Benchmarks on a Ray cluster: what a run asks for, and a cluster on this machine that loses a worker."""

import builtins
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from test_bench import QUICK, write_tiny_truth

from cocogs.bench import cluster
from cocogs.bench.runs import BenchSettings, Job
from cocogs.bench.suites import BenchScene
from cocogs.cli import main
from cocogs.errors import InputError

ADDRESS = "127.0.0.1:6397"
ROOT = Path(__file__).parents[1]


def job(method: str) -> Job:
    scene = BenchScene("room", Path("data"), 4, 1, False, Path("sharp"))
    return Job(scene, method, 0, Path("run"))


def test_runs_ask_for_what_they_need() -> None:
    settings = BenchSettings("suite", max_gaussians=50_000)
    lens, full = (cluster.needs_of(job(m), settings, {"CPU": 8.0, "GPU": 2.0}) for m in ("lens", "full"))
    assert (lens.cpus, lens.gpus) == (cluster.CPUS, 1)
    assert 2**20 * 300 < lens.memory < full.memory < 2**31
    more = cluster.needs_of(job("paper-coc"), BenchSettings("suite"), {"CPU": 8.0})
    assert more.gpus == 0 and more.memory > full.memory
    with pytest.raises(InputError, match="has 1 CPUs, and a run takes 2"):
        cluster.needs_of(job("sharp"), settings, {"CPU": 1.0})


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def no_ray(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return true_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_ray)
    with pytest.raises(InputError, match=r"pip install 'cocogs\[cluster\]'"):
        cluster.run_on_cluster([], BenchSettings("suite"), ADDRESS, lambda line: None)


@pytest.mark.slow
def test_a_lost_worker_s_run_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of this machine: the same table as without, although a worker is killed at its work."""
    pytest.importorskip("ray")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_DISABLE_IMPORT_WARNING": "1"}
    start = [*ray, "start", "--head", "--port", ADDRESS.partition(":")[2], "--num-cpus", "4"]
    start.append("--disable-usage-stats")
    subprocess.run(start, check=True, env=environment, capture_output=True)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for seed, name in enumerate(("one", "two")):
        write_tiny_truth(tmp_path / "suite" / name, seed)
    bench = ["bench", str(tmp_path / "suite"), *QUICK, "--methods", "3dgs,lens"]
    killed: list[int] = []

    def kill_first_worker() -> None:
        while not killed:
            listed = subprocess.run(["pgrep", "-f", "ray::_work"], capture_output=True, text=True)
            found = listed.stdout.split()
            if found and any((tmp_path / "out" / "runs").rglob("config.json")):
                os.kill(int(found[0]), signal.SIGKILL)
                killed.append(int(found[0]))
            time.sleep(0.1)

    thread = threading.Thread(target=kill_first_worker, daemon=True)
    thread.start()
    try:
        assert main([*bench, "--out", str(tmp_path / "out"), "--cluster", ADDRESS]) == 0
    finally:
        subprocess.run([*ray, "stop", "--force"], env=environment, capture_output=True)
    assert killed
    assert main([*bench, "--out", str(tmp_path / "here")]) == 0
    tables = [json.loads((tmp_path / out / "table.json").read_text()) for out in ("out", "here")]
    scores = [[(run["scene"], run["method"], run["psnr"]) for run in table["runs"]] for table in tables]
    assert scores[0] == scores[1] and len(scores[0]) == 4
