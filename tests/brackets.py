"""Focus brackets of textured planes through the thin lens, with what they show when sharp."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn import functional as F

from cocogs.io.pictures import write_photo
from cocogs.io.pixels import from_float
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens, focus_between
from cocogs.srgb import to_linear, to_srgb

WIDTH, HEIGHT = 132, 96
NEAR, FAR = 1.0, 4.0
K = 12.0  # px x unit: the nearest plane blurs over 9 px in the farthest slice


@dataclass
class Truth:
    """A bracket of which everything is known.

    Args:
        sharp: (3, H, W) sRGB.
        depth: (H, W).
        pixels: of each slice, (H, W, 3) of 8 bits.
        distances: in focus in each slice.
    """

    sharp: Tensor
    depth: Tensor
    pixels: list[np.ndarray]
    distances: list[float]

    @property
    def index(self) -> Tensor:
        """(H, W) where along the slices each pixel is sharp."""
        first, last = 1 / self.distances[0], 1 / self.distances[-1]
        return (1 / self.depth - first) / (last - first) * (len(self.pixels) - 1)

    def psnr(self, pixels: np.ndarray, border: int = 6) -> float:
        """Against the truth, away from the border."""
        shown = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).movedim(-1, 0)
        off = (shown - self.sharp)[:, border:-border, border:-border]
        return float(-10 * off.square().mean().log10())


def textured(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """(3, H, W) in [0, 1]: detail of several sizes, none finer than 2 px."""
    rng = torch.Generator().manual_seed(seed)
    picture = torch.full((1, 3, height, width), 0.5)
    for size, strength in ((2, 0.22), (4, 0.2), (12, 0.15)):
        noise = torch.randn(1, 3, height // size + 2, width // size + 2, generator=rng)
        wide = F.interpolate(noise, scale_factor=size, mode="bicubic")[..., :height, :width]
        picture = picture + strength * 0.5 * wide
    return picture[0].clamp(0.03, 0.97)


def make_bracket(count: int = 6, seed: int = 0) -> Truth:
    """A slanted wall with a near and a middle sheet before it."""
    x = torch.linspace(0, 1, WIDTH).expand(HEIGHT, WIDTH)
    depth = 1 / (1 / FAR + 0.15 * x)
    sharp = textured(seed)
    for number, (distance, place) in enumerate(((2.0, (30, 80, 20, 60)), (1.1, (10, 50, 75, 120)))):
        rows, columns = slice(*place[:2]), slice(*place[2:])
        depth[rows, columns] = distance
        sharp[:, rows, columns] = textured(seed + number + 1)[:, rows, columns]
    light, pixels, distances = to_linear(sharp), [], []
    for k in range(count):
        distances.append(focus_between(NEAR, FAR, k / (count - 1)))
        lens = PhotoLens(torch.tensor(distances[-1]), torch.tensor(K))
        photo = to_srgb(photograph_layers(light, depth, lens).clamp(0, 1))
        pixels.append(from_float(photo.movedim(0, -1).numpy(), np.dtype(np.uint8)))
    return Truth(sharp, depth, pixels, distances)


def exif(distance: float | None) -> bytes:
    block = Image.Exif()
    inner = block.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.FocalLength], inner[ExifTags.Base.FNumber] = 50.0, 2.8
    if distance is not None:
        inner[ExifTags.Base.SubjectDistance] = distance
    return block.tobytes()


def write_slices(truth: Truth, folder: Path, with_distances: bool = False) -> list[Path]:
    """img1.png to img6.png."""
    paths = []
    for number, (pixels, distance) in enumerate(zip(truth.pixels, truth.distances, strict=True), 1):
        paths.append(folder / f"img{number}.png")
        write_photo(pixels, paths[-1], exif(distance if with_distances else None))
    return paths


def brighter(pixels: np.ndarray, gain: float) -> np.ndarray:
    """With its light multiplied."""
    light = to_linear(torch.from_numpy(pixels / np.iinfo(pixels.dtype).max))
    return from_float(to_srgb((gain * light).clamp(0, 1)).numpy(), pixels.dtype)


def shifted(pixels: np.ndarray, to_slice: np.ndarray) -> np.ndarray:
    """What a camera sees that moved: the inverse of laying a slice over the reference."""
    size = pixels.shape[1::-1]
    return cv2.warpAffine(pixels, to_slice, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)


def breathing(scale: float, degrees: float, dx: float, dy: float) -> np.ndarray:
    """(2, 3) about the middle of the picture."""
    turn = np.radians(degrees)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    return np.column_stack([linear, middle + np.array([dx, dy]) - linear @ middle])
