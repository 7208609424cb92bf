"""cocogs: defocused photos in, a sharp and refocusable 3D Gaussian scene out.

docs/architecture.md tells what lies where, and how data flows.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocogs.optics.lens import Lens as Lens
    from cocogs.render.refocusing import depth_at as depth_at
    from cocogs.render.refocusing import refocus as refocus
    from cocogs.run import load_run as load_run

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The names for notebooks, imported when first used: `import cocogs` stays quick."""
    homes = {
        "Lens": "optics.lens",
        "depth_at": "render.refocusing",
        "load_run": "run",
        "refocus": "render.refocusing",
    }
    if name not in homes:
        raise AttributeError(f"module 'cocogs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cocogs.{homes[name]}"), name)
