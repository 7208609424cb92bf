"""The torch ops, called below `rasterize` and `ssim_map`: whatever they get, they raise one sentence and
never read beyond a tensor. Each row of a table is an argument and a way to break it.
"""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Backend, parameters
from scenes import tilted_camera
from torch import Tensor

from cocogs.rasterize.native import rasterize_backward_op, rasterize_op
from cocogs.ssim.native import ssim_backward_op, ssim_op

Arguments = dict[str, Any]
Break = Callable[[Any], Any]

COUNT, SETS, WIDTH, HEIGHT = 40, 2, 33, 18
CPU = Backend("native", torch.float32)
HOST = Backend("native", torch.float32, "host")
GPU = Backend("native", torch.float32, "cuda")
EACH = pytest.mark.parametrize("backend", parameters([CPU, HOST, GPU]), indirect=True)


def scene(
    count: int = COUNT,
    sets: int = SETS,
    width: int = WIDTH,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Arguments:
    """Arguments of `rasterize_op` that are right."""
    camera = tilted_camera(width, HEIGHT)
    g = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64).to(dtype)

    means = camera.unproject(
        uniform(sets, count, 2) * torch.tensor([width, HEIGHT]).to(dtype), 2 + uniform(sets, count)
    )
    arguments = {
        "means": means.to(dtype).contiguous(),
        "quats": 0.1 + uniform(1, count, 4),
        "scales": 0.05 + 0.1 * uniform(1, count, 3),
        "opacities": uniform(1, count),
        "blur": uniform(sets, count),
        "shift": uniform(sets, count, 2),
        "sh0": uniform(count, 1, 3),
        "shN": uniform(count, 15, 3),
        "background": uniform(3),
        "means2d_probe": torch.zeros(sets, count, 2, dtype=dtype),
        "camera": list(camera.numbers),
        "place": camera.place_like(means.to(dtype)),
        "width": width,
        "height": HEIGHT,
        "sh_degree": 3,
        "antialiased": True,
        "with_depth": True,
    }
    return {name: v.to(device) if isinstance(v, Tensor) else v for name, v in arguments.items()}


INPUTS = ("means", "quats", "scales", "opacities", "blur", "shift", "sh0", "shN", "background")
GRADIENTS = (*INPUTS[:-1], "means2d")
VIEW = ("camera", "place", "width", "height", "sh_degree", "antialiased")
RESULTS = ("colors", "alphas", "depths", "radii", "state", "splats", "lists")


def backward_of(forward: Arguments) -> Arguments:
    """Arguments of `rasterize_backward_op` that are right, for a forward pass that it runs."""
    results = dict(zip(RESULTS, rasterize_op(**forward), strict=True))
    del results["radii"]
    pictures = {name: results[name] for name in ("colors", "alphas", "depths")}
    incoming: Arguments = {f"v_{name}": torch.ones_like(picture) for name, picture in pictures.items()}
    if not forward["with_depth"]:
        incoming["v_depths"] = None
    inputs = {name: forward[name] for name in (*INPUTS, *VIEW)}
    return results | incoming | inputs | {"wanted": [forward.get(name, 0) is not None for name in GRADIENTS]}


def apart(tensor: Tensor) -> Tensor:
    """The same numbers, not one after another."""
    return torch.stack([tensor, tensor], -1)[..., 0]


def expanded(tensor: Tensor) -> Tensor:
    return tensor.flatten()[:1].view([1] * tensor.dim()).expand(tensor.shape)


def short(tensor: Tensor) -> Tensor:
    """One Gaussian less, or one number of the last axis where there are none."""
    shape = list(tensor.shape)
    axis = shape.index(COUNT) if COUNT in shape else len(shape) - 1
    return tensor.narrow(axis, 0, shape[axis] - 1).contiguous()


def with_value(value: float) -> Break:
    """One number is another."""

    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = value
        return changed

    return change


def set_to(value: Any) -> Break:
    return lambda _: value


