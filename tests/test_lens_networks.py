"""Networks that estimate lenses: their plumbing, with stand-ins for code and weights that we do not have."""

import math
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from cocogs.calibrate import dm_calib
from cocogs.calibrate.camera_image import encode
from cocogs.calibrate.networks import load_network
from cocogs.errors import InputError
from cocogs.io.lens_estimate import Abstention, LensEstimate

PHOTO = np.full((1500, 2000, 3), 90, np.uint8)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def code(folder: Path, package: str, text: str) -> Path:
    """A folder with a package of the same interface as the real one. Its name differs, so that Python's
    modules of other tests are not found."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(dedent(text))
    return folder


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("anycalib", "geocalib"):
        monkeypatch.delitem(sys.modules, name, raising=False)


ANYCALIB = """
    import torch
    class AnyCalib(torch.nn.Module):
        def __init__(self, model_id):
            super().__init__()
            self.focal = torch.nn.Parameter(torch.zeros(()))
            url = f"https://example.org/{model_id}.pt"
            self.load_state_dict(torch.hub.load_state_dict_from_url(
                url, "cache", map_location="cpu", file_name=f"{model_id}.pt"))
        @torch.inference_mode()
        def predict(self, image, cam_id):
            _, height, width = image.shape
            assert image.max() <= 1
            numbers = {
                "pinhole": [self.focal * width, self.focal * width * 1.1, 0.4 * width, 0.5 * height],
                "simple_pinhole": [self.focal * width, 0.4 * width, 0.5 * height],
                "simple_radial:1": [self.focal * width, 0.4 * width, 0.5 * height, -0.1],
            }[cam_id]
            return {"intrinsics": torch.tensor(numbers)}
"""
GEOCALIB = """
    import torch
    from types import SimpleNamespace
    class GeoCalib(torch.nn.Module):
        def __init__(self, weights):
            super().__init__()
            self.focal = torch.load(weights, map_location="cpu")["model"]["focal"]
        def calibrate(self, image, camera_model, shared_intrinsics):
            assert image.shape[0] == 1 or shared_intrinsics
            count, _, height, width = image.shape
            focal = self.focal * height * torch.ones(count, 2)
            camera = SimpleNamespace(f=focal, dist=torch.full((count, 2), -0.05))
            return {"camera": camera, "focal_uncertainty": torch.tensor([0.1 * self.focal * height])}
