"""A training photo as a step takes it, and the tensors in which recorded steps find one after another."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.optics.per_photo import PhotoIndex
from cocogs.scene import View

Kind = tuple[Hashable, ...]
"""What the photos of one recording have in common: all but the camera's place, the pixels and the mask."""


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


@dataclass(frozen=True)
class How:
    """How a step sees its photo. Steps that differ in it are recorded apart.

    Args:
        expanded, halved, sh_degree, probed: as `DefocusModel.photo` takes them.
        share: by which the photo's loss counts.
    """

    expanded: bool
    halved: bool
    sh_degree: int
    probed: bool
    share: float = 1.0


def kind_of(camera: Camera, is_masked: bool) -> Kind:
    intrinsics = tuple(camera.intrinsics.flatten().tolist())
    return camera.width, camera.height, camera.near, camera.full_view, intrinsics, is_masked


def count_kinds(views: Sequence[View]) -> int:
    """How many kinds the photos of some views are of."""
    return len({kind_of(view.camera, view.mask_path is not None) for view in views})


class Slots:
    """Tensors that stay where they are while their contents are replaced: a photo's number and place, and for
    every size its pixels and mask."""

    def __init__(self, device: torch.device) -> None:
        self.index = torch.zeros(1, dtype=torch.long, device=device)
        self.place = torch.zeros(15, device=device)
        self.pixels: dict[tuple[torch.Size, bool], tuple[Tensor, Tensor | None]] = {}
        self.shots: dict[Kind, Shot] = {}

    def __getitem__(self, kind: Kind) -> Shot:
        """The photo that was put in last, if it is of this kind."""
        return self.shots[kind]

    def fill(self, shot: Shot) -> Kind:
        """Put a photo in. Returns its kind."""
        mask, size = shot.mask, (shot.photo.shape, shot.mask is not None)
        if size not in self.pixels:
            self.pixels[size] = torch.empty_like(shot.photo), None if mask is None else torch.empty_like(mask)
        own_photo, own_mask = self.pixels[size]
        if (kind := kind_of(shot.camera, mask is not None)) not in self.shots:
            camera = replace(shot.camera, place=self.place)
            self.shots[kind] = Shot(self.index, camera, own_photo, own_mask)
        self.index.fill_(shot.index)
        self.place.copy_(shot.camera.place_like(self.place))
        own_photo.copy_(shot.photo)
        if own_mask is not None and mask is not None:
            own_mask.copy_(mask)
        return kind
