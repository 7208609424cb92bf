"""Per pixel the splats that contribute most: every back-end against the float64 specification, and what they
all promise. Pixels that stand on a threshold are found as in test_rasterize.py.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import BACKENDS, Backend, parameters
from scenes import CASES, Case, Splats, dense, random_splats, tilted_camera, to_world
from test_ops import COUNT, CPU, FORWARD, GPU, HOST, TENSORS, Break, ids, refuses, scene, set_to, with_value
from test_rasterize import MOST_BOUNDARY, NUDGE
from torch import Tensor

from cocogs.camera import Camera
from cocogs.compiled import cpu_module
from cocogs.rasterize import rasterize, reference
from cocogs.rasterize.constants import MOST_CONTRIBUTORS
from cocogs.rasterize.contributors import Contributors, contributors, contributors_op

NAMES = ("means", "quats", "scales", "opacities", "blur")
NATIVE = [backend for backend in BACKENDS if backend.name == "native"]
EACH = pytest.mark.parametrize("backend", parameters(NATIVE), indirect=True)
SCENES = ["ordinary", "dense", "faint", "behind", "border", "huge", "flat", "needles", "all_or_nothing"]
SCENES += ["brighter_than_opaque", "nothing", "nothing_visible", "single_pixel", "thin_image", "many"]
SCENES += ["blurred", "blurred_opaque", "antialiased_dense", "antialiased_tiny", "antialiased_blurred"]


def inputs_of(case: Case) -> dict[str, Any]:
    """Arguments of `contributors` in float64, but for the number."""
    tensors = {name: value for name, value in case.splats.tensors().items() if name in NAMES}
    return {
        "blur": None,
        "camera": case.camera,
        "antialiased": case.options.get("antialiased", False),
    } | tensors


def find(inputs: dict[str, Any], backend: Backend, count: int = 8) -> Contributors:
    """`contributors` as a user calls it, on the back-end's device; the result comes back to the CPU."""
    moved: dict[str, Any] = {
        k: v.to(backend.device, backend.dtype) if torch.is_tensor(v) else v for k, v in inputs.items()
    }
    found = contributors(**moved, count=count)
    return Contributors(found.ids.cpu(), found.weights.cpu())


@dataclass(frozen=True)
class Expected:
    """Of a case.

    Attributes:
        weights: (N + 1, H, W), of every splat, the last of nobody (id -1).
        largest: (`MOST_CONTRIBUTORS`, H, W).
        slack: (H, W), how much a weight may differ where it stands on a threshold.
    """

    weights: Tensor
    largest: Tensor
    slack: Tensor


def exact_weights(inputs: dict[str, Any], nudge: float = 1.0) -> Tensor:
    """(N + 1, H, W) with both thresholds multiplied by `nudge`."""
    count = len(inputs["means"])
    moved = {name: nudge * getattr(reference, name) for name in ("ALPHA_MIN", "TRANSMITTANCE_MIN")}
    with mock.patch.multiple(reference, **moved):
        places, weights = reference.contributors(**inputs, count=count)
    table = weights.new_zeros(count + 1, *weights.shape[1:])
    return table.scatter_(0, places.where(places >= 0, count), weights)


@cache
def expected(name: str) -> Expected:
    inputs = inputs_of(CASES[name]())
    weights = exact_weights(inputs)
    slack = sum((exact_weights(inputs, nudge) - weights).abs().amax(0) for nudge in (1 - NUDGE, 1 + NUDGE))
    assert isinstance(slack, Tensor) and (slack > 1e-9).double().mean() <= MOST_BOUNDARY
    _, largest = reference.contributors(**inputs, count=MOST_CONTRIBUTORS)
    return Expected(weights, largest, slack)


