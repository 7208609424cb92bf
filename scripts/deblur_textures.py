"""Surfaces and outlines for the scenes that DeblurNet learns from (`deblur_pairs.py`), painted with numpy and
Pillow. Everything is a function of a generator, or of a seed and a number.
"""

import string
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIZE = 320  # px, of a texture
KEPT = 96  # textures in memory
DRAWN = 2  # px of a drawing per px


@lru_cache(maxsize=KEPT)
def texture(seed: int, number: int) -> Float[Tensor, "3 {SIZE} {SIZE}"]:
    """Linear light, >= 0, of a surface; 1 is white, lamps are brighter."""
    rng = np.random.default_rng((seed, number))
    kinds = (spectrum, spectrum, dead_leaves, dead_leaves, dead_leaves, text, pattern, lamps)
    encoded = kinds[number % len(kinds)](rng)
    if rng.random() < 0.5:  # dirt, grain, uneven light
        encoded = encoded * (1 + rng.uniform(0.05, 0.4) * fractal(rng, rng.uniform(0.5, 1.8))[..., None])
    return torch.from_numpy(np.ascontiguousarray(encoded.transpose(2, 0, 1), np.float32)).clamp_min(0) ** 2.2


def fractal(rng: np.random.Generator, falloff: float, size: int = SIZE) -> np.ndarray:
    """Noise (size, size) whose amplitudes fall with frequency ** falloff; mean 0, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    waves = rng.normal(size=(2, *frequency.shape)) / frequency**falloff
    noise = np.fft.irfft2(waves[0] + 1j * waves[1], (size, size))
    return (noise / noise.std()).astype(np.float32)


def spectrum(rng: np.random.Generator) -> np.ndarray:
    """Clouds, bark, gravel: the spectrum of natural pictures, brightness varying more than hue."""
    falloff = rng.uniform(0.8, 1.9)
    shared = fractal(rng, falloff)
    hue = np.stack([fractal(rng, falloff) for _ in range(3)], -1)
    contrast, coloring = rng.uniform(0.08, 0.3), rng.uniform(0, 0.6)
    value = rng.uniform(0.2, 0.7, 3) + contrast * (shared[..., None] + coloring * hue)
    if rng.random() < 0.3:  # ridges, as of cracks and veins
        value = rng.uniform(0.1, 0.5, 3) + 2 * np.abs(value - value.mean((0, 1)))
    return value.clip(0, 1)


def dead_leaves(rng: np.random.Generator) -> np.ndarray:
    """Shapes of all sizes over each other, whose edges have the statistics of natural pictures."""
    side = SIZE * DRAWN
    palette = rng.uniform(0, 255, (rng.integers(3, 12), 3))
    palette += rng.uniform(0, 1) * (palette.mean(1, keepdims=True) - palette)  # less gaudy
    palette = palette.astype(int)
    canvas = Image.new("RGB", (side, side), tuple(palette[0]))
    draw = ImageDraw.Draw(canvas)
    least = rng.uniform(3, 12)
    for _ in range(rng.integers(200, 900)):
        radius = min(least / np.sqrt(1 - rng.random()), side / 3)
        x, y = rng.uniform(0, side, 2)
        color = palette[rng.integers(len(palette))] + rng.normal(0, 12, 3)
        ink = tuple(color.clip(0, 255).astype(int))
        if rng.random() < 0.4:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), ink)
        else:
            draw.polygon(_corners(rng, x, y, radius), ink)
    return np.asarray(canvas.reduce(DRAWN), np.float32) / 255


def text(rng: np.random.Generator) -> np.ndarray:
    """Lines of print on paper, turned."""
    side = SIZE * DRAWN
    paper, ink = rng.uniform(0, 255, (2, 3))
    if abs(paper.mean() - ink.mean()) < 60:
        paper, ink = np.full(3, 235.0), np.full(3, 30.0)
    canvas = Image.new("RGB", (side, side), tuple(paper.astype(int)))
    draw = ImageDraw.Draw(canvas)
    letters = list(string.ascii_letters + string.digits + "  .,:;-+&%()")
    top = 0.0
    while top < side:
        size = rng.uniform(14, 70)
        words = "".join(rng.choice(letters, 60))
        draw.text((rng.uniform(-60, 0), top), words, tuple(ink.astype(int)), ImageFont.load_default(size))
        top += size * rng.uniform(1.1, 1.5)
    angle = float(rng.choice([0, 90, 180, 270]) + rng.normal(0, 8))
    turned = canvas.rotate(angle, Image.Resampling.BILINEAR, fillcolor=tuple(paper.astype(int)))
    return np.asarray(turned.reduce(DRAWN), np.float32) / 255


def pattern(rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks and waves, as of cloth, tiles, fences."""
    angle, period = rng.uniform(0, np.pi), 2 ** rng.uniform(2, 5.5)
    y, x = np.mgrid[:SIZE, :SIZE] + rng.uniform(0, SIZE)
    bend = rng.uniform(0, 4) * fractal(rng, 2.2)
    u, v = x * np.cos(angle) + y * np.sin(angle) + bend, y * np.cos(angle) - x * np.sin(angle) + bend
    wave = np.sin(2 * np.pi * u / period)
    other = np.sin(2 * np.pi * v / (period * rng.uniform(0.5, 2)))
    form = (wave, wave * other, np.minimum(wave, other))[rng.integers(3)]
    share = (form * rng.uniform(1, 12) * period / 12).clip(-1, 1)[..., None] / 2 + 0.5
    first, second = rng.uniform(0, 1, (2, 3))
    return share * first + (1 - share) * second


