"""Does training find what a camera did to its photos? A scene's training photos are taken once more, by a
camera that changes its exposure from photo to photo, darkens the corners and has a response of its own; test
photos stay as they are.

    python scripts/check_photometric.py SCENE --out DIR [--seed 0] [--exif]

SCENE has images/, of which every 8th (by name) is a test photo, and a COLMAP model. DIR gets the photos and
three runs: on the photos as they were, on those taken anew, and on these without a photometric camera. Prints
the PSNR of the sharp test views after the best affine map of colour, and by how much exposures, vignette and
response are off.
"""

import argparse
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image

from cocogs.config import DataConfig, preset
from cocogs.io.camera_file import CameraFile, Reference, Sensor, Vignetting
from cocogs.measure.color import match_affine_color
from cocogs.optics.light import ResponseCurve
from cocogs.optics.photometry import falloff
from cocogs.optics.physical_camera import PhysicalCamera
from cocogs.run import Run, load_run, open_data, write_config
from cocogs.srgb import to_linear, to_srgb
from cocogs.train.losses import picture_psnr
from cocogs.train.monitor import Monitor
from cocogs.train.trainer import Trainer

TEST_EVERY = 8
VIGNETTE = (-0.3, -0.1, 0.0)  # the corners get .6 of the light
SHUTTER, F_NUMBER, ISO = 0.01, 2.0, 100.0


def response() -> tuple[float, ...]:
    """An S-curve over sRGB, lifted in the middle."""
    s = torch.linspace(0, 1, 65, dtype=torch.float64)
    return tuple((s - 0.06 * (2 * math.pi * s).sin() + 0.1 * s * (1 - s)).clamp(0, 1).tolist())


def take_anew(scene: Path, out: Path, seed: int, exif: bool) -> dict[str, float]:
    """The dataset with its training photos taken anew, in `out`; the exposure of each in stops."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(scene, out, ignore=shutil.ignore_patterns("images", "sharp", "refocus", "depth"))
    (out / "images").mkdir()
    random, stops = torch.Generator().manual_seed(seed), {}
    for index, path in enumerate(sorted((scene / "images").iterdir())):
        if index % TEST_EVERY == 0:
            shutil.copy(path, out / "images")
            continue
        stops[path.name] = float(torch.rand((), generator=random)) * 2 - 1
        values = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255
        camera = CameraFile(
            Sensor(36, 24, values.shape[2], values.shape[1]),
            f_number=F_NUMBER, shutter_s=SHUTTER * 2 ** stops[path.name], iso=ISO,
            reference=Reference(F_NUMBER, SHUTTER, ISO), response=response(),
            vignetting=Vignetting((VIGNETTE,)),
        )  # fmt: skip
        with torch.no_grad():
            taken = PhysicalCamera(camera).develop(to_linear(values), None)
        picture = Image.fromarray((taken * 255).round().byte().permute(1, 2, 0).numpy())
        tags = Image.Exif()
        if exif:
            inner = tags.get_ifd(ExifTags.IFD.Exif)
            inner[ExifTags.Base.ExposureTime] = SHUTTER * 2 ** stops[path.name]
            inner[ExifTags.Base.FNumber], inner[ExifTags.Base.ISOSpeedRatings] = F_NUMBER, int(ISO)
        picture.save((out / "images" / path.name).with_suffix(".png"), exif=tags)
    return stops


def train(data: Path, out: Path, args: argparse.Namespace, photometric: bool) -> Run:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    config = preset(args.preset, seed=args.seed)
    config = replace(
        config,
        model=replace(config.model, photometric=photometric),
        optim=replace(config.optim, iterations=args.iterations),
    )
    description = DataConfig(str(data), downscale=args.downscale, test_every=TEST_EVERY)
    scene = open_data(description, out, args.seed, lambda line: None)
    write_config(out, config, description)
    with Monitor(out, 0, args.iterations, lambda line: None) as monitor:
        Trainer(config, scene, out).train(monitor)
    return load_run(out)


@torch.no_grad()
def psnr(run: Run) -> float:
    """Mean over the test views, after the best affine map of colour, as light of sRGB."""
    total = 0.0
    for view in run.scene.test_views:
        render, photo = run.model.sharp(run.model.camera(view)).colors[0].cpu(), run.scene.photo(view)
        if run.model.photometric is not None:
            render = to_srgb(run.model.photometric.response.common().decode(render))
        total += picture_psnr(match_affine_color(render, photo), photo)
    return total / len(run.scene.test_views)


@torch.no_grad()
def errors(run: Run, stops: dict[str, float]) -> dict[str, float]:
    """Of the exposures, in stops, of the vignette and of the response, on the way from 0 to 1."""
    learned = run.model.photometric
    assert learned is not None
    truth = torch.tensor([stops[view.name] for view in run.scene.train_views])
    off = learned.exposure.gains().log2().mean(1) - (truth - truth.mean())
    squared = torch.linspace(0, 1, 21)
    vignette = learned.vignette.falloff(0, squared, 0.0) - falloff(squared, VIGNETTE)
    values = ResponseCurve(learned.response.coefficients[0]).encode(
        to_linear(torch.linspace(0, 1, 65)).expand(3, 1, 65)
    )
    curve = values[0, 0] - torch.tensor(response())
    return {
        "stops_rms": float(off.square().mean().sqrt()),
        "stops_largest": float(off.abs().max()),
        "vignette_largest": float(vignette.abs().max()),
        "response_largest": float(curve.abs().max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="lens")
    parser.add_argument("--downscale", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--exif", action="store_true", help="the photos tell their exposures")
    args = parser.parse_args()
    stops = take_anew(args.scene, args.out / "photos", args.seed, args.exif)
    taken_anew = train(args.out / "photos", args.out / "taken_anew", args, photometric=True)
    figures = {"seed": args.seed, "taken_anew": psnr(taken_anew), **errors(taken_anew, stops)}
    figures["as_they_were"] = psnr(train(args.scene, args.out / "as_they_were", args, photometric=True))
    figures["without"] = psnr(train(args.out / "photos", args.out / "without", args, photometric=False))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
