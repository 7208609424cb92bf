"""The search for the lens before training: focus distances and K from how sharp the photos show the
scene's points.

Photos are compared point by point (`fit_lens`), or each is measured by itself (`fit_blurs`), which is rougher
but also sees what is blurred alike in all. `find_lens` chooses between the two.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.optics.evidence import FEW_POINTS, Evidence, likely_depths, mean_depths
from cocogs.optics.sharpness import DETAIL_FLOOR
from cocogs.quantiles import quantiles

IN_FOCUS = 1.5  # px; a CoC of this diameter still counts as in focus
VARIED = 0.6  # from this `variation` on, photos differ enough in focus to be compared with each other
EXPLAINED = 0.25  # from this part of its scatter explained by depth on, a photo's own blur is believed


def find_lens(evidence: Evidence, blurs: Float[Tensor, "V P"]) -> tuple[Float[Tensor, " V"], float, str]:
    """Focus distances, K in px x scene unit, and by which method: "compared", "each alone" or "none".

    With many photos, some of them tell the lens (`Evidence.compared`). Each of the others is then compared
    with these.

    Where the photos differ they are compared, point by point: texture then cancels out. Where they do not,
    they are sharp or blurred alike, and only each photo by itself can tell which. Where each photo by itself
    tells something, that is also where the comparison starts. Where nothing tells, photos are taken to be
    focused on what autofocus would choose.

    Args:
        blurs: from `measure_photos`.
    """
    if evidence.compared is not None:
        some = list(evidence.compared)
        distances, K, method = find_lens(evidence.of(some), blurs[some])
        typical = likely_depths(evidence) if method == "none" else mean_depths(evidence)
        return focus_of_all(evidence, distances, K, typical), K, method
    own_focus, own_K, explained = fit_blurs(evidence, blurs)
    believed = explained >= EXPLAINED
    if variation(evidence) >= VARIED:
        start = own_focus if believed else None
        return *fit_lens(evidence, start, prior_cap=0.05, beyond=0.1), "compared"
    if believed:
        return own_focus, own_K, "each alone"
    focus, K = fit_lens(evidence, likely_depths(evidence))
    spread = quantiles((1 / evidence.depths - 1 / focus[:, None]).abs(), 0.9)
    # No evidence of blur: K is at most what leaves nine tenths of the points in focus.
    return focus, min(K, float(IN_FOCUS / spread)), "none"


# px; standard deviation of a photo's own softness, pixels and all, where in focus. With it K comes out right
# on six ray-traced sets: .72 to 1.06 of the truth; with .40 .58 to .93, with .50 .80 to 1.18.
SENSOR_BLUR = 0.45
SWEEPS, STEPS = 12, 81  # how often K and z_f are found in turn; how many z_f are tried
PRIOR_CAP = 0.15  # misfit at which clear evidence overrides "focused where the search starts"


def fit_lens(
    evidence: Evidence,
    start: Float[Tensor, " V"] | None = None,
    prior_cap: float = PRIOR_CAP,
    beyond: float = 0.0,
) -> tuple[Float[Tensor, " V"], float]:
    """Focus distances and K that best explain which points look sharp in which photo.

    A point's texture has gradient energy t in perfect focus; blur of variance v lowers it to about
    t s^2 / (s^2 + v), s the sharpness of the photo itself (exact for a texture whose power falls with the
    square of frequency, as natural ones do). In logarithms t is a point's median over the photos, and z_f
    and K are found in turn on grids, under a robust cost.

    Shine, occlusion and texture behind edges mislead it alike in all photos, so a photo's z_f stays where
    it starts unless the evidence against that is clear. On photos with visible blur it is (misfit falls by
    0.1 to 0.7), on shared/data/real/moldcape_f25 it is not (0.02 to 0.06). With fewer than 3 photos or 20
    points there is no evidence: likely depths, and the K that blurs by 1 % of the width.
    Sharp photos end at the smallest K tried, which blurs by 0.025 % of the width: less than anyone sees.

    Args:
        start: focus distances; None: the mean depths of what the photos see. From there the search can
            end in a minimum with no lens at all.
        prior_cap: how clear the evidence has to be to leave the start.
        beyond: how far z_f may lie outside the depths of the points, as a part of their range of 1/z.
    """
    inverse = 1 / evidence.depths
    middle = 1 / mean_depths(evidence)
    if evidence.depths.isnan().all(0).logical_not().sum() < FEW_POINTS or len(middle) < 3:
        return unknown_lens(evidence)
    typical = typical_defocus(inverse, middle)
    detail = (evidence.energies + DETAIL_FLOOR).log()
    low, high = quantiles(inverse, 0.01, 0.99).tolist()
    grid = grid_of(low, high, beyond, STEPS, inverse.device)
    spread = torch.nanquantile(inverse, 0.9, dim=1) - torch.nanquantile(inverse, 0.1, dim=1)
    Ks = evidence.width / typical * torch.logspace(-3.6, -1.3, 52, device=typical.device)
    centre = middle if start is None else 1 / start
    focus, K = centre, Ks[0]
    for _ in range(SWEEPS):
        before = focus
        away = inverse - focus[:, None]
        costs = [misfit(detail, away, evidence.K_per_photo(k)).nanmean() for k in Ks]
        K = Ks[torch.stack(costs).argmin()]
        own = evidence.K_per_photo(K)
        texture = (detail + lost_detail(away, own)).nanmedian(0).values
        focus = torch.stack(
            [
                sharpest(detail[v] - texture, inverse[v], own[v], grid, centre[v], spread[v], prior_cap)
                for v in range(len(focus))
            ]
        )
        if torch.equal(focus, before):  # and so would K be the next time, and all that follows
            break
    return 1 / focus, float(K)


def focus_of_all(
    evidence: Evidence, known: Float[Tensor, " C"], K: float, typical: Float[Tensor, " V"]
) -> Float[Tensor, " V"]:
    """Focus distances of all photos, where those of the C compared photos and K are known.

    What the compared photos show of a point tells its texture. Each other photo takes the focus distance that
    fits what it shows of these points, or a `typical` one where it shares too few.
    """
    assert evidence.compared is not None
    some = list(evidence.compared)
    inverse, own = 1 / evidence.depths, evidence.K_per_photo(K)
    detail = (evidence.energies + DETAIL_FLOOR).log()
    lost = lost_detail(inverse[some] - 1 / known[:, None], own[some])
    texture = (detail[some] + lost).nanmedian(0).values
    low, high = quantiles(inverse[some], 0.01, 0.99).tolist()
    grid = grid_of(low, high, 0.1, STEPS, inverse.device)
    centre = 1 / typical
    spread = torch.nanquantile(inverse, 0.9, dim=1) - torch.nanquantile(inverse, 0.1, dim=1)
    focus = centre.clone()
    for v in set(range(len(focus))) - set(some):
        relative = detail[v] - texture
        focus[v] = sharpest(relative, inverse[v], own[v], grid, centre[v], spread[v], PRIOR_CAP)
    focus[some] = 1 / known
    return 1 / focus


def unknown_lens(evidence: Evidence) -> tuple[Float[Tensor, " V"], float]:
    """Focus distances and K where nothing is known: likely depths, and a K that blurs by 1 % of the
    width."""
    middle = 1 / likely_depths(evidence)
    return 1 / middle, float(0.01 * evidence.width / typical_defocus(1 / evidence.depths, middle))


def typical_defocus(inverse: Float[Tensor, "V P"], middle: Float[Tensor, " V"]) -> Float[Tensor, ""]:
    """Median of |1/z - 1/z_f| where photos are focused on `middle`. A flat wall photographed head-on has no
    spread of depths: then 1 % of its vergence stands for it."""
    return (inverse - middle[:, None]).abs().nanmedian().clamp_min(0.01 * float(middle.median()))


def grid_of(low: float, high: float, beyond: float, steps: int, device: torch.device) -> Float[Tensor, " G"]:
    """Values of 1 / z_f to try: from `low` to `high`, and a part `beyond` of that range to either side."""
    margin = beyond * (high - low)
    return torch.linspace(max(low - margin, 1e-9), high + margin, steps, device=device)


def disc_variance(coc: Tensor) -> Tensor:
    """Variance per axis of a uniform disc of this diameter. Gradient energy goes by it, and not by that of
    the Gaussian which blurs most alike (`blur_variance`), with which K came out 10 % lower on five scenes."""
    return coc.square() / 16


def lost_detail(defocus: Tensor, K: Tensor) -> Tensor:
    """Log of the factor by which blur lowers gradient energy; `defocus` is 1/z - 1/z_f."""
    return torch.log1p(disc_variance(K * defocus) / SENSOR_BLUR**2)


def misfit(
    detail: Float[Tensor, "V P"], defocus: Float[Tensor, "V P"], K: Float[Tensor, "V 1"]
) -> Float[Tensor, "V P"]:
    """Robust distance of each observation from its point's median texture."""
    texture = detail + lost_detail(defocus, K)
    return huber(texture - texture.nanmedian(0).values)


