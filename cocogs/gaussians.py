"""The base Gaussians: raw parameters, their activations, how they start from SfM points, and how parts of a
scene are taken, joined and moved."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cocogs.camera import is_rotation
from cocogs.errors import InputError
from cocogs.quantiles import quantiles
from cocogs.rasterize.constants import SH_C0

Activated = tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"], Float[Tensor, "N 3"], Float[Tensor, " N"]]
"""means, quats (wxyz of any positive length), scales > 0, opacities in (0, 1)."""

FAINT = math.log(0.1 / 0.9)
"""Logit of the opacity of Gaussians that training has not seen yet."""
LARGEST = 1e18
"""Larger numbers than this overflow float32 once a rasterizer squares them."""


class Gaussians(nn.Module):
    """N Gaussians with colours in spherical harmonics up to degree 3.

    Raw parameters, as the standard 3DGS .ply stores them: `means` in scene units, `quats` wxyz of any
    length, `scales` logarithms of standard deviations in scene units, `opacities` logits, `sh0`, `shN`.

    `antialiased` says how the Gaussians were trained and are to be drawn (see `cocogs.rasterize.rasterize`).
    It is part of the state.
    """

    shapes: ClassVar[dict[str, tuple[int, ...]]] = {
        "means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh0": (1, 3), "shN": (15, 3)
    }  # fmt: skip
    """Of the raw parameters of one Gaussian."""
    names = tuple(shapes)

    def __init__(self, antialiased: bool = False, /, **raw: Tensor) -> None:
        super().__init__()
        self.antialiased = antialiased
        for name in self.names:
            self.register_parameter(name, nn.Parameter(raw[name].detach().clone().contiguous()))

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    scales: Float[Tensor, "N 3"]
    opacities: Float[Tensor, " N"]
    sh0: Float[Tensor, "N 1 3"]
    shN: Float[Tensor, "N 15 3"]

    def __len__(self) -> int:
        return len(self.means)

    @classmethod
    def from_points(
        cls, points: Float[Tensor, "N 3"], colors: Float[Tensor, "N 3"], antialiased: bool = False
    ) -> "Gaussians":
        """One round Gaussian per point, as wide as the distance to its neighbours (3DGS's start).

        Orientations matter once scales differ. They come from torch's global generator.

        Args:
            points: scene units.
            colors: in [0, 1].
        """
        points, colors, count = points.float(), colors.float(), len(points)
        spacing = neighbour_distance(points)
        return cls(
            antialiased,
            means=points,
            quats=nn.functional.normalize(torch.randn(count, 4), dim=-1),
            scales=spacing.log()[:, None].repeat(1, 3),
            opacities=torch.full((count,), FAINT),
            sh0=sh0_of(colors),
            shN=torch.zeros(count, 15, 3),
        )

    def get_extra_state(self) -> dict[str, bool]:
        return {"antialiased": self.antialiased}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        self.antialiased = state["antialiased"]

    def activated(self) -> Activated:
        return self.means, self.quats, self.scales.exp(), self.opacities.sigmoid()

    def __getitem__(self, which: Tensor | slice) -> "Gaussians":
        """Copies of some Gaussians: a mask (N,), indices (K,) in any order, or a slice."""
        if isinstance(which, Tensor) and which.dtype == torch.bool:
            which = which.nonzero()[:, 0]  # once, not for every parameter
        return Gaussians(self.antialiased, **{name: getattr(self, name)[which] for name in self.names})

    @classmethod
    def joined(cls, parts: Sequence["Gaussians"]) -> "Gaussians":
        """Copies of all Gaussians of one or more scenes, in the order given.

        Raises:
            InputError: the scenes are not all drawn in the same way.
        """
        if len({part.antialiased for part in parts}) != 1:
            raise InputError(
                "Antialiased splats cannot be joined with others: pixels draw them differently. Train or "
                "export all parts with the same preset."
            )
        raw = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.names}
        return cls(parts[0].antialiased, **raw)

    @torch.no_grad()
    def transformed(
        self, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"], scale: float = 1.0
    ) -> "Gaussians":
        """Copies, moved by x -> scale * rotation x + translation, colours and all.

        A camera that is moved along sees the same picture.

        Args:
            rotation: orthonormal, determinant +1.
            translation: scene units.
            scale: > 0.

        Raises:
            InputError: `rotation` is no rotation, or a number is out of range.
        """
        from scipy.spatial.transform import Rotation  # .3 s to load

        from cocogs.harmonics import harmonics_rotations

        rotation, translation = rotation.double().cpu(), translation.double().cpu()
        check_similarity(rotation, translation, scale)
        turn = Rotation.from_matrix(rotation.numpy())  # from here on orthonormal to the last bit
        bands = harmonics_rotations(torch.from_numpy(turn.as_rotvec()))
        starts = (0, 3, 8)  # of degree 1, 2, 3 in shN
        harmonics = [
            torch.einsum("ij,njc->nic", band.to(self.shN), self.shN[:, start : start + len(band)])
            for start, band in zip(starts, bands, strict=True)
        ]
        x, y, z, w = turn.as_quat(canonical=True).tolist()
        matrix = scale * torch.from_numpy(turn.as_matrix())
        moved = self.means.double() @ matrix.T.to(self.means.device)
        return Gaussians(
            self.antialiased,
            means=(moved + translation.to(moved)).to(self.means),
            quats=quaternion_product(self.quats.new_tensor([w, x, y, z]), self.quats),
            scales=self.scales + math.log(scale),
            opacities=self.opacities,
            sh0=self.sh0,
            shN=torch.cat(harmonics, dim=1),
        )

    def scaled(self, factor: float) -> "Gaussians":
        """Copies in other units, of which `factor` make one scene unit."""
        return self.transformed(torch.eye(3), torch.zeros(3), factor)

    @torch.no_grad()
    def drawable(self) -> Bool[Tensor, " N"]:
        """Mask of the Gaussians that a rasterizer can draw: all their numbers are finite, also once they are
        activated and squared, and their quaternion is not zero."""
        means, quats, scales, _ = self.activated()
        length = quats.norm(dim=-1)
        fits = (length >= 1 / LARGEST) & self.opacities.isfinite() & self.scales.isfinite().all(1)
        for values in (means, length[:, None], scales, self.sh0.flatten(1), self.shN.flatten(1)):
            fits &= (values.abs() <= LARGEST).all(1)  # false for NaN
        return fits


def sh0_of(colors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1 3"]:
    """The harmonics of degree 0 of colours that are alike from everywhere."""
    return ((colors - 0.5) / SH_C0)[:, None]


def colors_of(gaussians: Gaussians) -> Float[Tensor, "N 3"]:
    """What splats look like on average over directions: sRGB, about [0, 1]."""
    return gaussians.sh0.detach()[:, 0] * SH_C0 + 0.5


def black_and_white(white: Bool[Tensor, " N"]) -> Float[Tensor, "N 1 3"]:
    """The harmonics of degree 0 of splats that are white, and black where they are not."""
    return sh0_of(white.float()[:, None].expand(-1, 3))


def without_bad_ones(gaussians: Gaussians, place: object, say: Callable[[str], None]) -> Gaussians:
    """Leave out and count those that cannot be drawn.

    Args:
        place: what has them, to name it to the user.
        say: receives a line if there are any.

    Raises:
        InputError: none can be drawn.
    """
    fine = gaussians.drawable()
    bad = int((~fine).sum())
    if bad == 0:
        return gaussians
    if bad == len(gaussians):
        raise InputError(f"{place} has no splat whose numbers are all finite: make it anew.")
    verb = "is" if bad == 1 else "are"
    say(f"{place}: {bad:,} of {len(gaussians):,} splats {verb} not finite and {verb} left out.")
    return gaussians[fine]


def check_similarity(rotation: Tensor, translation: Tensor, scale: float) -> None:
    """Raises InputError unless they make a similarity without reflection; float64."""
    if not is_rotation(rotation):
        raise InputError("`rotation` is not a rotation: give an orthonormal matrix with determinant +1.")
    if not (0 < scale < math.inf):
        raise InputError(f"`scale` must be a number above 0, not {scale:g}.")
    if not translation.isfinite().all():
        raise InputError("`translation` must be three finite numbers.")


def quaternion_product(a: Float[Tensor, "*#N 4"], b: Float[Tensor, "*#N 4"]) -> Float[Tensor, "*N 4"]:
    """First rotate by b, then by a; wxyz, and lengths multiply."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack([
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ], dim=-1)  # fmt: skip


