"""The measures against closed forms and against other implementations, and what `cocogs eval` reports."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from skimage.metrics import structural_similarity
from tiny_run import HEIGHT, WIDTH, tiny_run, tiny_scene
from torch import Tensor

from cocogs.cli import main
from cocogs.cli.measure import Eval, plain_console
from cocogs.errors import InputError
from cocogs.measure.color import match_affine_color
from cocogs.measure.evaluate import compare, evaluate_run, print_evaluation, ssim_uniform_7
from cocogs.measure.headings import MEASURES
from cocogs.measure.lpips import BACKBONE_FILE, LINEAR_FILE, Lpips
from cocogs.run import Run, load_run
from cocogs.ssim import ssim_map


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(tiny_run(tmp_path_factory.getbasetemp(), "lens"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weight files of the real layout with random numbers: the real ones may not be shipped."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(0)
    shapes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    backbone, linear = {"classifier.1.weight": torch.zeros(2)}, {}
    for index, (place, (out, into, size)) in enumerate(zip((0, 3, 6, 8, 10), shapes, strict=True)):
        kernel = torch.randn(out, into, size, size, generator=generator) / (into * size * size) ** 0.5
        backbone |= {f"features.{place}.weight": kernel, f"features.{place}.bias": torch.zeros(out)}
        linear[f"lin{index}.model.1.weight"] = torch.rand(1, out, 1, 1, generator=generator)
    torch.save(backbone, folder / BACKBONE_FILE)
    torch.save(linear, folder / LINEAR_FILE)
    return folder


def two_pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(3, 40, 56, generator=generator)
    return picture, (picture + 0.1 * torch.randn(3, 40, 56, generator=generator)).clamp(0, 1)


def channels_last(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()


def test_equal_pictures(weights: Path) -> None:
    picture, _ = two_pictures()
    scores = compare(picture, picture, None, Lpips.from_folder(weights))
    expected = dict.fromkeys(["psnr", "psnr_affine_color"], 100) | dict.fromkeys(["flip", "lpips"], 0)
    similarities = ["ssim_gaussian_11", "ssim_gaussian_11_affine_color", "ssim_uniform_7"]
    expected |= dict.fromkeys(similarities, 1)
    assert list(scores) == list(MEASURES)
    assert scores == pytest.approx(expected, abs=1e-5)


def test_known_error() -> None:
    grey = torch.full((3, 20, 20), 0.5)
    assert compare(grey, grey + 0.1, None, None)["psnr"] == pytest.approx(20, abs=1e-4)


def test_both_kinds_of_ssim_are_skimages() -> None:
    a, b = two_pictures()
    scores = compare(a, b, None, None)
    uniform = structural_similarity(
        2 * channels_last(a) - 1, 2 * channels_last(b) - 1, win_size=7, data_range=2, channel_axis=2
    )
    assert scores["ssim_uniform_7"] == pytest.approx(uniform, abs=1e-5)
    gaussian = structural_similarity(
        channels_last(a), channels_last(b), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1, channel_axis=2, full=True,
    )[1]  # fmt: skip
    deep = torch.zeros(40, 56)
    deep[15:-15, 15:-15] = 1  # at the border 3DGS pads with zeros, skimage mirrors
    ours = ssim_map(a, b).mean(0)[deep > 0.5].mean()
    assert float(ours) == pytest.approx(np.asarray(gaussian)[15:-15, 15:-15].mean(), abs=1e-4)
    assert scores["ssim_gaussian_11"] == pytest.approx(float(ssim_map(a, b).mean()))


def test_what_lies_outside_the_mask_does_not_count(weights: Path) -> None:
    render, photo = two_pictures()
    mask = torch.zeros(40, 56)
    mask[:, :30] = 1
    spoiled = torch.where(mask > 0.5, render, 1 - photo)
    lpips = Lpips.from_folder(weights)
    assert compare(spoiled, photo, mask, lpips) == compare(render, photo, mask, lpips)
    assert compare(render, photo, torch.ones(40, 56), lpips) == pytest.approx(
        compare(render, photo, None, lpips), rel=1e-5
    )


def test_lpips_grows_with_the_error(weights: Path) -> None:
    a, b = two_pictures()
    lpips = Lpips.from_folder(weights)
    small, large = lpips(a, a + 0.1 * (b - a)), lpips(a, b)
    assert 0 < small < large
    assert lpips(a, b) == pytest.approx(float(lpips(b, a)))


def test_lpips_of_the_smallest_pictures(weights: Path) -> None:
    a, b = two_pictures()
    lpips = Lpips.from_folder(weights)
    assert lpips(a[:, :31, :31], b[:, :31, :31]) > 0
    with pytest.raises(InputError, match="31 px"):
        lpips(a[:, :30], b[:, :30])


def test_lpips_weights_that_are_not(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{BACKBONE_FILE} does not exist"):
        Lpips.from_folder(tmp_path)
    (tmp_path / BACKBONE_FILE).write_bytes((weights / BACKBONE_FILE).read_bytes())
    (tmp_path / LINEAR_FILE).write_bytes(b"garbage")
    with pytest.raises(InputError, match=f"{LINEAR_FILE} is damaged"):
        Lpips.from_folder(tmp_path)
    (tmp_path / LINEAR_FILE).write_bytes((weights / BACKBONE_FILE).read_bytes())
    with pytest.raises(InputError, match="does not hold LPIPS weights"):
        Lpips.from_folder(tmp_path)
    torch.save([1], tmp_path / LINEAR_FILE)
    with pytest.raises(InputError, match="does not hold LPIPS weights"):
        Lpips.from_folder(tmp_path)


def test_names_are_printed_as_they_are(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = evaluate_run(run)
    evaluation.facts["run"] = "runs/[bold]mine[/x]:smile:"
    evaluation.views[0]["name"] = "[red]a.png"
    print_evaluation(evaluation, plain_console(Eval(Path("run"))))
    printed = capsys.readouterr().out
    assert "runs/[bold]mine[/x]:smile:" in printed and "[red]a.png" in printed


def test_report(run: Run) -> None:
    report = json.loads(evaluate_run(run).to_json())
    assert [view["name"] for view in report["views"]] == ["view_0.png", "view_4.png"]
    assert {k: report[k] for k in ("preset", "step", "seed")} == {"preset": "lens", "step": 50, "seed": 0}
    assert report["gaussians"] == len(run.model.gaussians)
    assert report["K"] > 0
    for measure, mean in report["mean"].items():
        assert mean == pytest.approx(np.mean([view[measure] for view in report["views"]]))
    assert list(report["mean"]) == [name for name in MEASURES if name != "lpips"]
    assert report["mean"]["psnr_affine_color"] > report["mean"]["psnr"]


def test_json_is_all_that_is_printed(run: Run, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run.folder), "--json", "--lpips-weights", str(weights)]) == 0
    output = capsys.readouterr().out
    assert json.loads(output)["mean"]["lpips"] > 0


def test_table(run: Run) -> None:
    console = Console(width=110, record=True)
    print_evaluation(evaluate_run(run), console)
    text = console.export_text()
    assert "preset lens, step 50, seed 0, 400 Gaussians, K " in text
    assert "Gaussian" in text and "uniform" in text
    assert "view_4.png" in text
    assert "Affine colour: after the affine map of colour" in text
    assert "LPIPS was not measured. It needs a folder" in text
    assert "mask" not in text


def test_pinhole_has_no_aperture(tmp_path_factory: pytest.TempPathFactory) -> None:
    evaluation = evaluate_run(load_run(tiny_run(tmp_path_factory.getbasetemp(), "3dgs")))
    assert evaluation.facts["K"] is None
    console = Console(width=110, record=True)
    print_evaluation(evaluation, console)
    assert "no lens" in console.export_text()


def test_masked_view(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A mask in the data reaches the measures and is mentioned."""
    data = tmp_path / "data"
    shutil.copytree(tiny_scene(tmp_path_factory.getbasetemp()), data)
    (data / "masks").mkdir()
    left = np.zeros((HEIGHT, WIDTH), np.uint8)
    left[:, : WIDTH // 2] = 255
    Image.fromarray(left).save(data / "masks/view_0.png")
    options = ["--preset", "3dgs", "--iterations", "5", "--max-gaussians", "100", "--test-every", "4"]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *options]) == 0
    masked = load_run(tmp_path / "run")
    evaluation = evaluate_run(masked)
    assert [view["masked"] for view in evaluation.views] == [True, False]
    console = Console(width=110, record=True)
    print_evaluation(evaluation, console)
    text = console.export_text()
    assert "view_0.png (masked)" in text
    assert "inside their masks only" in text
    Image.fromarray(0 * left).save(data / "masks/view_0.png")
    with pytest.raises(InputError, match=r"mask of view_0\.png is all black"):
        evaluate_run(load_run(tmp_path / "run"))


