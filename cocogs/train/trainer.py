"""The training loop, and all that must survive a crash."""

import math
import time
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cocogs.checkpoint import (
    UNFIT,
    check_same_photos,
    check_settings,
    damaged_checkpoint,
    fitting,
    read_checkpoint,
    restore_model,
    write_checkpoint,
)
from cocogs.config import Config, for_photos
from cocogs.device import exact_convolutions
from cocogs.distributed import Ranks
from cocogs.errors import InputError
from cocogs.gaussians import Gaussians
from cocogs.learned_lens import write_learned_lens
from cocogs.optics.model import DefocusModel
from cocogs.optics.resolution import least_blur
from cocogs.rasterize import release_memory
from cocogs.scene import Scene
from cocogs.threads import torch_on_one
from cocogs.train.interrupt import stop_on_interrupt
from cocogs.train.losses import clipped_as, focus_weight, masked_mean, photometric_loss
from cocogs.train.memory import check_memory
from cocogs.train.monitor import Monitor
from cocogs.train.photo_store import PhotoStore
from cocogs.train.rates import check_remembered, make_optimizers, rates_at
from cocogs.train.replay import Replay
from cocogs.train.shot import How, Kind, Shot, Slots, count_kinds
from cocogs.train.sowing import sown_behind
from cocogs.train.start import start_model
from cocogs.train.strategy import Densification, reaches

CHECKPOINT_EVERY = 500  # photos seen; on a CPU about a quarter of a minute of work at risk
CHECKPOINT_SECONDS = 10  # at least, in between: a GPU sees 500 photos in the time that writing one takes
SMALL = 128  # px of the shorter side; smaller photos are quick as they are
HEALTH_EVERY = 100  # photos seen; a divisor of CHECKPOINT_EVERY. Reading the loss waits for a GPU
LIGHT = 150_000  # splats; up to here a second thread gains torch's operations nothing (docs/benchmarks.md)


