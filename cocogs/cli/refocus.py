"""`cocogs refocus`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker


@dataclass
class Refocus:
    """Show one photo with another focus and aperture: click a point, choose an f-number.

    The photo needs a depth map: its own (portrait photos of phones), one in a file, or an estimated one.
    """

    photo: Annotated[Positional[Path], arg(metavar="PHOTO")]
    """A photo: JPEG, PNG, TIFF, WebP, HEIC, AVIF or RAW."""
    out: Annotated[Path, arg(metavar="PICTURE|FILM")]
    """The picture (.png, .tif, .jpg or .exr), or a film (.mp4 or .gif) with --focus-pull or --sweep. What is
    known of it goes into NAME.refocus.json."""
    focus_at: Annotated[str | None, arg(metavar="X,Y", help_behavior_hint="(default: none)")] = None
    """Focus on what lies at this point: pixels from the upper left corner, or per cent such as 40%,60%."""
    focus: Annotated[str | None, arg(metavar="1.2m|1.5x|inf", help_behavior_hint="(default: none)")] = None
    """Focus at a distance: in metres where the depth is metric, in scene units with run:RUN, else as a
    multiple of the median depth."""
    focus_pull: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: none)")] = None
    """A film: move the focus from A to B, each a point or a distance as above."""
    f_number: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: none)")] = None
    """The f-number to show: of the photo's own camera, or of full frame if its sensor is smaller than Micro
    Four Thirds."""
    aperture: Annotated[str | None, arg(metavar="1.5x", help_behavior_hint="(default: none)")] = None
    """The aperture as a multiple of the one that the photo was taken with; 0x makes it
    as sharp as it can be made."""
    sweep: Annotated[str | None, arg(metavar="N:N", help_behavior_hint="(default: none)")] = None
    """A film: open or close the lens from one f-number to another, such as 16:1.8."""
    blades: int = 0
    """Blades of the aperture: out-of-focus highlights become polygons with this many sides; 0 is round."""
    blade_rotation: Annotated[float, arg(metavar="DEGREES")] = 0.0
    """Turn the blades."""
    highlights: float = 1.0
    """Assumed true brightness of clipped white, as a multiple of white. With about 4, bright points out of
    focus stand out as discs."""
    depth: Annotated[
        str | None,
        arg(
            metavar="FILE|run:RUN|bracket:DIR|WEIGHTS", help_behavior_hint="(default: in or beside the photo)"
        ),
    ] = None
    """Depth map: a file (16-bit PNG, TIFF, .npy, OpenEXR), a trained run that has this photo, the focus
    bracket that it belongs to, or a folder with the weights of Depth Anything V2 Small."""
    depth_kind: Annotated[
        str | None, arg(metavar="depth|inverse|disparity", help_behavior_hint="(default: as the file says)")
    ] = None
    """What a depth map holds. depth: distances; inverse: one over them; disparity: larger is nearer, by an
    unknown scale and offset."""
    source: Annotated[
        str | None, arg(metavar="sharp|camera.json|N@FOCUS", help_behavior_hint="(default: by EXIF)")
    ] = None
    """How the photo was taken: sharp everywhere, by a camera as `cocogs calibrate` describes it, or at an
    f-number and a focus, such as 2.8@1.5m or 2.8@40%,60%. Only the difference of blur is added."""
    keep_blur: bool = False
    """Do not take blur away by the network: what is more blurred than it shall be stays so, and is marked."""
    size: Annotated[str | None, arg(metavar="W", help_behavior_hint="(default: as the photo)")] = None
    """Shrink the picture to this width in px."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 96)")] = None
    """Pictures of a film."""
    fps: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: 24)")] = None
    """Pictures per second of a film."""

    def run(self) -> int:
        from cocogs.photo.refocus_files import refocus_photo
        from cocogs.photo.refocus_options import RefocusOptions

        for path in refocus_photo(RefocusOptions(**vars(self)), speaker(self)):
            print(path)
        return 0