def lamps(rng: np.random.Generator) -> np.ndarray:
    """Bright points and spots in the dark; some are brighter than white."""
    side = SIZE * DRAWN
    value = rng.uniform(0, 0.3, 3) + 0.06 * fractal(rng, 1.5)[..., None]
    for _ in range(rng.integers(20, 90)):
        mask = Image.new("L", (side, side))
        (x, y), radius = rng.uniform(0, side, 2), rng.uniform(1, 9)
        ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), 255)
        box = [max(0, int(v)) // DRAWN for v in (x - 24, y - 24, x + 24, y + 24)]
        spot = np.asarray(mask.reduce(DRAWN), np.float32)[box[1] : box[3], box[0] : box[2], None] / 255
        light = rng.uniform(0.4, 1, 3) * 2 ** rng.uniform(-1, 2)
        part = value[box[1] : box[3], box[0] : box[2]]
        part += spot * (light - part)
    return value.clip(0, None)


def outline(rng: np.random.Generator, size: int) -> Float[Tensor, "size size"]:
    """The part of each pixel that an object covers: leaf, box, branches, letters, or a blob."""
    side = size * DRAWN
    kind = rng.choice(5, p=[0.25, 0.2, 0.3, 0.1, 0.15])
    if kind == 0:
        blob = fractal(rng, 2.0, size) - rng.uniform(-0.3, 1.2)
        return torch.from_numpy((blob * rng.uniform(4, 20)).clip(0, 1))
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(0, side, 2)
        radius = side * rng.uniform(0.12, 0.6)
        if kind == 1:
            draw.ellipse((x - radius, y - radius * rng.uniform(0.4, 1), x + radius, y + radius), 255)
        elif kind == 2:
            draw.polygon(_corners(rng, x, y, radius), 255)
        elif kind == 3:
            for _ in range(6):
                end = tuple(rng.uniform(-0.2 * side, 1.2 * side, 2))
                draw.line(((x, y), end), 255, int(rng.uniform(2, 0.08 * side)))
        else:
            words = "".join(rng.choice(list(string.ascii_uppercase), 4))
            draw.text((x - side / 3, y), words, 255, ImageFont.load_default(side * rng.uniform(0.15, 0.6)))
    return torch.from_numpy(np.asarray(mask.reduce(DRAWN), np.float32) / 255)


def _corners(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a box or a star-shaped polygon."""
    if rng.random() < 0.5:
        turn, slim = rng.uniform(0, np.pi), rng.uniform(0.1, 1)
        angles = turn + np.array([np.arctan(slim), np.pi - np.arctan(slim)])
        angles = np.concatenate([angles, angles + np.pi])
        reach = np.full(4, radius)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        reach = radius * rng.uniform(0.5, 1.3, len(angles))
    corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], -1)
    return [(float(a), float(b)) for a, b in corners]
