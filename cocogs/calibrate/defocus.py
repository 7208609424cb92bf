"""Aperture and focus from charts at known distances, each photographed as the lens is set, and sharp."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from cocogs.calibrate.frames import Linearise, read_light
from cocogs.errors import InputError, counted
from cocogs.io import photos
from cocogs.io.progress import Progress, Say
from cocogs.optics.layers import aperture_kernel

FEWEST = 3  # distances: two fit a lens on either side of them
NAME = re.compile(r"(\d+(?:\.\d+)?)m(_sharp)?")
GROWTH = 1.15  # from one diameter of the coarse grid to the next
WIDEST = 0.25  # of the picture's shorter side
FLAT = 0.01  # deviation of a chart over its mean below which it has no detail
VERGENCES = 400  # focus distances of the coarse grid, evenly in 1 / z
APART = 0.05  # relative difference in 1 / focus from which another minimum is another answer


@dataclass(frozen=True)
class Chart:
    """A chart's blur.

    Args:
        distance: from the lens, m.
        diameter: of the circle of confusion, px.
        left: what the blur leaves unexplained, over the difference of the two pictures, in light.
    """

    distance: float
    diameter: float
    left: float


@dataclass(frozen=True)
class Fit:
    """A lens that explains the charts: K (px x m), focus distance (m, perhaps infinite), and the root mean
    square of what it misses the diameters by, px."""

    K: float
    focus_distance: float
    error: float


def read_charts(folder: Path, linearise: Linearise, say: Say) -> tuple[list[Chart], tuple[int, int]]:
    """The blur of every chart, nearest first, and the pictures' size (width, height).

    Args:
        folder: holds pairs 0.50m.png and 0.50m_sharp.png, taken from one place; the latter stopped down.

    Raises:
        InputError: fewer than `FEWEST` pairs, other names, pictures of several sizes or without detail.
    """
    pairs = _pairs(folder)
    charts, size = [], None
    with Progress("Measuring blur", len(pairs), say, patience=2) as progress:
        for distance, files in pairs.items():
            sharp, blurred = (read_light(files[kind], linearise).mean(0) for kind in (True, False))
            size = size or sharp.shape
            if not size == sharp.shape == blurred.shape:
                raise InputError(f"{files[True]} has another size than the others: take all with one camera.")
            if sharp.std() < FLAT * sharp.mean():
                raise InputError(f"{files[True]} has no detail to be blurred: photograph a chart with edges.")
            charts.append(Chart(distance, *blur_between(sharp, blurred)))
            progress.add(1)
    assert size is not None
    return charts, (size[1], size[0])


def _pairs(folder: Path) -> dict[float, dict[bool, Path]]:
    """The charts' files by distance, nearest first; True for the sharp one."""
    pairs: dict[float, dict[bool, Path]] = {}
    names = photos.list_photos(folder) if folder.is_dir() else []
    for name in names:
        match = NAME.fullmatch(Path(name).stem)
        if match is None or float(match[1]) == 0:
            raise InputError(
                f"{folder / name} does not tell its distance: name it like 0.50m or 0.50m_sharp."
            )
        pairs.setdefault(float(match[1]), {})[match[2] is not None] = folder / name
    for distance, files in pairs.items():
        if len(files) < 2:
            raise InputError(
                f"{folder} has no twin for {next(iter(files.values())).name} at {distance:g} m: add it."
            )
    if len(pairs) < FEWEST:
        raise InputError(
            f"{folder} holds charts at {counted(len(pairs), 'distance')}: take {FEWEST} or more."
        )
    return dict(sorted(pairs.items()))


def blur_between(sharp: np.ndarray, blurred: np.ndarray) -> tuple[float, float]:
    """Diameter, px, of the disc that makes one (H, W) light from another but for a factor and an offset; and
    what it leaves of their difference."""
    margin = int(WIDEST * min(sharp.shape) / 2) + 2
    inside = np.s_[margin:-margin, margin:-margin]
    spectrum = torch.fft.rfft2(torch.from_numpy(sharp))
    goal = blurred[inside].ravel()

    def left(diameter: float) -> float:
        kernel = aperture_kernel(torch.tensor(diameter, dtype=torch.float64), sharp.shape)
        made = torch.fft.irfft2(spectrum * kernel, s=sharp.shape).numpy()[inside].ravel()
        columns = np.stack([made, np.ones_like(made)], 1)
        return float(np.square(columns @ np.linalg.lstsq(columns, goal, rcond=None)[0] - goal).mean())

    widest = WIDEST * min(sharp.shape)
    count = int(np.log(widest / 0.5) / np.log(GROWTH)) + 1
    grid = np.concatenate([[0.0], 0.5 * GROWTH ** np.arange(count)])
    costs = [left(diameter) for diameter in grid]
    best = int(np.argmin(costs))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found: Any = minimize_scalar(left, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return float(found.x), float(np.sqrt(found.fun / max(costs[0], 1e-30)))


def fit_lens(charts: list[Chart]) -> list[Fit]:
    """The lens |K (1/z - 1/z_f)| that fits the diameters best, and the runner-up if there is one.

    A grid over 1/z_f first, then each of its minima refined: a simplex search falls into the wrong one at
    times.
    """
    inverse = np.array([1 / chart.distance for chart in charts])
    diameters = np.array([chart.diameter for chart in charts])

    def at(vergence: float) -> tuple[float, float]:
        """Mean square error, and K."""
        unit = np.abs(inverse - vergence)
        K = float(unit @ diameters / max(unit @ unit, 1e-30))
        return float(np.square(K * unit - diameters).mean()), K

    grid = np.linspace(0, 1.5 * inverse.max(), VERGENCES)
    costs = np.array([at(vergence)[0] for vergence in grid])
    padded = np.concatenate([[np.inf], costs, [np.inf]])
    minima = np.flatnonzero((costs <= padded[:-2]) & (costs <= padded[2:]))
    fits: list[Fit] = []
    for index in minima[np.argsort(costs[minima])]:
        bounds = grid[max(index - 1, 0)], grid[min(index + 1, VERGENCES - 1)]
        options = {"xatol": 1e-7}
        found: Any = minimize_scalar(lambda v: at(v)[0], bounds=bounds, method="bounded", options=options)
        vergence = float(found.x)
        cost, K = at(vergence)
        distance = 1 / vergence if vergence > 1e-4 else np.inf
        if all(abs(1 / fit.focus_distance - vergence) > APART * inverse.max() for fit in fits):
            fits.append(Fit(K, float(distance), float(np.sqrt(cost))))
    return sorted(fits, key=lambda fit: fit.error)[:2]
