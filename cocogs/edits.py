"""Edits of a scene as plain data: which splats, and what became of them. Applied, written, read, undone.

RUN/edits.json      the edits of a run, applied by `load_run`
SCENE.edits.json    those of SCENE.ply

The scene's own file is never changed. docs/edit.md describes the file.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from cocogs.camera import is_rotation
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians, colors_of, sh0_of
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.io.ply import read_ply

SCHEMA = "cocogs-edits/1"
SELECTION_SCHEMA = "cocogs-selection/1"
ADVICE = "restore it, or delete it and edit again"
MOST_SPLATS = 2**31 - 1
UNFIT = (KeyError, TypeError, ValueError, AttributeError, OverflowError, zlib.error)  # parts of a file
FARTHEST = 1e12  # scene units, or a factor; float32 squares what is larger out of its range
FAINTEST_LOGIT, STRONGEST_LOGIT = -15.0, 15.0


@dataclass(frozen=True)
class Chosen:
    """Which splats of a scene.

    Args:
        mask: (N,) bool on the CPU.
        words: how they were chosen, for the reader of the file.
    """

    mask: Bool[Tensor, " N"]
    words: str = ""

    def __len__(self) -> int:
        return int(self.mask.sum())

    def packed(self) -> bytes:
        """The mask's bits, eight in a byte."""
        return np.packbits(self.mask.numpy()).tobytes()

    def values(self) -> dict[str, Any]:
        """As JSON: the mask's bits, packed, deflated, in base64."""
        text = base64.b64encode(zlib.compress(self.packed(), 9)).decode()
        return {"of": len(self.mask), "chosen": len(self), "words": self.words, "mask": text}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> "Chosen":
        """Raises ValueError, KeyError, TypeError or zlib.error for what is no such thing."""
        count = values["of"]
        if type(count) is not int or not 0 <= count <= MOST_SPLATS:
            raise ValueError(f"{count!r:.20} is no number of splats")
        size = (count + 7) // 8
        unpacked = zlib.decompressobj().decompress(base64.b64decode(values["mask"], validate=True), size + 1)
        if len(unpacked) != size:
            raise ValueError("the mask has another size than it says")
        bits = np.unpackbits(np.frombuffer(unpacked, np.uint8), count=count)
        return cls(torch.from_numpy(bits.astype(bool)), str(values["words"]))


@dataclass(frozen=True)
class Edited:
    """A scene and which of its splats no photo showed: they were added by a fill."""

    gaussians: Gaussians
    invented: Bool[Tensor, " N"]

    def taken(self, which: Int64[Tensor, " K"]) -> "Edited":
        return Edited(self.gaussians[which.to(self.gaussians.means.device)], self.invented[which])


@dataclass(frozen=True)
class Move:
    """Moves splats by x -> scale * rotation x + translation, colours and all.

    Args:
        rotation: orthonormal, determinant +1, row by row.
        translation: scene units.
        scale: > 0.
        copy: the splats stay where they are, and copies of them are moved.
    """

    kind: ClassVar[str] = "move"
    chosen: Chosen
    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    copy: bool = False
    follows: bool = False

    def applied(self, scene: Edited) -> Edited:
        which = self.chosen.mask.nonzero()[:, 0]
        rotation, translation = torch.tensor(self.rotation).double(), torch.tensor(self.translation).double()
        moved = scene.gaussians[which.to(scene.gaussians.means.device)]
        moved = moved.transformed(rotation, translation, self.scale)
        if not bool(moved.drawable().all()):
            raise InputError("That would bring splats beyond what can be drawn: move or scale less.")
        if self.copy:
            joined = Gaussians.joined([scene.gaussians, moved])
            return Edited(joined, torch.cat([scene.invented, scene.invented[which]]))
        return replace(scene, gaussians=with_rows(scene.gaussians, which, moved))

    @classmethod
    def from_values(cls, chosen: Chosen, values: dict[str, Any]) -> "Move":
        rotation = tuple(_three(row) for row in values["rotation"])
        if len(rotation) != 3:
            raise ValueError("rotation has no three rows")
        scale, (copy, follows) = _number("scale", values["scale"]), _flags(values, "copy", "follows")
        if scale == 0 or not is_rotation(torch.tensor(rotation).double()):
            raise ValueError("scale is 0, or rotation is none")
        return cls(chosen, rotation, _three(values["translation"]), scale, copy, follows)


@dataclass(frozen=True)
class Delete:
    """Takes splats away."""

    kind: ClassVar[str] = "delete"
    chosen: Chosen
    follows: bool = False

    def applied(self, scene: Edited) -> Edited:
        return scene.taken((~self.chosen.mask).nonzero()[:, 0])

    @classmethod
    def from_values(cls, chosen: Chosen, values: dict[str, Any]) -> "Delete":
        return cls(chosen, *_flags(values, "follows"))


