"""From what was asked for to an edit: where splats go, how they are turned, what becomes of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from cocogs.camera import rotation_about
from cocogs.edit.frame import Directions, directions, drop_height, middle_and_foot, parse_move, parse_rotation
from cocogs.edit.select import hex_color
from cocogs.edit.subject import Subject
from cocogs.edits import Chosen, Delete, Edit, Move, Recolor
from cocogs.errors import InputError, check_number
from cocogs.gaussians import colors_of

CHANGES = ("move", "rotate", "scale", "drop", "duplicate", "delete", "recolor", "opacity")
DARKEST = 0.01  # mean of a colour that can still be multiplied to another
BRIGHTEST, LARGEST = 100.0, 1000.0  # factors of colour and of size


@dataclass(frozen=True)
class Change:
    """What becomes of splats; cocogs/cli/edit.py describes every field for users.

    Args:
        move: `X,Y,Z` or `left:20cm,up:0.1`.
        rotate: `up:30`, about the middle of what is chosen.
        scale: > 0, about its foot.
        drop: let it fall onto what lies under it, after all that.
        duplicate: what is chosen stays, and a copy is changed.
        delete: take it away.
        recolor: factors of red, green and blue `1.2,1,0.8`, or the mean colour that it gets `#c04020`.
        opacity: factor, >= 0.
        up, seen_from: see `cocogs.edit.frame.directions`.
    """

    move: str | None = None
    rotate: str | None = None
    scale: float = 1.0
    drop: bool = False
    duplicate: bool = False
    delete: bool = False
    recolor: str | None = None
    opacity: float = 1.0
    up: str | None = None
    seen_from: str | None = None

    @property
    def moves(self) -> bool:
        return self.move is not None or self.rotate is not None or self.scale != 1 or self.drop

    @property
    def recolors(self) -> bool:
        return self.recolor is not None or self.opacity != 1

    @property
    def is_none(self) -> bool:
        return not (self.moves or self.recolors or self.delete or self.duplicate)


def edits_for(subject: Subject, chosen: Chosen, change: Change) -> list[Edit]:
    """The edits that a change makes, in order.

    Raises:
        InputError: options that do not fit each other or the scene, or out of range.
    """
    if change.delete and (change.moves or change.recolors or change.duplicate):
        raise InputError("`delete` takes the selection away, so nothing else can become of it: leave it out.")
    check_number("scale", change.scale, above=0, most=LARGEST)
    check_number("opacity", change.opacity, least=0, most=BRIGHTEST)
    if change.delete:
        return [Delete(chosen)]
    steps: list[Edit] = []
    if change.recolors and not change.duplicate:
        steps.append(_recolor(subject, chosen, change))
    if change.moves or change.duplicate:
        steps.append(_move(subject, chosen, change))
    if change.recolors and change.duplicate:
        copied = torch.arange(len(subject.gaussians) + len(chosen)) >= len(subject.gaussians)
        color = _recolor(subject, chosen, change)
        steps.append(Recolor(Chosen(copied, f"the copy of {chosen.words}"), color.gains, color.opacity))
    return steps


def _move(subject: Subject, chosen: Chosen, change: Change) -> Move:
    if not change.moves:  # a copy on the spot
        return Move(chosen, copy=True)
    frame = directions(subject, change.up, change.seen_from)
    middle, foot = middle_and_foot(subject.gaussians, chosen.mask, frame.up)
    rotation, translation = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    if change.rotate is not None:
        rotation = rotation_about(parse_rotation(change.rotate, frame))
        translation = middle - rotation @ middle
    if change.scale != 1:
        translation = change.scale * translation + (1 - change.scale) * foot
    if change.move is not None:
        translation = translation + parse_move(change.move, frame, subject)
    move = similarity(chosen, rotation, translation, change.scale, change.duplicate)
    return _dropped(subject, move, frame) if change.drop else move


def similarity(
    chosen: Chosen,
    rotation: Float64[Tensor, "3 3"],
    translation: Float64[Tensor, "3"],
    scale: float = 1.0,
    copy: bool = False,
) -> Move:
    """The edit that moves splats by x -> scale * rotation x + translation."""
    rows = tuple(tuple(row) for row in rotation.tolist())
    return Move(chosen, rows, tuple(translation.tolist()), float(scale), copy)


def _dropped(subject: Subject, move: Move, frame: Directions) -> Move:
    after = move.applied(subject.scene).gaussians
    moved = move.chosen.mask
    if move.copy:
        moved = torch.arange(len(after)) >= len(subject.gaussians)
    fall = drop_height(after, moved, frame.up)
    translation = torch.tensor(move.translation, dtype=torch.float64) - fall * frame.up
    rotation = torch.tensor(move.rotation, dtype=torch.float64)
    return similarity(move.chosen, rotation, translation, move.scale, move.copy)


def _recolor(subject: Subject, chosen: Chosen, change: Change) -> Recolor:
    return Recolor(chosen, _gains(subject, chosen, change.recolor), float(change.opacity))


def _gains(subject: Subject, chosen: Chosen, text: str | None) -> tuple[float, float, float]:
    """Factors of the colours.

    Raises:
        InputError: neither three factors nor a colour.
    """
    if text is None:
        return 1.0, 1.0, 1.0
    if text.startswith("#"):
        weights = subject.gaussians.opacities.detach().sigmoid().cpu()[chosen.mask][:, None]
        mean = (weights * colors_of(subject.gaussians).cpu()[chosen.mask]).sum(0) / weights.sum()
        if bool((mean < DARKEST).any()):
            raise InputError(
                "`recolor` multiplies colours, and the selection has nearly none of one: give factors first, "
                "or select less."
            )
        red, green, blue = (hex_color("recolor", text) / mean).tolist()
        return red, green, blue
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            "`recolor` takes factors of red, green and blue such as 1.2,1,0.8, or a colour such as #c04020, "
            f"not {text!r:.40}."
        ) from error
    for factor in (red, green, blue):
        check_number("recolor", factor, least=0, most=BRIGHTEST)
    return red, green, blue
