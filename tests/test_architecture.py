"""The docs fit the code: the map of modules, links, citations, and the recipes of docs/how-to-add.md."""

import ast
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import tiny_gaussians

from cocogs.camera import Camera
from cocogs.config import ModelConfig
from cocogs.errors import InputError
from cocogs.optics.lens import blur_variance
from cocogs.optics.lens_models import Start

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cocogs"
PAGE = ROOT / "docs" / "architecture.md"


def section(title: str) -> str:
    """Text of a section of the page, up to the next heading of the same level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"docs/architecture.md has no section {title!r}"
    return found[1]


def has_code(path: Path) -> bool:
    """Whether a file holds more than a docstring."""
    body = ast.parse(path.read_text()).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def test_map_names_every_module_once_and_no_other() -> None:
    named = re.findall(r"^- `(\S+\.py)`: \S", section("The map"), re.MULTILINE)
    there = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if has_code(path)]
    assert set(named) == set(there), set(named) ^ set(there)
    assert not [name for name in set(named) if named.count(name) > 1]


@pytest.mark.parametrize("path", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=str)
def test_links_of_the_docs_lead_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_documents_that_the_code_names_exist() -> None:
    """Comments and messages cite pages and their sections: `docs/method.md, "The way of the light"`."""
    sources = [*PACKAGE.rglob("*.py"), *ROOT.glob("cuda_ext/**/*.*"), *ROOT.glob("scripts/*.*")]
    missing = []
    for source in sources:
        text = re.sub(r"\s*\n\s*(?:#|//)?\s*", " ", source.read_text())
        for page, title in re.findall(r'(docs/[\w/-]+\.md)(?:, "([^"]+)")?', text):
            target = ROOT / page
            if not target.is_file() or (title and f"\n## {title}\n" not in target.read_text()):
                missing.append((source.name, page, title))
    assert not missing


def recipe(heading: str) -> dict[str, Any]:
    """The names that the skeleton under a heading of docs/how-to-add.md defines."""
    page = (ROOT / "docs" / "how-to-add.md").read_text()
    found = re.search(rf"^## {heading}\n.*?^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found, heading
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(found[1], heading, "exec"), names)
    return names


def test_recipe_of_a_lens_model_works() -> None:
    """The field of the example bends: K of 100 px x unit, focused at 4, seen at the focus distance."""
    ones = torch.ones(2)
    start = Start(4 * ones, 100.0, ones, 4.0, 50.0, False, torch.zeros(3), 1.0)
    lens = recipe("A lens model")["CurvedField"](ModelConfig(), start)
    intrinsics = torch.tensor([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), 60, 40)
    means = torch.tensor([[0.0, 0, 4], [1.6, 0, 4]])  # at the centre, and 20 px = 1/3 of the width from it
    base = means, torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4), 0.1 * torch.ones(2, 3), torch.ones(2) / 2
    with torch.no_grad():
        lens.curvature.fill_(0.9)
    blur = lens.copies(base, camera, 1).blur
    torch.testing.assert_close(blur[0], blur_variance(torch.tensor([0.0, 10.0])))  # 100 x .9 / 9 px
    coc = lens.coc_map(torch.full((40, 60), 4.0), camera, 1).detach()
    assert float(coc[20, 30].abs()) < 0.1 < 9 < float(coc[20, 50].abs())
    blur.sum().backward()
    assert lens.curvature.grad is not None and float(lens.curvature.grad) > 0


def test_recipe_of_a_per_photo_parameter_works() -> None:
    veil = recipe("A per-photo parameter")["Veil"](2)
    light = torch.rand(3, 5, 7)
    torch.testing.assert_close(veil(light, 0), light)
    with torch.no_grad():
        veil.strength[1] = 0.2
    torch.testing.assert_close(veil(light, 1), light + 0.2)
    torch.testing.assert_close(veil(light, 0), light)


def test_recipe_of_a_file_format_works(tmp_path: Path) -> None:
    read = recipe("A file format")["read_cameras"]
    entry: dict[str, Any] = {"fx": 50, "fy": 51, "cx": 30, "cy": 20, "width": 60, "height": 40}
    entries = [{**entry, "name": name, "cam_from_world": np.eye(4).tolist()} for name in ("b.jpg", "a.jpg")]
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    shots = read(tmp_path / "cameras.json").shots
    assert [shot.name for shot in shots] == ["a.jpg", "b.jpg"]
    assert shots[0].intrinsics.params == (50, 51, 30, 20)
    entries[1]["cam_from_world"] = [[1, 2], [3, 4]]
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"a\.jpg is not a 4x4 matrix"):
        read(tmp_path / "cameras.json")


def test_recipe_of_a_command_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = recipe("A command")["Count"]
    edited = SimpleNamespace(gaussians=tiny_gaussians(100))  # opacity .88
    monkeypatch.setattr("cocogs.run.load_edited", lambda folder: edited)
    assert command(Path("run")).run() == command(Path("run"), 0.9).run() == 0
    assert capsys.readouterr().out == "100\n0\n"
    with pytest.raises(InputError, match="`min_opacity`"):
        command(Path("run"), 2.0).run()