def test_no_test_views(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tiny_scene(tmp_path_factory.getbasetemp())
    options = ["--preset", "3dgs", "--iterations", "2", "--max-gaussians", "100"]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *options]) == 0
    with pytest.raises(InputError, match="sharp photos with `test`, or every 8th with `test_every=8`"):
        evaluate_run(load_run(tmp_path / "run"))


def test_uniform_window_with_a_mask_is_local() -> None:
    """Pixels further from the mask than the window do not change it."""
    render, photo = two_pictures()
    mask = torch.zeros(40, 56)
    mask[:, :20] = 1
    changed = render.clone()
    changed[:, :, 30:] = 0
    assert ssim_uniform_7(render, photo, mask) == pytest.approx(ssim_uniform_7(changed, photo, mask))


def test_masks_thinner_than_the_window() -> None:
    """The window fits nowhere inside the mask's rows, so that its pixels count as they are."""
    render, photo = two_pictures()
    mask = torch.zeros(40, 56)
    mask[:2] = 1
    assert ssim_uniform_7(photo, photo, mask) == pytest.approx(1)
    assert 0 < ssim_uniform_7(render, photo, mask) < 1


def test_pictures_smaller_than_the_window() -> None:
    picture = torch.rand(3, 6, 20)
    with pytest.raises(InputError, match=r"photos are 20x6 px .* too small to measure"):
        compare(picture, picture, None, None)


