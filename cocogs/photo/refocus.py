"""A photo with depth through another lens than the one it was taken with.

Blur is added in layers of depth (`cocogs.optics.layers`): only the difference to the blur that the photo has.
Where the photo has more blur than it shall have, the difference must be taken away; that is left to a
network, or refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.optics.layers import blur_layers
from cocogs.optics.lens import Lens, PhotoLens
from cocogs.optics.sharpness import gaussian_blur
from cocogs.photo.deblur import Deblurring, load_deblurrer
from cocogs.photo.depth import depth_around
from cocogs.srgb import compress_highlights, expand_highlights

TOO_MUCH = 1.0  # px: a photo that has more blur by this diameter cannot count as having the right blur


Deblur = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes known blur away: from (3, H, W) light, (H, W) signed CoC diameters and where they are to become
sharp, to the sharp light and how much of it to take, in [0, 1]."""

DOUBTED, TRUSTED = (
    0.4,
    0.6,
)  # confidence up to which the photo stays as it is, from which the network's is taken
SOFTENED = 3.0  # px; deviation of the Gaussian that evens out where which is taken
AROUND = 64  # px


def by_network(whole: bool = False) -> Deblur:
    """DeblurNet, where it is sure enough.

    Args:
        whole: pass all of the photo through it at the first call, for films; else what is asked for and its
            surroundings.
    """
    done: Deblurring | None = None

    def deblur(light: Tensor, coc: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal done
        if done is None or not whole:
            done = load_deblurrer()(light, coc if whole else torch.where(_around(wanted), coc, 0))
        sure = ((done.confidence - DOUBTED) / (TRUSTED - DOUBTED)).clamp(0, 1)
        return done.light, gaussian_blur(sure[None], SOFTENED)[0]

    return deblur


def _around(places: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Places and at least `AROUND` px around them."""
    blocks = F.max_pool2d(places[None, None].float(), AROUND, ceil_mode=True)
    wide = F.max_pool2d(blocks, 3, stride=1, padding=1)
    height, width = places.shape
    return F.interpolate(wide, scale_factor=AROUND, mode="nearest")[0, 0, :height, :width] > 0


@dataclass(frozen=True)
class Refocused:
    """A photo through another lens.

    Args:
        light: linear; highlights are as bright as the photo's own.
        deblurred: where a network took blur away: invented.
        refused: where the photo keeps more blur than it was to have.
    """

    light: Float[Tensor, "3 H W"]
    deblurred: Bool[Tensor, "H W"]
    refused: Bool[Tensor, "H W"]

    @property
    def deblurred_share(self) -> float:
        """Of the picture."""
        return float(self.deblurred.float().mean())

    @property
    def refused_share(self) -> float:
        """Of the picture."""
        return float(self.refused.float().mean())


@dataclass(frozen=True)
class DepthPhoto:
    """A photo with depth, and the lens it was taken with.

    Args:
        light: linear, 1 is white.
        depth: along the optical axis, > 0; infinity is allowed. Its unit is that of all lengths here.
        focal_px: focal length in px.
        taken: the lens that the photo was taken with; None: it is sharp everywhere.
    """

    light: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    focal_px: float
    taken: PhotoLens | None = None

    def depth_at(self, x: float, y: float) -> float:
        """See `depth_around`."""
        return depth_around(self.depth, x, y)

    def resized(self, width: int, height: int) -> "DepthPhoto":
        """The same photo, shrunk to about its own shape."""
        size, scale = (height, width), width / self.depth.shape[1]
        light = F.interpolate(self.light[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        depth = F.interpolate(self.depth[None, None], size, mode="nearest-exact")[0, 0]
        taken = None if self.taken is None else replace(self.taken, K=self.taken.K * scale)
        return DepthPhoto(light.clamp_min(0), depth, self.focal_px * scale, taken)

    @torch.no_grad()
    def refocused(
        self, lens: Lens, deblur: Deblur | None = None, check: Callable[[float], None] = lambda share: None
    ) -> Refocused:
        """The photo as `lens` would have taken it.

        What gets more added blur lies in front. Where the photo has blur, that need not be what is nearer: at
        edges between things that the photo blurs very differently, the farther one may cover the nearer one.

        Args:
            deblur: takes blur away where the photo has too much; None: such places stay as they are.
            check: called now and then with the share that is drawn; may raise, to abandon the picture.

        Raises:
            InputError: the lens would blur by more than the picture's size.
        """
        K = torch.tensor(lens.aperture_diameter * self.focal_px)
        wanted = PhotoLens(torch.tensor(float(lens.focus_distance)), K).coc(self.depth)
        light, left, deblurred, refused = self.without_surplus(wanted, deblur)
        more = wanted.sign() * (wanted.square() - left.square()).clamp_min(0).sqrt()
        light = expand_highlights(light, lens.highlights)
        light = blur_layers(light, more, 0.0, lens.blades, lens.blade_rotation, check)
        return Refocused(compress_highlights(light, lens.highlights), deblurred, refused)

    def without_surplus(
        self, wanted: Float[Tensor, "H W"], deblur: Deblur | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Light, the diameter of the blur in it, and where blur was taken away and where that was refused.

        Args:
            wanted: diameters of the blur that there shall be in the end.
            deblur: as in `refocused`.
        """
        nowhere = torch.zeros_like(wanted, dtype=torch.bool)
        if self.taken is None:
            return self.light, torch.zeros_like(wanted), nowhere, nowhere
        coc = self.taken.coc(self.depth)
        surplus = (coc.square() - wanted.square()).clamp_min(0).sqrt()
        too_much = surplus > TOO_MUCH
        if not bool(too_much.any()):
            return self.light, coc, nowhere, nowhere
        if deblur is None:
            return self.light, coc, nowhere, too_much
        sharp, weight = deblur(self.light, coc, too_much)
        trusted = weight >= 0.5
        part = ((surplus - TOO_MUCH) / TOO_MUCH).clamp(0, 1) * weight
        light = torch.lerp(self.light, sharp, part)
        return light, coc * (1 - part), too_much & trusted, too_much & ~trusted
