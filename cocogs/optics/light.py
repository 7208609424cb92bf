"""The one way of the light from renders to a picture: renders add up as light, exposure scales the light, the
response curve comes last (docs/method.md, "From linear light to photo").

Splats carry pixel values, as a standard .ply does. Their renders become linear light here, and in training
nothing but `ResponseCurve.encode` turns light back into pixel values.
"""

from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.plain_torch import first_derivatives, serves_gradients
from cocogs.srgb import to_linear

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
    @serves_gradients
    def light(self) -> "Table":
        """Light of pixel values."""
        values = even(BRIGHTEST, BRIGHTEST * STEPS + 1, self.coefficients)
        return Table(to_linear(bent(values, self.coefficients)), STEPS)

    @cached_property
    @serves_gradients
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
        return mean_light(values[None], self)

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
        return self.with_rise(x)[0]

    def with_rise(self, x: Float[Tensor, "*P"]) -> tuple[Float[Tensor, "*P"], Float[Tensor, "*P"]]:
        """Values, and by how much they rise in a step: the slope over `steps`."""
        place = x * self.steps
        # In 32 bits, which take half the time of 64. NaN becomes the least number.
        index = place.clamp(max=len(self.rises) - 1).int().clamp_(min=0)
        flat = index.reshape(-1)
        value, rise = (t.index_select(0, flat).view(x.shape) for t in (self.values, self.rises))
        return value.addcmul_(rise, place.sub_(index)), rise


def even(most: float, count: int, like: Tensor) -> Float[Tensor, " count"]:
    """Even steps from 0 to `most`, on the device of a tensor: a recording of steps may copy nothing to it."""
    return torch.linspace(0, most, count, dtype=like.dtype, device=like.device)


@lru_cache
@serves_gradients
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


def mean_light(
    renders: Float[Tensor, "S 3 H W"], curve: ResponseCurve | None = None
) -> Float[Tensor, "3 H W"]:
    """Mean linear light of S renders.

    A lens adds up light, not pixel values. Where a fine pattern is blurred, the mean of pixel values is too
    dark: by .02 to .03 on a ray-traced scene (docs/lab/samples.md).

    Args:
        renders: pixel values >= 0.
        curve: how pixel values came from light; None: sRGB.
    """
    curve = curve or srgb_curve(renders.dtype, renders.device)
    return _MeanLight.apply(renders, curve.coefficients, curve.light)  # pyright: ignore[reportReturnType]


class _MeanLight(torch.autograd.Function):
    """Set by set: a picture is worked on in the cache."""

    @staticmethod
    def forward(ctx, renders: Tensor, coefficients: Tensor, table: Table) -> Tensor:
        light, rise = table.with_rise(renders[0])
        rises = [rise]
        for render in renders[1:]:
            more, rise = table.with_rise(render)
            light += more
            rises.append(rise)
        ctx.save_for_backward(renders, coefficients, *rises)
        ctx.steps = table.steps
        return light.div_(len(renders)) if len(renders) > 1 else light

    @staticmethod
    @first_derivatives
    def backward(ctx, v_light: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        renders, coefficients, *rises = ctx.saved_tensors
        wants_renders, wants_curve, _ = ctx.needs_input_grad
        v_own = v_light * (ctx.steps / len(renders))
        v_renders = torch.empty_like(renders) if wants_renders else None
        v_curve = torch.zeros_like(coefficients) if wants_curve else None
        for s, (render, rise) in enumerate(zip(renders, rises, strict=True)):
            if v_renders is not None:
                torch.mul(v_own, rise, out=v_renders[s])
            if v_curve is not None:
                v_curve += _pulls(v_own[:, ::ROWS] * rise[:, ::ROWS], render[:, ::ROWS], coefficients)
        return v_renders, v_curve, None


class _Encode(torch.autograd.Function):
    """Pixel values of light."""

    @staticmethod
    def forward(ctx, light: Tensor, coefficients: Tensor, table: Table) -> Tensor:
        root = light.clamp_min(1e-10).sqrt_()
        values, rise = table.with_rise(root)
        # The gradient by light; in the first step of the table, the slope is that of its middle.
        slope = rise.mul_(table.steps / 2).div_(root.clamp_min_(0.5 / STEPS))
        ctx.save_for_backward(slope, values, coefficients)
        return values

    @staticmethod
    @first_derivatives
    def backward(ctx, v_values: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        slope, values, coefficients = ctx.saved_tensors
        v_light = v_values * slope if ctx.needs_input_grad[0] else None
        v_curve = None
        if ctx.needs_input_grad[1]:
            v_curve = -_pulls(v_values[:, ::ROWS], values[:, ::ROWS], coefficients)
        return v_light, v_curve, None


def _pulls(v_values: Tensor, values: Tensor, coefficients: Tensor) -> Tensor:
    """Gradients of the coefficients: a change of s(v) equals one of v times the slope of s. Pixels beyond
    white tell nothing."""
    inner = values.clamp(0, 1)
    pull = ROWS * v_values / slope_of_bent(inner, coefficients)
    return torch.stack([(pull * term).sum() for term in terms(inner)])
