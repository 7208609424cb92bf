"""What the cameras of the photos do to light behind the lens: exposure and white balance per photo,
vignetting and response curve per camera. All of these are learned.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cocogs.camera import Camera
from cocogs.config import OptimConfig
from cocogs.io.camera_file import Vignetting
from cocogs.io.lens_file import LensCamera
from cocogs.optics.light import TERMS, ResponseCurve, even, slope_of_bent, terms
from cocogs.optics.per_photo import PerPhoto, PhotoIndex, of_photo
from cocogs.optics.photometry import DARKEST, falloff, opening
from cocogs.scene import View
from cocogs.srgb import to_linear

KNOTS = (1 / 3, 2 / 3, 1.0)  # squared radii, at which a learned vignette is kept
DIMMEST = 0.05  # that a learned vignette may become
KNOTS_OF_RESPONSE = 33  # that lens.json gets
FLATTEST = 0.1  # that a learned response may become: its least slope


@dataclass(frozen=True)
class Taken:
    """Which cameras took V photos, and with which settings.

    Photos are of one camera where EXIF names the same model and their sides are as long, in either order.

    Args:
        names: of the C cameras.
        camera: of every photo, an index.
        f_number: of every photo, by EXIF; None where it does not tell.
        stops: (V,) exposures by EXIF, log2(t ISO / N^2), mean 0; None where some photo does not tell.
    """

    names: list[tuple[str, int, int]]
    camera: list[int]
    f_number: list[float | None]
    stops: Float[Tensor, " V"] | None

    @classmethod
    def of(cls, views: Sequence[View]) -> "Taken":
        keys = [camera_name(view) for view in views]
        names = sorted(set(keys))
        stops = [view.lens.stops for view in views]
        known = None if None in stops else torch.tensor(stops)
        return cls(
            names,
            [names.index(key) for key in keys],
            [view.lens.f_number for view in views],
            None if known is None else known - known.mean(),
        )

    @classmethod
    def alike(cls, photos: int) -> "Taken":
        """Of one camera whose settings nobody knows."""
        return cls([("", 0, 0)], [0] * photos, [None] * photos, None)

    def widest(self, camera: int) -> float | None:
        """The smallest f-number of a camera's photos; None where they do not differ, or some are unknown."""
        numbers = [n for n, c in zip(self.f_number, self.camera, strict=True) if c == camera]
        known = [n for n in numbers if n is not None]
        return min(known) if len(known) == len(numbers) and len(set(known)) > 1 else None


def camera_name(view: View) -> tuple[str, int, int]:
    """What tells cameras apart."""
    sides = sorted((view.camera.width, view.camera.height))
    return view.lens.camera_model or "", sides[1], sides[0]


class Exposure(PerPhoto):
    """A gain on the light of every training photo, per colour; the geometric mean over the photos is 1, so
    that the scene takes their mean exposure.

    A camera left to itself changes exposure and white balance from photo to photo. Both scale light. Where
    EXIF tells the exposures and the photos agree with it (optics/photometric_search.py), gains stay near it.
    """

    name = "exposure"

    def __init__(self, photos: int) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(photos, 3))
        self.register_buffer("told", torch.zeros(photos))
        self.register_buffer("is_told", torch.tensor(False))

    told: Float[Tensor, " V"]
    """Log gains by EXIF, mean 0."""
    is_told: Bool[Tensor, ""]
    """Whether EXIF tells and the photos agree."""

    def rate(self, optim: OptimConfig, progress: float) -> float:
        """Falls like that of positions, to 1 %; exposures may move from the first step on."""
        return optim.exposure * 0.01**progress

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        return optim.exposure_prior * self.is_told * self.off().square().mean()

    def off(self) -> Float[Tensor, " V"]:
        """By how much the log gains differ from what EXIF tells."""
        off = self.log_gains.mean(1) - self.told
        return off - off.mean()

    @torch.no_grad()
    def keep_possible(self) -> None:
        """The mean stays 0."""
        self.log_gains -= self.log_gains.mean(0)

    def gains(self) -> Float[Tensor, "V 3"]:
        """Factors on red, green and blue light."""
        return (self.log_gains - self.log_gains.mean(0)).exp()

    def shown(self) -> dict[str, list[float]]:
        return {"gain": self.gains().mean(1).tolist()}


