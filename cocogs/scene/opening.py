"""Open a dataset: find out what kind it is, read its cameras, prepare its photos, find its points.

`open_scene` takes the first of these that a folder holds: a COLMAP model (sparse/0, sparse/1, ..., sparse/),
nerfstudio's transforms.json, LLFF's poses_bounds.npy, another program's cameras (io/exports.py), plain photos
(cameras from SfM). The world keeps the source's axes and unit; its origin moves only where float32 demands it
(`Scene.offset`).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cocogs.camera import position_of
from cocogs.config import DataConfig, limits_of
from cocogs.errors import InputError, check_number
from cocogs.io import colmap, exports, folders, llff, nerfstudio, prepare, undistort, video
from cocogs.io.prepare import Picture
from cocogs.io.progress import Progress, Say
from cocogs.io.sfm_checks import LEAST_PARALLAX, MOVE_SIDEWAYS
from cocogs.io.source import Intrinsics, Source
from cocogs.scene import frame
from cocogs.scene.data import Scene, View
from cocogs.scene.from_photos import find_cameras
from cocogs.scene.points import find_points
from cocogs.scene.split import names_for_testing

LONGER_SIDE = DataConfig("").longer_side
# Smaller pictures than this are refused: `downscale` is too large.
SHORTEST_SIDE = 12
# Bytes of disk from which on the user is told beforehand.
TELL_DISK = 200_000_000


def open_scene(
    data: Path,
    cache: Path,
    *,
    longer_side: int = LONGER_SIDE,
    downscale: int | None = None,
    test_every: int | None = None,
    test: str | None = None,
    frames: int | None = None,
    panoramas: bool = False,
    seed: int = 0,
    settled: bool = False,
    say: Say = print,
) -> Scene:
    """Open a dataset, computing cameras from the photos if it has none.

    Args:
        data: the dataset's folder, or a video.
        cache: folder for what is computed once: cameras (sfm/) and training-size pictures (photos/).
        longer_side: px; photos are shrunk by the smallest whole factor that brings their longer side to this
            or less.
        downscale: shrink the photos by this whole factor instead.
        test: names of the photos to keep for testing, with commas between; * stands for any letters.
        test_every: keep every Nth photo, from the first in name order, for testing; None: as a file hold=N
            or the dataset itself says, else no photo.
        frames: how many frames of a video to use; None: by how far the camera moves (io/video.py).
        panoramas: photos without cameras that are twice as wide as high show all around, whatever their
            metadata say.
        seed: for SfM and for seed points that are drawn at random.
        settled: a scene was trained with the cameras in the cache: they are not computed again.
        say: receives lines meant for the user.

    Raises:
        InputError: the data cannot be used; the message says what to do.
    """
    data, cache = Path(data), Path(cache)
    _check_request(data, longer_side=longer_side, downscale=downscale, test_every=test_every, frames=frames)
    is_video = video.is_video(data)
    if frames is not None and not is_video:
        raise InputError(f"{data} is a folder, and `frames` chooses frames of a video: leave `frames` out.")
    if is_video:
        data = video.extract_frames(data, cache / "frames", frames, settled, say)
    size = folders.Size(longer_side, downscale)
    known = _look(data, size, say)
    if known and panoramas:
        raise InputError(f"`panoramas` is for photos without cameras, and {data} has cameras: leave it out.")
    source, pictures = known or find_cameras(data, cache, seed, settled, say, is_video, panoramas, test)
    if len(source.shots) < 2:
        raise InputError(f"{data} has a single photo: give photos from several places.")
    tests = names_for_testing(data, source, test_every, test)
    positions = torch.stack([position_of(shot.cam_from_world) for shot in source.shots])
    if source.points is None:
        _check_places(data, positions, torch.tensor([shot.name in tests for shot in source.shots]))
    offset = frame.offset_of(positions, source.points)
    source = frame.moved(source, offset)
    views = _views(data, cache, source, pictures, size, tests, say)
    points = find_points(views, source, cache, seed, settled, say)
    near = frame.near_plane([view.camera for view in views], points.positions)
    views = [replace(view, camera=replace(view.camera, near=near)) for view in views]
    scene = Scene(views, points.positions, points.colors, points.drawn, data, offset=offset)
    _tell(scene, say)
    _check_masks(scene, say)
    return scene


def _check_request(data: Path, **settings: int | None) -> None:
    if not (data.is_dir() or video.is_video(data)):
        problem = "is not a folder" if data.exists() else "does not exist"
        raise InputError(f"{data} {problem}: name the folder that holds your photos, or a video.")
    for name, value in settings.items():
        check_number(name, value, **limits_of(DataConfig, name))


def _check_places(data: Path, positions: Tensor, is_test: Tensor) -> None:
    """Raises InputError where all cameras, or all that are trained on, stand in one place."""
    if frame.is_one_place(positions):
        raise InputError(
            f"{data}: all cameras stand in one place, where depth cannot be told: export the cameras again, "
            "or remove the camera file so that cameras are computed anew."
        )
    if frame.is_one_place(positions[~is_test]):
        raise InputError(
            f"{data}: the photos left to train on are all from one place, where depth cannot be told: keep "
            "others for testing."
        )


def _tell(scene: Scene, say: Say) -> None:
    """What the user must know about the scene as a whole."""
    say(folders.usage_line(scene.source, {view.file_in(scene.source) for view in scene.views}))
    if bool(scene.offset.any()):
        moved = ", ".join(f"{value:.12g}" for value in scene.offset.tolist())
        say(f"The origin is far from the cameras: the scene is moved by ({moved}), and exports move it back.")
    cameras = [view.camera for view in scene.train_views]
    if not scene.drawn and (angle := frame.parallax(cameras, scene.points)) < LEAST_PARALLAX:
        say(
            f"The photos show hardly any parallax ({angle:.2g} degrees), so depth is a guess: "
            f"{MOVE_SIDEWAYS}."
        )


def _look(data: Path, size: folders.Size, say: Say) -> tuple[Source, folders.Pictures] | None:
    """Read the cameras, by the kind of the dataset, and find its photos; None where there are no cameras."""
    transforms, poses_bounds = nerfstudio.find_transforms(data), data / llff.FILE
    if models := colmap.find_models(data):
        model, *others = models
        unused = [f"{other} ({models[other]} photos)" for other in others]
        unused += [path.name for path in (transforms, poses_bounds) if path is not None and path.is_file()]
        say(f"Cameras from the COLMAP model in {model}{''.join(f'; {name} is not used' for name in unused)}.")
        source = colmap.read_model(model)
        return source, folders.find_pictures(data, [shot.name for shot in source.shots], size)
    if transforms is not None:
        say(f"Cameras from {transforms}.")
        source, paths = nerfstudio.read_transforms(transforms, say)
        return source, folders.Pictures(data, 1, paths)
    if poses_bounds.is_file():
        say(f"Cameras from {poses_bounds}.")
        names = folders.list_largest(data)
        return llff.read_poses_bounds(data, names), folders.find_pictures(data, names, size)
    if found := exports.find_export(data):
        program, path = found
        say(f"Cameras from {program.name}: {path}.")
        source = exports.read_export(program, path, data)
        return source, folders.find_pictures(data, [shot.name for shot in source.shots], size)
    return None


def _views(
    data: Path,
    cache: Path,
    source: Source,
    pictures: folders.Pictures,
    size: folders.Size,
    tests: frozenset[str],
    say: Say,
) -> list[View]:
    """Views at training resolution; their pixels go to the cache."""
    fitted = [prepare.fit_photo(shot, pictures.paths[shot.name]) for shot in source.shots]
    factor = _shrink(fitted, pictures, size)
    flats = [_shrunk(photo, factor) for photo in fitted]
    _announce(fitted, flats, pictures.folder, size.downscale is None and factor > 1, say)
    named = {shot.name: shot.mask for shot in source.shots if shot.mask}
    masks = named or folders.find_masks(data, [shot.name for shot in source.shots])
    place = cache / "photos"
    disk = prepare.check_space(list(zip(fitted, flats, strict=True)), place)
    if disk >= TELL_DISK:
        say(f"Preparing the photos takes {disk / 1e6:,.0f} MB of disk in {place}.")

    def view(index: int) -> View:
        shot, photo, flat = source.shots[index], fitted[index], flats[index]
        mask = masks.get(shot.name)
        return View(
            name=shot.name,
            camera=undistort.to_camera(flat, shot.cam_from_world),
            image_path=prepare.prepared_photo(photo, flat, place),
            mask_path=mask
            and prepare.prepared_mask(prepare.fit_mask(photo, shot, mask), flat, cache / "masks"),
            is_test=shot.name in tests,
            lens=photo.header.lens,
            original=photo,
            panorama=shot.panorama,
        )

    views = []
    largest = max(range(len(fitted)), key=lambda i: fitted[i].lens.width * fitted[i].lens.height)
    progress = Progress("Preparing photos", len(fitted), say, patience=2)
    for ready in prepare.each(view, range(len(fitted)), fitted[largest], flats[largest]):
        views.append(ready)
        progress.add(1)
    if masks:
        say(f"Masks for {sum(view.mask_path is not None for view in views)} of {len(views)} photos.")
    return views


def _shrink(fitted: list[Picture], pictures: folders.Pictures, size: folders.Size) -> float:
    """How much the files found are to be shrunk for training."""
    if size.downscale is not None:
        return size.downscale / pictures.shrunk_by
    return size.factor(max(max(photo.lens.width, photo.lens.height) for photo in fitted))


def _shrunk(photo: Picture, factor: float) -> Intrinsics:
    """The pinhole camera at training resolution."""
    flat = undistort.pinhole(photo.lens)
    width, height = round(flat.width / factor), round(flat.height / factor)
    if min(width, height) < SHORTEST_SIDE:
        is_small = min(flat.width, flat.height) < SHORTEST_SIDE
        advice = "leave the photo out" + ("" if is_small else ", or use a smaller `downscale`")
        raise InputError(
            f"{photo.path} would be trained on at {width}x{height} px, and each side needs at least "
            f"{SHORTEST_SIDE}: {advice}."
        )
    if not undistort.is_pinhole(photo.lens):
        # We choose what an undistorted picture shows: a whole number of training pixels, so that they stay
        # square. Up to half a training pixel beyond the border is filled from the border.
        flat = replace(flat, width=round(width * factor), height=round(height * factor))
    return undistort.resized(flat, width, height)


def _announce(
    fitted: list[Picture],
    flats: list[Intrinsics],
    folder: Path,
    shrunk_unasked: bool,
    say: Say,
) -> None:
    """Tell the user what the training uses, in one line."""
    hint = " (`downscale` 1 for full size)" if shrunk_unasked else ""
    undistorted = "" if all(undistort.is_pinhole(photo.lens) for photo in fitted) else ", undistorted"
    say(
        f"{len(fitted)} photos of {_sizes(photo.lens for photo in fitted)} px in {folder}; "
        f"training at {_sizes(flats)}{undistorted}{hint}."
    )
    if any(photo.header.has_alpha for photo in fitted):
        say("Transparent parts of the photos are laid over black.")
    if unsure := [photo.path.name for photo in fitted if not photo.header.says_white]:
        say(f"{len(unsure)} RAW photos ({unsure[0]}, ...) lack a white balance: daylight's is taken.")


def _sizes(lenses: Iterable[Intrinsics]) -> str:
    """The size of all pictures, or the smallest and the largest."""
    sizes = sorted({(lens.width, lens.height) for lens in lenses}, key=lambda size: (size[0] * size[1], size))
    ends = sizes if len(sizes) == 1 else (sizes[0], sizes[-1])
    return " to ".join(f"{width}x{height}" for width, height in ends)


def _check_masks(scene: Scene, say: Say) -> None:
    """A mask of 0 and 1 instead of 0 and 255 is black, and nobody sees why nothing is learned."""
    black = [
        view.name
        for view in scene.train_views
        if view.mask_path and not prepare.open_pixels(view.mask_path).any()
    ]
    if not black:
        return
    if len(black) == len(scene.train_views):
        raise InputError(f"All masks of {scene.source} are black: make white, 255, what is to be used.")
    say(f"Black masks, so that nothing is learned from {', '.join(black)}; white, 255, is what is used.")
