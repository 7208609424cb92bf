"""A run -> picture files: sharp, as photographed, or refocused; from the photos' places or along a path.

Options of `cocogs render` become a list of `Shot`s, each one camera, one lens and one file name; shots become
files. What was done of an interrupted request is found again by the record that it leaves in its folder.
"""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import torch
from rich.progress import track
from torch import Tensor

from cocogs.camera import Camera
from cocogs.coc.expand import PhotoLens
from cocogs.coc.lens import MIN_DEPTH, world_radius
from cocogs.errors import InputError
from cocogs.io.atomic import replacing
from cocogs.io.camera_path import PathFrame, read_camera_path
from cocogs.io.pictures import check_writer, linear_channels, write_exr, write_film, write_png
from cocogs.paths import orbit, spiral, through_photos
from cocogs.refocusing import Lens, depth_at, refocus, sharp_depth
from cocogs.run import Run
from cocogs.scene import View

FORMATS = ("png", "png16", "exr", "mp4", "gif")
FILMS = ("mp4", "gif")
RECORD = ".cocogs-render.json"  # beside the pictures of a request that is not finished
FULL_COLOR = 0.02  # the circle of confusion, as a part of the image width, that gets the full colour
NEAR_COLOR, FAR_COLOR = (1.0, 0.45, 0.0), (0.0, 0.4, 1.0)
COC_STEP, COC_ZERO = 1 / 64, 32768  # px per step of a 16-bit CoC map, and its value in focus
LARGEST_SIDE = 16384  # px


@dataclass(frozen=True)
class RenderOptions:
    """What `cocogs render` was asked for; None = not given. The texts for users are in cli.py."""

    out: Path
    views: str | None = None
    view: str | None = None
    path: str | None = None
    defocused: bool = False
    focus: float | None = None
    focus_at: str | None = None
    focus_pull: str | None = None
    aperture: str | None = None
    f_number: float | None = None
    aperture_sweep: str | None = None
    blades: int = 0
    blade_rotation: float = 0.0
    samples: int = 64
    frames: int | None = None
    fps: float | None = None
    size: str | None = None
    format: str | None = None
    depth: bool = False
    coc: bool = False


@dataclass(frozen=True)
class Shot:
    """One picture to draw.

    Args:
        name: of its file, relative to the folder, without ending.
        camera: at the size to draw.
        lens: None = everything sharp.
        photo: number of the training photo whose learned formation is to be drawn instead, or None.
    """

    name: str
    camera: Camera
    lens: Lens | None = None
    photo: int | None = None


def render(run: Run, options: RenderOptions) -> list[Path]:
    """Draw what `options` ask for; the files written, one for a film, in the order in which they are shown.

    Raises:
        InputError: options that do not fit each other or the run, a missing package, or a file that cannot be
            written.
    """
    kind = choose_format(options)
    check_writer(kind)
    if options.samples < 0:
        raise InputError(f"--samples {options.samples} cannot be: give 0 (quick) or a number such as 64.")
    shots, fps = plan(run, options)
    if kind not in FILMS:
        return _write_pictures(run, shots, options, options.out, kind)
    if options.depth or options.coc:
        raise InputError(
            "--depth and --coc go with single pictures: give --out a folder, and no film format."
        )
    if len(shots) < 2 or (options.path is None and not _is_moving(options)):
        raise InputError("A film needs --path, --focus-pull or --aperture-sweep: add one of them.")
    folder = options.out.with_name(f"{options.out.name}.frames")
    frames = _write_pictures(run, shots, options, folder, "png", keep_record=True)
    write_film(frames, fps, options.out)
    shutil.rmtree(folder)
    return [options.out]


