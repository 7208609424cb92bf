"""From frames to files: drawn one after the other, with maps beside them.

A request leaves a record in its folder while it runs; by it, the same request continues an interrupted one.
"""

import hashlib
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from cocogs.checkpoint import CHECKPOINT
from cocogs.errors import InputError
from cocogs.io.atomic import write_text
from cocogs.io.json_file import read_json
from cocogs.io.pictures import linear_channels, write_exr, write_png
from cocogs.io.progress import Progress, Say
from cocogs.optics.lens import Lens
from cocogs.optics.maps import colored_coc, colored_depth
from cocogs.quantiles import quantiles
from cocogs.rasterize import release_memory
from cocogs.render.distortion import distorted
from cocogs.render.frames import Frame
from cocogs.render.options import RenderOptions
from cocogs.render.refocusing import coc_of, light_through, refocus, sharp_depth
from cocogs.run import Run

RECORD = ".cocogs-render.json"  # beside the pictures of a request that is not finished
# What follows the name of a frame in the names of its files: of the picture, and of its maps.
PARTS = ("", "_depth", "_depth_color", "_coc", "_coc_color")
COC_STEP, COC_ZERO = 1 / 64, 32768  # px per step of a 16-bit CoC map, and its value in focus


@torch.no_grad()
def write_pictures(
    run: Run, frames: list[Frame], options: RenderOptions, folder: Path, kind: str, say: Say,
    keep_record: bool = False,
) -> list[Path]:  # fmt: skip
    """Draw the frames into `folder`; keep those that an interrupted request like this one has drawn.

    Args:
        say: receives lines for the user: what is kept, and how far it is.
        keep_record: whether the record stays when all are drawn.
    """
    if options.coc and any(frame.lens is None for frame in frames):
        raise InputError("`coc` shows what a lens blurs: give `focus` with it.")
    writer = _Writer(run, options, kind, _far(run, frames) if options.depth else 1.0)
    paths = [folder / f"{frame.name}{writer.ending}" for frame in frames]
    record = folder / RECORD
    fingerprint = _fingerprint(run, frames, options, kind)
    done = _read_record(record, fingerprint)
    left = [number for number, path in enumerate(paths) if number >= done or not path.is_file()]
    if len(left) < len(frames):
        say(f"Kept from the interrupted run: {len(frames) - len(left)} of {len(frames)} pictures.")
    _write_json(record, {"request": fingerprint, "done": done})
    try:
        with Progress("Rendering", len(left), say, patience=2) as progress:
            for number in left:
                writer.write(frames[number], paths[number])
                done = max(done, number + 1)
                _write_json(record, {"request": fingerprint, "done": done})
                progress.add(1)
    finally:
        release_memory()
    if not keep_record:
        record.unlink(missing_ok=True)
    return paths


class _Writer:
    """Draws one frame and writes its files: maps first, so that every picture that exists has its maps."""

    def __init__(self, run: Run, options: RenderOptions, kind: str, far: float) -> None:
        self.run, self.options, self.kind, self.far = run, options, kind, far
        self.scaled: set[Path] = set()  # the folders that have a depth.json
        self.ending = ".exr" if kind == "exr" else ".png"

    def write(self, frame: Frame, path: Path) -> None:
        if self.options.depth or self.options.coc:
            depths = sharp_depth(self.run.model.gaussians, frame.camera)
            if frame.distorted_by is not None:
                depths = distorted(depths, frame.distorted_by, frame.camera, "nearest")
            if self.options.depth:
                self.write_depth(depths, frame, path)
            if self.options.coc:
                self.write_coc(depths, frame, path)
        picture = draw(self.run, frame, self.options.samples, self.kind == "exr")
        if self.kind == "exr":
            write_exr(linear_channels(picture), path, half=True)
        else:
            write_png(picture, path, 16 if self.kind == "png16" else 8)

    def write_depth(self, depths: Tensor, frame: Frame, path: Path) -> None:
        there = depths.isfinite()
        if self.kind == "exr":
            write_exr({"Z": depths}, _beside(path, "depth"))
        else:
            write_png(torch.where(there, depths / self.far, 0), _beside(path, "depth"), 16)
            if path.parent not in self.scaled:
                unit = "scene units" if frame.taken_by is None else "metres"
                scale = {f"{unit} per step": self.far / 65535, "nothing": 0}
                _write_json(path.parent / "depth.json", scale)
                self.scaled.add(path.parent)
        write_png(colored_depth(depths), _beside(path, "depth_color", ".png"))

    def write_coc(self, depths: Tensor, frame: Frame, path: Path) -> None:
        assert frame.lens is not None
        there = depths.isfinite()
        coc = coc_of(depths, frame.camera, frame.lens)
        if self.kind == "exr":
            write_exr({"Y": coc}, _beside(path, "coc"))
        else:
            write_png((coc / COC_STEP + COC_ZERO) / 65535, _beside(path, "coc"), 16)
        write_png(colored_coc(coc, there.float()), _beside(path, "coc_color", ".png"))


def draw(run: Run, frame: Frame, samples: int, linear: bool = False) -> Tensor:
    """(3, H, W) sRGB of one frame, or pixel values of the camera that takes it.

    Args:
        linear: the values stand for light, which a camera's response would hide.
    """
    if frame.photo is not None:
        return run.model.defocused(frame.camera, frame.photo)
    lens = frame.lens or Lens(1.0, 0.0)
    if frame.taken_by is not None:
        light = light_through(run.model.gaussians, frame.camera, lens, samples)
        return frame.taken_by.develop(light, frame.seed, linear).detach()
    picture = refocus(run.model.gaussians, frame.camera, lens, samples)
    if frame.distorted_by is None:
        return picture
    return distorted(picture, frame.distorted_by, frame.camera).clamp_min(0)


def _beside(path: Path, what: str, ending: str | None = None) -> Path:
    return path.with_name(f"{path.stem}_{what}{ending or path.suffix}")


def _far(run: Run, frames: list[Frame]) -> float:
    """The depth that white means in 16-bit depth maps; what is farther is white too.

    1.5 times the 99th percentile of the depths seen in some of the pictures, among them the first and last.
    """
    some = [*frames[:: math.ceil(len(frames) / 8)], frames[-1]]
    depths = torch.cat([sharp_depth(run.model.gaussians, frame.camera).flatten() for frame in some])
    seen = depths[depths.isfinite()]
    return 1.5 * float(quantiles(seen, 0.99)) if len(seen) else 1.0


def _fingerprint(run: Run, frames: list[Frame], options: RenderOptions, kind: str) -> str:
    """Hash of everything that the pictures depend on."""
    checkpoint = (run.folder / CHECKPOINT).stat()
    digest = hashlib.sha256(repr((checkpoint.st_size, checkpoint.st_mtime_ns, kind)).encode())
    digest.update(repr((options.samples, options.depth, options.coc)).encode())
    for frame in frames:
        camera = frame.camera
        numbers = camera.intrinsics.tolist(), camera.cam_from_world.tolist(), camera.width, camera.height
        own = None if frame.taken_by is None else (frame.taken_by.file, frame.seed)
        digest.update(repr((frame.name, numbers, frame.lens, frame.photo, own, frame.distorted_by)).encode())
    return digest.hexdigest()


def _read_record(record: Path, fingerprint: str) -> int:
    """How many frames, counted from the first, an interrupted request like this one has drawn."""
    try:
        document = read_json(record)
        return int(document["done"]) if document["request"] == fingerprint else 0
    except (InputError, ValueError, KeyError, TypeError):
        return 0


def _write_json(path: Path, values: dict) -> None:
    write_text(path, json.dumps(values) + "\n")
