"""Learned quantities of the training photos: focus distance, aperture, softness.

They are one family. Training registers, moves, penalises, shows and saves every `PerPhoto` of a model alike;
docs/how-to-add.md tells how to add one. `optics/photometric.py` holds more.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from cocogs.config import OptimConfig
from cocogs.optics.noted_focus import NotedFocus, better_line, robust_cost

MIN_VERGENCE = 1e-3  # of typical depth / z_f: a focus farther away than that is as good as infinity


PhotoIndex = int | Int64[Tensor, "1"]
"""The number of a training photo; a tensor on the device where a recorded step finds one after another."""


def of_photo(values: Shaped[Tensor, "V ..."], index: PhotoIndex) -> Shaped[Tensor, "..."]:
    """What a photo has of values that all photos have."""
    # Not values[index], which would wait for a device to tell the number.
    return values.index_select(0, index)[0] if isinstance(index, Tensor) else values[index]


class PerPhoto(nn.Module):
    """A learned quantity of V training photos. A subclass holds its parameters and says how to train them.

    `name` is the name of its optimizer; `OptimConfig` has a learning rate of the same name.
    """

    name: ClassVar[str]

    def rate(self, optim: OptimConfig, progress: float) -> float:
        """The learning rate at `progress`, in [0, 1] of the run. By default that of a part of the lens: 0
        while the scene still forms, then it falls exponentially to 0.1 %."""
        return 0.0 if progress < optim.lens_from else getattr(optim, self.name) * 0.001**progress

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        """What a step on training photo `index` adds to the loss."""
        return 0.0

    def keep_possible(self) -> None:
        """Move impossible values back, after every step. Clamping values when they are read instead would
        leave them without a gradient, for good."""

    def shown(self) -> dict[str, list[float]]:
        """What is worth a curve: for every name V numbers, or a single one where the photos share it."""
        return {}


class Focus(PerPhoto):
    """Focus distance z_f of every photo, kept as `vergence` (V,) = typical depth / z_f.

    Vergence has no unit, so that one learning rate suits every scene, and blur grows evenly in it.

    Where cameras noted focus distances that agree with the photos, a price keeps vergence near a line through
    them. The `line` follows the photos, so that they are free to move together.

    Args:
        distances: start values > 0, scene units; infinity is allowed.
        typical_depth: scene units; makes `vergence` about 1.
        noted: what cameras noted of these photos; None: nothing to believe.
    """

    name = "vergence"

    def __init__(
        self, distances: Float[Tensor, " V"], typical_depth: float, noted: NotedFocus | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("typical_depth", torch.tensor(float(typical_depth)))
        self.vergence = nn.Parameter((typical_depth / distances.float()).clamp_min(MIN_VERGENCE))
        vergence, line, unit, error = torch.full_like(distances, math.nan), torch.tensor([1.0, 0.0]), 1.0, 1.0
        if noted is not None:
            vergence, line, unit, error = noted.vergence, noted.line, noted.unit * typical_depth, noted.error
        self.register_buffer("line", line.float())
        self.register_buffer("noted", vergence.float().nan_to_num(0.0))
        self.register_buffer("is_noted", (~vergence.isnan()).float())
        self.register_buffer("noted_unit", torch.tensor(unit))
        self.register_buffer("noted_error", torch.tensor(error))

    typical_depth: Float[Tensor, ""]
    line: Float[Tensor, "2"]
    noted: Float[Tensor, " V"]
    is_noted: Float[Tensor, " V"]
    noted_unit: Float[Tensor, ""]
    noted_error: Float[Tensor, ""]

    @property
    def distances(self) -> Float[Tensor, " V"]:
        """In scene units."""
        return self.typical_depth / self.vergence

    def distance(self, index: PhotoIndex) -> Float[Tensor, ""]:
        return self.typical_depth / of_photo(self.vergence, index)

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        scale, offset = self.line
        noted, is_noted = of_photo(self.noted, index), of_photo(self.is_noted, index)
        off = of_photo(self.vergence, index) / self.noted_unit - (scale * noted + offset)
        return optim.noted_price * is_noted * robust_cost(off / self.noted_error)

    @torch.no_grad()
    def keep_possible(self) -> None:
        self.vergence.clamp_(min=MIN_VERGENCE)
        found = self.vergence / self.noted_unit
        self.line.copy_(better_line(self.line, self.noted, found, self.is_noted, self.noted_error))

    def shown(self) -> dict[str, list[float]]:
        return {"focus_distance": self.distances.tolist()}


class Aperture(PerPhoto):
    """K (px x scene unit) of every photo, kept as its logarithm.

    Args:
        K: start value > 0, of the first photo.
        ratios: (V,) K of every photo over that of the first, where one lens is set differently from photo to
            photo: by its focal length in px, and by its f-number where EXIF tells it.
        per_photo: learn a K for every photo instead of one for all; the ratios then are start values.
        held: how much a price keeps K near its start value (see `OptimConfig.K_prior`): 0 not at all, 1 where
            the start was searched for, more where it is surer. At least 1 with `per_photo`.
    """

    name = "log_K"

    def __init__(
        self, K: float, ratios: Float[Tensor, " V"], per_photo: bool = False, held: float = 1.0
    ) -> None:
        super().__init__()
        start = math.log(K)
        self.log_K = nn.Parameter(torch.full((len(ratios) if per_photo else 1,), start))
        self.register_buffer("log_start", torch.tensor(start))
        self.register_buffer("ratios", ratios.float())
        self.register_buffer("held", torch.tensor(float(held)))

    log_start: Float[Tensor, ""]
    ratios: Float[Tensor, " V"]
    held: Float[Tensor, ""]

    @property
    def is_told(self) -> bool:
        """Whether the photos tell K: those that differ little in focus leave it where it started."""
        return not self.held

    def K(self, index: PhotoIndex) -> Float[Tensor, ""]:
        log_K = self.log_K[0] if len(self.log_K) == 1 else of_photo(self.log_K, index)
        return log_K.exp() * of_photo(self.ratios, index)

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        held = self.held if len(self.log_K) == 1 else self.held.clamp_min(1)
        return optim.K_prior * held * (self.log_K - self.log_start).square().mean()

    def shown(self) -> dict[str, list[float]]:
        return {"K": self.log_K.exp().tolist()}


class Softness(PerPhoto):
    """Variance (px^2, >= 0) of what blurs all of a photo alike, near and far: a hand that shook.

    Without it the focus of a shaken photo flees from what the photo shows, to either side. It has a price, so
    that sharp photos stay at exactly 0: where all photos are a little soft, the scene is.
    """

    name = "softness"

    def __init__(self, photos: int) -> None:
        super().__init__()
        self.variance = nn.Parameter(torch.zeros(photos))

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        return optim.softness_price * of_photo(self.variance, index)

    @torch.no_grad()
    def keep_possible(self) -> None:
        self.variance.clamp_(min=0)

    def shown(self) -> dict[str, list[float]]:
        return {"softness_px": self.variance.sqrt().tolist()}
