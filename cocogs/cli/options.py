"""What several commands share: hints in the help texts, and checks of options."""

from pathlib import Path

from cocogs.config import LARGEST, Config, DataConfig, OptimConfig, StrategyConfig, limits_of
from cocogs.errors import InputError, check_number

OF_PHOTO = "(default: as the photo tells)"
STANDARD_DECIDES = "(default: that of quality standard)"
SIZE_DECIDES = "(default: longer side at most 800 px)"
QUALITY_DECIDES = "(default: the quality's)"
DATA_DECIDES = "(default: as a file hold=N or transforms.json says, else none)"
SETTINGS = {
    "iterations": OptimConfig,
    "batch": OptimConfig,
    "max_gaussians": StrategyConfig,
    "downscale": DataConfig,
    "frames": DataConfig,
    "test_every": DataConfig,
    "seed": Config,
}
"""Options that are settings of a run, and where their range stands."""


def is_photo(path: Path) -> bool:
    """Whether a path that may be a scene's is a photo's, by its suffix."""
    from cocogs.io.photos import SUFFIXES

    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def check_whole_numbers(command: object) -> None:
    """Check those options of `SETTINGS` that a command has, and its number of jobs.

    Raises:
        InputError: one is out of its range.
    """
    limits = {name: limits_of(kind, name) for name, kind in SETTINGS.items()}
    limits["jobs"] = {"least": 1, "most": LARGEST, "whole": True}
    for name, limit in limits.items():
        check_number(name, getattr(command, name, None), **limit)


def check_data(data: Path) -> None:
    """Raises InputError if the photos are absent."""
    if not data.exists():
        raise InputError(f"{data} does not exist: give the folder that holds the photos.")


def split_list(name: str, text: str) -> tuple[str, ...]:
    """The words of "a,b".

    Raises:
        InputError: a word is empty or comes twice.
    """
    words = tuple(word.strip() for word in text.split(","))
    if "" in words or len(set(words)) < len(words):
        raise InputError(f"`{name}` must be different words with commas between them, not {text!r}.")
    return words


def split_whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """The numbers, 0 or more, of "0,1".

    Raises:
        InputError: one is no such number, or comes twice.
    """
    numbers = []
    for word in split_list(name, text):
        if not word.isdecimal() or len(word) > 20:
            raise InputError(f"`{name}` must be whole numbers with commas between them, not {text!r:.80}.")
        check_number(name, int(word), least=0, most=LARGEST, whole=True)
        numbers.append(int(word))
    split_list(name, ",".join(map(str, numbers)))  # 0 and 00 are one
    return tuple(numbers)
