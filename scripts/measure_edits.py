"""Measures edits of a scene against a truth: select an object, move it, compare.

    python scripts/measure_edits.py pairs/tabletop RUN [--json FILE]

PAIR is a folder by `make_truth_scene.py --edit`, RUN was trained on it. The object is selected from its true
mask in one photo, and from one click at its middle there, through `cocogs.edit`; that is done for the photos
with the object best in focus. It is moved as it was truly moved, and drawn at the test views.

Selection: IoU of the pixels in which the chosen splats show at least half, and the true mask, over all photos
but the one selected in.

Pictures: PSNR in dB over all test views, of pixels that show

    object       the object in its new place
    background   neither the old nor the new place; the circle of confusion is kept away from both
    uncovered    the old place and not the new one

`seen` is what a training photo showed, too, with at least half a pixel for each pixel of the picture; of the
object, a border is left out. In `lamps stay` the truth's object is lit as it would be in its new place.

Circle of confusion of the object in its new place: what the renderer takes from the splats' depth against the
thin lens at the true depth; and by a ruler that knows no depth of the run: the strength at which
`optics/layers.py`, by the true depth, brings a sharp picture closest to the refocused one. What it says of
edited renders is divided by what it says of the truth's pictures. Circles above 1 px count, and for the ruler
those above 3 px.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from edit_pair import Pair, Refocused, open_pair, true_move, world_cameras
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cocogs.camera import Camera
from cocogs.edit.select import select
from cocogs.edit.subject import Subject, open_subject
from cocogs.edits import Chosen, Edited
from cocogs.gaussians import Gaussians
from cocogs.io.atomic import write_text
from cocogs.optics.layers import photograph_layers
from cocogs.optics.lens import Lens
from cocogs.render.refocusing import coc_of, refocus, sharp_depth
from cocogs.render.shares import shown_share
from cocogs.run import Run, load_run
from cocogs.srgb import to_linear, to_srgb
from cocogs.train.losses import psnr

SAMPLES = 64  # of the aperture
EDGE = 2  # px around masks that count as neither inside nor outside
BLURRED = 1.0  # px: smaller circles of confusion say nothing in percent
RULED = 3.0  # px: smaller ones the ruler cannot tell from the pixels' own blur
RULER = torch.linspace(0.6, 1.4, 33)


class Errors:
    """Squared errors of pixels, summed up by name."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, picture: Tensor, truth: Tensor, where: Bool[Tensor, "H W"]) -> None:
        error = (picture.clamp(0, 1) - truth).square().mean(0)[where].double()
        self.sums[name][0] += float(error.sum())
        self.sums[name][1] += len(error)

    def psnr(self) -> dict[str, float]:
        return {name: psnr(total / count) for name, (total, count) in self.sums.items() if count}

    def pixels(self) -> dict[str, int]:
        return {name: round(count) for name, (_, count) in self.sums.items() if count}


# ---------------------------------------------------------------------------------------------- selection


def best_photos(pair: Pair, count: int) -> list[str]:
    """The training photos with the least blur in the object, the sharpest first."""

    def blur(name: str) -> float:
        depth = pair.depths[name][pair.mask("before", name)]
        focus = pair.truth.frames[name].focus_distance
        if len(depth) == 0 or focus is None:
            return torch.inf
        return abs(1 / float(depth.median()) - 1 / focus)

    return sorted(pair.training, key=blur)[:count]


def ways_to_select(pair: Pair, photos: list[str]) -> dict[str, list[tuple[str, str]]]:
    """By way: the photo that is selected in, and the expression."""
    masks = [(name, f'mask:"{pair.mask_file(name)}@{name}"') for name in photos]
    clicks = [(name, "click:{:.1f},{:.1f}@{}".format(*middle(pair, name), name)) for name in photos]
    whole = ",".join(f"{pair.mask_file(name)}@{name}" for name in pair.training)
    return {"one mask": masks, "one click": clicks, "all masks": [("", f'mask:"{whole}"')]}


def middle(pair: Pair, name: str) -> tuple[float, float]:
    """The middle of the object's mask in a photo, px."""
    row, column = pair.mask("before", name).nonzero().double().mean(0).tolist()
    return column + 0.5, row + 0.5


def overlaps(pair: Pair, subject: Subject, chosen: Chosen, but: str) -> list[float]:
    """IoU in all photos that show the object, but one."""
    result = []
    for name, look in subject.looks.items():
        true = pair.mask("before", name)
        if name != but and true.any():
            shown = shown_share(subject.gaussians, look.camera, chosen.mask) >= 0.5
            result.append(float((shown & true).sum() / (shown | true).sum()))
    return result


