"""Renders the bundled demo scene: a table-top still life photographed with a 50 mm lens at f/2.

    pip install "bpy==4.5.*" Pillow pycolmap    # Python 3.11; not needed to use cocogs
    python scripts/make_demo_scene.py --sfm     # writes data/demo; frames that exist are kept

Blender's Cycles traces rays through a true thin lens in linear light; PNG files are sRGB (view transform
*Standard*). Lengths are metres, the table lies at z = 0 and the wall stands behind it along +y. Everything
random comes from SEED, so the same Blender on the same kind of CPU makes the same pictures again, but for a
few pixels in ten thousand that differ by one grey level (threads add up in any order).
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


def look_at(position: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    """(4, 4) transform from the world (z up) to an OpenCV camera (x right, y down, z forward)."""
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    transform = np.eye(4)
    transform[:3, :3] = np.stack([c * right + s * down, c * down - s * right, forward])
    transform[:3, 3] = -transform[:3, :3] @ position
    return transform


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
        "K_px": APERTURE * FX,
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


# ------------------------------------------------------------------------------------- shapes and things


def material(name: str, texture: np.ndarray, roughness: float = 0.6):
    """A Blender material that shows `texture` (H, W, 3) uint8 sRGB."""
    import bpy  # pyright: ignore[reportMissingImports]

    height, width = texture.shape[:2]
    image = bpy.data.images.new(name, width, height)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = texture[::-1] / 255
    image.pixels.foreach_set(pixels.ravel())
    image.pack()
    result = bpy.data.materials.new(name)
    result.use_nodes = True
    nodes, links = result.node_tree.nodes, result.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Specular IOR Level"].default_value = 0.25
    node = nodes.new("ShaderNodeTexImage")
    node.image = image
    links.new(node.outputs["Color"], shader.inputs["Base Color"])
    return result


def mesh_object(name: str, vertices, faces, uvs, materials: list, smooth: bool):
    """An object; `uvs` holds one (u, v) per face corner, face k wears materials[k % len(materials)]."""
    import bpy  # pyright: ignore[reportMissingImports]

    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices, [], faces)
    mesh.uv_layers.new().data.foreach_set("uv", np.asarray(uvs, np.float32).ravel())
    for entry in materials:
        mesh.materials.append(entry)
    mesh.polygons.foreach_set("material_index", [k % len(materials) for k in range(len(faces))])
    mesh.polygons.foreach_set("use_smooth", [smooth] * len(faces))
    result = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(result)
    return result


def place(thing, position, turn: float = 0.0, tilt: tuple[float, float] = (0.0, 0.0)):
    """Moves an object; `turn` about the vertical and `tilt` about x and y, in degrees."""
    thing.location = position
    thing.rotation_euler = (math.radians(tilt[0]), math.radians(tilt[1]), math.radians(turn))
    return thing


def sheet(name: str, shape: Callable, rows: int, columns: int, surface):
    """A curved surface: `shape(u, v)` gives x, y, z for u, v in [0, 1]; v = 1 is the texture's top."""
    v, u = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    points = np.stack(np.broadcast_arrays(*shape(u, v)), -1).reshape(-1, 3)
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    faces = np.stack([corner, corner + 1, corner + columns + 2, corner + columns + 1], -1)
    uvs = np.stack([u.ravel(), v.ravel()], -1)[faces.ravel()]
    return mesh_object(name, points.tolist(), faces.tolist(), uvs, [surface], smooth=True)


def rectangle(name: str, width: float, height: float, surface):
    """A flat upright rectangle facing -y, its lower edge centred on the origin."""
    return sheet(name, lambda u, v: ((u - 0.5) * width, 0 * u, v * height), 1, 1, surface)


def lathe(name: str, profile: list[tuple[float, float]], surface, segments: int = 64):
    """A turned body: `profile` lists (radius, height) from the bottom up, joined by straight lines."""
    radii, heights = np.array(profile).T
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(radii), np.diff(heights)))])
    along /= along[-1]

    def shape(u, v):
        r, angle = np.interp(v, along, radii), 2 * math.pi * u
        return r * np.cos(angle), r * np.sin(angle), np.interp(v, along, heights)

    return sheet(name, shape, 60, segments, surface)


