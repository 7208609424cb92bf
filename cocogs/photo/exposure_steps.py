"""Exposure and white balance of a bracket's slices, made those of its reference.

Blocks of the aligned, shrunken slices are compared in linear light: blur moves light within a block, and
hardly out of it. Blocks that hold clipped pixels tell nothing.
"""

import numpy as np
import torch

from cocogs.io.pixels import resize_area
from cocogs.io.progress import Progress, Say
from cocogs.photo.align import moved, reach
from cocogs.photo.slices import Slices, light_of_codes
from cocogs.srgb import CLIPPED, to_srgb

GRID = 48  # blocks along the longer side
SAMPLED = 1024  # px of the longer side, of which there are at least so many: the others are passed over
DARK = 0.01  # linear light below which noise and stray light decide
FEWEST = 24  # blocks that tell a gain
AGREE = 0.3  # part of the blocks whose gains lie closest together; their median is taken
# Gains nearer to 1, and to each other, are left out: brackets without steps show up to 1.3 % and 2.4 %.
ALIKE, ALIKE_COLOUR = 0.015, 0.03
MOST = 16.0  # a gain beyond it, or its inverse, is no exposure step
KNEE = 0.8  # linear light from which a darkened slice keeps its white


def find_gains(slices: Slices, transforms: np.ndarray, reference: int, say: Say) -> np.ndarray:
    """(S, 3) by which the light of each slice, per colour, is to be multiplied; NaN where too little of a
    slice is neither black nor white to tell."""
    curve = light_of_codes(slices.dtype)
    wanted, used = _blocks(slices.read(reference), transforms[reference], curve)
    gains = np.ones((len(slices), 3))
    with Progress("Comparing exposures", len(slices), say, patience=2) as progress:
        for index in range(len(slices)):
            if index != reference:
                light, clear = _blocks(slices.read(index), transforms[index], curve)
                told = (used & clear)[..., None] & (light > DARK) & (wanted > DARK)
                gains[index] = _gains([wanted[told[..., c], c] / light[told[..., c], c] for c in range(3)])
            progress.add(1)
    return gains


def _gains(ratios: list[np.ndarray]) -> np.ndarray:
    """(3,) gains by the blocks' ratios of each colour: one for all, unless white balance differs, too."""
    if min(map(len, ratios)) < FEWEST:
        return np.full(3, np.nan)
    common, colours = _usual(np.concatenate(ratios)), np.array([_usual(ratio) for ratio in ratios])
    gains = colours if np.abs(colours / common - 1).max() > ALIKE_COLOUR else np.full(3, common)
    if not (1 / MOST <= gains.min() and gains.max() <= MOST):
        return np.full(3, np.nan)
    return gains if np.abs(gains - 1).max() > ALIKE else np.ones(3)


def _usual(ratios: np.ndarray) -> float:
    """What most blocks say: the median of the shortest interval that holds `AGREE` of them. Blur changes the
    others, in macro brackets most of them to one side."""
    ordered = np.sort(ratios)
    count = max(2, round(AGREE * len(ordered)))
    first = int((ordered[count - 1 :] / ordered[: len(ordered) - count + 1]).argmin())
    return float(np.median(ordered[first : first + count]))


def _blocks(pixels: np.ndarray, transform: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) mean linear light of blocks, and (h, w) whether all their pixels are there and unclipped."""
    every = max(1, max(pixels.shape[:2]) // SAMPLED)
    pixels = np.ascontiguousarray(pixels[::every, ::every])
    if not np.array_equal(transform, np.eye(3)[:2]):
        transform = transform / (1, 1, every)
    size = pixels.shape[:2]
    height, width = (max(1, round(side / max(size) * GRID)) for side in size)
    pixels = moved(pixels, transform)
    bad = (pixels >= CLIPPED * np.iinfo(pixels.dtype).max).any(-1)
    bad |= ~reach(transform, size, slice(0, size[0]), slice(0, size[1]))
    light = resize_area(curve[pixels], width, height)
    return light, resize_area(bad[..., None].astype(np.float32), width, height)[..., 0] == 0


def evened(pixels: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A slice with its light multiplied by a gain per colour. What a darkened slice shows white, in all
    colours, stays white: it had been brighter than can be told."""
    if (gain == 1).all():
        return pixels
    curve = light_of_codes(pixels.dtype)
    t = np.clip((curve - KNEE) / (1 - KNEE), 0, 1)
    kept = (t * t * (3 - 2 * t) if gain.min() < 1 else np.zeros_like(t))[pixels.min(-1)]
    result = np.empty_like(pixels)
    for colour, factor in enumerate(gain):
        encoded = to_srgb(torch.from_numpy(curve * factor).clamp(0, 1)).numpy()
        new = (encoded * np.float32(len(curve) - 1))[pixels[..., colour]]
        result[..., colour] = np.rint(new + kept * (pixels[..., colour] - new))
    return result
