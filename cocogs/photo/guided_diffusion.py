"""What an edit uncovers, imagined by a diffusion model that is steered by depth and by the photo itself.

After Diffusion Handles (Pandey et al., arXiv 2312.02190), on unpatched diffusers: the photo is inverted to
noise; while the noise becomes a picture of the edited depth, the activations of the decoder are drawn to
those of the photo, of the object at its new place (`cocogs.photo.lift`), of the rest where it was. Nothing
is random.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.device import choose_device
from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io.progress import Progress, Say
from cocogs.io.weights import digest_of
from cocogs.photo.apart import NEARER
from cocogs.photo.lift import Motion, MovedFeatures, move_features

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")
WHERE = "huggingface.co/stabilityai/stable-diffusion-2-depth, or a mirror of it, has them"
STEPS = 50  # from noise to picture
STEERED = 0.6  # of the steps, the first ones, in which activations are drawn to those of the photo
DESCENTS = 5  # of the energy in each of these steps
SHORTER, TRIES = 0.25, 3  # a step that does not lower the energy is tried again, shorter


@dataclass(frozen=True)
class EditedDepth:
    """What moves in a photo.

    Args:
        before, after: depth of the photo, and as edited, > 0; infinity is allowed.
        mask: the object.
        camera: of the photo.
        motion: None: the object is taken away.
    """

    before: Float[Tensor, "H W"]
    after: Float[Tensor, "H W"]
    mask: Bool[Tensor, "H W"]
    camera: Camera
    motion: Motion | None


@dataclass(frozen=True)
class Wanted:
    """Activations that the edited picture shall have, in one block.

    Args:
        values: of the photo, its object at its new place.
        object, rest: where it is seen there; where nothing has changed.
    """

    values: Float[Tensor, "C h w"]
    object: Bool[Tensor, "h w"]
    rest: Bool[Tensor, "h w"]

    def energy(self, found: Float[Tensor, "C h w"]) -> Float[Tensor, ""]:
        """Mean squared distance, of the object and of the rest, as parts of the activations' mean square."""
        apart = (found - self.values).square().mean(0)
        parts = [apart[where].mean() for where in (self.object, self.rest) if bool(where.any())]
        return sum(parts, apart.new_zeros(())) / self.values.square().mean().clamp_min(1e-12)


@dataclass(frozen=True)
class Imagined:
    """A picture that a network made.

    Args:
        picture: sRGB in [0, 1], of the photo's size.
        energies: (before, after) the descents of each steered step.
    """

    picture: Float[Tensor, "3 H W"]
    energies: tuple[tuple[float, float], ...]


