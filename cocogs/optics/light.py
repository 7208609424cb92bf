"""The one way of the light from renders to a picture: renders add up as light, exposure scales the light, the
response curve comes last (docs/method.md, "From linear light to photo").

Splats carry sRGB-encoded colours, as a standard .ply does. Their renders become linear light here, and
nothing but `response` turns light back into pixel values.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.srgb import slope_to_linear, to_linear, to_srgb

Weights = Float[Tensor, "S 1 H W"] | float


def add_up_light(renders: Float[Tensor, "S 3 H W"], weights: Weights) -> Float[Tensor, "3 H W"]:
    """Linear light of S renders.

    A lens adds up light, not pixel values. Where a fine pattern is blurred, the mean of pixel values is too
    dark: by .02 to .03 on a ray-traced scene (docs/lab/samples.md).

    Args:
        renders: sRGB-encoded, >= 0.
        weights: per pixel, or one number for all; they sum to 1 over the renders.
    """
    if isinstance(weights, float):
        weights = renders.new_full((1, 1, 1, 1), weights).expand(len(renders), 1, *renders.shape[2:])
    return _AddUpLight.apply(renders, weights)  # pyright: ignore[reportReturnType]


def add_up_values(renders: Float[Tensor, "S 3 H W"], weights: Weights) -> Float[Tensor, "3 H W"]:
    """Weighted mean of pixel values: what the paper and 3DGS do."""
    return renders[0] if len(renders) == 1 else (renders * weights).sum(0)


def response(light: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Pixel values of linear light >= 0: the sRGB curve."""
    return to_srgb(light)


class _AddUpLight(torch.autograd.Function):
    """Set by set, so that no intermediate is as large as all renders together."""

    @staticmethod
    def forward(ctx, renders: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(renders, weights)
        light = torch.zeros_like(renders[0])
        for render, weight in zip(renders, weights, strict=True):
            light += to_linear(render) * weight
        return light

    @staticmethod
    def backward(ctx, v_light: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore
        renders, weights = ctx.saved_tensors
        wants_renders, wants_weights = ctx.needs_input_grad
        v_renders = torch.empty_like(renders) if wants_renders else None
        v_weights = torch.empty_like(weights) if wants_weights else None
        for s, (render, weight) in enumerate(zip(renders, weights, strict=True)):
            if v_renders is not None:
                torch.mul(v_light * weight, slope_to_linear(render), out=v_renders[s])
            if v_weights is not None:
                torch.sum(v_light * to_linear(render), 0, keepdim=True, out=v_weights[s])
        return v_renders, v_weights
