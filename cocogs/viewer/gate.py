"""The door of the web server: which pages may reach it, and which messages of visitors are let in.

Browsers let every page that somebody visits connect to any address of their computer. They say where the page
is from (`Origin`) and by which name it called us (`Host`, which a foreign name server can make up).
"""

import asyncio
import http
import ipaddress
import logging
import math
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import viser.infra
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

LARGEST = 1e9  # of a number in a message
FOREIGN = "This page of cocogs is for its own visitors: open the address that `cocogs view` printed.\n"
SIZES = {
    "ViewerCameraMessage": {"wxyz": 4, "position": 3, "look_at": 3, "up_direction": 3},
    "TransformControlsUpdateMessage": {"wxyz": 4, "position": 3},
    "SceneNodeDragMessage": {"start_screen_pos": 2, "end_screen_pos": 2},
}
QUIET = logging.getLogger("cocogs.viewer")  # of broken connections: they are the visitors', not the user's
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@contextmanager
def guarding(own_names: tuple[str, ...] | None) -> Iterator[None]:
    """Within it, viser must start one server, and that gets this door: viser itself offers no place for one.

    Args:
        own_names: by which the page may be called besides those of the loopback; None = by any name, where
            other computers may look.
    """
    serve, started = websockets.asyncio.server.serve, []
    warnings.filterwarnings("ignore", r"\[viser\] .* does not match annotation")  # such messages are ignored

    def guarded(handler: Callable[[ServerConnection], Awaitable[None]], *args: Any, **options: Any) -> Any:
        answer = options["process_request"]

        def admit(connection: ServerConnection, request: Request) -> Response | None:
            if not is_own(request.headers, own_names):
                return connection.respond(http.HTTPStatus.FORBIDDEN, FOREIGN)
            return answer(connection, request)

        async def handle(connection: ServerConnection) -> None:
            receive = connection.recv

            async def recv() -> Any:
                while not is_sane(data := await receive()):
                    pass
                return data

            connection.recv = recv  # pyright: ignore[reportAttributeAccessIssue]
            await handler(connection)

        asyncio.get_running_loop().set_exception_handler(TellOnce())
        started.append(True)
        return serve(handle, *args, **{**options, "process_request": admit, "logger": QUIET})

    websockets.asyncio.server.serve = guarded
    try:
        yield
    finally:
        websockets.asyncio.server.serve = serve
    assert started, "viser starts its server in another way: anybody could reach it"


def is_own(headers: Headers, own_names: tuple[str, ...] | None) -> bool:
    """Whether a request is by a page of this server, or by no page; see `guarding`."""
    hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
    if len(hosts) != 1 or len(origins) > 1:
        return False
    try:
        name = urlsplit(f"//{hosts[0]}").hostname or ""
        own_page = not origins or urlsplit(origins[0]).netloc.lower() == hosts[0].lower()
    except ValueError:
        return False
    return own_page and (own_names is None or name in ("localhost", *own_names) or _is_loopback(name))


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_sane(data: str | bytes) -> bool:
    """Whether a visitor's message is one of viser's, with numbers that can be meant."""
    try:
        message = viser.infra.Message.deserialize(data)  # pyright: ignore[reportArgumentType]
        values = vars(message)
        if not _is_finite(list(values.values())):
            return False
        kind = type(message).__name__
        if any(len(values[name]) != size for name, size in SIZES.get(kind, {}).items()):
            return False
        if "wxyz" in SIZES.get(kind, {}) and math.hypot(*values["wxyz"]) < 1e-6:
            return False
        if kind == "ViewerCameraMessage":
            window = min(values["image_width"], values["image_height"])
            return 1e-3 < values["fov"] < 3.14 and window >= 1
        if kind == "ScenePointerMessage":
            return all(len(place) == 2 for place in values["screen_pos"]) and len(values["screen_pos"]) > 0
        return True
    except Exception:  # viser raises many kinds for what is no message
        return False


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, int | float) or abs(value) <= LARGEST


class TellOnce:
    """Takes errors in the server's own thread, and tells the first in one line."""

    def __init__(self) -> None:
        self.told = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.told:
            self.told = True
            problem = context.get("exception") or context["message"]
            print(f"cocogs: warning: A visitor's message cannot be used ({problem!r}).", file=sys.stderr)
