"""The measures of a picture, by the names that they have in eval.json, table.json and table.csv."""

from typing import NamedTuple


class Heading(NamedTuple):
    """How a table shows a figure: its heading, and the format of its values."""

    title: str
    format: str


MEASURES = {
    "psnr": Heading("PSNR dB", ".2f"),
    "psnr_affine_color": Heading("PSNR dB, affine colour", ".2f"),
    "ssim_gaussian_11": Heading("SSIM Gaussian 11", ".4f"),
    "ssim_gaussian_11_affine_color": Heading("SSIM Gaussian 11, affine colour", ".4f"),
    "ssim_uniform_7": Heading("SSIM uniform 7", ".4f"),
    "flip": Heading("FLIP", ".4f"),
    "lpips": Heading("LPIPS", ".4f"),
}
"""In the order of the tables. `cocogs.measure.evaluate` defines them."""
