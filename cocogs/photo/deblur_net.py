"""DeblurNet: a small network that takes away the blur of a known circle of confusion (CoC).

What is known is computed, what is not is learned. Known is the disc that spread each point. Two Wiener
filters, one that trusts the picture and one that expects noise, undo discs of every width, and each pixel
takes what the filters of its own CoC say. A U-Net sees the picture, both answers and the CoC. It weighs the
answers in every pixel, adds what it learned, and says how far off it expects to be.

Wiener filters as inputs of a network: Dong et al., Deep Wiener Deconvolution, NeurIPS 2020; theirs are of
one blur for the whole picture, and act on learned features.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.plain_torch import serves_gradients

WIDEST = 24  # px, of circles of confusion that the network has learned
FADED = 32  # px; from here on the picture is left as it is
WIDTHS = 64, 96  # channels at quarter and eighth size
MULTIPLE = 8  # both sides of a picture must be
# Noise over signal at a frequency of one cycle per px, in power. It falls with frequency squared towards 0,
# as the spectrum of natural pictures rises.
NOISE = 0.1, 1.0
FIRST_SHARES = 0.4, 0.4  # of the filters' answers, before training
AROUND = 2  # cells of 4x4 px, of the neighbourhood in which the CoC's spread is told
AROUND_PICTURE = 2 * WIDEST  # px, at least, from a picture's end to its start as the filters see it
SCALE = 12.0  # px, of what the network sees of a CoC
CLEAR = 0.5  # px of blur radius at which half of the network's change counts


class Deblurred(NamedTuple):
    """What the network says.

    Args:
        light: linear, >= 0.
        error: expected absolute error of `light.sqrt()`, > 0.
        gate: how much of the network's change counts, in [0, 1]; 0 where no blur reaches.
        fade: the part of it for blur wider than `WIDEST`: 1 up to there, 0 from `FADED` on.
    """

    light: Float[Tensor, "B 3 H W"]
    error: Float[Tensor, "B H W"]
    gate: Float[Tensor, "B H W"]
    fade: Float[Tensor, "B H W"]


class DeblurNet(nn.Module):
    """Pictures are (B, 3, H, W), linear light >= 0 with 1 as white; H and W are multiples of `MULTIPLE`."""

    def __init__(self) -> None:
        super().__init__()
        quarter, eighth = WIDTHS
        pictures, maps = 3 * (1 + len(NOISE)), 5
        self.enter = nn.Conv2d(16 * pictures + maps, quarter, 3, padding=1)
        self.down = nn.Sequential(Block(quarter), Block(quarter))
        self.to_eighth = nn.Conv2d(quarter, eighth, 2, 2)
        self.deep = nn.Sequential(*(Block(eighth) for _ in range(3)))
        self.from_eighth = nn.ConvTranspose2d(eighth, quarter, 2, 2)
        self.up = nn.Sequential(Block(quarter), Block(quarter))
        self.leave = nn.Conv2d(quarter, 16 * (3 + len(NOISE) + 1), 3, padding=1)
        first = torch.tensor([0, 0, 0, *FIRST_SHARES, 0]).repeat_interleave(16)  # what the filters say
        self.leave.load_state_dict({"weight": torch.zeros_like(self.leave.weight), "bias": first})

    def forward(
        self,
        light: Float[Tensor, "B 3 H W"],
        coc: Float[Tensor, "B H W"],
        validity: Float[Tensor, "B H W"],
    ) -> Deblurred:
        """
        Args:
            coc: signed diameters, px.
            validity: 1 where `coc` is known, 0 where it is not: its value does not matter there.
        """
        known = coc * validity
        reach = blur_reach(known)
        gate = reach.square() / (reach.square() + CLEAR**2)
        gate = validity * gate + (1 - validity)
        fade = ((FADED - known.abs()) / (FADED - WIDEST)).clamp(0, 1)
        gate = gate * fade
        encoded = light.sqrt()
        answers = [signed_sqrt(answer) for answer in undone(light, known)]
        blur = torch.stack([known / SCALE, known.abs() / SCALE, reach / SCALE, validity], 1)
        pictures = F.pixel_unshuffle(torch.cat([encoded, *answers], 1), 4)
        blur = torch.cat([F.avg_pool2d(blur, 4), spread(known) / SCALE], 1)
        at_quarter = self.down(self.enter(torch.cat([pictures, blur], 1)))
        at_quarter = at_quarter + self.from_eighth(self.deep(self.to_eighth(at_quarter)))
        said = F.pixel_shuffle(self.leave(self.up(at_quarter)), 4)
        change, shares, error = said.split([3, len(NOISE), 1], 1)
        for answer, share in zip(answers, shares.split(1, 1), strict=True):
            change = change + share * (answer - encoded)
        sharp = (encoded + gate[:, None] * change).clamp_min(0)
        # As a difference, so that nothing is rounded where nothing changes.
        result = (light + (sharp.square() - encoded.square())).clamp_min(0)
        return Deblurred(result, F.softplus(error[:, 0] - 4) + 1e-3, gate, fade)


class Block(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.second(F.relu(self.first(x)))


def blur_reach(coc: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """How far the widest disc that reaches a pixel goes beyond it, px: its own radius, or what is left of a
    neighbour's; 0 where no light came from elsewhere. Distances count along rows, columns and diagonals."""
    reach = coc.abs() / 2
    for _ in range(min(math.ceil(float(reach.max())), FADED // 2)):
        reach = torch.maximum(reach, _largest(_largest(reach, 1), 2) - 1)
    return reach


def _largest(values: Float[Tensor, "B H W"], side: int) -> Float[Tensor, "B H W"]:
    """Of each pixel and its two neighbours along a side; many times as quick as `max_pool2d`."""
    result, length = values.clone(), values.shape[side]
    for to, source in ((1, 0), (0, 1)):
        part = result.narrow(side, to, length - 1)
        torch.maximum(part, values.narrow(side, source, length - 1), out=part)
    return result


def spread(coc: Float[Tensor, "B H W"]) -> Float[Tensor, "B 1 h w"]:
    """By how much the CoC differs within `AROUND` cells of 4x4 px. Wiener filters believe in one CoC."""
    window = 2 * AROUND + 1
    largest = F.max_pool2d(F.max_pool2d(coc[:, None], 4), window, 1, AROUND)
    return largest + F.max_pool2d(F.max_pool2d(-coc[:, None], 4), window, 1, AROUND)


def undone(light: Float[Tensor, "B 3 H W"], coc: Float[Tensor, "B H W"]) -> list[Float[Tensor, "B 3 H W"]]:
    """The pictures with the blur of each pixel's CoC undone by Wiener filters, one for each `NOISE`.

    Filters are of whole px of diameter; between them, pixels take shares of two. Wider than `WIDEST` counts
    as `WIDEST`. What is sharper than a filter undoes would ring far into its surroundings, as the filter
    makes much of details that it believes to be nearly lost. It is blurred beforehand, by the filter's own
    disc.
    """
    pairs = [_undone(*picture) for picture in zip(light, coc.abs().clamp_max(WIDEST), strict=True)]
    return list(torch.stack(pairs, 1))


def _undone(light: Float[Tensor, "3 H W"], diameter: Float[Tensor, "H W"]) -> Float[Tensor, "A 3 H W"]:
    height, width = diameter.shape
    waves, size = _waves(light)
    low = diameter.floor()
    result = (diameter < 1) * (1 - diameter) * light.expand(len(NOISE), 3, height, width)
    for step in torch.cat([low.unique(), low.unique() + 1]).unique().tolist():
        share = (1 - (diameter - step).abs()).clamp_min(0)
        if step == 0 or not bool((share > 0).any()):
            continue
        disc, inverses = _filters(int(step), size, light.device)
        too_sharp = (step - 0.5 - diameter).clamp(0, 1)
        even = waves
        if bool((too_sharp > 0).any()):
            blurred = torch.fft.irfft2(waves * disc, s=size)[..., :height, :width]
            even, _ = _waves(light + too_sharp * (blurred - light))
        sharper = torch.fft.irfft2(even * inverses, s=size)
        result = result + share * sharper[..., :height, :width]
    return result


def _waves(light: Float[Tensor, "3 H W"]) -> tuple[Complex[Tensor, "3 h f"], tuple[int, int]]:
    """The picture's transform (`rfft2`), and the size that it was made of."""
    around = _periodic(_periodic(light, 1), 2)
    return torch.fft.rfft2(around), (around.shape[1], around.shape[2])


def _periodic(light: Float[Tensor, "..."], side: int) -> Float[Tensor, "..."]:
    """The picture, made longer so that its end leads back to its start, to a length that is quick to
    transform. Without, filters ring far into the picture."""
    length = light.shape[side]
    more = -(-(length + AROUND_PICTURE) // 32) * 32 - length
    way = torch.arange(1, more + 1, device=light.device) / (more + 1)
    way = way.reshape([-1 if dim == side else 1 for dim in range(3)])
    first, last = light.narrow(side, 0, 1), light.narrow(side, length - 1, 1)
    return torch.cat([light, last + way * (first - last)], side)


def signed_sqrt(light: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """Square root of light, of either sign; kept within what pictures show."""
    return light.clamp(-1, 4).abs().sqrt() * light.sign()


@lru_cache(maxsize=WIDEST)
@serves_gradients
def _filters(
    diameter: int, size: tuple[int, int], device: torch.device
) -> tuple[Float[Tensor, "h f"], Float[Tensor, "A 1 h f"]]:
    """The transform (`rfft2` of `size`) of a disc of this diameter, and what undoes it, for each `NOISE`."""
    rows = torch.fft.fftfreq(size[0], device=device)[:, None]
    frequency = torch.hypot(rows, torch.fft.rfftfreq(size[1], device=device))
    phase = (math.pi * diameter * frequency).clamp_min(1e-6)
    disc = 2 * torch.special.bessel_j1(phase) / phase
    noise = torch.tensor(NOISE, device=device)[:, None, None, None] * frequency.square()
    return disc, disc / (disc.square() + noise)
