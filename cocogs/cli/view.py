"""`cocogs view`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cocogs.cli.options import OF_PHOTO, is_photo
from cocogs.cli.words import speaker
from cocogs.errors import InputError

if TYPE_CHECKING:
    from cocogs.viewer.server import Page

LOCAL_ONLY = "(default: this computer only)"
FREE_PORT = "(default: the first free one from 8080 on)"


@dataclass
class View:
    """Look at a trained scene in the browser: move, set focus and aperture, compare with the photos.

    A single photo with a depth map is refocused there by clicks."""

    scene: Annotated[Positional[Path], arg(metavar="RUN|SCENE.ply|PHOTO")]
    """The folder that `cocogs train --out` wrote, or a .ply of 3D Gaussians, whose cameras and lens are read
    from SCENE.lens.json beside it, as `cocogs export` writes it. Or a photo."""
    host: Annotated[str, arg(metavar="ADDRESS", help_behavior_hint=LOCAL_ONLY)] = "127.0.0.1"
    """Let other computers look, through this address of yours; 0.0.0.0 means all addresses."""
    port: Annotated[int | None, arg(metavar="N", help_behavior_hint=FREE_PORT)] = None
    """Port of the page."""

    depth: Annotated[
        str | None, arg(metavar="FILE|run:RUN|bracket:DIR|WEIGHTS", help_behavior_hint=OF_PHOTO)
    ] = None
    """Of a photo: its depth map; see `cocogs refocus --help`."""
    depth_kind: Annotated[str | None, arg(metavar="KIND", help_behavior_hint=OF_PHOTO)] = None
    """Of a photo: what the depth map holds; see there."""
    source: Annotated[str | None, arg(metavar="sharp|camera.json|N@FOCUS", help_behavior_hint=OF_PHOTO)] = (
        None
    )
    """Of a photo: how it was taken; see there."""

    def run(self) -> int:
        from cocogs.viewer.server import free_port, is_loopback

        port = free_port(self.host, self.port)  # before the slow part
        viewer = self._open(port)
        if not is_loopback(self.host):
            print(
                "cocogs: warning: everyone who can reach this computer can look at the scene, edit it, and "
                "keep the computer busy; do this only in a network that you trust.",
                file=sys.stderr,
            )
        print(f"{self.scene} is shown at {viewer.url} (Ctrl-C stops)", flush=True)
        viewer.wait()
        viewer.stop()
        return 0

    def _open(self, port: int) -> "Page[Any]":
        from cocogs.viewer.exhibit import open_exhibit
        from cocogs.viewer.server import Viewer

        if is_photo(self.scene):
            from cocogs.photo.opened import open_photo
            from cocogs.viewer.photo_page import photo_page

            photo = open_photo(self.scene, self.depth, self.depth_kind, self.source, say=speaker(self))
            return photo_page(photo, self.host, port)
        for name in ("depth", "depth_kind", "source"):
            if getattr(self, name) is not None:
                raise InputError(f"`{name}` is for a photo, and {self.scene} is none: leave it out.")
        return Viewer(open_exhibit(self.scene), self.host, port)
