"""New splats for what an edit uncovered and no photo saw: the surroundings, continued.

Photo after photo, the one with the most to fill first, the picture is inpainted and gets depth by Laplace's
equation (in 1/z, in which planes are linear); its pixels become splats. The next photo sees them, so that all
agree. Then the splats' colours and opacities are fitted to the inpainted pictures together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import Camera
from cocogs.edit.uncovered import Uncovered
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, sh0_of
from cocogs.io.progress import Progress, Say
from cocogs.photo.apart import inpaint
from cocogs.photo.membrane import fill_smoothly
from cocogs.plain_torch import Adam
from cocogs.rasterize import rasterize
from cocogs.render.refocusing import SOLID, sharp_depth
from cocogs.render.shares import inside_and_total, shown_share
from cocogs.spread import some_of
from cocogs.srgb import to_linear, to_srgb

VIEWS = 24  # photos at most that are filled
LONGEST = 800  # px of the longer side of a picture that is filled
FEWEST = 12  # px; a smaller gap is left as it is
JUNK = 0.6  # of a splat's light that falls into gaps, from which it is a guess of the training
DILATED = 2  # px around a gap that are painted anew: its outline still shows the object
SIZE = 0.7  # standard deviation of a new splat, in pixels
OPACITY = 3.0  # logit
STEPS, RATE = 120, 0.02  # of the fit

Paint = Callable[[Tensor, Tensor], Tensor]  # a picture (3, H, W), sRGB, and its gap to one without gap


@dataclass(frozen=True)
class Filling:
    """What to change of a scene.

    Args:
        junk: splats that show only in the gaps, to be taken away.
        added: new ones.
    """

    junk: Bool[Tensor, " N"]
    added: Gaussians


@dataclass(frozen=True)
class Painted:
    """A picture of the scene in which a gap is painted."""

    camera: Camera
    gap: Bool[Tensor, "H W"]
    picture: Float[Tensor, "3 H W"]


def continued(picture: Float[Tensor, "3 H W"], gap: Bool[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """A picture, sRGB, whose gap OpenCV paints. Raises InputError where that is missing."""
    return to_srgb(inpaint(to_linear(picture), gap))


def fill(scene: Gaussians, bared: Uncovered, say: Say = print, paint: Paint = continued) -> Filling:
    """Splats for what no photo saw of what an edit uncovered.

    Args:
        paint: how gaps of pictures are painted.

    Raises:
        InputError: OpenCV is missing, or there is nothing to fill.
    """
    cameras = [camera.resized_by(camera.shrink_to(LONGEST)) for camera in some_of(bared.cameras, VIEWS)]
    gaps = [bared.unseen(camera) for camera in cameras]
    if max(int(gap.sum()) for gap in gaps) < FEWEST:
        raise InputError("Every photo's view of what was uncovered is known from others: leave `fill` out.")
    inside, total = inside_and_total(scene, [(c, gap.float()) for c, gap in zip(cameras, gaps, strict=True)])
    junk = (inside > JUNK * total) & (total > 0)
    kept, added, painted = scene[~junk], [], []
    order = sorted(range(len(cameras)), key=lambda index: -int(gaps[index].sum()))
    with Progress("Filling", len(order), say, patience=2) as progress:
        for index in order:
            now = Gaussians.joined([kept, *added])
            gap = gaps[index] & ~_covered(now, len(kept), cameras[index])
            if gap.sum() >= FEWEST:
                painted.append(_painted(now, cameras[index], gap, paint))
                added.append(_splats(now, painted[-1], scene.antialiased))
            progress.add(1)
    return Filling(junk, _fitted(kept, Gaussians.joined(added), painted))


def _covered(now: Gaussians, kept: int, camera: Camera) -> Bool[Tensor, "H W"]:
    """Pixels that new splats show already."""
    return shown_share(now, camera, torch.arange(len(now)) >= kept) > SOLID


@torch.no_grad()
def _painted(now: Gaussians, camera: Camera, gap: Bool[Tensor, "H W"], paint: Paint) -> Painted:
    wide = torch.nn.functional.max_pool2d(gap.float()[None], 2 * DILATED + 1, 1, DILATED)[0] > 0
    picture = rasterize(*now.activated(), now.sh0, now.shN, camera, antialiased=now.antialiased).colors[0]
    return Painted(camera, wide, paint(picture.cpu().clamp(0, 1), wide).clamp(0, 1))


def _splats(now: Gaussians, painted: Painted, antialiased: bool) -> Gaussians:
    """One splat for each pixel of a gap, at the depth of its surroundings."""
    camera, gap = painted.camera, painted.gap
    inverse = 1 / sharp_depth(now, camera)
    known = (inverse > 0) & ~gap
    if not known.any():
        raise InputError("Nothing is seen around what was uncovered: leave `fill` out.")
    filled = fill_smoothly(inverse.numpy(), known.numpy(), gap.numpy())
    depth = 1 / torch.from_numpy(filled).clamp_min(1e-9)[gap].float()
    rows, columns = gap.nonzero(as_tuple=True)
    colors = painted.picture[:, rows, columns].T
    count = len(rows)
    return Gaussians(
        antialiased,
        means=camera.unproject(torch.stack([columns, rows], 1) + 0.5, depth),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
        scales=(SIZE * depth / camera.fx).log()[:, None].expand(count, 3),
        opacities=torch.full((count,), OPACITY),
        sh0=sh0_of(colors),
        shN=torch.zeros(count, 15, 3),
    )


def _fitted(kept: Gaussians, added: Gaussians, painted: Sequence[Painted]) -> Gaussians:
    """The new splats with colours and opacities that show the painted pictures best."""
    optimizer = Adam([added.sh0, added.opacities], lr=RATE)
    fixed = [part.detach() for part in kept.activated()]
    for step in range(STEPS):
        shot = painted[step % len(painted)]
        splats = [torch.cat([a, b]) for a, b in zip(fixed, added.activated(), strict=True)]
        colors = (torch.cat([one, other]) for one, other in ((kept.sh0, added.sh0), (kept.shN, added.shN)))
        render = rasterize(*splats, *colors, shot.camera, antialiased=kept.antialiased)  # pyright: ignore[reportCallIssue]
        loss = (render.colors[0].cpu() - shot.picture).abs()[:, shot.gap].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return added
