"""The command line. Each command imports what it needs when it runs, so that --help is quick."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg, subcommand

from cocogs import __version__
from cocogs.errors import InputError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from cocogs.config import Config
    from cocogs.run import DataConfig

LARGEST = 2**31 - 1  # of a seed, for COLMAP
PRESET_DECIDES = "(default: the preset's)"
DATA_DECIDES = "(default: what a file hold=N or transforms.json says, else none)"
LOCAL_ONLY = "(default: this computer only)"
Part = Literal["coc", "direction", "beta", "aperture", "cnn"]
ABLATABLE: dict[str, tuple[Part, ...]] = {
    "pinhole": (),
    "widened": ("aperture",),
    "sampled": ("aperture", "cnn"),
    "paper": ("coc", "direction", "beta", "aperture", "cnn"),
}
"""The parts that each kind of lens has."""


@dataclass
class Train:
    """Reconstruct a sharp scene, and the lens, from defocused photos.

    Takes a folder of photos (camera positions are then found first), a COLMAP project, an LLFF or
    Deblur-NeRF scene, or a nerfstudio transforms.json; it looks which one it is. Ctrl-C saves.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """The photos: a folder."""
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder for the result."""
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: full)")] = None
    """How a photo is modelled: full (by the lens, its last fifth through five points of it and with learned
    corrections: the best pictures), lens (by the lens alone, in half the time), paper (CoCoGaussian as
    published), 3dgs (no lens, for comparison)."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Training steps, one photo each; 4,500 in every preset. More is sharper, with diminishing returns."""
    max_gaussians: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Upper limit of splats, 150,000 in every preset: more show finer detail, and cost time and memory.
    (Photos take up to 2 GiB besides; more than that is read from disk again and again.)"""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by size)")] = None
    """Shrink the photos N times before training."""
    test_every: Annotated[int | None, arg(metavar="N", help_behavior_hint=DATA_DECIDES)] = None
    """Keep every Nth photo (by name) out of training, to measure the result with `cocogs eval`."""
    test: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint=DATA_DECIDES)] = None
    """The same for single photos, such as sharp ones taken to measure with: 'IMG_7.jpg,sharp_*.jpg'"""
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 0)")] = None
    """Start of the random numbers: the same seed gives the same result."""
    resume: bool = False
    """Go on where an interrupted run stopped, with its settings."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute: auto takes the GPU if there is one."""
    per_photo_aperture: bool = False
    """Learn an aperture for every photo, for sets taken with several f-numbers."""
    ablate: Annotated[tuple[Part, ...], arg(help_behavior_hint="(default: nothing)")] = ()
    """Research: leave these parts of the model out."""

    def run(self) -> int:
        from cocogs.device import choose_device
        from cocogs.io.lock import alone_in
        from cocogs.run import is_trained

        self.check_numbers()
        config, data = self.settings()
        device = choose_device(self.device)
        if not self.resume:
            self.check_out()
        with alone_in(self.out):
            return self.train(config, data, device, is_trained(self.out))

    def train(
        self, config: "Config", data: "DataConfig", device: "torch.device", has_checkpoint: bool
    ) -> int:
        from cocogs.run import open_data, write_config
        from cocogs.train.monitor import Monitor, duration
        from cocogs.train.trainer import Trainer

        if not self.resume:
            write_config(self.out, config, data)  # before the slow part: can the folder be written?
        began = time.monotonic()
        scene = open_data(data, self.out, config.seed, print)
        trainer = Trainer(config, scene, self.out, has_checkpoint, device)
        if self.resume:
            write_config(self.out, config, data)  # the photos may have moved, and are the same
        print(
            f"Training preset {config.preset} on {len(scene.train_views)} photos, "
            f"{len(scene.test_views)} kept for testing; step {trainer.step} of {config.optim.iterations}"
        )
        with Monitor(self.out, trainer.step, config.optim.iterations, print) as monitor:
            finished = trainer.train(monitor)
        if not finished:
            print(f"Stopped and saved at step {trainer.step}. To continue: {self.resume_command()}")
            return 130
        print(f"Done in {duration(time.monotonic() - began)}. {next_steps(self.out, bool(scene.test_views))}")
        return 0

    def check_numbers(self) -> None:
        """Raises InputError for a number out of its range, or an absent DATA."""
        least = {"iterations": 1, "max_gaussians": 1, "downscale": 1, "test_every": 2, "seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= LARGEST:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {value} cannot be: give a number from {lowest} to {LARGEST}.")
        if self.test is not None and self.test_every is not None:
            raise InputError("--test and --test-every both say what is for testing: give one of them.")
        if not self.data.exists():
            raise InputError(f"{self.data} does not exist: give the folder that holds the photos.")

    def check_out(self) -> None:
        """Raises InputError if a new run would overwrite something."""
        from cocogs.run import is_trained, read_config

        if is_trained(self.out):
            raise InputError(
                f"{self.out} already holds a trained scene: continue it with --resume, or give another --out."
            )
        if (path := self.out / "config.json").exists():
            try:
                read_config(self.out)
            except InputError as error:
                raise InputError(f"{path} is not a file of cocogs: give another --out.") from error

    def settings(self) -> "tuple[Config, DataConfig]":
        """The preset with the options given, or what the resumed run was started with.

        Raises:
            InputError: unknown preset, or an option that would change a resumed run.
        """
        from cocogs.config import DEFAULT_PRESET, preset
        from cocogs.run import DataConfig, read_config

        source = str(self.data.resolve())
        if not self.resume:
            return self.applied(preset(self.preset or DEFAULT_PRESET), DataConfig(source))
        saved = config, data = read_config(self.out)
        if not Path(data.source).exists():  # moved; the checkpoint knows whether they are the same
            saved = config, data = config, replace(data, source=source)
        if data.source != source:
            raise InputError(
                f"{self.out} was trained on {data.source}, not on {source}: give that one, or another --out."
            )
        if self.preset not in (None, config.preset) or self.applied(config, data) != saved:
            raise InputError(
                f"{self.out} was started with other options (see {self.out / 'config.json'}): leave them out "
                "with --resume, or start anew with another --out."
            )
        return saved

    def applied(self, config: "Config", data: "DataConfig") -> "tuple[Config, DataConfig]":
        """Settings changed by the options that were given."""
        if foreign := [part for part in self.ablate if part not in ABLATABLE[config.model.lens]]:
            raise InputError(
                f"--ablate {' '.join(foreign)}: preset {config.preset} has no such part, --preset paper has."
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


def next_steps(folder: Path, has_test_views: bool) -> str:
    """What can be done with a trained run."""
    run = shlex.quote(str(folder))
    views = "test" if has_test_views else "train"
    commands = [
        f"cocogs render {run} --views {views} --out {run}/pictures   (sharp pictures)",
        f"cocogs export {run} {run}/scene.ply   (for any viewer of 3D Gaussians)",
        f"tensorboard --logdir {run}/tensorboard   (curves)",
    ]
    if has_test_views:
        commands.insert(0, f"cocogs eval {run}   (how close the sharp test views come)")
    return "\n  ".join([f"The result is in {folder}. Next:", *commands])


@dataclass
class Eval:
    """Measure a trained scene on the photos that were kept out of training (sharp ones, to mean anything)."""

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    json: bool = False
    """Print JSON instead of a table."""
    lpips_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: no LPIPS)")] = None
    """Also measure LPIPS, with the weight files in this folder: alexnet-owt-7be5be79.pth (torchvision)
    and alex.pth (lpips package, weights/v0.1)."""
    truth: bool = False
    """For ray-traced scenes such as data/demo: also compare refocused pictures and the learned lens with the
    truth.json beside the photos."""

    def run(self) -> int:
        from cocogs.measure.evaluate import evaluate_run, print_evaluation
        from cocogs.measure.lpips import Lpips
        from cocogs.measure.truth import compare_with_truth, print_truth
        from cocogs.run import load_run

        lpips = None if self.lpips_weights is None else Lpips.from_folder(self.lpips_weights)
        run = load_run(self.run_folder)
        evaluation = evaluate_run(run, lpips)
        report = compare_with_truth(run) if self.truth else None
        if self.json:
            print(evaluation.to_json(None if report is None else report.to_dict()))
            return 0
        print_evaluation(evaluation, plain_console())
        if report is not None:
            print_truth(report, plain_console())
        return 0


