"""A scene: photos with pinhole cameras at training resolution, points to start from, and the test split.

`open_scene` reads one from a folder; `Scene` and `View` are the plain data that the rest of the package uses.
"""

from cocogs.io.photos import LensFacts
from cocogs.scene.data import Scene, View
from cocogs.scene.opening import open_scene

__all__ = ["LensFacts", "Scene", "View", "open_scene"]
