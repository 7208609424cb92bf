"""Every numbered example runs on a tiny run, and writes what it says."""

import runpy
import sys
from pathlib import Path

import pytest
from tiny_run import tiny_run

import cocogs

EXAMPLES = sorted((Path(cocogs.__file__).parents[1] / "examples").glob("[0-9]*.py"))
PICTURES = {
    "01_load_and_render": ["sharp.png"],
    "02_refocus": ["final.png", "quick.png"],
    "03_depth": ["coc.png", "depth.png"],
    "04_focus_stack": [f"stack_{index}.png" for index in range(8)],
}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(
    script: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tiny_run(tmp_path_factory.getbasetemp(), "lens")
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [str(script), str(run), str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES[script.stem]
    assert capsys.readouterr().out


def test_all_are_listed() -> None:
    assert [script.stem for script in EXAMPLES] == list(PICTURES)
