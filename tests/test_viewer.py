"""The viewer without a browser: cameras there and back, what is shown, ports, films."""

import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import viser
from PIL import Image
from scenes import tilted_camera
from test_ply import write_vertices
from tiny_run import tiny_gaussians, tiny_run

import cocogs
from cocogs.camera import Camera
from cocogs.cli import main
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.io.camera_path import CameraPath, LensSetting, PathFrame, path_to_json, read_camera_path
from cocogs.io.lens_file import write_lens_file
from cocogs.io.photos import LensFacts
from cocogs.io.pictures import to_picture
from cocogs.io.ply import write_ply
from cocogs.learned_lens import lens_file
from cocogs.optics.lens import Lens
from cocogs.render.frames import in_scene, sized
from cocogs.render.paths import fill_in
from cocogs.run import Run, load_run
from cocogs.viewer import server
from cocogs.viewer.dial import Dial, fine_step
from cocogs.viewer.exhibit import Exhibit, depth_range, exhibit_run, open_exhibit
from cocogs.viewer.landmarks import frame_at
from cocogs.viewer.request import Request, describe, even_sized
from cocogs.viewer.schedule import Effort
from cocogs.viewer.server import FIRST_PORT, free_port, is_loopback
from cocogs.viewer.session import Session
from cocogs.viewer.space import Places, ViewerSpace, field_of_view, frame_in_window

REPOSITORY = Path(cocogs.__file__).parents[1]
POINTS = torch.tensor([[0.5, 0.2, 4.0], [-1.0, 0.7, 6.0], [0.1, -0.4, 3.0]], dtype=torch.float64)


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture
def run(root: Path) -> Exhibit:
    return open_exhibit(tiny_run(root, "lens"))


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


# Cameras.


@pytest.mark.parametrize("scale", [1.0, 0.07, 25.0])
def test_a_camera_survives_the_way_to_viser_and_back(scale: float) -> None:
    space = ViewerSpace(scale)
    camera = tilted_camera(640, 426)
    camera = replace(camera, intrinsics=torch.tensor([[700, 0, 320], [0, 700, 213], [0, 0, 1]]).double())
    back = space.camera(space.pose(camera), field_of_view(camera, 640 / 426), 640, 426, camera)
    torch.testing.assert_close(back.cam_from_world, camera.cam_from_world)
    torch.testing.assert_close(back.intrinsics, camera.intrinsics)


def test_axes_are_the_cameras_own() -> None:
    camera = tilted_camera()
    pose = ViewerSpace(2.0).pose(camera)
    for axis in range(3):
        np.testing.assert_allclose(pose.axes[:, axis], camera.cam_from_world[axis, :3], atol=1e-7)
    np.testing.assert_allclose(pose.position, 2 * camera.position.numpy())


@pytest.mark.parametrize("aspect", [0.5, 1.0, 53 / 37, 3.0])
def test_a_window_of_any_shape_holds_the_whole_photo_and_touches_its_frame(aspect: float) -> None:
    photo = tilted_camera(53, 37, cx=20, cy=22)
    height = 300
    space = ViewerSpace(1.0)
    window = space.camera(
        space.pose(photo), field_of_view(photo, aspect), round(height * aspect), height, photo
    )
    left, top, right, bottom = frame_in_window(photo, window)
    assert left >= -1 and top >= -1 and right <= window.width + 1 and bottom <= height + 1
    assert min(left, top, window.width - right, height - bottom) == pytest.approx(0, abs=1)


def test_a_photo_lies_on_the_render_from_its_place() -> None:
    """A point is seen at the same place of the photo's frame in the window as in the photo."""
    photo = tilted_camera(53, 37, cx=20, cy=22)
    space = ViewerSpace(0.4)
    window = space.camera(space.pose(photo), field_of_view(photo, 1.5), 600, 400, photo)
    left, top, right, bottom = frame_in_window(photo, window)
    in_photo, in_window = photo.project(POINTS)[0], window.project(POINTS)[0]
    expected = in_photo / torch.tensor([53, 37]) * torch.tensor([right - left, bottom - top])
    torch.testing.assert_close(in_window, expected + torch.tensor([left, top]))


