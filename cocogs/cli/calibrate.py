"""`cocogs calibrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cocogs.cli.words import speaker


@dataclass
class Calibrate:
    """Measure a camera by photos of its own, into camera.json for `cocogs simulate`: noise and vignetting
    from flats and darks, f-number and focus distance from charts, the response from several exposures.

    Flats show an even, evenly lit surface, out of focus; darks are taken with the cap on and the same ISO.
    """

    what: Annotated[Positional[Literal["camera"]], arg(metavar="camera")]
    """What to calibrate."""
    out: Annotated[Path, arg(metavar="camera.json")]
    """The file to write. A page of curves is written beside it."""
    flats: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder of at least 2 flats; 12 are good. RAW, or pictures of 8 to 16 bit."""
    darks: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder of at least 2 darks; 8 are good."""
    defocus: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder of charts at 3 or more distances, each twice: 0.50m.png as the lens is to be measured, and
    0.50m_sharp.png stopped down. Needs --camera with the focal length."""
    exposures: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder of photos of one still scene, in which nothing but the shutter time differs; with EXIF. Needs
    OpenCV: pip install 'cocogs[calibrate]'."""
    lens: Annotated[Path | None, arg(metavar="PHOTO", help_behavior_hint="(default: none)")] = None
    """A photo whose EXIF names camera and lens, as a start: its settings, and what lensfun's database knows
    of the lens's vignetting and distortion. Needs lensfunpy: pip install 'cocogs[calibrate]'."""
    sensor_mm: Annotated[str | None, arg(metavar="WxH", help_behavior_hint="(default: see --camera)")] = None
    """Size of the sensor in mm, such as 36x24."""
    camera: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """A camera.json whose other numbers are kept."""
    response: Annotated[
        str | None, arg(metavar="srgb|linear|FILE", help_behavior_hint="(default: by --exposures, or srgb)")
    ] = None
    """How pixel values came from light. FILE is a camera.json with a response. RAW files are linear."""
    per_colour: bool = False
    """A vignette for each colour."""

    def run(self) -> int:
        from cocogs.calibrate import CalibrateOptions, calibrate

        options = {name: value for name, value in vars(self).items() if name != "what"}
        camera = calibrate(CalibrateOptions(**options), speaker(self))
        parts = [] if self.lens is None else ["lens by lensfun"]
        parts += [] if self.exposures is None else ["response curve"]
        if self.flats is not None and camera.noise is not None:
            parts += [f"shot gain {camera.noise.shot_gain:.3g}", f"read noise {camera.noise.read_noise:.3g}"]
        if self.defocus is not None:
            parts += [f"f/{camera.f_number:.3g}", f"focused at {camera.focus_distance_m:.4g} m"]
        print(f"{', '.join(parts).capitalize()}: {self.out} and {self.out.with_suffix('.html')}")
        return 0
