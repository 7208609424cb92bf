"""Makes photos of procedural rooms and streets, ray-traced, of which the intrinsics are known.

    python scripts/make_rooms.py --out rooms/dev --seed 1 [--count 40]

What OUT then holds:

    sharp/NN.EXT, blurred/NN.EXT    each photo through a pinhole, and through a thin lens whose largest circle
                                    of confusion (99 % of the pixels) is 8 px; JPEG or PNG
    truth.json                      per photo: what it shows, its size, fx, fy, cx, cy in px (pixel centres at
                                    .5), whether it is cropped, and which of the two files (`photo`) belongs
                                    to the test set: every third is blurred

Half show rooms, half streets; every second is cropped off centre. Horizontal fields of view are spread evenly
from 20 to 100 degrees. The same call makes the same photos. Photos that exist are kept.
"""

import argparse
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from room_caster import FAR, Eye, Light, Solid, cast
from room_scenes import room, street, turned

COC = 8.0  # px
SIZES = ((720, 480), (720, 540), (800, 450), (640, 640), (540, 720), (480, 720))
BLURRED_EVERY, BARE_EVERY = 3, 10
SHARP_SAMPLES, BLURRED_SAMPLES = 8, 24


def make_eye(rng: np.random.Generator, number: int, count: int, position: np.ndarray, yaw: float) -> Eye:
    """A hand-held camera; `number` decides its field of view and whether it is cropped."""
    size = SIZES[int(rng.choice(len(SIZES), p=(0.3, 0.2, 0.15, 0.1, 0.15, 0.1)))]
    order = np.random.default_rng(count).permutation(count)  # so that field of view and scene are independent
    angle = math.radians(20 + 80 * (order[number] + 0.5) / count)
    shift = rng.uniform(0.05, 0.25, 2) * rng.choice([-1, 1], 2) if number % 4 in (1, 2) else np.zeros(2)
    focal = size[0] / 2 / math.tan(angle / 2)
    pitch, roll = math.radians(rng.normal(-2, 8)), math.radians(np.clip(rng.normal(0, 2.5), -6, 6))
    # the middle of the picture, not the axis, looks where the photographer looks
    yaw, pitch = yaw + math.atan(shift[0] * size[0] / focal), pitch - math.atan(shift[1] * size[1] / focal)
    ahead = turned(yaw, -pitch, roll)  # columns: forward, left, up
    turn = np.stack([-ahead[:, 1], -ahead[:, 2], ahead[:, 0]], 1)
    center = (size[0] * (0.5 + shift[0]), size[1] * (0.5 + shift[1]))
    return Eye(position, turn, size, focal, center)


def make_scene(rng: np.random.Generator, number: int, count: int) -> tuple[list[Solid], Light, Eye, str]:
    bare = number % BARE_EVERY == BARE_EVERY // 2
    if number % 2 == 0:
        solids, light, half = room(rng, bare)
        corner = rng.choice([-1, 1], 2)
        position = np.array([*(corner * (half[:2] - 0.35) * rng.uniform(0.6, 1, 2)), rng.uniform(1.1, 1.75)])
        toward = rng.uniform(-0.6, 0.6, 2) * half[:2] - position[:2]
        eye = make_eye(rng, number, count, position, math.atan2(toward[1], toward[0]))
    else:
        solids, light, half = street(rng, bare)
        position = np.array([rng.uniform(-3, 2), rng.uniform(-0.7, 0.7) * half, rng.uniform(1.5, 1.8)])
        eye = make_eye(rng, number, count, position, math.radians(rng.uniform(-45, 45)))
    while any(
        s.shape != "room" and inside(s, eye.position) for s in solids
    ):  # step out of furniture and cars
        eye = replace(eye, position=np.add(eye.position, (0, 0, 0.15)))
    return solids, light, eye, ("room" if number % 2 == 0 else "street") + (", few lines" if bare else "")


def inside(solid: Solid, point: np.ndarray) -> bool:
    local = (point - solid.center) @ solid.turn
    return bool((np.abs(local) < solid.half + 0.1).all())


def develop(light: np.ndarray, rng: np.random.Generator, exposure: float, noise: float) -> Image.Image:
    """A photo (8-bit sRGB) of linear light: exposed, with shot noise."""
    light = light * exposure
    light = np.clip(light + noise * np.sqrt(np.maximum(light, 0.002)) * rng.normal(size=light.shape), 0, 1)
    encoded = np.where(light < 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return Image.fromarray((encoded * 255 + 0.5).astype(np.uint8))


def make(number: int, count: int, seed: int, out: Path) -> dict:
    rng = np.random.default_rng((seed, number))
    solids, light, eye, shows = make_scene(rng, number, count)
    kind, quality = ("jpg", int(rng.integers(75, 96))) if rng.random() < 0.7 else ("png", 0)
    level, noise = rng.uniform(0.25, 0.4), rng.uniform(0.002, 0.02)
    share, rays, grain = rng.uniform(0.1, 0.9), int(rng.integers(1 << 30)), int(rng.integers(1 << 30))
    name = f"{number:02}.{kind}"
    truth = {
        "photo": f"{'blurred' if number % BLURRED_EVERY == 2 else 'sharp'}/{name}",
        "name": name,
        "shows": shows,
        "size": eye.size,
        "fx": eye.focal,
        "fy": eye.focal,
        "cx": float(eye.center[0]),
        "cy": float(eye.center[1]),
        "cropped": number % 4 in (1, 2),
        "coc_px": COC,
    }
    if all((out / part / name).exists() for part in ("sharp", "blurred")):
        return truth
    sharp, depth = cast(solids, light, eye, np.random.default_rng(rays), SHARP_SAMPLES)
    near, far = np.percentile(depth[depth < FAR], [0.5, 99.5]) if (depth < FAR).any() else (1, 2)
    nearest, farthest = 1 / near, (1 / far if (depth < FAR).mean() > 0.99 else 0.0)
    focus = farthest + share * (nearest - farthest)
    aperture = COC / eye.focal / max(nearest - focus, focus - farthest)
    blurred, _ = cast(solids, light, eye, np.random.default_rng(rays), BLURRED_SAMPLES, aperture, 1 / focus)
    exposure = level / np.percentile(sharp.mean(2), 70)
    for part, picture in (("sharp", sharp), ("blurred", blurred)):
        photo = develop(picture, np.random.default_rng(grain), exposure, noise)
        (out / part).mkdir(parents=True, exist_ok=True)
        photo.save(out / part / name, quality=quality)  # which PNG passes over
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument(
        "--only", type=int, nargs="*", help="numbers of the photos to make; truth.json is not written"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    numbers = range(args.count) if args.only is None else args.only
    args.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes) as pool:
        jobs = [pool.submit(make, number, args.count, args.seed, args.out) for number in numbers]
        truths = [job.result() for job in jobs]
    if args.only is None:
        (args.out / "truth.json").write_text(json.dumps({"seed": args.seed, "photos": truths}, indent=1))


if __name__ == "__main__":
    main()
