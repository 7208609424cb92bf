"""`edit`: splats of a scene selected, moved, copied, recoloured, taken away; what that uncovers."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from cocogs.checkpoint import is_trained
from cocogs.edit.change import Change, edits_for
from cocogs.edit.preview import check_folder, write_preview
from cocogs.edit.select import CutOut, select
from cocogs.edit.subject import Subject, changing_edits, drop_last, open_subject
from cocogs.edit.uncovered import Uncovered, uncovered
from cocogs.edits import Add, Chosen, Delete, Edit, Move, edits_path, file_hash, write_edits, write_selection
from cocogs.errors import InputError, check_number, counted
from cocogs.export import ending_of, export_splats
from cocogs.io.lens_file import LensFile, lens_beside, read_lens_file, write_lens_file
from cocogs.io.lock import alone_in
from cocogs.io.ply import write_ply
from cocogs.io.progress import Say
from cocogs.learned_lens import read_learned_lens
from cocogs.spread import some_of

SELECTION = ".selection.json"
LOOKS = 16  # photos at most that are searched for what an edit uncovers


@dataclass(frozen=True)
class EditOptions:
    """What to do; cocogs/cli/edit.py describes every field for users.

    Args:
        select: an expression (`cocogs.edit.expression`).
        segmenter: folder of a network that understands its clicks.
        change: what becomes of the splats that it means.
        metres: in a scene unit, where the user knows.
        preview: folder for pictures.
        save_selection: file for the selection.
        fill: add splats for what the change uncovers and no photo saw.
        inpainter: folder of a diffusion model that paints what is filled; None: OpenCV does.
        undo: drop the last edit.
        out: splats to write; None: the edit is noted beside the scene.
    """

    select: str | None = None
    segmenter: Path | None = None
    change: Change = field(default_factory=Change)
    metres: float | None = None
    preview: Path | None = None
    save_selection: Path | None = None
    fill: bool = False
    inpainter: Path | None = None
    undo: bool = False
    out: Path | None = None


def edit(target: Path, options: EditOptions, say: Say = print) -> list[Path]:
    """Edit a run or a .ply.

    Returns:
        The files written.

    Raises:
        InputError: options that do not fit each other or the scene, or a file that cannot be read or written.
    """
    check_options(target, options)
    writes = options.out is None and (options.undo or not options.change.is_none)
    with changing_edits(target) if writes else nullcontext():
        if options.undo:
            for step in drop_last(target):
                say(f"Undone: {describe(step)}")
            return []
        subject = open_subject(target, say)
        if options.metres is not None:
            subject = replace(subject, metres=options.metres)
        if options.select is None:
            tell_edits(subject, say)
            return [] if options.out is None else write_scene(subject, options.out, say)
        chosen = select(subject, options.select, segmenter_of(options))
        share = len(chosen) / len(subject.gaussians)
        say(f"{len(chosen):,} of {len(subject.gaussians):,} splats ({share:.1%}) are selected.")
        written = []
        if options.save_selection is not None:
            write_selection(options.save_selection, subject.edits, chosen)
            written.append(options.save_selection)
        return written + change_scene(subject, chosen, options, say)


def change_scene(subject: Subject, chosen: Chosen, options: EditOptions, say: Say) -> list[Path]:
    """Make the change, tell what it uncovers, and write what was asked for."""
    if options.preview is not None:
        check_folder(options.preview)
    after, written, bared = subject, [], None
    for number, step in enumerate(edits_for(subject, chosen, options.change)):
        after = after.then(replace(step, follows=number > 0))
        taken = taken_by(step)
        if taken is not None and (bared := uncovered(subject, after, taken)) is not None:
            tell_uncovered(subject, bared, say)
    if options.fill:
        if bared is None:
            raise InputError(
                "`fill` fills what `move` or `delete` uncovers in photos: give one, for a scene whose "
                "photos' cameras are known."
            )
        after, added = with_filling(after, bared, options, say)
        written += added
    changed = None if options.change.is_none else after
    if options.preview is not None:
        written += write_preview(subject, chosen, options.preview, changed, bared)
    if options.out is not None:
        return written + write_scene(after, options.out, say)
    if changed is not None:
        write_edits(subject.target, after.edits)
        written.append(edits_path(subject.target))
    return written


def segmenter_of(options: EditOptions) -> CutOut | None:
    """The network that understands clicks, if one was named."""
    if options.segmenter is None:
        return None
    from cocogs.edit.segmenter import Segmenter

    return Segmenter(options.segmenter)


def with_filling(
    after: Subject, bared: Uncovered, options: EditOptions, say: Say
) -> tuple[Subject, list[Path]]:
    """The scene with new splats where an edit uncovered what no photo saw, and the file that keeps them: it
    lies beside the edits, or, where the scene is written elsewhere, there for a moment."""
    from cocogs.edit.fill import continued, fill  # their libraries take seconds to load
    from cocogs.edit.inpainter import Inpainter

    inpainter = None if options.inpainter is None else Inpainter(options.inpainter, say)
    folder = None if options.out is None else options.out.parent
    filling = fill(after.gaussians, bared, say, inpainter or continued)
    kept = edits_path(after.target) if folder is None else folder / "unnoted.json"
    path = next(p for n in count(1) if not (p := kept.with_name(f"{kept.stem}.fill-{n}.ply")).exists())
    write_ply(path, filling.added)
    try:
        words = "what showed only there" + (f"; painted by {inpainter.words}" if inpainter else "")
        junk, drawn = Chosen(filling.junk, words), inpainter is not None
        step = Add(junk, path, file_hash(path), invented=True, generative=drawn, follows=True)
        say(
            f"Filled with {len(filling.added):,} splats, which are invented; "
            f"{int(filling.junk.sum()):,} were taken away."
        )
        return after.then(step), [path] if folder is None else []
    finally:
        if folder is not None:
            path.unlink()


def check_options(target: Path, options: EditOptions) -> None:
    """Raises InputError for options that do not fit each other."""
    check_number("metres", options.metres, least=1e-6, most=1e6)
    change = options.change
    shown = options.preview is not None or options.save_selection is not None or options.fill
    others = options.select is not None or options.out is not None or shown or not change.is_none
    if options.undo and others:
        raise InputError("`undo` drops the last edit: give it alone.")
    worded = change.up is not None or change.seen_from is not None
    if options.select is None and (shown or worded or not change.is_none):
        raise InputError("Nothing is selected: say with `select` what is meant, such as click:50%,50%@PHOTO.")
    if options.select is not None and change.is_none and not shown:
        raise InputError(
            "Say what becomes of the selection, such as `delete` or `move`, or look at it with `preview`."
        )
    if options.segmenter is not None and "click:" not in (options.select or ""):
        raise InputError("`segmenter` understands a click: give `select` click:X,Y@PHOTO, or leave it out.")
    if options.inpainter is not None and not options.fill:
        raise InputError("`inpainter` paints what `fill` fills: give both, or leave it out.")
    if options.save_selection is not None and not options.save_selection.name.endswith(SELECTION):
        raise InputError(f"{options.save_selection} must end in {SELECTION}.")
    if options.out is not None:
        ending_of(options.out)
        if options.out.resolve() == target.resolve():
            raise InputError(f"{target} itself is never changed: give another `out`, or leave it out.")


def tell_edits(subject: Subject, say: Say) -> None:
    """Say which edits were made so far."""
    for number, step in enumerate(subject.edits.steps, start=1):
        say(f"{number}. {describe(step)}")
    say(
        f"{subject.target} has {counted(len(subject.edits.steps), 'edit')} and {len(subject.gaussians):,} "
        "splats."
    )


def describe(step: Edit) -> str:
    """An edit in a few words."""
    if isinstance(step, Add):
        return f"add {step.file}" + (
            " (generative)" if step.generative else " (invented)" if step.invented else ""
        )
    verb = "copy" if isinstance(step, Move) and step.copy else step.kind
    return f"{verb} {len(step.chosen):,} splats: {step.chosen.words}"


def taken_by(step: Edit) -> Bool[Tensor, " N"] | None:
    """The splats that an edit takes from where they were; None where it takes none."""
    if isinstance(step, Delete) or (isinstance(step, Move) and not step.copy):
        return step.chosen.mask
    return None


def tell_uncovered(subject: Subject, bared: Uncovered, say: Say) -> None:
    """Say how much of the pictures shows what no photo saw."""
    shares = torch.tensor([bared.unseen(c).float().mean() for c in some_of(subject.cameras, LOOKS)])
    if (worst := float(shares.max())) > 0:
        say(
            f"Uncovered, and never seen by a photo: {float(shares.mean()):.2%} of the pictures on average, "
            f"{worst:.2%} at most. What shows there is no measurement."
        )


def write_scene(subject: Subject, path: Path, say: Say) -> list[Path]:
    """Splats as a file for viewers, with SCENE.lens.json beside it if the lens is known."""
    lens, written = lens_beside(path, ending_of(path)), [path]
    learned = lens_of(subject)
    if edits_path(path).exists():
        raise InputError(f"{edits_path(path)} holds edits of another {path.name}: give another `out`.")
    if learned is None and lens.exists():
        raise InputError(f"{lens} tells of another scene's cameras: move it away, or give another `out`.")
    if any(isinstance(step, Add) and step.file.resolve() == path.resolve() for step in subject.edits.steps):
        raise InputError(f"{path} belongs to the edits of {subject.target}: give another `out`.")
    offset = None if learned is None else torch.tensor(learned.offset, dtype=torch.float64)
    with alone_in(path.parent, f".{lens.name}.lock", "give another `out`"):
        export_splats(subject.gaussians, path, offset, say)
        if learned is not None:
            write_lens_file(learned, lens)
            written.append(lens)
    return written


def lens_of(subject: Subject) -> LensFile | None:
    """Cameras and lens of a scene, as they are on the disk."""
    if is_trained(subject.target):
        return read_learned_lens(subject.target)
    beside = lens_beside(subject.target)
    return read_lens_file(beside) if beside.is_file() else None
