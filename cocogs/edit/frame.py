"""Directions and places in a scene as people say them: up, to the left, away, on what lies below."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from cocogs.camera import most_central
from cocogs.edit.ground import find_ground
from cocogs.edit.subject import Subject
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, extent
from cocogs.lengths import parse_length, parse_lengths

OPPOSITE = {"down": "up", "left": "right", "near": "away"}
MARGIN = 0.05  # of an object's width, around it, in which it is felt for what lies under it
SOLID = 0.5  # opacity of the splats that carry and touch
LEVEL = 0.1  # sine of the angle between up and a direction that is level enough
CONTACTS = 5  # splats that must touch: single splats that stick out carry nothing


@dataclass(frozen=True)
class Directions:
    """Orthonormal directions in the world: up, to the right and away as seen from one camera."""

    up: Float64[Tensor, "3"]
    right: Float64[Tensor, "3"]
    away: Float64[Tensor, "3"]

    def of(self, word: str) -> Float64[Tensor, "3"] | None:
        """The direction that a word means; None where it means none."""
        axes = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
        if word in axes:
            return torch.tensor(axes[word], dtype=torch.float64)
        if word in OPPOSITE:
            return -getattr(self, OPPOSITE[word])
        return getattr(self, word) if word in vars(self) else None


def directions(subject: Subject, up: str | None, seen_from: str | None) -> Directions:
    """The directions of a scene.

    Args:
        up: `cameras`: their mean upwards direction; `ground`: normal to the plane that things stand on; or
            `X,Y,Z`. None: ground, or cameras where there is none.
        seen_from: the photo from which right and away are meant; None: the most central one.

    Raises:
        InputError: no such photo, no ground, or no direction.
    """
    upwards = torch.nn.functional.normalize(_up(subject, up), dim=0)
    for forward in _forwards(subject, seen_from):
        away = forward - (forward @ upwards) * upwards
        if away.norm() > LEVEL:
            break
    away = away / away.norm()
    return Directions(upwards, torch.linalg.cross(away, upwards), away)


def _up(subject: Subject, up: str | None) -> Float64[Tensor, "3"]:
    if up == "cameras":
        return subject.up.double()
    if up in (None, "ground"):
        try:
            return find_ground(subject).normal.double()
        except InputError:
            if up == "ground":
                raise
            return subject.up.double()
    if str(up).count(",") != 2:
        raise InputError(f"`up` must be ground, cameras or a direction X,Y,Z, not {up}.")
    vector = torch.tensor(parse_lengths("up", str(up), 3, None, subject.target), dtype=torch.float64)
    if vector.norm() == 0:
        raise InputError("`up` must be ground, cameras or a direction X,Y,Z other than 0,0,0.")
    return vector / vector.abs().max()


def _forwards(subject: Subject, seen_from: str | None) -> Float64[Tensor, "2 3"]:
    """Where a photo looks, and what is up in it, which is away where it looks down."""
    if seen_from is not None:
        camera = subject.look(seen_from).camera
    elif subject.looks:
        camera = subject.cameras[most_central(subject.cameras)]
    else:
        return torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
    forward, down = camera.cam_from_world[2, :3], camera.cam_from_world[1, :3]
    return torch.stack([forward, -down]).double()


def parse_move(text: str, frame: Directions, subject: Subject) -> Float64[Tensor, "3"]:
    """`0.1,0,-0.2` along the scene's axes, or `left:20cm,up:0.1`; scene units.

    Raises:
        InputError: no such text.
    """
    if ":" not in text:
        return torch.tensor(parse_lengths("move", text, 3, subject.metres, subject.target)).double()
    total = torch.zeros(3, dtype=torch.float64)
    for part in text.split(","):
        word, _, length = part.strip().partition(":")
        if (direction := frame.of(word)) is None:
            raise InputError(f"`move` {word!r} is none of left, right, up, down, near, away, x, y, z.")
        total += parse_length("move", length, subject.metres, subject.target) * direction
    return total


def parse_rotation(text: str, frame: Directions) -> Float64[Tensor, "3"]:
    """`up:30` or `0,1,0:30` as a rotation vector in radians.

    Raises:
        InputError: no such text.
    """
    word, _, angle = text.rpartition(":")
    axis = frame.of(word.strip())
    try:
        degrees = float(angle)
        if axis is None:
            axis = torch.tensor([float(part) for part in word.split(",")], dtype=torch.float64)
    except ValueError as error:
        raise InputError(
            f"`rotate` takes axis:degrees, such as up:30 or 0,1,0:30, not {text!r:.40}."
        ) from error
    if axis.shape != (3,) or not math.isfinite(degrees) or not 0 < float(axis.norm()) < math.inf:
        raise InputError(f"`rotate` takes axis:degrees, such as up:30 or 0,1,0:30, not {text!r:.40}.")
    return math.radians(degrees) * axis / axis.norm()


def middle_and_foot(
    gaussians: Gaussians, some: Bool[Tensor, " N"], up: Float64[Tensor, "3"]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3"]]:
    """The middle of some splats, by their extent, and the point below it where they end."""
    basis = _level_basis(up)
    places = gaussians.means.detach().cpu()[some.cpu()].double() @ basis.T
    low, high = extent(places)
    middle = (low + high) / 2
    foot = middle.clone()
    foot[2] = low[2]
    return basis.T @ middle, basis.T @ foot


def drop_height(gaussians: Gaussians, some: Bool[Tensor, " N"], up: Float64[Tensor, "3"]) -> float:
    """How far some splats can fall until they touch what lies under them; negative where they are sunk in.

    Raises:
        InputError: nothing lies under them.
    """
    from scipy.spatial import KDTree  # .3 s to load

    opaque = (gaussians.opacities.detach().sigmoid() > SOLID).cpu()
    places = gaussians.means.detach().cpu().double() @ _level_basis(up).T
    reach = gaussians.scales.detach().exp().amin(1).cpu().double()  # splats of surfaces are flat
    own, rest = some.cpu() & opaque, ~some.cpu() & opaque
    if not own.any():
        own = some.cpu()
    low, high = places[own].amin(0), places[own].amax(0)
    margin = MARGIN * (high - low)[:2].max()
    around = ((places[:, :2] >= low[:2] - margin) & (places[:, :2] <= high[:2] + margin)).all(1)
    below = rest & around & (places[:, 2] < (low + high)[2] / 2)
    if not below.any():
        raise InputError("Nothing lies under what is selected, so it cannot be dropped: move it by hand.")
    _, nearest = KDTree(places[below, :2].numpy()).query(places[own, :2].numpy(), k=min(3, int(below.sum())))
    tops = (places[:, 2] + reach)[below][torch.from_numpy(nearest.reshape(int(own.sum()), -1))].amax(1)
    gaps = (places[:, 2] - reach)[own] - tops
    return float(gaps.sort().values[min(CONTACTS, len(gaps)) - 1])


def _level_basis(up: Float64[Tensor, "3"]) -> Float64[Tensor, "3 3"]:
    """Orthonormal rows, the last of which is `up`."""
    other = torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())]
    first = torch.nn.functional.normalize(torch.linalg.cross(up, other), dim=0)
    return torch.stack([first, torch.linalg.cross(up, first), up])
