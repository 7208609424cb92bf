"""Where Gaussians are added and removed: 3DGS's rules (Kerbl et al. 2023) on gsplat's operations.

gsplat's `DefaultStrategy` itself is not used: its opacity reset never fires (`== 0 & step > 0` binds
the wrong way), and it fixes the order in which a cap on the number could be respected.
"""

import torch
from gsplat.strategy.ops import duplicate, remove, split
from torch import Tensor

from cocogs.config import StrategyConfig
from cocogs.gaussians import Gaussians, keep_largest
from cocogs.optics.model import Photo

Optimizers = dict[str, torch.optim.Optimizer]


class Densification:
    """Adds Gaussians where the image pulls hard on them, removes those that do not show.

    State: `gradient` (N,) sum over steps of the pixels' pull at the projected mean, in halves of the longer
    side; `seen` (N,) number of steps in which the Gaussian was drawn. Both travel in the checkpoint.
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
        """Whether a step's gradients will be asked for."""
        return step <= self.end

    @torch.no_grad()
    def observe(self, photo: Photo) -> None:
        """Take note of one step's gradients, after backward, if there are any. Sets add up: they share the
        Gaussian."""
        if photo.probe.grad is None:
            return
        height, width = photo.image.shape[1:]
        pull = photo.probe.grad.sum(0).norm(dim=-1) * (max(width, height) / 2)
        drawn = (photo.render.radii > 0).any(0)
        self.gradient += torch.where(drawn, pull, 0)
        self.seen += drawn

    @torch.no_grad()
    def edit(self, step: int, gaussians: Gaussians, optimizers: Optimizers) -> bool:
        """Every so many steps: duplicate small, split large, remove faint and oversized Gaussians. Whether it
        was time; parameters and optimizers have new tensors then."""
        if not (self.begin < step <= self.end and step % self.config.every == 0):
            return False
        params = {name: getattr(gaussians, name) for name in gaussians.names}
        mean = self.gradient / self.seen.clamp_min(1)
        # Faint ones go first: sharing its opacity would make a growing one look faint.
        gone = self._superfluous(params, mean)
        if gone.any():
            remove(params=params, optimizers=optimizers, state={}, mask=gone)
        self._grow(params, optimizers, mean[~gone])
        for name, value in params.items():
            setattr(gaussians, name, value)
        self.gradient, self.seen = (self.gradient.new_zeros(len(gaussians)) for _ in range(2))
        return True

    def _superfluous(self, params: dict[str, torch.nn.Parameter], mean: Tensor) -> Tensor:
        """Mask (N,) of those to remove, given the mean gradients (N,)."""
        opacities = params["opacities"].sigmoid()
        oversized = params["scales"].exp().amax(1) > self.config.max_scale * self.extent
        gone = (opacities < self.config.min_opacity) | oversized
        if gone.all():
            return torch.zeros_like(gone)
        # Where the cap leaves no room, the faintest of those that ask for nothing make some.
        asking = (mean > self.config.gradient) & ~gone
        room = self.config.max_gaussians - int((~gone).sum())
        asked = min(int(asking.sum()), int(self.config.turnover * self.config.max_gaussians))
        if 0 <= room < asked:
            idle = ~gone & ~asking
            missing = min(asked - room, int(idle.sum()))
            gone |= keep_largest(torch.where(idle, -opacities, -torch.inf), missing)
        return gone

    def _grow(self, params: dict[str, torch.nn.Parameter], optimizers: Optimizers, mean: Tensor) -> None:
        count = len(params["means"])
        room = self.config.max_gaussians - count
        if room <= 0:
            return
        wanted = mean > self.config.gradient
        if wanted.sum() > room:  # the cap goes to those that need it most
            wanted = keep_largest(mean, room)
        large = params["scales"].exp().amax(1) > self.config.split_scale * self.extent
        copied = wanted & ~large
        share_opacity(params["opacities"], wanted)
        duplicate(params=params, optimizers=optimizers, state={}, mask=copied)
        divided = torch.cat([wanted & large, wanted.new_zeros(int(copied.sum()))])
        split(params=params, optimizers=optimizers, state={}, mask=divided)

    def state_dict(self) -> dict[str, Tensor]:
        return {"gradient": self.gradient, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.gradient, self.seen = (state[name].to(self.gradient.device) for name in ("gradient", "seen"))


def share_opacity(opacities: torch.nn.Parameter, mask: Tensor) -> None:
    """Lower masked opacities so that two of each let as much light through as one did before.

    o -> 1 - sqrt(1 - o) (Rota Bulo et al. 2024). Without it every duplication darkens what lies behind.
    """
    opacity = opacities[mask].sigmoid().clamp(1e-4, 1 - 1e-4)
    opacities[mask] = torch.logit(1 - torch.sqrt(1 - opacity))
