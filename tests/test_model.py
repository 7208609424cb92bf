"""The whole model: what its ways to form a photo have in common, and what each adds."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_camera, tiny_gaussians
from torch import Tensor

from cocogs.camera import Camera
from cocogs.config import PRESETS, Ablation, ModelConfig, preset
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.optics.aperture import sampled_disc
from cocogs.optics.lens import DISC_SIGMA, Lens, coc_diameter
from cocogs.optics.lens_models import LENS_MODELS, Start, make_lens
from cocogs.optics.model import DefocusModel
from cocogs.optics.photometric import PhotometricCamera, Taken
from cocogs.rasterize import rasterize
from cocogs.rasterize.constants import SH_C0
from cocogs.render.refocusing import refocus
from cocogs.srgb import to_linear, to_srgb
from cocogs.train.shot import Shot

APERTURE = 25.0
PAPER_K = 40.0  # which its units make about 2
FOCUS_DISTANCES = torch.tensor([3.0, 4.0, 5.5])
CENTER, EXTENT = torch.tensor([0.0, 0.0, 4.5]), 2.0
CAMERA = tiny_camera(4)
"""Looks straight along z from near the origin."""


def make(config: ModelConfig, gaussians: Gaussians | None = None, aperture: float = APERTURE) -> DefocusModel:
    """The same scene and, for the same settings, the same networks on every call."""
    torch.manual_seed(0)
    gaussians = tiny_gaussians() if gaussians is None else gaussians
    start = Start(FOCUS_DISTANCES, aperture, torch.ones(3), 4.0, CAMERA.fx, True, CENTER, EXTENT)
    return DefocusModel.starting(gaussians, config, start)


def networks(model: DefocusModel) -> list[torch.nn.Module]:
    """Those of its lens, if it has some."""
    parts = (getattr(model.lens, name, None) for name in ("expansion", "blend"))
    return [part for part in parts if part is not None]


def one_splat(depth: float, opacity: float = 0.9, sigma_px: float = 1.5) -> Gaussians:
    """A white, round splat in the middle of `CAMERA`."""
    return Gaussians(
        means=torch.tensor([[0.0, -0.02, depth]]),  # the camera is as much lower
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        scales=torch.full((1, 3), math.log(sigma_px * depth / CAMERA.fx)),
        opacities=torch.tensor([opacity]).logit(),
        sh0=torch.full((1, 1, 3), 0.5 / SH_C0),
        shN=torch.zeros(1, 15, 3),
    )


def light_and_variance(image: Tensor) -> tuple[float, float, float]:
    """Sum of a picture (3, H, W) and the variances of its light along x and y, px^2."""
    light = image.detach().double().mean(0)
    total = light.sum()

    def variance(profile: Tensor) -> float:
        place = torch.arange(len(profile), dtype=torch.float64)
        mean = (profile * place).sum() / total
        return float((profile * (place - mean).square()).sum() / total)

    return float(total), variance(light.sum(0)), variance(light.sum(1))


def away_from_start(model: DefocusModel) -> DefocusModel:
    """Networks, where there are some, whose last layers do something."""
    for part in networks(model):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def refocused(model: DefocusModel, camera: Camera, focus_distance: float, aperture: float) -> torch.Tensor:
    """Through a lens set by hand; `aperture` is K in px x scene unit."""
    return refocus(model.gaussians, camera, Lens(focus_distance, aperture / camera.fx))


# --- without the lens


@pytest.mark.parametrize("name", PRESETS)
def test_sharp_view_is_the_base_alone(name: str) -> None:
    """Whatever the lens has learned."""
    model = away_from_start(make(preset(name).model))
    base = model.gaussians
    expected = rasterize(*base.activated(), base.sh0, base.shN, CAMERA).colors
    sharp = model.sharp(CAMERA)
    assert sharp.colors.shape == (1, 3, CAMERA.height, CAMERA.width)
    torch.testing.assert_close(sharp.colors, expected)
    torch.testing.assert_close(sharp.colors[0], make(preset("3dgs").model).defocused(CAMERA, 0))


@pytest.mark.parametrize("name", PRESETS)
def test_closed_aperture_is_sharp(name: str) -> None:
    model = make(preset(name).model)
    torch.testing.assert_close(refocused(model, CAMERA, 3.0, 0.0), model.sharp(CAMERA).colors[0])


@pytest.mark.parametrize("name", ["lens", "full"])
def test_learned_aperture_of_zero_is_sharp(name: str) -> None:
    model = make(preset(name).model, aperture=1e-6)
    torch.testing.assert_close(model.defocused(CAMERA, 0), model.sharp(CAMERA).colors[0], atol=1e-4, rtol=0)


def test_more_bands_of_colour_only_where_asked_for() -> None:
    model = make(ModelConfig())
    with torch.no_grad():
        model.gaussians.shN += 0.3
    plain = make(ModelConfig()).sharp(CAMERA).colors
    torch.testing.assert_close(model.sharp(CAMERA, sh_degree=0).colors, plain)
    assert not torch.allclose(model.sharp(CAMERA).colors, plain, atol=1e-2)


# --- refocusing


@pytest.mark.parametrize("name", ["3dgs", "lens", "full"])
def test_refocusing_on_a_splat_leaves_it_sharp(name: str) -> None:
    model = make(preset(name).model, one_splat(4.0))
    sharp = model.sharp(CAMERA).colors[0]
    torch.testing.assert_close(refocused(model, CAMERA, 4.0, 60.0), sharp, atol=1e-5, rtol=0)
    assert not torch.allclose(refocused(model, CAMERA, 3.0, 60.0), sharp, atol=0.05)


@pytest.mark.parametrize("focus_distance", [2.5, 6.0, math.inf])
def test_refocused_splat_is_widened_by_its_coc_and_keeps_its_light(focus_distance: float) -> None:
    depth, aperture = 4.0, 50.0
    model = make(ModelConfig(), one_splat(depth))
    light, *sharp = light_and_variance(model.sharp(CAMERA).colors[0])
    blurred_light, *blurred = light_and_variance(refocused(model, CAMERA, focus_distance, aperture))
    added = (DISC_SIGMA * aperture * (1 / depth - 1 / focus_distance) / 2) ** 2
    assert blurred_light == pytest.approx(light, rel=0.05)  # faint rims are not drawn
    for before, after in zip(sharp, blurred, strict=True):
        assert after - before == pytest.approx(added, rel=0.15)


def test_aperture_counts_at_the_camera_s_fx() -> None:
    """K is in px: in a picture of twice the pixels, twice K is the same lens."""
    model = make(ModelConfig(), one_splat(4.0))
    large = CAMERA.resized(2 * CAMERA.width, 2 * CAMERA.height)

    def added(camera: Camera, aperture: float) -> float:
        sharp, blurred = refocused(model, camera, 2.5, 0.0), refocused(model, camera, 2.5, aperture)
        return light_and_variance(blurred)[1] - light_and_variance(sharp)[1]

    assert added(large, 80.0) == pytest.approx(4 * added(CAMERA, 40.0), rel=0.05)


# --- defocused photos


def test_widened_photo_is_the_refocused_one() -> None:
    model = make(preset("lens").model)
    for index, distance in enumerate(FOCUS_DISTANCES.tolist()):
        by_hand = refocused(model, CAMERA, distance, APERTURE)
        torch.testing.assert_close(model.defocused(CAMERA, index), by_hand)


@pytest.mark.parametrize("index", [0, 2])
def test_sampled_lens_starts_as_wide_as_the_disc(index: int) -> None:
    """Second moments of one splat; focus in front of it and behind."""
    depth, aperture = 4.0, 100.0
    splat = one_splat(depth, opacity=0.99)
    config = preset("full").model
    full, lens = make(config, splat, aperture), make(preset("lens").model, splat, aperture)
    photo = full.photo(CAMERA, index)
    assert len(photo.render.colors) == config.copies
    mean = to_srgb(to_linear(photo.render.colors).mean(0))
    torch.testing.assert_close(photo.image, mean, atol=1e-5, rtol=1e-5)
    _, *sharp = light_and_variance(full.sharp(CAMERA).colors[0])
    light, *sampled = light_and_variance(photo.render.colors.mean(0))
    widened_light, *widened = light_and_variance(lens.defocused(CAMERA, index))
    assert light == pytest.approx(widened_light, rel=0.03)
    radius = float(aperture * (1 / depth - 1 / FOCUS_DISTANCES[index])) / 2
    disc = 2 * (sampled_disc(config.copies) * radius / 2) ** 2  # x and y together
    assert sum(sampled) - sum(sharp) == pytest.approx(disc, rel=0.05)
    single = 2 * (DISC_SIGMA * radius) ** 2
    assert sum(widened) - sum(sharp) == pytest.approx(single, rel=0.1)  # its faint rim is not drawn


def test_photo_in_focus_is_sharp_through_every_sample() -> None:
    model = make(preset("full").model, one_splat(float(FOCUS_DISTANCES[1])), 80.0)
    torch.testing.assert_close(model.defocused(CAMERA, 1), model.sharp(CAMERA).colors[0], atol=1e-4, rtol=0)


def test_without_sets_sampled_is_widened_and_paper_is_pinhole() -> None:
    full, paper = away_from_start(make(preset("full").model)), away_from_start(make(preset("paper").model))
    plain, widened = make(preset("3dgs").model), make(preset("lens").model)
    torch.testing.assert_close(full.photo(CAMERA, 0, expanded=False).image, widened.defocused(CAMERA, 0))
    torch.testing.assert_close(paper.photo(CAMERA, 0, expanded=False).image, plain.defocused(CAMERA, 0))


def test_paper_renders_its_copies_and_the_base() -> None:
    model = make(preset("paper").model, aperture=PAPER_K)
    photo = model.photo(CAMERA, 0)
    assert len(photo.render.colors) == len(photo.probe) == preset("paper").model.copies + 1
    torch.testing.assert_close(photo.render.colors[-1], model.sharp(CAMERA).colors[0])
    assert not torch.allclose(photo.render.colors[0], photo.render.colors[-1], atol=0.05)


def test_blend_leaves_the_range_of_the_renders_nowhere() -> None:
    model = away_from_start(make(preset("paper").model, aperture=PAPER_K))
    photo = model.photo(CAMERA, 0)
    renders = photo.render.colors
    assert (photo.image >= renders.amin(0) - 1e-5).all() and (photo.image <= renders.amax(0) + 1e-5).all()
    assert not torch.allclose(photo.image, renders.mean(0), atol=1e-2)


@pytest.mark.parametrize(
    "config",
    [replace(preset("paper").model, ablation=Ablation(cnn=True)), preset("full").model],
    ids=["paper-ablated", "full"],
)
def test_without_cnn_renders_are_averaged(config: ModelConfig) -> None:
    model = away_from_start(make(config))
    photo = model.photo(CAMERA, 0)
    assert len(photo.render.colors) > 1
    renders = photo.render.colors
    mean = to_srgb(to_linear(renders).mean(0)) if model.lens.in_light else renders.mean(0)
    torch.testing.assert_close(photo.image, mean, atol=1e-5, rtol=1e-5)


def test_one_copy_is_enough() -> None:
    model = make(ModelConfig(lens="sampled", copies=1))
    widened = make(ModelConfig()).defocused(CAMERA, 0)
    torch.testing.assert_close(model.photo(CAMERA, 0).image, widened, atol=1e-4, rtol=0)


def test_per_photo_aperture() -> None:
    model = make(ModelConfig(per_photo_aperture=True))
    with torch.no_grad():
        model.lens.aperture.log_K[1] = math.log(3 * APERTURE)
        model.lens.focus.vergence[1] = model.lens.focus.vergence[0]
    assert float(model.lens.of(1).K.detach()) == pytest.approx(3 * APERTURE, rel=1e-5)
    torch.testing.assert_close(model.defocused(CAMERA, 0), refocused(model, CAMERA, 3.0, APERTURE))
    torch.testing.assert_close(model.defocused(CAMERA, 1), refocused(model, CAMERA, 3.0, 3 * APERTURE))
    model.photo(CAMERA, 1).image.square().sum().backward()
    assert model.lens.aperture.log_K.grad is not None
    assert (model.lens.aperture.log_K.grad != 0).tolist() == [False, True, False]


def test_samples_turn_from_photo_to_photo_and_each_is_the_same_lens() -> None:
    model = make(preset("full").model, one_splat(4.0, opacity=0.99), 70.0)
    spreads, pictures = [], []
    for seen in (0, 1, 2):
        model.lens.begin_photo(seen)
        pictures.append(model.photo(CAMERA, 0).render.colors.mean(0))
        spreads.append(sum(light_and_variance(pictures[-1])[1:]))
    assert not torch.allclose(pictures[0], pictures[1], atol=1e-2)
    assert spreads == pytest.approx([spreads[0]] * 3, rel=0.02)
    finished = model.defocused(CAMERA, 0)  # does not turn
    model.lens.begin_photo(0)
    torch.testing.assert_close(model.photo(CAMERA, 0).render.colors.mean(0), pictures[0])
    assert torch.equal(model.defocused(CAMERA, 0), finished) and model.training


@pytest.mark.parametrize("name", ["lens", "full"])
def test_a_halved_photo_is_the_photo_at_half_its_size(name: str) -> None:
    """What is blurred by much more than a pixel looks alike at both sizes."""
    splat = one_splat(4.0)
    splat.antialiased = True
    model = make(preset(name).model, splat, 100.0)
    whole = model.photo(CAMERA, 2)
    half = Shot(0, CAMERA, whole.image, None).halved()
    found = model.photo(half.camera, 2, halved=True)
    torch.testing.assert_close(found.image, half.photo, atol=4e-3, rtol=0)
    middle = tuple(side // 2 for side in found.coc.shape)
    torch.testing.assert_close(found.coc[middle], whole.coc[middle[0] * 2, middle[1] * 2])


# --- gradients


@pytest.mark.parametrize("name", ["lens", "paper", "full"])
@pytest.mark.parametrize("index", [0, 2])
def test_gradients_reach_the_aperture_and_the_own_focus_only(name: str, index: int) -> None:
    model = away_from_start(make(preset(name).model, aperture=PAPER_K if name == "paper" else APERTURE))
    model.photo(CAMERA, index).image.square().sum().backward()
    vergence, aperture = model.lens.focus.vergence.grad, model.lens.aperture.log_K.grad
    assert vergence is not None and aperture is not None
    assert (vergence != 0).tolist() == [i == index for i in range(len(FOCUS_DISTANCES))]
    assert (aperture != 0).all() and aperture.isfinite().all()
    for parameter in model.gaussians.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    for part in networks(model):
        for parameter in part.parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_pinhole_leaves_the_lens_alone() -> None:
    model = make(preset("3dgs").model)
    assert not list(model.lens.parameters()) and not model.per_photo
    with pytest.raises(InputError, match="no lens"):
        model.lens.of(0)


@pytest.mark.parametrize("name", PRESETS)
def test_probe_receives_the_pull_at_the_projected_means(name: str) -> None:
    """In every set, for the splats drawn there."""
    model = make(preset(name).model, aperture=PAPER_K if name == "paper" else 2.0)
    photo = model.photo(CAMERA, 0)
    photo.image.square().sum().backward()
    assert photo.probe.grad is not None and photo.probe.grad.shape == (*photo.render.radii.shape, 2)
    assert (photo.probe.grad.amax((1, 2)) > 0).all()
    assert (photo.probe.grad[photo.render.radii == 0] == 0).all()


def test_without_gradients_nothing_is_recorded() -> None:
    with torch.no_grad():
        photo = make(preset("full").model).photo(CAMERA, 0)
    assert not photo.image.requires_grad and not photo.probe.requires_grad


# --- what each pixel's circle of confusion is


@pytest.mark.parametrize("name", ["lens", "full"])
def test_coc_map_is_that_of_the_depth_shown(name: str) -> None:
    model = make(preset(name).model, one_splat(4.0))
    for index, distance in enumerate(FOCUS_DISTANCES):
        photo = model.photo(CAMERA, index)
        assert photo.coc.shape == (CAMERA.height, CAMERA.width) and not photo.coc.requires_grad
        expected = coc_diameter(torch.tensor(4.0), distance, torch.tensor(APERTURE)).abs()
        shown = photo.coc[CAMERA.height // 2, CAMERA.width // 2]
        torch.testing.assert_close(shown, expected, atol=1e-3, rtol=1e-3)


def test_coc_map_of_the_paper_takes_the_straight_distance() -> None:
    """On the optical axis it is z; towards a corner it is longer by the ray's length."""
    lens = make(preset("paper").model, aperture=0.5 * CAMERA.fx / 4.0).lens
    coc = lens.coc_map(torch.full((CAMERA.height, CAMERA.width), 2.0), CAMERA, 0).detach()
    ray = math.hypot((0.5 - CAMERA.cx) / CAMERA.fx, (0.5 - CAMERA.cy) / CAMERA.fy, 1.0)
    expected = 0.5 * (1 / (2 * ray) - 1 / float(FOCUS_DISTANCES[0])) * CAMERA.fx / 2
    assert float(coc[0, 0]) == pytest.approx(expected, rel=1e-5)
    middle = coc[CAMERA.height // 2, CAMERA.width // 2]
    assert float(middle) == pytest.approx(0.5 * (1 / 2 - 1 / 3) * CAMERA.fx / 2, rel=1e-2)


def test_every_lens_model_has_its_place_in_the_settings() -> None:
    assert {config.model.lens for config in PRESETS.values()} == set(LENS_MODELS)


@pytest.mark.parametrize("name", ["3dgs", "paper"])
def test_coc_map_is_zero_where_there_is_no_lens_in_pixels(name: str) -> None:
    assert (make(preset(name).model).photo(CAMERA, 0).coc == 0).all()


# --- the model as a whole


@pytest.mark.parametrize("name", PRESETS)
def test_state_holds_everything(name: str) -> None:
    model = away_from_start(make(preset(name).model))
    other = make(preset(name).model, tiny_gaussians())
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.defocused(CAMERA, 1), model.defocused(CAMERA, 1))


