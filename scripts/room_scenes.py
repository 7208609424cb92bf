"""What stands in the rooms and streets of `make_rooms.py`: everything is a function of a generator."""

import math

import numpy as np
from room_caster import Light, Solid, Surface

Solids = list[Solid]


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3), radians: about z, then about the turned y and x."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return about_z @ about_y @ about_x


def color(rng: np.random.Generator, low: float = 0.1, high: float = 0.8, hue: float = 0.12) -> np.ndarray:
    return np.clip(rng.uniform(low, high) * (1 + hue * rng.normal(size=3)), 0.03, 0.85)


def surface(rng: np.random.Generator, kinds: str, rough: float | None = None) -> Surface:
    """One of several kinds, named in one string, at a size that suits it."""
    kind = str(rng.choice(kinds.split()))
    first = color(rng)
    second = np.clip(first * rng.choice([0.55, 0.7, 1.35]), 0.03, 0.85)
    size = {
        "bricks": (rng.uniform(0.2, 0.4), rng.uniform(0.07, 0.16)),
        "tiles": (rng.uniform(0.15, 0.6),) * 2,
        "planks": (rng.uniform(0.8, 2.0), rng.uniform(0.08, 0.2)),
        "checks": (rng.uniform(0.2, 0.5),) * 2,
        "stripes": (rng.uniform(0.06, 0.3), 1.0),
        "facade": (rng.uniform(1.6, 3.2), rng.uniform(2.8, 3.6)),
        "print": (1.0, 1.0),
    }.get(kind, (1.0, 1.0))
    rough = float(rng.uniform(0.02, 0.2)) if rough is None else rough
    return Surface(kind, np.stack([first, second]), size, rough, float(rng.uniform(0, 20)))


def box(low: tuple, high: tuple, skin: Surface, casts: bool = False) -> Solid:
    a, b = np.array(low, float), np.array(high, float)
    return Solid("box", (a + b) / 2, np.maximum((b - a) / 2, 1e-3), skin, casts=casts)


def moved(solids: Solids, yaw: float, to: tuple[float, float, float]) -> Solids:
    """A group of solids turned about the upright axis, then moved."""
    turn = turned(yaw)
    return [
        Solid(s.shape, turn @ s.center + np.array(to), s.half, s.surface, turn @ s.turn, s.sides, s.casts)
        for s in solids
    ]


def table(rng: np.random.Generator) -> Solids:
    w, d, h = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.5), rng.uniform(0.45, 0.78)
    wood = surface(rng, "plain planks")
    legs = [
        box((x - 0.03, y - 0.03, 0), (x + 0.03, y + 0.03, h), wood)
        for x in (-w + 0.06, w - 0.06)
        for y in (-d + 0.06, d - 0.06)
    ]
    top = [box((-w, -d, h), (w, d, h + 0.04), wood, True)]
    things = []
    for _ in range(rng.integers(0, 5)):
        x, y, s = rng.uniform(-w, w) * 0.7, rng.uniform(-d, d) * 0.7, rng.uniform(0.04, 0.12)
        if rng.random() < 0.5:
            things.append(Solid("ball", np.array([x, y, h + 0.04 + s]), np.full(3, s), surface(rng, "plain")))
        else:
            low, high = (-s, -s * 0.7, 0), (s, s * 0.7, s)
            things += moved(
                [box(low, high, surface(rng, "plain print"))], rng.uniform(0, 3), (x, y, h + 0.04)
            )
    return legs + top + things


def cupboard(rng: np.random.Generator) -> Solids:
    """Its back lies at y = 0, its doors at y < 0."""
    w, d, h = rng.uniform(0.4, 1.0), rng.uniform(0.35, 0.6), rng.uniform(0.7, 2.1)
    wood = surface(rng, "plain")
    parts = [box((-w, -d, 0), (w, 0, h), wood, True)]
    doors, rows = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    for i in range(doors):
        for j in range(rows):
            x, z = -w + 2 * w * i / doors, 0.06 + (h - 0.08) * j / rows
            low, high = (x + 0.01, -d - 0.02, z + 0.01), (x + 2 * w / doors - 0.01, -d, z + (h - 0.08) / rows)
            parts.append(box(low, high, wood))
    return parts


