"""Pictures painted with numpy and Pillow for the objects of the demo scene (`make_demo_scene.py`).

Every function returns an sRGB picture (H, W, 3) uint8 and takes its randomness from the generator it is
given. Colours are (r, g, b) in 0..255. Text uses the font that Pillow carries, so nothing depends on the
machine.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

INK: Color = (38, 34, 40)
PAPER: Color = (240, 230, 208)


def noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[float, float], octaves: int = 5
) -> np.ndarray:
    """Fractal noise (H, W) in [0, 1]; `cells` are the bumps down and across at the coarsest octave."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grid = [max(2, min(round(c * 2**octave), n)) for c, n in zip(cells, (height, width), strict=True)]
        layer = Image.fromarray(rng.random(grid, np.float32))
        total += 0.55**octave * np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    low, high = np.percentile(total, (0.5, 99.5))
    return np.clip((total - low) / (high - low), 0, 1)


def ramp(values: np.ndarray, *colors: Color) -> np.ndarray:
    """Colours (..., 3) float for values in [0, 1], interpolated between evenly spaced `colors`."""
    stops = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(values, stops, [c[k] for c in colors]) for k in range(3)], -1)


def picture(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def mottled(
    rng: np.random.Generator, height: int, width: int, color: Color, strength: float = 0.25
) -> np.ndarray:
    """One colour with the grain of paper or cloth, so that no surface is blank."""
    fine = noise(rng, height, width, (height / 6, width / 6), 2)
    coarse = noise(rng, height, width, (4, 4))
    return picture(np.array(color) * (1 + strength * (0.5 * fine + 0.5 * coarse - 0.5))[..., None])


def write(
    draw: ImageDraw.ImageDraw, center: tuple[float, float], text: str, size: float, color: Color
) -> None:
    """Bold text around `center` (px)."""
    font = ImageFont.load_default(size)
    bold = max(1, round(size / 22))
    draw.text(center, text, color, font, anchor="mm", stroke_width=bold, stroke_fill=color)


def small_print(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[float, ...], line: float, color: Color
):
    """Lines of word-like bars filling box = (left, top, right, bottom), all in px."""
    left, top, right, bottom = box
    y = top
    while y + 0.6 * line < bottom:
        x = left
        while x < right:
            word = line * rng.uniform(0.5, 2.6)
            draw.rectangle((x, y, min(x + word, right), y + 0.5 * line), color)
            x += word + 0.45 * line
        y += line


def wood(rng: np.random.Generator, height: int, width: int, dark: Color, light: Color) -> np.ndarray:
    """One board, its grain running across the picture."""
    bend = noise(rng, height, width, (3, 2), 3)
    rings = 0.5 + 0.5 * np.sin(9 * np.pi * (np.linspace(0, 1, height)[:, None] + 0.9 * bend))
    fibre = noise(rng, height, width, (height / 8, width / 160), 3)
    pores = noise(rng, height, width, (height / 3, width / 40), 2)
    return picture(ramp(0.45 * rings + 0.55 * fibre, dark, light) * (1 - 0.35 * (pores > 0.72))[..., None])


def planks(rng: np.random.Generator, size: int = 3072, count: int = 15) -> np.ndarray:
    """A table top of boards with dark joints, each board another piece of wood."""
    rows = []
    height = size // count
    for _ in range(count):
        shade = rng.uniform(0.75, 1.1)
        dark = (int(84 * shade), int(50 * shade), int(28 * shade))
        row = wood(rng, height, size, dark, (int(196 * shade), int(140 * shade), int(88 * shade)))
        row[:5] = row[-5:] = (30, 20, 14)
        joint = rng.integers(0, size)
        row[:, joint : joint + 8] = (30, 20, 14)
        rows.append(row)
    return np.concatenate(rows)


def tartan(rng: np.random.Generator, size: int = 1400) -> np.ndarray:
    """A checked woollen cloth."""
    red, blue, cream, green = (168, 32, 38), (24, 44, 84), (232, 214, 168), (24, 70, 58)
    sett = [(120, red), (26, blue), (14, cream), (60, green), (14, cream), (26, blue)]
    threads = np.concatenate([np.tile(color, (width, 1)) for width, color in sett])
    threads = np.tile(threads, (size // len(threads) + 1, 1))[:size].astype(np.float32)
    index = np.arange(size)
    over = ((index[:, None] + index[None, :]) // 4) % 2 == 0
    weave = np.where(over[..., None], threads[None], threads[:, None])
    return picture(weave * (0.8 + 0.4 * noise(rng, size, size, (200, 200), 3))[..., None])


def bricks(rng: np.random.Generator, height: int = 1600, width: int = 3200) -> np.ndarray:
    """An old wall, no two bricks alike; 16 courses of 16 bricks."""
    rows, columns = 16, 16
    y, x = np.mgrid[:height, :width] / np.array([height / rows, width / columns])[:, None, None]
    x = x + 0.02 * noise(rng, height, width, (40, 80), 3) + 0.5 * (y.astype(int) % 2)
    y = y + 0.08 * (noise(rng, height, width, (40, 80), 3) - 0.5)
    row, column = np.clip(y.astype(int), 0, rows - 1), x.astype(int)
    tone = rng.random((rows, columns + 2))[row, column]
    stain = noise(rng, height, width, (80, 160), 4)
    color = ramp(0.6 * tone + 0.4 * stain, (92, 52, 44), (150, 82, 62), (188, 120, 92), (206, 164, 132))
    mortar = (y % 1 < 0.1) | (x % 1 < 0.05)
    color[mortar] = ramp(stain[mortar], (150, 142, 130), (206, 198, 184))
    return picture(color)


def cover(
    rng: np.random.Generator, title: str, ground: Color, accent: Color, height: int = 760
) -> np.ndarray:
    """The front of a book: a frame, circles, a title and small print."""
    width = round(height * 0.7)
    page = Image.fromarray(mottled(rng, height, width, ground, 0.4))
    draw = ImageDraw.Draw(page)
    for inset in (22, 34):
        draw.rectangle((inset, inset, width - inset, height - inset), outline=accent, width=4)
    for _ in range(26):
        x, y, r = rng.uniform(0.2, 0.8) * width, rng.uniform(0.42, 0.72) * height, rng.uniform(10, 90)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=accent, width=int(rng.integers(3, 9)))
    for line, word in enumerate(title.split()):
        write(draw, (width / 2, 95 + 76 * line), word, 66, accent)
    small_print(draw, rng, (90, 0.84 * height, width - 90, 0.93 * height), 16, accent)
    return np.asarray(page)


def spine(
    rng: np.random.Generator, title: str, ground: Color, accent: Color, width: int = 1000
) -> np.ndarray:
    """The back of a book, its title running across the picture."""
    height = 150
    page = Image.fromarray(mottled(rng, height, width, ground, 0.4))
    draw = ImageDraw.Draw(page)
    for x in (40, 70, width - 70, width - 40):
        draw.rectangle((x, 0, x + 10, height), accent)
    write(draw, (width * 0.44, height / 2), title, 62, accent)
    small_print(draw, rng, (width * 0.8, 45, width * 0.91, height - 40), 18, accent)
    return np.asarray(page)


def page_edges(rng: np.random.Generator, height: int = 200, width: int = 600) -> np.ndarray:
    """The cut side of a book block."""
    lines = noise(rng, height, width, (height / 4, 3), 2)
    return picture(ramp(lines, (150, 128, 96), (226, 212, 182), (244, 236, 216)))


def letter_block(rng: np.random.Generator, letter: str, color: Color, size: int = 420) -> np.ndarray:
    """The side of a wooden toy block."""
    face = Image.fromarray(wood(rng, size, size, (192, 140, 84), (240, 204, 150)))
    draw = ImageDraw.Draw(face)
    draw.rectangle((18, 18, size - 18, size - 18), outline=color, width=26)
    for corner in range(4):
        x, y = (70 if corner % 2 else size - 70), (70 if corner < 2 else size - 70)
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), color)
    write(draw, (size / 2, size / 2), letter, 0.74 * size, color)
    return np.asarray(face)


def postcard(rng: np.random.Generator, title: str, sky: Color, land: Color, width: int = 900) -> np.ndarray:
    """A printed card: hills under a sky, a title, a line of small print."""
    height = round(width * 0.66)
    canvas = ramp(np.repeat(np.linspace(0, 1, height)[:, None], width, 1), sky, (250, 226, 190))
    for layer in range(5):
        ridge = height * (0.34 + 0.13 * layer - 0.26 * noise(rng, 1, width, (1, 3 + layer), 5)[0])
        below = np.arange(height)[:, None] > ridge[None]
        tint = np.array(land) * (1.15 - 0.2 * layer) + 60 - 15 * layer
        trees = noise(rng, height, width, (70, 100), 3)
        canvas = np.where(below[..., None], tint * (0.7 + 0.6 * trees)[..., None], canvas)
    card = Image.new("RGB", (width, height), PAPER)
    card.paste(Image.fromarray(picture(canvas)).crop((30, 30, width - 30, height - 110)), (30, 30))
    draw = ImageDraw.Draw(card)
    sun = (0.7 * width, 0.2 * height)
    draw.ellipse((sun[0] - 52, sun[1] - 52, sun[0] + 52, sun[1] + 52), (252, 200, 92), PAPER, 6)
    write(draw, (width * 0.36, height - 54), title, 62, INK)
    small_print(draw, rng, (width * 0.68, height - 84, width - 50, height - 26), 20, INK)
    return np.asarray(card)


def label(
    rng: np.random.Generator, title: str, ground: Color, accent: Color, width: int = 1500
) -> np.ndarray:
    """A paper label to go round a tin or a jar; the title appears three times."""
    height = round(0.44 * width)
    paper = Image.fromarray(mottled(rng, height, width, ground, 0.3))
    draw = ImageDraw.Draw(paper)
    for y in (18, height - 46):
        draw.rectangle((0, y, width, y + 26), accent)
    for side in range(3):
        x = width * (side + 0.5) / 3
        draw.ellipse((x - 175, height / 2 - 200, x + 175, height / 2 + 200), PAPER, accent, 10)
        write(draw, (x, height * 0.43), title, 84, accent)
        small_print(draw, rng, (x - 110, height * 0.55, x + 110, height * 0.72), 22, INK)
        edge = width * side / 3
        for bar in range(18):
            draw.rectangle((edge - 45 + bar * 5, 90, edge - 45 + bar * 5 + rng.integers(0, 4), 210), INK)
        small_print(draw, rng, (edge - 48, 235, edge + 48, height - 90), 18, PAPER)
    return np.asarray(paper)


def glaze(
    rng: np.random.Generator, ground: Color, accent: Color, height: int = 500, width: int = 1400
) -> np.ndarray:
    """Speckled pottery with painted bands of triangles and dots."""
    pot = Image.fromarray(mottled(rng, height, width, ground, 0.2))
    draw = ImageDraw.Draw(pot)
    for _ in range(1600):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 4)
        draw.ellipse((x - r, y - r, x + r, y + r), tuple(int(c * 0.45) for c in ground))
    step = width / 24
    for k in range(24):
        x = k * step
        shade = tuple(int(c * rng.uniform(0.7, 1.2)) for c in accent)
        draw.polygon([(x, 330), (x + step, 330), (x + step / 2, 330 - rng.uniform(70, 120))], shade)
        draw.ellipse((x + 12, 150, x + 46, 184), shade)
    for y in (120, 205, 345):
        draw.rectangle((0, y, width, y + 10), accent)
    return np.asarray(pot)


