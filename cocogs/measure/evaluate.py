"""How close the sharp test views come to the photos, in every measure the field uses.

Papers differ in what they call SSIM (METHOD.md section 4), so ours carry their window in the name:
compare a figure only with one of the same variant.
"""

import json
from dataclasses import dataclass
from typing import Any

import flip_evaluator
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.metrics import structural_similarity
from torch import Tensor

from cocogs.errors import InputError
from cocogs.measure.lpips import HOW_TO_GET, Lpips, masked_mean
from cocogs.run import Run
from cocogs.ssim import ssim_map
from cocogs.train.monitor import picture_psnr

COLUMNS = {
    "psnr": "PSNR dB",
    "ssim_gaussian_11": "SSIM Gaussian 11",
    "ssim_uniform_7": "SSIM uniform 7",
    "flip": "FLIP",
    "lpips": "LPIPS",
}


@dataclass(frozen=True)
class Evaluation:
    """Facts about a run and its scores.

    Args:
        facts: run, preset, step, seed, gaussians, K (px x scene unit, None for a pinhole).
        views: name, masked (bool) and one float per measure, per test view.
    """

    facts: dict[str, str | int | float | None]
    views: list[dict[str, str | bool | float]]

    @property
    def measures(self) -> list[str]:
        return [name for name in COLUMNS if name in self.views[0]]

    @property
    def mean(self) -> dict[str, float]:
        return {m: sum(float(view[m]) for view in self.views) / len(self.views) for m in self.measures}

    def to_json(self, truth: dict[str, Any] | None = None) -> str:
        """`truth`: what `cocogs.measure.truth` measured besides."""
        values = {**self.facts, "views": self.views, "mean": self.mean}
        return json.dumps(values if truth is None else {**values, "truth": truth}, indent=2)


@torch.no_grad()
def evaluate_run(run: Run, lpips: Lpips | None = None) -> Evaluation:
    """Compare the sharp render of every test view with its photo.

    Where a view has a mask, pixels outside it count as equal for what spreads (SSIM, FLIP, LPIPS) and
    are left out of every mean.

    Raises:
        InputError: the run has no test views, or the mask of one leaves nothing to measure.
    """
    if not run.scene.test_views:
        raise InputError(
            f"{run.folder} has no test views to measure: train with --test-every 8 to keep every 8th photo."
        )
    views = []
    for view in run.scene.test_views:
        render = run.model.sharp(run.model.camera(view)).colors[0].clamp(0, 1).cpu()
        mask = run.scene.mask(view)
        if mask is not None and not mask.any():
            raise InputError(f"The mask of {view.name} is all black: make white what is to be measured.")
        scores = compare(render, run.scene.photo(view), mask, lpips)
        views.append({"name": view.name, "masked": mask is not None, **scores})
        facts = {
            "run": str(run.folder),
            "preset": run.config.preset,
            "step": run.step,
            "seed": run.config.seed,
            "gaussians": len(run.model.gaussians),
            "K": run.learned.Ks[0] if run.has_lens else None,
        }
    return Evaluation(facts, views)


def compare(render: Tensor, photo: Tensor, mask: Tensor | None, lpips: Lpips | None) -> dict[str, float]:
    """Every measure of a render (3, H, W) against a photo (3, H, W), both in [0, 1].

    Args:
        mask: (H, W), 1 where the photo counts.
        lpips: its weights, or None to leave LPIPS out.
    """
    if mask is not None:
        render = torch.where(mask > 0.5, render, photo)
    scores = {
        "psnr": picture_psnr(render, photo, mask),
        "ssim_gaussian_11": float(masked_mean(ssim_map(render, photo).mean(0), mask)),
        "ssim_uniform_7": ssim_uniform_7(render, photo, mask),
        "flip": flip(render, photo, mask),
    }
    if lpips is not None:
        scores["lpips"] = float(lpips(render, photo, mask))
    return scores


def ssim_uniform_7(render: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """SSIM of the deblurring papers: skimage, uniform 7 x 7 window, pictures mapped to [-1, 1]."""
    a, b = (picture.permute(1, 2, 0).numpy() * 2 - 1 for picture in (render, photo))
    similarity = structural_similarity(a, b, win_size=7, data_range=2, channel_axis=2, full=True)[1]
    inner = slice(3, -3)  # where the window fits, as skimage's own mean
    values = torch.from_numpy(np.asarray(similarity)).mean(2)[inner, inner]
    return float(masked_mean(values, None if mask is None else mask[inner, inner]))


def flip(render: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """Andersson et al. 2020, low dynamic range, 67 pixels per degree: 0 is equal, 1 the opposite."""
    a, b = (picture.permute(1, 2, 0).contiguous().numpy() for picture in (photo, render))
    errors, _, _ = flip_evaluator.evaluate(a, b, "LDR", applyMagma=False)
    return float(masked_mean(torch.from_numpy(errors).squeeze(-1), mask))


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """The scores as a table, with what must be known to read it."""
    facts, measures = evaluation.facts, evaluation.measures
    K = facts["K"]
    lens = "no lens" if K is None else f"K {K:.4g} px x scene unit"
    console.print(
        f"{facts['run']}: preset {facts['preset']}, step {facts['step']}, seed {facts['seed']}, "
        f"{facts['gaussians']:,} Gaussians, {lens}"
    )
    table = Table("sharp test view", *(COLUMNS[m] for m in measures))
    for view in evaluation.views:
        name = f"{view['name']} (masked)" if view["masked"] else str(view["name"])
        table.add_row(name, *(f"{view[m]:.4f}" for m in measures))
    table.add_section()
    table.add_row("mean", *(f"{value:.4f}" for value in evaluation.mean.values()))
    console.print(table)
    if any(view["masked"] for view in evaluation.views):
        console.print("Masked views are measured inside their masks only.")
    if "lpips" not in measures:
        console.print(f"LPIPS needs its weights: give --lpips-weights DIR and {HOW_TO_GET}.")
