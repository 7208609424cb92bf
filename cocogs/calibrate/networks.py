"""Lenses that networks estimate: AnyCalib, GeoCalib, DM-Calib; code and weights are the user's, by path.

None is on PyPI. AnyCalib and GeoCalib are found as installed packages, or in the folder of their code;
DM-Calib runs on diffusers (`cocogs.calibrate.dm_calib`). Nothing is downloaded.
"""

import importlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cocogs.calibrate.dm_calib import Found, load_dm_calib
from cocogs.errors import InputError, reason_of
from cocogs.io.lens_estimate import Abstention, LensEstimate
from cocogs.io.pixels import resize_area
from cocogs.io.weights import digest_of

TYPICAL = 0.08  # of a focal length: assumed of every network, for none was measured by us
TYPICAL_CENTER = 0.03  # of the picture's side, where a network tells the principal point
LEAST_K1 = 0.05
LARGEST = 1024  # px; the networks shrink photos to 320 or 768
NOTE = "A network estimated the lens. Its error is assumed, not measured: {:.0%} of the focal length."
WHERE = {
    "anycalib": "github.com/javrtg/AnyCalib",
    "geocalib": "github.com/cvg/GeoCalib",
}
ANYCALIB = ("anycalib_edit.pt", "anycalib_gen.pt", "anycalib_pinhole.pt", "anycalib_dist.pt")
GEOCALIB = {
    "geocalib-simple_radial.tar": "simple_radial",
    "geocalib-distorted.tar": "simple_radial",
    "geocalib-pinhole.tar": "pinhole",
}

Network = Callable[[list[np.ndarray]], Found | None]
"""Takes (H, W, 3) float32 pictures in [0, 1], sRGB: one, or several of one lens and size."""


@dataclass(frozen=True)
class LensNetwork:
    """A loaded network.

    Args:
        backend: its name in `BACKENDS`.
        basis: which weights.
    """

    backend: str
    network: Network
    basis: str

    @property
    def shares(self) -> bool:
        """It can find one lens for several photos at once."""
        return self.backend == "geocalib"

    def __call__(self, photos: Sequence[np.ndarray]) -> LensEstimate | Abstention:
        """What the network says of the lens of a photo, or of several of one lens and size.

        Args:
            photos: (H, W, 3) each, upright, uint8 or uint16, sRGB.

        Raises:
            InputError: code and weights do not fit each other.
        """
        height, width = photos[0].shape[:2]
        scale = min(1.0, LARGEST / max(width, height))
        small = max(1, round(width * scale)), max(1, round(height * scale))
        try:
            found = self.network([resize_area(photo, *small) for photo in photos])
        except Exception as error:  # of somebody else's code
            raise InputError(
                f"{self.backend} failed ({reason_of(error)}): see whether its code and weights belong "
                "together."
            ) from error
        if found is None:
            return Abstention(self.backend, "The network's rays are those of no pinhole.")
        (fx, fy, cx, cy), k1 = found.pinhole, found.k1
        x, y = width / small[0], height / small[1]
        deviation = math.hypot(found.deviation, TYPICAL)
        return LensEstimate(
            self.backend,
            (width, height),
            (fx * x, fy * y),
            (deviation * fx * x, deviation * fy * y),
            (cx * x, cy * y),
            (TYPICAL_CENTER * width, TYPICAL_CENTER * height) if found.has_center else (math.inf, math.inf),
            self.basis,
            k1,
            None if k1 is None else max(LEAST_K1, abs(k1)),
            (NOTE.format(TYPICAL),),
            generative=True,
        )


def load_network(backend: str, weights: Path, code: Path | None = None) -> LensNetwork:
    """A network, ready to be asked.

    Args:
        backend: one of `BACKENDS`.
        weights: folder of its weights.
        code: folder that holds its Python package; None: it is installed.

    Raises:
        InputError: weights or code are missing, or do not fit each other.
    """
    if backend not in BACKENDS:
        raise InputError(f"`backend` must be one of {', '.join(BACKENDS)}, not {backend}.")
    if not weights.is_dir():
        raise InputError(f"{weights} is not a folder: give the one that holds the weights of {backend}.")
    network, file = BACKENDS[backend](weights, code)
    return LensNetwork(backend, network, f"weights {file.relative_to(weights)} ({digest_of(file)[:16]})")


