"""Matched photos -> cameras and points, by pycolmap's mappers."""

import shutil

import pycolmap

from cocogs.io.matching import Job
from cocogs.io.progress import Progress

FEWEST_PHOTOS = 3
# COLMAP's 30 is too strict for blurred photos (see LOWE_RATIO in cocogs.io.matching).
FEWEST_INLIERS = 15


def place_cameras(job: Job, count: int) -> list[pycolmap.Reconstruction]:
    """Incremental mapping; the largest model first."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = job.seed
    options.min_model_size = FEWEST_PHOTOS
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    # More threads would sum in an order that changes from run to run.
    options.num_threads = 1
    progress = Progress("Placing cameras", count, job.say)
    output = job.work / "models"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    models = pycolmap.incremental_mapping(
        job.database,
        job.work,
        output,
        options,
        initial_image_pair_callback=lambda: progress.add(2),
        next_image_callback=lambda: progress.add(1),
    )
    return sorted(models.values(), key=lambda model: -model.num_reg_images())
