"""Run the commands of a benchmark in processes of their own and measure them. None outlives the benchmark."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cocogs.errors import InputError
from cocogs.signals import handled
from cocogs.train.memory import RSS_UNIT


@dataclass(frozen=True)
class Usage:
    """What a process printed and what it took.

    Args:
        error: its message if it failed, else None.
        cpu_seconds: user and system time of all its threads.
        peak_bytes: its largest resident memory.
    """

    output: str
    error: str | None
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int

    def check(self) -> None:
        """Raises InputError if it failed."""
        if self.error is not None:
            raise InputError(self.error)


class Processes:
    """Runs commands until `stop`; several threads may run one each."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def run(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> Usage:
        """Run `cocogs` with these arguments, and add what it prints to `folder`/log.txt."""
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        text: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}  # names may be any bytes
        with tempfile.TemporaryFile("w+", **text) as output, open(folder / "log.txt", "a+", **text) as log:
            log.write(f"$ {shlex.join(['cocogs', *arguments])}\n")
            log.flush()
            start = log.tell()
            process = self._start(arguments, stdout=output, stderr=log, env=environment)
            status, used = self._wait(process.pid)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            log.seek(start)
            printed, complaint = output.read(), log.read().strip()
            log.write(printed)
        return Usage(
            output=printed,
            error=reason(process.returncode, complaint) if process.returncode else None,
            cpu_seconds=used.ru_utime + used.ru_stime,
            wall_seconds=time.monotonic() - began,
            peak_bytes=used.ru_maxrss * RSS_UNIT,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to all running processes and start no more. Trainings save when they get SIGTERM."""
        with self._lock:
            self.stopped = True
            for leader in self._running:
                with suppress(OSError):  # it has just ended
                    os.killpg(leader, number)

    def _wait(self, pid: int) -> tuple[int, resource.struct_rusage]:
        """Exit status and usage of one process (subprocess only knows the usage of all children together)."""
        while True:
            with self._lock:  # else `stop` might signal another process that gets the number next
                ended, status, used = os.wait4(pid, os.WNOHANG)
                if ended:
                    self._running.remove(pid)
                    return status, used
            time.sleep(0.05)

    def _start(self, arguments: list[str], **options: Any) -> subprocess.Popen:
        with self._lock:
            if self.stopped:
                raise InputError("stopped; start the benchmark again to continue")
            # In a session of its own, a process gets Ctrl-C from `stop` only: once, with all its children.
            command = [sys.executable, "-m", "cocogs", *arguments]
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._running.add(process.pid)
        return process


def reason(code: int, complaint: str) -> str:
    """Why a process failed, as one sentence.

    Args:
        code: its exit code; below 0: minus the signal that ended it.
        complaint: what it printed to stderr.
    """
    number = -code if code < 0 else code - 128  # Python and shells pass 128 + n on for signal n
    if number > 0:  # libraries then print stack traces, which help nobody
        return f"ended by signal {number}; start the benchmark again to continue"
    last = complaint.splitlines()[-1] if complaint else f"ended with code {code}"
    return last.removeprefix("cocogs: error: ")


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal, which end a process at once, like Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with handled(interrupt):
        yield
