"""A small ray caster for `make_rooms.py`: boxes and ellipsoids with procedural surfaces, a sun or a lamp with
shadows, and a true thin lens. World: metres, z up. Camera: OpenCV axes, pixel centres at .5.
"""

from dataclasses import dataclass, field

import numpy as np

TILE = 48  # px; objects are sorted into tiles, so that a ray meets few of them
FAR = 1e4
PROBES = 300  # points of a tile: what shades none of them shades nothing there


@dataclass(frozen=True)
class Surface:
    """A procedural surface.

    Args:
        kind: a function of `SURFACES` below.
        colors: (2, 3) linear albedo: of most of it, and of joints, frames or panes.
        size: metres of its unit across and up.
        rough: how strongly it is spotted.
        shift: metres by which it is moved, so that no two look alike.
    """

    kind: str
    colors: np.ndarray
    size: tuple[float, float] = (1.0, 1.0)
    rough: float = 0.1
    shift: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A box, an ellipsoid, or a room (a box seen from within).

    Args:
        shape: box, ball or room.
        center, half: (3,) metres.
        turn: (3, 3) from its own axes to the world's.
        surface: of all its sides, unless `sides` says otherwise.
        sides: surfaces by axis and sign, as (2, +1) for its top.
        casts: whether it throws shadows.
    """

    shape: str
    center: np.ndarray
    half: np.ndarray
    surface: Surface
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))
    sides: dict[tuple[int, int], Surface] = field(default_factory=dict)
    casts: bool = False


@dataclass(frozen=True)
class Light:
    """Where light comes from: `lamp` (3,) metres, or the direction `sun` (3,) to it; `sky` above streets."""

    lamp: np.ndarray | None = None
    sun: np.ndarray = field(default_factory=lambda: np.array((0.0, 0.0, 1.0)))
    ambient: float = 0.4
    sky: bool = False


@dataclass(frozen=True)
class Eye:
    """A camera: position (3,), turn (3, 3) from its axes to the world's, and its pixels."""

    position: np.ndarray
    turn: np.ndarray
    size: tuple[int, int]
    focal: float
    center: tuple[float, float]


def fractal(seed: int, side: int = 512, falloff: float = 1.2) -> np.ndarray:
    """Noise (side, side), mean 0, deviation 1, that repeats."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    waves = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency**falloff
    noise = np.fft.irfft2(waves, (side, side))
    return (noise / noise.std()).astype(np.float32)


CLOUDS, GRAIN = fractal(1, falloff=1.8), fractal(2, falloff=0.9)


def lookup(noise: np.ndarray, u: np.ndarray, v: np.ndarray, per_unit: float) -> np.ndarray:
    last = len(noise) - 1  # a power of 2, less 1
    row, column = (np.float32(per_unit) * v).astype(np.int32), (np.float32(per_unit) * u).astype(np.int32)
    return noise.ravel()[(row & last) * len(noise) + (column & last)]


def cells(u: np.ndarray, v: np.ndarray, shift_rows: float = 0.0) -> tuple[np.ndarray, ...]:
    """Place within a cell of size 1, and a number per cell in [0, 1)."""
    row = np.floor(v)
    moved = u + shift_rows * row
    column = np.floor(moved)
    return moved - column, v - row, np.modf(np.abs(np.sin(column * 12.9898 + row * 78.233) * 43758.5))[0]


def joints(s: Surface, u: np.ndarray, v: np.ndarray, shift: float, width: float, vary: float) -> np.ndarray:
    across, up, each = cells(u / s.size[0], v / s.size[1], shift)
    edge = (across * s.size[0] < width) | (up * s.size[1] < width)
    body = s.colors[0] * (1 + vary * (each[:, None] - 0.5))
    return np.where(edge[:, None], s.colors[1], body)


def facade(s: Surface, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    across, up, each = cells(u / s.size[0], v / s.size[1])
    out = np.broadcast_to(s.colors[0], (len(u), 3)).copy()
    frame = (np.abs(across - 0.5) < 0.27) & (np.abs(up - 0.55) < 0.3)
    pane = (np.abs(across - 0.5) < 0.235) & (np.abs(up - 0.55) < 0.265)
    bar = (np.abs(across - 0.5) < 0.015) | (np.abs(up - 0.68) < 0.012)
    out[frame] = s.colors[1]
    out[pane & ~bar] = (0.03, 0.04, 0.06) + 0.25 * (each[pane & ~bar, None] ** 3)
    out[np.abs(up - 0.02) < 0.02] *= 0.7
    return out


def print_picture(s: Surface, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    noise = lookup(CLOUDS, u + s.shift * 7, v, 160)[:, None]
    return np.clip(s.colors[0] + noise * (s.colors[1] - s.colors[0]), 0.02, 0.9)


SURFACES = {
    "plain": lambda s, u, v: np.broadcast_to(s.colors[0], (len(u), 3)),
    "bricks": lambda s, u, v: joints(s, u, v, 0.5, 0.012, 0.5),
    "tiles": lambda s, u, v: joints(s, u, v, 0.0, 0.006, 0.12),
    "planks": lambda s, u, v: joints(s, u, v, 0.37, 0.004, 0.4),
    "checks": lambda s, u, v: np.where(
        ((np.floor(u / s.size[0]) + np.floor(v / s.size[1])) % 2 > 0)[:, None], *s.colors
    ),
    "stripes": lambda s, u, v: np.where((np.modf(np.abs(u) / s.size[0])[0] > 0.5)[:, None], *s.colors),
    "facade": facade,
    "print": print_picture,
}


def albedo(s: Surface, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Linear colour (R, 3) at metres u across and v up."""
    spots = 1 + s.rough * (
        0.6 * lookup(GRAIN, u + s.shift, v, 190) + 0.6 * lookup(CLOUDS, u, v + s.shift, 60)
    )
    return np.clip(SURFACES[s.kind](s, u + s.shift, v) * spots[:, None], 0, 1)


