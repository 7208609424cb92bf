"""A whole camera in a photographer's numbers: millimetres, f-number, seconds and ISO. Differentiable.

Light passes lens, distortion, vignetting, exposure, noise and response, in this order. The lens is the thin
lens of `optics/lens.py`; here millimetres become its K and focus distance.
"""

from dataclasses import asdict
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cocogs.camera import Camera, intrinsics_matrix
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.camera_file import CameraFile, Distortion, Sensor
from cocogs.io.source import Intrinsics, opencv_lens
from cocogs.io.undistort import distortion_grid, sampled
from cocogs.optics.copies import widen
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import Lens, PhotoLens
from cocogs.optics.photometry import Response, Vignette
from cocogs.optics.sensor import add_noise
from cocogs.rasterize import rasterize
from cocogs.srgb import to_linear, to_srgb

Length = TypeVar("Length", float, Tensor)

FIELDS = {
    "focal_length": "focal_length_mm", "f_number": "f_number", "focus_distance": "focus_distance_m",
    "shutter": "shutter_s", "iso": "iso",
}  # fmt: skip
"""The parameters, and how camera.json names them."""


class PhysicalCamera(nn.Module):
    """A camera, as `camera.json` describes it (docs/camera-json.md).

    Parameters, each a single number unless said: `focal_length` (m), `f_number`, `focus_distance` (m),
    `shutter` (s), `iso`, `white_balance` (3,), and those of `vignette` and `response`. All of them take
    gradients.

    Args:
        file: what is known of the camera. What is unknown is needed only by what uses it: K by the focal
            length, f-number and focus distance; the exposure by f-number, shutter, ISO and `reference`.
    """

    def __init__(self, file: CameraFile) -> None:
        super().__init__()
        self.file = file
        for name, field in FIELDS.items():
            value = getattr(file, field)
            if value is not None:
                value = nn.Parameter(torch.tensor(value / 1000 if field.endswith("_mm") else float(value)))
            self.register_parameter(name, value)
        self.white_balance = nn.Parameter(torch.tensor(file.white_balance))
        self.vignette = Vignette() if file.vignetting is None else Vignette(**asdict(file.vignetting))
        self.response = Response(file.response) if file.response else Response()

    focal_length: Float[Tensor, ""] | None
    f_number: Float[Tensor, ""] | None
    focus_distance: Float[Tensor, ""] | None
    shutter: Float[Tensor, ""] | None
    iso: Float[Tensor, ""] | None

    def known(self, *names: str) -> list[Tensor]:
        """The parameters of these names.

        Raises:
            InputError: camera.json does not tell some of them.
        """
        values = [getattr(self, name) for name in names]
        if missing := [FIELDS[name] for name, value in zip(names, values, strict=True) if value is None]:
            raise InputError(f"The camera lacks {', '.join(missing)}: add what is missing to camera.json.")
        return values

    @property
    def focal_px(self) -> Float[Tensor, ""]:
        """fx: the picture lies behind the lens by f / (1 - f / U), so a near focus narrows the view. An
        unknown focus counts as infinity."""
        (f,) = self.known("focal_length")
        return _focal_px(f, self.focus_distance, self.file.sensor)

    def lens(self, metres: float = 1.0) -> PhotoLens:
        """The lens as the formulas take it: K = fx f / N.

        Args:
            metres: in a scene unit.
        """
        f, f_number, distance = self.known("focal_length", "f_number", "focus_distance")
        return PhotoLens(distance / metres, self.focal_px * f / f_number / metres)

    def as_set(self, metres: float = 1.0) -> Lens:
        """The lens as `refocus` takes it, without gradients."""
        f, f_number, distance = (
            float(x.detach()) for x in self.known("focal_length", "f_number", "focus_distance")
        )
        return Lens(distance / metres, f / f_number / metres, self.file.blades, self.file.blade_rotation)

    def at(self, cam_from_world: Float[Tensor, "4 4"]) -> Camera:
        """The pinhole at a pose (scene units) that its pictures are drawn with."""
        sensor = self.file.sensor
        matrix = intrinsics_matrix(*self._intrinsics(float(self.focal_px.detach())))
        return Camera(matrix, cam_from_world, sensor.width, sensor.height)

    def render(
        self,
        gaussians: Gaussians,
        cam_from_world: Float[Tensor, "4 4"],
        metres: float = 1.0,
        seed: int | None = 0,
    ) -> Float[Tensor, "3 H W"]:
        """The scene as this camera takes it: pixel values in [0, 1].

        Every splat is widened by its circle of confusion, so that gradients reach the lens; how the angle of
        view goes with focal length and focus has none. `cocogs.render.simulate` draws points of the aperture
        instead, from which near things hide far ones truly.

        Args:
            metres: in a scene unit.
            seed: of the noise; None for no noise.
        """
        camera = self.at(cam_from_world)
        copies = widen(gaussians.activated(), camera, self.lens(metres))
        picture = rasterize(
            copies.means[0], copies.quats[0], copies.scales[0], copies.opacities[0],
            gaussians.sh0, gaussians.shN, camera, blur=copies.blur, antialiased=gaussians.antialiased,
        )  # fmt: skip
        return self.develop(to_linear(picture.colors[0]), seed)

    def apply_to(
        self, light: Float[Tensor, "3 H W"], depth: Float[Tensor, "H W"], seed: int | None = 0
    ) -> Float[Tensor, "3 H W"]:
        """A sharp picture with depth, as this camera takes it: pixel values in [0, 1].

        Args:
            light: linear, 1 is white at the reference settings; of the sensor's size in px.
            depth: metres along the optical axis, > 0.
            seed: of the noise; None for no noise.
        """
        seen = photograph_layers(light, depth, self.lens(), self.file.blades, self.file.blade_rotation)
        return self.develop(seen, seed)

    def develop(
        self, light: Float[Tensor, "3 H W"], seed: int | None = 0, linear: bool = False
    ) -> Float[Tensor, "3 H W"]:
        """Pixel values in [0, 1] of linear light behind the lens, of the sensor's size: distortion,
        vignetting, exposure, noise, response.

        Args:
            seed: of the noise; None for no noise.
            linear: sRGB-encoded instead of by the response, and not clipped at white: `to_linear` gives what
                the sensor gathered.
        """
        exposed = self.distorted(light) * self.vignette(light.shape[1:], self.f_number)
        exposed = exposed * self.exposure()[:, None, None]
        if (noise := self.file.noise) is not None and seed is not None:
            shutter = self.known("shutter")[0] if noise.dark_current else 0.0
            exposed = add_noise(exposed, noise, shutter, seed)
        return to_srgb(exposed.clamp_min(0)) if linear else self.response(exposed)

    def exposure(self) -> Float[Tensor, "3"]:
        """Factors on red, green and blue light: t ISO / N^2 over that at which light 1 is white, and white
        balance."""
        if (white := self.file.white_at) is None:
            return self.white_balance
        f_number, shutter, iso = self.known("f_number", "shutter", "iso")
        at_white = white.shutter_s * white.iso / white.f_number**2
        return self.white_balance * (shutter * iso / f_number.square() / at_white)

    def distorted(self, picture: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The pinhole's picture as the distorting lens shows it; its border is continued beyond it.
        Distortion stays that of the file's focal length."""
        if self.file.distortion == Distortion():
            return picture
        lens = self.distorting()
        flat = opencv_lens((lens.width, lens.height), self._intrinsics(lens.params[0]))
        return sampled(picture, distortion_grid(lens, flat))

    def distorting(self) -> Intrinsics:
        """The distorting lens at the file's focal length and focus, for pictures of the sensor's size."""
        k, sensor = self.file.distortion, self.file.sensor
        self.known("focal_length")
        assert self.file.focal_length_mm is not None
        fx = _focal_px(self.file.focal_length_mm / 1000, self.file.focus_distance_m, sensor)
        size = sensor.width, sensor.height
        return opencv_lens(size, self._intrinsics(fx), (k.k1, k.k2, k.k3), (k.p1, k.p2))

    def _intrinsics(self, fx: float) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy of the pinhole, px."""
        sensor = self.file.sensor
        fy = fx * (sensor.width_mm / sensor.width) / (sensor.height_mm / sensor.height)
        return fx, fy, sensor.width / 2, sensor.height / 2


def _focal_px(f: Length, distance: Length | None, sensor: Sensor) -> Length:
    """How far the picture is behind a lens of focal length f, focused at a distance (m; None: infinity)."""
    nearer = 1.0 if distance is None else 1 - f / distance
    return f / nearer / (sensor.width_mm / 1000 / sensor.width)
