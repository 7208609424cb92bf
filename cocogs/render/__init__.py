"""From a run to picture files: sharp, as photographed, or refocused; from the photos' places or along a path.

`RenderOptions` become a list of `Frame`s, each with one camera, one lens and one file name; frames become
files.
"""

from contextlib import suppress
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io.camera_file import CAMERA
from cocogs.io.lock import alone_in
from cocogs.io.pictures import check_speed, check_writer, write_film
from cocogs.io.progress import Say
from cocogs.render.files import PARTS, RECORD, write_pictures
from cocogs.render.frames import Frame, plan
from cocogs.render.lenses import is_in_metres, without_focus
from cocogs.render.options import FILMS, RenderOptions, choose_format
from cocogs.run import Run


def render(run: Run, options: RenderOptions, say: Say = print) -> list[Path]:
    """Draw what `options` ask for.

    Args:
        say: receives lines for the user: what is kept of an interrupted request, and how far it is.

    Returns:
        The files in the order in which they are shown; one file for a video.

    Raises:
        InputError: options that do not fit each other or the run, a missing package, or a file that cannot be
            written.
    """
    kind = choose_format(options)
    check_writer(kind)
    frames, fps = plan(run, options)
    check_effects(options, frames, kind)
    refuse_photos(run, options.out, frames)
    if run.invented:
        made = "a network drew what they show" if run.generative else "no photo showed them"
        say(f"{run.invented:,} of {len(run.model.gaussians):,} splats were filled in: {made}.")
    tell_metres(run, frames, options, say)
    tell_lost_focus(run, frames, say)
    if kind not in FILMS:
        if (options.out / CAMERA).is_file():
            raise InputError(f"{options.out} holds pictures of a simulated camera: give another `out`.")
        with alone_in(options.out):
            return write_pictures(run, frames, options, options.out, kind, say)
    if options.depth or options.coc:
        raise InputError(
            "`depth` and `coc` go with single pictures: let `out` be a folder, and no video format."
        )
    if len(frames) < 2 or (options.path is None and not options.is_moving):
        raise InputError("A video needs `path`, `focus_pull` or `aperture_sweep`: add one of them.")
    if len({(frame.camera.width, frame.camera.height) for frame in frames}) > 1:
        raise InputError(
            f"A video needs pictures of one size; those of {options.path} differ: give `size=WxH`."
        )
    check_speed(kind, fps)
    folder = options.out.with_name(f"{options.out.name}.frames")
    with alone_in(folder):
        drawn = write_pictures(run, frames, options, folder, "png", say, keep_record=True)
        write_film(drawn, fps, options.out)
        for file in (*drawn, folder / RECORD):
            file.unlink(missing_ok=True)
    with suppress(OSError):  # somebody's own files are in it
        folder.rmdir()
    return [options.out]


def check_effects(options: RenderOptions, frames: list[Frame], kind: str) -> None:
    """Raises InputError for an option that would change nothing."""
    neutral = {"blades": 0, "blade_rotation": 0, "highlights": 1}
    for name in (name for name, value in neutral.items() if getattr(options, name) != value):
        if all(frame.lens is None for frame in frames):
            raise without_focus(name)
        if options.samples == 0:
            raise InputError(f"`{name}` needs lens samples to show: leave out `samples=0`, or `{name}`.")
    if options.fps is not None and kind not in FILMS:
        raise InputError("`fps` is the speed of a video: let `out` end in .mp4 or .gif, or leave `fps` out.")


def tell_metres(run: Run, frames: list[Frame], options: RenderOptions, say: Say) -> None:
    """Say what a focus in metres is in scene units, and how sure that is."""
    asked = options.focus or options.focus_pull
    lenses = [frame.lens for frame in (frames[0], frames[-1]) if frame.lens is not None]
    if lenses and is_in_metres(asked):
        ends = " to ".join(dict.fromkeys(f"{lens.focus_distance:.4g}" for lens in lenses))
        say(f"Focus {asked} is {ends} scene units. {run.learned.about_metres}")


def tell_lost_focus(run: Run, frames: list[Frame], say: Say) -> None:
    """Say so if the focus lies before all that the first picture shows: then nothing gets sharp."""
    if frames[0].lens is None or not run.has_lens:
        return
    farthest = max(frame.lens.focus_distance for frame in frames if frame.lens is not None)
    pixels, depths = frames[0].camera.project(run.scene.points.double())
    corner = pixels.new_tensor([frames[0].camera.width, frames[0].camera.height])
    shown = depths[(depths > 0) & ((pixels > 0) & (pixels < corner)).all(-1)]
    if len(shown) and farthest < float(shown.min()):
        near, far = min(run.learned.focus_distances), max(run.learned.focus_distances)
        say(
            f"Focus {farthest:.3g} lies in front of everything in the scene; "
            f"the photos are focused at {near:.3g} to {far:.3g}."
        )


def refuse_photos(run: Run, out: Path, frames: list[Frame]) -> None:
    """Pictures have the names of the photos: make sure that they do not overwrite them.

    Raises:
        InputError: `out` is a folder of the photos or masks that the run was trained on, or a picture would
            overwrite one.
    """
    source = run.scene.source
    files = [
        path
        for view in run.scene.views
        for path in (view.original.path, view.file_in(source), view.mask_path)
        if path
    ]
    taken = {place.resolve() for path in files for place in (path, path.parent)}
    names = [f"{frame.name}{what}.{kind}" for frame in frames for what in PARTS for kind in ("png", "exr")]
    if not taken.isdisjoint(path.resolve() for path in (out, *(out / name for name in names))):
        raise InputError(f"{out} would overwrite photos of {source}: give another `out`.")
