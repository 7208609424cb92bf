"""Plain data: `Scene` and `View`."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.io import photos, prepare
from cocogs.io.folders import photo_folder
from cocogs.io.photos import LensFacts
from cocogs.io.prepare import Picture
from cocogs.scene.frame import size_of

# Digits of the cameras' numbers that the fingerprint uses: another version of numpy may round the last ones
# differently.
FINGERPRINT_DIGITS = 9


@dataclass(frozen=True)
class View:
    """A photo to train or test with.

    Args:
        name: the photo's file name relative to its folder, as the user knows it.
        camera: pinhole, at training resolution (float64 CPU tensors).
        image_path: its pixels at training resolution, (3, H, W) uint8 or uint16, prepared in the cache
            (`cocogs.io.prepare`).
        mask_path: those of its mask, (H, W) bool, True = use; or None.
        is_test: kept out of the training.
        lens: what the photo's EXIF says.
        original: the photo as found, with its real lens.
        panorama: the name of the 360-degree photo whose face this is; None where it is a photo by itself.
    """

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None
    is_test: bool
    lens: LensFacts
    original: Picture
    panorama: str | None = None

    def file_in(self, data: Path) -> Path:
        """The file that the user took: of a face, the panorama in the dataset's folder."""
        return self.original.path if self.panorama is None else photo_folder(data) / self.panorama


class Recent:
    """The tensors that were used last, as many as a budget holds. Threads may share it."""

    def __init__(self) -> None:
        self.kept: OrderedDict[Path, Tensor] = OrderedDict()
        self.size = 0  # bytes
        self.lock = Lock()

    def get(self, path: Path, read: Callable[[Path], Tensor], budget: int) -> Tensor:
        """What `read` gives for a path; kept for the next time, if that is within `budget` bytes."""
        with self.lock:
            if path in self.kept:
                self.kept.move_to_end(path)
                return self.kept[path]
        tensor = read(path)
        with self.lock:
            if tensor.nbytes <= budget and path not in self.kept:
                self.kept[path] = tensor
                self.size += tensor.nbytes
                while self.size > budget:
                    self.size -= self.kept.popitem(last=False)[1].nbytes
        return tensor


def _no_offset() -> Tensor:
    return torch.zeros(3, dtype=torch.float64)


@dataclass
class Scene:
    """Everything known about a dataset before training.

    Args:
        views: sorted by name.
        points: (P, 3) float32 points to start from, in the world. The world has the source's axes and unit.
        point_colors: (P, 3) float32 in [0, 1], sRGB.
        drawn: the points are random and show nothing.
        source: the folder that was opened.
        memory_budget: bytes of photos and masks kept as float32, those used last; the rest is read from the
            cache at each use.
        offset: (3,) float64, scene units: source coordinates = scene coordinates + offset. It is zero unless
            the source's origin is so far away that float32 would lose precision, as in georeferenced models.
    """

    views: list[View]
    points: Tensor
    point_colors: Tensor
    drawn: bool
    source: Path
    memory_budget: int = 256 << 20
    offset: Tensor = field(default_factory=_no_offset)
    _recent: Recent = field(default_factory=Recent, repr=False)

    @property
    def train_views(self) -> list[View]:
        return [view for view in self.views if not view.is_test]

    @property
    def test_views(self) -> list[View]:
        return [view for view in self.views if view.is_test]

    @property
    def extent(self) -> float:
        """Size of the scene in scene units: that of `size_of`, over the training cameras."""
        return size_of(torch.stack([view.camera.position for view in self.train_views]), self.points)

    def photo(self, view: View) -> Tensor:
        """(3, H, W) float32 in [0, 1], sRGB, at the camera's size. Treat it as read-only: it may be shared.

        Raises:
            InputError: the file is gone or damaged.
        """
        return self._recent.get(view.image_path, read_picture, self.memory_budget)

    def mask(self, view: View) -> Tensor | None:
        """(H, W) float32, 1 = use and 0 = ignore; None where the photo has no mask. Read-only."""
        if view.mask_path is None:
            return None
        return self._recent.get(view.mask_path, read_mask, self.memory_budget)

    def stored(self, view: View) -> tuple[np.ndarray, np.ndarray | None]:
        """The photo (3, H, W) uint8 or uint16 and its mask (H, W) bool as the cache holds them, mapped: only
        what is looked at is read.

        Raises:
            InputError: a file is gone or damaged.
        """
        mask = None if view.mask_path is None else prepare.open_pixels(view.mask_path)
        return prepare.open_pixels(view.image_path), mask

    def is_at_hand(self, view: View) -> bool:
        """Whether `photo` has nothing to read, for now."""
        return view.image_path in self._recent.kept

    def picture_like(self, view: View, path: Path) -> Tensor:
        """Another picture by the view's camera, undistorted and shrunk as its photo was: (3, H, W) in [0, 1].

        Raises:
            InputError: the file is gone, damaged, or of another shape than the photo.
        """
        return torch.from_numpy(prepare.prepared_like(view.original, path, view.camera)).permute(2, 0, 1)

    def fingerprint(self) -> str:
        """Hash of the names, sizes, cameras and split of all views: tells one dataset from another."""
        digest = hashlib.sha256()
        for view in self.views:
            camera = view.camera
            numbers = [*_rounded(camera.intrinsics), *_rounded(camera.cam_from_world)]
            digest.update(repr((view.name, camera.width, camera.height, view.is_test, numbers)).encode())
        return digest.hexdigest()


def _rounded(values: Tensor) -> list[float]:
    """All numbers of a tensor, rounded; numbers that are tiny beside the largest one count as 0."""
    counts = values.abs() > 10**-FINGERPRINT_DIGITS * values.abs().max()
    kept = torch.where(counts, values, 0).flatten().tolist()
    return [float(f"{value:.{FINGERPRINT_DIGITS}g}") for value in kept]


def read_picture(path: Path) -> Tensor:
    """(3, H, W) float32 in [0, 1] of a prepared photo."""
    return torch.from_numpy(photos.to_float(prepare.open_pixels(path)))


def read_mask(path: Path) -> Tensor:
    """(H, W) float32 of a prepared mask, 1 = use and 0 = ignore."""
    return torch.from_numpy(prepare.open_pixels(path).astype(np.float32))
