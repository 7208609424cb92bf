"""Do focus distances follow what cameras noted, where training was not told? (docs/lab/lens.md)

    python scripts/eval_focus.py DATA --cache DIR --given none|half|all

DATA is a folder of photos whose EXIF has focus distances, with cameras. `--half` trains on one half of the
photos alone, cut by viewpoint: along the direction in which the cameras are spread most. `--given half` hides
the distances of every second photo; the seed says which. `--exif` makes those given wrong: of other photos,
all alike, or too far, rough and in steps of 5 %.

Prints two rows, before and after training (preset lens): K over EXIF's; of the photos whose distance was
hidden, and of those that told theirs, correlation and rank correlation of vergence with EXIF's, typical and
worst error about a line through the photos that told theirs, or all. Then one row a photo: its focus distance
as learned (scene units) and by EXIF (metres).
"""

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from compare_with_exif import ranks

from cocogs.config import preset
from cocogs.optics.evidence import measure_photos
from cocogs.optics.noted_focus import robust_line
from cocogs.scene import View, open_scene
from cocogs.train.start import start_lens
from cocogs.train.trainer import Trainer


def half_of(views: list[View], which: str | None) -> list[View]:
    """Cut by the cameras' positions, along their main direction; None: all."""
    if which is None:
        return views
    positions = torch.stack([view.camera.position for view in views])
    positions = positions - positions.mean(0)
    along = positions @ torch.linalg.svd(positions)[2][0]
    order = along.argsort().tolist()
    # The half that holds the first photo is "first", whatever the sign of the direction.
    halves = set(order[: len(order) // 2]), set(order[len(order) // 2 :])
    chosen = next(half for half in halves if (0 in half) == (which == "first"))
    return [view for index, view in enumerate(views) if index in chosen]


def told(views: list[View], given: str, exif: str | None, seed: int) -> tuple[list[View], list[bool]]:
    """Views as training sees them, and which of them tell their distance."""
    random = np.random.default_rng(seed)
    distances = [view.lens.focus_distance for view in views]
    if exif == "shuffled":
        distances = random.permutation(np.array(distances, dtype=object)).tolist()
    elif exif == "constant":
        distances = [1.0 for _ in distances]
    elif exif == "rough":
        off = 0.05 + 0.03 * random.standard_normal(len(views))
        distances = [
            d and 1.05 ** round(math.log(d, 1.05) + e / 0.05) for d, e in zip(distances, off, strict=True)
        ]
    kept = [given == "all" or (given == "half" and (index + seed) % 2 == 0) for index in range(len(views))]
    seen = [
        replace(view, lens=replace(view.lens, focus_distance=distance if keep else None))
        for view, distance, keep in zip(views, distances, kept, strict=True)
    ]
    return seen, kept


def row(found: np.ndarray, K: float, views: list[View], kept: list[bool]) -> str:
    """K over EXIF's, and how well the focus distances follow EXIF; the line is that of the photos that told
    theirs, or of all."""
    noted = np.array([view.lens.focus_distance or np.nan for view in views])
    known, given = np.isfinite(noted), np.array(kept)
    x, y = 1 / torch.from_numpy(noted), 1 / torch.from_numpy(found).double()
    fitted = torch.from_numpy(known & given if given.any() else known)
    middle, unit = x[fitted].median(), y[fitted].median()
    line, _ = robust_line(x[fitted] / middle, y[fitted] / unit)
    by_line = (unit * (line[0] * x / middle + line[1])).numpy()
    lens, fx = views[0].lens, views[0].camera.fx
    metres = np.median(noted[fitted] * by_line[fitted])  # per scene unit
    parts = [f"K {K / ((lens.aperture_diameter or np.nan) * fx / metres):.3f}"]
    for name, group in {"hidden": known & ~given, "given": known & given}.items():
        if group.sum() < 3:
            continue
        theirs, ours = 1 / noted[group], 1 / found[group]
        by_rank = np.corrcoef(ranks(theirs), ranks(ours))[0, 1]
        errors = np.abs(by_line[group] / ours - 1)
        worst = [view.name for view, chosen in zip(views, group, strict=True) if chosen][errors.argmax()]
        parts.append(
            f"{name} {group.sum()}: {np.corrcoef(theirs, ours)[0, 1]:.3f} rank {by_rank:.3f} "
            f"typical {100 * np.median(errors):.1f} % worst {100 * errors.max():.0f} % ({worst})"
        )
    return "; ".join(parts) + f"; {metres:.4f} m a unit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--half", choices=("first", "second"))
    parser.add_argument("--given", choices=("none", "half", "all"), default="half")
    parser.add_argument("--exif", choices=("shuffled", "constant", "rough"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--downscale", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--max-gaussians", type=int, default=50_000)
    parser.add_argument("--search-only", action="store_true")
    a = parser.parse_args()
    scene = open_scene(a.data, a.cache, downscale=a.downscale, say=lambda line: None)
    views = half_of(scene.train_views, a.half)
    seen, kept = told(views, a.given, a.exif, a.seed)
    scene = replace(scene, views=seen)
    name = f"{a.data.name} {a.half or 'all'} given {a.given} {a.exif or ''} seed {a.seed}"
    evidence, blurs = measure_photos(scene)
    start = start_lens(scene, evidence, blurs)
    print(f"{name}, start: {row(start.focus_distances.numpy(), start.K, views, kept)}", flush=True)
    if a.search_only:
        return
    config = preset("lens", seed=a.seed)
    optim = replace(config.optim, iterations=a.iterations)
    config = replace(config, optim=optim, strategy=replace(config.strategy, max_gaussians=a.max_gaussians))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        trainer = Trainer(config, scene, Path(folder))
        trainer.train(None)
        lens = trainer.model.lens
        found, K = lens.focus.distances.detach().numpy(), float(lens.aperture.K(0).detach())
    seconds = time.process_time() - begun
    print(f"{name}, {a.iterations} steps: {row(found, K, views, kept)}; {seconds:.0f} CPU s", flush=True)
    for view, one, kind in zip(views, found, kept, strict=True):
        print(f"  {view.name} {one:.4f} {view.lens.focus_distance} {'given' if kind else 'hidden'}")


if __name__ == "__main__":
    main()
