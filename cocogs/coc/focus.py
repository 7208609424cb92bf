"""What the camera was set to, and how still it was held: a focus distance and a softness per photo, the
aperture, and where they start."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.quantiles import quantiles
from cocogs.scene import Scene

MIN_VERGENCE = 1e-3  # of typical depth / z_f: farther is as good as infinity


class FocusPlanes(nn.Module):
    """Focus distance z_f of every training photo and aperture K of the camera, learned.

    Kept as the unitless numbers that behave well under one learning rate in every scene:
    `vergence` (V,) = typical depth / z_f, and `log_aperture` (1,) or, per photo, (V,).

    `softness` (V,) is the variance, px^2 and never negative, of what blurs all of a photo alike, near and
    far: a hand that shook. Without it such a photo's focus flees from what it shows, to either side.
    """

    def __init__(
        self,
        focus_distances: Float[Tensor, " V"],
        aperture: float,
        typical_depth: float,
        per_photo_aperture: bool = False,
        held: bool = True,
        zoom: Float[Tensor, " V"] | None = None,
    ) -> None:
        """
        Args:
            focus_distances: start values > 0 in scene units.
            aperture: start value of K > 0 in px x scene unit.
            typical_depth: scene units; makes `vergence` about 1.
            per_photo_aperture: one K for every photo instead of one for all.
            held: training keeps K near its start value (see `OptimConfig.aperture_prior`).
            zoom: focal length of every photo, in px, over that which K is for; None: they are the same. One
                opening gives circles that grow with the focal length.
        """
        super().__init__()
        self.register_buffer("typical_depth", torch.tensor(float(typical_depth)))
        self.vergence = nn.Parameter((typical_depth / focus_distances.float()).clamp_min(MIN_VERGENCE))
        count = len(focus_distances) if per_photo_aperture else 1
        self.log_aperture = nn.Parameter(torch.full((count,), math.log(aperture)))
        self.register_buffer("log_start", torch.tensor(math.log(aperture)))
        self.register_buffer("held", torch.tensor(float(held)))
        self.softness = nn.Parameter(torch.zeros(len(focus_distances)))
        self.register_buffer("zoom", torch.ones(len(focus_distances)) if zoom is None else zoom.float())

    zoom: Float[Tensor, " V"]
    typical_depth: Float[Tensor, ""]
    log_start: Float[Tensor, ""]
    held: Float[Tensor, ""]

    @property
    def focus_distances(self) -> Float[Tensor, " V"]:
        """In scene units."""
        return self.typical_depth / self.vergence

    def focus_distance(self, view_index: int) -> Float[Tensor, ""]:
        return self.focus_distances[view_index]

    def aperture(self, view_index: int) -> Float[Tensor, ""]:
        """K of one photo, px x scene unit."""
        own = len(self.log_aperture) > 1
        return self.log_aperture[view_index if own else 0].exp() * self.zoom[view_index]

    @torch.no_grad()
    def keep_possible(self) -> None:
        """After a step: nothing is focused beyond infinity, and no photo is sharper than sharp. The numbers
        themselves are held there, since what only reads them so would leave them without a gradient."""
        self.vergence.clamp_(min=MIN_VERGENCE)
        self.softness.clamp_(min=0)


@dataclass(frozen=True)
class Evidence:
    """How much detail surrounds P SfM points in V photos, for guessing the lens before training.

    depths: z in scene units, NaN where a photo does not see the point;
    energies: local gradient energy there, NaN likewise; width: of the first photo, px;
    zoom: focal length of each photo in px over that of the first, to which K belongs; None: all alike.
    """

    depths: Float[Tensor, "V P"]
    energies: Float[Tensor, "V P"]
    width: int
    zoom: Float[Tensor, " V"] | None = None

    def apertures(self, aperture: Tensor | float) -> Float[Tensor, "V 1"]:
        """K of every photo: one opening blurs by the more px the longer the focal length in px."""
        zoom = torch.ones_like(self.depths[:, 0]) if self.zoom is None else self.zoom
        return aperture * zoom[:, None]


MOST_POINTS = 5_000
FEW_POINTS = 20  # with fewer in a photo nothing is concluded about its focus


def measure_photos(scene: Scene, device: torch.device | str = "cpu") -> tuple[Evidence, Float[Tensor, "V P"]]:
    """What the training photos show of the scene's points: detail, and blur by `blur_map`.

    Raises:
        InputError: none sees any: cameras and points do not fit.
    """
    views, points = scene.train_views, thin_out(scene.points).to(device)
    rows = []
    for view in views:  # one photo at a time: all of them may be more than the memory holds
        mask = scene.mask(view)
        mask = None if mask is None else mask.to(device)
        rows.append(measure_photo(view.camera, scene.photo(view).to(device), mask, points))
    depths, energies, blurs = (torch.stack(row) for row in zip(*rows, strict=True))
    if depths.isnan().all():
        raise InputError(f"No photo of {scene.source} sees its points: give cameras and points of one model.")
    first = views[0].camera
    zoom = torch.tensor([view.camera.fx / first.fx for view in views], device=depths.device)
    return Evidence(depths, energies, first.width, zoom), blurs


def thin_out(points: Float[Tensor, "P 3"]) -> Float[Tensor, "Q 3"]:
    """Every k-th of the SfM points, at most `MOST_POINTS`: the search for the lens takes the longer the more
    there are, and 100,000 tell it no more."""
    return points[:: max(1, math.ceil(len(points) / MOST_POINTS))]


def measure_photo(
    camera: Camera,
    photo: Float[Tensor, "3 H W"],
    mask: Float[Tensor, "H W"] | None,
    points: Float[Tensor, "P 3"],
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Depth of every point, how much detail surrounds it in the photo, and how blurred that is.

    NaN where the photo does not show it: points outside the mask, which marks what to reconstruct, do not
    count. Where there is no texture the blur is NaN too.
    """
    pixels, z = camera.project(points)
    inside = (z > 0) & camera.shows(pixels, margin=4)
    x, y = pixels.long().unbind(-1)
    if mask is not None:
        inside[inside.clone()] = mask[y[inside], x[inside]] > 0

    def at_points(picture: Tensor) -> Tensor:
        values = torch.full_like(z, math.nan)
        values[inside] = picture[y[inside], x[inside]]
        return values

    return torch.where(inside, z, math.nan), at_points(gradient_energy(photo)), at_points(blur_map(photo))


