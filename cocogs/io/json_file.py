"""JSON files: one reader for all of them."""

import json
from pathlib import Path
from typing import Any

from cocogs.errors import InputError


def read_json(path: Path, advice: str = "restore it, or write it again") -> Any:
    """The value in a JSON file: UTF-8 text, with or without the mark that Windows editors put before it.

    Args:
        advice: what the user can do about a damaged file.

    Raises:
        InputError: the file cannot be read, or is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = error.strerror or str(error)
    except json.JSONDecodeError as error:
        problem = f"no JSON: {error}"
    except UnicodeDecodeError:
        problem = "no UTF-8 text"
    except RecursionError:
        problem = "nested too deeply"
    except ValueError:  # Python's limit for whole numbers
        problem = "a number with thousands of digits"
    raise InputError(f"{path} cannot be read ({problem}): {advice}.")


def read_own_json(path: Path) -> Any:
    """The value in a JSON file that an earlier run wrote beside its work; None where there is none, or it is
    damaged: then the work is done again."""
    try:
        return read_json(path)
    except InputError:
        return None