def test_places_are_found_from_near_and_in_their_direction_only() -> None:
    here = tilted_camera()
    moved, turned = here.cam_from_world.clone(), here.cam_from_world.clone()
    moved[0, 3] += 0.1
    angle = math.radians(1)
    tilt = torch.eye(4).double()
    tilt[0, 0] = tilt[1, 1] = math.cos(angle)
    tilt[0, 1], tilt[1, 0] = -math.sin(angle), math.sin(angle)
    turned = tilt @ turned
    other = replace(here, cam_from_world=moved)
    places = Places([other, here], tolerance=0.01)
    assert places.find(here) == 1
    assert places.find(other) == 0
    assert places.find(replace(here, cam_from_world=turned)) is None
    assert Places([here], tolerance=0.01).find(other) is None
    tripod = Places([other, here, here, here], tolerance=0.01)
    assert [tripod.find(here, rather) for rather in range(4)] == [1, 1, 2, 3]
    assert Places([], tolerance=0.01).find(here) is None


def test_frames_in_focus_lie_at_their_depth_under_the_corners() -> None:
    camera = tilted_camera(53, 37)
    pixels, depths = camera.project(frame_at(camera, 3.5))
    torch.testing.assert_close(depths, torch.full((4,), 3.5).double())
    torch.testing.assert_close(
        pixels, torch.tensor([[0, 0], [53, 0], [53, 37], [0, 37]]).double(), atol=1e-5, rtol=0
    )


def test_sizes_of_pictures() -> None:
    camera = tilted_camera(640, 426)
    assert camera.resized_by(1) is camera
    assert (camera.resized_by(0.5).width, camera.resized_by(0.5).height) == (320, 213)
    assert (camera.resized_by(1e-6).width, camera.resized_by(1e-6).height) == (1, 1)
    wide = even_sized(camera, 1601)
    assert wide.width % 2 == wide.height % 2 == 0 and abs(wide.width - 1601) == 1
    torch.testing.assert_close(wide.fx, camera.fx * wide.width / 640)


# What is shown.


@pytest.mark.thorough
def test_a_run_is_shown_with_its_photos_and_their_lenses(run: Exhibit) -> None:
    assert run.title == "tiny_run_lens"
    assert [photo.name for photo in run.photos] == [f"view_{i}.png" for i in range(8)]
    assert [photo.lens is None for photo in run.photos] == [i % 4 == 0 for i in range(8)]
    load = run.photos[3].load
    assert load is not None and load().shape == (3, 36, 48)
    near, far = run.depth_range
    assert 0 < near < 2.5 and 5 < far < 30
    assert all(near < photo.lens.focus_distance < far for photo in run.photos if photo.lens)
    assert run.up[1] < -0.99  # y points down
    assert run.metres is None and run.focal_length is None  # there is no EXIF


def test_a_photo_focused_at_infinity_leaves_the_sliders_fine() -> None:
    depths = torch.linspace(2.0, 10.0, 100)
    near, far = depth_range(depths, [3.0, 5.0])
    assert 1 < near < 2 and 10 < far < 14
    assert depth_range(depths, [3.0, 5.0, 5e3])[0] == near and far < depth_range(depths, [5e3])[1] < 30
    assert 0.5 < depth_range(depths, [1e-3])[0] < near


def test_drawing_asks_between_lens_samples_whether_to_go_on(run: Exhibit) -> None:
    calls = []
    picture = run.draw(run.start, run.lens, 5, lambda: calls.append(1))
    assert picture.shape == (3, 36, 48) and len(calls) == 5

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        run.draw(run.start, run.lens, 5, stop)


def test_depth_is_that_of_what_is_seen(run: Exhibit) -> None:
    depth = run.depth(run.start)
    solid = depth.isfinite()
    assert depth.shape == (36, 48) and solid.float().mean() > 0.3
    assert depth[solid].min() > 2 and depth[solid].max() < 8


