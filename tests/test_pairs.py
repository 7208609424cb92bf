"""Which pairs of photos are matched: all of few, the promising ones of many."""

from itertools import combinations

import numpy as np
import pytest
import torch
from datasets import HEIGHT, WIDTH, make_cameras, take_photo
from PIL import ExifTags, Image

from cocogs.io import pairs
from cocogs.io.matching import (
    Group,
    Job,
    enter_photos,
    extract_features,
    match_features,
    matched_pairs,
    quiet,
)
from cocogs.io.pairs import (
    choose_pairs,
    following,
    joining,
    most_alike,
    nearest_by_place,
    nearest_by_signature,
)
from cocogs.io.source import Intrinsics


def _by_distance(places: torch.Tensor) -> dict[tuple[int, int], float]:
    distances = (places[:, None] - places).abs()
    return {(i, j): 100 - float(distances[i, j]) for i, j in combinations(range(len(places)), 2)}


def test_of_few_photos_all_pairs_are_chosen_and_of_many_the_most_alike() -> None:
    few = most_alike(5, dict.fromkeys(combinations(range(5), 2), 0), 16)
    assert few == list(combinations(range(5), 2))
    chosen = most_alike(100, _by_distance(torch.arange(100.0)), 16)
    assert chosen == sorted(set(chosen)) and all(i < j for i, j in chosen)
    assert {(50, 50 + step) for step in range(1, 9)} <= set(chosen)
    assert len(chosen) < 100 * 16


def test_the_first_of_equally_alike_photos_are_chosen() -> None:
    assert most_alike(4, {(0, 3): 2, (0, 2): 2, (0, 1): 2}, 1) == [(0, 1), (0, 2), (0, 3)]
    assert most_alike(4, {(0, 3): 2, (1, 3): 2, (2, 3): 2, (0, 1): 9, (1, 2): 9}, 1) == [
        (0, 1),
        (0, 3),
        (1, 2),
    ]


def test_frames_of_a_film_are_matched_with_those_that_follow() -> None:
    assert following(np.arange(4), 2) == {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}
    assert following(np.arange(3), 10) == {(0, 1), (0, 2), (1, 2)}
    faces = np.array([0, 0, 1, 2, 2])  # of panoramas that follow each other
    assert following(faces, 1) == {(0, 2), (1, 2), (2, 3), (2, 4)}


def test_groups_are_joined_by_their_most_alike_pairs() -> None:
    """Two groups of ten that are closely alike among themselves, and three pairs that lead across."""
    within = {(i, j): 100 for group in (range(10), range(10, 20)) for i, j in combinations(group, 2)}
    across = {(0, 10): 7, (1, 11): 5, (2, 12): 3, (3, 13): 1, (4, 14): 0}
    chosen = joining(20, within | across)
    assert across.keys() & chosen == {(0, 10), (1, 11), (2, 12)}, "one by each forest"
    assert len(chosen) <= 3 * 19
    assert joining(3, {}) == set() and joining(3, {(0, 1): 0}) == set()


def test_signatures_find_photos_of_the_same_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve things of 300 features, two photos of each by 200 of them, with noise."""
    random = np.random.default_rng(0)
    looks = []
    for _ in range(12):
        thing = random.gamma(0.5, 40, (300, 128))
        for _ in range(2):
            seen = thing[random.choice(300, 200, replace=False)] + random.normal(0, 4, (200, 128))
            looks.append(torch.from_numpy(np.clip(seen, 0, 255).astype(np.uint8)))
    vectors = pairs.signatures([*looks, torch.empty(0, 128, dtype=torch.uint8)], 0)
    assert vectors.shape[0] == 25 and not vectors[24].any()
    assert vectors[:24].norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    nearest = nearest_by_signature(vectors, 1)
    assert [int(other) for other in nearest[:24, 0]] == [number ^ 1 for number in range(24)]
    assert torch.equal(vectors, pairs.signatures([*looks, looks[0][:0]], 0)), "the same by the same seed"


def test_nearest_by_signature_leaves_out_the_photo_itself_and_frames_close_by() -> None:
    angles = torch.linspace(0, 1, 600)  # more than one block
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert set(nearest_by_signature(vectors, 2)[300].tolist()) == {299, 301}
    assert set(nearest_by_signature(vectors, 2, apart=5)[300].tolist()) == {294, 306}
    assert nearest_by_signature(vectors[:3], 40).shape == (3, 2)


def test_nearest_by_place() -> None:
    places = np.array([[0.0, 0, 0], [np.nan, 0, 0], [1, 0, 0], [5, 0, 0], [5.5, 0, 0]])
    assert nearest_by_place(places, 1) == {(0, 2), (3, 4)}
    assert nearest_by_place(places, 10) == set(combinations([0, 2, 3, 4], 2))
    assert nearest_by_place(places[:2], 3) == set()


# --- With photos ----------------------------------------------------------------------------------------

COUNT = 14


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Features of photos along a wall; GPS says that each was taken a second of latitude (30.9 m) further."""
    work = tmp_path_factory.mktemp("work")
    for index, camera in enumerate(make_cameras(COUNT)):
        exif = Image.Exif()
        if index != 3:
            south, west = (52.0, 31.0, float(index)), (13.0, 24.0, 18.0)
            exif[ExifTags.IFD.GPSInfo] = {1: "S", 2: south, 3: "W", 4: west, 5: 0, 6: 35.5}
        Image.fromarray(take_photo(camera)).save(work / f"{index:03d}.jpg", quality=97, exif=exif)
    said: list[str] = []
    job = Job(work, 0, said.append)
    names = _names()
    with quiet():
        lens = Intrinsics("SIMPLE_RADIAL", WIDTH, HEIGHT, (1.2 * WIDTH, WIDTH / 2, HEIGHT / 2, 0.0))
        enter_photos(job, [Group(names, lens)])
        extract_features(job, names)
    return job


