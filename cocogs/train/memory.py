"""Does a training fit into the memory? Asked before its first step: the last part of a run needs the most."""

from pathlib import Path

import torch

from cocogs.config import Config
from cocogs.errors import InputError
from cocogs.optics.lens_models import LENS_MODELS
from cocogs.scene import Scene

BYTES_PER_SPLAT = 2_000  # parameters, gradients, Adam's memory, copies and what a render keeps of them


def check_memory(config: Config, scene: Scene, device: torch.device) -> None:
    """Refuse a training that would run out of memory, perhaps after hours.

    Raises:
        InputError: it needs more memory than is free.
    """
    free = free_memory(device)
    if free is None:
        return
    camera = max((view.camera for view in scene.train_views), key=lambda c: c.width * c.height)
    needed = bytes_needed(config, camera.width * camera.height)
    if device.type == "cpu":  # on a GPU the photos have their own share (train/photo_store.py)
        photos = sum(12 * view.camera.width * view.camera.height for view in scene.train_views)
        needed += min(photos, scene.memory_budget)
    if needed > free:
        where = "GPU memory" if device.type == "cuda" else "memory"
        raise InputError(
            f"Training at {camera.width}x{camera.height} with preset {config.preset} needs about "
            f"{needed / 2**30:.1f} GiB of {where}, and {free / 2**30:.1f} GiB are free: use a larger "
            "`downscale`, a smaller `max_gaussians`, or preset lens."
        )


def bytes_needed(config: Config, pixels: int) -> int:
    """Of a step at its most, for a photo of so many pixels; without the photos that are kept."""
    per_pixel = LENS_MODELS[config.model.lens].bytes_per_pixel
    return per_pixel * pixels + BYTES_PER_SPLAT * config.strategy.max_gaussians


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (available,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError):
        return None
    return min([available, *_left_of_group()])


def _left_of_group() -> list[int]:
    """Bytes that a container's limit leaves, where there is one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return [] if limit == "max" else [int(limit) - int(used)]
    except (OSError, ValueError):
        return []