def shelf(rng: np.random.Generator) -> Solids:
    w, d, h, n = rng.uniform(0.4, 0.8), 0.3, rng.uniform(1.2, 2.1), int(rng.integers(3, 6))
    wood = surface(rng, "plain")
    parts = [box((-w, -d, 0), (-w + 0.03, 0, h), wood), box((w - 0.03, -d, 0), (w, 0, h), wood, True)]
    parts.append(box((-w, -0.02, 0), (w, 0, h), wood, True))
    for i in range(n + 1):
        z = (h - 0.03) * i / n
        parts.append(box((-w, -d, z), (w, 0, z + 0.03), wood))
        x = -w + 0.05
        while i < n and x < w - 0.15 and rng.random() < 0.93:
            thick, tall = rng.uniform(0.02, 0.06), rng.uniform(0.5, 0.85) * h / n
            book = box(
                (x, -d + rng.uniform(0.02, 0.1), z + 0.03),
                (x + thick, -0.03, z + 0.03 + tall),
                surface(rng, "plain"),
            )
            parts.append(book)
            x += thick + 0.003
            if len(parts) > 45:
                break
    return parts


def sofa(rng: np.random.Generator) -> Solids:
    w, cloth = rng.uniform(0.7, 1.1), surface(rng, "plain print stripes")
    parts = [((-w, -0.85, 0.12), (w, 0, 0.42)), ((-w, -0.25, 0.42), (w, 0, 0.8))]
    parts += [((-w - 0.15, -0.85, 0.1), (-w, 0, 0.6)), ((w, -0.85, 0.1), (w + 0.15, 0, 0.6))]
    pillow = Solid("ball", np.array([w * 0.5, -0.4, 0.6]), np.array([0.25, 0.12, 0.2]), surface(rng, "print"))
    return [box(a, b, cloth, True) for a, b in parts] + [pillow]


def plant(rng: np.random.Generator, size: float = 0.5, leaves: int = 22) -> Solids:
    green = Surface("plain", np.array([(0.05, 0.16, 0.04)] * 2) * rng.uniform(0.7, 1.5), rough=0.4)
    parts = [box((-0.03, -0.03, 0), (0.03, 0.03, size), surface(rng, "plain"))]
    for _ in range(leaves):
        way = rng.normal(size=3) * (0.35, 0.35, 0.3) * size
        half = rng.uniform(0.05, 0.17, 3) * size
        turn = turned(*rng.uniform(-3, 3, 3))
        parts.append(Solid("ball", np.add(way, (0, 0, size * 1.15)), half, green, turn))
    return parts


def picture_frame(rng: np.random.Generator) -> Solids:
    """On a wall at y = 0."""
    w, h, z = rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.45), rng.uniform(1.4, 1.7)
    frame = box((-w, -0.03, z - h), (w, 0, z + h), surface(rng, "plain"))
    return [
        frame,
        box((-w + 0.05, -0.035, z - h + 0.05), (w - 0.05, 0, z + h - 0.05), surface(rng, "print", 0.3)),
    ]


def door(rng: np.random.Generator) -> Solids:
    wood, w = surface(rng, "plain"), rng.uniform(0.4, 0.5)
    parts = [box((-w - 0.08, -0.03, 0), (w + 0.08, 0, 2.13), surface(rng, "plain"))]
    parts.append(box((-w, -0.04, 0), (w, 0, 2.05), wood))
    for z in (0.2, 1.1):
        parts.append(box((-w + 0.12, -0.05, z), (w - 0.12, 0, z + 0.75), wood))
    parts.append(Solid("ball", np.array([w - 0.07, -0.1, 1.02]), np.full(3, 0.035), surface(rng, "plain")))
    return parts


def window(rng: np.random.Generator, tall: float) -> Solids:
    w, low = rng.uniform(0.4, 1.0), rng.uniform(0.5, 1.0)
    high = min(tall - 0.2, low + rng.uniform(0.9, 1.6))
    frame = Surface("plain", np.array([(0.7, 0.7, 0.68)] * 2), rough=0.03)
    pane = Surface("print", np.array([(2.2, 2.3, 2.5), (1.6, 1.9, 1.7)]), rough=0.1)
    parts = [box((-w - 0.06, -0.04, low - 0.06), (w + 0.06, 0, high + 0.06), frame)]
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    for i in range(columns):
        for j in range(rows):
            x, z = -w + 2 * w * i / columns, low + (high - low) * j / rows
            top = (x + 2 * w / columns - 0.03, 0, z + (high - low) / rows - 0.03)
            parts.append(box((x + 0.03, -0.045, z + 0.03), top, pane))
    parts.append(box((-w - 0.1, -0.2, low - 0.1), (w + 0.1, 0, low - 0.06), frame))
    return parts


def crate(rng: np.random.Generator, largest: float = 0.35) -> Solids:
    half = rng.uniform(0.1, largest, 3)
    low, high = (-half[0], -half[1], 0), (half[0], half[1], 2 * half[2])
    return [box(low, high, surface(rng, "plain print planks"), True)]


