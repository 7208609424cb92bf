"""Numbers and pictures over the steps of a run, in a file that TensorBoard reads.

torch's SummaryWriter is not used: it writes from its own thread, which prints a traceback on a full disk and
later raises an error that hides the real one.
"""

import io
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter


class Curves:
    """One file of events; everything is on disk when a call returns.

    A run is worth more than its curves: when the disk refuses, `say` gets one line, and further curves are
    dropped.
    """

    def __init__(self, folder: Path, first_step: int, say: Callable[[str], None]) -> None:
        """
        Args:
            folder: made if absent; holds one file per process that trained.
            first_step: TensorBoard ignores what earlier files have of this step and of later ones.
        """
        self.say, self.writer, self.path = say, None, folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads files in the order of their names: the time comes first.
            name = f"events.out.tfevents.{time.time_ns():019d}.{socket.gethostname()}.{os.getpid()}"
            self.path = folder / name
            self.writer = RecordWriter(self.path.open("xb", buffering=0))
        except OSError as error:
            self._give_up(error)
        self._write(Event(step=first_step, file_version="brain.Event:2"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add_number(self, name: str, value: float, step: int) -> None:
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)])))

    def add_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Add an RGB picture."""
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=encoded.getvalue()
        )
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)])))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _write(self, event: Event) -> None:
        if self.writer is None:
            return
        event.wall_time = time.time()
        try:
            self.writer.write(event.SerializeToString())
        except OSError as error:
            self.close()
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.say(f"No more curves: {self.path} cannot be written ({error.strerror}).")
