"""Which mask belongs to a photo: masks/NAME.png, or the one that transforms.json names."""

import json
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from datasets import HEIGHT, WIDTH, make_cameras, make_nerfstudio, write_colmap, write_photos
from PIL import Image

from cocogs.errors import InputError
from cocogs.io import folders, nerfstudio
from cocogs.scene import Scene, open_scene


def _open(data: Path) -> Scene:
    return open_scene(data, data.parent / "cache", say=lambda line: None)


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _write_mask(path: Path) -> None:
    """White in the left half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[:, : WIDTH // 2] = 255
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize("images", [True, False], ids=["in images", "beside"])
def test_absolute_names_are_looked_up_by_their_place_in_the_dataset(tmp_path: Path, images: bool) -> None:
    folder = tmp_path / "images" if images else tmp_path
    photo = _touch(folder / "sub" / "000.png")
    assert folders.find_mask(tmp_path, str(photo)) is None
    _touch(tmp_path / "masks" / "000.png")
    assert folders.find_mask(tmp_path, str(photo)) is None, "that is another photo's mask"
    mask = _touch(tmp_path / "masks" / "sub" / "000.png")
    assert folders.find_mask(tmp_path, str(photo)) == mask


def test_names_from_outside_are_looked_up_by_the_mere_file_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    photo = _touch(tmp_path / "elsewhere" / "000.png")
    _touch(data / "001.png")
    for name in (str(photo), "../elsewhere/000.png", "../001.png"):
        assert folders.find_mask(data, name) is None
    mask = _touch(data / "masks" / "000.png.png")
    for name in (str(photo), "../elsewhere/000.png"):
        assert folders.find_mask(data, name) == mask


def test_names_too_long_for_a_mask_have_none(tmp_path: Path) -> None:
    assert folders.find_mask(tmp_path, f"{'x' * 250}.png") is None


def test_photos_named_by_absolute_paths_are_not_their_own_masks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    names = write_photos(data / "images", make_cameras(2))
    absolute = [str(data / "images" / name) for name in names]
    write_colmap(data / "sparse", make_cameras(2), absolute)
    scene = _open(data)
    assert [view.name for view in scene.views] == absolute
    assert [scene.mask(view) for view in scene.views] == [None, None]


def test_a_photo_in_the_place_of_its_mask_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_colmap(data / "sparse", make_cameras(2), write_photos(data / "images", make_cameras(2)))
    (data / "masks").symlink_to(data / "images")
    with pytest.raises(InputError, match=r"masks/000\.png is the photo itself, not its mask"):
        _open(data)


def _named_by_the_file(data: Path) -> Path:
    """A dataset whose transforms.json names a mask for its first photo."""
    make_nerfstudio(data, count=2, ply_file_path="points.ply")
    columns = [(axis, "f4") for axis in "xyz"] + [(channel, "u1") for channel in ("red", "green", "blue")]
    point = plyfile.PlyElement.describe(np.ones(1, dtype=columns), "vertex")
    plyfile.PlyData([point]).write(data / "points.ply")
    content = json.loads((data / "transforms.json").read_text())
    content["frames"][0]["mask_path"] = "seen/first.png"
    (data / "transforms.json").write_text(json.dumps(content))
    _write_mask(data / "seen" / "first.png")
    return data


def test_masks_named_by_the_file_are_read(tmp_path: Path) -> None:
    data = _named_by_the_file(tmp_path / "data")
    source, _ = nerfstudio.read_transforms(data / "transforms.json")
    assert [shot.mask for shot in source.shots] == [data / "seen" / "first.png", None]


def test_masks_named_by_the_file_are_used(tmp_path: Path) -> None:
    data = _named_by_the_file(tmp_path / "data")
    (data / "masks").mkdir()
    Image.new("L", (WIDTH, HEIGHT), 255).save(data / "masks" / "000.png")
    scene = _open(data)
    first, second = (scene.mask(view) for view in scene.views)
    assert second is None
    assert first is not None
    assert torch.equal(first[0], (torch.arange(WIDTH) < WIDTH // 2).float())


def test_folders_are_listed_once_for_all_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once per photo: 2,000 photos would be looked at 4 million times."""
    names = [f"{index}.jpg" for index in range(50)]
    for place, end in (("masks", ".png"), ("images", ".jpg")):
        (tmp_path / place).mkdir()
        for name in names:
            (tmp_path / place / f"{Path(name).stem}{end}").touch()
    listed, names_of = [], folders._file_names
    monkeypatch.setattr(folders, "_file_names", lambda folder: listed.append(folder) or names_of(folder))
    assert len(folders.find_masks(tmp_path, names)) == 50
    assert len(listed) == len(set(listed))
