"""Points that photos of known cameras show, triangulated with pycolmap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError, reason_of
from cocogs.io import cached_model, colmap
from cocogs.io.matching import (
    Group,
    Job,
    enter_photos,
    extract_features,
    match_features,
    matched_pairs,
    quiet,
    write_mask,
)
from cocogs.io.pairs import choose_pairs
from cocogs.io.pixels import write_png
from cocogs.io.prepare import open_pixels
from cocogs.io.progress import Say
from cocogs.io.sfm_checks import LEAST_PARALLAX, MOVE_SIDEWAYS
from cocogs.io.undistort import from_camera

# Fewer points say little about the scene.
FEWEST_POINTS = 100
# So many matches that show nothing where the cameras look, and the cameras are to blame.
MANY_MATCHES = 10 * FEWEST_POINTS
# Pairs of photos that are looked at for the reason, those with the most matches.
PAIRS = 1000


@dataclass(frozen=True)
class KnownPhoto:
    """A picture and the pinhole camera that took it.

    Args:
        path: its pixels at the camera's size, prepared (`cocogs.io.prepare`).
        camera: the pinhole camera.
        mask: the prepared mask of the same size, or None.
        original: the photo that the picture was made from; None where it is the photo.
    """

    path: Path
    camera: Camera
    mask: Path | None = None
    original: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that the user knows it in."""
        return (self.original or self.path).parent


def triangulate(
    photos: Mapping[str, KnownPhoto], cache: Path, seed: int, say: Say, settled: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Points that several photos show.

    Args:
        photos: by name.
        cache, seed, say, settled: as for `cocogs.io.sfm.reconstruct`.

    Returns:
        (P, 3) float64 positions in the cameras' world and (P, 3) float32 colours in [0, 1]; None where hardly
        any feature of one photo is found in another.

    Raises:
        InputError: a picture is unreadable, the cache cannot be written, the photos match but the cameras
            contradict the matches, or the cameras stand so close together that there is hardly any parallax.
    """
    model = cache / "points"
    if settled and not model.is_dir():  # none were found, or they are gone, and nobody needs them any more
        return None
    masks = {name: photo.mask for name, photo in photos.items() if photo.mask is not None}
    stamp = cached_model.stamp({name: photo.path for name, photo in photos.items()}, masks, seed)
    stamp["cameras"] = {name: list(photo.camera.numbers) for name, photo in photos.items()}
    source = colmap.read_model(model) if settled else cached_model.read(model, stamp)
    if source is None:
        with cached_model.work_folder(cache, stamp) as work, quiet():
            job = Job(work, seed, say)
            names, numbered = {}, {}
            for count, (name, photo) in enumerate(photos.items()):
                number = f"{count:06d}.png"
                names[number], numbered[number] = name, photo
                write_png(work / number, np.ascontiguousarray(open_pixels(photo.path).transpose(1, 2, 0)))
                if photo.mask is not None:
                    write_mask(job, number, open_pixels(photo.mask))
            found = _find_points(job, numbered)
            if found.num_points3D() < FEWEST_POINTS:
                _blame_cameras(job, numbered)
                return None
            cached_model.save(found, names, model, stamp, work, {})
        source = colmap.read_model(model)
    assert source.points is not None and source.point_colors is not None
    return source.points, source.point_colors


def _find_points(job: Job, photos: Mapping[str, KnownPhoto]) -> pycolmap.Reconstruction:
    """Triangulated from the features of the photos in the work folder.

    Raises:
        InputError: pycolmap failed.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.num_threads = job.seed, 1  # for the same result in every run
    try:
        enter_photos(job, [Group([name], from_camera(photo.camera)) for name, photo in photos.items()])
        names = list(photos)
        extract_features(job, names)
        places = torch.stack([photo.camera.position for photo in photos.values()]).numpy()
        match_features(job, names, choose_pairs(job, names, places))
        model = pycolmap.Reconstruction()
        with pycolmap.Database.open(job.database) as database:
            for lens in database.read_all_cameras():
                model.add_camera_with_trivial_rig(lens)
            for image in database.read_all_images():
                pose = pycolmap.Rigid3d(photos[image.name].camera.cam_from_world[:3].numpy())
                model.add_image_with_trivial_frame(image, pose)
        output = job.work / "model"
        output.mkdir(exist_ok=True)
        return pycolmap.triangulate_points(model, job.database, job.work, output, options=options)
    except (RuntimeError, ValueError, MemoryError) as error:
        reason, folder = reason_of(error), next(iter(photos.values())).folder
        raise InputError(
            f"{folder}: finding points failed ({reason}): check the photos and free disk space."
        ) from error


def _blame_cameras(job: Job, photos: Mapping[str, KnownPhoto]) -> None:
    """Say why photos that match each other well have no points in common.

    Raises:
        InputError: the photos do match.
    """
    pairs = matched_pairs(job, PAIRS)
    if sum(len(pair.pixels_one) for pair in pairs) < MANY_MATCHES:
        return
    folder = next(iter(photos.values())).folder
    angles = np.concatenate(
        [
            _angles(
                _rays(photos[pair.one].camera, pair.pixels_one),
                _rays(photos[pair.other].camera, pair.pixels_other),
            )
            for pair in pairs
        ]
    )
    if np.median(angles) < LEAST_PARALLAX:
        raise InputError(
            f"{folder}: the photos show hardly any parallax, since their cameras stand almost in one place: "
            f"{MOVE_SIDEWAYS}."
        )
    raise InputError(
        f"{folder}: the photos show the same things, but not where their cameras look: check the cameras' "
        "poses and focal lengths, or remove the camera file so that cameras are computed anew."
    )


def _rays(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """(M, 3) unit directions in the world, of (M, 2) pixels."""
    ahead = camera.unproject(torch.from_numpy(pixels), torch.ones(len(pixels), dtype=torch.float64))
    return torch.nn.functional.normalize(ahead - camera.position, dim=1).numpy()


def _angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors, row by row."""
    return np.degrees(np.arccos(np.clip((one * other).sum(axis=1), -1, 1)))
