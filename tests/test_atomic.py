"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
from pathlib import Path

import pytest

from cocogs.errors import InputError
from cocogs.io.atomic import replacing


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
