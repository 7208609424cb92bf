"""`cocogs calibrate photo`: the lenses of photos, by whatever tells of them (docs/intrinsics.md)."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from cocogs.calibrate.agreement import shared_lens, surest
from cocogs.calibrate.lines import LinesFound, estimate_by_lines
from cocogs.calibrate.lines_picture import draw_lines
from cocogs.calibrate.networks import LensNetwork, load_network
from cocogs.calibrate.views import lens_of_views
from cocogs.errors import InputError
from cocogs.io import colmap, folders
from cocogs.io.atomic import replacing
from cocogs.io.colmap_write import check_cameras, write_cameras
from cocogs.io.exif_lens import is_fisheye, lens_by_exif
from cocogs.io.intrinsics_file import INTRINSICS, Answer, read_intrinsics, write_intrinsics
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.photos import list_photos, read_header, read_photo
from cocogs.io.progress import Progress, Say

SOURCES = ("exif", "lines")
LOOKED_AT = 2048  # px of the longer side, at least, of what lines and networks see
TOGETHER = 16  # photos that a network looks at together
GOOD = 0.04  # relative deviation of EXIF's focal length, from which on other sources hardly help


@dataclass(frozen=True)
class PhotoLensOptions:
    """What was asked for; cocogs/cli/calibrate.py describes every field for users."""

    photos: Sequence[Path]
    out: Path | None = None
    apply: bool = False
    shared: bool = False
    sources: Sequence[str] | None = None
    backend: str | None = None
    weights: Path | None = None
    code: Path | None = None
    views: bool = False
    pictures: Path | None = None


@dataclass(frozen=True)
class PhotoLenses:
    """What was found.

    Args:
        folder: that of the photos.
        answers: by the photos' names.
        unknown: the reasons, by the names of the photos whose lens nobody knows.
    """

    folder: Path
    answers: dict[str, Answer]
    unknown: dict[str, tuple[Abstention, ...]]


def calibrate_photos(options: PhotoLensOptions, say: Say = print) -> PhotoLenses:
    """Ask the sources, see whether they agree, and write what they say.

    Raises:
        InputError: a file is no photo, sources contradict each other, nobody knows any lens, or a file cannot
            be written.
    """
    network = _checked(options)
    sources = _Sources(options.sources or _at_hand(say), network, options.shared, options.pictures)
    folder, names = find_photos(options.photos)
    _check_files(options, folder)
    said, silent, small = _asked(sources, folder, names, say)
    if options.views:
        _ask_views(folder, said, silent, say)
    if options.shared:
        said = _shared(said, network, small)
    answers, unknown = {}, {}
    for name in names:
        if said[name]:
            lens, others = surest(list(said[name].values()), name)
            answers[name] = Answer(lens, tuple(others), tuple(silent[name]))
        else:
            unknown[name] = tuple(silent[name])
    if not answers:
        reasons = " ".join(f"{one.source}: {one.reason}" for one in unknown[names[0]])
        raise InputError(
            f"Nothing tells the lens of {folder / names[0]}. {reasons} Without it `cocogs train` finds the "
            "lens together with the cameras, of photos that are not cropped."
        )
    found = PhotoLenses(folder, answers, unknown)
    _write(found, options)
    _tell_gain(found, say)
    return found


def find_photos(given: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder that holds photos, and their names in it.

    Args:
        given: files, or folders, whose photos are all taken.

    Raises:
        InputError: something does not exist, or there is no photo.
    """
    if not given:
        raise InputError("Give the photos, or the folder that holds them.")
    files = []
    for path in given:
        if path.is_dir():
            place = folders.photo_folder(path)
            inside = [place / name for name in list_photos(place)]
            if not inside:
                raise folders.no_photos(place)
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path} does not exist: give photos, or the folder that holds them.")
    files = list(dict.fromkeys(file.absolute() for file in files))
    folder = Path(os.path.commonpath([file.parent for file in files]))
    if len(given) == 1 and given[0].is_dir():
        folder = folders.photo_folder(given[0])
    return folder, [Path(os.path.relpath(file, folder)).as_posix() for file in files]


def _checked(options: PhotoLensOptions) -> LensNetwork | None:
    """The network, where one is asked for."""
    if odd := next((name for name in options.sources or () if name not in SOURCES), None):
        raise InputError(f"`sources` are {' and '.join(SOURCES)}, not {odd}.")
    if (options.backend is None) != (options.weights is None):
        raise InputError("`backend` and `weights` go together: give both.")
    if options.views and not (len(options.photos) == 1 and options.photos[0].is_dir()):
        raise InputError("`views` needs one folder, with photos of one scene.")
    if options.backend is None or options.weights is None:
        return None
    return load_network(options.backend, options.weights, options.code)


def _at_hand(say: Say) -> tuple[str, ...]:
    """The sources whose packages are installed."""
    if find_spec("cv2") is not None:
        return SOURCES
    say("Straight lines are not looked at, which needs OpenCV: pip install 'cocogs[calibrate]'.")
    return tuple(name for name in SOURCES if name != "lines")