def gradient_energy(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Mean squared grey-level gradient over 7x7 px."""
    grey = photo.mean(0)
    dx = F.pad(grey[:, 1:] - grey[:, :-1], (0, 1))
    dy = F.pad(grey[1:] - grey[:-1], (0, 0, 0, 1))
    return F.avg_pool2d((dx.square() + dy.square())[None], 7, stride=1, padding=3)[0]


def mean_depths(evidence: Evidence) -> Float[Tensor, " V"]:
    """Mean z of the points each photo sees, scene units; the overall mean where it sees none."""
    overall = evidence.depths.nanmean()
    return torch.nan_to_num(evidence.depths.nanmean(1), nan=float(overall))


IN_FOCUS = 1.5  # px; a CoC of this diameter still counts as in focus
VARIED = 0.6  # from this `variation` on, photos differ enough in focus to be compared with each other
EXPLAINED = 0.25  # from this part of its scatter explained by depth on, a photo's own blur is believed


def find_lens(evidence: Evidence, blurs: Float[Tensor, "V P"]) -> tuple[Float[Tensor, " V"], float, str]:
    """Focus distances, K in px x scene unit, and by which method: "compared", "each alone" or "none".

    Where the photos differ they are compared, point by point: texture then cancels out. Where they do not,
    they are sharp or blurred alike, and only each photo by itself can tell which. Where each photo by itself
    tells something, that is also where the comparison starts.

    Args:
        blurs: from `measure_photos`.
    """
    own_focus, own_aperture, explained = fit_blurs(evidence, blurs)
    believed = explained >= EXPLAINED
    if variation(evidence) >= VARIED:
        start = own_focus if believed else None
        return *fit_lens(evidence, start, prior_cap=0.05, beyond=0.1), "compared"
    if believed:
        return own_focus, own_aperture, "each alone"
    focus, aperture = fit_lens(evidence)
    inverse = 1 / evidence.depths
    spread = quantiles((inverse - inverse.nanmedian()).abs(), 0.9)
    # Nothing speaks for more blur than nobody sees.
    return focus, min(aperture, float(IN_FOCUS / spread)), "none"


# px; standard deviation of a photo's own softness, pixels and all, where in focus. With it K comes out right
# on six ray-traced sets: .72 to 1.06 of the truth; with .40 .58 to .93, with .50 .80 to 1.18.
SENSOR_BLUR = 0.45
DETAIL_FLOOR = 1e-6  # gradient energy of noise
SWEEPS, STEPS = 12, 81  # how often K and z_f are found in turn; how many z_f are tried
PRIOR_CAP = 0.15  # misfit at which clear evidence overrides "focused where the search starts"


def fit_lens(
    evidence: Evidence,
    start: Float[Tensor, " V"] | None = None,
    prior_cap: float = PRIOR_CAP,
    beyond: float = 0.0,
) -> tuple[Float[Tensor, " V"], float]:
    """Focus distances and aperture K that best explain which points look sharp in which photo.

    A point's texture has gradient energy t in perfect focus; blur of variance v lowers it to about
    t s^2 / (s^2 + v), s the sharpness of the photo itself (exact for a texture whose power falls with the
    square of frequency, as natural ones do). In logarithms t is a point's median over the photos, and z_f
    and K are found in turn on grids, under a robust cost.

    Shine, occlusion and texture behind edges mislead it alike in all photos, so a photo's z_f stays where
    it starts unless the evidence against that is clear. On photos with visible blur it is (misfit falls by
    0.1 to 0.7), on shared/data/real/moldcape_f25 it is not (0.02 to 0.06). With fewer than 3 photos or 20
    points there is no evidence: mean depths, and the K that blurs by 1 % of the width.
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
    grid = grid_of(low, high, beyond, STEPS)
    spread = torch.nanquantile(inverse, 0.9, dim=1) - torch.nanquantile(inverse, 0.1, dim=1)
    apertures = evidence.width / typical * torch.logspace(-3.6, -1.3, 52)
    centre = middle if start is None else 1 / start
    focus, aperture = centre, apertures[0]
    for _ in range(SWEEPS):
        before = focus
        away = inverse - focus[:, None]
        costs = [misfit(detail, away, evidence.apertures(k)).nanmean() for k in apertures]
        aperture = apertures[torch.stack(costs).argmin()]
        own = evidence.apertures(aperture)
        texture = (detail + lost_detail(away, own)).nanmedian(0).values
        focus = torch.stack(
            [
                sharpest(detail[v] - texture, inverse[v], own[v], grid, centre[v], spread[v], prior_cap)
                for v in range(len(focus))
            ]
        )
        if torch.equal(focus, before):  # and so would K be the next time, and all that follows
            break
    return 1 / focus, float(aperture)


def unknown_lens(evidence: Evidence) -> tuple[Float[Tensor, " V"], float]:
    """Focus distances and aperture where nothing is known: mean depths, and a K that blurs by 1 % of the
    width."""
    middle = 1 / mean_depths(evidence)
    return 1 / middle, float(0.01 * evidence.width / typical_defocus(1 / evidence.depths, middle))


def typical_defocus(inverse: Float[Tensor, "V P"], middle: Float[Tensor, " V"]) -> Float[Tensor, ""]:
    """Median of |1/z - 1/z_f| where photos are focused on `middle`. A flat wall photographed head-on has no
    spread of depths: then 1 % of its vergence stands for it."""
    return (inverse - middle[:, None]).abs().nanmedian().clamp_min(0.01 * float(middle.median()))


def grid_of(low: float, high: float, beyond: float, steps: int) -> Float[Tensor, " G"]:
    """Values of 1 / z_f to try: from `low` to `high`, and a part `beyond` of that range to either side."""
    margin = beyond * (high - low)
    return torch.linspace(max(low - margin, 1e-9), high + margin, steps)


def disc_variance(coc: Tensor) -> Tensor:
    """Variance per axis of a uniform disc of this diameter. Gradient energy goes by it, and not by that of
    the Gaussian which blurs most alike (`blur_variance`), with which K came out 10 % lower on five scenes."""
    return coc.square() / 16


def lost_detail(defocus: Tensor, aperture: Tensor) -> Tensor:
    """Log of the factor by which blur lowers gradient energy; `defocus` is 1/z - 1/z_f."""
    return torch.log1p(disc_variance(aperture * defocus) / SENSOR_BLUR**2)


def misfit(
    detail: Float[Tensor, "V P"], defocus: Float[Tensor, "V P"], aperture: Float[Tensor, "V 1"]
) -> Float[Tensor, "V P"]:
    """Robust distance of each observation from its point's median texture."""
    texture = detail + lost_detail(defocus, aperture)
    return huber(texture - texture.nanmedian(0).values)


def sharpest(
    detail: Float[Tensor, " P"],
    inverse: Float[Tensor, " P"],
    aperture: Float[Tensor, "1"],
    grid: Float[Tensor, " G"],
    centre: Float[Tensor, ""],
    spread: Float[Tensor, ""],
    prior_cap: float,
) -> Float[Tensor, ""]:
    """1 / z_f of one photo, from `grid`: `detail` is log energy over the point's own texture."""
    seen = ~detail.isnan()
    if seen.sum() < FEW_POINTS:
        return centre
    costs = huber(detail[seen] + lost_detail(inverse[seen] - grid[:, None], aperture)).mean(1)
    shift = ((grid - centre) / spread.clamp_min(1e-9)).square()
    return grid[(costs + shift / (1 + shift / prior_cap)).argmin()]


def huber(residual: Tensor, turn: float = 0.7) -> Tensor:
    size = residual.abs()
    return torch.where(size < turn, residual.square() / 2, turn * (size - turn / 2))


# --- Blur measured in each photo by itself: rougher, but it also sees what is blurred alike in all


REBLUR = 1.0  # px; standard deviation of the blur added to measure that which is there


def blur_map(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Standard deviation in px of the blur around each pixel, its own softness included.

    Another blur of known size takes away little detail where there was much blur: for textures whose power
    falls with the square of frequency, energy is proportional to 1 / (blur^2 + added^2). NaN where there is
    no texture to tell from; soft texture looks like blur.
    """
    before, after = gradient_energy(photo), gradient_energy(gaussian_blur(photo, REBLUR))
    blur = REBLUR / (before / after.clamp_min(1e-12) - 1).clamp_min(1e-2).sqrt()
    return torch.where(before > 10 * DETAIL_FLOOR, blur, math.nan)


def gaussian_blur(photo: Float[Tensor, "3 H W"], deviation: float) -> Float[Tensor, "3 H W"]:
    """The photo convolved with a Gaussian of this standard deviation in px; borders repeated."""
    reach = math.ceil(3 * deviation)
    x = torch.arange(-reach, reach + 1, dtype=photo.dtype)
    kernel = torch.exp(-(x / deviation).square() / 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(photo[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def variation(evidence: Evidence) -> float:
    """How differently photos show the same points: median over the points of log energy, from the photo of
    middle sharpness to the sharper ones (85th percentile). Of photos focused alike, or sharp: about 0.3."""
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
    grid = grid_of(low, high, 0.1, 61)
    known = [(~blurs[v].isnan()).nonzero()[:, 0] for v in range(len(blurs))]
    chosen = [k[:: max(1, len(k) // most)] for k in known]
    logs = [2 * blurs[v, k].log() for v, k in enumerate(chosen)]
    zoom = evidence.apertures(1.0)
    defocus = [zoom[v] * (inverse[v, k] - grid[:, None]) for v, k in enumerate(chosen)]
    flat = sum(float(huber(row - row.median()).sum()) for row in logs)
    best = (math.inf, 0.0, torch.zeros(len(blurs)))
    for softness in (0.35, 0.5, 0.7, 1.0):
        for aperture in evidence.width / (high - low) * torch.logspace(-2.7, -0.7, 61):
            costs = [
                huber(row - torch.log(softness**2 + disc_variance(aperture * away))).sum(1)
                for row, away in zip(logs, defocus, strict=True)
            ]
            total = sum(float(cost.min()) for cost in costs)
            if total < best[0]:
                best = total, float(aperture), torch.stack([grid[cost.argmin()] for cost in costs])
    told = torch.tensor([len(k) >= FEW_POINTS for k in known]).to(middle.device)
    explained = 1 - best[0] / flat if flat > 0 else 0.0  # 0: no photo has texture
    return 1 / torch.where(told, best[2], middle), best[1], explained
