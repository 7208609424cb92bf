"""`cocogs render`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker
from cocogs.errors import counted


@dataclass
class Render:
    """Write pictures or videos of a trained scene: sharp everywhere, as photographed, or refocused.

    From the photos' places (--views, --view) or along a path (--path). The same command continues an
    interrupted sequence.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """The folder that `cocogs train --out` wrote."""
    out: Annotated[Path, arg(metavar="DIR|VIDEO")]
    """Folder for the pictures, or the name of a video, ending in .mp4 or .gif."""
    views: Annotated[str | None, arg(metavar="test|train|all", help_behavior_hint="(default: test)")] = None
    """Which cameras to render from: held-out photos, training photos, or all."""
    view: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: see --views)")] = None
    """From the place of this one photo; with --focus-at, the photo in which the point lies."""
    path: Annotated[
        str | None, arg(metavar="photos|spiral|orbit|FILE.json", help_behavior_hint="(default: no path)")
    ] = None
    """Move the camera. photos: through the photos in their order, smoothed; spiral: among them; orbit: a
    full circle around the subject; needs photos from all sides; FILE.json: as `cocogs view` saved it."""
    defocused: bool = False
    """Use each photo's own learned focus and blur, to compare with the photo; training photos only."""
    focus: Annotated[str | None, arg(metavar="Z|1.2m", help_behavior_hint="(default: all sharp)")] = None
    """Focus at this distance: in scene units (RUN/lens.json lists those of the photos), in metres where EXIF
    tells how long a unit is, or at infinity: inf."""
    focus_at: Annotated[str | None, arg(metavar="X,Y", help_behavior_hint="(default: none)")] = None
    """Focus on what the photo --view shows at this point: pixels from the upper left corner of the picture as
    rendered without --size, or per cent such as 50%,40%."""
    focus_pull: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: none)")] = None
    """Move the focus from distance A to B over the frames: scene units, or metres such as 0.5m:2m."""
    aperture: Annotated[str | None, arg(metavar="1.5x", help_behavior_hint="(default: 1x)")] = None
    """How far to open the lens: a factor of the learned aperture; 0x makes everything sharp."""
    f_number: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: as the photos)")] = None
    """Set the aperture as an f-number instead of a factor; needs the photos' own f-number from EXIF."""
    aperture_sweep: Annotated[str | None, arg(metavar="A:B", help_behavior_hint="(default: none)")] = None
    """Open the lens from A to B over the frames: factors of the learned aperture."""
    blades: int = 0
    """Blades of the aperture: out-of-focus highlights become polygons with this many sides; 0 is round."""
    blade_rotation: Annotated[float, arg(metavar="DEGREES")] = 0.0
    """Turn the blades."""
    highlights: float = 1.0
    """Assumed true brightness of clipped white, as a multiple of white; photos cannot tell. With about 4,
    bright points out of focus stand out as discs. Small ones need --samples 256."""
    samples: int = 64
    """Samples across the aperture per picture: more is smoother and slower. 0 is quick, and rough where a
    blurred edge covers something else."""
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 96)")] = None
    """Number of pictures along a path or sweep."""
    fps: Annotated[float | None, arg(metavar="N", help_behavior_hint="(default: 24)")] = None
    """Pictures per second of a video."""
    size: Annotated[str | None, arg(metavar="W|WxH", help_behavior_hint="(default: as trained)")] = None
    """Size of the pictures in px."""
    camera: Annotated[
        str | None, arg(metavar="photos|camera.json", help_behavior_hint="(default: no distortion)")
    ] = None
    """Put a lens's distortion back. photos: that which was taken out of the photos, so that pictures lie
    over them; camera.json: also its angle of view and size (docs/camera-json.md)."""
    format: Annotated[
        str | None,
        arg(metavar="png|png16|exr|mp4|gif", help_behavior_hint="(default: png, or as --out ends)"),
    ] = None
    """PNG of 8 or 16 bit, OpenEXR (linear light), or a video."""
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
        paths = render(load_run(self.run_folder), RenderOptions(**options), speaker(self))
        print(f"{self.out}" if paths == [self.out] else f"{counted(len(paths), 'picture')} in {self.out}")
        return 0
