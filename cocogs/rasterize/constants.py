"""The constants that every rasterizer of the package uses: native, reference and gsplat."""

import math

SH_C0 = 0.5 / math.sqrt(math.pi)
"""The constant spherical harmonic."""
CLASSIC = (0.3, 0.0)
"""The pixel filter of 3DGS in px^2: dilation and blur. The dilation is added to every projected variance, so
that no splat falls between pixel centres. The blur is added too, but lowers the opacity so that the splat's
integral stays the same."""
PIXEL_VARIANCE = 1 / 12
"""Variance of a square of 1 px, px^2 per axis."""
ANTIALIASED = (0.01, PIXEL_VARIANCE)
"""The pixel filter where pixels average over their area: splats thinner than a pixel get fainter instead of
wider (Yu et al., *Mip-Splatting*, 2024). The dilation only keeps the thinnest splats from vanishing."""
ALPHA_MAX = 0.999
"""Largest alpha of a splat at a pixel: splats behind it keep a gradient."""
ALPHA_MIN = 1 / 255
"""A splat fainter than this at a pixel is not drawn there."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished when the next splat would lower its transmittance below this. That splat is not
drawn."""
MOST_CONTRIBUTORS = 16
"""So many splats per pixel `contributors` finds at most."""
DEPTH_ALPHA_MIN = 1e-10
"""Lower bound of the alpha that divides the expected depth."""


def pixel_filter(antialiased: bool) -> tuple[float, float]:
    """Dilation and blur in px^2: `ANTIALIASED` or `CLASSIC`."""
    return ANTIALIASED if antialiased else CLASSIC
