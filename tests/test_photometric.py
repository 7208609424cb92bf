"""Photos of one scene that differ in exposure and tint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_training import Losses
from tiny_run import tiny_camera, tiny_gaussians, tiny_scene, write_tiny_scene

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.config import DataConfig, preset
from cocogs.io.exif import LensFacts
from cocogs.io.lens_file import read_lens_file, write_lens_file
from cocogs.learned_lens import lens_file
from cocogs.optics.evidence import Evidence
from cocogs.optics.lens_models import Start, make_lens
from cocogs.optics.light import TERMS, ResponseCurve, srgb_curve
from cocogs.optics.model import DefocusModel
from cocogs.optics.photometric import PhotometricCamera, Responses, Taken, Vignettes, squared_radius
from cocogs.optics.photometric_search import find_photometric
from cocogs.optics.photometry import falloff
from cocogs.run import load_run, open_data, write_config
from cocogs.scene import Scene, View
from cocogs.srgb import to_linear, to_srgb
from cocogs.train.trainer import Trainer

CURVE = torch.tensor([-0.05, -0.5, 0.1])
VIGNETTE = (-0.3, -0.1, 0.02)


def test_starts_at_the_photo_as_it_is_and_keeps_the_mean() -> None:
    photometric, values = PhotometricCamera(Taken.alike(3)), torch.rand(3, 6, 5)
    common, own = photometric.curves(1)
    light = common.decode(values)
    torch.testing.assert_close(
        photometric.develop(light, replace(tiny_camera(0), width=5, height=6), 1, own),
        values,
        atol=1e-5,
        rtol=0,
    )
    exposure = photometric.exposure
    exposure.log_gains.data = torch.randn(3, 3)
    torch.testing.assert_close(exposure.gains().log().mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    gains = exposure.gains()
    exposure.keep_possible()
    torch.testing.assert_close(exposure.log_gains.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(exposure.gains(), gains)


def test_a_response_is_undone_by_its_inverse_and_is_srgb_without_coefficients() -> None:
    values = torch.rand(3, 8, 40) * 1.5
    curve = ResponseCurve(CURVE)
    torch.testing.assert_close(curve.encode(curve.decode(values)), values, atol=2e-5, rtol=0)
    torch.testing.assert_close(srgb_curve().decode(values), to_linear(values), atol=1e-5, rtol=1e-5)
    light = torch.rand(3, 8, 40)
    torch.testing.assert_close(srgb_curve().encode(light), to_srgb(light), atol=1e-5, rtol=0)
    torch.testing.assert_close(curve.decode(torch.ones(3, 1, 1)), torch.ones(3, 1, 1))
    assert (curve.encode(light) - to_srgb(light)).abs().max() > 0.03


def test_gradients_at_black_are_those_of_srgb() -> None:
    light = torch.tensor([0.0, 1e-9, 1e-7, 1e-6]).expand(3, 1, 4).contiguous().requires_grad_()
    srgb_curve().encode(light).sum().backward()
    assert light.grad is not None and (light.grad / 12.92 - 1).abs().max() < 0.6


def test_gradients_of_a_response_are_those_of_finite_differences() -> None:
    row = torch.rand(3, 1, 40) * 0.9 + 0.05
    values, weights = (
        row.expand(3, 8, 40).contiguous(),
        torch.arange(40.0),
    )  # all rows alike: some stand for all

    def total(coefficients: torch.Tensor, values: torch.Tensor = values) -> torch.Tensor:
        curve = ResponseCurve(coefficients)
        return (curve.encode(curve.decode(values) * 0.6) * weights).sum()

    coefficients, own = CURVE.clone().requires_grad_(), values.clone().requires_grad_()
    total(coefficients, own).backward()
    assert coefficients.grad is not None and own.grad is not None
    for index in range(TERMS):
        step = torch.eye(TERMS)[index] * 1e-2
        slope = (total(CURVE + step) - total(CURVE - step)) / 2e-2
        torch.testing.assert_close(coefficients.grad[index], slope, rtol=1e-2, atol=1.0)
    slope = (total(CURVE, values + 5e-3) - total(CURVE, values - 5e-3)) / 1e-2
    torch.testing.assert_close(own.grad.sum(), slope, rtol=1e-2, atol=0)


def test_photos_of_one_opening_share_a_vignette_and_stopped_down_ones_lose_a_part_of_it(scene: Scene) -> None:
    views = [taken(scene, f_number) for f_number in (2.0, 4.0, 8.0)]
    vignette = Vignettes(Taken.of(views))
    assert vignette.widest == [2.0]
    assert [vignette.opening(0, n) for n in (2.0, 4.0, 8.0, None)] == [1.0, 0.25, 0.0625, 1.0]
    vignette.losses.data[0] = torch.tensor([[-0.02, -0.05, -0.1], [-0.1, -0.2, -0.4]])
    corner = [
        float(vignette.falloff(0, torch.tensor(1.0), vignette.opening(0, n)).detach()) for n in (2.0, 8.0)
    ]
    assert corner == pytest.approx([0.5, 0.875])
    alike = Vignettes(Taken.of(views[:1] * 3))
    assert alike.widest == [None] and alike.opening(0, 2.0) == 0.0
    vignette.losses.data.fill_(-3.0)
    vignette.keep_possible()
    assert float(vignette.falloff(0, torch.tensor(1.0), 1.0).detach()) > 0.04


def test_cameras_are_told_apart_by_model_and_size(scene: Scene) -> None:
    views = [taken(scene, 2.0, "A"), taken(scene, 2.0, "B"), taken(scene, 2.0, "A", upright=True)]
    assert Taken.of(views).camera == [0, 1, 0]
    photometric = PhotometricCamera(Taken.of(views))
    photometric.vignette.losses.data[0] = -0.2
    values = torch.full((3, 48, 36), 0.5)
    assert float(photometric.shown(values, views[2])[0, 0, 0].detach()) < 0.46
    for other in (views[1], taken(scene, 2.0, "C")):
        shown = photometric.shown(torch.full((3, 36, 48), 0.5), other)
        torch.testing.assert_close(shown.detach(), torch.full((3, 36, 48), 0.5), atol=1e-4, rtol=0)


def test_splats_keep_the_mean_of_several_responses(scene: Scene) -> None:
    photometric = PhotometricCamera(
        Taken.of([taken(scene, 2.0, "A"), taken(scene, 2.0, "B"), taken(scene, 2.0, "B")])
    )
    photometric.response.coefficients.data = torch.tensor([[0.0, 0.3, 0.0], [0.0, 0.0, 0.3]])
    torch.testing.assert_close(photometric.response.common().coefficients, torch.tensor([0.0, 0.1, 0.2]))


def test_a_power_of_light_is_no_response_unless_exif_tells_it() -> None:
    response = Responses(Taken.alike(2))
    response.coefficients.data[0] = 0.1 * response.power
    response.keep_possible()
    torch.testing.assert_close(response.coefficients, torch.zeros(1, TERMS), atol=1e-6, rtol=0)
    response.is_anchored.fill_(True)
    response.coefficients.data[0] = 0.1 * response.power
    response.keep_possible()
    torch.testing.assert_close(response.coefficients[0], 0.1 * response.power)
    response.coefficients.data[0] = 5.0
    response.keep_possible()
    assert ResponseCurve(response.coefficients[0].detach()).light.rises.min() > 0


@pytest.mark.thorough
@pytest.mark.parametrize("exif", ["none", "true", "false"])
def test_the_search_finds_what_cameras_did(exif: str, scene: Scene) -> None:
    """Points of known light, some of them hidden by other things in some photos."""
    random = torch.Generator().manual_seed(3)
    camera = scene.train_views[0].camera
    larger = camera.intrinsics * torch.tensor([[10.0], [10.0], [1.0]])
    camera = replace(camera, intrinsics=larger, width=10 * camera.width, height=10 * camera.height)
    places = camera.unproject(
        torch.rand(1500, 2, generator=random) * torch.tensor([camera.width, camera.height]),
        torch.full((1500,), 4.0),
    )
    stops = torch.rand(8, generator=random) * 2 - 1
    told = {"none": [None] * 8, "true": stops.tolist(), "false": (-stops).tolist()}[exif]
    views = [
        replace(
            view,
            camera=turned(camera, random),
            lens=LensFacts(f_number=2.0, shutter_s=None if s is None else 0.01 * 2**s, iso=100.0),
        )
        for view, s in zip(scene.train_views, told, strict=True)
    ]
    scene = replace(scene, points=places.float(), views=views)
    light = 0.03 + 0.4 * torch.rand(1500, 3, generator=random)
    colors = torch.full((8, 1500, 3), torch.nan)
    for index, view in enumerate(views):
        pixels, _ = view.camera.project(places)
        inside = view.camera.shows(pixels, margin=4)
        shade = falloff(squared_radius(view.camera, *pixels.float().unbind(-1)), VIGNETTE)
        exposed = light * 2 ** stops[index] * shade[:, None]
        exposed = torch.where(torch.rand(1500, 1, generator=random) < 0.15, exposed * 0.4, exposed)
        values = ResponseCurve(CURVE).encode(exposed.T[:, :, None])[:, :, 0].T.clamp(0, 1)
        colors[index, inside] = values[inside]
    photometric = PhotometricCamera(Taken.of(views))
    evidence = Evidence(torch.ones(8, 1500), torch.ones(8, 1500), camera.width, colors=colors)
    find_photometric(photometric, scene, evidence)
    assert bool(photometric.exposure.is_told) == (exif == "true")
    found = photometric.exposure.gains().detach().log2().mean(1)
    truth = stops - stops.mean()
    power = float(found @ truth / (truth @ truth))
    assert power == pytest.approx(1, abs=0.04 if exif == "true" else 0.15)
    assert (found / power - truth).abs().max() < 0.03
    for squared in (0.25, 0.5, 0.8):
        shade = photometric.vignette.falloff(0, torch.tensor(squared), 0.0).detach()
        assert float(shade) ** (1 / power) == pytest.approx(falloff(squared, VIGNETTE), abs=0.02)


def turned(camera: Camera, random: torch.Generator) -> Camera:
    """Looks up to 20 degrees to any side."""
    x, y, z = ((torch.rand(3, generator=random) - 0.5) * 0.7).tolist()
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64))
    pose = camera.cam_from_world.clone()
    pose[:3] = turn @ pose[:3]
    return replace(camera, cam_from_world=pose)


def test_a_run_tells_what_it_learned_of_cameras(scene: Scene, tmp_path: Path) -> None:
    photometric = PhotometricCamera(Taken.of(scene.train_views))
    photometric.vignette.losses.data[:] = -0.1
    photometric.response.coefficients.data[:] = CURVE
    photometric.exposure.log_gains.data[0] = 0.3
    lens = make_lens(preset("lens").model, Start.unknown(len(scene.train_views)))
    model = DefocusModel(tiny_gaussians(), lens, photometric)
    write_lens_file(lens_file(model, scene), tmp_path / "lens.json")
    file = read_lens_file(tmp_path / "lens.json")
    [camera] = file.cameras
    assert 1 + sum(camera.vignetting.coefficients[0]) == pytest.approx(0.9)
    light = to_linear(torch.tensor(0.25)).expand(3, 1, 1)
    assert camera.response[8] == pytest.approx(float(ResponseCurve(CURVE).encode(light)[0, 0, 0]), abs=1e-4)
    first = next(photo for photo in file.photos if not photo.is_test)
    assert first.gains == pytest.approx(photometric.exposure.gains()[0].tolist()) and first.taken_by == 0
    assert all(photo.gains is None for photo in file.photos if photo.is_test)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.getbasetemp()
    return open_data(DataConfig(str(tiny_scene(root))), root / "opened_photometric", 0, lambda line: None)


def taken(scene: Scene, f_number: float, model: str = "A", upright: bool = False) -> View:
    """A photo of 48 x 36 px by a camera of this model."""
    width, height = (36, 48) if upright else (48, 36)
    camera = Camera(intrinsics_matrix(50, 50, width / 2, height / 2), torch.eye(4).double(), width, height)
    facts = LensFacts(f_number=f_number, camera_model=model)
    return replace(scene.train_views[0], camera=camera, lens=facts)


@pytest.mark.thorough
def test_finds_how_photos_were_exposed(tmp_path: Path) -> None:
    """Every photo of the tiny scene made darker, one channel more than the others."""
    data = write_tiny_scene(tmp_path / "data")
    gains = torch.linspace(0.75, 1.0, 8)[torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    tints = torch.tensor([1.0, 1.0, 0.9])
    for index, gain in enumerate(gains.tolist()):
        path = data / "images" / f"view_{index}.png"
        factors = (gain * (tints if index % 2 else torch.ones(3))).tolist()
        bands = [
            band.point(lambda value, f=f: round(value * f))
            for band, f in zip(Image.open(path).split(), factors, strict=True)
        ]
        Image.merge("RGB", bands).save(path)
    config = preset("lens")
    config = replace(
        config,
        optim=replace(config.optim, iterations=300, exposure=6e-2),
        strategy=replace(config.strategy, max_gaussians=400),
    )
    description = DataConfig(str(data))
    scene = open_data(description, tmp_path / "run", 0, lambda line: None)
    write_config(tmp_path / "run", config, description)
    Trainer(config, scene, tmp_path / "run").train(Losses())

    photometric = load_run(tmp_path / "run").model.photometric  # and the checkpoint holds it
    assert photometric is not None
    exposure = photometric.exposure
    values = gains[:, None] * torch.where(torch.arange(8)[:, None] % 2 == 1, tints, 1.0)
    truth = 2.2 * values.log()  # factors on pixel values are powers of factors on light
    error = exposure.gains().detach().log() - (truth - truth.mean(0))
    assert error.std() < 0.25 * (truth - truth.mean(0)).std(), error