def sharpest(
    detail: Float[Tensor, " P"],
    inverse: Float[Tensor, " P"],
    K: Float[Tensor, "1"],
    grid: Float[Tensor, " G"],
    centre: Float[Tensor, ""],
    spread: Float[Tensor, ""],
    prior_cap: float,
) -> Float[Tensor, ""]:
    """1 / z_f of one photo, from `grid`: `detail` is log energy over the point's own texture."""
    seen = ~detail.isnan()
    if seen.sum() < FEW_POINTS:
        return centre
    costs = huber(detail[seen] + lost_detail(inverse[seen] - grid[:, None], K)).mean(1)
    shift = ((grid - centre) / spread.clamp_min(1e-9)).square()
    return grid[(costs + shift / (1 + shift / prior_cap)).argmin()]


def huber(residual: Tensor, turn: float = 0.7) -> Tensor:
    size = residual.abs()
    return torch.where(size < turn, residual.square() / 2, turn * (size - turn / 2))


def variation(evidence: Evidence) -> float:
    """How differently photos show the same points: median over the points of log energy, from the photo of
    middle sharpness to the sharper ones (85th percentile). About 0.3 for photos that are sharp or focused
    alike."""
    detail = (evidence.energies + DETAIL_FLOOR).log()
    detail = detail[:, (~detail.isnan()).sum(0) >= 4]
    if detail.shape[1] == 0:
        return 0.0
    return float((torch.nanquantile(detail, 0.85, dim=0) - detail.nanmedian(0).values).median())