class Vignettes(PerPhoto):
    """How much light of every camera is left towards the corners: 1 + A(r) + s B(r), as in
    `photometry.Vignette`, about the principal point. B is 0 for a camera whose photos have one f-number.

    The parameters are the losses at the squared radii `KNOTS`: polynomials train badly by their coefficients.
    """

    name = "vignette"

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        cameras = len(taken.names)
        self.widest = [taken.widest(camera) for camera in range(cameras)]
        self.losses = nn.Parameter(torch.zeros(cameras, 2, 3))
        rows = torch.tensor([[r, r**2, r**3] for r in KNOTS])
        self.register_buffer("polynomials", torch.linalg.inv(rows.double()).float(), persistent=False)

    polynomials: Float[Tensor, "3 3"]

    @property
    def coefficients(self) -> Float[Tensor, "C 2 3"]:
        """Of A and B."""
        return self.losses @ self.polynomials.T

    def rate(self, optim: OptimConfig, progress: float) -> float:
        return 0.0 if progress < optim.lens_from else optim.vignette * 0.01**progress

    def opening(self, camera: int, f_number: float | None) -> float:
        """How far a photo's lens is open: s of `Vignettes`."""
        widest = self.widest[camera]
        return 0.0 if widest is None else opening(widest, f_number or widest)

    def falloff(
        self, camera: PhotoIndex, squared: Float[Tensor, "*P"], opening: Float[Tensor, "*#P"] | float
    ) -> Float[Tensor, "*P"]:
        """Factors on light at squared radii, in photos of camera `camera`."""
        lens, wide_open = of_photo(self.coefficients, camera)
        return falloff(squared, [a + opening * b for a, b in zip(lens, wide_open, strict=True)]).clamp_min(
            DARKEST
        )

    @torch.no_grad()
    def keep_possible(self) -> None:
        """No corner gets darker than `DIMMEST`: coefficients shrink until that is so."""
        total = self.coefficients.sum(1)
        least = torch.stack([falloff(r, total.unbind(1)) for r in (0.25, 0.5, 0.75, 1.0)]).amin(0)
        shrink = ((1 - DIMMEST) / (1 - least).clamp_min(1e-6)).clamp_max(1)
        self.losses *= shrink[:, None, None]

    def shown(self) -> dict[str, list[float]]:
        corners = 1 + self.coefficients.detach().sum((1, 2))
        return {"corner": [float(corners.mean())]}


class Responses(PerPhoto):
    """The coefficients of every camera's `ResponseCurve`."""

    name = "response"

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(len(taken.names), TERMS))
        self.register_buffer("shares", torch.bincount(torch.tensor(taken.camera)) / len(taken.camera))

        values = torch.linspace(0, 1, 1001)[1:]
        power = torch.stack([(values * values.log() * term).sum() for term in terms(values)])
        self.register_buffer("power", power / power.norm(), persistent=False)
        self.register_buffer("is_anchored", torch.tensor(False))

    shares: Float[Tensor, " C"]
    power: Float[Tensor, " 3"]
    """The direction of coefficients in which light becomes a power of itself."""
    is_anchored: Bool[Tensor, ""]
    """Whether EXIF's exposures tell which power is right. Without them any power of light, gains and vignette
    together explains the photos equally well, so the coefficients keep out of that direction."""

    def rate(self, optim: OptimConfig, progress: float) -> float:
        return 0.0 if progress < optim.lens_from else optim.response * 0.01**progress

    def price(self, optim: OptimConfig, index: PhotoIndex) -> Tensor | float:
        return optim.response_price * self.coefficients.square().sum(1).mean()

    def of(self, camera: PhotoIndex) -> ResponseCurve:
        return ResponseCurve(of_photo(self.coefficients, camera))

    def common(self) -> ResponseCurve:
        """The mean over the photos. Splats carry pixel values of it, and so keep the photos' mean colours."""
        return ResponseCurve(self.shares @ self.coefficients)

    @torch.no_grad()
    def keep_possible(self) -> None:
        """No curve gets flatter than `FLATTEST`: coefficients shrink until that is so."""
        values = even(1, 17, self.coefficients)
        power = (self.coefficients.mean(0) @ self.power) * self.power
        self.coefficients -= torch.where(self.is_anchored, 0, power)
        least = torch.stack([slope_of_bent(values, own).amin() for own in self.coefficients])
        self.coefficients *= ((1 - FLATTEST) / (1 - least).clamp_min(1e-6)).clamp_max(1)[:, None]

    def shown(self) -> dict[str, list[float]]:
        return {}


