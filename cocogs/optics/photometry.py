"""What a camera does to light behind its aperture: vignetting and the response curve. Differentiable."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.srgb import to_linear, to_srgb

DARKEST = 1e-3  # of the middle's light; a polynomial may fall below 0 outside of where it was fitted


class Vignette(nn.Module):
    """How much light reaches each pixel, as a part of what reaches the middle: 1 + A(r) + s B(r).

    A and B are even polynomials a1 r^2 + a2 r^4 + a3 r^6 of the distance r from the centre, 1 at half the
    diagonal of the picture. A is the lens's at every f-number, as cos^4 of the angle is. B goes as the lens
    is stopped down: s = min(1, (N0 / N)^2), the area of the opening over that at f-number N0.

    Args:
        coefficients: (C, 3) of A; C = 1, or 3 for red, green and blue.
        wide_open: (C, 3) of B, at `f_number` (N0); both or neither.
        center: x, y from the picture's middle, in half diagonals.
    """

    def __init__(
        self,
        coefficients: Sequence[Sequence[float]] = ((0.0, 0.0, 0.0),),
        wide_open: Sequence[Sequence[float]] | None = None,
        f_number: float | None = None,
        center: Sequence[float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.tensor(coefficients))
        self.wide_open = None if wide_open is None else nn.Parameter(torch.tensor(wide_open))
        self.center = nn.Parameter(torch.tensor(center))
        self.f_number = f_number

    def forward(self, size: Sequence[int], f_number: Tensor | None = None) -> Float[Tensor, "C H W"]:
        """Factors for a whole picture.

        Args:
            size: its height and width, px.
            f_number: of the picture; None: wide open.
        """
        height, width = size
        half = math.hypot(width, height) / 2
        like = self.coefficients
        x = (torch.arange(width).to(like) + 0.5 - width / 2) / half - self.center[0]
        y = (torch.arange(height).to(like) + 0.5 - height / 2) / half - self.center[1]
        squared = x.square()[None] + y.square()[:, None]
        total = like
        if self.wide_open is not None:
            assert self.f_number is not None
            wide = 1.0 if f_number is None else opening(self.f_number, f_number)
            total = like + wide * self.wide_open
        return falloff(squared, total[:, :, None, None].unbind(1)).clamp_min(DARKEST)


def opening(widest: float, f_number: Any) -> Any:
    """s of `Vignette`: the aperture's area over that at the smallest f-number; of numbers or tensors."""
    area = (widest / f_number) ** 2
    return area.clamp_max(1) if isinstance(area, Tensor) else min(1.0, area)


def falloff(squared: Any, coefficients: Iterable[Any]) -> Any:
    """1 + a1 r^2 + a2 r^4 + a3 r^6, of numpy's or torch's numbers r^2."""
    a1, a2, a3 = coefficients
    return 1 + squared * (a1 + squared * (a2 + squared * a3))


class Response(nn.Module):
    """From linear light to pixel values: the sRGB curve, then a monotone curve with (0) = 0 and (1) = 1.

    The latter is piecewise linear between `knots` values at even steps; it is kept as the logarithms of its
    steps, so that it is monotone whatever training does.

    Args:
        knots: (n + 1,) pixel values, rising from 0 to 1; two for none but sRGB.
    """

    def __init__(self, knots: Sequence[float] = (0.0, 1.0)) -> None:
        super().__init__()
        values = torch.tensor(knots, dtype=torch.float64)
        self.log_steps = nn.Parameter((values[1:] - values[:-1]).log().float())

    @classmethod
    def linear(cls, steps: int = 64) -> "Response":
        """Pixel values are light; exact at the knots."""
        return cls(to_linear(torch.linspace(0, 1, steps + 1, dtype=torch.float64)).tolist())

    def knots(self) -> Float[Tensor, " n"]:
        steps = self.log_steps.softmax(0).cumsum(0)
        return torch.cat([torch.zeros_like(steps[:1]), steps])

    def forward(self, light: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """Pixel values in [0, 1] of light >= 0; what is above 1 is white."""
        encoded = to_srgb(light.clamp(0, 1))
        return encoded if len(self.log_steps) == 1 else _between(encoded, self.knots())

    @torch.no_grad()
    def inverse(self, values: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """Light of pixel values in [0, 1]."""
        knots = self.knots().to(values)
        upper = torch.searchsorted(knots, values.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[upper - 1], knots[upper]
        return to_linear((upper - 1 + (values - low) / (high - low)) / (len(knots) - 1))


def _between(x: Float[Tensor, "*P"], knots: Float[Tensor, " n"]) -> Float[Tensor, "*P"]:
    """Linear interpolation at x in [0, 1] of values at even steps."""
    place = x * (len(knots) - 1)
    index = place.detach().long().clamp_max(len(knots) - 2)
    low = knots[index]
    return low + (place - index) * (knots[index + 1] - low)
