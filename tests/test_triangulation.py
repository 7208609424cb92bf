"""Points of known cameras: triangulated, cached, and what is said where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import as_prepared, make_cameras, mask_as_prepared, write_photos
from PIL import Image

from cocogs.camera import Camera, pose_at
from cocogs.errors import InputError
from cocogs.io.triangulation import KnownPhoto, triangulate


@pytest.fixture
def cameras() -> list[Camera]:
    return make_cameras(4)


def known(folder: Path, cameras: list[Camera]) -> dict[str, KnownPhoto]:
    names = write_photos(folder, cameras)
    paths = [as_prepared(folder / name) for name in names]
    return {name: KnownPhoto(path, camera) for name, path, camera in zip(names, paths, cameras, strict=True)}


def quietly(
    photos: dict[str, KnownPhoto], cache: Path, **options
) -> tuple[torch.Tensor, torch.Tensor] | None:
    return triangulate(photos, cache, 0, lambda line: None, **options)


def test_points_of_known_cameras_lie_on_the_walls(cameras: list[Camera], tmp_path: Path) -> None:
    photos, cache = known(tmp_path / "photos", cameras), tmp_path / "cache"
    found = quietly(photos, cache)
    assert found is not None
    points, colors = found
    walls = torch.stack([points[:, 2] - 4, points[:, 1] - 1, points[:, 0] + 1.5]).abs().amin(0)
    assert len(points) > 100 and float(walls.median()) < 0.02
    assert colors.shape == points.shape and 0 <= colors.min() <= colors.max() <= 1
    before = (cache / "points" / "points3D.bin").stat().st_mtime_ns
    again = quietly(photos, cache)
    assert again is not None and torch.equal(again[0], points)
    assert (cache / "points" / "points3D.bin").stat().st_mtime_ns == before
    assert quietly(photos, tmp_path / "new", settled=True) is None
    assert not (tmp_path / "new").exists()


def test_photos_that_share_nothing_have_no_points(cameras: list[Camera], tmp_path: Path) -> None:
    photos = known(tmp_path / "photos", cameras[:3])
    random = np.random.default_rng(0)
    for photo in photos.values():
        np.save(photo.path, random.integers(0, 256, (3, 180, 240), dtype=np.uint8))
    assert quietly(photos, tmp_path / "cache") is None
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.thorough
def test_masked_parts_have_no_points(cameras: list[Camera], tmp_path: Path) -> None:
    """The floor and half of the walls are masked: they have no features."""
    photos = known(tmp_path / "photos", cameras)
    mask = np.zeros((180, 240), np.uint8)
    mask[:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    mask_path = mask_as_prepared(tmp_path / "mask.png")
    masked = {name: replace(photo, mask=mask_path) for name, photo in photos.items()}
    found = quietly(masked, tmp_path / "cache")
    assert found is not None
    for camera in cameras:
        pixels, _ = camera.project(found[0])
        assert float(pixels[camera.shows(pixels), 1].max()) < 91
    unmasked = quietly(photos, tmp_path / "cache")
    assert unmasked is not None and len(found[0]) < len(unmasked[0]), "the cache knows of the masks"


def test_cameras_that_contradict_the_photos(cameras: list[Camera], tmp_path: Path) -> None:
    photos = known(tmp_path / "photos", cameras)
    stretched = torch.tensor([1.0, 9.0, -3.0], dtype=torch.float64)
    for name, photo in photos.items():
        axes = photo.camera.cam_from_world[:3, :3].T.contiguous()  # as if inverted
        pose = pose_at(axes, photo.camera.position * stretched)
        camera, original = replace(photo.camera, cam_from_world=pose), tmp_path / "theirs" / name
        photos[name] = replace(photo, camera=camera, original=original)
    with pytest.raises(
        InputError, match=r"theirs: .* not where their cameras look: check the cameras' poses"
    ):
        quietly(photos, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_cameras_in_one_place(tmp_path: Path) -> None:
    cameras = [
        replace(camera, cam_from_world=pose_at(camera.cam_from_world[:3, :3], torch.zeros(3).double()))
        for camera in make_cameras(4)
    ]
    with pytest.raises(InputError, match=r"hardly any parallax, .* move sideways between photos"):
        quietly(known(tmp_path / "photos", cameras), tmp_path / "cache")


def test_a_failure_of_pycolmap_is_told(
    cameras: list[Camera], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("pycolmap.triangulate_points", fail)
    with pytest.raises(InputError, match=r"finding points failed \(disk full\)"):
        quietly(known(tmp_path / "photos", cameras), tmp_path / "cache")
