"""Scene: photos with pinhole cameras at training resolution, seed points, and the test split.

`open_scene` looks at a folder and takes the first of these that it finds: a COLMAP model (sparse/0 or
sparse/), nerfstudio's transforms.json, LLFF's poses_bounds.npy, plain photos (cameras from SfM).
The world keeps the source's frame and unit; nothing is normalised.
"""

import fnmatch
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io import colmap, folders, llff, nerfstudio, photos, prepare, sfm
from cocogs.io.photos import LensFacts
from cocogs.io.prepare import Picture
from cocogs.io.progress import Progress, Say
from cocogs.io.seeds import draw_points
from cocogs.io.source import Intrinsics, Source

__all__ = ["LensFacts", "Scene", "View", "open_scene"]

# Smaller pictures than this are refused: --downscale went too far.
SHORTEST_SIDE = 12


@dataclass(frozen=True)
class View:
    """A photo to train or test with.

    Args:
        name: the photo's file name relative to its folder, as the user knows it.
        camera: pinhole, at training resolution (float64 CPU tensors).
        image_path: file to read: the photo itself or a copy prepared in the cache.
        mask_path: mask at training resolution (white = use), or None.
        is_test: kept out of the training.
        lens: what the photo's EXIF says.
        original: the photo as found, with its real lens.
    """

    name: str
    camera: Camera
    image_path: Path
    mask_path: Path | None
    is_test: bool
    lens: LensFacts
    original: Picture


@dataclass
class Scene:
    """Everything known about a dataset before training.

    Args:
        views: sorted by name.
        points: (P, 3) float32 seed points in the world, the source's frame and unit.
        point_colors: (P, 3) float32 in [0, 1], sRGB.
        drawn: the points are random and show nothing.
        source: the folder that was opened.
        memory_budget: bytes of photos and masks kept in memory; the rest is read at each use.
        offset: (3,) float64; source coordinates = scene coordinates + offset.
    """

    views: list[View]
    points: Tensor
    point_colors: Tensor
    drawn: bool
    source: Path
    memory_budget: int = 2 << 30
    offset: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    _memory: dict[Path, Tensor] = field(default_factory=dict, repr=False)
    _memory_used: int = field(default=0, repr=False)

    @property
    def train_views(self) -> list[View]:
        return [view for view in self.views if not view.is_test]

    @property
    def test_views(self) -> list[View]:
        return [view for view in self.views if view.is_test]

    @property
    def extent(self) -> float:
        """Size of the scene as 3DGS takes it, in scene units: 1.1 x the largest distance of a training camera
        from their mean position. Where all cameras stand in one place: the median distance to the points."""
        positions = torch.stack([view.camera.position for view in self.train_views])
        centre = positions.mean(dim=0)
        extent = 1.1 * float((positions - centre).norm(dim=1).max())
        if extent > 1e-9:
            return extent
        return float((self.points.double() - centre).norm(dim=1).median()) or 1.0

    def photo(self, view: View) -> Tensor:
        """(3, H, W) float32 in [0, 1], sRGB, at the camera's size. Treat it as read-only: it may be shared.

        Raises:
            InputError: the file is gone or damaged.
        """
        return self._keep(view.image_path, _read_photo)

    def mask(self, view: View) -> Tensor | None:
        """(H, W) float32, 1 = use and 0 = ignore; None where the photo has no mask. Read-only."""
        if view.mask_path is None:
            return None
        return self._keep(view.mask_path, _read_mask)

    def picture_like(self, view: View, path: Path) -> Tensor:
        """Another picture by the view's camera, undistorted and shrunk as its photo was: (3, H, W) in [0, 1].

        Raises:
            InputError: the file is gone, damaged, or of another shape than the photo.
        """
        return torch.from_numpy(prepare.prepared_like(view.original, path, view.camera)).permute(2, 0, 1)

    def fingerprint(self, digits: int | None = 9) -> str:
        """Hash of the names, sizes, cameras and split of all views: tells one dataset from another.

        Args:
            digits: of the cameras' numbers that count, since another version of numpy may compute the last
                ones otherwise; None: all of them, as in runs of before.
        """
        digest = hashlib.sha256()
        for view in self.views:
            camera = view.camera
            numbers = [*_rounded(camera.intrinsics, digits), *_rounded(camera.cam_from_world, digits)]
            digest.update(repr((view.name, camera.width, camera.height, view.is_test, numbers)).encode())
        return digest.hexdigest()

    def _keep(self, path: Path, read: Callable[[Path], Tensor]) -> Tensor:
        if path in self._memory:
            return self._memory[path]
        tensor = read(path)
        if self._memory_used + tensor.nbytes <= self.memory_budget:
            self._memory_used += tensor.nbytes
            self._memory[path] = tensor
        return tensor


