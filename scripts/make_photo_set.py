"""Makes a set of many photos, with true cameras, to try SfM and training at size.

    python scripts/make_photo_set.py SET --photos 500 --width 1000

A hall holds piles of textured boxes, one pile for every 50 photos. The photographer walks around one pile
after the other, holding the camera by hand: pose, exposure and sensor noise vary. Rays are cast by numpy.
What SET then holds:

    images/NNNN.jpg   the photos, with the focal length in EXIF
    truth.json        the cameras, in the layout of transforms.json; with --posed the file has that name, so
                      that cocogs takes the cameras from it

Everything random comes from --seed. Photos that exist are kept, so an interrupted call goes on. Photos are
drawn in strips, so memory goes by the textures, of which the hall's grow with the number of photos.
"""

import argparse
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

PHOTOS_PER_PILE = 50
BOXES_PER_PILE = 7
SPACING = 5.0  # metres between piles
RADIUS = 2.2  # metres between the photographer and the middle of a pile
CEILING = 3.5  # metres
FOCAL = 0.8  # picture widths
TEXELS = 160  # per metre of a box; the hall has half as many
STRIP = 1 << 18  # pixels that are drawn at a time


@dataclass(frozen=True)
class Box:
    """Axis-aligned, metres; y points down and the floor is y = 0. `number` chooses its texture."""

    low: np.ndarray
    high: np.ndarray
    number: int

    def corners(self) -> np.ndarray:
        """(8, 3)."""
        sides = np.stack([self.low, self.high])
        return np.stack([sides[list(index), [0, 1, 2]] for index in np.ndindex(2, 2, 2)])


@dataclass(frozen=True)
class Shot:
    """A photo as planned: (4, 4) world-to-camera pose with OpenCV axes, and how bright it is."""

    name: str
    cam_from_world: np.ndarray
    brightness: float


def plan_hall(piles: int, seed: int) -> list[Box]:
    """The hall itself, seen from inside, then all boxes."""
    random = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(piles))
    rows = math.ceil(piles / columns)
    end = np.array([columns * SPACING, 0.0, rows * SPACING])
    boxes = [Box(np.array([-SPACING, -CEILING, -SPACING]), end, 0)]
    for pile in range(piles):
        middle = _middle(pile, columns)
        for _ in range(BOXES_PER_PILE):
            size = random.uniform([0.25, 0.3, 0.25], [0.8, 1.5, 0.8])
            place = middle + random.uniform([-0.9, 0, -0.9], [0.9, 0, 0.9])
            low = place - size * [0.5, 1, 0.5]
            boxes.append(Box(low, low + size, len(boxes)))
    return boxes