def choose_format(options: RenderOptions) -> str:
    """The one asked for, or by --out's ending, or png."""
    ending = options.out.suffix.lower().lstrip(".")
    kind = options.format or (ending if ending in FILMS else "png")
    if kind not in FORMATS:
        raise InputError(f"--format {kind} is not known: choose one of {', '.join(FORMATS)}.")
    if (kind in FILMS or ending in FILMS) and kind != ending:
        raise InputError(f"--out {options.out} does not end in .{kind}: make --out and --format agree.")
    if kind not in FILMS and options.out.is_file():
        raise InputError(f"--out {options.out} is a file: give a folder for the pictures.")
    return kind


# --- From options to shots


def plan(run: Run, options: RenderOptions) -> tuple[list[Shot], float]:
    """The pictures to draw, and the frames per second if they are to be a film.

    Raises:
        InputError: options that do not fit each other or the run.
    """
    frames, fps = _cameras(run, options)
    size = None if options.size is None else parse_size(options.size)
    if options.defocused:
        shots = _defocused(run, frames, options)
    else:
        lenses = _lenses(run, frames, options)
        shots = [Shot(name, frame.camera, lens) for (name, frame), lens in zip(frames, lenses, strict=True)]
    if size is not None:
        shots = [Shot(s.name, sized(s.camera, size), s.lens, s.photo) for s in shots]
    return shots, fps


def _is_moving(options: RenderOptions) -> bool:
    return options.focus_pull is not None or options.aperture_sweep is not None


def _cameras(run: Run, options: RenderOptions) -> tuple[list[tuple[str, PathFrame]], float]:
    """Names and cameras of the pictures, and frames per second."""
    _check_count("--frames", options.frames, least=2)
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise InputError(f"--fps {options.fps:g} cannot be: give frames per second, such as 24.")
    fps = options.fps or 24.0
    if options.path is not None:
        if (options.view is not None and options.focus_at is None) or options.views is not None:
            raise InputError("--path moves the camera: leave out --view and --views with it.")
        path, own_fps = _path(run, options)
        return _numbered(path), options.fps or own_fps
    if _is_moving(options):
        chosen = [find_view(run, options.view)] if options.view else choose_views(run, options.views)[:1]
        return _numbered([PathFrame(chosen[0].camera)] * (options.frames or 96)), fps
    if options.frames is not None:
        raise InputError("--frames counts the pictures of --path, --focus-pull or --aperture-sweep: add one.")
    if options.view is not None and options.views is not None:
        raise InputError("--view names one photo and --views many: give one of the two.")
    chosen = [find_view(run, options.view)] if options.view else choose_views(run, options.views)
    names = [name.removesuffix(".png") for name in picture_names([view.name for view in chosen])]
    return [(name, PathFrame(view.camera)) for name, view in zip(names, chosen, strict=True)], fps


def _path(run: Run, options: RenderOptions) -> tuple[list[PathFrame], float]:
    """The cameras of --path, with the lens they bring along, and their frames per second."""
    cameras, count = [view.camera for view in run.scene.views], options.frames or 96
    if options.path == "photos":
        return [PathFrame(camera) for camera in through_photos(cameras, count)], 24.0
    if options.path == "spiral":
        return [PathFrame(camera) for camera in spiral(cameras, typical_depth(run), count)], 24.0
    if options.path == "orbit":
        return [PathFrame(camera) for camera in orbit(cameras, count)], 24.0
    file = Path(str(options.path))
    if file.suffix.lower() != ".json":
        raise InputError(
            f"--path {file} is not known: give photos, spiral, orbit, or a FILE.json of cameras."
        )
    if options.frames is not None:
        raise InputError(f"--frames cannot change the number of cameras in {file}: leave it out.")
    path = read_camera_path(file)
    return list(path.frames), path.fps


def typical_depth(run: Run) -> float:
    """Median depth of the start points before the first photo's camera, scene units."""
    depths = run.scene.views[0].camera.depths(run.scene.points.double())
    return float(depths[depths > 0].median())


def _numbered(frames: Sequence[PathFrame]) -> list[tuple[str, PathFrame]]:
    return [(f"frame_{index:04d}", frame) for index, frame in enumerate(frames)]


