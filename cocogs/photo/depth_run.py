"""The depth of a photo that a run was trained on."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cocogs.errors import InputError, listed
from cocogs.io.depth_file import StoredDepth
from cocogs.io.undistort import is_pinhole
from cocogs.optics.lens import Lens
from cocogs.render.distortion import as_trained, covering, distorted
from cocogs.render.refocusing import sharp_depth
from cocogs.run import Run, load_run
from cocogs.scene import View


@dataclass(frozen=True)
class LearnedOfPhoto:
    """What a run has learned of the camera of the photo.

    Args:
        focal_in_widths: focal length over the width of the photo.
        lens: of this photo, scene units; None: it was kept for testing.
        f_number: EXIF's that belongs to an aperture of `typical_diameter`, scene units; None: EXIF has none.
    """

    focal_in_widths: float
    lens: Lens | None
    f_number: float | None
    typical_diameter: float


def depth_of_run(photo: Path, folder: Path) -> tuple[StoredDepth, LearnedOfPhoto, float | None]:
    """The depth of the sharp view at a photo's place, distorted as the photo is, in scene units and at
    training's resolution; what was learned of the photo's lens; metres per scene unit, if known.

    Raises:
        InputError: no run, or one that has no lens or does not know the photo.
    """
    run = load_run(folder, edited=False)  # the photo shows the scene as it was
    view = _view(run, photo)
    lens, camera = as_trained(view), run.model.camera(view)
    if is_pinhole(lens):
        depth = sharp_depth(run.model.gaussians, camera)
    else:
        camera = covering(lens, camera)
        depth = distorted(sharp_depth(run.model.gaussians, camera)[None], lens, camera, mode="nearest")[0]
    values = torch.where(depth.isfinite(), depth, torch.nan).numpy()
    learned = run.learned
    own = None if view.is_test else learned.of(view.name)
    facts = LearnedOfPhoto(camera.fx / lens.width, own, learned.f_number, learned.typical.aperture_diameter)
    notes = ()
    if not (view.original.path.exists() and view.original.path.samefile(photo)):
        notes = (
            f"{photo} is taken for the photo {view.name} of {folder} by its name: it must be that photo.",
        )
    stored = StoredDepth(values, "depth", False, f"the run {folder}", notes)
    return stored, facts, learned.metres_per_unit


def _view(run: Run, photo: Path) -> View:
    """The photo of a run that is this file, or else has its name."""
    views = [view for view in run.scene.views if view.panorama is None]
    same = [view for view in views if view.original.path.exists() and view.original.path.samefile(photo)]
    named = same or [view for view in views if Path(view.name).name == photo.name]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(
            f"{run.folder} has several photos called {photo.name}: give the one in {run.scene.source}."
        )
    names = listed([view.name for view in views])
    raise InputError(
        f"{run.folder} was not trained on {photo.name}, but on {names}: give one of these photos."
    )
