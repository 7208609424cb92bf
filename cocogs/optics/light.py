"""The one way of the light from renders to a picture: renders add up as light, exposure scales the light, the
response curve comes last (docs/method.md, "From linear light to photo").

Splats carry pixel values, as a standard .ply does. Their renders become linear light here, and in training
nothing but `ResponseCurve.encode` turns light back into pixel values.
"""

from functools import cached_property, lru_cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.srgb import to_linear

Weights = Float[Tensor, "S 1 H W"] | float

STEPS = 1024  # of a table, from 0 to 1; its error is below a hundredth of an 8-bit step
BRIGHTEST = 4  # pixel value at which tables end; beyond it they go on straight
ROWS = 4  # one row in so many gives gradients to the coefficients of a response
TERMS = 3  # coefficients of a response


class ResponseCurve:
    """How a camera turns linear light into pixel values, and back: s(v) is the sRGB-encoded light of v,

        s(v) = v + v (1 - v) (c0 + c1 x + c2 (2 x^2 - 1)),  x = 2 v - 1,

    so that black and white stay where they are. Beyond white it goes on straight. Both ways are looked up in
    tables, which is quicker than the powers of the sRGB curve.

    Args:
        coefficients: (c0, c1, c2); all 0 is sRGB. They get gradients from one row in `ROWS`.
    """

    def __init__(self, coefficients: Float[Tensor, " 3"]) -> None:
        self.coefficients = coefficients

    @cached_property
    @torch.no_grad()
    def light(self) -> "Table":
        """Light of pixel values."""
        values = even(BRIGHTEST, BRIGHTEST * STEPS + 1, self.coefficients)
        return Table(to_linear(bent(values, self.coefficients)), STEPS)

    @cached_property
    @torch.no_grad()
    def values(self) -> "Table":
        """Pixel values of the roots of light: of light itself they rise too steeply from 0."""
        light = self.light.values
        roots = even(BRIGHTEST, BRIGHTEST * STEPS + 1, light)
        wanted = roots.square()
        upper = torch.searchsorted(light, wanted).clamp(1, len(light) - 1)
        below, above = light[upper - 1], light[upper]
        return Table((upper - 1 + (wanted - below) / (above - below)) / STEPS, STEPS)

    def decode(self, values: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """Linear light of pixel values >= 0."""
        return add_up_light(values[None], 1.0, self)

    def encode(self, light: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
        """Pixel values of linear light >= 0, not clipped at white."""
        return _Encode.apply(light, self.coefficients, self.values)  # pyright: ignore[reportReturnType]


class Table:
    """A function at even steps from 0 on, straight between them and beyond the last.

    Args:
        values: of the function.
        steps: how many there are from 0 to 1.
    """

    def __init__(self, values: Float[Tensor, " n"], steps: int) -> None:
        self.values, self.steps = values, steps
        self.rises = values.diff()

    def __call__(self, x: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        place, index = self._place(x)
        value = self._at(self.rises, index).mul_(place.sub_(index))
        return value.add_(self._at(self.values, index))

    def slope(self, x: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        return self._at(self.rises, self._place(x)[1]).mul_(self.steps)

    def _place(self, x: Float[Tensor, "*P"]) -> tuple[Float[Tensor, "*P"], Int64[Tensor, "*P"]]:
        place = x * self.steps
        return place, place.long().clamp_(0, len(self.rises) - 1)

    @staticmethod
    def _at(values: Float[Tensor, " n"], index: Int64[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        return values.index_select(0, index.reshape(-1)).view(index.shape)


def even(most: float, count: int, like: Tensor) -> Float[Tensor, " count"]:
    """Even steps from 0 to `most`, on the device of a tensor: a recording of steps may copy nothing to it."""
    return torch.linspace(0, most, count, dtype=like.dtype, device=like.device)


@lru_cache
def srgb_curve(dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> ResponseCurve:
    """The response of sRGB itself."""
    return ResponseCurve(torch.zeros(TERMS, dtype=dtype, device=device))


def terms(values: Float[Tensor, "*P"]) -> list[Float[Tensor, "*P"]]:
    """What the coefficients of a `ResponseCurve` are factors of."""
    x, hump = 2 * values - 1, values * (1 - values)
    return [hump, hump * x, hump * (2 * x.square() - 1)]


def slopes_of_terms(values: Float[Tensor, "*P"]) -> list[Float[Tensor, "*P"]]:
    """Their derivatives."""
    x, hump = 2 * values - 1, values * (1 - values)
    return [-x, 2 * hump - x * x, 8 * hump * x - x * (2 * x.square() - 1)]


def bent(values: Float[Tensor, "*P"], coefficients: Float[Tensor, " 3"]) -> Float[Tensor, "*P"]:
    """s(v) of `ResponseCurve`."""
    inner = values.clamp(max=1)
    curved = inner + sum(c * term for c, term in zip(coefficients, terms(inner), strict=True))
    return curved + (values - inner) * (1 - coefficients.sum())


def slope_of_bent(values: Float[Tensor, "*P"], coefficients: Float[Tensor, " 3"]) -> Float[Tensor, "*P"]:
    """Derivative of s(v), for v in [0, 1]."""
    slope = torch.ones_like(values)
    for c, own in zip(coefficients, slopes_of_terms(values), strict=True):
        slope = slope + c * own
    return slope


def add_up_light(
    renders: Float[Tensor, "S 3 H W"], weights: Weights, curve: ResponseCurve | None = None
) -> Float[Tensor, "3 H W"]:
    """Linear light of S renders.

    A lens adds up light, not pixel values. Where a fine pattern is blurred, the mean of pixel values is too
    dark: by .02 to .03 on a ray-traced scene (docs/lab/samples.md).

    Args:
        renders: pixel values >= 0.
        weights: per pixel, or one number for all; they sum to 1 over the renders.
        curve: how pixel values came from light; None: sRGB.
    """
    curve = curve or srgb_curve(renders.dtype, renders.device)
    if isinstance(weights, float):
        weights = renders.new_full((1, 1, 1, 1), weights).expand(len(renders), 1, *renders.shape[2:])
    return _AddUpLight.apply(  # pyright: ignore[reportReturnType]
        renders, weights, curve.coefficients, curve.light
    )


def add_up_values(renders: Float[Tensor, "S 3 H W"], weights: Weights) -> Float[Tensor, "3 H W"]:
    """Weighted mean of pixel values: what the paper and 3DGS do."""
    return renders[0] if len(renders) == 1 else (renders * weights).sum(0)


class _AddUpLight(torch.autograd.Function):
    """Set by set, so that no intermediate is as large as all renders together."""

    @staticmethod
    def forward(ctx, renders: Tensor, weights: Tensor, coefficients: Tensor, table: Table) -> Tensor:
        ctx.save_for_backward(renders, weights, coefficients)
        ctx.table = table
        light = torch.zeros_like(renders[0])
        for render, weight in zip(renders, weights, strict=True):
            light += table(render).mul_(weight)
        return light

    @staticmethod
    def backward(ctx, v_light: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        renders, weights, coefficients = ctx.saved_tensors
        wants_renders, wants_weights, wants_curve, _ = ctx.needs_input_grad
        v_renders = torch.empty_like(renders) if wants_renders else None
        v_weights = torch.empty_like(weights) if wants_weights else None
        v_curve = torch.zeros_like(coefficients) if wants_curve else None
        for s, (render, weight) in enumerate(zip(renders, weights, strict=True)):
            if v_renders is not None:
                torch.mul(v_light * weight, ctx.table.slope(render), out=v_renders[s])
            if v_weights is not None:
                torch.sum(v_light * ctx.table(render), 0, keepdim=True, out=v_weights[s])
            if v_curve is not None:
                some = render[:, ::ROWS]
                pull = (v_light * weight)[:, ::ROWS] * ctx.table.slope(some)
                v_curve += _pulls(pull, some, coefficients)
        return v_renders, v_weights, v_curve, None


class _Encode(torch.autograd.Function):
    """Pixel values of light."""

    @staticmethod
    def forward(ctx, light: Tensor, coefficients: Tensor, table: Table) -> Tensor:
        root = light.clamp_min(1e-10).sqrt_()
        values = table(root)
        ctx.save_for_backward(root, values, coefficients)
        ctx.table = table
        return values

    @staticmethod
    def backward(ctx, v_values: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        root, values, coefficients = ctx.saved_tensors
        v_light = v_curve = None
        if ctx.needs_input_grad[0]:
            # In the first step of the table, the slope is that of its middle.
            v_light = ctx.table.slope(root).mul_(v_values).div_(root.clamp_min(0.5 / STEPS)).mul_(0.5)
        if ctx.needs_input_grad[1]:
            v_curve = -_pulls(v_values[:, ::ROWS], values[:, ::ROWS], coefficients)
        return v_light, v_curve, None


def _pulls(v_values: Tensor, values: Tensor, coefficients: Tensor) -> Tensor:
    """Gradients of the coefficients: a change of s(v) equals one of v times the slope of s. Pixels beyond
    white tell nothing."""
    inner = values.clamp(0, 1)
    pull = ROWS * v_values / slope_of_bent(inner, coefficients)
    return torch.stack([(pull * term).sum() for term in terms(inner)])