def box(name: str, size: tuple[float, float, float], sides: list, bevel: float = 0.002):
    """A block standing on z = 0; `sides` are the materials of front (-y), back, left, right, top, bottom."""
    a, b, c = size[0] / 2, size[1] / 2, size[2]
    vertices = [(x, y, z) for z in (0, c) for y in (-b, b) for x in (-a, a)]
    faces = [(0, 1, 5, 4), (3, 2, 6, 7), (2, 0, 4, 6), (1, 3, 7, 5), (4, 5, 7, 6), (2, 3, 1, 0)]
    uvs = [(0, 0), (1, 0), (1, 1), (0, 1)] * 6
    result = mesh_object(name, vertices, faces, uvs, sides, smooth=False)
    rounding = result.modifiers.new("edges", "BEVEL")
    rounding.width, rounding.segments = bevel, 2
    return result


def lying_book(rng, title: str, ground, accent, size: tuple[float, float, float]):
    """A book on its back cover, spine towards -y; size is (spine's length, width, thickness)."""
    import demo_textures as paint

    front = material(title, paint.cover(rng, title, ground, accent))
    back = material(f"{title} spine", paint.spine(rng, title, ground, accent))
    edge = material(f"{title} pages", paint.page_edges(rng))
    return box(title, size, [back, edge, edge, edge, front, front])


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


def pebble(rng: np.random.Generator, name: str, position: tuple[float, float], radius: float) -> None:
    """A flattened lump; three slow waves make it irregular."""
    import demo_textures as paint

    waves, phases = rng.normal(0, 1.6, (3, 3)), rng.uniform(0, 6.28, 3)
    squash = np.array([rng.uniform(0.9, 1.3), rng.uniform(0.8, 1.0), rng.uniform(0.55, 0.75)]) * radius

    def shape(u, v):
        theta, phi = math.pi * (1 - v), 2 * math.pi * u
        ball = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
        ball = ball * (1 + 0.08 * np.sin(ball @ waves.T + phases).sum(-1, keepdims=True)) * squash
        return np.moveaxis(ball, -1, 0)

    stone = sheet(name, shape, 24, 48, material(name, paint.stone(rng), 0.5))
    place(stone, (*position, 0.85 * squash[2]), rng.uniform(0, 360))


def build_middle(rng: np.random.Generator) -> None:
    """The letter blocks walk from the front to the back, so that one of them is sharp in any photo."""
    import demo_textures as paint

    colors = [(196, 46, 46), (34, 96, 150), (44, 120, 72), (206, 120, 24), (120, 56, 130), (24, 120, 128)]
    spots = [
        (-0.135, -0.205, 14), (-0.085, -0.105, -9), (-0.02, -0.02, 6),
        (0.055, 0.055, -14), (0.13, 0.14, 10), (0.215, 0.225, -6),
    ]  # fmt: skip
    for k, (letter, (x, y, turn)) in enumerate(zip("COCOGS", spots, strict=True)):
        others = rng.permutation(list("ABEFHKMNPRX"))
        sides = [
            material(f"block {k} {t}", paint.letter_block(rng, t, colors[(k + j) % 6]))
            for j, t in enumerate([letter, *others[:5]])
        ]
        place(box(f"block {k}", (0.056, 0.056, 0.056), sides), (x, y, 0), turn)

    cloth = material("cloth", paint.tartan(rng), 0.95)

    def drape(u, v):
        x, y = (u - 0.5) * 0.36, (v - 0.5) * 0.34
        fold = 0.006 * np.sin(23 * x + 9 * y) + 0.005 * np.sin(31 * y - 12 * x + 1)
        return x, y, 0.0125 + fold

    place(sheet("cloth", drape, 60, 60, cloth), (0.255, -0.06, 0), 24)
    outline = [
        (0.0, 0.008), (0.018, 0.0), (0.03, 0.012), (0.038, 0.032),
        (0.036, 0.05), (0.026, 0.062), (0.012, 0.064), (0.0, 0.056),
    ]  # fmt: skip
    apples = [(0.215, -0.05, 40, (8, 0)), (0.3, -0.01, 160, (-14, 10)), (0.29, -0.105, 260, (0, 12))]
    for k, (x, y, turn, tilt) in enumerate(apples):
        apple = lathe(f"apple {k}", smoothed(outline), material(f"apple {k}", paint.apple_skin(rng), 0.35))
        place(apple, (x, y, 0.018), turn, tilt)
        bark = material(f"stalk {k}", paint.wood(rng, 40, 60, (60, 40, 24), (120, 84, 50)))
        place(lathe(f"stalk {k}", [(0.0018, 0.0), (0.0014, 0.022)], bark, 8), (x, y, 0.072), 0, (14, 8))

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


