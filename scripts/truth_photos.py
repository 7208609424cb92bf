"""How a truth scene is photographed: settings, poses, lens, film.

`make_truth_scene.py` and `make_bracket.py` share it; it needs their environment.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from blender_parts import aim_camera, quiet, start_scene
from PIL import Image
from truth_scenes import SCENES, TruthScene

SENSOR_MM = 36.0
PHOTOGRAPHED = "photographed"  # the state of a scene in the photos
PLANES = {"varied": (0.0, 1.0), "two-plane": (0.12, 0.88), "alike": (0.25, 0.25)}
"""Range of focus, as shares of the way from 1/near to 1/far, where circles of confusion are even."""


@dataclass(frozen=True)
class Settings:
    """What decides the pictures.

    Args:
        scene: its name in SCENES.
        views, test_every: photos; every `test_every`th, from the first, is a sharp test view.
        refocused: how many refocused truth pictures.
        width, height: px.
        samples: rays per pixel, before Blender's denoiser.
        seed: of everything random.
        coc: strength of the lens: the circle of confusion at the nearest depth when focused on the
            farthest, as a part of the picture's width.
        focus: varied (evenly spread), two-plane (half near, half far, as in DoF-NeRF), or alike (the same
            in all photos: what lies elsewhere cannot be recovered).
        blades: of the aperture; 0 is round.
        exposure_jitter: standard deviation of the photos' exposure in stops.
        noise: standard deviation of the sensor's noise at white, as a part of white; it falls with the
            square root of the light.
        edit: whether one object casts no shadow and is moved after the photos (`truth_edits.py`).
            The photos are then spread wider, the test views are not: what a turn shows was photographed.
    """

    scene: str
    views: int = 24
    test_every: int = 6
    refocused: int = 3
    width: int = 300
    height: int = 200
    samples: int = 32
    seed: int = 0
    coc: float = 0.03
    focus: str = "varied"
    blades: int = 0
    exposure_jitter: float = 0.0
    noise: float = 0.0
    edit: bool = False

    def facts(self) -> dict:
        """As files state them: without `edit` where nothing is moved, because older scenes lack it."""
        return {name: value for name, value in asdict(self).items() if name != "edit" or value}


@dataclass(frozen=True)
class Frame:
    """One photo; `focus_distance` in metres, None for a sharp test view; `stops` brighter than planned."""

    name: str
    cam_from_world: np.ndarray
    focus_distance: float | None
    stops: float


# -------------------------------------------------------------------------------------------------- plans


def plan_frames(settings: Settings) -> list[Frame]:
    """Positions spread evenly by two irrational steps, test views well inside; focus dealt out at random."""
    scene = SCENES[settings.scene]
    rng = np.random.default_rng(settings.seed + 1)
    training = [i for i in range(settings.views) if i % settings.test_every]
    focus = dict(zip(training, focus_distances(settings, scene, len(training), rng), strict=True))
    frames = []
    for i in range(settings.views):
        across, up = (0.5 + i * 0.618034) % 1 - 0.5, (0.5 + i * 0.754878) % 1 - 0.5
        if i not in focus:
            across, up = 0.65 * across, 0.65 * up
        elif settings.edit:
            across = scene.edit_spread * across
        pose = scene.pose(across, up, rng)
        stops = float(rng.normal(0, settings.exposure_jitter)) if i in focus else 0.0
        frames.append(Frame(f"{i:03d}.png", pose, focus.get(i), stops))
    return frames


def focus_distances(
    settings: Settings, scene: TruthScene, count: int, rng: np.random.Generator
) -> list[float]:
    near, far = PLANES[settings.focus]
    shares = np.linspace(near, far, count)
    if settings.focus == "two-plane":
        shares = np.where(np.arange(count) < count / 2, near, far)
    inverse = (1 - shares) / scene.near + shares / scene.far
    return [float(1 / value) for value in rng.permutation(inverse)]


def fx(settings: Settings) -> float:
    return SCENES[settings.scene].focal_mm / SENSOR_MM * settings.width


def aperture_diameter(settings: Settings) -> float:
    """Metres: CoC diameter in px = this * fx * |1/z - 1/focus_distance|."""
    scene = SCENES[settings.scene]
    return settings.coc * settings.width / fx(settings) / (1 / scene.near - 1 / scene.far)


def f_number(settings: Settings) -> float:
    return SCENES[settings.scene].focal_mm / 1000 / aperture_diameter(settings)


# ---------------------------------------------------------------------------------------------- rendering


@dataclass(frozen=True)
class Shot:
    """One picture to make.

    Args:
        path: of the picture.
        frame: where the camera is, and how bright the photo.
        focus_distance: metres; None: pinhole.
        depth_path: where its depth goes, if it is kept.
        state: what the scene is like; `render` hands it to `arrange`.
        mask: show how much of each pixel the edited object fills (grey, white: all of it).
    """

    path: Path
    frame: Frame
    focus_distance: float | None
    depth_path: Path | None = None
    state: str = PHOTOGRAPHED
    mask: bool = False

    @property
    def done(self) -> bool:
        return self.path.exists() and (self.depth_path is None or self.depth_path.exists())


def render(
    settings: Settings,
    shots: list[Shot],
    threads: int,
    prepare: Callable[[], Callable[[Shot], None]] = lambda: lambda shot: None,
) -> None:
    """Makes pictures and depths.

    Args:
        prepare: called once the scene is built; returns what is called before each shot.
    """
    import bpy  # pyright: ignore[reportMissingImports]

    scene = SCENES[settings.scene]
    size = settings.width, settings.height
    start_scene(size, scene.focal_mm, SENSOR_MM, settings.samples, threads, scene.bounces)
    scene.build(np.random.default_rng(settings.seed))
    arrange = prepare()
    with tempfile.TemporaryDirectory() as folder:
        keep_light_and_depth(Path(folder))
        for shot in shots:
            arrange(shot)
            number = int(Path(shot.frame.name).stem)
            aim_camera(
                shot.frame.cam_from_world, shot.focus_distance, f_number(settings),
                noise_seed=settings.seed * 1000 + number, blades=settings.blades,
            )  # fmt: skip
            with quiet():
                bpy.ops.render.render()
            light = read_layer(next(Path(folder).glob("light*.exr")), size)
            if shot.depth_path is not None:
                depth = read_layer(next(Path(folder).glob("depth*.exr")), size)[..., 0]
                write_whole(shot.depth_path, lambda file, depth=depth: np.save(file, depth))
            gain = 2 ** (scene.exposure + shot.frame.stops)
            film = as_mask(light) if shot.mask else develop(gain * light[..., :3], settings, number)
            picture = Image.fromarray(film)
            write_whole(shot.path, lambda file, picture=picture: picture.save(file, "PNG"))
            focus = "everywhere" if shot.focus_distance is None else f"{shot.focus_distance:.3f} m"
            print(f"{shot.path}  focus {focus}", flush=True)


def keep_light_and_depth(folder: Path) -> None:
    """Makes every render write its linear light and its depth as EXR into `folder`."""
    import bpy  # pyright: ignore[reportMissingImports]

    scene = bpy.context.scene
    scene.view_layers[0].use_pass_z = True
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    layers = nodes.new("CompositorNodeRLayers")
    output = nodes.new("CompositorNodeOutputFile")
    output.base_path = str(folder)
    output.format.file_format, output.format.color_depth = "OPEN_EXR", "32"
    output.format.color_mode = "RGBA"
    output.file_slots.clear()
    for slot, layer in (("light", "Image"), ("depth", "Depth")):
        output.file_slots.new(slot)
        links.new(layers.outputs[layer], output.inputs[slot])


def read_layer(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 4) float32 of an EXR file, top row first."""
    import bpy  # pyright: ignore[reportMissingImports]

    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    pixels = np.empty(size[0] * size[1] * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(size[1], size[0], 4)[::-1]


def develop(light: np.ndarray, settings: Settings, number: int) -> np.ndarray:
    """(H, W, 3) uint8 sRGB of linear light in which 1 is white, after the sensor's noise."""
    rng = np.random.default_rng((settings.seed, number))
    noisy = light + settings.noise * np.sqrt(np.clip(light, 0, 1)) * rng.standard_normal(light.shape)
    clipped = np.clip(noisy, 0, 1)
    curved = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.rint(255 * curved).astype(np.uint8)


def as_mask(light: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of the fourth channel, alpha."""
    return np.rint(255 * np.clip(light[..., 3], 0, 1)).astype(np.uint8)


def write_whole(path: Path, write) -> None:
    """Calls write(file) on a temporary file beside `path`, then renames it: no half picture is ever kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    with open(unfinished, "wb") as file:
        write(file)
    unfinished.replace(path)