@dataclass
class Render:
    """Write pictures or films of a trained scene: sharp everywhere, as photographed, or refocused.

    From the photos' places (--views, --view) or along a path (--path). An interrupted sequence goes on where
    it stopped when the same command is given again.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    out: Annotated[Path, arg(metavar="DIR|FILM")]
    """Folder for the pictures, or a film's name, ending in .mp4 or .gif."""
    views: Annotated[str | None, arg(metavar="test|train|all", help_behavior_hint="(default: test)")] = None
    """Seen from where: the photos kept for testing, those trained on, or both."""
    view: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: see --views)")] = None
    """Seen from this one photo's place; with --focus-at, the photo that it means."""
    path: Annotated[
        str | None, arg(metavar="photos|spiral|orbit|FILE.json", help_behavior_hint="(default: no path)")
    ] = None
    """A moving camera: through the photos in their order, smoothed; a spiral among them; a circle around what
    they look at; or cameras that `cocogs view` saved."""
    defocused: bool = False
    """With each photo's own learned focus and blur, to compare with the photo; training photos only."""
    focus: Annotated[float | None, arg(metavar="Z", help_behavior_hint="(default: all sharp)")] = None
    """Focus at this distance, in the scene's unit, inf for infinity (RUN/lens.json has the photos' own)."""
    focus_at: Annotated[str | None, arg(metavar="X,Y", help_behavior_hint="(default: none)")] = None
    """Focus on what is seen here in the photo --view: pixels from the upper left of the picture as rendered
    without --size, or per cent as 50%,40%."""
    focus_pull: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: none)")] = None
    """Move the focus from distance A to B over the frames."""
    aperture: Annotated[str | None, arg(metavar="1.5x", help_behavior_hint="(default: 1x)")] = None
    """How far to open the lens, as a multiple of the learned aperture; 0x is all sharp."""
    f_number: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: as the photos)")] = None
    """The same as an f-number, where the photos' EXIF tells theirs."""
    aperture_sweep: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: none)")] = None
    """Open the lens from A to B over the frames, as multiples of the learned aperture."""
    blades: int = 0
    """Blades of the aperture: highlights out of focus become polygons with so many sides; 0 is round."""
    blade_rotation: Annotated[float, arg(metavar="DEGREES")] = 0.0
    """Turns the blades."""
    highlights: float = 1.0
    """How much light there was where the photos are white, which they cannot tell: with 4 or so, bright
    points out of focus stand out as discs. Small ones want --samples 256."""
    samples: int = 64
    """Points of the lens to look through: more is smoother and slower; 0 is quick, and rough where a blurred
    edge lies before something else."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 96)")] = None
    """Number of pictures of a path or sweep."""
    fps: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: 24)")] = None
    """Pictures per second of a film."""
    size: Annotated[str | None, arg(metavar="W|WxH", help_behavior_hint="(default: as trained)")] = None
    """Size of the pictures in px."""
    format: Annotated[
        str | None,
        arg(metavar="png|png16|exr|mp4|gif", help_behavior_hint="(default: png, or as --out ends)"),
    ] = None
    """PNG of 8 or 16 bit, OpenEXR (linear light), or a film."""
    depth: bool = False
    """Also write the depth: NAME_depth (16-bit PNG, its scale in depth.json; or EXR) and in colour."""
    coc: bool = False
    """Also write the circle of confusion: NAME_coc (16-bit PNG: 32768 is in focus, 64 steps a px up to 512
    px, more is nearer; or EXR, px) and in colour."""

    def run(self) -> int:
        from cocogs.render import render
        from cocogs.render.options import RenderOptions
        from cocogs.run import load_run

        options = {name: value for name, value in vars(self).items() if name != "run_folder"}
        paths = render(load_run(self.run_folder), RenderOptions(**options))
        print(f"{self.out}" if paths == [self.out] else f"{len(paths)} pictures in {self.out}")
        return 0


@dataclass
class Export:
    """Write a trained scene as 3D Gaussians for other viewers and editors, its cameras and lens beside it.

    The file's ending chooses the format: .ply (all of it), .compressed.ply (a quarter of the size), .splat
    (smallest, colours without sheen). SCENE.lens.json is written beside it.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    file: Annotated[Positional[Path], arg(metavar="SCENE.ply|SCENE.compressed.ply|SCENE.splat")]
    """The file to write."""
    crop: Annotated[
        tuple[float, float, float, float, float, float] | None,
        arg(metavar="X Y Z X Y Z", help_behavior_hint="(default: all)"),
    ] = None
    """Keep what lies in the box between these two corners, in scene units."""
    max_splats: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Keep the N most visible splats: large and opaque."""
    min_opacity: Annotated[float | None, arg(metavar="A", help_behavior_hint="(default: all)")] = None
    """Leave out splats fainter than this, from 0 to 1."""
    colmap: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Also write the cameras and start points as a COLMAP model into this folder."""

    def run(self) -> int:
        from cocogs.export import ExportOptions, export_cameras, export_splats
        from cocogs.run import load_gaussians, load_run

        options = ExportOptions(self.crop, self.max_splats, self.min_opacity, self.colmap)
        export_splats(load_gaussians(self.run_folder), self.file, options)
        print(self.file)
        try:
            run = load_run(self.run_folder)
        except InputError as error:  # the photos may be gone: the splats do not need them
            if self.colmap is not None:
                raise
            print(f"Without cameras and lens: {error}")
            return 0
        for path in export_cameras(run, self.file, options):
            print(path)
        return 0


