"""Measures DeblurNet on ray-traced scenes, which it never saw (docs/deblur-net.md).

    python scripts/measure_deblur.py TRUTH... [--kinds traced layered] [--weights FILE]

TRUTH is a folder by make_truth_scene.py. Two kinds of photos are measured against their sharp twins:

    traced     refocus/ and, where sharp/ has their twins, every third of images/: blurred by the ray tracer
    layered    the sharp twins of the test views, blurred by optics/layers.py, focused near and far, in 8 bits

Figures are PSNR in dB over all photos, by bins of the CoC's radius: of the photo, and what the network adds
to it, with the CoC told, told 5 % too wide and a pixel aside, and not told. The picture's border is left
out.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cocogs.io.json_file import read_json
from cocogs.io.photos import read_photo, to_float
from cocogs.io.truth_file import read_truth
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import PhotoLens
from cocogs.photo.deblur import SHIPPED, Deblurrer, load_deblurrer
from cocogs.srgb import to_linear, to_srgb

KINDS = ["traced", "layered"]
RADII = (0, 0.5, 1.5, 3, 5, 7, 9, 12)  # px, borders of the bins
BORDER = 12  # px of the pictures that do not count
WIDEST = 22.0  # px, of the layered photos' circles of confusion


@dataclass(frozen=True)
class Pair:
    """A defocused photo, its sharp twin and the CoC, px; linear light."""

    kind: str
    photo: Float[Tensor, "3 H W"]
    sharp: Float[Tensor, "3 H W"]
    coc: Float[Tensor, "H W"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("truth", type=Path, nargs="+")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    args = parser.parse_args()
    deblur = load_deblurrer(args.weights)
    print(deblur.facts)
    for folder in args.truth:
        sums = measured(deblur, folder, args.kinds)
        print(f"\n{folder.name:18}" + "".join(f"{low:>6g}-{high:<4g}" for low, high in pairwise(RADII)))
        for kind in args.kinds:
            error = sums[kind]
            psnr = -10 * (error[1:] / error[0]).log10()
            counts = error[0] >= 3 * 500  # values of at least 500 pixels
            rows = [("photo", psnr[0]), *((n, psnr[i] - psnr[0]) for i, n in enumerate(WAYS, 1))]
            for name, row in rows:
                cells = [
                    f"{v:11.2f}" if c else f"{'':11}"
                    for v, c in zip(row.tolist(), counts.tolist(), strict=True)
                ]
                print(f"{kind:8} {name:9}" + "".join(cells))


WAYS = ("told", "vaguely", "not told")


def measured(deblur: Deblurrer, folder: Path, kinds: list[str]) -> dict[str, Float[Tensor, "5 B"]]:
    """By kind: number of values, squared errors of the photo, and after each of `WAYS`; by bin."""
    sums = {kind: torch.zeros(5, len(RADII) - 1, dtype=torch.float64) for kind in kinds}
    for pair in pairs(folder, kinds):
        vague = 1.05 * pair.coc.roll(1, 1)
        results = [pair.photo, *(deblur(pair.photo, coc).light for coc in (pair.coc, vague, None))]
        sharp = to_srgb(pair.sharp)
        errors = [(to_srgb(result.clamp(0, 1)) - sharp).square().sum(0) for result in results]
        radius = pair.coc.abs() / 2
        for place, (low, high) in enumerate(pairwise(RADII)):
            inside = (radius >= low) & (radius < high)
            inside[:BORDER], inside[-BORDER:], inside[:, :BORDER], inside[:, -BORDER:] = (False,) * 4
            values = [3 * inside.sum().double(), *((error * inside).sum().double() for error in errors)]
            sums[pair.kind][:, place] += torch.stack(values)
    return sums


def pairs(folder: Path, kinds: list[str]) -> Iterator[Pair]:
    truth = read_truth(folder / "truth.json")
    fx = read_json(folder / "truth.json", "make the scene again")["fx"]
    frames = list(truth.frames.values())
    frames = [f for f in frames if f.focus_distance is None] + [f for f in frames if f.focus_distance][::3]
    shots = [(f"images/{frame.name}", frame.name, frame.focus_distance, 1.0) for frame in frames]
    shots += [
        (f"refocus/{r.name}", r.view, r.focus_distance, r.aperture_diameter / truth.aperture_diameter)
        for r in truth.refocused
    ]
    for name, view, focus, scale in shots:
        depth = torch.from_numpy(np.load(folder / "depth" / f"{Path(view).stem}.npy"))
        is_sharp = truth.frames[view].focus_distance is None
        twin = folder / ("images" if is_sharp else "sharp") / view
        if not twin.exists():
            continue
        sharp = light_of(twin)
        if focus is not None and "traced" in kinds:
            lens = PhotoLens(torch.tensor(focus), torch.tensor(scale * truth.aperture_diameter * fx))
            yield Pair("traced", light_of(folder / name), sharp, lens.coc(depth))
        for near in (False, True) if focus is None and "layered" in kinds else ():
            focus = torch.quantile(depth, 0.01 if near else 0.99)
            spread = (1 / depth.min() - 1 / depth.max()).abs()
            lens = PhotoLens(focus, WIDEST / spread)
            photo = to_linear(
                (to_srgb(photograph_layers(sharp, depth, lens)).clamp(0, 1) * 255).round() / 255
            )
            yield Pair("layered", photo, sharp, lens.coc(depth))


def light_of(path: Path) -> Float[Tensor, "3 H W"]:
    return to_linear(torch.from_numpy(to_float(read_photo(path))).permute(2, 0, 1).contiguous())


if __name__ == "__main__":
    main()
