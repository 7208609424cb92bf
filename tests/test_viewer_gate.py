"""The door of the viewer: foreign pages stay out, and garbage leaves no traceback."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
import viser
from tiny_run import tiny_gaussians
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cocogs.viewer.exhibit import exhibit_gaussians
from cocogs.viewer.gate import is_sane
from cocogs.viewer.server import Viewer, free_port

PROTOCOLS = [Subprotocol(f"viser-v{viser.__version__}")]


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    viewer = Viewer(exhibit_gaussians(tiny_gaussians(), "scene"), "127.0.0.1", free_port("127.0.0.1", None))
    yield viewer
    viewer.stop()


def status(viewer: Viewer, **headers: str) -> int:
    """Of the page, as a browser asks for it."""
    asked = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    asked.request("GET", "/", headers=headers)
    with closing(asked), asked.getresponse() as answer:
        answer.read()
        return answer.status


def is_let_in(viewer: Viewer, host: str, origin: str | None) -> bool:
    """Whether a page may open a connection."""
    headers = {} if origin is None else {"Origin": origin}
    try:
        with connect(f"ws://{host}:{viewer.port}", subprotocols=PROTOCOLS, additional_headers=headers):
            return True
    except InvalidStatus as error:
        assert error.response.status_code == 403
        return False


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost:9000", 200),  # through a tunnel
        ("127.0.0.1:{port}", 200),
        ("[::1]:{port}", 200),
        ("evil.example:{port}", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[", 403),
    ],
)
def test_only_names_of_this_computer_are_answered(viewer: Viewer, host: str, code: int) -> None:
    assert status(viewer, Host=host.format(port=viewer.port)) == code


def test_only_our_own_page_may_connect(viewer: Viewer) -> None:
    own = f"127.0.0.1:{viewer.port}"
    assert is_let_in(viewer, "127.0.0.1", None)  # no browser
    assert is_let_in(viewer, "127.0.0.1", f"http://{own}")
    for origin in (
        "https://evil.example",
        f"http://evil.example:{viewer.port}",
        "null",
        "http://127.0.0.1:1",
    ):
        assert not is_let_in(viewer, "127.0.0.1", origin), origin
    assert status(viewer, Origin="https://evil.example") == 403


def test_where_others_may_look_their_pages_may_not(viewer: Viewer) -> None:
    """By any name, as we cannot know by which the others call this computer."""
    everybody = Viewer(exhibit_gaussians(tiny_gaussians(), "scene"), "0.0.0.0", free_port("0.0.0.0", None))
    try:
        assert status(everybody, Host="our-computer:8080", Origin="http://our-computer:8080") == 200
        assert status(everybody, Host="our-computer:8080", Origin="http://evil.example") == 403
    finally:
        everybody.stop()


CAMERA = {
    "type": "ViewerCameraMessage", "wxyz": [1, 0, 0, 0], "position": [0, 0, 0], "fov": 0.8, "near": 0.01,
    "far": 1000, "image_height": 36, "image_width": 48, "look_at": [0, 0, 1], "up_direction": [0, -1, 0],
}  # fmt: skip
DRAG = {
    "type": "SceneNodeDragMessage", "phase": "update", "name": "/edit/canvas", "instance_index": None,
    "start_position": [0, 0, 0], "start_screen_pos": [0, 0], "end_position": [0, 0, 0],
    "end_screen_pos": [0, 0], "button": "left", "modifier": None, "owner": "",
}  # fmt: skip
GIZMO = {
    "type": "TransformControlsUpdateMessage", "name": "/edit/move", "wxyz": [1, 0, 0, 0],
    "position": [0, 0, 0], "owner": "",
}  # fmt: skip
NAN = float("nan")
GARBAGE: list[Any] = [
    *({**CAMERA, "fov": fov} for fov in (0, NAN, 10, "x", None, -1)),
    *({**CAMERA, "wxyz": wxyz} for wxyz in ([1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0, 0], "abcd", 5)),
    *({**CAMERA, "position": place} for place in ([NAN, 0, 0], [1e300, 0, 0], [0, 0], [[0], 0, 0])),
    *({**CAMERA, "image_width": width} for width in (0, -5, 1e300, NAN)),
    {key: value for key, value in CAMERA.items() if key != "fov"},
    {**CAMERA, "more": 1},
    {"type": "ScenePointerMessage", "event_type": "click", "screen_pos": []},
    {**DRAG, "end_screen_pos": [0]},
    {**DRAG, "start_screen_pos": [0, NAN]},
    {**GIZMO, "wxyz": [0, 0, 0, 0]},
    {**GIZMO, "position": [0, 0]},
    {"type": "NoSuchMessage"},
    {},
    [],
    7,
]


def test_garbage_is_told_from_messages() -> None:
    for message in (CAMERA, DRAG, GIZMO):
        assert is_sane(msgspec.msgpack.encode(message))
    for message in GARBAGE:
        assert not is_sane(msgspec.msgpack.encode(message)), message
    for data in (b"", b"\xc1", b"\x91" * 10_000, "text"):
        assert not is_sane(data)


def test_garbage_leaves_no_traceback(viewer: Viewer, capfd: pytest.CaptureFixture[str]) -> None:
    uuid = {"type": "GuiUpdateMessage", "uuid": "none", "updates": {"value": 1}}
    with connect(f"ws://127.0.0.1:{viewer.port}", subprotocols=PROTOCOLS) as visitor:
        for message in (GARBAGE[0], CAMERA, *GARBAGE, uuid):
            visitor.send(msgspec.msgpack.encode(message))
        visitor.send("text")
        eventually(lambda: len(viewer.sessions) == 1)
        (session,) = viewer.sessions.values()
        for message in (*GARBAGE, {**CAMERA, "position": [0.5, 0, 0]}):
            visitor.send(msgspec.msgpack.encode(message))
        eventually(lambda: session._client.camera.position[0] == 0.5)
        eventually(lambda: session.drawn is not None)
    eventually(lambda: not viewer.sessions)
    assert capfd.readouterr().err == ""
    eventually(lambda: all(thread.name != "cocogs-render" for thread in threading.enumerate()))


def eventually(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
