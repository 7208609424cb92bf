"""What scripts/measure_edits.py and measure_floaters.py take for true, on scenes that one can calculate."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.edits import Chosen, Edited
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import Lens
from cocogs.srgb import to_linear, to_srgb

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import edit_pair  # pyright: ignore[reportMissingImports]
import measure_edits  # pyright: ignore[reportMissingImports]
import measure_floaters  # pyright: ignore[reportMissingImports]

WIDTH, HEIGHT, FOCAL, WALL = 48, 32, 40.0, 2.0


def camera(x: float = 0.0, focal: float = FOCAL) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = -x
    return Camera(intrinsics_matrix(focal, focal, WIDTH / 2, HEIGHT / 2), pose, WIDTH, HEIGHT)


def splats(places: list[tuple[float, float, float]], size: float = 0.01) -> Gaussians:
    points = torch.tensor(places)
    gaussians = Gaussians.from_points(points, torch.full_like(points, 0.5))
    with torch.no_grad():
        gaussians.scales.fill_(np.log(size))
    return gaussians


def write_pair(folder: Path, move: float) -> edit_pair.Pair:
    """A wall at depth 2; columns 10 to 19 of it are moved to the right, and look half as wide again there."""
    motion = torch.eye(4, dtype=torch.float64)
    motion[0, 3] = move
    frames = [
        {"name": "000.png", "test": True, "focus_distance": None, "w2c": torch.eye(4).tolist()},
        {"name": "001.png", "test": False, "focus_distance": 1.5, "w2c": torch.eye(4).tolist()},
        {"name": "002.png", "test": False, "focus_distance": 1.9, "w2c": torch.eye(4).tolist()},
    ]
    refocus = [{"name": "a.png", "view": "000.png", "focus_distance": 1.0, "aperture_scale": 2.0}]
    truth = {"aperture_diameter": 0.1, "frames": frames, "refocus": []}
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "edit.json").write_text(json.dumps({"world_from_world": motion.tolist(), "refocus": refocus}))
    for part in ("edit/before", "edit/after", "edit/depth", "depth"):
        (folder / part).mkdir(parents=True)
    steps = round(move * FOCAL / WALL)
    for frame in frames:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[8:20, 10:20] = 255
        Image.fromarray(mask).save(folder / "edit/before" / frame["name"])
        after = np.zeros_like(mask)
        after[8:20, 10 + steps : 25 + steps] = 255
        Image.fromarray(after).save(folder / "edit/after" / frame["name"])
        for part in ("depth", "edit/depth"):
            stem = Path(frame["name"]).stem
            np.save(folder / part / f"{stem}.npy", np.full((HEIGHT, WIDTH), WALL, np.float32))
    return edit_pair.open_pair(folder)


def test_a_pair_knows_what_photos_saw_of_the_object(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, move=0.3)
    assert pair.tests == ["000.png"] and pair.training == ["001.png", "002.png"]
    assert pair.refocused[0].lens == Lens(1.0, 0.2)
    cameras = {name: camera() for name in pair.truth.frames}
    seen = pair.seen(camera(), "000.png", cameras)
    expected = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    expected[8:20, 10:16] = False  # uncovered: all photos showed the object there
    expected[8:20, 26:31] = False  # parts of the object that no photo showed
    inside = pair.mask("after", "000.png")
    clear = ~(measure_edits.widened(inside, 2) & measure_edits.widened(~inside, 2))
    assert torch.equal(seen[clear], expected[clear])
    coarse = {name: camera(focal=0.6 * FOCAL) for name in cameras}  # .36 pixels for each one
    assert not pair.seen(camera(), "000.png", coarse)[clear].any()


def test_the_photo_with_the_object_in_focus_comes_first(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, move=0.3)
    assert measure_edits.best_photos(pair, 2) == ["002.png", "001.png"]
    assert measure_edits.middle(pair, "001.png") == (15.0, 14.0)


def test_a_damaged_pair_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, move=0.3)
    (tmp_path / "edit.json").write_text("{}")
    with pytest.raises(InputError, match=r"edit\.json cannot be read .*make the pair again"):
        edit_pair.open_pair(tmp_path)


def test_the_true_move_in_a_scene_with_another_origin(tmp_path: Path) -> None:
    turned = torch.tensor([[0.0, -1, 0, 0.5], [1, 0, 0, -0.2], [0, 0, 1, 0.1], [0, 0, 0, 1]]).double()
    pair = edit_pair.Pair(tmp_path, write_pair(tmp_path, 0.3).truth, turned, [])
    offset, place = torch.tensor([3.0, -1.0, 2.0]).double(), torch.tensor([3.3, -0.5, 2.2]).double()
    scene = splats([tuple((place - offset).tolist()), (0.0, 0.0, 1.0)])
    step = edit_pair.true_move(pair, Chosen(torch.tensor([True, False])), offset)
    moved = step.applied(Edited(scene, torch.zeros(2, dtype=torch.bool))).gaussians.means.detach().double()
    torch.testing.assert_close(moved[0] + offset, turned[:3, :3] @ place + turned[:3, 3], atol=1e-6, rtol=0)
    assert moved[1].tolist() == [0.0, 0.0, 1.0]


def test_the_ruler_finds_the_strength_of_a_blur() -> None:
    random = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, HEIGHT // 2, WIDTH // 2, generator=random).repeat_interleave(2, 1)
    sharp = sharp.repeat_interleave(2, 2)
    z, lens = torch.full((HEIGHT, WIDTH), WALL), Lens(1.0, 0.2)
    wider = Lens(1.0, 0.2 * 1.17).of(camera())
    blurred = to_srgb(photograph_layers(to_linear(sharp), z, wider))
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[8:24, 8:40] = True
    found = measure_edits.strength(sharp, blurred, z, lens, camera(), inside)
    assert found == pytest.approx(1.17, abs=0.005)


def test_errors_are_those_of_the_pixels_meant() -> None:
    errors, where = measure_edits.Errors(), torch.zeros(4, 4, dtype=torch.bool)
    where[0] = True
    truth = torch.zeros(3, 4, 4)
    picture = truth.clone()
    picture[:, 0], picture[:, 1] = 0.1, 0.9
    errors.add("row", picture, truth, where)
    errors.add("nothing", picture, truth, torch.zeros_like(where))
    assert errors.psnr() == {"row": pytest.approx(20.0, abs=1e-4)}


def test_a_mask_is_widened_by_pixels() -> None:
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[4, 4] = True
    assert measure_edits.widened(mask, 2).sum() == 25
    assert torch.equal(measure_edits.widened(mask, 0), mask)


def test_what_floats_by_the_truth() -> None:
    looks = [(camera(x), torch.full((HEIGHT, WIDTH), WALL)) for x in (-0.2, 0.0, 0.2)]
    places = [(0.0, 0.0, 1.0), (0.0, 0.1, 1.95), (0.1, 0.0, 2.0), (0.0, 0.0, 2.5), (9.0, 0.0, 1.0)]
    assert measure_floaters.floating(splats(places), looks).tolist() == [True, False, False, False, False]
    assert not measure_floaters.floating(splats(places, size=0.6), looks).any()  # larger than its distance
    aside = splats([(0.62, 0.0, 1.0)])  # the middle camera does not show it, nor does the left one
    assert not measure_floaters.floating(aside, looks).any()
    assert measure_floaters.floating(aside, looks, fewest=1).all()


def test_planted_splats_float() -> None:
    looks = [(camera(x), torch.full((HEIGHT, WIDTH), WALL)) for x in (-0.2, 0.0, 0.2)]
    scene = splats([(0.1 * x, 0.0, WALL) for x in range(8)])
    more = measure_floaters.planted(scene, looks, 50, seed=0)
    assert len(more) == 50 and measure_floaters.floating(more, looks).all()
    depth = more.means.detach()[:, 2]
    assert 0.2 * WALL <= depth.min() and depth.max() <= 0.8 * WALL
