"""From shots to files: drawn one after the other, with maps beside them.

What was done of an interrupted request is found again by the record that it leaves in its folder.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.io.pictures import linear_channels, write_exr, write_png
from cocogs.optics.lens import Lens
from cocogs.optics.maps import colored_coc, colored_depth
from cocogs.quantiles import quantiles
from cocogs.render.options import RenderOptions
from cocogs.render.refocusing import refocus, sharp_depth
from cocogs.render.shots import Shot
from cocogs.run import Run

RECORD = ".cocogs-render.json"  # beside the pictures of a request that is not finished
# What follows a shot's name in the names of its files: the picture's, and its maps'.
PARTS = ("", "_depth", "_depth_color", "_coc", "_coc_color")
COC_STEP, COC_ZERO = 1 / 64, 32768  # px per step of a 16-bit CoC map, and its value in focus


@torch.no_grad()
def write_pictures(
    run: Run, shots: list[Shot], options: RenderOptions, folder: Path, kind: str, keep_record: bool = False
) -> list[Path]:
    """Draw the shots into `folder`; those that an interrupted request like this one has left are kept."""
    if options.coc and any(shot.lens is None for shot in shots):
        raise InputError("--coc shows what a lens blurs: give --focus with it.")
    writer = _Writer(run, options, kind, _far(run, shots) if options.depth else 1.0)
    paths = [folder / f"{shot.name}{writer.ending}" for shot in shots]
    record = folder / RECORD
    fingerprint = _fingerprint(run, shots, options, kind)
    done = _read_record(record, fingerprint)
    left = [number for number, path in enumerate(paths) if number >= done or not path.is_file()]
    if len(left) < len(shots):
        print(f"{len(shots) - len(left)} pictures of an interrupted run are kept.")
    _write_json(record, {"request": fingerprint, "done": done})
    for number in track(left, "Rendering", disable=not sys.stdout.isatty()):
        writer.write(shots[number], paths[number])
        done = max(done, number + 1)
        _write_json(record, {"request": fingerprint, "done": done})
    if not keep_record:
        record.unlink(missing_ok=True)
    return paths


class _Writer:
    """Draws one shot and writes its files: maps first, so that a picture that is there has its maps."""

    def __init__(self, run: Run, options: RenderOptions, kind: str, far: float) -> None:
        self.run, self.options, self.kind, self.far = run, options, kind, far
        self.ending = ".exr" if kind == "exr" else ".png"

    def write(self, shot: Shot, path: Path) -> None:
        if self.options.depth or self.options.coc:
            depths = sharp_depth(self.run.model.gaussians, shot.camera)
            if self.options.depth:
                self.write_depth(depths, path)
            if self.options.coc:
                self.write_coc(depths, shot, path)
        picture = draw(self.run, shot, self.options.samples)
        if self.kind == "exr":
            write_exr(linear_channels(picture), path, half=True)
        else:
            write_png(picture, path, 16 if self.kind == "png16" else 8)

    def write_depth(self, depths: Tensor, path: Path) -> None:
        there = depths.isfinite()
        if self.kind == "exr":
            write_exr({"Z": depths}, _beside(path, "depth"))
        else:
            write_png(torch.where(there, depths / self.far, 0), _beside(path, "depth"), 16)
            scale = {"scene units per step": self.far / 65535, "nothing": 0}
            _write_json(path.parent / "depth.json", scale)
        write_png(colored_depth(depths), _beside(path, "depth_color", ".png"))

    def write_coc(self, depths: Tensor, shot: Shot, path: Path) -> None:
        assert shot.lens is not None
        there = depths.isfinite()
        coc = torch.where(there, shot.lens.of(shot.camera).coc(depths), 0)
        if self.kind == "exr":
            write_exr({"Y": coc}, _beside(path, "coc"))
        else:
            write_png((coc / COC_STEP + COC_ZERO) / 65535, _beside(path, "coc"), 16)
        write_png(colored_coc(coc, there.float()), _beside(path, "coc_color", ".png"))


def draw(run: Run, shot: Shot, samples: int) -> Tensor:
    """(3, H, W) sRGB of one shot."""
    if shot.photo is not None:
        return run.model.defocused(shot.camera, shot.photo)
    lens = shot.lens or Lens(1.0, 0.0)
    return refocus(run.model.gaussians, shot.camera, lens, samples)


def _beside(path: Path, what: str, ending: str | None = None) -> Path:
    return path.with_name(f"{path.stem}_{what}{ending or path.suffix}")


def _far(run: Run, shots: list[Shot]) -> float:
    """The depth that white stands for in 16-bit depth maps: half more than the farthest that some of the
    pictures, first and last among them, show but for 1 %. What is farther is white too."""
    some = [*shots[:: math.ceil(len(shots) / 8)], shots[-1]]
    depths = torch.cat([sharp_depth(run.model.gaussians, shot.camera).flatten() for shot in some])
    seen = depths[depths.isfinite()]
    return 1.5 * float(quantiles(seen, 0.99)) if len(seen) else 1.0


def _fingerprint(run: Run, shots: list[Shot], options: RenderOptions, kind: str) -> str:
    """Hash of everything that the pictures depend on."""
    checkpoint = (run.folder / "checkpoint.pt").stat()
    digest = hashlib.sha256(repr((checkpoint.st_size, checkpoint.st_mtime_ns, kind)).encode())
    digest.update(repr((options.samples, options.depth, options.coc)).encode())
    for shot in shots:
        camera = shot.camera
        numbers = camera.intrinsics.tolist(), camera.cam_from_world.tolist(), camera.width, camera.height
        digest.update(repr((shot.name, numbers, shot.lens, shot.photo)).encode())
    return digest.hexdigest()


def _read_record(record: Path, fingerprint: str) -> int:
    """How many shots, from the first, an interrupted request of this very kind has drawn."""
    try:
        document = json.loads(record.read_text())
        return int(document["done"]) if document["request"] == fingerprint else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _write_json(path: Path, values: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values) + "\n")
