"""`cocogs calibrate photo`: sources asked, checked against each other, and what is written and printed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cocogs.calibrate import photos
from cocogs.calibrate.dm_calib import Found
from cocogs.calibrate.networks import LensNetwork
from cocogs.calibrate.photos import PhotoLensOptions, calibrate_photos
from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.io.colmap_files import read_cameras
from cocogs.io.intrinsics_file import read_intrinsics
from cocogs.io.lens_estimate import Abstention, LensEstimate

WIDTH, HEIGHT = 120, 80
TRUE = 28 / 36 * WIDTH  # px; 28 mm on full frame
SILENT = Abstention("lines", "The photo shows 3 straight lines, too few to tell.")


def take(path: Path, mm: float | None = 28, size: tuple[int, int] = (WIDTH, HEIGHT), **base: str) -> Path:
    """A grey photo whose EXIF tells a focal length on full frame."""
    exif = Image.Exif()
    for name, value in base.items():
        exif[ExifTags.Base[name]] = value
    if mm is not None:
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        inner |= {ExifTags.Base.FocalLength: mm, ExifTags.Base.FocalLengthIn35mmFilm: round(mm)}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path, exif=exif)
    return path


def by_lines(focal: float, off: float = 0.02, size: tuple[int, int] = (WIDTH, HEIGHT)) -> LensEstimate:
    return LensEstimate(
        "lines",
        size,
        (focal, focal),
        (off * focal, off * focal),
        (size[0] / 2, size[1] / 2),
        (9.0, 9.0),
        "9 lines",
    )


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> list[LensEstimate | Abstention]:
    """What the lines of the next photos say; nothing where the list is empty."""
    coming: list[LensEstimate | Abstention] = []
    monkeypatch.setattr(photos, "estimate_by_lines", lambda _: coming.pop(0) if coming else SILENT)
    return coming


def quiet(*_: object) -> None:
    pass


def find(*given: Path, **options: object) -> photos.PhotoLenses:
    return calibrate_photos(PhotoLensOptions(given, **options), quiet)  # type: ignore[arg-type]


def test_exif_is_written_with_its_reasons(tmp_path: Path) -> None:
    take(tmp_path / "a.jpg")
    out = tmp_path / "out" / "intrinsics.json"
    find(tmp_path / "a.jpg", out=out)
    lens = read_intrinsics(out)["a.jpg"]
    assert lens.source == "exif"
    assert lens.focal[0] == pytest.approx(TRUE, rel=0.01)
    assert json.loads(out.read_text())["photos"]["a.jpg"]["silent"] == [
        {"source": "lines", "reason": SILENT.reason}
    ]


def test_the_surest_source_counts_and_the_other_is_kept(tmp_path: Path, lines: list) -> None:
    lines.append(by_lines(1.01 * TRUE, 0.005))
    answer = find(take(tmp_path / "a.jpg")).answers["a.jpg"]
    assert answer.lens.source == "lines"
    assert [other.source for other in answer.others] == ["exif"]


def test_contradictions_are_errors_that_name_both(tmp_path: Path, lines: list) -> None:
    lines.append(by_lines(2 * TRUE))
    out = tmp_path / "intrinsics.json"
    with pytest.raises(InputError, match=r"a\.jpg: .*(exif|lines) says .* but (exif|lines) says"):
        find(take(tmp_path / "a.jpg"), out=out)
    assert not out.exists()
    find(tmp_path / "a.jpg", out=out, sources=["exif"])
    assert out.exists()


def test_photos_of_a_folder_are_named_within_it(tmp_path: Path) -> None:
    for name in ("images/left/1.jpg", "images/right/1.jpg"):
        take(tmp_path / name)
    found = find(tmp_path, apply=True)
    assert found.folder == tmp_path / "images"
    assert set(read_intrinsics(tmp_path / "images" / "intrinsics.json")) == {"left/1.jpg", "right/1.jpg"}


def test_unknown_lenses_are_listed(tmp_path: Path) -> None:
    take(tmp_path / "a.jpg")
    take(tmp_path / "b.jpg", mm=None)
    out = tmp_path / "out" / "intrinsics.json"
    assert list(find(tmp_path, out=out).unknown) == ["b.jpg"]
    reasons = json.loads(out.read_text())["unknown"]["b.jpg"]
    assert [one["source"] for one in reasons] == ["exif", "lines"]
    with pytest.raises(InputError, match=r"Nothing tells the lens of .*b\.jpg.*exif: .*lines: .*3 straight"):
        find(tmp_path / "b.jpg")


def test_one_camera_has_one_lens(tmp_path: Path, lines: list) -> None:
    for index in range(5):
        take(tmp_path / f"{index}.jpg", mm=None)
    lines += [by_lines(focal, 0.03) for focal in (90.0, 92.0, 94.0, 200.0)]
    found = find(tmp_path, shared=True)
    lenses = {answer.lens for answer in found.answers.values()}
    assert len(found.answers) == 5
    assert len(lenses) == 1
    assert lenses.pop().focal[0] == pytest.approx(92, rel=0.01)


def test_one_camera_takes_photos_of_one_size(tmp_path: Path) -> None:
    take(tmp_path / "a.jpg")
    take(tmp_path / "b.jpg", size=(HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"[ab]\.jpg is of another size"):
        find(tmp_path, shared=True)


def test_cameras_for_colmap(tmp_path: Path) -> None:
    find(take(tmp_path / "a.jpg"), out=tmp_path / "cameras.txt")
    assert read_cameras(tmp_path / "cameras.txt")[1].params[0] == pytest.approx(TRUE, rel=0.01)


def test_files_of_others_stay(tmp_path: Path) -> None:
    take(tmp_path / "a.jpg")
    for name, text in (("intrinsics.json", "{}"), ("cameras.txt", "# Camera list\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            find(tmp_path, out=tmp_path / name)
        assert (tmp_path / name).read_text() == text
    with pytest.raises(InputError, match=r"intrinsics\.json"):
        find(tmp_path, apply=True)
    with pytest.raises(InputError, match=r"must end in \.json"):
        find(tmp_path, out=tmp_path / "a.jpg")


def test_pictures_do_not_lie_among_the_photos(tmp_path: Path) -> None:
    take(tmp_path / "a.jpg")
    for place in (tmp_path, tmp_path / "lines", tmp_path / "a.jpg"):
        with pytest.raises(InputError, match="not among the photos"):
            find(tmp_path, pictures=place)


def test_it_says_where_nothing_is_gained(tmp_path: Path) -> None:
    said: list[str] = []
    take(tmp_path / "a.jpg")
    calibrate_photos(PhotoLensOptions([tmp_path]), said.append)
    assert any("nothing is gained" in line and "EXIF" in line for line in said)
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "sparse" / "0" / "cameras.bin").write_bytes(b"")
    calibrate_photos(PhotoLensOptions([tmp_path]), said.append)
    assert any("COLMAP" in line for line in said)


def test_a_fisheye_is_refused_even_where_lines_would_answer(tmp_path: Path, lines: list) -> None:
    photo = take(tmp_path / "a.jpg", mm=None)
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.FocalLength: 8, ExifTags.Base.LensModel: "8mm Fisheye"}
    )
    Image.open(photo).save(photo, exif=exif)
    lines.append(by_lines(90.0))
    with pytest.raises(InputError, match="fisheye"):
        find(photo)


def test_what_the_network_says_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def network(pictures: list[np.ndarray]) -> Found:
        seen.append(len(pictures))
        return Found((91.0, 91.0, 60.0, 40.0), 0.01, has_center=False)

    monkeypatch.setattr(photos, "load_network", lambda *_: LensNetwork("geocalib", network, "weights x"))
    for index in range(3):
        take(tmp_path / f"{index}.jpg", mm=None)
    options = {"backend": "geocalib", "weights": tmp_path}
    found = find(tmp_path, **options)
    assert all(answer.lens.generative for answer in found.answers.values())
    assert seen == [1, 1, 1]
    found = find(tmp_path, shared=True, **options)
    assert seen == [1, 1, 1, 3]
    assert found.answers["2.jpg"].lens.focal[0] == pytest.approx(91)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sources": ["exif", "stars"]}, "not stars"),
        ({"backend": "geocalib"}, "go together"),
        ({"weights": Path()}, "go together"),
    ],
)
def test_requests_are_checked_first(tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        find(take(tmp_path / "a.jpg"), **options)


def test_the_command_prints_and_fails_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(tmp_path / "a.jpg")
    assert main(["calibrate", "photo", str(tmp_path / "a.jpg"), "--apply"]) == 0
    printed = capsys.readouterr().out
    assert "a.jpg" in printed
    assert "exif" in printed
    assert (tmp_path / "intrinsics.json").exists()
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    for words in (["b.jpg"], ["none.jpg"], ["a.jpg", "--sources", "stars"], ["a.jpg", "--out", "x.pdf"]):
        place, *options = words
        assert main(["calibrate", "photo", str(tmp_path / place), *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith("cocogs: error: ")
        assert error.count("\n") == 1


def test_many_views_are_asked_where_one_folder_shows_one_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(by_lines(95.0, 0.01), source="views")
    monkeypatch.setattr(photos, "lens_of_views", lambda *_: found)
    for name in ("a.jpg", "b.jpg"):
        take(tmp_path / name, mm=None)
    take(tmp_path / "c.jpg", size=(HEIGHT, WIDTH))
    lenses = find(tmp_path, views=True)
    assert {name: answer.lens.source for name, answer in lenses.answers.items()} == {
        "a.jpg": "views",
        "b.jpg": "views",
        "c.jpg": "exif",
    }
    with pytest.raises(InputError, match="one folder"):
        find(tmp_path / "a.jpg", views=True)