def _defocused(run: Run, frames: list[tuple[str, PathFrame]], options: RenderOptions) -> list[Shot]:
    """Each photo as it was taken."""
    if any(v is not None for v in (options.focus, options.focus_at, options.focus_pull)):
        raise InputError("--defocused keeps each photo's own focus: leave it out, or leave out --focus.")
    if options.path is not None or options.size is not None or _is_moving(options):
        raise InputError("--defocused draws the photos as they are: leave out --path, --size and sweeps.")
    _check_aperture_alone(options)
    chosen = [find_view(run, options.view)] if options.view else choose_views(run, options.views)
    if any(view.is_test for view in chosen):
        raise InputError(
            "Only training photos have a learned focus: use --defocused with --views train, "
            "or choose a focus for the test views with --focus."
        )
    numbers = {view.name: index for index, view in enumerate(run.scene.train_views)}
    return [
        Shot(name, frame.camera, photo=numbers[view.name])
        for (name, frame), view in zip(frames, chosen, strict=True)
    ]


def _lenses(run: Run, frames: list[tuple[str, PathFrame]], options: RenderOptions) -> list[Lens | None]:
    """The lens of every picture."""
    count = len(frames)
    distances = _focus_distances(run, options, count)
    if distances is None:
        _check_aperture_alone(options)
        return [
            None
            if frame.focus_distance is None or frame.aperture is None
            else Lens(frame.focus_distance, frame.aperture, options.blades, options.blade_rotation)
            for _, frame in frames
        ]
    learned = run.lens().aperture
    factors = _aperture_factors(run, options, count)
    return [
        Lens(distance, factor * learned, options.blades, options.blade_rotation)
        for distance, factor in zip(distances, factors, strict=True)
    ]