# ------------------------------------------------------------------------------------------------- pictures


def edited_scores(pair: Pair, run: Run, chosen: Chosen, quality: int) -> dict[str, dict]:
    """PSNR by area and kind of picture, and the circles of confusion.

    Args:
        quality: samples of the aperture.
    """
    before = run.model.gaussians
    scene = Edited(before, torch.zeros(len(before), dtype=torch.bool))
    after = true_move(pair, chosen, run.scene.offset).applied(scene).gaussians
    cameras, errors = {view.name: run.model.camera(view) for view in run.scene.views}, Errors()
    in_world = world_cameras(pair, run)
    for name in pair.tests:
        seen = pair.seen(in_world[name], name, in_world)
        measure_sharp(pair, name, cameras[name], (before, after), seen, errors)
    circles = [
        measure_refocused(pair, entry, cameras[entry.view], after, quality, errors)
        for entry in pair.refocused
    ]
    return {"psnr": errors.psnr(), "pixels": errors.pixels(), "coc": summed_up(circles)}


def sharp(gaussians: Gaussians, camera: Camera) -> Float[Tensor, "3 H W"]:
    return refocus(gaussians, camera, Lens(focus_distance=1.0, aperture_diameter=0.0)).cpu()


def measure_sharp(
    pair: Pair,
    name: str,
    camera: Camera,
    scenes: tuple[Gaussians, Gaussians],
    seen: Bool[Tensor, "H W"],
    errors: Errors,
) -> None:
    """One test view, before and after.

    Args:
        seen: pixels after the move that show what a photo showed.
    """
    before, after = (sharp(scene, camera) for scene in scenes)
    photo, truth = pair.picture("images", name), pair.picture("edit/images", name)
    old, new = pair.mask("before", name), pair.mask("after", name)
    background, uncovered = ~widened(old | new, EDGE), old & ~widened(new, EDGE)
    errors.add("object before", before, photo, old)
    errors.add("object", after, truth, new)
    errors.add("object, seen", after, truth, ~widened(~new, EDGE) & seen)
    errors.add("object, not seen", after, truth, ~widened(~new, EDGE) & ~seen)
    errors.add("object, lamps stay", after, pair.picture("edit/lamps_stay", name), new)
    errors.add("background", after, truth, background)
    errors.add("background, unedited", before, photo, background)
    errors.add("uncovered, seen", after, truth, uncovered & seen)
    errors.add("uncovered, not seen", after, truth, uncovered & ~seen)


def measure_refocused(
    pair: Pair, entry: Refocused, camera: Camera, after: Gaussians, samples: int, errors: Errors
) -> dict[str, float]:
    """One picture through the lens: adds its errors, and returns what is true of its circles of confusion."""
    truth = pair.picture("edit/refocus", entry.path.name)
    drawn = refocus(after, camera, entry.lens, samples).cpu()
    old, new = pair.mask("before", entry.view), pair.mask("after", entry.view)
    z = pair.depth("edit/depth", entry.view)
    true_coc = entry.lens.of(camera).coc(z)
    inside = ~widened(~new, EDGE)
    reach = EDGE + round(float(true_coc[widened(old | new, EDGE)].abs().max()) / 2)
    errors.add("object, refocused", drawn, truth, new)
    errors.add("background, refocused", drawn, truth, ~widened(old | new, reach))
    errors.add("uncovered, refocused", drawn, truth, old & ~widened(new, reach))
    coc = coc_of(sharp_depth(after, camera), camera, entry.lens)
    size = float(true_coc[inside].abs().median())
    result = {"true": size, "off_px": float((coc - true_coc)[inside].abs().median())}
    if size >= BLURRED:
        result["off"] = float((coc / true_coc - 1)[inside].abs().median())
    if size >= RULED:
        sharp_truth = pair.picture("edit/images", entry.view)
        in_truth = strength(sharp_truth, truth, z, entry.lens, camera, inside)
        result["ruler"] = strength(sharp(after, camera), drawn, z, entry.lens, camera, inside) / in_truth
    return result


