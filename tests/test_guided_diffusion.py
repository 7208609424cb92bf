"""Guided denoising: its plumbing, with the very classes of diffusers and random numbers for weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cocogs.camera import Camera
from cocogs.errors import InputError
from cocogs.io.photos import read_photo, write_png
from cocogs.photo import guided_diffusion
from cocogs.photo.edit_files import edit_photo
from cocogs.photo.edit_options import PhotoEditOptions
from cocogs.photo.guided_diffusion import DepthGuidedDiffuser, EditedDepth
from cocogs.photo.lift import Motion

HEIGHT, WIDTH = 48, 64


def tiny_model(folder: Path, channels: int = 5) -> Path:
    """A depth-conditioned Stable Diffusion of 32 px."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=4, block_out_channels=(8, 16, 16),
        norm_num_groups=4, layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")  # fmt: skip
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "vae")  # fmt: skip
    diffusers.DDIMScheduler().save_pretrained(folder / "scheduler")
    words = folder / "tokenizer"
    words.mkdir(parents=True)
    (words / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "!": 2}')
    (words / "merges.txt").write_text("#version: 0.2\n")
    (words / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 7})
    )
    config = transformers.CLIPTextConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=7, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


def an_edit() -> tuple[Tensor, EditedDepth]:
    """A photo whose square moves to the right and away."""
    photo = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    before, after = torch.full((2, HEIGHT, WIDTH), 4.0)
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[12:36, 8:32] = True
    before[mask] = 2.0
    after[16:33, 32:48] = 2.8
    K = torch.tensor([[60.0, 0, WIDTH / 2], [0, 60, HEIGHT / 2], [0, 0, 1]]).double()
    camera = Camera(K, torch.eye(4).double(), WIDTH, HEIGHT)
    motion = Motion(torch.eye(3), 1.0, torch.tensor([0.8, 0.0, 0.8]), torch.zeros(3))
    return photo, EditedDepth(before, after, mask, camera, motion)


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guided_diffusion, "STEPS", 6)


@pytest.mark.thorough
def test_energy_falls_by_half_and_nothing_is_random(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (photo, edit) = DepthGuidedDiffuser(weights, quiet), an_edit()
    first, again = model(photo, edit), model(photo, edit)
    assert first.picture.shape == photo.shape and bool(first.picture.isfinite().all())
    assert torch.equal(first.picture, again.picture) and first.energies == again.energies
    assert len(first.energies) == 3 and all(after < before for before, after in first.energies)
    assert first.energies[0][1] <= first.energies[0][0] / 2
    monkeypatch.setattr(guided_diffusion, "DESCENTS", 1)
    monkeypatch.setattr(guided_diffusion, "TRIES", 0)  # no descent: what becomes of it without
    unsteered = model(photo, edit).energies
    assert unsteered[0][0] == pytest.approx(first.energies[0][0])
    assert first.energies[-1][1] <= unsteered[-1][1] / 2


def test_the_object_is_asked_for_at_its_new_place() -> None:
    _, edit = an_edit()
    found = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(2))  # 4 px of the photo each
    wanted = guided_diffusion._wanted(found, edit)
    assert bool(wanted.object[5:7, 9:11].all()) and not bool(wanted.object[:, :7].any())
    assert not bool((wanted.rest & wanted.object).any()) and not bool(wanted.rest[4:8, 3:7].any())
    assert torch.equal(wanted.values[:, wanted.rest], found[:, wanted.rest])
    # The object's middle, (20, 24) px at 2, comes to ((20 - 32) * 2 + 60 * .8) / 2.8 + 32 = 40.6 px.
    shown = wanted.values[:, 5:7, 9:11].mean((1, 2))
    inner = found[:, 3:9, 2:8]
    assert bool((shown > inner.amin((1, 2))).all()) and bool((shown < inner.amax((1, 2))).all())
    away = guided_diffusion._wanted(found, replace(edit, motion=None))
    assert not bool(away.object.any()) and float(wanted.energy(wanted.values)) == 0


@pytest.mark.thorough
def test_a_photo_without_an_edit_comes_back(weights: Path) -> None:
    """Inversion and denoising undo each other, as far as so few steps can."""
    model, (photo, edit) = DepthGuidedDiffuser(weights, quiet), an_edit()
    nowhere = Motion(torch.eye(3), 1.0, torch.zeros(3), torch.zeros(3))
    still = replace(edit, after=edit.before, motion=nowhere)
    assert model(photo, still).energies[0][0] < 0.05 < model(photo, edit).energies[0][0]


def test_what_nobody_saw_is_imagined(weights: Path, tmp_path: Path) -> None:
    photo, edit = an_edit()
    codes = (photo.permute(1, 2, 0) * 255).byte().numpy()
    write_png(tmp_path / "a.png", codes)
    np.save(tmp_path / "a_depth.npy", edit.before.numpy())
    write_png(tmp_path / "mask.png", edit.mask.numpy().astype(np.uint8) * 255)
    pictures = []
    for name, folder in (("painted", None), ("imagined", weights)):
        wanted = PhotoEditOptions(tmp_path / f"{name}.png", tmp_path / "mask.png", move="40%,0,40%")
        files = edit_photo(tmp_path / "a.png", replace(wanted, weights=folder), quiet)
        facts = json.loads(files[-1].read_text())
        assert facts["generative"] is (folder is not None)
        pictures.append(read_photo(files[0]).astype(int))
    assert len(facts["invented"]["by"]["weights_sha256"]) == 64
    invented = read_photo(tmp_path / "imagined_invented.png")[..., 0] > 0
    differs = (pictures[0] != pictures[1]).any(-1)
    assert not differs[~invented].any() and differs[invented].mean() > 0.9


def test_what_is_missing_is_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match=r"no unet/.*safetensors, vae.*stable-diffusion-2-depth"):
        DepthGuidedDiffuser(tmp_path, quiet)
    other = tiny_model(tmp_path / "other", channels=4)
    with pytest.raises(InputError, match="takes 4 channels"):
        DepthGuidedDiffuser(other, quiet)
