"""Building and photographing a scene in Blender: what `make_demo_scene.py` and `make_truth_scene.py` share.

Needs bpy 4.5, which needs Python 3.11 and numpy 1: give it an environment of its own. Lengths are metres, z
points up; camera poses are OpenCV's. Blender is imported where it is used, so that plans can be made without.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

# ------------------------------------------------------------------------------------------------- shapes


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


def smoothed(profile: list[tuple[float, float]], count: int = 28) -> list[tuple[float, float]]:
    """A round outline through few points, by repeated corner cutting."""
    points = np.array(profile)
    for _ in range(3):
        quarter, three = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
        points = np.concatenate([points[:1], np.stack([quarter, three], 1).reshape(-1, 2), points[-1:]])
    keep = np.linspace(0, len(points) - 1, count).round().astype(int)
    return [(float(r), float(h)) for r, h in points[keep]]


# ------------------------------------------------------------------------------------------------- things


def lying_book(rng, title: str, ground, accent, size: tuple[float, float, float]):
    """A book on its back cover, spine towards -y; size is (spine's length, width, thickness)."""
    import demo_textures as paint

    front = material(title, paint.cover(rng, title, ground, accent))
    back = material(f"{title} spine", paint.spine(rng, title, ground, accent))
    edge = material(f"{title} pages", paint.page_edges(rng))
    return box(title, size, [back, edge, edge, edge, front, front])


def standing_book(rng, title: str, ground, accent, size: tuple[float, float, float]):
    """A book on a shelf: spine towards -y; size is (depth, thickness, height)."""
    import demo_textures as paint

    depth, thickness, height = size
    print_ = paint.spine(rng, title, ground, accent)
    spine = material(f"{title} spine", np.rot90(print_, -1))
    front = material(title, paint.cover(rng, title, ground, accent))
    edge = material(f"{title} pages", np.rot90(paint.page_edges(rng)))
    return box(title, (thickness, depth, height), [spine, edge, front, front, edge, edge])


TOYS = [(196, 46, 46), (34, 96, 150), (44, 120, 72), (206, 120, 24), (120, 56, 130), (24, 120, 128)]
"""Colours of toy blocks."""


def toy_block(rng: np.random.Generator, letter: str, number: int):
    """A wooden cube with `letter` in front; `number` decides its colours."""
    import demo_textures as paint

    others = rng.permutation(list("ABEFHKMNPRX"))
    sides = [
        material(f"block {number} {t}", paint.letter_block(rng, t, TOYS[(number + j) % 6]))
        for j, t in enumerate([letter, *others[:5]])
    ]
    return box(f"block {number}", (0.056, 0.056, 0.056), sides)


def apple(rng: np.random.Generator, number: int, x: float, y: float, z: float, turn: float, tilt) -> None:
    """An apple with its stalk, its lowest point at x, y, z."""
    import demo_textures as paint

    outline = [
        (0.0, 0.008), (0.018, 0.0), (0.03, 0.012), (0.038, 0.032),
        (0.036, 0.05), (0.026, 0.062), (0.012, 0.064), (0.0, 0.056),
    ]  # fmt: skip
    fruit = lathe(
        f"apple {number}", smoothed(outline), material(f"apple {number}", paint.apple_skin(rng), 0.35)
    )
    place(fruit, (x, y, z), turn, tilt)
    bark = material(f"stalk {number}", paint.wood(rng, 40, 60, (60, 40, 24), (120, 84, 50)))
    place(lathe(f"stalk {number}", [(0.0018, 0.0), (0.0014, 0.022)], bark, 8), (x, y, z + 0.054), 0, (14, 8))


def tin(rng: np.random.Generator, title: str, ground, accent):
    """A tin with a paper label all round."""
    import demo_textures as paint

    wall = [(0.0, 0.0), (0.037, 0.0), (0.037, 0.108), (0.034, 0.108), (0.034, 0.104), (0.0, 0.104)]
    return lathe(title, wall, material(title, paint.label(rng, title, ground, accent), 0.35))


def jar(rng: np.random.Generator, title: str, ground, accent):
    """A jar with a narrow neck and a paper label all round."""
    import demo_textures as paint

    wall = [(0.0, 0.0), (0.03, 0.0), (0.03, 0.08), (0.024, 0.086), (0.024, 0.1), (0.0, 0.1)]
    return lathe(title, wall, material(title, paint.label(rng, title, ground, accent), 0.4))


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


# ------------------------------------------------------------------------------------- lights and camera


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


def light_scene(sky_color: tuple[float, ...], sky_strength: float, lamps: list[tuple]) -> None:
    """An even sky and square lamps: each (name, position, what it shines at, watts, side, colour)."""
    import bpy  # pyright: ignore[reportMissingImports]

    world = bpy.context.scene.world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    sky = world.node_tree.nodes["Background"].inputs
    sky["Color"].default_value, sky["Strength"].default_value = (*sky_color, 1), sky_strength
    for name, spot, aim, power, size, color in lamps:
        lamp = bpy.data.lights.new(name, "AREA")
        lamp.energy, lamp.size, lamp.color = power, size, color
        thing = bpy.data.objects.new(name, lamp)
        thing.matrix_world = blender_matrix(look_at(np.array(spot), np.array(aim), 0.0))
        bpy.context.scene.collection.objects.link(thing)


def blender_matrix(cam_from_world: np.ndarray):
    """Blender's world_from_camera: its cameras (and lamps) look along -z with y up."""
    from mathutils import Matrix  # pyright: ignore[reportMissingImports]

    return Matrix((np.linalg.inv(cam_from_world) @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist())


def start_scene(
    size: tuple[int, int], focal_mm: float, sensor_mm: float, samples: int, threads: int, bounces: int = 2
) -> str:
    """An empty scene with a camera and settings for PNG files; returns the renderer's name and version.

    Args:
        size: width and height of the pictures in px; the sensor is `sensor_mm` wide.
        samples: rays per pixel, before Blender's denoiser.
        bounces: how often light may bounce: 2 for matt things, 6 and more for glass.
    """
    import bpy  # pyright: ignore[reportMissingImports]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples, scene.cycles.use_adaptive_sampling = samples, False
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.denoising_input_passes, scene.cycles.denoising_prefilter = "RGB_ALBEDO_NORMAL", "ACCURATE"
    scene.cycles.max_bounces = bounces
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.cycles.sample_clamp_indirect = 3.0
    scene.cycles.blur_glossy = 1.0
    scene.cycles.filter_width = 1.2
    scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.dither_intensity = 0.0
    scene.render.use_stamp_date = scene.render.use_stamp_render_time = False
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.render.image_settings.compression = 100
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.view_settings.exposure = 0.4
    camera = bpy.data.cameras.new("camera")
    camera.lens, camera.sensor_width, camera.sensor_fit = focal_mm, sensor_mm, "HORIZONTAL"
    camera.clip_start = 0.01
    scene.camera = bpy.data.objects.new("camera", camera)
    scene.collection.objects.link(scene.camera)
    return f"Blender {bpy.app.version_string} Cycles (CPU)"


def aim_camera(
    cam_from_world: np.ndarray,
    focus_distance: float | None,
    f_number: float,
    noise_seed: int,
    blades: int = 0,
) -> None:
    """Places and focuses the camera; `focus_distance` None closes the aperture to a pinhole.

    Args:
        blades: of the aperture; 0 is a round one.
    """
    import bpy  # pyright: ignore[reportMissingImports]

    scene = bpy.context.scene
    scene.camera.matrix_world = blender_matrix(cam_from_world)
    optics = scene.camera.data.dof
    optics.use_dof = focus_distance is not None
    if focus_distance is not None:
        optics.focus_distance, optics.aperture_fstop = focus_distance, f_number
        optics.aperture_blades = blades
    scene.cycles.seed = noise_seed


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
