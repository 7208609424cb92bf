"""A network that cuts out of a photo the thing that is clicked at: Segment Anything, from a folder."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io.weights import NetworkKind, open_network

SEGMENT_ANYTHING = NetworkKind(
    "Segment Anything",
    "sam",
    "SamModel",
    "SamProcessor",
    "Understanding a click by a network",
    "huggingface.co/facebook/sam-vit-base has them (Apache-2.0)",
)


class Segmenter:
    """Segment Anything (Kirillov et al., arXiv 2304.02643), through transformers.

    Args:
        weights: a folder with the network's files. Nothing is downloaded.

    Raises:
        InputError: files or the package transformers are missing, or they are of another network.
    """

    def __init__(self, weights: Path) -> None:
        self.network, self.prepare = open_network(weights, SEGMENT_ANYTHING)

    @torch.inference_mode()
    def __call__(self, photo: Float[Tensor, "3 H W"], x: float, y: float) -> Float[Tensor, "H W"]:
        """The thing at a point: 1 inside, 0 outside. Of the network's three proposals (a part, a larger part,
        the whole) the one that it trusts most.

        Args:
            photo: sRGB in [0, 1].
            x, y: px.
        """
        pixels = (255 * photo.permute(1, 2, 0).cpu()).round().clamp(0, 255).byte().numpy()
        inputs = self.prepare(images=pixels, input_points=[[[x, y]]], return_tensors="pt")
        told = self.network(
            pixel_values=inputs["pixel_values"],
            input_points=inputs["input_points"].float(),
            multimask_output=True,
        )
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        ((proposals,),) = self.prepare.post_process_masks(told.pred_masks, *sizes)  # (3, H, W) of one click
        return proposals[int(told.iou_scores.flatten().argmax())].float()
