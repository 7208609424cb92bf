"""The noise of a sensor: shot, read and dark noise, and a fixed pattern; seeded."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FIXED_SEED = 1 << 40  # of the fixed pattern: the sensor's, the same in every picture


@dataclass(frozen=True)
class Noise:
    """Of pixel values before the response, in parts of white.

    A pixel that gathers E shows E + D t + n sqrt(g (E + D t)) + m r + F p: n, m and F are normal, n and m
    anew in every picture, F the same in all.

    Args:
        shot_gain: g, variance over mean: 1 / the electrons that make white.
        read_noise: r, standard deviation.
        dark_current: D, per second of the shutter time t.
        fixed_pattern: p, standard deviation.
    """

    shot_gain: float = 0.0
    read_noise: float = 0.0
    dark_current: float = 0.0
    fixed_pattern: float = 0.0

    def __call__(
        self, exposed: Float[Tensor, "3 H W"], shutter: Tensor | float, seed: int
    ) -> Float[Tensor, "3 H W"]:
        """A noisy picture. The same seed gives the same noise; the noise keeps the gradients of its strength.

        Args:
            exposed: >= 0, 1 is white; it is not clipped.
            shutter: seconds.
        """
        fresh = _normal(exposed, seed, 2)
        light = exposed + self.dark_current * shutter
        spread = (self.shot_gain * light).clamp_min(1e-12).sqrt()  # finite slope in the dark
        noisy = light + fresh[0] * spread + fresh[1] * self.read_noise
        if self.fixed_pattern:
            noisy = noisy + _normal(exposed, FIXED_SEED, 1)[0] * self.fixed_pattern
        return noisy


def _normal(like: Float[Tensor, "3 H W"], seed: int, count: int) -> Float[Tensor, "{count} 3 H W"]:
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers on every device
    return torch.randn(count, *like.shape, generator=generator).to(like)
