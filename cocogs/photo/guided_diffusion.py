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
from cocogs.io.progress import Progress, Say
from cocogs.photo.apart import NEARER
from cocogs.photo.lift import Motion, MovedFeatures, move_features
from cocogs.photo.stable_diffusion import StableDiffusion

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
        weights: folder of it (`cocogs.photo.stable_diffusion`). Nothing is downloaded.

    Raises:
        InputError: files or packages are missing, or they are of another network.
    """

    def __init__(self, weights: Path, say: Say = print) -> None:
        self.model, self.say = StableDiffusion(weights, 1, STEPS, WHERE, say), say
        self.facts = self.model.facts

    def __call__(self, photo: Float[Tensor, "3 H W"], edit: EditedDepth) -> Imagined:
        """The edited photo as the model imagines it.

        Args:
            photo: sRGB in [0, 1].
        """
        height, width = photo.shape[1:]
        size = self.model.size(height, width)
        latent = self.model.encoded(F.interpolate(photo[None], size, mode="bilinear", antialias=True))
        before, after = self._depths(edit, (latent.shape[2], latent.shape[3]))
        energies = []
        with Progress("Imagining what was hidden", 2 * STEPS, self.say, patience=2) as progress:
            way = self._inverted(latent, before, progress)
            drawn = way[-1]
            for number in range(STEPS - 1, -1, -1):
                if number >= (1 - STEERED) * STEPS:
                    drawn, told = self._steered(drawn, way[number], number, before, after, edit)
                    energies.append(told)
                drawn = self.model.stepped(drawn, after, number, number, number - 1)
                progress.add(1)
        return Imagined(self.model.decoded(drawn, height, width), tuple(energies))

    def _depths(self, edit: EditedDepth, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Nearness from -1 to 1, (1, 1, h, w), as the model was trained on it; one scale for both."""
        both = torch.stack([1 / edit.before, 1 / edit.after])[None].float()
        both = F.interpolate(both, size, mode="bilinear", antialias=True)
        low, high = both.amin(), both.amax()
        both = 2 * (both - low) / (high - low).clamp_min(1e-9) - 1
        first, second = both.to(self.model.device).split(1, 1)
        return first, second

    def _inverted(self, latent: Tensor, depth: Tensor, progress: Progress) -> list[Tensor]:
        """The photo's latents at every step, from the clearest on (DDIM, Song et al. 2021, run backwards)."""
        way = []
        for number in range(STEPS):
            latent = self.model.stepped(latent, depth, number, number - 1, number)
            way.append(latent)
            progress.add(1)
        return way

    def _activations(self, latent: Tensor, depth: Tensor, number: int) -> list[Float[Tensor, "C h w"]]:
        """What the blocks of the decoder put out, without the outermost ones if there are others."""
        blocks = list(self.model.net.up_blocks)
        with _listening(blocks[1:-1] or blocks) as heard:
            self.model.told(latent, depth, number)
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