def _check_aperture_alone(options: RenderOptions) -> None:
    for name in ("aperture", "f_number", "aperture_sweep"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            raise InputError(f"--{option} changes a refocused picture: give --focus or --focus-at with it.")


def _focus_distances(run: Run, options: RenderOptions, count: int) -> list[float] | None:
    """Of every picture; None where nothing asks for a focus."""
    given = [n for n in ("focus", "focus_at", "focus_pull") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("--focus, --focus-at and --focus-pull exclude each other: give one.")
    if options.focus is not None:
        if not options.focus > 0:
            raise InputError(f"--focus {options.focus:g} is not in front of the camera: give more than 0.")
        return [options.focus] * count
    if options.focus_at is not None:
        if options.view is None:
            raise InputError("--focus-at means a place in a photo: name the photo with --view.")
        return [focus_at(run, options.focus_at, find_view(run, options.view))] * count
    if options.focus_pull is not None:
        start, end = parse_range("--focus-pull", options.focus_pull)
        if not (start > 0 and end > 0):
            raise InputError(f"--focus-pull {options.focus_pull}: both distances must be above 0.")
        # Evenly in 1/z, in which blur grows evenly.
        verging = [(1 - t) / start + t / end for t in _steps(count)]
        return [1 / value if value > 0 else math.inf for value in verging]
    return None


def focus_at(run: Run, place: str, view: View) -> float:
    """Depth at `X,Y` of a view: pixels of the picture as drawn without --size, or per cent of its sides."""
    camera = view.camera
    try:
        x, y = (
            float(text.rstrip("%")) / 100 * side if text.endswith("%") else float(text) + 0.5
            for text, side in zip(
                place.replace(" ", "").split(","), (camera.width, camera.height), strict=True
            )
        )
    except ValueError as error:
        raise InputError(
            f"--focus-at {place} is no place: give X,Y in px, or in per cent as 50%,40%."
        ) from error
    if not (0 <= x <= camera.width and 0 <= y <= camera.height):
        raise InputError(
            f"--focus-at {place} lies outside {view.name}, which has {camera.width}x{camera.height} px here: "
            "count from the upper left corner, or give per cent as 50%,40%."
        )
    return depth_at(run.model.gaussians, camera, x, y)


def _aperture_factors(run: Run, options: RenderOptions, count: int) -> list[float]:
    """Of every picture, times the learned aperture."""
    given = [n for n in ("aperture", "f_number", "aperture_sweep") if getattr(options, n) is not None]
    if len(given) > 1:
        raise InputError("--aperture, --f-number and --aperture-sweep exclude each other: give one.")
    if options.aperture is not None:
        return [parse_factor("--aperture", options.aperture)] * count
    if options.aperture_sweep is not None:
        start, end = parse_range("--aperture-sweep", options.aperture_sweep)
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise InputError(f"--aperture-sweep {options.aperture_sweep}: both factors must be 0 or more.")
        return [(1 - t) * start + t * end for t in _steps(count)]
    if options.f_number is not None:
        if not 0 < options.f_number < math.inf:
            raise InputError(f"--f-number {options.f_number:g} cannot be: give one such as 2.8.")
        known = run.f_number()
        if known is None:
            raise InputError(
                "--f-number needs to know the photos' own, and their EXIF has none: "
                "give --aperture 1.5x, a multiple of the learned aperture."
            )
        return [known / options.f_number] * count
    return [1.0] * count


def _steps(count: int) -> list[float]:
    """From 0 to 1."""
    return [index / (count - 1) for index in range(count)]


def parse_factor(option: str, text: str) -> float:
    """`1.5x` or `1.5`, from 0 on."""
    try:
        factor = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        raise InputError(f"{option} {text} is no factor from 0 (everything sharp) on: give one such as 1.5x.")
    return factor


def parse_range(option: str, text: str) -> tuple[float, float]:
    """`A:B`, an x after each allowed."""
    try:
        start, end = (float(part.strip().lower().removesuffix("x")) for part in text.split(":"))
    except ValueError as error:
        raise InputError(f"{option} {text} is no range: give two numbers as 1.5:4.") from error
    if math.isnan(start) or math.isnan(end):
        raise InputError(f"{option} {text} is no range: give two numbers as 1.5:4.")
    return start, end


def parse_size(text: str) -> tuple[int, int | None]:
    """`W` or `WxH`, px."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= LARGEST_SIDE for part in parts):
        raise InputError(
            f"--size {text} is no size: give a width, or WIDTHxHEIGHT as 1920x1080, up to {LARGEST_SIDE}."
        )
    return int(parts[0]), int(parts[1]) if len(parts) == 2 else None


def sized(camera: Camera, size: tuple[int, int | None]) -> Camera:
    """The camera with pictures of this size and the same angle of view across. Where the shape differs, more
    or less is seen above and below."""
    width, height = size
    scale = width / camera.width
    natural = camera.height * scale
    height = height or max(1, round(natural))
    K = camera.K * torch.tensor([[scale], [scale], [1.0]]).to(camera.K)
    K[1, 2] += (height - natural) / 2
    return Camera(K, camera.cam_from_world, width, height)


def _check_count(option: str, value: int | None, least: int) -> None:
    if value is not None and not least <= value <= 100_000:
        raise InputError(f"{option} {value} cannot be: give a number from {least} to 100000.")


def find_view(run: Run, name: str) -> View:
    """The view of this name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    by_name = {view.name: view for view in run.scene.views}
    if name in by_name:
        return by_name[name]
    close = get_close_matches(name, by_name, n=3, cutoff=0.3) or list(by_name)[:3]
    raise InputError(f"There is no photo {name!r} in {run.folder}: did you mean {' or '.join(close)}?")


def choose_views(run: Run, views: str | None) -> list[View]:
    """The views that `test`, `train` or `all` means; test where nothing is said.

    Raises:
        InputError: another word, or no view is left.
    """
    views = views or "test"
    choices = {"test": run.scene.test_views, "train": run.scene.train_views, "all": run.scene.views}
    if views not in choices:
        raise InputError(
            f"There are no views named {views!r}: --views takes {', '.join(choices)}; --view names one photo."
        )
    if not choices[views]:
        raise InputError(
            f"{run.folder} has no test views: render with --views train, or train with --test-every 8."
        )
    return choices[views]


def picture_names(names: list[str]) -> list[str]:
    """PNG names for photos: a.jpg -> a.png, or a.jpg.png where a second photo would take the same.

    Folders stay, but none leads out of the place they are put into.
    """
    inner = [PurePosixPath(*(p for p in PurePosixPath(name).parts if p not in ("/", ".."))) for name in names]
    plain = [str(name.with_suffix(".png")) for name in inner]
    return [p if plain.count(p) == 1 else f"{name}.png" for p, name in zip(plain, inner, strict=True)]


# --- From shots to files


@torch.no_grad()
def _write_pictures(
    run: Run, shots: list[Shot], options: RenderOptions, folder: Path, kind: str, keep_record: bool = False
) -> list[Path]:
    """Draw the shots into `folder`; those that an interrupted request like this one has left are kept."""
    if options.coc and any(shot.lens is None for shot in shots):
        raise InputError("--coc shows what a lens blurs: give --focus with it.")
    writer = _Writer(run, options, kind, _far(run, shots) if options.depth else 1.0)
    paths = [folder / f"{shot.name}{writer.ending}" for shot in shots]
    record = folder / RECORD
    kept = _resumable(record, _fingerprint(run, shots, options, kind))
    left = [(s, p) for s, p in zip(shots, paths, strict=True) if not (kept and p.is_file())]
    if len(left) < len(shots):
        print(f"{len(shots) - len(left)} pictures of an interrupted run are kept.")
    for shot, path in track(left, "Rendering", disable=not sys.stdout.isatty()):
        writer.write(shot, path)
    if not keep_record:
        record.unlink(missing_ok=True)
    return paths


class _Writer:
    """Draws one shot and writes its files: maps first, so that a picture that is there has its maps."""

    def __init__(self, run: Run, options: RenderOptions, kind: str, far: float) -> None:
        self.run, self.options, self.kind, self.far = run, options, kind, far
        self.ending = ".exr" if kind == "exr" else ".png"

    def write(self, shot: Shot, path: Path) -> None:
        if self.options.depth or self.options.coc:
            depths = sharp_depth(self.run.model.gaussians, shot.camera)
            if self.options.depth:
                self.write_depth(depths, path)
            if self.options.coc:
                self.write_coc(depths, shot, path)
        picture = draw(self.run, shot, self.options.samples)
        if self.kind == "exr":
            write_exr(linear_channels(picture), path, half=True)
        else:
            write_png(picture, path, 16 if self.kind == "png16" else 8)

    def write_depth(self, depths: Tensor, path: Path) -> None:
        there = depths.isfinite()
        if self.kind == "exr":
            write_exr({"Z": depths}, _beside(path, "depth"))
        else:
            write_png(torch.where(there, depths / self.far, 0), _beside(path, "depth"), 16)
            scale = {"scene units per step": self.far / 65535, "nothing": 0}
            _write_json(path.parent / "depth.json", scale)
        write_png(colored_depth(depths), _beside(path, "depth_color", ".png"))

    def write_coc(self, depths: Tensor, shot: Shot, path: Path) -> None:
        assert shot.lens is not None
        there = depths.isfinite()
        coc = torch.where(there, coc_map(depths, shot.camera, shot.lens.of(shot.camera)), 0)
        if self.kind == "exr":
            write_exr({"Y": coc}, _beside(path, "coc"))
        else:
            write_png((coc / COC_STEP + COC_ZERO) / 65535, _beside(path, "coc"), 16)
        write_png(colored_coc(coc, there.float()), _beside(path, "coc_color", ".png"))


def draw(run: Run, shot: Shot, samples: int) -> Tensor:
    """(3, H, W) sRGB of one shot."""
    if shot.photo is not None:
        return run.model.defocused(shot.camera, shot.photo)
    lens = shot.lens or Lens(1.0, 0.0)
    return refocus(run.model.gaussians, shot.camera, lens, samples)


def _beside(path: Path, what: str, ending: str | None = None) -> Path:
    return path.with_name(f"{path.stem}_{what}{ending or path.suffix}")


def _far(run: Run, shots: list[Shot]) -> float:
    """The depth that white stands for in a 16-bit depth map: half more than the farthest that the first
    picture shows but for 1 %."""
    depths = sharp_depth(run.model.gaussians, shots[0].camera)
    seen = depths[depths.isfinite()]
    return 1.5 * float(seen.quantile(0.99)) if len(seen) else 1.0


def _fingerprint(run: Run, shots: list[Shot], options: RenderOptions, kind: str) -> str:
    """Hash of everything that the pictures depend on."""
    checkpoint = (run.folder / "checkpoint.pt").stat()
    digest = hashlib.sha256(repr((checkpoint.st_size, checkpoint.st_mtime_ns, kind)).encode())
    digest.update(repr((options.samples, options.depth, options.coc)).encode())
    for shot in shots:
        camera = shot.camera
        numbers = camera.K.tolist(), camera.cam_from_world.tolist(), camera.width, camera.height
        digest.update(repr((shot.name, numbers, shot.lens, shot.photo)).encode())
    return digest.hexdigest()


def _resumable(record: Path, fingerprint: str) -> bool:
    """Whether the folder holds pictures of this very request; notes the request there if not."""
    try:
        if json.loads(record.read_text())["request"] == fingerprint:
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    _write_json(record, {"request": fingerprint})
    return False


def _write_json(path: Path, values: dict) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values) + "\n")


