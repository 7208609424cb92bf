"""A training photo as a step takes it, and the tensors in which recorded steps find one after another."""

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.optics.per_photo import PhotoIndex
from cocogs.scene import View


@dataclass(frozen=True)
class Shot:
    """A training photo on the device where it is compared.

    Args:
        index: which of the training photos.
        mask: in [0, 1], or None.
    """

    index: PhotoIndex
    camera: Camera
    photo: Float[Tensor, "3 H W"]
    mask: Float[Tensor, "H W"] | None

    def halved(self) -> "Shot":
        """At half the size: means of 2 x 2 px. An odd last row or column is left out."""
        camera, width, height = self.camera, self.camera.width // 2, self.camera.height // 2
        small = camera.cropped(0, 0, 2 * width, 2 * height).resized(width, height)
        mask = None if self.mask is None else F.avg_pool2d(self.mask[None, None], 2)[0, 0]
        return Shot(self.index, small, F.avg_pool2d(self.photo[None], 2)[0], mask)


def kind_of(camera: Camera, is_masked: bool) -> tuple[Hashable, ...]:
    """What all photos have in common that one recording serves: all but the place, the photo and its mask."""
    intrinsics = tuple(camera.intrinsics.flatten().tolist())
    return camera.width, camera.height, camera.near, camera.full_view, intrinsics, is_masked


def kinds_of(views: list[View]) -> int:
    """How many recordings some photos need."""
    return len({kind_of(view.camera, view.mask_path is not None) for view in views})


class Slots:
    """For every kind of photo a `Shot` that stays where it is, and becomes one photo after another."""

    def __init__(self) -> None:
        self.shots: dict[tuple[Hashable, ...], Shot] = {}

    def __getitem__(self, kind: tuple[Hashable, ...]) -> Shot:
        return self.shots[kind]

    def fill(self, shot: Shot) -> tuple[Hashable, ...]:
        """Makes a photo that of its kind, which is returned."""
        kind = kind_of(shot.camera, shot.mask is not None)
        place = shot.camera.placed(shot.photo)
        if kind not in self.shots:
            mask = None if shot.mask is None else torch.empty_like(shot.mask)
            index = torch.empty(1, dtype=torch.long, device=place.device)
            camera = replace(shot.camera, place=torch.empty_like(place))
            self.shots[kind] = Shot(index, camera, torch.empty_like(shot.photo), mask)
        slot = self.shots[kind]
        assert isinstance(slot.index, Tensor) and slot.camera.place is not None
        slot.index.fill_(shot.index)
        slot.camera.place.copy_(place)
        slot.photo.copy_(shot.photo)
        if slot.mask is not None and shot.mask is not None:
            slot.mask.copy_(shot.mask)
        return kind
