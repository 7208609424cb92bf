"""A digital twin: a small car drives through a reconstructed scene to a goal, by pictures of that scene.

    pip install 'cocogs[mesh,twin]'
    cocogs mesh RUN scene.ply
    python examples/digital_twin.py RUN scene.ply twin.mp4 --metres-per-unit 0.044

MuJoCo moves the car: two driven wheels and casters on a height field made of the mesh. The mesh itself is
there to be looked at. The car sees the splats of the run and decides by its pictures alone where to drive:
examples/digital_twin_car.py.
"""

import argparse
import importlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digital_twin_car import CELL, TRACK, WHEEL, Driver, Eyes  # pyright: ignore[reportMissingImports]
from PIL import Image, ImageDraw
from plyfile import PlyData

from cocogs import load_run
from cocogs.gaussians import Gaussians
from cocogs.io.pictures import to_picture, write_film
from cocogs.rasterize.constants import SH_C0

mujoco: Any = importlib.import_module("mujoco")  # its functions are compiled, without types

LENGTH, WIDTH = 0.046, 0.028  # the car's body, m
ABOVE = 0.4  # m: what is higher hangs over the car
FLAT = 0.006  # m: what is lower is the roughness of a reconstructed table
BALL, BALL_HEIGHT, MAGENTA = 0.02, 0.12, (1.0, 0.0, 0.9)  # radius and height of the middle, m; colour
RATE = 6  # pictures a second
PLANES, THIN = 3000, 0.006  # planes tried for the ground; distance from it of what counts as ground, m


@dataclass
class Scene:
    """In metres; the ground is z = 0, z is up, the first photo's camera is above x = y = 0 and looks along y.

    `heights` (Y, X) are those of cells `CELL` wide, the first at `corner`.
    """

    gaussians: Gaussians
    vertices: np.ndarray
    faces: np.ndarray
    heights: np.ndarray = field(default_factory=lambda: np.zeros((1, 1)))
    corner: np.ndarray = field(default_factory=lambda: np.zeros(2))


def load_scene(run_folder: Path, mesh: Path, metres: float | None) -> Scene:
    """The splats and the mesh of a run."""
    run = load_run(run_folder)
    facts = json.loads(mesh.with_suffix(".mesh.json").read_text())
    metres = metres or facts["metres_per_unit"]
    if metres is None:
        raise SystemExit("EXIF does not tell how long a scene unit is: give --metres-per-unit.")
    ply = PlyData.read(mesh)
    vertices = np.stack([np.asarray(ply["vertex"][axis], float) for axis in "xyz"], 1)
    vertices *= metres / (facts["metres_per_unit"] or 1.0)
    faces = np.stack(list(ply["face"].data[ply["face"].data.dtype.names[0]]))
    pose = run.scene.views[0].camera.cam_from_world.numpy().astype(float)
    place, ahead = -pose[:3, :3].T @ pose[:3, 3] * metres, pose[2, :3]
    middle, up = ground(vertices, faces, np.array(facts["up"]))
    forward = ahead - up * (ahead @ up)
    forward /= np.linalg.norm(forward)
    turn = np.stack([np.cross(forward, up), forward, up])
    origin = place - up * ((place - middle) @ up)
    gaussians = run.model.gaussians.transformed(
        torch.from_numpy(turn), torch.from_numpy(-turn @ origin), metres
    )
    return with_heights(Scene(gaussians, (vertices - origin) @ turn.T, faces))