def room(rng: np.random.Generator, bare: bool) -> tuple[Solids, Light, np.ndarray]:
    """A furnished room: its solids, its lamp, and its half size; the floor is z = 0, the middle x = y = 0."""
    half = np.array([rng.uniform(2.2, 4.2), rng.uniform(1.8, 3.5), rng.uniform(1.25, 1.6)])
    walls = surface(rng, "plain" if bare else "plain plain plain tiles bricks stripes", 0.04)
    floor = surface(rng, "print" if bare else "planks tiles checks print planks")
    ceiling = Surface("plain", np.full((2, 3), rng.uniform(0.6, 0.8)), rough=0.02)
    sides = {(2, -1): floor, (2, 1): ceiling}
    shell = Solid("room", np.array([0, 0, half[2]]), half, walls, sides=sides)
    lamp = np.array([*rng.uniform(-0.6, 0.6, 2) * half[:2], half[2] * 1.85])
    light = Light(lamp=lamp, ambient=rng.uniform(0.3, 0.6))
    solids = [shell]

    def at_wall(parts: Solids, side: int, along: float) -> Solids:
        reach, width = (half[1], half[0]) if side % 2 == 0 else (half[0], half[1])
        turn = (0, -math.pi / 2, math.pi, math.pi / 2)[side]
        placed = moved(parts, 0, (along * (width - 1.0), reach, 0))
        return moved(placed, turn, (0, 0, 0))

    if bare:
        for _ in range(rng.integers(3, 7)):
            x, y, r = *rng.uniform(-0.7, 0.7, 2) * half[:2], rng.uniform(0.15, 0.5)
            solids.append(
                Solid("ball", np.array([x, y, r]), np.full(3, r), surface(rng, "plain print"), casts=True)
            )
        return solids + moved(plant(rng, 0.8), 0, (*rng.uniform(-0.5, 0.5, 2) * half[:2], 0)), light, half
    for side in range(4):
        spots = rng.permutation([-0.9, 0.0, 0.9])[: rng.integers(1, 4)]
        for spot in spots:
            makers = [cupboard, shelf, sofa, picture_frame, door, lambda r: window(r, 2 * half[2])]
            solids += at_wall(
                makers[rng.choice(6, p=(0.2, 0.15, 0.15, 0.2, 0.13, 0.17))](rng), side, float(spot)
            )
    board = [((-half[0], s * half[1] - 0.02, 0), (half[0], s * half[1] + 0.02, 0.09)) for s in (-1, 1)]
    board += [((s * half[0] - 0.02, -half[1], 0), (s * half[0] + 0.02, half[1], 0.09)) for s in (-1, 1)]
    white = surface(rng, "plain")
    solids += [box(a, b, white) for a, b in board]
    if rng.random() < 0.8:
        yaw = rng.choice([0.0, math.pi / 2, rng.uniform(0, 3)])
        solids += moved(table(rng), yaw, (*rng.uniform(-0.4, 0.4, 2) * half[:2], 0))
    if rng.random() < 0.6:
        low, high = (-rng.uniform(0.6, 1.3), -rng.uniform(0.4, 0.9), 0), (rng.uniform(0.6, 1.3), 0.7, 0.012)
        rug = [box(low, high, surface(rng, "print stripes checks"))]
        solids += moved(rug, rng.choice([0.0, rng.uniform(0, 3)]), (*rng.uniform(-0.3, 0.3, 2) * half[:2], 0))
    for _ in range(rng.integers(0, 4)):
        solids += moved(crate(rng), rng.uniform(0, 3), (*rng.uniform(-0.7, 0.7, 2) * half[:2], 0))
    if rng.random() < 0.6:
        solids += moved(plant(rng, rng.uniform(0.4, 0.9)), 0, (*rng.uniform(-0.8, 0.8, 2) * half[:2], 0))
    shade = Surface("plain", np.full((2, 3), 0.8), rough=0.02)
    solids.append(Solid("ball", lamp - (0, 0, 0.1), np.array([0.2, 0.2, 0.12]), shade))
    return solids, light, half


