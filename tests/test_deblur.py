"""Taking known blur away: the network that ships, in tiles, with its confidence (photo/deblur.py)."""

import hashlib
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.photos import read_photo, to_float
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.photo import deblur as room
from cocogs.photo.deblur import SHIPPED, Deblurrer, load_deblurrer
from cocogs.photo.deblur_net import FADED, DeblurNet, blur_reach, undone
from cocogs.srgb import to_linear, to_srgb

DEMO = Path(__file__).parents[1] / "data/demo/images"


@pytest.fixture(scope="module")
def deblur() -> Deblurrer:
    return load_deblurrer()


@cache
def sharp_picture() -> Tensor:
    """One of the demo's sharp photos, which the network never saw."""
    return to_linear(torch.from_numpy(to_float(read_photo(DEMO / "000.png"))).permute(2, 0, 1).contiguous())


@cache
def blurred(radius: float) -> tuple[Tensor, Tensor]:
    """That photo, out of focus by `radius` px everywhere, in 8 bits; and its CoC."""
    sharp = sharp_picture()
    depth = torch.ones_like(sharp[0])
    lens = PhotoLens(torch.tensor(0.5), torch.tensor(2.0 * radius))
    photo = photograph_layers(sharp, depth, lens)
    return to_linear((to_srgb(photo).clamp(0, 1) * 255).round() / 255), lens.coc(depth)


def psnr(light: Tensor, border: int = 12) -> float:
    inner = (slice(None), slice(border, -border), slice(border, -border))
    error = to_srgb(light.clamp(0, 1))[inner] - to_srgb(sharp_picture())[inner]
    return -10 * math.log10(float(error.square().mean()))


def untrained() -> Deblurrer:
    """A network that changes something, without training."""
    torch.manual_seed(0)
    net = DeblurNet().eval().requires_grad_(False)
    torch.nn.init.normal_(net.leave.weight, std=0.03)
    return Deblurrer(net, {})