def smoothed(profile: list[tuple[float, float]], count: int = 28) -> list[tuple[float, float]]:
    """A round outline through few points, by repeated corner cutting."""
    points = np.array(profile)
    for _ in range(3):
        quarter, three = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
        points = np.concatenate([points[:1], np.stack([quarter, three], 1).reshape(-1, 2), points[-1:]])
    keep = np.linspace(0, len(points) - 1, count).round().astype(int)
    return [(float(r), float(h)) for r, h in points[keep]]


def mug(rng: np.random.Generator, position: tuple[float, float, float]) -> None:
    import demo_textures as paint

    surface = material("mug", paint.glaze(rng, (222, 214, 196), (36, 84, 128)), 0.3)
    wall = [
        (0.0, 0.0), (0.033, 0.0), (0.036, 0.004), (0.036, 0.078),
        (0.034, 0.08), (0.032, 0.078), (0.032, 0.02), (0.0, 0.018),
    ]  # fmt: skip
    place(lathe("mug", wall, surface), position, -60)

    def handle(u, v):
        around, along = 2 * math.pi * u, math.pi * (v - 0.5)
        r = 0.022 + 0.0048 * np.cos(around)
        return 0.034 + r * np.cos(along), 0.0048 * np.sin(around), 0.042 + 1.2 * r * np.sin(along)

    place(sheet("handle", handle, 24, 16, surface), position, -38)


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
    wall = [(0.0, 0.0), (0.037, 0.0), (0.037, 0.108), (0.034, 0.108), (0.034, 0.104), (0.0, 0.104)]
    wrap = material("tin", paint.label(rng, "COCOA", (176, 44, 44), (28, 44, 84)), 0.35)
    place(lathe("tin", wall, wrap), (0.02, 0.36, 0), 100)
    wall = [(0.0, 0.0), (0.03, 0.0), (0.03, 0.08), (0.024, 0.086), (0.024, 0.1), (0.0, 0.1)]
    wrap = material("jar", paint.label(rng, "THYME", (58, 112, 74), (40, 36, 60)), 0.4)
    place(lathe("jar", wall, wrap), (-0.075, 0.3, 0), 80)
    cards = [
        ("NEAR", (196, 120, 110), (96, 70, 110), (0.245, 0.4, 0.001), 8),
        ("FAR", (80, 150, 160), (120, 110, 60), (-0.12, 0.66, 0.001), -6),
    ]
    for k, (title, sky, land, spot, turn) in enumerate(cards):
        surface = material(f"postcard {title}", paint.postcard(rng, title, sky, land))
        place(rectangle(f"postcard {k}", 0.15, 0.1, surface), spot, turn, (-14, 0))
    plant(rng, (-0.32, 0.42, 0.0))


def standing_book(rng, title: str, ground, accent, size: tuple[float, float, float]):
    """A book on a shelf: spine towards -y; size is (depth, thickness, height)."""
    import demo_textures as paint

    depth, thickness, height = size
    print_ = paint.spine(rng, title, ground, accent)
    spine = material(f"{title} spine", np.rot90(print_, -1))
    front = material(title, paint.cover(rng, title, ground, accent))
    edge = material(f"{title} pages", np.rot90(paint.page_edges(rng)))
    return box(title, (thickness, depth, height), [spine, edge, front, front, edge, edge])


