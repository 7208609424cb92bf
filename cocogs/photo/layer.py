"""An object as a layer of its own: cut out of its photo, moved, with the blur of its new depth."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.optics.layers import blur_layers, filled_in
from cocogs.optics.lens import PhotoLens
from cocogs.photo.apart import RIM, SURE, Surfaces, blur_of, matte_of, split
from cocogs.photo.depth_fit import without_holes
from cocogs.photo.lift import Correspondences, Motion, follow
from cocogs.photo.refocus import Deblur, DepthPhoto

FINEST = 8  # points per px and side, at most, where an object is shown smaller
INVENTED = 0.1  # of a pixel: so much invented light counts
NEAREST = 1e-3  # of the nearest depth; what comes nearer to the camera is dropped


@dataclass(frozen=True)
class Layer:
    """An object apart from its photo, in a picture of its own.

    Args:
        light: linear, times the matte.
        matte: how much of each pixel it covers.
        depth: its own, continued around it.
        blur: signed diameters of the blur that is in it, px, continued around it.
        marks: where blur was taken away, where that was refused, and where its light is invented.
        corner: row and column of the first pixel in the photo; outside the photo if negative.
    """

    light: Float[Tensor, "3 H W"]
    matte: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
    blur: Float[Tensor, "H W"]
    marks: Bool[Tensor, "3 H W"]
    corner: tuple[int, int]

    def within(self, height: int, width: int) -> "Layer":
        """The part of it that a photo of this size shows."""
        top, left = (max(0, -start) for start in self.corner)
        bottom, right = (size - start for size, start in zip((height, width), self.corner, strict=True))
        box = (..., slice(top, bottom), slice(left, right))
        return Layer(
            self.light[box],
            self.matte[box],
            self.depth[box],
            self.blur[box],
            self.marks[box],
            (self.corner[0] + top, self.corner[1] + left),
        )


def camera_of(photo: DepthPhoto) -> Camera:
    """A pinhole with the photo's focal length at the origin, whose axis meets the middle of the photo."""
    height, width = photo.depth.shape
    f = photo.focal_px
    intrinsics = torch.tensor([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]], dtype=torch.float64)
    near = NEAREST * float(photo.depth.min())
    return Camera(intrinsics, torch.eye(4, dtype=torch.float64), width, height, near)


def points_of(photo: DepthPhoto, mask: Bool[Tensor, "H W"]) -> Float[Tensor, "N 3"]:
    """What the masked pixels show, in the camera's axes."""
    y, x = mask.nonzero().double().unbind(1)
    return camera_of(photo).unproject(torch.stack([x, y], 1) + 0.5, photo.depth[mask].double())


def cut_out(
    photo: DepthPhoto, mask: Bool[Tensor, "H W"], surfaces: Surfaces, motion: Motion, deblur: Deblur | None
) -> Layer:
    """The object, without the blur that it must lose for its new place.

    Args:
        photo: with the depth of `surfaces`.
        deblur: takes blur away where there is too much; None: it stays.
    """
    blur = blur_of(photo)
    light, left, deblurred, refused = photo.light, blur, *torch.zeros(2, *blur.shape, dtype=torch.bool)
    if photo.taken is not None:
        after = motion(points_of(photo, mask))[:, 2].to(blur).clamp_min(camera_of(photo).near)
        wanted = blur.clone()  # in the photo, so that the blur is right where it is shown larger or smaller
        wanted[mask] = photo.taken.coc(after) * after / (motion.scale * photo.depth[mask])
        light, left, deblurred, refused = photo.without_surplus(wanted, deblur)
    matte = torch.where(surfaces.support, matte_of(mask, left), 0)
    marks = torch.stack([deblurred & mask, refused & mask, torch.zeros_like(mask)])
    left = _continued(left, mask)
    return Layer(split(light, matte)[0] * matte, matte, surfaces.object, left, marks, (0, 0))


