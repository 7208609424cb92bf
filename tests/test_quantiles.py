"""Quantiles of more numbers than torch takes."""

import math

import pytest
import torch

from cocogs.quantiles import quantiles


def test_they_are_torchs_own() -> None:
    values = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    values[3] = math.nan
    expected = torch.nanquantile(values, torch.tensor([0.1, 0.9]))
    assert torch.equal(quantiles(values, 0.1, 0.9), expected)
    assert quantiles(values, 0.9) == expected[1]


def test_of_twenty_million_numbers() -> None:
    values = torch.linspace(0, 1, 20_000_000)
    assert float(quantiles(values, 0.25)) == pytest.approx(0.25, abs=1e-4)