def _names() -> list[str]:
    return [f"{index:03d}.jpg" for index in range(COUNT)]


@pytest.fixture(autouse=True)
def nothing_chosen(job: Job) -> None:
    (job.work / "chosen_pairs.json").unlink(missing_ok=True)


def test_gps_says_where_photos_were_taken(job: Job) -> None:
    places = pairs._places_by_gps(job, _names())
    assert np.isnan(places[3]).all() and np.isfinite(np.delete(places, 3, axis=0)).all()
    steps = np.linalg.norm(places[[1, 2, 5, 6]] - places[[0, 1, 4, 4]], axis=1)
    assert steps == pytest.approx([30.9, 30.9, 30.9, 61.8], rel=0.01)


def test_many_photos_are_compared_with_candidates_only(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare = pairs._compare

    def noting(job: Job, looks: list, wanted: list) -> dict:
        compared.extend(wanted)
        return compare(job, looks, wanted)

    monkeypatch.setattr(pairs, "_compare", noting)
    for name, value in {"EXHAUSTIVE": 10, "CANDIDATES": 3, "NEAREST": 1, "NEIGHBOURS": 2, "WORDS": 8}.items():
        monkeypatch.setattr(pairs, name, value)
    chosen = choose_pairs(job, _names())
    assert set(chosen) <= set(compared) and len(compared) < 60 < COUNT * (COUNT - 1) / 2
    close = [pair for pair in chosen if pair[1] - pair[0] <= 2]
    assert len(close) > 0.8 * len(chosen), "photos that overlap look alike"
    (line,) = [line for line in job.say.__self__ if "too many to compare" in line]
    assert line.startswith("14 photos are") and line.endswith(
        "the 1 taken nearest to it (13 photos say where)."
    )


def test_places_that_are_known_beat_gps(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "EXHAUSTIVE", 10)
    monkeypatch.setattr(pairs, "CANDIDATES", 1)
    monkeypatch.setattr(pairs, "NEAREST", 1)
    places = np.zeros((COUNT, 3))
    places[:, 0] = 10.0 ** np.array(
        [0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 0]
    )  # the last stands by the first
    assert (0, 13) in choose_pairs(job, _names(), places)


def test_pairs_of_a_film(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FOLLOWING": 2, "LOOP_APART": 4, "LOOPS": 1}.items():
        monkeypatch.setattr(pairs, name, value)
    chosen = set(choose_pairs(job, _names(), sequential=True))
    loops = chosen - following(np.arange(COUNT), 2)
    assert following(np.arange(COUNT), 2) <= chosen
    assert loops and all(other - one > 4 for one, other in loops) and len(loops) <= COUNT


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("sequential", [False, True])
def test_faces_of_one_panorama_are_never_matched(
    job: Job, many: bool, sequential: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(pairs, "EXHAUSTIVE", 5)
        monkeypatch.setattr(pairs, "WORDS", 16)
    (job.work / "chosen_pairs.json").unlink(missing_ok=True)
    stations = [index // 2 for index in range(COUNT)]
    chosen = choose_pairs(job, _names(), sequential=sequential, stations=stations)
    (job.work / "chosen_pairs.json").unlink()
    assert len(chosen) > COUNT
    assert all(stations[one] < stations[other] for one, other in chosen)


def test_chosen_pairs_are_read_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_pairs(job, _names())
    assert chosen == list(combinations(range(COUNT), 2))
    monkeypatch.setattr(pairs, "_compare", None)
    assert choose_pairs(job, _names()) == chosen


def test_the_pairs_with_the_most_matches_come_first(job: Job) -> None:
    with quiet():
        match_features(job, _names(), [(0, 1), (0, 2), (1, 2), (0, 13)])
    found = matched_pairs(job)
    counts = [len(pair.pixels_one) for pair in found]
    assert counts == sorted(counts, reverse=True) and counts[0] >= 30
    (first,) = matched_pairs(job, 1)
    assert (first.one, first.other) == (found[0].one, found[0].other)
    assert np.array_equal(first.pixels_one, found[0].pixels_one)
