"""Depth that a network estimates: Depth Anything V2 from a folder of weights, through transformers."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt

from cocogs.io.depth_file import StoredDepth, known
from cocogs.io.pixels import from_float, resize_area, to_float
from cocogs.io.progress import Say
from cocogs.io.weights import MODEL, NetworkKind, digest_of, open_network

DEPTH_ANYTHING = NetworkKind(
    "Depth Anything V2",
    "depth_anything",
    "DepthAnythingForDepthEstimation",
    "AutoImageProcessor",
    "Estimating depth",
    "huggingface.co/depth-anything/Depth-Anything-V2-Small-hf has them",
)
LARGEST = 2048  # px; the network shrinks to some 518, and needs no more to do so well


def estimate_depth(photo: UInt[np.ndarray, "H W 3"], weights: Path, say: Say = print) -> StoredDepth:
    """The depth of a photo as a network estimates it: metres from a metric one, else disparity.

    Args:
        photo: upright, uint8 or uint16, sRGB.
        weights: a folder with the network's files. Nothing is downloaded.

    Raises:
        InputError: files or the package transformers are missing, or they are of another network.
    """
    network, prepare = open_network(weights, DEPTH_ANYTHING)
    say(f"Estimating depth with {weights}.")
    with torch.inference_mode():
        inputs = prepare(images=_small(photo), return_tensors="pt")
        predicted = network(**inputs).predicted_depth[0].float().numpy()
    is_metric = getattr(network.config, "depth_estimation_type", "relative") == "metric"
    source = f"the network in {weights} (Depth Anything V2, weights {digest_of(weights / MODEL)[:16]})"
    note = "A network estimated the depth: it may be wrong, above all at thin things, glass and mirrors."
    kind = "depth" if is_metric else "disparity"
    return StoredDepth(known(predicted, kind), kind, is_metric, source, (note,))


def _small(photo: UInt[np.ndarray, "H W 3"]) -> UInt[np.ndarray, "h w 3"]:
    """8 bit, at most `LARGEST` px a side."""
    height, width = photo.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    if scale == 1:
        return photo if photo.dtype == np.uint8 else from_float(to_float(photo), np.dtype(np.uint8))
    smaller = resize_area(photo, max(1, round(width * scale)), max(1, round(height * scale)))
    return from_float(smaller, np.dtype(np.uint8))
