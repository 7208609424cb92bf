"""Against a truth: renders of the true scene score high, lengths are converted, what does not fit is said."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_run import (
    APERTURE,
    FOCUS_DISTANCES,
    FX,
    HEIGHT,
    VIEWS,
    WIDTH,
    tiny_camera,
    tiny_gaussians,
    tiny_run,
    write_photo,
)

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.measure.alignment import align
from cocogs.measure.truth import compare_with_truth, print_truth
from cocogs.optics.lens import Lens
from cocogs.optics.lens_models import LENS_MODELS, Start
from cocogs.render.refocusing import refocus
from cocogs.run import Run, load_run

UNIT = 2.5  # true units in one of the run's
REFOCUSED = {"view_0_near.png": ("view_0.png", 3.0, 1.0), "view_4_far.png": ("view_4.png", 6.0, 1.5)}


def write_truth(folder: Path) -> None:
    """The tiny scene as its own truth, in a frame turned, moved and `UNIT` times larger."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    turn *= torch.linalg.det(turn).sign()
    frames = []
    for index in range(VIEWS):
        pose = tiny_camera(index).cam_from_world.clone()
        moved = torch.tensor([3.0, -1.0, 7.0]).double()
        pose[:3, :3] = pose[:3, :3] @ turn.T
        pose[:3, 3] = UNIT * pose[:3, 3] - pose[:3, :3] @ moved
        sharp = index % 4 == 0
        focus = None if sharp else FOCUS_DISTANCES[index % 3] * UNIT
        name = f"view_{index}.png"
        frames.append({"name": name, "test": sharp, "w2c": pose.tolist(), "focus_distance": focus})
    torch.manual_seed(0)
    gaussians = tiny_gaussians()
    (folder / "refocus").mkdir()
    for name, (view, focus_distance, scale) in REFOCUSED.items():
        lens = Lens(focus_distance, scale * APERTURE / FX)
        picture = refocus(gaussians, tiny_camera(int(view[5])), lens, 256)
        write_photo(picture, folder / "refocus" / name)
    entries = [
        {"name": name, "view": view, "focus_distance": z * UNIT, "aperture_scale": scale}
        for name, (view, z, scale) in REFOCUSED.items()
    ]
    truth = {"aperture_diameter": APERTURE / FX * UNIT, "frames": frames, "refocus": entries}
    (folder / "truth.json").write_text(json.dumps(truth))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once: its pictures take many samples."""
    folder = tmp_path_factory.mktemp("truth")
    write_truth(folder)
    return folder


@pytest.fixture
def run(truth: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Run:
    """A run on a copy of the tiny scene, with a truth beside the photos."""
    trained = tiny_run(tmp_path_factory.getbasetemp(), "lens")
    source = json.loads((trained / "config.json").read_text())["data"]["source"]
    shutil.copytree(source, tmp_path / "scene")
    shutil.copytree(truth, tmp_path / "scene", dirs_exist_ok=True)
    shutil.copytree(trained, tmp_path / "run")
    config = (tmp_path / "run/config.json").read_text()
    (tmp_path / "run/config.json").write_text(config.replace(source, str(tmp_path / "scene")))
    return load_run(tmp_path / "run")


@pytest.mark.thorough
def test_the_true_scene_scores_high(run: Run) -> None:
    """With the true splats in the model, final pictures are the truth up to 8 bits and the sampling."""
    torch.manual_seed(0)
    run.model.gaussians = tiny_gaussians()
    report = compare_with_truth(run)
    assert report.unit == pytest.approx(UNIT, rel=1e-6)
    assert report.position_error < 1e-5
    assert [view["name"] for view in report.refocused] == list(REFOCUSED)
    assert report.refocused[1]["aperture_diameter"] == pytest.approx(1.5 * APERTURE / FX * UNIT)
    assert all(float(view["final"]) > 40 for view in report.refocused)
    assert report.mean["final"] > report.mean["interactive"] + 3


@pytest.mark.thorough
def test_the_lens_is_measured_in_true_units(run: Run) -> None:
    learned = run.lens()
    with torch.no_grad():
        names = [view.name for view in run.scene.train_views]
        true = torch.tensor([FOCUS_DISTANCES[int(name[5]) % 3] for name in names])
        run.model.lens.focus.vergence.copy_(run.model.lens.focus.typical_depth / (1.1 * true))
    lens = compare_with_truth(run).lens
    assert lens["focus_error"] == pytest.approx(0.1, rel=1e-4)
    expected = float(((1 - 1 / 1.1) / true / UNIT).mean())
    assert lens["vergence_error"] == pytest.approx(expected, rel=1e-4)
    assert lens["aperture_ratio"] == pytest.approx(learned.aperture_diameter / (APERTURE / FX), rel=1e-5)


@pytest.mark.thorough
def test_a_pinhole_has_no_lens_to_compare(run: Run) -> None:
    run.model.lens = LENS_MODELS["pinhole"](run.config.model, Start.unknown(len(run.scene.train_views)))
    report = compare_with_truth(run)
    assert report.lens == {}
    console = Console(record=True, width=200)
    print_truth(report, console)
    assert "Learned lens" not in console.export_text()


@pytest.mark.thorough
def test_the_command_prints_both(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run.folder), "--truth"]) == 0
    printed = capsys.readouterr().out
    assert "view_4_far.png" in printed and "Learned lens: the aperture is" in printed
    assert main(["eval", str(run.folder), "--truth", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["truth"]["unit"] == pytest.approx(UNIT)
    assert set(report["truth"]["mean"]) == {"interactive", "final"}


def test_alignment_is_a_similarity_and_no_mirror() -> None:
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(2)).double()
    angle = torch.tensor(0.7).double()
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]]).double()
    found = align(points, 0.3 * points @ turn.T + 5)
    assert (found.scale, found.error) == (pytest.approx(0.3), pytest.approx(0, abs=1e-6))
    torch.testing.assert_close(found.rotation, turn)
    torch.testing.assert_close(found.apply(points), 0.3 * points @ turn.T + 5)
    mirrored = points * torch.tensor([1, 1, -1])
    assert align(points, mirrored).error > 0.5
    assert torch.linalg.det(align(points, mirrored).rotation) == pytest.approx(1)
    noisy = 2 * points + 0.01 * torch.randn(20, 3, generator=torch.Generator().manual_seed(3)).double()
    assert align(points, noisy).error == pytest.approx(0.01 * math.sqrt(3), rel=0.4)


def test_no_truth(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tiny_run(tmp_path_factory.getbasetemp(), "lens")), "--truth"]) == 2
    assert "has no truth.json to compare with" in capsys.readouterr().err


def unregistered(truth: dict) -> None:
    """A refocused picture from a photo that is not in the run."""
    truth["frames"].append({**truth["frames"][0], "name": "x.png"})
    truth["refocus"][0]["view"] = "x.png"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["frames"].pop(), r"lacks the photo view_7\.png"),
        (
            lambda t: t["refocus"][0].update(view="x.png"),
            r"refocus names x\.png, which is not among the frames",
        ),
        (unregistered, r"has no view x\.png to refocus"),
        (lambda t: t["refocus"][0].update(name="x.png"), r"x\.png does not exist"),
        (lambda t: t.pop("refocus"), "is not a truth.json of a rendered scene"),
    ],
)
def test_a_truth_that_does_not_fit(run: Run, change, message: str) -> None:
    path = run.scene.source / "truth.json"
    truth = json.loads(path.read_text())
    change(truth)
    path.write_text(json.dumps(truth))
    with pytest.raises(InputError, match=message):
        compare_with_truth(run)


@pytest.mark.thorough
def test_a_true_picture_of_another_shape(run: Run) -> None:
    write_photo(torch.zeros(3, HEIGHT, WIDTH + 20), run.scene.source / "refocus" / "view_0_near.png")
    with pytest.raises(InputError, match=r"view_0_near\.png has 68x36 px and view_0\.png 48x36"):
        compare_with_truth(run)


@pytest.mark.thorough
def test_a_truth_without_refocused_pictures(run: Run) -> None:
    """The lens is compared all the same."""
    path = run.scene.source / "truth.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"refocus": []}))
    report = compare_with_truth(run)
    assert report.to_dict()["mean"] == {} and report.lens["aperture_ratio"] > 0
    console = Console(record=True, width=200, quiet=True)
    print_truth(report, console)


def change_truth(run: Run, change) -> None:
    path = run.scene.source / "truth.json"
    truth = json.loads(path.read_text())
    change(truth)
    path.write_text(json.dumps(truth))


@pytest.mark.thorough
def test_a_truth_without_a_defocused_frame(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the aperture of the lens can be compared, and the command says so."""
    change_truth(run, lambda t: [frame.update(focus_distance=None) for frame in t["frames"]])
    assert set(compare_with_truth(run).lens) == {"aperture_ratio"}
    assert main(["eval", str(run.folder), "--truth"]) == 0
    assert "no training photo with a focus distance" in capsys.readouterr().out