class PhotometricCamera(nn.Module):
    """Exposure, vignette and response together: what the cameras of V training photos did to their light."""

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.taken = taken
        self.exposure = Exposure(len(taken.camera))
        self.vignette, self.response = Vignettes(taken), Responses(taken)
        self.register_buffer("camera_of", torch.tensor(taken.camera), persistent=False)
        openings = map(self.vignette.opening, taken.camera, taken.f_number)
        self.register_buffer("openings", torch.tensor([*openings]), persistent=False)

    camera_of: Int64[Tensor, " V"]
    """The number of every photo's camera."""
    openings: Float[Tensor, " V"]
    """How far their lenses are open: s of `Vignettes`."""

    def develop(
        self, light: Float[Tensor, "3 H W"], camera: Camera, index: PhotoIndex, curve: ResponseCurve
    ) -> Float[Tensor, "3 H W"]:
        """Pixel values of training photo `index` of linear light behind the lens.

        Args:
            curve: the photo's, of `curves`.
        """
        gains = of_photo(self.exposure.gains(), index)[:, None, None]
        factors = self._falloff(camera, self._camera(index), of_photo(self.openings, index))
        return curve.encode(light * (gains * factors))

    @torch.no_grad()
    def cameras(self) -> list[LensCamera]:
        """What was learned of the cameras, for lens.json."""
        found = []
        for own, name in enumerate(self.taken.names):
            lens, wide_open = (tuple(numbers) for numbers in self.vignette.coefficients[own].tolist())
            widest = self.vignette.widest[own]
            vignetting = Vignetting((lens,), None if widest is None else (wide_open,), widest)
            light = to_linear(even(1, KNOTS_OF_RESPONSE, self.response.coefficients))
            knots = self.response.of(own).values(light.sqrt()).clamp(0, 1)
            found.append(LensCamera(name[0], vignetting, (0.0, *knots[1:-1].tolist(), 1.0)))
        return found

    def shown(self, values: Float[Tensor, "3 H W"], view: View) -> Float[Tensor, "3 H W"]:
        """A sharp render as the camera of a view shows it, at the mean exposure of the training photos: with
        its vignette and response. A camera that took none of these shows it as it is."""
        if (name := camera_name(view)) not in self.taken.names:
            return values
        own = self.taken.names.index(name)
        light = self.response.common().decode(values) * self._falloff(
            view.camera, own, self.vignette.opening(own, view.lens.f_number)
        )
        return self.response.of(own).encode(light)

    def _falloff(
        self, camera: Camera, own: PhotoIndex, opening: Float[Tensor, ""] | float
    ) -> Float[Tensor, "H W"]:
        like = self.vignette.losses
        x, y = (
            torch.arange(side, dtype=like.dtype, device=like.device) + 0.5
            for side in (camera.width, camera.height)
        )
        squared = squared_radius(camera, x[None], y[:, None])
        return self.vignette.falloff(own, squared, opening)

    def _camera(self, index: PhotoIndex) -> PhotoIndex:
        """The number of the camera that took a photo: a tensor where the photo's is one."""
        return (
            self.camera_of.index_select(0, index) if isinstance(index, Tensor) else self.taken.camera[index]
        )

    def curves(self, index: PhotoIndex) -> tuple[ResponseCurve, ResponseCurve]:
        """How splats carry light, and how training photo `index` does."""
        common = self.response.common()
        return common, common if len(self.taken.names) == 1 else self.response.of(self._camera(index))


def squared_radius(camera: Camera, x: Float[Tensor, "*#P"], y: Float[Tensor, "*#P"]) -> Float[Tensor, "*P"]:
    """Squared distance of places (px) from the principal point, in half diagonals of the picture."""
    half = math.hypot(camera.width, camera.height) / 2
    return ((x - camera.cx) / half).square() + ((y - camera.cy) / half).square()