"""


def test_anycalib_tells_all_of_an_edited_photo(weights: Path, tmp_path: Path) -> None:
    torch.save({"focal": torch.tensor(0.8)}, weights / "anycalib_edit.pt")
    place = code(tmp_path / "code", "anycalib", ANYCALIB)
    found = load_network("anycalib", weights, place)([PHOTO])
    assert isinstance(found, LensEstimate)
    assert found.size == (2000, 1500)
    assert found.focal == pytest.approx((1600, 1760), rel=1e-5)
    assert found.center == pytest.approx((800, 750), rel=1e-5)
    assert found.generative
    assert "anycalib_edit.pt" in found.basis
    assert all(math.isfinite(value) for value in (*found.focal_deviation, *found.center_deviation))


def test_anycalib_tells_the_distortion_where_it_was_trained_so(weights: Path, tmp_path: Path) -> None:
    torch.save({"focal": torch.tensor(0.8)}, weights / "anycalib_gen.pt")
    place = code(tmp_path / "code", "anycalib", ANYCALIB)
    found = load_network("anycalib", weights, place)([PHOTO])
    assert isinstance(found, LensEstimate)
    assert found.focal[0] == found.focal[1]
    assert found.k1 == pytest.approx(-0.1)


def test_geocalib_finds_one_lens_for_photos_of_a_camera(weights: Path, tmp_path: Path) -> None:
    torch.save({"model": {"focal": 1.2}}, weights / "geocalib-simple_radial.tar")
    place = code(tmp_path / "code", "geocalib", GEOCALIB)
    one = load_network("geocalib", weights, place)([PHOTO, PHOTO])
    assert isinstance(one, LensEstimate)
    assert one.focal == pytest.approx((1800, 1800), rel=1e-5)
    assert one.k1 == pytest.approx(-0.05)
    assert one.relative_deviation == pytest.approx(math.hypot(0.1, 0.08), rel=1e-4)
    assert one.center == (1000, 750)
    assert one.center_deviation == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("backend", "file"), [("anycalib", "anycalib_edit.pt"), ("geocalib", "geocalib-pinhole.tar")]
)
def test_what_is_missing_is_named(backend: str, file: str, weights: Path) -> None:
    with pytest.raises(InputError, match=file):
        load_network(backend, weights)
    (weights / file).write_bytes(b"no weights")
    with pytest.raises(InputError, match=f"package {backend} is not installed.*github.com"):
        load_network(backend, weights)
    with pytest.raises(InputError, match="cannot be imported from"):
        load_network(backend, weights, weights)


def test_damaged_weights_are_an_error(weights: Path, tmp_path: Path) -> None:
    (weights / "geocalib-pinhole.tar").write_bytes(b"no weights")
    place = code(tmp_path / "code", "geocalib", GEOCALIB)
    with pytest.raises(InputError, match=r"geocalib-pinhole\.tar"):
        load_network("geocalib", weights, place)


def test_unknown_backends_are_named(weights: Path) -> None:
    with pytest.raises(InputError, match="anycalib, geocalib, dm-calib, not wildcamera"):
        load_network("wildcamera", weights)
    with pytest.raises(InputError, match="not a folder"):
        load_network("geocalib", weights / "none")


def tiny_dm_calib(folder: Path, network: str = "calib2", base: str = "") -> None:
    """DM-Calib's very classes with random numbers, of 32 px."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
        layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / network)  # fmt: skip
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / base / "vae")  # fmt: skip
    diffusers.DDIMScheduler(prediction_type="v_prediction").save_pretrained(folder / base / "scheduler")
    words = folder / base / "tokenizer"
    words.mkdir(parents=True)
    (words / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "!": 2}')
    (words / "merges.txt").write_text("#version: 0.2\n")
    (words / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "CLIPTokenizer", "model_max_length": 7}'
    )
    config = transformers.CLIPTextConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=7, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    transformers.CLIPTextModel(config).save_pretrained(folder / base / "text_encoder")


@pytest.mark.thorough
@pytest.mark.parametrize(("network", "base"), [("calib2", ""), ("calib/unet", "stable-diffusion-2-1")])
def test_dm_calib_runs_on_diffusers(weights: Path, network: str, base: str) -> None:
    """Random numbers draw no Camera Image, and that is said."""
    tiny_dm_calib(weights, network, base)
    found = load_network("dm-calib", weights)([PHOTO])
    assert found == Abstention("dm-calib", "The network's rays are those of no pinhole.")


@pytest.mark.parametrize("photo_first", [True, False])
def test_dm_calibs_picture_becomes_the_lens(
    weights: Path, monkeypatch: pytest.MonkeyPatch, photo_first: bool
) -> None:
    """A network that draws the true Camera Image, in one order of its channels only; with black bars above
    and below, because the photo is wider than high."""
    tiny_dm_calib(weights)
    model = dm_calib.load_dm_calib(weights)
    model.side = 128
    true = (110.0, 120.0, 60.0, 50.0)

    def draw(self: Any, shown: torch.Tensor, seed: int, order: bool) -> torch.Tensor:
        noise = torch.rand(2, 128, 128, generator=torch.Generator().manual_seed(seed))
        if order == photo_first:
            noise[:, 16:112] = torch.from_numpy(encode(true, (128, 96))).float()
        return noise

    monkeypatch.setattr(dm_calib.DMCalib, "_draw", draw)
    found = model(np.full((48, 64, 3), 0.3, np.float32))
    assert found is not None
    assert found.pinhole == pytest.approx(tuple(value / 2 for value in true), rel=1e-4)
    assert found.has_center


def test_dm_calib_names_what_is_missing(weights: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no calib2/.*safetensors, vae, text_encoder, tokenizer, scheduler"
    ):
        load_network("dm-calib", weights)
    tiny_dm_calib(weights)
    (weights / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        load_network("dm-calib", weights)
