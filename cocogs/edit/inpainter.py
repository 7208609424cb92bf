"""Gaps of pictures painted by a diffusion model, from a folder. What it paints is generative."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.io.progress import Say
from cocogs.photo.apart import box_around
from cocogs.photo.stable_diffusion import StableDiffusion

WHERE = "huggingface.co/stable-diffusion-v1-5/stable-diffusion-inpainting, or a mirror of it, has them"
STEPS = 50  # from noise to picture
SEED = 0  # of the noise
AROUND = 1.0  # of a gap's longer side, that the model sees around it
LEAST = 16  # px of that


class Inpainter:
    """A Stable Diffusion that was trained to inpaint (Rombach et al., arXiv 2112.10752).

    Args:
        weights: folder of it (`cocogs.photo.stable_diffusion`). Nothing is downloaded.

    Raises:
        InputError: files or packages are missing, or they are of another network.
    """

    def __init__(self, weights: Path, say: Say = print) -> None:
        channels = 5  # the mask, and the latents of the picture without the gap
        self.model = StableDiffusion(weights, channels, STEPS, WHERE, say)

    @property
    def words(self) -> str:
        """Which model it is."""
        return f"{self.model.facts['model']} (sha256 {self.model.facts['weights_sha256']})"

    def __call__(self, picture: Float[Tensor, "3 H W"], gap: Bool[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
        """The picture with its gap painted, the same every time; all else stays as it is.

        Args:
            picture: sRGB in [0, 1].
        """
        if not bool(gap.any()):
            return picture
        box = box_around(gap, 0)
        longer = max(side.stop - side.start for side in box)
        box = box_around(gap, max(LEAST, round(AROUND * longer)))
        part, hole = picture[(slice(None), *box)], gap[box]
        result = picture.clone()
        result[(slice(None), *box)] = torch.where(hole, self._painted(part, hole), part)
        return result

    def _painted(self, picture: Float[Tensor, "3 h w"], gap: Bool[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
        model, shape = self.model, (int(gap.shape[0]), int(gap.shape[1]))
        size = model.size(*shape)
        hole = F.adaptive_max_pool2d(gap[None, None].float(), size)
        known = F.interpolate(picture[None], size, mode="bilinear", antialias=True)
        latent = model.encoded(torch.where(hole > 0, 0.5, known))
        hole = F.adaptive_max_pool2d(hole, latent.shape[2:]).to(latent)
        beside = torch.cat([hole, latent], 1)
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED))
        drawn = noise.to(latent)
        for number in range(STEPS - 1, -1, -1):
            drawn = model.stepped(drawn, beside, number, number, number - 1)
        return model.decoded(drawn, *shape)