def open_scene(
    data: Path,
    cache: Path,
    *,
    downscale: int | None = None,
    test_every: int | None = None,
    test: str | None = None,
    seed: int = 0,
    memory_budget: int = 2 << 30,
    settled: bool = False,
    say: Say = print,
) -> Scene:
    """Open a dataset, computing cameras from the photos if it has none.

    Args:
        data: the dataset's folder.
        cache: folder for what is computed once: cameras (sfm/) and training-size pictures (photos/).
        downscale: shrink the photos by this whole factor; None: by the smallest factor that brings the longer
            side to 800 px or less.
        test: names of the photos to keep for testing, with commas between; * stands for any letters.
        test_every: keep every Nth photo, from the first in name order, for testing; None: as a file hold=N
            or the dataset itself says, else no photo.
        seed: for SfM and for seed points that are drawn at random.
        memory_budget: bytes of photos kept in memory.
        settled: a scene was trained with the cameras in the cache: they are not computed again.
        say: receives lines meant for the user.

    Raises:
        InputError: the data cannot be used; the message says what to do.
    """
    data, cache = Path(data), Path(cache)
    _check_request(data, downscale, test_every)
    source, pictures = _look(data, cache, downscale, seed, settled, say)
    if len(source.shots) < 2:
        raise InputError(f"{data} has a single photo: give at least 3 photos from different places.")
    views = _views(data, cache, source, pictures, downscale, _tests(data, source, test_every, test), say)
    scene = Scene(views, *_points(views, source, cache, seed, settled, say), data, memory_budget)
    _check_photos(scene, cache, say)
    return scene


def _points(
    views: list[View], source: Source, cache: Path, seed: int, settled: bool, say: Say
) -> tuple[Tensor, Tensor, bool]:
    """Positions and colours of the source's points, else of points that the training photos show, else of
    random ones where they look; and whether they are random. Test photos are left out: their colours would be
    a part of what they are to measure."""
    if source.points is not None and source.point_colors is not None:
        return source.points, source.point_colors, False
    say("The dataset has no points: looking for some that several photos show.")
    known = [index for index, view in enumerate(views) if not view.is_test]
    photos = {views[i].name: (views[i].image_path, views[i].camera) for i in known}
    if found := sfm.triangulate(photos, cache / "sfm", seed, say, settled):
        say(f"{len(found[0])} points found.")
        return *found, False
    bounds = None if source.bounds is None else source.bounds[known]
    cameras = [views[i].camera for i in known]
    drawn = draw_points(cameras, bounds, lambda i: _read_photo(views[known[i]].image_path), seed)
    say(f"Hardly any found: {len(drawn[0])} drawn at random where the photos look.")
    return *drawn, True


def _check_request(data: Path, downscale: int | None, test_every: int | None) -> None:
    if not data.is_dir():
        problem = "is not a folder" if data.exists() else "does not exist"
        raise InputError(f"{data} {problem}: name the folder that holds your photos.")
    if downscale is not None and downscale < 1:
        raise InputError(f"--downscale {downscale} is not a size: give a whole number from 1 (full size) up.")
    if test_every is not None and test_every < 1:
        raise InputError(
            f"--test-every {test_every} cannot be: give a whole number from 2 up, or leave it out."
        )


