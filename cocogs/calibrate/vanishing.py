"""Vanishing points of line segments.

A segment and the lens span a plane. A direction of the scene whose vanishing point lies on the line of the
segment lies in that plane. The angle between the two is the residual, divided by what the uncertainty of the
segment's ends makes of it (Sampson's first-order error). So long segments count more than short ones, and
vanishing points at infinity are points like any other.

Lengths are in units of the photo's longer side, from its middle. A line belongs to a vanishing point, or to
none, by a mixture: its angle is normally distributed around the vanishing point, or any from 0 to pi.
"""

import numpy as np

from cocogs.calibrate.segments import Segments

OUTLIERS = 0.3  # share of lines that belong to no direction, before anything is known
BAD, WORSE = 0.25, 3.0  # share of segments whose deviation is larger than told, and how many times
LEAST_CHANCE, CHANCE = 2.0, 0.01  # lines that lie on any vanishing point by chance: so many, or this share
FEWEST = 3  # lines that make a direction
PAIRS = 1500  # pairs of segments whose crossings are tried as vanishing points
POINTS = 7  # vanishing points that are looked for, at most
LEAST_GAIN = 6.0  # nats by which a vanishing point must explain its lines better than chance


def residuals(points: np.ndarray, segments: Segments) -> np.ndarray:
    """(V, P) angles between segments and vanishing points (V, 3), in standard deviations; infinite where the
    point lies within the segment."""
    middle, half = segments.halves
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    z = points[:, 2:]
    far = (points[:, :2] ** 2).sum(1, keepdims=True) - 2 * z * (points[:, :2] @ middle.T)
    own = (half**2).sum(1)
    far = far + z**2 * ((middle**2).sum(1) - own)  # squared distance to the middle, less the half length's
    e = points @ segments.lines.T
    e /= np.sqrt(2 * np.maximum(far + 2 * z**2 * own, 1e-18)) * segments.deviation
    e[far <= 0] = np.inf
    return e


def slopes(points: np.ndarray, segments: Segments, e: np.ndarray) -> np.ndarray:
    """(V, P, 3) derivative of finite residuals `e` by the points, which may have any length."""
    middle, half = segments.halves
    xy, z = points[:, None, :2], points[:, None, 2:]
    away = xy - z * middle
    square = 2 * (away**2).sum(2) + 2 * z[..., 0] ** 2 * (half**2).sum(1)
    by_z = 4 * z[..., 0] * (half**2).sum(1) - 4 * (away * middle).sum(2)
    growth = np.concatenate([4 * away, by_z[..., None]], 2)
    root = np.sqrt(square)
    return segments.lines / (root * segments.deviation)[..., None] - (e / 2 / square)[..., None] * growth


def gains(points: np.ndarray, segments: Segments) -> np.ndarray:
    """(V, P) how much likelier each segment's angle is if it belongs to a vanishing point than by chance."""
    return gains_and_weights(residuals(points, segments), segments)[0]


def gains_and_weights(e: np.ndarray, segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Gains (V, P) of residuals, and the part of its weight that each keeps: some segments are laid worse."""
    near = np.abs(e) < 6 * WORSE
    square, chance = (
        e[near] ** 2,
        np.broadcast_to(np.sqrt(2) * segments.deviation / segments.lengths, e.shape)[near],
    )
    good = (1 - BAD) * np.exp(-0.5 * square)
    bad = BAD / WORSE * np.exp(-0.5 * square / WORSE**2)
    gain, kept = np.zeros_like(e), np.zeros_like(e)
    gain[near] = np.sqrt(np.pi / 2) / chance * (good + bad)
    kept[near] = (good + bad / WORSE**2) / (good + bad)
    return gain, kept


def find_points(segments: Segments, rng: np.random.Generator) -> np.ndarray:
    """(V, 3) vanishing points, those with most lines first: each is the best for what the earlier leave."""
    free = np.ones(len(segments))
    lines = segments.lines
    lines = lines / np.linalg.norm(lines, axis=1, keepdims=True)
    found: list[np.ndarray] = []
    for _ in range(POINTS):
        share = segments.lengths * free
        if (free > 0.5).sum() < 3:
            break
        pairs = rng.choice(len(segments), (PAIRS, 2), p=share / share.sum())
        crossings = np.cross(lines[pairs[:, 0]], lines[pairs[:, 1]])
        crossings = crossings[np.linalg.norm(crossings, axis=1) > 1e-7]
        if not len(crossings):
            break
        score = np.log1p(OUTLIERS * gains(crossings, segments)) @ free
        point = crossings[np.argmax(score)]
        for _ in range(5):
            point = _polished(point, segments, free)
        gain = OUTLIERS * gains(point[None], segments)[0]
        if np.log1p(gain) @ free < LEAST_GAIN:
            break
        found.append(point / np.linalg.norm(point))
        free = free / (1 + gain)
    return np.array(found).reshape(-1, 3)


def _polished(point: np.ndarray, segments: Segments, free: np.ndarray) -> np.ndarray:
    """The vanishing point that fits the lines best which belong to this one, to first order."""
    gain = OUTLIERS * gains(point[None], segments)[0]
    belongs = free * gain / (1 + gain)
    point = point / np.linalg.norm(point)
    middle = segments.ends.mean(1)
    away = np.linalg.norm(point[:2] - point[2] * middle, axis=1) * segments.deviation + 1e-12
    rows = segments.lines * (np.sqrt(belongs) / away)[:, None]
    return np.linalg.eigh(rows.T @ rows)[1][:, 0]


def shares(gain: np.ndarray) -> np.ndarray:
    """(V + 1,) of the segments that belong to each direction, the last to none, by their gains (V, P);
    hardly any to a direction that has no more lines than chance may give it."""
    part = np.full(len(gain) + 1, (1 - OUTLIERS) / len(gain))
    part[-1] = OUTLIERS
    chance, lines = max(LEAST_CHANCE, CHANCE * gain.shape[1]), part
    for _ in range(8):
        each = np.vstack([gain * part[:-1, None], np.full(gain.shape[1], part[-1])])
        lines = (each / each.sum(0)).sum(1)
        part = np.maximum(lines - chance, 0.2)
        part /= part.sum()
    few = lines[:-1] < max(FEWEST, chance)
    part[:-1][few] = 1e-9
    part[-1] += 1 - part.sum()
    return part


def belonging_by(gain: np.ndarray) -> np.ndarray:
    """(V, P) probability that each segment belongs to each vanishing point, by their gains."""
    part = shares(gain)
    return part[:-1, None] * gain / (part[-1] + part[:-1] @ gain)
