"""The photos on the device where they are compared."""

import torch
from torch import Tensor

from cocogs.scene import Scene, View


class PhotoStore:
    """Photos and masks on `device`. On a GPU they stay once they were there, as far as a quarter of its free
    memory goes; on a CPU the scene keeps them."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self.scene, self.device = scene, device
        self.room = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 0
        self.kept: dict[str, tuple[Tensor, Tensor | None]] = {}

    def __getitem__(self, view: View) -> tuple[Tensor, Tensor | None]:
        """Photo (3, H, W) and mask (H, W) or None, on the device."""
        if view.name in self.kept:
            return self.kept[view.name]
        photo, mask = self.scene.photo(view).to(self.device), self.scene.mask(view)
        pair = photo, None if mask is None else mask.to(self.device)
        needed = size_of(view)
        if needed <= self.room:
            self.room -= needed
            self.kept[view.name] = pair
        return pair

    def stays(self, view: View) -> bool:
        """Whether a photo is kept on the device, or will be once it is asked for."""
        return view.name in self.kept or size_of(view) <= self.room


def size_of(view: View) -> int:
    """Bytes of a photo and its mask as float32."""
    return 4 * view.camera.width * view.camera.height * (3 if view.mask_path is None else 4)
