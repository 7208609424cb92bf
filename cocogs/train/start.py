"""What a training starts from: the Gaussians around points of the scene, and the lens from a search."""

import math
from collections.abc import Sequence
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.config import Config
from cocogs.gaussians import Gaussians
from cocogs.io.exif import NAMED_FOCAL_LENGTH, NOTED_DISTANCE
from cocogs.metres import NAMED_F_NUMBER
from cocogs.optics.evidence import Evidence, measure_photos
from cocogs.optics.lens_models import LENS_MODELS, Start
from cocogs.optics.model import DefocusModel
from cocogs.optics.noted_focus import FEWEST_TO_AGREE, OWN_ERROR, NotedFocus, agree
from cocogs.optics.photometric import Taken
from cocogs.optics.photometric_search import find_photometric
from cocogs.optics.search import find_lens, unknown_lens
from cocogs.scene import Scene, View
from cocogs.train.start_points import add_start_points

# Standard uncertainties of K, as a part: what `OptimConfig.K_prior` stands for, wider than SEARCHED_K, for
# photos may tell more than the search; and by EXIF, from f-number, focal length and focus distances.
UNSURE_K, EXIF_K = 0.17, math.hypot(NAMED_F_NUMBER, NAMED_FOCAL_LENGTH, NOTED_DISTANCE)


def start_model(config: Config, scene: Scene, device: torch.device | str = "cpu") -> DefocusModel:
    """Base Gaussians on the SfM points and some more; the lens from a search on `device`. On a CPU.

    Uses torch's global generator.

    Raises:
        InputError: no training photo sees a point: cameras and points do not fit.
    """
    cap, seeds = config.strategy.max_gaussians, len(scene.points)
    # More points than allowed: a random part of them, because neighbours in the file are one region.
    chosen = torch.randperm(seeds)[:cap] if seeds > cap else torch.arange(seeds)
    points, colors = scene.points[chosen], scene.point_colors[chosen]
    extra = min(config.strategy.extra_points, cap - len(points))
    points, colors = add_start_points(scene, points, colors, extra)
    gaussians = Gaussians.from_points(points, colors, config.model.antialiased)
    start, evidence = Start.unknown(len(scene.train_views)), None
    has_lens = LENS_MODELS[config.model.lens].has_lens
    if has_lens or config.model.photometric:
        evidence, blurs = measure_photos(scene, device)
        start = start_lens(scene, evidence, blurs) if has_lens else start
    model = DefocusModel.starting(gaussians, config.model, start, Taken.of(scene.train_views))
    if model.photometric is not None and evidence is not None and not scene.drawn:
        find_photometric(model.photometric, scene, evidence)
        model.photometric.cpu()
    return model


def start_lens(scene: Scene, evidence: Evidence, blurs: Float[Tensor, "V P"]) -> Start:
    """Where the lens starts, after a search."""
    views = scene.train_views
    if scene.drawn:  # random points tell nothing of the lens
        distances, K, method = *unknown_lens(evidence), "none"
    else:
        distances, K, method = find_lens(evidence, blurs)
    distances, noted = distances.cpu(), None
    if not scene.drawn:
        distances, noted = with_noted(views, distances, OWN_ERROR[method])
    # Photos that differ in focus tell the lens, better than search or EXIF do; others would let it drift off.
    told = method == "compared"
    held = 0.0 if told else 1.0
    # EXIF is surer of the aperture than the search is where its focus distances, which give the scale, fit.
    # Too few to tell are believed where the photos do not tell the aperture either.
    few = sum(view.lens.focus_distance is not None for view in views) < FEWEST_TO_AGREE
    if (noted is not None or (few and not told)) and (by_exif := exif_K(views, distances)):
        K, held = by_exif, held if noted is None else held * (UNSURE_K / EXIF_K) ** 2
    assert evidence.ratios is not None
    return Start(
        focus_distances=distances,
        K=K,
        ratios=evidence.ratios.cpu(),
        typical_depth=float(evidence.depths.nanmedian()),
        fx=views[0].camera.fx,
        held=held,
        center=scene.points.median(0).values,
        extent=scene.extent,
        noted=None if told else noted,
    )


def with_noted(
    views: Sequence[View], found: Float[Tensor, " V"], own_error: float
) -> tuple[Float[Tensor, " V"], NotedFocus | None]:
    """Focus distances found, and where cameras noted some that agree, between the two; and what they noted.

    Args:
        own_error: standard deviation of what was found, as a part.
    """
    noted = agree(found, torch.tensor([v.lens.focus_distance or math.nan for v in views]), own_error)
    return (found, None) if noted is None else (noted.start(found, own_error), noted)


def exif_K(views: Sequence[View], found: Float[Tensor, " V"]) -> float | None:
    """K (px x scene unit) of the first photo by EXIF; None where EXIF does not tell.

    Focal length and f-number give the aperture in metres. The focus distances that the camera wrote, beside
    those found (V,), give metres per scene unit: one number, the median over at least 3 photos.
    """
    known = [
        (view.lens.aperture_diameter, view.lens.focus_distance / float(z))
        for view, z in zip(views, found, strict=True)
        if view.lens.aperture_diameter is not None and view.lens.focus_distance is not None
    ]
    if len(known) < 3:
        return None
    diameters, metres_per_unit = zip(*known, strict=True)
    first = views[0].lens.aperture_diameter or median(diameters)
    return first * views[0].camera.fx / median(metres_per_unit)
