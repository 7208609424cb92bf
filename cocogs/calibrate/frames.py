"""Frames of an unmoved camera, read one after the other: their mean, and how they vary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cocogs.errors import InputError, counted
from cocogs.io import photos, raw
from cocogs.io.camera_file import read_camera_file
from cocogs.io.pixels import to_float
from cocogs.io.progress import Progress, Say
from cocogs.optics.photometry import Response

FEWEST = 2
WHITE = 0.995  # of the largest value: what is brighter may have been brighter still
FEW_WHITE = 1e-3  # share of pixels
MOST_PIXELS = 1 << 27  # of a frame: statistics take 24 bytes for each value

Linearise = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Frames:
    """Statistics of frames: linear light, 1 is white.

    Args:
        count: of the frames.
        size: width and height in px.
        mean: (C, H, W) float64; C is 3, or 1 for a RAW file's mosaic.
        variance: (C, H, W) over the frames.
        black: share of values that are 0 because they cannot go below; 0 where they can.
    """

    count: int
    size: tuple[int, int]
    mean: np.ndarray
    variance: np.ndarray
    black: float


def linearise_by(response: str) -> Linearise:
    """From pixel values to light.

    Args:
        response: "linear", "srgb", or the path of a camera.json with a response.

    Raises:
        InputError: it is none of them.
    """
    if response == "linear":
        return lambda values: values
    return undone(() if response == "srgb" else read_camera_file(Path(response)).response)


def undone(response: Sequence[float]) -> Linearise:
    """From pixel values to light, by the response of a camera.json; () is sRGB."""
    curve = Response(response) if response else Response()
    return lambda values: curve.inverse(torch.from_numpy(values)).numpy()


def read_frames(folder: Path, linearise: Linearise, evened: bool, say: Say) -> Frames:
    """The statistics of all photos in a folder.

    Args:
        evened: bring the frames to the same brightness: lamps flicker.

    Raises:
        InputError: fewer than `FEWEST`, of different sizes or kinds, white ones, or an unreadable file.
    """
    paths = photos_in(folder)
    if len(paths) < FEWEST:
        raise InputError(
            f"{folder} holds {counted(len(paths), 'photo')}: put {FEWEST} or more of the same there, "
            "for noise is what differs between them."
        )
    total = squares = np.zeros((1, 1, 1))
    black, level, goes_below = 0.0, 0.0, False
    with Progress(f"Reading {folder.name}", len(paths), say, patience=2) as progress:
        for number, path in enumerate(paths):
            light = read_light(path, linearise)
            _check(light, total if number else light, path, paths[0])
            black += float((light == 0).mean()) / len(paths)
            goes_below |= bool((light < 0).any())
            if evened:
                level = level or float(light.mean())
                light = light * (level / max(float(light.mean()), 1e-12))
            change = light - total / max(number, 1)  # Welford (1962)
            total = total + light
            squares = squares + change * (light - total / (number + 1))
            progress.add(1)
    size = total.shape[2], total.shape[1]
    black = 0.0 if goes_below else black
    return Frames(len(paths), size, total / len(paths), squares / (len(paths) - 1), black)


def photos_in(folder: Path) -> list[Path]:
    """Those in a folder; none where there is no folder."""
    return [folder / name for name in photos.list_photos(folder)] if folder.is_dir() else []


def read_light(path: Path, linearise: Linearise) -> np.ndarray:
    """(C, H, W) float64 light of a photo as stored; C is 1 for a RAW file's mosaic, else 3.

    Raises:
        InputError: the file cannot be read.
    """
    if raw.is_raw(path):
        return raw.read_mosaic(path)[None].astype(np.float64)
    return linearise(to_float(photos.read_photo(path, upright=False)).astype(np.float64)).transpose(2, 0, 1)


def _check(light: np.ndarray, first: np.ndarray, path: Path, first_path: Path) -> None:
    if light.shape != first.shape:
        sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in (first.shape, light.shape))
        raise InputError(f"{first_path} and {path} differ in size or kind ({sizes} px): keep one kind.")
    if light.size > MOST_PIXELS:
        raise InputError(f"{path} has too many pixels to measure: make the frames smaller.")
    if float((light >= WHITE).mean()) > FEW_WHITE:
        raise InputError(f"{path} is white in places, which hides noise and vignetting: expose it less.")


def exif_f_number(folder: Path) -> float | None:
    """The f-number by the EXIF of the photos in a folder; None where they do not tell, or differ."""
    names: Sequence[str] = photos.list_photos(folder)
    found = {photos.read_header(folder / name).lens.f_number for name in names}
    return found.pop() if len(found) == 1 else None