@dataclass
class View:
    """Look at a trained scene in the browser: move, set focus and aperture, compare with the photos."""

    scene: Annotated[Positional[Path], arg(metavar="RUN|SCENE.ply")]
    """The folder that `cocogs train --out` wrote, or a .ply of 3D Gaussians; SCENE.lens.json beside it, as
    `cocogs export` writes it, tells cameras and lens."""
    host: Annotated[str, arg(metavar="ADDRESS", help_behavior_hint=LOCAL_ONLY)] = "127.0.0.1"
    """Let other computers look, through this address of yours; 0.0.0.0 is all of them."""
    port: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: a free one from 8080 on)")] = (
        None
    )
    """Where the page is served."""

    def run(self) -> int:
        from cocogs.viewer.exhibit import open_exhibit
        from cocogs.viewer.server import Viewer, free_port, is_loopback

        port = free_port(self.host, self.port)  # before the slow part
        viewer = Viewer(open_exhibit(self.scene), self.host, port)
        if not is_loopback(self.host):
            print(
                "cocogs: warning: everyone who can reach this computer can look at the scene and keep the "
                "computer busy; do this only where you trust the network.",
                file=sys.stderr,
            )
        print(f"{self.scene} is shown at {viewer.url} (Ctrl-C stops)", flush=True)
        viewer.wait()
        viewer.stop()
        return 0


