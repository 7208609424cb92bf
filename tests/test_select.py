"""What expressions select, in a scene whose splats' owners are known."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from table_scene import (
    BALL,
    BALL_PLACE,
    BOX,
    BOX_PLACE,
    FLOATER,
    TABLE,
    table_cameras,
    table_scene,
    write_table,
)

from cocogs.edit.ground import find_ground
from cocogs.edit.select import select
from cocogs.edit.subject import Subject, open_subject
from cocogs.errors import InputError
from cocogs.render.shares import light_shares, shown_share


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return open_subject(write_table(tmp_path_factory.mktemp("table")))


@pytest.fixture(scope="module")
def owner() -> torch.Tensor:
    return table_scene()[1]


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


def seen_iou(subject: Subject, chosen: torch.Tensor, true: torch.Tensor) -> float:
    """The smallest over the photos, of what each shows."""
    pairs = ([shown_share(subject.gaussians, c, m) > 0.5 for m in (chosen, true)] for c in subject.cameras)
    return min(iou(*pair) for pair in pairs)


def write_mask(subject: Subject, owner: torch.Tensor, thing: int, photo: str, folder: Path) -> Path:
    share = shown_share(subject.gaussians, subject.look(photo).camera, owner == thing)
    path = folder / f"{thing}.png"
    Image.fromarray(((share > 0.5) * 255).byte().numpy()).save(path)
    return path


def place_in(subject: Subject, photo: str, point: tuple[float, float, float]) -> str:
    pixel, _ = subject.look(photo).camera.project(torch.tensor(point).double())
    return f"{float(pixel[0]) - 0.5:.1f},{float(pixel[1]) - 0.5:.1f}@{photo}"


@pytest.mark.parametrize("thing", [BALL, BOX])
def test_one_mask_selects_the_whole_object(
    subject: Subject, owner: torch.Tensor, thing: int, tmp_path: Path
) -> None:
    path = write_mask(subject, owner, thing, "photo_2.png", tmp_path)
    chosen = select(subject, f"mask:{path}@photo_2.png").mask
    assert seen_iou(subject, chosen, owner == thing) > 0.9
    assert iou(chosen, owner == thing) > 0.9  # its back and its bottom, too


def test_several_masks_vote_together(subject: Subject, owner: torch.Tensor, tmp_path: Path) -> None:
    one, two = (write_mask(subject, owner, BALL, f"photo_{i}.png", tmp_path / str(i)) for i in (1, 6) if
                (tmp_path / str(i)).mkdir() is None)  # fmt: skip
    chosen = select(subject, f"mask:{one}@photo_1,{two}@photo_6").mask
    assert seen_iou(subject, chosen, owner == BALL) > 0.9


@pytest.mark.parametrize(("thing", "place"), [(BALL, BALL_PLACE), (BOX, BOX_PLACE)])
def test_a_click_selects_the_object(subject: Subject, owner: torch.Tensor, thing: int, place) -> None:
    chosen = select(subject, f"click:{place_in(subject, 'photo_3.png', place)}").mask
    assert seen_iou(subject, chosen, owner == thing) > 0.85


def test_a_click_on_the_table(subject: Subject, owner: torch.Tensor) -> None:
    chosen = select(subject, f"click:{place_in(subject, 'photo_3.png', (-0.9, 0.0, -0.6))}").mask
    assert (chosen & (owner == TABLE)).sum() > 0.5 * (owner == TABLE).sum()
    assert (chosen & (owner == BALL)).sum() < 0.1 * (owner == BALL).sum()


def test_floaters(subject: Subject, owner: torch.Tensor) -> None:
    chosen = select(subject, "floaters").mask
    assert (chosen & (owner == FLOATER)).sum() >= 0.9 * (owner == FLOATER).sum()
    assert (chosen & (owner != FLOATER)).sum() <= 0.01 * (owner != FLOATER).sum()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", lambda m, g, o: torch.ones_like(o, dtype=torch.bool)),
        ("box:-1,-1,-1,0,1,1", lambda m, g, o: ((m >= -1) & (m <= torch.tensor([0.0, 1, 1]))).all(1)),
        ("sphere:0.35,-0.22,-0.1,0.3", lambda m, g, o: (m - torch.tensor(BALL_PLACE)).norm(dim=1) <= 0.3),
        ("opacity < 0.5", lambda m, g, o: o == FLOATER),
        ("opacity<.5 or x>1", lambda m, g, o: (o == FLOATER) | (m[:, 0] > 1)),
        ("not opacity < 0.5 and y < -.01", lambda m, g, o: (o != FLOATER) & (m[:, 1] < -0.01)),
        ("not (opacity < 0.5 and y < -.01)", lambda m, g, o: ~((o == FLOATER) & (m[:, 1] < -0.01))),
        ("scale > 0.025", lambda m, g, o: o == TABLE),
        ("color:#cc4033~0.25", lambda m, g, o: o == BALL),
        ("x > 0 and y > -1 or z > 1", lambda m, g, o: (m[:, 0] > 0) & (m[:, 1] > -1) | (m[:, 2] > 1)),
    ],
)
def test_words(subject: Subject, owner: torch.Tensor, text: str, expected) -> None:
    g = subject.gaussians
    assert torch.equal(select(subject, text).mask, expected(g.means.detach(), g, owner))


def test_eyedropper_height_and_photos(subject: Subject, owner: torch.Tensor) -> None:
    chosen = select(subject, f"color:{place_in(subject, 'photo_3.png', BALL_PLACE)}~0.3").mask
    assert iou(chosen, owner == BALL) > 0.95
    plane = find_ground(subject)
    assert abs(float(plane.normal[1]) + 1) < 0.01 and abs(plane.offset) < 0.02
    high = select(subject, "height > 0.05 and opacity > 0.5").mask
    assert (high & (owner == TABLE)).sum() == 0 and (high & (owner == BALL)).sum() > 700
    assert select(subject, "photos >= 1").mask.sum() > 1000


def test_grown_and_shrunk(subject: Subject, owner: torch.Tensor) -> None:
    ball = "sphere:0.35,-0.22,-0.1,0.3 and color:#cc4033~0.3"
    more = select(subject, f"grow:0.1 ({ball})").mask
    distance = torch.cdist(subject.gaussians.means.detach(), subject.gaussians.means.detach()[owner == BALL])
    assert torch.equal(more, distance.amin(1) <= 0.1)
    less = select(subject, "shrink:0.1 box:-9,-9,-9,0,9,9").mask
    rest = subject.gaussians.means.detach()[subject.gaussians.means[:, 0] > 0]
    assert torch.equal(less, torch.cdist(subject.gaussians.means.detach(), rest).amin(1) > 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "something is missing"),
        ("ball", "'ball' is no word"),
        ("all all", "one word too many"),
        ("(all", "something is missing at its end"),
        ("all)", "one word too many"),
        ("all and", "something is missing"),
        ("opacity 0.1", "must be followed by"),
        ("opacity < high", "compares opacity with a number"),
        ("mask:'open", "quote is not closed"),
        ("box:1,2,3", "takes 6 numbers"),
        ("sphere:0,0,0,2m", "in metres is not known"),
        ("click:10,10", "takes click:410,220@003.png"),
        ("click:9999,10@photo_1.png", "lies outside"),
        ("click:1,1@photo_9.png", "did you mean photo_"),
        ("click:120,1@photo_3.png", "There is nothing at this point"),
        ("mask:absent.png@photo_1.png", "absent.png"),
        ("color:#12", "takes a colour such as"),
        ("color:#cc4033~wide", "takes a number"),
        ("grow:0 all", "above 0"),
        ("opacity > 2", "means no splat"),
        ("file:absent.selection.json", "absent.selection.json"),
        ("(" * 300 + "all" + ")" * 300, "nested too deeply"),
    ],
)
def test_misuse_is_told(subject: Subject, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(subject, text)


def test_empty_masks_are_told(subject: Subject, tmp_path: Path) -> None:
    Image.new("L", (240, 180)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="marks nothing"):
        select(subject, f"mask:{tmp_path / 'black.png'}@photo_1.png")
    Image.new("L", (90, 180), 255).save(tmp_path / "narrow.png")
    with pytest.raises(InputError, match="not the shape"):
        select(subject, f"mask:{tmp_path / 'narrow.png'}@photo_1.png")


def test_shares_add_up_to_alpha() -> None:
    gaussians, owner = table_scene()
    camera = table_cameras()["photo_4.png"]
    ones = torch.ones(3, camera.height, camera.width)
    everything = light_shares(gaussians, camera, ones)[0]
    parts = [shown_share(gaussians, camera, owner == thing).sum() for thing in range(4)]
    for thing, shown in enumerate(parts):
        assert everything[owner == thing].sum() == pytest.approx(float(shown), rel=1e-3)