def stone(rng: np.random.Generator, size: int = 320) -> np.ndarray:
    """A pebble: speckles and a vein or two."""
    warm = rng.random()
    middle = (150, 140 - int(12 * warm), 130 - int(30 * warm))
    base = ramp(noise(rng, size, size, (5, 5)), (74, 72, 76), middle, (212, 204, 194))
    speckle = noise(rng, size, size, (40, 40), 3)
    base = base * np.where(speckle > 0.7, 0.45, np.where(speckle < 0.25, 1.35, 1.0))[..., None]
    vein = np.abs(noise(rng, size, size, (3, 3), 4) - 0.5) < 0.015
    base[vein] = (236, 230, 220)
    return picture(base)


def apple_skin(rng: np.random.Generator, height: int = 400, width: int = 800) -> np.ndarray:
    """Red streaks over yellow, with pale dots; stalk at the top of the picture."""
    streaks = noise(rng, height, width, (2, 60), 4)
    cheek = noise(rng, height, width, (2, 3), 3)
    skin = ramp(0.5 * streaks + 0.5 * cheek, (214, 176, 66), (204, 84, 44), (160, 26, 34), (112, 14, 30))
    skin[noise(rng, height, width, (60, 120), 2) > 0.9] = (236, 196, 120)
    return picture(skin)


