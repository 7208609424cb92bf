"""The compiled modules: `cocogs._native` for the CPU and `cocogs._cuda` for NVIDIA GPUs.

This is the one place that loads them. Python itself keeps what was loaded; nothing else is kept. Loading
`_native` tells the C library to keep freed memory, which `cocogs.rasterize.release_memory` gives back.
"""

import importlib
from types import ModuleType

NO_CPU_MODULE = (
    "The native rasterizer of cocogs (cocogs._native) cannot be loaded: {reason}. Reinstall cocogs with a "
    'C++17 compiler at hand (`pip install .`), or ask for the slow `backend="reference"` explicitly.'
)
NO_CUDA_MODULE = (
    "This cocogs has no CUDA rasterizer ({reason}): install the CUDA toolkit (nvcc 12 or newer) and "
    "reinstall cocogs with `pip install --force-reinstall --no-deps "
    "--config-settings=cmake.define.COCOGS_CUDA=ON .`, or keep the tensors on the CPU."
)


def cpu_module() -> ModuleType:
    """The passes on a CPU.

    Raises:
        RuntimeError: the module was not built, or cannot be loaded; the message says what to do.
    """
    return _load("cocogs._native", NO_CPU_MODULE)


def cuda_module() -> ModuleType:
    """The passes on an NVIDIA GPU. The module also loads on a machine without a GPU.

    Raises:
        RuntimeError: the module was not built, or cannot be loaded; the message says what to do.
    """
    return _load("cocogs._cuda", NO_CUDA_MODULE)


def _load(name: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(remedy.format(reason=error)) from error
