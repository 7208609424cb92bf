"""A run -> files for other programs: the splats, the lens beside them, the cameras.

The .ply is that of 3D Gaussian Splatting (`io/ply.py`). gsplat writes the compressed .ply (PlayCanvas) and
.splat (antimatter15). docs/exports.md says what each format keeps.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError, check_number
from cocogs.gaussians import Gaussians, cross_section, keep_largest, without_bad_ones
from cocogs.io import colmap
from cocogs.io.atomic import replacing
from cocogs.io.colmap_write import write_model
from cocogs.io.lens_file import LensFile, Metres, lens_beside, write_lens_file
from cocogs.io.lock import alone_in
from cocogs.io.ply import header_comments, write_ply
from cocogs.io.progress import Say
from cocogs.learned_lens import read_learned_lens
from cocogs.metres import sentences
from cocogs.run import Run, load_edited, load_run

COMPRESSED = ".compressed.ply"
ENDINGS = (".ply", COMPRESSED, ".splat")
FAINTEST = 1 / 255
"""Opacity; gsplat leaves fainter splats out of a compressed .ply."""


@dataclass(frozen=True)
class ExportOptions:
    """What to export; None means all, or no file.

    Args:
        crop: corners of the box to keep: x, y, z of one, then of the other, scene units.
        max_splats: how many to keep, the most visible ones, at least 1.
        min_opacity: leave out fainter splats, in [0, 1].
        colmap: folder into which the cameras are also written, as a COLMAP model.
        metres: write everything in metres instead of scene units: "exif" takes their length from the photos'
            EXIF; a number is the length of a scene unit in m.
    """

    crop: tuple[float, float, float, float, float, float] | None = None
    max_splats: int | None = None
    min_opacity: float | None = None
    colmap: Path | None = None
    metres: str | float | None = None


def export(folder: Path, path: Path, options: ExportOptions, say: Say = print) -> list[Path]:
    """Write a run's splats to `path`, SCENE.lens.json beside them, and what else the options ask for.

    Only a COLMAP model needs the photos.

    Args:
        folder: of the run.
        say: receives lines for the user: what is left out, and where the coordinates' origin lies.

    Returns:
        The files written, `path` first.

    Raises:
        InputError: not a run, an unknown ending, an option out of its range, nothing left, a file that cannot
            be written or that another process is writing, or a COLMAP model without the photos.
    """
    lens = lens_beside(path, ending_of(path))
    scene = load_edited(folder)
    if invented := int(scene.invented.sum()):
        say(f"{invented:,} of {len(scene.gaussians):,} splats were filled in: no photo showed them.")
    gaussians = choose(scene.gaussians, options, say)
    learned, scale = in_metres(read_learned_lens(folder), options.metres, say)
    if scale != 1:
        gaussians = gaussians.scaled(scale)
    offset = torch.tensor(learned.offset, dtype=torch.float64)
    with ExitStack() as locks:
        locks.enter_context(alone_in(path.parent, f".{lens.name}.lock", "give another `file`"))
        if options.colmap is None:
            model = []
        else:
            run = load_run(folder)
            keep_own_model(run, options.colmap)
            locks.enter_context(alone_in(options.colmap, advice="give another `colmap`"))
            model = export_cameras(run, options.colmap, scale)
        export_splats(gaussians, path, offset, say)
        write_lens_file(learned, lens)
    return [path, lens, *model]


def in_metres(learned: LensFile, metres: str | float | None, say: Say = print) -> tuple[LensFile, float]:
    """The lens file in metres, and the metres in a scene unit; as it is, and 1, where `metres` is None.

    Args:
        metres: as in `ExportOptions`.

    Raises:
        InputError: no such word or number, or EXIF does not tell the length of a unit.
    """
    if metres is None:
        return learned, 1.0
    if metres == "exif":
        if learned.metres is None:
            raise InputError(
                "EXIF does not tell how long a scene unit is in metres (`cocogs eval` says why): measure a "
                "length in the scene, and give the metres of a scene unit: `metres=0.62`."
            )
        say(sentences(learned.metres))
        return learned.scaled(learned.metres.per_unit), learned.metres.per_unit
    try:
        scale = float(metres)
    except ValueError as error:
        raise InputError(f"`metres` must be exif, or the metres in a scene unit, not {metres}.") from error
    check_number("metres", scale, least=1e-6, most=1e6)
    return replace(learned, metres=Metres(scale)).scaled(scale), scale


def export_splats(gaussians: Gaussians, path: Path, offset: Tensor | None = None, say: Say = print) -> None:
    """Write splats in the format that the file's ending names.

    Args:
        offset: (3,) source coordinates = scene coordinates + offset. The files keep the scene's coordinates,
            since float32 has too few digits for the others; the header of a .ply notes the offset.

    Raises:
        InputError: unknown ending, nothing is left of the splats, or the file cannot be written.
    """
    kind, gaussians = ending_of(path), without_bad_ones(gaussians, "The scene", say)
    if kind == ".ply":
        write_ply(path, gaussians, offset)
    elif kind == COMPRESSED:
        data = _by_gsplat(_visible(gaussians, path, say), "ply_compressed")
        _write(path, _with_comments(data, header_comments(gaussians.antialiased, offset)))
    else:
        _write(path, _by_gsplat(gaussians, "splat"))
    if offset is not None and offset.any():
        numbers = ", ".join(f"{value:.15g}" for value in offset.tolist())
        say(f"{path} has the scene's own coordinates: add ({numbers}) for those of the source.")


def keep_own_model(run: Run, folder: Path) -> None:
    """Raises InputError if a COLMAP model in `folder` would overwrite the one that the run needs."""
    own = (colmap.find_model(run.scene.source), run.folder / "cache" / "sfm" / "sparse")
    if folder.resolve() in [p.resolve() for p in own if p]:
        raise InputError(f"{folder} holds the cameras that {run.folder} needs: give another `colmap`.")


def export_cameras(run: Run, folder: Path, scale: float = 1.0) -> list[Path]:
    """Write the run's cameras and start points as a COLMAP model, in the source's coordinates.

    Args:
        scale: of the coordinates.

    Returns:
        The files written.

    Raises:
        InputError: one cannot be written.
    """
    scene = run.scene
    cameras = {view.name: moved(run.model.camera(view), scene.offset, scale) for view in scene.views}
    return write_model(folder, cameras, scale * (scene.points.double() + scene.offset), scene.point_colors)


def moved(camera: Camera, offset: Tensor, scale: float = 1.0) -> Camera:
    """The camera, moved in the world by (3,) scene units and the world scaled, in float64."""
    pose = camera.cam_from_world.double().clone()
    pose[:3, 3] = scale * (pose[:3, 3] - pose[:3, :3] @ offset.double())
    return replace(camera, cam_from_world=pose)


def ending_of(path: Path) -> str:
    """Raises InputError for an ending that is not one of `ENDINGS`."""
    name = path.name.lower()
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return ending
    raise InputError(
        f"{path} does not end in {', '.join(ENDINGS)}: rename it, or see docs/exports.md for .spz and .sog."
    )


def choose(gaussians: Gaussians, options: ExportOptions, say: Say = print) -> Gaussians:
    """The Gaussians that the options leave, in their order. Those that cannot be drawn are left out, too.

    Raises:
        InputError: an option is out of its range, or none is left.
    """
    gaussians = without_bad_ones(gaussians, "The scene", say)
    means, _, scales, opacities = (values.detach() for values in gaussians.activated())
    keep = torch.ones_like(opacities, dtype=torch.bool)
    if options.crop is not None:
        low, high = torch.tensor(options.crop).to(means).view(2, 3).sort(0).values
        if not low.isfinite().all() or not high.isfinite().all():
            raise InputError("`crop` takes six finite numbers: two opposite corners of the box to keep.")
        keep &= ((means >= low) & (means <= high)).all(1)
    if options.min_opacity is not None:
        check_number("min_opacity", options.min_opacity, least=0, most=1)
        keep &= opacities >= options.min_opacity
    if options.max_splats is not None:
        check_number("max_splats", options.max_splats, least=1, most=2**31 - 1, whole=True)
        visibility = (opacities * cross_section(scales)).where(keep, -1)
        keep &= keep_largest(visibility, options.max_splats)
    if not keep.any():
        raise InputError("No splat is left to export: widen `crop`, or lower `min_opacity`.")
    return gaussians[keep]


def _visible(gaussians: Gaussians, path: Path, say: Say) -> Gaussians:
    """Those that gsplat does not leave out."""
    visible = gaussians.opacities.detach().sigmoid() > FAINTEST
    if not visible.any():
        raise InputError(f"All splats are too faint for {path}: write a .ply instead.")
    if faint := int((~visible).sum()):
        say(f"{path} leaves out {faint:,} of {len(gaussians):,} splats, which are fainter than 1/255.")
    return gaussians[visible]


def _by_gsplat(gaussians: Gaussians, kind: Literal["splat", "ply_compressed"]) -> bytes:
    from gsplat import exporter

    raw = {name: getattr(gaussians, name).detach().cpu() for name in Gaussians.names}
    return exporter.export_splats(**raw, format=kind)


def _with_comments(ply: bytes, comments: list[str]) -> bytes:
    """A .ply with comments after its two first lines."""
    magic, encoding, rest = ply.split(b"\n", 2)
    lines = (f"comment {comment}".encode() for comment in comments)
    return b"\n".join([magic, encoding, *lines, rest])


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)
