"""A run folder: what `cocogs train` leaves and every other command reads.

RUN/config.json      the data, how it was read, and every setting
RUN/checkpoint.pt    parameters, optimisers, counters, random state (loads with weights_only=True)
RUN/lens.json        the learned lens (docs/lens-json.md)
RUN/edits.json       what was edited since (docs/edit.md)
RUN/cache/           SfM model, undistorted photos
RUN/tensorboard/     curves and picture strips
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cocogs.checkpoint import (
    check_same_photos,
    check_settings,
    is_trained,
    load_gaussians,
    read_checkpoint,
    restore_model,
)
from cocogs.config import Config, DataConfig, build
from cocogs.device import choose_device
from cocogs.edits import Add, Edited, edited_scene, edits_path
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.learned_lens import LearnedLens
from cocogs.optics.lens import Lens
from cocogs.optics.model import DefocusModel
from cocogs.scene import Scene, open_scene


@dataclass
class Run:
    """A run read back: its settings, its photos, its trained model and the step it stands at.

    Args:
        edited: how many edits were applied to the model's Gaussians.
        invented: how many of the Gaussians no photo showed.
        generative: a network drew some of what those show.
    """

    folder: Path
    config: Config
    data: DataConfig
    scene: Scene
    model: DefocusModel
    step: int
    edited: int = 0
    invented: int = 0
    generative: bool = False

    @property
    def has_lens(self) -> bool:
        """Whether the run learned a lens: preset 3dgs does not."""
        return self.model.lens.has_lens

    @cached_property
    def learned(self) -> LearnedLens:
        """What the run learned of the lens.

        Raises:
            InputError: the run has no lens.
        """
        if not self.has_lens:
            raise InputError(
                f"{self.folder} has no lens to refocus (preset 3dgs): train with preset full or lens."
            )
        return LearnedLens(self.model, self.scene)

    def lens(self, view_name: str | None = None) -> Lens:
        """The learned lens: of one training photo, or the whole run's typical one.

        Raises:
            InputError: the run has no lens (preset 3dgs), or no training photo has this name.
        """
        return self.learned.typical if view_name is None else self.learned.of(view_name)


def open_data(
    data: DataConfig, run: Path, seed: int, say: Callable[[str], None] = print, settled: bool = False
) -> Scene:
    """The photos of a run, whose cache is used.

    Args:
        settled: the cache is right as it is; also where the run was trained.
    """
    return open_scene(
        Path(data.source),
        run / "cache",
        longer_side=data.longer_side,
        downscale=data.downscale,
        test_every=data.test_every,
        test=data.test,
        frames=data.frames,
        panoramas=data.panoramas,
        seed=seed,
        settled=settled or is_trained(run),
        say=say,
    )


def load_run(
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
    device: str = "auto",
    edited: bool = True,
) -> Run:
    """Read a run folder back, for rendering and measuring; its model lies on the GPU if there is one.

    Args:
        edited: apply RUN/edits.json, if there is one. The learned lens stays that of the training.

    Raises:
        InputError: not a run folder, a damaged file in it, or photos that are no longer those it was
            trained on.
    """
    config, data = read_config(folder)
    state = read_checkpoint(folder)
    if not Path(data.source).exists():
        raise InputError(
            f"{data.source}, which {folder} was trained on, is gone: put it back, or tell where it is now: "
            f"cocogs train NEW --out {folder} --resume."
        )
    scene = open_data(data, folder, config.seed, say)
    check_settings(state, config, folder)
    check_same_photos(state, scene, folder)
    model = restore_model(state, config, scene, folder).to(choose_device(device, say))
    run = Run(folder, config, data, scene, model, state["step"])
    if edited:
        _apply_edits(run)
    return run


def _apply_edits(run: Run) -> None:
    """Edit the run's Gaussians as its edits.json says."""
    if not edits_path(run.folder).exists():
        return
    edits, scene = edited_scene(run.folder, run.model.gaussians)
    run.model.gaussians = scene.gaussians
    run.edited, run.invented = len(edits.steps), int(scene.invented.sum())
    run.generative = any(isinstance(step, Add) and step.generative for step in edits.steps)


def load_edited(folder: Path) -> Edited:
    """The Gaussians of a run after its edits; needs no photos."""
    return edited_scene(folder, load_gaussians(folder, read_config(folder)[0]))[1]


def write_config(folder: Path, config: Config, data: DataConfig) -> None:
    values = {"data": vars(data), **config.to_dict()}
    write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")


def read_config(folder: Path) -> tuple[Config, DataConfig]:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a run: it has no config.json; give what `cocogs train --out` wrote."
        )
    values = read_json(path, "train again or restore the file")
    try:
        data = build(DataConfig, values.pop("data"))
        return Config.from_dict(values), data
    except (TypeError, KeyError, AttributeError, InputError) as error:
        reason = str(error).removesuffix(".")
        raise InputError(f"{path} cannot be read ({reason}): train again or restore the file.") from error
