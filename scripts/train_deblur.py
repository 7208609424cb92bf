"""Trains DeblurNet on scenes that it makes up (`deblur_pairs.py`).

    python scripts/train_deblur.py OUT --minutes 150

OUT holds, every two minutes:

    checkpoint.pt         all that must survive; the same call goes on from it, up to `--minutes` in all
    deblur.safetensors    the weights (their moving average, 16 bit), to be put into cocogs/photo/

One thread is enough where others work beside it (OMP_NUM_THREADS=1). On a GPU, where scenes take longer to
make than to learn from, processes make them ahead: `--device cuda --workers 16 --scenes 16 --minutes 10`.
The scenes are the same for the same seed. How many of them are seen goes by the clock, and so does the
learning rate.
"""

import argparse
import copy
import json
import math
import time
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from deblur_pairs import WIDEST, Shots, photograph_scene
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from cocogs.io.atomic import replacing
from cocogs.optics.stacking import stacking_residual
from cocogs.photo.deblur_net import DeblurNet, Deblurred
from cocogs.srgb import to_srgb

SIZE = 128  # px, of a training picture
ECHOES = 2  # how often a scene is seen before it is forgotten
RECENT = 48  # scenes that are in use at a time; more than `--scenes`
CHUNK = 48  # scenes that a process makes after each other
RATE, LAST_RATE = 1e-3, 1e-5
WARM_UP = 100  # steps
AVERAGED = 0.999  # how much of the moving average of weights remains at each step
UNKNOWN = 0.15  # share of pictures whose CoC is not told
VAGUE = 0.3  # share of pictures whose CoC is told with errors
SAVE_EVERY, VALIDATE_EVERY = 120, 300  # seconds
VALIDATION_SEED, VALIDATION_SCENES = 10_000, 24
RADII = (0, 0.5, 1.5, 3, 5, 7, 9, 12)  # px, borders of the bins of the validation
GRADIENTS, STACKING, ERRORS = 0.5, 0.1, 0.02  # weights of the terms of the loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=150, help="in all, resumed parts included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=4, help="per step; each gives two pictures")
    parser.add_argument("--workers", type=int, default=0, help="processes that make scenes")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    train(parser.parse_args())


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    net = DeblurNet().to(args.device)
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-4)
    step, spent = load(args, net, average, optimizer)
    scenes = Scenes(args.seed, args.workers)
    before = time.monotonic() - spent
    saved = validated = said = spent
    while spent < 60 * args.minutes:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, spent / (60 * args.minutes))
        terms = learn(net, optimizer, batch(args, scenes, step), args.device)
        with torch.no_grad():
            keep = min(AVERAGED, (step + 1) / (step + 20))
            for mean, value in zip(average.parameters(), net.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        step, spent = step + 1, time.monotonic() - before
        if spent - said > 20:
            print(f"{spent / 60:6.1f} min, step {step}, loss {terms}", flush=True)
            said = spent
        if spent - validated > VALIDATE_EVERY:
            print(f"gain, dB by radius: {validate(average, args.device)}", flush=True)
            validated = spent
        if spent - saved > SAVE_EVERY:
            save(args, net, average, optimizer, step, spent)
            saved = spent
    scenes.close()
    save(args, net, average, optimizer, step, spent)
    print(f"gain, dB by radius: {validate(average, args.device)}", flush=True)


def rate(step: int, part: float) -> float:
    """The learning rate after a part of the time: up, then down along a cosine."""
    falling = LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * min(1, part))) / 2
    return falling * min(1, (step + 1) / WARM_UP)


