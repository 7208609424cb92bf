"""Renders a scene of which everything is known: photos through a true thin lens, and what they hide.

    python3.11 -m venv blender && blender/bin/pip install "bpy==4.5.*" Pillow pycolmap
    blender/bin/python scripts/make_truth_scene.py tabletop --out scenes/tabletop     # or corridor, or glass

Needs an environment of its own, because Blender wants another numpy than cocogs. What OUT then holds:

    images/NNN.png    the photos; every 6th (hold=6) is a sharp test view, the others are defocused
    sharp/NNN.png     the photos without defocus: for the ceiling only, training on them is cheating
    refocus/*.png     test views through the lens, focused as truth.json says
    depth/NNN.npy     (height, width) float32, metres along the optical axis to what the pixel's centre hits
    sparse/0          COLMAP model: the true poses, points triangulated from the photos
    truth.json        poses (w2c, OpenCV axes, metres), the lens, and what each photo was focused on

Blender's Cycles adds up light linearly; exposure, noise and the sRGB curve follow as in a camera. Everything
random comes from --seed: the same call makes the same pictures on the same kind of CPU, but for single grey
levels (threads add up in any order). Pictures that exist are kept, so an interrupted call goes on.
"""

import argparse
import json
import math
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from blender_parts import aim_camera, quiet, start_scene
from PIL import Image
from truth_scenes import SCENES, TruthScene

SENSOR_MM = 36.0
PARTS = ("images", "sharp", "refocus", "sparse")
PLANES = {"varied": (0.0, 1.0), "two-plane": (0.12, 0.88), "alike": (0.25, 0.25)}
"""Range of focus, as shares of the way from 1/near to 1/far, where circles of confusion are even."""


@dataclass(frozen=True)
class Settings:
    """What decides the pictures.

    Args:
        scene: its name in SCENES.
        views, test_every: photos; every `test_every`th, from the first, is a sharp test view.
        refocused: how many refocused truth pictures.
        width, height: px.
        samples: rays per pixel, before Blender's denoiser.
        seed: of everything random.
        coc: strength of the lens: the circle of confusion at the nearest depth when focused on the
            farthest, as a part of the picture's width.
        focus: varied (evenly spread), two-plane (half near, half far, as in DoF-NeRF), or alike (the same
            in all photos: what lies elsewhere cannot be recovered).
        blades: of the aperture; 0 is round.
        exposure_jitter: standard deviation of the photos' exposure in stops.
        noise: standard deviation of the sensor's noise at white, as a part of white; it falls with the
            square root of the light.
    """

    scene: str
    views: int = 24
    test_every: int = 6
    refocused: int = 3
    width: int = 300
    height: int = 200
    samples: int = 32
    seed: int = 0
    coc: float = 0.03
    focus: str = "varied"
    blades: int = 0
    exposure_jitter: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Frame:
    """One photo; `focus_distance` in metres, None for a sharp test view; `stops` brighter than planned."""

    name: str
    cam_from_world: np.ndarray
    focus_distance: float | None
    stops: float


# -------------------------------------------------------------------------------------------------- plans


def plan_frames(settings: Settings) -> list[Frame]:
    """Positions spread evenly by two irrational steps, test views well inside; focus dealt out at random."""
    scene = SCENES[settings.scene]
    rng = np.random.default_rng(settings.seed + 1)
    training = [i for i in range(settings.views) if i % settings.test_every]
    focus = dict(zip(training, focus_distances(settings, scene, len(training), rng), strict=True))
    frames = []
    for i in range(settings.views):
        across, up = (0.5 + i * 0.618034) % 1 - 0.5, (0.5 + i * 0.754878) % 1 - 0.5
        if i not in focus:
            across, up = 0.65 * across, 0.65 * up
        pose = scene.pose(across, up, rng)
        stops = float(rng.normal(0, settings.exposure_jitter)) if i in focus else 0.0
        frames.append(Frame(f"{i:03d}.png", pose, focus.get(i), stops))
    return frames


