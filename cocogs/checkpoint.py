"""RUN/checkpoint.pt: everything that a training needs to go on, and other commands to draw its scene."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from cocogs.config import LARGEST, Config
from cocogs.errors import InputError, reason_of
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import replacing
from cocogs.optics.lens_models import Start
from cocogs.optics.model import DefocusModel
from cocogs.optics.photometric import Taken
from cocogs.scene import Scene

CHECKPOINT = "checkpoint.pt"
UNFIT = (KeyError, RuntimeError, ValueError, IndexError, TypeError, AttributeError)  # parts of a checkpoint
_PARTS = {
    "step",
    "config",
    "model",
    "optimizers",
    "densification",
    "finest",
    "order",
    "random",
    "fingerprint",
}
DRAWN = "gaussians._extra_state"  # of a checkpoint's model: how its Gaussians are drawn


def is_trained(folder: Path) -> bool:
    """Whether a training has saved something there."""
    return (folder / CHECKPOINT).exists()


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    # Through memory: writing to a full disk, torch raises what no one can tell from a bug.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(folder / CHECKPOINT) as path:
        path.write_bytes(buffer.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / CHECKPOINT
    if not path.is_file():
        raise InputError(f"{path} does not exist: let `cocogs train` run until it saves, then try again.")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is not what was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_parts(state)
    except Exception as error:  # torch raises a different type for every way a file can be broken
        raise damaged_checkpoint(folder, error) from error
    return state


def damaged_checkpoint(folder: Path, error: Exception) -> InputError:
    """What to tell the user."""
    return InputError(f"{folder / CHECKPOINT} is damaged ({reason_of(error)}): delete it and train again.")


def _check_parts(state: dict[str, Any]) -> None:
    """Raises ValueError unless all parts are there and have the right types."""
    if missing := _PARTS - state.keys():
        raise ValueError(f"{min(missing)} is missing")
    if type(state["step"]) is not int or not 0 <= state["step"] <= LARGEST:
        raise ValueError(f"step cannot be {state['step']!r:.20}")
    kinds = {"config": dict, "model": dict, "optimizers": dict, "densification": dict, "order": torch.Tensor}
    if wrong := [name for name, kind in kinds.items() if not isinstance(state[name], kind)]:
        raise ValueError(f"{wrong[0]} is no {kinds[wrong[0]].__name__.lower()}")
    for name, value in state["model"].items():
        if isinstance(value, torch.Tensor) and value.isnan().any():
            raise ValueError(f"{name} holds what is no number")


def fitting(value: Any, like: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor of a checkpoint, on the device of one that it replaces.

    Raises:
        ValueError: it has another shape or type.
    """
    if not isinstance(value, torch.Tensor) or (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(f"{name} does not fit")
    return value.to(like.device)


def check_settings(state: dict[str, Any], config: Config, folder: Path) -> None:
    """Raises InputError where a checkpoint was trained with other settings than those of config.json."""
    try:
        saved = Config.from_dict(state["config"])  # what is newer than the checkpoint has its default
    except (*UNFIT, InputError) as error:
        raise damaged_checkpoint(folder, error) from error
    if saved != config:
        raise unfit_checkpoint(folder)


def check_same_photos(state: dict[str, Any], scene: Scene, folder: Path) -> None:
    if state["fingerprint"] != scene.fingerprint():
        raise InputError(
            f"{folder / CHECKPOINT} was trained on other photos than {scene.source} (or another "
            "`downscale` or `test_every`): give the same data, or another `out` folder."
        )


def restore_model(state: dict[str, Any], config: Config, scene: Scene, folder: Path) -> DefocusModel:
    """The model with the sizes and values of a checkpoint's `model` part."""
    values: dict[str, Any] = state["model"]
    start = Start.unknown(len(scene.train_views))
    try:
        model = DefocusModel.starting(_gaussians(values), config.model, start, Taken.of(scene.train_views))
        model.load_state_dict(values)
    except UNFIT as error:
        raise unfit_checkpoint(folder) from error
    return model


def unfit_checkpoint(folder: Path) -> InputError:
    """What to tell the user of a checkpoint of another run."""
    return InputError(f"{folder / CHECKPOINT} does not fit {folder / 'config.json'}: train again.")


def _gaussians(values: dict[str, Any]) -> Gaussians:
    raw = {name: values[f"gaussians.{name}"] for name in Gaussians.names}
    count, antialiased = len(raw["means"]), values[DRAWN]["antialiased"]
    for name, value in raw.items():
        if value.dtype != torch.float32 or value.shape != (count, *Gaussians.shapes[name]):
            raise ValueError(f"{name} have another shape or type")
    if count == 0 or type(antialiased) is not bool:
        raise ValueError("no Gaussians, or nobody knows how to draw them")
    return Gaussians(antialiased, **raw)


def load_gaussians(folder: Path, config: Config) -> Gaussians:
    """The base Gaussians of a run; needs no photos.

    Args:
        config: of its config.json.
    """
    state = read_checkpoint(folder)
    check_settings(state, config, folder)
    try:
        return _gaussians(state["model"])
    except UNFIT as error:
        raise InputError(f"{folder / CHECKPOINT} holds no Gaussians: train again.") from error
