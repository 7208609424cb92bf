"""How well `cocogs edit PHOTO` moves an object: a ray-cast photo edited, against the scene cast anew.

    python scripts/measure_photo_edit.py [--out DIR]

A ball or a box stands in a room and is seen through a thin lens; for the truth it is moved, and the photo is
cast again. No shadows: they would stay behind. PSNR (sRGB) inside the moved object as far as the photo shows
that side of it, around it as far as blur reaches, where it was, and elsewhere: of the edited photo, of the
same without the lens (the object moves by its depth and keeps the blur that it had), and of cut and paste
(the masked pixels, scaled and pasted, and the place inpainted). Then the first case with depth maps that are
wrong at outlines. --out writes the pictures.
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from room_caster import Eye, Light, Solid, Surface, cast
from scipy import ndimage
from torch import Tensor

from cocogs.io.pictures import write_png
from cocogs.optics.lens import PhotoLens
from cocogs.photo.apart import grown, inpaint
from cocogs.photo.edit import edit, middle_of
from cocogs.photo.layer import camera_of
from cocogs.photo.lift import Motion, follow
from cocogs.photo.refocus import DepthPhoto, by_network
from cocogs.srgb import to_srgb

SIZE, FOCAL = (360, 270), 400.0
SAMPLES, SHARP = 144, 25  # rays per px
EYE_TURN = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])  # x right, y down, z away; the world's z is up


@dataclass(frozen=True)
class Case:
    """An object, its way (x right, y down, z away; metres), and the lens."""

    name: str
    shape: str
    start: tuple[float, float, float]
    move: tuple[float, float, float]
    focus: float
    aperture: float
    post: bool = False


CASES = (
    Case("ball, away, out of focus", "ball", (-0.25, 0.1, 1.5), (0.6, 0, 0.9), 1.35, 0.035),
    Case("ball, nearer, out of focus", "ball", (0.4, 0.1, 2.2), (-0.7, 0, -0.8), 2.05, 0.03),
    Case("box, away, out of focus", "box", (-0.25, 0.1, 1.5), (0.6, 0, 0.8), 1.4, 0.035),
    Case("ball, behind a post", "ball", (0.3, 0.1, 1.5), (-0.35, 0, 0.9), 1.35, 0.035, post=True),
    Case("ball, into focus", "ball", (-0.25, 0.1, 1.5), (0.6, 0, 0.7), 2.2, 0.03),
    Case("ball, sharp photo", "ball", (-0.25, 0.1, 1.5), (0.6, 0, 0.7), 2.0, 0.0),
)


def wall(low: tuple[float, float, float], high: tuple[float, float, float], surface: Surface) -> Solid:
    a, b = np.array(low), np.array(high)
    return Solid("box", (a + b) / 2, (b - a) / 2, surface)


def solids(case: Case, move: bool, there: bool = True) -> list[Solid]:
    def colors(*rgb: tuple[float, float, float]) -> np.ndarray:
        return np.array(rgb)

    floor = Surface("planks", colors((0.45, 0.3, 0.18), (0.12, 0.08, 0.05)), (0.9, 0.12), 0.15)
    back = Surface("bricks", colors((0.5, 0.42, 0.38), (0.7, 0.68, 0.65)), (0.3, 0.1), 0.1)
    skin = Surface("checks", colors((0.7, 0.25, 0.1), (0.75, 0.7, 0.6)), (0.06, 0.06), 0.2)
    scene = [wall((-3, 0, -0.5), (3, 4, -0.35), floor), wall((-3, 3.2, -0.5), (3, 3.4, 3), back)]
    if case.post:
        paint = Surface("plain", colors((0.1, 0.3, 0.2), (0.1, 0.3, 0.2)))
        scene.append(wall((-0.1, 1.7, -0.5), (0.02, 1.8, 2), paint))
    if there:
        x, y, z = np.add(case.start, case.move) if move else case.start
        half = np.full(3, 0.22) if case.shape == "ball" else np.array([0.2, 0.15, 0.2])
        scene.append(Solid(case.shape, np.array([x, z, -y]), half, skin))
    return scene


def photo_of(case: Case, scene: list[Solid], aperture: float, samples: int) -> tuple[Tensor, Tensor]:
    """Linear light (3, H, W) and depth."""
    eye = Eye(np.zeros(3), EYE_TURN, SIZE, FOCAL, (SIZE[0] / 2, SIZE[1] / 2))
    light = Light(sun=np.array((-0.3, -0.8, 0.5)) / math.sqrt(0.98), ambient=0.35)
    rng = np.random.default_rng(0)
    seen, depth = cast(scene, light, eye, rng, samples, aperture, case.focus)
    return torch.from_numpy(seen).permute(2, 0, 1).clamp(0, 1).contiguous(), torch.from_numpy(depth)


def pasted(photo: DepthPhoto, mask: Tensor, motion: Motion) -> tuple[Tensor, Tensor]:
    """Cut and paste; and where the object is then."""
    ways = follow(photo.depth, mask, camera_of(photo), motion)
    return torch.where(ways.there, ways.carry(photo.light), inpaint(photo.light, mask)), ways.there


def psnr(shown: Tensor, truth: Tensor, where: Tensor) -> float:
    error = (to_srgb(shown).clamp(0, 1) - to_srgb(truth))[:, where].square().mean()
    return -10 * math.log10(float(error) + 1e-12)


def pair(case: Case) -> tuple[DepthPhoto, Tensor, Tensor, Tensor]:
    """The photo, the mask of its object, the truth, and where the object is there."""
    before, _ = photo_of(case, solids(case, False), case.aperture, SAMPLES)
    truth, _ = photo_of(case, solids(case, True), case.aperture, SAMPLES)
    depths = [
        photo_of(case, solids(case, move, there), 0, SHARP)[1]
        for move, there in ((False, True), (True, True), (False, False))
    ]
    mask, target = (depth < depths[2] - 1e-3 for depth in depths[:2])
    taken = PhotoLens(torch.tensor(case.focus), torch.tensor(case.aperture * FOCAL))
    photo = DepthPhoto(before, depths[0], FOCAL, taken if case.aperture else None)
    return photo, mask, truth, target


def motion_of(case: Case, photo: DepthPhoto, mask: Tensor) -> Motion:
    return Motion(torch.eye(3).double(), 1.0, torch.tensor(case.move).double(), middle_of(photo, mask))


def measure(case: Case, out: Path | None) -> list[str]:
    """Lines of the table."""
    photo, mask, truth, target = pair(case)
    motion = motion_of(case, photo, mask)
    edited = edit(photo, mask, motion, deblur=by_network())
    unlensed = edit(replace(photo, taken=None), mask, motion)
    paste, there = pasted(photo, mask, motion)
    ways = {"edited": edited.light, "same blur": unlensed.light, "cut and paste": paste}
    reach = 3 + max(abs(c) for c in edited.coc or (0.0, 0.0)) / 2
    new, old = grown(target, reach), grown(mask, reach)
    places = (target & there, new & ~target & ~old, old & ~new, ~(new | old))
    lines = [
        f"| {case.name} | {name} | " + " | ".join(f"{psnr(light, truth, at):.1f}" for at in places) + " |"
        for name, light in ways.items()
    ]
    if out is not None:
        rows = [torch.cat([photo.light, truth], 2), torch.cat([edited.light, ways["cut and paste"]], 2)]
        write_png(to_srgb(torch.cat(rows, 1)), out / f"{case.name.replace(', ', '_').replace(' ', '_')}.png")
    coc = "" if edited.coc is None else f", blur {edited.coc[0]:.1f} to {edited.coc[1]:.1f} px"
    refused = float(edited.refused.sum() / target.sum())
    z = edited.distance or (0.0, 0.0)
    print(f"{case.name}: {z[0]:.2f} to {z[1]:.2f} m{coc}; {refused:.0%} keeps too much blur", flush=True)
    return lines


def measure_wrong_depth(case: Case) -> list[str]:
    """Lines of the second table: PSNR inside the object, unseen sides included, and around it."""
    photo, mask, truth, target = pair(case)
    nearness = 1 / photo.depth.numpy()
    low, high = nearness.min(), nearness.max()
    noise = np.random.default_rng(0).normal(size=nearness.shape)
    worse = {
        "true": nearness,
        "edges blurred by 2 px": ndimage.gaussian_filter(nearness, 2),
        "object 3 px too small": ndimage.grey_erosion(nearness, (7, 7)),
        "object 3 px too large": ndimage.grey_dilation(nearness, (7, 7)),
        "256 steps": low + (high - low) * np.round(255 * (nearness - low) / (high - low)) / 255,
        "1 % noise": nearness * (1 + 0.01 * noise),
    }
    lines = []
    for name, values in worse.items():
        wrong = replace(photo, depth=torch.from_numpy(1 / values).float())
        light = edit(wrong, mask, motion_of(case, wrong, mask)).light
        places = target, grown(target, 5) & ~target
        lines.append(f"| {name} | " + " | ".join(f"{psnr(light, truth, at):.1f}" for at in places) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    lines = [line for case in CASES for line in measure(case, out)]
    print("| case | picture | inside | around | where it was | elsewhere |\n|---|---|---|---|---|---|")
    print("\n".join(lines))
    print("\n| depth | inside | around |\n|---|---|---|")
    print("\n".join(measure_wrong_depth(CASES[0])))


if __name__ == "__main__":
    main()
