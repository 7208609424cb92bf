"""Densification: which Gaussians are added and removed, and that Adam's memory stays with its Gaussian."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_camera, tiny_gaussians
from torch import Tensor

from cocogs.config import ModelConfig, StrategyConfig
from cocogs.gaussians import Gaussians, z_curve_order
from cocogs.optics.lens_models import Start, make_lens
from cocogs.optics.model import DefocusModel, Photo
from cocogs.rasterize import Render
from cocogs.rasterize.constants import SH_C0
from cocogs.rasterize.reference import covariance_factor
from cocogs.train.sowing import sown_behind
from cocogs.train.strategy import Densification, reaches, share_opacity
from cocogs.train.surgery import SHRINK, Optimizers, halves, keep_and_append

COUNT, EXTENT = 10, 2.0
SMALL, LARGE, HUGE = 0.01, 0.2, 3.0
"""Scales to duplicate, to split, and to remove, scene units."""
CONFIG = StrategyConfig(
    max_gaussians=100, every=10, begin=0.1, end=0.9, gradient=1.0, split_scale=0.02,
    min_opacity=0.01, max_scale=0.5,
)  # fmt: skip
ITERATIONS, STEP = 100, 50


@pytest.fixture
def gaussians() -> Gaussians:
    """`COUNT` small Gaussians that nothing asks to change."""
    torch.manual_seed(0)
    made = tiny_gaussians(COUNT)
    with torch.no_grad():
        made.scales.fill_(SMALL).log_()
        made.opacities.fill_(0.5).logit_()
    return made


@pytest.fixture
def optimizers(gaussians: Gaussians) -> Optimizers:
    """Adam for each parameter, whose memory of a Gaussian is set to that Gaussian's parameters."""
    made = {}
    for name in Gaussians.names:
        parameter = getattr(gaussians, name)
        optimizer = torch.optim.Adam([parameter], lr=0.0)
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        optimizer.state[parameter]["exp_avg"] = parameter.detach().clone()
        made[name] = optimizer
    return made


def densification(*wanted: int, config: StrategyConfig = CONFIG) -> Densification:
    """One that has seen the Gaussians `wanted` pull hard for four steps, each harder than the one before."""
    made = Densification(config, ITERATIONS, EXTENT, COUNT)
    made.seen += 4
    made.gradient += 0.1
    made.gradient[list(wanted)] = torch.arange(8.0, 8 + len(wanted))
    return made


def means(gaussians: Gaussians) -> Tensor:
    return gaussians.means.detach().clone()


def resize(gaussians: Gaussians, optimizers: Optimizers, which: list[int], scale: float) -> None:
    with torch.no_grad():
        gaussians.scales[which] = torch.tensor(scale).log()
    optimizers["scales"].state[gaussians.scales]["exp_avg"] = gaussians.scales.detach().clone()


