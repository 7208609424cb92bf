"""What was asked for of an object of a photo, and what the words in it mean."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cocogs.camera import rotation_about
from cocogs.errors import InputError, check_number
from cocogs.io.photos import read_mask
from cocogs.io.pictures import check_writer
from cocogs.lengths import UNITS
from cocogs.photo.depth import PictureDepth
from cocogs.photo.lift import Motion
from cocogs.photo.refocus_options import STILLS, check_files
from cocogs.photo.written import EDITED

AXES = {"x": 0, "y": 1, "z": 2}
FARTHEST = 1e6  # a move, in the unit of the depth or in shares of the distance
LARGEST = 1e3  # a scale, or one over it


@dataclass(frozen=True)
class PhotoEditOptions:
    """What to do with an object of a photo; None = not given.

    Args:
        out: the picture: .png, .tif, .jpg or .exr.
        mask: a picture of the photo's size, white where the object is.
        depth, depth_kind, source: as in `RefocusOptions`.
        move: X,Y,Z: to the right, down, away from the camera. Each in the unit of the depth (metres, or scene
            units of a run), in metres (0.2m, 20cm), or as a share of the object's distance (10%).
        rotate: AXIS:DEGREES about the middle of the object's seen surface. y:30 brings its right side nearer,
            x:30 its upper side, z:30 turns it clockwise.
        scale: how much larger it becomes, about the same point.
        delete: take it away.
        duplicate: it also stays where it is.
        keep_blur: do not take blur away by the network.
        weights: folder of a depth-conditioned Stable Diffusion that imagines what nobody saw; None: it is
            continued from its surroundings.
    """

    out: Path
    mask: Path
    depth: str | None = None
    depth_kind: str | None = None
    source: str | None = None
    move: str | None = None
    rotate: str | None = None
    scale: float | None = None
    delete: bool = False
    duplicate: bool = False
    keep_blur: bool = False
    weights: Path | None = None

    def check(self, photo: Path) -> None:
        """Check all that needs neither the photo's pixels nor its depth.

        Raises:
            InputError: options out of range, or that do not fit each other; a file that would be overwritten.
        """
        check_number("scale", self.scale, least=1 / LARGEST, most=LARGEST, example="1.5")
        moves = [name for name in ("move", "rotate", "scale") if getattr(self, name) is not None]
        if self.delete and (moves or self.duplicate):
            raise InputError(f"`delete` takes the object away: leave {', '.join(moves) or 'duplicate'} out.")
        if not self.delete and not moves:
            raise InputError(
                "Say what is to happen to the object: give `move`, `rotate`, `scale` or `delete`."
            )
        if self.out.suffix.lower() not in STILLS:
            raise InputError(f"`out` must end in {', '.join(STILLS)}, not {self.out.name}.")
        check_writer(self.out.suffix.lower()[1:])
        self.rotation()
        check_files(EDITED, self.out, photo, self.depth, self.source, self.mask)

    def motion(self, middle: Float[Tensor, "3"], depth: PictureDepth) -> Motion | None:
        """How the object moves; None: it is taken away.

        Args:
            middle: of its seen surface, in the camera's axes.

        Raises:
            InputError: words that mean nothing, or do not fit the depth.
        """
        if self.delete:
            return None
        move = [0.0, 0.0, 0.0]
        if self.move is not None:
            words = self.move.split(",")
            if len(words) != 3:
                raise _no_move(self.move)
            move = [_length(word, float(middle[2]), depth, self.move) for word in words]
        return Motion(self.rotation(), self.scale or 1.0, torch.tensor(move, dtype=torch.float64), middle)

    def rotation(self) -> Float[Tensor, "3 3"]:
        """Right-handed in the camera's axes: x right, y down, z away.

        Raises:
            InputError: `rotate` is no axis with an angle.
        """
        if self.rotate is None:
            return torch.eye(3, dtype=torch.float64)
        word, _, angle = self.rotate.partition(":")
        degrees = _number(angle)
        axis = AXES.get(word.strip().lower())
        if axis is None or not math.isfinite(degrees):
            raise InputError(f"`rotate` must be an axis and an angle such as y:30, not {self.rotate}.")
        vector = torch.zeros(3, dtype=torch.float64)
        vector[axis] = math.radians(math.fmod(degrees, 360))
        return rotation_about(vector)


def read_object(mask: Path, height: int, width: int) -> Bool[Tensor, "{height} {width}"]:
    """The mask of an object.

    Raises:
        InputError: the file is no picture, of another size, or marks nothing or everything.
    """
    there = torch.from_numpy(read_mask(mask))
    if tuple(there.shape) != (height, width):
        raise InputError(
            f"{mask} has {there.shape[1]}x{there.shape[0]} px and the photo {width}x{height}: give a mask of "
            "the photo's size, white where the object is."
        )
    if bool(there.all()) or not bool(there.any()):
        raise InputError(
            f"{mask} is {'white' if bool(there.any()) else 'black'} everywhere: let it be white where the "
            "object is, and black elsewhere."
        )
    return there


def _length(word: str, distance: float, depth: PictureDepth, text: str) -> float:
    """In the unit of the depth."""
    word = word.strip().lower()
    unit = next((known for known in ("%", "mm", "cm", "m") if word.endswith(known)), "")
    value = _number(word.removesuffix(unit)) * UNITS.get(unit, 1.0)
    if not abs(value) <= FARTHEST:
        raise _no_move(text)
    if unit == "%":
        return value / 100 * distance
    if unit in UNITS or depth.unit is None:
        if value != 0 and depth.metres_per_unit is None:
            raise InputError(
                f"`move` in metres needs a depth in metres, and that of {depth.source} is not: give shares "
                "of the object's distance, such as 10%,0,25%."
            )
        return value / (depth.metres_per_unit or 1.0)
    return value


def _no_move(text: str) -> InputError:
    return InputError(
        "`move` must be three lengths to the right, down and away, such as 0.1m,0,0.5m or 10%,0,25% (of the "
        f"object's distance), not {text}."
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
