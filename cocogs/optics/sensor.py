"""The noise of a sensor: shot, read and dark noise, and a fixed pattern; seeded."""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io.camera_file import Noise

FIXED_SEED = 1 << 40  # of the fixed pattern: the sensor's, the same in every picture


def add_noise(
    exposed: Float[Tensor, "3 H W"], noise: Noise, shutter: Tensor | float, seed: int
) -> Float[Tensor, "3 H W"]:
    """A noisy picture. The same seed gives the same noise; what is exposed keeps its gradients.

    Args:
        exposed: >= 0, 1 is white; it is not clipped.
        shutter: seconds.
    """
    fresh = _normal(exposed, seed, 2)
    light = exposed + noise.dark_current * shutter
    spread = (noise.shot_gain * light).clamp_min(1e-12).sqrt()  # finite slope in the dark
    noisy = light + fresh[0] * spread + fresh[1] * noise.read_noise
    if noise.fixed_pattern:
        noisy = noisy + _normal(exposed, FIXED_SEED, 1)[0] * noise.fixed_pattern
    return noisy


def _normal(like: Float[Tensor, "3 H W"], seed: int, count: int) -> Float[Tensor, "{count} 3 H W"]:
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers on every device
    return torch.randn(count, *like.shape, generator=generator).to(like)