def _look(
    data: Path, cache: Path, downscale: int | None, seed: int, settled: bool, say: Say
) -> tuple[Source, folders.Pictures]:
    """Read the cameras, by the kind of the dataset, and find the files of its photos."""
    transforms, poses_bounds = nerfstudio.find_transforms(data), data / llff.FILE
    if model := colmap.find_model(data):
        unused = [path.name for path in (transforms, poses_bounds) if path is not None and path.is_file()]
        say(f"Cameras from the COLMAP model in {model}{''.join(f'; {name} is not used' for name in unused)}.")
        source = colmap.read_model(model)
        return source, folders.find_pictures(data, [shot.name for shot in source.shots], downscale)
    if transforms is not None:
        say(f"Cameras from {transforms}.")
        source, paths = nerfstudio.read_transforms(transforms)
        return source, folders.Pictures(data, 1, paths)
    if poses_bounds.is_file():
        say(f"Cameras from {poses_bounds}.")
        names = folders.list_largest(data)
        return llff.read_poses_bounds(data, names), folders.find_pictures(data, names, downscale)
    return _from_photos(data, cache, seed, settled, say)


def _from_photos(
    data: Path, cache: Path, seed: int, settled: bool, say: Say
) -> tuple[Source, folders.Pictures]:
    folder = folders.photo_folder(data)
    names = photos.list_photos(folder)
    if not names:
        raise InputError(
            f"{folder} holds no PNG, JPEG or TIFF photo: name the folder that holds your photos."
        )
    source = sfm.reconstruct(folder, names, cache / "sfm", seed, say, settled)
    return source, folders.Pictures(folder, 1, {shot.name: folder / shot.name for shot in source.shots})


def _tests(data: Path, source: Source, test_every: int | None, test: str | None) -> frozenset[str]:
    """Names of the test photos: --test or --test-every, else hold=N, else what the dataset says, else none.

    Raises:
        InputError: no photo would be left to train on, or a name is no photo's.
    """
    names = [shot.name for shot in source.shots]
    if test is not None:
        return _named(names, test, data)
    hold = folders.read_hold(data)
    every = hold if test_every is None else test_every
    if every is not None:
        tests = frozenset(names[::every])
        reason = f"--test-every {test_every}" if test_every is not None else str(data / f"hold={hold}")
    else:
        tests = (source.test_names or frozenset()) & frozenset(names)
        reason = f"the split in {data}"
    if len(tests) == len(names):
        raise InputError(f"{reason} leaves no photo to train on: keep fewer photos for testing.")
    return tests


def _named(names: list[str], test: str, data: Path) -> frozenset[str]:
    """Those that --test names."""
    found: set[str] = set()
    for pattern in map(str.strip, test.split(",")):
        # A whole name first: editors number copies as a[1].jpg, which as a pattern means a1.jpg.
        matching = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not matching:
            raise InputError(
                f"--test {pattern}: {data} has no photo of this name that has a camera: give names "
                "of its photos, or * for any letters."
            )
        found.update(matching)
    if len(found) == len(names):
        raise InputError(f"--test {test} leaves no photo to train on: keep fewer photos for testing.")
    return frozenset(found)


def _views(
    data: Path,
    cache: Path,
    source: Source,
    pictures: folders.Pictures,
    downscale: int | None,
    tests: frozenset[str],
    say: Say,
) -> list[View]:
    """Views at training resolution; their pictures go to the cache where the files do not do as they are."""
    fitted = [prepare.fit_photo(shot, pictures.paths[shot.name]) for shot in source.shots]
    factor = _shrink(fitted, pictures, downscale)
    flats = [_shrunk(photo, factor) for photo in fitted]
    _announce(fitted, flats, pictures.folder, downscale is None and factor > 1, say)
    progress = Progress("Preparing photos", len(fitted), say, patience=2)
    views = []
    for shot, photo, flat in zip(source.shots, fitted, flats, strict=True):
        mask = shot.mask or folders.find_mask(data, shot.name)
        views.append(
            View(
                name=shot.name,
                camera=colmap.to_camera(flat, shot.cam_from_world),
                image_path=prepare.prepared_photo(photo, flat, cache / "photos"),
                mask_path=mask
                and prepare.prepared_mask(prepare.fit_mask(photo, shot, mask), flat, cache / "masks"),
                is_test=shot.name in tests,
                lens=photo.header.lens,
                original=photo,
            )
        )
        progress.add(1)
    if (data / "masks").exists() or any(view.mask_path for view in views):
        say(f"Masks for {sum(view.mask_path is not None for view in views)} of {len(views)} photos.")
    return views