class Scenes:
    """Scenes by number; those that come next are made by other processes, where there are any.

    A process makes `CHUNK` scenes after each other, because they share textures.
    """

    def __init__(self, seed: int, workers: int) -> None:
        self.seed, self.workers = seed, workers
        self.pool = ProcessPoolExecutor(workers, get_context("spawn")) if workers else None
        self.chunks: dict[int, Future[list[Shots]]] = {}

    def __getitem__(self, number: int) -> Shots:
        if self.pool is None:
            return scene(self.seed, number)
        return self.chunks[number // CHUNK].result()[number % CHUNK]

    def prepare(self, first: int) -> None:
        """Scenes from `first` on will be wanted, earlier ones no more."""
        if self.pool is None:
            return
        wanted = range(first // CHUNK, (first + RECENT) // CHUNK + 1 + self.workers)
        kept = {place: chunk for place, chunk in self.chunks.items() if place in wanted}
        for place in wanted:
            if place not in kept:
                kept[place] = self.pool.submit(_some_scenes, self.seed, place * CHUNK, CHUNK, SIZE)
        self.chunks = kept

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _some_scenes(seed: int, first: int, count: int, size: int) -> list[Shots]:
    torch.set_num_threads(1)
    return [photograph_scene(seed, number, size) for number in range(first, first + count)]


@lru_cache(maxsize=2 * RECENT)
def scene(seed: int, number: int) -> Shots:
    return photograph_scene(seed, number, SIZE)


def batch(args: argparse.Namespace, scenes: Scenes, step: int) -> list[Tensor]:
    """Pictures of random scenes among the recent ones: photo, CoC as told, validity, sharp, and the scenes'
    true CoC. The two photos of a scene follow each other."""
    rng = np.random.default_rng((args.seed, 2, step))
    first = step * args.scenes // ECHOES
    scenes.prepare(first)
    numbers = first + rng.choice(RECENT, args.scenes, replace=False)
    samples = [sample(scenes[int(number)], rng) for number in numbers]
    return [torch.cat(parts).to(args.device) for parts in zip(*samples, strict=True)]


def sample(shots: Shots, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Two photos of a scene, turned or mirrored, with what the network is told of their CoC."""
    told, validity = shots.coc.clone(), torch.ones_like(shots.coc)
    for place in range(2):
        chance = rng.random()
        if chance < UNKNOWN:
            validity[place] = 0
        elif chance < UNKNOWN + VAGUE:
            told[place] = told[place] * rng.normal(1, 0.04) + rng.normal(0, 0.3)
            told[place] = told[place].roll(tuple(rng.integers(-1, 2, 2)), (0, 1))
            if rng.random() < 0.3:  # a place where nobody knows
                top, left, height, width = rng.integers(8, SIZE // 2, 4)
                validity[place, top : top + height, left : left + width] = 0
    parts = (
        shots.photos,
        told[:, None],
        validity[:, None],
        shots.sharp.expand(2, -1, -1, -1),
        shots.coc[:, None],
    )
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    turned = [part.rot90(turns, (2, 3)) for part in parts]
    return tuple(part.flip(3) if mirrored else part for part in turned)


def learn(net: DeblurNet, optimizer: torch.optim.Optimizer, parts: list[Tensor], device: str) -> str:
    """One step; the terms of the loss in words."""
    photo, told, validity, sharp, coc = parts
    result = net(photo, told[:, 0], validity[:, 0])
    terms = losses(result, photo, sharp, coc[:, 0])
    optimizer.zero_grad(set_to_none=True)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return ", ".join(f"{name} {float(term.detach()):.4f}" for name, term in terms.items())


def losses(
    result: Deblurred,
    photo: Float[Tensor, "B 3 H W"],
    sharp: Float[Tensor, "B 3 H W"],
    coc: Float[Tensor, "B H W"],
) -> dict[str, Tensor]:
    """The terms, weighted. Light is compared by its square root, which is near to what the eye sees; its
    slope is kept finite in the dark."""
    seen, truth = (result.light + 1e-4).sqrt(), (sharp + 1e-4).sqrt()
    difference = seen - truth
    slopes = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    stacks = [
        stacking_residual(result.light[i : i + 2], photo[i : i + 2], coc[i : i + 2]).mean()
        for i in range(0, len(photo), 2)
    ]
    off = difference.detach().abs().mean(1)
    laplace = off / result.error + result.error.log()
    return {
        "l1": difference.abs().mean(),
        "gradients": GRADIENTS * slopes,
        "stacking": STACKING * torch.stack(stacks).mean(),
        "errors": ERRORS * laplace.mean(),
    }


@torch.no_grad()
def validate(net: DeblurNet, device: str) -> str:
    """PSNR gained over doing nothing, in dB, by bins of the CoC's radius; then with the CoC not told."""
    sums = torch.zeros(2, len(RADII) - 1, 2)
    for number in range(VALIDATION_SCENES):
        shots = _validation(number)
        radius = shots.coc.abs() / 2
        sharp = to_srgb(shots.sharp)
        before = (to_srgb(shots.photos) - sharp).square().mean(1)
        for known in (0, 1):
            validity = torch.full_like(shots.coc, known)
            result = net(shots.photos.to(device), shots.coc.to(device), validity.to(device)).light.cpu()
            after = (to_srgb(result.clamp(0, 1)) - sharp).square().mean(1)
            for place, (low, high) in enumerate(pairwise(RADII)):
                inside = (radius >= low) & (radius < high)
                sums[known, place] += torch.stack([(before * inside).sum(), (after * inside).sum()])
    gains = 10 * (sums[..., 0] / sums[..., 1]).log10()
    bins = [f"{low:g}-{high:g}" for low, high in pairwise(RADII)]
    told, blind = (
        " ".join(f"{name}: {gain:.2f}" for name, gain in zip(bins, row.tolist(), strict=True))
        for row in gains.flip(0)
    )
    return f"{told}; CoC not told: {blind}"


@lru_cache(maxsize=VALIDATION_SCENES)
def _validation(number: int) -> Shots:
    return photograph_scene(VALIDATION_SEED, number, SIZE)


def load(
    args: argparse.Namespace, net: DeblurNet, average: DeblurNet, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Steps done and seconds spent; 0 where there is no checkpoint."""
    path = args.out / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location=args.device, weights_only=True)
    net.load_state_dict(state["net"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"going on after {state['step']} steps, {state['seconds'] / 60:.1f} min", flush=True)
    return state["step"], state["seconds"]


def save(
    args: argparse.Namespace,
    net: DeblurNet,
    average: DeblurNet,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: float,
) -> None:
    state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    with replacing(args.out / "checkpoint.pt") as path:
        torch.save(state | {"step": step, "seconds": spent}, path)
    weights = {name: value.half().cpu().contiguous() for name, value in average.state_dict().items()}
    facts = {"seed": args.seed, "steps": step, "minutes": round(spent / 60, 1), "widest_coc_px": WIDEST}
    with replacing(args.out / "deblur.safetensors") as path:
        save_file(weights, path, {name: json.dumps(value) for name, value in facts.items()})


if __name__ == "__main__":
    main()
