"""A photo taken apart: an object, what lies behind it, and how much of each pixel is the object's.

Every pixel shows matte * object + (1 - matte) * behind, in linear light. The matte is the object's outline as
the photo's lens shows it; what it hides is invented.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage import measure
from torch import Tensor

from cocogs.errors import optional_package
from cocogs.optics.layers import blur_layers, filled_in
from cocogs.photo.depth_fit import without_holes
from cocogs.photo.membrane import fill_smoothly
from cocogs.photo.refocus import DepthPhoto
from cocogs.srgb import to_linear, to_srgb

STEEPEST = 25.0  # tangent of the angle from which on a surface is hardly seen
ANOTHER_THING = 0.06  # of the depth: what differs so much from what continues the inside is not the object's
FEWEST = 0.1  # of a mask
NEARER = 0.03  # of the depth: what is so much nearer lies in front
RIM, RIM_SHARE = 3, 1 / 300  # px around an outline, at least, and as part of the photo's longer side
SOFTNESS = 0.25  # px^2; variance of a sharp outline
SURE = 0.02  # of a pixel: less of another thing is nothing
INPAINTED = 5  # px around a pixel from which OpenCV continues


@dataclass(frozen=True)
class Surfaces:
    """Depth of an object and of what is behind it.

    Args:
        support: the mask and the px around it that the object's blur reaches; nothing nearer is in it.
        object: its depth, in the support; continued smoothly beyond the mask.
        behind: depth of the photo without the object.
        nearer: what is in front of the object beside it.
    """

    support: Bool[Tensor, "H W"]
    object: Float[Tensor, "H W"]
    behind: Float[Tensor, "H W"]
    nearer: Bool[Tensor, "H W"]

    def photo(self, mask: Bool[Tensor, "H W"]) -> Float[Tensor, "H W"]:
        """The photo's depth, its edge at the mask's."""
        return torch.where(mask, self.object, self.behind)


def find_surfaces(photo: DepthPhoto, mask: Bool[Tensor, "H W"]) -> Surfaces:
    """Tell the depth of an object from that of its surroundings.

    Depth maps and masks never agree on an outline. What counts is the depth of the object's inside, as far as
    it can be reached without crossing a slope too steep to be seen; from there it is continued.

    Args:
        mask: the object; neither nothing nor all of the photo.
    """
    nearness, own, rim = 1 / photo.depth.double().numpy(), mask.numpy(), rim_of(photo)
    reach = math.ceil(float(blur_of(photo)[mask].abs().max()) / 2) + rim
    trusted = _inside(nearness, own, photo.focal_px, rim)
    around = grown(mask, reach + 1).numpy()
    object_ = fill_smoothly(nearness, trusted, around & ~trusted)
    nearer = around & ~own & (nearness > (1 + NEARER) * object_)
    support = grown(mask, reach).numpy() & ~nearer
    known = ~support & ~nearer
    behind = fill_smoothly(nearness, known, support) if known.any() else nearness
    inner, outer = (torch.from_numpy(each).reciprocal().to(photo.depth) for each in (object_, behind))
    return Surfaces(torch.from_numpy(support), inner, outer, torch.from_numpy(nearer))


def _inside(
    nearness: Float[np.ndarray, "H W"], own: Bool[np.ndarray, "H W"], focal_px: float, rim: int
) -> Bool[np.ndarray, "H W"]:
    """Where the depth in a mask is the object's: it continues that of parts without steep slopes."""
    finite = own & (nearness > 0)
    own = finite if finite.any() else own
    alone = without_holes(np.where(own, nearness, np.nan))  # a jump right at the outline does not count
    slope = ndimage.gaussian_gradient_magnitude(alone, rim / 3) * focal_px
    steep = grown(torch.from_numpy(own & (slope > STEEPEST * nearness)), rim).numpy()
    parts = np.asarray(measure.label(own & ~steep, connectivity=1))
    distance = _distance(own)
    middle = distance > min(rim, distance.max() / 2)
    inner = _distance(np.isin(parts, np.setdiff1d(parts[middle], 0))) > rim
    if inner.sum() < FEWEST * own.sum():  # of something thin
        return own
    guess = fill_smoothly(nearness, inner, own & ~inner)
    return own & (np.abs(nearness - guess) <= ANOTHER_THING * guess)


