"""The search for exposures, vignettes and responses before training: from colours of the scene's points.

Splats' view-dependent colours can explain a vignette, too, and once they do, training does not find it. So
every point gets a single light L here, and photo i shows it as response(gain_i * vignette(r) * L). All are
fitted at once to the pixel values, robustly, because other things hide some of the points.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cocogs.optics.evidence import Evidence, thin_out
from cocogs.optics.photometric import PhotometricCamera, squared_radius
from cocogs.plain_torch import Adam
from cocogs.scene import Scene
from cocogs.srgb import to_linear

MOST_SEEN = 20_000  # pairs of a point and a photo of it: more tell no more
DARK, BRIGHT = 0.02, 0.98  # pixel values that tell little: noise, and what is clipped
ODD = 0.03  # difference in pixel values from which on a pair counts less and less (Cauchy)
STEPS = 200
AGREED = 0.3  # stops (root mean square) by which photos may differ from EXIF
VARIED = 0.15  # stops; standard deviation of EXIF's exposures, below which they tell nothing
PLAIN = 0.02  # weight of the responses' squared coefficients, where EXIF's exposures are not used
FIRM = 0.3  # weight of EXIF's exposures, of squared log gains


def find_photometric(camera: PhotometricCamera, scene: Scene, evidence: Evidence) -> None:
    """Set where the exposures, vignettes and responses of a scene's training photos start."""
    seen = Seen(scene, evidence)
    if seen.count == 0:
        return
    _fit(camera, seen)
    stops = camera.taken.stops
    if stops is None or stops.std(correction=0) < VARIED:
        return
    told = stops.to(camera.exposure.told) * math.log(2)
    found = camera.exposure.gains().detach().log().mean(1)
    power = float((found @ told) / (told @ told))
    if power > 0 and (found / power - told).square().mean().sqrt() < AGREED * math.log(2):
        camera.exposure.told.copy_(told)
        camera.exposure.is_told.fill_(True)
        camera.response.is_anchored.fill_(True)
        _fit(camera, seen)


class Seen:
    """Pairs of a point and a photo that shows it.

    `photo`, `point` (n,) indices; `squared` (n,) radius in the picture; `values` (3, n) pixel values.
    """

    def __init__(self, scene: Scene, evidence: Evidence) -> None:
        assert evidence.colors is not None
        colors = evidence.colors
        fine = ((colors > DARK) & (colors < BRIGHT)).all(-1)  # false for NaN
        fine &= fine.sum(0) > 1
        points = fine.any(0).nonzero()[:, 0]
        share = math.ceil(int(fine.sum()) / MOST_SEEN)
        chosen = torch.zeros_like(fine[0])
        chosen[points[:: max(1, share)]] = True
        self.photo, point = (fine & chosen).nonzero().unbind(1)
        self.count = len(self.photo)
        self.values = colors[self.photo, point].T.contiguous()
        places = thin_out(scene.points).to(colors.device)
        squared = torch.zeros_like(evidence.depths)
        for index, view in enumerate(scene.train_views):
            x, y = view.camera.project(places)[0].unbind(-1)
            squared[index] = squared_radius(view.camera, x, y).to(squared)
        self.squared = squared[self.photo, point]
        known, self.point = point.unique(return_inverse=True)
        light = torch.where(fine[..., None], to_linear(colors), math.nan)[:, known]
        self.light = light.nanmedian(0).values.T.contiguous() if self.count else colors.new_zeros(3, 0)


def _fit(camera: PhotometricCamera, seen: Seen) -> None:
    """Fit all to the pixel values, from where they are."""
    parts = (camera.exposure, camera.vignette, camera.response)
    camera.to(seen.light.device)
    log_light = seen.light.log().requires_grad_()
    pairs = [_pairs_of(own, camera, seen) for own in range(len(camera.taken.names))]
    optimizer = Adam(
        [{"params": list(camera.parameters()), "lr": 2e-2}, {"params": [log_light], "lr": 4e-2}], fused=True
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(STEPS):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.05 ** (step / STEPS)
        loss = sum(_misfit(camera, seen, log_light, own, *some) for own, some in enumerate(pairs))
        told = camera.exposure.is_told
        price = torch.where(
            told,
            FIRM * camera.exposure.off().square().sum(),
            PLAIN * camera.response.coefficients.square().sum(),
        )
        (loss / (3 * seen.count) + price).backward()
        optimizer.step()
        optimizer.zero_grad()
        for part in parts:
            part.keep_possible()


def _pairs_of(
    own: int, camera: PhotometricCamera, seen: Seen
) -> tuple[Int64[Tensor, " m"], Float[Tensor, " m"]]:
    """Which pairs are of photos by one camera, and how far the lens was open in each."""
    taken = camera.taken
    by = torch.tensor(taken.camera, device=seen.light.device)
    openings = seen.light.new_tensor([camera.vignette.opening(own, n) for n in taken.f_number])
    which = (by[seen.photo] == own).nonzero()[:, 0]
    return which, openings[seen.photo[which]]


def _misfit(
    camera: PhotometricCamera,
    seen: Seen,
    log_light: Float[Tensor, "3 K"],
    own: int,
    which: Int64[Tensor, " m"],
    openings: Float[Tensor, " m"],
) -> Tensor:
    """The sum of log(1 + (difference / ODD)^2) over the pairs of camera `own`, as `_pairs_of` gives them."""
    photo = seen.photo[which]
    gains = camera.exposure.gains().log().T
    light = (log_light.index_select(1, seen.point[which]) + gains.index_select(1, photo)).exp()
    light = light * camera.vignette.falloff(own, seen.squared[which], openings)
    shown = camera.response.of(own).encode(light[:, :, None])[:, :, 0]
    return (((shown - seen.values[:, which]) / ODD).square() + 1).log().sum()