def moved(layer: Layer, photo: DepthPhoto, motion: Motion) -> tuple[Layer, float]:
    """The layer at its new place, as large as its blur there needs; the share of it that the photo loses.

    Raises:
        InputError: nothing of it is in the picture, or its blur is wider than that.
    """
    camera, support = camera_of(photo), layer.matte > SURE
    points = points_of(replace(photo, depth=layer.depth), support)
    after = motion(points)
    ahead = after[:, 2] > camera.near
    places = (after @ camera.intrinsics.T)[ahead]
    places = places[:, :2] / places[:, 2:]
    inside = camera.shows(places)
    if not bool(inside.any()):
        raise InputError("Nothing of the object would be in the picture: give a smaller `move`.")
    target = _target(camera, places, _widest(photo, after[ahead, 2]))
    larger = motion.scale * float((points[ahead, 2] / after[ahead, 2]).median())
    finer = min(max(1, math.ceil(1 / larger - 0.25)), FINEST)
    fine = target.resized(finer * target.width, finer * target.height)
    drawn = _averaged(layer, follow(layer.depth, support, camera, motion, fine), finer)
    corner = round(camera.cy - target.cy), round(camera.cx - target.cx)
    drawn = replace(drawn, blur=drawn.blur * motion.scale, corner=corner)
    return drawn, 1 - int(inside.sum()) / len(points)


def _averaged(layer: Layer, ways: Correspondences, finer: int) -> Layer:
    """The layer as it is drawn finer, averaged, so that detail that is shown smaller does not alias."""
    there = ways.there.to(layer.light)
    whole = ways.carry(torch.cat([layer.light, layer.matte[None]]))
    if bool(ways.torn.any()):
        whole = torch.where(ways.torn, filled_in(torch.cat([whole * there, there[None]])), whole)
    larger = torch.where(ways.there, ways.depth_before / ways.depth, 0)
    blur, *marks = ways.carry(torch.cat([layer.blur[None], layer.marks[:2]]))
    parts = torch.stack([blur * larger, 1 / ways.depth, *marks, ways.torn, there])
    *light, matte, blur, nearness, deblurred, refused, torn, share = F.avg_pool2d(
        torch.cat([whole, parts])[None], finer
    )[0]
    known = share > 0
    depth, blur = (_continued(each, known) for each in (share / nearness, blur / share))
    marks = torch.stack([2 * deblurred > share, 2 * refused > share, torn > INVENTED])
    return Layer(torch.stack(light).clamp_min(0), matte.clamp(0, 1), depth, blur, marks, layer.corner)


def refocused(layer: Layer, taken: PhotoLens) -> Layer:
    """The layer with the blur that its depth has through the photo's lens, as far as blur must be added."""
    wanted = taken.coc(layer.depth)
    more = wanted.sign() * (wanted.square() - layer.blur.square()).clamp_min(0).sqrt()
    light, matte = (blur_layers(each, more) for each in (layer.light, layer.matte.expand(3, -1, -1)))
    return replace(layer, light=light, matte=matte[0].clamp(0, 1))


def _widest(photo: DepthPhoto, depth: Float[Tensor, " N"]) -> float:
    """px of blur at these depths.

    Raises:
        InputError: it is wider than the photo.
    """
    widest = 0.0 if photo.taken is None else float(photo.taken.coc(depth).abs().max())
    if widest > max(photo.depth.shape):
        raise InputError(
            f"So near to the camera the object would be blurred by {widest:.0f} px, more than the picture's "
            "size: give a smaller `move`."
        )
    return widest


def _target(camera: Camera, places: Float[Tensor, "N 2"], widest: float) -> Camera:
    """The view of the object's new places in the picture, and of what blurs into it."""
    margin = math.ceil(widest / 2) + RIM
    size = places.new_tensor([camera.width, camera.height])
    first = places.amin(0).maximum(-places.new_tensor(margin)).floor().long() - margin
    last = places.amax(0).minimum(size + margin).ceil().long() + margin
    width, height = (last - first).tolist()
    left, top = first.tolist()
    return camera.cropped(left, top, width, height)


def _continued(values: Float[Tensor, "H W"], known: Bool[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """The nearest known values."""
    return torch.from_numpy(without_holes(torch.where(known, values, torch.nan).numpy()))
