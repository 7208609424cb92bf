"""Presets, and settings on their way to config.json and back."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from cocogs.config import DEFAULT_PRESET, PRESETS, Ablation, Config, ModelConfig, preset
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
