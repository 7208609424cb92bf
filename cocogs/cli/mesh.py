"""`cocogs mesh`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker


@dataclass
class Mesh:
    """Write a trained scene as triangles with a sharp texture, in metres where EXIF tells them, for
    simulators and engines.

    The file's ending chooses the format: .glb (all in one file), .obj or .ply. Facts about it go into
    NAME.mesh.json beside it (docs/mesh.md).
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    file: Annotated[Positional[Path], arg(metavar="OUT.glb|OUT.obj|OUT.ply")]
    """The file to write."""
    faces: Annotated[int, arg(metavar="N")] = 30_000
    """About how many triangles at most."""
    steps: Annotated[int, arg(metavar="N")] = 300
    """How many photos the texture is fitted to, one after the other; 0 leaves it a mean of the photos."""
    crop: Annotated[
        tuple[float, float, float, float, float, float] | None,
        arg(metavar="X Y Z X Y Z", help_behavior_hint="(default: all but a far background)"),
    ] = None
    """Keep only the box between these two corners, in scene units."""

    def run(self) -> int:
        from cocogs.mesh import MeshOptions, make_mesh
        from cocogs.run import load_run

        options = MeshOptions(self.faces, self.steps, self.crop)
        for path in make_mesh(load_run(self.run_folder), self.file, options, speaker(self)):
            print(path)
        return 0
