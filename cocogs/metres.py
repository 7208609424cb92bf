"""How long a scene unit is in metres, by what EXIF says of the photos' lens (docs/method.md, "Metres")."""

import math
from collections.abc import Sequence
from statistics import median

from cocogs.io.exif import NAMED_FOCAL_LENGTH, NOTED_DISTANCE, LensFacts
from cocogs.io.lens_file import APERTURE, FOCUS_DISTANCES, GIVEN, Metres
from cocogs.optics.noted_focus import fits

FEWEST = 3
"""Photos with a focus distance; fewer tell no spread."""
# Standard uncertainties, as parts of the value. The first is the deviation of an even distribution: f-numbers
# go in thirds of a stop, so half a step off at most.
NAMED_F_NUMBER = (2 ** (1 / 12) - 1) / math.sqrt(3)
LEARNED_K = 0.04  # on scenes of known truth, after training (docs/benchmarks.md)
SEARCHED_K = 0.13  # before training, likewise
FAR_APART = 2.0  # combined standard uncertainties between the two ways, from which on one must be wrong
OWN_LENS = 0.1  # by so much EXIF's focal length may differ from the cameras'
NOT_FOLLOWING = "focus distances in EXIF do not follow those of the photos"
DISAGREEMENT = (
    "The two disagree by more than their uncertainty: trust neither until a length in the scene is measured."
)


def metres_by_exif(
    facts: Sequence[LensFacts],
    focus_distances: Sequence[float],
    diameters: Sequence[float] | None,
    told: bool = True,
    K_error: float = LEARNED_K,
) -> Metres | None:
    """The length of a scene unit; None where it cannot be known.

    At f-number N the aperture of a lens of focal length f is f / N metres wide, whatever the sensor. Where
    the photos tell its diameter in scene units, the ratio of the two is the answer. Else it is the median
    ratio of the focus distances that cameras note to those found, where the two agree.

    Args:
        facts: of the V photos.
        focus_distances: of the V photos, as found; scene units.
        diameters: of the aperture, of the V photos, as found; scene units. None where none has a length.
        told: whether the photos tell the diameters; else these are where they started.
        K_error: standard uncertainty of the diameters, as a part of them.
    """
    believed = fits(focus_distances, facts)
    noted = [
        one.focus_distance / found
        for one, found in zip(facts, focus_distances, strict=True)
        if believed and one.focus_distance is not None
    ]
    by_focus, spread = None, None
    if len(noted) >= FEWEST:
        by_focus = median(noted)
        spread = 1.4826 * median(abs(ratio / by_focus - 1) for ratio in noted)
    by_aperture, aperture_error = _by_aperture(facts, diameters, K_error)
    rest = (by_aperture, by_focus, len(noted), spread)
    if by_aperture is not None and told:
        return Metres(by_aperture, by_aperture * aperture_error, *rest, APERTURE)
    if by_focus is not None and spread is not None:
        return Metres(by_focus, by_focus * _focus_error(spread, len(noted)), *rest, FOCUS_DISTANCES)
    return None


def _by_aperture(
    facts: Sequence[LensFacts], diameters: Sequence[float] | None, K_error: float
) -> tuple[float | None, float]:
    """Metres in a scene unit, and the standard uncertainty as a part of it."""
    logs = [
        math.log(one.aperture_diameter / diameter)
        for one, diameter in zip(facts, diameters or [math.nan] * len(facts), strict=True)
        if one.aperture_diameter is not None and diameter > 0
    ]
    if not logs:
        return None, math.inf
    mean = math.fsum(logs) / len(logs)
    variance = math.fsum((log - mean) ** 2 for log in logs) / len(logs)
    scatter = math.sqrt(variance / len(logs))
    return math.exp(mean), math.hypot(NAMED_F_NUMBER, NAMED_FOCAL_LENGTH, K_error, scatter)


def _focus_error(spread: float, photos: int) -> float:
    """Standard uncertainty of the median ratio of focus distances, as a part of it."""
    return math.hypot(NOTED_DISTANCE, 1.2533 * spread / math.sqrt(photos))


def sentences(metres: Metres) -> str:
    """For the user: how long a unit is, by what, and how well the two ways agree."""
    length = f"One scene unit is {in_words(metres)}"
    if metres.source == GIVEN:
        return f"{length}, as was given by hand."
    distances = f"the focus distances in the EXIF of {metres.photos} photos"
    if metres.spread is not None:
        distances += f" (they scatter by {100 * metres.spread:.2g} %)"
    if metres.source == FOCUS_DISTANCES:
        text = f"{length}, by {distances}."
        if metres.by_aperture is not None:
            text += (
                f" The aperture, which these photos hardly tell, would make it {metres.by_aperture:.3g} m."
            )
        return text
    text = f"{length}, by the f-number and focal length in EXIF."
    if metres.by_focus_distances is None or metres.by_aperture is None:
        return text
    text += (
        f" By {distances} it is {metres.by_focus_distances:.3g} m, "
        f"{metres.by_focus_distances / metres.by_aperture:.2f} of that."
    )
    return f"{text} {DISAGREEMENT}" if disagree(metres) else text


def in_words(metres: Metres) -> str:
    """Such as 0.62 m ±6 %."""
    uncertainty = f" ±{100 * metres.error / metres.per_unit:.0f} %" if metres.error else ""
    return f"{metres.per_unit:.3g} m{uncertainty}"


def disagree(metres: Metres) -> bool:
    """Whether aperture and focus distances contradict each other, where either could tell alone."""
    if metres.source != APERTURE or metres.by_focus_distances is None or metres.spread is None:
        return False
    apart = abs(math.log(metres.by_focus_distances / metres.per_unit))
    uncertainty = math.hypot(metres.error / metres.per_unit, _focus_error(metres.spread, metres.photos))
    return apart > FAR_APART * uncertainty


def why_unknown(
    facts: Sequence[LensFacts], focus_distances: Sequence[float], diameters: Sequence[float] | None
) -> str:
    """Why `metres_by_exif` gives None: the end of a sentence."""
    few = f"fewer than {FEWEST} of the photos have a focus distance in their EXIF"
    if not fits(focus_distances, facts):
        few = f"the {NOT_FOLLOWING}"
    if not any(one.aperture_diameter for one in facts):
        return f"the photos' EXIF lacks f-number or focal length, and {few}"
    if diameters is None:
        return f"preset paper has no aperture in scene units, and {few}"
    return f"the photos differ too little in focus to tell the aperture, and {few}"
