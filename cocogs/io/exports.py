"""Cameras as other programs export them: which program's export a folder holds, and the reading of it.

Every reader says what it knows as a `Source`; this file finds the right reader, turns whatever a reader
stumbles over into one sentence, and checks what was read.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from torch import Tensor

from cocogs.camera import is_rotation
from cocogs.errors import InputError
from cocogs.io import bundler, metashape, openmvg, opensfm, phone_scans, realityscan
from cocogs.io.source import Source, fits_float32, is_file_name, named_twice
from cocogs.io.undistort import is_possible


@dataclass(frozen=True)
class Program:
    """A program whose exports are read.

    Args:
        name: as its users know it.
        find: the file or folder with the cameras, in a dataset's folder; None where there is none.
        read: the cameras, from what `find` found and the dataset's folder. Names of photos may lack their
            suffix or be paths of another computer. May raise whatever broken files make it raise.
    """

    name: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path, Path], Source]


PROGRAMS = (
    Program("Metashape", metashape.find, metashape.read),
    Program("RealityScan", realityscan.find_table, realityscan.read_table),
    Program("RealityScan", realityscan.find_sidecars, realityscan.read_sidecars),
    Program("OpenSfM", opensfm.find, opensfm.read),
    Program("OpenMVG", openmvg.find, openmvg.read),
    Program("Bundler", bundler.find, bundler.read),
    Program("Polycam", phone_scans.find_polycam, phone_scans.read_polycam),
    Program("Record3D", phone_scans.find_record3d, phone_scans.read_record3d),
)


def find_export(data: Path) -> tuple[Program, Path] | None:
    """The first program whose export a folder holds, and the file or folder with its cameras."""
    for program in PROGRAMS:
        if (path := program.find(data)) is not None:
            return program, path
    return None


def read_export(program: Program, path: Path, data: Path) -> Source:
    """The cameras of an export.

    Raises:
        InputError: the export is damaged, or says what is impossible or cannot be used.
    """
    try:
        with np.errstate(all="ignore"):  # numbers that are not finite are refused below
            source = program.read(path, data)
    except InputError:
        raise
    except (OSError, ElementTree.ParseError, ArithmeticError, RuntimeError, *_WRONG_CONTENT) as error:
        raise _broken(program, path, f"{type(error).__name__}: {error}") from error
    if not source.shots:
        raise InputError(
            f"{path} has no photo with a position: align the photos and export the cameras again."
        )
    if twin := named_twice(source.shots):
        raise InputError(f"{path} names photo {twin} twice: rename the photos and export the cameras again.")
    for shot in source.shots:
        lens = shot.intrinsics
        if not is_file_name(shot.name):
            raise _broken(program, path, f"the photo's name {shot.name!r}")
        if not is_possible(lens):
            raise _broken(program, path, f"an impossible size or lens of {shot.name}")
        if not fits_float32(shot.cam_from_world.numpy()):
            raise _broken(program, path, f"impossible numbers of {shot.name}")
        if not is_rotation(shot.cam_from_world[:3, :3]):
            raise _broken(program, path, f"the axes of {shot.name} are no rotation")
    for rows in (source.points, source.point_colors):
        if rows is not None and not _are_triples(rows):
            raise _broken(program, path, "points that are not finite, or huge")
    return source


_WRONG_CONTENT = (AttributeError, KeyError, TypeError, ValueError, IndexError, csv.Error)


def _are_triples(rows: Tensor) -> bool:
    """(P, 3) finite numbers."""
    return rows.ndim == 2 and rows.shape[1] == 3 and fits_float32(rows.numpy())


def _broken(program: Program, path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be read as {program.name}'s cameras ({reason.splitlines()[0][:80]}): export it again."
    )
