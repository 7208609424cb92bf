"""The points that a scene starts from: the source's, or triangulated ones, or random ones."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cocogs.io import triangulation
from cocogs.io.progress import Say
from cocogs.io.seeds import draw_points
from cocogs.io.source import Source
from cocogs.scene.data import View, read_mask, read_picture


@dataclass(frozen=True)
class StartPoints:
    """Points in the world.

    Args:
        positions: (P, 3) float32, scene units.
        colors: (P, 3) float32 in [0, 1], sRGB.
        drawn: they are random and show nothing.
    """

    positions: Tensor
    colors: Tensor
    drawn: bool


def find_points(
    views: list[View], source: Source, cache: Path, seed: int, settled: bool, say: Say
) -> StartPoints:
    """The source's points, else points that several training photos show, else random ones where they look.

    Test photos are not used: their colours would be a part of what they are to measure.

    Raises:
        InputError: the photos match each other but contradict their cameras, or show hardly any parallax.
    """
    if source.points is not None and source.point_colors is not None:
        return StartPoints(source.points.float(), source.point_colors, False)
    say("The dataset has no points: looking for some that several photos show.")
    known = [index for index, view in enumerate(views) if not view.is_test]
    pictures = {
        view.name: triangulation.KnownPhoto(view.image_path, view.camera, view.mask_path, view.original.path)
        for view in (views[index] for index in known)
    }
    if found := triangulation.triangulate(pictures, cache / "sfm", seed, say, settled):
        say(f"{len(found[0])} points found.")
        return StartPoints(found[0].float(), found[1], False)
    bounds = None if source.bounds is None else source.bounds[known]
    cameras = [views[i].camera for i in known]
    positions, colors = draw_points(
        cameras,
        bounds,
        lambda i: read_picture(views[known[i]].image_path),
        lambda i: None if (path := views[known[i]].mask_path) is None else read_mask(path),
        seed,
    )
    say(
        f"Hardly any feature is seen in two photos: {len(positions)} points are drawn at random where the "
        "photos look."
    )
    return StartPoints(positions, colors, True)
