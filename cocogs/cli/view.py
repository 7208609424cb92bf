"""`cocogs view`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

LOCAL_ONLY = "(default: this computer only)"
FREE_PORT = "(default: the first free one from 8080 on)"


@dataclass
class View:
    """Look at a trained scene in the browser: move, set focus and aperture, compare with the photos."""

    scene: Annotated[Positional[Path], arg(metavar="RUN|SCENE.ply")]
    """The folder that `cocogs train --out` wrote, or a .ply of 3D Gaussians. Its cameras and lens are read
    from SCENE.lens.json beside it, as `cocogs export` writes it."""
    host: Annotated[str, arg(metavar="ADDRESS", help_behavior_hint=LOCAL_ONLY)] = "127.0.0.1"
    """Let other computers look, through this address of yours; 0.0.0.0 means all addresses."""
    port: Annotated[int | None, arg(metavar="N", help_behavior_hint=FREE_PORT)] = None
    """Port of the page."""

    def run(self) -> int:
        from cocogs.viewer.exhibit import open_exhibit
        from cocogs.viewer.server import Viewer, free_port, is_loopback

        port = free_port(self.host, self.port)  # before the slow part
        viewer = Viewer(open_exhibit(self.scene), self.host, port)
        if not is_loopback(self.host):
            print(
                "cocogs: warning: everyone who can reach this computer can look at the scene and keep the "
                "computer busy; do this only in a network that you trust.",
                file=sys.stderr,
            )
        print(f"{self.scene} is shown at {viewer.url} (Ctrl-C stops)", flush=True)
        viewer.wait()
        viewer.stop()
        return 0
