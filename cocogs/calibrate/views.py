"""The lens of many photos of one scene, without EXIF: structure from motion, and how sure it is."""

from pathlib import Path

from cocogs.errors import InputError, counted
from cocogs.io.atomic import NoRoom
from cocogs.io.bundle import AdjustedLens, adjusted_lens
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.photos import list_photos
from cocogs.io.progress import Say
from cocogs.io.sfm import reconstruct

SOURCE = "views"
FEWEST = 6
"""Photos with cameras, below which the deviation would itself be too uncertain."""
VAGUE = 0.05
"""A relative deviation of the focal length from which the photos do not tell it."""
MOVE = "take more photos from different sides, of things at different distances"


def lens_of_views(folder: Path, cache: Path, seed: int, say: Say) -> LensEstimate | Abstention:
    """The lens of a folder of photos, all taken with one lens at one focal length.

    Its photos may be defocused. Where EXIF tells the focal length, the search only starts there.

    Args:
        folder: with the photos.
        cache: folder for the cameras, in the place of `cocogs.io.sfm.reconstruct`'s, which are used again.
        seed: of the random sampling.
        say: receives progress.

    Raises:
        NoRoom: the disk is full.
    """
    names = list_photos(folder)
    if len(names) < FEWEST:
        return _abstain(
            f"{folder} holds {counted(len(names), 'photo')}; give at least {FEWEST} of one scene."
        )
    try:
        source = reconstruct(folder, names, cache, seed, say)
    except NoRoom:
        raise
    except InputError as error:
        return _abstain(str(error))
    if (lenses := len({shot.intrinsics for shot in source.shots})) > 1:
        return _abstain(
            f"{folder}: the photos were taken with {lenses} lenses or focal lengths, by their EXIF: give the "
            "photos of one."
        )
    if (placed := len(source.shots)) < FEWEST:
        return _abstain(f"{folder}: only {placed} photos could be placed of at least {FEWEST}: {MOVE}.")
    lens = adjusted_lens(cache / "sparse", say)
    if lens is None or lens.focal_deviation > VAGUE * lens.focal:
        return _abstain(f"{folder}: the photos do not tell the focal length{_vague(lens)}: {MOVE}.")
    size, unknown = source.shots[0].intrinsics, float("inf")
    return LensEstimate(
        source=SOURCE,
        size=(size.width, size.height),
        focal=(lens.focal, lens.focal),
        focal_deviation=(lens.focal_deviation, lens.focal_deviation),
        center=(size.width / 2, size.height / 2),
        center_deviation=(unknown, unknown),
        basis=f"structure from motion of {placed} photos",
        k1=lens.k1,
        k1_deviation=lens.k1_deviation,
    )


def _vague(lens: AdjustedLens | None) -> str:
    return "" if lens is None else f" ({lens.focal:.0f} px, give or take {lens.focal_deviation:.0f} px)"


def _abstain(reason: str) -> Abstention:
    return Abstention(SOURCE, reason)
