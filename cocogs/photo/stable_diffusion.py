"""Stable Diffusion from a folder, on unpatched diffusers: between pictures, latents and noise. No prompt."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.device import choose_device
from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io.progress import Say
from cocogs.io.weights import digest_of

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")


class StableDiffusion:
    """Network, autoencoder and noise schedule.

    Args:
        weights: folder with `WEIGHTS` and `PARTS`. Nothing is downloaded.
        more: channels that the network is told beside the latents.
        steps: from noise to picture.
        where: such weights are found, as a clause.

    Raises:
        InputError: files or packages are missing, or they are of another network.
    """

    def __init__(self, weights: Path, more: int, steps: int, where: str, say: Say = print) -> None:
        missing = [] if (weights / WEIGHTS).is_file() else [WEIGHTS]
        missing += [name for name in PARTS if not (weights / name).is_dir()]
        if missing:
            raise InputError(f"{weights} has no {', '.join(missing)}: put the model's files there; {where}.")
        self.device = choose_device("auto", say)
        try:
            self.net, self.vae, scheduler, self.nothing = _loaded(weights, self.device)
            self.channels = self.vae.config["latent_channels"]
            self.predicts = scheduler.config["prediction_type"]
            if self.net.config["in_channels"] != self.channels + more:
                raise ValueError(f"the network takes {self.net.config['in_channels']} channels")
            if self.predicts not in ("epsilon", "v_prediction"):
                raise ValueError(f"the network predicts {self.predicts}")
        except InputError:
            raise
        except Exception as error:  # of several packages
            raise InputError(
                f"The model in {weights} cannot be read ({reason_of(error)}): copy its files again; {where}."
            ) from error
        self.kept = scheduler.alphas_cumprod.to(self.device)
        times = len(self.kept)
        self.times = [(number + 1) * times // steps - 1 for number in range(steps)]
        self.facts = {
            "model": str(weights), "weights": WEIGHTS, "weights_sha256": digest_of(weights / WEIGHTS)
        }  # fmt: skip

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the picture that the model draws: its own shorter side, blocks of its coarsest features."""
        of_vae = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        block = of_vae * 2 ** (len(self.net.config["block_out_channels"]) - 1)
        scale = self.net.config["sample_size"] * of_vae / min(height, width)
        return max(1, round(height * scale / block)) * block, max(1, round(width * scale / block)) * block

    @torch.no_grad()
    def encoded(self, picture: Float[Tensor, "1 3 H W"]) -> Float[Tensor, "1 C h w"]:
        """The latents of a picture of `size`, sRGB in [0, 1]."""
        latent = self.vae.encode(2 * picture.to(self.device) - 1).latent_dist.mode()
        return latent * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def decoded(self, latent: Float[Tensor, "1 C h w"], height: int, width: int) -> Float[Tensor, "3 H W"]:
        """The picture that latents stand for, in another size, on the CPU: sRGB in [0, 1]."""
        picture = self.vae.decode(latent / self.vae.config["scaling_factor"]).sample / 2 + 0.5
        return F.interpolate(picture.cpu(), (height, width), mode="bicubic")[0].clamp(0, 1)

    def told(self, latent: Tensor, beside: Tensor, number: int) -> Tensor:
        """What the network puts out at a step, where it is told `beside` beside the latent."""
        both = torch.cat([latent, beside], 1)
        return self.net(both, self.times[number], encoder_hidden_states=self.nothing).sample

    @torch.no_grad()
    def stepped(self, latent: Tensor, beside: Tensor, at: int, start: int, end: int) -> Tensor:
        """From the noise of one step to that of another, by what the network tells at the step `at`; step -1
        is the clear picture.

        Source: DDIM (Song et al., 2021), without its random part.
        """
        told = self.told(latent, beside, at)
        clearest = torch.ones_like(self.kept[0])
        kept, then = (self.kept[self.times[n]] if n >= 0 else clearest for n in (start, end))
        if self.predicts == "v_prediction":
            clear = kept.sqrt() * latent - (1 - kept).sqrt() * told
            noise = kept.sqrt() * told + (1 - kept).sqrt() * latent
        else:
            clear, noise = (latent - (1 - kept).sqrt() * told) / kept.sqrt(), told
        return then.sqrt() * clear + (1 - then).sqrt() * noise


def _loaded(weights: Path, device: torch.device) -> tuple[Any, Any, Any, Tensor]:
    """Network, autoencoder, scheduler, and what the text encoder makes of an empty prompt."""
    advice = "Diffusion needs diffusers and transformers: run `pip install 'cocogs[lens-network]'`."
    diffusers, transformers = (optional_package(name, advice) for name in ("diffusers", "transformers"))
    local: dict[str, Any] = {"local_files_only": True}
    safe: dict[str, Any] = {"use_safetensors": True, **local}
    whole: dict[str, Any] = {"low_cpu_mem_usage": False, **safe}  # else accelerate is wanted
    net = diffusers.UNet2DConditionModel.from_pretrained(weights / "unet", **whole)
    vae = diffusers.AutoencoderKL.from_pretrained(weights / "vae", **whole)
    scheduler = diffusers.DDIMScheduler.from_pretrained(weights / "scheduler", **local)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(weights / "tokenizer", **local)
    encoder = transformers.CLIPTextModel.from_pretrained(weights / "text_encoder", **safe)
    words = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    with torch.no_grad():
        nothing = encoder.eval()(words.input_ids)[0]
    net, vae = (part.eval().requires_grad_(False).to(device) for part in (net, vae))
    return net, vae, scheduler, nothing.to(device)
