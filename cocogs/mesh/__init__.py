"""`make_mesh`: from a run to a textured mesh in metres, for robots' simulators, game engines and CAD.

Depth of many views of the splats is fused in a volume; its surface becomes triangles. The photos give them a
texture, fitted through the lens that took them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs import __version__
from cocogs.camera import mean_up
from cocogs.errors import InputError, check_number
from cocogs.gaussians import without_bad_ones
from cocogs.io.atomic import write_text
from cocogs.io.lock import alone_in
from cocogs.io.mesh_file import MeshFile, check_ending, write_mesh
from cocogs.io.progress import Progress, Say
from cocogs.mesh.atlas import Atlas, unwrapped, unwrapper
from cocogs.mesh.fusion import fuse
from cocogs.mesh.shots import Shots
from cocogs.mesh.surface import Mesh, mesh_of, simplifier
from cocogs.mesh.texture import Texture, baked, finished, fitted
from cocogs.mesh.views import places
from cocogs.render.lenses import metres_per_unit
from cocogs.render.surface_view import SurfaceView, surface_view
from cocogs.run import Run
from cocogs.threads import torch_on_one

FEWEST_FACES, MOST_FACES = 100, 2_000_000
MOST_STEPS = 1_000_000
VIEWS = 64
LONGEST = 640  # px of the longer side of a view
VOXEL = 2.0  # of the footprint of a view's pixel at the median depth
TEXEL = 0.75  # of the footprint of a photo's pixel at the median depth
FARTHEST = 5.0  # median depths from the middle of the cameras: what is farther is background, and cut off

Wanted = Callable[[Float[Tensor, "P 3"]], Bool[Tensor, " P"]]


@dataclass(frozen=True)
class MeshOptions:
    """What to make; cocogs/cli/mesh.py describes every field for users.

    Args:
        faces: at most about so many.
        steps: photos that the texture is fitted to, one after the other; 0 leaves it as it is baked.
        crop: corners of the box to keep: x, y, z of one, then of the other, scene units.
    """

    faces: int = 30_000
    steps: int = 300
    crop: tuple[float, float, float, float, float, float] | None = None


def make_mesh(run: Run, path: Path, options: MeshOptions, say: Say = print) -> list[Path]:
    """Write the mesh of a run's scene, and NAME.mesh.json with facts about it.

    Returns:
        The files written, `path` first.

    Raises:
        InputError: an option out of its range, another ending, a missing package, no surface, or a file that
            cannot be written.
    """
    check_ending(path)
    check_number("faces", options.faces, least=FEWEST_FACES, most=MOST_FACES, whole=True)
    check_number("steps", options.steps, least=0, most=MOST_STEPS, whole=True)
    _box(options)
    simplifier()
    unwrapper()
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it first, or give another place.")
    lock = f".{path.stem}.mesh.lock"
    with alone_in(path.parent, lock, "give another file"), torch_on_one(), torch.no_grad():
        mesh, texel = scene_surface(run, options, say)
        say(f"The surface has {len(mesh.faces):,} faces; they are laid out in a texture.")
        atlas = unwrapped(mesh, texel)
        texture, through = _textured(run, atlas, options, say)
        metres, up = _metres(run, say), _up(run)
        pixels = (texture.pixels * 255).round().byte().numpy()
        shape = (atlas.mesh.vertices * (metres or 1.0)).numpy(), atlas.mesh.faces.numpy()
        size = torch.tensor([atlas.width, atlas.height])
        file = MeshFile(*shape, pixels, (atlas.places / size).numpy(), up)
        written = write_mesh(path, file)
        facts = {
            "cocogs": __version__,
            "run": str(run.folder),
            "source": str(run.scene.source),
            "unit": "metre" if metres else "scene unit",
            "metres_per_unit": metres,
            "up": up,
            "offset": run.scene.offset.tolist(),
            "faces": len(mesh.faces),
            "bounds": [shape[0].min(0).tolist(), shape[0].max(0).tolist()],
            "texture": [atlas.width, atlas.height],
            "texture_fitted_through": through,
            "texture_steps": options.steps,
            "invented_texels": round(texture.invented, 4),
            "edits": run.edited,
            "generative": run.generative,
        }
        write_text(beside := path.with_suffix(".mesh.json"), json.dumps(facts, indent=2) + "\n")
    return [*written, beside]


def _textured(run: Run, atlas: Atlas, options: MeshOptions, say: Say) -> tuple[Texture, str]:
    """The texture, and the kind of camera that it was fitted through."""
    through_lens = run.has_lens and run.model.lens.is_physical and not run.edited
    if run.edited:
        say(f"{run.folder} is edited: the texture is that of the edited splats, not of the photos.")
    elif not through_lens:
        say(f"{run.folder} has no thin lens: the photos count as sharp, and their blur stays in the texture.")
    shots = Shots(run, atlas, through_lens)
    light, seen = baked(shots)
    with Progress("Fitting the texture", options.steps, say, patience=2) as progress:
        light = fitted(shots, light, options.steps, run.config.seed, progress.add)
    return finished(atlas, light, seen), "lens" if through_lens else "pinhole"


def scene_surface(run: Run, options: MeshOptions, say: Say = print) -> tuple[Mesh, float]:
    """The scene's surface as triangles, and the side of a texel that suits the photos, scene units.

    Raises:
        InputError: there is none.
    """
    gaussians, views = without_bad_ones(run.model.gaussians, run.folder, say), []
    cameras = places([run.model.camera(view) for view in run.scene.views], VIEWS)
    with Progress("Looking at the scene", len(cameras), say, patience=2) as progress:
        for camera in cameras:
            views.append(surface_view(gaussians, camera.resized_by(camera.shrink_to(LONGEST))))
            progress.add(1)
    depth = _typical_depth(views)
    wanted = _chosen(run, options, depth)
    voxel = VOXEL * depth / max(view.camera.fx for view in views)
    with Progress("Fusing the views", len(views), say, patience=2) as progress:
        volume = fuse(views, voxel, wanted, progress.add)
    texel = TEXEL * depth / max(run.model.camera(view).fx for view in run.scene.train_views)
    return mesh_of(volume, options.faces, wanted), texel


def _typical_depth(views: list[SurfaceView]) -> float:
    """The median of what the views show, scene units.

    Raises:
        InputError: they show nothing.
    """
    seen = torch.cat([1 / view.inverse[view.known] for view in views])
    if len(seen) == 0:
        raise InputError("The views show no surface that they agree on: train longer.")
    return float(seen.median())


def _box(options: MeshOptions) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]] | None:
    """The lowest and the highest corner of `crop`.

    Raises:
        InputError: it is no box.
    """
    if options.crop is None:
        return None
    low, high = torch.tensor(options.crop).view(2, 3).sort(0).values
    if not (low.isfinite().all() and high.isfinite().all() and (low < high).all()):
        raise InputError("`crop` takes six finite numbers: two opposite corners of the box to keep.")
    return low, high


def _chosen(run: Run, options: MeshOptions, depth: float) -> Wanted:
    """Which world points the mesh is to show: those of the box, or those that are not background."""
    if (box := _box(options)) is not None:
        return lambda points: ((points >= box[0]) & (points <= box[1])).all(1)
    middle = torch.stack([run.model.camera(view).position for view in run.scene.views]).mean(0)
    return lambda points: (points - middle.to(points)).norm(dim=1) <= FARTHEST * depth


def _metres(run: Run, say: Say) -> float | None:
    try:
        return metres_per_unit(run, "the mesh is in scene units")
    except InputError as error:
        say(str(error))
        return None


def _up(run: Run) -> tuple[float, float, float]:
    """Upwards, by the cameras; length 1."""
    up = mean_up([run.model.camera(view) for view in run.scene.views])
    x, y, z = (up / up.norm().clamp_min(1e-9)).tolist()
    return x, y, z