@dataclass(frozen=True)
class Recolor:
    """Multiplies colours and opacity.

    Args:
        gains: of red, green and blue as they are seen (sRGB-encoded), >= 0.
        opacity: factor, >= 0; a splat's opacity stays below 1.
    """

    kind: ClassVar[str] = "recolor"
    chosen: Chosen
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float = 1.0
    follows: bool = False

    @torch.no_grad()
    def applied(self, scene: Edited) -> Edited:
        which = self.chosen.mask.nonzero()[:, 0]
        part = scene.gaussians[which.to(scene.gaussians.means.device)]
        gains = part.sh0.new_tensor(self.gains)
        raw = {name: getattr(part, name).detach() for name in Gaussians.names}
        raw["sh0"] = sh0_of(gains * colors_of(part))
        raw["shN"] = gains * raw["shN"]
        if self.opacity != 1:
            faded = (self.opacity * raw["opacities"].double().sigmoid()).logit()
            raw["opacities"] = (
                faded.nan_to_num(STRONGEST_LOGIT).clamp(FAINTEST_LOGIT, STRONGEST_LOGIT).float()
            )
        recolored = Gaussians(part.antialiased, **raw)
        return replace(scene, gaussians=with_rows(scene.gaussians, which, recolored))

    @classmethod
    def from_values(cls, chosen: Chosen, values: dict[str, Any]) -> "Recolor":
        gains = [_number("gains", gain) for gain in _three(values["gains"])]
        return cls(chosen, _three(gains), _number("opacity", values["opacity"]), *_flags(values, "follows"))


@dataclass(frozen=True)
class Add:
    """Adds the splats of a .ply.

    Args:
        chosen: splats that they take the place of; perhaps none.
        file: the .ply.
        sha256: of the file.
        invented: no photo showed them.
        generative: a network drew what they were fitted to.
    """

    kind: ClassVar[str] = "add"
    chosen: Chosen
    file: Path
    sha256: str
    invented: bool = False
    generative: bool = False
    follows: bool = False

    def applied(self, scene: Edited) -> Edited:
        added = read_ply(self.file, say=lambda line: None).to(scene.gaussians.means.device)
        if file_hash(self.file) != self.sha256:
            raise InputError(f"{self.file} is not the file that was added to the scene: {ADVICE}.")
        kept = scene.taken((~self.chosen.mask).nonzero()[:, 0])
        invented = torch.full((len(added),), self.invented)
        return Edited(Gaussians.joined([kept.gaussians, added]), torch.cat([kept.invented, invented]))


Edit = Move | Delete | Recolor | Add
"""`follows`: the edit belongs to the one before it, and both are undone together."""
KINDS = {kind.kind: kind for kind in (Move, Delete, Recolor)}


