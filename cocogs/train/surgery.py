"""Adding and removing Gaussians during training: the parameters and Adam's memory of them change together."""

import torch
from torch import Tensor, nn

from cocogs.gaussians import Gaussians, rotation_matrices

Optimizers = dict[str, torch.optim.Optimizer]

SHRINK = 1.6
"""By how much the two halves of a split Gaussian are smaller than it was (Kerbl et al. 2023, section 5.2)."""


@torch.no_grad()
def keep_and_append(
    gaussians: Gaussians, optimizers: Optimizers, kept: Tensor, new: Gaussians | None = None
) -> None:
    """Keep some Gaussians with Adam's memory of them, and append new ones, of which Adam remembers nothing.

    Parameters become new tensors, in the module and in the optimizers.

    Args:
        optimizers: one for each of `Gaussians.names`, and perhaps others, which stay as they are.
        kept: (K,) indices of those that stay, in their new order.
        new: appended after them.
    """
    for name in Gaussians.names:
        old = getattr(gaussians, name)
        added = [] if new is None else [getattr(new, name)]
        value = nn.Parameter(torch.cat([old[kept], *added]))
        setattr(gaussians, name, value)
        optimizer = optimizers[name]
        [group] = optimizer.param_groups
        group["params"] = [value]
        if old in optimizer.state:  # not before the first step
            memory = optimizer.state.pop(old)
            optimizer.state[value] = {
                key: _extended(entry, old, kept, value) for key, entry in memory.items()
            }


def _extended(memory: Tensor, old: Tensor, kept: Tensor, value: Tensor) -> Tensor:
    """One entry of Adam's memory: of the kept Gaussians as it was, of the new ones zero. An entry that is one
    number for all, such as the step, stays."""
    if memory.shape != old.shape:
        return memory
    extended = torch.zeros_like(value, dtype=memory.dtype)
    extended[: len(kept)] = memory[kept]
    return extended


@torch.no_grad()
def halves(gaussians: Gaussians) -> Gaussians:
    """Two smaller Gaussians for each of N, drawn from it: first one half of all, then the other.

    Positions are samples of the Gaussian as a density. Standard deviations are divided by `SHRINK`. All else
    is kept. The samples come from torch's global generator.
    """
    twice = Gaussians.joined([gaussians, gaussians])
    scales = gaussians.scales.exp()
    normal = torch.randn(2, *scales.shape, device=scales.device)
    axes = rotation_matrices(nn.functional.normalize(gaussians.quats, dim=-1))
    steps = torch.einsum("nij,nj,hnj->hni", axes, scales, normal)
    twice.means += steps.flatten(0, 1)
    twice.scales.copy_((scales / SHRINK).log().repeat(2, 1))
    return twice
