"""Slices on the disk laid over each other and fused, tile by tile: memory does not grow with their number."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io.pixels import from_float, to_float
from cocogs.io.progress import Progress, Say
from cocogs.photo.align import moved, reach
from cocogs.photo.exposure_steps import evened
from cocogs.photo.focus_volume import QUIETEST, find_sharp_slices, sharpness
from cocogs.photo.fusion import LEVELS, MARGIN, by_map, by_pyramid, retouched
from cocogs.photo.slices import Slices, light_of_codes
from cocogs.srgb import to_srgb

METHODS = ("depth", "pyramid")
VOLUME = 1 << 24  # pixels of all slices in a tile; each takes about 60 bytes
SMALLEST_TILE = 64
GREY = (0.299, 0.587, 0.114)
PATCHES, PATCH = 8, 32  # by PATCHES squares of so many px tell the noise
QUIET = 0.1  # share of these pixels that have no texture
PART_OF_NOISE = 0.5  # of their sharpness, that is taken for noise everywhere


@dataclass(frozen=True)
class Fused:
    """From which slice each pixel is.

    Args:
        index: from 0; between two slices where both are as sharp.
        confidence: in [0, 1], of `index`.
        shares: part of the picture that each slice gives.
        lost: part of the picture that lies outside one slice or more.
        retouched: part of the picture for which a user chose the slice.
    """

    index: Float[Tensor, "H W"]
    confidence: Float[Tensor, "H W"]
    shares: tuple[float, ...]
    lost: float
    retouched: float


def lay_over(slices: Slices, transforms: np.ndarray, gains: np.ndarray, say: Say) -> float:
    """Move the slices into the reference's frame and even their exposures out, in their file; returns how
    much sharpness noise alone has."""
    least = None
    with Progress("Laying slices over each other", len(slices), say, patience=2) as progress:
        for index in range(len(slices)):
            pixels = slices.read(index)
            changed = evened(moved(pixels, transforms[index]), gains[index])
            if changed is not pixels:
                slices.write(index, changed)
            seen = sharpness(_grey(_patches(changed)))
            least = seen if least is None else torch.minimum(least, seen)
            progress.add(1)
    assert least is not None
    return max(PART_OF_NOISE * float(least.quantile(QUIET)), QUIETEST)


def _patches(pixels: np.ndarray) -> np.ndarray:
    """(P, PATCH, PATCH, 3) squares, evenly spread."""
    rows, columns = (np.linspace(0, side - PATCH, PATCHES).astype(int) for side in pixels.shape[:2])
    return np.stack([pixels[y : y + PATCH, x : x + PATCH] for y in rows for x in columns])


def fuse(
    slices: Slices,
    transforms: np.ndarray,
    method: str,
    noise: float,
    labels: np.ndarray | None,
    say: Say,
) -> tuple[np.ndarray, Fused]:
    """(H, W, 3) sRGB of slices that `lay_over` prepared, as deep as they are, and where it is from.

    Args:
        method: one of METHODS.
        noise: as `lay_over` says.
        labels: (H, W) numbers of slices that a user chose, from 1; 0 where `method` decides.
    """
    count, height, width = slices.shape[:3]
    pixels = np.empty(slices.shape[1:], slices.dtype)
    index, confidence = torch.empty(height, width), torch.empty(height, width)
    curve, lost, taken = torch.from_numpy(light_of_codes(slices.dtype)), 0, torch.zeros(count)
    tiles = list(_tiles(count, height, width))
    with Progress("Fusing", len(tiles), say, patience=2) as progress:
        for wide, inner, place in tiles:
            codes = slices.tile(*wide)
            there = torch.from_numpy(np.stack([reach(one, (height, width), *wide) for one in transforms]))
            found = find_sharp_slices(sharpness(_grey(codes)), there, noise)
            # torch takes nothing out of uint16.
            values = torch.from_numpy(codes if codes.dtype == np.uint8 else codes.astype(np.int32)).movedim(
                -1, 1
            )
            if method == "depth":
                fused = by_map(values, curve, found.index)
            else:
                fused = by_pyramid(curve[values.int()], there)
            if labels is not None:
                fused = retouched(fused, values, curve, torch.from_numpy(labels[wide]))
            encoded = to_srgb(fused.clamp(0, 1))[(slice(None), *inner)].movedim(0, -1)
            pixels[place] = from_float(encoded.numpy(), slices.dtype)
            index[place], confidence[place] = found.index[inner], found.confidence[inner]
            taken += torch.bincount(index[place].round().long().flatten(), minlength=count)
            lost += int((~there.all(0))[inner].sum())
            progress.add(1)
    shares = tuple(float(number) / (height * width) for number in taken)
    chosen = 0.0 if labels is None else float((labels > 0).mean())
    return pixels, Fused(index, confidence, shares, lost / (height * width), chosen)


Area = tuple[slice, slice]


def _tiles(count: int, height: int, width: int) -> Iterator[tuple[Area, Area, Area]]:
    """Tiles with their margins, where in those the tiles lie, and where in the picture."""
    grid = 1 << LEVELS  # pyramids of all tiles have their pixels at the same places
    side = max(SMALLEST_TILE, int(math.sqrt(VOLUME / count) - 2 * MARGIN) // grid * grid)
    for top in range(0, height, side):
        for left in range(0, width, side):
            place = slice(top, min(top + side, height)), slice(left, min(left + side, width))
            wide = tuple(
                slice(max(0, part.start - MARGIN), min(part.stop + MARGIN, end))
                for part, end in zip(place, (height, width), strict=True)
            )
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(place, wide, strict=True)
            )
            yield wide, inner, place  # pyright: ignore[reportReturnType]


def _grey(codes: np.ndarray) -> Float[Tensor, "..."]:
    """Encoded grey values in [0, 1] of (..., 3) pixels: what sharpness is measured on."""
    return torch.from_numpy(to_float(codes) @ np.array(GREY, np.float32))
