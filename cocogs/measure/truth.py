"""How close refocused renders and the learned lens come to the truth of a ray-traced scene.

A scene with a known truth has a `truth.json` beside its photos: true poses, focus distances and the aperture.
Its folder `refocus/` holds pictures taken through known lenses. Structure from motion has a frame and a unit
of its own, and it bends the scene a little. We therefore draw pictures from the run's own cameras and
undistort the true pictures as the photos were. Only lengths are converted, by the similarity that best maps
the run's camera positions to the true ones.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from rich.console import Console

from cocogs.errors import InputError
from cocogs.io.truth_file import TruthFile, TruthRefocused, read_truth
from cocogs.measure.alignment import align
from cocogs.measure.text_table import print_table
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import refocus
from cocogs.run import Run
from cocogs.train.losses import picture_psnr

FINAL_SAMPLES = 64
QUALITIES = {"interactive": 0, "final": FINAL_SAMPLES}
"""Samples of the aperture that each quality draws."""


@dataclass(frozen=True)
class TruthReport:
    """Everything measured against the truth.

    Args:
        unit: true units in one of the run's units.
        position_error: root mean square distance of the cameras after alignment, true units.
        refocused: of each picture: name, view, focus_distance and aperture_diameter (true units), and the
            PSNR of `interactive` and `final` quality, dB.
        lens: errors of the learned lens; empty for a pinhole. `aperture_ratio`: learned / true. If the truth
            has training photos with a focus distance, also `focus_error`: median |z_f / truth - 1|, and
            `vergence_error`: mean |1/z_f - truth| in 1 / true unit.
    """

    unit: float
    position_error: float
    refocused: list[dict[str, str | float]]
    lens: dict[str, float]

    @property
    def mean(self) -> dict[str, float]:
        """Mean PSNR in dB of the refocused pictures in each quality; empty where there are none."""
        return {q: mean(float(view[q]) for view in self.refocused) for q in QUALITIES if self.refocused}

    def to_dict(self) -> dict[str, Any]:
        """The key `truth` of eval.json."""
        return {**vars(self), "samples": FINAL_SAMPLES, "mean": self.mean}


@torch.no_grad()
def compare_with_truth(run: Run) -> TruthReport:
    """Compare renders of what the truth shows, in both qualities, and the learned lens with the true one.

    Raises:
        InputError: there is no truth beside the photos, it does not belong to them, or the cameras give no
            unit.
    """
    folder = find_truth(run.scene.source)
    truth = read_truth(folder / "truth.json")
    views = run.scene.views
    if foreign := [view.name for view in views if view.name not in truth.frames]:
        raise InputError(f"{truth.path} lacks the photo {foreign[0]}: give the truth of this scene.")
    try:
        similarity = align(
            torch.stack([run.model.camera(view).position for view in views]),
            torch.stack([truth.frames[view.name].position for view in views]),
        )
    except InputError as error:
        raise InputError(f"{run.folder} cannot be compared with {truth.path}. {error}") from error
    unit = similarity.scale
    refocused = [_compare_refocused(run, entry, folder, unit) for entry in truth.refocused]
    return TruthReport(unit, similarity.error, refocused, _lens_errors(run, truth, unit))


def find_truth(source: Path) -> Path:
    """The folder of truth.json: that of the photos, or the one above.

    Raises:
        InputError: there is none.
    """
    for folder in (source, source.parent):
        if (folder / "truth.json").is_file():
            return folder
    raise InputError(
        f"{source} has no truth.json to compare with: leave `truth` out, or train on a scene that has one, "
        "such as data/demo."
    )


def _compare_refocused(run: Run, entry: TruthRefocused, folder: Path, unit: float) -> dict[str, str | float]:
    """Facts and PSNR of one refocused picture; `unit`: true units in one of the run's."""
    views = {view.name: view for view in run.scene.views}
    if entry.view not in views:
        raise InputError(f"{run.folder} has no view {entry.view} to refocus: train on all photos.")
    view = views[entry.view]
    picture = run.scene.picture_like(view, folder / "refocus" / entry.name)
    lens = Lens(entry.focus_distance / unit, entry.aperture_diameter / unit)
    camera = run.model.camera(view)
    scores = {
        quality: picture_psnr(
            refocus(run.model.gaussians, camera, lens, samples).cpu(), picture, run.scene.mask(view)
        )
        for quality, samples in QUALITIES.items()
    }
    return {**vars(entry), **scores}


def _lens_errors(run: Run, truth: TruthFile, unit: float) -> dict[str, float]:
    """See `TruthReport.lens`."""
    if not run.has_lens:
        return {}
    pairs = [
        (run.lens(view.name).focus_distance * unit, true)
        for view in run.scene.train_views
        if (true := truth.frames[view.name].focus_distance) is not None
    ]
    errors = {}
    if pairs:
        errors["focus_error"] = median(abs(z / true - 1) for z, true in pairs)
        errors["vergence_error"] = mean(abs(1 / z - 1 / true) for z, true in pairs)
    errors["aperture_ratio"] = run.lens().aperture_diameter * unit / truth.aperture_diameter
    return errors


def print_truth(report: TruthReport, console: Console) -> None:
    """Print the refocused pictures as a table, then a sentence about each of the rest."""
    if report.refocused:
        rows = [
            [str(view["name"]), *(f"{view[q]:.2f}" for q in QUALITIES)]
            for view in [*report.refocused, {"name": "mean", **report.mean}]
        ]
        heads = ["refocused, PSNR dB", "interactive", f"final ({FINAL_SAMPLES} samples)"]
        print_table(heads, rows, console, last_is_mean=True)
    console.print(
        f"One unit of the run is {report.unit:.4g} true units. The cameras are {report.position_error:.3g} "
        "true units off (root mean square)."
    )
    if not report.lens:
        return
    console.print(f"Learned lens: the aperture is {report.lens['aperture_ratio']:.3f} of the true one.")
    if "focus_error" in report.lens:
        console.print(
            "Learned focus distances are off by {focus_error:.2%} (median), 1/z_f by {vergence_error:.4f} "
            "(mean).".format(**report.lens)
        )
    else:
        console.print("The truth has no training photo with a focus distance, so that none is compared.")
