"""Where Gaussians are added and removed during training: the rules of 3DGS (Kerbl et al. 2023), with a cap on
their number. `surgery` carries them out."""

import torch
from torch import Tensor

from cocogs.checkpoint import fitting
from cocogs.config import StrategyConfig
from cocogs.gaussians import Gaussians, keep_largest
from cocogs.optics.model import Photo
from cocogs.train.surgery import Optimizers, halves, keep_and_append


class Densification:
    """Adds Gaussians where the photos pull hard on them and removes those that do not show.

    State: `gradient` (N,), the sum over steps of the pull of the pixels at the projected mean, as a gradient
    by positions in units of half the longer side; `seen` (N,), the number of steps in which the Gaussian was
    drawn. Both are saved in the checkpoint.
    """

    def __init__(
        self,
        config: StrategyConfig,
        iterations: int,
        extent: float,
        count: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.extent = config, extent
        self.begin, self.end = int(config.begin * iterations), int(config.end * iterations)
        self.gradient, self.seen = torch.zeros(count, device=device), torch.zeros(count, device=device)

    def observes(self, step: int) -> bool:
        """Whether `observe` needs the gradients of this step."""
        return step <= self.end

    @torch.no_grad()
    def observe(self, photo: Photo) -> None:
        """Note the gradients of one step, after backward, if there are any. The sets of a photo add up, for
        they share their Gaussians."""
        if photo.probe.grad is None:
            return
        height, width = photo.image.shape[1:]
        pull = photo.probe.grad.sum(0).norm(dim=-1) * (max(width, height) / 2)
        drawn = (photo.render.radii > 0).any(0)
        self.gradient += torch.where(drawn, pull, 0)
        self.seen += drawn

    @torch.no_grad()
    def edit(self, step: int, gaussians: Gaussians, optimizers: Optimizers) -> bool:
        """Every `config.every` steps: remove faint and oversized Gaussians, duplicate small ones, split large
        ones. Returns whether this was such a step; parameters and optimizers then hold new tensors."""
        if not (self.begin < step <= self.end and step % self.config.every == 0):
            return False
        mean = self.gradient / self.seen.clamp_min(1)
        # Faint ones go first: a growing one shares its opacity and would then look faint.
        gone = self._superfluous(gaussians, mean)
        if gone.any():
            keep_and_append(gaussians, optimizers, indices(~gone))
        self._grow(gaussians, optimizers, mean[~gone])
        self.gradient, self.seen = (self.gradient.new_zeros(len(gaussians)) for _ in range(2))
        return True

    def _superfluous(self, gaussians: Gaussians, mean: Tensor) -> Tensor:
        """Mask (N,) of those to remove, given the mean gradients (N,)."""
        _, _, scales, opacities = gaussians.activated()
        oversized = scales.amax(1) > self.config.max_scale * self.extent
        gone = (opacities < self.config.min_opacity) | oversized
        if gone.all():
            return torch.zeros_like(gone)
        # Where the cap leaves too little room, the faintest of those that ask for nothing make some.
        asking = (mean > self.config.gradient) & ~gone
        room = self.config.max_gaussians - int((~gone).sum())
        asked = min(int(asking.sum()), int(self.config.turnover * self.config.max_gaussians))
        if 0 <= room < asked:
            idle = ~gone & ~asking
            missing = min(asked - room, int(idle.sum()))
            gone |= keep_largest(torch.where(idle, -opacities, -torch.inf), missing)
        return gone

    def _grow(self, gaussians: Gaussians, optimizers: Optimizers, mean: Tensor) -> None:
        """Duplicate or split those with large mean gradients (N,), as far as the cap allows."""
        room = self.config.max_gaussians - len(gaussians)
        if room <= 0:
            return
        wanted = mean > self.config.gradient
        if wanted.sum() > room:  # those that need it most come first
            wanted = keep_largest(mean, room)
        large = gaussians.scales.exp().amax(1) > self.config.split_scale * self.extent
        share_opacity(gaussians.opacities, wanted)
        new = Gaussians.joined([gaussians[wanted & ~large], halves(gaussians[wanted & large])])
        keep_and_append(gaussians, optimizers, indices(~(wanted & large)), new)

    def state_dict(self) -> dict[str, Tensor]:
        return {"gradient": self.gradient, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises what `UNFIT` of cocogs.checkpoint holds where the state does not fit."""
        self.gradient = fitting(state["gradient"], self.gradient, "gradient")
        self.seen = fitting(state["seen"], self.seen, "seen")


def indices(mask: Tensor) -> Tensor:
    """Positions (K,) where a mask (N,) is true."""
    return mask.nonzero()[:, 0]


def share_opacity(opacities: Tensor, mask: Tensor) -> None:
    """Lower the masked opacities so that two Gaussians let as much light through as one did before.

    o -> 1 - sqrt(1 - o) (Rota Bulo et al. 2024). Without it every duplication darkens what lies behind.
    """
    opacity = opacities[mask].sigmoid().clamp(1e-4, 1 - 1e-4)
    opacities[mask] = torch.logit(1 - torch.sqrt(1 - opacity))
