"""Which subpackage (here: room) may import which (docs/architecture.md, "Rules")."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cocogs"
FACES = {"viewer", "bench", "demo", "cli"}
FORBIDDEN = {
    "optics": FACES | {"train", "render", "measure"},
    "rasterize": FACES | {"optics", "train", "render", "measure", "io"},
    "ssim": FACES | {"optics", "train", "render", "measure", "io"},
    "render": FACES | {"train", "measure"},
    "train": FACES | {"render"},
    "measure": FACES,
    "photo": FACES | {"train", "measure"},
    "mesh": FACES | {"train", "measure"},
    "edit": FACES | {"train", "measure"},
    "calibrate": FACES | {"train", "render", "measure", "scene", "rasterize", "ssim"},
}
IO_MAY = {"io", "camera", "gaussians", "errors", "plain_torch", "srgb", "threads"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, also within functions: `optics.lens` for cocogs.optics.lens."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("cocogs.") for name in found if name.startswith("cocogs.")}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_room_imports_what_it_must_not(path: Path) -> None:
    rooms = {module.split(".")[0] for module in imports(path)}
    assert not rooms & FORBIDDEN.get(room_of(path), set())
    if room_of(path) == "io":
        known = {path.stem for path in PACKAGE.iterdir()}
        assert rooms & known <= IO_MAY


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) not in ("rasterize", "ssim")], ids=name)
def test_production_never_uses_the_specification(path: Path) -> None:
    references = {"rasterize.reference", "rasterize.reference_harmonics", "ssim.reference"}
    assert not references & imports(path)


def raised(path: Path) -> list[str]:
    """The literal text of every `InputError` that a file raises."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "InputError"]
    return [
        "".join(str(part.value) for part in ast.walk(call) if isinstance(part, ast.Constant))
        for call in errors
    ]


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "cli"], ids=name)
def test_only_the_command_line_knows_its_options(path: Path) -> None:
    """A whole command, `cocogs train ... --resume`, may be named: it works whoever reads it."""
    for text in raised(path):
        assert "cocogs " in text or not re.search(r"(^|\s)--[a-z]", text), text
