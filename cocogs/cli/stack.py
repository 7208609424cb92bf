"""`cocogs stack`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker


@dataclass
class Stack:
    """Make one sharp picture of photos taken from one place, focused at different distances (docs/stack.md).

    The photos are aligned, their exposures made the same, and fused. NAME.stack.json beside the picture says
    how.
    """

    photos: Annotated[Positional[tuple[Path, ...]], arg(metavar="PHOTO")]
    """The photos, or a folder that holds them: JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW. They are ordered by
    name, and should be ordered by focus distance."""
    out: Annotated[Path, arg(metavar="OUT.png|OUT.tif|OUT.jpg")]
    """The picture to write; .png and .tif with 16 bits if the photos have more than 8."""
    method: Annotated[str, arg(metavar="depth|pyramid")] = "depth"
    """depth: find which photo is sharp where, and take each pixel from there. pyramid: take each detail, fine
    or coarse, from where it has most contrast; for hairs in front of hairs."""
    reference: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the middle one)")] = (
        None
    )
    """The photo that keeps its place, size and colours."""
    depthmap: bool = False
    """Write depth (16 bit, and in colour) and its confidence, too."""
    focus: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: as EXIF says)")] = None
    """Distances in focus in the first and last photo in metres; those between follow evenly in 1/distance."""
    retouch: Annotated[Path | None, arg(metavar="MASK.png", help_behavior_hint="(default: none)")] = None
    """A grey picture: where it has the value 3, the third photo is taken; where 0, what --method finds."""

    def run(self) -> int:
        from cocogs.photo.stack import StackOptions, stack

        options = StackOptions(self.reference, self.method, self.focus, self.retouch, self.depthmap)
        for path in stack(self.photos, self.out, options, speaker(self)):
            print(path)
        return 0
