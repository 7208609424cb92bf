"""The lines of a photo, their vanishing points, the horizon and the field of view, drawn over it."""

import math

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageDraw, ImageFont

from cocogs.calibrate.lines import LinesFound
from cocogs.io.lens_estimate import LensEstimate
from cocogs.io.pixels import largest

SHOWN = 1200  # px of the picture's longer side, at most
COLORS = (
    (230, 80, 60),
    (70, 170, 80),
    (70, 120, 240),
    (230, 170, 40),
    (190, 90, 210),
    (40, 180, 190),
    (240, 130, 170),
)
GREY, HORIZON = (150, 150, 150), (255, 255, 255)
FADED = 0.55  # of the photo's brightness, so that lines stand out
FIGURE = 0.22  # side of the field-of-view figure, of the shorter side


def draw_lines(
    photo: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"], found: LinesFound
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of what `estimate_by_lines` found in a photo, at most 1200 px wide or high.

    Each vanishing point has a colour, and so have its lines; other lines are grey. The horizon is white and
    dashed. A vanishing point within the picture is a cross. The figure in the corner shows the horizontal
    field of view from above, with one deviation on either side.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, SHOWN / max(width, height))
    pixels = (photo.astype(np.float32) * (255 * FADED / largest(photo))).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    draw = ImageDraw.Draw(picture)
    thick = max(1, round(max(picture.size) / 500))
    for ends, point in sorted(
        zip(found.segments * scale, found.belongs, strict=True), key=lambda one: one[1]
    ):
        draw.line(tuple(ends), GREY if point < 0 else COLORS[point % len(COLORS)], thick)
    _dashed(draw, found.horizon, scale, picture.size, thick)
    arm = 4 * thick
    for number, (x, y, z) in enumerate(found.points):
        if abs(z) * 10 * max(width, height) > math.hypot(x, y):
            x, y = x / z * scale, y / z * scale
            for dx, dy in ((arm, arm), (arm, -arm)):
                draw.line((x - dx, y - dy, x + dx, y + dy), COLORS[number % len(COLORS)], 2 * thick)
    _field_of_view(draw, found.lens, picture.size)
    return np.asarray(picture)


def _dashed(
    draw: ImageDraw.ImageDraw, line: np.ndarray, scale: float, size: tuple[int, int], thick: int
) -> None:
    """A line a x + b y + c = 0 of the photo's pixels across the whole picture."""
    normal, offset = line[:2], line[2] * scale
    way = np.array([-normal[1], normal[0]])
    start = np.array(size) / 2
    start = start - (normal @ start + offset) * normal
    reach = 2 * max(size)
    for at in np.arange(-reach, reach, 8 * thick):
        draw.line((*(start + at * way), *(start + (at + 5 * thick) * way)), HORIZON, thick)


def _field_of_view(draw: ImageDraw.ImageDraw, lens: LensEstimate, size: tuple[int, int]) -> None:
    side = FIGURE * min(size)
    left, top = 0.02 * max(size), size[1] - side - 0.02 * max(size)
    font = ImageFont.load_default(max(8, round(side / 9)))
    draw.rectangle((left, top, left + 1.5 * side, top + side), fill=(20, 20, 20))
    eye = (left + 0.75 * side, top + 0.78 * side)

    def ray(x: float, focal: float, color: tuple[int, int, int]) -> None:
        angle = math.atan((x - lens.center[0]) / focal)
        reach = 0.66 * side
        draw.line((*eye, eye[0] + reach * math.sin(angle), eye[1] - reach * math.cos(angle)), color, 2)

    for x in (0, lens.size[0]):
        for sign in (-1, 1):
            ray(x, lens.focal[0] + sign * lens.focal_deviation[0], GREY)
        ray(x, lens.focal[0], HORIZON)
    across, down, _ = lens.fields_of_view
    text = f"{across:.0f} x {down:.0f} deg, f {lens.focal[0]:.0f} px +- {lens.relative_deviation:.1%}"
    draw.text((left + 0.04 * side, top + 0.84 * side), text, HORIZON, font)