def hit(solid: Solid, origins: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """How far along each ray (R,) it meets a solid, in lengths of `ways`; FAR where never."""
    into = (solid.turn / solid.half).astype(np.float32)
    o, d = (origins - solid.center.astype(np.float32)) @ into, ways @ into
    if solid.shape == "ball":
        a, b, c = (d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1
        root = b * b - a * c
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root > 0) & (t > 1e-3), t, FAR)
    d[np.abs(d) < 1e-9] = 1e-9
    inverse = 1 / d
    middle, reach = -o * inverse, np.abs(inverse)
    first, last = (middle - reach).T, (middle + reach).T
    enter = np.maximum(np.maximum(first[0], first[1]), first[2])
    leave = np.minimum(np.minimum(last[0], last[1]), last[2])
    if solid.shape == "room":
        return np.where(leave > 1e-3, leave, FAR)
    return np.where((enter < leave) & (enter > 1e-3), enter, FAR)


def face(solid: Solid, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points (R, 3) on a solid: normals in the world, axis and sign of the side, place (R, 3) on it."""
    local = (points - solid.center.astype(np.float32)) @ solid.turn.astype(np.float32)
    q = local / solid.half.astype(np.float32)
    if solid.shape == "ball":
        normal = q / solid.half
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return normal @ solid.turn.T, np.full((len(q), 2), (2, 1)), local
    axis = np.abs(q).argmax(1)
    sign = np.sign(np.take_along_axis(q, axis[:, None], 1)[:, 0]).astype(int)
    normal = np.eye(3)[axis] * (sign * (-1 if solid.shape == "room" else 1))[:, None]
    return normal @ solid.turn.T, np.stack([axis, sign], 1), local


def colors(solid: Solid, sides: np.ndarray, local: np.ndarray) -> np.ndarray:
    out = np.empty((len(local), 3), np.float32)
    keys = sides[:, 0] * 2 + (sides[:, 1] > 0)
    for key in np.unique(keys):
        axis, sign = int(key) // 2, 1 if key % 2 else -1
        where = keys == key
        across, up = ((1, 2), (0, 2), (0, 1))[axis]
        surface = solid.sides.get((axis, sign), solid.surface)
        corner = local[where] + solid.half  # patterns start at a corner
        out[where] = albedo(surface, corner[:, across], corner[:, up])
    return out


def shade(scene: list[Solid], light: Light, which: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Light (R, 3) that points of the solids `which` send to the camera."""
    base, normals = np.zeros((2, len(which), 3), np.float32)
    for index in np.unique(which):
        at = which == index
        normals[at], sides, local = face(scene[index], points[at])
        base[at] = colors(scene[index], sides, local)
    if light.lamp is not None:
        toward = light.lamp.astype(np.float32) - points
        distance = np.linalg.norm(toward, axis=1)
        direct = 4 / (3 + distance**2)
    else:
        toward = np.broadcast_to(light.sun.astype(np.float32), points.shape)
        distance, direct = np.float32(1), np.float32(1)
    cosine = np.clip((normals * toward).sum(1) / distance, 0, None)
    start, end = points + np.float32(2e-3) * normals, 1 if light.lamp is not None else FAR
    lit = np.flatnonzero(cosine > 0)
    few = lit[:: max(1, len(lit) // PROBES)]
    for solid in scene:
        if solid.casts and (hit(solid, start[few], toward[few]) < end).any():
            cosine[lit] *= np.where(
                hit(solid, start[lit], toward[lit]) < end, np.float32(0.15), np.float32(1)
            )
    sheen = light.ambient * (0.75 + 0.25 * normals[:, 2] + 0.1 * normals[:, 0])
    room = next((s for s in scene if s.shape == "room"), None)
    if room is not None:  # corners are darker
        gaps = np.sort(room.half - np.abs((points - room.center) @ room.turn), axis=1)[:, 1]
        sheen *= 1 - 0.35 * np.exp(-np.maximum(gaps, 0) / 0.35)
    return base * (sheen + direct * cosine)[:, None]


def heaven(ways: np.ndarray) -> np.ndarray:
    up = np.clip(ways[:, 2] / np.linalg.norm(ways, axis=1), 0.02, 1)
    clouds = lookup(CLOUDS, ways[:, 0] / (up + 0.2) + 50, ways[:, 1] / (up + 0.2) + 50, 40)
    blue = (0.9, 0.95, 1.0) - up[:, None] * (0.6, 0.45, 0.15)
    return blue + 0.12 * np.clip(clouds, 0, 2)[:, None]


def near_tiles(solid: Solid, eye: Eye, margin: float) -> tuple[float, float, float, float]:
    """The rectangle of pixels that a solid may reach: left, top, right, bottom."""
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T * solid.half
    seen = (corners @ solid.turn.T + solid.center - eye.position) @ eye.turn
    if solid.shape == "room" or (seen[:, 2] < 0.05).any():
        behind = solid.shape != "room" and (seen[:, 2] < 0.05).all()
        return (1, 1, 0, 0) if behind else (-np.inf, -np.inf, np.inf, np.inf)
    at = seen[:, :2] / seen[:, 2:] * eye.focal + eye.center
    return (*(at.min(0) - margin), *(at.max(0) + margin))


def spread(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Places (S, 2) within a pixel, one in each row and each column of an S x S grid."""
    return (np.stack([rng.permutation(samples) for _ in range(2)], 1) + 0.5) / samples


def cast(
    scene: list[Solid],
    light: Light,
    eye: Eye,
    rng: np.random.Generator,
    samples: int,
    aperture: float = 0.0,
    focus: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A photo in linear light (H, W, 3), and the depth (H, W) along the axis to what its pixels show.

    Args:
        samples: rays per pixel.
        aperture: diameter of the lens in metres; 0 is a pinhole.
        focus: depth in focus, metres.
    """
    width, height = eye.size
    picture, depth = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    margin = 2.0 + (aperture * eye.focal / min(focus, 0.5) if aperture else 0.0)
    reach = [near_tiles(solid, eye, margin) for solid in scene]
    spiral = (np.arange(samples) + 0.5) / samples
    turn = 2.39996 * np.arange(samples)  # the golden angle: even over the disk
    disk = np.stack([np.sqrt(spiral) * np.cos(turn), np.sqrt(spiral) * np.sin(turn), 0 * turn], 1)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            bottom, right = min(top + TILE, height), min(left + TILE, width)
            near = [
                i for i, (a, b, c, d) in enumerate(reach) if a < right and c > left and b < bottom and d > top
            ]
            y, x = np.mgrid[top:bottom, left:right].reshape(2, -1)
            y, x = np.repeat(y, samples), np.repeat(x, samples)
            pixels = np.stack([x, y], 1) + np.tile(spread(samples, rng), (len(x) // samples, 1))
            aim = np.concatenate([(pixels - eye.center) / eye.focal, np.ones((len(x), 1))], 1)
            lens = np.tile(disk * aperture / 2, (len(x) // samples, 1))
            ways = ((aim - lens / focus) @ eye.turn.T).astype(np.float32)  # length 1 is depth 1
            origins = (eye.position + lens @ eye.turn.T).astype(np.float32)
            best, which = np.full(len(x), FAR, np.float32), np.full(len(x), -1)
            for index in near:
                t = hit(scene[index], origins, ways)
                closer = t < best
                best[closer], which[closer] = t[closer], index
            light_seen = heaven(ways) if light.sky else np.zeros((len(x), 3), np.float32)
            struck = which >= 0
            points = origins[struck] + ways[struck] * best[struck, None]
            light_seen[struck] = shade(scene, light, which[struck], points)
            shape = (bottom - top, right - left, samples)
            picture[top:bottom, left:right] = light_seen.reshape(*shape, 3).mean(2)
            depth[top:bottom, left:right] = np.median(best.reshape(shape), 2)
    return picture, depth
