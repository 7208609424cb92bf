import pytest

from cocogs.errors import InputError
from cocogs.io.json_file import read_json


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"n\xc3\xa4me": [1, 2.5]}')
    assert read_json(file) == {"näme": [1, 2.5]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON"),
        (b'{"a": ', "no JSON"),
        (b"\xff\xfe{\x00}\x00", "no UTF-8 text"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 5000, "a number with thousands of digits"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, problem):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json cannot be read \({problem}.*\): save it again\."):
        read_json(file, "save it again")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.json cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="Is a directory"):
        read_json(tmp_path)