@dataclass
class Inspect:
    """See before training whether photos can become a sharp scene: what each has in focus, and what none has.

    Finds the camera positions first where DATA has none; with the same --out, `cocogs train` uses them.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """The photos: a folder."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: write nothing)")] = None
    """Folder for inspection.html (pictures and a table), inspection.json, coverage.svg and sharpness maps."""
    json: bool = False
    """Print JSON instead of a table."""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by size)")] = None
    """Shrink the photos N times first, as for training."""
    test_every: Annotated[int | None, arg(metavar="N", help_behavior_hint=DATA_DECIDES)] = None
    """Leave every Nth photo out, as for training."""
    test: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint=DATA_DECIDES)] = None
    """Leave these photos out, as for training."""

    def run(self) -> int:
        import tempfile

        from cocogs.io.lock import alone_in
        from cocogs.measure.inspection import inspect_scene
        from cocogs.measure.inspection_page import photo_table, write_inspection
        from cocogs.run import is_trained
        from cocogs.scene import open_scene

        if not self.data.exists():
            raise InputError(f"{self.data} does not exist: give the folder that holds the photos.")
        for option, least in (("downscale", 1), ("test_every", 2)):
            if (value := getattr(self, option)) is not None:
                whole_number(f"--{option.replace('_', '-')}", str(value), least)
        console = plain_console(stderr=self.json)
        with tempfile.TemporaryDirectory() as temporary, alone_in(self.out or Path(temporary)):
            scene = open_scene(
                self.data,
                (self.out or Path(temporary)) / "cache",
                downscale=self.downscale,
                test_every=self.test_every,
                test=self.test,
                settled=self.out is not None and is_trained(self.out),
                say=console.print,
            )
            inspection = inspect_scene(scene)
            if self.out is not None:
                write_inspection(inspection, scene, self.out)
        if self.json:
            print(inspection.to_json())
        else:
            print_table(*photo_table(inspection), console)
        for line in inspection.summary:
            console.print(f"Warning: {line}" if inspection.warnings else line)
        if inspection.exif.sentence:
            console.print(inspection.exif.sentence)
        if self.out is not None:
            console.print(f"The page with pictures: {self.out / 'inspection.html'}")
        return 0


