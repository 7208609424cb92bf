"""The depth of one photo, from inside it, beside it, a file, a run, a network; fitted to the photo."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from phone_photos import colors, gdepth, heic, jpeg, stored_map
from PIL import Image
from tiny_run import FX, HEIGHT, WIDTH, tiny_run, tiny_scene

from cocogs.errors import InputError
from cocogs.photo.depth import FARTHEST, METRES, SCENE_UNITS, find_depth
from cocogs.photo.depth_fit import enlarged
from cocogs.render.refocusing import sharp_depth
from cocogs.run import load_run

QUIET = {"say": lambda line: None}


def photo(folder: Path, orientation: int = 1, height: int = 48, width: int = 64) -> Path:
    path = folder / "a.jpg"
    path.write_bytes(jpeg(orientation, colors(height, width)))
    return path


def halves(near: float = 1, far: float = 2, height: int = 12, width: int = 16) -> np.ndarray:
    values = np.full((height, width), near, np.float32)
    values[:, width // 2 :] = far
    return values


def saved(path: Path, values: np.ndarray) -> str:
    np.save(path, values)
    return str(path)


def test_inside_a_portrait(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(gdepth(stored_map(12, 16)))
    found = find_depth(tmp_path / "a.jpg", None, None)
    assert found.depth.shape == (24, 32) and found.unit == METRES and not found.estimated
    torch.testing.assert_close(found.depth[12, [2, -3]], torch.tensor([0.5, 4.0]))
    assert "inside" in found.source


def test_a_relative_portrait_keeps_its_ratios(tmp_path: Path) -> None:
    apple = "<apdi:NativeFormat>1751411059</apdi:NativeFormat><apdi:FloatMinValue>0.5</apdi:FloatMinValue>"
    apple += "<apdi:FloatMaxValue>2</apdi:FloatMaxValue><depthData:Accuracy>relative</depthData:Accuracy>"
    heic(tmp_path / "a.heic", stored_map(48, 64), apple)
    found = find_depth(tmp_path / "a.heic", None, None)
    assert found.unit is None
    assert float(found.depth[20, 3] / found.depth[20, -3]) == pytest.approx(4, rel=0.05)
    assert float((1 / found.depth).median()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["a_depth.npy", "a.depth.npy", "a.jpg_depth.npy"])
def test_beside_the_photo(tmp_path: Path, name: str) -> None:
    path = photo(tmp_path)
    saved(tmp_path / name, halves())
    found = find_depth(path, None, None)
    assert found.source == str(tmp_path / name) and found.unit == METRES
    assert found.depth.unique().tolist() == [1, 2]


def test_disparity_gets_a_finite_farthest_and_a_median_of_1(tmp_path: Path) -> None:
    values = np.tile(np.linspace(-3, 7, 64, dtype=np.float32), (48, 1))
    found = find_depth(photo(tmp_path), saved(tmp_path / "d.npy", values), "disparity")
    nearness = 1 / found.depth
    assert found.unit is None and float(nearness.median()) == pytest.approx(1, abs=1e-5)
    assert float(nearness.max() / nearness.min()) == pytest.approx((1 + FARTHEST) / FARTHEST, rel=1e-5)


@pytest.mark.parametrize("kind", ["depth", "inverse", "disparity"])
def test_the_largest_numbers_of_float32(tmp_path: Path, kind: str) -> None:
    values = np.tile(np.array([1e-38, 1, 3e38, -3e38 if kind == "disparity" else 2], np.float32), (48, 16))
    found = find_depth(photo(tmp_path), saved(tmp_path / "d.npy", values), kind)
    assert bool((found.depth > 0).all())


def test_infinity_stays(tmp_path: Path) -> None:
    values = halves(2, np.inf, 48, 64)
    found = find_depth(photo(tmp_path), saved(tmp_path / "d.npy", values), None)
    assert float(found.depth[0, 0]) == 2 and float(found.depth[0, -1]) > 1e20


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_map_stored_like_the_photo_is_turned_with_it(tmp_path: Path, orientation: int) -> None:
    path = photo(tmp_path, orientation)
    found = find_depth(path, saved(tmp_path / "d.npy", halves()), "depth")
    assert found.depth.shape == (64, 48)
    top, bottom = found.depth[5, 5], found.depth[-5, 5]
    assert (float(top), float(bottom)) == ((1, 2) if orientation == 6 else (2, 1))
    upright = find_depth(path, saved(tmp_path / "e.npy", halves(1, 2, 16, 12)), "depth")
    assert (float(upright.depth[5, 5]), float(upright.depth[5, -5])) == (1, 2)


def test_edges_follow_the_photo() -> None:
    """The border lies 5 px beside that of the map's pixels, which are 8 px wide."""
    pixels = colors(96, 128)
    pixels[:, 64:69] = pixels[0, 0]
    fitted = enlarged(torch.from_numpy(halves()), pixels)
    assert fitted.unique().tolist() == [1, 2]
    assert (fitted == 1).sum(1).tolist() == [69] * 96
    deep = enlarged(torch.from_numpy(halves()), pixels.astype(np.uint16) * 257)
    assert torch.equal(deep, fitted)


