"""Renders a scene of which everything is known: photos through a true thin lens, and what they hide.

    python3.11 -m venv blender && blender/bin/pip install "bpy==4.5.*" Pillow pycolmap
    blender/bin/python scripts/make_truth_scene.py tabletop --out scenes/tabletop     # or corridor, or glass
    blender/bin/python scripts/make_truth_scene.py tabletop --edit --views 36 --out pairs/tabletop

Needs an environment of its own, because Blender wants another numpy than cocogs. What OUT then holds:

    images/NNN.png    the photos; every 6th (hold=6) is a sharp test view, the others are defocused
    sharp/NNN.png     the photos without defocus: for the ceiling only, training on them is cheating
    refocus/*.png     test views through the lens, focused as truth.json says
    depth/NNN.npy     (height, width) float32, metres along the optical axis to what the pixel's centre hits
    sparse/0          COLMAP model: the true poses, points triangulated from the photos
    truth.json        poses (w2c, OpenCV axes, metres), the lens, and what each photo was focused on

With --edit it also holds the same scene after one object was moved: `truth_edits.py` says what.

Blender's Cycles adds up light linearly; exposure, noise and the sRGB curve follow as in a camera. Everything
random comes from --seed: the same call makes the same pictures on the same kind of CPU, but for single grey
levels (threads add up in any order). Pictures that exist are kept, so an interrupted call goes on.
"""

import argparse
import json
import math
import tempfile
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from truth_edits import EDITS, plan_edit, plan_edited_shots, prepare_edit
from truth_photos import (
    PLANES,
    Frame,
    Settings,
    Shot,
    aperture_diameter,
    f_number,
    fx,
    plan_frames,
    render,
    write_whole,
)
from truth_scenes import SCENES

PARTS = ("images", "sharp", "refocus", "edit", "sparse")


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
        "settings": settings.facts(),
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
    if settings.edit and "edit" in parts:
        shots += plan_edited_shots(settings, out)
    return [shot for shot in shots if not shot.done]


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
    parser.add_argument("--edit", action="store_true", help="move an object after the photos")
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
    if settings.edit and (settings.scene not in EDITS or settings.seed != 0):
        raise SystemExit(f"--edit is known for {' and '.join(EDITS)} with --seed 0 only.")
    if settings.blades in (1, 2) or settings.blades < 0 or settings.refocused < 0:
        raise SystemExit("--blades must be 0 (round) or at least 3, --refocused at least 0.")
    if not (0 <= settings.exposure_jitter < 4 and 0 <= settings.noise < 1) or not math.isfinite(settings.coc):
        raise SystemExit("--exposure-jitter must lie in [0, 4) stops, --noise in [0, 1).")


def write_facts(settings: Settings, out: Path) -> None:
    """truth.json, edit.json where something moves, and hold=N.

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
    if settings.edit:
        document = json.dumps(plan_edit(settings), indent=1) + "\n"
        write_whole(out / "edit.json", lambda file: file.write(document.encode()))
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
        prepare = (lambda: prepare_edit(settings),) if settings.edit else ()
        render(settings, shots, args.threads, *prepare)
    if "sparse" in args.only and not (args.out / "sparse" / "0" / "points3D.bin").exists():
        print(write_sparse(settings, args.out))


if __name__ == "__main__":
    main()