# --- affine colour

TINT = torch.tensor([[0.7, 0.05, 0.0], [0.02, 0.5, 0.1], [0.0, 0.03, 0.6]])


def exposed(picture: Tensor) -> Tensor:
    """With another exposure and tint, and nothing clipped."""
    return torch.einsum("ij,jhw->ihw", TINT, picture) + torch.tensor([0.02, 0.05, 0.1])[:, None, None]


def test_affine_color_undoes_gain_and_tint() -> None:
    """An exposed render scores as the same render without its exposure."""
    render, photo = two_pictures()
    plain, other = compare(render, photo, None, None), compare(exposed(render), photo, None, None)
    assert other["psnr"] < plain["psnr"] - 5
    for measure in ("psnr_affine_color", "ssim_gaussian_11_affine_color"):
        assert other[measure] == pytest.approx(plain[measure], abs=1e-2)
    torch.testing.assert_close(match_affine_color(exposed(photo), photo), photo, atol=1e-3, rtol=0)


def test_affine_color_does_not_fit_noise() -> None:
    """A render that is wrong by noise gains no more than 12 fitted numbers can give."""
    photo = 0.3 + 0.4 * torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(0))
    noisy = photo + 0.01 * torch.randn(3, 60, 80, generator=torch.Generator().manual_seed(1))
    scores = compare(noisy, photo, None, None)
    assert scores["psnr"] <= scores["psnr_affine_color"] < scores["psnr"] + 0.1


def test_affine_color_never_loses() -> None:
    """The identity is among the maps."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        render, photo = torch.rand(2, 3, 9, 11, generator=generator)
        scores = compare(render, photo, None, None)
        assert scores["psnr_affine_color"] >= scores["psnr"] - 1e-4


def test_affine_color_looks_inside_the_mask_only() -> None:
    render, photo = two_pictures()
    mask = torch.zeros(40, 56)
    mask[5:30, 10:40] = 1
    spoiled = torch.where(mask > 0.5, exposed(render), 1 - photo)
    inside, whole = compare(exposed(render), photo, mask, None), compare(spoiled, photo, mask, None)
    assert inside == whole
    plain = compare(render, photo, mask, None)
    assert inside["psnr_affine_color"] == pytest.approx(plain["psnr_affine_color"], abs=1e-2)


@pytest.mark.parametrize("color", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("of_photo", [True, False])
def test_affine_color_of_one_color(color: float, of_photo: bool) -> None:
    """A picture of one colour is mapped to the mean of the other one, and no figure is infinite."""
    plain, other = torch.full((3, 20, 30), color), two_pictures()[0][:, :20, :30]
    render, photo = (other, plain) if of_photo else (plain, other)
    scores = compare(render, photo, None, None)
    assert all(np.isfinite(value) for value in scores.values())
    matched = match_affine_color(render, photo)
    torch.testing.assert_close(matched, photo.mean((1, 2), keepdim=True).expand(3, 20, 30), atol=1e-2, rtol=0)


# --- narrow terminals


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_every_figure_is_shown_at_any_width(run: Run, width: int) -> None:
    evaluation = evaluate_run(run)
    console = plain_console(Eval(Path("run")))
    console.width = width
    with console.capture() as capture:
        print_evaluation(evaluation, console)
    text = capture.get()
    for scores in [*evaluation.views, evaluation.mean]:
        for name, value in scores.items():
            if name in MEASURES:
                assert format(float(value), MEASURES[name].format) in text
    assert "view_4.png" in text and "…" not in text
    assert ("FLIP: " in text) == (width < 80)
