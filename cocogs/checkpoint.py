"""RUN/checkpoint.pt: everything that a training needs to go on, and other commands to draw its scene."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from cocogs.config import Config
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import replacing
from cocogs.optics.lens_models import Start
from cocogs.optics.model import DefocusModel
from cocogs.scene import Scene

_UNFIT = (KeyError, RuntimeError, ValueError, IndexError, TypeError, AttributeError)  # parts of a checkpoint
DRAWN = "gaussians._extra_state"  # of a checkpoint's model: how its Gaussians are drawn


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    # Through memory: writing to a full disk, torch raises what no one can tell from a bug.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(folder / "checkpoint.pt") as path:
        path.write_bytes(buffer.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise InputError(f"{path} does not exist: let `cocogs train` run until it saves, then try again.")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is not what was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not {"step", "model", "fingerprint"} <= state.keys():
            raise ValueError("parts are missing")
    except Exception as error:  # torch raises a different type for every way a file can be broken
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): delete it and train again.") from error
    return state


def check_same_photos(state: dict[str, Any], scene: Scene, folder: Path) -> None:
    if state["fingerprint"] != scene.fingerprint():
        raise InputError(
            f"{folder / 'checkpoint.pt'} was trained on other photos than {scene.source} (or another "
            "`downscale` or `test_every`): give the same data, or another `out` folder."
        )


def restore_model(state: dict[str, Any], config: Config, scene: Scene, folder: Path) -> DefocusModel:
    """The model with the sizes and values of a checkpoint's `model` part."""
    values: dict[str, Any] = state["model"]
    start = Start.unknown(len(scene.train_views))
    try:
        model = DefocusModel.starting(_gaussians(values), config.model, start)
        model.load_state_dict(values)
    except _UNFIT as error:
        raise InputError(
            f"{folder / 'checkpoint.pt'} does not fit {folder / 'config.json'}: train again."
        ) from error
    return model


def _gaussians(values: dict[str, Any]) -> Gaussians:
    raw = {name: values[f"gaussians.{name}"] for name in Gaussians.names}
    if len({len(value) for value in raw.values()}) > 1:
        raise ValueError("parts of different length")
    return Gaussians(values[DRAWN]["antialiased"], **raw)


def load_gaussians(folder: Path) -> Gaussians:
    """The base Gaussians of a run; needs no photos."""
    try:
        return _gaussians(read_checkpoint(folder)["model"])
    except _UNFIT as error:
        raise InputError(f"{folder / 'checkpoint.pt'} holds no Gaussians: train again.") from error
