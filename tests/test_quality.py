"""How good the pictures are: a whole training, which takes minutes (`pytest -m slow`)."""

import json
from pathlib import Path

import pytest

from cocogs.cli import main

DEMO = Path(__file__).parents[1] / "data" / "demo"


@pytest.mark.slow
def test_the_bundled_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `make demo` trains it, with .5 dB to spare (docs/benchmarks.md)."""
    assert main(["train", str(DEMO), "--out", str(tmp_path), "--max-gaussians", "60000"]) == 0
    capsys.readouterr()
    assert main(["eval", str(tmp_path), "--truth", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mean"]["psnr"] > 31.0
    lens = report["truth"]["lens"]
    assert lens["focus_error"] < 0.01 and 0.93 < lens["aperture_ratio"] < 1.07
