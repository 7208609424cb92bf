"""Where Gaussians start in addition to the SfM points, which are few on blurred photos and plain walls.

Half of the additional points are scattered around the SfM points. They also reach what few photos show, such
as near things at a photo's border. The other half lies on the surfaces that the photos show. Without them,
splats from elsewhere would move in front of an empty surface and stay there as floaters.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.gaussians import neighbour_distance
from cocogs.optics.evidence import thin_out
from cocogs.scene import Scene
from cocogs.scene.overlap import covering, partners, seen_by

NEIGHBOURS = 32  # SfM points nearest to a pixel, whose depths are tried
THUMBNAIL = 100  # px, the longer side: so coarse that a photo's blur does not matter
MOST_LIFTED, MOST_JUDGES = 150, 30  # photos
AGREEING = 0.3  # part of the other photos that decides; in the rest something may hide the place
FOREIGN = 1.0  # a sum of three colour differences this large means that a photo shows something else


def add_start_points(
    scene: Scene, points: Float[Tensor, "P 3"], colors: Float[Tensor, "P 3"], count: int
) -> tuple[Float[Tensor, "Q 3"], Float[Tensor, "Q 3"]]:
    """The SfM points and up to `count` more, with their colours. Uses torch's global generator."""
    scattered = scatter_points(points, colors, count - count // 2, neighbour_distance(points))
    lifted = lift_pixels(scene, points, count // 2)
    positions, tints = zip((points, colors), scattered, lifted, strict=True)
    return torch.cat(positions), torch.cat(tints)


def scatter_points(
    points: Float[Tensor, "P 3"], colors: Float[Tensor, "P 3"], count: int, spacing: Float[Tensor, " P"]
) -> tuple[Float[Tensor, "{count} 3"], Float[Tensor, "{count} 3"]]:
    """`count` points, each around a random SfM point and in its colour.

    The standard deviation is twice the distance to that point's neighbours, `spacing`, scene units.
    """
    chosen = torch.randint(len(points), (count,))
    return points[chosen] + 2 * spacing[chosen, None] * torch.randn(count, 3), colors[chosen]


def lift_pixels(
    scene: Scene, points: Float[Tensor, "P 3"], count: int
) -> tuple[Float[Tensor, "Q 3"], Float[Tensor, "Q 3"]]:
    """Up to `count` random pixels of the training photos, as points in the scene with the pixels' colours.

    The depth of each pixel is found by trial: among the depths of the SfM points nearest to it in the photo,
    it takes the one at which the other photos show its colour best. Masked pixels are not drawn.

    Of more than `MOST_LIFTED` photos, so many are read that see all points between them; of those, the
    `MOST_JUDGES` that share most with a photo tell the depths of its pixels.
    """
    views = scene.train_views
    seen = None
    if len(views) > MOST_LIFTED:
        seen = seen_by([view.camera for view in views], thin_out(points))
        chosen = covering(seen, MOST_LIFTED)
        views, seen = [views[index] for index in chosen], seen[chosen]
    cameras, thumbnails = [v.camera for v in views], [thumbnail(scene.photo(v)) for v in views]
    positions, colors = [points[:0]], [points[:0]]
    for index, view in enumerate(views):
        share = count * (index + 1) // len(views) - count * index // len(views)
        pixels = draw_pixels(view.camera, scene.mask(view), share)
        places = view.camera.unproject(pixels[:, None], depths_around(view.camera, points, pixels))
        judges = [i for i in range(len(views)) if i != index]
        if seen is not None:
            judges = partners(seen, index, MOST_JUDGES)
        others = [(cameras[i], thumbnails[i]) for i in judges]
        if others and places.numel():
            tints = sample(thumbnails[index], view.camera, pixels[:, None])
            best = disagreement(places, tints, others).argmin(1)
            positions.append(places[torch.arange(len(places)), best])
            x, y = pixels.long().unbind(1)
            colors.append(scene.photo(view)[:, y, x].T)
    return torch.cat(positions), torch.cat(colors)


def draw_pixels(camera: Camera, mask: Float[Tensor, "H W"] | None, count: int) -> Float[Tensor, "Q 2"]:
    """Centres of `count` random pixels that the mask allows; empty where it allows none."""
    if mask is None:
        return torch.stack([torch.randint(size, (count,)) for size in (camera.width, camera.height)], 1) + 0.5
    allowed = mask.nonzero()
    chosen = torch.randint(len(allowed), (count,)) if len(allowed) else torch.empty(0, dtype=torch.long)
    return allowed[chosen].flip(1) + 0.5


def depths_around(
    camera: Camera, points: Float[Tensor, "P 3"], pixels: Float[Tensor, "Q 2"]
) -> Float[Tensor, "Q K"]:
    """Depths of the K = `NEIGHBOURS` points that the camera sees nearest to each pixel; fewer where it sees
    fewer."""
    from scipy.spatial import KDTree  # .3 s to load

    places, depths = camera.project(points)
    seen = (depths > 0) & camera.shows(places)
    count = min(NEIGHBOURS, int(seen.sum()))
    if count == 0 or len(pixels) == 0:
        return pixels.new_empty(len(pixels), 0)
    _, nearest = KDTree(places[seen].numpy()).query(pixels.numpy(), k=count)
    return depths[seen][torch.as_tensor(nearest).view(len(pixels), count)]


def disagreement(
    places: Float[Tensor, "Q K 3"],
    tints: Float[Tensor, "Q 1 3"],
    photos: list[tuple[Camera, Float[Tensor, "3 _ _"]]],
) -> Float[Tensor, "Q K"]:
    """How much the photos' colours at each place differ from `tints`: the mean over those that differ least.

    A photo that does not show a place counts as showing something else.
    """
    costs = []
    for camera, picture in photos:
        pixels, depths = camera.project(places)
        difference = (sample(picture, camera, pixels) - tints).abs().sum(-1).clamp_max(FOREIGN)
        costs.append(torch.where((depths > 0) & camera.shows(pixels), difference, FOREIGN))
    deciding = min(len(costs), max(2, round(AGREEING * len(costs))))
    return torch.stack(costs).topk(deciding, dim=0, largest=False).values.mean(0)


def sample(
    picture: Float[Tensor, "3 h w"], camera: Camera, pixels: Float[Tensor, "Q K 2"]
) -> Float[Tensor, "Q K 3"]:
    """Colours of a photo's thumbnail at the camera's pixels."""
    grid = 2 * pixels / torch.tensor([camera.width, camera.height]) - 1
    colors = F.grid_sample(picture[None], grid[None].nan_to_num(), padding_mode="border", align_corners=False)
    return colors[0].permute(1, 2, 0)


def thumbnail(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
    """The photo shrunk to `THUMBNAIL` px; each pixel is the mean of those that it replaces."""
    scale = min(1.0, THUMBNAIL / max(photo.shape[1:]))
    height, width = (max(1, round(size * scale)) for size in photo.shape[1:])
    return F.adaptive_avg_pool2d(photo[None], (height, width))[0]
