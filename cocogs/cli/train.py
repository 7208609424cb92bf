"""`cocogs train`."""

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from cocogs.cli.options import DATA_DECIDES, PRESET_DECIDES, SIZE_DECIDES, check_data, check_whole_numbers
from cocogs.cli.words import speaker
from cocogs.errors import InputError

if TYPE_CHECKING:
    import torch

    from cocogs.config import Config
    from cocogs.run import DataConfig

Part = Literal["coc", "direction", "beta", "aperture", "cnn"]


@dataclass
class Train:
    """Reconstruct a sharp scene, and the lens, from defocused photos.

    DATA is a folder: of photos (camera positions are then found first), a COLMAP project, an LLFF or
    Deblur-NeRF scene, or one with a transforms.json; the command recognises which. Ctrl-C saves and stops.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Folder that holds the photos."""
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder for the result."""
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: full)")] = None
    """How a photo is modelled. full: a lens, sampled at five points in the last fifth of training, with
    learned corrections; the best pictures. lens: a lens alone, in half the time. paper: CoCoGaussian as
    published. 3dgs: no lens, for comparison."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Training steps, one photo each; 4,500 in every preset. More give sharper results, with diminishing
    returns."""
    max_gaussians: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Largest number of splats, 150,000 in every preset. More show finer detail and cost time and memory.
    (Photos take up to 2 GiB more; beyond that they are read from disk again and again.)"""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint=SIZE_DECIDES)] = None
    """Shrink the photos N times before training."""
    test_every: Annotated[int | None, arg(metavar="N", help_behavior_hint=DATA_DECIDES)] = None
    """Keep every Nth photo (by name) out of training, to measure the result with `cocogs eval`; only if those
    photos are sharp."""
    test: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint=DATA_DECIDES)] = None
    """Keep these photos out of training, such as sharp ones taken to measure with: 'IMG_7.jpg,sharp_*.jpg'"""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 0)")] = None
    """Seed of the random numbers: the same seed gives the same result."""
    resume: bool = False
    """Continue an interrupted run with its settings."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    per_photo_aperture: bool = False
    """Learn a separate aperture for every photo, if the f-number varied and EXIF does not record it."""
    ablate: Annotated[tuple[Part, ...], arg(help_behavior_hint="(default: nothing)")] = ()
    """Research: leave these parts of the model out."""

    def run(self) -> int:
        from cocogs.device import choose_device
        from cocogs.io.lock import alone_in
        from cocogs.run import is_trained

        self.check()
        config, data = self.settings()
        device = choose_device(self.device)
        if not self.resume:
            self.check_out()
        with alone_in(self.out):
            return self.train(config, data, device, is_trained(self.out))

    def train(
        self, config: "Config", data: "DataConfig", device: "torch.device", has_checkpoint: bool
    ) -> int:
        from cocogs.io.progress import duration
        from cocogs.run import open_data, write_config
        from cocogs.train.monitor import Monitor
        from cocogs.train.trainer import Trainer

        if not self.resume:
            write_config(self.out, config, data)  # before the slow part: can the folder be written?
        began = time.monotonic()
        scene = open_data(data, self.out, config.seed, speaker(self))
        trainer = Trainer(config, scene, self.out, has_checkpoint, device)
        if self.resume:
            write_config(self.out, config, data)  # the same photos may have moved
        print(
            f"Training preset {config.preset} on {len(scene.train_views)} photos, "
            f"{len(scene.test_views)} kept for testing; step {trainer.step} of {config.optim.iterations}"
        )
        steps = trainer.step, config.optim.iterations
        with Monitor(self.out, *steps, print, phases(config)) as monitor:
            finished = trainer.train(monitor)
        if not finished:
            print(f"Stopped and saved at step {trainer.step}. To continue: {self.resume_command()}")
            return 130
        print(f"Done in {duration(time.monotonic() - began)}. {next_steps(self.out, bool(scene.test_views))}")
        return 0

    def check(self) -> None:
        """Raises InputError for a number out of range, options that exclude each other, or absent photos."""
        check_whole_numbers(self)
        if self.test is not None and self.test_every is not None:
            raise InputError("`test` and `test_every` both choose the photos for testing: give one of them.")
        check_data(self.data)

    def check_out(self) -> None:
        """Raises InputError if a new run would overwrite something."""
        from cocogs.run import is_trained, read_config

        if is_trained(self.out):
            raise InputError(
                f"{self.out} already holds a trained scene: continue it with `resume`, or give another `out`."
            )
        if (path := self.out / "config.json").exists():
            try:
                read_config(self.out)
            except InputError as error:
                raise InputError(f"{path} is not a file of cocogs: give another `out`.") from error

    def settings(self) -> "tuple[Config, DataConfig]":
        """The preset changed by the given options, or the settings of the run to resume.

        Raises:
            InputError: unknown preset, or an option that would change a resumed run.
        """
        from cocogs.config import DEFAULT_PRESET, preset
        from cocogs.run import DataConfig, read_config

        source = str(self.data.resolve())
        if not self.resume:
            return self.applied(preset(self.preset or DEFAULT_PRESET), DataConfig(source))
        saved = config, data = read_config(self.out)
        if not Path(data.source).exists():  # moved; the checkpoint tells whether the photos are the same
            saved = config, data = config, replace(data, source=source)
        if data.source != source:
            raise InputError(
                f"{self.out} was trained on {data.source}, not on {source}: "
                "give that folder, or another `out`."
            )
        for name, value in vars(self).items():
            self.check_unchanged(name, value, config, data)
        return saved

    def check_unchanged(self, name: str, value: Any, config: "Config", data: "DataConfig") -> None:
        """Raises InputError for an option that would change the settings of a resumed run."""
        alone = replace(Train(self.data, self.out), **{name: value})
        if alone.preset in (None, config.preset) and alone.applied(config, data) == (config, data):
            return
        left_out = [part for part, is_out in vars(config.model.ablation).items() if is_out]
        settings = {**vars(config), **vars(config.model), **vars(config.optim), **vars(config.strategy)}
        was = {**settings, **vars(data), "ablate": " ".join(left_out)}[name]
        before = f"without `{name}`" if was in (None, "") or was is False else f"with `{name}={was}`"
        raise InputError(
            f"{self.out} was trained {before}, and `resume` cannot change that: "
            f"leave `{name}` out, or give another `out`."
        )

    def applied(self, config: "Config", data: "DataConfig") -> "tuple[Config, DataConfig]":
        """Settings changed by the options that were given."""
        if self.ablate and config.model.lens != "paper":
            raise InputError(
                f"`ablate` leaves out parts of preset paper, and preset {config.preset} has none of them."
            )
        model, optim, strategy = config.model, config.optim, config.strategy
        if self.per_photo_aperture:
            model = replace(model, per_photo_aperture=True)
        if self.ablate:
            model = replace(model, ablation=replace(model.ablation, **dict.fromkeys(self.ablate, True)))
        if self.iterations is not None:
            optim = replace(optim, iterations=self.iterations)
        if self.max_gaussians is not None:
            strategy = replace(strategy, max_gaussians=self.max_gaussians)
        seed = config.seed if self.seed is None else self.seed
        data = replace(
            data,
            downscale=data.downscale if self.downscale is None else self.downscale,
            test_every=data.test_every if self.test_every is None else self.test_every,
            test=data.test if self.test is None else self.test,
        )
        return replace(config, model=model, optim=optim, strategy=strategy, seed=seed), data

    def resume_command(self) -> str:
        return f"cocogs train {shlex.quote(str(self.data))} --out {shlex.quote(str(self.out))} --resume"


def phases(config: "Config") -> list[tuple[int, float]]:
    """When steps get slower, for the time left: (first step of a phase, cost of its steps in relation).

    Once a lens draws copies, a step costs about as many renders instead of one.
    """
    from cocogs.optics.lens_models import LENS_MODELS

    if not LENS_MODELS[config.model.lens].expands:
        return [(1, 1.0)]
    copies_from = int(config.optim.sets_from * config.optim.iterations) + 1
    return [(1, 1.0), (copies_from, float(config.model.copies))]


def next_steps(folder: Path, has_test_views: bool) -> str:
    """What can be done with a trained run."""
    run = shlex.quote(str(folder))
    views = "test" if has_test_views else "train"
    commands = [
        f"cocogs render {run} --views {views} --out {run}/pictures   (sharp pictures)",
        f"cocogs view {run}   (in the browser)",
        f"cocogs export {run} {run}/scene.ply   (for any viewer of 3D Gaussians)",
        f"tensorboard --logdir {run}/tensorboard   (curves)",
    ]
    if has_test_views:
        commands.insert(0, f"cocogs eval {run}   (how close the sharp test views come)")
    return "\n  ".join([f"The result is in {folder}. Next:", *commands])