TENSORS: dict[str, Break] = {
    "short": short,
    "empty": lambda t: t.new_empty(0),
    "another axis": lambda t: t[None].contiguous(),
    "an axis less": lambda t: t[0].contiguous(),
    "another float type": lambda t: t.double(),
    "whole numbers": lambda t: t.long(),
    "halves": lambda t: t.half(),
    "not contiguous": apart,
    "expanded": expanded,
    "sparse": lambda t: t.to_sparse(),
}
FORWARD: list[tuple[str, str, Break]] = [
    *((name, way, make) for name in INPUTS for way, make in TENSORS.items()),
    *(("place", way, make) for way, make in TENSORS.items()),
    ("means", "no set", lambda t: t[:0]),
    ("means", "three sets", lambda t: t[:1].repeat(3, 1, 1)),
    ("means", "65 sets", lambda t: t[:1].repeat(65, 1, 1)),
    ("blur", "negative", with_value(-0.1)),
    ("scales", "negative", with_value(-0.1)),
    ("shN", "14 numbers", lambda t: t[:, :14].contiguous()),
    ("means2d_probe", "short", short),
    ("means2d_probe", "one set", lambda t: t[:1]),
    ("camera", "short", lambda c: c[:-1]),
    ("camera", "long", lambda c: [*c, 1.0]),
    ("camera", "not finite", lambda c: [float("nan"), *c[1:]]),
    ("camera", "infinite", lambda c: [*c[:3], float("inf"), *c[4:]]),
    ("camera", "no focal length", lambda c: [*c[:15], 0.0, *c[16:]]),
    ("camera", "negative focal length", lambda c: [*c[:16], -5.0, *c[17:]]),
    ("width", "nothing", set_to(0)),
    ("height", "negative", set_to(-3)),
    ("width", "too large", set_to(2**20)),
    ("height", "beyond 32 bits", set_to(2**40 + HEIGHT)),
    ("sh_degree", "four", set_to(4)),
    ("sh_degree", "negative", set_to(-1)),
]


def ids(table: list[tuple[str, str, Break]]) -> list[str]:
    return [f"{name}: {way}" for name, way, _ in table]


def refuses(op: Callable, arguments: Arguments) -> None:
    with pytest.raises((ValueError, RuntimeError)) as caught:
        op(**arguments)
    message = str(caught.value)
    assert message
    if type(caught.value) is not RuntimeError:  # that one is torch's own, of a tensor without memory
        assert message.endswith(".") and "\n" not in message, message


@EACH
@pytest.mark.parametrize(("name", "way", "make"), FORWARD, ids=ids(FORWARD))
def test_forward_pass_refuses(name: str, way: str, make: Break, backend: Backend) -> None:
    if backend.device == "cuda" and way == "negative" and name in ("blur", "scales"):
        pytest.skip("a look at the values would wait for the GPU")
    arguments = scene(device=backend.device)
    rasterize_op(**arguments)
    refuses(rasterize_op, arguments | {name: make(arguments[name])})


PICTURES = ("colors", "alphas", "depths")
BACKWARD: list[tuple[str, str, Break]] = [
    *(
        (name, way, make)
        for name in (*PICTURES, *(f"v_{p}" for p in PICTURES))
        for way, make in TENSORS.items()
    ),
    *((name, "short", short) for name in INPUTS),
    *((name, "not contiguous", apart) for name in INPUTS),
    *(row for row in FORWARD if row[0] in VIEW),
    ("state", "empty", lambda t: t[:0]),
    ("state", "two numbers", lambda t: t.repeat(2)),
    ("state", "no whole number", lambda t: t.float()),
    ("state", "invented", lambda t: t.clone().fill_(2**62)),
    ("state", "negative", lambda t: t.clone().fill_(-1)),
    ("state", "of fewer Gaussians", lambda _: backward_of(scene(count=COUNT - 1))["state"]),
    ("state", "of more Gaussians", lambda _: backward_of(scene(count=COUNT + 4000))["state"]),
    ("state", "of one set", lambda _: backward_of(scene(sets=1))["state"]),
    ("state", "of another size", lambda _: backward_of(scene(width=WIDTH + 16))["state"]),
    ("width", "other", set_to(WIDTH - 1)),
    ("wanted", "short", lambda w: w[:-1]),
    ("wanted", "long", lambda w: [*w, True]),
    ("wanted", "none", set_to([])),
]


@EACH
@pytest.mark.parametrize(("name", "way", "make"), BACKWARD, ids=ids(BACKWARD))
def test_backward_pass_refuses(name: str, way: str, make: Break, backend: Backend) -> None:
    arguments = backward_of(scene(device=backend.device))
    rasterize_backward_op(**arguments)
    refuses(rasterize_backward_op, arguments | {name: make(arguments[name])})