def _distance(where: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """px from each place to what is not there."""
    return np.asarray(ndimage.distance_transform_edt(where))


def rim_of(photo: DepthPhoto) -> int:
    """px around an outline where depth maps and masks do not agree."""
    return max(RIM, math.ceil(max(photo.depth.shape) * RIM_SHARE))


def blur_of(photo: DepthPhoto) -> Float[Tensor, "H W"]:
    """Signed diameters of the photo's blur, px."""
    return torch.zeros_like(photo.depth) if photo.taken is None else photo.taken.coc(photo.depth)


def grown(mask: Bool[Tensor, "H W"], reach: float) -> Bool[Tensor, "H W"]:
    """The pixels at most so many px from the mask."""
    if not bool(mask.any()):
        return mask
    return torch.from_numpy(_distance(~mask.numpy()) <= reach)


def matte_of(mask: Bool[Tensor, "H W"], coc: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """How much of each pixel a thing covers, seen through the photo's lens.

    Args:
        mask: where it would be seen by a pinhole.
        coc: signed diameters of the photo's blur, px.
    """
    box = box_around(mask, int(coc[mask].abs().max()) + 2 * RIM if bool(mask.any()) else 0)
    matte = torch.zeros_like(coc)
    part = coc[box]
    most = float(max(part.shape))
    matte[box] = blur_layers(mask[box].to(part).expand(3, -1, -1), part.clamp(-most, most), SOFTNESS)[0]
    return matte.clamp(0, 1)


def box_around(where: Bool[Tensor, "H W"], margin: int) -> tuple[slice, slice]:
    """Rows and columns of some pixels with a margin; all of them where there are none."""
    boxes = []
    for across in (1, 0):
        at, size = where.any(across).nonzero()[:, 0], where.shape[1 - across]
        ends = (int(at[0]), int(at[-1])) if len(at) else (0, size - 1)
        boxes.append(slice(max(0, ends[0] - margin), min(size, ends[1] + 1 + margin)))
    return boxes[0], boxes[1]


def split(
    light: Float[Tensor, "3 H W"], matte: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "3 H W"]]:
    """Light of a thing and of what is behind it, so that their mixture by the matte is the photo's.

    Guesses of both, from where they are seen alone, are corrected by the least change that makes it so.
    """
    alone, without = (matte >= 1 - SURE).to(light)[None], (matte <= SURE).to(light)[None]
    thing = filled_in(torch.cat([light * alone, alone])) if bool(alone.any()) else light
    behind = filled_in(torch.cat([light * without, without])) if bool(without.any()) else light
    missing = (light - matte * thing - (1 - matte) * behind) / (matte.square() + (1 - matte).square())
    return (thing + matte * missing).clamp_min(0), (behind + (1 - matte) * missing).clamp_min(0)


def inpaint(light: Float[Tensor, "3 H W"], unknown: Bool[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """The light with unknown pixels continued from their surroundings, by OpenCV (Bertalmio et al., 2001).

    Raises:
        InputError: OpenCV is missing.
    """
    cv2 = optional_package(
        "cv2", "Filling what an object hid needs OpenCV: install it with pip install 'cocogs[stack]'."
    )
    if not bool(unknown.any()) or bool(unknown.all()):
        return light
    box = box_around(unknown, 4 * INPAINTED)
    holes, result = unknown[box].numpy().astype(np.uint8), light.clone()
    for channel, encoded in enumerate(to_srgb(light[(slice(None), *box)])):
        painted = cv2.inpaint(np.ascontiguousarray(encoded.numpy()), holes, INPAINTED, cv2.INPAINT_NS)
        result[channel][box] = torch.where(
            unknown[box], to_linear(torch.from_numpy(painted).clamp_min(0)), light[channel][box]
        )
    return result