class Trainer:
    """Fits a `DefocusModel` to a `Scene`; everything that evolves is in `state()`.

    Two runs with the same seed, photos and thread count end in the same bits, also when one of them
    was killed and resumed: the state holds the random generator and the order of the photos.

    `step` counts the photos seen, and all that changes in a run goes by it.

    Args:
        ranks: the processes that share the photos of every step. All hold the same state at all times.
    """

    def __init__(
        self,
        config: Config,
        scene: Scene,
        folder: Path,
        resume: bool = False,
        device: torch.device | str = "cpu",
        ranks: Ranks | None = None,
    ) -> None:
        self.given, config = config, for_photos(config, len(scene.train_views))
        self.config, self.scene, self.folder = config, scene, folder
        self.device, self.ranks = torch.device(device), ranks or Ranks()
        self.batch = config.optim.batch
        self.ranks.check_batch(self.batch)
        check_memory(config, scene, self.device, self.ranks.on_machine)
        self.photos = PhotoStore(scene, self.device)
        self.views, self.extent = scene.train_views, scene.extent
        torch.manual_seed(config.seed)
        saved = read_checkpoint(folder) if resume else None
        if saved is not None:
            check_settings(saved, self.given, folder)
            check_same_photos(saved, scene, folder)
            self.model = restore_model(saved, config, scene, folder)
        else:
            self.model = self.start()
        self.model.to(self.device)
        self.optimizers = make_optimizers(self.model, config, self.extent)
        self.densification = Densification(
            config.strategy,
            config.optim.iterations,
            self.extent,
            len(self.model.gaussians),
            self.device,
            self.batch,
            shared=self.ranks.count > 1,
        )
        self.step, self.order = 0, torch.empty(0, dtype=torch.long)
        # Those of set_rates, where recorded steps read them.
        self.rates = torch.zeros(len(self.optimizers), device=self.device)
        # (N,) log of the least standard deviation of every splat, scene units; see keep_physical.
        self.finest = torch.full((len(self.model.gaussians),), -math.inf, device=self.device)
        if saved is not None:
            self.restore(saved)
        # A single photo's step is recorded whole; of several, what each photo adds.
        self.is_single = self.batch == 1  # and then there is a single rank
        self.slots, self.photo_kinds = Slots(self.device), count_kinds(self.views)
        self.replay = None
        if self.device.type == "cuda":
            photos = len(self.views)
            self.replay = Replay(self.step_on_slot, self.slots.index, photos, self.optimizers)

    def start(self) -> DefocusModel:
        """The model at its start, and the random generator after it: of rank 0, on all ranks."""
        made: DefocusModel | None = None

        def make() -> dict[str, Any]:
            nonlocal made
            made = start_model(self.config, self.scene, self.device)
            return {"model": made.state_dict(), "random": torch.get_rng_state()}

        state = self.ranks.from_first(make)
        model = made or restore_model(state, self.config, self.scene, self.folder)
        torch.set_rng_state(state["random"])  # the networks of a restored model drew their own start
        return model

    def train(self, monitor: Monitor | None) -> bool:
        """Run to the last step; False when a signal ended it early (everything is saved either way).

        Args:
            monitor: None on ranks other than the first.
        """
        iterations, saved = self.config.optim.iterations, time.monotonic()
        self.check_ranks()
        with stop_on_interrupt(patient=self.ranks.count > 1) as stop, exact_convolutions():
            ended = self.step >= iterations
            while not ended:
                # Before a step, not after one: what is saved and shown has got over the last change.
                self.edit()
                batch = self.next_batch()
                self.step += len(batch)
                with torch_on_one(self.is_light):
                    loss, mse = self.advance(batch)
                ended = self.ranks.any(stop.is_set) or self.step >= iterations
                if ended or reaches(self.step, len(batch), HEALTH_EVERY):
                    self.check_health(loss)
                if monitor is not None:
                    monitor.step(self.step, loss, mse, len(self.model.gaussians))
                if not ended and reaches(self.step, len(batch), CHECKPOINT_EVERY):
                    saved = self.ranks.in_turn(partial(self.report, monitor, saved))
            self.ranks.in_turn(partial(self.report, monitor, -math.inf))
        release_memory()
        return self.step >= iterations

    def report(self, monitor: Monitor | None, saved: float) -> float:
        """Evaluate and, if the last time was long enough ago, save. When it was saved last, as `saved` is: in
        seconds on the monotonic clock."""
        if monitor is None:
            return saved
        is_due = time.monotonic() - saved >= CHECKPOINT_SECONDS
        if is_due:
            self.save()
            monitor.show(self.step, self.model, self.scene)
        monitor.evaluate(self.step, self.model, self.scene)
        return time.monotonic() if is_due else saved

    def check_health(self, loss: Tensor) -> None:
        """Before anything sick is saved.

        Raises:
            InputError: the loss or what was learned of the photos is not a number any more, or the ranks
                differ.
        """
        self.check_ranks()
        learned = [p.detach().sum() for part in self.model.per_photo for p in part.parameters()]
        if not bool(torch.stack([loss, *learned]).isfinite().all()):
            raise InputError(
                f"The training in {self.folder} went wrong before step {self.step}: its loss, or what it "
                "learned of the cameras, is no number. What was saved before is kept: continue it with "
                "`resume`, and report this if it happens again."
            )

    def check_ranks(self) -> None:
        """Raises InputError if the ranks differ, in their splats or in what they will draw at random."""
        if self.ranks.count > 1:
            means = self.model.gaussians.means.detach().double()
            random = zlib.crc32(torch.get_rng_state().numpy().tobytes())
            numbers = [len(means), float(means.sum()), float(means.square().sum()), random]
            self.ranks.check_same(torch.tensor(numbers, dtype=torch.float64), "state")

    def edit(self) -> None:
        """Splats are added and removed, where it is time."""
        gaussians, before = self.model.gaussians, len(self.model.gaussians)
        sow = self.sow if self.config.strategy.sown > 0 else None
        if self.densification.edit(self.step, gaussians, self.optimizers, sow) and self.replay is not None:
            self.replay.forget(len(gaussians) / before)
            if not self.is_single:  # recordings add to gradients where they lie
                for parameter in gaussians.parameters():
                    parameter.grad = torch.zeros_like(parameter)

    def sow(self, count: int) -> Gaussians:
        """At most so many new Gaussians, behind what a random photo shows."""
        view = self.views[int(torch.randint(len(self.views), ()))]
        return sown_behind(self.model, self.model.camera(view), *self.photos[view], count)

    def advance(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """One step on some training photos; their mean loss and mean squared error."""
        self.set_rates()
        before = self.step - len(batch)
        if self.model.lens.is_physical and reaches(before, self.batch, self.config.strategy.every):
            self.find_finest()  # also right after splats were added or removed
        how = How(self.is_expanded, self.is_halved, self.sh_degree, self.densification.observes(self.step))
        if self.is_single:
            self.model.lens.begin_photo(before)
            loss, mse = self.replayed(batch[0], how)
            return loss, mse
        numbers = torch.zeros(2, device=self.device)
        # In the last step there may be fewer photos than ranks; the others take one that counts nothing.
        for place in (own := self.ranks.own([*range(len(batch))])) or [0]:
            self.model.lens.begin_photo(before + place)
            numbers += self.replayed(batch[place], replace(how, share=1 / len(batch) if own else 0.0))
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        seen = self.densification.fresh if self.densification.observes(self.step) else []
        self.ranks.sum_([*gradients, numbers, *seen])
        self.densification.settle()
        self.move()
        loss, mse = numbers
        return loss, mse

    def replayed(self, index: int, how: How) -> Tensor:
        """A step on training photo `index`, from a recording where that pays."""
        shot = self.shot(index)
        if self.replay is None or not self.is_repeated:
            return self.step_on(shot, how)
        return self.replay.run(index, (how.expanded, how.halved), self.slots.fill(shot), how)

    def shot(self, index: int) -> Shot:
        """Training photo `index`."""
        view = self.views[index]
        return Shot(index, self.model.camera(view), *self.photos[view])

    def step_on_slot(self, kind: Kind, how: How) -> Tensor:
        """A step on the photo that was put into the slots."""
        return self.step_on(self.slots[kind], how)

    def step_on(self, shot: Shot, how: How) -> Tensor:
        """Predict a photo, compare, and, if it is all of the step, move everything a little. (2,): loss and
        mean squared error, times `how.share`."""
        numbers = self.pull(shot, how)
        if self.is_single:
            self.move()
        return numbers

    def pull(self, shot: Shot, how: How) -> Tensor:
        """Predict a photo, compare, add gradients. (2,): loss and mean squared error, times `how.share`."""
        if halved := how.halved and min(shot.camera.width, shot.camera.height) >= SMALL:
            shot = shot.halved()
        photo = self.model.photo(shot.camera, shot.index, how.sh_degree, how.expanded, how.probed, halved)
        image = photo.image if self.model.photometric is None else clipped_as(photo.image, shot.photo)
        per_pixel = photometric_loss(image, shot.photo, self.config.optim.ssim_weight)
        weight = focus_weight(photo.coc, shot.mask, self.config.optim.sharp_coc)
        loss = masked_mean(per_pixel * weight, shot.mask)
        total = loss + sum(part.price(self.config.optim, shot.index) for part in self.model.per_photo)
        total.backward(torch.full_like(total, how.share))
        if how.share > 0:
            self.densification.observe(photo, how.share)
        mse = masked_mean((photo.image.detach() - shot.photo).square(), shot.mask)
        return torch.stack([loss.detach(), mse]) * how.share

    def move(self) -> None:
        """Everything moves a little, by its gradients."""
        for optimizer in self.optimizers.values():
            optimizer.step()
            # Recordings add to gradients where they lie.
            optimizer.zero_grad(set_to_none=self.is_single or self.replay is None)
        self.keep_physical()

    @torch.no_grad()
    def find_finest(self) -> None:
        """See `keep_physical`."""
        cameras = [self.model.camera(view) for view in self.views]
        lenses = [self.model.lens.of(index) for index in range(len(cameras))]
        least = self.config.strategy.finest * least_blur(self.model.gaussians.means, cameras, lenses)
        finest = least.log()
        if finest.shape == self.finest.shape:
            self.finest.copy_(finest)  # recorded steps read it there
        else:
            self.finest = finest

    @torch.no_grad()
    def keep_physical(self) -> None:
        """No lens becomes impossible, and no splat thinner than a share of the blur of the sharpest photo of
        it. Finer detail is in no photo; left alone, training makes up ripples there, which the blur of every
        photo hides."""
        for part in self.model.per_photo:
            part.keep_possible()
        if self.model.lens.is_physical:
            self.model.gaussians.scales.clamp_(min=self.finest[:, None])

    @property
    def sh_degree(self) -> int:
        return min(3, self.step // self.config.optim.sh_interval)

    @property
    def is_expanded(self) -> bool:
        return self.step > self.config.optim.last_single

    @property
    def is_halved(self) -> bool:
        """Whether photos are seen at half their size."""
        return self.step <= self.config.optim.last_halved

    @property
    def is_repeated(self) -> bool:
        """Whether the same step comes again before splats are added or removed: else recording it is lost."""
        rarely_edited = 2 * self.photo_kinds * self.ranks.count <= self.config.strategy.every
        return rarely_edited or not self.densification.observes(self.step)

    @property
    def is_light(self) -> bool:
        """Whether all that torch does in a step is small: the networks are not, nor are many splats."""
        networks = "network" in self.optimizers and self.is_expanded
        return len(self.model.gaussians) <= LIGHT and not networks

    def next_batch(self) -> list[int]:
        """The photos of the next step: the same on all ranks."""
        count = min(self.batch, self.config.optim.iterations - self.step)
        batch = [self.next_view() for _ in range(count)]
        # Those of a new order are not known yet: drawing it now would change what is random after it.
        coming = self.ranks.own(self.order[: self.batch].tolist())
        self.photos.expect(self.views[index] for index in coming)
        return batch

    def next_view(self) -> int:
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.views))
        index, self.order = int(self.order[0]), self.order[1:]
        return index

    def set_rates(self) -> None:
        rates = rates_at(self.step / self.config.optim.iterations, self.model, self.config.optim, self.extent)
        rates = {name: rate for name, rate in rates.items() if name in self.optimizers}
        values: list[float] | tuple[Tensor, ...] = list(rates.values())
        if self.device.type == "cuda":
            # Non-blocking: else it waits for the device.
            self.rates[: len(values)].copy_(torch.tensor(values), non_blocking=True)
            values = self.rates[: len(values)].unbind()
        for name, rate in zip(rates, values, strict=True):
            self.optimizers[name].param_groups[0]["lr"] = rate

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "config": self.given.to_dict(),
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
            self.finest = fitting(state["finest"], self.finest, "finest")
            if self.order.dtype != torch.long or not set(self.order.tolist()) <= set(range(len(self.views))):
                raise ValueError("order names no photos")
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
                check_remembered(name, optimizer)
            self.densification.load_state_dict(state["densification"])
            torch.set_rng_state(state["random"])
            if self.device.type == "cuda" and state["device_random"] is not None:
                torch.cuda.set_rng_state(state["device_random"])
        except UNFIT as error:
            raise damaged_checkpoint(self.folder, error) from error

    def save(self) -> None:
        write_checkpoint(self.folder, self.state())
        write_learned_lens(self.folder, self.model, self.scene)