def focus_distances(
    settings: Settings, scene: TruthScene, count: int, rng: np.random.Generator
) -> list[float]:
    near, far = PLANES[settings.focus]
    shares = np.linspace(near, far, count)
    if settings.focus == "two-plane":
        shares = np.where(np.arange(count) < count / 2, near, far)
    inverse = (1 - shares) / scene.near + shares / scene.far
    return [float(1 / value) for value in rng.permutation(inverse)]


def fx(settings: Settings) -> float:
    return SCENES[settings.scene].focal_mm / SENSOR_MM * settings.width


def aperture_diameter(settings: Settings) -> float:
    """Metres: CoC diameter in px = this * fx * |1/z - 1/focus_distance|."""
    scene = SCENES[settings.scene]
    return settings.coc * settings.width / fx(settings) / (1 / scene.near - 1 / scene.far)


def f_number(settings: Settings) -> float:
    return SCENES[settings.scene].focal_mm / 1000 / aperture_diameter(settings)


def plan_refocused(settings: Settings, frames: list[Frame]) -> list[dict]:
    """Test views in turn, focused on near, far and middle depths, with the lens as it is."""
    scene, tests = SCENES[settings.scene], [f for f in frames if f.focus_distance is None]
    result = []
    for k in range(settings.refocused):
        share = (0.15, 0.85, 0.5)[k % 3]
        distance = round(1 / ((1 - share) / scene.near + share / scene.far), 3)
        view = tests[k % len(tests)].name
        name = f"{Path(view).stem}_f{distance:g}.png"
        result.append({"name": name, "view": view, "focus_distance": distance, "aperture_scale": 1.0})
    return result


def truth(settings: Settings) -> dict:
    """What truth.json states; lengths in metres."""
    frames = plan_frames(settings)
    return {
        "width": settings.width,
        "height": settings.height,
        "fx": fx(settings),
        "fy": fx(settings),
        "cx": settings.width / 2,
        "cy": settings.height / 2,
        "K": aperture_diameter(settings) * fx(settings),
        "aperture_diameter": aperture_diameter(settings),
        "f_number": f_number(settings),
        "focal_length_mm": SCENES[settings.scene].focal_mm,
        "renderer": "Blender 4.5 Cycles (CPU)",
        "settings": asdict(settings),
        "frames": [
            {
                "name": f.name,
                "test": f.focus_distance is None,
                "focus_distance": f.focus_distance,
                "exposure_stops": f.stops,
                "w2c": f.cam_from_world.tolist(),
            }
            for f in frames
        ],
        "refocus": plan_refocused(settings, frames),
    }


# ---------------------------------------------------------------------------------------------- rendering


@dataclass(frozen=True)
class Shot:
    """One picture to make: where, how focused (None: pinhole), how exposed, and where its depth goes."""

    path: Path
    frame: Frame
    focus_distance: float | None
    depth_path: Path | None = None


def plan_shots(settings: Settings, out: Path, parts: list[str]) -> list[Shot]:
    frames = plan_frames(settings)
    by_name = {f.name: f for f in frames}
    shots = []
    for f in frames:
        depth = out / "depth" / f"{Path(f.name).stem}.npy"
        is_test = f.focus_distance is None
        if "images" in parts:
            shots.append(Shot(out / "images" / f.name, f, f.focus_distance, depth if is_test else None))
        if "sharp" in parts and not is_test:
            shots.append(Shot(out / "sharp" / f.name, f, None, depth))
    if "refocus" in parts:
        for wanted in plan_refocused(settings, frames):
            path = out / "refocus" / wanted["name"]
            shots.append(Shot(path, by_name[wanted["view"]], wanted["focus_distance"]))
    return [s for s in shots if not (s.path.exists() and (s.depth_path is None or s.depth_path.exists()))]


