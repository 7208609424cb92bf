"""The compiled modules: `cocogs._native` for the CPU and `cocogs._cuda` for NVIDIA GPUs.

This is the one place that loads them. Python itself keeps what was loaded; nothing else is kept. Loading
`_native` tells the C library to keep freed memory, which `cocogs.rasterize.release_memory` gives back.
"""

import importlib
from types import ModuleType

NO_CPU_MODULE = (
    "The native rasterizer of cocogs (cocogs._native) cannot be loaded: {reason}. Install a wheel of cocogs "
    "that fits this machine, or build it with GCC or clang at hand (`pip install .`), or ask for the slow "
    '`backend="reference"` explicitly.'
)
NO_CUDA_MODULE = (
    "This cocogs has no CUDA rasterizer ({reason}): install a wheel for Linux, which has one, or install the "
    "CUDA toolkit (nvcc 12 or newer) and build cocogs with `pip install --force-reinstall --no-deps "
    "--config-settings=cmake.define.COCOGS_CUDA=ON .`, or keep the tensors on the CPU."
)
OLD_DRIVER = (
    "The NVIDIA driver knows CUDA {driver}, but the CUDA rasterizer of this cocogs was built with CUDA "
    "{runtime}: update the driver, or build cocogs with an older CUDA toolkit, or keep the tensors on "
    "the CPU."
)


def cpu_module() -> ModuleType:
    """The passes on a CPU.

    Raises:
        RuntimeError: the module was not built, or cannot be loaded; the message says what to do.
    """
    return _load("cocogs._native", NO_CPU_MODULE)


def cuda_module() -> ModuleType:
    """The passes on an NVIDIA GPU. Call it where there is one; the module also loads where there is none.

    It brings its own CUDA runtime: of the machine it needs only the driver, and nothing of torch's.

    Raises:
        RuntimeError: the module was not built, cannot be loaded, or is too new for the driver; the message
            says what to do.
    """
    module = _load("cocogs._cuda", NO_CUDA_MODULE)
    runtime, driver = module.cuda_versions()
    if 0 < driver // 1000 < runtime // 1000:
        raise RuntimeError(OLD_DRIVER.format(driver=_readable(driver), runtime=_readable(runtime)))
    return module


def _readable(version: int) -> str:
    """12080 is CUDA 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _load(name: str, remedy: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(remedy.format(reason=error)) from error