@EACH
def test_backward_pass_refuses_depth_and_blur_that_were_not_there(backend: Backend) -> None:
    plain = backward_of(scene(device=backend.device) | {"with_depth": False, "blur": None})
    rasterize_backward_op(**plain)
    refuses(rasterize_backward_op, plain | {"v_depths": torch.ones_like(plain["alphas"])})
    refuses(rasterize_backward_op, plain | {"wanted": [True] * 8})


def test_backward_pass_refuses_a_state_of_another_type_or_of_the_past() -> None:
    single, double = backward_of(scene()), backward_of(scene(dtype=torch.float64))
    refuses(rasterize_backward_op, single | {"state": double["state"]})
    refuses(rasterize_backward_op, double | {"state": single["state"]})
    number = single["state"].clone()
    del single["state"]
    gc.collect()  # the errors above still hold it
    refuses(rasterize_backward_op, single | {"state": number})


@pytest.mark.parametrize("backend", parameters([HOST, GPU]), indirect=True)
@pytest.mark.parametrize("name", ["splats", "lists"])
def test_backward_pass_refuses_memory_of_another_size(name: str, backend: Backend) -> None:
    arguments = backward_of(scene(device=backend.device))
    for make in (lambda t: t[:-1], lambda t: t.new_empty(0), lambda t: t.float(), apart):
        refuses(rasterize_backward_op, arguments | {name: make(arguments[name])})


def test_a_state_of_another_scene_of_the_same_sizes_does_no_harm() -> None:
    """Nobody can tell; the gradients are wrong, but within their tensors."""
    other = backward_of(scene() | {"opacities": torch.ones(1, COUNT)})
    gradients = rasterize_backward_op(**(backward_of(scene()) | {"state": other["state"]}))
    assert gradients[0].shape == (SETS, COUNT, 3)


@EACH
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.0, 1e30, -1e30])
@pytest.mark.parametrize("name", [name for name in INPUTS if name != "background"])
def test_no_number_does_harm(name: str, value: float, backend: Backend) -> None:
    """One Gaussian with an impossible number: no crash, and pictures and gradients of the right size. It may
    spoil the pixels that it covers."""
    forward = scene(device=backend.device)
    changed = forward | {name: with_value(value)(forward[name])}
    if value < 0 and name in ("blur", "scales") and backend.device == "cpu":
        return refuses(rasterize_op, changed)
    arguments = backward_of(changed)
    assert arguments["colors"].shape == (SETS, 3, HEIGHT, WIDTH)
    rasterize_backward_op(**arguments)
    return None


# SSIM


def compared(device: str) -> Arguments:
    """Arguments of `ssim_backward_op` that are right."""
    g = torch.Generator().manual_seed(0)
    image, photo, v_values = torch.rand(3, 3, 21, 70, generator=g).to(device)
    return {"image": image, "photo": photo, "slopes": ssim_op(image, photo, True)[1], "v_values": v_values}


SSIM: list[tuple[str, str, Break]] = [
    *((name, way, make) for name in ("image", "photo") for way, make in TENSORS.items()),
    ("photo", "wider", lambda t: t.repeat(1, 1, 2)),
    ("photo", "narrower", lambda t: t[:, :, :50].contiguous()),
    ("photo", "turned", lambda t: t.transpose(1, 2).contiguous()),
]
SSIM_BACKWARD = [*SSIM, *((n, way, make) for n in ("slopes", "v_values") for way, make in TENSORS.items())]


@EACH
@pytest.mark.parametrize(("name", "way", "make"), SSIM, ids=ids(SSIM))
def test_ssim_refuses(name: str, way: str, make: Break, backend: Backend) -> None:
    arguments = {key: value for key, value in compared(backend.device).items() if key in ("image", "photo")}
    refuses(ssim_op, arguments | {name: make(arguments[name]), "with_slopes": True})


@EACH
@pytest.mark.parametrize(("name", "way", "make"), SSIM_BACKWARD, ids=ids(SSIM_BACKWARD))
def test_ssim_backward_pass_refuses(name: str, way: str, make: Break, backend: Backend) -> None:
    arguments = compared(backend.device)
    ssim_backward_op(**arguments)
    refuses(ssim_backward_op, arguments | {name: make(arguments[name])})
