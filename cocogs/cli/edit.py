"""`cocogs edit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker

NONE = "(default: none)"


@dataclass
class Edit:
    """Select splats of a scene and move, turn, scale, copy, recolour or delete them. Their blur follows.

    The scene's own files stay as they are: edits are noted in RUN/edits.json or SCENE.edits.json, and every
    command applies them. Without options, list them. docs/edit.md has examples.
    """

    scene: Annotated[Positional[Path], arg(metavar="RUN|SCENE.ply")]
    """The folder that `cocogs train --out` wrote, or a .ply of 3D Gaussians, whose cameras are read from
    SCENE.lens.json beside it."""
    select: Annotated[str | None, arg(metavar="EXPRESSION", help_behavior_hint=NONE)] = None
    """Which splats: mask:CUP.png@PHOTO, click:X,Y@PHOTO, box:X,Y,Z,X,Y,Z, sphere:X,Y,Z,R, color:#c04020,
    floaters, file:CUP.selection.json, all, opacity < 0.1, scale > 2cm, height < 0; joined with and, or, not
    and brackets; grow:LENGTH or shrink:LENGTH before one."""
    move: Annotated[str | None, arg(metavar="X,Y,Z|left:20cm", help_behavior_hint=NONE)] = None
    """Move by so much along the scene's axes, or left, right, up, down, near, away as seen from a photo, such
    as left:20cm,up:0.1. Lengths are in scene units, or in m, cm, mm where EXIF or --metres tells."""
    rotate: Annotated[str | None, arg(metavar="AXIS:DEGREES", help_behavior_hint=NONE)] = None
    """Turn about the middle of the selection: up:30, or about right, away, x, y, z, or an axis X,Y,Z."""
    scale: Annotated[float, arg(metavar="S")] = 1.0
    """Enlarge by this factor; the foot of the selection stays."""
    drop: bool = False
    """Let it fall, at last, onto what lies under it; or lift it out of that."""
    duplicate: bool = False
    """Leave the selection where it is, and change a copy of it."""
    delete: bool = False
    """Take the selection away."""
    recolor: Annotated[str | None, arg(metavar="R,G,B|#RRGGBB", help_behavior_hint=NONE)] = None
    """Multiply red, green and blue, such as 1.2,1,0.8, or give the selection this mean colour."""
    opacity: Annotated[float, arg(metavar="F")] = 1.0
    """Multiply the opacity."""
    up: Annotated[
        str | None,
        arg(metavar="ground|cameras|X,Y,Z", help_behavior_hint="(default: ground, if there is one)"),
    ] = None
    """What is up: away from the plane that things stand on, up in the photos, or a direction."""
    seen_from: Annotated[
        str | None, arg(metavar="PHOTO", help_behavior_hint="(default: the most central)")
    ] = None
    """The photo from which left, right, near and away are meant."""
    metres: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: by EXIF)")] = None
    """The metres in a scene unit, where you have measured something."""
    preview: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=NONE)] = None
    """Folder for pictures: the selection over the photos, the edited scene, and what no photo saw."""
    save_selection: Annotated[Path | None, arg(metavar="NAME.selection.json", help_behavior_hint=NONE)] = None
    """Keep the selection in a file, for select file:NAME.selection.json."""
    undo: bool = False
    """Drop the last edit."""
    out: Annotated[
        Path | None, arg(metavar="SCENE.ply", help_behavior_hint="(default: note the edit beside the scene)")
    ] = None
    """Write the edited splats here (.ply, .compressed.ply or .splat) instead of noting the edit."""

    def run(self) -> int:
        from cocogs.edit import EditOptions, edit
        from cocogs.edit.change import CHANGES, Change

        values = {name: value for name, value in vars(self).items() if name != "scene"}
        change = Change(**{name: values.pop(name) for name in (*CHANGES, "up", "seen_from")})
        for path in edit(self.scene, EditOptions(change=change, **values), speaker(self)):
            print(path)
        return 0
