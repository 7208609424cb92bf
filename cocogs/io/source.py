"""Plain data between the readers of photos with cameras and `cocogs.scene`."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class Intrinsics:
    """How a real lens maps directions to pixels: one of COLMAP's camera models.

    Args:
        model: COLMAP's name of the model, such as "PINHOLE" or "OPENCV".
        width: picture width in px.
        height: picture height in px.
        params: the model's parameters in COLMAP's order (focal lengths and principal point in px first).
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class Shot:
    """A photo on disk and the camera that took it.

    Args:
        name: how the source calls the photo: its path relative to the folder of photos.
        path: the file.
        intrinsics: the lens, for the picture size it was calibrated at (any uniform scale of the file's).
        cam_from_world: (4, 4) float64 rigid transform, OpenCV axes.
        upright: True where the camera belongs to the picture turned as its EXIF orientation says,
            False where it belongs to the pixels as they are stored.
    """

    name: str
    path: Path
    intrinsics: Intrinsics
    cam_from_world: Tensor
    upright: bool = True

    def with_path(self, path: Path) -> "Shot":
        return replace(self, path=path)


@dataclass(frozen=True)
class Source:
    """What a dataset holds, in its own world frame and unit.

    Args:
        shots: sorted by name, at least one.
        points: (P, 3) float32 seed points.
        point_colors: (P, 3) float32 in [0, 1], sRGB.
        test_names: the photos that the dataset itself keeps for testing; None when it does not say.
    """

    shots: list[Shot]
    points: Tensor
    point_colors: Tensor
    test_names: frozenset[str] | None = None
