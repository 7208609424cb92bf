"""The blend CNN: S renders -> S weights per pixel -> one defocused photo (METHOD.md 3.6)."""

import torch
from torch import Tensor, nn

from cocogs.device import bf16_where_fast


class BlendNet(nn.Module):
    """A shallow CNN that gives every render one logit per pixel; softmax over the renders.

    With `paper=True` the layers of the paper's code: 3 -> 64 (5x5) -> 64 (3x3) -> 1, ReLU and
    instance norm. Otherwise 3 -> `channels` -> `channels` -> 1, all 3x3, without norm, whose last
    layer starts at zero: the blend starts as the plain mean, which is what a lens does.
    Gradients stop at the input: the weights follow the renders, they do not shape them.
    """

    def __init__(self, channels: int, paper: bool = False) -> None:
        super().__init__()
        first = 5 if paper else 3

        def norm() -> nn.Module:
            return nn.InstanceNorm2d(channels) if paper else nn.Identity()

        self.features = nn.Sequential(
            nn.Conv2d(3, channels, first, padding=first // 2),
            nn.ReLU(),
            norm(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            norm(),
        )
        self.logit = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        if not paper:
            nn.init.zeros_(self.logit.weight)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, renders: Tensor) -> Tensor:
        """Blend (S, 3, H, W) into (3, H, W)."""
        images = renders.detach().contiguous(memory_format=torch.channels_last)
        # The weights of a mean need no more precision than bf16 has.
        with bf16_where_fast(images.device):
            logits = self.logit(self.features(images))
        return (renders * logits.float().softmax(0)).sum(0)
