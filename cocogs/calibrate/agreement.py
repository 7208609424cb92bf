"""What several sources, or several photos of one camera, say of a lens: checked against each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cocogs.errors import InputError
from cocogs.io.lens_estimate import SIGMAS, LensEstimate

INDEPENDENT = ("lines",)  # sources whose errors differ from photo to photo; the others' are the same in all
TUKEY = 4.685  # deviations: beyond it a photo counts for nothing
ROUNDS = 20


def surest(estimates: Sequence[LensEstimate], photo: str) -> tuple[LensEstimate, list[LensEstimate]]:
    """The estimate with the least deviation, and the others. Nothing is averaged.

    Args:
        estimates: of one photo, by different sources; at least one.
        photo: its name.

    Raises:
        InputError: two sources contradict each other.
    """
    ranked = sorted(estimates, key=lambda one: one.relative_deviation)
    for other in ranked[1:]:
        if (apart := ranked[0].sigmas_from(other)) > SIGMAS:
            raise InputError(
                f"{photo}: {_says(ranked[0])}, but {_says(other)}. They contradict each other by {apart:.0f} "
                "standard deviations: find out which is wrong, and leave it out."
            )
    return ranked[0], ranked[1:]


def shared_lens(estimates: Mapping[str, LensEstimate]) -> LensEstimate:
    """What one source says of the lens that took all photos.

    A source that errs in each photo anew is the surer the more photos there are, and photos that differ from
    the others count for nothing.

    Args:
        estimates: by the photos' names, of one source; at least one.

    Raises:
        InputError: the photos are of different sizes, or a source that errs alike in all photos finds
            different focal lengths.
    """
    names, found = list(estimates), list(estimates.values())
    first = min(found, key=lambda one: one.relative_deviation)
    if odd := next((name for name in names if estimates[name].size != first.size), None):
        width, height = first.size
        raise InputError(
            f"{odd} is of another size than {width}x{height}: photos of one lens (`shared`) must be of one "
            "size; turned ones are given apart."
        )
    source, independent = first.source, first.source in INDEPENDENT
    if not independent:
        for name, one in estimates.items():
            if (apart := first.sigmas_from(one)) > SIGMAS:
                raise InputError(
                    f"By {source} the photos are not of one lens: {name} differs by {apart:.0f} standard "
                    "deviations from others: leave out `shared`."
                )
    focal = [
        _common([math.log(one.focal[i]) for one in found], _relative(found, i), independent) for i in (0, 1)
    ]
    center = [
        _common([one.center[i] for one in found], [one.center_deviation[i] for one in found], independent)
        for i in (0, 1)
    ]
    bent = [one.k1 for one in found if one.k1 is not None]
    unsure = [one.k1_deviation or 0.0 for one in found if one.k1 is not None]
    k1, k1_off = _common(bent, unsure, independent) if bent else (None, None)
    if first.focal[0] == first.focal[1]:
        focal[1] = focal[0]
    (x, x_off), (y, y_off) = focal
    return replace(
        first,
        focal=(math.exp(x), math.exp(y)),
        focal_deviation=(x_off * math.exp(x), y_off * math.exp(y)),
        center=(center[0][0], center[1][0]),
        center_deviation=(center[0][1], center[1][1]),
        k1=k1,
        k1_deviation=k1_off,
        basis=f"{len(found)} photos; of the surest: {first.basis}" if len(found) > 1 else first.basis,
    )


def _relative(found: list[LensEstimate], axis: int) -> list[float]:
    return [one.focal_deviation[axis] / one.focal[axis] for one in found]


def _common(values: list[float], deviations: list[float], independent: bool) -> tuple[float, float]:
    """The number behind several, and its standard deviation.

    Args:
        values: no NaN.
        deviations: infinite: nothing is known, and the value is a guess.
        independent: each errs by itself; else all err alike.
    """
    known = [(value, off) for value, off in zip(values, deviations, strict=True) if math.isfinite(off)]
    if not known:
        return float(np.median(values)), math.inf
    x, off = np.array(known).T
    off = np.maximum(off, 1e-12)
    if not independent:
        nearest = int(off.argmin())
        return float(x[nearest]), float(off[nearest])
    middle = float(np.median(x))
    # Where the photos differ by more than they say, they are less sure than they say.
    spread = max(1.0, 1.4826 * float(np.median(np.abs(x - middle) / off)))
    weights = 1 / off**2
    for _ in range(ROUNDS):
        share = np.clip(1 - ((x - middle) / (TUKEY * spread * off)) ** 2, 0, None) ** 2
        if not share.any():
            break
        weights = share / off**2
        middle = float((weights * x).sum() / weights.sum())
    return middle, spread / math.sqrt(float(weights.sum()))


def _says(one: LensEstimate) -> str:
    fx, off = one.focal[0], one.focal_deviation[0]
    return f"{one.source} says {fx:.0f} px ±{off:.0f} ({one.basis})"