def test_a_run_without_lens_is_shown_with_a_guessed_one(root: Path) -> None:
    shown = open_exhibit(tiny_run(root, "3dgs"))
    assert all(photo.lens is None for photo in shown.photos)
    near, far = shown.depth_range
    assert near < shown.lens.focus_distance < far and shown.lens.aperture_diameter > 0


def test_a_ply_is_shown_from_where_it_is_seen(tmp_path: Path) -> None:
    write_ply(tmp_path / "scene.ply", tiny_gaussians())
    shown = open_exhibit(tmp_path / "scene.ply")
    assert shown.title == "scene" and not shown.photos
    render = shown.draw(shown.start, shown.lens, 0, lambda: None)
    assert render.shape == (3, 426, 640)
    assert shown.depth(shown.start).isfinite().float().mean() > 0.2
    near, far = shown.depth_range
    assert near < shown.lens.focus_distance < far and shown.lens.aperture_diameter > 0


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_ply_of_any_unit_is_shown(scale: float, tmp_path: Path) -> None:
    """In metres a macro scene lies nearer than a near plane of .01 units, and was drawn black."""
    gaussians = tiny_gaussians()
    write_ply(tmp_path / "scene.ply", gaussians)
    with torch.no_grad():
        gaussians.means *= scale
        gaussians.scales += math.log(scale)
    write_ply(tmp_path / "scaled.ply", gaussians)
    usual, other = open_exhibit(tmp_path / "scene.ply"), open_exhibit(tmp_path / "scaled.ply")
    assert other.start.near == pytest.approx(scale * usual.start.near)
    pictures = [shown.draw(shown.start, shown.lens, 0, lambda: None) for shown in (usual, other)]
    assert pictures[0].mean() > 0.05
    torch.testing.assert_close(pictures[1], pictures[0], atol=4e-3, rtol=0)


def test_the_cameras_of_a_lens_file_have_a_near_plane_for_its_splats(root: Path, tmp_path: Path) -> None:
    shown = open_exhibit(exported(load_run(tiny_run(root, "lens")), tmp_path))
    [near] = {photo.camera.near for photo in shown.photos}
    assert 2e-3 < near < 7e-3 and shown.start.near == near  # depths of 2 to 7


def test_cameras_made_by_hand_keep_the_near_plane_of_the_scene(root: Path, tmp_path: Path) -> None:
    """The window of the viewer, the frames of its films, and cameras that come back from a file."""
    photo = replace(tilted_camera(), near=0.002)
    space = ViewerSpace(0.3)
    window = space.camera(space.pose(photo), 0.8, 60, 40, like=photo)
    frames = fill_in([PathFrame(photo), PathFrame(window)], 3)
    file = tmp_path / "path.json"
    file.write_text(path_to_json(CameraPath(24.0, [PathFrame(window)])))
    read = in_scene(read_camera_path(file).frames[0].camera, photo)
    sizes = [window.resized_by(0.5), even_sized(window, 30), sized(window, (30, 30))]
    cameras = [window, read, *(frame.camera for frame in frames), *sizes]
    assert [camera.near for camera in cameras] == [0.002] * len(cameras)
    torch.testing.assert_close(read.intrinsics, window.intrinsics)


def test_a_ply_with_plain_colours_only_is_shown(tmp_path: Path) -> None:
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    names += [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)]
    gaussians = tiny_gaussians()
    columns = [getattr(gaussians, name).detach().reshape(160, -1) for name in Gaussians.names[:-1]]
    means, quats, scales, opacities, sh0 = columns
    values = torch.cat([means, sh0, opacities, scales, quats], dim=1).numpy()
    write_vertices(tmp_path / "plain.ply", names, values)
    write_ply(tmp_path / "full.ply", gaussians)
    plain, full = open_exhibit(tmp_path / "plain.ply"), open_exhibit(tmp_path / "full.ply")
    pictures = [shown.draw(full.start, full.lens, 0, lambda: None) for shown in (plain, full)]
    assert torch.equal(*pictures)