def fit_blurs(
    evidence: Evidence, blurs: Float[Tensor, "V P"], most: int = 400
) -> tuple[Float[Tensor, " V"], float, float]:
    """Focus distances and K from what `blur_map` shows, and how much of its scatter they explain (0 to 1).

    blur^2 = s^2 + `disc_variance`(K (1/z - 1/z_f)) with one softness s and one K for all, under a robust cost
    of the logarithms. At most `most` points per photo are used; a photo with hardly any stays at the mean
    depth of what it sees.
    """
    inverse, middle = 1 / evidence.depths, 1 / mean_depths(evidence)
    low, high = quantiles(inverse, 0.01, 0.99).tolist()
    if not low < high:  # a flat thing photographed head-on: every focus distance blurs it alike
        return 1 / middle, 0.0, 0.0
    grid = grid_of(low, high, 0.1, 61, inverse.device)
    known = [(~blurs[v].isnan()).nonzero()[:, 0] for v in range(len(blurs))]
    chosen = [k[:: max(1, len(k) // most)] for k in known]
    logs = [2 * blurs[v, k].log() for v, k in enumerate(chosen)]
    ratios = evidence.K_per_photo(1.0)
    defocus = [ratios[v] * (inverse[v, k] - grid[:, None]) for v, k in enumerate(chosen)]
    flat = sum(float(huber(row - row.median()).sum()) for row in logs)
    best = (math.inf, 0.0, torch.zeros_like(middle))
    for softness in (0.35, 0.5, 0.7, 1.0):
        for K in evidence.width / (high - low) * torch.logspace(-2.7, -0.7, 61, device=inverse.device):
            costs = [
                huber(row - torch.log(softness**2 + disc_variance(K * away))).sum(1)
                for row, away in zip(logs, defocus, strict=True)
            ]
            total = sum(float(cost.min()) for cost in costs)
            if total < best[0]:
                best = total, float(K), torch.stack([grid[cost.argmin()] for cost in costs])
    told = torch.tensor([len(k) >= FEW_POINTS for k in known]).to(middle.device)
    explained = 1 - best[0] / flat if flat > 0 else 0.0  # 0: no photo has texture
    return 1 / torch.where(told, best[2], middle), best[1], explained
