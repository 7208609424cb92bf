"""Endless scenes to learn deblurring from: layers of painted surfaces, photographed through a thin lens.

A scene is a background and up to four objects in front of it, each a plane, often slanted, with a texture
of its own (`deblur_textures.py`). It is photographed twice, at different focus: every layer is blurred as a
whole, also where others hide it, and composited from far to near in linear light. Nothing is read from
files, and every scene is a function of a seed and its number.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from deblur_textures import KEPT, SIZE, outline, texture
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics.layers import aperture_kernel
from cocogs.srgb import to_linear, to_srgb

WIDEST = 24.0  # px, of a circle of confusion
MARGIN = 16  # px around a picture whose light reaches into it
SCENES_PER_TEXTURE = 5  # how long a texture is in use, in multiples of the `KEPT` scenes
# Diameters, px, of the discs that layers are blurred with; what lies between takes shares of two of them.
STEPS = torch.cat([torch.arange(0, 12.0), torch.arange(12, WIDEST + 4, 2.0)])


@dataclass(frozen=True)
class Shots:
    """Two photos of one scene, and what is true of it.

    Args:
        photos: linear light in [0, 1], defocused, noisy, as read from a file.
        sharp: linear light in [0, 1], of the same scene through a pinhole.
        coc: signed diameters of the circles of confusion, px.
        edge: within a pixel of where one thing hides another.
    """

    photos: Float[Tensor, "2 3 H W"]
    sharp: Float[Tensor, "3 H W"]
    coc: Float[Tensor, "2 H W"]
    edge: Bool[Tensor, "H W"]


@dataclass(frozen=True)
class _Layer:
    """A plane with a texture: premultiplied light and cover, and 1 / depth in px of blur."""

    rgba: Float[Tensor, "4 S S"]
    nearness: Float[Tensor, "S S"]


def photograph_scene(seed: int, number: int, size: int) -> Shots:
    """Two photos of scene `number`, (size, size) px."""
    rng = np.random.default_rng((seed, 1, number))
    wide = size + 2 * MARGIN
    layers = _layers(rng, seed, number, wide)
    sharp, nearness, edge = _pinhole(layers)
    inner = slice(MARGIN, MARGIN + size)
    photos, cocs = [], []
    for focus in _focuses(rng, nearness[inner, inner]):
        coc = nearness - focus
        light = _through_lens(layers, focus)[:, inner, inner]
        photos.append(developed(light, rng))
        cocs.append(coc[inner, inner])
    sharp, edge = sharp[:, inner, inner].clamp(0, 1), edge[inner, inner]
    return Shots(
        torch.stack(photos), sharp, torch.stack(cocs).clamp(-float(STEPS[-1]), float(STEPS[-1])), edge
    )


def developed(light: Float[Tensor, "3 H W"], rng: np.random.Generator) -> Float[Tensor, "3 H W"]:
    """The light as a file gives it back: shot and read noise, clipped, most often in 8 bits."""
    shot, read = 10 ** rng.uniform(-6, -3.7), 10 ** rng.uniform(-4, -2.7)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    spread = (shot * light.clamp_min(0) + read**2).sqrt()
    noisy = (light + spread * torch.randn(light.shape, generator=generator)).clamp(0, 1)
    if rng.random() < 0.8:
        noisy = to_linear((to_srgb(noisy) * 255).round() / 255)
    return noisy


def _layers(rng: np.random.Generator, seed: int, number: int, wide: int) -> list[_Layer]:
    """Far to near."""
    first = number // SCENES_PER_TEXTURE
    chosen = first + rng.permutation(KEPT - 1)[: rng.choice([1, 2, 3, 4, 5], p=[0.35, 0.3, 0.2, 0.1, 0.05])]
    step = rng.uniform(0, 2 * WIDEST / max(1, len(chosen) - 1)) if rng.random() < 0.95 else 0.0
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, wide)] * 2, indexing="ij")
    layers: list[_Layer] = []
    for place, texture_number in enumerate(chosen):
        light = _cut(rng, texture(seed, int(texture_number)), wide) * float(2 ** rng.uniform(-1.5, 0.3))
        cover = outline(rng, wide) if place else torch.ones(wide, wide)
        slant = rng.normal(0, 4, 2) if rng.random() < 0.4 else (0.0, 0.0)
        nearness = place * step + rng.uniform(-0.3, 0.3) * step + x * slant[0] + y * slant[1]
        if layers:  # nothing nearer lies behind what is farther
            nearness = torch.maximum(nearness, layers[-1].nearness + 0.25 * step)
        layers.append(_Layer(torch.cat([light * cover, cover[None]]), nearness.float()))
    return layers


def _cut(rng: np.random.Generator, surface: Float[Tensor, "3 S S"], wide: int) -> Float[Tensor, "3 W W"]:
    """A piece of a texture, at a scale, turned or mirrored."""
    side = int(min(SIZE, wide * 2 ** rng.uniform(-0.6, 0.8)))
    top, left = rng.integers(0, SIZE - side + 1, 2)
    piece = surface[:, top : top + side, left : left + side].rot90(int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        piece = piece.flip(2)
    piece = piece[torch.from_numpy(rng.permutation(3))]
    return F.interpolate(piece[None], (wide, wide), mode="bilinear", antialias=True, align_corners=False)[0]


def _focuses(rng: np.random.Generator, nearness: Float[Tensor, "H W"]) -> list[float]:
    """Two focus planes: one that gives a random pixel a random blur, one more in another pixel's depth."""
    some = nearness.flatten()[torch.from_numpy(rng.integers(0, nearness.numel(), 2))]
    blur = rng.choice([-1, 1]) * (0.0 if rng.random() < 0.08 else rng.uniform(0, WIDEST))
    other = rng.choice([-1, 1]) * (0.0 if rng.random() < 0.3 else rng.uniform(0, WIDEST))
    return [float(some[0]) + float(blur), float(some[1]) + float(other)]