def exported(run: Run, folder: Path) -> Path:
    """A .ply of the run with its .lens.json."""
    write_ply(folder / "scene.ply", run.model.gaussians)
    write_lens_file(lens_file(run.model, run.scene), folder / "scene.lens.json")
    return folder / "scene.ply"


def test_a_ply_is_shown_with_the_lens_file_beside_it(run: Exhibit, root: Path, tmp_path: Path) -> None:
    """All that the run itself shows, but for the photos' pictures."""
    shown = open_exhibit(exported(load_run(tiny_run(root, "lens")), tmp_path))
    assert (shown.lens, shown.depth_range) == (run.lens, run.depth_range)
    assert (shown.metres, shown.focal_length) == (None, None)
    assert torch.equal(shown.start.cam_from_world, run.start.cam_from_world)
    assert torch.equal(shown.up, run.up)
    for photo, original in zip(shown.photos, run.photos, strict=True):
        assert (photo.name, photo.lens, photo.load) == (original.name, original.lens, None)
        assert torch.equal(photo.camera.intrinsics, original.camera.intrinsics)
    assert run.shows_photos and not shown.shows_photos


def test_a_lens_file_tells_metres_and_f_number(root: Path, tmp_path: Path) -> None:
    loaded = load_run(tiny_run(root, "lens"))
    facts = LensFacts(f_number=2.0, focal_length_mm=50.0)
    loaded.scene.views = [replace(view, lens=facts) for view in loaded.scene.views]
    loaded.model.lens.aperture.held.fill_(0)  # as if the photos had told it
    shown, expected = open_exhibit(exported(loaded, tmp_path)), exhibit_run(loaded)
    assert shown.metres == expected.metres is not None
    assert shown.focal_length == expected.focal_length is not None


def test_a_lens_file_of_a_run_without_lens_tells_the_cameras(root: Path, tmp_path: Path) -> None:
    shown = open_exhibit(exported(load_run(tiny_run(root, "3dgs")), tmp_path))
    assert len(shown.photos) == 8 and not any(photo.lens for photo in shown.photos)
    assert shown.lens.aperture_diameter > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"schema": "cocogs-lens/1"|"schema": "other/1"', "is not a lens file of cocogs: export again"),
        ('"photos": [|"photos": 3, "rest": [', "is not a lens file of cocogs: export again"),
        ('"offset": [|"offset": [1, ', '"offset" is not a list of three numbers'),
        ('"fx": |"fx": -', 'photo 0: "fx" and "fy" are out of range'),
        ('"fx": |"fx": 1e38, "before": ', 'photo 0: "fx" and "fy" are out of range'),
        ('"cam_from_world": |"elsewhere": ', 'photo 0: "cam_from_world" is not a 4x4 rigid'),
        ('"focus_distance": null|"focus_distance": 2', "photo 0: .* go together"),
        ('"aperture_diameter": |"aperture_diameter": -', '"aperture_diameter" is -.*, which is out of range'),
        (
            '"aperture_diameter": |"aperture_diameter": 1e38, "before": ',
            '"aperture_diameter" is 1e.38, which is',
        ),
        ('"width": |"width": "w" ', "cannot be read .no JSON"),
    ],
)
def test_a_lens_file_that_is_none(root: Path, tmp_path: Path, change: str, message: str) -> None:
    path = exported(load_run(tiny_run(root, "lens")), tmp_path)
    file = path.with_suffix(".lens.json")
    before, after = change.split("|")
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(InputError, match=rf"scene\.lens\.json.*{message}"):
        open_exhibit(path)


def test_exif_tells_metres_and_f_number(run: Exhibit, root: Path) -> None:
    loaded = load_run(tiny_run(root, "lens"))
    facts = LensFacts(f_number=2.0, focal_length_mm=50.0)
    loaded.scene.views = [replace(view, lens=facts) for view in loaded.scene.views]
    loaded.model.lens.aperture.held.fill_(0)  # as if the photos had told it
    shown = exhibit_run(loaded)
    assert shown.metres is not None and shown.focal_length is not None
    assert shown.lens.aperture_diameter * shown.metres == pytest.approx(0.025, rel=1e-4)  # 50 mm at f/2
    assert shown.focal_length / shown.lens.aperture_diameter == pytest.approx(2.0, rel=1e-4)
    assert shown.focal_length * shown.metres == pytest.approx(0.05, rel=1e-4)
    loaded.scene.views = [
        replace(view, lens=replace(facts, focal_length_mm=None)) for view in loaded.scene.views
    ]
    loaded = replace(loaded)  # what was learned is looked up once
    shown = exhibit_run(loaded)
    assert shown.metres is None and shown.focal_length is not None


