"""Which pairs of photos are worth matching in full, so that the time of SfM goes with the number of photos.

Up to `EXHAUSTIVE` photos, a quick look compares every two. Beyond, it compares each photo with the most alike
by a signature, with its neighbours by GPS, and nothing else. The pairs that are most alike by the quick look
are matched.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pycolmap
import torch
from scipy.cluster.vq import kmeans2, vq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import KDTree
from torch import Tensor

from cocogs.io.matching import Job, batches, image_ids, whole
from cocogs.io.progress import Progress
from cocogs.threads import pass_threads, torch_on_one

Pair = tuple[int, int]
"""Places in the list of names, the smaller one first."""

# So many photos are all compared with each other: 11,000 quick looks take 3 minutes of one core.
EXHAUSTIVE = 150
# Each photo is fully matched with this many others: the most alike by a quick look at LOOK features each.
NEIGHBOURS = 16
LOOK = 1024
# Beyond EXHAUSTIVE photos, each is compared with so many: the most alike by signature, the nearest by GPS.
CANDIDATES = 40
NEAREST = 10
# Beyond EXHAUSTIVE photos, so many spanning forests of the most alike pairs join what would fall apart.
FORESTS = 3
# Frames of a video are matched with so many that follow, and with the LOOPS most alike of those that are more
# than LOOP_APART frames away, where the camera came back.
FOLLOWING = 10
LOOPS = 6
LOOP_APART = 20
# A signature has so many words, learned from at most SAMPLE features. Of 1,076 pairs of 117 photos with 30
# matches by the quick look, 88 % are among the candidates; 79 % with 64 words.
WORDS = 256
SAMPLE = 50_000


def choose_pairs(
    job: Job,
    names: Sequence[str],
    places: np.ndarray | None = None,
    sequential: bool = False,
    stations: Sequence[int] | None = None,
) -> list[Pair]:
    """The pairs of photos to match, sorted; read from the work folder where an interrupted run chose them.

    Args:
        names: photos in the database.
        places: (P, 3) where the photos were taken, all in one unit; rows that nobody knows are NaN. By
            default what their EXIF says by GPS.
        sequential: the photos are frames of a video, in their order.
        stations: for each photo, the number of the place it was taken from, ascending, if several are faces
            of one panorama. Those of one station are never matched: they show nothing twice.
    """
    chosen = job.work / "chosen_pairs.json"
    if chosen.exists():
        return [(one, other) for one, other in json.loads(chosen.read_text())]
    looks = _looks(job, names)
    everything = len(names) <= EXHAUSTIVE
    apart = LOOP_APART if sequential else 0
    order = np.arange(len(names)) if stations is None else np.asarray(stations)
    if everything:
        candidates = combinations(range(len(names)), 2)
    else:
        known = _places_by_gps(job, names) if places is None else places
        candidates = _candidates(job, looks, known, order, apart)
    far = [(one, other) for one, other in candidates if order[other] - order[one] > apart]
    likeness = _compare(job, looks, far)
    pairs = set(most_alike(len(names), likeness, LOOPS if sequential else NEIGHBOURS))
    if sequential:
        pairs |= following(order, FOLLOWING)
    if not everything:
        pairs |= joining(len(names), likeness)
    with whole(chosen) as unfinished:
        unfinished.write_text(json.dumps(sorted(pairs)))
    return sorted(pairs)


def most_alike(count: int, likeness: Mapping[Pair, float], each: int) -> list[Pair]:
    """Sorted pairs: each of `count` photos with the `each` most alike of those that it was compared with."""
    partners: list[list[tuple[float, int]]] = [[] for _ in range(count)]
    for (one, other), alike in likeness.items():
        partners[one].append((-alike, other))
        partners[other].append((-alike, one))
    chosen = ((one, other) for one, found in enumerate(partners) for _, other in sorted(found)[:each])
    return sorted({_pair(one, other) for one, other in chosen})


def following(stations: np.ndarray, steps: int) -> set[Pair]:
    """Each photo with all of the `steps` stations that follow its own, by (P,) ascending numbers of these."""
    first, last = (np.searchsorted(stations, stations + step, "right") for step in (0, steps))
    ends = enumerate(zip(first.tolist(), last.tolist(), strict=True))
    return {(one, other) for one, (start, stop) in ends for other in range(start, stop)}


def joining(count: int, likeness: Mapping[Pair, float]) -> set[Pair]:
    """FORESTS maximum spanning forests, each of pairs that the ones before have not used.

    Where many photos show one thing, each has all its most alike photos there. These pairs lead on to the
    next thing.
    """
    chosen: set[Pair] = set()
    for _ in range(FORESTS):
        left = [(pair, alike) for pair, alike in likeness.items() if alike > 0 and pair not in chosen]
        if not left:
            break
        rows, columns = np.array([pair for pair, _ in left]).T
        weights = coo_array((-np.array([float(alike) for _, alike in left]), (rows, columns)), (count, count))
        forest = minimum_spanning_tree(weights.tocsr()).tocoo()
        chosen |= {_pair(int(one), int(other)) for one, other in zip(forest.row, forest.col, strict=True)}
    return chosen


# --- Candidates of many photos --------------------------------------------------------------------------


def _candidates(
    job: Job, looks: list[Tensor], places: np.ndarray, stations: np.ndarray, apart: int
) -> list[Pair]:
    """Pairs of many photos that deserve a quick look, sorted."""
    known = int(np.isfinite(places).all(axis=1).sum())
    by_gps = f" and with the {NEAREST} taken nearest to it ({known} photos say where)" if known else ""
    job.say(
        f"{len(looks)} photos are too many to compare all of them with each other: each is compared with the "
        f"{CANDIDATES} that seem most alike{by_gps}."
    )
    with torch_on_one():
        vectors = signatures(looks, job.seed)
    found = nearest_by_signature(vectors, CANDIDATES, apart, torch.from_numpy(stations))
    pairs = {_pair(one, other) for one, others in enumerate(found.tolist()) for other in others}
    each = -(-len(stations) // len(np.unique(stations)))  # photos of a station, all at its place
    return sorted(pairs | nearest_by_place(places, NEAREST * each))


def signatures(looks: Sequence[Tensor], seed: int) -> Tensor:
    """(P, WORDS * 128) float32 unit vectors whose products say how alike photos are.

    A vector of locally aggregated descriptors (VLAD): for each word of a vocabulary, the sum of how the
    photo's features of that word differ from it. Jegou et al., "Aggregating local image descriptors into
    compact codes", PAMI 2012; sums are normalised word by word (Arandjelovic and Zisserman, "All about VLAD",
    CVPR 2013). The vocabulary is learned from the photos themselves.

    Args:
        looks: (F, 128) uint8 descriptors of each photo.
    """
    each = max(1, SAMPLE // len(looks))
    sample = np.concatenate([_unit(look[:: -(-len(look) // each) or 1]).numpy() for look in looks])
    if len(sample) < WORDS:
        return torch.zeros(len(looks), 1)
    words, _ = kmeans2(sample, WORDS, iter=12, minit="points", rng=np.random.default_rng(seed))
    sums = torch.zeros(len(looks), WORDS, sample.shape[1])
    for total, look in zip(sums, looks, strict=True):
        if len(look):
            features = _unit(look)
            word = torch.from_numpy(vq(features.numpy(), words)[0]).long()
            total.index_add_(0, word, features - torch.from_numpy(words)[word])
    normal = torch.nn.functional.normalize
    return normal(normal(sums, dim=2).flatten(1), dim=1)


def nearest_by_signature(
    vectors: Tensor, count: int, apart: int = 0, stations: Tensor | None = None
) -> Tensor:
    """(P, <= count) int64: of each photo, those with the largest products of signatures, itself left out.

    All photos are compared with each other, by blocks: about 2 microseconds a pair, where a quick look takes
    16 milliseconds.

    Args:
        apart: photos that are at most so many stations before or behind do not count.
        stations: (P,) numbers of the photos' stations; by default each has one of its own.
    """
    order, found = torch.arange(len(vectors)), []
    stations = order if stations is None else stations
    for rows in order.split(512):
        products = vectors[rows] @ vectors.T
        products[(stations[rows, None] - stations).abs() <= apart] = -2.0
        found.append(products.topk(min(count, len(vectors) - 1)).indices)
    return torch.cat(found)


def nearest_by_place(places: np.ndarray, count: int) -> set[Pair]:
    """Pairs of each photo and the `count` nearest ones, among those whose (P, 3) places are known."""
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    if len(known) < 2:
        return set()
    _, found = KDTree(places[known]).query(places[known], k=min(count + 1, len(known)))
    pairs = ((one, other) for one, others in zip(known, known[found], strict=True) for other in others)
    return {_pair(int(one), int(other)) for one, other in pairs if one != other}


def _places_by_gps(job: Job, names: Sequence[str]) -> np.ndarray:
    """(P, 3) metres, of axes that turn with the Earth; NaN for photos whose EXIF does not tell.

    pycolmap wants latitude, longitude and altitude.
    """
    places = np.full((len(names), 3), np.nan)
    with pycolmap.Database.open(job.database) as database:
        numbers = image_ids(database)
        rows = {numbers[name]: row for row, name in enumerate(names)}
        for prior in database.read_all_pose_priors():
            if prior.coordinate_system == pycolmap.PosePriorCoordinateSystem.WGS84:
                row = rows[prior.corr_data_id.id]
                (places[row],) = pycolmap.GPSTransform().ellipsoid_to_ecef(prior.position[None])
    return places


# --- The quick look -------------------------------------------------------------------------------------


def _looks(job: Job, names: Iterable[str]) -> list[Tensor]:
    """(<= LOOK, 128) uint8 descriptors of each photo's largest features: they survive defocus best."""
    with pycolmap.Database.open(job.database) as database:
        numbers = image_ids(database)
        return [_largest_features(database, numbers[name]) for name in names]


