"""The plans of scripts/make_truth_scene.py, which need no Blender: poses, focus, lens, film, resuming."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import make_truth_scene as script  # pyright: ignore[reportMissingImports]
import truth_edits  # pyright: ignore[reportMissingImports]
from truth_photos import develop  # pyright: ignore[reportMissingImports]
from truth_scenes import SCENES  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize("scene", SCENES)
def test_plan_is_a_lens_of_the_wanted_strength(scene: str) -> None:
    settings = script.Settings(scene, coc=0.03)
    truth = script.truth(settings)
    assert truth == script.truth(settings)
    near, far = SCENES[scene].near, SCENES[scene].far
    assert truth["K"] * (1 / near - 1 / far) == pytest.approx(0.03 * 300)
    assert truth["K"] == pytest.approx(truth["aperture_diameter"] * truth["fx"])
    assert [f["test"] for f in truth["frames"]] == [i % 6 == 0 for i in range(24)]
    distances = [f["focus_distance"] for f in truth["frames"] if not f["test"]]
    assert len(set(distances)) == 20 and min(distances) >= near - 1e-9 and max(distances) <= far + 1e-9
    for frame in truth["frames"]:
        pose = np.array(frame["w2c"])
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    views = {f["name"] for f in truth["frames"] if f["test"]}
    assert len(truth["refocus"]) == 3 and all(r["view"] in views for r in truth["refocus"])


def test_focus_distributions() -> None:
    def distances(focus: str) -> list[float]:
        frames = script.plan_frames(script.Settings("tabletop", focus=focus))
        return [f.focus_distance for f in frames if f.focus_distance is not None]

    assert len({round(z, 9) for z in distances("alike")}) == 1
    two = distances("two-plane")
    assert sorted({two.count(z) for z in two}) == [10]


def test_seed_changes_poses_and_jitter_the_photos_only() -> None:
    one, other = script.Settings("tabletop", exposure_jitter=0.3), script.Settings("tabletop", seed=1)
    frames = script.plan_frames(one)
    assert all(f.stops == 0 for f in frames if f.focus_distance is None)
    assert 0.1 < np.std([f.stops for f in frames if f.focus_distance is not None]) < 0.6
    assert not np.allclose(frames[0].cam_from_world, script.plan_frames(other)[0].cam_from_world)


def test_film_is_srgb_and_noise_is_that_of_light() -> None:
    light = np.repeat(np.array([0.0, 0.25, 1.0, 4.0]), 3 * 4000).reshape(4, 4000, 3)
    clean = develop(light, script.Settings("tabletop"), 0)
    assert [row[0, 0] for row in clean] == [0, 137, 255, 255]
    settings = script.Settings("tabletop", noise=0.02)
    noisy = develop(light, settings, 0)
    np.testing.assert_array_equal(noisy, develop(light, settings, 0))
    assert (noisy != develop(light, settings, 1)).any()
    back = ((noisy[1] / 255 + 0.055) / 1.055) ** 2.4
    assert back.std() == pytest.approx(0.02 * 0.5, rel=0.05) and noisy[0].max() == 0


def test_only_what_is_missing_is_rendered(tmp_path: Path) -> None:
    settings = script.Settings("glass", views=8, refocused=1)
    parts = ["images", "sharp", "refocus"]
    shots = script.plan_shots(settings, tmp_path, parts)
    assert len(shots) == 8 + 6 + 1
    for shot in shots[:3]:
        script.write_whole(shot.path, lambda file: file.write(b"picture"))
    left = script.plan_shots(settings, tmp_path, parts)
    done = [s.path for s in shots[:3] if s.depth_path is None]
    assert [s.path for s in left] == [s.path for s in shots if s.path not in done]
    assert not list(tmp_path.rglob(".*"))


def test_another_scene_is_not_mixed_in(tmp_path: Path) -> None:
    settings = script.Settings("glass")
    script.write_facts(settings, tmp_path)
    script.write_facts(settings, tmp_path)
    assert (tmp_path / "hold=6").exists()
    with pytest.raises(SystemExit, match="holds a scene made with other settings: give another --out"):
        script.write_facts(replace(settings, noise=0.1), tmp_path)


def test_a_scene_without_edit_says_nothing_of_it(tmp_path: Path) -> None:
    plain = script.Settings("tabletop")
    assert "edit" not in script.truth(plain)["settings"]
    assert script.truth(replace(plain, edit=True))["settings"]["edit"] is True
    script.write_facts(plain, tmp_path)
    assert not (tmp_path / "edit.json").exists()
    with pytest.raises(SystemExit, match="other settings"):
        script.write_facts(replace(plain, edit=True), tmp_path)


@pytest.mark.parametrize("scene", truth_edits.EDITS)
def test_an_edit_moves_the_object_over_the_ground(scene: str) -> None:
    edit = truth_edits.EDITS[scene]
    transform = edit.world_from_world()
    np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-12)
    moved = transform @ [*edit.pivot, 0.3, 1.0]
    np.testing.assert_allclose(moved[:3] - [*edit.pivot, 0.3], edit.move, atol=1e-12)
    beside = transform[:3, :3] @ [1.0, 0.0, 0.0]
    assert np.degrees(np.arctan2(beside[1], beside[0])) == pytest.approx(edit.turn)


@pytest.mark.parametrize("scene", truth_edits.EDITS)
def test_an_edit_is_seen_sharp_and_through_the_lens(scene: str, tmp_path: Path) -> None:
    settings = script.Settings(scene, edit=True)
    plan, shots = truth_edits.plan_edit(settings), truth_edits.plan_edited_shots(settings, tmp_path)
    assert len({shot.path for shot in shots}) == len(shots) == 4 * 3 + 8 + 24
    photos = script.plan_shots(settings, tmp_path, ["images", "sharp", "refocus"])
    assert {shot.state for shot in photos} == {truth_edits.PHOTOGRAPHED}
    assert {s.state for s in shots if s.path.parent.name != "before"} == {
        truth_edits.MOVED,
        truth_edits.LAMPS_STAY,
    }
    assert len(plan["refocus"]) == 8 and {entry["view"] for entry in plan["refocus"]} == set(plan["views"])
    frames = {frame.name: frame for frame in script.plan_frames(settings)}
    edit = truth_edits.EDITS[scene]
    place = np.add([*edit.pivot, 0, 1], [*edit.move, 0])
    for on_object, elsewhere in zip(plan["refocus"][::2], plan["refocus"][1::2], strict=True):
        depth = (frames[on_object["view"]].cam_from_world @ place)[2]
        assert on_object["focus_distance"] == pytest.approx(depth, abs=5e-4)
        blur = script.truth(settings)["K"] * abs(1 / elsewhere["focus_distance"] - 1 / depth)
        assert 1.5 < blur < 9
    assert [shot.path for shot in script.plan_shots(settings, tmp_path, ["edit"])] == [s.path for s in shots]


def test_photos_of_an_edit_are_spread_wider_than_its_test_views() -> None:
    plain = script.Settings("tabletop")
    for frame, wide in zip(*map(script.plan_frames, (plain, replace(plain, edit=True))), strict=True):
        assert frame.focus_distance == wide.focus_distance
        sideways, wider = (np.linalg.inv(f.cam_from_world)[0, 3] for f in (frame, wide))
        assert (wider == sideways) if frame.focus_distance is None else (1 < wider / sideways < 2.5)


def test_a_damaged_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(SystemExit, match=r"truth\.json cannot be read .*: delete it or give another"):
        script.write_facts(script.Settings("glass"), tmp_path)


def test_without_blender_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["make_truth_scene.py", "glass", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="Blender is missing"):
        script.main()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"test_every": 1}, "--views must exceed"),
        ({"views": 6}, "--views must exceed"),
        ({"width": 8}, "--size must be"),
        ({"samples": 0}, "--samples at least 1"),
        ({"coc": 0.0}, "--coc 0.0 is no lens"),
        ({"blades": 2}, "--blades must be 0"),
        ({"edit": True, "seed": 1}, "--edit is known for tabletop and corridor with --seed 0"),
        ({"edit": True, "scene": "glass"}, "--edit is known for"),
        ({"noise": -0.1}, "--noise in"),
        ({"exposure_jitter": float("nan")}, "--exposure-jitter must lie"),
    ],
)
def test_impossible_settings(wrong: dict, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        script.check(replace(script.Settings("tabletop"), **wrong))
