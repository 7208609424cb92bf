"""Which processor does the work, and what is fast on it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from cocogs.compiled import cuda_module
from cocogs.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(wish: str = "auto", say: Callable[[str], None] = print) -> torch.device:
    """The GPU if there is one and cocogs was built for it, else the CPU.

    Args:
        wish: one of `DEVICES`: "auto", or what the user insists on.
        say: gets one sentence when a GPU stays idle.

    Raises:
        InputError: `wish` is unknown, or it is "cuda" and no GPU can be used; the sentence says what to do.
    """
    if wish not in DEVICES:
        raise InputError(f"`device` must be one of {', '.join(DEVICES)}, not {wish}.")
    if wish == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if wish == "cuda":
            raise InputError(
                "torch finds no CUDA GPU here: install a torch that was built for CUDA (https://pytorch.org) "
                "and the NVIDIA driver, or leave `device` out."
            )
        return torch.device("cpu")
    try:
        cuda_module()
    except RuntimeError as error:
        if wish == "cuda":
            raise InputError(str(error)) from error
        say(f"There is a GPU, but only the CPU will be used. {error}")
        return torch.device("cpu")
    return torch.device("cuda")


def bf16_where_fast(device: torch.device) -> AbstractContextManager:
    """A context in which networks compute in bf16: on GPUs, and on CPUs with instructions for it. Other CPUs
    imitate bf16, which takes twice the time of float32."""
    fast = _cpu_has_bf16() if device.type == "cpu" else device.type == "cuda"
    return torch.autocast(device.type, dtype=torch.bfloat16) if fast else nullcontext()


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Inside, a GPU's convolutions give the same bits every time, with all bits of float32: without, they add
    up in any order and with 10 bits. Where 10 bits are enough, `bf16_where_fast` asks for them."""
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.allow_tf32
    flags.deterministic, flags.allow_tf32 = True, False
    try:
        yield
    finally:
        flags.deterministic, flags.allow_tf32 = before


@cache
def _cpu_has_bf16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # from torch 2.10 on
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
