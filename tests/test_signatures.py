"""Shapes in signatures are checked in the tests, and only there: a mistake in a call fails here."""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from cocogs.camera import Camera
from cocogs.gaussians import cross_section
from cocogs.rasterize.reference import covariance_factor


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="scales"):
        cross_section(torch.ones(5, 4))


def test_sizes_have_to_agree() -> None:
    with pytest.raises(TypeCheckError, match="scales"):
        covariance_factor(torch.ones(5, 4), torch.ones(4, 3))


def test_a_wrong_field_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="cam_from_world"):
        Camera(torch.eye(3), torch.eye(3), 8, 6)


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="scales"):
        cross_section(torch.ones(5, 3, dtype=torch.int64))


@pytest.mark.usefixtures("unchecked")
def test_a_test_of_misuse_can_do_without() -> None:
    assert cross_section(torch.ones(5, 4)).shape == (5,)


def test_nothing_is_checked_elsewhere() -> None:
    """A function that is checked is a wrapper around the one that was written."""
    assert hasattr(cross_section, "__wrapped__")
    look = "from cocogs.gaussians import cross_section; assert not hasattr(cross_section, '__wrapped__')"
    subprocess.run([sys.executable, "-c", look], check=True)