class DepthGuidedDiffuser:
    """A depth-conditioned Stable Diffusion, from a folder.

    Args:
        weights: folder with `WEIGHTS` and `PARTS`. Nothing is downloaded.

    Raises:
        InputError: files or packages are missing, or they are of another network.
    """

    def __init__(self, weights: Path, say: Say = print) -> None:
        missing = [] if (weights / WEIGHTS).is_file() else [WEIGHTS]
        missing += [name for name in PARTS if not (weights / name).is_dir()]
        if missing:
            raise InputError(f"{weights} has no {', '.join(missing)}: put the model's files there; {WHERE}.")
        self.device, self.say = choose_device("auto", say), say
        try:
            self.net, self.vae, scheduler, self.nothing = _loaded(weights, self.device)
            self.predicts = scheduler.config["prediction_type"]
            if self.net.config["in_channels"] != self.vae.config["latent_channels"] + 1:
                raise ValueError(f"the network takes {self.net.config['in_channels']} channels")
            if self.predicts not in ("epsilon", "v_prediction"):
                raise ValueError(f"the network predicts {self.predicts}")
        except InputError:
            raise
        except Exception as error:  # of several packages
            raise InputError(
                f"The model in {weights} cannot be read ({reason_of(error)}): copy its files again; {WHERE}."
            ) from error
        self.kept = scheduler.alphas_cumprod.to(self.device)
        times = len(self.kept)
        self.steps = [(number + 1) * times // STEPS - 1 for number in range(STEPS)]
        digest = digest_of(weights / WEIGHTS)
        self.facts = {"model": str(weights), "weights": WEIGHTS, "weights_sha256": digest}

    def __call__(self, photo: Float[Tensor, "3 H W"], edit: EditedDepth) -> Imagined:
        """The edited photo as the model imagines it.

        Args:
            photo: sRGB in [0, 1].
        """
        shape = tuple(photo.shape[1:])
        small = F.interpolate(photo[None], self._size(*shape), mode="bilinear", antialias=True)
        with torch.no_grad():
            latent = self.vae.encode(2 * small.to(self.device) - 1).latent_dist.mode()
        latent = latent * self.vae.config["scaling_factor"]
        before, after = self._depths(edit, tuple(latent.shape[2:]))
        energies = []
        with Progress("Imagining what was hidden", 2 * STEPS, self.say, patience=2) as progress:
            way = self._inverted(latent, before, progress)
            drawn = way[-1]
            for number in range(STEPS - 1, -1, -1):
                if number >= (1 - STEERED) * STEPS:
                    drawn, told = self._steered(drawn, way[number], number, before, after, edit)
                    energies.append(told)
                drawn = self._stepped(drawn, after, number, number, number - 1)
                progress.add(1)
        with torch.no_grad():
            picture = self.vae.decode(drawn / self.vae.config["scaling_factor"]).sample / 2 + 0.5
        large = F.interpolate(picture.cpu(), shape, mode="bicubic")[0].clamp(0, 1)
        return Imagined(large, tuple(energies))

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Of the picture that the model draws: its own shorter side, blocks of its coarsest features."""
        of_vae = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        block = of_vae * 2 ** (len(self.net.config["block_out_channels"]) - 1)
        scale = self.net.config["sample_size"] * of_vae / min(height, width)
        return max(1, round(height * scale / block)) * block, max(1, round(width * scale / block)) * block

    def _depths(self, edit: EditedDepth, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Nearness from -1 to 1, (1, 1, h, w), as the model was trained on it; one scale for both."""
        both = torch.stack([1 / edit.before, 1 / edit.after])[None].float()
        both = F.interpolate(both, size, mode="bilinear", antialias=True)
        low, high = both.amin(), both.amax()
        both = 2 * (both - low) / (high - low).clamp_min(1e-9) - 1
        first, second = both.to(self.device).split(1, 1)
        return first, second

    def _inverted(self, latent: Tensor, depth: Tensor, progress: Progress) -> list[Tensor]:
        """The photo's latents at every step, from the clearest on (DDIM, Song et al. 2021, run backwards)."""
        way = []
        for number in range(STEPS):
            latent = self._stepped(latent, depth, number, number - 1, number)
            way.append(latent)
            progress.add(1)
        return way

    @torch.no_grad()
    def _stepped(self, latent: Tensor, depth: Tensor, at: int, start: int, end: int) -> Tensor:
        """From the noise of one step to that of another, by what the model tells at the step `at`; step -1 is
        the clear picture."""
        told = self._told(latent, depth, at)
        clearest = torch.ones_like(self.kept[0])
        kept, then = (self.kept[self.steps[n]] if n >= 0 else clearest for n in (start, end))
        if self.predicts == "v_prediction":
            clear = kept.sqrt() * latent - (1 - kept).sqrt() * told
            noise = kept.sqrt() * told + (1 - kept).sqrt() * latent
        else:
            clear, noise = (latent - (1 - kept).sqrt() * told) / kept.sqrt(), told
        return then.sqrt() * clear + (1 - then).sqrt() * noise

    def _told(self, latent: Tensor, depth: Tensor, number: int) -> Tensor:
        both = torch.cat([latent, depth], 1)
        return self.net(both, self.steps[number], encoder_hidden_states=self.nothing).sample

    def _activations(self, latent: Tensor, depth: Tensor, number: int) -> list[Float[Tensor, "C h w"]]:
        """What the blocks of the decoder put out, without the outermost ones if there are others."""
        blocks = list(self.net.up_blocks)
        with _listening(blocks[1:-1] or blocks) as heard:
            self._told(latent, depth, number)
        return heard

    def _steered(
        self, drawn: Tensor, own: Tensor, number: int, before: Tensor, after: Tensor, edit: EditedDepth
    ) -> tuple[Tensor, tuple[float, float]]:
        """The latent moved so that its activations come closer to the photo's: its energy before and after.

        Steps are Polyak's: as long as a linear function with this gradient needs to fall to 0.
        """
        with torch.no_grad():
            wanted = [_wanted(found, edit) for found in self._activations(own, before, number)]

        def energy(latent: Tensor) -> Tensor:
            found = self._activations(latent, after, number)
            return torch.stack([w.energy(f) for w, f in zip(wanted, found, strict=True)]).mean()

        energies = []
        for _ in range(DESCENTS):
            drawn = drawn.detach().requires_grad_()
            now = energy(drawn)
            (slope,) = torch.autograd.grad(now, drawn)
            now, drawn = now.detach(), drawn.detach()
            energies.append(float(now))
            step = now / slope.square().sum().clamp_min(1e-30)
            for length in (step * SHORTER**n for n in range(TRIES)):
                with torch.no_grad():
                    lower = energy(drawn - length * slope)
                if bool(lower < now):
                    drawn = drawn - length * slope
                    energies.append(float(lower))
                    break
        return drawn, (energies[0], energies[-1])


def _wanted(found: Float[Tensor, "C h w"], edit: EditedDepth) -> Wanted:
    """The photo's activations as the edit moves them."""
    size = found.shape[1:]
    depth, own = (
        F.interpolate(each[None, None].float(), size, mode="nearest-exact")[0, 0]
        for each in (edit.after, edit.mask)
    )
    own, values = own > 0, found.cpu()
    there = torch.zeros_like(own)
    if edit.motion is not None:
        moved: MovedFeatures = move_features(values, edit.before, edit.mask, edit.camera, edit.motion)
        there = moved.depth.isfinite() & (moved.depth <= (1 + NEARER) * depth)
        values = torch.where(there, moved.features, values)
    rest = ~(own | there)
    return Wanted(values.to(found), there.to(found.device), rest.to(found.device))


@contextmanager
def _listening(blocks: list[Any]) -> Iterator[list[Tensor]]:
    """What blocks of a network put out while it runs, of the first picture of a batch."""
    heard: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, out: heard.append(out[0])) for block in blocks]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


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