def rotation_matrices(quats: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 3 3"]:
    """Rotations of quaternions, wxyz of length 1."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def cross_section(scales: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Area that a splat covers, seen from its broadest side, up to a constant factor: the product of its two
    larger standard deviations."""
    return scales.prod(-1) / scales.amin(-1).clamp_min(1e-20)


def keep_largest(values: Float[Tensor, " N"], count: int) -> Bool[Tensor, " N"]:
    """Mask of the `count` largest values; all of them if there are fewer."""
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[values.topk(min(count, len(values))).indices] = True
    return mask


def extent(points: Float[Tensor, "P 3"], left_out: float = 0.01) -> Float[Tensor, "2 3"]:
    """Lowest and highest coordinates of points along each axis, without the `left_out` part at each end."""
    return torch.stack([quantiles(axis, left_out, 1 - left_out) for axis in points.T], dim=1)


def z_curve_order(points: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
    """Indices that put neighbours in space side by side: a Z curve (Morton 1966) of 1024^3 cells, outside of
    which the farthest percent of the points may lie."""
    if len(points) < 2:
        return torch.arange(len(points), device=points.device)
    low, high = extent(points, 0.005)
    cells = ((points - low) / (high - low).clamp_min(1e-30) * 1024).clamp(0, 1023).long()
    place = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for bit in range(10):
        for axis in range(3):
            place |= (cells[:, axis] >> bit & 1) << 3 * bit + axis
    return place.argsort(stable=True)


def neighbour_distance(points: Float[Tensor, "N 3"], neighbours: int = 3) -> Float[Tensor, " N"]:
    """Root mean square of each point's distances to its nearest others; never 0."""
    from scipy.spatial import KDTree  # .3 s to load

    if len(points) <= neighbours:
        return torch.full((len(points),), 1e-2)
    distances, _ = KDTree(points.numpy()).query(points.numpy(), k=neighbours + 1)
    others = torch.from_numpy(distances[:, 1:])  # the nearest is the point itself
    distance = others.square().mean(1).sqrt().to(points)
    typical = distance.median().clamp_min(1e-6)
    # A lone outlier would cover the scene; coincident points would vanish.
    return distance.clamp(typical * 1e-2, typical * 10)