@EACH
@pytest.mark.parametrize("name", SCENES)
def test_matches_the_specification(name: str, backend: Backend) -> None:
    case, truth = CASES[name](), expected(name)
    bound = backend.tolerance.forward * (case.rounding if backend.dtype == torch.float32 else 1)
    for count in (1, 5, MOST_CONTRIBUTORS):
        found = find(inputs_of(case), backend, count)
        size = (count, case.camera.height, case.camera.width)
        assert found.ids.shape == found.weights.shape == size
        assert found.ids.dtype == torch.int32 and found.weights.dtype == backend.dtype
        error = (found.weights.double() - truth.largest[:count]).abs() - truth.slack
        assert error.max() <= bound, f"weights are off by {error.max():.1e} beyond what thresholds explain"
        its_own = truth.weights.gather(0, found.ids.long().where(found.ids >= 0, len(truth.weights) - 1))
        assert ((found.weights.double() - its_own).abs() - truth.slack).max() <= bound, "of another splat"
        check_order(found)


def check_order(found: Contributors) -> None:
    """Weights fall, nobody comes twice, and where nobody is, nothing follows."""
    assert (found.weights[1:] <= found.weights[:-1]).all()
    assert torch.equal(found.ids < 0, found.weights == 0) and found.ids.min() >= -1
    order = found.ids.sort(0).values
    assert not ((order[1:] == order[:-1]) & (order[1:] >= 0)).any()


@EACH
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("blurred", [False, True])
def test_weights_add_up_to_alpha(blurred: bool, antialiased: bool, backend: Backend) -> None:
    """Where no pixel has more than asked for."""
    camera = tilted_camera(43, 29)
    splats = random_splats(12, camera, 3, size_px=6)
    inputs = inputs_of(Case(splats, camera, {"antialiased": antialiased}))
    if blurred:
        inputs["blur"] = torch.linspace(0, 20, 12)
    found = find(inputs, backend, 12)
    assert (found.ids >= 0).sum(0).max() > 8
    moved: dict[str, Any] = {
        k: v.to(backend.device, backend.dtype) if torch.is_tensor(v) else v for k, v in inputs.items()
    }
    colors = torch.zeros(12, 1, 3), torch.zeros(12, 15, 3)
    sh0, shN = (color.to(moved["means"]) for color in colors)
    alphas = rasterize(**moved, sh0=sh0, shN=shN).alphas[0].cpu()
    torch.testing.assert_close(found.weights.sum(0), alphas, rtol=0, atol=1e-6)


def walls(opacities: list[float], depths: list[float], camera: Camera) -> Splats:
    """Splats on the camera's axis, 20,000 px wide: even over the picture but for the last digits."""
    count = len(depths)
    local = torch.zeros(count, 3).double()
    local[:, 2] = torch.tensor(depths)
    quats = torch.tensor([[1.0, 0, 0, 0]]).double().expand(count, -1)
    scales = (2e4 / camera.fx * local[:, 2:]).expand(-1, 3)
    strength = torch.tensor(opacities).double()
    colors = torch.zeros(count, 1, 3).double(), torch.zeros(count, 15, 3).double()
    return Splats(to_world(local, camera), quats, scales, strength, *colors)


@EACH
@pytest.mark.parametrize("opacity", [0.2, 0.3, 0.4])
def test_of_equal_weights_the_nearer_comes_first(opacity: float, backend: Backend) -> None:
    """The farther one, which has the smaller index, is seen through the nearer one. Where that fades a little
    their weights cross. A third that is fainter than both stays last."""
    camera = tilted_camera(150, 90)
    farther = opacity / (1 - opacity) * (1 - 2e-6)
    found = find(
        inputs_of(Case(walls([farther, 0.01, opacity], [6.0, 3.0, 4.0], camera), camera)), backend, 3
    )
    equal = found.weights[0] == found.weights[1]
    assert (found.ids[0] == 2).any() and (found.ids[0] == 0).any()
    assert equal.any() == (backend.dtype == torch.float32), "no pixel has a tie"
    assert (found.ids[0, equal] == 2).all() and (found.ids[1, equal] == 0).all()
    assert (found.ids[2] == 1).all()


