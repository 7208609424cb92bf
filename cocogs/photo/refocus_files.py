"""`cocogs refocus`: from a photo file to refocused pictures or films, and what is to be known of them."""

import json
from collections.abc import Callable
from pathlib import Path

from cocogs.io import photos
from cocogs.io.atomic import scratch_folder, write_text
from cocogs.io.pictures import write_film, write_picture, write_png
from cocogs.io.progress import Progress, Say
from cocogs.optics.lens import Lens
from cocogs.photo.deblur import load_deblurrer
from cocogs.photo.opened import OpenedPhoto, open_photo
from cocogs.photo.refocus import Refocused, by_network
from cocogs.photo.refocus_options import RefocusOptions
from cocogs.photo.written import REFOCUSED, finite
from cocogs.render.options import FILMS, FPS
from cocogs.srgb import to_srgb

TICKS = 100  # of a progress bar


def refocus_photo(options: RefocusOptions, say: Say = print) -> list[Path]:
    """Make the picture or the film that `options` ask for.

    Returns:
        The files: the picture or film; masks of what stays too blurred and of what a network deblurred, where
        there is any; the facts.

    Raises:
        InputError: options that do not fit each other or the photo, or a file that cannot be read or written.
    """
    options.check()
    width = options.width()
    photo = open_photo(options.photo, options.depth, options.depth_kind, options.source, width, say)
    lenses = list(options.lenses(photo))
    if options.kind in FILMS:
        return _film(options, photo, lenses, say)
    with Progress("Refocusing", TICKS, say, patience=2) as progress:
        deblur = None if options.keep_blur else by_network()
        refocused = photo.picture.refocused(lenses[0], deblur, _ticking(progress))
    return _still(options, photo, lenses[0], refocused, say)


def _ticking(progress: Progress) -> Callable[[float], None]:
    """A callback that moves a bar of `TICKS` to a share of it."""
    shown = 0

    def tick(share: float) -> None:
        nonlocal shown
        steps = int(share * TICKS) - shown
        progress.add(steps)
        shown += steps

    return tick


def _still(
    options: RefocusOptions, photo: OpenedPhoto, lens: Lens, refocused: Refocused, say: Say
) -> list[Path]:
    is_again = REFOCUSED.is_again(options.out)  # the masks beside the picture are ours
    exif = photos.exif_for_copy(options.photo)
    write_picture(to_srgb(refocused.light).cpu(), options.out, photo.bits, exif)
    paths = [options.out]
    for mask, word in zip((refocused.refused, refocused.deblurred), REFOCUSED.beside, strict=True):
        path = REFOCUSED.companion(options.out, word)
        if bool(mask.any()):
            write_png(mask.float().cpu(), path)
            paths.append(path)
        elif is_again:
            path.unlink(missing_ok=True)
    shares = refocused.refused_share, refocused.deblurred_share
    return [*paths, _write_facts(options, photo, [lens], *shares, say)]


def _film(options: RefocusOptions, photo: OpenedPhoto, lenses: list[Lens], say: Say) -> list[Path]:
    """Frame after frame beside the film, joined when all are there."""
    refused, deblurred, deblur = 0.0, 0.0, None if options.keep_blur else by_network(whole=True)
    with scratch_folder(options.out) as folder:
        frames = [folder / f"frame_{index:05d}.png" for index in range(len(lenses))]
        with Progress("Refocusing", len(lenses), say, patience=2) as progress:
            for lens, frame in zip(lenses, frames, strict=True):
                refocused = photo.picture.refocused(lens, deblur)
                write_png(to_srgb(refocused.light).cpu(), frame)
                refused = max(refused, refocused.refused_share)
                deblurred = max(deblurred, refocused.deblurred_share)
                progress.add(1)
        write_film(frames, options.fps or FPS, options.out)
    return [options.out, _write_facts(options, photo, [lenses[0], lenses[-1]], refused, deblurred, say)]


def _write_facts(
    options: RefocusOptions,
    photo: OpenedPhoto,
    lenses: list[Lens],
    refused: float,
    deblurred: float,
    say: Say,
) -> Path:
    """What was measured, assumed and invented; infinity is null. Of a film the shares are the largest."""
    if deblurred > 0:
        say(
            f"{100 * deblurred:.2g} % of the photo was made sharper by a network; its detail is a guess. "
            "`keep_blur` leaves it as it is."
        )
    if refused > 0:
        say(f"{100 * refused:.2g} % of the photo keeps more blur than asked for: docs/refocus.md says why.")
    depth, camera, taken = photo.depth, photo.camera, photo.camera.taken
    facts = {
        "picture": options.out.name,
        "photo": str(options.photo),
        "depth": {"source": depth.source, "unit": depth.unit, "estimated": depth.estimated},
        "taken": taken and {"focus_distance": finite(float(taken.focus_distance)), "K": float(taken.K)},
        "lenses": [
            {"focus_distance": finite(lens.focus_distance), "aperture_diameter": lens.aperture_diameter}
            for lens in lenses
        ],
        "blades": options.blades, "blade_rotation": options.blade_rotation, "highlights": options.highlights,
        "focal_px": photo.picture.focal_px,
        "invented": {
            "hidden_parts": "filled from their neighbourhood",
            "deblurred_share": deblurred,
            "deblurred_by": load_deblurrer().facts if deblurred else None,
        },
        "too_blurred_share": refused,
        "notes": [*depth.warnings, *camera.notes],
    }  # fmt: skip
    path = REFOCUSED.facts(options.out)
    write_text(path, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return path
