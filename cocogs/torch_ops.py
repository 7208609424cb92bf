"""Functions as ops of torch."""

from collections.abc import Callable
from typing import Any

import torch


def torch_op(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Makes a torch op of a function, on all devices, that changes none of its arguments.

    As `torch.library.custom_op`, whose ops load the compiler of torch on their first call, which takes two
    seconds.

    Args:
        name: cocogs::NAME.
    """

    def define(function: Callable[..., Any]) -> Any:
        torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
        torch.library.impl(name, "default", function)
        return getattr(torch.ops.cocogs, name.removeprefix("cocogs::")).default

    return define
