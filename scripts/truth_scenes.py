"""The three scenes of `make_truth_scene.py`: what stands in them, how they are lit, where cameras go.

- tabletop: matt things on a table, close: much occlusion, every depth covered. 50 mm lens.
- corridor: 12 m deep, large flat walls seen at a slant: depths from 1.4 m on. 28 mm lens.
- glass: glass, chrome, a mirror and a varnished table: what is seen *through* or *in* them lies at depths
  where nothing is, and changes with the view. 50 mm lens.

Lengths are metres, z points up, the cameras look along +y. All that is random comes from the generator given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import demo_textures as paint
import numpy as np
from blender_parts import (
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
    rectangle,
    sheet,
    smoothed,
    standing_book,
    tin,
    toy_block,
)


@dataclass(frozen=True)
class TruthScene:
    """One kind of scene.

    Args:
        build: makes everything but the camera.
        pose: (4, 4) OpenCV pose for a place (across, up) in [-0.5, 0.5]^2 and a generator.
        focal_mm: focal length, on a sensor 36 mm wide.
        near, far: what photos are focused on, metres along the optical axis.
        exposure: stops that bring the brightest matt white to about 0.8 of what a photo can show.
        bounces: how often light may bounce.
        edit_spread: how many times wider photos are spread to the sides, if an object is moved after them.
    """

    build: Callable[[np.random.Generator], None]
    pose: Callable[[float, float, np.random.Generator], np.ndarray]
    focal_mm: float
    near: float
    far: float
    exposure: float
    bounces: int
    edit_spread: float = 1.0


# ----------------------------------------------------------------------------------------------- tabletop


def build_tabletop(rng: np.random.Generator) -> None:
    """Things on a jittered grid, low ones in front and tall ones behind."""
    table = material("table", paint.planks(rng), 0.5)
    sheet("table", lambda u, v: ((u - 0.5) * 2.4, v * 2.2 - 1.2, 0 * u), 1, 1, table)
    place(rectangle("wall", 3.0, 1.5, material("wall", paint.bricks(rng), 0.9)), (0, 0.95, -0.3))
    for k, x in enumerate((-0.42, 0.1, 0.55)):
        place(
            rectangle(f"poster {k}", 0.3, 0.41, material(f"poster {k}", paint.poster(rng))), (x, 0.94, 0.06)
        )
    tools: list[Callable] = [some_pebbles, some_block, some_apple, some_tin, some_books, some_jar]
    for row, y in enumerate(np.linspace(-0.36, 0.62, 7)):
        columns = 4 + row // 2
        for column in range(columns):
            x = (column - (columns - 1) / 2) * 0.19 + rng.uniform(-0.04, 0.04)
            low = tools[:3] if row < 2 else tools
            low[int(rng.integers(len(low)))](rng, 10 * row + column, x, y + rng.uniform(-0.03, 0.03))
    plant(rng, (-0.5, 0.78, 0))
    plant(rng, (0.42, 0.75, 0))
    mug(rng, (0.02, 0.75, 0))
    lamps = [
        ("window", (1.4, -0.8, 1.6), (0.0, 0.1, 0.0), 50, 1.0, (1.0, 0.95, 0.88)),
        ("lamp", (-1.3, 0.0, 1.0), (0.0, 0.5, 0.1), 12, 0.6, (1.0, 0.84, 0.68)),
    ]
    light_scene((0.86, 0.92, 1.0), 0.55, lamps)


def some_pebbles(rng, number: int, x: float, y: float) -> None:
    for k in range(3):
        spot = (x + rng.uniform(-0.04, 0.04), y + rng.uniform(-0.03, 0.03))
        pebble(rng, f"pebble {number} {k}", spot, rng.uniform(0.014, 0.028))


def some_block(rng, number: int, x: float, y: float) -> None:
    letter = "COGS"[number % 4]
    place(toy_block(rng, letter, number), (x, y, 0), rng.uniform(-30, 30))


def some_apple(rng, number: int, x: float, y: float) -> None:
    apple(rng, number, x, y, 0, rng.uniform(0, 360), (0, 0))


def some_tin(rng, number: int, x: float, y: float) -> None:
    place(tin(rng, ("PEAS", "TEA", "PLUM")[number % 3], *two_colors(rng)), (x, y, 0), rng.uniform(60, 120))


def some_jar(rng, number: int, x: float, y: float) -> None:
    place(jar(rng, ("SALT", "DILL", "MINT")[number % 3], *two_colors(rng)), (x, y, 0), rng.uniform(60, 120))


def some_books(rng, number: int, x: float, y: float) -> None:
    height = 0.0
    for title in ("DEPTH", "OF FIELD"):
        size = (rng.uniform(0.12, 0.17), rng.uniform(0.09, 0.12), rng.uniform(0.018, 0.034))
        book = lying_book(rng, f"{title}", *two_colors(rng), size)
        place(book, (x, y, height), rng.uniform(-20, 20))
        height += size[2]


def two_colors(rng: np.random.Generator) -> tuple[paint.Color, paint.Color]:
    """A dark ground and a light ink."""
    ground, ink = rng.integers(30, 170, 3), rng.integers(180, 250, 3)
    return (int(ground[0]), int(ground[1]), int(ground[2])), (int(ink[0]), int(ink[1]), int(ink[2]))


def tabletop_pose(across: float, up: float, rng: np.random.Generator) -> np.ndarray:
    return arc_pose(np.array([0.0, 0.08, 0.07]), 1.0, 36 * across, 21 + 12 * up, rng)


def arc_pose(
    target: np.ndarray, distance: float, azimuth: float, elevation: float, rng: np.random.Generator
) -> np.ndarray:
    """On a sphere around `target` (about), looking at it; angles in degrees."""
    azimuth, elevation = math.radians(azimuth), math.radians(elevation)
    level = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    direction = math.cos(elevation) * level + math.sin(elevation) * np.array([0.0, 0.0, 1.0])
    position = target + distance * rng.uniform(0.96, 1.05) * direction
    return look_at(position, target + rng.normal(0, 0.012, 3), rng.normal(0, math.radians(1.5)))


# ----------------------------------------------------------------------------------------------- corridor


def build_corridor(rng: np.random.Generator) -> None:
    """Brick walls 2.6 m apart, 14 m long, hung with posters; letter crates, drums and panels on the floor."""
    bricks = [material(f"bricks {k}", paint.bricks(rng), 0.9) for k in range(2)]
    floor = [material(f"floor {k}", paint.planks(rng, 2048), 0.5) for k in range(2)]
    plaster = material("plaster", paint.mottled(rng, 800, 800, (206, 200, 190), 0.5), 0.9)
    for k in range(5):
        y = 2.6 * k - 0.4
        sheet(f"floor {k}", lambda u, v, y=y: ((u - 0.5) * 2.6, y + 2.6 * v, 0 * u), 1, 1, floor[k % 2])
        sheet(f"ceiling {k}", lambda u, v, y=y: ((0.5 - u) * 2.6, y + 2.6 * v, 2.6 + 0 * u), 1, 1, plaster)
    for k in range(3):
        for side in (-1, 1):
            panel = rectangle(f"wall {k} {side}", 5.2, 2.6, bricks[(k + side) % 2])
            place(panel, (1.3 * side, 5.2 * k + 1.0, 0), -90 * side)
    place(rectangle("end", 2.6, 2.6, bricks[0]), (0, 12.6, 0))
    place(rectangle("print", 1.3, 1.79, material("print", paint.poster(rng))), (0.1, 12.58, 0.5))
    for k in range(10):
        side, y = (-1, 1)[k % 2], 1.6 + 1.05 * k
        if k % 3 == 2:
            land, sky = two_colors(rng)
            card = paint.postcard(rng, ("NORTH", "SOUTH", "WEST")[k // 3], sky, land)
            picture = rectangle(f"card {k}", 0.9, 0.6, material(f"card {k}", card))
        else:
            picture = rectangle(f"poster {k}", 0.62, 0.85, material(f"poster {k}", paint.poster(rng)))
        place(picture, (1.285 * side, y, rng.uniform(1.1, 1.35)), -90 * side)
    for k, y in enumerate((1.75, 2.6, 3.5, 4.6, 5.8, 7.2, 9.0, 10.8)):
        side = (-1, 1)[k % 2]
        x = side * rng.uniform(0.5, 0.95)
        if k % 3 == 1:
            thing = tin(rng, ("OIL", "PAINT", "RESIN")[k // 3], *two_colors(rng))
            place(thing, (x, y, 0), rng.uniform(60, 120)).scale = (7, 7, 8)
        else:
            height = 0.0
            for level in range(2 if k % 2 else 1):
                crate = toy_block(rng, "DEPTHSXZ"[k], 3 * k + level)
                size = 8.5 - 2 * level
                place(crate, (x, y, height), rng.uniform(-25, 25)).scale = (size, size, size)
                height += 0.056 * size
        panel = standing_book(rng, "EXIT", *two_colors(rng), (0.15, 0.028, 0.22))
        place(panel, (-side * 1.12, y + 0.3, 0), 8 * side, (0, 6 * side)).scale = (4, 4, 5)
    lamps = [
        (f"lamp {k}", (0.0, 0.6 + 2.9 * k, 2.55), (0.0, 0.7 + 2.9 * k, 0.0), 75, 0.9, (1.0, 0.93, 0.84))
        for k in range(5)
    ]
    light_scene((0.86, 0.92, 1.0), 0.25, lamps)


def corridor_pose(across: float, up: float, rng: np.random.Generator) -> np.ndarray:
    position = np.array([1.1 * across, rng.uniform(-0.35, 0.25), 1.35 + 0.7 * up])
    target = np.array([0.35 * across, 6.0, 1.1]) + rng.normal(0, 0.12, 3)
    return look_at(position, target, rng.normal(0, math.radians(1.5)))


# -------------------------------------------------------------------------------------------------- glass


def build_glass(rng: np.random.Generator) -> None:
    """Glass and chrome in front of, and mirrored in, what has texture."""
    table = material("table", paint.planks(rng), 0.12)
    sheet("table", lambda u, v: ((u - 0.5) * 2.4, v * 2.2 - 1.2, 0 * u), 1, 1, table)
    place(rectangle("wall", 3.0, 1.5, material("wall", paint.bricks(rng), 0.9)), (0, 0.8, -0.3))
    place(rectangle("poster", 0.3, 0.41, material("poster", paint.poster(rng))), (0.3, 0.79, 0.05))
    cloth = material("cloth", paint.tartan(rng), 0.95)

    def drape(u, v):
        x, y = (u - 0.5) * 0.5, (v - 0.5) * 0.4
        return x, y, 0.006 + 0.003 * np.sin(21 * x + 8 * y) + 0.002 * np.sin(29 * y - 12 * x)

    place(sheet("cloth", drape, 60, 60, cloth), (-0.1, -0.18, 0), -12)
    clear, green = glass("clear", (1.0, 1.0, 1.0)), glass("green", (0.62, 0.92, 0.74))
    chrome, brass = metal("chrome", (0.9, 0.9, 0.92), 0.03), metal("brass", (0.9, 0.68, 0.32), 0.16)
    place(ball("crystal", 0.06, clear), (-0.02, -0.2, 0.068))
    place(ball("marble", 0.026, green), (0.12, -0.33, 0.027))
    place(ball("bead", 0.02, clear), (-0.15, -0.36, 0.028))
    place(ball("chrome ball", 0.055, chrome), (0.21, -0.1, 0.055))
    place(ball("brass ball", 0.03, brass), (-0.22, -0.25, 0.038))
    place(lathe("goblet", goblet(), clear), (-0.21, 0.02, 0.006))
    place(lathe("vase", smoothed(vase()), brass), (0.06, 0.16, 0))
    place(lathe("bottle", bottle(), green), (0.33, 0.16, 0))
    frame = material("frame", paint.wood(rng, 200, 200, (60, 40, 24), (120, 84, 50)))
    tilt = (-8, 0)
    place(box("mirror frame", (0.34, 0.02, 0.3), [frame] * 6), (-0.23, 0.45, 0), 24, tilt)
    place(
        rectangle("mirror", 0.3, 0.26, metal("mirror", (0.96, 0.96, 0.96), 0.0)),
        (-0.225, 0.438, 0.02),
        24,
        tilt,
    )
    for k, (x, y, turn) in enumerate(
        [(0.02, -0.03, 14), (0.2, 0.03, -20), (-0.08, 0.27, 8), (0.12, 0.34, -8)]
    ):
        place(toy_block(rng, "LENS"[k], k), (x, y, 0), turn)
    for k, x in enumerate((0.36, 0.41, 0.46)):
        book = standing_book(rng, ("SNELL", "FERMAT", "ABBE")[k], *two_colors(rng), (0.15, 0.035, 0.22))
        place(book, (x, 0.5, 0))
    place(tin(rng, "SALT", *two_colors(rng)), (-0.38, 0.22, 0), 100)
    pebble(rng, "stone", (0.02, -0.36), 0.022)
    pebble(rng, "stone 2", (0.25, -0.29), 0.026)
    plant(rng, (0.02, 0.6, 0))
    lamps = [
        ("window", (-1.3, -0.7, 1.5), (0.0, 0.1, 0.0), 44, 0.9, (1.0, 0.93, 0.84)),
        ("lamp", (1.4, -0.2, 0.9), (0.0, 0.4, 0.1), 10, 0.6, (1.0, 0.82, 0.64)),
    ]
    light_scene((0.86, 0.92, 1.0), 0.6, lamps)


def glass_pose(across: float, up: float, rng: np.random.Generator) -> np.ndarray:
    return arc_pose(np.array([0.0, 0.02, 0.08]), 0.95, 36 * across, 19 + 12 * up, rng)


def glass(name: str, color: tuple[float, float, float]):
    """Clear or tinted glass; lamps shine through it, so that its shadow is not black."""
    import bpy  # pyright: ignore[reportMissingImports]

    result = bpy.data.materials.new(name)
    result.use_nodes = True
    nodes, links = result.node_tree.nodes, result.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1)
    shader.inputs["Roughness"].default_value = 0.0
    shader.inputs["IOR"].default_value = 1.48
    shader.inputs["Transmission Weight"].default_value = 1.0
    clear, light, mix = (
        nodes.new(f"ShaderNode{kind}") for kind in ("BsdfTransparent", "LightPath", "MixShader")
    )
    clear.inputs["Color"].default_value = (*(0.9 * c for c in color), 1)
    links.new(light.outputs["Is Shadow Ray"], mix.inputs["Fac"])
    links.new(shader.outputs["BSDF"], mix.inputs[1])
    links.new(clear.outputs["BSDF"], mix.inputs[2])
    links.new(mix.outputs["Shader"], nodes["Material Output"].inputs["Surface"])
    return result


def metal(name: str, color: tuple[float, float, float], roughness: float):
    """Polished (roughness 0) or brushed metal."""
    import bpy  # pyright: ignore[reportMissingImports]

    result = bpy.data.materials.new(name)
    result.use_nodes = True
    inputs = result.node_tree.nodes["Principled BSDF"].inputs
    inputs["Base Color"].default_value, inputs["Metallic"].default_value = (*color, 1), 1.0
    inputs["Roughness"].default_value = roughness
    return result


def ball(name: str, radius: float, surface):
    def shape(u, v):
        theta, phi = math.pi * (1 - v), 2 * math.pi * u
        return (
            radius * np.sin(theta) * np.cos(phi),
            radius * np.sin(theta) * np.sin(phi),
            radius * np.cos(theta),
        )

    return sheet(name, shape, 48, 96, surface)


def goblet() -> list[tuple[float, float]]:
    """Foot, stem and a bowl with a wall 2 mm thick."""
    outer = [(0.0, 0.0), (0.034, 0.0), (0.034, 0.003), (0.006, 0.008), (0.004, 0.06), (0.02, 0.075)]
    bowl = [(0.036, 0.1), (0.039, 0.13), (0.036, 0.155)]
    inner = [(0.034, 0.155), (0.037, 0.13), (0.034, 0.102), (0.018, 0.079), (0.0, 0.074)]
    return outer + bowl + inner


def vase() -> list[tuple[float, float]]:
    return [
        (0.0, 0.0), (0.034, 0.0), (0.052, 0.04), (0.048, 0.09), (0.022, 0.13), (0.026, 0.16), (0.022, 0.16),
        (0.018, 0.13), (0.0, 0.12),
    ]  # fmt: skip


def bottle() -> list[tuple[float, float]]:
    outer = [(0.0, 0.0), (0.037, 0.0), (0.037, 0.13), (0.014, 0.175), (0.014, 0.22)]
    inner = [(0.011, 0.22), (0.011, 0.174), (0.034, 0.129), (0.034, 0.004), (0.0, 0.004)]
    return outer + inner


SCENES = {
    "tabletop": TruthScene(build_tabletop, tabletop_pose, 50.0, 0.62, 1.85, 0.4, 2, 2.4),
    "corridor": TruthScene(build_corridor, corridor_pose, 28.0, 1.5, 11.0, -0.5, 3, 1.6),
    "glass": TruthScene(build_glass, glass_pose, 50.0, 0.6, 1.7, 0.4, 8),
}
