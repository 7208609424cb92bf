"""The whole model in one screen: base Gaussians, lens, photometric camera -> a defocused photo; without them
-> a sharp view."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.gaussians import Gaussians
from cocogs.optics.copies import Copies, as_they_are
from cocogs.optics.lens_models import LensModel, Start, make_lens
from cocogs.optics.light import ResponseCurve, mean_light, srgb_curve
from cocogs.optics.per_photo import PerPhoto, PhotoIndex
from cocogs.optics.photometric import PhotometricCamera, Taken
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
    """A sharp scene and the camera that photographed it.

    Args:
        gaussians: the base Gaussians.
        lens: how they become the photo that a lens takes of them.
        photometric: what cameras did to the light behind the lens; None where that is not learned.
    """

    def __init__(
        self, gaussians: Gaussians, lens: LensModel, photometric: PhotometricCamera | None = None
    ) -> None:
        super().__init__()
        self.gaussians, self.lens, self.photometric = gaussians, lens, photometric

    @classmethod
    def starting(
        cls, gaussians: Gaussians, config: ModelConfig, start: Start, taken: Taken | None = None
    ) -> "DefocusModel":
        """The model that the settings ask for, at its start.

        Args:
            taken: what is known of the cameras; None: the photos are of one.
        """
        taken = taken or Taken.alike(len(start.focus_distances))
        return cls(
            gaussians, make_lens(config, start), PhotometricCamera(taken) if config.photometric else None
        )

    @property
    def per_photo(self) -> list[PerPhoto]:
        """All learned quantities of the training photos."""
        return [part for part in self.modules() if isinstance(part, PerPhoto)]

    def camera(self, view: View) -> Camera:
        """Where a photo was taken from, and how its camera projects."""
        return view.camera

    def sharp(self, camera: Camera, sh_degree: int = 3, with_depth: bool = False) -> Render:
        """The scene without its lens: base Gaussians alone, S = 1."""
        return self._render(as_they_are(self.gaussians.activated()), camera, sh_degree, with_depth)

    def sharp_photo(self, view: View) -> Float[Tensor, "3 H W"]:
        """The scene as the camera of a view would show it with everything in focus, at the mean exposure of
        the training photos."""
        values = self.sharp(self.camera(view)).colors[0]
        return values if self.photometric is None else self.photometric.shown(values, view)

    def defocused(self, camera: Camera, index: PhotoIndex) -> Float[Tensor, "3 H W"]:
        """What training photo `index`'s lens and exposure show from `camera`: in eval mode."""
        before = self.training
        try:
            return self.eval().photo(camera, index).image
        finally:
            self.train(before)

    def photo(
        self,
        camera: Camera,
        index: PhotoIndex,
        sh_degree: int = 3,
        expanded: bool = True,
        probed: bool = True,
        halved: bool = False,
    ) -> Photo:
        """Training photo `index` as training sees it.

        Args:
            camera: of the photo.
            expanded: False: the lens's cheap stand-in (see `LensModel.copies`); training begins so.
            probed: False: the probe has no gradient, which saves time.
            halved: the camera is that of the photo at half its size. Circles of confusion stay in px of the
                photo.
        """
        copies = self.lens.copies(self.gaussians.activated(), camera, index, expanded)
        copies = copies.halved() if halved else copies
        probe = self.gaussians.means.new_zeros(len(copies), len(self.gaussians), 2)
        probe.requires_grad_(probed and torch.is_grad_enabled())
        render = self._render(copies, camera, sh_degree, self.lens.is_physical, probe)
        return Photo(
            self._developed(render.colors, camera, index), render, probe, self._coc(render, camera, index)
        )

    def _developed(
        self, renders: Float[Tensor, "S 3 H W"], camera: Camera, index: PhotoIndex
    ) -> Float[Tensor, "3 H W"]:
        """From renders to the photo: the lens adds up their light, the photometric camera changes it, the
        response comes last."""
        photometric = self.photometric
        if not self.lens.in_light:  # published models stay with pixel values
            renders = self.lens.blended(renders)[None]
            if photometric is None:
                return renders[0]
        common, own = (None, None) if photometric is None else photometric.curves(index)
        return self.develop(mean_light(renders, common), camera, index, own)

    def develop(
        self,
        light: Float[Tensor, "3 H W"],
        camera: Camera,
        index: PhotoIndex,
        curve: ResponseCurve | None = None,
    ) -> Float[Tensor, "3 H W"]:
        """Pixel values of the linear light behind the lens, as training photo `index` was taken.

        Args:
            camera: of the photo, at the size of `light`.
            curve: the photo's response, where it is at hand.
        """
        if self.photometric is None:
            return srgb_curve(light.dtype, light.device).encode(light)
        return self.photometric.develop(light, camera, index, curve or self.photometric.curves(index)[1])

    @torch.no_grad()
    def _coc(self, render: Render, camera: Camera, index: PhotoIndex) -> Float[Tensor, "H W"]:
        if not self.lens.is_physical:
            return torch.zeros_like(render.alphas[0])
        assert render.depths is not None
        alpha = render.alphas.sum(0)
        depth = (render.depths * render.alphas).sum(0) / alpha.clamp_min(1e-6)
        coc = self.lens.coc_map(depth, camera, index).abs()
        return torch.where(alpha > 1e-3, coc, 0)  # where nothing is, nothing is blurred

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
            shift=copies.shift,
            sh_degree=sh_degree,
            antialiased=self.gaussians.antialiased,
            with_depth=with_depth,
            means2d_probe=probe,
        )
