"""Depth that a network estimates: Depth Anything V2 from a folder of weights, through transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt

from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io.depth_file import StoredDepth, known
from cocogs.io.json_file import read_json
from cocogs.io.pixels import from_float, resize_area, to_float
from cocogs.io.progress import Say
from cocogs.io.weights import digest_of

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
WHERE = "huggingface.co/depth-anything/Depth-Anything-V2-Small-hf has them"
LARGEST = 2048  # px; the network shrinks to some 518, and needs no more to do so well


def estimate_depth(photo: UInt[np.ndarray, "H W 3"], weights: Path, say: Say = print) -> StoredDepth:
    """The depth of a photo as a network estimates it: metres from a metric one, else disparity.

    Args:
        photo: upright, uint8 or uint16, sRGB.
        weights: a folder with `FILES`. Nothing is downloaded.

    Raises:
        InputError: files or the package transformers are missing, or they are of another network.
    """
    missing = [name for name in FILES if not (weights / name).is_file()]
    if missing:
        raise InputError(f"{weights} has no {', '.join(missing)}: put the network's files there; {WHERE}.")
    config = read_json(weights / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "depth_anything":
        raise InputError(f"{weights} holds another network than Depth Anything V2; {WHERE}.")
    transformers = optional_package(
        "transformers",
        "Estimating depth needs the package transformers: run `pip install 'cocogs[depth-network]'`.",
    )
    digest = digest_of(weights / "model.safetensors")[:16]
    say(f"Estimating depth with {weights}.")
    predicted = _predict(transformers, weights, _small(photo))
    is_metric = config.get("depth_estimation_type", "relative") == "metric"
    source = f"the network in {weights} (Depth Anything V2, weights {digest})"
    note = "A network estimated the depth: it may be wrong, above all at thin things, glass and mirrors."
    kind = "depth" if is_metric else "disparity"
    return StoredDepth(known(predicted, kind), kind, is_metric, source, (note,))


def _predict(transformers: Any, weights: Path, photo: UInt[np.ndarray, "h w 3"]) -> np.ndarray:
    """(h, w) float32 as the network puts it out, in its own size."""
    options = {"local_files_only": True}
    try:
        with _quiet(transformers.utils.logging):
            prepare = transformers.AutoImageProcessor.from_pretrained(str(weights), **options)
            network, told = transformers.DepthAnythingForDepthEstimation.from_pretrained(
                str(weights), use_safetensors=True, output_loading_info=True, **options
            )
        if told["missing_keys"] or told["mismatched_keys"]:  # transformers would draw them at random
            raise ValueError("model.safetensors lacks parts of the network")
    except Exception as error:  # of several packages
        raise InputError(
            f"The network in {weights} cannot be read ({reason_of(error)}): copy its files again; {WHERE}."
        ) from error
    with torch.inference_mode():
        inputs = prepare(images=photo, return_tensors="pt")
        return network.eval()(**inputs).predicted_depth[0].float().numpy()


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Neither bars nor reports of transformers on the terminal."""
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def _small(photo: UInt[np.ndarray, "H W 3"]) -> UInt[np.ndarray, "h w 3"]:
    """8 bit, at most `LARGEST` px a side."""
    height, width = photo.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    if scale == 1:
        return photo if photo.dtype == np.uint8 else from_float(to_float(photo), np.dtype(np.uint8))
    smaller = resize_area(photo, max(1, round(width * scale)), max(1, round(height * scale)))
    return from_float(smaller, np.dtype(np.uint8))
