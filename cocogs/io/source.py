"""Plain data between the readers of photos with cameras and `cocogs.scene`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

# px; no picture is larger, so larger numbers come from damaged files.
MAX_SIDE = (1 << 20) - 1
MAX_AREA = 1 << 30


def is_size(width: float, height: float) -> bool:
    """Whether a picture can measure width x height px."""
    return 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_AREA


def fits_float32(values: np.ndarray | Sequence[float] | float | int) -> bool:
    """Whether all numbers are finite in float32, in which the training computes."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except OverflowError:  # a whole number beyond float64
        return False
    return bool((np.abs(numbers) <= np.finfo(np.float32).max).all())


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


def opencv_lens(
    size: tuple[int, int],
    pinhole: tuple[float, float, float, float],
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tangential: tuple[float, float] = (0.0, 0.0),
) -> Intrinsics:
    """The simplest of COLMAP's camera models for OpenCV's lens.

    Args:
        size: width and height in px.
        pinhole: fx, fy, cx, cy in px.
        radial: k1, k2, k3.
        tangential: p1, p2.
    """
    k1, k2, k3 = radial
    if k3:
        return Intrinsics("FULL_OPENCV", *size, (*pinhole, k1, k2, *tangential, k3, 0.0, 0.0, 0.0))
    if k1 or k2 or any(tangential):
        return Intrinsics("OPENCV", *size, (*pinhole, k1, k2, *tangential))
    return Intrinsics("PINHOLE", *size, pinhole)


@dataclass(frozen=True)
class Shot:
    """One photo and the camera that took it.

    Args:
        name: the photo's path relative to the folder of photos.
        intrinsics: the lens, for the picture size it was calibrated at (the file may be a rescaled one).
        cam_from_world: (4, 4) float64 rigid transform, OpenCV axes.
        upright: True where the camera belongs to the picture turned as its EXIF orientation says,
            False where it belongs to the pixels as they are stored. A hint: the picture's shape decides.
        mask: the mask that the dataset names for the photo (white = use); None where it names none.
        panorama: the name of the 360-degree photo whose face this is; None where it is a photo by itself.
    """

    name: str
    intrinsics: Intrinsics
    cam_from_world: Tensor
    upright: bool = True
    mask: Path | None = None
    panorama: str | None = None

    @property
    def photo(self) -> str:
        """The name of the photo as the user took it."""
        return self.name if self.panorama is None else self.panorama


def is_file_name(name: str) -> bool:
    """Whether a photo can have this name: not nothing, nor a folder alone."""
    return PurePosixPath(name.replace("\\", "/")).name not in ("", "..")


def named_twice(shots: Sequence[Shot]) -> str | None:
    """The first photo's name that comes twice."""
    counts = Counter(shot.name for shot in shots)
    return next((name for name, times in counts.items() if times > 1), None)


@dataclass(frozen=True)
class Source:
    """The cameras of a dataset and what is known of the scene, in the dataset's own world frame and unit.

    Args:
        shots: sorted by name.
        points: (P, 3) float64 points of the scene, P > 0; None where the dataset has none.
        point_colors: (P, 3) float32 in [0, 1], sRGB; None without points.
        bounds: (shots, 2) float64, nearest and farthest depth that a photo shows; None where unknown.
        test_names: the photos that the dataset keeps for testing; None where it does not say.
    """

    shots: list[Shot]
    points: Tensor | None = None
    point_colors: Tensor | None = None
    bounds: Tensor | None = None
    test_names: frozenset[str] | None = None
