"""`cocogs eval` and `cocogs inspect`: figures of a trained scene, and of photos before training."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cocogs.cli.options import DATA_DECIDES, SIZE_DECIDES, check_data, check_whole_numbers
from cocogs.cli.words import with_options

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Eval:
    """Measure a trained scene on the photos that were kept out of training (they should be sharp)."""

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
        print_evaluation(evaluation, plain_console(self))
        if report is not None:
            print_truth(report, plain_console(self))
        return 0


@dataclass
class Inspect:
    """Before training, see whether photos can become a sharp scene: what each has in focus, what none has.

    Finds the camera positions first where DATA has none; `cocogs train` with the same --out uses them.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Folder that holds the photos, or a video."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: write nothing)")] = None
    """Folder for inspection.html (pictures and a table), inspection.json, coverage.svg and sharpness maps."""
    json: bool = False
    """Print JSON instead of a table."""
    downscale: Annotated[int | None, arg(metavar="N", help_behavior_hint=SIZE_DECIDES)] = None
    """Shrink the photos N times first, as for training."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: by its motion)")] = None
    """Use so many frames of a video, as for training."""
    panoramas: bool = False
    """Photos that are twice as wide as high show all around, as for training."""
    test_every: Annotated[int | None, arg(metavar="N", help_behavior_hint=DATA_DECIDES)] = None
    """Leave every Nth photo out, as for training."""
    test: Annotated[str | None, arg(metavar="A,B,...", help_behavior_hint=DATA_DECIDES)] = None
    """Leave these photos out, as for training."""

    def run(self) -> int:
        from cocogs.checkpoint import is_trained
        from cocogs.io.lock import alone_in
        from cocogs.measure.inspection import inspect_scene
        from cocogs.measure.inspection_page import about_table, photo_table, write_inspection
        from cocogs.measure.text_table import print_table
        from cocogs.scene import open_scene

        check_data(self.data)
        check_whole_numbers(self)
        console = plain_console(self, stderr=self.json)
        with tempfile.TemporaryDirectory() as temporary, alone_in(self.out or Path(temporary)):
            scene = open_scene(
                self.data,
                (self.out or Path(temporary)) / "cache",
                downscale=self.downscale,
                test_every=self.test_every,
                test=self.test,
                frames=self.frames,
                panoramas=self.panoramas,
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
            console.print(about_table(inspection))
        for line in inspection.summary:
            console.print(f"Warning: {line}" if inspection.warnings else line)
        if inspection.exif.sentence:
            console.print(inspection.exif.sentence)
        if self.out is not None:
            console.print(f"The page with pictures: {self.out / 'inspection.html'}")
        return 0


def plain_console(command: Any, stderr: bool = False) -> "Console":
    """A console for a command's tables and lines. It prints names as they are, where rich would take [x] for
    a colour and :x: for a picture, and options in the place of parameters."""
    from rich.console import Console

    class PlainConsole(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            words = (with_options(thing, command) if isinstance(thing, str) else thing for thing in objects)
            super().print(*words, **options)

    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
