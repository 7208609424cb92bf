"""Can what SfM found be true? Checks of lenses, of parallax and of focal lengths."""

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
# A step between the sorted focal lengths of photos that parts them into groups. On photos of one lens, single
# estimates differ by up to 6 % from the median, and neighbours by far less.
ZOOMED = 1.12
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
    pairs = [pair for pair in matched_pairs(job, PAIRS) if len(pair.pixels_one) >= FEWEST_MATCHES]
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


def odd_focal_lengths(model: pycolmap.Reconstruction) -> tuple[dict[str, float], float]:
    """Photos that were taken at another focal length than the rest, though they share a lens in the model.

    Reprojection errors do not show this: SfM moves the camera forward instead. With a lens for each photo,
    however, bundle adjustment finds the true focal lengths, and they fall into groups. Photos whose EXIF
    tells the focal length are passed over.

    Returns:
        Focal lengths of the odd photos (those outside the largest group) by name, and that of the rest; px.
    """
    photos = [
        number
        for number in sorted(model.reg_image_ids())
        if not model.cameras[model.images[number].camera_id].has_prior_focal_length
        and model.images[number].num_points3D >= FEWEST_MATCHES
    ]
    if len(photos) < 2:
        return {}, 0.0
    freed = _with_a_lens_each(model)
    options, config = pycolmap.BundleAdjustmentOptions(), pycolmap.BundleAdjustmentConfig()
    options.print_summary, options.refine_extra_params = False, False
    for number in freed.reg_image_ids():
        config.add_image(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, freed).solve()
    groups: list[list[int]] = [[]]
    for number in sorted(photos, key=lambda number: freed.cameras[number].mean_focal_length()):
        focal = freed.cameras[number].mean_focal_length()
        if groups[-1] and focal > ZOOMED * freed.cameras[groups[-1][-1]].mean_focal_length():
            groups.append([])
        groups[-1].append(number)
    usual = max(groups, key=len)
    odd = {
        model.images[number].name: freed.cameras[number].mean_focal_length()
        for group in groups
        if group is not usual
        for number in group
    }
    return odd, float(np.median([freed.cameras[number].mean_focal_length() for number in usual]))


def _with_a_lens_each(model: pycolmap.Reconstruction) -> pycolmap.Reconstruction:
    """A copy in which every photo has a camera of its own, with the photo's number."""
    copy = pycolmap.Reconstruction()
    for number in model.reg_image_ids():
        image = model.images[number]
        camera = pycolmap.Camera(model.cameras[image.camera_id].todict())
        camera.camera_id = number
        copy.add_camera_with_trivial_rig(camera)
        pixels = np.stack([point.xy for point in image.points2D])
        alone = pycolmap.Image(name=image.name, camera_id=number, image_id=number, keypoints=pixels)
        copy.add_image_with_trivial_frame(alone, image.cam_from_world())
    for point in model.points3D.values():
        track = pycolmap.Track()
        for element in point.track.elements:
            track.add_element(element.image_id, element.point2D_idx)
        copy.add_point3D(point.xyz, track, point.color)
    return copy
