"""An object of one photo moved: `cocogs.photo.edit`, and the files that it makes."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.photos import write_png
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.photo.apart import grown
from cocogs.photo.depth import METRES, SCENE_UNITS, PictureDepth
from cocogs.photo.edit import EditedPhoto, edit, middle_of
from cocogs.photo.edit_files import edit_photo
from cocogs.photo.edit_options import PhotoEditOptions
from cocogs.photo.lift import Motion
from cocogs.photo.membrane import fill_smoothly
from cocogs.photo.refocus import DepthPhoto
from cocogs.srgb import to_srgb

HEIGHT, WIDTH, FOCAL = 96, 144, 150.0
FAR, START = 5.0, (-0.35, 0.0, 2.0)  # metres: the wall; where the object is
HALF = 0.28  # of the object
MOVE = (0.9, 0.05, 1.0)


def pattern(x: Tensor, y: Tensor, fine: float) -> Tensor:
    """Light of a surface, 3 channels, at metres on it."""
    waves = [(x * a + y * b + c) * fine for a, b, c in ((9, 2, 0), (-3, 8, 1), (5, 6, 2))]
    return torch.stack([0.45 + 0.3 * torch.sin(wave) for wave in waves])


def sharp(place: tuple[float, float, float] | None, post: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """A scene through a pinhole, 3x3 rays per pixel: light, depth, and where the object (a square) is."""
    fine = 3
    y, x = torch.meshgrid(torch.arange(fine * HEIGHT), torch.arange(fine * WIDTH), indexing="ij")
    x, y = ((at + 0.5) / fine for at in (x, y))
    across, down = (x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL
    light, depth = pattern(across * FAR, down * FAR, 0.7), torch.full_like(x, FAR)
    there = torch.zeros_like(x, dtype=torch.bool)
    if place is not None:
        u, v = across * place[2] - place[0], down * place[2] - place[1]
        there = (u.abs() < HALF) & (v.abs() < HALF)
        light = torch.where(there, pattern(u + 3, v, 3.0).flip(0), light)
        depth = torch.where(there, place[2], depth)
    if post:
        front = (x - 0.62 * WIDTH).abs() < 5
        light, depth, there = torch.where(front, 0.2, light), torch.where(front, 1.5, depth), there & ~front
    light = torch.nn.functional.avg_pool2d(light, fine)
    return light, depth[1::fine, 1::fine].contiguous(), there[1::fine, 1::fine].contiguous()


def lens(focus: float = 2.0, aperture: float = 0.16) -> PhotoLens:
    return PhotoLens(torch.tensor(focus), torch.tensor(aperture * FOCAL))


def photograph(place: tuple[float, float, float] | None, taken: PhotoLens, post: bool = False) -> Tensor:
    light, depth, _ = sharp(place, post)
    return photograph_layers(light, depth, taken)


def moved_to() -> tuple[float, float, float]:
    x, y, z = (a + b for a, b in zip(START, MOVE, strict=True))
    return x, y, z


def motion(move: tuple[float, float, float] = MOVE) -> Motion:
    pivot = torch.tensor(START).double()
    return Motion(torch.eye(3).double(), 1.0, torch.tensor(move).double(), pivot)


def photo(taken: PhotoLens | None, post: bool = False) -> tuple[DepthPhoto, Tensor]:
    light, depth, there = sharp(START, post)
    if taken is not None:
        light = photograph_layers(light, depth, taken)
    return DepthPhoto(light, depth, FOCAL, taken), there


def decibels(a: Tensor, b: Tensor, where: Tensor) -> float:
    return -10 * math.log10(float((to_srgb(a) - to_srgb(b))[:, where].square().mean()) + 1e-12)


def test_blur_follows_the_new_distance() -> None:
    taken = lens()
    before, mask = photo(taken)
    edited = edit(before, mask, motion())
    truth, inside = photograph(moved_to(), taken), sharp(moved_to())[2]
    assert edited.coc is not None and edited.distance is not None
    assert edited.distance == pytest.approx((2.0, 3.0), rel=0.01)
    assert edited.coc[1] == pytest.approx(24 * (1 / 3 - 1 / 2), rel=0.05), "K (1/z - 1/f), px"
    near = grown(inside, 6)
    assert decibels(edited.light, truth, inside) > 28
    assert decibels(edited.light, truth, near) > 30
    naive = edit(replace(before, taken=None), mask, motion())
    assert decibels(edited.light, truth, near) > decibels(naive.light, truth, near) + 4
    elsewhere = ~grown(mask, 8) & ~grown(inside, 8)
    assert decibels(edited.light, before.light, elsewhere) > 100, "untouched"
    assert float(edited.depth[inside].median()) == pytest.approx(3.0, rel=0.01)
    assert float(edited.depth[mask & ~inside].median()) == pytest.approx(FAR, rel=0.01)


def test_blur_that_the_new_place_has_not_is_taken_away_or_told() -> None:
    taken = lens(focus=3.0)
    before, mask = photo(taken)
    refused = edit(before, mask, motion())
    assert refused.coc is not None and abs(refused.coc[1]) < 0.1 < 3.9 < refused.coc[0]
    inside = sharp(moved_to())[2]
    assert float(refused.refused[inside].float().mean()) > 0.95 and not bool(refused.deblurred.any())

    def deblur(light: Tensor, coc: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        return sharp(START)[0], torch.ones_like(coc)

    perfect = edit(before, mask, motion(), deblur=deblur)
    truth = photograph(moved_to(), taken)
    assert float(perfect.deblurred[inside].float().mean()) > 0.95 and not bool(perfect.refused.any())
    inner = ~grown(~inside, 4)
    assert decibels(perfect.light, truth, inner) > decibels(refused.light, truth, inner) + 10


def test_what_does_not_move_stays() -> None:
    before, mask = photo(lens(focus=3.0))
    edited = edit(before, mask, motion((0, 0, 0)))
    certain = ~grown(mask, 8) | ~grown(~mask, 8)
    assert decibels(edited.light, before.light, certain) > 80
    assert decibels(edited.light, before.light, torch.ones_like(mask)) > 38


def test_nearer_things_cover_it() -> None:
    taken = lens(focus=1.5)
    before, mask = photo(taken, post=True)
    edited = edit(before, mask, motion())
    truth, inside = photograph(moved_to(), taken, post=True), sharp(moved_to(), post=True)[2]
    post = before.depth < 1.6
    assert decibels(edited.light, before.light, ~grown(~post, 2)) > 60
    assert decibels(edited.light, truth, grown(inside, 3)) > 28
    assert 0.1 < edited.hidden < 0.5


def test_a_copy_leaves_the_photo_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    before, mask = photo(lens())
    edited = edit(before, mask, motion(), duplicate=True)
    inside = sharp(moved_to())[2]
    assert not bool(edited.invented.any())
    assert decibels(edited.light, before.light, ~grown(inside, 8)) > 100
    assert decibels(edited.light, photograph(moved_to(), lens()), inside) > 28


def test_what_is_taken_away_is_filled_and_marked() -> None:
    pytest.importorskip("cv2")
    before, mask = photo(lens())
    edited = edit(before, mask, None)
    assert bool(edited.invented[mask].all()) and not bool(edited.invented[~grown(mask, 8)].any())
    assert torch.equal(edited.light[:, ~edited.invented], before.light[:, ~edited.invented])
    wall = sharp(None)[0].mean((1, 2))
    filled = edited.light[:, mask].mean(1)
    assert float((filled - wall).abs().max()) < 0.1, "of the wall's colour"
    assert float(edited.depth[mask].sub(FAR).abs().max()) < 1e-3
    sky = replace(before, depth=torch.where(mask, before.depth, torch.inf))
    assert bool(edit(sky, mask, None).depth.isinf().all())
    assert bool(edit(sky, mask, motion()).depth[:, :40].isinf().all())
    with pytest.raises(InputError, match="infinite"):
        middle_of(replace(before, depth=torch.full_like(before.depth, torch.inf)), mask)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    before, mask = photo(None)
    with pytest.raises(InputError, match=r"cocogs\[stack\]"):
        edit(before, mask, None)


def test_what_leaves_the_picture_is_dropped() -> None:
    before, mask = photo(None)
    edited = edit(before, mask, motion((-0.65, 0, 0)))
    assert 0.3 < edited.outside < 0.7
    with pytest.raises(InputError, match="Nothing of the object"):
        edit(before, mask, motion((-9, 0, 0)))
    with pytest.raises(InputError, match="Nothing of the object"):
        edit(before, mask, motion((0, 0, -4)))


# ------------------------------------------------------------------------------------------ depth behind


def test_a_plane_behind_comes_out_exactly() -> None:
    y, x = np.mgrid[:60, :80]
    nearness = 0.2 + 0.002 * x - 0.001 * y
    hole = (x - 30) ** 2 + (y - 30) ** 2 < 300
    assert np.abs(fill_smoothly(np.where(hole, 9, nearness), ~hole, hole) - nearness).max() < 1e-9
    large = np.kron(hole, np.ones((5, 5), bool))  # more than is solved at once
    y, x = np.mgrid[:300, :400]
    nearness = 0.2 + 0.0004 * x - 0.0002 * y
    filled = fill_smoothly(np.where(large, 9, nearness), ~large, large)
    assert large.sum() > 20_000 and np.abs(filled - nearness).max() < 5e-4


def test_what_nothing_known_touches_takes_the_mean() -> None:
    values, known, wanted = np.zeros((5, 9)), np.zeros((5, 9), bool), np.zeros((5, 9), bool)
    values[:, 0], known[:, 0], wanted[:, 1], wanted[:, 6:] = 3.0, True, True, True
    filled = fill_smoothly(values, known, wanted)
    assert np.allclose(filled[:, 1], 3) and (filled[:, 6:] == 3).all() and (filled[:, 2:6] == 0).all()


# ------------------------------------------------------------------------------------------------- words


def options(tmp_path: Path, **given: object) -> PhotoEditOptions:
    return PhotoEditOptions(tmp_path / "out.png", tmp_path / "mask.png", **given)  # pyright: ignore


def picture_depth(unit: str | None, metres: float | None) -> PictureDepth:
    return PictureDepth(torch.ones(2, 2), unit, "a file", metres_per_unit=metres)


@pytest.mark.parametrize(
    ("text", "unit", "metres", "wanted"),
    [
        ("0.1,0,-0.5", METRES, 1.0, (0.1, 0, -0.5)),
        ("10%, 0, 50%", None, None, (0.4, 0, 2.0)),
        ("20cm,0,5mm", METRES, 1.0, (0.2, 0.0, 0.005)),
        ("0.1m,-2,25%", SCENE_UNITS, 0.5, (0.2, -2, 1)),
        ("0.1,0,0", None, None, None),
        ("1m,0,0", SCENE_UNITS, None, None),
        ("1,2", METRES, 1.0, None),
        ("nan,0,0", METRES, 1.0, None),
    ],
)
def test_a_move_is_told_in_three_ways(
    tmp_path: Path, text: str, unit: str | None, metres: float | None, wanted: tuple[float, ...] | None
) -> None:
    middle = torch.tensor([0.0, 0.0, 4.0]).double()
    if wanted is None:
        with pytest.raises(InputError, match="`move`"):
            options(tmp_path, move=text).motion(middle, picture_depth(unit, metres))
        return
    moved = options(tmp_path, move=text).motion(middle, picture_depth(unit, metres))
    assert moved is not None and moved.move.tolist() == pytest.approx(wanted)


def test_turns_are_right_handed(tmp_path: Path) -> None:
    about_y = options(tmp_path, rotate="y:90").rotation()
    assert (about_y @ torch.tensor([1.0, 0, 0]).double()).tolist() == pytest.approx([0, 0, -1])
    about_z = options(tmp_path, rotate="z:90").rotation()
    assert (about_z @ torch.tensor([1.0, 0, 0]).double()).tolist() == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "what is to happen"),
        ({"delete": True, "move": "1,0,0"}, "leave move out"),
        ({"delete": True, "duplicate": True}, "leave duplicate out"),
        ({"rotate": "w:30"}, "`rotate`"),
        ({"rotate": "y:fast"}, "`rotate`"),
        ({"scale": 0.0}, "`scale`"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        options(tmp_path, **given).check(tmp_path / "a.png")


# ------------------------------------------------------------------------------------------------- files


def write_photo(folder: Path, taken: PhotoLens | None = None) -> Path:
    """a.jpg with its depth and the mask of the object."""
    made, mask = photo(taken)
    codes = (to_srgb(made.light).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(codes).save(folder / "a.jpg", quality=98)
    np.save(folder / "a_depth.npy", made.depth.numpy())
    write_png(folder / "mask.png", mask.numpy().astype(np.uint8) * 255)
    return folder / "a.jpg"


def test_a_photo_is_edited_from_file_to_file(tmp_path: Path) -> None:
    path, said = write_photo(tmp_path), []
    wanted = options(tmp_path, move="45%,0,50%", source="1.4@2m", duplicate=False)
    files = edit_photo(path, wanted, said.append)
    assert [file.name for file in files[:2]] == ["out.png", "out_invented.png"]
    assert files[-1].name == "out.edit.json"
    facts = json.loads(files[-1].read_text())
    assert facts["generative"] is False and facts["measured"]["depth"]["unit"] == "m"
    assert facts["measured"]["distance"] == pytest.approx({"before": 2.0, "after": 3.0}, rel=0.01)
    K = facts["measured"]["taken"]["K"]
    assert facts["measured"]["coc_px"]["after"] == pytest.approx(K * (1 / 3 - 1 / 2), rel=0.05)
    with Image.open(tmp_path / "out_invented.png") as image:
        share = float((np.asarray(image) > 0).mean())
    assert facts["invented"]["share"] == pytest.approx(share, abs=1e-6) and share > 0.01
    assert any("out_invented.png" in text for text in said)
    assert any("Shadows" in text for text in facts["assumed"])
    assert edit_photo(path, wanted, said.append) == files, "again, over its own files"
    deleted = edit_photo(path, options(tmp_path, delete=True), said.append)
    assert json.loads(deleted[-1].read_text())["edit"] == {"delete": True}


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = write_photo(tmp_path)
    other = options(tmp_path, delete=True)
    write_png(other.mask, np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match=r"mask\.png has 10x10 px and the photo 144x96"):
        edit_photo(path, other, lambda text: None)
    write_png(other.mask, np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(InputError, match="black everywhere"):
        edit_photo(path, other, lambda text: None)
    with pytest.raises(InputError, match="is read, and would be overwritten"):
        edit_photo(path, replace(other, out=other.mask), lambda text: None)
    (tmp_path / "out_invented.png").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"out_invented\.png is there already"):
        edit_photo(path, other, lambda text: None)


def test_edited_knows_no_lens_where_there_is_none() -> None:
    before, mask = photo(None)
    edited = edit(before, mask, motion())
    assert isinstance(edited, EditedPhoto) and edited.coc is None
    truth, _, inside = sharp(moved_to())
    assert decibels(edited.light, truth, inside) > 28
    assert middle_of(before, mask).tolist() == pytest.approx(START, abs=0.02)
