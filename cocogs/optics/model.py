"""The whole model in one screen: base Gaussians + lens -> defocused photo; without lens -> sharp view."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.gaussians import Gaussians
from cocogs.optics.blend import BlendNet, blend
from cocogs.optics.expand import Copies, PaperExpansion, ResidualExpansion, paper_copies, sample_lens, widen
from cocogs.optics.exposure import Exposure
from cocogs.optics.focus import FocusPlanes
from cocogs.optics.lens import PhotoLens
from cocogs.optics.maps import coc_map
from cocogs.rasterize import Render, rasterize
from cocogs.scene import View


@dataclass
class Photo:
    """A predicted photo: `image` and what was rendered for it.

    `probe` receives the pixels' pull at the projected means when the image is backpropagated.
    `coc`: diameter of the circle of confusion of what each pixel shows, px, without gradient.
    """

    image: Float[Tensor, "3 H W"]
    render: Render
    probe: Float[Tensor, "S N 2"]
    coc: Float[Tensor, "H W"]


class DefocusModel(nn.Module):
    """Sharp scene and the lens it was photographed through.

    Args:
        gaussians: the base Gaussians.
        focus: focus distance per training photo and aperture.
        config: how photos are formed.
        center: middle of the scene, and
        extent: its size, both in scene units, to make the MLP's inputs unitless.
    """

    def __init__(
        self,
        gaussians: Gaussians,
        focus: FocusPlanes,
        config: ModelConfig,
        center: Float[Tensor, "3"],
        extent: float,
    ) -> None:
        super().__init__()
        self.gaussians, self.focus, self.config = gaussians, focus, config
        self.expansion: nn.Module | None = None
        self.blend: BlendNet | None = None
        if config.lens == "sampled":
            self.expansion = ResidualExpansion(config.copies, center, extent)
        elif config.lens == "paper":
            self.expansion = PaperExpansion(config.copies, center, extent, config.ablation)
        if self.expansion is not None and config.blend_channels and not config.ablation.cnn:
            self.blend = BlendNet(config.blend_channels, paper=config.lens == "paper")
        self.exposure = Exposure(len(focus.vergence)) if config.exposure else None

    def camera(self, view: View) -> Camera:
        """Where a photo was taken from, and how its camera projects."""
        return view.camera

    def sharp(self, camera: Camera, sh_degree: int = 3, with_depth: bool = False) -> Render:
        """The scene without its lens: base Gaussians alone, S = 1."""
        return self._render(self._base(), camera, sh_degree, with_depth)

    def defocused(self, camera: Camera, view_index: int) -> Float[Tensor, "3 H W"]:
        """What training photo `view_index`'s lens setting gives from `camera`."""
        return self.photo(camera, view_index).image

    def photo(
        self, camera: Camera, view_index: int, sh_degree: int = 3, sets: bool = True, probed: bool = True
    ) -> Photo:
        """The photo as training sees it.

        `sets=False` leaves the learned expansion out: the widened lens for `sampled`, the pinhole
        for `paper`. Training begins so, while the scene is still forming. `probed=False` leaves the probe
        without gradient, which saves time.
        """
        copies = self._copies(camera, view_index, sets)
        count = len(copies.means)
        probe = self.gaussians.means.new_zeros(count, len(self.gaussians), 2)
        probe.requires_grad_(probed and torch.is_grad_enabled())
        render = self._render(copies, camera, sh_degree, self.coc_in_px, probe)
        if count == 1:
            image = render.colors[0]
        else:
            weights = 1 / count if self.blend is None else self.blend(render.colors)
            image = blend(render.colors, weights, self.config.linear_light)
        if self.exposure is not None:
            image = self.exposure(image, view_index)
        return Photo(image, render, probe, self._coc(render, camera, view_index))

    @torch.no_grad()
    def K(self, camera: Camera, view_index: int) -> float:
        """K of training photo `view_index` (px x scene unit) as it acts: of the disc that blurs like the
        typical Gaussian's copies do. The learned residuals shift it by some per cent."""
        K = float(self.focus.K(view_index))
        if self.config.lens == "sampled" and self.expansion is not None:
            _, position = camera.pose_like(self.gaussians.means)
            learned = self.expansion(self.gaussians.activated(), position)
            K *= float(learned.spread().median())
        return K

    def lens(self, view_index: int) -> PhotoLens:
        return PhotoLens(
            self.focus.focus_distance(view_index),
            self.focus.K(view_index),
            self.config.units,
            self.config.depth,
            self.focus.softness[view_index],
        )

    @property
    def coc_in_px(self) -> bool:
        """Whether there is a lens, and one whose K means pixels: only then a photo needs its depth."""
        return self.config.lens in ("widened", "sampled")

    @torch.no_grad()
    def _coc(self, render: Render, camera: Camera, view_index: int) -> Float[Tensor, "H W"]:
        if not self.coc_in_px:
            return torch.zeros_like(render.alphas[0])
        assert render.depths is not None
        alpha = render.alphas.sum(0)
        depth = (render.depths * render.alphas).sum(0) / alpha.clamp_min(1e-6)
        coc = coc_map(depth, camera, self.lens(view_index)).abs()
        return torch.where(alpha > 1e-3, coc, 0)  # where nothing is, nothing is blurred

    def _copies(self, camera: Camera, view_index: int, sets: bool) -> Copies:
        base = self.gaussians.activated()
        transform, position = camera.pose_like(base[0])
        lens, config = self.lens(view_index), self.config
        if config.lens == "pinhole" or (config.lens == "paper" and not sets):
            return self._base()
        if config.lens == "widened" or not sets:
            return widen(base, transform, lens)
        assert self.expansion is not None
        learned = self.expansion(base, position)
        if config.lens == "sampled":
            return sample_lens(base, transform, camera.fx, lens, learned)
        return paper_copies(base, transform, camera.fx, lens, learned, config.ablation)

    def _base(self) -> Copies:
        means, quats, scales, opacities = self.gaussians.activated()
        return Copies(means[None], quats[None], scales[None], opacities[None], None)

    def _render(
        self,
        copies: Copies,
        camera: Camera,
        sh_degree: int,
        with_depth: bool = False,
        probe: Float[Tensor, "S N 2"] | None = None,
    ) -> Render:
        return rasterize(
            copies.means,
            copies.quats,
            copies.scales,
            copies.opacities,
            self.gaussians.sh0,
            self.gaussians.shN,
            camera,
            blur=copies.blur,
            sh_degree=sh_degree,
            antialiased=self.gaussians.antialiased,
            with_depth=with_depth,
            means2d_probe=probe,
        )
