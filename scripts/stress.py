"""Time, peak memory and disk of every stage, from a folder of photos to a trained and measured scene.

    python scripts/stress.py --photos 40,500,2000 --out /tmp/stress

For each size it makes a set of ray-cast photos of a textured room, out of focus, and runs the command line on
it, each stage in a process of its own. The photos are JPEGs of `--size`. `--bases` views are cast; crops of
them that differ by some pixels are the photos, each with a camera of its own. A set of more than `--distinct`
photos repeats these under other names, as links. Cameras and points come with the set (transforms.json),
unless `--sfm` asks for SfM. The last lines are the table of docs/benchmarks.md. Linux only.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from plyfile import PlyData, PlyElement

HALF = np.array([4.0, 2.0, 4.0])
"""Half the size of the room, metres."""
TEXELS = 600
"""Per metre."""
LEVELS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Texels; standard deviations of the blurs that a photo's own is rounded to."""
JITTER = 64
"""px by which a crop differs at most."""
APERTURE = 0.012
"""Metres."""


def texture(seed: int) -> np.ndarray:
    """(levels, T, T, 3) uint8: what all walls show, with detail of every size; blurred by each of LEVELS."""
    random = np.random.default_rng(seed)
    side = 4096
    total = np.zeros((side, side, 3), np.float32)
    for octave in range(1, 11):
        few = random.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        layers = [
            Image.fromarray(few[..., c]).resize((side, side), Image.Resampling.BICUBIC) for c in range(3)
        ]
        total += np.stack([np.asarray(layer) for layer in layers], axis=-1) * 0.75**octave
    sharp = Image.fromarray((128 + 60 * total).clip(0, 255).astype(np.uint8))
    return np.stack([np.asarray(sharp.filter(ImageFilter.GaussianBlur(s)) if s else sharp) for s in LEVELS])


def pose(index: int, count: int) -> np.ndarray:
    """(4, 4) world from camera, OpenGL axes: along a loop in the room, looking across it."""
    angle = 2 * math.pi * index / count
    position = np.array([1.6 * math.cos(angle), 0.3 * math.sin(3 * angle), 1.6 * math.sin(angle)])
    ahead = np.array([-math.cos(angle + 0.5), 0.1, -math.sin(angle + 0.5)])
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(right, ahead), -ahead], axis=1)
    matrix[:3, 3] = position
    return matrix


