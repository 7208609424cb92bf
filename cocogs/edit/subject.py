"""What is edited: a run, or a .ply with its lens file beside it, as one kind of data."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.camera import Camera, mean_up
from cocogs.checkpoint import CHECKPOINT
from cocogs.edits import (
    Edit,
    Edited,
    Edits,
    apply_edits,
    edited_scene,
    edits_path,
    read_edits,
    write_edits,
)
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.lens_file import lens_beside, read_lens_file
from cocogs.io.lock import alone_in
from cocogs.io.photos import read_mask
from cocogs.io.pixels import resize_area
from cocogs.io.ply import read_ply
from cocogs.io.progress import Say
from cocogs.render.options import no_photo
from cocogs.run import load_run
from cocogs.scene.frame import near_plane


@dataclass(frozen=True)
class Look:
    """A photo's camera, and how its files are read.

    Args:
        photo: gives (3, H, W) sRGB; None where only the camera is known.
        mask: reads a mask over the photo, white inside, at the camera's size: values in [0, 1].
    """

    name: str
    camera: Camera
    photo: Callable[[], Tensor] | None
    mask: Callable[[Path], Tensor]


@dataclass(frozen=True)
class Subject:
    """A scene that is edited.

    Args:
        target: the run folder, or the .ply.
        original: its Gaussians before all edits.
        edits: those made so far.
        scene: the Gaussians after them.
        looks: by the photos' names; none where no photos are known.
        metres: in a scene unit; None where that is not known.
    """

    target: Path
    original: Gaussians
    edits: Edits
    scene: Edited
    looks: Mapping[str, Look]
    metres: float | None = None

    @property
    def gaussians(self) -> Gaussians:
        return self.scene.gaussians

    @property
    def cameras(self) -> list[Camera]:
        return [look.camera for look in self.looks.values()]

    @cached_property
    def up(self) -> Float[Tensor, "3"]:
        """Upwards by the cameras, length 1; COLMAP's habit (-y) where there are none."""
        up = mean_up(self.cameras) if self.looks else torch.tensor([0.0, -1.0, 0.0]).double()
        return up / up.norm().clamp_min(1e-9)

    def look(self, name: str) -> Look:
        """Raises InputError where no photo has this name, with or without its ending."""
        if not self.looks:
            raise InputError(
                f"{self.target} comes without its photos' cameras, so a place in a photo means nothing: put "
                "the SCENE.lens.json that `cocogs export` wrote beside it, or select with box or sphere."
            )
        alike = [known for known in self.looks if name in (known, Path(known).name, Path(known).stem)]
        known = name if name in self.looks else alike[0] if len(alike) == 1 else None
        if len(alike) > 1 and known is None:
            raise InputError(f"{name} is {' or '.join(alike[:3])}: give the whole name.")
        if known is None:
            raise no_photo(name, list(self.looks), self.target)
        return self.looks[known]

    def then(self, step: Edit) -> "Subject":
        """With one more edit."""
        edits = self.edits.then(step)
        scene = apply_edits_after(self.scene, step, self.target)
        return replace(self, edits=edits, scene=scene)

    def undone(self, count: int = 1) -> "Subject":
        """Without the last edits."""
        edits = replace(self.edits, steps=self.edits.steps[: len(self.edits.steps) - count])
        return replace(self, edits=edits, scene=apply_edits(self.original, edits.steps, self.target))


def apply_edits_after(scene: Edited, step: Edit, target: Path) -> Edited:
    result = step.applied(scene)
    if len(result.gaussians) == 0:
        raise InputError(f"That would leave no splat of {target}: select less.")
    return result


def changing_edits(target: Path) -> AbstractContextManager[None]:
    """While the edits of a scene are read and written, no other cocogs writes them.

    Raises:
        InputError: on entering: another one is at it, or the folder cannot be written.
    """
    path = edits_path(target).resolve()
    return alone_in(path.parent, f".{path.name}.lock", "end it")


def drop_last(target: Path) -> list[Edit]:
    """Drop the edits of the last command from the file, without applying any: what they need may be gone.

    Raises:
        InputError: there are none, or the file is damaged or cannot be written.
    """
    path = edits_path(target)
    if not path.exists():
        raise InputError(f"Nothing of {target} is edited, so nothing can be undone.")
    edits = read_edits(path)
    count = 1
    while count < len(edits.steps) and edits.steps[-count].follows:
        count += 1
    write_edits(target, replace(edits, steps=edits.steps[:-count]))
    return list(reversed(edits.steps[-count:]))


def open_subject(target: Path, say: Say = print) -> Subject:
    """A run folder or a .ply, with the edits made so far.

    Raises:
        InputError: it is neither, or a file of it is damaged.
    """
    if target.is_dir():
        return _open_run(target)
    if target.suffix.lower() != ".ply":
        problem = "is neither a run folder nor a .ply" if target.exists() else "does not exist"
        raise InputError(
            f"{target} {problem}: give what `cocogs train --out` wrote, or a .ply of 3D Gaussians."
        )
    gaussians = read_ply(target, say)
    edits, scene = edited_scene(target, gaussians)
    beside = lens_beside(target)
    if not beside.is_file():
        return Subject(target, gaussians, edits, scene, {})
    file = read_lens_file(beside)
    near = near_plane([photo.camera for photo in file.photos], gaussians.means.detach())
    looks = {}
    for photo in file.photos:
        camera = replace(photo.camera, near=near)
        looks[photo.name] = Look(photo.name, camera, None, _resized_to(camera))
    metres = None if file.metres is None else file.metres.per_unit
    return Subject(target, gaussians, edits, scene, looks, metres)


def _open_run(folder: Path) -> Subject:
    if not (folder / CHECKPOINT).exists() and not (folder / "config.json").exists():
        raise InputError(f"{folder} is not a run: give what `cocogs train --out` wrote, or a .ply.")
    run = load_run(folder, edited=False)
    edits, scene = edited_scene(folder, run.model.gaussians)
    looks = {}
    for view in run.scene.views:
        looks[view.name] = Look(
            view.name,
            run.model.camera(view),
            lambda view=view: run.scene.photo(view),
            lambda path, view=view: run.scene.picture_like(view, path)[1],  # green, as of all masks
        )
    metres = run.learned.metres_per_unit if run.has_lens else None
    return Subject(folder, run.model.gaussians, edits, scene, looks, metres)


def _resized_to(camera: Camera) -> Callable[[Path], Tensor]:
    """Reads masks of the shape of a camera's picture, of any size."""

    def read(path: Path) -> Tensor:
        mask = read_mask(path)
        height, width = mask.shape
        if abs(width * camera.height - height * camera.width) > max(width, height):
            raise InputError(
                f"{path} measures {width}x{height} px, which is not the shape of "
                f"{camera.width}x{camera.height}: make it as large as the photo."
            )
        shrunk = resize_area(mask[..., None].astype("float32"), camera.width, camera.height)
        return torch.from_numpy(shrunk)[..., 0]

    return read