def plant(rng: np.random.Generator, position: tuple[float, float, float]) -> None:
    """A terracotta pot with arching leaves."""
    import demo_textures as paint

    wall = [
        (0.0, 0.0), (0.05, 0.0), (0.066, 0.085), (0.072, 0.085),
        (0.073, 0.108), (0.066, 0.108), (0.062, 0.095), (0.0, 0.092),
    ]  # fmt: skip
    clay = material("pot", paint.glaze(rng, (186, 104, 68), (238, 206, 160)), 0.8)
    place(lathe("pot", wall, clay), position)
    skins = [material(f"leaf {k}", paint.leaf(rng), 0.5) for k in range(5)]
    for k in range(34):
        length, width = rng.uniform(0.14, 0.26), rng.uniform(0.022, 0.036)
        lean, droop = rng.uniform(0.1, 0.75), rng.uniform(0.6, 1.7)

        def shape(u, v, length=length, width=width, lean=lean, droop=droop):
            angle = lean + droop * v  # from the vertical
            out = length * (np.cos(lean) - np.cos(angle)) / droop
            up = length * (np.sin(angle) - np.sin(lean)) / droop
            half = (u - 0.5) * width * np.sin(math.pi * np.clip(v, 0, 1) ** 0.8) ** 0.7
            return out + 0.01, half, up + 0.3 * np.abs(half)

        blade = sheet(f"leaf {k}", shape, 14, 4, skins[k % 5])
        place(
            blade,
            (position[0], position[1], position[2] + 0.09),
            360 * (0.618034 * k % 1) + rng.uniform(-10, 10),
        )


def build_lights() -> None:
    import bpy  # pyright: ignore[reportMissingImports]

    world = bpy.context.scene.world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    sky = world.node_tree.nodes["Background"].inputs
    sky["Color"].default_value, sky["Strength"].default_value = (0.86, 0.92, 1.0, 1), 0.55
    for name, spot, aim, power, size, color in [
        ("window", (-1.3, -0.7, 1.5), (0.0, 0.1, 0.0), 44, 0.9, (1.0, 0.93, 0.84)),
        ("lamp", (1.4, -0.2, 0.9), (0.0, 0.4, 0.1), 9, 0.6, (1.0, 0.82, 0.64)),
    ]:
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.energy, lamp.size, lamp.color = power, size, color
        thing = bpy.data.objects.new(name, lamp)
        thing.matrix_world = blender_matrix(look_at(np.array(spot), np.array(aim), 0.0))
        bpy.context.scene.collection.objects.link(thing)


# ------------------------------------------------------------------------------------------- rendering


def blender_matrix(cam_from_world: np.ndarray):
    """Blender's world_from_camera: its cameras (and lamps) look along -z with y up."""
    from mathutils import Matrix  # pyright: ignore[reportMissingImports]

    return Matrix((np.linalg.inv(cam_from_world) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist())


def start_scene(samples: int, threads: int) -> str:
    """An empty scene with our camera and settings; returns the renderer's name and version."""
    import bpy  # pyright: ignore[reportMissingImports]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = samples, False
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.denoising_input_passes, scene.cycles.denoising_prefilter = "RGB_ALBEDO_NORMAL", "ACCURATE"
    scene.cycles.max_bounces = 2
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 3.0
    scene.cycles.blur_glossy = 1.0
    scene.cycles.filter_width = 1.2
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.render.use_stamp_date = scene.render.use_stamp_render_time = False
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.render.image_settings.compression = 100
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.view_settings.exposure = 0.4
    camera = bpy.data.cameras.new("camera")
    camera.lens, camera.sensor_width, camera.sensor_fit = FOCAL_MM, SENSOR_MM, "HORIZONTAL"
    camera.clip_start = 0.01
    scene.camera = bpy.data.objects.new("camera", camera)
    scene.collection.objects.link(scene.camera)
    return f"Blender {bpy.app.version_string} Cycles (CPU)"


def render(path: Path, cam_from_world: np.ndarray, focus_distance: float | None, noise_seed: int) -> None:
    """One picture; `focus_distance` None closes the aperture to a pinhole."""
    import bpy  # pyright: ignore[reportMissingImports]

    scene = bpy.context.scene
    scene.camera.matrix_world = blender_matrix(cam_from_world)
    optics = scene.camera.data.dof
    optics.use_dof = focus_distance is not None
    if focus_distance is not None:
        optics.focus_distance, optics.aperture_fstop = focus_distance, F_NUMBER
    scene.cycles.seed = noise_seed
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    scene.render.filepath = str(unfinished)
    with quiet():
        bpy.ops.render.render(write_still=True)
    unfinished.rename(path)


@contextmanager
def quiet() -> Iterator[None]:
    """Discards what Blender's own code prints meanwhile (a hundred lines for each picture)."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


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
    renderer = start_scene(args.samples, args.threads)
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
