"""Renders tests/golden: glowing balls through a pinhole and through lenses, by a renderer that is not ours.

    python3.11 -m venv blender && blender/bin/pip install "bpy==4.5.*"
    blender/bin/python scripts/make_golden_images.py tests/golden

`truth.json` states camera, lens and balls of every picture in the conventions of cocogs/camera.py and of
`cocogs.optics.lens.Lens`. Here they are translated to Blender's, by what Blender documents (and, for blades,
its kernel/sample/mapping.h) and with no help from cocogs: where the two then disagree, tests/test_golden.py
says so.

The balls shine by themselves, evenly and to every side, so that no lamp, shading or bounce comes in between,
and the film is a box filter: a pixel is the mean of the light on its own square. 16-bit PNG, Blender's own
sRGB curve. The same call makes the same pixels on the same kind of CPU. Lengths are metres, z points up.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blender_parts import aim_camera, lathe, look_at, place, quiet, start_scene

SEED = 5
SAMPLES = 4096
WIDTH = HEIGHT = 64
FOCAL_MM, SENSOR_MM = 100.0, 36.0
FX = FOCAL_MM / SENSOR_MM * WIDTH
CX, CY = 35.5, 29.0
"""Principal point, well off the middle."""
POSE = look_at(np.array([0.35, -0.8, 0.42]), np.array([0.0, 0.0, 0.05]), roll=0.3)


@dataclass(frozen=True)
class Ball:
    """A glowing ball: centre and radius in the world, its light (linear r, g, b; 1 is white)."""

    center: tuple[float, float, float]
    radius: float
    light: tuple[float, float, float]


SMALL = [
    Ball((0.066, -0.331, 0.164), 0.0101, (1, 0, 0)),  # at depths .6, .9 and 1.6, each 6 px wide
    Ball((0.027, -0.081, -0.026), 0.0152, (0, 1, 0)),
    Ball((-0.141, 0.621, -0.143), 0.027, (0, 0, 1)),
]
LARGE = [
    Ball((0.085, -0.324, 0.162), 0.034, (0.9, 0.15, 0)),  # at the depth .6, over a part of the other at 1.6
    Ball((-0.199, 0.577, -0.184), 0.117, (0, 0.25, 0.9)),
]
ROUND = {"focus_distance": 0.9, "aperture_diameter": 0.18}
"""Focused on the green ball, between the others."""
BLADED = {**ROUND, "blades": 5, "blade_rotation": 10.0}
"""An odd number, so that near discs stand upside down beside far ones; turned, so that a mirror shows."""
PICTURES: dict[str, tuple[dict[str, Any], list[Ball]]] = {
    "pinhole.png": ({**ROUND, "aperture_diameter": 0.0}, SMALL),
    "round.png": (ROUND, SMALL),
    "bladed.png": (BLADED, SMALL),
    "hidden.png": (ROUND, LARGE),
}


def truth(renderer: str) -> dict[str, Any]:
    """What truth.json states."""
    return {
        "renderer": renderer,
        "samples": SAMPLES,
        "seed": SEED,
        "width": WIDTH,
        "height": HEIGHT,
        "K": [[FX, 0, CX], [0, FX, CY], [0, 0, 1]],
        "cam_from_world": POSE.tolist(),
        "pictures": [
            {"name": name, "lens": lens, "balls": [asdict(ball) for ball in balls]}
            for name, (lens, balls) in PICTURES.items()
        ],
    }


def render(folder: Path) -> str:
    """Writes the pictures; returns the renderer's name and version."""
    import bpy  # pyright: ignore[reportMissingImports]

    renderer = ""
    for name, (lens, balls) in PICTURES.items():
        renderer = start_scene((WIDTH, HEIGHT), FOCAL_MM, SENSOR_MM, SAMPLES, threads=1)
        scene = bpy.context.scene
        scene.cycles.use_denoising = False
        scene.cycles.pixel_filter_type = "BOX"
        scene.view_settings.exposure = 0.0
        scene.render.image_settings.color_depth = "16"
        for ball in balls:
            add_ball(ball)
        set_camera(**lens)
        scene.render.filepath = str((folder / name).resolve())
        with quiet():
            bpy.ops.render.render(write_still=True)
        print(scene.render.filepath, flush=True)
    return renderer


def add_ball(ball: Ball) -> None:
    import bpy  # pyright: ignore[reportMissingImports]

    surface = bpy.data.materials.new("glow")
    surface.use_nodes = True
    nodes = surface.node_tree.nodes
    nodes.clear()
    glow, output = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    glow.inputs["Color"].default_value = (*ball.light, 1)
    surface.node_tree.links.new(glow.outputs["Emission"], output.inputs["Surface"])
    turns = np.linspace(0, math.pi, 61)
    outline = [(ball.radius * math.sin(t), -ball.radius * math.cos(t)) for t in turns]
    place(lathe("ball", outline, surface), ball.center)


def set_camera(focus_distance: float, aperture: float, blades: int = 0, blade_rotation: float = 0.0) -> None:
    """Blender's camera for our intrinsics, pose and lens.

    Blender shifts the film in parts of its longer side, x right and y up. Its blades are a polygon inside the
    circle that the f-number gives. A side of it, not a corner, is at the right; it turns anticlockwise.
    """
    import bpy  # pyright: ignore[reportMissingImports]

    if aperture == 0:
        aim_camera(POSE, None, math.inf, SEED)
    else:
        sector = 2 * math.pi / blades if blades else 0.0
        widening = math.sqrt(sector / math.sin(sector)) if blades else 1.0
        aim_camera(POSE, focus_distance, FOCAL_MM / 1000 / (aperture * widening), SEED, blades)
    camera = bpy.context.scene.camera.data
    camera.shift_x, camera.shift_y = (WIDTH / 2 - CX) / WIDTH, (CY - HEIGHT / 2) / WIDTH
    if blades:
        camera.dof.aperture_rotation = -math.radians(blade_rotation) - math.pi / blades


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the golden pictures (bpy 4.5).")
    parser.add_argument("out", type=Path, help="folder to write, tests/golden")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    renderer = render(folder)
    (folder / "truth.json").write_text(json.dumps(truth(renderer), indent=1) + "\n")


if __name__ == "__main__":
    main()
