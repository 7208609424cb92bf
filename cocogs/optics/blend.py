"""The blend CNN: how much each of S renders counts at each pixel of a defocused photo (docs/method.md)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.device import bf16_where_fast


class BlendNet(nn.Module):
    """A shallow CNN that gives every render one logit per pixel; softmax over the renders.

    With `paper=True` the layers of the paper's code: 3 -> 64 (5x5) -> 64 (3x3) -> 1, ReLU and
    instance norm. Otherwise 3 -> `channels` -> `channels` -> 1, all 3x3, without norm, at half the size:
    weights vary slowly, and a quarter of the pixels takes a quarter of the time. The last layer starts at
    zero, so that the blend starts as the plain mean, which is what a lens does.
    Gradients stop at the input: the weights follow the renders and do not shape them.
    """

    def __init__(self, channels: int, paper: bool = False) -> None:
        super().__init__()
        self.shrink, self.normed = (1, True) if paper else (2, False)
        first = 5 if paper else 3

        def norm() -> nn.Module:
            if not paper:
                return nn.Identity()
            # Of one picture this is instance norm; torch's own would copy it into another layout and back.
            return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)

        self.features = nn.Sequential(
            nn.Conv2d(3, channels, first, padding=first // 2),
            nn.ReLU(inplace=True),
            norm(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            norm(),
        )
        self.logit = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        if not paper:
            nn.init.zeros_(self.logit.weight)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, renders: Float[Tensor, "S 3 H W"]) -> Float[Tensor, "S 1 H W"]:
        """Weights of the renders; they sum to 1."""
        height, width = renders.shape[2:]
        images = F.avg_pool2d(renders.detach(), self.shrink, ceil_mode=True)
        # The weights of a mean need no more precision than bf16 has.
        with bf16_where_fast(images.device):
            images = images.contiguous(memory_format=torch.channels_last)
            # One at a time where they are normalised, each by itself.
            parts = images.split(1 if self.normed else len(images))
            logits = torch.cat([self.logit(self.features(part)) for part in parts]).float()
        if self.shrink > 1:
            logits = doubled(doubled(logits.contiguous(), 2), 3)[..., :height, :width]
        return logits.softmax(0)


def doubled(images: Float[Tensor, "*P"], dim: int) -> Float[Tensor, "*Q"]:
    """Twice as many pixels along an axis, each two thirds of its own and a third of the neighbour's.

    Almost bilinear; torch's own adds up in any order in its backward pass on a GPU.
    """
    first, last = images.narrow(dim, 0, 1), images.narrow(dim, -1, 1)
    inner = torch.cat([first, images, last], dim) / 3
    before, after = (inner.narrow(dim, start, images.shape[dim]) for start in (0, 2))
    own = images * (2 / 3)
    return torch.stack([own + before, own + after], dim + 1).flatten(dim, dim + 1)
