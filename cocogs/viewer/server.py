"""The web server of the viewer: a port, a page, a session for each visitor."""

import contextlib
import errno
import io
import ipaddress
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import viser

from cocogs.errors import InputError, check_number
from cocogs.rasterize import release_memory
from cocogs.viewer.exhibit import Exhibit
from cocogs.viewer.gate import guarding
from cocogs.viewer.session import Session
from cocogs.viewer.space import TYPICAL_DEPTH, ViewerSpace, field_of_view

LOOPBACK = "127.0.0.1"
ANY = ("0.0.0.0", "::", "")  # hosts that mean all addresses of this computer
FIRST_PORT, PORTS = 8080, 100  # tried in turn when none was asked for
ACCENT = (255, 150, 30)
ADVICE = "give an address of this one, or leave `host` out"
PANEL_WIDTH = 340  # px


@runtime_checkable
class Visitor(Protocol):
    """The state of one visitor."""

    def close(self) -> None:
        """Stop all that is drawn for them."""


Guest = TypeVar("Guest", bound=Visitor)


class Page(Generic[Guest]):
    """Serves a page until `stop`.

    Args:
        title: of the page.
        welcome: makes the session of a visitor who comes.
        host: address to listen at; only this computer can reach `LOOPBACK`.
        port: a free one; see `free_port`.
    """

    def __init__(
        self, title: str, welcome: Callable[[viser.ClientHandle], Guest], host: str, port: int
    ) -> None:
        self._make_session = welcome
        self._lock = threading.Lock()
        self.sessions: dict[int, Guest] = {}
        self._host = host
        own_names = (host,) if is_loopback(host) else None
        # viser would print a box with the address.
        with contextlib.redirect_stdout(io.StringIO()), guarding(own_names):
            self._server = viser.ViserServer(host, port, label=title, verbose=False)
        self.port = self._server.get_port()
        self._furnish()
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(self._part)

    @property
    def url(self) -> str:
        name = "localhost" if self._host in ANY else self._host
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    def wait(self) -> None:
        """Return after Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)

    def stop(self) -> None:
        self._server.stop()
        with self._lock:
            sessions, self.sessions = self.sessions, {}
        for session in sessions.values():
            session.close()
        release_memory()

    def _furnish(self) -> None:
        """Set what all visitors share."""
        server = self._server
        server.gui.configure_theme(
            dark_mode=True, show_logo=False, show_share_button=False, brand_color=ACCENT
        )
        server.gui.main_panel.dock_right()
        server.gui.main_panel.set_width(PANEL_WIDTH)
        server.scene.set_background_image(np.zeros((1, 1, 3), dtype=np.uint8))

    def _welcome(self, client: viser.ClientHandle) -> None:
        session = self._make_session(client)
        with self._lock:
            self.sessions[client.client_id] = session
        if client.client_id not in self._server.get_clients():  # has left in the meantime
            self._part(client)

    def _part(self, client: viser.ClientHandle) -> None:
        with self._lock:
            session = self.sessions.pop(client.client_id, None)
            empty = not self.sessions
        if session is not None:
            session.close()
            if empty:
                release_memory()


class Viewer(Page[Session]):
    """Serves an exhibit; see `Page`."""

    def __init__(self, exhibit: Exhibit, host: str, port: int) -> None:
        self._exhibit = exhibit
        near, far = exhibit.depth_range
        self._space = ViewerSpace(TYPICAL_DEPTH / math.sqrt(near * far))
        super().__init__(exhibit.title, self._session, host, port)

    def _session(self, client: viser.ClientHandle) -> Session:
        return Session(client, self._exhibit, self._space, self._publish)

    def _publish(self, exhibit: Exhibit) -> None:
        """Show another exhibit, of the same scene, to visitors who come from now on."""
        self._exhibit = exhibit

    def _furnish(self) -> None:
        """Set what all visitors share: looks, and where they start."""
        super()._furnish()
        server, start = self._server, self._exhibit.start
        server.scene.set_up_direction(self._exhibit.up.numpy())
        pose = self._space.pose(start)
        _, down, forward = pose.axes.T
        server.initial_camera.position = pose.position
        server.initial_camera.look_at = pose.position + TYPICAL_DEPTH * forward
        server.initial_camera.up = -down
        server.initial_camera.fov = field_of_view(start, start.width / start.height)


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach `host`."""
    return all(ipaddress.ip_address(address[0]).is_loopback for _, address in addresses(host))


def addresses(host: str) -> list[tuple[int, tuple]]:
    """Family and address of everything that a host's name stands for.

    Raises:
        InputError: nobody knows the name, or it is none.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for a part of more than 63 letters
        reason = error.strerror if isinstance(error, OSError) else "no name of a computer"
        raise InputError(f"`host` {host} is not known ({reason}): {ADVICE}.") from error
    return [(family, address) for family, _, _, _, address in found]


def free_port(host: str, port: int | None) -> int:
    """`port`, or the first free one from `FIRST_PORT` on.

    Raises:
        InputError: the port is taken, or the host is no address of this computer.
    """
    check_number("port", port, least=1, most=65535, whole=True)
    family, address = addresses(host)[0]
    problem = ""
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address[0], candidate))
                return candidate
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise InputError(f"`host` {host} is another computer: {ADVICE}.") from error
                problem = error.strerror
    if port is None:
        raise InputError(f"No port from {FIRST_PORT} on is free ({problem}): give one with `port`.")
    raise InputError(f"`port` {port} cannot be used ({problem}): give another, or leave it out.")
