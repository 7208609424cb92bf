"""Where the CPU time of a training step goes: one step of `lens`, one through `full`'s samples.

    cocogs train DATA --out RUN --preset full ...      until splats no longer grow
    python scripts/profile_step.py RUN --threads 1 2

Each figure is the median over the photos in ms of CPU time of the process (the last row: of wall time), the
steps of both kinds taking turns. The run itself is not changed.
"""

import argparse
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from bench_rasterizer import STAGES

from cocogs.compiled import cpu_module
from cocogs.run import open_data, read_config
from cocogs.threads import torch_on_one
from cocogs.train.shot import How
from cocogs.train.trainer import Trainer

Times = dict[str, float]


class Clock:
    """CPU time of the parts of one step, in ms."""

    def __init__(self) -> None:
        self.times: Times = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.times[name] += 1e3 * (time.process_time() - start)

    def during(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            with self.part(name):
                return function(*args, **named)

        return timed


def step(trainer: Trainer, index: int, expanded: bool) -> Times:
    """The parts of a step on a photo."""
    clock, model = Clock(), trainer.model
    places: list[tuple[Any, str, str]] = [
        (model, "photo", "predict"),
        (model.lens, "copies", "copies"),
        (model, "_render", "forward"),
        (torch.Tensor, "backward", "backward"),
        (trainer, "keep_physical", "keep possible"),
    ]
    places += [(optimizer, "step", f"Adam {name}") for name, optimizer in trainer.optimizers.items()]
    with ExitStack() as patches:
        for owner, attribute, name in places:
            timed = clock.during(name, getattr(owner, attribute))
            patches.enter_context(patch.object(owner, attribute, timed))
        wall = time.perf_counter()
        with torch_on_one(trainer.is_light), clock.part("all"):
            trainer.step_on(trainer.shot(index), How(expanded, halved=False, sh_degree=3, probed=True))
        clock.times["wall"] = 1e3 * (time.perf_counter() - wall)
    stages = cpu_module().stage_seconds()
    clock.times |= {name: 1e3 * seconds for name, seconds in zip(STAGES, stages, strict=True)}
    return clock.times


def rows(times: Times) -> Times:
    """The parts as a table shows them: nothing counts twice."""
    parts = {"copies": times["copies"]}
    parts |= {name: times[name] for name in STAGES}
    forward, backward = (sum(times[name] for name in some) for some in (STAGES[:3], STAGES[3:]))
    parts["torch around the passes"] = times["forward"] - forward
    parts["light, response"] = times["predict"] - times["copies"] - times["forward"]
    adam = {name: ms for name, ms in times.items() if name.startswith("Adam")}
    known = times["predict"] + times["backward"] + times["keep possible"] + sum(adam.values())
    parts["gradients of all but the passes"] = times["backward"] - backward
    parts["Adam of shN"] = adam["Adam shN"]
    parts["Adam of the rest"] = sum(adam.values()) - adam["Adam shN"]
    parts["keep possible"] = times["keep possible"]
    parts["loss, and what else there is"] = times["all"] - known
    return parts | {"all": times["all"], "wall": times["wall"]}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=2, help="How often each photo is seen.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(args.run, run)
        config, data = read_config(run)
        scene = open_data(data, run, config.seed, lambda line: None, settled=True)
        trainer = Trainer(config, scene, run, resume=True)
        trainer.set_rates()
        table: dict[str, dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
        for threads in args.threads:
            torch.set_num_threads(threads)
            for index in [i for _ in range(args.rounds) for i in range(len(trainer.views))]:
                for kind, expanded in (("lens", False), ("full", True)):
                    for name, ms in rows(step(trainer, index, expanded)).items():
                        table[name][kind, threads].append(ms)
    keys = [(kind, threads) for kind in ("lens", "full") for threads in args.threads]
    print(f"{len(trainer.model.gaussians):,} splats")
    print(f"{'':32}" + "".join(f"{f'{kind}, {threads}':>10}" for kind, threads in keys))
    for name, values in table.items():
        print(f"{name:32}" + "".join(f"{median(values[key]):10.1f}" for key in keys))


if __name__ == "__main__":
    main()
