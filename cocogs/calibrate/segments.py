"""Straight segments of a photo, by OpenCV's LSD."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cocogs.errors import optional_package
from cocogs.io.pixels import largest

WORKING = 1280  # px of the longer side in which segments are looked for
LEVELS = 3  # the photo, and shrunk to 1/2 and 1/4: a blur of 8 px is one of 2 px there
END = 0.11  # px of a level: least standard deviation of an end across its segment
UNPLACED = 0.7  # px: that of an end as LSD gives it
SMOOTHED, STATIONS, REACH = 1.0, 16, 3.0  # px, a number, px: see `_placed`
BENT = 0.0004  # part of a segment's length by which it is not straight, or not quite parallel to its like
FAINT = 4.0  # grey levels: over three quarters of a segment the picture changes by more
SHORTEST = 0.02  # of the longer side
MOST = 500  # segments, the longest ones
INDEPENDENT = 140.0  # lines: so many count half


@dataclass(frozen=True)
class Segments:
    """Straight segments.

    Args:
        ends: (P, 2, 2) both ends, (x, y) from the photo's middle.
        deviation: (P,) standard deviation of an end across its segment.
    """

    ends: np.ndarray
    deviation: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.linalg.norm(self.ends[:, 1] - self.ends[:, 0], axis=1)

    @cached_property
    def lines(self) -> np.ndarray:
        """(P, 3) homogeneous lines: the cross product of the ends."""
        one = np.ones((len(self), 1))
        return np.cross(np.hstack([self.ends[:, 0], one]), np.hstack([self.ends[:, 1], one]))

    @cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """(P, 2) middles, and from there to the second end."""
        return self.ends.mean(1), (self.ends[:, 1] - self.ends[:, 0]) / 2

    @property
    def worth(self) -> float:
        """How much a segment counts: many are not independent, as those of one brick wall."""
        return INDEPENDENT / (INDEPENDENT + len(self))

    def some(self, which: np.ndarray) -> "Segments":
        return Segments(self.ends[which], self.deviation[which])


def find_segments(photo: np.ndarray) -> Segments:
    """Straight segments by OpenCV's LSD at several scales, each once."""
    cv2 = optional_package("cv2", "`lines` needs OpenCV: install it with pip install 'cocogs[calibrate]'.")
    height, width = photo.shape[:2]
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if grey.dtype != np.uint8:
        grey = (grey * (255 / largest(photo)) + 0.5).astype(np.uint8)
    unit = max(width, height)
    shrink = min(1.0, WORKING / unit)
    ends, deviations, levels = [np.empty((0, 2, 2))], [np.empty(0)], [np.empty(0)]
    for level in range(LEVELS):
        scale = shrink / 2**level
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = grey if size == (width, height) else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        inner = 0.8 if level == 0 else 1.0  # LSD's own shrinking, against the steps of unblurred edges
        detected = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD, inner).detect(small)[0]
        if detected is None:
            continue
        # LSD's points are half a pixel of its own scale low
        points = (detected.reshape(-1, 2, 2) + 0.5 / inner) * np.array([width / size[0], height / size[1]])
        to_level = np.array([size[0] / width, size[1] / height])
        placed, unsure = _placed(cv2, cv2.GaussianBlur(small, (0, 0), SMOOTHED), points * to_level)
        ends.append((placed / to_level - np.array([width, height]) / 2) / unit)
        deviations.append(unsure / scale / unit)
        levels.append(np.full(len(placed), 1 / scale / unit))
    everything = Segments(np.concatenate(ends), np.concatenate(deviations))
    lengths = everything.lengths
    level = np.concatenate(levels)  # length of its pixels
    long = (lengths > np.maximum(SHORTEST, 4 * level)) & np.isfinite(everything.deviation)
    single = _once(everything.some(long), level[long])
    single = single.some(np.argsort(-single.lengths)[:MOST])
    return Segments(single.ends, np.hypot(single.deviation, BENT * single.lengths))


