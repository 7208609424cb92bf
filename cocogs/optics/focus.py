"""What the camera was set to, and how still it was held: a focus distance and a softness per photo, and the
aperture; learned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

MIN_VERGENCE = 1e-3  # of typical depth / z_f: farther is as good as infinity


class FocusPlanes(nn.Module):
    """Focus distance z_f of every training photo and aperture K of the camera, learned.

    Kept as the unitless numbers that behave well under one learning rate in every scene:
    `vergence` (V,) = typical depth / z_f, and `log_K` (1,) or, per photo, (V,).

    `softness` (V,) is the variance, px^2 and never negative, of what blurs all of a photo alike, near and
    far: a hand that shook. Without it such a photo's focus flees from what it shows, to either side.
    """

    def __init__(
        self,
        focus_distances: Float[Tensor, " V"],
        K: float,
        typical_depth: float,
        per_photo_aperture: bool = False,
        held: bool = True,
        zoom: Float[Tensor, " V"] | None = None,
    ) -> None:
        """
        Args:
            focus_distances: start values > 0 in scene units.
            K: start value > 0, px x scene unit.
            typical_depth: scene units; makes `vergence` about 1.
            per_photo_aperture: one K for every photo instead of one for all.
            held: training keeps K near its start value (see `OptimConfig.K_prior`).
            zoom: focal length of every photo, in px, over that which K is for; None: they are the same. One
                opening gives circles that grow with the focal length.
        """
        super().__init__()
        self.register_buffer("typical_depth", torch.tensor(float(typical_depth)))
        self.vergence = nn.Parameter((typical_depth / focus_distances.float()).clamp_min(MIN_VERGENCE))
        count = len(focus_distances) if per_photo_aperture else 1
        self.log_K = nn.Parameter(torch.full((count,), math.log(K)))
        self.register_buffer("log_start", torch.tensor(math.log(K)))
        self.register_buffer("held", torch.tensor(float(held)))
        self.softness = nn.Parameter(torch.zeros(len(focus_distances)))
        self.register_buffer("zoom", torch.ones(len(focus_distances)) if zoom is None else zoom.float())

    zoom: Float[Tensor, " V"]
    typical_depth: Float[Tensor, ""]
    log_start: Float[Tensor, ""]
    held: Float[Tensor, ""]

    @property
    def focus_distances(self) -> Float[Tensor, " V"]:
        """In scene units."""
        return self.typical_depth / self.vergence

    def focus_distance(self, view_index: int) -> Float[Tensor, ""]:
        return self.focus_distances[view_index]

    def K(self, view_index: int) -> Float[Tensor, ""]:
        """K of one photo, px x scene unit."""
        own = len(self.log_K) > 1
        return self.log_K[view_index if own else 0].exp() * self.zoom[view_index]

    @torch.no_grad()
    def keep_possible(self) -> None:
        """After a step: nothing is focused beyond infinity, and no photo is sharper than sharp. The numbers
        themselves are held there, since what only reads them so would leave them without a gradient."""
        self.vergence.clamp_(min=MIN_VERGENCE)
        self.softness.clamp_(min=0)
