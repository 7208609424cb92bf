"""The protocols of the field's benchmarks: which photos are held out, at what size, what papers published.

Facts and published averages are from Lee et al., CoCoGaussian, CVPR 2025; Ma et al., Deblur-NeRF, CVPR 2022;
Wu et al., DoF-NeRF, ACM MM 2022; Mildenhall et al., LLFF, 2019. See docs/benchmarks.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What a paper states: averages over a benchmark's scenes.

    Args:
        method: as the field calls it.
        ssim_uniform_7: skimage's SSIM, uniform 7 x 7 window, pictures in [-1, 1].
        lpips: AlexNet, v0.1.
    """

    method: str
    psnr: float
    ssim_uniform_7: float
    lpips: float


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is run.

    Args:
        title: its name in tables.
        holds: every N-th photo in name order is a test view, from the first; N by scene, None where the
            scene's own file hold=N has to say it.
        downscale: how much smaller than full size the photos are.
        prefix: what the published folders put before a scene's name (allowed, not needed).
        triplets: photos come as all in focus, focused on the foreground, focused on the background.
        size: width and height of the photos trained with, where the protocol states them, px.
        published: figures of papers that follow this protocol.
    """

    title: str
    holds: dict[str, int | None]
    downscale: int
    prefix: str = ""
    triplets: bool = False
    size: tuple[int, int] | None = None
    published: tuple[Published, ...] = ()


def _even(hold: int | None, names: str) -> dict[str, int | None]:
    return dict.fromkeys(names.split(), hold)


PROTOCOLS = {
    "deblur-nerf-real": Protocol(
        "Deblur-NeRF, real defocus",
        # An eleventh scene, bush, is left out: every view of it is blurred alike.
        dict(cake=9, caps=5, cisco=7, coral=10, cupcake=6, cups=8, daisy=8, sausage=6, seal=6, tools=7),
        downscale=4,
        prefix="defocus",
        published=(
            Published("CoCoGaussian", 23.70, 0.7531, 0.0825),
            Published("DoF-Gaussian", 23.97, 0.756, 0.093),
            Published("PDRF-10", 23.85, 0.7382, 0.1746),
            Published("BAGS", 23.48, 0.7408, 0.0962),
            Published("3DGS", 23.38, 0.6655, 0.3140),
        ),
    ),
    "deblur-nerf-synthetic": Protocol(
        "Deblur-NeRF, synthetic defocus",
        _even(8, "cozy2room factory pool tanabata wine"),
        downscale=1,
        prefix="defocus",
        published=(
            Published("CoCoGaussian", 30.84, 0.9212, 0.0478),
            Published("BAGS", 30.65, 0.9128, 0.0631),
            Published("3DGS", 25.11, 0.7476, 0.2148),
        ),
    ),
    "dof-nerf-real": Protocol(
        "DoF-NeRF, real",
        _even(None, "amiya camera desk kendo plant shelf turtle"),
        downscale=1,
        triplets=True,
        size=(497, 331),
        published=(
            Published("CoCoGaussian", 30.14, 0.9127, 0.0701),
            Published("BAGS", 29.87, 0.8816, 0.1100),
            Published("3DGS", 25.72, 0.8291, 0.1817),
        ),
    ),
    "nerf-llff": Protocol(
        "NeRF-LLFF (sharp)",
        _even(8, "fern flower fortress horns leaves orchids room trex"),
        downscale=4,
        # Published averages exist (3DGS 27.10, CoCoGaussian 27.76 dB) but not the size they were measured at.
    ),
}
