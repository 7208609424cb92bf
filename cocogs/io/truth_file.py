"""truth.json of a ray-traced scene: what scripts/make_truth_scene.py and make_demo_scene.py write."""

import json
from pathlib import Path
from typing import Any

from cocogs.errors import InputError

FRAME = {"name", "test", "focus_distance", "w2c"}
REFOCUSED = {"name", "view", "focus_distance", "aperture_scale"}


def read_truth(path: Path) -> dict[str, Any]:
    """What it states: `frames` and `refocus`, lists of entries with the keys above, and `aperture_diameter`
    > 0, all in the scene's true unit.

    Raises:
        InputError: it is absent, or not the truth of a rendered scene.
    """
    try:
        document = json.loads(path.read_text())
        frames, refocused = document["frames"], document["refocus"]
        for entries, keys in ((frames, FRAME), (refocused, REFOCUSED)):
            for entry in entries:
                if absent := keys - entry.keys():
                    raise ValueError(f"an entry lacks {', '.join(sorted(absent))}")
        names = {frame["name"] for frame in frames}
        if foreign := [entry["view"] for entry in refocused if entry["view"] not in names]:
            raise ValueError(f"refocus names {foreign[0]}, which is no frame")
        if not float(document["aperture_diameter"]) > 0:
            raise ValueError("aperture_diameter is not above 0")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is no truth.json of a rendered scene ({error!r}): restore it, or make the scene again."
        ) from error
    return document
