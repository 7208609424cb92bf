"""Matched photos -> cameras and points, by pycolmap's incremental mapper.

Its global mapper is not used: it found no cameras in defocused photos (docs/benchmarks.md).
"""

import shutil
from pathlib import Path

import pycolmap

from cocogs.io.matching import Job
from cocogs.io.progress import Progress

FEWEST_PHOTOS = 3
# COLMAP's 30 is too strict for blurred photos (see LOWE_RATIO in cocogs.io.matching).
FEWEST_INLIERS = 15
# After so many photos the unfinished model is saved, for a run that goes on after an interruption.
SNAPSHOT = 50


def place_cameras(job: Job, count: int) -> list[pycolmap.Reconstruction]:
    """Cameras of the photos in the database; the model with the most photos comes first.

    Where an interrupted run has saved an unfinished model, that one is completed, and no others are made of
    photos that have too little in common with it.

    Args:
        count: how many photos there are; the faces of a panorama count as one.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = job.seed
    options.min_model_size = FEWEST_PHOTOS
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    # More threads would sum in an order that changes from run to run.
    options.num_threads = 1
    options.constant_rigs, options.constant_cameras = fixed_rigs(job)
    snapshots = job.work / "snapshots"
    snapshots.mkdir(exist_ok=True)
    options.snapshot_path, options.snapshot_frames_freq = snapshots, SNAPSHOT
    saved = [(placed, path) for path in snapshots.iterdir() if (placed := _placed(path))]
    placed, unfinished = max(saved, default=(0, None))
    progress = Progress("Placing cameras", count, job.say, start=placed)

    def begun() -> None:
        if progress.done != placed or unfinished is None:
            progress.add(2)

    def added() -> None:
        progress.add(1)
        for smaller in sorted(snapshots.iterdir(), key=_size)[:-1]:
            shutil.rmtree(smaller)  # of another model, or of this one before

    output = job.work / "models"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    models = pycolmap.incremental_mapping(
        job.database,
        job.work,
        output,
        options,
        unfinished or "",
        initial_image_pair_callback=begun,
        next_image_callback=added,
    )
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def fixed_rigs(job: Job) -> tuple[set[int], set[int]]:
    """Rigs of several cameras in the database, and these cameras: what is known of them stays as it is."""
    with pycolmap.Database.open(job.database) as database:
        rigs = [rig for rig in database.read_all_rigs() if rig.num_sensors() > 1]
    return {rig.rig_id for rig in rigs}, {sensor.id for rig in rigs for sensor in rig.sensor_ids()}


def _placed(snapshot: Path) -> int:
    """Photos in an unfinished model; 0 where the run was interrupted while it saved it."""
    try:
        return pycolmap.Reconstruction(snapshot).num_reg_frames()
    except (RuntimeError, ValueError):
        return 0


def _size(snapshot: Path) -> int:
    images = snapshot / "images.bin"
    return images.stat().st_size if images.exists() else 0