def plain_console(stderr: bool = False) -> "Console":
    """Prints names as they are: rich would take [x] for a colour and :x: for a picture."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_table(heads: list[str], rows: list[list[str]], console: "Console") -> None:
    from rich.table import Table

    table = Table(*heads)
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


@dataclass
class Bench:
    """Train and measure many runs, and write one table and one page about them.

    SUITE is a folder of rendered truth scenes, or of the scenes of Deblur-NeRF, DoF-NeRF or NeRF-LLFF
    (docs/benchmarks.md says where they come from). Each run is a process of its own. Start it again to go
    on where it stopped.
    """

    suite: Annotated[Positional[Path], arg(metavar="SUITE")]
    """Folder that holds the scenes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the runs, the tables and the page."""
    methods: Annotated[str, arg(metavar="A,B,...")] = "3dgs,sharp,lens,full"
    """Presets, and sharp: 3dgs trained on the sharp twins of the photos, the most that can be reached.
    paper is among them, but takes half an hour a scene on a CPU."""
    seeds: Annotated[str, arg(metavar="0,1,...")] = "0"
    """Each run is repeated with each of these seeds; from two on the table shows the spread."""
    ablation: bool = False
    """Also run the paper's model without its parts, one at a time (its Table 3)."""
    scenes: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint="(default: all)")] = None
    """Only these scenes."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Runs at the same time; they share the processor's cores."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Training steps of every run."""
    max_gaussians: Annotated[int | None, arg(metavar="N", help_behavior_hint=PRESET_DECIDES)] = None
    """Upper limit of splats of every run."""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the benchmark's)")] = None
    """Shrink the photos N times; truth scenes are not shrunk by default."""
    lpips_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: no LPIPS)")] = None
    """Also measure LPIPS, with the weight files in this folder (see cocogs eval --help)."""

    def run(self) -> int:
        from cocogs.bench import bench
        from cocogs.bench.runs import ABLATION, BenchSettings, check_methods
        from cocogs.measure.lpips import Lpips

        methods = listed("--methods", self.methods)
        methods += tuple(m for m in ABLATION if self.ablation and m not in methods)
        check_methods(methods)
        seeds = tuple(whole_number("--seeds", seed, 0) for seed in listed("--seeds", self.seeds))
        listed("--seeds", ",".join(map(str, seeds)))  # 0 and 00 are one
        for option, least in (("jobs", 1), ("iterations", 1), ("max_gaussians", 1), ("downscale", 1)):
            if (value := getattr(self, option)) is not None:
                whole_number(f"--{option.replace('_', '-')}", str(value), least)
        only = listed("--scenes", self.scenes) if self.scenes is not None else ()
        weights = None
        if self.lpips_weights is not None:
            Lpips.from_folder(self.lpips_weights)  # now, not after hours of training
            weights = str(self.lpips_weights.resolve())
        settings = BenchSettings(
            str(self.suite.resolve()), self.downscale, self.iterations, self.max_gaussians, weights
        )
        failures = bench(self.suite, settings, methods, seeds, self.out, only, self.jobs, print)
        print((self.out / "table.md").read_text())
        print(f"The page with pictures: {self.out / 'report.html'}")
        return 1 if failures else 0


