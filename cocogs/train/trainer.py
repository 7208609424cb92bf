"""The training loop, and all that must survive a crash."""

import signal
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from cocogs.config import Config
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.optics.focus import FocusPlanes
from cocogs.optics.model import DefocusModel
from cocogs.optics.resolution import least_blur
from cocogs.optics.search import find_lens, mean_depths, measure_photos, unknown_lens
from cocogs.run import (
    check_same_photos,
    read_checkpoint,
    restore_model,
    write_checkpoint,
    write_lens,
)
from cocogs.scene import Scene, View
from cocogs.threads import torch_on_one
from cocogs.train.losses import masked_mean, photometric_loss
from cocogs.train.monitor import Monitor
from cocogs.train.replay import Replay
from cocogs.train.start_points import add_start_points
from cocogs.train.strategy import Densification

CHECKPOINT_EVERY = 500  # steps; on a CPU about a quarter of a minute of work at risk
CHECKPOINT_SECONDS = 10  # at least, in between: a GPU takes 500 steps in the time that writing one takes
LIGHT = 150_000  # splats; up to here a second thread gains torch's operations nothing (docs/benchmarks.md)


class Trainer:
    """Fits a `DefocusModel` to a `Scene`; everything that evolves is in `state()`.

    Two runs with the same seed, photos and thread count end in the same bits, also when one of them
    was killed and resumed: the state holds the random generator and the order of the photos.
    """

    def __init__(
        self,
        config: Config,
        scene: Scene,
        folder: Path,
        resume: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.scene, self.folder = config, scene, folder
        self.device = torch.device(device)
        torch.backends.cudnn.deterministic = True  # else a GPU's convolutions add up in any order
        torch.backends.cudnn.allow_tf32 = False  # with 10 bits; where they are enough bf16 is asked for
        self.photos = DevicePhotos(scene, self.device)
        self.views, self.extent = scene.train_views, scene.extent
        torch.manual_seed(config.seed)
        saved = read_checkpoint(folder) if resume else None
        if saved is not None:
            check_same_photos(saved, scene, folder)
            self.model = restore_model(saved, config, scene, folder)
        else:
            self.model = start_model(config, scene, self.device)
        self.model.to(self.device)
        self.optimizers = make_optimizers(self.model, config, self.extent)
        self.densification = Densification(
            config.strategy, config.optim.iterations, self.extent, len(self.model.gaussians), self.device
        )
        self.step, self.order = 0, torch.empty(0, dtype=torch.long)
        # Those of set_rates, where recorded steps read them.
        self.rates = torch.zeros(6, device=self.device)
        # (N,) least standard deviation of every splat, scene units; see keep_physical.
        self.finest = torch.zeros(len(self.model.gaussians), device=self.device)
        if saved is not None:
            self.restore(saved)
        on_gpu = self.device.type == "cuda"
        self.replay = Replay(self.optimize, self.optimizers, self.device) if on_gpu else None

    def train(self, monitor: Monitor) -> bool:
        """Run to the last step; False when Ctrl-C ended it early (everything is saved either way)."""
        iterations, saved = self.config.optim.iterations, time.monotonic()
        with stop_on_interrupt() as stop:
            while self.step < iterations and not stop.is_set:
                # Before a step, not after one: what is saved and shown has got over the last change.
                self.edit()
                self.step += 1
                with torch_on_one(self.is_light):
                    loss, mse = self.advance(self.next_view())
                monitor.step(self.step, loss, mse, len(self.model.gaussians))
                if self.step % CHECKPOINT_EVERY or self.step == iterations or stop.is_set:
                    continue
                monitor.evaluate(self.step, self.model, self.scene)
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    self.save()
                    monitor.show(self.step, self.model, self.scene)
                    saved = time.monotonic()
        self.save()
        monitor.evaluate(self.step, self.model, self.scene)
        monitor.show(self.step, self.model, self.scene)
        return self.step >= iterations

    def edit(self) -> None:
        """Splats are added and removed, where it is time."""
        gaussians, before = self.model.gaussians, len(self.model.gaussians)
        if self.densification.edit(self.step, gaussians, self.optimizers) and self.replay is not None:
            self.replay.forget(len(gaussians) / before)

    def advance(self, index: int) -> tuple[Tensor, Tensor]:
        """One step on one training photo; its loss and mean squared error."""
        self.set_rates()
        if self.model.coc_in_px and (self.step - 1) % self.config.strategy.every == 0:
            self.find_finest()  # also right after splats were added or removed
        kind = (index, self.sh_degree, self.with_sets, self.densification.observes(self.step))
        if self.replay is not None and self.is_repeated and self.photos.keep(self.views[index]):
            loss, mse = self.replay.run(*kind)
        else:
            loss, mse = self.optimize(*kind)
        return loss, mse

    def optimize(self, index: int, sh_degree: int, with_sets: bool, probed: bool) -> Tensor:
        """Predict a photo, compare, move everything a little. (2,): loss and mean squared error."""
        view = self.views[index]
        truth, mask = self.photos[view]
        photo = self.model.photo(self.model.camera(view), index, sh_degree, with_sets, probed)
        per_pixel = photometric_loss(photo.image, truth, self.config.optim.ssim_weight)
        loss = masked_mean(per_pixel * self.focus_weight(photo.coc, mask), mask)
        (loss + self.K_penalty() + self.softness_price(index)).backward()
        self.densification.observe(photo)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.keep_physical()
        return torch.stack([loss.detach(), masked_mean((photo.image.detach() - truth).square(), mask)])

    @torch.no_grad()
    def find_finest(self) -> None:
        """See `keep_physical`."""
        cameras = [self.model.camera(view) for view in self.views]
        finest = self.config.strategy.finest * least_blur(
            self.model.gaussians.means, cameras, self.model.focus
        )
        if finest.shape == self.finest.shape:
            self.finest.copy_(finest)  # recorded steps read it there
        else:
            self.finest = finest

    @torch.no_grad()
    def keep_physical(self) -> None:
        """No lens is impossible, and no splat thinner than a share of the blur of the sharpest photo of it.
        Finer detail is in no photo, and left alone training makes up ripples there, which the blur of
        every photo hides."""
        self.model.focus.keep_possible()
        if self.model.coc_in_px:
            self.model.gaussians.scales.clamp_(min=self.finest.log()[:, None])

    def focus_weight(self, coc: Tensor, mask: Tensor | None) -> Tensor:
        """(1, H, W), mean 1 within the mask: what is in focus tells the detail, the rest mostly the errors
        of any lens model."""
        weight = 1 / (1 + (coc[None] / self.config.optim.sharp_coc).square())
        return weight / masked_mean(weight, mask).clamp_min(1e-9)  # a mask may be black all over

    def K_penalty(self) -> Tensor:
        focus = self.model.focus
        shift = (focus.log_K - focus.log_start).square().mean()
        return self.config.optim.K_prior * focus.held * shift

    def softness_price(self, index: int) -> Tensor:
        """Keeps at exactly 0 every photo that needs none: where all are a little soft the scene is."""
        return self.config.optim.softness_price * self.model.focus.softness[index]

    @property
    def sh_degree(self) -> int:
        return min(3, self.step // self.config.optim.sh_interval)

    @property
    def with_sets(self) -> bool:
        return self.step > self.config.optim.sets_from * self.config.optim.iterations

    @property
    def is_repeated(self) -> bool:
        """Whether the same step comes again before splats are added or removed: else recording it is lost."""
        rarely_edited = 2 * len(self.views) <= self.config.strategy.every
        return rarely_edited or not self.densification.observes(self.step)

    @property
    def is_light(self) -> bool:
        """Whether all that torch does in a step is small: the networks are not, nor are many splats."""
        networks = self.model.expansion is not None and self.with_sets
        return len(self.model.gaussians) <= LIGHT and not networks

    def next_view(self) -> int:
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.views))
        index, self.order = int(self.order[0]), self.order[1:]
        return index

    def set_rates(self) -> None:
        """Exponential decay: positions and exposures to 1 %, the lens to 0.1 %, networks to 10 %."""
        optim, progress = self.config.optim, self.step / self.config.optim.iterations
        lens = 0.0 if progress < optim.lens_from else 0.001**progress
        rates = {
            "means": optim.means * self.extent * 0.01**progress,
            "exposure": optim.exposure * 0.01**progress,
            "vergence": optim.vergence * lens,
            "softness": optim.softness * lens,
            "log_K": optim.log_K * lens,
            "network": optim.network * 0.1**progress,
        }
        values: Sequence[float | Tensor] = list(rates.values())
        if self.device.type == "cuda":
            self.rates.copy_(torch.tensor(values), non_blocking=True)  # else it waits for the device
            values = self.rates.unbind()
        for name, rate in zip(rates, values, strict=True):
            if name in self.optimizers:
                self.optimizers[name].param_groups[0]["lr"] = rate

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "densification": self.densification.state_dict(),
            "finest": self.finest,
            "order": self.order,
            "random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "fingerprint": self.scene.fingerprint(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self.step, self.order = state["step"], state["order"]
            self.finest = state["finest"].to(self.device)
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.densification.load_state_dict(state["densification"])
            torch.set_rng_state(state["random"])
            if self.device.type == "cuda" and state["device_random"] is not None:
                torch.cuda.set_rng_state(state["device_random"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder / 'checkpoint.pt'} is damaged ({error}): delete it and train again."
            ) from error

    def save(self) -> None:
        write_checkpoint(self.folder, self.state())
        write_lens(self.folder, self.model, self.scene)