@dataclass(frozen=True)
class Edits:
    """The edits of a scene, in order.

    Args:
        scene: fingerprint of the scene as it was before them.
        steps: each refers to the scene as the edits before it left it.
    """

    scene: str
    steps: tuple[Edit, ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Of the scene that they make: other edits, another fingerprint, the same on every machine."""
        digest = hashlib.sha256(self.scene.encode())
        for step in self.steps:
            values = step_values(step, Path()) | {"splats": step.chosen.packed().hex()}
            digest.update(json.dumps(values, sort_keys=True).encode())
        return self.scene if not self.steps else digest.hexdigest()

    def then(self, step: Edit) -> "Edits":
        return replace(self, steps=(*self.steps, step))


def apply_edits(gaussians: Gaussians, steps: Sequence[Edit], place: object) -> Edited:
    """The scene after all edits.

    Args:
        place: what holds the edits, for messages.

    Raises:
        InputError: an edit does not fit the scene, nothing is left, or an added file is gone or changed.
    """
    scene = Edited(gaussians, torch.zeros(len(gaussians), dtype=torch.bool))
    for number, step in enumerate(steps, start=1):
        if len(step.chosen.mask) != len(scene.gaussians):
            raise InputError(f"Edit {number} of {place} is for another number of splats: {ADVICE}.")
        scene = step.applied(scene)
        if len(scene.gaussians) == 0:
            raise InputError(f"Edit {number} of {place} leaves no splat: undo it.")
    return scene


def edited_scene(target: Path, gaussians: Gaussians) -> tuple[Edits, Edited]:
    """The edits of a run folder or a .ply, and the scene after them. Raises InputError as `open_edits` and
    `apply_edits`."""
    edits = open_edits(target, gaussians)
    return edits, apply_edits(gaussians, edits.steps, edits_path(target))


def with_rows(gaussians: Gaussians, which: Int64[Tensor, " K"], rows: Gaussians) -> Gaussians:
    """A copy in which some splats are replaced by others."""
    copy = gaussians[:]
    for name in Gaussians.names:
        values = getattr(copy, name).detach()
        values[which.to(values.device)] = getattr(rows, name).detach()
    return copy


def scene_fingerprint(gaussians: Gaussians) -> str:
    """Hash of all raw parameters."""
    digest = hashlib.sha256(f"{len(gaussians)} {gaussians.antialiased}".encode())
    for name in Gaussians.names:
        digest.update(getattr(gaussians, name).detach().cpu().numpy().data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------ as files


def edits_path(target: Path) -> Path:
    """Where the edits of a run folder, or of a .ply, are kept."""
    return target / "edits.json" if target.is_dir() else target.with_suffix(".edits.json")


def open_edits(target: Path, gaussians: Gaussians) -> Edits:
    """The edits of a scene; none where nothing was edited.

    Args:
        target: a run folder or a .ply.
        gaussians: of the scene as it was trained or as the .ply has it.

    Raises:
        InputError: the file is damaged, or was made for another scene, or the scene was trained further.
    """
    path, scene = edits_path(target), scene_fingerprint(gaussians)
    if not path.exists():
        return Edits(scene)
    edits = read_edits(path)
    if edits.scene != scene:
        raise InputError(
            f"{path} is for another state of the scene, perhaps before more training: move it away, and edit "
            "again."
        )
    return edits


def read_edits(path: Path) -> Edits:
    """Raises InputError for a file that is no such thing."""
    document = read_json(path, ADVICE)
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r:.30}, not {SCHEMA}")
        steps = tuple(_step(values, path.parent) for values in document["edits"])
        return Edits(str(document["scene"]), steps)
    except UNFIT as error:
        raise InputError(f"{path} cannot be read ({_problem(error)}): {ADVICE}.") from error


def write_edits(target: Path, edits: Edits) -> None:
    """Write, or remove where nothing is edited any more, the edits of a run folder or a .ply."""
    path = edits_path(target)
    if not edits.steps:
        path.unlink(missing_ok=True)
        return
    steps = [step_values(step, path.parent) for step in edits.steps]
    write_text(path, json.dumps({"schema": SCHEMA, "scene": edits.scene, "edits": steps}, indent=1) + "\n")


def step_values(step: Edit, folder: Path) -> dict[str, Any]:
    """As JSON.

    Args:
        folder: that holds the file of edits; files beside it are named without their folder.
    """
    values = {name: value for name, value in vars(step).items() if name not in ("chosen", "file")}
    if isinstance(step, Add):
        file = step.file.name if folder == Path() or step.file.parent == folder else str(step.file)
        values = {"file": file, **values}
    return {"kind": step.kind, **values, "splats": step.chosen.values()}


def _step(values: dict[str, Any], folder: Path) -> Edit:
    chosen = Chosen.from_values(values["splats"])
    if values["kind"] == Add.kind:
        flags = _flags(values, "invented", "generative", "follows")
        return Add(chosen, folder / values["file"], str(values["sha256"]), *flags)
    if values["kind"] not in KINDS:
        raise ValueError(f"{values['kind']!r:.30} is no kind of edit")
    return KINDS[values["kind"]].from_values(chosen, values)


def write_selection(path: Path, edits: Edits, chosen: Chosen) -> None:
    """A selection as a file; `edits` are those of the scene in which the splats were chosen."""
    document = {"schema": SELECTION_SCHEMA, "scene": edits.fingerprint, **chosen.values()}
    write_text(path, json.dumps(document, indent=1) + "\n")


def read_selection(path: Path, edits: Edits) -> Chosen:
    """Raises InputError for a damaged file, or one of another scene."""
    document = read_json(path, "save the selection again")
    try:
        if document["schema"] != SELECTION_SCHEMA:
            raise ValueError(f"schema {document['schema']!r:.30}, not {SELECTION_SCHEMA}")
        scene, chosen = document["scene"], Chosen.from_values(document)
    except UNFIT as error:
        raise InputError(f"{path} cannot be read ({_problem(error)}): save the selection again.") from error
    if scene != edits.fingerprint:
        raise InputError(
            f"{path} was chosen in another scene, or before another edit: select again, or undo the edit."
        )
    return chosen


def _flags(values: dict[str, Any], *names: str) -> tuple[bool, ...]:
    for name in names:
        if type(values[name]) is not bool:
            raise ValueError(f"{name} must be true or false")
    return tuple(values[name] for name in names)


def _three(values: Any) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    if not max(abs(x), abs(y), abs(z)) <= FARTHEST:
        raise ValueError(f"{values!r:.40} are not three finite numbers")
    return x, y, z


def _number(name: str, value: Any) -> float:
    if not 0 <= float(value) <= FARTHEST:
        raise ValueError(f"{name} cannot be {value!r:.20}")
    return float(value)


def _problem(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)[:80]
