"""What sources say of a lens: agreement, one lens for many photos, intrinsics.json and cameras.txt."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cocogs.calibrate.agreement import shared_lens, surest
from cocogs.errors import InputError
from cocogs.io.colmap_files import read_cameras
from cocogs.io.colmap_write import write_cameras
from cocogs.io.intrinsics_file import Answer, read_intrinsics, write_intrinsics
from cocogs.io.lens_estimate import Abstention, LensEstimate


def estimate(
    focal: float = 1000.0, off: float = 0.01, source: str = "lines", center: float = math.inf
) -> LensEstimate:
    """Of a photo of 1200x800 px; `off` is the relative deviation, `center` that of the principal point."""
    return LensEstimate(
        source,
        (1200, 800),
        (focal, focal),
        (off * focal, off * focal),
        (600.0, 400.0),
        (center, center),
        "26 mm",
    )


def test_fields_of_view_are_angles_between_the_borders() -> None:
    lens = replace(estimate(), focal=(600.0, 400.0))
    assert lens.fields_of_view == pytest.approx((90.0, 90.0, 2 * math.degrees(math.atan(math.sqrt(2)))))
    off_center = replace(estimate(1200.0), center=(0.0, 400.0))
    assert off_center.fields_of_view[0] == pytest.approx(45.0)


def test_a_resized_photo_has_a_resized_lens() -> None:
    half = replace(estimate(center=3.0), k1=-0.1, k1_deviation=0.02).resized(600, 200)
    assert half.focal == (500.0, 250.0)
    assert half.center == (300.0, 100.0)
    assert half.focal_deviation == (5.0, 2.5)
    assert half.center_deviation == (1.5, 0.75)
    assert half.k1 == -0.1


@pytest.mark.parametrize(
    ("changes", "model", "params"),
    [
        ({}, "SIMPLE_PINHOLE", (1000.0, 600.0, 400.0)),
        ({"k1": 0.1}, "SIMPLE_RADIAL", (1000.0, 600.0, 400.0, 0.1)),
        ({"focal": (1000.0, 1100.0)}, "PINHOLE", (1000.0, 1100.0, 600.0, 400.0)),
        (
            {"focal": (1000.0, 1100.0), "k1": 0.1},
            "OPENCV",
            (1000.0, 1100.0, 600.0, 400.0, 0.1, 0.0, 0.0, 0.0),
        ),
    ],
)
def test_the_simplest_camera_model_is_taken(changes: dict, model: str, params: tuple[float, ...]) -> None:
    lens = replace(estimate(), **changes).intrinsics
    assert (lens.model, lens.params) == (model, params)


def test_the_surest_source_counts_unaltered() -> None:
    sure, unsure = estimate(1000, 0.01), estimate(1020, 0.03, "exif")
    assert surest([unsure, sure], "a.jpg") == (sure, [unsure])


def test_sources_that_contradict_each_other_are_both_named() -> None:
    lines, exif = estimate(1000, 0.01), estimate(1200, 0.02, "exif")
    with pytest.raises(InputError, match=r"a\.jpg: lines says 1000 px ±10 .* but exif says 1200 px ±24"):
        surest([exif, lines], "a.jpg")


def test_three_standard_deviations_are_agreement() -> None:
    one, apart = estimate(1000, 0.03), 3 * math.hypot(0.03, 0.04)
    assert one.sigmas_from(estimate(1000 * math.exp(0.99 * apart), 0.04)) < 3
    assert one.sigmas_from(estimate(1000 * math.exp(1.01 * apart), 0.04)) > 3


def test_only_what_both_know_is_compared() -> None:
    off_center = replace(estimate(center=5.0), center=(800.0, 400.0))
    assert estimate().sigmas_from(off_center) == 0  # the other only assumes the middle
    assert estimate(center=5.0).sigmas_from(off_center) > 20
    bent = replace(estimate(), k1=-0.2, k1_deviation=0.01)
    assert estimate().sigmas_from(bent) == 0
    assert replace(bent, k1=0.0).sigmas_from(bent) == pytest.approx(0.2 / math.hypot(0.01, 0.01))


def test_many_photos_tell_more_than_one_and_outliers_nothing() -> None:
    rng = np.random.default_rng(0)
    found = {f"{i}.jpg": estimate(1000 * math.exp(rng.normal(0, 0.03)), 0.03) for i in range(20)}
    found |= {f"wrong{i}.jpg": estimate(1900.0, 0.02) for i in range(4)}
    shared = shared_lens(found)
    assert shared.focal[0] == pytest.approx(1000, rel=0.03)
    assert 0.004 < shared.relative_deviation < 0.012
    assert abs(math.log(shared.focal[0] / 1000)) < 3 * shared.relative_deviation


def test_photos_that_differ_more_than_they_say_make_the_lens_less_sure() -> None:
    rng = np.random.default_rng(0)
    found = {f"{i}.jpg": estimate(1000 * math.exp(rng.normal(0, 0.1)), 0.01) for i in range(25)}
    assert shared_lens(found).relative_deviation > 0.012


def test_what_errs_alike_in_all_photos_does_not_become_surer() -> None:
    found = {f"{i}.jpg": estimate(1000, 0.03, "exif") for i in range(20)}
    assert shared_lens(found).relative_deviation == pytest.approx(0.03)


def test_a_principal_point_is_shared_where_photos_tell_it() -> None:
    found = {f"{i}.jpg": replace(estimate(center=8.0), center=(700.0 + i, 380.0)) for i in range(9)}
    found["one.jpg"] = estimate()
    shared = shared_lens(found)
    assert shared.center == pytest.approx((704, 380), abs=0.5)
    assert shared.center_deviation[0] == pytest.approx(8 / 3, rel=0.05)


def test_photos_of_several_lenses_are_refused() -> None:
    with pytest.raises(InputError, match=r"By exif the photos are not of one lens: b\.jpg"):
        shared_lens({"a.jpg": estimate(1000, 0.01, "exif"), "b.jpg": estimate(2000, 0.02, "exif")})
    with pytest.raises(InputError, match=r"b\.jpg is of another size than 1200x800"):
        shared_lens({"a.jpg": estimate(), "b.jpg": replace(estimate(off=0.02), size=(800, 1200))})


def test_intrinsics_come_back_from_their_file(tmp_path: Path) -> None:
    lens = replace(estimate(center=4.0), k1=-0.1, k1_deviation=0.02, notes=("A note.",), generative=True)
    other = estimate(source="exif")
    silent = (Abstention("lines", "Too few lines."),)
    path = tmp_path / "intrinsics.json"
    answers = {"left/ä.jpg": Answer(lens, (other,), silent), "b.jpg": Answer(other)}
    write_intrinsics(answers, {"c.jpg": silent}, path, shared=False)
    assert read_intrinsics(path) == {"left/ä.jpg": lens, "b.jpg": other}
    document = json.loads(path.read_text())
    entry = document["photos"]["left/ä.jpg"]
    assert entry["field_of_view_degrees"]["horizontal"] == pytest.approx(61.93, abs=0.01)
    assert entry["others"][0]["source"] == "exif"
    assert entry["others"][0]["deviation"]["cx"] is None
    assert (
        entry["silent"] == document["unknown"]["c.jpg"] == [{"source": "lines", "reason": "Too few lines."}]
    )


def test_the_deviation_of_the_field_of_view_is_its_derivative(tmp_path: Path) -> None:
    path = tmp_path / "intrinsics.json"
    write_intrinsics({"a.jpg": Answer(estimate(off=0.01))}, {}, path, shared=False)
    told = json.loads(path.read_text())["photos"]["a.jpg"]["field_of_view_degrees"]
    more = estimate(1000 * math.exp(0.01)).fields_of_view[0]
    assert told["horizontal_deviation"] == pytest.approx(told["horizontal"] - more, rel=0.02)


def written(path: Path, **changes: object) -> Path:
    """intrinsics.json of one photo with some fields changed; None takes a field away."""
    entry: dict = {"width": 1200, "height": 800, "fx": 1000, "fy": 1000, "cx": 600, "cy": 400} | changes
    entry = {name: value for name, value in entry.items() if value is not None}
    path.write_text(json.dumps({"schema": "cocogs-intrinsics/1", "photos": {"a.jpg": entry}}))
    return path


def test_a_file_by_hand_counts_as_exact(tmp_path: Path) -> None:
    lens = read_intrinsics(written(tmp_path / "intrinsics.json"))["a.jpg"]
    assert lens.source == "given"
    assert lens.relative_deviation == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fx": None}, '"fx" is missing'),
        ({"fx": -5}, "impossible"),
        ({"fx": 1e-9}, "impossible lens"),
        ({"width": 0.5}, "impossible size"),
        ({"width": 10**9}, "impossible size"),
        ({"deviation": 3}, '"deviation" is not an object'),
        ({"deviation": {"fx": -1}}, "negative"),
        ({"k1": "much"}, '"k1"'),
    ],
)
def test_impossible_files_are_named(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=rf"intrinsics\.json, a\.jpg.*{says}"):
        read_intrinsics(written(tmp_path / "intrinsics.json", **changes))


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "cocogs-intrinsics/1"}', "no json"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "intrinsics.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"intrinsics\.json"):
        read_intrinsics(path)


def test_colmap_reads_the_cameras(tmp_path: Path) -> None:
    path = tmp_path / "cameras.txt"
    lenses = {"a.jpg": estimate(1000 / 3).intrinsics, "b.jpg": replace(estimate(), k1=0.1).intrinsics}
    write_cameras(path, lenses | {"c\n1.jpg": lenses["a.jpg"]})
    cameras = read_cameras(path)
    assert [cameras[1].model, cameras[2].model] == ["SIMPLE_PINHOLE", "SIMPLE_RADIAL"]
    assert cameras[1].params == pytest.approx(lenses["a.jpg"].params)
    write_cameras(path, lenses)  # its own file again
    path.write_text("# Camera list of COLMAP\n")
    with pytest.raises(InputError, match="another program"):
        write_cameras(path, lenses)
