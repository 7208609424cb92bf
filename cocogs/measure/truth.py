"""How close refocused renders and the learned lens come to a ray-traced scene's truth.

A scene with a truth has a `truth.json` beside its photos (data/demo/README.md describes one): true poses,
focus distances and aperture, and in `refocus/` pictures through known lenses. Structure from motion has
its own frame and unit, and bends the scene a little. Pictures are therefore drawn from the run's own cameras,
the true ones undistorted like the photos were, and only lengths are converted, by the similarity that best
maps the run's camera positions to the true ones.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.truth_file import read_truth
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import refocus
from cocogs.run import Run
from cocogs.train.monitor import picture_psnr

FINAL_SAMPLES = 64


@dataclass(frozen=True)
class TruthReport:
    """Everything measured against the truth.

    Args:
        unit: true units in one of the run's.
        position_error: root mean square distance of the cameras after alignment, true units.
        sharp: PSNR of every sharp test view, dB.
        refocused: name, view, focus_distance and aperture_diameter (true units), PSNR `interactive` and
            `final`, dB.
        lens: errors of the learned lens; empty for a pinhole. `focus_error`: median |z_f / truth - 1|;
            `vergence_error`: mean |1/z_f - truth| in 1 / true unit; `aperture_ratio`: learned / true.
    """

    unit: float
    position_error: float
    sharp: dict[str, float]
    refocused: list[dict[str, str | float]]
    lens: dict[str, float]

    @property
    def mean(self) -> dict[str, float]:
        """PSNR in dB of the sharp views and, if there are refocused ones, of both qualities."""
        means = {"sharp": mean(self.sharp.values())}
        if self.refocused:
            means |= {q: mean(float(view[q]) for view in self.refocused) for q in ("interactive", "final")}
        return means

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "samples": FINAL_SAMPLES, "mean": self.mean}


@torch.no_grad()
def compare_with_truth(run: Run) -> TruthReport:
    """Compare renders of what the truth shows, in both qualities, and the learned lens with the true one.

    Raises:
        InputError: there is no truth beside the photos, or it does not belong to them.
    """
    folder = find_truth(run.scene.source)
    truth = read_truth(folder / "truth.json")
    frames = {frame["name"]: frame for frame in truth["frames"]}
    views = {view.name: view for view in run.scene.views}
    if foreign := [name for name in views if name not in frames]:
        raise InputError(f"{folder / 'truth.json'} lacks the photo {foreign[0]}: it is of another scene.")
    poses = [torch.tensor(frames[name]["w2c"], dtype=torch.float64) for name in views]
    unit, error = align(
        torch.stack([run.model.camera(view).position for view in views.values()]),
        torch.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in poses]),
    )
    refocused = []
    for entry in truth["refocus"]:
        if entry["view"] not in views:
            raise InputError(f"{run.folder} has no view {entry['view']} to refocus: train on all photos.")
        view = views[entry["view"]]
        picture = run.scene.picture_like(view, folder / "refocus" / entry["name"])
        focus_distance = entry["focus_distance"]
        diameter = truth["aperture_diameter"] * entry["aperture_scale"]
        lens = Lens(focus_distance / unit, diameter / unit)
        scores = {
            quality: picture_psnr(
                refocus(run.model.gaussians, run.model.camera(view), lens, samples), picture
            )
            for quality, samples in (("interactive", 0), ("final", FINAL_SAMPLES))
        }
        facts = {name: entry[name] for name in ("name", "view")}
        refocused.append({**facts, "focus_distance": focus_distance, "aperture_diameter": diameter, **scores})
    sharp = {
        view.name: picture_psnr(run.model.sharp(run.model.camera(view)).colors[0], run.scene.photo(view))
        for view in run.scene.test_views
    }
    return TruthReport(unit, error, sharp, refocused, _lens_errors(run, truth, frames, unit))


def find_truth(source: Path) -> Path:
    """The folder of truth.json: that of the photos, or the one above.

    Raises:
        InputError: there is none.
    """
    for folder in (source, source.parent):
        if (folder / "truth.json").is_file():
            return folder
    raise InputError(
        f"{source} has no truth.json to compare with: leave out --truth, or train on a scene that has one, "
        "such as data/demo."
    )


def align(positions: Float[Tensor, "V 3"], truth: Float[Tensor, "V 3"]) -> tuple[float, float]:
    """The scale of the similarity that best maps positions to the true ones, and the root mean square
    distance that is left (Umeyama 1991)."""
    a, b = positions - positions.mean(0), truth - truth.mean(0)
    U, S, Vt = torch.linalg.svd(b.T @ a)
    S[2] *= torch.sign(torch.linalg.det(U @ Vt))  # a rotation, not a mirror
    scale = S.sum() / a.square().sum()
    rest = b.square().sum() - scale * S.sum()
    return float(scale), float((rest.clamp_min(0) / len(a)).sqrt())


def _lens_errors(run: Run, truth: dict, frames: dict[str, dict], unit: float) -> dict[str, float]:
    if not run.has_lens:
        return {}
    names = [view.name for view in run.scene.train_views if frames[view.name]["focus_distance"] is not None]
    pairs = [(run.lens(name).focus_distance * unit, frames[name]["focus_distance"]) for name in names]
    return {
        "focus_error": median(abs(z / true - 1) for z, true in pairs),
        "vergence_error": mean(abs(1 / z - 1 / true) for z, true in pairs),
        "aperture_ratio": run.lens().aperture_diameter * unit / truth["aperture_diameter"],
    }


def print_truth(report: TruthReport, console: Console) -> None:
    """The refocused pictures as a table, then the lens."""
    table, means = Table("refocused, PSNR dB", "interactive", f"final ({FINAL_SAMPLES} samples)"), report.mean
    for view in report.refocused:
        table.add_row(str(view["name"]), f"{view['interactive']:.2f}", f"{view['final']:.2f}")
    if report.refocused:
        table.add_section()
        table.add_row("mean", f"{means['interactive']:.2f}", f"{means['final']:.2f}")
        console.print(table)
    lines = [
        f"Sharp test views: {means['sharp']:.2f} dB. One unit of the run is {report.unit:.4g} true ones; "
        f"cameras are {report.position_error:.3g} true units off (root mean square).",
    ]
    if report.lens:
        lines.append(
            "Learned lens: aperture {aperture_ratio:.3f} of the true one; focus distances off by "
            "{focus_error:.2%} (median), 1/z_f by {vergence_error:.4f} (mean).".format(**report.lens)
        )
    console.print("\n".join(lines))
