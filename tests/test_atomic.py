"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import cocogs
from cocogs.errors import InputError
from cocogs.io.atomic import replacing, write_text

REPOSITORY = Path(cocogs.__file__).parents[1]


def test_writes_into_a_folder_that_it_makes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run" / "lens.json"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("{}")
        assert not path.exists()
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_keeps_the_old_file_when_the_body_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leaves_nothing_when_the_body_fails_the_first_time(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "checkpoint.pt"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_full_disk_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    with (
        pytest.raises(InputError, match=r"checkpoint\.pt cannot be written \(No space left.*free space"),
        replacing(path) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_while_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root writes everywhere")
    with pytest.raises(InputError, match="choose a writable folder"), replacing(folder / "lens.json"):
        pytest.fail("the body must not run")


def test_refusal_to_make_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk, also for root."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.open", refuse)
    with (
        pytest.raises(InputError, match=r"lens\.json.*Read-only file system"),
        replacing(tmp_path / "lens.json"),
    ):
        pytest.fail("the body must not run")


def test_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"), replacing(tmp_path / "run" / "lens.json"):
        pytest.fail("the body must not run")


def test_target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "lens.json").mkdir()
    with pytest.raises(InputError, match="cannot be written"), replacing(tmp_path / "lens.json") as temporary:
        temporary.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["lens.json"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "lens.json"
    before = os.umask(0o027)
    try:
        with replacing(path) as temporary:
            temporary.write_text("{}")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


KILLED = """
import os, sys
from pathlib import Path
from cocogs.io.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_when_the_folder_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    process = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=REPOSITORY)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """By this process, and by other computers; unless nobody wrote to it for a day."""
    elsewhere = tmp_path / ".cocogs-00000000-1-0123456789ab.pt"
    old = tmp_path / ".cocogs-00000000-1-ba9876543210.pt"
    others = [tmp_path / ".scene-0123456789ab.pt", tmp_path / ".cocogs-render.json"]
    for file in (elsewhere, old, *others):
        file.write_text("")
    os.utime(old, (0, 0))
    with replacing(tmp_path / "a.pt") as mine, replacing(tmp_path / "b.pt"):
        assert mine.exists() and elsewhere.exists() and not old.exists()
    assert set(tmp_path.iterdir()) == {tmp_path / "a.pt", tmp_path / "b.pt", elsewhere, *others}


def test_everything_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    path, sync, rename = tmp_path / "checkpoint.pt", os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        events.append(f"sync {'folder' if stat.S_ISDIR(os.fstat(handle).st_mode) else 'file'}")
        sync(handle)

    def noted_rename(source: Path, target: Path) -> Path:
        events.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert events == ["sync file", "rename", "sync folder"]


def test_a_disk_that_fails_on_syncing_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="Disk quota exceeded"), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_long_names(tmp_path: Path) -> None:
    """A name as long as file systems allow leaves no room to build another one from it."""
    path = tmp_path / ("n" * 251 + ".png")
    with replacing(path) as temporary:
        temporary.write_text("")
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_with_names_of_any_bytes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.html", "é " + os.fsdecode(b"n-\xff"))
    assert (tmp_path / "a.html").read_bytes() == "é n-\\udcff".encode()