def ground(vertices: np.ndarray, faces: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A point and the normal of the plane, level within 25 degrees, on which most of the mesh lies."""
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    generator = np.random.default_rng(0)
    corners = corners[generator.choice(len(faces), 5000, p=area / area.sum())]
    points = np.einsum("kc,kcd->kd", generator.dirichlet([1, 1, 1], len(corners)), corners)
    most, middle, normal = 0, points[0], up
    for a, b, c in points[generator.integers(0, len(points), (PLANES, 3))]:
        across = np.cross(b - a, c - a)
        across /= np.linalg.norm(across) + 1e-30
        if abs(across @ up) > 0.9 and (count := int((np.abs((points - a) @ across) < THIN).sum())) > most:
            most, middle, normal = count, a, across
    for _ in range(10):
        close = points[np.abs((points - middle) @ normal) < THIN]
        middle = close.mean(0)
        normal = np.linalg.svd(close - middle, full_matrices=False)[2][2]
    return middle, normal * np.sign(normal @ up)


def with_heights(scene: Scene) -> Scene:
    """The height of the mesh over the ground, seen from above; what is under something is filled."""
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], 64)
    points = np.einsum("kc,fcd->fkd", weights, scene.vertices[scene.faces]).reshape(-1, 3)
    points = points[points[:, 2] < ABOVE]
    low, high = np.quantile(points[:, :2], (0.005, 0.995), axis=0)
    low[1] = min(low[1], 0.2)  # the car may start before what the mesh holds
    cells = np.floor((points[:, :2] - low) / CELL).astype(int)
    columns, rows = np.ceil((high - low) / CELL).astype(int)
    heights = np.zeros((rows, columns))
    inside = ((cells >= 0) & (cells < (columns, rows))).all(1)
    np.maximum.at(heights, (cells[inside, 1], cells[inside, 0]), points[inside, 2])
    heights[heights < FLAT] = 0
    return Scene(scene.gaussians, scene.vertices, scene.faces, heights, low)


def with_ball(gaussians: Gaussians, place: np.ndarray) -> Gaussians:
    """The splats and a magenta ball over a place of the ground."""
    index = torch.arange(400) + 0.5
    height, turn = 1 - 2 * index / 400, math.pi * (1 + math.sqrt(5)) * index
    around = torch.stack([turn.cos(), turn.sin()], -1) * (1 - height.square()).sqrt()[:, None]
    points = BALL * torch.cat([around, height[:, None]], -1) + torch.tensor([*place, BALL_HEIGHT]).float()
    ball = Gaussians(
        gaussians.antialiased, means=points, quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(400, 1),
        scales=torch.full((400, 3), math.log(BALL / 10)), opacities=torch.full((400,), 4.0),
        sh0=((torch.tensor(MAGENTA) - 0.5) / SH_C0).expand(400, 1, 3), shN=torch.zeros(400, 15, 3),
    )  # fmt: skip
    return Gaussians.joined([gaussians, ball])


def physics(scene: Scene, start: np.ndarray) -> Any:
    """The scene and the car at a place of the ground, looking along y."""
    rows, columns = scene.heights.shape
    half = np.array([columns, rows]) * CELL / 2
    middle, top = scene.corner + half, max(float(scene.heights.max()), 0.01)
    text = {"v": scene.vertices.astype(np.float32), "f": scene.faces}
    text = {name: " ".join(map(str, values.ravel())) for name, values in text.items()}
    wheel = """<body name="{0}" pos="0 {1} {2}"><joint name="{0}" axis="0 1 0"/>
        <geom type="cylinder" size="{2} .004" euler="90 0 0" mass=".02" friction="1.2"/></body>"""
    wheels = "".join(
        wheel.format(name, side * TRACK / 2, WHEEL) for name, side in (("left", 1), ("right", -1))
    )
    caster = '<geom type="sphere" size=".006" pos="{} 0 .0065" mass=".01" condim="1" priority="1"/>'
    casters = "".join(caster.format(side * (LENGTH / 2 - 0.008)) for side in (1, -1))
    model = mujoco.MjModel.from_xml_string(f"""<mujoco>
      <option timestep=".002" integrator="implicitfast"/>
      <asset><hfield name="ground" nrow="{rows}" ncol="{columns}" size="{half[0]} {half[1]} {top} .05"/>
        <mesh name="scene" inertia="shell" vertex="{text["v"]}" face="{text["f"]}"/></asset>
      <worldbody><geom type="plane" size="5 5 1"/>
        <geom name="ground" type="hfield" hfield="ground" pos="{middle[0]} {middle[1]} 0"/>
        <geom type="mesh" mesh="scene" contype="0" conaffinity="0" group="2"/>
        <body name="car" pos="{start[0]} {start[1]} .003" euler="0 0 90"><freejoint/><site name="middle"/>
          <geom name="body" type="box" size="{LENGTH / 2} {WIDTH / 2} .01" pos="0 0 .022" mass=".1"/>
          {casters}{wheels}</body></worldbody>
      <sensor><gyro name="gyro" site="middle"/></sensor>
      <actuator><velocity joint="left" kv=".01"/><velocity joint="right" kv=".01"/></actuator>
    </mujoco>""")
    model.hfield_data[:] = (scene.heights / top).ravel()
    return model


@dataclass
class Drive:
    """What happened: the true places of the car, whether its body touched anything, the film's frames."""

    arrived: bool
    track: np.ndarray
    touched: bool
    seconds: float
    frames: list[Image.Image]


def drive(scene: Scene, start: np.ndarray, goal: np.ndarray, seconds: float = 20.0) -> Drive:
    """Let the car drive until it has arrived, or the time is over."""
    model = physics(scene, start)
    state = mujoco.MjData(model)
    eyes = Eyes(with_ball(scene.gaussians, goal))
    driver, track, frames, touched = Driver(eyes), [], [], False
    joints = [model.joint(name).dofadr[0] for name in ("left", "right")]
    body = model.geom("body").id
    while state.time < seconds and not driver.arrived():
        car = state.body("car")
        pictures = eyes.look(car.xpos.copy(), car.xmat.reshape(3, 3).copy()) if state.time > 0 else None
        if pictures is not None:
            driver.see(pictures)
            track.append(car.xpos[:2].copy())
            frames.append(film_frame(pictures[0], scene, np.array(track), driver, start, goal))
            state.ctrl[:] = driver.wheels()
        for _ in range(round(1 / RATE / model.opt.timestep)):
            mujoco.mj_step(model, state)
            left, right = (float(state.qvel[joint]) * WHEEL * model.opt.timestep for joint in joints)
            driver.roll(left, right, float(state.sensor("gyro").data[2]) * model.opt.timestep)
            touched |= any(body in contact.geom for contact in state.contact)
    return Drive(driver.arrived(), np.array(track), touched, float(state.time), frames)


def film_frame(
    picture: torch.Tensor,
    scene: Scene,
    track: np.ndarray,
    driver: Driver,
    start: np.ndarray,
    goal: np.ndarray,
) -> Image.Image:
    """What the left camera sees, and the scene from above: white is high; the path driven (orange), the one
    planned (blue), what the car takes for obstacles (red), the goal (magenta)."""
    eye = to_picture(picture).resize((640, 480), Image.Resampling.BICUBIC)
    shade = np.repeat((40 + 190 * (scene.heights / 0.15).clip(0, 1))[..., None], 3, 2)
    rows, columns = np.nonzero(driver.map > 1)
    offset = start - scene.corner

    def cell(places: np.ndarray) -> np.ndarray:
        return (places + offset) / CELL

    marks = cell(np.stack([columns, rows], 1) * CELL - driver.half).astype(int)
    marks = marks[((marks >= 0) & (marks < shade.shape[1::-1])).all(1)]
    shade[marks[:, 1], marks[:, 0]] = (200, 60, 50)
    above = Image.fromarray(shade.astype(np.uint8)[::-1])
    scale = 480 / max(above.size)
    above = above.resize((round(above.width * scale), round(above.height * scale)), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(above)
    for places, colour in ((driver.path, (80, 150, 255)), (track - start, (255, 160, 30))):
        points = [(x * scale, above.height - y * scale) for x, y in cell(places)]
        if len(points) > 1:
            draw.line(points, colour, 3)
    x, y = cell(goal - start) * scale
    draw.ellipse([x - 6, above.height - y - 6, x + 6, above.height - y + 6], (255, 0, 230))
    frame = Image.new("RGB", (640 + 480, 480))
    frame.paste(eye, (0, 0))
    frame.paste(above, (640 + (480 - above.width) // 2, (480 - above.height) // 2))
    return frame


def write(frames: list[Image.Image], film: Path) -> None:
    """The frames as a film."""
    folder = film.with_suffix(".frames")
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:04d}.png" for number in range(len(frames))]
    for frame, file in zip(frames, files, strict=True):
        frame.save(file)
    write_film(files, RATE, film)
    for file in files:
        file.unlink()
    folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive a small car through a reconstructed scene.")
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("mesh", type=Path, help="its mesh, a .ply that `cocogs mesh` wrote")
    parser.add_argument("film", type=Path, help="the film to write, .mp4")
    parser.add_argument("--metres-per-unit", type=float, help="where the run does not know it")
    parser.add_argument(
        "--start",
        type=float,
        nargs=2,
        default=(0.06, 0.36),
        metavar=("X", "Y"),
        help="m to the right of and before the first photo's camera",
    )
    parser.add_argument(
        "--goal", type=float, nargs=2, default=(0.06, 0.88), metavar=("X", "Y"), help="likewise"
    )
    options = parser.parse_args()
    scene = load_scene(options.run, options.mesh, options.metres_per_unit)
    goal = np.array(options.goal)
    done = drive(scene, np.array(options.start), goal)
    write(done.frames, options.film)
    left = float(np.linalg.norm(done.track[-1] - goal))
    end = "Arrived" if done.arrived else "Not arrived"
    touched = "something" if done.touched else "nothing"
    print(f"{end} after {done.seconds:.1f} s, {left:.2f} m from the ball; the body touched {touched}.")
    print(options.film)


if __name__ == "__main__":
    main()
