"""`cocogs train`."""

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from cocogs.cli.options import DATA_DECIDES, QUALITY_DECIDES, check_data, check_whole_numbers
from cocogs.cli.words import speaker
from cocogs.errors import InputError

if TYPE_CHECKING:
    from cocogs.config import Config, DataConfig
    from cocogs.distributed import Ranks
    from cocogs.scene import Scene

Part = Literal["coc", "direction", "beta", "aperture", "cnn"]


@dataclass
class Train:
    """Reconstruct a sharp scene, and the lens, from defocused photos.

    DATA is a folder: of photos (camera positions are then found first), a COLMAP project, an LLFF or
    Deblur-NeRF scene, or one with a transforms.json; the command recognises which. Ctrl-C saves and stops.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Folder that holds the photos, or a video."""
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder for the result."""
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: full)")] = None
    """How a photo is modelled. full: a lens, sampled at three points in the last fifth of training; the best
    pictures. lens: one render throughout, a sixth quicker. paper: CoCoGaussian as published. 3dgs: no lens,
    for comparison."""
    quality: Annotated[
        Literal["draft", "standard", "high", "max"] | None,
        arg(
            metavar="draft|standard|high|max",
            help_behavior_hint="(default: standard on a CPU, high on a GPU)",
        ),
    ] = None
    """How large photos are (longer side), how many iterations training takes, and how many splats there are:
    draft 500 px, 1,500, 50,000; standard 800 px, 4,500, 150,000; high 1600 px, 15,000, a million; max 3200
    px, 30,000, three million. Each photo is seen at least 30 times. --downscale, --iterations and
    --max-gaussians change one of the three."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=QUALITY_DECIDES)] = None
    """Photos that training sees, each of them many times. More give sharper results, with diminishing
    returns."""
    batch: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1 per process)")] = None
    """Photos of one training step: a multiple of the number of processes that torchrun started."""
    max_gaussians: Annotated[int | None, arg(metavar="N", help_behavior_hint=QUALITY_DECIDES)] = None
    """Largest number of splats. More show finer detail and cost time and memory.
    (Photos take up to 2 GiB more; beyond that they are read from disk again and again.)"""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint=QUALITY_DECIDES)] = None
    """Shrink the photos N times before training."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by its motion)")] = None
    """Use so many frames of a video: the sharpest, spread over the camera's way."""
    panoramas: bool = False
    """Photos or frames that are twice as wide as high show all around (360 degrees): for those whose metadata
    do not say so."""
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
        from cocogs.distributed import joined
        from cocogs.io.lock import alone_in

        with joined() as ranks:
            self.check()
            config, data = self.settings(ranks.count)
            ranks.check_batch(config.optim.batch)
            if not ranks.is_first:
                return self.train(config, data, ranks, lambda line: None)
            self.check_edits()
            if not self.resume:
                self.check_out()
            with alone_in(self.out):
                return self.train(config, data, ranks, speaker(self))

    def train(self, config: "Config", data: "DataConfig", ranks: "Ranks", say: Callable[[str], None]) -> int:
        from cocogs.checkpoint import is_trained
        from cocogs.device import choose_device
        from cocogs.io.progress import duration
        from cocogs.learned_lens import LearnedLens
        from cocogs.run import open_data, write_config
        from cocogs.train.monitor import Monitor
        from cocogs.train.trainer import Trainer

        device = choose_device(self.device, say)
        ranks.use(device)

        def open_scene() -> "Scene":
            if ranks.is_first and not self.resume:
                write_config(self.out, config, data)  # before the slow part: can the folder be written?
            if not ranks.is_first:
                self.check_shared()
            return open_data(data, self.out, config.seed, say, settled=not ranks.is_first)

        began, has_checkpoint = time.monotonic(), self.resume and is_trained(self.out)
        scene = ranks.in_turn(open_scene)
        trainer = Trainer(config, scene, self.out, has_checkpoint, device, ranks)
        if not ranks.is_first:
            return 0 if trainer.train(None) else 130
        if self.resume:
            write_config(self.out, config, data)  # the same photos may have moved
        iterations = trainer.config.optim.iterations
        print(
            f"Training preset {config.preset} on {len(scene.train_views)} photos, "
            f"{len(scene.test_views)} kept for testing; step {trainer.step} of {iterations}"
            + (f"; {ranks.count} processes on {device.type}" if ranks.count > 1 else "")
        )
        with Monitor(self.out, trainer.step, iterations, print, phases(trainer.config)) as monitor:
            finished = trainer.train(monitor)
        if not finished:
            print(f"Stopped and saved at step {trainer.step}. To continue: {self.resume_command()}")
            return 130
        print(f"Done in {duration(time.monotonic() - began)}.")
        if trainer.model.lens.has_lens:
            print(LearnedLens(trainer.model, scene).about_metres)
        print(next_steps(self.out, bool(scene.test_views)))
        return 0

    def check(self) -> None:
        """Raises InputError for a number out of range, options that exclude each other, or absent photos."""
        check_whole_numbers(self)
        if self.test is not None and self.test_every is not None:
            raise InputError("`test` and `test_every` both choose the photos for testing: give one of them.")
        check_data(self.data)

    def check_edits(self) -> None:
        """Raises InputError for a run with edits: they name its splats as they are now."""
        from cocogs.edits import edits_path

        if self.out.is_dir() and (path := edits_path(self.out)).exists():
            raise InputError(
                f"{path} holds edits that more training would make useless: write the edited scene with "
                f"`cocogs export {self.out} SCENE.ply` and move the file away, then train."
            )

    def check_out(self) -> None:
        """Raises InputError if a new run would overwrite something."""
        from cocogs.checkpoint import is_trained
        from cocogs.run import read_config

        if is_trained(self.out):
            raise InputError(
                f"{self.out} already holds a trained scene: continue it with `resume`, or give another `out`."
            )
        if (path := self.out / "config.json").exists():
            try:
                read_config(self.out)
            except InputError as error:
                raise InputError(f"{path} is not a file of cocogs: give another `out`.") from error

    def check_shared(self) -> None:
        """Raises InputError on a machine that does not see the folder that rank 0 writes."""
        if not (self.out / "config.json").is_file():
            raise InputError(
                f"{self.out} is not the folder of rank 0: give one on a disk that all machines share."
            )

    def settings(self, processes: int = 1) -> "tuple[Config, DataConfig]":
        """The preset changed by the given options, or the settings of the run to resume.

        Args:
            processes: that share the photos of a step; a new run takes one photo for each.

        Raises:
            InputError: unknown preset, or an option that would change a resumed run.
        """
        from cocogs.config import DEFAULT_PRESET, QUALITIES, DataConfig, preset, with_quality
        from cocogs.run import read_config

        source = str(self.data.resolve())
        if not self.resume:
            quality = QUALITIES[self.default_quality()]
            new = with_quality(preset(self.preset or DEFAULT_PRESET), quality)
            new = replace(new, optim=replace(new.optim, batch=processes))
            return self.applied(new, DataConfig(source, longer_side=quality.longer_side))
        saved = config, data = read_config(self.out)
        if not Path(data.source).exists():  # moved; the checkpoint tells whether the photos are the same
            saved = config, data = config, replace(data, source=source)
        if data.source != source:
            raise InputError(
                f"{self.out} was trained on {data.source}, not on {source}: "
                "give that folder, or another `out`."
            )
        if self.preset in (None, config.preset) and self.applied(config, data) == saved:
            return saved  # the command of before: options that only together make its settings
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
        known = {**settings, **vars(data), "ablate": " ".join(left_out)}
        was = known.get(name)
        before = f"without `{name}`" if was in (None, "") or was is False else f"with `{name}={was}`"
        if name not in known:  # a quality is three settings
            before = "at another `quality`, or at this one with more options"
        raise InputError(
            f"{self.out} was trained {before}, and `resume` cannot change that: "
            f"leave `{name}` out, or give another `out`."
        )

    def applied(self, config: "Config", data: "DataConfig") -> "tuple[Config, DataConfig]":
        """Settings changed by the options that were given."""
        from cocogs.config import QUALITIES, with_quality

        if self.ablate and config.model.lens != "paper":
            raise InputError(
                f"`ablate` leaves out parts of preset paper, and preset {config.preset} has none of them."
            )
        if self.quality is not None:
            config = with_quality(config, QUALITIES[self.quality])
            data = replace(data, longer_side=QUALITIES[self.quality].longer_side)
        model, optim, strategy = config.model, config.optim, config.strategy
        if self.per_photo_aperture:
            model = replace(model, per_photo_aperture=True)
        if self.ablate:
            model = replace(model, ablation=replace(model.ablation, **dict.fromkeys(self.ablate, True)))
        if self.iterations is not None:
            optim = replace(optim, iterations=self.iterations, seen_at_least=0)
        if self.batch is not None:
            optim = replace(optim, batch=self.batch)
        if self.max_gaussians is not None:
            strategy = replace(strategy, max_gaussians=self.max_gaussians)
        seed = config.seed if self.seed is None else self.seed
        data = replace(
            data,
            frames=data.frames if self.frames is None else self.frames,
            panoramas=data.panoramas or self.panoramas,
            downscale=data.downscale if self.downscale is None else self.downscale,
            test_every=data.test_every if self.test_every is None else self.test_every,
            test=data.test if self.test is None else self.test,
        )
        return replace(config, model=model, optim=optim, strategy=strategy, seed=seed), data

    def default_quality(self) -> str:
        """What suits the device."""
        from cocogs.config import DEFAULT_QUALITIES
        from cocogs.device import choose_device

        return DEFAULT_QUALITIES[choose_device(self.device, lambda line: None).type]

    def resume_command(self) -> str:
        return f"cocogs train {shlex.quote(str(self.data))} --out {shlex.quote(str(self.out))} --resume"


def phases(config: "Config") -> list[tuple[int, float]]:
    """When steps get slower, for the time left: (first step of a phase, cost of its steps in relation).

    Photos at half their size take about .6 of the time; each copy after the first adds about .45 of a step.
    """
    from cocogs.optics.lens_models import LENS_MODELS

    optim, found = config.optim, [(1, 1.0)]
    if optim.last_halved > 0:
        found = [(1, 0.6), (optim.last_halved + 1, 1.0)]
    if LENS_MODELS[config.model.lens].expands:
        cost = 1 + 0.45 * (config.model.copies - 1)
        found.append((optim.last_single + 1, cost))
    return found


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