def _pinhole(layers: list[_Layer]) -> tuple[Tensor, Tensor, Tensor]:
    """Sharp light, nearness of what is seen, and where one thing hides another."""
    light, nearness = layers[0].rgba[:3], layers[0].nearness
    seen = torch.zeros(nearness.shape)
    for place, layer in enumerate(layers[1:], 1):
        color, cover = layer.rgba.split([3, 1])
        light = light * (1 - cover) + color
        front = cover[0] > 0.5
        nearness = torch.where(front, layer.nearness, nearness)
        seen = torch.where(front, float(place), seen)
    around = F.max_pool2d(seen[None], 3, 1, 1) + F.max_pool2d(-seen[None], 3, 1, 1)
    return light, nearness, around[0] > 0


def _through_lens(layers: list[_Layer], focus: float) -> Float[Tensor, "3 S S"]:
    shown = torch.zeros(3, *layers[0].nearness.shape)
    for layer in layers:
        blurred = _blurred(layer, (layer.nearness - focus).abs().clamp_max(float(STEPS[-1])))
        color, cover = blurred.split([3, 1])
        shown = shown * (1 - cover.clamp(0, 1)) + color.clamp_min(0)
    return shown


def _blurred(layer: _Layer, diameter: Float[Tensor, "S S"]) -> Float[Tensor, "4 S S"]:
    """Every point of a layer spread over its circle of confusion. What leaves the picture enters it on the
    other side, and stays within `MARGIN` there."""
    place = torch.bucketize(diameter, STEPS, right=True).clamp(1, len(STEPS) - 1)
    share = (diameter - STEPS[place - 1]) / (STEPS[place] - STEPS[place - 1])
    size = diameter.shape[0]
    waves = torch.zeros(4, size, size // 2 + 1, dtype=torch.complex64)
    first, last = int(place.min()) - 1, int(place.max())
    for step in range(first, last + 1):
        part = (place == step) * share + (place - 1 == step) * (1 - share)
        waves += torch.fft.rfft2(part * layer.rgba) * _disc(float(STEPS[step]), size)
    return torch.fft.irfft2(waves, s=(size, size))


@lru_cache(maxsize=64)
def _disc(diameter: float, size: int) -> Complex[Tensor, "S F"]:
    return aperture_kernel(torch.tensor(diameter), (size, size))
