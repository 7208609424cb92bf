"""Parts of torch without its compiler, which nothing here uses and which takes two seconds to load."""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

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


class Adam(torch.optim.Adam):
    """As torch's own, whose methods load the compiler to keep it out of them."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    state_dict, load_state_dict, zero_grad, add_param_group = (
        unwrap(getattr(torch.optim.Adam, name))
        for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group")
    )