def hit(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (..., 3) from inside meet the walls: places (..., 3), and texture coordinates (..., 2)."""
    with np.errstate(divide="ignore"):
        reach = (np.sign(rays) * HALF - origin) / rays
    reach = np.where(rays == 0, np.inf, reach)
    axis = reach.argmin(-1)
    places = origin + rays * np.take_along_axis(reach, axis[..., None], -1)
    across = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    return places, np.take_along_axis(places, across, -1) + 1.7 * axis[..., None]


def cast(
    matrix: np.ndarray, focal: float, size: tuple[int, int], focus: float, walls: np.ndarray
) -> np.ndarray:
    """(H, W, 3) uint8 of the room by a lens of APERTURE, focused at `focus` metres."""
    width, height = size
    picture = np.empty((height, width, 3), np.uint8)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    for top in range(0, height, 128):
        y = -(np.arange(top, min(top + 128, height)) + 0.5 - height / 2) / focal
        local = np.stack([*np.meshgrid(x, y), np.full((len(y), width), -1.0)], axis=-1)
        places, uv = hit(matrix[:3, 3], local @ matrix[:3, :3].T)
        z = -(places - matrix[:3, 3]) @ matrix[:3, 2]
        coc = APERTURE * np.abs(1 - z / focus)  # metres at the wall
        level = np.searchsorted(
            np.sqrt(np.array(LEVELS[1:]) * np.array([0.5, *LEVELS[1:-1]])), coc * TEXELS / 4
        )
        column, row = np.moveaxis((uv * TEXELS).astype(int) % walls.shape[1], -1, 0)
        picture[top : top + len(y)] = walls[level, row, column]
    return picture


def make_set(folder: Path, photos: int, size: tuple[int, int], bases: int, distinct: int, sfm: bool) -> None:
    """images/, and transforms.json with points.ply."""
    (folder / "images").mkdir(parents=True)
    width, height = size
    walls, focal = texture(0), 0.9 * width
    distinct = min(distinct, photos)
    bases = min(bases, distinct)
    random = np.random.default_rng(1)
    frames = []
    for base in range(bases):
        matrix = pose(base, bases)
        large = (width + 2 * JITTER, height + 2 * JITTER)
        whole = cast(matrix, focal, large, (2.2, 3.0, 4.2, 6.0)[base % 4], walls)
        for copy in range(base, distinct, bases):
            left, top = (int(v) for v in random.integers(0, 2 * JITTER, 2))
            name = f"images/{copy:05d}.jpg"
            crop = Image.fromarray(whole[top : top + height, left : left + width])
            crop.save(folder / name, quality=92)
            center = {"cx": width / 2 + JITTER - left, "cy": height / 2 + JITTER - top}
            frames.append({"file_path": name, "transform_matrix": matrix.tolist(), **center})
    for extra in range(distinct, photos):
        name = f"images/{extra:05d}.jpg"
        os.link(folder / frames[extra % distinct]["file_path"], folder / name)
        frames.append({**frames[extra % distinct], "file_path": name})
    if sfm:
        return
    rays = random.normal(size=(20_000, 3))
    places, uv = hit(np.zeros(3), rays)
    column, row = np.moveaxis((uv * TEXELS).astype(int) % walls.shape[1], -1, 0)
    kinds = [*((axis, "f4") for axis in "xyz"), *((color, "u1") for color in ("red", "green", "blue"))]
    vertices = np.array([(*p, *c) for p, c in zip(places, walls[0, row, column], strict=True)], dtype=kinds)
    PlyData([PlyElement.describe(vertices, "vertex")]).write(folder / "points.ply")
    lens = {"fl_x": focal, "fl_y": focal, "w": width, "h": height, "camera_model": "OPENCV"}
    content = {**lens, "ply_file_path": "points.ply", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))


def disk(folder: Path) -> int:
    """Bytes that a folder takes."""
    seen = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def run(command: list[str], log: Path) -> dict[str, float]:
    """Seconds, CPU seconds and peak bytes of a process.

    Raises:
        SystemExit: it failed.
    """
    began, peak = time.monotonic(), 0
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            # Not ru_maxrss, which starts with the peak of the process that started this one.
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
            time.sleep(0.1)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": time.monotonic() - began, "cpu": cpu, "peak": peak * 1024}


def open_only(data: Path, cache: Path) -> None:
    """What every command does first: read the cameras, prepare the photos."""
    from cocogs.scene import open_scene

    open_scene(data, cache, test_every=100)


def start_only(data: Path, cache: Path) -> None:
    """Points and lens that a training starts from."""
    from cocogs.config import preset
    from cocogs.scene import open_scene
    from cocogs.train.start import start_model

    scene = open_scene(data, cache, test_every=100)
    began = time.process_time()
    model = start_model(preset("lens"), scene)
    print(f"start_model: {time.process_time() - began:.1f} CPU s, K {model.lens.of(0).K.item():.4g}")


def stages(data: Path, out: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """The command of each stage, in the order in which they run."""
    own = [sys.executable, __file__, "--data", str(data), "--cache", str(out / "cache"), "--stage"]
    cocogs = [sys.executable, "-m", "cocogs"]
    splats = ["--preset", options.preset, "--max-gaussians", str(options.splats)]
    steps = ["--iterations", str(options.steps), "--test-every", "100"]
    return {
        "open, photos prepared": [*own, "open"],
        "open again": [*own, "open"],
        "start: points and lens": [*own, "start"],
        f"train, {options.steps} steps": [*cocogs, "train", str(data), "--out", str(out), *splats, *steps],
        "eval": [*cocogs, "eval", str(out)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time, memory and disk by stage and number of photos.")
    parser.add_argument("--photos", default="40,500,2000", help="sizes of the sets")
    parser.add_argument("--size", default="6000x4000")
    parser.add_argument("--bases", type=int, default=20, help="views that are cast")
    parser.add_argument("--distinct", type=int, default=200, help="photos that are files of their own")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--splats", type=int, default=100_000)
    parser.add_argument("--preset", default="lens")
    parser.add_argument("--sfm", action="store_true", help="let SfM find the cameras: for small sets")
    parser.add_argument("--out", type=Path, default=Path("/tmp/stress"))
    parser.add_argument("--keep", action="store_true", help="go on with what lies in --out; remove nothing")
    for hidden in ("--data", "--cache"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        {"open": open_only, "start": start_only}[options.stage](options.data, options.cache)
        return
    rows = []
    width, height = map(int, options.size.split("x"))
    for photos in map(int, options.photos.split(",")):
        folder = options.out / str(photos)
        data, out = folder / "data", folder / "run"
        if not (options.keep and data.exists()):
            shutil.rmtree(folder, ignore_errors=True)
            began = time.monotonic()
            make_set(data, photos, (width, height), options.bases, options.distinct, options.sfm)
            print(
                f"{photos} photos made in {time.monotonic() - began:.0f} s, {disk(data) / 1e9:.1f} GB",
                flush=True,
            )
        for stage, command in stages(data, out, options).items():
            used = run(command, folder / f"{stage.split(',')[0].replace(' ', '_')}.log")
            spent = f"{used['seconds']:.0f} | {used['cpu']:.0f} | {used['peak'] / 2**30:.2f}"
            rows.append(f"| {photos} | {stage} | {spent} | {disk(out) / 1e9:.2f} |")
            print(rows[-1], flush=True)
        if not options.keep:
            shutil.rmtree(folder)
    print("\n| photos | stage | s | CPU s | peak GiB | disk of the run, GB |\n|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
