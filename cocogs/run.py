"""A run folder: what `cocogs train` leaves and every other command reads.

RUN/config.json      the data, how it was read, and every setting
RUN/checkpoint.pt    parameters, optimisers, counters, random state (loads with weights_only=True)
RUN/lens.json        the learned lens (docs/lens-json.md)
RUN/cache/           SfM model, undistorted photos
RUN/tensorboard/     curves and picture strips
"""

import io
import json
import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cocogs.camera import Camera
from cocogs.config import Config, build
from cocogs.device import choose_device
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import replacing
from cocogs.optics.focus import FocusPlanes
from cocogs.optics.lens import Lens
from cocogs.optics.model import DefocusModel
from cocogs.scene import LensFacts, Scene, open_scene

_UNFIT = (KeyError, RuntimeError, ValueError, IndexError, TypeError, AttributeError)  # parts of a checkpoint
DRAWN = "gaussians._extra_state"  # of a checkpoint's model: how its Gaussians are drawn


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

    def lens(self, view_name: str | None = None) -> Lens:
        """The learned lens: of one training photo, or the whole run's typical one (the geometric mean of the
        apertures, the median of the focus distances).

        Raises:
            InputError: the run has no lens (preset 3dgs), or no training photo has this name.
        """
        if self.config.model.lens == "pinhole":
            raise InputError(
                f"{self.folder} has no lens to refocus (preset 3dgs): train with --preset full or lens."
            )
        distances, names = self.model.focus.focus_distances.detach(), [v.name for v in self.scene.train_views]
        if view_name is None:
            return Lens(float(distances.median()), geometric_mean(self._diameters))
        if view_name not in names:
            raise InputError(f"{view_name!r} is no training photo, only those have a learned lens.")
        index = names.index(view_name)
        return Lens(float(distances[index]), self._diameters[index])

    def f_number(self) -> float | None:
        """The f-number of `lens().aperture_diameter` by the photos' EXIF; None where no photo has one."""
        known = [lens.f_number for lens in self._facts]
        ratios = [f * d for f, d in zip(known, self._diameters, strict=True) if f is not None]
        return geometric_mean(ratios) / self.lens().aperture_diameter if ratios else None

    def metres(self) -> float | None:
        """One scene unit in metres, by the photos' EXIF: at f-number n a lens of focal length f is open f / n
        wide. None where no photo has both, and in the paper's units, whose aperture is no length."""
        if self.config.model.units == "paper":
            return None
        scales = [
            lens.aperture_diameter / diameter
            for lens, diameter in zip(self._facts, self._diameters, strict=True)
            if lens.aperture_diameter is not None
        ]
        return geometric_mean(scales) if scales else None

    @property
    def _facts(self) -> list[LensFacts]:
        """What EXIF says of every training photo."""
        return [view.lens for view in self.scene.train_views]

    @cached_property
    def _diameters(self) -> list[float]:
        """Aperture diameter of every training photo, scene units; slow where a network has a say."""
        return [
            aperture_diameter(self.model, self.model.camera(v), i)
            for i, v in enumerate(self.scene.train_views)
        ]


def aperture_diameter(model: DefocusModel, camera: Camera, view_index: int) -> float:
    """Of training photo `view_index`, in scene units. In the paper's units a length stands for an angle,
    which is exact at the typical depth only."""
    K = model.K(camera, view_index)
    return K / (float(model.focus.typical_depth) if model.config.units == "paper" else camera.fx)


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def open_data(data: DataConfig, run: Path, seed: int, say: Any = print) -> Scene:
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


def load_run(folder: Path, say: Any = lambda line: None, device: str = "auto") -> Run:
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
        state["model"].setdefault(DRAWN, {"antialiased": False})  # runs of before there was a choice
    except Exception as error:  # torch raises a different type for every way a file can be broken
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): delete it and train again.") from error
    return state


def check_same_photos(state: dict[str, Any], scene: Scene, folder: Path) -> None:
    if state["fingerprint"] not in (scene.fingerprint(), scene.fingerprint(digits=None)):
        raise InputError(
            f"{folder / 'checkpoint.pt'} was trained on other photos than {scene.source} (or another "
            "--downscale or --test-every): give the same data, or another --out folder."
        )


def restore_model(state: dict[str, Any], config: Config, scene: Scene, folder: Path) -> DefocusModel:
    """The model with the sizes and values of a checkpoint's `model` part."""
    values: dict[str, Any] = state["model"]
    try:
        gaussians = _gaussians(values)
        count = len(scene.train_views)
        values.setdefault("focus.softness", torch.zeros(count))  # of before photos had one
        values.setdefault("focus.held", torch.ones(()))  # of before it could be free
        values.setdefault("focus.zoom", torch.ones(count))  # of before photos could differ in it
        focus = FocusPlanes(torch.ones(count), 1.0, 1.0, config.model.per_photo_aperture)
        model = DefocusModel(gaussians, focus, config.model, torch.zeros(3), 1.0)
        model.load_state_dict(values)
        focus.keep_possible()  # of before training held it so
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


def write_lens(folder: Path, model: DefocusModel, scene: Scene) -> None:
    """lens.json: the learned lens in the schema of docs/lens-json.md; absent for a pinhole run."""
    if model.config.lens == "pinhole":
        return
    views = scene.train_views
    distances, softness = model.focus.focus_distances.tolist(), model.focus.softness.sqrt().tolist()
    photos = []
    for index, (view, distance, soft) in enumerate(zip(views, distances, softness, strict=True)):
        K = model.K(view.camera, index)
        photos.append(
            {
                "name": view.name,
                "focus_distance": distance,
                "K": K,
                "aperture_diameter": K / view.camera.fx if model.config.units == "world" else None,
                "softness_px": soft,
                "fx": view.camera.fx,
                "width": view.camera.width,
                "height": view.camera.height,
                "f_number": view.lens.f_number,
                "focal_length_mm": view.lens.focal_length_mm,
            }
        )
    document = {
        "schema": "cocogs-lens/1",
        "preset_lens": model.config.lens,
        "units": model.config.units,
        "depth": model.config.depth,
        "photos": photos,
    }
    with replacing(folder / "lens.json") as path:
        path.write_text(json.dumps(document, indent=2) + "\n")
