"""How close the sharp test views come to the photos, in the measures that papers use.

Papers mean different things by SSIM (docs/method.md), so each variant has its window in its name. Compare a
figure only with figures of the same variant.
"""

import json
from dataclasses import dataclass
from typing import Any

import flip_evaluator
import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from skimage.metrics import structural_similarity
from torch import Tensor

from cocogs.errors import InputError
from cocogs.measure.color import match_affine_color
from cocogs.measure.headings import MEASURES
from cocogs.measure.lpips import HOW_TO_GET, Lpips
from cocogs.measure.text_table import print_table
from cocogs.run import Run
from cocogs.ssim import ssim_map
from cocogs.train.losses import masked_mean, picture_psnr

WINDOW = 7  # px, of `ssim_uniform_7`


@dataclass(frozen=True)
class Evaluation:
    """Facts about a run and its scores.

    Args:
        facts: run, preset, step, seed, gaussians, K (px x scene unit; None where the run has no lens),
            metres_per_unit (None where EXIF does not tell).
        views: of each test view: name, masked (bool), and one float per measure (a key of `MEASURES`).
        about_metres: a sentence for the user: how long a scene unit is, or why that cannot be known; empty
            where the run has no lens.
    """

    facts: dict[str, str | int | float | None]
    views: list[dict[str, str | bool | float]]
    about_metres: str = ""

    @property
    def measures(self) -> list[str]:
        """Names of what was measured."""
        return [name for name in MEASURES if name in self.views[0]]

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each measure over the test views."""
        return {m: sum(float(view[m]) for view in self.views) / len(self.views) for m in self.measures}

    @property
    def notes(self) -> list[str]:
        """Sentences that readers of the table need."""
        notes = [
            "Affine colour: after the affine map of colour that brings each render closest to its photo."
        ]
        if self.facts.get("edits"):
            notes.append("The scene is edited since (edits.json): its photos show it as it was before.")
        if any(view["masked"] for view in self.views):
            notes.append("Masked views are measured inside their masks only.")
        if "lpips" not in self.measures:
            notes.append(f"LPIPS was not measured. It needs a folder (`lpips_weights`): {HOW_TO_GET}.")
        return notes

    def to_json(self, truth: dict[str, Any] | None = None) -> str:
        """The text of eval.json.

        Args:
            truth: what `cocogs.measure.truth` measured, if it did.
        """
        values = {**self.facts, "views": self.views, "mean": self.mean}
        return json.dumps(values if truth is None else {**values, "truth": truth}, indent=2)


@torch.no_grad()
def evaluate_run(run: Run, lpips: Lpips | None = None) -> Evaluation:
    """Compare the sharp render of every test view with its photo.

    A measure that looks at neighbouring pixels (SSIM, FLIP, LPIPS) sees the photo itself outside a mask. No
    mean includes pixels outside.

    Raises:
        InputError: the run has no test views, or a mask leaves nothing to measure.
    """
    if not run.scene.test_views:
        raise InputError(
            f"{run.folder} has no test views to measure: hold out sharp photos with `test`, or every 8th "
            "with `test_every=8`."
        )
    views = []
    for view in run.scene.test_views:
        mask = run.scene.mask(view)
        if mask is not None and not (mask > 0.5).any():
            raise InputError(f"The mask of {view.name} is all black: make white what is to be measured.")
        render = run.model.sharp_photo(view).clamp(0, 1).cpu()
        scores = compare(render, run.scene.photo(view), mask, lpips)
        views.append({"name": view.name, "masked": mask is not None, **scores})
    facts = {
        "run": str(run.folder),
        "preset": run.config.preset,
        "step": run.step,
        "seed": run.config.seed,
        "gaussians": len(run.model.gaussians),
        "edits": run.edited,
        "K": run.learned.Ks[0] if run.has_lens else None,
        "metres_per_unit": run.learned.metres_per_unit if run.has_lens else None,
    }
    return Evaluation(facts, views, run.learned.about_metres if run.has_lens else "")


def compare(
    render: Float[Tensor, "3 H W"],
    photo: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | None,
    lpips: Lpips | None,
) -> dict[str, float]:
    """All measures of a render against a photo, by the names in `MEASURES`.

    Args:
        render, photo: sRGB in [0, 1].
        mask: 1 where the photo counts.
        lpips: the network; None leaves LPIPS out.

    Raises:
        InputError: the pictures are too small for a measure.
    """
    if min(photo.shape[1:]) < WINDOW:
        raise InputError(
            f"The photos are {photo.shape[2]}x{photo.shape[1]} px as trained with, too small to measure: "
            "train with a smaller `downscale`."
        )
    matched = match_affine_color(render, photo, mask)
    if mask is not None:
        render, matched = (torch.where(mask > 0.5, picture, photo) for picture in (render, matched))
    scores = {
        "psnr": picture_psnr(render, photo, mask),
        "psnr_affine_color": picture_psnr(matched, photo, mask),
        "ssim_gaussian_11": ssim_gaussian_11(render, photo, mask),
        "ssim_gaussian_11_affine_color": ssim_gaussian_11(matched, photo, mask),
        "ssim_uniform_7": ssim_uniform_7(render, photo, mask),
        "flip": flip(render, photo, mask),
    }
    if lpips is not None:
        scores["lpips"] = float(lpips(render, photo, mask))
    return scores


def ssim_gaussian_11(render: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """SSIM of 3DGS: Gaussian window of 11 x 11 px, zeros outside the pictures."""
    return float(masked_mean(ssim_map(render, photo).mean(0), mask))


def ssim_uniform_7(render: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """SSIM of the deblurring papers: scikit-image, uniform window of 7 x 7 px, pictures mapped to [-1, 1].

    As in scikit-image, only pixels whose window lies inside the picture count. In a mask without such
    pixels, all pixels count.
    """
    a, b = (picture.permute(1, 2, 0).numpy() * 2 - 1 for picture in (render, photo))
    similarity = structural_similarity(a, b, win_size=WINDOW, data_range=2, channel_axis=2, full=True)[1]
    values = torch.from_numpy(np.asarray(similarity)).mean(2)
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    if mask is not None and not (mask[inner, inner] > 0.5).any():
        return float(masked_mean(values, mask))
    return float(masked_mean(values[inner, inner], None if mask is None else mask[inner, inner]))


def flip(render: Tensor, photo: Tensor, mask: Tensor | None) -> float:
    """FLIP for low dynamic range (Andersson et al. 2020) at 67 pixels per degree: 0 is equal, 1 opposite."""
    a, b = (picture.permute(1, 2, 0).contiguous().numpy() for picture in (photo, render))
    errors, _, _ = flip_evaluator.evaluate(a, b, "LDR", applyMagma=False)
    return float(masked_mean(torch.from_numpy(errors).squeeze(-1), mask))


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print facts, the scores as a table, and notes."""
    facts, measures, K = evaluation.facts, evaluation.measures, evaluation.facts["K"]
    lens = "no lens" if K is None else f"K {K:.4g} px x scene unit"
    console.print(
        f"{facts['run']}: preset {facts['preset']}, step {facts['step']}, seed {facts['seed']}, "
        f"{facts['gaussians']:,} Gaussians, {lens}"
    )
    rows = []
    for view in [*evaluation.views, {"name": "mean", "masked": False, **evaluation.mean}]:
        name = f"{view['name']} (masked)" if view["masked"] else str(view["name"])
        rows.append([name, *(format(float(view[m]), MEASURES[m].format) for m in measures)])
    heads = ["sharp test view", *(MEASURES[m].title for m in measures)]
    print_table(heads, rows, console, last_is_mean=True)
    for note in (*evaluation.notes, evaluation.about_metres):
        if note:
            console.print(note)
