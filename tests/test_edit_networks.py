"""Networks by path for edits: their plumbing, with the very classes of transformers and diffusers and random
numbers for weights."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from table_scene import BALL, BALL_PLACE, FOCAL, table_scene, write_table
from test_guided_diffusion import quiet, tiny_model
from torch import Tensor

from cocogs.cli import main
from cocogs.edit import EditOptions, edit, inpainter
from cocogs.edit.change import Change
from cocogs.edit.inpainter import Inpainter
from cocogs.edit.preview import picture_of
from cocogs.edit.segmenter import Segmenter
from cocogs.edit.select import select
from cocogs.edit.subject import open_subject
from cocogs.edits import Add, edits_path, read_edits
from cocogs.errors import InputError

RED = "color:#cc4033~0.3 and sphere:0.35,-0.22,-0.1,0.3"
STEPS = 5


def tiny_sam(folder: Path, side: int = 64) -> Path:
    """Segment Anything of `side` px, whose masks have a quarter of it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 8, "output_channels": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": side, "patch_size": 16, "window_size": 2, "num_pos_feats": 4,
            "global_attn_indexes": [0],
        },
        prompt_encoder_config={
            "hidden_size": 8, "image_size": side, "patch_size": 16, "mask_input_channels": 4
        },
        mask_decoder_config={
            "hidden_size": 8, "mlp_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 8, "iou_head_depth": 2,
        },
    )  # fmt: skip
    network = transformers.SamModel(config)
    torch.manual_seed(1)  # proposals that are neither empty nor all there is
    for number in network.parameters():
        torch.nn.init.normal_(number, std=0.3)
    network.save_pretrained(folder)
    sizes = {
        "size": {"longest_edge": side}, "pad_size": {"height": side, "width": side},
        "mask_size": {"longest_edge": side // 4}, "mask_pad_size": {"height": side // 4, "width": side // 4},
    }  # fmt: skip
    kinds = {"processor_class": "SamProcessor", "image_processor_type": "SamImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes | kinds))
    return folder


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("painter"), channels=9)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpainter, "STEPS", STEPS)
    filling = import_module("cocogs.edit.fill")  # cocogs.edit.fill is a function, too
    monkeypatch.setattr(filling, "STEPS", 4)
    monkeypatch.setattr(filling, "VIEWS", 2)


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    return write_table(tmp_path)


def ran(*words: object) -> int:
    return main([str(word) for word in words])