def render(settings: Settings, shots: list[Shot], threads: int) -> None:
    import bpy  # pyright: ignore[reportMissingImports]

    scene = SCENES[settings.scene]
    size = settings.width, settings.height
    start_scene(size, scene.focal_mm, SENSOR_MM, settings.samples, threads, scene.bounces)
    scene.build(np.random.default_rng(settings.seed))
    with tempfile.TemporaryDirectory() as folder:
        keep_light_and_depth(Path(folder))
        for shot in shots:
            number = int(Path(shot.frame.name).stem)
            aim_camera(
                shot.frame.cam_from_world, shot.focus_distance, f_number(settings),
                noise_seed=settings.seed * 1000 + number, blades=settings.blades,
            )  # fmt: skip
            with quiet():
                bpy.ops.render.render()
            light = read_layer(next(Path(folder).glob("light*.exr")), size)[..., :3]
            if shot.depth_path is not None:
                depth = read_layer(next(Path(folder).glob("depth*.exr")), size)[..., 0]
                write_whole(shot.depth_path, lambda file, depth=depth: np.save(file, depth))
            gain = 2 ** (scene.exposure + shot.frame.stops)
            picture = Image.fromarray(develop(gain * light, settings, number))
            write_whole(shot.path, lambda file, picture=picture: picture.save(file, "PNG"))
            focus = "everywhere" if shot.focus_distance is None else f"{shot.focus_distance:.3f} m"
            print(f"{shot.path}  focus {focus}", flush=True)


def keep_light_and_depth(folder: Path) -> None:
    """Makes every render write its linear light and its depth as EXR into `folder`."""
    import bpy  # pyright: ignore[reportMissingImports]

    scene = bpy.context.scene
    scene.view_layers[0].use_pass_z = True
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    layers = nodes.new("CompositorNodeRLayers")
    output = nodes.new("CompositorNodeOutputFile")
    output.base_path = str(folder)
    output.format.file_format, output.format.color_depth = "OPEN_EXR", "32"
    output.file_slots.clear()
    for slot, layer in (("light", "Image"), ("depth", "Depth")):
        output.file_slots.new(slot)
        links.new(layers.outputs[layer], output.inputs[slot])


def read_layer(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 4) float32 of an EXR file, top row first."""
    import bpy  # pyright: ignore[reportMissingImports]

    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    pixels = np.empty(size[0] * size[1] * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(size[1], size[0], 4)[::-1]


def develop(light: np.ndarray, settings: Settings, number: int) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of linear light in which 1 is white, after the sensor's noise."""
    rng = np.random.default_rng((settings.seed, number))
    noisy = light + settings.noise * np.sqrt(np.clip(light, 0, 1)) * rng.standard_normal(light.shape)
    clipped = np.clip(noisy, 0, 1)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(255 * curved).astype(np.uint8)