def _placed(cv2: Any, smooth: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (P, 2, 2) moved across their segments to where the picture changes most, px, and their deviations.

    LSD's segments lean towards rows and columns where a picture is aliased. Here a line is laid through the
    centres of the gradient that `STATIONS` profiles across the segment show.
    """
    way = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(way, axis=1)
    normal = np.stack([-way[:, 1], way[:, 0]], 1) / np.maximum(length, 1e-9)[:, None]
    t = (np.arange(STATIONS) + 0.5) / STATIONS - 0.5
    offsets = np.arange(-REACH, REACH + 0.1, 0.5)
    at = ends.mean(1)[:, None] + t[:, None] * way[:, None]
    at = at[:, :, None] + offsets[:, None] * normal[:, None, None] - 0.5
    maps = at.reshape(len(ends), -1, 2).astype(np.float32)
    light = cv2.remap(
        smooth.astype(np.float32),
        maps[..., 0],
        maps[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).reshape(len(ends), STATIONS, -1)
    change = np.diff(light, axis=2)
    change = np.maximum(change * np.sign(change.sum((1, 2)))[:, None, None], 0)
    between = (offsets[1:] + offsets[:-1]) / 2
    line, trust = np.zeros((len(ends), 2)), np.ones((len(ends), STATIONS))
    basis = np.stack([np.ones(STATIONS), t], 1)
    places = np.zeros((len(ends), STATIONS))
    for _ in range(4):
        window = change * np.exp(-0.5 * ((between - (line @ basis.T)[..., None]) / 1.3) ** 2)
        strength = window.sum(2) + 1e-6
        places = (window * between).sum(2) / strength
        weight = trust * np.sqrt(strength)
        normals = np.einsum("ps,si,sj->pij", weight, basis, basis) + 1e-9 * np.eye(2)
        line = np.linalg.solve(normals, np.einsum("ps,si,ps->pi", weight, basis, places)[..., None])[..., 0]
        off = np.abs(places - line @ basis.T)
        scale = np.median(off, axis=1, keepdims=True) * 1.5 + 0.03
        trust = 1 / (1 + (off / scale / 2) ** 2)
    independent = np.minimum(STATIONS, np.maximum(length / (2.5 * SMOOTHED), 2.5))
    unsure = np.hypot(6 * scale[:, 0] / np.sqrt(independent), END)
    steps = line[:, :1] + line[:, 1:] * np.array([-0.5, 0.5])  # (P, 2 ends)
    good = np.abs(steps).max(1) < REACH - 0.5
    moved = ends + np.where(good[:, None], steps, 0)[..., None] * normal[:, None]
    faint = np.quantile(strength, 0.25, axis=1) < FAINT
    return moved, np.where(faint, np.inf, np.where(good, unsure, UNPLACED))


def _once(segments: Segments, level: np.ndarray) -> Segments:
    """Without those that lie on a finer or longer one for most of their length."""
    order = np.lexsort((-segments.lengths, level))
    kept: list[int] = []
    middles = segments.ends.mean(1)
    ways = segments.ends[:, 1] - segments.ends[:, 0]
    lengths = segments.lengths
    ways = ways / lengths[:, None]
    for i in order:
        if kept:
            k = np.array(kept)
            near = segments.ends[i][None] - middles[k][:, None]  # (K, 2 ends, 2)
            along = (near * ways[k][:, None]).sum(2)
            across = np.abs(near[..., 0] * ways[k][:, None, 1] - near[..., 1] * ways[k][:, None, 0])
            reach = lengths[k] / 2
            low, high = along.min(1).clip(-reach, reach), along.max(1).clip(-reach, reach)
            close = across.max(1) < 1.5 * np.maximum(level[i], level[k])
            if (high - low)[close].sum() > 0.5 * lengths[i]:
                continue
        kept.append(int(i))
    return segments.some(np.array(kept, int))