def _shrink(fitted: list[Picture], pictures: folders.Pictures, downscale: int | None) -> float:
    """How much the files found are to be shrunk for training."""
    if downscale is not None:
        return downscale / pictures.shrunk_by
    return folders.automatic_downscale(max(max(photo.lens.width, photo.lens.height) for photo in fitted))


def _shrunk(photo: Picture, factor: float) -> Intrinsics:
    """The pinhole camera at training resolution."""
    flat = colmap.pinhole(photo.lens)
    width, height = round(flat.width / factor), round(flat.height / factor)
    if min(width, height) < SHORTEST_SIDE:
        raise InputError(f"{photo.path} would shrink to {width}x{height} px: use a smaller --downscale.")
    if not colmap.is_pinhole(photo.lens):
        # We choose what an undistorted picture shows: a whole number of training pixels, so that they stay
        # square. Up to half a training pixel beyond the border is filled from the border.
        flat = replace(flat, width=round(width * factor), height=round(height * factor))
    return colmap.resized(flat, width, height)


def _announce(
    fitted: list[Picture],
    flats: list[Intrinsics],
    folder: Path,
    shrunk_unasked: bool,
    say: Say,
) -> None:
    """Tell the user what will be trained on, in one line."""
    lens, flat = fitted[0].lens, flats[0]
    hint = " (--downscale 1 for full size)" if shrunk_unasked else ""
    undistorted = "" if all(colmap.is_pinhole(photo.lens) for photo in fitted) else ", undistorted"
    say(
        f"{len(fitted)} photos of {lens.width}x{lens.height} px in {folder}; "
        f"training at {flat.width}x{flat.height}{undistorted}{hint}."
    )
    if any(photo.header.has_alpha for photo in fitted):
        say("Transparent parts of the photos are laid over black.")


def _check_photos(scene: Scene, cache: Path, say: Say) -> None:
    """Decode what was not prepared, so that a damaged file is named before the training starts. Photos to
    train on come first: they are read again and again, and the memory may not hold all."""
    for view in [*scene.train_views, *scene.test_views]:
        if view.image_path.parent != cache / "photos":
            scene.photo(view)
    _check_masks(scene, say)
    needed = sum(3 * 4 * view.camera.width * view.camera.height for view in scene.train_views)
    if needed > scene.memory_budget:
        say(
            f"The photos need {needed / 2**30:.1f} GiB of memory, more than the "
            f"{scene.memory_budget / 2**30:.1f} GiB set aside: some are read from disk at every use."
        )


def _check_masks(scene: Scene, say: Say) -> None:
    """A mask of 0 and 1 instead of 0 and 255 is black, and nobody sees why nothing is learned."""
    black = [
        view.name for view in scene.train_views if (mask := scene.mask(view)) is not None and not mask.any()
    ]
    if not black:
        return
    if len(black) == len(scene.train_views):
        raise InputError(f"All masks of {scene.source} are black: make white, 255, what is to be used.")
    say(f"Black masks, so that nothing is learned from {', '.join(black)}; white, 255, is what is used.")


def _rounded(values: Tensor, digits: int | None) -> list[float]:
    """All numbers of a tensor; with `digits`, what is nothing beside the largest one is 0."""
    if digits is None:
        return values.flatten().tolist()
    counts = values.abs() > 10**-digits * values.abs().max()
    return [float(f"{value:.{digits}g}") for value in torch.where(counts, values, 0).flatten().tolist()]


def _read_photo(path: Path) -> Tensor:
    pixels = photos.to_float(photos.read_photo(path))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _read_mask(path: Path) -> Tensor:
    return torch.from_numpy(photos.read_mask(path)).float()