def write_whole(path: Path, write) -> None:
    """Calls write(file) on a temporary file beside `path`, then renames it: no half picture is ever kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    with open(unfinished, "wb") as file:
        write(file)
    unfinished.replace(path)


# ----------------------------------------------------------------------------------------- COLMAP's files


def write_sparse(settings: Settings, out: Path) -> str:
    """sparse/0: the true cameras, and points triangulated from features of the photos; returns a summary.

    So the points are those that a user's COLMAP finds on these photos, few where all are blurred, but frame
    and unit are the truth's, and no error of the poses mixes with those of the lens.
    """
    import pycolmap

    pycolmap.set_random_seed(settings.seed)
    frames = plan_frames(settings)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database.db"
        extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
        extraction.num_threads = matching.num_threads = 1
        focal = fx(settings)
        params = f"{focal},{focal},{settings.width / 2},{settings.height / 2}"
        pycolmap.extract_features(
            database,
            out / "images",
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=pycolmap.ImageReaderOptions(camera_model="PINHOLE", camera_params=params),
            extraction_options=extraction,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, matching_options=matching, device=pycolmap.Device.cpu)
        with pycolmap.Database.open(database) as opened:
            cameras, images = opened.read_all_cameras(), opened.read_all_images()
        model = pycolmap.Reconstruction()
        model.add_camera_with_trivial_rig(cameras[0])
        poses = {f.name: pycolmap.Rigid3d(f.cam_from_world[:3]) for f in frames}
        for image in images:
            model.add_image_with_trivial_frame(image, poses[image.name])
        made = pycolmap.triangulate_points(
            model, database, out / "images", Path(folder), refine_intrinsics=False
        )
    sparse = out / "sparse" / "0"
    sparse.mkdir(parents=True, exist_ok=True)
    made.write_binary(sparse)
    return made.summary()


# --------------------------------------------------------------------------------------------------- call


def read_settings() -> tuple[Settings, argparse.Namespace]:
    standard = Settings("tabletop")
    parser = argparse.ArgumentParser(description="Render a scene of which everything is known (bpy 4.5).")
    parser.add_argument("scene", choices=SCENES, help="what to photograph")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--views", type=int, default=standard.views, help="photos, test views included")
    parser.add_argument(
        "--test-every", type=int, default=standard.test_every, help="which of them are for testing"
    )
    parser.add_argument("--refocused", type=int, default=standard.refocused, help="refocused truth pictures")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(standard.width, standard.height), metavar=("W", "H")
    )
    parser.add_argument("--samples", type=int, default=standard.samples, help="rays per pixel")
    parser.add_argument("--seed", type=int, default=standard.seed)
    parser.add_argument("--coc", type=float, default=standard.coc, help="largest blur / picture width")
    parser.add_argument("--focus", choices=PLANES, default=standard.focus, help="how focus varies")
    parser.add_argument("--blades", type=int, default=standard.blades, help="of the aperture; 0 is round")
    parser.add_argument("--exposure-jitter", type=float, default=standard.exposure_jitter, metavar="STOPS")
    parser.add_argument("--noise", type=float, default=standard.noise, help="of the sensor, at white")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="make only these parts")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in asdict(standard) if hasattr(args, name)}
    settings = replace(standard, **given, width=args.size[0], height=args.size[1])
    check(settings)
    return settings, args


def check(settings: Settings) -> None:
    """Raises SystemExit with one sentence for numbers that make no scene."""
    if settings.test_every < 2 or settings.views < settings.test_every + 2:
        raise SystemExit("--views must exceed --test-every, which must be at least 2, by 2 or more.")
    if min(settings.width, settings.height) < 16 or settings.samples < 1 or settings.seed < 0:
        raise SystemExit("--size must be at least 16 px, --samples at least 1, --seed not negative.")
    if not 0 < settings.coc < 0.2:
        raise SystemExit(f"--coc {settings.coc} is no lens: give more than 0 and less than 0.2.")
    if settings.blades in (1, 2) or settings.blades < 0 or settings.refocused < 0:
        raise SystemExit("--blades must be 0 (round) or at least 3, --refocused at least 0.")
    if not (0 <= settings.exposure_jitter < 4 and 0 <= settings.noise < 1) or not math.isfinite(settings.coc):
        raise SystemExit("--exposure-jitter must lie in [0, 4) stops, --noise in [0, 1).")


def write_facts(settings: Settings, out: Path) -> None:
    """truth.json and hold=N.

    Raises:
        SystemExit: OUT holds another scene, or cannot be written.
    """
    path, document = out / "truth.json", truth(settings)
    try:
        same = not path.exists() or json.loads(path.read_text())["settings"] == document["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} cannot be read ({error}): delete it or give another --out.") from error
    if not same:
        raise SystemExit(f"{out} holds a scene made with other settings: give another --out or delete it.")
    write_whole(path, lambda file: file.write((json.dumps(document, indent=1) + "\n").encode()))
    (out / f"hold={settings.test_every}").touch()


def main() -> None:
    settings, args = read_settings()
    if find_spec("bpy") is None:
        raise SystemExit(
            "Blender is missing: give this Python bpy with `pip install 'bpy==4.5.*'` (Python 3.11, numpy 1)."
        )
    write_facts(settings, args.out)
    shots = plan_shots(settings, args.out, args.only)
    if shots:
        render(settings, shots, args.threads)
    if "sparse" in args.only and not (args.out / "sparse" / "0" / "points3D.bin").exists():
        print(write_sparse(settings, args.out))


if __name__ == "__main__":
    main()
