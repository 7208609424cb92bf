"""The paper's blend CNN: how much each of S renders counts at each pixel of a defocused photo."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.device import bf16_where_fast


class BlendNet(nn.Module):
    """A shallow CNN that gives every render one logit per pixel; softmax over the renders.

    The layers of the paper's code: 3 -> 64 (5x5) -> 64 (3x3) -> 1, ReLU and instance norm. Gradients stop at
    the input: the weights follow the renders and do not shape them.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()

        def norm() -> nn.Module:
            # Of one picture this is instance norm; torch's own would copy it into another layout and back.
            return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)

        self.features = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2),
            nn.ReLU(inplace=True),
            norm(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            norm(),
        )
        self.logit = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, renders: Float[Tensor, "S 3 H W"]) -> Float[Tensor, "S 1 H W"]:
        """Weights of the renders; they sum to 1."""
        # The weights of a mean need no more precision than bf16 has.
        with bf16_where_fast(renders.device):
            images = renders.detach().contiguous(memory_format=torch.channels_last)
            # One at a time: each is normalised by itself.
            logits = torch.cat([self.logit(self.features(image)) for image in images.split(1)]).float()
        return logits.softmax(0)
