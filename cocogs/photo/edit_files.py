"""`cocogs edit PHOTO`: from a photo, its depth and the mask of an object to the edited picture, and what is
to be known of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from cocogs.io import photos
from cocogs.io.atomic import write_text
from cocogs.io.pictures import write_picture, write_png
from cocogs.io.progress import Say
from cocogs.optics.sharpness import gaussian_blur
from cocogs.photo.deblur import load_deblurrer
from cocogs.photo.edit import EditedPhoto, edit, middle_of
from cocogs.photo.edit_options import PhotoEditOptions, read_object
from cocogs.photo.guided_diffusion import DepthGuidedDiffuser, EditedDepth
from cocogs.photo.layer import camera_of
from cocogs.photo.lift import Motion
from cocogs.photo.opened import OpenedPhoto, open_photo
from cocogs.photo.refocus import DepthPhoto, by_network
from cocogs.photo.written import EDITED, finite
from cocogs.srgb import to_linear, to_srgb

TOLD = 0.0005  # shares below this are not worth a sentence
SEAM = 2.0  # px; deviation of the Gaussian by which imagined light fades into the photo
STAYS = (
    "Shadows and reflections of the object stay where they were, and it gets no new ones.",
    "Sides of the object that the photo does not show stay unseen.",
)
ALONE = "The mask reaches the photo's border: the object ends there, and may end so in its new place."


def edit_photo(photo: Path, options: PhotoEditOptions, say: Say = print) -> list[Path]:
    """Make the picture that `options` ask for.

    Returns:
        The files: the picture; masks of what is invented, of what stays too blurred and of what a network
        deblurred, where there is any; the facts.

    Raises:
        InputError: options that do not fit each other or the photo, or a file that cannot be read or written.
    """
    options.check(photo)
    opened = open_photo(photo, options.depth, options.depth_kind, options.source, say=say)
    picture = replace(opened.picture, light=opened.picture.light.cpu(), depth=opened.picture.depth.cpu())
    mask = read_object(options.mask, *picture.depth.shape)
    diffuser = None if options.weights is None else DepthGuidedDiffuser(options.weights, say)
    motion = options.motion(middle_of(picture, mask), opened.depth)
    deblur = None if options.keep_blur else by_network()
    edited = edit(picture, mask, motion, options.duplicate, deblur)
    if diffuser is not None:
        edited = _imagined(diffuser, picture, mask, motion, edited)
    return _write(photo, options, opened, mask, motion, edited, diffuser, say)


def _imagined(
    diffuser: DepthGuidedDiffuser,
    picture: DepthPhoto,
    mask: Bool[Tensor, "H W"],
    motion: Motion | None,
    edited: EditedPhoto,
) -> EditedPhoto:
    """What is invented, by the network; all that the photo shows stays the photo's."""
    if not bool(edited.invented.any()):
        return edited
    change = EditedDepth(edited.depth_before, edited.depth, mask, camera_of(picture), motion)
    drawn = to_linear(diffuser(to_srgb(picture.light).clamp(0, 1), change).picture)
    share = gaussian_blur(edited.invented[None].float(), SEAM) * edited.invented
    return replace(edited, light=torch.lerp(edited.light, drawn, share))


def _write(
    photo: Path,
    options: PhotoEditOptions,
    opened: OpenedPhoto,
    mask: Bool[Tensor, "H W"],
    motion: Motion | None,
    edited: EditedPhoto,
    diffuser: DepthGuidedDiffuser | None,
    say: Say,
) -> list[Path]:
    notes = [*opened.depth.warnings, *opened.camera.notes, *STAYS[: 1 if motion is None else 2]]
    border = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    notes += [] if opened.picture.taken is None else ["The photo's aperture is taken to be round."]
    notes += [ALONE] if motion is not None and bool(border.any()) else []
    for sentence in _warnings(edited, EDITED.companion(options.out, "invented")):
        say(sentence)
    facts = {
        "picture": options.out.name,
        "photo": str(photo),
        "mask": str(options.mask),
        "edit": _edit(options, motion),
        "measured": _measured(opened, edited),
        "assumed": notes,
        "invented": _invented(edited, diffuser),
        "too_blurred_share": _share(edited.refused),
        "generative": diffuser is not None and bool(edited.invented.any()),
    }
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"  # before a file is written
    is_again = EDITED.is_again(options.out)  # the masks beside the picture are ours
    write_picture(to_srgb(edited.light), options.out, opened.bits, photos.exif_for_copy(photo))
    paths = [options.out]
    for where, word in zip((edited.invented, edited.refused, edited.deblurred), EDITED.beside, strict=True):
        path = EDITED.companion(options.out, word)
        if bool(where.any()):
            write_png(where.float(), path)
            paths.append(path)
        elif is_again:
            path.unlink(missing_ok=True)
    path = EDITED.facts(options.out)
    write_text(path, text)
    return [*paths, path]


def _warnings(edited: EditedPhoto, invented: Path) -> list[str]:
    """Sentences for the user about what is not as it should be."""
    sentences = [
        (edited.outside, "of the object is outside the picture."),
        (
            edited.hidden,
            "of the moved object is hidden by what is nearer. If it sinks into a table, give it some way up, "
            "too (a negative Y).",
        ),
        (_share(edited.invented), f"of the picture is invented: {invented.name} shows where."),
        (
            _share(edited.deblurred),
            "of the picture was made sharper by a network; its detail is a guess. `keep_blur` leaves it as "
            "it is.",
        ),
        (_share(edited.refused), "of the picture keeps more blur than its new distance gives it."),
    ]
    return [f"{100 * share:.2g} % {text}" for share, text in sentences if share >= TOLD]


def _edit(options: PhotoEditOptions, motion: Motion | None) -> dict[str, Any]:
    """What was done; lengths in the unit of the depth."""
    if motion is None:
        return {"delete": True}
    return {
        "move": motion.move.tolist(),
        "rotate": options.rotate,
        "scale": motion.scale,
        "about": motion.pivot.tolist(),
        "duplicate": options.duplicate,
    }


def _measured(opened: OpenedPhoto, edited: EditedPhoto) -> dict[str, Any]:
    """What the photo, its depth and its lens tell; an infinite distance is null."""
    depth, taken = opened.depth, opened.picture.taken
    lens = taken and {"focus_distance": finite(float(taken.focus_distance)), "K": float(taken.K)}
    facts: dict[str, Any] = {
        "depth": {"source": depth.source, "unit": depth.unit, "estimated": depth.estimated},
        "taken": lens,
        "focal_px": opened.picture.focal_px,
    }
    if edited.distance is not None:
        facts["distance"] = dict(zip(("before", "after"), edited.distance, strict=True))
        facts["hidden_share"], facts["outside_share"] = edited.hidden, edited.outside
    if edited.coc is not None:
        facts["coc_px"] = dict(zip(("before", "after"), edited.coc, strict=True))
    return facts


def _invented(edited: EditedPhoto, diffuser: DepthGuidedDiffuser | None) -> dict[str, Any]:
    share, deblurred = _share(edited.invented), _share(edited.deblurred)
    by = "continued from its surroundings by OpenCV" if diffuser is None else diffuser.facts
    return {
        "share": share,
        "by": by if share else None,
        "deblurred_share": deblurred,
        "deblurred_by": load_deblurrer().facts if deblurred else None,
    }


def _share(where: Bool[Tensor, "H W"]) -> float:
    """Of the picture."""
    return float(where.float().mean())
