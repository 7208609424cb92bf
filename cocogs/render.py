"""A run -> picture files: sharp, as photographed, or refocused."""

import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from cocogs.camera import Camera
from cocogs.coc.expand import PhotoLens
from cocogs.coc.lens import MIN_DEPTH, world_radius
from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.model import DefocusModel
from cocogs.refocusing import Lens, refocus
from cocogs.run import Run
from cocogs.scene import View

FULL_COLOR = 0.02  # the circle of confusion, as a part of the image width, that gets the full colour
NEAR_COLOR, FAR_COLOR = (1.0, 0.45, 0.0), (0.0, 0.4, 1.0)


def render_views(run: Run, views: str, out: Path, *, defocused: bool = False, focus: float | None = None,
                 aperture_factor: float | None = None) -> list[Path]:  # fmt: skip
    """Write one 8-bit PNG per view, named like its photo, and return their paths.

    Args:
        views: `test`, `train` or `all`.
        out: folder for the pictures; made if absent.
        defocused: as each photo was taken, instead of sharp; training views only.
        focus: focus distance > 0 in scene units, to refocus instead.
        aperture_factor: >= 0, times the learned aperture; only with `focus`, 1 by default.

    Raises:
        InputError: options that do not fit each other or the run, or `out` cannot be written.
    """
    chosen = choose_views(run, views)
    if focus is None:
        if aperture_factor is not None:
            raise InputError("--aperture changes a refocused picture: give --focus with it.")
        draw = _draw_defocused(run, chosen) if defocused else _draw_sharp(run.model)
    elif defocused:
        raise InputError("--defocused keeps each photo's own focus: leave it out, or leave out --focus.")
    else:
        draw = _draw_refocused(run, focus, 1.0 if aperture_factor is None else aperture_factor)
    paths = [out / name for name in picture_names([view.name for view in chosen])]
    jobs = list(zip(chosen, paths, strict=True))
    with torch.no_grad():
        for view, path in track(jobs, "Rendering", disable=not sys.stdout.isatty()):
            write_png(draw(view), path)
    return paths


def choose_views(run: Run, views: str) -> list[View]:
    """The views that `test`, `train` or `all` means.

    Raises:
        InputError: another word, or no view is left.
    """
    choices = {"test": run.scene.test_views, "train": run.scene.train_views, "all": run.scene.views}
    if views not in choices:
        raise InputError(f"There are no views named {views!r}: --views takes {', '.join(choices)}.")
    if not choices[views]:
        raise InputError(
            f"{run.folder} has no test views: render with --views train, or train with --test-every 8."
        )
    return choices[views]


def _draw_sharp(model: DefocusModel) -> Callable[[View], Tensor]:
    return lambda view: model.sharp(view.camera).colors[0]


def _draw_defocused(run: Run, views: list[View]) -> Callable[[View], Tensor]:
    if any(view.is_test for view in views):
        raise InputError(
            "Only training photos have a learned focus: use --defocused with --views train, "
            "or choose a focus for the test views with --focus."
        )
    indices = {view.name: index for index, view in enumerate(run.scene.train_views)}
    return lambda view: run.model.defocused(view.camera, indices[view.name])


def _draw_refocused(run: Run, focus: float, factor: float) -> Callable[[View], Tensor]:
    if not focus > 0:
        raise InputError(f"--focus {focus:g} is not in front of the camera: give a distance above 0.")
    if not factor >= 0:
        raise InputError(f"--aperture {factor:g} is negative: give a factor from 0 (everything sharp) on.")
    lens = Lens(focus, factor * run.lens().aperture)
    return lambda view: refocus(run.model.gaussians, view.camera, lens)


def picture_names(names: list[str]) -> list[str]:
    """PNG names for photos: a.jpg -> a.png, or a.jpg.png where a second photo would take the same.

    Folders stay, but none leads out of the place they are put into.
    """
    inner = [PurePosixPath(*(p for p in PurePosixPath(name).parts if p not in ("/", ".."))) for name in names]
    plain = [str(name.with_suffix(".png")) for name in inner]
    return [p if plain.count(p) == 1 else f"{name}.png" for p, name in zip(plain, inner, strict=True)]


def to_picture(picture: Tensor) -> Image.Image:
    """8-bit RGB of (3, H, W), clamped to [0, 1]."""
    pixels = (picture.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def write_png(picture: Tensor, path: Path) -> None:
    """Write (3, H, W), clamped to [0, 1], as 8-bit PNG."""
    with replacing(path) as temporary:
        to_picture(picture).save(temporary)


def coc_map(depths: Tensor, camera: Camera, lens: PhotoLens) -> Tensor:
    """Diameter (H, W) of the circle of confusion in px: positive nearer than the focus, else negative.

    Args:
        depths: (H, W) z-depths in scene units.
    """
    z = depths.clamp_min(MIN_DEPTH)
    distance = z * ray_lengths(camera).to(z) if lens.depth == "euclidean" else z
    radius = world_radius(distance, lens.focus_distance, lens.aperture, camera.fx, lens.units)
    return radius.abs() * (lens.focus_distance - distance).sign() * (2 * camera.fx / z)


def ray_lengths(camera: Camera) -> Tensor:
    """(H, W) distance from the camera of the points at depth 1, through the pixel centres."""
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return (x.square() + y[:, None].square() + 1).sqrt()


def colored_coc(coc: Tensor, alphas: Tensor) -> Tensor:
    """(3, H, W): white in focus, orange nearer, blue beyond, black where nothing is.

    Args:
        coc: (H, W) signed diameters in px.
        alphas: (H, W) in [0, 1].
    """
    strength = (coc.abs() / (FULL_COLOR * coc.shape[1])).clamp(0, 1)
    near, far = (torch.tensor(color).to(coc)[:, None, None] for color in (NEAR_COLOR, FAR_COLOR))
    return (1 - strength * (1 - torch.where(coc > 0, near, far))) * alphas