def strength(
    sharp: Float[Tensor, "3 H W"],
    blurred: Float[Tensor, "3 H W"],
    z: Float[Tensor, "H W"],
    lens: Lens,
    camera: Camera,
    inside: Bool[Tensor, "H W"],
) -> float:
    """The factor of the aperture with which layers bring `sharp` closest to `blurred` inside a mask."""
    light, photo_lens = to_linear(sharp.clamp(0, 1)), lens.of(camera)

    def error(factor: float) -> float:
        picture = to_srgb(photograph_layers(light, z, replace(photo_lens, K=factor * photo_lens.K)))
        return float((picture - blurred)[:, inside].square().mean())

    return lowest(error)


def lowest(error: Callable[[float], float]) -> float:
    """Where a smooth function is lowest on `RULER`, by the parabola through the lowest points."""
    errors = torch.tensor([error(float(factor)) for factor in RULER], dtype=torch.float64)
    place = int(errors.argmin().clamp(1, len(RULER) - 2))
    left, here, right = errors[place - 1 : place + 2].tolist()
    step, curvature = float(RULER[1] - RULER[0]), left - 2 * here + right
    return float(RULER[place]) + (step * (left - right) / (2 * curvature) if curvature > 0 else 0.0)


def widened(mask: Bool[Tensor, "H W"], by: int) -> Bool[Tensor, "H W"]:
    """With all pixels within `by` px, in a square."""
    if by == 0:
        return mask
    return F.max_pool2d(mask[None].float(), 2 * by + 1, stride=1, padding=by)[0] > 0


def summed_up(circles: list[dict[str, float]]) -> dict[str, float]:
    """Over the pictures: `off` and `ruler` by those with a blurred object, `off_px` by all.

    Pairs have such pictures.
    """
    off = [circle["off"] for circle in circles if "off" in circle]
    ruler = [circle["ruler"] for circle in circles if "ruler" in circle]
    return {
        "pictures": len(off),
        "true_px": mean(circle["true"] for circle in circles if "off" in circle),
        "off": mean(off),
        "off_worst": max(off),
        "off_px": mean(circle["off_px"] for circle in circles),
        "ruler": mean(ruler),
        "ruler_least": min(ruler),
        "ruler_most": max(ruler),
    }


# --------------------------------------------------------------------------------------------------- call


def measure(pair: Pair, run: Run, subject: Subject, photos: int, samples: int) -> dict[str, dict]:
    """Everything, by way of selecting."""
    result = {}
    for way, expressions in ways_to_select(pair, best_photos(pair, photos)).items():
        chosen = [select(subject, expression) for _, expression in expressions]
        iou = [
            overlaps(pair, subject, some, name) for some, (name, _) in zip(chosen, expressions, strict=True)
        ]
        result[way] = {
            "photos": [name for name, _ in expressions],
            "splats": [len(some) for some in chosen],
            "iou": [mean(each) for each in iou],
            "iou_worst_view": [min(each) for each in iou],
            **edited_scores(pair, run, chosen[0], samples),
        }
    return result


def print_tables(result: dict[str, dict]) -> None:
    ways = list(result)
    print("| selected by | photos | IoU, mean | worst photo | worst view | splats |\n|" + 6 * "---|")
    for way, figures in result.items():
        iou, worst = figures["iou"], min(figures["iou_worst_view"])
        counts = f"{min(figures['splats'])} to {max(figures['splats'])}"
        print(f"| {way} | {len(iou)} | {mean(iou):.3f} | {min(iou):.3f} | {worst:.3f} | {counts} |")
    print("\n| PSNR, dB | pixels | " + " | ".join(ways) + " |\n|---|---" + "|---" * len(ways) + "|")
    for area, count in result[ways[0]]["pixels"].items():
        figures = (f"{result[way]['psnr'][area]:.2f}" for way in ways)
        print(f"| {area} | {count} | " + " | ".join(figures) + " |")
    print("\n| circle of confusion | " + " | ".join(ways) + " |\n|---" + "|---" * len(ways) + "|")
    for name, form in (
        ("pictures", "{}"), ("true_px", "{:.2f}"), ("off", "{:.2%}"), ("off_worst", "{:.2%}"),
        ("off_px", "{:.3f}"), ("ruler", "{:.3f}"), ("ruler_least", "{:.3f}"), ("ruler_most", "{:.3f}"),
    ):  # fmt: skip
        print(f"| {name} | " + " | ".join(form.format(result[way]["coc"][name]) for way in ways) + " |")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--photos", type=int, default=5, help="how many photos are selected in, each alone")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the aperture")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    pair = open_pair(args.pair)
    run, subject = load_run(args.run, edited=False), open_subject(args.run)
    result = measure(pair, run, subject, args.photos, args.samples)
    print_tables(result)
    if args.json is not None:
        write_text(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