# Controls.


@pytest.mark.parametrize(("span", "step"), [(1.0, 0.001), (68.0, 0.1), (0.03, 1e-5), (5000.0, 10.0)])
def test_sliders_are_fine(span: float, step: float) -> None:
    assert fine_step(span) == pytest.approx(step)
    assert 500 <= span / fine_step(span) <= 5001


def test_a_slider_is_wide_only_while_it_has_to_be() -> None:
    class Slider:
        def __init__(self, low: float, high: float, value: float) -> None:
            self.min, self.max, self.value = low, high, value

        def __setattr__(self, name: str, value: float) -> None:
            super().__setattr__(name, value)
            if hasattr(self, "value"):
                assert self.min <= self.value <= self.max

        def on_update(self, changed: object) -> None:
            """The user does not move it."""

    gui = Mock(spec=viser.GuiApi)
    gui.add_slider.side_effect = lambda _, low, high, step, value, hint: Slider(low, high, value)

    def lens(distance: float) -> Lens:
        return Lens(distance, 1.0)

    dial = Dial(gui, "focus", "", (1.0, 9.0), lambda lens: lens.focus_distance, print, lens(2.0))
    for distance, low, high in ((math.inf, 1, 9e6), (3.0, 1, 9), (0.25, 0.25, 9), (5.0, 1, 9)):
        dial.sync(lens(distance))
        assert (dial.handle.min, dial.handle.max) == (low, high)
        assert dial.handle.value == min(distance, 9e6)


@pytest.fixture
def session(run: Exhibit) -> Iterator[Session]:
    """A visitor without a browser: their camera is where it is put, and pictures go nowhere."""
    server = viser.ViserServer("127.0.0.1", free_port("127.0.0.1", None), verbose=False)
    camera = SimpleNamespace(
        wxyz=np.array([1.0, 0, 0, 0]), position=np.zeros(3), fov=0.8, aspect=4 / 3,
        image_width=48, image_height=36, on_update=lambda callback: callback,
    )  # fmt: skip
    client: Any = object.__new__(viser.ClientHandle)  # no connection, and what it would need of one
    vars(client).update(scene=server.scene, gui=server.gui, camera=camera, atomic=nullcontext)
    session = Session(client, run, ViewerSpace(1.0))
    yield session
    session.close()
    server.stop()


def test_blades_are_offered_only_where_they_act(session: Session) -> None:
    """Through an open lens; and their rotation only where there are blades."""
    panel = session._panel

    def offered() -> tuple[bool, bool]:
        assert panel._glow.visible == panel._blades.visible
        return panel._blades.visible, panel._turn.visible

    session.turn_lens(focus_distance=4.0, aperture_diameter=0.2)
    assert offered() == (True, False)
    panel._set_blades("6")
    panel._set_blade_rotation(20.0)
    assert session.lens == Lens(4.0, 0.2, 6, 20.0) and offered() == (True, True)
    assert (panel._blades.value, panel._turn.value) == ("6", 20.0)
    session.set_show("Sharp")
    assert offered() == (False, False)
    session.turn_lens(aperture_diameter=0.0)
    assert offered() == (False, False)
    session.turn_lens(aperture_diameter=0.1, focus_distance=3.0)
    assert session.lens == Lens(3.0, 0.1, 6, 20.0) and offered() == (True, True)
    panel._set_highlights(4.0)
    assert session.lens == Lens(3.0, 0.1, 6, 20.0, 4.0) and panel._glow.value == 4.0
    session.reset_lens()
    assert session.lens.blades == 0 and panel._blades.value == "Round" and offered() == (True, False)
    assert session.lens.highlights == panel._glow.value == 1.0