def _check_files(options: PhotoLensOptions, folder: Path) -> None:
    """Raises InputError before the work, where its results would have no place."""
    if options.out is not None and options.out.suffix.lower() not in (".json", ".txt"):
        raise InputError(f"{options.out} must end in .json (intrinsics.json) or .txt (COLMAP's cameras.txt).")
    for target in [options.out, folder / INTRINSICS if options.apply else None]:
        if target is None or not target.exists():
            continue
        if target.suffix.lower() == ".txt":
            check_cameras(target)
        else:
            read_intrinsics(target)  # nothing else is replaced
    if options.pictures is None:
        return
    pictures, taken = options.pictures.resolve(), [path.resolve() for path in options.photos if path.is_dir()]
    among = pictures == folder.resolve() or any(pictures.is_relative_to(path) for path in taken)
    if among or pictures.is_file():  # later runs would take the pictures for photos
        raise InputError(f"{options.pictures} must be a folder that is not among the photos.")


@dataclass(frozen=True)
class _Sources:
    """What is asked of every photo.

    Args:
        names: of `SOURCES`.
        shared: one camera took all photos.
        pictures: folder for pictures of lines.
    """

    names: Sequence[str]
    network: LensNetwork | None
    shared: bool
    pictures: Path | None


Said = dict[str, dict[str, LensEstimate]]
"""Estimates by photo and source."""


def _asked(
    sources: _Sources, folder: Path, names: Sequence[str], say: Say
) -> tuple[Said, dict[str, list[Abstention]], list[np.ndarray]]:
    """What every source says of every photo; what is silent; and some pictures, where the network shares."""
    said: Said = {name: {} for name in names}
    silent: dict[str, list[Abstention]] = {name: [] for name in names}
    small = []
    progress = Progress("Looking at photos", len(names), say, patience=2)
    for name in names:
        found = _ask(folder, name, sources, small)
        for one in found:
            if isinstance(one, LensEstimate):
                said[name][one.source] = one
            else:
                silent[name].append(one)
        progress.add(1)
    return said, silent, small


def _ask(
    folder: Path, name: str, sources: _Sources, small: list[np.ndarray]
) -> list[LensEstimate | Abstention]:
    photo = folder / name
    header = read_header(photo)
    found: list[LensEstimate | Abstention] = [lens_by_exif(header)] if "exif" in sources.names else []
    needs_pixels = "lines" in sources.names or sources.network is not None
    if not needs_pixels:
        return found
    if is_fisheye(header.lens):  # which bends lines, and whose picture no pinhole describes
        return found or [lens_by_exif(header)]
    pixels = read_photo(photo, shrink=max(1.0, max(header.width, header.height) / LOOKED_AT))
    if "lines" in sources.names:
        lines = estimate_by_lines(pixels)
        if isinstance(lines, LinesFound) and sources.pictures is not None:
            _write_picture(draw_lines(pixels, lines), sources.pictures / f"{name}.lines.png")
        found.append(lines.lens if isinstance(lines, LinesFound) else lines)
    if sources.network is not None and sources.shared and sources.network.shares:
        if len(small) < TOGETHER:
            small.append(pixels)
    elif sources.network is not None:
        found.append(sources.network([pixels]))
    size = header.size(upright=True)
    return [one.resized(*size) if isinstance(one, LensEstimate) else one for one in found]


def _ask_views(folder: Path, said: Said, silent: dict[str, list[Abstention]], say: Say) -> None:
    """What structure from motion says of the one lens of all photos in a folder."""
    with tempfile.TemporaryDirectory() as cache:
        found = lens_of_views(folder, Path(cache) / "sfm", 0, say)
    for name in said:
        if isinstance(found, Abstention):
            silent[name].append(found)
        elif read_header(folder / name).size(upright=True) == found.size:
            said[name][found.source] = found
        else:
            silent[name].append(Abstention(found.source, "The photo is of another size than the others."))


def _shared(said: Said, network: LensNetwork | None, small: list[np.ndarray]) -> Said:
    """One lens for all photos, by each source."""
    sources = dict.fromkeys(source for found in said.values() for source in found)
    lenses = {
        source: shared_lens({name: found[source] for name, found in said.items() if source in found})
        for source in sources
    }
    if network is not None and small:
        if len({picture.shape for picture in small}) > 1:
            raise InputError(
                "Photos of one lens (`shared`) must be of one size: turned ones are given apart."
            )
        together = network(small)
        if isinstance(together, LensEstimate):
            first = next(iter(lenses.values()), None)
            lenses[network.backend] = together.resized(*first.size) if first else together
    return {name: dict(lenses) for name in said}


def _write(found: PhotoLenses, options: PhotoLensOptions) -> None:
    if options.out is not None and options.out.suffix.lower() == ".txt":
        write_cameras(options.out, {name: answer.lens.intrinsics for name, answer in found.answers.items()})
    elif options.out is not None:
        write_intrinsics(found.answers, found.unknown, options.out, options.shared)
    if options.apply:
        write_intrinsics(found.answers, found.unknown, found.folder / INTRINSICS, options.shared)


def _write_picture(picture: np.ndarray, path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary)


def _tell_gain(found: PhotoLenses, say: Say) -> None:
    """Say where nothing is gained."""
    lenses = [answer.lens for answer in found.answers.values()]
    if not found.unknown and all(
        lens.source == "exif" and lens.relative_deviation <= GOOD for lens in lenses
    ):
        worst = max(lens.relative_deviation for lens in lenses)
        say(
            f"EXIF tells the focal lengths within {worst:.1%}: training takes them by itself, and nothing is "
            "gained."
        )
    model = colmap.find_model(found.folder) or colmap.find_model(found.folder.parent)
    if model is not None:
        say(f"{model} is a COLMAP model: training takes its cameras, and nothing is gained.")