def plan_shots(count: int, piles: int, seed: int) -> list[Shot]:
    """One round trip at each pile, at a height that rises and falls; hands shake, gazes wander."""
    columns, shots = math.ceil(math.sqrt(piles)), []
    for index in range(count):
        random = np.random.default_rng([seed, 1, index])
        pile = index * piles // count
        first = -(-pile * count // piles)
        part = (index - first) / (-(-(pile + 1) * count // piles) - first)
        angle = 2 * math.pi * (part + 0.61 * pile)
        radius = RADIUS * random.uniform(0.9, 1.1)
        height = -1.4 - 0.4 * math.sin(3 * angle)
        middle = _middle(pile, columns)
        position = middle + np.array([radius * math.sin(angle), height, radius * math.cos(angle)])
        position += random.normal(0, 0.05, 3)
        target = middle + np.array([0, -0.7, 0]) + random.normal(0, 0.2, 3)
        pose = _look_at(position, target, random.normal(0, 0.04))
        shots.append(Shot(f"{index:04d}.jpg", pose, 2 ** random.normal(0, 0.15)))
    return shots


def take_photo(boxes: list[Box], shot: Shot, width: int, height: int, seed: int) -> np.ndarray:
    """(height, width, 3) uint8 picture, with noise."""
    random = np.random.default_rng([seed, 2, int(Path(shot.name).stem)])
    focal, photo = FOCAL * width, np.empty((height, width, 3), np.uint8)
    rotation, position = shot.cam_from_world[:3, :3], _position(shot.cam_from_world)
    frames = [_extent(box, shot.cam_from_world, width, height) for box in boxes[1:]]
    seen = [(box, frame) for box, frame in zip(boxes[1:], frames, strict=True) if frame is not None]
    step = max(1, STRIP // width)
    for top in range(0, height, step):
        bottom = min(height, top + step)
        y, x = np.mgrid[top:bottom, 0:width].astype(np.float32) + 0.5
        ahead = np.stack([(x - width / 2) / focal, (y - height / 2) / focal, np.ones_like(x)], axis=-1)
        rays = ahead @ rotation.astype(np.float32)
        nearest, colors = _inside(boxes[0], position, rays)
        for box, (left, upper, right, lower) in seen:
            part = (slice(max(upper - top, 0), max(lower - top, 0)), slice(left, right))
            if rays[part].size:
                _paint(box, position, rays[part], nearest[part], colors[part])
        noise = random.standard_normal(colors.shape, dtype=np.float32)
        colors = colors * np.float32(shot.brightness) + noise * np.sqrt(colors + 1) * np.float32(0.25)
        photo[top:bottom] = np.clip(colors, 0, 255)
    return photo


def make_photo_set(
    folder: Path, count: int, width: int, height: int, seed: int = 0, posed: bool = False, workers: int = 1
) -> None:
    """Write a set of photos as the docstring of this file says."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    piles = max(1, round(count / PHOTOS_PER_PILE))
    shots = plan_shots(count, piles, seed)
    frames = [
        {"file_path": f"images/{shot.name}", "transform_matrix": _opengl(shot.cam_from_world).tolist()}
        for shot in shots
    ]
    lens = {
        "fl_x": FOCAL * width,
        "fl_y": FOCAL * width,
        "cx": width / 2,
        "cy": height / 2,
        "w": width,
        "h": height,
    }
    name = "transforms.json" if posed else "truth.json"
    (folder / name).write_text(json.dumps({**lens, "frames": frames}))
    write = partial(_write, folder / "images", piles, width, height, seed)
    if workers == 1:
        for shot in shots:
            write(shot)
        return
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(write, shots, chunksize=4):
            pass


def _write(folder: Path, piles: int, width: int, height: int, seed: int, shot: Shot) -> None:
    if (folder / shot.name).exists():
        return
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "make_photo_set"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: round(36 * FOCAL)}
    photo = Image.fromarray(take_photo(plan_hall(piles, seed), shot, width, height, seed))
    unfinished = folder / f".{shot.name}"
    photo.save(unfinished, "JPEG", quality=90, exif=exif)
    unfinished.rename(folder / shot.name)


def _middle(pile: int, columns: int) -> np.ndarray:
    """Where a pile stands; the walk turns around at the end of each row."""
    row, column = divmod(pile, columns)
    column = column if row % 2 == 0 else columns - 1 - column
    return np.array([column * SPACING, 0.0, row * SPACING])


def _look_at(position: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = (
        right * math.cos(roll) + down * math.sin(roll),
        down * math.cos(roll) - right * math.sin(roll),
    )
    pose = np.eye(4)
    pose[:3, :3] = [right, down, forward]
    pose[:3, 3] = -pose[:3, :3] @ position
    return pose


def _position(pose: np.ndarray) -> np.ndarray:
    return (-pose[:3, :3].T @ pose[:3, 3]).astype(np.float32)


def _opengl(pose: np.ndarray) -> np.ndarray:
    """(4, 4) world-from-camera with OpenGL axes."""
    return np.linalg.inv(pose) * [1, -1, -1, 1]


def _extent(box: Box, pose: np.ndarray, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom pixel of what a box covers; None where it is not in the picture."""
    corners = box.corners() @ pose[:3, :3].T + pose[:3, 3]
    if (corners[:, 2] < 0.05).all():
        return None
    if (corners[:, 2] < 0.05).any():
        return 0, 0, width, height
    pixels = corners[:, :2] / corners[:, 2:] * FOCAL * width + [width / 2, height / 2]
    left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int), 0, [width, height])
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int), 0, [width, height])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _crossings(box: Box, position: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) distances at which rays enter and leave the three slabs of a box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = (box.low.astype(np.float32) - position) / rays
        other = (box.high.astype(np.float32) - position) / rays
    return np.fmin(one, other), np.fmax(one, other)