def _largest_features(database: pycolmap.Database, image_id: int) -> Tensor:
    keypoints = database.read_keypoints(image_id)
    if len(keypoints) == 0:
        return torch.empty(0, 128, dtype=torch.uint8)
    size = np.hypot(keypoints[:, 2], keypoints[:, 4])
    chosen = np.argsort(-size, kind="stable")[:LOOK]
    return torch.from_numpy(database.read_descriptors(image_id).data[chosen])


def _unit(descriptors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(descriptors.float(), dim=1)


def _compare(job: Job, looks: Sequence[Tensor], pairs: Sequence[Pair]) -> dict[Pair, int]:
    """How many of the largest features of two photos match.

    Matching all features of a pair takes some 20 times longer, which only the promising pairs are worth.
    """
    progress = Progress("Comparing photos", len(pairs), job.say, patience=2)
    likeness = {}
    with torch_on_one(), ThreadPoolExecutor(pass_threads()) as pool:
        for batch in batches(pairs, 256):
            counts = pool.map(
                lambda pair: _count_matches(_unit(looks[pair[0]]), _unit(looks[pair[1]])), batch
            )
            likeness |= dict(zip(batch, counts, strict=True))
            progress.add(len(batch))
    return likeness


def _count_matches(one: Tensor, other: Tensor) -> int:
    """Mutual best matches of descriptors that pass Lowe's ratio test."""
    if min(len(one), len(other)) < 2:
        return 0
    similarity = one @ other.T
    best, partner = similarity.max(dim=1)
    mutual = similarity.argmax(dim=0)[partner] == torch.arange(len(one))
    second = similarity.scatter_(1, partner[:, None], -1.0).amax(dim=1)
    distinct = torch.acos(best.clamp(-1, 1)) < 0.8 * torch.acos(second.clamp(-1, 1))
    return int((mutual & distinct).sum())


def _pair(one: int, other: int) -> Pair:
    return min(one, other), max(one, other)
