"""Where Gaussians are added and removed during training: the rules of 3DGS (Kerbl et al. 2023), with a cap on
their number. `surgery` carries them out."""

from collections.abc import Callable

import torch
from torch import Tensor

from cocogs.checkpoint import fitting
from cocogs.config import StrategyConfig
from cocogs.gaussians import Gaussians, keep_largest, z_curve_order
from cocogs.optics.model import Photo
from cocogs.train.surgery import Optimizers, halves, keep_and_append

SORTED_FROM = 200_000
"""Fewer Gaussians fit a processor's cache. More are drawn in half the time where neighbours in space are
neighbours in memory (docs/benchmarks.md)."""
SOWN_UNTIL = 0.6
"""Share of the time in which Gaussians are added: what is sown needs time to grow or fade."""


class Densification:
    """Adds Gaussians where the photos pull hard on them and removes those that do not show.

    State: `gradient` (N,), the sum over photos of the pull of the pixels at the projected mean, as a gradient
    by positions in units of half the longer side; `seen` (N,), the number of photos in which the Gaussian was
    drawn. Both are saved in the checkpoint.

    Args:
        count: N.
        batch: photos of a step.
        shared: whether other processes observe too. Then `observe` adds to `fresh`, what this one saw of
            `gradient` and `seen` in a step; sum that over all of them, in place, before `settle`.
    """

    def __init__(
        self,
        config: StrategyConfig,
        iterations: int,
        extent: float,
        count: int,
        device: torch.device | str = "cpu",
        batch: int = 1,
        shared: bool = False,
    ) -> None:
        self.config, self.extent, self.batch, self.shared = config, extent, batch, shared
        self.begin, self.end = int(config.begin * iterations), int(config.end * iterations)
        self._hold(torch.zeros(count, device=device), torch.zeros(count, device=device))

    def _hold(self, gradient: Tensor, seen: Tensor) -> None:
        self.gradient, self.seen = gradient, seen
        self.fresh = [torch.zeros_like(gradient), torch.zeros_like(seen)] if self.shared else [gradient, seen]

    def observes(self, step: int) -> bool:
        """Whether `observe` needs the gradients of this step."""
        return step <= self.end

    @torch.no_grad()
    def observe(self, photo: Photo, share: float = 1.0) -> None:
        """Note the gradients of one photo, after backward, if there are any. The sets of a photo add up, for
        they share their Gaussians.

        Args:
            share: > 0, by which the photo's loss was multiplied.
        """
        if photo.probe.grad is None:
            return
        height, width = photo.image.shape[1:]
        pull = photo.probe.grad.sum(0).norm(dim=-1) * (max(width, height) / 2 / share)
        drawn = (photo.render.radii > 0).any(0)
        gradient, seen = self.fresh
        gradient += torch.where(drawn, pull, 0)
        seen += drawn

    @torch.no_grad()
    def settle(self) -> None:
        """Add what all saw in a step."""
        if self.shared:
            for total, fresh in zip((self.gradient, self.seen), self.fresh, strict=True):
                total += fresh
                fresh.zero_()

    @torch.no_grad()
    def edit(
        self,
        step: int,
        gaussians: Gaussians,
        optimizers: Optimizers,
        sow: Callable[[int], Gaussians] | None = None,
    ) -> bool:
        """Every `config.every` photos: remove faint and oversized Gaussians, duplicate small ones, split
        large ones, sow some where there is room. Returns whether it was time; parameters and optimizers then
        hold new tensors.

        Args:
            step: photos seen.
            sow: makes at most so many new Gaussians; None: none are sown.
        """
        if not (self.begin < step <= self.end and reaches(step, self.batch, self.config.every)):
            return False
        mean = self.gradient / self.seen.clamp_min(1)
        # Faint ones go first: a growing one shares its opacity and would then look faint.
        gone = self._superfluous(gaussians, mean)
        if gone.any():
            keep_and_append(gaussians, optimizers, indices(~gone))
        self._grow(gaussians, optimizers, mean[~gone])
        room = self.config.max_gaussians - len(gaussians)
        if sow is not None and room > 0 and step <= SOWN_UNTIL * self.end:
            new = sow(min(room, int(self.config.sown * self.config.max_gaussians)))
            everyone = torch.arange(len(gaussians), device=gaussians.means.device)
            keep_and_append(gaussians, optimizers, everyone, new)
        if len(gaussians) >= SORTED_FROM:
            keep_and_append(gaussians, optimizers, z_curve_order(gaussians.means))
        self._hold(self.gradient.new_zeros(len(gaussians)), self.seen.new_zeros(len(gaussians)))
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
        gradient, seen = (fitting(state[name], getattr(self, name), name) for name in ("gradient", "seen"))
        self._hold(gradient, seen)


def reaches(step: int, batch: int, every: int) -> bool:
    """Whether the last step, of `batch` photos up to photo `step`, came to or over a multiple of `every`. At
    0, before the first step, too."""
    return step // every > (step - batch) // every


def indices(mask: Tensor) -> Tensor:
    """Positions (K,) where a mask (N,) is true."""
    return mask.nonzero()[:, 0]


def share_opacity(opacities: Tensor, mask: Tensor) -> None:
    """Lower the masked opacities so that two Gaussians let as much light through as one did before.

    o -> 1 - sqrt(1 - o) (Rota Bulo et al. 2024). Without it every duplication darkens what lies behind.
    """
    opacity = opacities[mask].sigmoid().clamp(1e-4, 1 - 1e-4)
    opacities[mask] = torch.logit(1 - torch.sqrt(1 - opacity))
