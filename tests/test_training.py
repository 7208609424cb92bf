"""Training smoke: every preset learns something in 50 steps on a scene of 8 small photos."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFilter
from tiny_run import TEST_EVERY, tiny_run, tiny_scene, write_tiny_scene
from torch import Tensor

from cocogs.config import PRESETS, DataConfig, preset
from cocogs.errors import InputError
from cocogs.optics.evidence import K_ratios, measure_photos
from cocogs.optics.lens_models import make_lens
from cocogs.optics.lens_models.base import ThinLens
from cocogs.optics.model import DefocusModel
from cocogs.run import load_run, open_data
from cocogs.scene import LensFacts, Scene
from cocogs.train.monitor import Monitor
from cocogs.train.shot import How
from cocogs.train.start import exif_K, start_lens
from cocogs.train.trainer import Trainer


class Losses(Monitor):
    """Stands in for the monitor and keeps the losses."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, step: int, loss: Tensor, mse: Tensor, count: int) -> None:
        self.values.append(float(loss))

    def evaluate(self, step: int, model: DefocusModel, scene: Scene) -> None:
        pass

    def show(self, step: int, model: DefocusModel, scene: Scene) -> None:
        pass


@pytest.mark.thorough
@pytest.mark.parametrize("name", PRESETS)
def test_loss_falls(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tiny_scene(tmp_path_factory.getbasetemp())
    base = preset(name)
    optim = type(base.optim)(**{**vars(base.optim), "iterations": 50})
    strategy = type(base.strategy)(**{**vars(base.strategy), "max_gaussians": 400})
    config = preset(name, optim=optim, strategy=strategy)
    scene = open_data(DataConfig(str(data), test_every=TEST_EVERY), tmp_path, 0, lambda line: None)
    losses = Losses()
    assert Trainer(config, scene, tmp_path).train(losses)
    passes = torch.tensor(losses.values[:48]).view(-1, len(scene.train_views)).mean(1)
    assert passes[-1] < 0.75 * passes[0], passes
    assert all(parameter.isfinite().all() for parameter in load_parameters(tmp_path))


@pytest.mark.parametrize(("end", "gathers"), [(0.5, False), (1.0, True)])
def test_pulls_are_gathered_only_while_splats_are_added(
    end: float, gathers: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = preset("3dgs")
    optim = replace(config.optim, iterations=40)
    strategy = replace(config.strategy, max_gaussians=400, every=10, end=end)
    data = tiny_scene(tmp_path_factory.getbasetemp())
    scene = open_data(DataConfig(str(data), test_every=TEST_EVERY), tmp_path, 0, lambda line: None)
    trainer = Trainer(replace(config, optim=optim, strategy=strategy), scene, tmp_path)
    trainer.train(Losses())
    assert bool(trainer.densification.gradient.any()) == gathers  # since the last edit


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "threads"), [("full", [1, 1]), ("paper", [1, 3])])
def test_torch_works_alone_while_steps_are_light(
    name: str,
    threads: list[int],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one of three threads until networks, which are worth more, take part (second half of `paper`)."""
    config = preset(name)
    optim = replace(config.optim, iterations=20, sets_from=0.5)
    scene = open_tiny_scene(tmp_path_factory)
    trainer = Trainer(replace(config, optim=optim), scene, tmp_path)
    seen: list[int] = []

    step_on = trainer.step_on

    def counted(*kind: Any) -> Tensor:
        seen.append(torch.get_num_threads())
        return step_on(*kind)

    monkeypatch.setattr(trainer, "step_on", counted)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        trainer.train(Losses())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert [seen[0], seen[-1]] == threads


def test_a_halved_step_compares_pictures_of_half_the_size(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a mask, which hides what differs most."""
    scene = open_tiny_scene(tmp_path_factory)
    trainer = Trainer(preset("lens"), scene, tmp_path)
    monkeypatch.setattr("cocogs.train.trainer.SMALL", 1)
    shot, how = trainer.shot(0), How(expanded=False, halved=True, sh_degree=0, probed=False)
    truth = shot.photo
    spoiled, mask = truth.clone(), torch.ones_like(truth[0])
    spoiled[:, :, :20], mask[:, :20] = 1 - truth[:, :, :20], 0
    spoiled_loss, spoiled_mse = trainer.pull(replace(shot, photo=spoiled, mask=mask), how)
    shot = replace(shot, mask=mask)
    loss, mse = trainer.pull(shot, how)
    assert mse == spoiled_mse and mse > 0  # SSIM's window looks under the mask
    assert loss == pytest.approx(float(spoiled_loss), rel=0.2)
    assert trainer.model.gaussians.means.grad is not None
    monkeypatch.setattr("cocogs.train.trainer.SMALL", 1000)
    assert trainer.pull(shot, how)[1] != mse  # too small to be halved


@pytest.mark.thorough
@pytest.mark.parametrize(("kinds", "repeated"), [(1, True), (4, True), (5, False)])
def test_steps_are_recorded_where_they_come_again(
    kinds: int, repeated: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A recording serves all photos of a camera. It pays where they come twice before splats are added,
    or none are added any more."""
    config = preset("lens")
    strategy = replace(config.strategy, every=8)
    trainer = Trainer(replace(config, strategy=strategy), open_tiny_scene(tmp_path_factory), tmp_path)
    assert trainer.photo_kinds == 1
    trainer.photo_kinds = kinds
    trainer.step = trainer.densification.end
    assert trainer.is_repeated == repeated
    trainer.step += 1
    assert trainer.is_repeated


@pytest.mark.cuda
def test_the_lens_is_found_on_a_gpu_as_on_a_cpu(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    scene = open_tiny_scene(tmp_path_factory)
    one, other = (
        make_lens(preset("full").model, start_lens(scene, *measure_photos(scene, device)))
        for device in ("cpu", "cuda")
    )
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize(("iterations", "step"), [(300, 100), (30, 30)])
def test_a_sick_training_ends_before_it_saves(
    iterations: int, step: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A colour that is not a number reaches the picture, the loss and the user, but not the checkpoint."""
    config = preset("lens")
    config = replace(config, optim=replace(config.optim, iterations=iterations))
    trainer = Trainer(config, open_tiny_scene(tmp_path_factory), tmp_path)
    with torch.no_grad():
        trainer.model.gaussians.sh0[:] = torch.nan
    with pytest.raises(
        InputError, match=f"before step {step}: its loss, or what it learned of the cameras, is no number"
    ):
        trainer.train(Losses())
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_focus_that_is_no_number_is_found_before_its_photo_comes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trainer = Trainer(preset("lens"), open_tiny_scene(tmp_path_factory), tmp_path)
    trainer.check_health(torch.ones(()))
    with torch.no_grad():
        trainer.model.lens.focus.vergence[3] = torch.nan
    with pytest.raises(InputError, match="its loss, or what it learned of the cameras, is no number"):
        trainer.check_health(torch.ones(()))


def load_parameters(folder: Path) -> list[Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    values = state["model"].values()
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


def test_sharp_view_resembles_the_photo(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After 50 steps a pinhole knows its test views better than their mean colour does."""
    run = load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs"))
    for view in run.scene.test_views:
        photo = run.scene.photo(view)
        error = (run.model.sharp(view.camera).colors[0].detach() - photo).square().mean()
        grey = (photo.mean() - photo).square().mean()
        assert error < 0.8 * grey


@pytest.mark.thorough
def test_a_shaken_photo_is_found(tmp_path: Path) -> None:
    """One photo blurred by a Gaussian of 1 px: it is called the softest by far, about as soft as it is."""
    data = write_tiny_scene(tmp_path / "scene")
    photo = data / "images/view_2.png"
    Image.open(photo).filter(ImageFilter.GaussianBlur(1.0)).save(photo)
    scene = open_data(DataConfig(str(data), test_every=TEST_EVERY), tmp_path / "run", 0, lambda line: None)
    config = preset("lens")
    optim = replace(config.optim, iterations=900)
    strategy = replace(config.strategy, max_gaussians=1000, extra_points=300)
    trainer = Trainer(replace(config, optim=optim, strategy=strategy), scene, tmp_path / "run")
    trainer.train(Losses())
    assert isinstance(trainer.model.lens, ThinLens)
    softness = trainer.model.lens.softness.variance.tolist()
    found = softness.pop([view.name for view in scene.train_views].index("view_2.png"))
    assert 0.4 < found**0.5 < 1.2, (found, softness)
    assert max(softness) < found / 2, softness


def test_cameras_of_two_focal_lengths_have_one_opening(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same opening blurs twice as many px behind twice the focal length in px."""
    scene = open_tiny_scene(tmp_path_factory)
    camera = scene.views[-1].camera
    longer = replace(camera, intrinsics=camera.intrinsics * torch.tensor([[2.0], [2.0], [1.0]]))
    mixed = replace(scene, views=[*scene.views[:-1], replace(scene.views[-1], camera=longer)])
    lens = make_lens(preset("lens").model, start_lens(mixed, *measure_photos(mixed)))
    first, last = (lens.aperture.K(index) for index in (0, len(mixed.train_views) - 1))
    assert float((last / first).detach()) == pytest.approx(2)
    last.backward()
    assert lens.aperture.log_K.grad is not None and float(lens.aperture.log_K.grad) > 0
    paper = make_lens(
        preset("paper").model, start_lens(mixed, *measure_photos(mixed))
    )  # there it is a length in the scene
    first, last = (paper.aperture.K(index) for index in (0, len(mixed.train_views) - 1))
    assert float(first.detach()) == float(last.detach())


@pytest.mark.parametrize("f_numbers", [(2.0, 8.0), (2.0, None)])
def test_f_numbers_of_exif_give_the_ratios_of_the_apertures(
    f_numbers: tuple[float, float | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Half of the photos at f/2, half at f/8: one lens, stopped down. Photos without EXIF count as
    typical."""
    scene = open_tiny_scene(tmp_path_factory)
    half = len(scene.views) // 2
    views = [
        replace(view, lens=LensFacts(focal_length_mm=50.0, f_number=f_numbers[index >= half]))
        for index, view in enumerate(scene.views)
    ]
    ratios = K_ratios(views)
    expected = 1.0 if f_numbers[1] is None else 2.0 / f_numbers[1]
    assert ratios[0] == 1 and float(ratios[-1]) == pytest.approx(expected)


def test_exif_tells_the_aperture(tmp_path_factory: pytest.TempPathFactory) -> None:
    """f/2 at 50 mm is 25 mm wide; a unit is 0.5 m by the median of what the camera focused on."""
    views = open_tiny_scene(tmp_path_factory).train_views
    depths = torch.linspace(3.0, 6.0, len(views))
    unit = [0.5] * len(views)
    unit[0] = 7.0  # focused on something else
    lenses = [
        LensFacts(50.0, None, 2.0, None, metres * float(z)) for metres, z in zip(unit, depths, strict=True)
    ]
    told = [replace(view, lens=lens) for view, lens in zip(views, lenses, strict=True)]
    assert exif_K(told, depths) == pytest.approx(0.025 / 0.5 * views[0].camera.fx)
    assert exif_K(views, depths) is None
    assert exif_K(told[:2] + views[2:], depths) is None
    silent = [replace(view, lens=replace(view.lens, f_number=None)) for view in told]
    assert exif_K(silent, depths) is None


def test_training_starts_with_the_aperture_of_exif(tmp_path_factory: pytest.TempPathFactory) -> None:
    scene = open_tiny_scene(tmp_path_factory)

    def start(facts: LensFacts) -> float:
        told = replace(scene, views=[replace(view, lens=facts) for view in scene.views])
        return start_lens(told, *measure_photos(told)).K

    by_exif = start(LensFacts(50.0, None, 2.0, None, 2.0))
    assert by_exif != pytest.approx(start(LensFacts()), rel=0.05)
    # Twice the metres for the same depths: a unit is twice as long, and the aperture half as many units.
    assert start(LensFacts(50.0, None, 2.0, None, 4.0)) == pytest.approx(by_exif / 2, rel=1e-5)
    assert start(LensFacts(50.0, None, 4.0, None, 2.0)) == pytest.approx(by_exif / 2, rel=1e-5)


def test_every_lens_starts_where_the_search_for_it_ends(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = open_tiny_scene(tmp_path_factory)
    found = torch.linspace(2.0, 7.0, len(scene.train_views))
    monkeypatch.setattr("cocogs.train.start.find_lens", lambda evidence, blurs: (found, 20.0, "compared"))
    for name in ("lens", "full", "paper"):
        lens = make_lens(preset(name).model, start_lens(scene, *measure_photos(scene)))
        torch.testing.assert_close(lens.focus.distances.detach(), found)
        # In the paper's units K is a length in the scene at the typical depth, and not px.
        fx, typical = scene.train_views[0].camera.fx, float(lens.focus.typical_depth)
        px_per_unit = fx / typical if name == "paper" else 1.0
        assert float(lens.aperture.K(0).detach()) * px_per_unit == pytest.approx(20.0, rel=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "per_photo", "held"),
    [("compared", False, 0), ("compared", True, 1), ("each alone", False, 1), ("none", False, 1)],
)
def test_aperture_is_free_where_photos_differ_in_focus(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    per_photo: bool,
    held: int,
) -> None:
    scene, config = open_tiny_scene(tmp_path_factory), preset("lens")
    found = torch.full((len(scene.train_views),), 4.0)
    monkeypatch.setattr("cocogs.train.start.find_lens", lambda evidence, blurs: (found, 20.0, method))
    config = replace(config, model=replace(config.model, per_photo_aperture=per_photo))
    trainer = Trainer(config, scene, tmp_path)
    with torch.no_grad():
        trainer.model.lens.aperture.log_K.add_(2.0)
    price = torch.as_tensor(trainer.model.lens.aperture.price(config.optim, 0))
    assert float(price.detach()) == pytest.approx(held * 4 * config.optim.K_prior)


def open_tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.getbasetemp()
    return open_data(DataConfig(str(tiny_scene(root))), root / "opened", 0, lambda line: None)