def test_still_pictures_are_drawn_through_the_blades(session: Session) -> None:
    drawn = {}
    exhibit_draw = session.exhibit.draw

    def draw(camera: Camera, lens: Lens, samples: int, check: Any) -> torch.Tensor:
        drawn[samples] = lens
        return exhibit_draw(camera, lens, samples, check)

    session._painter.exhibit = replace(session.exhibit, draw=draw)
    chosen = Lens(4.0, 0.2, 5, 10.0)
    session.turn_lens(**vars(chosen))
    end = time.monotonic() + 60
    while drawn.get(64) != chosen and time.monotonic() < end:
        time.sleep(0.05)
    assert drawn[64] == chosen


def test_what_is_shown_is_saved(session: Session) -> None:
    """The photo where it is shown and one stands at it, the render everywhere else."""
    client: Any = session._client
    photo, saved = session.exhibit.photos[1], []
    assert photo.load is not None
    client.send_file_download = lambda name, content, save_immediately: saved.append(content)
    client.add_notification = lambda *args, **kwargs: SimpleNamespace(remove=lambda: None)
    pose = ViewerSpace(1.0).pose(photo.camera)
    client.camera.wxyz, client.camera.position = pose.wxyz, pose.position
    width, height = photo.camera.width, photo.camera.height
    expected = np.asarray(to_picture(photo.load()))

    def picture(show: str) -> np.ndarray:
        session.set_show(show)
        session.save_picture(width)
        return np.asarray(Image.open(BytesIO(saved[-1])))

    np.testing.assert_array_equal(picture("Photo"), expected)
    for show in ("Refocused", "Sharp"):
        assert picture(show).shape == (height, width, 3) and not np.array_equal(picture(show), expected)
    session.set_show("Photo")
    client.camera.position = pose.position + 0.5
    session.save_picture(width)
    drawn = np.asarray(Image.open(BytesIO(saved[-1])))
    assert drawn.shape == expected.shape and np.abs(drawn.astype(float) - expected).mean() > 1


def test_the_panel_tells_how_well_a_picture_is_drawn() -> None:
    request = Request(tilted_camera(640, 426), Lens(3.0, 0.1), "Refocused", None, with_depth=False)
    assert describe(request, Effort(0.5, 0, is_coarse=True)) == "Refocused · draft"
    assert (
        describe(request, Effort(1, 16, is_coarse=False)) == "Refocused · 640 × 426 · 16 of 64 lens samples"
    )
    sharp = replace(request, show="Sharp")
    assert sharp.drawn_lens.aperture_diameter == 0 and sharp.refinements == (0,)
    assert describe(sharp, Effort(1, 0, is_coarse=False)) == "Sharp · 640 × 426"