def listed(option: str, text: str) -> tuple[str, ...]:
    """The words of "a,b"; raises InputError for an empty or doubled one."""
    words = tuple(word.strip() for word in text.split(","))
    if "" in words or len(set(words)) < len(words):
        raise InputError(f"{option} {text!r} is no list: give different words with commas between them.")
    return words


def whole_number(option: str, text: str, least: int) -> int:
    """A whole number from `least` on; raises InputError otherwise."""
    if not text.removeprefix("-").isdecimal() or int(text) < least:
        raise InputError(f"{option} {text} cannot be: give a whole number from {least} on.")
    return int(text)


Command = (
    Annotated[Train, subcommand("train")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Export, subcommand("export")]
    | Annotated[View, subcommand("view")]
    | Annotated[Inspect, subcommand("inspect")]
    | Annotated[Bench, subcommand("bench")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"cocogs {__version__}")
        return 0
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="cocogs",
        description="Defocused photos in, a sharp and refocusable 3D scene out.",
        args=arguments,
        config=(FlagCreatePairsOff,),
    )
    # Read once, when torch is imported: waiting threads that spin halt all others on a shared machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return command.run()
    except KeyboardInterrupt:
        print("cocogs: stopped.", file=sys.stderr)
        return 130
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        message = sentence(error, place_of(command))
        if message is None:
            raise
        print(f"cocogs: error: {message}", file=sys.stderr)
        return 2


def place_of(command: Train | Eval | Render | Export | View | Inspect | Bench) -> Path:
    """The file or folder that a command works on."""
    if isinstance(command, View):
        return command.scene
    if isinstance(command, Inspect):
        return command.out or command.data
    return command.out if isinstance(command, Train | Render | Bench) else command.run_folder


def sentence(error: Exception, folder: Path) -> str | None:
    """What went wrong in the user's world and what helps; None for a bug of ours.

    Args:
        folder: where to look when the system does not name the file.
    """
    if isinstance(error, InputError):
        return str(error)
    if "CUDA out of memory" in str(error):  # torch's own words, up to the advice on its allocator
        numbers = ". ".join(str(error).split(". ")[:3])
        return (
            f"{numbers}. Give a larger --downscale or a smaller --max-gaussians; what was saved is kept and "
            "goes on with --resume."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "There is not enough memory: give a larger --downscale or a smaller --max-gaussians."
    if isinstance(error, OSError):
        reason = error.strerror or error
        place = error.filename or folder
        return f"{place} cannot be read or written ({reason}): check the disk and the permissions."
    return None