def test_slopes_stay_smooth() -> None:
    slope = torch.linspace(1, 2, 32).expand(24, 32).clone()
    slope[:, 16:] += 3
    fitted = enlarged(slope, colors(96, 128))
    wanted = (torch.arange(128) + 0.5) / 4 - 0.5
    wanted = 1 + wanted / 31 + 3 * (torch.arange(128) >= 64)
    assert float((fitted - wanted)[:, 4:-4].abs().max()) < 0.04  # a px of the map is 1/31 high


def test_holes_are_filled_and_told(tmp_path: Path) -> None:
    values = halves(1, 2, 48, 64)
    values[10:20, 10:20] = np.nan
    found = find_depth(photo(tmp_path), saved(tmp_path / "d.npy", values), None)
    assert found.depth.unique().tolist() == [1, 2] and "3.3%" in found.warnings[-1]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (halves()[:, :12], "another shape than"),
        (halves(2, 2), "same depth everywhere"),
        (halves(np.nan, np.nan), "knows no depth"),
        (halves(-1, 0), "knows no depth"),
        (np.where(np.arange(192).reshape(12, 16) < 9, 1 + np.arange(16), np.nan), "no depth in 95%"),
    ],
)
def test_a_map_that_does_not_do(tmp_path: Path, values: np.ndarray, problem: str) -> None:
    depth = saved(tmp_path / "d.npy", values)
    with pytest.raises(InputError, match=problem) as error:
        find_depth(photo(tmp_path), depth, "depth")
    assert depth in str(error.value)


def test_of_a_run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp()
    run, images = tiny_run(root, "lens"), tiny_scene(root) / "images"
    found = find_depth(images / "view_1.png", f"run:{run}", None)
    read = load_run(run)
    (view,) = (view for view in read.scene.views if view.name == "view_1.png")
    sharp = sharp_depth(read.model.gaussians, read.model.camera(view))
    there = sharp.isfinite()
    torch.testing.assert_close(found.depth[there], sharp[there], rtol=1e-4, atol=0)
    assert bool(found.depth.isfinite().all()) and found.unit == SCENE_UNITS
    assert found.learned is not None and found.learned.lens == read.lens("view_1.png")
    assert found.learned.focal_in_widths == pytest.approx(FX / WIDTH)
    held_out = find_depth(images / "view_0.png", f"run:{run}", None).learned
    assert held_out is not None and held_out.lens is None
    copy = tmp_path / "elsewhere" / "view_1.png"
    copy.parent.mkdir()
    with Image.open(images / "view_1.png") as image:
        image.resize((4 * WIDTH, 4 * HEIGHT)).save(copy)
    assert find_depth(copy, f"run:{run}", None).depth.shape == (4 * HEIGHT, 4 * WIDTH)
    with pytest.raises(InputError, match=r"not trained on a\.jpg, but on view_0\.png"):
        find_depth(photo(tmp_path), f"run:{run}", None)


