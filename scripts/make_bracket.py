"""Renders a focus bracket of which everything is known: one place, several focus distances, a true thin lens.

    blender/bin/python scripts/make_bracket.py tabletop --out brackets/tabletop     # or corridor, or glass
    blender/bin/python scripts/make_bracket.py tabletop --out brackets/held --breathing --hand-held

Needs the environment of `make_truth_scene.py`, whose scenes these are. What OUT then holds:

    slices/NN.png   the bracket, nearest focus first, evenly spread in 1/z; EXIF tells the focus distances
    sharp.png       what the middle slice's camera sees without defocus
    depth.npy       (height, width) float32, metres along the optical axis, from there
    bracket.json    the lens, and of each slice its focus distance, focal length in px and pose

With --breathing the picture grows as the lens moves out to focus nearer (f / (1 - f / distance), as a simple
lens does); with --hand-held the camera turns and moves a little between slices. Pictures that exist are kept.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blender_parts import aim_camera, quiet, start_scene
from make_truth_scene import check
from PIL import ExifTags, Image
from truth_photos import (
    SENSOR_MM,
    Settings,
    develop,
    f_number,
    keep_light_and_depth,
    plan_frames,
    read_layer,
    write_whole,
)
from truth_scenes import SCENES

TURN, MOVE = 0.15, 0.0003  # standard deviations between slices by hand: degrees about each axis, metres
FIRST_SEED = 500  # of the renderer's noise; beyond those of the scene's photos


@dataclass(frozen=True)
class Slice:
    """One picture to take; `focus_distance` in metres, None for the sharp one; `focal_mm` by breathing."""

    path: Path
    focus_distance: float | None
    focal_mm: float
    cam_from_world: np.ndarray


def plan(settings: Settings, args: argparse.Namespace) -> tuple[list[Slice], Slice]:
    """The slices, and the sharp picture of the middle one's camera."""
    scene = SCENES[settings.scene]
    pose = plan_frames(settings)[args.view].cam_from_world
    rng = np.random.default_rng(settings.seed + 7)
    slices = []
    for k in range(args.slices):
        distance = 1 / ((1 - k / (args.slices - 1)) / scene.near + k / (args.slices - 1) / scene.far)
        focal = scene.focal_mm / (1 - scene.focal_mm / 1000 / distance) if args.breathing else scene.focal_mm
        moved = shake(rng) @ pose if args.hand_held else pose
        slices.append(Slice(args.out / "slices" / f"{k + 1:02d}.png", distance, focal, moved))
    middle = slices[(args.slices - 1) // 2]
    return slices, Slice(args.out / "sharp.png", None, middle.focal_mm, middle.cam_from_world)


def shake(rng: np.random.Generator) -> np.ndarray:
    """(4, 4) small motion of the camera, in its own axes."""
    x, y, z = np.radians(TURN) * rng.standard_normal(3)
    turn = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    left, _, right = np.linalg.svd(turn)
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = left @ right, MOVE * rng.standard_normal(3)
    return motion


def render(settings: Settings, shots: list[Slice], depth_path: Path, threads: int) -> None:
    import bpy  # pyright: ignore[reportMissingImports]

    scene = SCENES[settings.scene]
    size = settings.width, settings.height
    start_scene(size, scene.focal_mm, SENSOR_MM, settings.samples, threads, scene.bounces)
    scene.build(np.random.default_rng(settings.seed))
    with tempfile.TemporaryDirectory() as folder:
        keep_light_and_depth(Path(folder))
        for number, shot in enumerate(shots, FIRST_SEED):
            if shot.path.exists():
                continue
            bpy.context.scene.camera.data.lens = shot.focal_mm
            # The opening stays as wide as it is: Blender divides the focal length by the f-number.
            stop = f_number(settings) * shot.focal_mm / scene.focal_mm
            aim_camera(shot.cam_from_world, shot.focus_distance, stop, number, settings.blades)
            with quiet():
                bpy.ops.render.render()
            light = read_layer(next(Path(folder).glob("light*.exr")), size)[..., :3]
            if shot.focus_distance is None:
                depth = read_layer(next(Path(folder).glob("depth*.exr")), size)[..., 0]
                write_whole(depth_path, lambda file, depth=depth: np.save(file, depth))
            picture = Image.fromarray(develop(2**scene.exposure * light, settings, number))
            write_whole(
                shot.path,
                lambda file, picture=picture, shot=shot: picture.save(
                    file, "PNG", exif=exif_of(shot, settings)
                ),
            )
            print(shot.path, flush=True)


def exif_of(shot: Slice, settings: Settings) -> Image.Exif:
    exif = Image.Exif()
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.FocalLength] = SCENES[settings.scene].focal_mm
    if shot.focus_distance is not None:
        inner[ExifTags.Base.FNumber] = f_number(settings)
        inner[ExifTags.Base.SubjectDistance] = shot.focus_distance
    return exif


def facts(settings: Settings, slices: list[Slice], view: int) -> dict:
    """What bracket.json states; lengths in metres."""
    return {
        "settings": settings.facts(),
        "view": view,
        "aperture_diameter": SCENES[settings.scene].focal_mm / 1000 / f_number(settings),
        "reference": slices[(len(slices) - 1) // 2].path.name,
        "slices": [
            {
                "name": one.path.name,
                "focus_distance": one.focus_distance,
                "fx": one.focal_mm / SENSOR_MM * settings.width,
                "w2c": one.cam_from_world.tolist(),
            }
            for one in slices
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Render a focus bracket of a truth scene (bpy 4.5).")
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--view", type=int, default=6, help="number of the truth scene's photo to stand at")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--coc", type=float, default=0.05, help="as in make_truth_scene.py")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=(300, 200), metavar=("W", "H"))
    parser.add_argument("--breathing", action="store_true")
    parser.add_argument("--hand-held", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settings = Settings(
        args.scene, width=args.size[0], height=args.size[1], samples=args.samples, coc=args.coc
    )
    check(settings)
    if args.slices < 2 or not 0 <= args.view < settings.views:
        raise SystemExit(f"--slices must be at least 2, --view from 0 to {settings.views - 1}.")
    slices, sharp = plan(settings, args)
    document = json.dumps(facts(settings, slices, args.view), indent=1) + "\n"
    path = args.out / "bracket.json"
    if path.exists() and path.read_text() != document:
        raise SystemExit(
            f"{args.out} holds a bracket made with other settings: give another --out or delete it."
        )
    write_whole(path, lambda file: file.write(document.encode()))
    render(settings, [sharp, *slices], args.out / "depth.npy", args.threads)


if __name__ == "__main__":
    main()