@EACH
def test_what_is_hidden_is_not_listed(backend: Backend) -> None:
    """Two walls would leave 1e-6 of the light, less than what ends a pixel: the second is not drawn."""
    camera = tilted_camera(40, 20)
    found = find(inputs_of(Case(walls([1.0, 1.0, 0.5], [3.0, 4.0, 5.0], camera), camera)), backend, 4)
    assert (found.ids[0] == 0).all() and (found.ids[1:] == -1).all()
    torch.testing.assert_close(found.weights[0], torch.full_like(found.weights[0], 0.999))


@EACH
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
def test_splats_that_are_no_numbers_are_left_out(name: str, backend: Backend) -> None:
    inputs = inputs_of(CASES["ordinary"]())
    broken = inputs | {name: with_value(float("nan"))(inputs[name])}
    rest = {k: v[:-1] if k in NAMES and v is not None else v for k, v in inputs.items()}
    found, without = find(broken, backend), find(rest, backend)
    assert torch.equal(found.ids, without.ids) and torch.equal(found.weights, without.weights)
    assert (find(inputs, backend).ids == len(inputs["means"]) - 1).any()


@EACH
def test_has_no_gradient(backend: Backend) -> None:
    inputs = {k: v.requires_grad_() if torch.is_tensor(v) else v for k, v in inputs_of(dense()).items()}
    assert not find(inputs, backend).weights.requires_grad


@pytest.mark.parametrize("level", cpu_module().levels())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_nothing_and_levels_agree(level: str, dtype: torch.dtype) -> None:
    camera = tilted_camera(101, 67)
    inputs, backend = inputs_of(Case(random_splats(3000, camera, 2), camera)), Backend("native", dtype)
    module, best = cpu_module(), cpu_module().level()
    expected = find(inputs, backend)
    try:
        module.set_level(level)
        found = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(find(inputs, backend))
    finally:
        torch.set_num_threads(1)
        module.set_level(best)
    for other in found[1:]:
        assert torch.equal(other.ids, found[0].ids) and torch.equal(other.weights, found[0].weights)
    differ = (found[0].weights - expected.weights).abs() > 1e-5
    assert differ.double().mean() < 1e-4 and (found[0].ids != expected.ids).double().mean() < 1e-3


# Misuse


def arguments(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Of `contributors_op`, all right."""
    given = scene(sets=1, dtype=dtype, device=device)
    one_set = {name: given[name][0].contiguous() for name in NAMES}
    view = {name: given[name] for name in ("camera", "place", "width", "height", "antialiased")}
    return one_set | view | {"count": 5}


MISUSE: list[tuple[str, str, Break]] = [
    *((name, way, make) for name in NAMES for way, make in TENSORS.items()),
    *(
        row
        for row in FORWARD
        if row[0] in ("camera", "width", "height", "blur", "scales") and row[1] not in TENSORS
    ),
    ("count", "nothing", set_to(0)),
    ("count", "negative", set_to(-1)),
    ("count", "one too many", set_to(MOST_CONTRIBUTORS + 1)),
    ("count", "beyond 32 bits", set_to(2**32 + 1)),
]


@pytest.mark.parametrize("backend", parameters([CPU, HOST, GPU]), indirect=True)
@pytest.mark.parametrize(("name", "way", "make"), MISUSE, ids=ids(MISUSE))
def test_op_refuses(name: str, way: str, make: Break, backend: Backend) -> None:
    if backend.device == "cuda" and way == "negative" and name in ("blur", "scales"):
        pytest.skip("a look at the values would wait for the GPU")
    right = arguments(backend.device)
    found, weights = contributors_op(**right)
    assert found.shape == weights.shape == (5, right["height"], right["width"]) and found.max() < COUNT
    refuses(contributors_op, right | {name: make(right[name])})


@pytest.mark.parametrize("backend", parameters([HOST]), indirect=True)
def test_double_is_refused_on_a_gpu(backend: Backend) -> None:
    refuses(contributors_op, arguments(dtype=torch.float64))


def test_op_keeps_the_contract_of_torch() -> None:
    torch.library.opcheck(contributors_op, tuple(arguments().values()))