def disc_around(radius: float, best: int):
    """In place of a network: its proposal `best` is a disc around the click, of a radius in its px."""

    def told(pixel_values: Tensor, input_points: Tensor, multimask_output: bool) -> SimpleNamespace:
        assert multimask_output and input_points.shape == (1, 1, 1, 2)
        ticks = 4 * (torch.arange(pixel_values.shape[3] // 4) + 0.5)
        x, y = input_points[0, 0, 0]
        inside = radius - torch.hypot(ticks[None] - x, ticks[:, None] - y)
        proposals = torch.full((3, *inside.shape), -1.0)
        proposals[best] = inside
        scores = torch.full((3,), 0.4)
        scores[best] = 0.9
        return SimpleNamespace(pred_masks=proposals[None, None], iou_scores=scores[None, None])

    return told


@pytest.mark.parametrize("best", [0, 2])
def test_a_click_becomes_the_best_mask_and_votes(ply: Path, tmp_path: Path, best: int) -> None:
    subject, owner = open_subject(ply), table_scene()[1]
    camera = subject.look("photo_3.png").camera
    pixel, z = camera.project(torch.tensor(BALL_PLACE).double())
    segmenter = Segmenter(tiny_sam(tmp_path / "net", side=256))  # 256/240 of the picture
    segmenter.network = disc_around(0.24 * FOCAL / float(z) * 256 / 240, best)  # splats are wider
    x, y = pixel.tolist()
    chosen = select(subject, f"click:{x - 0.5:.1f},{y - 0.5:.1f}@photo_3.png", segmenter).mask
    true = owner == BALL
    assert (chosen & true).sum() / (chosen | true).sum() > 0.9


def test_the_network_is_asked_as_its_makers_ask_it(ply: Path, sam: Path) -> None:
    transformers = pytest.importorskip("transformers")
    subject = open_subject(ply)
    picture = picture_of(subject, subject.look("photo_3.png"))
    mask = Segmenter(sam)(picture, 60.0, 50.0)
    processor = transformers.SamProcessor.from_pretrained(sam)
    image = (255 * picture).round().byte().permute(1, 2, 0).numpy()
    inputs = processor(images=image, input_points=[[[60.0, 50.0]]], return_tensors="pt")
    inputs["input_points"] = inputs["input_points"].float()
    with torch.no_grad():
        told = transformers.SamModel.from_pretrained(sam)(**inputs)
    masks = processor.image_processor.post_process_masks(
        told.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )[0][0]
    assert mask.shape == (180, 240) and 0 < mask.mean() < 1
    assert torch.equal(mask > 0, masks[int(told.iou_scores[0, 0].argmax())])


def test_the_command_asks_the_network(ply: Path, sam: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--select", "click:60,50@photo_3.png", "--segmenter", sam)
    kept = ply.parent / "it.selection.json"
    assert ran("edit", ply, *options, "--save-selection", kept) == 0
    subject = open_subject(ply)
    chosen = select(subject, f"file:{kept}").mask
    assert torch.equal(chosen, select(subject, "click:60,50@photo_3.png", Segmenter(sam)).mask)
    assert ran("edit", ply, "--select", "all", "--segmenter", sam, "--save-selection", kept) == 2
    assert "--segmenter understands a click" in capsys.readouterr().err


def test_a_segmenter_that_is_missing_or_another(tmp_path: Path, sam: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json, .*model\.safetensors.*sam-vit-base"):
        Segmenter(tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((sam / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        Segmenter(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "depth_anything"}')
    with pytest.raises(InputError, match="another network than Segment Anything"):
        Segmenter(tmp_path)


def a_gap(height: int = 48, width: int = 64) -> tuple[Tensor, Tensor]:
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    gap = torch.zeros(height, width, dtype=torch.bool)
    gap[16:32, 16:40] = True
    return picture, gap


def test_only_the_gap_is_painted_and_nothing_is_random(painter: Path) -> None:
    model, (picture, gap) = Inpainter(painter, quiet), a_gap()
    torch.manual_seed(5)
    first = model(picture, gap)
    torch.manual_seed(6)
    assert torch.equal(first, model(picture, gap)) and bool(first.isfinite().all())
    assert torch.equal(first[:, ~gap], picture[:, ~gap])
    assert (first != picture).any(0)[gap].float().mean() > 0.99
    hidden = picture.clone()
    hidden[:, 18:30, 18:38] = 0  # what lay in the gap does not matter
    torch.testing.assert_close(model(hidden, gap), first, atol=1e-5, rtol=0)
    assert torch.equal(model(picture, torch.zeros_like(gap)), picture)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_it_paints_what_the_pipeline_of_diffusers_paints(tmp_path: Path, predicts: str) -> None:
    """With the same noise and the same latents of the picture without its gap."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    folder = tiny_model(tmp_path, channels=9)
    diffusers.DDIMScheduler(
        clip_sample=False, steps_offset=1, timestep_spacing="trailing", prediction_type=predicts
    ).save_pretrained(folder / "scheduler")
    model = Inpainter(folder, quiet).model
    whole, gap = a_gap(32, 64)  # the size in which the model draws it
    assert model.size(32, 64) == (32, 64)
    ours = Inpainter(folder, quiet)._painted(whole, gap)
    latents = model.encoded(torch.where(gap, 0.5, whole)[None])
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        model.vae, transformers.CLIPTextModel.from_pretrained(folder / "text_encoder"),
        transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"), model.net,
        diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"), None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(inpainter.SEED))
    theirs = pipeline(
        "", whole[None], gap[None, None].float(), latents, height=32, width=64, latents=noise, strength=1.0,
        num_inference_steps=STEPS, guidance_scale=1.0, output_type="pt",
    ).images[0]  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert float(ours.std()) > 0.01


def test_a_fill_that_a_network_painted_is_marked(ply: Path, painter: Path) -> None:
    options = EditOptions(select=RED, change=Change(delete=True), fill=True, inpainter=painter)
    said: list[str] = []
    edit(ply, options, said.append)
    *_, step = read_edits(edits_path(ply)).steps
    assert isinstance(step, Add) and step.invented and step.generative
    assert f"painted by {painter} (sha256 " in step.chosen.words
    edit(ply, EditOptions(), said.append)
    assert any("(generative)" in line for line in said)
    added = open_subject(ply).gaussians.sh0.detach()[-len(open_subject(ply).scene.invented.nonzero()) :]
    edit(ply, EditOptions(undo=True), quiet)  # what one command did is undone at once
    assert not edits_path(ply).exists()
    edit(ply, replace(options, inpainter=None), quiet)
    *_, plain = read_edits(edits_path(ply)).steps
    assert isinstance(plain, Add) and plain.invented and not plain.generative
    other = open_subject(ply).gaussians.sh0.detach()[-len(added) :]
    assert float((added - other).abs().mean()) > 0.05  # random weights paint no table


def test_an_inpainter_that_is_missing_or_another(
    ply: Path, tmp_path: Path, painter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"no unet/.*safetensors, vae.*stable-diffusion-inpainting"):
        Inpainter(tmp_path, quiet)
    with pytest.raises(InputError, match="takes 5 channels"):
        Inpainter(tiny_model(tmp_path / "depth", channels=5), quiet)
    assert ran("edit", ply, "--select", RED, "--delete", "--inpainter", painter) == 2
    assert "--inpainter paints what --fill fills" in capsys.readouterr().err
