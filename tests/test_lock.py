"""A folder's lock: one process at a time, and free again however its holder ended."""

import errno
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cocogs
from cocogs.errors import InputError
from cocogs.io import lock
from cocogs.io.atomic import replacing
from cocogs.io.lock import alone_in

REPOSITORY = Path(cocogs.__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from cocogs.io.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""
COMPETE = """
import os, sys, time
from pathlib import Path
from cocogs.errors import InputError
from cocogs.io.lock import alone_in
folder, witness, entered = Path(sys.argv[1]), Path(sys.argv[2]), 0
end = time.monotonic() + 4
while time.monotonic() < end:
    try:
        with alone_in(folder):
            os.close(os.open(witness, os.O_CREAT | os.O_EXCL))  # fails if another process is inside
            entered += 1
            time.sleep(0.001)
            os.unlink(witness)
    except InputError as error:
        assert "Another cocogs" in str(error), error
print(entered)
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with start(HOLD, folder) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=r"Another cocogs is at work in .*run"), alone_in(folder):
            pytest.fail("the body must not run")
        holder.send_signal(signal.SIGKILL)
    with alone_in(folder):
        (folder / "result").write_text("")
    assert [path.name for path in folder.iterdir()] == ["result"]


@pytest.mark.thorough
def test_processes_that_make_and_remove_the_folder_never_meet(tmp_path: Path) -> None:
    """A lock on the folder itself let two in: one made the folder anew while another held the old one."""
    several = [start(COMPETE, tmp_path / "run", tmp_path / "witness") for _ in range(3)]
    for process in several:
        with process:
            assert process.stdout is not None and process.stderr is not None
            entered, errors = process.stdout.read(), process.stderr.read()
        assert errors == "" and int(entered) > 0
    assert not list(tmp_path.rglob("*.lock"))


def test_threads_keep_each_other_out(tmp_path: Path) -> None:
    refused = []

    def enter() -> None:
        try:
            with alone_in(tmp_path):
                refused.append(False)
        except InputError:
            refused.append(True)

    with alone_in(tmp_path):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    enter()
    assert refused == [True, False]


def test_an_empty_folder_that_was_made_goes_again_and_others_stay(tmp_path: Path) -> None:
    with alone_in(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new" / "run").exists()
    with alone_in(tmp_path / "new"):
        pass
    assert (tmp_path / "new").is_dir()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The existence of the file is the lock then."""

    class Refusing(lock.FileLock):
        def acquire(self, *args: object, **options: object) -> None:  # type: ignore[override]
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "FileLock", Refusing)
    with alone_in(tmp_path), pytest.raises(InputError, match="Another cocogs"), alone_in(tmp_path):
        pytest.fail("the body must not run")
    with alone_in(tmp_path):
        pass
    assert not list(tmp_path.rglob("*.lock"))


def test_what_killed_processes_left_is_removed_on_entering(tmp_path: Path) -> None:
    code = "import os, sys, cocogs.io.atomic as a\nwith a.replacing(sys.argv[1]): os.kill(os.getpid(), 9)"
    with start(code, tmp_path / "checkpoint.pt"):
        pass
    assert len(list(tmp_path.iterdir())) == 1
    with replacing(tmp_path / "mine") as mine, alone_in(tmp_path):
        assert set(tmp_path.iterdir()) == {mine, tmp_path / lock.NAME}
