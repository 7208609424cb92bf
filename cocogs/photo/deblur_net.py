"""DeblurNet: a small network that takes away the blur of a known circle of confusion (CoC).

What is known is computed, what is not is learned. Known is the disc that spread each point: two Wiener filters, one
that trusts the picture and one that expects noise, undo discs of every width, and each pixel takes what the
filters of its own CoC say. A U-Net sees the picture, both answers and the CoC. It weighs the answers in every pixel,
adds what it learned, and says how far off it expects to be.

Wiener filters as inputs of a network: Dong et al., Deep Wiener Deconvolution, NeurIPS 2020; theirs are of
one blur for the whole picture, and act on learned features.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

WIDEST = 24  # px, of circles of confusion that the network has learned
FADED = 32  # px; from here on the picture is left as it is
WIDTHS = 32, 64, 96  # channels at half, quarter and eighth size
MULTIPLE = 8  # both sides of a picture must be
# Noise over signal at a frequency of one cycle per px, in power. It falls with frequency squared towards 0, as the
# spectrum of natural pictures rises.
NOISE = 0.1, 2.0
SCALE = 12.0  # px, of what the network sees of a CoC
CLEAR = 0.5  # px of blur radius at which half of the network's change counts


class Deblurred(NamedTuple):
    """What the network says.

    Args:
        light: linear, >= 0.
        error: expected absolute error of `light.sqrt()`, > 0.
        gate: how much of the network's change counts, in [0, 1]; 0 where no blur reaches.
    """

    light: Float[Tensor, "B 3 H W"]
    error: Float[Tensor, "B H W"]
    gate: Float[Tensor, "B H W"]


class DeblurNet(nn.Module):
    """Pictures are (B, 3, H, W), linear light >= 0 with 1 as white; H and W are multiples of `MULTIPLE`."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth = WIDTHS
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(13 * 4, half, 3, padding=1), Block(half))
        self.to_quarter = nn.Sequential(nn.Conv2d(half, quarter, 2, 2), Block(quarter), Block(quarter))
        self.to_eighth = nn.Conv2d(quarter, eighth, 2, 2)
        self.deep = nn.Sequential(*(Block(eighth) for _ in range(3)))
        self.from_eighth = nn.ConvTranspose2d(eighth, quarter, 2, 2)
        self.at_quarter = nn.Sequential(Block(quarter), Block(quarter))
        self.from_quarter = nn.ConvTranspose2d(quarter, half, 2, 2)
        self.at_half = Block(half)
        last = nn.Conv2d(half, 6 * 4, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.leave = nn.Sequential(last, nn.PixelShuffle(2))

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
        gate = gate * ((FADED - known.abs()) / (FADED - WIDEST)).clamp(0, 1)
        encoded = light.sqrt()
        answers = [signed_sqrt(answer) for answer in undone(light, known)]
        blur = torch.stack([known / SCALE, known.abs() / SCALE, reach / SCALE, validity], 1)
        at_half = self.enter(torch.cat([encoded, *answers, blur], 1))
        at_quarter = self.to_quarter(at_half)
        at_quarter = at_quarter + self.from_eighth(self.deep(self.to_eighth(at_quarter)))
        at_half = at_half + self.from_quarter(self.at_quarter(at_quarter))
        change, shares, error = self.leave(self.at_half(at_half)).split([3, 2, 1], 1)
        for answer, share in zip(answers, shares.split(1, 1), strict=True):
            change = change + share * (answer - encoded)
        sharp = (encoded + gate[:, None] * change).clamp_min(0)
        # As a difference, so that nothing is rounded where nothing changes.
        result = (light + (sharp.square() - encoded.square())).clamp_min(0)
        return Deblurred(result, F.softplus(error[:, 0] - 4) + 1e-3, gate)


class Block(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.second(F.relu(self.first(x)))


def blur_reach(coc: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """How far the widest disc that reaches a pixel goes beyond it, px: its own radius, or what is left of a
    neighbour's; 0 where no light came from elsewhere. Distances count along rows, columns and diagonals."""
    reach = coc.abs() / 2
    for _ in range(min(math.ceil(float(reach.max())) if reach.numel() else 0, FADED // 2)):
        reach = torch.maximum(reach, F.max_pool2d(reach, 3, 1, 1) - 1)
    return reach


def undone(light: Float[Tensor, "B 3 H W"], coc: Float[Tensor, "B H W"]) -> list[Float[Tensor, "B 3 H W"]]:
    """The pictures with the blur of each pixel's CoC undone by Wiener filters, one for each `NOISE`.

    Filters are of whole px of diameter; between them, pixels take shares of two. Wider than `WIDEST` counts as
    `WIDEST`.
    """
    pairs = [_undone(*picture) for picture in zip(light, coc.abs().clamp_max(WIDEST), strict=True)]
    return list(torch.stack(pairs, 1))


def _undone(light: Float[Tensor, "3 H W"], diameter: Float[Tensor, "H W"]) -> Float[Tensor, "A 3 H W"]:
    height, width = diameter.shape
    size = tuple(-(-(side + 2 * WIDEST) // 32) * 32 for side in diameter.shape)  # quick to transform
    around = (WIDEST, size[1] - width - WIDEST, WIDEST, size[0] - height - WIDEST)
    waves = torch.fft.rfft2(F.pad(light[None], around, mode="replicate"))
    inner = (..., slice(WIDEST, WIDEST + height), slice(WIDEST, WIDEST + width))
    low = diameter.floor()
    result = (diameter < 1) * (1 - diameter) * light.expand(len(NOISE), 3, height, width)
    for step in torch.cat([low.unique(), low.unique() + 1]).unique().tolist():
        share = (1 - (diameter - step).abs()).clamp_min(0)
        if step > 0 and bool((share > 0).any()):
            sharper = torch.fft.irfft2(waves * _inverses(int(step), size, light.device), s=size)
            result = result + share * sharper[inner]
    return result


def signed_sqrt(light: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
    """Square root of light, of either sign; kept within what pictures show."""
    return light.clamp(-1, 4).abs().sqrt() * light.sign()


@lru_cache(maxsize=2 * WIDEST)
def _inverses(diameter: int, size: tuple[int, int], device: torch.device) -> Float[Tensor, "A 1 H F"]:
    """What undoes a disc of this diameter at every frequency (`rfft2` of `size`), one for each `NOISE`."""
    rows = torch.fft.fftfreq(size[0], device=device)[:, None]
    frequency = torch.hypot(rows, torch.fft.rfftfreq(size[1], device=device))
    phase = (math.pi * diameter * frequency).clamp_min(1e-6)
    disc = 2 * torch.special.bessel_j1(phase) / phase
    noise = torch.tensor(NOISE, device=device)[:, None, None, None] * frequency.square()
    return disc / (disc.square() + noise)
