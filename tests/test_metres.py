"""How long a scene unit is, by EXIF: in two ways, with an uncertainty, and where it cannot be known."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pycolmap
import pytest
import torch
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational
from tiny_run import tiny_run, tiny_scene

from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.export import ExportOptions, export
from cocogs.io.colmap import read_model
from cocogs.io.exif import LensFacts
from cocogs.io.exif_lens import lens_by_exif
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.lens_file import APERTURE, FOCUS_DISTANCES, Metres, read_lens_file, write_lens_file
from cocogs.io.matching import Group, Job, enter_photos
from cocogs.io.photos import PhotoHeader, read_header
from cocogs.io.ply import read_ply
from cocogs.io.sfm_lenses import start_lenses
from cocogs.learned_lens import lens_file, write_learned_lens
from cocogs.measure.evaluate import evaluate_run
from cocogs.metres import disagree, metres_by_exif, sentences, why_unknown
from cocogs.render import render
from cocogs.render.frames import plan
from cocogs.render.options import RenderOptions
from cocogs.run import Run, load_run
from cocogs.viewer.exhibit import exhibit_run, open_exhibit

FAST = LensFacts(focal_length_mm=50.0, f_number=2.0)
FOCUS = [2.0, 3.0, 4.0, 5.0]
BASE = ExifTags.Base


UNKNOWN = (None, None, None, None)


def facts(distances: Sequence[float | None] = UNKNOWN, f_number: float | None = 2.0) -> list[LensFacts]:
    """50 mm at f/2: an aperture of 25 mm."""
    return [LensFacts(50.0, None, f_number, "Camera X", d) for d in distances]


# The two ways.


def test_the_aperture_tells_metres() -> None:
    found = metres_by_exif(facts(), FOCUS, [0.1] * 4)
    assert found is not None and found.source == APERTURE
    assert found.per_unit == pytest.approx(0.25)
    assert found.error / found.per_unit == pytest.approx(0.06, abs=0.002)  # marks and K, no scatter


def test_scatter_between_photos_makes_it_less_sure() -> None:
    alike = metres_by_exif(facts(), FOCUS, [0.1] * 4)
    apart = metres_by_exif(facts(), FOCUS, [0.05, 0.2, 0.05, 0.2])
    assert alike is not None and apart is not None
    assert apart.per_unit == pytest.approx(alike.per_unit)
    relative = math.hypot(alike.error / alike.per_unit, math.log(2) / math.sqrt(4))
    assert apart.error / apart.per_unit == pytest.approx(relative)


def test_focus_distances_alone_tell_metres() -> None:
    noted = [0.5 * z for z in FOCUS[:3]] + [9.0]  # one photo was focused on something else
    found = metres_by_exif(facts(noted, f_number=None), FOCUS, [0.1] * 4)
    assert found is not None and found.source == FOCUS_DISTANCES and found.by_aperture is None
    assert (found.per_unit, found.photos) == (pytest.approx(0.5), 4)
    assert "focus distances in the EXIF of 4 photos" in sentences(found)


def test_two_photos_with_a_distance_are_too_few() -> None:
    assert metres_by_exif(facts([1.0, 1.5, None, None], f_number=None), FOCUS, [0.1] * 4) is None


@pytest.mark.parametrize(("factor", "contradicts"), [(1.0, False), (1.1, False), (1.5, True), (0.6, True)])
def test_both_ways_are_compared(factor: float, contradicts: bool) -> None:
    found = metres_by_exif(facts([0.25 * factor * z for z in FOCUS]), FOCUS, [0.1] * 4)
    assert found is not None and found.source == APERTURE and found.per_unit == pytest.approx(0.25)
    assert found.by_focus_distances == pytest.approx(0.25 * factor)
    assert disagree(found) == contradicts == ("The two disagree" in sentences(found))
    assert f"{factor:.2f} of that" in sentences(found)


def test_an_aperture_that_photos_do_not_tell_tells_no_metres() -> None:
    assert metres_by_exif(facts(), FOCUS, [0.1] * 4, told=False) is None
    found = metres_by_exif(facts([0.5 * z for z in FOCUS]), FOCUS, [0.1] * 4, told=False)
    assert found is not None and found.source == FOCUS_DISTANCES and found.by_aperture == pytest.approx(0.25)
    assert not disagree(found)


def test_distances_that_do_not_follow_the_photos_tell_no_metres() -> None:
    found = [1 + 0.2 * i for i in range(10)]
    alike, backwards = (facts([0.5 * z for z in order], f_number=None) for order in (found, found[::-1]))
    metres = metres_by_exif(alike, found, [0.1] * 10)
    assert metres is not None and metres.per_unit == pytest.approx(0.5)
    assert metres_by_exif(backwards, found, [0.1] * 10) is None
    assert "do not follow" in why_unknown(backwards, found, [0.1] * 10)


# The sensor.


def photo(path: Path, size: tuple[int, int], sensor_px: tuple[int, int], mm: float, **more: float) -> Path:
    """A picture by a camera whose sensor is `mm` wide and has `sensor_px`, at 50 mm."""
    resolution = IFDRational(round(sensor_px[0] / mm * 254_000), 10_000)
    tags = {
        BASE.FocalLength: IFDRational(50),
        BASE.ExifImageWidth: sensor_px[0], BASE.ExifImageHeight: sensor_px[1],
        BASE.FocalPlaneXResolution: resolution, BASE.FocalPlaneYResolution: resolution,
        BASE.FocalPlaneResolutionUnit: 2, **{BASE[name]: value for name, value in more.items()},
    }  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = tags
    Image.new("RGB", size).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("size", "focal"),
    [((6000, 4000), 50 / 24 * 6000), ((600, 400), 50 / 24 * 600), ((400, 600), 50 / 24 * 600),
     ((400, 400), 50 / 16 * 400), ((600, 300), 50 / 24 * 600)],
)  # fmt: skip
def test_the_focal_length_in_px_of_smaller_and_cropped_photos(
    tmp_path: Path, size: tuple[int, int], focal: float
) -> None:
    header = read_header(photo(tmp_path / "a.jpg", size, (6000, 4000), 24.0))
    assert header.lens.sensor_mm == pytest.approx((24.0, 16.0), rel=1e-4)
    assert focal_px(header) == pytest.approx(focal, rel=1e-4)


def test_the_35_mm_equivalent_compares_diagonals(tmp_path: Path) -> None:
    """As COLMAP has it."""
    path = photo(tmp_path / "a.jpg", (400, 300), (4000, 3000), 24.0, FocalLengthIn35mmFilm=26)
    header = replace(
        read_header(path), lens=replace(read_header(path).lens, sensor_mm=None, focal_length_mm=None)
    )
    assert focal_px(header) == pytest.approx(26 * 500 / math.hypot(36, 24))
    assert focal_px(header) == pytest.approx(pycolmap.infer_camera_from_image(path).params[0], rel=1e-3)


@pytest.mark.parametrize("mm", [0.5, 500.0])
def test_no_sensor_is_so_large_or_small(tmp_path: Path, mm: float) -> None:
    header = read_header(photo(tmp_path / "a.jpg", (600, 400), (6000, 4000), mm))
    assert header.lens.sensor_mm is None and isinstance(lens_by_exif(header), Abstention)


def focal_px(header: PhotoHeader) -> float:
    lens = lens_by_exif(header)
    assert isinstance(lens, LensEstimate), lens
    return lens.focal[0]


def entered(path: Path) -> pycolmap.Camera:
    """The camera with which SfM starts."""
    (start,) = start_lenses(path.parent, {path.name: read_header(path)}, {})
    job = Job(path.parent, 0, lambda line: None)
    enter_photos(job, [Group(start.names, start.lens, start.trusted)])
    with pycolmap.Database.open(job.database) as opened:
        (camera,) = opened.read_all_cameras()
    return camera


def test_sfm_starts_at_the_focal_length_of_photos_made_smaller(tmp_path: Path) -> None:
    """COLMAP alone takes FocalPlaneXResolution for that of the smaller photo: ten times the focal length."""
    path = photo(tmp_path / "a.jpg", (600, 400), (6000, 4000), 24.0)
    assert pycolmap.infer_camera_from_image(path).params[0] == pytest.approx(12500, rel=1e-3)
    camera = entered(path)
    assert camera.params.tolist() == pytest.approx([1250, 300, 200, 0], rel=1e-3)
    assert camera.has_prior_focal_length and camera.model.name == "SIMPLE_RADIAL"


@pytest.mark.parametrize("equivalent", [80, None])
def test_sfm_starts_as_colmap_does_elsewhere(tmp_path: Path, equivalent: int | None) -> None:
    """From the 35 mm equivalent; and without anything, where COLMAP tries focal lengths out."""
    path, exif = tmp_path / "a.jpg", Image.Exif()
    if equivalent is not None:
        exif[ExifTags.IFD.Exif] = {BASE.FocalLengthIn35mmFilm: equivalent}
    Image.new("RGB", (600, 400)).save(path, exif=exif)
    inferred, camera = pycolmap.infer_camera_from_image(path), entered(path)
    assert camera.params.tolist() == pytest.approx(inferred.params.tolist(), rel=1e-3)
    assert camera.has_prior_focal_length == inferred.has_prior_focal_length == (equivalent is not None)


# What is told of a run.


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Run:
    trained = tiny_run(tmp_path_factory.getbasetemp(), "lens")
    return load_run(shutil.copytree(trained, tmp_path / "copied run"))


def with_exif(run: Run, lens: LensFacts, told: bool = True) -> Run:
    run.scene.views = [replace(view, lens=lens) for view in run.scene.views]
    run.model.lens.aperture.held.fill_(float(not told))
    return run


def test_a_run_without_exif_says_that_metres_cannot_be_known(run: Run, tmp_path: Path) -> None:
    assert run.learned.metres is None
    assert run.learned.about_metres == (
        "How long a scene unit is in metres cannot be known: the photos' EXIF lacks f-number or focal "
        "length, and fewer than 3 of the photos have a focus distance in their EXIF. Only lengths in metres "
        "need it."
    )
    assert evaluate_run(run).about_metres == run.learned.about_metres == exhibit_run(run).about_metres
    with pytest.raises(InputError, match=r"cannot be known.*give `focus` in scene units"):
        render(run, RenderOptions(tmp_path / "out", focus="1.2m"))


def test_why_an_aperture_does_not_tell(run: Run) -> None:
    held = with_exif(run, FAST, told=False)
    assert "the photos differ too little in focus to tell the aperture" in held.learned.about_metres


def test_metres_are_told_wherever_the_run_is_summed_up(run: Run, tmp_path: Path) -> None:
    with_exif(run, FAST)
    metres = run.learned.metres
    assert metres is not None
    assert metres.per_unit * run.lens().aperture_diameter == pytest.approx(0.025, rel=1e-5)
    told = sentences(metres)
    evaluation = evaluate_run(run)
    assert evaluation.about_metres == exhibit_run(run).about_metres == told
    assert json.loads(evaluation.to_json())["metres_per_unit"] == metres.per_unit
    said: list[str] = []
    options = RenderOptions(tmp_path / "out", focus="1.2m", samples=0, views="test")
    render(run, options, said.append)
    assert said[0] == f"Focus 1.2m is {1.2 / metres.per_unit:.4g} scene units. {told}"


def test_a_focus_pull_in_metres(run: Run) -> None:
    with_exif(run, FAST)
    unit = run.learned.metres_per_unit
    assert unit is not None
    frames, _ = plan(run, RenderOptions(Path("out"), focus_pull="0.5m:2M", frames=3))
    moving = [frame.lens.focus_distance for frame in frames if frame.lens is not None]
    assert moving == pytest.approx([0.5 / unit, 0.8 / unit, 2 / unit])
    with pytest.raises(InputError, match=r"`focus_pull` must be two numbers, such as 1.5:4, not 0.5m:2"):
        plan(run, RenderOptions(Path("out"), focus_pull="0.5m:2", frames=3))


@pytest.mark.thorough
def test_training_ends_with_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tiny_scene(tmp_path_factory.getbasetemp())
    command = ["train", str(scene), "--out", str(tmp_path / "run"), "--preset", "lens", "--iterations", "2"]
    assert main([*command, "--max-gaussians", "200"]) == 0
    assert "How long a scene unit is in metres cannot be known" in capsys.readouterr().out


def test_the_lens_file_keeps_it(run: Run, tmp_path: Path) -> None:
    with_exif(run, replace(FAST, focus_distance=1.5))
    file = lens_file(run.model, run.scene)
    write_lens_file(file, tmp_path / "lens.json")
    assert read_lens_file(tmp_path / "lens.json").metres == file.metres == run.learned.metres
    document = json.loads((tmp_path / "lens.json").read_text())
    assert document["metres"]["source"] == APERTURE and document["metres"]["photos"] == 6
    document["metres"]["source"] = "guess"
    (tmp_path / "lens.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match='"metres" is damaged'):
        read_lens_file(tmp_path / "lens.json")


# Exports in metres.


def test_everything_is_exported_in_metres(run: Run, tmp_path: Path) -> None:
    with_exif(run, FAST)
    write_learned_lens(run.folder, run.model, run.scene)
    metres = run.learned.metres_per_unit
    assert metres is not None
    said: list[str] = []
    export(run.folder, tmp_path / "a.ply", ExportOptions(), said.append)
    colmap = tmp_path / "model"
    export(run.folder, tmp_path / "b.ply", ExportOptions(metres="exif", colmap=colmap), said.append)
    ours, theirs = read_ply(tmp_path / "a.ply"), read_ply(tmp_path / "b.ply")
    torch.testing.assert_close(theirs.means, metres * ours.means)
    torch.testing.assert_close(theirs.scales.exp(), metres * ours.scales.exp())
    torch.testing.assert_close(theirs.shN, ours.shN)
    assert any(line.startswith("One scene unit is") for line in said)
    shown, plain = open_exhibit(tmp_path / "b.ply"), open_exhibit(tmp_path / "a.ply")
    assert shown.metres == pytest.approx(1) and plain.metres == pytest.approx(metres)
    assert shown.lens.focus_distance == pytest.approx(metres * plain.lens.focus_distance)
    file, view = read_lens_file(tmp_path / "b.lens.json"), run.scene.views[1]
    assert file.photos[1].K == pytest.approx(metres * run.learned.Ks[0])
    expected = view.camera.cam_from_world[:3, 3] * metres
    torch.testing.assert_close(file.photos[1].camera.cam_from_world[:3, 3], expected.double())
    shot = next(shot for shot in read_model(colmap).shots if shot.name == view.name)
    torch.testing.assert_close(shot.cam_from_world[:3, 3], expected.double())


def test_metres_given_by_hand(run: Run, tmp_path: Path) -> None:
    export(run.folder, tmp_path / "a.ply", ExportOptions(metres="0.5"))
    assert read_lens_file(tmp_path / "a.lens.json").metres == Metres(1.0)
    assert open_exhibit(tmp_path / "a.ply").about_metres == "One scene unit is 1 m, as was given by hand."


@pytest.mark.parametrize(
    ("metres", "message"),
    [
        ("exif", "EXIF does not tell.*`metres=0.62`"),
        ("long", "`metres` must be exif, or"),
        ("0", "`metres`"),
    ],
)
def test_metres_that_cannot_be_exported(run: Run, tmp_path: Path, metres: str, message: str) -> None:
    write_learned_lens(run.folder, run.model, run.scene)
    with pytest.raises(InputError, match=message):
        export(run.folder, tmp_path / "a.ply", ExportOptions(metres=metres))
    assert not (tmp_path / "a.ply").exists()


@pytest.mark.slow
def test_metres_of_a_scene_of_known_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled scene, whose photos are given EXIF (docs/benchmarks.md has three more)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    from check_metres import measure  # pyright: ignore[reportMissingImports]

    demo = Path(__file__).parents[1] / "data" / "demo"
    options = ["--preset", "lens", "--iterations", "1500", "--max-gaussians", "60000"]
    ratio, lens = measure(demo, tmp_path, True, options)
    assert ratio == pytest.approx(1, abs=0.05)
    by_focus, by_aperture = lens["metres"]["by_focus_distances"], lens["metres"]["by_aperture"]
    assert by_focus / by_aperture * ratio == pytest.approx(1, abs=0.02)
    assert lens["metres"]["photos"] == 20 and lens["metres"]["spread"] < 0.02
