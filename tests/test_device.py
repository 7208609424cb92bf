"""Which processor is chosen, and that a training step stays on it."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from test_model import CAMERA, make

from cocogs import device as device_module
from cocogs.cli.messages import sentence
from cocogs.cli.train import Train
from cocogs.config import StrategyConfig, preset
from cocogs.device import choose_device
from cocogs.errors import InputError
from cocogs.train.losses import photometric_loss
from cocogs.train.strategy import Densification

PRESETS = ["3dgs", "lens", "full", "paper"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where torch sees a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cocogs._cuda", None)


def test_without_a_gpu_the_cpu_is_taken_and_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", pytest.fail) == torch.device("cpu")
    with pytest.raises(InputError, match=r"no CUDA GPU here.*pytorch\.org"):
        choose_device("cuda")


def test_a_gpu_is_taken(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_module", lambda: None)
    assert choose_device("auto", pytest.fail) == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_an_idle_gpu_is_mentioned(gpu: None, not_built: None) -> None:
    said = []
    assert choose_device("auto", said.append) == torch.device("cpu")
    (line,) = said
    assert "only the CPU will be used" in line and "nvcc" in line
    with pytest.raises(InputError, match="nvcc"):
        choose_device("cuda")


@pytest.mark.parametrize("driver", [11080, 12020, 13000])
def test_the_driver_must_know_the_cuda_that_built_us(
    driver: int, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of CUDA 12.8: an older driver of the same major version runs it, one of an older version does not."""
    built = ModuleType("cocogs._cuda")
    built.cuda_versions = lambda: (12080, driver)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "cocogs._cuda", built)
    said = []
    found = choose_device("auto", said.append)
    if driver >= 12000:
        assert found == torch.device("cuda") and not said
        return
    assert found == torch.device("cpu")
    assert "knows CUDA 11.8" in said[0] and "was built with CUDA 12.8: update the driver" in said[0]


def test_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match="auto, cpu, cuda"):
        choose_device("tpu")


def test_too_little_memory_is_one_sentence_with_the_numbers() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which "
        "1.2 GiB is free. Including non-PyTorch memory, this process has 6.8 GiB memory in use."
    )
    line = sentence(error, Train(Path("data"), Path("run")))
    assert line is not None and "\n" not in line
    assert "20.00 GiB" in line and "8.00 GiB" in line and "--max-gaussians" in line and "--resume" in line


@pytest.mark.parametrize("name", PRESETS)
def test_a_step_stays_on_its_device(name: str) -> None:
    """On the device `meta`, which has shapes but no numbers: a tensor left on the CPU fails beside it, and so
    does reading a number, for which a GPU would have to be waited for."""
    model = make(preset(name).model).to("meta")
    photo = model.photo(CAMERA, 1, sh_degree=3)
    truth = torch.zeros(3, CAMERA.height, CAMERA.width, device="meta")
    photometric_loss(photo.image, truth, 0.2).mean().backward()
    densification = Densification(StrategyConfig(), 100, 1.0, len(model.gaussians), "meta")
    densification.observe(photo)
    assert photo.probe.grad is not None
    assert {p.grad.device.type for p in model.gaussians.parameters() if p.grad is not None} == {"meta"}


@pytest.mark.cuda
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_on_a_gpu_is_that_of_the_cpu(name: str) -> None:
    images = []
    for device in ("cpu", "cuda"):
        model = make(preset(name).model).to(device)
        image = model.photo(CAMERA, 1, sh_degree=3).image
        image.square().sum().backward()
        slope = model.gaussians.means.grad
        assert slope is not None
        images.append((image.detach().cpu(), slope.cpu()))
    (image, slope), (other, other_slope) = images
    assert (image - other).abs().max() < 4e-3  # the networks compute in bf16 there, which has 8 bits
    assert torch.cosine_similarity(slope.flatten(), other_slope.flatten(), dim=0) > 0.999
