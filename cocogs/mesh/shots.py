"""The training photos as the texture sees them: which texels each pixel shows, through which lens."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.mesh.atlas import Atlas
from cocogs.mesh.sampling import Sampling, sampling_of
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.render.refocusing import sharp_depth
from cocogs.run import Run
from cocogs.srgb import to_linear

LONGEST = 800  # px; larger photos are shrunk
WHOLE = 0.999  # share of a pixel that the mesh covers, from which it is the mesh's
KEPT = 512 << 20  # bytes of shots that are kept; others are made again when they are needed


@dataclass(frozen=True)
class Shot:
    """A training photo, and what is drawn for it.

    Args:
        photo: sRGB.
        behind: linear light of the splats where there is no mesh, else 0.
        depth: of what the picture shows, scene units; infinite where nothing is.
        weight: 1 where a pixel shows the mesh and is not masked, else 0.
        lens: None for a pinhole.
    """

    index: int
    camera: Camera
    sampling: Sampling
    photo: Float[Tensor, "3 H W"]
    behind: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    weight: Float[Tensor, "H W"]
    lens: PhotoLens | None

    @property
    def bytes(self) -> int:
        parts = (self.photo, self.behind, self.depth, self.weight)
        return self.sampling.bytes + sum(part.nbytes for part in parts)

    def focus(self, coc: float) -> Float[Tensor, "H W"]:
        """1 for a pixel in focus, a half where its circle of confusion is `coc` px wide; 1 for a pinhole."""
        if self.lens is None:
            return torch.ones_like(self.depth)
        blur = torch.where(self.depth.isfinite(), self.lens.coc(self.depth), 0)
        return 1 / (1 + (blur / coc).square())

    def seen_through(self, light: Float[Tensor, "T 3"]) -> Float[Tensor, "3 H W"]:
        """Linear light behind the lens, of a mesh whose texels have this light."""
        picture = self.sampling.picture(light) + self.behind
        return picture if self.lens is None else photograph_layers(picture, self.depth, self.lens)


class Shots:
    """The training photos of a run, one by one; as many as `KEPT` allows are prepared only once.

    Args:
        through_lens: False: as if a pinhole had taken them.
    """

    def __init__(self, run: Run, atlas: Atlas, through_lens: bool = True) -> None:
        self.run, self.atlas, self.through_lens = run, atlas, through_lens
        self._kept: dict[int, Shot] = {}
        self._room = KEPT

    def __len__(self) -> int:
        return len(self.run.scene.train_views)

    def __getitem__(self, index: int) -> Shot:
        if index in self._kept:
            return self._kept[index]
        shot = self._made(index)
        if shot.bytes <= self._room:
            self._room -= shot.bytes
            self._kept[index] = shot
        return shot

    def developed(self, light: Float[Tensor, "3 H W"], shot: Shot) -> Float[Tensor, "3 H W"]:
        """Pixel values of light behind the lens; keeps gradients."""
        model = self.run.model
        return model.develop(light.to(model.gaussians.means.device), shot.camera, shot.index).cpu()

    def taken(self, shot: Shot, light: Float[Tensor, "T 3"]) -> Float[Tensor, "3 H W"]:
        """The photo as its camera would take it of texels of this light, pixel values; keeps gradients."""
        return self.developed(shot.seen_through(light), shot)

    @torch.no_grad()
    def _made(self, index: int) -> Shot:
        scene, model = self.run.scene, self.run.model
        view = scene.train_views[index]
        whole = model.camera(view)
        shrink = whole.shrink_to(LONGEST)
        camera = whole.resized_by(shrink)
        size = camera.height, camera.width
        sampling, mask = sampling_of(self.atlas, camera), scene.mask(view)
        there = sampling.there
        around = sharp_depth(model.gaussians, camera)
        splats = to_linear(model.sharp(camera).colors[0].cpu().clamp_min(0))
        photo = F.adaptive_avg_pool2d(scene.photo(view), size)
        if self.run.edited:  # the photo shows what was there before
            photo = model.develop(splats.to(model.gaussians.means.device), camera, index).cpu()
        weight = (there > WHOLE).float()
        if mask is not None:
            weight *= F.adaptive_avg_pool2d(mask[None], size)[0] > WHOLE
        return Shot(
            index, camera, sampling,
            photo=photo,
            behind=splats * (1 - there),
            depth=torch.where(there > 0, sampling.depth, around),
            weight=weight,
            lens=self._lens(index, shrink) if self.through_lens else None,
        )  # fmt: skip

    def _lens(self, index: int, scale: float) -> PhotoLens:
        """The lens of a training photo, in pixels `1 / scale` as large."""
        lens = self.run.model.lens.of(index)
        softness = float(torch.as_tensor(lens.softness).detach()) * scale**2
        K = torch.tensor(self.run.learned.Ks[index] * scale)
        return PhotoLens(lens.focus_distance.detach().cpu(), K, softness)