def test_memory_is_given_back_when_the_last_visitor_leaves(
    run: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(server, "release_memory", lambda: events.append("released"))
    viewer = server.Viewer(run, "127.0.0.1", free_port("127.0.0.1", None))
    visitors = [object.__new__(viser.ClientHandle) for _ in range(2)]
    for number, visitor in enumerate(visitors):
        vars(visitor).update(client_id=number)
        closed: Any = SimpleNamespace(close=lambda: events.append("closed"))
        viewer.sessions[number] = closed
    viewer._part(visitors[0])
    assert events == ["closed"]
    viewer._part(visitors[1])
    viewer._part(visitors[1])  # viser may tell it twice
    assert events == ["closed", "closed", "released"]
    viewer.stop()


# Several threads.


def test_the_last_picture_asked_for_shows_the_last_state(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread has looked at the state and is about to ask for its picture when another changes it."""
    asked: list[Request] = []
    looked, changed = threading.Event(), threading.Event()
    slow = threading.Thread(target=session.refresh)
    find = session._places.find

    def find_slowly(*arguments: Any) -> int | None:
        if threading.current_thread() is slow:
            looked.set()
            changed.wait(0.5)
        return find(*arguments)

    monkeypatch.setattr(session._places, "find", find_slowly)
    monkeypatch.setattr(session._loop, "submit", lambda request, _: asked.append(request))
    slow.start()
    assert looked.wait(5)
    session.turn_lens(focus_distance=2.5)
    changed.set()
    slow.join()
    assert [request.lens == session.lens for request in asked] == [False, True]


@pytest.mark.thorough
def test_changes_of_the_lens_from_two_threads_are_all_kept(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film pulls the focus while the visitor opens the lens, turns the blades and clicks."""
    monkeypatch.setattr(session._loop, "submit", lambda *_: None)
    panel, count, lost = session._panel, 100, []

    def insist(change: Callable[[float], None], name: str) -> None:
        for index in range(1, count):
            change(1 + index / count)
            if getattr(session.lens, name) != 1 + index / count:  # nobody else changes this one
                lost.append(name)

    changes = [
        (panel._set_focus, "focus_distance"),
        (panel._set_aperture, "aperture_diameter"),
        (panel._set_highlights, "highlights"),
    ]
    threads = [threading.Thread(target=insist, args=change) for change in changes]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not lost


# Films.


def test_a_focus_pull_stands_still_and_blurs_evenly() -> None:
    camera = tilted_camera()
    frames = fill_in([PathFrame(camera, LensSetting(2.0, 0.1)), PathFrame(camera, LensSetting(8.0, 0.3))], 5)
    distances = [frame.lens.focus_distance for frame in frames if frame.lens]
    assert distances[0] == 2 and distances[-1] == pytest.approx(8)
    np.testing.assert_allclose(np.diff([1 / z for z in distances if z]), -(1 / 2 - 1 / 8) / 4)
    np.testing.assert_allclose(
        [frame.lens.aperture_diameter for frame in frames if frame.lens], [0.1, 0.15, 0.2, 0.25, 0.3]
    )
    for frame in frames:
        torch.testing.assert_close(frame.camera.cam_from_world, camera.cam_from_world)


def test_a_pull_to_infinity_arrives() -> None:
    frames = fill_in(
        [
            PathFrame(tilted_camera(), LensSetting(2.0, 0.1)),
            PathFrame(tilted_camera(), LensSetting(math.inf, 0.1)),
        ],
        3,
    )
    assert [frame.lens.focus_distance for frame in frames if frame.lens] == [2, 4, math.inf]


def test_a_path_runs_through_its_views() -> None:
    views = [rolled(0.0, [0, 0, 0]), rolled(0.4, [1, 0, 0]), rolled(0.4, [1, 2, 0]), rolled(-0.4, [0, 2, 5])]
    frames = fill_in([PathFrame(view) for view in views], 31)
    assert len(frames) == 31
    for index, view in enumerate(views):
        torch.testing.assert_close(frames[10 * index].camera.cam_from_world, view.cam_from_world)
    places = torch.stack([frame.camera.position for frame in frames])
    steps = places.diff(dim=0)
    assert steps.diff(dim=0).norm(dim=1).max() < 0.35 * steps.norm(dim=1).max()  # no corners
    middle = frames[5].camera.cam_from_world
    assert math.atan2(middle[1, 0], middle[0, 0]) == pytest.approx(0.2)
    for frame in frames:
        rotation = frame.camera.cam_from_world[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double())


def rolled(angle: float, place: list[float]) -> Camera:
    """A camera at `place`, turned about its axis."""
    cam_from_world = torch.eye(4).double()
    cam_from_world[0, 0] = cam_from_world[1, 1] = math.cos(angle)
    cam_from_world[1, 0], cam_from_world[0, 1] = math.sin(angle), -math.sin(angle)
    cam_from_world[:3, 3] = -cam_from_world[:3, :3] @ torch.tensor(place).double()
    return Camera(tilted_camera().intrinsics, cam_from_world, 53, 37)


# Ports and hosts.


def test_another_port_is_taken_where_the_first_is_busy(
    busy_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_PORT", busy_port)
    assert busy_port < free_port("127.0.0.1", None) < busy_port + server.PORTS


def test_a_free_port_that_was_asked_for_is_taken() -> None:
    port = free_port("127.0.0.1", None)
    assert port >= FIRST_PORT
    assert free_port("127.0.0.1", port) == port


@pytest.mark.parametrize(
    ("host", "mine_only"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)]
)
def test_only_loopback_is_private(host: str, mine_only: bool) -> None:
    assert is_loopback(host) == mine_only


@pytest.mark.parametrize("host", [f"{'a' * 64}.com", "no-such-host.invalid", "a..b"])
def test_a_name_of_no_computer(host: str) -> None:
    for ask in (is_loopback, lambda name: free_port(name, None)):
        with pytest.raises(InputError, match=rf"`host` {host} is not known \("):
            ask(host)


# What a user can get wrong: one sentence, exit code 2.


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["view", *map(str, arguments)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("cocogs: error: ") and errors.endswith(".\n") and errors.count("\n") == 1
    return errors.removeprefix("cocogs: error: ").strip()


def test_a_busy_port_is_named(busy_port: int, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, tiny_run(root, "lens"), "--port", busy_port)
    assert message == (
        f"--port {busy_port} cannot be used (Address already in use): give another, or leave it out."
    )


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_number_that_is_no_port(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, tmp_path, "--port", port)
    assert message == f"--port must be a whole number from 1 to 65535, not {port}."


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_computer(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--host {host} is" in refused(capsys, tmp_path, "--host", host)


def test_opening_to_others_warns(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        url = "http://localhost:1"

        def __init__(self, exhibit: Exhibit, host: str, port: int) -> None:
            assert host == "0.0.0.0"

        def wait(self) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr(server, "Viewer", Closed)
    assert main(["view", str(tiny_run(root, "lens")), "--host", "0.0.0.0"]) == 0
    assert "warning: everyone who can reach this computer can look" in capsys.readouterr().err


@pytest.mark.thorough
def test_the_page_is_served_until_interrupted(tmp_path: Path) -> None:
    write_ply(tmp_path / "scene.ply", tiny_gaussians())
    command = [sys.executable, "-m", "cocogs", "view", str(tmp_path / "scene.ply")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        # Who runs the tests in the background has them ignore Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url and str(tmp_path / "scene.ply") in line and "Ctrl-C" in line
        with urllib.request.urlopen(url[0]) as page:
            assert page.status == 200 and b"<html" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def test_an_absent_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist: give what `cocogs train --out` wrote" in refused(
        capsys, tmp_path / "none.ply.txt"
    )
    assert "does not exist" in refused(capsys, tmp_path / "none.ply")


def test_a_file_of_another_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scene.obj"
    path.write_bytes(b"x")
    assert f"{path} is neither a run folder nor a .ply nor a photo" in refused(capsys, path)


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a run: it has no config.json" in refused(capsys, tmp_path)


def test_a_run_without_checkpoint(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_bytes((tiny_run(root, "lens") / "config.json").read_bytes())
    assert "checkpoint.pt does not exist: let `cocogs train` run" in refused(capsys, tmp_path)


def test_a_ply_of_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_vertices(tmp_path / "points.ply", ["x", "y", "z", "red"], np.zeros((3, 4)))
    assert "lacks the properties f_dc_0" in refused(capsys, tmp_path / "points.ply")


def test_an_empty_ply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ply(tmp_path / "empty.ply", tiny_gaussians(0))
    assert "empty holds no Gaussians" in refused(capsys, tmp_path / "empty.ply")


def test_one_splat_is_a_scene(tmp_path: Path) -> None:
    write_ply(tmp_path / "one.ply", tiny_gaussians(1))
    shown = open_exhibit(tmp_path / "one.ply")
    assert shown.draw(shown.start, shown.lens, 0, lambda: None).isfinite().all()


def test_nothing_at_a_pixel_is_said(tmp_path: Path) -> None:
    write_ply(tmp_path / "one.ply", tiny_gaussians(1))
    shown = open_exhibit(tmp_path / "one.ply")
    with pytest.raises(InputError, match="nothing at"):
        shown.depth_at(shown.start, 1, 1)
