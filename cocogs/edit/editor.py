"""A person's edits while they make them: what is selected, locked and hidden; undo, redo, save. No viser."""

from collections import deque
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from cocogs.edit.change import Change, edits_for, similarity
from cocogs.edit.select import grown
from cocogs.edit.subject import Subject, changing_edits
from cocogs.edits import Chosen, Delete, Edit, Edited, Edits, Move, edits_path, open_edits, write_edits
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, z_curve_order

SET, ADD, REMOVE, INTERSECT = "set", "add", "remove", "intersect"
WORDS = "chosen in the viewer"
MOST_STATES = 200  # that can be undone; what edits.json holds can be undone beyond them

Mask = Bool[Tensor, " N"]


@dataclass(frozen=True)
class State:
    """What undo brings back.

    Args:
        edits: of the scene.
        selected: splats that the next edit is for; never locked or hidden ones.
        locked: that nothing selects.
        hidden: that are not drawn, and that nothing selects.
    """

    edits: Edits
    selected: Mask
    locked: Mask
    hidden: Mask

    @classmethod
    def fresh(cls, edits: Edits, count: int) -> "State":
        """Nothing selected, locked or hidden."""
        none = torch.zeros(count, dtype=torch.bool)
        return cls(edits, none, none, none)

    @property
    def free(self) -> Mask:
        """What may be selected."""
        return ~(self.locked | self.hidden)

    def selecting(self, mask: Mask, how: str) -> Mask:
        """The selection once the splats of a mask are set, added, removed or intersected."""
        mask, before = mask & self.free, self.selected
        return {SET: mask, ADD: before | mask, REMOVE: before & ~mask, INTERSECT: before & mask}[how]


@dataclass(frozen=True)
class Shown:
    """The splats that are drawn.

    Args:
        gaussians: in the order of a Z curve, which are drawn in half the time.
        which: their indices in the scene.
        count: of the scene's splats.
    """

    gaussians: Gaussians
    which: Int64[Tensor, " K"]
    count: int

    def of(self, mask: Mask) -> Bool[Tensor, " K"]:
        """What a mask over the scene says of the splats that are drawn."""
        return mask[self.which]

    def in_scene(self, mask: Bool[Tensor, " K"]) -> Mask:
        """A mask over the splats that are drawn as one over the scene."""
        result = torch.zeros(self.count, dtype=torch.bool)
        result[self.which[mask]] = True
        return result

    def moved(
        self, some: Bool[Tensor, " K"], rotation: Float64[Tensor, "3 3"], translation: Float64[Tensor, "3"]
    ) -> Gaussians:
        """What it looks like while splats are moved by x -> rotation x + translation."""
        scene = Edited(self.gaussians, torch.zeros(len(self.gaussians), dtype=torch.bool))
        return similarity(Chosen(some), rotation, translation).applied(scene).gaussians