def test_no_depth_at_all_lists_the_ways(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"HEIC.*_depth\.png.*run:RUN.*bracket:DIR.*Depth Anything"):
        find_depth(photo(tmp_path), None, None)


def test_words_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(gdepth(stored_map()))
    with pytest.raises(InputError, match=r"depth_kind.*a\.jpg"):
        find_depth(tmp_path / "a.jpg", None, "disparity")
    with pytest.raises(InputError, match="`depth_kind` must be"):
        find_depth(tmp_path / "a.jpg", "d.npy", "far")
    with pytest.raises(InputError, match="not a run"):
        find_depth(tmp_path / "a.jpg", f"run:{tmp_path}", None)
    with pytest.raises(InputError, match=r"config\.json, .*model\.safetensors.*huggingface"):
        find_depth(tmp_path / "a.jpg", str(tmp_path), None)


def tiny_network(folder: Path, **more: object) -> None:
    """Depth Anything's own classes with few random numbers."""
    transformers = pytest.importorskip("transformers")
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    backbone = transformers.Dinov2Config(
        **shape, out_features=["stage1", "stage2"], reshape_hidden_states=False, apply_layernorm=True
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        patch_size=14,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 16],
        fusion_hidden_size=8,
        head_in_index=-1,
        head_hidden_size=4,
        **more,
    )
    torch.manual_seed(0)
    network = transformers.DepthAnythingForDepthEstimation(config)
    for number in network.parameters():
        torch.nn.init.normal_(number, std=0.3)
    network.save_pretrained(folder)
    size = {"height": 42, "width": 42}
    transformers.DPTImageProcessor(
        size=size, keep_aspect_ratio=True, ensure_multiple_of=14, do_resize=True
    ).save_pretrained(folder)


@pytest.mark.parametrize("metric", [False, True])
def test_a_network_by_path(tmp_path: Path, metric: bool) -> None:
    more = {"depth_estimation_type": "metric", "max_depth": 20} if metric else {}
    tiny_network(tmp_path / "net", **more)
    found = find_depth(photo(tmp_path), str(tmp_path / "net"), None, **QUIET)
    assert found.depth.shape == (48, 64) and found.estimated and bool((found.depth > 0).all())
    assert found.unit == (METRES if metric else None)
    assert str(tmp_path / "net") in found.source and "estimated" in found.warnings[0]


def test_another_network_or_broken_weights(tmp_path: Path) -> None:
    net = tmp_path / "net"
    tiny_network(net)
    for content in (b"\x08\0\0\0\0\0\0\0{}      ", b"nothing"):  # no numbers; no file of this kind
        (net / "model.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            find_depth(photo(tmp_path), str(net), None, **QUIET)
    (net / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="another network"):
        find_depth(photo(tmp_path), str(net), None, **QUIET)


def test_the_map_of_a_stacked_picture_is_read_as_it_was_written(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    from brackets import make_bracket, write_slices

    from cocogs.cli import main

    slices = tmp_path / "slices"
    slices.mkdir()
    write_slices(make_bracket(), slices)
    for options in ([], ["--focus", "1:4"]):
        out = tmp_path / f"sharp{len(options)}.png"
        assert main(["stack", str(slices), "--out", str(out), "--depthmap", *options]) == 0
        found = find_depth(out, None, None)
        assert found.unit == (METRES if options else None)
        if not options:
            again = find_depth(out, f"bracket:{slices}", None, **QUIET)
            assert "first slice is taken as the nearest" in " ".join(found.warnings)
            torch.testing.assert_close(found.depth, again.depth, rtol=1e-3, atol=0)
        else:
            assert 0.9 < float(found.depth.min()) and float(found.depth.max()) < 4.1
