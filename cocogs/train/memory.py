"""Does a training fit into the memory? Asked before its first step: the last part of a run needs the most."""

import sys

import torch

from cocogs.compiled import cpu_module
from cocogs.config import Config
from cocogs.errors import InputError
from cocogs.optics.lens_models import LENS_MODELS
from cocogs.scene import Scene

RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit of `ru_maxrss`: macOS counts bytes, Linux KiB."""
BYTES_PER_SPLAT = 2_000  # parameters, gradients, Adam's memory, copies and what a render keeps of them


def check_memory(config: Config, scene: Scene, device: torch.device, processes: int = 1) -> None:
    """Refuse a training that would run out of memory, perhaps after hours.

    Args:
        processes: that do the same on this machine, each on a GPU of its own or all on its CPU.

    Raises:
        InputError: it needs more memory than is free.
    """
    free = free_memory(device)
    camera = max((view.camera for view in scene.train_views), key=lambda c: c.width * c.height)
    needed = bytes_needed(config, camera.width * camera.height)
    if device.type == "cpu":  # on a GPU the photos have their own share (train/photo_store.py)
        needed = (needed + photo_bytes(scene)) * processes
    if needed > free:
        each = f" in {processes} processes" if processes > 1 and device.type == "cpu" else ""
        where = "GPU memory" if device.type == "cuda" else "memory"
        raise InputError(
            f"Training at {camera.width}x{camera.height} with preset {config.preset}{each} needs about "
            f"{needed / 2**30:.1f} GiB of {where}, and {free / 2**30:.1f} GiB are free: use a larger "
            "`downscale`, a smaller `max_gaussians`, or preset lens."
        )


def photo_bytes(scene: Scene) -> int:
    """Of the photos in memory: those used last, the one trained on and the next, which is being read."""
    sizes = [12 * view.camera.width * view.camera.height for view in scene.train_views]
    return min(sum(sizes), scene.memory_budget + 2 * max(sizes))


def bytes_needed(config: Config, pixels: int) -> int:
    """Of a step at its most, for a photo of so many pixels; without the photos that are kept."""
    per_pixel = LENS_MODELS[config.model.lens].bytes_per_pixel
    return per_pixel * pixels + BYTES_PER_SPLAT * config.strategy.max_gaussians


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had, within the limits of this process and its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return cpu_module().available_memory()


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 on Windows, which is not asked."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
