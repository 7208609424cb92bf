"""An object of one photo moved, turned, scaled, copied or taken away; its blur follows its new depth.

The object is lifted by its depth and projected from its new place. There it needs the blur of its new depth,
and brings its own, as much larger or smaller as it is shown. The difference is added in layers, as when a
photo is refocused, or taken away by a network. What is nearer covers it, through the blurred outline of that.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.errors import InputError
from cocogs.photo.apart import (
    NEARER,
    SURE,
    Surfaces,
    blur_of,
    find_surfaces,
    grown,
    inpaint,
    matte_of,
    rim_of,
    split,
)
from cocogs.photo.layer import INVENTED, Layer, cut_out, moved, points_of, refocused
from cocogs.photo.lift import Motion
from cocogs.photo.refocus import Deblur, DepthPhoto

RARE = 50  # of so many points, one on each side does not count for the size of an object


@dataclass(frozen=True)
class EditedPhoto:
    """A photo whose object has moved.

    Args:
        light: linear.
        depth_before, depth: z of the photo and of what is shown; the object's edge is the mask's.
        invented: shows what nobody saw: behind the object, or parts of it without a source.
        deblurred: where a network took blur away from the object.
        refused: where the object keeps more blur than its new depth gives it.
        distance: of the object, before and after; medians. None: it was taken away.
        coc: signed diameters of its blur in px, before and as its new depth wants it; medians. None: no lens.
        hidden: share of the moved object in the picture that nearer things cover.
        outside: share of it that is not in the picture any more.
    """

    light: Float[Tensor, "3 H W"]
    depth_before: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
    invented: Bool[Tensor, "H W"]
    deblurred: Bool[Tensor, "H W"]
    refused: Bool[Tensor, "H W"]
    distance: tuple[float, float] | None = None
    coc: tuple[float, float] | None = None
    hidden: float = 0.0
    outside: float = 0.0


def middle_of(photo: DepthPhoto, mask: Bool[Tensor, "H W"]) -> Float[Tensor, "3"]:
    """The middle of the box around the seen surface of an object, without the outermost 2 % on each side.

    Raises:
        InputError: the object is infinitely far away.
    """
    there = mask & photo.depth.isfinite()
    if not bool(there.any()):
        raise InputError("The depth in `mask` is infinite, and what is so far away cannot be moved.")
    ordered = points_of(photo, there).sort(0).values
    return (ordered[len(ordered) // RARE] + ordered[-1 - len(ordered) // RARE]) / 2


def edit(
    photo: DepthPhoto,
    mask: Bool[Tensor, "H W"],
    motion: Motion | None,
    duplicate: bool = False,
    deblur: Deblur | None = None,
) -> EditedPhoto:
    """Move the masked object, or take it away.

    Args:
        photo: on the CPU.
        motion: None: the object is taken away.
        duplicate: it also stays where it is.
        deblur: takes blur away where the object has too much; None: it keeps it.

    Raises:
        InputError: nothing of the object would be in the picture, or its blur would be wider than that.
    """
    surfaces = find_surfaces(photo, mask)
    photo = replace(photo, depth=surfaces.photo(mask))
    scene, missing = photo, torch.zeros_like(mask)
    if not duplicate:
        scene, missing = without(photo, mask, surfaces)
    if motion is None:
        nowhere = torch.zeros_like(mask)
        return EditedPhoto(scene.light, photo.depth, scene.depth, missing, nowhere, nowhere)
    layer = cut_out(photo, mask, surfaces, motion, deblur)
    layer, outside = moved(layer, photo, motion)
    if photo.taken is not None:
        layer = refocused(layer, photo.taken)
    edited = _composed(layer.within(*mask.shape), scene, missing)
    most = (layer.matte >= layer.matte.max() / 2) & (layer.matte > 0)
    if not bool(most.any()):
        raise InputError("Nothing of the object would be seen: give a larger `scale`, or less of `move`.")
    z = torch.stack([photo.depth[mask].median(), layer.depth[most].median()])
    coc = None if photo.taken is None else tuple(photo.taken.coc(z).tolist())
    return replace(edited, depth_before=photo.depth, distance=tuple(z.tolist()), coc=coc, outside=outside)


def without(
    photo: DepthPhoto, mask: Bool[Tensor, "H W"], surfaces: Surfaces
) -> tuple[DepthPhoto, Bool[Tensor, "H W"]]:
    """The photo without its object, and where it is invented."""
    matte = torch.where(surfaces.support, matte_of(mask, blur_of(photo)), 0)
    covered = grown(matte > SURE, rim_of(photo) - 1) & ~surfaces.nearer
    light = torch.where(covered, inpaint(photo.light, covered | surfaces.nearer), photo.light)
    return replace(photo, light=light, depth=surfaces.behind), covered


def _composed(layer: Layer, scene: DepthPhoto, missing: Bool[Tensor, "H W"]) -> EditedPhoto:
    """The layer in the scene, behind what is nearer.

    Args:
        missing: where the scene is invented.
    """
    box = tuple(slice(at, at + size) for at, size in zip(layer.corner, layer.matte.shape, strict=True))
    part = replace(scene, light=scene.light[(slice(None), *box)], depth=scene.depth[box])
    nearer = part.depth < (1 - NEARER) * layer.depth
    cover = matte_of(nearer, blur_of(part)) if bool(nearer.any()) else torch.zeros_like(part.depth)
    open_, behind = 1 - cover, split(part.light, cover)[1]
    light, depth, missing = scene.light.clone(), scene.depth.clone(), missing.clone()
    light[(slice(None), *box)] += open_ * (layer.light - layer.matte * behind)
    seen = open_ * layer.matte
    depth[box] = torch.where(seen > 0.5, layer.depth, part.depth)
    missing[box] &= seen < 1 - INVENTED
    marks = torch.zeros(3, *missing.shape, dtype=torch.bool)
    marks[(slice(None), *box)] = layer.marks & (seen > INVENTED)
    deblurred, refused, torn = marks
    hidden = 1 - float(seen.sum() / layer.matte.sum().clamp_min(1e-9))
    light = light.clamp_min(0)
    return EditedPhoto(light, scene.depth, depth, torn | missing, deblurred, refused, hidden=hidden)
