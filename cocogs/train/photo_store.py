"""The photos on the device where they are compared, read by a thread before they are needed."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cocogs.scene import Scene, View

Pixels = tuple[Tensor, Tensor | None]
"""Photo (3, H, W) and mask (H, W) or None: float32, or as they are kept on a GPU: uint8 of 255, and bool."""


class PhotoStore:
    """Photos and masks on `device`. On a GPU they stay once they were there, as far as a quarter of its free
    memory goes: in 8 bits, if the file has no more. On a CPU the scene keeps what was used last."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self.scene, self.device = scene, device
        self.is_gpu = device.type == "cuda"
        self.room = torch.cuda.mem_get_info(device)[0] // 4 if self.is_gpu else 0
        self.kept: dict[str, Pixels] = {}
        self.full = torch.tensor(255.0, device=device)
        self.reader = ThreadPoolExecutor(1, "cocogs-photos")
        self.coming: dict[str, Future[Pixels]] = {}

    def __getitem__(self, view: View) -> tuple[Tensor, Tensor | None]:
        """Photo (3, H, W) and mask (H, W) or None, float32, on the device."""
        if view.name in self.kept:
            return self._as_float(self.kept[view.name])
        coming = self.coming.pop(view.name, None)
        photo, mask = self._read(view) if coming is None else coming.result()
        pair = photo.to(self.device), None if mask is None else mask.to(self.device)
        needed = self._size(view)
        if needed <= self.room:
            self.room -= needed
            self.kept[view.name] = pair
        return self._as_float(pair)

    def expect(self, views: Iterable[View]) -> None:
        """Have the photos read that are asked for next, while others are trained on."""
        wanted = {view.name: view for view in views}
        self.coming = {name: future for name, future in self.coming.items() if name in wanted}
        for name, view in wanted.items():
            at_hand = name in self.kept if self.is_gpu else self.scene.is_at_hand(view)
            if name not in self.coming and not at_hand:
                self.coming[name] = self.reader.submit(self._read, view)

    def _read(self, view: View) -> Pixels:
        """On the CPU."""
        if not self.is_gpu:
            return self.scene.photo(view), self.scene.mask(view)
        pixels, mask = self.scene.stored(view)
        is_deep = pixels.dtype != np.uint8
        photo = self.scene.photo(view) if is_deep else torch.from_numpy(np.array(pixels))
        return photo, None if mask is None else torch.from_numpy(np.array(mask))

    def _as_float(self, pair: Pixels) -> tuple[Tensor, Tensor | None]:
        photo, mask = pair
        if photo.dtype == torch.uint8:
            photo = photo.float() / self.full  # a tensor on the device: by a number it would round otherwise
        return photo, None if mask is None else mask.float()

    def _size(self, view: View) -> int:
        """Bytes of a photo and its mask as they are kept on a GPU."""
        pixels, mask = self.scene.stored(view)
        wide = 1 if pixels.dtype == np.uint8 else 4
        return pixels.size * wide + (0 if mask is None else mask.size)
