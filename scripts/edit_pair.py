"""A pair of scenes by `make_truth_scene.py --edit`, read for measuring, and a run that was trained on it.

World: that of truth.json, metres. The run's scene has the same unit, and its origin lies at `Scene.offset`,
because the pair's cameras are true ones.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.change import similarity
from cocogs.edits import Chosen, Move
from cocogs.errors import InputError
from cocogs.io.json_file import read_json
from cocogs.io.photos import read_photo, to_float
from cocogs.io.truth_file import TruthFile, read_truth
from cocogs.optics.lens import Lens
from cocogs.run import Run

SOLID = 0.5  # of a pixel, from which it counts as the object's
SAME_PLACE = 1e-3  # metres that the run's cameras may be off
SAME_DEPTH = 0.02  # of the depth
DENSE = 0.5  # pixels of a photo for each pixel of a picture
ADVICE = "make the pair again"


@dataclass(frozen=True)
class Refocused:
    """A picture after the move, through the lens; metres."""

    path: Path
    view: str
    lens: Lens


@dataclass(frozen=True)
class Pair:
    """What the files of a pair say."""

    folder: Path
    truth: TruthFile
    world_from_world: Float64[Tensor, "4 4"]
    refocused: list[Refocused]

    @property
    def tests(self) -> list[str]:
        return [frame.name for frame in self.truth.frames.values() if frame.test]

    @property
    def training(self) -> list[str]:
        return [frame.name for frame in self.truth.frames.values() if not frame.test]

    def picture(self, part: str, name: str) -> Float[Tensor, "3 H W"]:
        """sRGB of FOLDER/part/name."""
        pixels = to_float(read_photo(self.folder / part / name))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def mask_file(self, name: str) -> Path:
        """Of the object in a photo, before the move."""
        return self.folder / "edit" / "before" / name

    def mask(self, when: str, name: str) -> Bool[Tensor, "H W"]:
        """Pixels that show the object `before` or `after` the move."""
        return self.picture(f"edit/{when}", name)[0] >= SOLID

    def depth(self, part: str, name: str) -> Float[Tensor, "H W"]:
        """Metres, of FOLDER/part."""
        return torch.from_numpy(np.load(self.folder / part / f"{Path(name).stem}.npy")).float()

    @cached_property
    def depths(self) -> dict[str, Float[Tensor, "H W"]]:
        """Of all photos, before the move."""
        return {name: self.depth("depth", name) for name in self.truth.frames}

    def seen(self, camera: Camera, name: str, cameras: dict[str, Camera]) -> Bool[Tensor, "H W"]:
        """Pixels after the move that show what a training photo showed well: not hidden, and with at least
        `DENSE` of its pixels for each pixel here. Where depth jumps, this says nothing.

        Args:
            camera: of the view `name`; `cameras` of the photos; all in the world.
        """
        inside, back = self.mask("after", name), self.world_from_world.inverse()
        z = self.depth("edit/depth", name).double()
        pixels = torch.stack(torch.meshgrid(*map(torch.arange, z.shape), indexing="ij"), -1).flip(-1) + 0.5
        places = camera.unproject(pixels.double(), z)
        were = torch.where(inside[..., None], places @ back[:3, :3].T + back[:3, 3], places)
        seen = torch.zeros_like(inside)
        for photo in self.training:
            pixels, z = cameras[photo].project(were)
            down, right = torch.gradient(pixels, dim=(0, 1))
            density = (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()
            column, row = pixels.clamp(-1, 1e6).long().unbind(-1)
            place = row.clamp(0, inside.shape[0] - 1), column.clamp(0, inside.shape[1] - 1)
            surface, same = self.depths[photo][place], self.mask("before", photo)[place] == inside
            close = (z - surface).abs() < SAME_DEPTH * surface
            seen |= cameras[photo].shows(pixels) & close & same & (density >= DENSE)
        return seen


def open_pair(folder: Path) -> Pair:
    """Raises InputError for a folder that is none."""
    truth = read_truth(folder / "truth.json")
    document = read_json(folder / "edit.json", ADVICE)
    try:
        transform = torch.tensor(document["world_from_world"], dtype=torch.float64)
        refocused = [
            Refocused(
                folder / "edit" / "refocus" / entry["name"],
                entry["view"],
                Lens(entry["focus_distance"], entry["aperture_scale"] * truth.aperture_diameter),
            )
            for entry in document["refocus"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'edit.json'} cannot be read ({error}): {ADVICE}.") from error
    return Pair(folder, truth, transform, refocused)


def world_cameras(pair: Pair, run: Run) -> dict[str, Camera]:
    """The run's cameras, moved into the world by its offset.

    Raises:
        InputError: they are not where truth.json says.
    """
    cameras = {}
    for view in run.scene.views:
        camera = run.model.camera(view)
        pose = camera.cam_from_world.double().clone()
        pose[:3, 3] -= pose[:3, :3] @ run.scene.offset
        size = camera.width, camera.height
        cameras[view.name] = Camera(camera.intrinsics.double(), pose, *size, camera.near)
    worst = max(
        float((camera.position - pair.truth.frames[name].position).norm()) for name, camera in cameras.items()
    )
    if worst > SAME_PLACE:
        raise InputError(
            f"{run.folder} has its cameras up to {worst:.4f} m beside those of {pair.truth.path}: give a run "
            "that was trained on this pair."
        )
    return cameras


def true_move(pair: Pair, chosen: Chosen, offset: Float64[Tensor, "3"]) -> Move:
    """The move of the pair as an edit of the run's scene, whose coordinates + `offset` are the world's."""
    rotation = pair.world_from_world[:3, :3]
    translation = pair.world_from_world[:3, 3] + rotation @ offset - offset
    return similarity(chosen, rotation, translation)
