"""`cocogs simulate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker
from cocogs.errors import counted


@dataclass
class Simulate:
    """Take pictures of a trained scene with a camera that a file describes: its lens, vignetting, exposure,
    noise and response.

    Depth and circles of confusion lie beside every picture, poses and settings in transforms.json, all in
    metres. The same command continues an interrupted one.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    camera: Annotated[Path, arg(metavar="camera.json")]
    """The camera (docs/camera-json.md)."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the pictures."""
    views: Annotated[str | None, arg(metavar="test|train|all", help_behavior_hint="(default: test)")] = None
    """From the places of which photos."""
    view: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: see --views)")] = None
    """From the place of this one photo."""
    path: Annotated[
        str | None, arg(metavar="photos|spiral|orbit|FILE.json", help_behavior_hint="(default: no path)")
    ] = None
    """Along a path instead, as in `cocogs render`."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 96)")] = None
    """Number of places along a path."""
    bracket: Annotated[
        str | None, arg(metavar="focus:A:B:N|exposure:A:B:N", help_behavior_hint="(default: none)")
    ] = None
    """At every place N pictures: focus:0.5m:3m:7 from one distance to another, or exposure:-2:2:5 in stops of
    the shutter."""
    samples: int = 64
    """Samples across the aperture per picture, as in `cocogs render`."""
    format: Annotated[str, arg(metavar="png|png16|exr")] = "png"
    """PNG of 8 or 16 bit, or OpenEXR: the light that the sensor gathers, before the response."""
    seed: int = 0
    """Of the noise. Every picture has noise of its own."""
    metres_per_unit: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: by EXIF)")] = None
    """Length of a scene unit, where the photos' EXIF does not tell it."""

    def run(self) -> int:
        from cocogs.render.simulate import SimulateOptions, simulate
        from cocogs.run import load_run

        options = {name: value for name, value in vars(self).items() if name != "run_folder"}
        paths = simulate(load_run(self.run_folder), SimulateOptions(**options), speaker(self))
        print(f"{counted(len(paths), 'picture')} in {self.out}")
        return 0