class Editor:
    """A scene and its edits; every change can be undone.

    It is not made for several threads at once.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.state = State.fresh(subject.edits, len(subject.gaussians))
        self._past: deque[State] = deque(maxlen=MOST_STATES)
        self._future: list[State] = []
        self._saved, self._on_disk = subject.edits, subject.edits.fingerprint
        self._shown: tuple[Subject, Mask, Shown] | None = None
        self._order: tuple[Subject, Int64[Tensor, " N"]] | None = None

    # What there is.

    @property
    def selected(self) -> Mask:
        return self.state.selected

    @property
    def is_saved(self) -> bool:
        return self.state.edits is self._saved

    @property
    def shown(self) -> Shown:
        hidden = self.state.hidden
        if self._shown is None or self._shown[0] is not self.subject or self._shown[1] is not hidden:
            which = self._drawing_order()
            which = which[~hidden[which]]
            shown = Shown(self.subject.gaussians[which], which, len(hidden))
            self._shown = self.subject, hidden, shown
        return self._shown[2]

    @property
    def whole(self) -> Gaussians:
        """All splats, in the order in which they are drawn."""
        return self.subject.gaussians[self._drawing_order()]

    def _drawing_order(self) -> Int64[Tensor, " N"]:
        if self._order is None or self._order[0] is not self.subject:
            self._order = self.subject, z_curve_order(self.subject.gaussians.means.detach()).cpu()
        return self._order[1]

    # Selecting.

    def select(self, mask: Mask, how: str = SET) -> None:
        """Take the splats of a mask as the selection, or add, remove or intersect them."""
        selected = self.state.selecting(mask, how)
        if not torch.equal(selected, self.selected):
            self._go(replace(self.state, selected=selected))

    def select_all(self) -> None:
        self.select(self.state.free)

    def select_none(self) -> None:
        self.select(torch.zeros_like(self.state.free))

    def invert(self) -> None:
        self.select(~self.selected)

    def grow(self, distance: float) -> None:
        """Select what lies within `distance` (scene units) of the selection. Raises InputError for none."""
        self.select(grown(self.subject.gaussians, self.selected, distance))

    def shrink(self, distance: float) -> None:
        """The opposite."""
        self.select(~grown(self.subject.gaussians, ~self.selected, distance))

    def lock(self) -> None:
        """Keep the selection from being selected and edited."""
        chosen, nothing = self._chosen().mask, torch.zeros_like(self.selected)
        self._go(replace(self.state, locked=self.state.locked | chosen, selected=nothing))

    def hide(self) -> None:
        """Draw the scene without the selection; it is not edited meanwhile."""
        chosen, nothing = self._chosen().mask, torch.zeros_like(self.selected)
        self._go(replace(self.state, hidden=self.state.hidden | chosen, selected=nothing))

    def unlock(self) -> None:
        """Unlock everything."""
        if self.state.locked.any():
            self._go(replace(self.state, locked=torch.zeros_like(self.state.locked)))

    def unhide(self) -> None:
        """Show everything."""
        if self.state.hidden.any():
            self._go(replace(self.state, hidden=torch.zeros_like(self.state.hidden)))

    # Editing.

    def change(self, change: Change) -> None:
        """Make a change of the selection, as `cocogs edit` makes it; copies are selected then.

        Raises:
            InputError: nothing is selected, or the change does not fit the scene.
        """
        self._apply(edits_for(self.subject, self._chosen(), change))

    def move(
        self, rotation: Float64[Tensor, "3 3"], translation: Float64[Tensor, "3"], copy: bool = False
    ) -> None:
        """Move the selection, or a copy of it, by x -> rotation x + translation.

        Raises:
            InputError: nothing is selected.
        """
        self._apply([similarity(self._chosen(), rotation, translation, copy=copy)])

    def crop(self, keep: Mask) -> None:
        """Delete all splats but some, the locked and the hidden.

        Raises:
            InputError: nothing would be kept, or nothing be deleted.
        """
        if not (keep & self.state.free).any():
            raise InputError("There is no splat to keep: place the box around some, or select them.")
        rest = ~keep & self.state.free
        if not rest.any():
            raise InputError("There is nothing else to delete.")
        self._apply([Delete(Chosen(rest, f"not what was {WORDS}"))])

    def _chosen(self) -> Chosen:
        if not self.selected.any():
            raise InputError("Nothing is selected: choose a tool, and click or draw in the picture.")
        return Chosen(self.selected, WORDS)

    def _apply(self, steps: list[Edit]) -> None:
        subject, state = self.subject, self.state
        for step in steps:
            subject = subject.then(step)
            state = after(step, replace(state, edits=subject.edits))
        self._go(state, subject)

    # Undo, redo, save.

    def undo(self) -> None:
        """Go back before the last change; at the end, before the last edit of those that the file holds.

        Raises:
            InputError: there is nothing to undo.
        """
        if not self._past and not self.state.edits.steps:
            raise InputError("There is nothing to undo.")
        self._future.append(self.state)
        if self._past:
            self._enter(self._past.pop())
        else:
            self.subject = self.subject.undone()
            self.state = State.fresh(self.subject.edits, len(self.subject.gaussians))

    def redo(self) -> None:
        """Put back what was undone last. Raises InputError if there is nothing."""
        if not self._future:
            raise InputError("There is nothing to redo.")
        self._past.append(self.state)
        self._enter(self._future.pop())

    def save(self) -> None:
        """Write the edits beside the scene, where `cocogs edit` keeps its own, or remove the file if none is
        left.

        Raises:
            InputError: somebody else has changed them meanwhile, or they cannot be written.
        """
        target = self.subject.target
        with changing_edits(target):
            if open_edits(target, self.subject.original).fingerprint != self._on_disk:
                raise InputError(
                    f"{edits_path(target)} was changed by somebody else meanwhile: reload the page and edit "
                    "again, what you did here is not saved."
                )
            write_edits(target, self.state.edits)
        self._saved, self._on_disk = self.state.edits, self.state.edits.fingerprint

    def _go(self, state: State, subject: Subject | None = None) -> None:
        self._past.append(self.state)
        self._future.clear()
        self.state, self.subject = state, subject or self.subject

    def _enter(self, state: State) -> None:
        """Take up a state that precedes or follows the present one."""
        done, wanted = len(self.subject.edits.steps), state.edits.steps
        subject = self.subject.undone(done - len(wanted)) if len(wanted) < done else self.subject
        for step in wanted[done:]:
            subject = subject.then(step)
        self.state = state
        if subject is not self.subject:
            self.subject = replace(subject, edits=state.edits)


def after(step: Edit, state: State) -> State:
    """The selection, and what is locked and hidden, after an edit changed the number of splats."""
    if isinstance(step, Delete):
        kept = ~step.chosen.mask
        return replace(
            state, selected=state.selected[kept], locked=state.locked[kept], hidden=state.hidden[kept]
        )
    if isinstance(step, Move) and step.copy:
        count = len(step.chosen)
        none, copies = torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool)
        return replace(
            state,
            selected=torch.cat([torch.zeros_like(state.selected), copies]),
            locked=torch.cat([state.locked, none]),
            hidden=torch.cat([state.hidden, none]),
        )
    return state
