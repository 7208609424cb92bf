"""Pieces of a self-contained HTML page: pictures in rows, tables, plots. It needs no other files."""

import base64
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from cocogs.io.photos import from_float, read_photo, to_float

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }}
h1 {{ margin-bottom: 0; }}
h2 {{ margin-top: 2.5rem; }}
.row {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .6rem; }}
.row {{ margin: .6rem 0 1.4rem; }}
figure {{ margin: 0; }}
img {{ width: 100%; display: block; border-radius: 4px; }}
figcaption {{ font-size: .85rem; opacity: .8; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid #8884; }}
th:first-child, td:first-child {{ text-align: left; }}
pre {{ overflow-x: auto; padding: .7rem; background: #8882; border-radius: 4px; }}
svg {{ max-width: 24rem; width: 100%; }}
</style>
</head>
<body>
<h1>{title}</h1>
{sections}
</body>
</html>
"""


def page(title: str, sections: list[str]) -> str:
    """The HTML text; empty sections are left out."""
    return PAGE.format(title=escape(title), sections="\n".join(filter(None, sections)))


def section(heading: str, text: str, body: str) -> str:
    return f"<h2>{escape(heading)}</h2>\n<p>{escape(text)}</p>\n{body}"


def row(figures: list[str]) -> str:
    return f'<div class="row">{"".join(figures)}</div>'


def figure(picture: Path | np.ndarray, caption: str) -> str:
    """A picture as JPEG inside the page, with full colour resolution, at most 960 px wide.

    Args:
        picture: a file, or (H, W, 3) uint8.

    Raises:
        InputError: the file is not a readable picture.
    """
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else open_picture(picture)
    image.thumbnail((960, 960))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=94, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    caption = escape(caption)
    source = f"data:image/jpeg;base64,{data}"
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def open_picture(path: Path) -> Image.Image:
    """RGB picture of a file, 8 bits per channel, upright.

    Raises:
        InputError: the file is not a readable picture.
    """
    pixels = read_photo(path)
    return Image.fromarray(from_float(to_float(pixels), np.dtype(np.uint8)))


def difference(picture: np.ndarray, truth: np.ndarray, gain: float = 4.0) -> np.ndarray:
    """(H, W, 3) uint8: red where a picture is brighter than the truth, blue where darker; `gain` amplifies.

    Args:
        picture, truth: (H, W, 3) uint8.
    """
    signed = gain * (picture.astype(float) - truth.astype(float)).mean(2)
    red, blue = np.clip(signed, 0, 255), np.clip(-signed, 0, 255)
    return np.stack([255 - blue, 255 - blue - red, 255 - red], 2).clip(0, 255).astype(np.uint8)


def zoom(picture: np.ndarray, corner: tuple[int, int], size: int, times: int = 4) -> np.ndarray:
    """The square of `size` px at `corner` (row, column), each pixel repeated `times` x `times`."""
    row, column = corner
    return picture[row : row + size, column : column + size].repeat(times, 0).repeat(times, 1)


def busiest_square(errors: np.ndarray, size: int) -> tuple[int, int]:
    """Corner (row, column) of the `size` px square of (H, W) `errors` whose sum is largest."""
    total = np.zeros((errors.shape[0] + 1, errors.shape[1] + 1))
    total[1:, 1:] = errors.cumsum(0).cumsum(1)
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return int(row), int(column)


def table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in r) + "</tr>" for r in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def scatter(pairs: list[tuple[float, float]], across: str, up: str) -> str:
    """A plot of points (x, y) with the line of equality, as SVG; both axes share one range."""
    low, high = min(map(min, pairs)), max(map(max, pairs))
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return 40 + 250 * (value - low) / (high - low)

    dots = "".join(f'<circle cx="{place(x):.1f}" cy="{300 - place(y) + 10:.1f}" r="4"/>' for x, y in pairs)
    return f"""<svg viewBox="0 0 310 320" role="img" aria-label="{escape(up)} against {escape(across)}">
<g fill="none" stroke="currentColor" stroke-opacity=".4"><rect x="40" y="20" width="250" height="250"/>
<path d="M40 270L290 20"/></g><g fill="#d2601a">{dots}</g>
<g fill="currentColor" font-size="12"><text x="165" y="305" text-anchor="middle">{escape(across)}</text>
<text x="14" y="145" text-anchor="middle" transform="rotate(-90 14 145)">{escape(up)}</text>
<text x="40" y="286">{low:.2f}</text><text x="290" y="286" text-anchor="end">{high:.2f}</text></g></svg>"""


def spread(names: list[str], count: int) -> list[str]:
    """At most `count` of the names, evenly spaced, first and last among them."""
    if len(names) <= count:
        return names
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]