# --- Maps


def coc_map(depths: Tensor, camera: Camera, lens: PhotoLens) -> Tensor:
    """Diameter (H, W) of the circle of confusion in px: positive nearer than the focus, else negative.

    Args:
        depths: (H, W) z-depths in scene units; infinity is allowed.
    """
    z = depths.clamp(MIN_DEPTH, 1e9)  # the limit stands for infinity
    distance = z * ray_lengths(camera).to(z) if lens.depth == "euclidean" else z
    radius = world_radius(distance, lens.focus_distance, lens.aperture, camera.fx, lens.units)
    return radius.abs() * (lens.focus_distance - distance).sign() * (2 * camera.fx / z)


def ray_lengths(camera: Camera) -> Tensor:
    """(H, W) distance from the camera of the points at depth 1, through the pixel centres."""
    x = (torch.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return (x.square() + y[:, None].square() + 1).sqrt()


def colored_coc(coc: Tensor, alphas: Tensor) -> Tensor:
    """(3, H, W): white in focus, orange nearer, blue beyond, black where nothing is.

    Args:
        coc: (H, W) signed diameters in px.
        alphas: (H, W) in [0, 1].
    """
    strength = (coc.abs() / (FULL_COLOR * coc.shape[1])).clamp(0, 1)
    near, far = (torch.tensor(color).to(coc)[:, None, None] for color in (NEAR_COLOR, FAR_COLOR))
    return (1 - strength * (1 - torch.where(coc > 0, near, far))) * alphas


def colored_depth(depths: Tensor) -> Tensor:
    """(3, H, W): orange near, white between, blue far, evenly in 1/z over what the picture shows; black where
    nothing is.

    Args:
        depths: (H, W) z-depths in scene units, infinite where nothing is.
    """
    there = depths.isfinite()
    if not there.any():
        return torch.zeros(3, *depths.shape)
    inverse = 1 / depths
    low, high = inverse[there].quantile(torch.tensor([0.02, 0.98]).to(depths))
    nearness = ((inverse - low) / (high - low).clamp_min(1e-12) * 2 - 1).clamp(-1, 1)
    return colored_coc(nearness * FULL_COLOR * depths.shape[1], there.to(depths))