def building(rng: np.random.Generator, wide: float, deep: float, tall: float) -> Solids:
    """Its front is y = 0, from x = 0 to `wide`, and it reaches to y = `deep`."""
    walls = surface(rng, "facade")
    plain = surface(rng, "plain bricks")
    roof = {(2, 1): surface(rng, "plain")}
    body = Solid(
        "box",
        np.array([wide / 2, deep / 2, tall / 2]),
        np.array([wide, deep, tall]) / 2,
        walls,
        sides=roof,
        casts=True,
    )
    parts = [body, box((-0.0, -0.25, tall - 0.4), (wide, 0, tall), plain)]
    if rng.random() < 0.6:
        parts.append(box((0, -0.1, 0), (wide, 0, rng.uniform(0.5, 1.2)), plain))
    if rng.random() < 0.6:
        parts.append(box((0, -0.12, walls.size[1] - 0.15), (wide, 0, walls.size[1] + 0.15), plain))
    door_at = rng.uniform(0.3, 0.7) * wide
    parts.append(box((door_at - 0.6, -0.05, 0), (door_at + 0.6, 0, 2.3), surface(rng, "plain planks")))
    for _ in range(rng.integers(0, 4)):
        x, floor = rng.uniform(0.1, 0.8) * wide, int(rng.integers(1, max(2, int(tall / walls.size[1]))))
        z = floor * walls.size[1]
        parts.append(box((x, -1.0, z), (x + 2, 0, z + 0.15), plain))
        parts.append(box((x, -1.0, z + 0.15), (x + 2, -0.95, z + 1.0), plain))
    return parts


def car(rng: np.random.Generator) -> Solids:
    paint = Surface("plain", np.stack([color(rng, 0.05, 0.6, 0.5)] * 2), rough=0.02)
    glass = Surface("plain", np.full((2, 3), 0.05), rough=0.02)
    dark = Surface("plain", np.full((2, 3), 0.03), rough=0.1)
    parts = [
        box((-2, -0.85, 0.3), (2, 0.85, 0.85), paint, True),
        box((-1.1, -0.75, 0.85), (0.9, 0.75, 1.4), glass),
    ]
    parts.append(box((-1.0, -0.7, 1.4), (0.8, 0.7, 1.44), paint))
    for x in (-1.25, 1.25):
        for y in (-0.85, 0.85):
            parts.append(Solid("ball", np.array([x, y, 0.32]), np.array([0.32, 0.1, 0.32]), dark))
    return parts


def street(rng: np.random.Generator, bare: bool) -> tuple[Solids, Light, float]:
    """Along x, from -30 to 90 m: its solids, the sun, and half its width. `bare`: a meadow with trees."""
    half = rng.uniform(4, 9)
    sun = np.array([rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.6, 1.5)])
    light = Light(sun=sun / np.linalg.norm(sun), ambient=rng.uniform(0.35, 0.55), sky=True)
    ground = surface(rng, "print", 0.25) if bare else Surface("plain", np.full((2, 3), 0.15), rough=0.2)
    solids = [box((-200, -200, -1), (200, 200, 0), ground)]
    trees = 14 if bare else int(rng.integers(0, 4))
    for _ in range(trees):
        at = (rng.uniform(2, 30), rng.uniform(-1, 1) * (12 if bare else half - 1), 0)
        solids += moved(plant(rng, rng.uniform(2.5, 4.5), 18), 0, at)
    if bare:
        return solids, light, half
    paving = surface(rng, "tiles bricks plain")
    turned_houses = rng.random() < 0.4  # their horizontal directions are not the street's
    for side in (-1, 1):
        x = -12.0
        inner, outer = sorted((side * (half - 2), side * (half + 3)))
        solids.append(box((-30, inner, 0), (90, outer, 0.14), paving))
        while x < 60:
            wide, tall, deep = rng.uniform(7, 16), rng.uniform(5, 18), rng.uniform(8, 12)
            parts = building(rng, wide, deep, tall)
            yaw = rng.uniform(-0.5, 0.5) if turned_houses and rng.random() < 0.4 and x > 5 else 0.0
            setback = half + rng.choice([0.0, 0.0, 0.6]) + (wide * abs(math.sin(yaw)) if yaw else 0)
            if side > 0:
                solids += moved(parts, yaw, (x, setback, 0))
            else:
                solids += moved(parts, math.pi + yaw, (x + wide, -setback, 0))
            x += wide + rng.choice([0.0, 0.0, rng.uniform(2, 5)])
    for _ in range(rng.integers(0, 5)):
        side = rng.choice([-1, 1])
        solids += moved(car(rng), rng.normal() * 0.04, (rng.uniform(4, 30), side * (half - 3), 0))
    for x in range(4, 40, int(rng.integers(9, 14))):
        solids.append(
            box((x, half - 1.6, 0), (x + 0.12, half - 1.48, rng.uniform(4, 6)), surface(rng, "plain"))
        )
    for _ in range(rng.integers(0, 3)):
        solids += moved(
            crate(rng, 0.6), rng.uniform(0, 3), (rng.uniform(4, 15), rng.uniform(-1, 1) * half * 0.7, 0.1)
        )
    return solids, light, half
