"""`cocogs demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cocogs.cli.options import STANDARD_DECIDES, check_whole_numbers
from cocogs.cli.words import speaker


@dataclass
class Demo:
    """Show the whole way: train the bundled photos, measure and render the result, write a report page.

    It prints every command before it runs it, so that you can type the same for photos of your own. It takes
    some minutes on a CPU. The same command continues an interrupted demo.
    """

    run_folder: Annotated[Positional[Path], arg(metavar="[RUN]")] = Path("runs/demo")
    """Folder for the result; the page is RUN/report.html."""
    iterations: Annotated[int | None, arg(metavar="N", help_behavior_hint=STANDARD_DECIDES)] = None
    """Training steps. Fewer take less time and give softer pictures."""

    def run(self) -> int:
        from cocogs.cli import main
        from cocogs.demo import run_demo

        check_whole_numbers(self)
        return run_demo(self.run_folder, self.iterations, speaker(self), main)
