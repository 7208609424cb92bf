"""A run -> files for other programs: splats, the lens beside them, the cameras.

What comes out follows the conventions of 3D Gaussian Splatting's own .ply (`io/ply.py`); the compressed .ply
(PlayCanvas) and .splat (antimatter15) are gsplat's writers. docs/exports.md tells what each format keeps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, cross_section, keep_largest
from cocogs.io import colmap
from cocogs.io.atomic import replacing
from cocogs.io.lens_file import write_lens_file
from cocogs.io.ply import write_ply
from cocogs.learned_lens import lens_file
from cocogs.run import Run

COMPRESSED = ".compressed.ply"
ENDINGS = (".ply", COMPRESSED, ".splat")


@dataclass(frozen=True)
class ExportOptions:
    """What `cocogs export` was asked for; None = not given.

    Args:
        crop: corners of the box to keep: x, y, z of the one, then of the other, scene units.
        max_splats: keep the most visible so many.
        min_opacity: leave out fainter splats, in [0, 1].
        colmap: also write the cameras as a COLMAP model into this folder.
    """

    crop: tuple[float, float, float, float, float, float] | None = None
    max_splats: int | None = None
    min_opacity: float | None = None
    colmap: Path | None = None


def export_splats(gaussians: Gaussians, path: Path, options: ExportOptions) -> None:
    """Write those splats that the options leave, in the format that the file's ending says.

    Raises:
        InputError: unknown ending, an option out of its range, nothing left, or the file cannot be written.
    """
    kind, gaussians = ending_of(path), choose(gaussians, options)
    if kind == ".ply":
        write_ply(path, gaussians)
    else:
        _write_with_gsplat(path, gaussians, "splat" if kind == ".splat" else "ply_compressed")


def export_cameras(run: Run, path: Path, options: ExportOptions) -> list[Path]:
    """Write what belongs to the splats in `path`: SCENE.lens.json and, if asked for, the COLMAP model.

    Raises:
        InputError: a file cannot be written, or the model would take the place of that of the photos.
    """
    own = (colmap.find_model(run.scene.source), run.folder / "cache" / "sfm" / "sparse")
    if options.colmap is not None and options.colmap.resolve() in [p.resolve() for p in own if p]:
        raise InputError(
            f"{options.colmap} holds the cameras that {run.folder} needs: give another --colmap."
        )
    lens = path.with_name(path.name[: -len(ending_of(path))] + ".lens.json")
    write_lens_file(lens_file(run.model, run.scene), lens)
    if options.colmap is None:
        return [lens]
    cameras, scene = {view.name: run.model.camera(view) for view in run.scene.views}, run.scene
    return [lens, *colmap.write_model(options.colmap, cameras, scene.points, scene.point_colors)]


def ending_of(path: Path) -> str:
    """Raises InputError for an ending that is not one of `ENDINGS`."""
    name = path.name.lower()
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return ending
    raise InputError(
        f"{path} does not end in {', '.join(ENDINGS)}: rename it, or see docs/exports.md for .spz and .sog."
    )


def choose(gaussians: Gaussians, options: ExportOptions) -> Gaussians:
    """The Gaussians that the options leave, in their order.

    Raises:
        InputError: an option is out of its range, or none is left.
    """
    means, _, scales, opacities = (values.detach() for values in gaussians.activated())
    keep = torch.ones_like(opacities, dtype=torch.bool)
    if options.crop is not None:
        low, high = torch.tensor(options.crop).to(means).view(2, 3).sort(0).values
        if not low.isfinite().all() or not high.isfinite().all():
            raise InputError("--crop takes six finite numbers: two opposite corners of the box to keep.")
        keep &= ((means >= low) & (means <= high)).all(1)
    if options.min_opacity is not None:
        if not 0 <= options.min_opacity <= 1:
            raise InputError(f"--min-opacity {options.min_opacity:g} cannot be: give a number from 0 to 1.")
        keep &= opacities >= options.min_opacity
    if options.max_splats is not None:
        if options.max_splats < 1:
            raise InputError(f"--max-splats {options.max_splats} cannot be: give a number from 1 on.")
        visibility = (opacities * cross_section(scales)).where(keep, -1)
        keep &= keep_largest(visibility, options.max_splats)
    if not keep.any():
        raise InputError("No splat is left to export: widen --crop, or lower --min-opacity.")
    kept = {name: getattr(gaussians, name)[keep] for name in Gaussians.names}
    return Gaussians(gaussians.antialiased, **kept)


def _write_with_gsplat(path: Path, gaussians: Gaussians, kind: Literal["splat", "ply_compressed"]) -> None:
    from gsplat import exporter

    g = {name: getattr(gaussians, name).detach().cpu() for name in Gaussians.names}
    data = exporter.export_splats(**g, format=kind)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
