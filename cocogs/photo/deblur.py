"""Blur of a known size taken away from a photo, by DeblurNet (`deblur_net.py`; docs/deblur-net.md).

The photo is worked on in tiles, so that memory does not grow with it. Where nothing is blurred it comes
back bit for bit.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from cocogs.errors import InputError, reason_of
from cocogs.io.weights import digest_of
from cocogs.optics.lens import PhotoLens
from cocogs.photo.deblur_net import MULTIPLE, DeblurNet

SHIPPED = Path(__file__).with_name("deblur.safetensors")
TILE = 976  # px, of what the network sees at a time
OVERLAP = 64  # px of it on each side that only give it surroundings
HALF_SURE = 0.02  # expected error, of the square root of light, at which confidence is 1/2: 5 of 255


@dataclass(frozen=True)
class Deblurring:
    """A photo, deblurred as far as the network could.

    Args:
        light: linear, >= 0; the photo itself, bit for bit, where no blur reaches.
        confidence: in [0, 1]. 1 where the photo was left as it is because it was sharp, 0 where its blur is
            wider than the network has learned; between, 1/2 means an expected error of 5 of 255.
    """

    light: Float[Tensor, "3 H W"]
    confidence: Float[Tensor, "H W"]


@dataclass(frozen=True)
class Deblurrer:
    """The network with its weights.

    Args:
        facts: for the JSON beside a result: network, file and SHA-256 of the weights, how they were trained.
            Its `learned` says that detail is the network's guess.
    """

    net: DeblurNet
    facts: dict[str, Any]

    def __call__(
        self,
        light: Float[Tensor, "3 H W"],
        coc: Float[Tensor, "H W"] | None = None,
        known: Bool[Tensor, "H W"] | None = None,
    ) -> Deblurring:
        """Take the blur away.

        Args:
            light: linear, of a photo.
            coc: signed diameters of the circles of confusion, px. Wider than `WIDEST` fades to left as it is.
                None: known nowhere, which takes away little (docs/deblur-net.md).
            known: where `coc` is right; its values elsewhere do not matter. None: where it is finite.

        Raises:
            InputError: sizes differ, or a number that counts is not finite.
        """
        coc, known = _checked(light, coc, known)
        result, confidence = light.clone(), torch.ones_like(coc)
        net = self.net.to(light.device)
        with torch.inference_mode():
            for inner, outer, place in _tiles(*coc.shape):
                if not bool(coc[outer].any()) and bool(known[outer].all()):
                    continue  # sharp
                sharper, sure = _whole(net, light[(slice(None), *outer)], coc[outer], known[outer])
                result[(slice(None), *inner)] = sharper[(slice(None), *place)]
                confidence[inner] = sure[place]
        return Deblurring(result, confidence)

    def by_depth(
        self,
        light: Float[Tensor, "3 H W"],
        depth: Float[Tensor, "H W"],
        lens: PhotoLens,
        known: Bool[Tensor, "H W"] | None = None,
    ) -> Deblurring:
        """Take away the blur of a photo whose depth and lens are known, from a scene or a bracket.

        Args:
            depth: z-depths, > 0, in the unit of `lens`; infinity is allowed.
            lens: the photo's own. Its softness stays in the photo.
            known: where the depth can be trusted. None: where it is no NaN and above 0.
        """
        there = depth > 0  # no NaN
        with torch.no_grad():
            coc = torch.where(there, lens.coc(torch.where(there, depth, 1.0)), 0.0).to(light)
        return self(light, coc, there if known is None else known & there)


@lru_cache(maxsize=4)
def load_deblurrer(weights: Path = SHIPPED) -> Deblurrer:
    """The network with the weights that come with cocogs, or others that `scripts/train_deblur.py` made.

    Raises:
        InputError: the file is missing, or holds no weights of this network.
    """
    try:
        with safe_open(weights, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no dict)
            trained = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
        digest = digest_of(weights)
        net = DeblurNet()
        net.load_state_dict(tensors)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{weights} cannot be read as weights ({reason_of(error)}): leave `weights` out, or restore the "
            "file."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{weights} does not hold weights of this version's DeblurNet: leave `weights` out, or make them "
            "by scripts/train_deblur.py."
        ) from error
    facts = {"network": "DeblurNet", "weights": weights.name, "weights_sha256": digest}
    net.eval().requires_grad_(False)
    return Deblurrer(net, facts | {"training": trained, "learned": True, "generative": False})


def _checked(
    light: Float[Tensor, "3 H W"], coc: Tensor | None, known: Tensor | None
) -> tuple[Float[Tensor, "H W"], Bool[Tensor, "H W"]]:
    """CoC, 0 where it is unknown, and where it is known."""
    size = tuple(light.shape[1:])
    for name, given in (("coc", coc), ("known", known)):
        if given is not None and tuple(given.shape) != size:
            raise InputError(
                f"`{name}` has {given.shape[-1]}x{given.shape[-2]} values, the photo {size[1]}x{size[0]} "
                "pixels: give one value per pixel."
            )
    if not bool(light.isfinite().all()) or bool((light < 0).any()):
        raise InputError("`light` must be finite and at least 0 in every pixel: it is linear light.")
    if coc is None:
        return torch.zeros_like(light[0]), torch.zeros_like(light[0], dtype=torch.bool)
    known = coc.isfinite() if known is None else known
    if not bool(coc[known].isfinite().all()):
        raise InputError("`coc` must be finite wherever `known` says that it is right.")
    return torch.where(known, coc, 0.0), known


Box = tuple[slice, slice]


def _tiles(height: int, width: int) -> Iterator[tuple[Box, Box, Box]]:
    """Parts of a picture: the part itself, with its surroundings, and where it lies in those."""
    for top, from_top, row in _cuts(height):
        for left, from_left, column in _cuts(width):
            yield (top, left), (from_top, from_left), (row, column)


def _cuts(length: int) -> Iterator[tuple[slice, slice, slice]]:
    """The same along one side. Tiles are at most `TILE` wide and begin at multiples of `MULTIPLE`, as the
    network's coarser pictures do."""
    start = 0
    while start < length:
        first = max(0, start - OVERLAP)
        last = min(length, first + TILE)
        end = length if last == length else last - OVERLAP
        yield slice(start, end), slice(first, last), slice(start - first, end - first)
        start = end


def _whole(
    net: DeblurNet, light: Float[Tensor, "3 H W"], coc: Float[Tensor, "H W"], known: Bool[Tensor, "H W"]
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """One tile through the network: light and confidence."""
    height, width = coc.shape
    around = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    maps = torch.cat([light, coc[None], known[None].to(light)])
    maps = F.pad(maps[None], around, mode="replicate")
    result = net(maps[:, :3], maps[:, 3], maps[:, 4])
    sure = result.fade * (1 - result.gate * result.error / (result.error + HALF_SURE))
    return result.light[0, :, :height, :width], sure[0, :height, :width]