class DevicePhotos:
    """The photos where they are compared: on a GPU they stay once they were there, as far as a quarter of
    its free memory goes; on a CPU the scene keeps them."""

    def __init__(self, scene: Scene, device: torch.device) -> None:
        self.scene, self.device = scene, device
        self.room = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else 0
        self.kept: dict[str, tuple[Tensor, Tensor | None]] = {}

    def __getitem__(self, view: View) -> tuple[Tensor, Tensor | None]:
        """Photo (3, H, W) and mask (H, W) or None, on the device."""
        if view.name in self.kept:
            return self.kept[view.name]
        photo, mask = self.scene.photo(view).to(self.device), self.scene.mask(view)
        pair = photo, None if mask is None else mask.to(self.device)
        self.room -= photo.nbytes + (0 if mask is None else mask.nbytes)
        if self.room > 0:
            self.kept[view.name] = pair
        return pair

    def keep(self, view: View) -> bool:
        """Whether a photo stays; it is fetched if need be."""
        self[view]
        return view.name in self.kept


def start_model(config: Config, scene: Scene, device: torch.device) -> DefocusModel:
    """Base Gaussians from the SfM points and some more; the lens from sharpness evidence, sought
    on `device`."""
    cap, seeds = config.strategy.max_gaussians, len(scene.points)
    # More points than allowed: a random part of them, because neighbours in the file are one region.
    chosen = torch.randperm(seeds)[:cap] if seeds > cap else torch.arange(seeds)
    points, colors = scene.points[chosen], scene.point_colors[chosen]
    extra = min(config.strategy.extra_points, cap - len(points))
    points, colors = add_start_points(scene, points, colors, extra)
    gaussians = Gaussians.from_points(points, colors, config.model.antialiased)
    focus, middle = start_focus(config, scene, device), scene.points.median(0).values
    return DefocusModel(gaussians, focus, config.model, middle, scene.extent)