def one_place(truth: dict) -> None:
    for frame in truth["frames"]:
        frame["w2c"] = truth["frames"][0]["w2c"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_place, r"cannot be compared with .*truth\.json\. All cameras stand in one place"),
        (lambda t: t["frames"][0].pop("test"), "'test' is missing"),
        (lambda t: t["frames"][1].update(focus_distance="far"), "focus_distance must be a number above 0"),
        (lambda t: t["frames"][1].update(focus_distance=math.nan), "focus_distance must be a number above 0"),
        (lambda t: t["frames"][1].update(w2c=[[1, 2]]), r"w2c of view_1\.png is not"),
        (lambda t: t["frames"][1].update(w2c=(2 * torch.eye(4)).tolist()), "is not a rigid transform"),
        (lambda t: t["frames"][1].update(w2c=torch.eye(4).diag().tolist()), r"is not 3x4 or 4x4"),
        (lambda t: t["frames"][1].update(w2c=(-torch.eye(4)).tolist()), "is not a rigid transform"),
        (lambda t: t["frames"][1].update(name="view_0.png"), "names a photo twice"),
        (lambda t: t.update(frames=[7]), "another structure"),
        (lambda t: t.update(aperture_diameter=-1), "aperture_diameter must be a number above 0"),
        (lambda t: t["refocus"][0].update(aperture_scale=-1), "aperture_scale must be a number from 0"),
    ],
)
def test_a_truth_partly_filled_is_one_sentence(run: Run, capsys, change, message: str) -> None:
    change_truth(run, change)
    with pytest.raises(InputError, match=message) as error:
        compare_with_truth(run)
    assert "\n" not in str(error.value)


@pytest.mark.thorough
def test_a_run_without_test_views(run: Run) -> None:
    """Everything is compared."""
    run.scene.views = [view for view in run.scene.views if not view.is_test]
    change_truth(run, lambda t: t.update(refocus=[]))
    report = compare_with_truth(run)
    assert report.mean == {} and report.lens["aperture_ratio"] > 0
    print_truth(report, Console(quiet=True))
