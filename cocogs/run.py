"""A run folder: what `cocogs train` leaves and every other command reads.

RUN/config.json      the data, how it was read, and every setting
RUN/checkpoint.pt    parameters, optimisers, counters, random state (loads with weights_only=True)
RUN/lens.json        the learned lens (docs/lens-json.md)
RUN/cache/           SfM model, undistorted photos
RUN/tensorboard/     curves and picture strips
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cocogs.checkpoint import check_same_photos, load_gaussians, read_checkpoint, restore_model
from cocogs.config import Config, build
from cocogs.device import choose_device
from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.learned_lens import LearnedLens
from cocogs.optics.lens import Lens
from cocogs.optics.model import DefocusModel
from cocogs.scene import Scene, open_scene

__all__ = ["DataConfig", "Run", "is_trained", "load_gaussians", "load_run", "open_data", "read_config"]


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they were read."""

    source: str
    downscale: int | None = None
    test_every: int | None = None
    test: str | None = None


@dataclass
class Run:
    """A run read back: its settings, its photos, its trained model and the step it stands at."""

    folder: Path
    config: Config
    data: DataConfig
    scene: Scene
    model: DefocusModel
    step: int

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


def open_data(data: DataConfig, run: Path, seed: int, say: Callable[[str], None] = print) -> Scene:
    """The photos of a run, whose cache is used."""
    return open_scene(
        Path(data.source),
        run / "cache",
        downscale=data.downscale,
        test_every=data.test_every,
        test=data.test,
        seed=seed,
        settled=is_trained(run),
        say=say,
    )


def is_trained(folder: Path) -> bool:
    """Whether a training has saved something there."""
    return (folder / "checkpoint.pt").exists()


def load_run(folder: Path, say: Callable[[str], None] = lambda line: None, device: str = "auto") -> Run:
    """Read a run folder back, for rendering and measuring; its model lies on the GPU if there is one.

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
    check_same_photos(state, scene, folder)
    model = restore_model(state, config, scene, folder).to(choose_device(device, say))
    return Run(folder, config, data, scene, model, state["step"])


def write_config(folder: Path, config: Config, data: DataConfig) -> None:
    values = {"data": vars(data), **config.to_dict()}
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(values, indent=2) + "\n")


def read_config(folder: Path) -> tuple[Config, DataConfig]:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a run: it has no config.json; give what `cocogs train --out` wrote."
        )
    try:
        values = json.loads(path.read_text())
        data = build(DataConfig, values.pop("data"))
        return Config.from_dict(values), data
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}): train again or restore the file.") from error