def start_focus(config: Config, scene: Scene, device: torch.device | str = "cpu") -> FocusPlanes:
    """On a CPU, after a search on `device`.

    Raises:
        InputError: no training photo sees a seed point: cameras and points do not fit.
    """
    views = scene.train_views
    with torch.device(device):  # also what is made on the way
        evidence, blurs = measure_photos(scene, device)
        middle, typical = mean_depths(evidence).cpu(), float(evidence.depths.nanmedian())
        if config.model.lens == "pinhole":  # which has no use for one
            return FocusPlanes(middle, 1.0, typical).cpu()
        if scene.drawn:  # random points tell nothing of the lens
            distances, K, method = *unknown_lens(evidence), "none"
        else:
            distances, K, method = find_lens(evidence, blurs)
    # What the maker says of the aperture is surer than what the photos show of it.
    K = exif_K(views, middle) or K
    if config.model.units == "paper":
        # The paper's offset is K |1/z - 1/z_f| itself: start where it equals the physical one.
        K *= typical / views[0].camera.fx
    # One opening for all cameras; in the paper's units it is a length in the scene already.
    zoom = evidence.zoom if config.model.units == "world" else None
    # Photos that differ in focus tell K, and better than the search; others would let it drift off.
    per_photo = config.model.per_photo_aperture
    held = per_photo or method != "compared"
    return FocusPlanes(distances, K, typical, per_photo, held, zoom).cpu()


def exif_K(views: list[View], depths: Tensor) -> float | None:
    """K in px x scene unit by EXIF, for the first photo's focal length in px; None where it does not tell.

    Focal length and f-number give the aperture in metres. How long a metre is in the scene tell the distances
    that the camera says it focused on, beside the mean depths (V,) of what its photos see: one number, the
    median over at least 3 photos. Single focus distances are not taken from EXIF.
    """
    known = [
        (view.lens.aperture_diameter * views[0].camera.fx, view.lens.focus_distance / float(depth))
        for view, depth in zip(views, depths, strict=True)
        if view.lens.aperture_diameter is not None and view.lens.focus_distance is not None
    ]
    if len(known) < 3:
        return None
    Ks, metres_per_unit = zip(*known, strict=True)
    return median(Ks) / median(metres_per_unit)


def make_optimizers(model: DefocusModel, config: Config, extent: float) -> dict[str, torch.optim.Optimizer]:
    """One Adam per Gaussian parameter (gsplat's operations edit them by name), one per kind of the rest."""
    optim = config.optim
    groups: dict[str, tuple[list[torch.nn.Parameter], float]] = {
        name: ([getattr(model.gaussians, name)], getattr(optim, name)) for name in Gaussians.names
    }
    groups["means"] = (groups["means"][0], optim.means * extent)
    if config.model.lens != "pinhole":
        groups["vergence"] = ([model.focus.vergence], optim.vergence)
        if not config.model.ablation.aperture:
            groups["log_K"] = ([model.focus.log_K], optim.log_K)
    if model.coc_in_px:
        groups["softness"] = ([model.focus.softness], optim.softness)
    if model.exposure is not None:
        groups["exposure"] = ([model.exposure.log_gains], optim.exposure)
    networks = [p for part in (model.expansion, model.blend) if part is not None for p in part.parameters()]
    if networks:
        groups["network"] = (networks, optim.network)
    return {
        name: torch.optim.Adam([{"params": params, "lr": rate, "name": name}], eps=1e-15, fused=True)
        for name, (params, rate) in groups.items()
    }


class Stop:
    is_set = False


@contextmanager
def stop_on_interrupt():
    """Turn the first Ctrl-C or SIGTERM into a request to finish the step and save; the second one kills."""
    stop = Stop()

    def request(number: int, frame: FrameType | None) -> None:
        stop.is_set = True
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()
