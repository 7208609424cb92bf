"""Can what SfM found be true? Checks of lenses, of parallax and of how well each photo fits."""

import math

import numpy as np
import pycolmap

from cocogs.io.matching import Job, MatchedPair, matched_pairs

# Picture widths. From 14 mm fisheye-like lenses to 300 mm on a 36 mm wide sensor.
FOCAL_LENGTHS = (0.2, 9.0)
# Most that distortion may move the picture's corner, as a part of its distance from the centre.
CORNER_SHIFT = 0.5
# COLMAP's own limit of a distortion coefficient is 1, but only while it adds photos.
LARGEST_COEFFICIENT = 5.0

# Pairs of photos that are looked at, those with the most matches.
PAIRS = 60
# Part of a pair's matches that a homography explains where the camera only turned (or the scene is flat).
FLAT = 0.9
HOMOGRAPHY_ERROR = 4.0  # px, at COLMAP's own setting
FEWEST_MATCHES = 30
# Radians of parallax below which a pair shows no depth.
LEAST_PARALLAX = math.radians(1.5)


def impossible_lens(model: pycolmap.Reconstruction) -> str | None:
    """What is wrong with a lens of the model, in a few words; None where all are possible."""
    used = {model.images[number].camera_id for number in model.reg_image_ids()}
    for camera in (model.cameras[number] for number in sorted(used)):
        widths = camera.mean_focal_length() / max(camera.width, camera.height)
        bent = [camera.params[index] for index in camera.extra_params_idxs()]
        if not FOCAL_LENGTHS[0] <= widths <= FOCAL_LENGTHS[1]:
            return f"focal length of {widths:.2g} picture widths"
        if max(map(abs, bent), default=0) > LARGEST_COEFFICIENT or _corner_shift(camera) > CORNER_SHIFT:
            return f"distortion of {', '.join(f'{value:.2g}' for value in bent)}"
    return None


def _corner_shift(camera: pycolmap.Camera) -> float:
    """How far distortion moves the picture's corner, as a part of its distance from the centre."""
    radius = math.hypot(camera.width, camera.height) / 2 / camera.mean_focal_length()
    ray = np.array([[radius, 0.0, 1.0]])
    ((x, _),) = np.asarray(camera.img_from_cam(ray))
    return abs((float(x) - camera.principal_point_x) / camera.mean_focal_length() / radius - 1)


def turns_in_one_place(job: Job) -> bool:
    """Whether the matches in the database are those of a camera that turned without moving.

    Then one homography explains the matches of each pair, and with the right focal length that homography is
    a rotation. Where the camera moved before a flat scene, a homography explains the matches too, but its
    singular values differ by the parallax. The focal length is tried out: the one that makes all pairs most
    like rotations counts.
    """
    pairs = [pair for pair in matched_pairs(job)[:PAIRS] if len(pair.pixels_one) >= FEWEST_MATCHES]
    homographies = [found for pair in pairs if (found := _homography(pair, job.seed)) is not None]
    if not homographies or len(homographies) < 0.9 * len(pairs):
        return False
    with pycolmap.Database.open(job.database) as database:
        numbers = {image.name: image.camera_id for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
    lenses = {name: cameras[number] for name, number in numbers.items()}
    parallaxes = []
    for factor in np.geomspace(0.2, 8, 60):
        both = [
            np.linalg.inv(_matrix(lenses[other], factor)) @ matrix @ _matrix(lenses[one], factor)
            for one, other, matrix in homographies
        ]
        values = np.linalg.svd(np.stack(both), compute_uv=False)
        parallaxes.append(np.log(values[:, 0] / values[:, 2]))
    best = min(parallaxes, key=lambda found: float(np.median(found)))
    return bool(np.quantile(best, 0.9) < LEAST_PARALLAX)


def _homography(pair: MatchedPair, seed: int) -> tuple[str, str, np.ndarray] | None:
    """The photos' names and the (3, 3) homography between them; None where none explains the pair."""
    options = pycolmap.RANSACOptions()
    options.max_error, options.random_seed = HOMOGRAPHY_ERROR, seed
    found = pycolmap.estimate_homography_matrix(pair.pixels_one, pair.pixels_other, options)
    if found is None or found["num_inliers"] < FLAT * len(pair.pixels_one):
        return None
    return pair.one, pair.other, np.asarray(found["H"])


def _matrix(camera: pycolmap.Camera, factor: float) -> np.ndarray:
    """Calibration matrix of a lens whose focal length is `factor` times what is known."""
    focal = camera.mean_focal_length() * factor
    return np.array([[focal, 0, camera.principal_point_x], [0, focal, camera.principal_point_y], [0, 0, 1.0]])


def misfits(model: pycolmap.Reconstruction) -> list[tuple[str, float]]:
    """Photos whose points lie much farther off than in the others: name and median error in px."""
    errors = {model.images[number].name: _error(model, number) for number in model.reg_image_ids()}
    usual = float(np.median(list(errors.values())))
    return sorted((name, error) for name, error in errors.items() if error > max(3 * usual, 1.0))


def _error(model: pycolmap.Reconstruction, number: int) -> float:
    """Median reprojection error of a photo, px; 0 where it has no points."""
    image = model.images[number]
    seen = [point for point in image.points2D if point.has_point3D()]
    if not seen or image.camera is None:
        return 0.0
    places = np.stack([model.points3D[point.point3D_id].xyz for point in seen])
    local = places @ image.cam_from_world().rotation.matrix().T + image.cam_from_world().translation
    pixels = np.asarray(image.camera.img_from_cam(local))
    return float(np.nanmedian(np.linalg.norm(pixels - np.stack([point.xy for point in seen]), axis=1)))
