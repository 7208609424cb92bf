"""What the tests share: the back-ends with their tolerances, and the place of the data."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

# The tensors of the tests are small, and threads that wait by spinning on shared cores cost ten times more.
torch.set_num_threads(1)

SHARED_DATA = Path(__file__).parents[2] / "shared/data"


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
    """One way to call `cocogs.rasterize.rasterize`."""

    name: str
    dtype: torch.dtype

    @property
    def tolerance(self) -> Tolerance:
        return TOLERANCES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name}-{str(self.dtype).removeprefix('torch.')}"


BACKENDS = [
    Backend("reference", torch.float32),
    Backend("native", torch.float32),
    Backend("native", torch.float64),
    Backend("gsplat", torch.float64),
]


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every back-end in turn; gsplat is optional."""
    if request.param.name == "gsplat":
        pytest.importorskip("gsplat")
    return request.param


@pytest.fixture
def shared_data() -> Path:
    """The folder of test scenes beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is absent")
    return SHARED_DATA