def test_what_ships_is_small_and_says_what_it_is(deblur: Deblurrer) -> None:
    assert sum(p.numel() for p in deblur.net.parameters()) <= 2_000_000
    assert SHIPPED.stat().st_size <= 8_000_000
    assert deblur.facts["weights_sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert deblur.facts["learned"] and deblur.facts["training"]["steps"] > 1000


@pytest.mark.parametrize(("radius", "gain"), [(2, 1.5), (4, 2.0), (8, 1.5)])
def test_known_blur_is_taken_away(deblur: Deblurrer, radius: float, gain: float) -> None:
    photo, coc = blurred(radius)
    assert psnr(deblur(photo, coc).light) > psnr(photo) + gain


def test_a_sharp_photo_comes_back_bit_for_bit(deblur: Deblurrer) -> None:
    light = sharp_picture()
    result = deblur(light, torch.zeros_like(light[0]))
    assert torch.equal(result.light, light) and bool((result.confidence == 1).all())


def test_only_what_blur_reaches_changes() -> None:
    light, coc = sharp_picture()[:, :96, :120], torch.zeros(96, 120)
    coc[20:40, 20:40] = -8
    result = untrained()(light, coc)
    changed = (result.light != light).any(0)
    assert changed[20:40, 20:40].float().mean() > 0.9
    changed[16:44, 16:44] = False
    assert not changed.any()
    assert bool((result.confidence[44:] == 1).all()) and float(result.confidence[25:35, 25:35].max()) < 1


def test_blur_wider_than_learned_is_left_and_nothing_is_claimed() -> None:
    light = sharp_picture()[:, :64, :64]
    result = untrained()(light, torch.full((64, 64), float(FADED)))
    assert torch.equal(result.light, light) and not result.confidence.any()


def test_where_the_coc_is_unknown_its_value_does_not_matter() -> None:
    light, coc = sharp_picture()[:, :64, :64], torch.full((64, 64), 6.0)
    known = torch.ones(64, 64, dtype=torch.bool)
    known[:, 32:] = False
    other, missing = coc.clone(), coc.clone()
    other[:, 32:], missing[:, 32:] = 3.0, math.nan
    network = untrained()
    expected = network(light, coc, known)
    for told in (network(light, other, known), network(light, missing)):
        assert torch.equal(told.light, expected.light) and torch.equal(told.confidence, expected.confidence)


def test_tiles_show_no_seams(deblur: Deblurrer, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, coc = blurred(4)
    whole = deblur(photo, coc)
    monkeypatch.setattr(room, "TILE", 208)
    tiled = deblur(photo, coc)
    assert len(list(room._tiles(*coc.shape))) > 4
    difference = (tiled.light.sqrt() - whole.light.sqrt()).abs()
    assert float(difference.max()) < 0.08 and float(difference.mean()) < 2e-3


@pytest.mark.parametrize("length", [1, 7, 160, 161, 255, 1000])
def test_tiles_cover_everything_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TILE", 160)
    cuts = list(room._cuts(length))
    assert [i for inner, _, _ in cuts for i in range(inner.start, inner.stop)] == list(range(length))
    for inner, outer, place in cuts:
        assert outer.start % 8 == 0 and outer.stop - outer.start <= 160
        assert (inner.start - outer.start, inner.stop - outer.start) == (place.start, place.stop)
        assert inner.stop == length or outer.stop - inner.stop == room.OVERLAP


@pytest.mark.parametrize("size", [(1, 1), (5, 37), (51, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    light = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    result = untrained()(light, torch.full(size, 5.0))
    assert result.light.shape == light.shape and bool(result.light.isfinite().all())
    assert result.confidence.shape == size and float(result.confidence.min()) >= 0


def test_confidence_tells_where_it_is_right(deblur: Deblurrer) -> None:
    photo, coc = blurred(4)
    result = deblur(photo, coc)
    error = (result.light.sqrt() - sharp_picture().sqrt()).abs().mean(0)
    order = result.confidence.flatten().argsort()
    quarters = error.flatten()[order].chunk(4)
    means = [float(quarter.mean()) for quarter in quarters]
    assert means == sorted(means, reverse=True) and means[0] > 1.5 * means[-1]


def test_by_depth_is_by_the_lens() -> None:
    light = sharp_picture()[:, :64, :64]
    depth = torch.linspace(1, 3, 64).expand(64, 64).clone()
    lens = PhotoLens(torch.tensor(1.5), torch.tensor(12.0))
    network = untrained()
    assert torch.equal(network.by_depth(light, depth, lens).light, network(light, lens.coc(depth)).light)
    depth[:8], depth[8:16] = math.nan, math.inf
    known = torch.ones(64, 64, dtype=torch.bool)
    known[:8] = False
    expected = network(light, torch.where(known, lens.coc(depth), 0), known)
    assert torch.equal(network.by_depth(light, depth, lens).light, expected.light)


def test_reach_is_what_a_disc_covers_beyond_a_pixel() -> None:
    coc = torch.zeros(1, 20, 20)
    coc[0, 10, 10] = -8
    reach = blur_reach(coc)[0]
    assert reach[10, 10:15].tolist() == [4, 3, 2, 1, 0] and reach[12, 12] == 2
    assert not blur_reach(torch.zeros(1, 8, 8)).any()


def test_wiener_filters_undo_a_disc_and_keep_what_is_sharp() -> None:
    photo, coc = blurred(2)
    sharper = undone(photo[None], coc[None])
    gains = [psnr(answer[0].clamp_min(0)) - psnr(photo) for answer in sharper]
    assert max(gains) > 1
    flat = torch.full((1, 3, 32, 32), 0.3)
    for answer in undone(flat, torch.full((1, 32, 32), 7.4)):
        assert torch.allclose(answer, flat, atol=1e-4)
    assert all(torch.equal(answer, photo[None]) for answer in undone(photo[None], 0 * coc[None]))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(tmp_path: Path) -> None:
    light, network = torch.rand(3, 16, 24), untrained()
    with pytest.raises(InputError, match="`coc` has 16x24 values, the photo 24x16 pixels"):
        network(light, torch.zeros(24, 16))
    with pytest.raises(InputError, match="`known` has 2x2"):
        network(light, torch.zeros(16, 24), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(InputError, match="`coc` must be finite"):
        network(light, torch.full((16, 24), math.nan), torch.ones(16, 24, dtype=torch.bool))
    with pytest.raises(InputError, match="`light` must be finite"):
        network(light - 1, torch.zeros(16, 24))
    with pytest.raises(InputError, match=r"missing\.safetensors"):
        load_deblurrer(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(InputError, match=r"text\.safetensors"):
        load_deblurrer(tmp_path / "text.safetensors")
    save_file({"other": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not hold weights of this version's DeblurNet"):
        load_deblurrer(tmp_path / "other.safetensors")


@pytest.mark.cuda
def test_a_gpu_gives_the_same(deblur: Deblurrer) -> None:
    photo, coc = blurred(4)
    expected = deblur(photo, coc)
    result = deblur(photo.cuda(), coc.cuda())
    deblur.net.cpu()
    assert (result.light.cpu().sqrt() - expected.light.sqrt()).abs().max() < 2e-2
    assert result.light.is_cuda and result.confidence.is_cuda
