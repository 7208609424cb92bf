"""Focus distances that cameras noted (EXIF), and how far they are believed.

A camera measures from the sensor, not from the lens; its scale is marked roughly, and the scene has a unit of
its own. So vergence by the scene follows the noted one along a line,

    1/z_f = scale / d + offset

whose scale is metres per scene unit and whose offset is small. A line is believed where the photos' own focus
distances lie along it: numbers that are constant, shuffled or made up explain nothing of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io.exif import NOTED_DISTANCE, LensFacts

FEWEST_TO_AGREE = 10  # photos; fewer may lie along a line by chance
BELIEVED = 0.2  # part of the scatter of 1 / z_f (by `robust_cost`) that the line has to explain
OFFSET = NOTED_DISTANCE  # standard deviation of the offset, as a part of the vergence
# Deviation of 1 / z_f, as a part of the median: of photos at one distance at most; and up to which the median
# ratio of noted distances to found ones is right whether or not they follow each other.
ALIKE, NARROW = 0.15, 0.25
FINEST = 0.02  # no camera knows its focus distance better; standard deviation as a part
FAR_OFF = 3.0  # standard deviations from the line, from which on a photo starts on it
TURN = 2.0  # standard deviations, from which on being farther off costs little more
# Standard deviation of the vergence that the search finds, as a part, by its method: on scenes of known
# truth, and on moldcape_f25, of what autofocus would choose.
OWN_ERROR = {"compared": 0.02, "each alone": 0.04, "none": 0.06}


@dataclass(frozen=True)
class NotedFocus:
    """Noted focus distances that agree with the photos.

    Args:
        vergence: (V,) by the camera, as a part of the median; NaN where it noted nothing.
        line: (2,) scale and offset: 1 / z_f = unit (scale vergence + offset). Scale is about 1.
        unit: 1 / scene unit; median of the 1 / z_f that the line was drawn through.
        error: standard deviation of the noted vergence about the line, as a part of the median.
        scatter: that of the photos' own vergence about it.
    """

    vergence: Float[Tensor, " V"]
    line: Float[Tensor, "2"]
    unit: float
    error: float
    scatter: float

    @property
    def on_line(self) -> Float[Tensor, " V"]:
        """1 / z_f by the line, 1 / scene unit; NaN where the camera noted nothing."""
        return self.unit * (self.line[0] * self.vergence + self.line[1])

    def start(self, found: Float[Tensor, " V"], own_error: float) -> Float[Tensor, " V"]:
        """Focus distances to start training from: found and noted ones, each by how sure it is. Where the two
        contradict each other, the noted one.

        Args:
            found: focus distances by the search.
            own_error: their standard deviation, as in `OWN_ERROR`.
        """
        own, noted = 1 / found.double(), self.on_line
        share = own_error**2 / (own_error**2 + self.error**2)
        off = (own - noted).abs() / self.unit
        mixed = torch.where(off > FAR_OFF * self.scatter, noted, own + share * (noted - own))
        return (1 / torch.where(noted > 0, mixed, own)).to(found)  # NaN > 0 is False


def agree(found: Float[Tensor, " V"], noted: Float[Tensor, " V"], own_error: float) -> NotedFocus | None:
    """The line through focus distances found and noted; None where they do not agree, or too few are noted.

    Robust: residuals count by `robust_cost` about their own scatter. The offset is drawn to 0.

    Args:
        found: scene units.
        noted: metres, NaN where there is none.
        own_error: standard deviation of what was found, as a part.
    """
    told = ~noted.isnan()
    if told.sum() < FEWEST_TO_AGREE:
        return None
    y, x = 1 / found.detach().cpu().double(), 1 / noted.cpu().double()
    unit, middle = float(y[told].median()), float(x[told].median())
    y, x = y / unit, x / middle
    line, scatter = robust_line(x[told], y[told])
    off, spread = (y - line[0] * x - line[1])[told], (y - 1)[told]
    if not robust_cost(off / scatter).sum() < (1 - BELIEVED) * robust_cost(spread / scatter).sum():
        return None
    error = math.sqrt(max(scatter**2 - own_error**2, FINEST**2))
    return NotedFocus(x, line, unit, error, scatter)


def fits(found: Sequence[float], facts: Sequence[LensFacts]) -> bool:
    """Whether the focus distances that cameras noted agree with those found (scene units), or may do.

    Where few are noted or the focus varies little, they only must not be all alike beside others.
    """
    ours, noted = torch.tensor(found), torch.tensor([one.focus_distance or math.nan for one in facts])
    ours, noted = (1 / distances[~noted.isnan()] for distances in (ours, noted))
    if len(noted) < 2:
        return True
    own_scatter, noted_scatter = (deviation(values / values.median() - 1) for values in (ours, noted))
    if bool((noted == noted[0]).all()):
        return own_scatter <= ALIKE
    if len(noted) < FEWEST_TO_AGREE or max(own_scatter, noted_scatter) <= NARROW:
        return True
    return agree(1 / ours, 1 / noted, OWN_ERROR["none"]) is not None


def robust_line(x: Float[Tensor, " N"], y: Float[Tensor, " N"]) -> tuple[Float[Tensor, "2"], float]:
    """Scale and offset of y = scale x + offset, and the standard deviation of the residuals."""
    line = torch.stack([(y / x).median(), x.new_zeros(())])
    for _ in range(20):
        line = better_line(line, x, y, torch.ones_like(x), max(deviation(y - line[0] * x - line[1]), 1e-6))
    return line, max(deviation(y - line[0] * x - line[1]), 1e-6)


def better_line(
    line: Float[Tensor, "2"],
    x: Float[Tensor, " N"],
    y: Float[Tensor, " N"],
    told: Float[Tensor, " N"],
    scatter: Tensor | float,
) -> Float[Tensor, "2"]:
    """One step from a line to the robust one: least squares, weighed by the distance from the line so far.
    It stays where nothing is told.

    Args:
        told: 1 where x counts, 0 elsewhere.
        scatter: standard deviation about the line.
    """
    residual = y - line[0] * x - line[1]
    weights = told / (1 + (residual / (TURN * scatter)).square()).square() / scatter**2
    xx, xo, oo = (weights * x * x).sum() + 1e-6, (weights * x).sum(), weights.sum() + OFFSET**-2
    xy, oy = (weights * x * y).sum() + 1e-6 * line[0], (weights * y).sum()
    return torch.stack([oo * xy - xo * oy, xx * oy - xo * xy]) / (xx * oo - xo * xo)


def deviation(residual: Tensor) -> float:
    """Standard deviation by the size that 68 % stay below."""
    return float(residual.abs().quantile(0.6827))


def robust_cost(deviations: Tensor) -> Tensor:
    """Cost of being so many standard deviations off: their square, if few; never more than TURN^2."""
    squares = deviations.square()
    return squares / (1 + squares / TURN**2)
