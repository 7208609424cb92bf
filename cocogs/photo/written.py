"""What `cocogs stack`, `refocus` and `edit` write beside their pictures: facts, maps, masks. Which files of a
folder these are, and that none of them takes the place of a user's file.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cocogs.errors import InputError
from cocogs.io.json_file import read_json


@dataclass(frozen=True)
class Written:
    """The files of one command.

    Args:
        ending: of its facts, NAME{ending}; the facts name the picture.
        beside: words of the pictures beside it, NAME_{word}.png.
    """

    ending: str
    beside: tuple[str, ...]

    def facts(self, picture: Path) -> Path:
        return picture.with_suffix(self.ending)

    def companion(self, picture: Path, word: str) -> Path:
        return picture.with_name(f"{picture.stem}_{word}.png")

    def is_again(self, picture: Path) -> bool:
        """Whether the command has written this picture before, so that what lies beside it is its own."""
        return _picture_of(self.facts(picture)) == picture.name

    def check(self, picture: Path, read: Iterable[Path]) -> None:
        """Check that nothing of a user's is overwritten, `picture` apart.

        Args:
            read: files that the command reads.

        Raises:
            InputError: it would be.
        """
        if picture.is_dir():
            raise InputError(f"{picture} is a folder: let `out` be the name of a file.")
        facts = self.facts(picture)
        companions = [self.companion(picture, word) for word in self.beside]
        taken = {path.resolve() for path in read}
        for path in (picture, facts, *companions):
            if path.resolve() in taken:
                raise InputError(f"{path} is read, and would be overwritten: give another `out`.")
        if self.is_again(picture):
            return
        for path in (facts, *companions):
            if path.exists():
                what = (
                    "tells of another picture" if path == facts and _picture_of(path) else "is there already"
                )
                raise InputError(f"{path} {what}, and might be overwritten: move it, or give another `out`.")


STACKED = Written(".stack.json", ("depth", "depth_color", "confidence"))
REFOCUSED = Written(".refocus.json", ("too_blurred", "deblurred"))
EDITED = Written(".edit.json", ("invented", *REFOCUSED.beside))


def finite(distance: float) -> float | None:
    """A distance as JSON holds it: infinity is null."""
    return distance if math.isfinite(distance) else None


def results_in(folder: Path) -> set[Path]:
    """The files of a folder that these commands wrote there."""
    found = set()
    for kind in (STACKED, REFOCUSED, EDITED):
        for facts in folder.glob(f"*{kind.ending}"):
            if (name := _picture_of(facts)) is not None:
                picture = folder / name
                found |= {picture, *(kind.companion(picture, word) for word in kind.beside)}
    return found


def _picture_of(facts: Path) -> str | None:
    """The name of the picture that facts tell of; None where they are none of ours."""
    try:
        name = read_json(facts)["picture"]
    except (InputError, KeyError, TypeError, OSError):
        return None
    return name if isinstance(name, str) and Path(name).name == name else None
