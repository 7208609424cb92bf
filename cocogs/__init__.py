"""cocogs: defocused photos in, a sharp and refocusable 3D Gaussian scene out.

The files in the order in which data flows through them:

    io/photos.py            photo files: reading, EXIF, sizes
    io/folders.py           what a folder holds: images_N/, masks/, hold=N
    io/source.py            plain data that every reader below gives
    io/sfm.py               photos -> camera poses and points (pycolmap)
    io/colmap.py            COLMAP project -> source; undistortion
    io/llff.py              poses_bounds.npy -> source
    io/nerfstudio.py        transforms.json -> source
    io/seeds.py             start points where the source has none
    io/prepare.py           photos as training wants them, made once
    device.py               CPU or GPU, and what is fast on it
    threads.py              how many threads torch and the compiled passes take
    camera.py               Camera, and every convention: axes, pixels, units
    scene.py                Scene: views, photos, SfM points, the test split
    gaussians.py            Gaussians: raw parameters, activations, start from points
    start_points.py         more points to start from: around those of SfM, and on what photos show
    coc/lens.py             thin-lens formulas, without state
    coc/focus.py            FocusPlanes: focus distance and softness per photo, and aperture, learned
    coc/expand.py           one Gaussian -> its circle-of-confusion copies
    coc/resolution.py       what even the sharpest photo of a place blurs away
    rasterize/__init__.py   rasterize(): splats and a camera -> pictures
    rasterize/native.py     the fast one, as torch ops: cuda_ext/
    rasterize/call.py       what the native modules are told about a scene
    rasterize/native_cpu.py its passes on a CPU
    rasterize/native_cuda.py its passes on a GPU
    rasterize/reference.py  the specification, in torch
    rasterize/via_gsplat.py an independent judge, for tests
    quantiles.py            quantiles of more numbers than torch takes
    maps.py                 depth and circles of confusion of a picture, as numbers and in colour
    blend.py                BlendNet: copies' renders -> one defocused photo
    exposure.py             how much brighter, and of what tint, each photo is
    model.py                DefocusModel: the whole model in one screen
    srgb.py                 the display curve
    refocusing.py           Lens, refocus(): the scene through a lens set by hand; depth at a pixel
    ssim/__init__.py        SSIM with its gradient, as torch ops: cuda_ext/
    ssim/reference.py       the specification, in torch
    losses.py               L1 and D-SSIM
    strategy.py             where Gaussians are added and removed
    config.py               every setting, and the presets
    run.py                  the run folder: checkpoint, settings, lens.json
    replay.py               steps on a GPU, recorded and replayed
    trainer.py              the training loop
    monitor.py              progress line, curves, picture strips
    evaluate.py             PSNR, SSIM, FLIP, LPIPS on sharp test views
    lpips.py                LPIPS from local weights
    truth.py                refocused renders and the learned lens against a ray-traced truth
    paths.py                camera paths: through the photos, spiral, orbit
    render/__init__.py      run -> picture files and films
    render/options.py       what was asked for, and what its words mean
    render/lenses.py        options -> focus and aperture of every picture
    render/shots.py         options -> pictures to draw: camera, lens, name
    render/files.py         pictures to draw -> files; goes on where it stopped
    viewer/exhibit.py       what the viewer shows: a run or a .ply, as functions that draw
    viewer/space.py         our cameras and viser's
    viewer/schedule.py      when to draw what: coarse while moving, finer while still
    viewer/session.py       one visitor: place, lens, pictures
    viewer/panel.py         their controls: lens, photos, saving
    viewer/dial.py          a slider in a unit
    viewer/film_panel.py    controls of focus pulls and camera paths
    viewer/landmarks.py     cameras and focus planes in 3D
    viewer/server.py        the page: port, host, a session per visitor
    inspection.py           before training: what each photo has in focus, what none has
    inspection_page.py      the same as a page, with sharpness maps
    bench/suites.py         benchmarks: truth scenes and the field's datasets; are they whole?
    bench/processes.py      commands in processes of their own: measured, and stopped together
    bench/runs.py           their runs, and what they cost; goes on where it stopped
    bench/outcome.py        their figures, over scenes and seeds
    bench/table.py          figures as Markdown, CSV, JSON
    bench/report.py         figures and pictures as a page
    io/makernote.py         focus distances that Canon writes into its photos
    io/truth_file.py        truth.json of a ray-traced scene
    io/page.py              pieces of a HTML page
    export.py               run -> .ply, .splat, lens and cameras for other programs
    io/progress.py          percentages of slow steps
    io/ply.py               the standard 3DGS .ply, in and out
    io/camera_path.py       camera paths as JSON: the viewer saves, render reads
    io/lens_file.py         cameras and lenses beside exported splats: export writes, the viewer reads
    io/pictures.py          PNG, OpenEXR, mp4, gif
    io/curves.py            numbers and pictures for TensorBoard
    io/atomic.py            files that are whole or absent
    io/lock.py              one process at a time in a folder
    errors.py               InputError: the sentence a user reads
    cli.py                  the commands

docs/architecture.md tells the same at length.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocogs.refocusing import Lens as Lens
    from cocogs.refocusing import depth_at as depth_at
    from cocogs.refocusing import refocus as refocus
    from cocogs.run import load_run as load_run

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The names for notebooks, imported when first used: `import cocogs` stays quick."""
    homes = {"Lens": "refocusing", "depth_at": "refocusing", "load_run": "run", "refocus": "refocusing"}
    if name not in homes:
        raise AttributeError(f"module 'cocogs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cocogs.{homes[name]}"), name)
