"""Parts of torch without its compiler, which nothing here uses and which takes two seconds to load. And marks
for functions: those without second derivatives, those whose results are kept."""

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any, ParamSpec, TypeVar

import torch


def torch_op(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Makes a torch op of a function, on all devices, that changes none of its arguments.

    As `torch.library.custom_op`, whose ops load the compiler on their first call.

    Args:
        name: cocogs::NAME.
    """

    def define(function: Callable[..., Any]) -> Any:
        torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(name, "default", function)
        return getattr(torch.ops.cocogs, name.removeprefix("cocogs::")).default

    return define


def first_derivatives(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the backward pass of a function that has no second derivatives: who asks for them gets an error,
    not 0. (torch's once_differentiable gives 0 where the incoming gradients are constants.)"""

    @wraps(backward)
    def call(ctx: Any, *gradients: Any) -> Any:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # nobody keeps a graph of this pass
            return found
        found = found if isinstance(found, tuple) else (found,)
        return tuple(None if v is None else _Last.apply(v.detach().requires_grad_()) for v in found)

    return call


class _Last(torch.autograd.Function):
    """A gradient as it is, which has no gradient."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "This function of cocogs has first derivatives alone, and a second one was asked for."
        )


P = ParamSpec("P")
R = TypeVar("R")


def serves_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """For what is kept: it serves gradients later, though it was first asked for in torch's inference mode.
    It takes none itself."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return call


class Adam(torch.optim.Adam):
    """As torch's own, whose methods load the compiler to keep it out of them."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    state_dict, load_state_dict, zero_grad, add_param_group = (
        unwrap(getattr(torch.optim.Adam, name))
        for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group")
    )
