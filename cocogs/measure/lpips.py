"""LPIPS (AlexNet, version 0.1), with weight files that the user provides; nothing is downloaded.

Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, CVPR 2018. The
features of five AlexNet layers are scaled to unit length at each pixel. LPIPS is their squared difference
with one learned weight per channel, averaged over the picture and summed over the layers.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.errors import InputError
from cocogs.train.losses import masked_mean

BACKBONE_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's name for its ImageNet weights
LINEAR_FILE = "alex.pth"  # from lpips/weights/v0.1 of the lpips package
SHORTEST_SIDE = 31  # px; AlexNet's pooling leaves nothing of smaller pictures
HOW_TO_GET = f"put torchvision's {BACKBONE_FILE} and the lpips package's weights/v0.1/{LINEAR_FILE} there"


class Lpips(nn.Module):
    """Distance between two pictures: 0 for equal ones, about 0.5 for very different ones."""

    def __init__(self) -> None:
        super().__init__()
        # The indices are AlexNet's own, so that torchvision's weights fit by name.
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        channels = [layer.out_channels for layer in self.features if isinstance(layer, nn.Conv2d)]
        self.weights = nn.ParameterList(torch.ones(count) for count in channels)
        # ImageNet's mean and standard deviation, for pictures in [-1, 1], as LPIPS defines them.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])

    shift: Tensor
    scale: Tensor

    @classmethod
    def from_folder(cls, folder: Path) -> "Lpips":
        """Read both weight files.

        Raises:
            InputError: a file is missing, damaged, or holds something else.
        """
        backbone, linear = _read(folder / BACKBONE_FILE), _read(folder / LINEAR_FILE)
        model = cls()
        try:
            features = {k: v for k, v in backbone.items() if k.startswith("features.")}
            weights = {f"weights.{i}": linear[f"lin{i}.model.1.weight"].flatten() for i in range(5)}
            buffers = {"shift": model.shift, "scale": model.scale}
            model.load_state_dict(features | weights | buffers)
        except (KeyError, RuntimeError, AttributeError, TypeError) as error:
            raise InputError(f"{folder} does not hold LPIPS weights for AlexNet: {HOW_TO_GET}.") from error
        return model.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """0-d distance between two (3, H, W) pictures in [0, 1]; mean over `mask` (H, W) if there is one.

        Raises:
            InputError: a side is shorter than `SHORTEST_SIDE`.
        """
        if min(a.shape[1:]) < SHORTEST_SIDE:
            raise InputError(
                f"LPIPS needs pictures of at least {SHORTEST_SIDE} px a side: leave `lpips_weights` out."
            )
        x = (torch.stack([a, b]) * 2 - 1 - self.shift) / self.scale
        total, level = x.new_zeros(()), 0
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
                distance = ((unit[0] - unit[1]).square() * self.weights[level][:, None, None]).sum(0)
                total, level = total + masked_mean(distance, _shrunk(mask, distance.shape)), level + 1
        return total


def _shrunk(mask: Tensor | None, size: torch.Size) -> Tensor | None:
    """The mask averaged down to the size of a layer: the share of each cell that counts."""
    return None if mask is None else F.adaptive_avg_pool2d(mask[None].float(), (size[0], size[1]))[0]


def _read(path: Path) -> Any:
    """What the file holds: weights by name, if it is the right one."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: {HOW_TO_GET}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every way a file can be broken
        raise InputError(f"{path} is damaged: get it again.") from error
