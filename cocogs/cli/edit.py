"""`cocogs edit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.options import OF_PHOTO, is_photo
from cocogs.cli.words import speaker
from cocogs.errors import InputError

NONE = "(default: none)"
FOR_SCENES = ("select", "segmenter", "drop", "recolor", "opacity", "up", "seen_from", "metres", "preview",
              "save_selection", "fill", "inpainter", "undo")  # fmt: skip
FOR_PHOTOS = ("mask", "depth", "depth_kind", "source", "keep_blur", "weights")
FOR_BOTH = ("move", "rotate", "delete", "duplicate", "out")


@dataclass
class Edit:
    """Select splats of a scene and move, turn, scale, copy, recolour or delete them. Their blur follows.

    The scene's own files stay as they are: edits are noted in RUN/edits.json or SCENE.edits.json, and every
    command applies them. Without options, list them. docs/edit.md has examples. An object of a single photo
    with a depth map is moved likewise (docs/edit-photo.md).
    """

    scene: Annotated[Positional[Path], arg(metavar="RUN|SCENE.ply|PHOTO")]
    """The folder that `cocogs train --out` wrote; or a .ply of 3D Gaussians, whose cameras are read from
    SCENE.lens.json beside it; or a photo."""
    select: Annotated[str | None, arg(metavar="EXPRESSION", help_behavior_hint=NONE)] = None
    """Which splats: mask:CUP.png@PHOTO, click:X,Y@PHOTO, box:X,Y,Z,X,Y,Z, sphere:X,Y,Z,R, color:#c04020,
    floaters, file:CUP.selection.json, all, opacity < 0.1, scale > 2cm, height < 0; joined with and, or, not
    and brackets; grow:LENGTH or shrink:LENGTH before one."""
    segmenter: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=NONE)] = None
    """Folder of a Segment Anything network (huggingface.co/facebook/sam-vit-base) that understands clicks;
    else the scene's depth does. Needs pip install 'cocogs[depth-network]'."""
    move: Annotated[str | None, arg(metavar="X,Y,Z|left:20cm", help_behavior_hint=NONE)] = None
    """Move by so much along the scene's axes, or left, right, up, down, near, away as seen from a photo, such
    as left:20cm,up:0.1. Lengths are in scene units, or in m, cm, mm where EXIF or --metres tells. In a photo:
    X,Y,Z to the right, down and away, as 0.2m or 10% of the object's distance."""
    rotate: Annotated[str | None, arg(metavar="AXIS:DEGREES", help_behavior_hint=NONE)] = None
    """Turn about the middle of the selection: up:30, or about right, away, x, y, z, or an axis X,Y,Z. In a
    photo x, y or z."""
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
    """Keep the selection in a file, for --select file:NAME.selection.json."""
    fill: bool = False
    """Fill what the change uncovers and no photo saw, from its surroundings. Such splats are marked as
    invented. Needs OpenCV: pip install 'cocogs[stack]'."""
    inpainter: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=NONE)] = None
    """Let this Stable Diffusion for inpainting paint what --fill fills, not OpenCV (generative). Needs pip
    install 'cocogs[lens-network]'."""
    undo: bool = False
    """Drop the last edit."""
    out: Annotated[
        Path | None,
        arg(metavar="SCENE.ply|PICTURE", help_behavior_hint="(default: note the edit beside the scene)"),
    ] = None
    """Write the edited splats here (.ply, .compressed.ply or .splat) instead of noting the edit. Of a photo,
    the picture (.png, .tif, .jpg or .exr)."""
    mask: Annotated[Path | None, arg(metavar="MASK.png", help_behavior_hint=NONE)] = None
    """Of a photo: a picture of its size, white where the object is."""
    depth: Annotated[
        str | None, arg(metavar="FILE|run:RUN|bracket:DIR|WEIGHTS", help_behavior_hint=OF_PHOTO)
    ] = None
    """Of a photo: its depth map; see `cocogs refocus --help`."""
    depth_kind: Annotated[str | None, arg(metavar="KIND", help_behavior_hint=OF_PHOTO)] = None
    """Of a photo: what the depth map holds; see there."""
    source: Annotated[str | None, arg(metavar="sharp|camera.json|N@FOCUS", help_behavior_hint=OF_PHOTO)] = (
        None
    )
    """Of a photo: how it was taken; see there."""
    keep_blur: bool = False
    """Of a photo: do not take blur away by the network."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=NONE)] = None
    """Of a photo: a depth-conditioned Stable Diffusion that imagines what nobody saw (generative)."""

    def run(self) -> int:
        for path in self._edit_photo() if is_photo(self.scene) else self._edit_scene():
            print(path)
        return 0

    def _edit_scene(self) -> list[Path]:
        from cocogs.edit import EditOptions, edit
        from cocogs.edit.change import CHANGES, Change

        self._refuse(FOR_PHOTOS, "a photo, and {} is none: select with `select=mask:CUP.png@PHOTO`")
        names = [*FOR_SCENES, *FOR_BOTH, "scale"]
        values = {name: getattr(self, name) for name in names}
        change = Change(**{name: values.pop(name) for name in (*CHANGES, "up", "seen_from")})
        return edit(self.scene, EditOptions(change=change, **values), speaker(self))

    def _edit_photo(self) -> list[Path]:
        from cocogs.photo.edit_files import edit_photo
        from cocogs.photo.edit_options import PhotoEditOptions

        self._refuse(FOR_SCENES, "a scene, and {} is a photo: leave it out")
        for name in ("mask", "out"):
            if getattr(self, name) is None:
                raise InputError(f"An object of a photo needs `{name}`: see docs/edit-photo.md.")
        values = {name: getattr(self, name) for name in (*FOR_PHOTOS, *FOR_BOTH)}
        scale = None if self.scale == 1 else self.scale
        return edit_photo(self.scene, PhotoEditOptions(scale=scale, **values), speaker(self))

    def _refuse(self, names: tuple[str, ...], what: str) -> None:
        """Raises InputError for an option that means nothing here."""
        for name in names:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise InputError(f"`{name}` is for {what.format(self.scene)}.")
