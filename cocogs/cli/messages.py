"""From an error to the one sentence that the user reads."""

from pathlib import Path

from cocogs.cli.bench import Bench
from cocogs.cli.demo import Demo
from cocogs.cli.export import Export
from cocogs.cli.measure import Eval, Inspect
from cocogs.cli.render import Render
from cocogs.cli.train import Train
from cocogs.cli.view import View
from cocogs.cli.words import with_options
from cocogs.errors import InputError

Commands = Train | Eval | Render | Export | View | Inspect | Bench | Demo


def sentence(error: Exception, command: Commands) -> str | None:
    """What went wrong in the user's world and what helps; None for a bug of ours."""
    if isinstance(error, InputError):
        return with_options(str(error), command)
    if "CUDA out of memory" in str(error):  # torch's own words, up to the advice on its allocator
        numbers = ". ".join(str(error).split(". ")[:3])
        return (
            f"{numbers}. Give a larger --downscale or a smaller --max-gaussians; what was saved is kept, and "
            "--resume continues it."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "There is not enough memory: give a larger --downscale or a smaller --max-gaussians."
    if isinstance(error, OSError):
        reason = error.strerror or error
        place = error.filename or place_of(command)
        return f"{place} cannot be read or written ({reason}): check the disk and the permissions."
    return None


def place_of(command: Commands) -> Path:
    """The file or folder that a command works on: the best guess where the system does not name the file."""
    if isinstance(command, View):
        return command.scene
    if isinstance(command, Inspect):
        return command.out or command.data
    return command.out if isinstance(command, Train | Render | Bench) else command.run_folder
