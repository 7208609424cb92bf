"""The numbers that every rasterizer of the package keeps to: the native one, the specification, the judge."""

import math

SH_C0 = 0.5 / math.sqrt(math.pi)
"""The constant spherical harmonic."""
NEAR_PLANE = 0.01
"""z-depth in scene units; a splat whose mean lies at or before it is not drawn."""
VIEW_MARGIN = 0.15
"""Part of the image size, on each side, up to which the projection's derivative follows the mean."""
CLASSIC = (0.3, 0.0)
"""How pixels see, in px^2: a dilation, added to every projected variance as it is, so that no splat falls
between the pixel centres; and a blur, added at equal integral, as a pixel averages over what it covers."""
PIXEL_VARIANCE = 1 / 12
"""px^2 per axis, of a square of 1 px."""
ANTIALIASED = (0.01, PIXEL_VARIANCE)
"""The same where pixels average: splats thinner than a pixel get fainter instead of wider (Yu et al.,
*Mip-Splatting*, 2024). The dilation only keeps the thinnest from vanishing."""
ALPHA_MAX = 0.999
"""A splat never hides all behind it, so that those keep a gradient."""
ALPHA_MIN = 1 / 255
"""A splat fainter than this at a pixel is not drawn there."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel ends before the splat that would take its transmittance below this."""
DEPTH_ALPHA_MIN = 1e-10
"""Lower bound of the alpha that the expected depth is divided by."""


def pixel_filter(antialiased: bool) -> tuple[float, float]:
    """Dilation and blur, px^2."""
    return ANTIALIASED if antialiased else CLASSIC
