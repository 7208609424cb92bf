"""`cocogs export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker


@dataclass
class Export:
    """Write a trained scene as 3D Gaussians for other viewers and editors, its cameras and lens beside it.

    The file's ending chooses the format: .ply (everything), .compressed.ply (a quarter of the size), .splat
    (smallest; no view-dependent colour). docs/exports.md tells how to get .spz and .sog. The command also
    writes SCENE.lens.json beside it.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    file: Annotated[Positional[Path], arg(metavar="SCENE.ply|SCENE.compressed.ply|SCENE.splat")]
    """The file to write."""
    crop: Annotated[
        tuple[float, float, float, float, float, float] | None,
        arg(metavar="X Y Z X Y Z", help_behavior_hint="(default: all)"),
    ] = None
    """Keep only the box between these two corners, in scene units."""
    max_splats: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Keep the N most visible splats: large and opaque."""
    min_opacity: Annotated[float | None, arg(metavar="A", help_behavior_hint="(default: all)")] = None
    """Leave out splats with opacity below this, from 0 to 1."""
    colmap: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Also write the cameras and start points as a COLMAP model into this folder."""
    metres: Annotated[str | None, arg(metavar="exif|M", help_behavior_hint="(default: scene units)")] = None
    """Write everything in metres. exif: as long as the photos' EXIF makes a scene unit; or give the metres in
    a scene unit, where you have measured something."""

    def run(self) -> int:
        from cocogs.export import ExportOptions, export

        options = ExportOptions(self.crop, self.max_splats, self.min_opacity, self.colmap, self.metres)
        for path in export(self.run_folder, self.file, options, speaker(self)):
            print(path)
        return 0
