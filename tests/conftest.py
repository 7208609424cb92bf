"""What the tests share: the back-ends with their tolerances, and the place of the data."""

import importlib.util
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import jaxtyping
import pytest
import torch
from checker import jaxtyped
from filelock import FileLock

# Types and shapes in the package's signatures are checked here, and only here: in this process, before the
# first import.
jaxtyping.jaxtyped = jaxtyped
jaxtyping.install_import_hook("cocogs", "checker.check")

from cocogs.rasterize import native as native_rasterize  # noqa: E402
from cocogs.rasterize.native_cuda import CudaPasses  # noqa: E402
from cocogs.ssim import native as native_ssim  # noqa: E402

# The tensors of the tests are small, and threads that wait by spinning on shared cores cost ten times more.
torch.set_num_threads(1)

# Under nohup, or in the background of a script, children would inherit that the signals which tests send are
# ignored, and the tests would wait for ever.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared/data"


@dataclass(frozen=True)
class Tolerance:
    """How far a back-end may be from the float64 reference.

    Args:
        forward: largest absolute difference of colours and alphas; relative to the depth for depths.
        gradient: largest |difference| / |expected| in the L2 norm, per input.
    """

    forward: float
    gradient: float


TOLERANCES = {
    torch.float32: Tolerance(forward=1e-5, gradient=1e-4),
    # gsplat writes its constants of spherical harmonics with ten digits.
    torch.float64: Tolerance(forward=1e-8, gradient=1e-7),
}


@dataclass(frozen=True)
class Backend:
    """One way to call `cocogs.rasterize.rasterize`.

    Args:
        kernels: of the native rasterizer: "cpu"; "cuda", on a GPU; "host", those of the GPU compiled for the
            CPU (tests/cuda_on_host).
    """

    name: str
    dtype: torch.dtype
    kernels: str = "cpu"

    @property
    def tolerance(self) -> Tolerance:
        return TOLERANCES[self.dtype]

    @property
    def device(self) -> str:
        return "cuda" if self.kernels == "cuda" else "cpu"

    def __str__(self) -> str:
        kernels = "" if self.kernels == "cpu" else f"-{self.kernels}"
        return f"{self.name}{kernels}-{str(self.dtype).removeprefix('torch.')}"


BACKENDS = [
    Backend("reference", torch.float32),
    Backend("native", torch.float32),
    Backend("native", torch.float64),
    Backend("native", torch.float32, "host"),
    Backend("native", torch.float32, "cuda"),
    Backend("gsplat", torch.float64),
]


def parameters(backends: list[Backend]) -> list:
    """Back-ends as parameters of a test; those on a GPU carry its marker."""
    return [
        pytest.param(backend, id=str(backend), marks=[pytest.mark.cuda] if backend.device == "cuda" else [])
        for backend in backends
    ]


@pytest.fixture(params=parameters(BACKENDS))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Every back-end in turn; gsplat is optional."""
    chosen: Backend = request.param
    if chosen.name == "gsplat":
        pytest.importorskip("gsplat")
    if chosen.kernels == "host":
        module = kernels_on_host()
        passes = CudaPasses(module, lambda device: 0)
        ssim = native_ssim.CudaSsim(module, lambda device: 0)
        monkeypatch.setattr(native_rasterize, "passes_on", lambda device: passes)
        monkeypatch.setattr(native_ssim, "ssim_on", lambda device: ssim)
    return chosen


@cache
def kernels_on_host() -> ModuleType:
    """The CUDA module, compiled for the CPU; the test is skipped without the tools to compile it."""
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("needs cmake and ninja")
    folder = ROOT / "build/cuda_on_host"
    options = ["-G", "Ninja", "-DCOCOGS_CUDA_ON_HOST=ON", f"-DPython_EXECUTABLE={sys.executable}"]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):  # tests run in several processes
        configure = ["-S", str(ROOT), "-B", str(folder), *options]
        for command in (configure, ["--build", str(folder), "-t", "_cuda"]):
            done = subprocess.run(["cmake", *command], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    (library,) = folder.glob("_cuda*.so")
    spec = importlib.util.spec_from_file_location("_cuda", library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations count for nothing, as outside the tests: for what the package itself does with misuse."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def shared_data() -> Path:
    """The folder of test scenes beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is absent")
    return SHARED_DATA