def test_photo_does_not_depend_on_the_unit_of_the_scene() -> None:
    """Scene, lens and camera ten times larger: the same picture, learned residuals included."""
    scale = 10.0
    small = away_from_start(make(preset("full").model))
    base = small.gaussians
    large_gaussians = Gaussians(
        means=base.means * scale, quats=base.quats, scales=base.scales + math.log(scale),
        opacities=base.opacities, sh0=base.sh0, shN=base.shN,
    )  # fmt: skip
    start = Start(
        FOCUS_DISTANCES * scale, APERTURE * scale, torch.ones(3), 4.0 * scale, CAMERA.fx, True,
        CENTER * scale, EXTENT * scale,
    )  # fmt: skip
    photometric = PhotometricCamera(Taken.alike(3))
    large = DefocusModel(large_gaussians, make_lens(preset("full").model, start), photometric)
    for learned, copied in zip(networks(small), networks(large), strict=True):
        frame = ("encode.center", "encode.extent")
        weights = {k: v for k, v in learned.state_dict().items() if k not in frame}
        copied.load_state_dict(weights, strict=False)
    pose = CAMERA.cam_from_world.clone()
    pose[:3, 3] *= scale
    camera = Camera(CAMERA.intrinsics, pose, CAMERA.width, CAMERA.height)
    # bf16 in the networks rounds inputs that differ in the last bit of float32 to different values.
    difference = (large.defocused(camera, 0) - small.defocused(CAMERA, 0)).abs()
    assert difference.mean() < 2e-3 and difference.max() < 0.05
