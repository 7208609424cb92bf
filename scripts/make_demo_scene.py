"""Renders the bundled demo scene: a table-top still life photographed with a 50 mm lens at f/2.

    python3.11 -m venv blender && blender/bin/pip install "bpy==4.5.*" Pillow pycolmap
    blender/bin/python scripts/make_demo_scene.py --sfm     # writes data/demo; frames that exist are kept

Needs an environment of its own: bpy wants an older numpy than cocogs is tested with.

Blender's Cycles traces rays through a true thin lens in linear light; PNG files are sRGB (view transform
*Standard*). Lengths are metres, the table lies at z = 0 and the wall stands behind it along +y. Everything
random comes from SEED, so the same Blender on the same kind of CPU makes the same pictures again, but for a
few pixels in ten thousand that differ by one grey level (threads add up in any order).
"""

import argparse
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blender_parts import (  # pyright: ignore[reportMissingImports]
    aim_camera,
    apple,
    box,
    jar,
    lathe,
    light_scene,
    look_at,
    lying_book,
    material,
    mug,
    pebble,
    place,
    plant,
    quiet,
    rectangle,
    sheet,
    standing_book,
    start_scene,
    tin,
    toy_block,
)

SEED = 20
WIDTH, HEIGHT = 320, 213
FOCAL_MM, SENSOR_MM, F_NUMBER = 50.0, 36.0, 2.0
FRAMES, TEST_EVERY = 24, 6
TARGET = np.array([0.0, 0.0, 0.085])
"""What every camera looks at (about), and the middle of the arc."""
DISTANCE = 1.02
NEAREST_FOCUS, FARTHEST_FOCUS = 0.66, 1.72
REFOCUSED = {"006.png": (0.75, 1.05, 1.7), "018.png": (0.75, 1.7)}
"""Test view -> focus distances of its refocused truth pictures."""

FX = FOCAL_MM / SENSOR_MM * WIDTH
APERTURE = FOCAL_MM / 1000 / F_NUMBER
"""Diameter of the lens opening in metres; CoC diameter in px = APERTURE * FX * |1/z - 1/focus_distance|."""


# ---------------------------------------------------------------------------------------------- photos


@dataclass(frozen=True)
class Frame:
    """One photo: its file name, (4, 4) OpenCV pose, and the depth in focus (None: a pinhole, for testing)."""

    name: str
    cam_from_world: np.ndarray
    focus_distance: float | None


def plan_frames() -> list[Frame]:
    """The poses and focus distances, from SEED.

    Positions spread evenly over a patch of a sphere by two irrational steps; test views stay well inside it.
    Focus distances are evenly spaced in 1/z, where CoC is linear, and dealt out in random order.
    """
    rng = np.random.default_rng(SEED)
    training = [i for i in range(FRAMES) if i % TEST_EVERY]
    inverse = np.linspace(1 / NEAREST_FOCUS, 1 / FARTHEST_FOCUS, len(training))
    focus = dict(zip(training, 1 / rng.permutation(inverse), strict=True))
    frames = []
    for i in range(FRAMES):
        across, up = (0.5 + i * 0.618034) % 1 - 0.5, (0.5 + i * 0.754878) % 1 - 0.5
        if i not in focus:
            across, up = 0.65 * across, 0.65 * up
        azimuth, elevation = math.radians(34 * across), math.radians(14.5 + 10 * up)
        level = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
        direction = math.cos(elevation) * level + math.sin(elevation) * np.array([0.0, 0.0, 1.0])
        position = TARGET + DISTANCE * rng.uniform(0.96, 1.06) * direction
        pose = look_at(position, TARGET + rng.normal(0, 0.012, 3), rng.normal(0, math.radians(1.5)))
        frames.append(Frame(f"{i:03d}.png", pose, focus.get(i)))
    return frames


