"""The page beside a camera.json: curves, residuals, and what could not be told apart."""

import math
from dataclasses import asdict
from html import escape

import numpy as np

from cocogs.calibrate.defocus import Chart, Fit
from cocogs.calibrate.estimates import Estimate, VignetteFit
from cocogs.calibrate.exposures import ResponseFit
from cocogs.calibrate.known_lenses import KnownLens
from cocogs.io.camera_file import Vignetting
from cocogs.io.page import page, section, table

MEANINGS = {
    "shot_gain": "shot gain (variance over mean; parts of white)",
    "read_noise": "read noise (deviation; parts of white)",
    "fixed_pattern": "fixed pattern (deviation; parts of white)",
}
COLOURS = ("red", "green", "blue")


def calibration_page(sections: list[str], remarks: list[str]) -> str:
    """The HTML text."""
    items = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return page(
        "Calibration of a camera", [*sections, section("What cannot be told apart", "", f"<ul>{items}</ul>")]
    )


def frame_sections(
    noise: dict[str, Estimate], vignettes: list[VignetteFit], flats: int, darks: int
) -> list[str]:
    """Noise, by the names of `cocogs.io.camera_file.Noise`, and vignettes, of all colours or of each.

    Args:
        flats, darks: how many frames of each were measured.
    """
    numbers = [
        [
            MEANINGS[name],
            f"{one.value:.3g}",
            "unknown" if math.isnan(one.deviation) else f"{one.deviation:.1g}",
        ]
        for name, one in noise.items()
    ]
    names = COLOURS if len(vignettes) == 3 else ("all colours",)
    curves = [
        [name, f"{one.corner:.3f}", f"{one.center[0]:+.3f}, {one.center[1]:+.3f}", f"{one.residual:.2%}"]
        for name, one in zip(names, vignettes, strict=True)
    ]
    plots = "".join(curve(one.profile, f"radius, {name}") for name, one in zip(names, vignettes, strict=True))
    heads = ["", "corner over middle", "centre (half diagonals)", "residual"]
    return [
        section(
            "Noise", f"From {flats} flats and {darks} darks.", table(["", "value", "deviation"], numbers)
        ),
        section(
            "Vignetting",
            "Dots: means of blocks. Line: the fit. The radius is 1 in the corners.",
            table(heads, curves) + plots,
        ),
    ]


def chart_sections(charts: list[Chart], fit: Fit, f_number: float) -> list[str]:
    """The blur of charts, and the lens that explains it."""
    rows = [
        [
            f"{chart.distance:g} m",
            f"{chart.diameter:.2f} px",
            f"{abs(fit.K * (1 / chart.distance - 1 / fit.focus_distance)):.2f} px",
            f"{chart.left:.1%}",
        ]
        for chart in charts
    ]
    text = (
        f"f/{f_number:.3g}, focused at {fit.focus_distance:.4g} m; K = {fit.K:.4g} px m; "
        f"off by {fit.error:.2f} px."
    )
    heads = ["distance", "blur measured", "by the lens", "left unexplained"]
    return [section("Aperture and focus", text, table(heads, rows))]


def known_section(known: KnownLens) -> str:
    """A lens, as lensfun's database knows it."""
    distortion, vignetting = known.camera.distortion, known.camera.vignetting
    numbers = [[name, f"{value:.4g}"] for name, value in asdict(distortion).items() if value]
    numbers.append(["largest difference from lensfun's distortion, px", f"{known.off_px:.2f}"])
    if vignetting is None or vignetting.wide_open is None:
        return section("Lens by lensfun", f"{known.name}; no vignetting known.", table(["", ""], numbers))
    numbers.append([f"corner over middle at f/{vignetting.f_number:g}", f"{_corner(vignetting, 1.0):.3f}"])
    numbers.append(["corner over middle, far stopped down", f"{_corner(vignetting, 0.0):.3f}"])
    numbers.append(["largest difference from lensfun's vignetting", f"{known.off_light:.3f}"])
    return section("Lens by lensfun", known.name, table(["", ""], numbers))


def _corner(vignetting: Vignetting, wide: float) -> float:
    """Light in the corners over that in the middle."""
    assert vignetting.wide_open is not None
    return 1 + sum(vignetting.coefficients[0]) + wide * sum(vignetting.wide_open[0])


def response_section(fit: ResponseFit, times: np.ndarray) -> str:
    """The response curve, and each colour's own."""
    text = (
        f"From {len(times)} photos of {times[0]:.4g} to {times[-1]:.4g} s. Line: the response. Dots: each "
        f"colour's own curve, off by up to {fit.disagreement:.1%} of white."
    )
    levels = np.linspace(0, 1, len(fit.colours))
    light = np.linspace(0, 1, len(fit.knots))
    dots = np.stack([fit.colours.ravel(), np.repeat(levels, 3)], 1)
    dots = np.column_stack([dots, np.interp(dots[:, 0], light, fit.knots)])
    return section("Response", text, curve(dots, "sRGB-encoded light; up: pixel value", low=0.0))


def curve(profile: np.ndarray, name: str, low: float = 0.9) -> str:
    """A plot of (x from 0, measured, fitted) rows, as SVG.

    Args:
        name: what is across.
        low: where the upward axis begins, unless a value is lower.
    """
    profile = profile[profile[:, 0].argsort()]
    low = min(low, float(profile[:, 1:].min()))
    high = max(1.02, float(profile[:, 1:].max()))

    def place(radius: float, value: float) -> str:
        return f"{40 + 250 * radius / profile[-1, 0]:.1f} {270 - 250 * (value - low) / (high - low):.1f}"

    dots = "".join(
        '<circle cx="{}" cy="{}" r="1.5"/>'.format(*place(radius, value).split())
        for radius, value, _ in profile[::3]
    )
    line = "L".join(place(radius, value) for radius, _, value in profile)
    return f"""<svg viewBox="0 0 310 320" role="img" aria-label="{escape(name)}">
<rect x="40" y="20" width="250" height="250" fill="none" stroke="currentColor" stroke-opacity=".4"/>
<g fill="#d2601a">{dots}</g><path d="M{line}" fill="none" stroke="currentColor" stroke-width="1.5"/>
<g fill="currentColor" font-size="12"><text x="165" y="305" text-anchor="middle">{escape(name)}</text>
<g text-anchor="end">
<text x="36" y="30">{high:.2f}</text><text x="36" y="270">{low:.2f}</text></g></g></svg>"""