def leaf(rng: np.random.Generator, height: int = 300, width: int = 100) -> np.ndarray:
    """A leaf along the picture's height: midrib, veins, pale margin."""
    y, x = np.mgrid[:height, :width]
    side = np.abs(x - width / 2) / (width / 2)
    veins = np.sin((y + 0.6 * width * side) / 7.0) > 0.75
    tone = 0.65 * noise(rng, height, width, (12, 5), 4) + 0.2 * rng.random()
    skin = ramp(np.clip(tone, 0, 1), (26, 62, 34), (62, 118, 52), (140, 172, 84))
    skin[veins | (side < 0.06)] = (176, 196, 120)
    skin[side > 0.88] = (206, 208, 150)
    return picture(skin)


def die_face(rng: np.random.Generator, pips: int, ground: Color, ink: Color, size: int = 200) -> np.ndarray:
    spots = {1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 2, 3, 5, 6, 8]}[
        pips
    ]
    face = Image.fromarray(mottled(rng, size, size, ground, 0.2))
    draw = ImageDraw.Draw(face)
    for spot in spots:
        x, y = size * (0.25 + 0.25 * (spot % 3)), size * (0.25 + 0.25 * (spot // 3))
        draw.ellipse((x - 19, y - 19, x + 19, y + 19), ink)
    return np.asarray(face)


def pencil(rng: np.random.Generator, color: Color, height: int = 1000, width: int = 90) -> np.ndarray:
    """A pencil unrolled, its tip at the bottom of the picture: lead, wood, paint with print, ferrule."""
    body = mottled(rng, height, width, color, 0.3)
    tip = int(0.95 * height)
    body[tip:] = wood(rng, height - tip, width, (180, 130, 80), (228, 190, 140))
    body[int(0.985 * height) :] = color
    body[: int(0.07 * height)] = (190, 186, 176)
    body[int(0.09 * height) : int(0.1 * height)] = PAPER
    for k in range(12):
        top = int((0.2 + 0.025 * k) * height)
        body[top : top + rng.integers(6, 16), 10:26] = body[top : top + rng.integers(6, 16), 56:72] = PAPER
    return body


def poster(rng: np.random.Generator, height: int = 1100, width: int = 800) -> np.ndarray:
    """Contour lines over a map-like ground, overlapping circles and a title: the print on the wall."""
    terrain = noise(rng, height, width, (5, 4), 5)
    sheet = ramp(terrain, (28, 66, 96), (64, 128, 140), (222, 204, 158), (212, 148, 86), (150, 68, 52))
    sheet[(terrain * 16) % 1 < 0.12] = (34, 40, 56)
    page = Image.fromarray(picture(sheet))
    draw = ImageDraw.Draw(page)
    for k in range(9):
        x, y, r = rng.uniform(120, width - 120), rng.uniform(160, 800), 26 + 16 * k
        draw.ellipse((x - r, y - r, x + r, y + r), outline=PAPER, width=7)
    draw.rectangle((0, height - 260, width, height), PAPER)
    draw.rectangle((0, 0, width - 1, height - 1), outline=PAPER, width=36)
    write(draw, (width / 2, height - 190), "CIRCLES OF", 92, INK)
    write(draw, (width / 2, height - 90), "CONFUSION", 92, (176, 52, 44))
    return np.asarray(page)
