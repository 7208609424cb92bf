"""The paper's blend CNN: weights of a mean, from pictures it does not shape."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cocogs.optics.blend import BlendNet
from cocogs.optics.light import mean_light, srgb_curve
from cocogs.srgb import to_linear

SETS, HEIGHT, WIDTH = 4, 9, 11


@pytest.fixture
def renders() -> Tensor:
    return torch.rand(SETS, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def trained() -> BlendNet:
    """A network whose weights have moved away from their start."""
    torch.manual_seed(1)
    net = BlendNet(8)
    nn.init.normal_(net.logit.weight, std=0.5)
    return net


def blended(net: BlendNet, renders: Tensor) -> Tensor:
    return (renders * net(renders)).sum(0)


def test_weights_sum_to_one_and_gradients_stop_at_the_cnn_s_input(renders: Tensor) -> None:
    """If the CNN's input takes no gradient, that of the sum of the output is the weights themselves."""
    renders.requires_grad_()
    net = trained()
    photo = blended(net, renders)
    assert photo.shape == (3, HEIGHT, WIDTH)
    photo.sum().backward()
    weights = renders.grad
    assert weights is not None and weights.min() >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(3, HEIGHT, WIDTH))
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))  # one for all colours
    assert weights.std(0).max() > 0.01  # it does prefer some renders
    torch.testing.assert_close(weights[:, :1], net(renders))


def test_a_pixel_of_the_photo_shapes_no_other_pixel(renders: Tensor) -> None:
    renders.requires_grad_()
    blended(trained(), renders)[0, 4, 5].backward()
    assert renders.grad is not None
    reached = renders.grad.abs().sum((0, 1)) > 0
    assert reached[4, 5] and reached.sum() == 1


def test_gradients_reach_the_network(renders: Tensor) -> None:
    net = trained()
    blended(net, renders).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.logit.weight.grad is not None and net.logit.weight.grad.abs().max() > 0


def test_equal_renders_stay_as_they_are() -> None:
    renders = torch.rand(3, HEIGHT, WIDTH).expand(SETS, -1, -1, -1)
    for photo in (srgb_curve().encode(mean_light(renders)), blended(trained(), renders)):
        torch.testing.assert_close(photo, renders[0], atol=1e-5, rtol=1e-5)


def test_a_lens_averages_light() -> None:
    """Half white, half black is brighter than half of the pixel value; gradients at black are finite."""
    renders = torch.stack([torch.zeros(3, 1, 1), torch.ones(3, 1, 1)]).requires_grad_()
    photo = srgb_curve().encode(mean_light(renders))
    torch.testing.assert_close(to_linear(photo), torch.full((3, 1, 1), 0.5))
    assert (photo > 0.7).all()
    (photo.sum() + srgb_curve().encode(mean_light(renders * 0)).sum()).backward()
    assert renders.grad is not None and renders.grad.isfinite().all()


def test_order_of_the_renders_is_irrelevant(renders: Tensor) -> None:
    net = trained()
    torch.testing.assert_close(net(renders), net(renders.flip(0)).flip(0), atol=1e-2, rtol=0)  # bf16 weights


def test_it_normalises_every_picture_by_itself() -> None:
    """As torch's instance norm does, gradients included; eval mode changes nothing."""
    torch.manual_seed(0)
    net = BlendNet(8).eval()
    theirs = deepcopy(net)
    for index, part in enumerate(net.features):
        if isinstance(part, nn.BatchNorm2d):
            theirs.features[index] = nn.InstanceNorm2d(8)
    renders, upstream = torch.rand(3, 3, 12, 17), torch.rand(3, 8, 12, 17)
    results = []
    for parts in ([net.features(one[None]) for one in renders], [theirs.features(renders)]):
        features = torch.cat(parts)
        features.backward(upstream)
        results.append(features)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    for ours, other in zip(net.features.parameters(), theirs.features.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-3, atol=1e-4)
    whole, single = net(renders), torch.cat([net.features(one[None]) for one in renders])
    torch.testing.assert_close(whole, net.logit(single).softmax(0), rtol=0.05, atol=0.02)  # bf16


def test_it_has_the_published_layers() -> None:
    net = BlendNet()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions]
    assert shapes == [(3, 64, (5, 5)), (64, 64, (3, 3)), (64, 1, (3, 3))]
    assert sum(isinstance(m, nn.ReLU) for m in net.modules()) == 2


def test_gradients_of_the_light_are_those_of_its_formula() -> None:
    """Against finite differences, on either side of the curve's straight part."""
    generator = torch.Generator().manual_seed(0)
    renders = torch.rand(3, 3, 4, 5, generator=generator, dtype=torch.float64).square().requires_grad_()
    assert torch.autograd.gradcheck(mean_light, (renders,))
    expected = to_linear(renders).mean(0)
    torch.testing.assert_close(mean_light(renders), expected, atol=2e-6, rtol=0)  # of a table
