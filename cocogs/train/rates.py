"""What moves the parameters of a model, and how fast.

The rates of `OptimConfig` are for steps of one photo. A step of B photos takes their mean gradient, and uses
rates times sqrt(B), Adam's betas to the power of B and its eps / sqrt(B) (docs/many-gpus.md has the sources).
Then Adam remembers as many photos as with B = 1, and what photos pull to and fro moves as far per photo seen.
"""

import math

import torch

from cocogs.config import Config, OptimConfig
from cocogs.gaussians import Gaussians
from cocogs.optics.model import DefocusModel
from cocogs.plain_torch import Adam


def make_optimizers(model: DefocusModel, config: Config, extent: float) -> dict[str, torch.optim.Optimizer]:
    """One Adam per Gaussian parameter (densification edits them by name), one per quantity of the photos, and
    one for the networks of the lens.

    Args:
        extent: size of the scene, scene units.
    """
    optim, scale = config.optim, math.sqrt(config.optim.batch)
    betas = (0.9**optim.batch, 0.999**optim.batch)
    groups: dict[str, tuple[list[torch.nn.Parameter], float]] = {
        name: ([getattr(model.gaussians, name)], getattr(optim, name)) for name in Gaussians.names
    }
    groups["means"] = (groups["means"][0], optim.means * extent)
    photos = {part.name: [p for p in part.parameters() if p.requires_grad] for part in model.per_photo}
    groups |= {name: (params, getattr(optim, name)) for name, params in photos.items() if params}
    known = {id(p) for params in photos.values() for p in params}
    networks = [p for p in model.lens.parameters() if p.requires_grad and id(p) not in known]
    if networks:
        groups["network"] = (networks, optim.network)
    return {
        name: Adam(
            [{"params": params, "lr": scale * rate, "name": name}], betas=betas, eps=1e-15 / scale, fused=True
        )
        for name, (params, rate) in groups.items()
    }


def rates_at(progress: float, model: DefocusModel, optim: OptimConfig, extent: float) -> dict[str, float]:
    """Learning rates that change, at `progress` in [0, 1] of the run, by the names of their optimizers; also
    of optimizers that a model has no use for.

    They fall exponentially: positions to 1 %, networks to 10 %, quantities of the photos as they say.
    """
    rates = {"means": optim.means * extent * 0.01**progress}
    rates |= {part.name: part.rate(optim, progress) for part in model.per_photo}
    rates |= {"network": optim.network * 0.1**progress}
    return {name: math.sqrt(optim.batch) * rate for name, rate in rates.items()}


def check_remembered(name: str, optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError unless what an optimizer remembers, after loading, fits its parameters."""
    for parameter in optimizer.param_groups[0]["params"]:
        for value in optimizer.state.get(parameter, {}).values():
            if value.shape not in ((), parameter.shape):
                raise ValueError(f"the memory of optimizer {name} does not fit")