def _inside(box: Box, position: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) distances to the walls of the box that we are in, and their (H, W, 3) colours."""
    _, leave = _crossings(box, position, rays)
    distance = leave.min(axis=-1)
    return distance, _colors(box, leave.argmin(axis=-1), position, rays, distance)


def _paint(box: Box, position: np.ndarray, rays: np.ndarray, nearest: np.ndarray, colors: np.ndarray) -> None:
    """Draw a box from outside, where it is nearer than what is there."""
    enter, leave = _crossings(box, position, rays)
    distance = enter.max(axis=-1)
    hit = (distance > 0) & (distance < leave.min(axis=-1)) & (distance < nearest)
    if hit.any():
        nearest[hit] = distance[hit]
        colors[hit] = _colors(box, enter.argmax(axis=-1)[hit], position, rays[hit], distance[hit])


def _colors(
    box: Box, axes: np.ndarray, position: np.ndarray, rays: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """(..., 3) float32 colours in [0, 255] of where rays meet the sides of a box across the given axes."""
    place = position + distance[..., None] * rays - box.low.astype(np.float32)
    texels = TEXELS / 2 if box.number == 0 else TEXELS
    colors = np.empty(place.shape, np.float32)
    for axis in range(3):
        for side in range(2):
            far = rays[..., axis] > 0 if box.number == 0 else rays[..., axis] < 0
            chosen = (axes == axis) & (far == bool(side))
            if chosen.any():
                size = tuple((np.delete(box.high - box.low, axis) * texels).astype(int) + 2)
                texture = _texture(box.number * 6 + axis * 2 + side, size)
                colors[chosen] = _bilinear(texture, np.delete(place[chosen], axis, axis=-1) * texels)
    return colors


def _bilinear(texture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(P, 3) float32 of a texture at (P, 2) places."""
    place = np.clip(place, 0, np.array(texture.shape[:2], np.float32) - 1.001)
    low = place.astype(np.int32)
    x, y = (place - low).T[..., None]
    flat, at = texture.reshape(-1, 3), low[:, 0] * texture.shape[1] + low[:, 1]
    near = flat[at] * (1 - y) + flat[at + 1] * y
    return (
        near * (1 - x) + flat[at + texture.shape[1]] * x * (1 - y) + flat[at + texture.shape[1] + 1] * x * y
    )


@lru_cache(maxsize=512)
def _texture(number: int, size: tuple[int, int]) -> np.ndarray:
    """(*size, 3) uint8: noise of several scales under patches of plain colour, as things have."""
    random = np.random.default_rng([7, number])
    canvas = np.zeros((*size, 3), np.float32)
    for cell, share in ((4, 0.2), (12, 0.25), (40, 0.3), (120, 0.25)):
        cells = [max(2, length // cell) for length in size]
        noise = Image.fromarray(random.integers(0, 256, (*cells, 3), dtype=np.uint8))
        canvas += share * np.asarray(noise.resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float32)
    canvas = 128 + 1.6 * (canvas - canvas.mean())
    for _ in range(size[0] * size[1] // 3000):
        top, left = (int(random.integers(0, length)) for length in size)
        height, width = random.integers(4, 60, 2)
        canvas[top : top + height, left : left + width] = random.integers(20, 236, 3)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a set of many photos, with true cameras.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--width", type=int, default=1000, help="px; the height is two thirds of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--posed", action="store_true", help="let cocogs take the true cameras")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    wanted = parser.parse_args()
    height = round(wanted.width * 2 / 3)
    make_photo_set(
        wanted.folder, wanted.photos, wanted.width, height, wanted.seed, wanted.posed, wanted.workers
    )


if __name__ == "__main__":
    main()
