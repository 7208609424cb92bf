"""Presets, and settings on their way to config.json and back."""

import json
from dataclasses import FrozenInstanceError, replace
from itertools import pairwise

import pytest

from cocogs.config import (
    DEFAULT_PRESET,
    PRESETS,
    QUALITIES,
    SEEN_AT_LEAST,
    Ablation,
    Config,
    ModelConfig,
    for_photos,
    preset,
    with_quality,
)
from cocogs.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_called_by_its_name(name: str) -> None:
    assert preset(name).preset == name
    assert preset(name) == PRESETS[name]


def test_presets_form_photos_in_different_ways() -> None:
    lenses = {name: preset(name).model.lens for name in PRESETS}
    assert lenses == {"3dgs": "pinhole", "lens": "widened", "paper": "paper", "full": "sampled"}
    assert DEFAULT_PRESET in PRESETS


def test_changes_leave_the_preset_itself_alone() -> None:
    before = PRESETS["lens"]
    changed = preset("lens", seed=before.seed + 7)
    assert changed.seed == before.seed + 7 and changed.model == before.model
    assert PRESETS["lens"] is before and before.seed != changed.seed
    with pytest.raises(FrozenInstanceError):
        before.seed = 1  # type: ignore[misc]


def test_unknown_preset_names_the_choices() -> None:
    with pytest.raises(InputError, match="'lense'") as caught:
        preset("lense")
    assert all(name in str(caught.value) for name in PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name: str) -> None:
    config = preset(name)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_round_trip_of_every_nested_part() -> None:
    config = preset("paper", model=ModelConfig(lens="paper", copies=2, ablation=Ablation(beta=True)), seed=3)
    config = replace(config, optim=replace(config.optim, means=1.0))
    config = replace(config, strategy=replace(config.strategy, every=7))
    back = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert back.model.ablation == Ablation(beta=True)


def test_missing_names_take_their_defaults() -> None:
    read = Config.from_dict({"preset": "lens", "model": {"copies": 2}})
    assert read == Config("lens", ModelConfig(copies=2))


@pytest.mark.parametrize("path", [(), ("model",), ("model", "ablation"), ("optim",), ("strategy",)])
def test_unknown_names_are_refused(path: tuple[str, ...]) -> None:
    values = preset("paper").to_dict()
    part = values
    for name in path:
        part = part[name]
    part["nonsense"] = 1
    with pytest.raises(TypeError, match="nonsense"):
        Config.from_dict(values)


def test_many_photos_are_each_seen_and_all_between_two_edits() -> None:
    standard = with_quality(preset("full"), QUALITIES["standard"])
    assert standard.optim.iterations == preset("full").optim.iterations  # on a CPU, what presets always were
    assert standard.strategy.max_gaussians == preset("full").strategy.max_gaussians
    assert for_photos(standard, 40) == standard
    many = for_photos(standard, 500)
    assert (many.optim.iterations, many.strategy.every) == (500 * SEEN_AT_LEAST, 500)
    assert for_photos(many, 500) == many
    assert for_photos(preset("full"), 500).optim.iterations == preset("full").optim.iterations


def test_qualities_grow_in_everything() -> None:
    levels = [QUALITIES[name] for name in ("draft", "standard", "high", "max")]
    for worse, better in pairwise(levels):
        assert worse.longer_side < better.longer_side
        assert worse.iterations < better.iterations
        assert worse.max_gaussians < better.max_gaussians
