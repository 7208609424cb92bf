"""Which photos share a lens, and the lens that SfM starts with: given, by EXIF, or COLMAP's usual one."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError, counted, listed
from cocogs.io.exif_lens import lens_by_exif
from cocogs.io.intrinsics_file import ADVICE, INTRINSICS, SCHEMA, read_intrinsics
from cocogs.io.json_file import read_json
from cocogs.io.lens_estimate import SIGMAS, LensEstimate
from cocogs.io.photos import PhotoHeader
from cocogs.io.progress import Say
from cocogs.io.source import Intrinsics

# COLMAP's own start where nothing is known: longer sides of the photo.
USUAL_FOCAL_LENGTH = 1.2
# A start whose relative deviation is at most this counts as known: COLMAP then places photos by it instead of
# trying out other focal lengths. It refines both, and ends at the same lens (docs/intrinsics.md, "In SfM").
TRUSTED = 0.05


@dataclass(frozen=True)
class StartLens:
    """The lens of some photos, as SfM starts with it.

    Args:
        names: of the photos.
        lens: SIMPLE_RADIAL, or OPENCV where pixels are not square.
        trusted: its focal length counts as known.
    """

    names: tuple[str, ...]
    lens: Intrinsics
    trusted: bool


def given_lenses(places: Sequence[Path], say: Say) -> dict[str, LensEstimate]:
    """What `cocogs calibrate photo` wrote beside photos, in the first of some folders that has such a file. A
    file of that name by another program is passed over.

    Raises:
        InputError: the file is no JSON, or ours and damaged.
    """
    for path in (place / INTRINSICS for place in places):
        if not path.is_file():
            continue
        document = read_json(path, ADVICE)
        if isinstance(document, dict) and document.get("schema") == SCHEMA:
            lenses = read_intrinsics(path)
            say(f"{path} tells the lenses of {counted(len(lenses), 'photo')}: they start from it.")
            return lenses
        say(f"{path} was not written by cocogs and is not used.")
    return {}


def start_lenses(
    folder: Path, headers: Mapping[str, PhotoHeader], given: Mapping[str, LensEstimate]
) -> list[StartLens]:
    """The lenses of photos, each with the photos that share it: those of one size, and of one camera model
    and focal length by EXIF, whose given lenses agree.

    Args:
        folder: of the photos, for messages.
        headers: of the photos, by name.
        given: lenses of some of them.

    Raises:
        InputError: a given lens is of another size than its photo; or photos of different sizes may be crops,
            whose optical centre nobody knows.
    """
    for name in headers.keys() & given.keys():
        (width, height), size = given[name].size, headers[name].size(upright=True)
        if (width, height) != size:
            raise InputError(
                f"intrinsics.json tells of {width}x{height} px for {folder / name}, which has {size[0]}x"
                f"{size[1]}: write it again with `cocogs calibrate photo`, or delete it."
            )
    _refuse_crops(folder, {name: header for name, header in headers.items() if name not in given})
    groups = defaultdict(list)
    for name, header in headers.items():
        groups[header.size(upright=True), repr(_facts(header))].append(name)
    starts = []
    for _, names in sorted(groups.items()):
        if rest := [name for name in names if name not in given]:
            starts.append(_by_header(rest, headers[rest[0]]))
        starts += _by_given([name for name in names if name in given], given)
    return starts


def _facts(header: PhotoHeader) -> tuple:
    facts = header.lens
    return facts.camera_model, facts.focal_length_mm, facts.focal_length_35mm, facts.digital_zoom


def _refuse_crops(folder: Path, headers: Mapping[str, PhotoHeader]) -> None:
    """Raises InputError as `start_lenses`; the lenses of these photos are not given."""
    if not headers:
        return
    sizes = {name: header.size(upright=True) for name, header in headers.items()}
    lenses = {name: _facts(header) for name, header in headers.items()}
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    usual_lenses = {lenses[name] for name, size in sizes.items() if sorted(size) == sorted(usual)}
    odd = [
        name
        for name, size in sizes.items()
        if sorted(size) != sorted(usual)
        and (lenses[name][1:3] == (None, None) or lenses[name] in usual_lenses)
    ]
    if odd:
        example = f"{sizes[odd[0]][0]}x{sizes[odd[0]][1]}"
        raise InputError(
            f"{folder} holds photos of different sizes ({listed(odd)}: {example} px, the others "
            f"{usual[0]}x{usual[1]}): keep the uncropped photos of one camera, tell the lenses of the others "
            "by `cocogs calibrate photo` (docs/intrinsics.md), or give a COLMAP model."
        )


def _by_header(names: Sequence[str], header: PhotoHeader) -> StartLens:
    """By EXIF, else as COLMAP starts."""
    found, (width, height) = lens_by_exif(header), header.size(upright=True)
    if isinstance(found, LensEstimate):
        return StartLens(tuple(names), _lens(found), found.relative_deviation <= TRUSTED)
    focal = USUAL_FOCAL_LENGTH * max(width, height)
    lens = Intrinsics("SIMPLE_RADIAL", width, height, (focal, width / 2, height / 2, 0.0))
    return StartLens(tuple(names), lens, False)


def _by_given(names: Sequence[str], given: Mapping[str, LensEstimate]) -> list[StartLens]:
    """One lens for photos whose given lenses agree; the surest of each counts."""
    clusters: list[list[str]] = []
    for name in sorted(names, key=lambda name: given[name].relative_deviation):
        fitting = (cluster for cluster in clusters if given[cluster[0]].sigmas_from(given[name]) <= SIGMAS)
        cluster = next(fitting, None)
        if cluster is None:
            clusters.append([name])
        else:
            cluster.append(name)
    return [
        StartLens(tuple(sorted(c)), _lens(given[c[0]]), given[c[0]].relative_deviation <= TRUSTED)
        for c in clusters
    ]


def _lens(found: LensEstimate) -> Intrinsics:
    """With a distortion that SfM can refine."""
    k1 = found.k1 or 0.0
    if found.is_square:
        return Intrinsics(
            "SIMPLE_RADIAL", *found.size, (math.sqrt(math.prod(found.focal)), *found.center, k1)
        )
    return Intrinsics("OPENCV", *found.size, (*found.focal, *found.center, k1, 0.0, 0.0, 0.0))
