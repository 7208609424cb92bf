"""A selection, and what an edit uncovers, laid over the photos: to look at, and with figures."""

import json
import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cocogs import __version__
from cocogs.edit.subject import Look, Subject
from cocogs.edit.uncovered import Uncovered
from cocogs.edits import Chosen
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.io.lock import alone_in
from cocogs.io.pictures import picture_names, write_png
from cocogs.render.refocusing import sharp_picture
from cocogs.render.shares import shown_share
from cocogs.spread import some_of

FACTS = "preview.json"
HIGHLIGHT = (1.0, 0.59, 0.12)  # sRGB of what is chosen
STRENGTH = 0.55  # of the highlight
REST = 0.6  # brightness of what is not chosen
MOST = 12  # photos


def write_preview(
    before: Subject,
    chosen: Chosen,
    folder: Path,
    after: Subject | None = None,
    bared: Uncovered | None = None,
) -> list[Path]:
    """Pictures from the places of up to `MOST` photos that show the selection.

    NAME_selected.png is the photo (a render where the scene was edited before, or the photo is absent) with
    the selection highlighted. After an edit NAME_edited.png is the edited scene, NAME_unseen.png is white
    where it shows what no photo saw. preview.json has the figures.

    Returns:
        The files written.

    Raises:
        InputError: no photo shows the selection, the folder holds files of others, or one cannot be written.
    """
    if not before.looks:
        raise InputError(f"{before.target} comes without cameras to look from: `cocogs view` shows it.")
    looks = _some(before, chosen)
    check_folder(folder)
    for name in _earlier(folder):
        (folder / name).unlink(missing_ok=True)
    paths, rows = [], {}
    with alone_in(folder):
        for name, (look, share) in zip(picture_names([look.name for look, _ in looks]), looks, strict=True):
            pictures = {"selected": overlay(picture_of(before, look), share)}
            rows[look.name] = {"selected": round(float(share.mean()), 5)}
            if after is not None:
                pictures["edited"] = sharp_picture(after.gaussians, look.camera)
            if bared is not None:
                unseen = bared.unseen(look.camera)
                pictures["unseen"] = unseen.float().expand(3, -1, -1)
                rows[look.name]["unseen"] = round(float(unseen.float().mean()), 5)
            for word, picture in pictures.items():
                paths.append((folder / name).with_name(f"{Path(name).stem}_{word}.png"))
                write_png(picture, paths[-1])
        facts = {
            "cocogs": __version__, "scene": str(before.target), "select": chosen.words,
            "splats": len(chosen), "of": len(before.gaussians), "share_of_picture": rows,
            "files": [str(path.relative_to(folder)) for path in paths],
        }  # fmt: skip
        write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    return [*paths, folder / FACTS]


def _some(subject: Subject, chosen: Chosen) -> list[tuple[Look, Float[Tensor, "H W"]]]:
    """Up to `MOST` photos that show the selection, evenly, and how much of each pixel it fills."""
    looks = list(subject.looks.values())
    words = {word.strip("\"'") for word in re.findall(r"@([^\s,()~]+)", chosen.words)}
    named = [look for look in looks if {look.name, Path(look.name).stem} & words]
    looks = [*named, *(look for look in looks[:: max(1, len(looks) // (4 * MOST))] if look not in named)]
    shares = [(look, shown_share(subject.gaussians, look.camera, chosen.mask)) for look in looks]
    shown = [(look, share) for look, share in shares if share.max() > 0.5]
    if not shown:
        raise InputError("No photo shows what is selected: all of it is hidden or too small.")
    return some_of(shown, MOST)


def check_folder(folder: Path) -> None:
    """Raises InputError for a folder that holds more than an earlier preview."""
    own = {folder / name for name in earlier} | {folder / FACTS} if (earlier := _earlier(folder)) else set()
    if folder.exists() and (
        not folder.is_dir() or any(p for p in folder.rglob("*") if p.is_file() and p not in own)
    ):
        raise InputError(f"{folder} holds files of others: give `preview` a new folder.")


def _earlier(folder: Path) -> list[str]:
    """The files of an earlier preview in a folder, by its facts; an unreadable list is nobody's."""
    try:
        names = read_json(folder / FACTS)["files"]
        return [name for name in names if (folder / name).resolve().is_relative_to(folder.resolve())]
    except (InputError, KeyError, TypeError):
        return []


def picture_of(subject: Subject, look: Look) -> Float[Tensor, "3 H W"]:
    """The photo; a render where the scene was edited before, or the photo is absent."""
    if look.photo is not None and not subject.edits.steps:
        return look.photo()
    return sharp_picture(subject.gaussians, look.camera)


def overlay(
    picture: Float[Tensor, "3 H W"], share: Float[Tensor, "H W"], rest: float = REST
) -> Float[Tensor, "3 H W"]:
    """The picture with what is chosen tinted and outlined, and the rest as bright as `rest` says."""
    inside = (share > 0.5).float()
    edge = torch.nn.functional.max_pool2d(inside[None], 3, 1, 1)[0] - inside
    tint = STRENGTH * share * inside + edge
    color = torch.tensor(HIGHLIGHT)[:, None, None]
    return (rest + (1 - rest) * inside) * picture * (1 - tint) + tint * color
