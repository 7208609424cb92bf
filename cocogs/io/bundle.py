"""A lens from a model of many photos: bundle adjustment with the focal length free, and how sure it is."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from cocogs.io.matching import quiet
from cocogs.io.progress import Progress, Say

# Residuals weigh less from here on (Cauchy's loss), px. SfM's last adjustment is without, and bad matches of
# blurred photos move its focal length.
ROBUST_PX = 1.0
# Adjustments that leave photos out: each leaves out every eighth.
GROUPS = 8
# They start with the focal length wrong by so much, by turns too long and too short. Where the photos do not
# tell the focal length, it stays near where it started, and the results scatter.
START = 0.1
# An adjustment ends where a step improves the sum by less than this part. COLMAP goes on for 100 steps: ten
# times as long for less than 0.01 % of the focal length (ray-traced scenes glass and tabletop).
ENOUGH = 1e-6


@dataclass(frozen=True)
class AdjustedLens:
    """Focal length (px) and radial distortion (k of SIMPLE_RADIAL), with standard deviations."""

    focal: float
    focal_deviation: float
    k1: float
    k1_deviation: float


def adjusted_lens(folder: Path, say: Say) -> AdjustedLens | None:
    """Adjust the lens, the cameras and the points of a model.

    The deviation has two parts, added as squares. One is the jackknife's over groups of photos (Efron 1982),
    which holds the errors that a photo's features share; the covariance of the reprojection errors takes them
    for independent. The other is how far Cauchy's loss moves the result: how much it depends on the few
    matches that fit badly.

    Args:
        folder: a COLMAP model of one camera, SIMPLE_RADIAL, and at least 4 photos. It stays as it is.
        say: receives progress.

    Returns:
        None where an adjustment fails.
    """
    model = pycolmap.Reconstruction(folder)
    photos = sorted(model.reg_image_ids())
    count = min(GROUPS, len(photos))
    progress = Progress("Adjusting the focal length", count + 2, say, patience=2)
    runs = [(photos, False, 1.0), (photos, True, 1.0)]
    for group in range(count):
        kept = [photo for place, photo in enumerate(photos) if place % count != group]
        runs.append((kept, True, 1 + (START if group % 2 else -START)))
    lenses = []
    for run in runs:
        with quiet():
            lens = _adjust(model, *run)
        if lens is None:
            return None
        lenses.append(lens)
        progress.add(1)
    plain, best, *parts = np.array(lenses)
    spread = np.square(parts - np.mean(parts, axis=0)).sum(axis=0) * (count - 1) / count
    focal_deviation, k1_deviation = np.sqrt(spread + np.square(best - plain))
    return AdjustedLens(float(best[0]), float(focal_deviation), float(best[1]), float(k1_deviation))


def _adjust(
    model: pycolmap.Reconstruction, photos: Collection[int], robust: bool, start: float
) -> tuple[float, float] | None:
    """Focal length (px) and k after bundle adjustment of some of the photos; None where it fails.

    Args:
        start: the focal length to start with, as a part of the model's.
    """
    model = pycolmap.Reconstruction(model)
    for photo in model.reg_image_ids():
        if photo not in photos:
            model.deregister_frame(model.images[photo].frame_id)
    (camera,) = model.cameras.values()
    focal, *center, k1 = camera.params
    camera.params = np.array([focal * start, *center, k1 * start**2])
    # Cameras and points follow the start first; else its large residuals would count as bad matches.
    stages = [(False, False)] if start != 1 else []
    for free, weighed in (*stages, (True, robust)):
        if not _solve(model, photos, free, weighed):
            return None
    return float(camera.params[0]), float(camera.params[3])


def _solve(model: pycolmap.Reconstruction, photos: Collection[int], free: bool, robust: bool) -> bool:
    """Adjust a model in place.

    Args:
        free: the lens too.
        robust: with Cauchy's loss.
    """
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = free
    if robust:
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = ROBUST_PX
    options.ceres.solver_options.function_tolerance = ENOUGH
    # More threads would sum in an order that changes from run to run.
    options.ceres.solver_options.num_threads = 1
    config = pycolmap.BundleAdjustmentConfig()
    for photo in photos:
        config.add_image(photo)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    summary = pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    return summary is not None and summary.is_solution_usable()