def never_stepped(parameter: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Mask (N,) of Gaussians of which the optimiser remembers nothing."""
    return (optimizer.state[parameter]["exp_avg_sq"] == 0).view(len(parameter), -1).all(1)


def check_alignment(gaussians: Gaussians, optimizers: Optimizers) -> Tensor:
    """Every optimiser holds the current parameters and memory of the same Gaussians. Mask (N,) of the new."""
    fresh = never_stepped(gaussians.means, optimizers["means"])
    for name, parameter in gaussians.named_parameters():
        [group] = optimizers[name].param_groups
        assert group["params"][0] is parameter and len(optimizers[name].state) == 1
        assert torch.equal(never_stepped(parameter, optimizers[name]), fresh)
        memory = optimizers[name].state[parameter]["exp_avg"]
        assert memory.shape == parameter.shape and (memory[fresh] == 0).all()
        if name != "opacities":  # which growing lowers on purpose
            assert torch.equal(memory[~fresh], parameter.detach()[~fresh])
    return fresh


# --- observing


def photo(gradient: Tensor, radii: Tensor, width: int = 40, height: int = 20) -> Photo:
    """A photo whose probe (S, N, 2) has received `gradient`."""
    probe = torch.zeros_like(gradient, requires_grad=True)
    probe.grad = gradient
    colors, alphas = torch.zeros(len(radii), 3, height, width), torch.zeros(len(radii), height, width)
    return Photo(colors[0], Render(colors, alphas, None, radii), probe, alphas[0])


def test_observe_accumulates_gradients_of_what_was_drawn() -> None:
    state = Densification(CONFIG, ITERATIONS, EXTENT, 3)
    gradient = torch.tensor([[[0.3, 0.4], [1.0, 0.0], [5.0, 5.0]]])
    radii = torch.tensor([[2.0, 1.0, 0.0]])
    state.observe(photo(gradient, radii))
    torch.testing.assert_close(state.gradient, torch.tensor([0.5, 1.0, 0.0]) * 20)  # half of 40 px
    state.observe(photo(gradient, torch.tensor([[2.0, 0.0, 0.0]])))
    torch.testing.assert_close(state.gradient, torch.tensor([1.0, 1.0, 0.0]) * 20)
    torch.testing.assert_close(state.seen, torch.tensor([2.0, 1.0, 0.0]))


def test_observe_adds_the_sets_of_one_photo() -> None:
    state = Densification(CONFIG, ITERATIONS, EXTENT, 2)
    gradient = torch.tensor([[[1.0, 0.0], [1.0, 4.0]], [[0.5, 2.0], [2.0, 0.0]]])
    state.observe(photo(gradient, torch.tensor([[1.0, 0.0], [1.0, 3.0]])))
    torch.testing.assert_close(state.gradient, torch.tensor([2.5, 5.0]) * 20)
    torch.testing.assert_close(state.seen, torch.ones(2))


def test_observe_reads_a_rendered_photo() -> None:
    torch.manual_seed(0)
    lens = make_lens(ModelConfig(lens="sampled"), Start.unknown(1))
    model = DefocusModel(tiny_gaussians(), lens)
    with torch.no_grad():
        model.gaussians.means[:40, 2] *= -1  # behind the camera
    rendered = model.photo(tiny_camera(4), 0)
    rendered.image.square().sum().backward()
    state = Densification(CONFIG, ITERATIONS, EXTENT, len(model.gaussians))
    state.observe(rendered)
    assert (state.seen[:40] == 0).all() and (state.gradient[:40] == 0).all()
    assert state.seen[40:].mean() > 0.8 and state.gradient[40:].max() > 0


def test_observe_ignores_a_photo_without_backward_pass() -> None:
    state = Densification(CONFIG, ITERATIONS, EXTENT, 1)
    unused = photo(torch.ones(1, 1, 2), torch.ones(1, 1))
    unused.probe.grad = None
    state.observe(unused)
    assert (state.seen == 0).all()


# --- editing


@pytest.mark.parametrize(("step", "edits"), [(10, False), (20, True), (55, False), (90, True), (100, False)])
def test_edits_happen_at_their_steps(
    step: int, edits: bool, gaussians: Gaussians, optimizers: Optimizers
) -> None:
    state = densification(1)
    state.edit(step, gaussians, optimizers)
    assert (len(gaussians) > COUNT) == edits
    assert (state.seen == 0).all() == edits


def test_small_ones_are_duplicated(gaussians: Gaussians, optimizers: Optimizers) -> None:
    before = means(gaussians)
    state = densification(2, 7)
    state.edit(STEP, gaussians, optimizers)
    assert len(gaussians) == COUNT + 2
    torch.testing.assert_close(means(gaussians), torch.cat([before, before[[2, 7]]]))
    fresh = check_alignment(gaussians, optimizers)
    assert fresh.nonzero().flatten().tolist() == [COUNT, COUNT + 1]
    # The two let as much light through as the one did.
    opacities = gaussians.opacities.detach().sigmoid()
    torch.testing.assert_close((1 - opacities[2]) * (1 - opacities[COUNT]), torch.tensor(0.5))
    torch.testing.assert_close(opacities[0], torch.tensor(0.5))
    # Notes start anew, for the new number.
    assert state.gradient.shape == state.seen.shape == (COUNT + 2,)
    assert (state.gradient == 0).all() and (state.seen == 0).all()


def test_large_ones_are_split(gaussians: Gaussians, optimizers: Optimizers) -> None:
    resize(gaussians, optimizers, [3], LARGE)
    before = means(gaussians)
    densification(3).edit(STEP, gaussians, optimizers)
    assert len(gaussians) == COUNT + 1
    fresh = check_alignment(gaussians, optimizers)
    assert fresh.sum() == 2
    torch.testing.assert_close(means(gaussians)[~fresh], before[torch.arange(COUNT) != 3])
    offsets = means(gaussians)[fresh] - before[3]
    assert (offsets.norm(dim=1) > 0).all() and (offsets.abs() < 6 * LARGE).all()
    assert (gaussians.scales[fresh].exp() < LARGE).all()


def test_only_those_over_the_threshold_grow(gaussians: Gaussians, optimizers: Optimizers) -> None:
    """The threshold is on the mean over the steps in which a Gaussian was drawn."""
    state = densification()
    state.gradient[0], state.seen[0] = 8.0, 16  # much in sum, little per step
    state.gradient[1], state.seen[1] = 2.0, 1
    before = means(gaussians)
    state.edit(STEP, gaussians, optimizers)
    torch.testing.assert_close(means(gaussians), torch.cat([before, before[[1]]]))


def test_cap_goes_to_those_that_need_it_most(gaussians: Gaussians, optimizers: Optimizers) -> None:
    config = StrategyConfig(**{**vars(CONFIG), "max_gaussians": COUNT + 3})
    resize(gaussians, optimizers, [9], LARGE)
    before = means(gaussians)
    densification(1, 4, 6, 8, 9, config=config).edit(STEP, gaussians, optimizers)  # the last pull hardest
    assert len(gaussians) == COUNT + 3
    fresh = check_alignment(gaussians, optimizers)
    new = means(gaussians)[fresh]
    assert sum(torch.equal(mean, before[i]) for mean in new for i in (6, 8)) == 2  # duplicated; 9 is split
    assert not any(torch.equal(mean, before[i]) for mean in new for i in (1, 4))


@pytest.mark.parametrize("cap", [COUNT, COUNT - 4])
def test_full_scene_stays_as_it_is(cap: int, gaussians: Gaussians, optimizers: Optimizers) -> None:
    """Without turnover; and where a resumed run is given a lower cap."""
    turnover = 0.0 if cap == COUNT else 0.5
    config = StrategyConfig(**{**vars(CONFIG), "max_gaussians": cap, "turnover": turnover})
    densification(1, 2, config=config).edit(STEP, gaussians, optimizers)
    assert len(gaussians) == COUNT
    torch.testing.assert_close(gaussians.opacities.sigmoid(), torch.full((COUNT,), 0.5))


def test_in_a_full_scene_the_faintest_idle_ones_make_room(
    gaussians: Gaussians, optimizers: Optimizers
) -> None:
    """As many as ask, or the turnover allows; never one that asks itself, however faint."""
    config = StrategyConfig(**{**vars(CONFIG), "max_gaussians": COUNT, "turnover": 0.2})
    with torch.no_grad():
        gaussians.opacities[[1, 3, 5, 7]] = torch.tensor([0.1, 0.2, 0.3, 0.4]).logit()
    before = means(gaussians)
    densification(1, 8, 9, config=config).edit(STEP, gaussians, optimizers)
    after = means(gaussians)
    assert len(gaussians) == COUNT
    left = [i for i in range(COUNT) if any(torch.equal(before[i], mean) for mean in after)]
    assert left == [0, 1, 2, 4, 6, 7, 8, 9]
    doubled = [i for i in left if sum(torch.equal(before[i], mean) for mean in after) == 2]
    assert doubled == [8, 9]
    check_alignment(gaussians, optimizers)


def test_faint_and_oversized_ones_are_removed(gaussians: Gaussians, optimizers: Optimizers) -> None:
    resize(gaussians, optimizers, [0], HUGE)
    with torch.no_grad():
        gaussians.opacities[5] = torch.tensor(0.001).logit()
    before = means(gaussians)
    state = densification()
    state.edit(STEP, gaussians, optimizers)
    kept = [i for i in range(COUNT) if i not in (0, 5)]
    torch.testing.assert_close(means(gaussians), before[kept])
    assert not check_alignment(gaussians, optimizers).any()
    assert state.seen.shape == (COUNT - 2,)


def test_never_removes_all(gaussians: Gaussians, optimizers: Optimizers) -> None:
    with torch.no_grad():
        gaussians.opacities.fill_(-20.0)
    densification().edit(STEP, gaussians, optimizers)
    assert len(gaussians) == COUNT


def test_training_goes_on_after_every_kind_of_edit(gaussians: Gaussians, optimizers: Optimizers) -> None:
    resize(gaussians, optimizers, [3], LARGE)
    with torch.no_grad():
        gaussians.opacities[5] = -20.0
    densification(2, 3).edit(STEP, gaussians, optimizers)
    before = means(gaussians)
    optimizers["means"].param_groups[0]["lr"] = 0.1
    sum(p.square().sum() for p in gaussians.parameters()).backward()  # type: ignore[union-attr]
    for optimizer in optimizers.values():
        optimizer.step()
    assert len(gaussians) == COUNT - 1 + 2
    assert all(p.isfinite().all() for p in gaussians.parameters())
    assert (means(gaussians) != before).any(1).all()


def test_notes_travel_in_the_checkpoint() -> None:
    one = densification(1, 2)
    other = Densification(CONFIG, ITERATIONS, EXTENT, len(one.gradient))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.gradient, one.gradient) and torch.equal(other.seen, one.seen)


# --- parts


def test_two_of_shared_opacity_let_through_what_one_did() -> None:
    opacity = torch.tensor([0.001, 0.3, 0.9, 0.999, 0.5])
    shared = torch.nn.Parameter(opacity.logit())
    with torch.no_grad():
        share_opacity(shared, torch.tensor([True, True, True, True, False]))
    lower = shared.detach().sigmoid()
    torch.testing.assert_close((1 - lower[:4]).square(), 1 - opacity[:4], atol=1e-5, rtol=0)
    torch.testing.assert_close(lower[4], opacity[4])


def test_shared_opacity_stays_finite() -> None:
    extreme = torch.nn.Parameter(torch.tensor([-80.0, 80.0]))
    with torch.no_grad():
        share_opacity(extreme, torch.ones(2, dtype=torch.bool))
    assert extreme.isfinite().all()


def test_halves_are_samples_of_the_gaussian() -> None:
    """Mean and covariance of many draws are those of the Gaussian."""
    quat, scales, count = torch.tensor([[0.9, -0.4, 0.7, 0.2]]), torch.tensor([[0.5, 0.1, 1.5]]), 40_000
    [factor] = covariance_factor(quat, scales)
    one = tiny_gaussians(1)
    with torch.no_grad():
        one.quats.copy_(quat)
        one.scales.copy_(scales.log())
    torch.manual_seed(0)
    drawn = halves(one[torch.zeros(count, dtype=torch.long)])
    steps = drawn.means.detach() - one.means.detach()
    assert steps.shape == (2 * count, 3)
    assert steps.mean(0).abs().max() < 0.02
    torch.testing.assert_close(steps.T.cov(), factor @ factor.T, atol=0.03, rtol=0.03)
    assert not torch.equal(drawn.means[:count], drawn.means[count:])


@pytest.mark.parametrize(("room", "asked"), [(20, [5]), (3, [3]), (0, [])])
def test_as_many_are_sown_as_there_is_room_for(
    room: int, asked: list[int], gaussians: Gaussians, optimizers: Optimizers
) -> None:
    config = replace(CONFIG, max_gaussians=COUNT + room, sown=5.01 / (COUNT + room))
    before, new, found = means(gaussians), tiny_gaussians(sum(asked)), []
    state = densification(config=config)
    assert state.edit(STEP, gaussians, optimizers, lambda count: found.append(count) or new)
    assert found == asked and torch.equal(means(gaussians), torch.cat([before, new.means.detach()]))
    assert check_alignment(gaussians, optimizers).tolist() == [False] * COUNT + [True] * len(new)
    assert len(state.gradient) == len(state.seen) == len(gaussians)


@pytest.mark.parametrize("masked", [False, True])
def test_sown_ones_lie_behind_what_a_photo_shows(masked: bool) -> None:
    """Behind a wall at depth 4, which covers half of the picture; coloured as the photo."""
    torch.manual_seed(0)
    camera, shares = tiny_camera(4), torch.rand(4000, 2)
    width, height = camera.width, camera.height
    pixels = shares * torch.tensor([width / 2, height])
    wall = Gaussians.from_points(camera.unproject(pixels, torch.full((4000,), 4.0)), torch.rand(4000, 3))
    with torch.no_grad():
        wall.opacities.fill_(4.0)
        wall.scales.clamp_(max=math.log(0.02))
    model = DefocusModel(wall, make_lens(ModelConfig(lens="pinhole"), Start.unknown(1)))
    photo, mask = torch.rand(3, height, width), torch.ones(height, width)
    mask[: height // 2] = 0
    new = sown_behind(model, camera, photo, mask if masked else None, 500)
    places, depths = camera.project(new.means.detach())
    assert 50 < len(new) < 350 and (places[:, 0] < width / 2 + 3).all()
    assert not masked or (places[:, 1] > height // 2).all()
    assert (depths > 3.9).all() and (depths < 8.2).all() and depths.max() > 7 and depths.min() < 4.5
    x, y = places.long().unbind(1)
    torch.testing.assert_close(new.sh0[:, 0] * SH_C0 + 0.5, photo[:, y, x].T)
    torch.testing.assert_close(new.scales.exp()[:, 0] * camera.fx / depths, torch.ones(len(new)))


def test_halves_keep_the_rest() -> None:
    whole = tiny_gaussians(5)
    drawn = halves(whole)
    torch.testing.assert_close(drawn.scales.exp() * SHRINK, whole.scales.exp().repeat(2, 1))
    for name in ("quats", "opacities", "sh0", "shN"):
        assert torch.equal(getattr(drawn, name), torch.cat([getattr(whole, name)] * 2))


def test_kept_ones_come_in_their_new_order(gaussians: Gaussians, optimizers: Optimizers) -> None:
    """With Adam's memory, its count of steps and its options; other optimizers are left alone."""
    before, new = means(gaussians), tiny_gaussians(2)
    optimizers["means"].param_groups[0]["lr"] = 0.25
    other = torch.nn.Parameter(torch.ones(3))
    optimizers["network"] = torch.optim.Adam([other])
    keep_and_append(gaussians, optimizers, torch.tensor([7, 0, 3]), new)
    assert torch.equal(means(gaussians), torch.cat([before[[7, 0, 3]], new.means.detach()]))
    assert optimizers.pop("network").param_groups[0]["params"] == [other]
    assert check_alignment(gaussians, optimizers).tolist() == [False] * 3 + [True] * 2
    assert optimizers["means"].param_groups[0]["lr"] == 0.25
    assert optimizers["means"].state[gaussians.means]["step"] == 1


def test_many_splats_lie_in_memory_as_in_space(
    gaussians: Gaussians, optimizers: Optimizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocogs.train.strategy.SORTED_FROM", COUNT)
    before = means(gaussians)
    assert densification().edit(STEP, gaussians, optimizers)
    order = z_curve_order(before)
    assert order.tolist() != list(range(COUNT))
    assert torch.equal(means(gaussians), before[order])
    check_alignment(gaussians, optimizers)


def test_surgery_before_the_first_step(gaussians: Gaussians) -> None:
    fresh: Optimizers = {name: torch.optim.Adam([p]) for name, p in gaussians.named_parameters()}
    keep_and_append(gaussians, fresh, torch.tensor([1]))
    for name, parameter in gaussians.named_parameters():
        assert fresh[name].param_groups[0]["params"][0] is parameter and len(parameter) == 1
        assert len(fresh[name].state) == 0


def test_what_several_processes_saw_counts_once_it_is_settled() -> None:
    """Two processes that saw a photo each know in the end what one knows that saw both."""
    gradients = [torch.tensor([[[0.3, 0.4], [1.0, 0.0]]]), torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])]
    radii = [torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.0]])]
    one = Densification(CONFIG, ITERATIONS, EXTENT, 2)
    both = [Densification(CONFIG, ITERATIONS, EXTENT, 2, batch=2, shared=True) for _ in range(2)]
    for state, gradient, radius in zip(both, gradients, radii, strict=True):
        one.observe(photo(gradient, radius))
        state.observe(photo(gradient / 2, radius), share=0.5)  # of the mean loss
        assert not state.seen.any()
    sums = [torch.stack(parts).sum(0) for parts in zip(*(state.fresh for state in both), strict=True)]
    for state in both:
        for fresh, total in zip(state.fresh, sums, strict=True):
            fresh.copy_(total)
        state.settle()
        state.settle()  # nothing new
        torch.testing.assert_close(state.gradient, one.gradient)
        torch.testing.assert_close(state.seen, one.seen)


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 250])
def test_a_step_reaches_every_multiple_once(batch: int) -> None:
    """However many photos it takes; with one photo at a time, exactly at the multiples."""
    steps = range(batch, 1001, batch)
    reached = [step for step in steps if reaches(step, batch, 100)]
    assert len(reached) == len({step // 100 for step in steps if step >= 100})
    assert all(step % 100 < batch for step in reached)
    assert reaches(0, batch, 100)