def _load_anycalib(weights: Path, code: Path | None) -> tuple[Network, Path]:
    file = _first(weights, ANYCALIB, "anycalib")
    package = _package("anycalib", code)
    with _from_folder(weights):
        model = _built("anycalib", file, lambda: package.AnyCalib(model_id=file.stem)).eval()
    # Edited photos have pixels of any shape.
    lens = {"anycalib_edit": "pinhole", "anycalib_pinhole": "simple_pinhole"}.get(
        file.stem, "simple_radial:1"
    )

    def network(pictures: list[np.ndarray]) -> Found | None:
        numbers = model.predict(_tensor(pictures[0]), cam_id=lens)["intrinsics"].double().tolist()
        k1 = numbers.pop() if ":" in lens else None
        fx, fy, cx, cy = numbers if len(numbers) == 4 else (numbers[0], *numbers)
        return Found.checked((fx, fy, cx, cy), 0.0, k1)

    return network, file


def _load_geocalib(weights: Path, code: Path | None) -> tuple[Network, Path]:
    file = _first(weights, tuple(GEOCALIB), "geocalib")
    package = _package("geocalib", code)
    with _from_folder(weights):
        model = _built("geocalib", file, lambda: package.GeoCalib(weights=str(file))).eval()
    lens = GEOCALIB[file.name]

    def network(pictures: list[np.ndarray]) -> Found | None:
        height, width = pictures[0].shape[:2]
        batch = torch.stack([_tensor(picture) for picture in pictures])
        told = model.calibrate(batch, camera_model=lens, shared_intrinsics=len(pictures) > 1)
        fx, fy = told["camera"].f[0].double().tolist()
        k1 = float(told["camera"].dist[0, 0]) if lens == "simple_radial" else None
        own = float(told["focal_uncertainty"].reshape(-1)[0]) / fy
        return Found.checked((fx, fy, width / 2, height / 2), own, k1, has_center=False)

    return network, file


def _load_dm_calib(weights: Path, code: Path | None) -> tuple[Network, Path]:
    model = load_dm_calib(weights)
    return lambda pictures: model(pictures[0]), model.file


BACKENDS: dict[str, Callable[[Path, Path | None], tuple[Network, Path]]] = {
    "anycalib": _load_anycalib,
    "geocalib": _load_geocalib,
    "dm-calib": _load_dm_calib,
}


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _first(weights: Path, names: Sequence[str], backend: str) -> Path:
    found = next((weights / name for name in names if (weights / name).is_file()), None)
    if found is None:
        raise InputError(
            f"{weights} has none of {', '.join(names)}: put one there; the releases of {WHERE[backend]} "
            "have them."
        )
    return found


def _package(name: str, code: Path | None) -> Any:
    """The package, from the folder that holds it, or as it is installed."""
    place = [] if code is None else [str(code.resolve())]
    sys.path[:0] = place
    try:
        return importlib.import_module(name)
    except ImportError as error:
        where = "is not installed" if code is None else f"cannot be imported from {code} ({reason_of(error)})"
        raise InputError(
            f"The package {name} {where}: clone {WHERE[name]}, install what it needs, and give the clone as "
            "`code`."
        ) from error
    finally:
        for entry in place:
            sys.path.remove(entry)


def _built(backend: str, file: Path, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except InputError:
        raise
    except Exception as error:  # of somebody else's code
        raise InputError(
            f"{backend} cannot be built with {file} ({reason_of(error)}): copy the weights again, or take "
            f"the newest code of {WHERE[backend]}."
        ) from error


@contextmanager
def _from_folder(weights: Path) -> Iterator[None]:
    """What the packages fetch by torch.hub comes from the user's folder; nothing is downloaded, and no code
    in a file of weights is run."""

    def load(url: str, *_: Any, file_name: str | None = None, **__: Any) -> Any:
        file = weights / (file_name or url.rsplit("/", 1)[-1])
        if not file.is_file():
            raise InputError(
                f"{weights} has no {file.name}, which the network asks for: put it there; {url}."
            )
        return torch.load(file, map_location="cpu", weights_only=True)

    before = torch.hub.load_state_dict_from_url
    torch.hub.load_state_dict_from_url = load
    try:
        yield
    finally:
        torch.hub.load_state_dict_from_url = before