def truth(frames: list[Frame], renderer: str, samples: int) -> dict:
    """What truth.json states; lengths in metres."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "fx": FX,
        "fy": FX,
        "cx": WIDTH / 2,
        "cy": HEIGHT / 2,
        "K": APERTURE * FX,
        "aperture_diameter": APERTURE,
        "f_number": F_NUMBER,
        "focal_length_mm": FOCAL_MM,
        "seed": SEED,
        "renderer": renderer,
        "samples": samples,
        "frames": [
            {
                "name": f.name,
                "test": f.focus_distance is None,
                "focus_distance": f.focus_distance,
                "w2c": f.cam_from_world.tolist(),
            }
            for f in frames
        ],
        "refocus": [
            {"name": refocused_name(view, z), "view": view, "focus_distance": z, "aperture_scale": 1.0}
            for view, distances in REFOCUSED.items()
            for z in distances
        ],
    }


def refocused_name(view: str, focus_distance: float) -> str:
    return f"{Path(view).stem}_f{focus_distance:g}.png"


def build_room(rng: np.random.Generator) -> None:
    import demo_textures as paint

    table = material("table", paint.planks(rng), 0.45)
    sheet("table", lambda u, v: ((u - 0.5) * 2.0, v * 2.0 - 1.1, 0 * u), 1, 1, table)
    wall = rectangle("wall", 2.4, 1.2, material("wall", paint.bricks(rng), 0.9))
    place(wall, (0, 0.72, -0.2))
    print_ = rectangle("poster", 0.26, 0.3575, material("poster", paint.poster(rng)))
    place(print_, (0.06, 0.712, 0.02), tilt=(0, 1.5))


def build_foreground(rng: np.random.Generator) -> None:
    import demo_textures as paint

    pebbles = [
        (0.10, -0.33, 0.024), (0.16, -0.30, 0.03), (0.13, -0.255, 0.02), (0.205, -0.345, 0.022),
        (0.215, -0.265, 0.026), (0.07, -0.275, 0.016), (0.155, -0.365, 0.018), (0.26, -0.31, 0.021),
        (0.19, -0.215, 0.017),
    ]  # fmt: skip
    for k, (x, y, radius) in enumerate(pebbles):
        pebble(rng, f"pebble {k}", (x, y), radius)
    dice = [((236, 228, 210), (30, 30, 36), 25), ((150, 30, 40), (244, 234, 214), -20)]
    for k, (ground, ink, turn) in enumerate(dice):
        sides = [material(f"die {k} {p}", paint.die_face(rng, p, ground, ink)) for p in (5, 2, 3, 4, 6, 1)]
        die = box(f"die {k}", (0.026, 0.026, 0.026), sides, 0.003)
        place(die, (-0.055 + 0.045 * k, -0.335 + 0.03 * k, 0), turn)
    pencils = [((214, 150, 30), -0.2, 74), ((40, 110, 150), -0.225, 62), ((176, 44, 52), -0.16, 83)]
    for k, (color, y, turn) in enumerate(pencils):
        body = [(0.0, 0.0), (0.0042, 0.012), (0.0042, 0.165), (0.0, 0.165)]
        shape = lathe(f"pencil {k}", body, material(f"pencil {k}", paint.pencil(rng, color)), 24)
        place(shape, (-0.02 + 0.02 * k, y - 0.05, 0.0045), turn, (0, 90))
    card = material("card", paint.postcard(rng, "GREETINGS", (84, 146, 190), (70, 122, 92)))
    place(rectangle("card", 0.13, 0.086, card), (-0.215, -0.28, 0.001), 18, (-62, 0))


def build_middle(rng: np.random.Generator) -> None:
    """The letter blocks walk from the front to the back, so that one of them is sharp in any photo."""
    import demo_textures as paint

    spots = [
        (-0.135, -0.205, 14), (-0.085, -0.105, -9), (-0.02, -0.02, 6),
        (0.055, 0.055, -14), (0.13, 0.14, 10), (0.215, 0.225, -6),
    ]  # fmt: skip
    for k, (letter, (x, y, turn)) in enumerate(zip("COCOGS", spots, strict=True)):
        place(toy_block(rng, letter, k), (x, y, 0), turn)

    cloth = material("cloth", paint.tartan(rng), 0.95)

    def drape(u, v):
        x, y = (u - 0.5) * 0.36, (v - 0.5) * 0.34
        fold = 0.006 * np.sin(23 * x + 9 * y) + 0.005 * np.sin(31 * y - 12 * x + 1)
        return x, y, 0.0125 + fold

    place(sheet("cloth", drape, 60, 60, cloth), (0.255, -0.06, 0), 24)
    apples = [(0.215, -0.05, 40, (8, 0)), (0.3, -0.01, 160, (-14, 10)), (0.29, -0.105, 260, (0, 12))]
    for k, (x, y, turn, tilt) in enumerate(apples):
        apple(rng, k, x, y, 0.018, turn, tilt)

    stack = [
        ("THIN LENS", (30, 62, 96), (240, 204, 128), (0.21, 0.15, 0.032), 10),
        ("APERTURE", (128, 36, 36), (242, 222, 168), (0.19, 0.14, 0.026), -4),
        ("RAYS", (46, 92, 70), (236, 226, 196), (0.165, 0.125, 0.022), 20),
    ]
    height = 0.0
    for title, ground, accent, size, turn in stack:
        place(lying_book(rng, title, ground, accent, size), (-0.255, 0.07, height), turn)
        height += size[2]
    mug(rng, (-0.25, 0.07, height))


def build_background(rng: np.random.Generator) -> None:
    import demo_textures as paint

    x = 0.36
    shelf = [
        ("BOKEH", (204, 146, 44), (50, 34, 40), (0.14, 0.035, 0.21), 0),
        ("OPTICS", (60, 52, 92), (232, 214, 168), (0.15, 0.03, 0.235), 0),
        ("GRAIN", (30, 100, 104), (244, 226, 190), (0.13, 0.04, 0.195), 0),
        ("LIGHT", (150, 60, 40), (246, 226, 180), (0.14, 0.028, 0.22), 9),
    ]
    for k, (title, ground, accent, size, lean) in enumerate(shelf):
        upright = standing_book(rng, title, ground, accent, size)
        place(upright, (x, 0.5 + 0.01 * (k % 2), 0), 0, (0, lean))
        x += size[1] + 0.002
    place(tin(rng, "COCOA", (176, 44, 44), (28, 44, 84)), (0.02, 0.36, 0), 100)
    place(jar(rng, "THYME", (58, 112, 74), (40, 36, 60)), (-0.075, 0.3, 0), 80)
    cards = [
        ("NEAR", (196, 120, 110), (96, 70, 110), (0.245, 0.4, 0.001), 8),
        ("FAR", (80, 150, 160), (120, 110, 60), (-0.12, 0.66, 0.001), -6),
    ]
    for k, (title, sky, land, spot, turn) in enumerate(cards):
        surface = material(f"postcard {title}", paint.postcard(rng, title, sky, land))
        place(rectangle(f"postcard {k}", 0.15, 0.1, surface), spot, turn, (-14, 0))
    plant(rng, (-0.32, 0.42, 0.0))


def build_lights() -> None:
    lamps = [
        ("window", (-1.3, -0.7, 1.5), (0.0, 0.1, 0.0), 44, 0.9, (1.0, 0.93, 0.84)),
        ("lamp", (1.4, -0.2, 0.9), (0.0, 0.4, 0.1), 9, 0.6, (1.0, 0.82, 0.64)),
    ]
    light_scene((0.86, 0.92, 1.0), 0.55, lamps)


# ------------------------------------------------------------------------------------------- rendering


def render(path: Path, cam_from_world: np.ndarray, focus_distance: float | None, noise_seed: int) -> None:
    """One picture; `focus_distance` None closes the aperture to a pinhole."""
    import bpy  # pyright: ignore[reportMissingImports]

    aim_camera(cam_from_world, focus_distance, F_NUMBER, noise_seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    bpy.context.scene.render.filepath = str(unfinished)
    with quiet():
        bpy.ops.render.render(write_still=True)
    unfinished.rename(path)


def pictures(
    frames: list[Frame], out: Path, sharp_twins: Path | None
) -> list[tuple[Path, Frame, float | None]]:
    """Everything to render: (file, pose, focus distance)."""
    result = [(out / "images" / f.name, f, f.focus_distance) for f in frames]
    for f in frames:
        result += [(out / "refocus" / refocused_name(f.name, z), f, z) for z in REFOCUSED.get(f.name, ())]
    if sharp_twins:
        result += [(sharp_twins / f.name, f, None) for f in frames if f.focus_distance]
    return result


def build_scene() -> None:
    rng = np.random.default_rng(SEED)
    for build in (build_room, build_foreground, build_middle, build_background):
        build(rng)
    build_lights()


def render_all(args: argparse.Namespace) -> None:
    frames = plan_frames()
    wanted = [p for p in pictures(frames, args.out, args.sharp_twins) if args.force or not p[0].exists()]
    if args.only:
        wanted = [p for p in wanted if p[0].stem in args.only]
    if not wanted:
        return
    renderer = start_scene((WIDTH, HEIGHT), FOCAL_MM, SENSOR_MM, args.samples, args.threads)
    build_scene()
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "truth.json").write_text(json.dumps(truth(frames, renderer, args.samples), indent=1) + "\n")
    for path, frame, focus in wanted:
        render(path, frame.cam_from_world, focus, noise_seed=SEED * 1000 + int(Path(frame.name).stem))
        print(f"{path}  focus {'everywhere' if focus is None else f'{focus:.3f} m'}", flush=True)


# ------------------------------------------------------------------------- what a user's COLMAP would give


def register(images: Path, sparse: Path) -> str:
    """Structure from motion on the defocused photos, in COLMAP's own frame and unit; returns a summary.

    One camera without distortion, and one thread, so that the random seed settles everything.

    Raises:
        SystemExit: not every photo registered.
    """
    import pycolmap

    pycolmap.set_random_seed(SEED)
    count = len(list(images.glob("*.png")))
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database.db"
        extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
        mapping = pycolmap.IncrementalPipelineOptions()
        extraction.num_threads = matching.num_threads = mapping.num_threads = 1
        mapping.random_seed = SEED
        pycolmap.extract_features(
            database,
            images,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=pycolmap.ImageReaderOptions(camera_model="SIMPLE_PINHOLE"),
            extraction_options=extraction,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
        models = pycolmap.incremental_mapping(database, images, folder, mapping)
    best = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
    registered = best.num_reg_images() if best else 0
    if best is None or registered < count:
        raise SystemExit(f"{images}: only {registered} of {count} photos registered.")
    sparse.mkdir(parents=True, exist_ok=True)
    best.write_binary(sparse)
    return best.summary()


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the bundled demo scene (needs bpy 4.5).")
    repository = Path(__file__).parents[1]
    parser.add_argument("--out", type=Path, default=repository / "data" / "demo", help="folder to write")
    parser.add_argument("--samples", type=int, default=96, help="rays per pixel, before Blender's denoiser")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--force", action="store_true", help="render again what exists")
    parser.add_argument("--only", nargs="*", help="render only these pictures (file names without .png)")
    parser.add_argument(
        "--sharp-twins", type=Path, help="folder for all-in-focus twins of the training views"
    )
    parser.add_argument("--sfm", action="store_true", help="then write OUT/sparse/0 with pycolmap")
    args = parser.parse_args()
    render_all(args)
    if args.sfm:
        print(register(args.out / "images", args.out / "sparse" / "0"))


if __name__ == "__main__":
    main()
