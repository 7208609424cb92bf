"""`cocogs calibrate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cocogs.cli.options import split_list
from cocogs.cli.words import speaker
from cocogs.io.lens_estimate import LensEstimate

CENTER_KNOWN = 0.1  # largest deviation of a principal point that is shown, as a part of the longer side


@dataclass
class Calibrate:
    """Measure a camera by photos of its own, into camera.json for `cocogs simulate`: noise and vignetting
    from flats and darks, f-number and focus distance from charts, the response from several exposures.

    Flats show an even, evenly lit surface, out of focus; darks are taken with the cap on and the same ISO.
    `cocogs calibrate photo` finds the focal length of ordinary photos instead (--help tells more).
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


@dataclass
class CalibratePhoto:
    """Find the focal length of photos: by EXIF, by the vanishing points of straight lines, by a network.

    The surest source counts, and sources that contradict each other are an error. docs/intrinsics.md tells
    how sure each is.
    """

    photos: Annotated[Positional[tuple[Path, ...]], arg(metavar="PHOTO")]
    """Photos, or folders of photos."""
    out: Annotated[
        Path | None, arg(metavar="intrinsics.json|cameras.txt", help_behavior_hint="(default: write nothing)")
    ] = None
    """The file to write: what was found and by what, or a camera file for COLMAP."""
    apply: bool = False
    """Write intrinsics.json into the folder of the photos, where `cocogs train` starts from it."""
    shared: bool = False
    """One camera took all photos, without zooming: find one lens for all of them."""
    sources: Annotated[str | None, arg(metavar="exif,lines", help_behavior_hint="(default: both)")] = None
    """What to ask. Lines need OpenCV: pip install 'cocogs[calibrate]'."""
    views: bool = False
    """The folder shows one scene, taken from different places with one lens: also ask structure from motion,
    which takes minutes."""
    backend: Annotated[
        Literal["anycalib", "geocalib", "dm-calib"] | None, arg(help_behavior_hint="(default: none)")
    ] = None
    """Also ask a network, whose files you have."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder of the network's weights."""
    code: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: installed)")] = None
    """Folder that holds the network's Python package, such as a clone of its repository."""
    pictures: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder for a picture of each photo with its lines, vanishing points and horizon."""

    def run(self) -> int:
        from cocogs.calibrate.photos import PhotoLensOptions, calibrate_photos
        from cocogs.cli.measure import plain_console
        from cocogs.io.intrinsics_file import INTRINSICS
        from cocogs.measure.text_table import print_table

        options = {**vars(self), "sources": self.sources and split_list("sources", self.sources)}
        console = plain_console(self)
        found = calibrate_photos(PhotoLensOptions(**options), console.print)
        rows = [lens_row(name, answer.lens) for name, answer in found.answers.items()]
        rows += [[name, "unknown", "", "", ""] for name in found.unknown]
        print_table(["photo", "focal length", "field of view", "centre", "by"], rows, console)
        told = {(one.source, one.reason) for silent in found.unknown.values() for one in silent}
        told |= {
            (answer.lens.source, note) for answer in found.answers.values() for note in answer.lens.notes
        }
        for source, sentence in sorted(told):
            console.print(f"{source}: {sentence}")
        if self.out is not None:
            console.print(f"Written: {self.out}")
        if self.apply:
            console.print(f"Written: {found.folder / INTRINSICS}, from which cocogs train starts.")
        return 0


def lens_row(photo: str, lens: LensEstimate) -> list[str]:
    """What is printed of a photo."""
    (fx, fy), off, across = lens.focal, lens.relative_deviation, lens.fields_of_view[0]
    focal = f"{fx:.0f} px" if round(fx) == round(fy) else f"{fx:.0f} x {fy:.0f} px"
    x, y = (place - side / 2 for place, side in zip(lens.center, lens.size, strict=True))
    is_known = max(lens.center_deviation) < CENTER_KNOWN * max(lens.size)
    center = f"{x:+.0f}, {y:+.0f} px" if is_known else "unknown"
    return [photo, f"{focal} ±{off:.1%}", f"{across:.1f} degrees", center, f"{lens.source}: {lens.basis}"]
