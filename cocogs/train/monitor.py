"""What a training run shows: its progress, and curves and picture strips for TensorBoard.

Nothing here draws random numbers or keeps a gradient: watching does not change the result, not by a bit.
"""

from collections import deque
from pathlib import Path

import torch
from torch import Tensor

from cocogs.io.curves import Curves
from cocogs.io.pictures import to_picture
from cocogs.io.progress import Phases, Progress, Say
from cocogs.optics.maps import colored_coc
from cocogs.optics.model import DefocusModel
from cocogs.scene import Scene
from cocogs.spread import some_of
from cocogs.train.losses import picture_psnr, psnr
from cocogs.train.memory import peak_memory

READ_EVERY = 20  # photos; reading a tensor waits for the device, so not at every step
PSNR_STEPS = 100  # the PSNR shown is the mean over so many steps
STRIP_VIEWS = 2  # training photos shown as strips
TEST_VIEWS = 20  # so many at most are drawn for the curve; `cocogs eval` measures all
CURVES = 100  # photos, at most, whose lens and exposure are drawn as curves


class Monitor:
    """Reports on steps `start` + 1 to `iterations`, counted in photos seen; use it as a context manager.

    On a terminal it draws a bar; elsewhere `say` gets one line per 10 %. Curves go to `folder`/tensorboard:
    those of a resumed run replace what was drawn after its checkpoint.

    Args:
        phases: when steps get slower; see `cocogs.io.progress.Phases`.
    """

    def __init__(
        self, folder: Path, start: int, iterations: int, say: Say, phases: Phases = ((1, 1.0),)
    ) -> None:
        self.folder, self.start, self.iterations, self.say = folder, start, iterations, say
        self.phases, self.last = phases, start
        self.pending: list[Tensor] = []
        self.psnrs: deque[float] = deque(maxlen=PSNR_STEPS)

    def __enter__(self) -> "Monitor":
        self.curves = Curves(self.folder / "tensorboard", self.start + 1, self.say)
        self.progress = Progress(
            "Training", self.iterations, self.say, start=self.start, phases=self.phases
        ).__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.__exit__(*exception)
        self.curves.close()

    def step(self, step: int, loss: Tensor, mse: Tensor, count: int) -> None:
        """Note one step.

        Args:
            step: photos seen.
            loss, mse: 0-d, of the step's photos; the mean squared error of the prediction against the photo,
                in [0, 1]^2.
            count: Gaussians.
        """
        self.pending.append(mse.detach())
        before, self.last = self.last, step
        if step // READ_EVERY == before // READ_EVERY and step != self.iterations:
            return
        psnrs = [psnr(value) for value in torch.stack(self.pending).tolist()]
        self.pending.clear()
        self.psnrs.extend(psnrs)
        self.curves.add_number("train/loss", float(loss), step)
        self.curves.add_number("train/psnr", sum(psnrs) / len(psnrs), step)
        self.curves.add_number("train/gaussians", count, step)
        self.progress.at(step, lambda: self._facts(step, count))

    def _facts(self, step: int, count: int) -> list[str]:
        """The figures beside the bar, the most telling first."""
        on_gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
        peak = [f"peak {taken / 2**30:.1f} GiB"] if (taken := peak_memory()) else []
        gpu = [f"GPU {on_gpu / 2**30:.1f} GiB"] if on_gpu else []
        return [
            f"{sum(self.psnrs) / len(self.psnrs):.2f} dB",
            f"step {step}",
            f"{self.progress.time.rate or 0:.1f} it/s",
            f"{count:,} Gaussians",
            " + ".join([*peak, *gpu]),
        ]

    @torch.no_grad()
    def evaluate(self, step: int, model: DefocusModel, scene: Scene) -> None:
        """Add the PSNR of the test views, the lens and the exposures to the curves; of many, of some."""
        scores = []
        for view in some_of(scene.test_views, TEST_VIEWS):
            render = model.sharp_photo(view).cpu()
            scores.append(picture_psnr(render, scene.photo(view), scene.mask(view)))
        if scores:
            self.curves.add_number("test/psnr", sum(scores) / len(scores), step)
        names = [view.name for view in scene.train_views]
        for part in model.per_photo:
            for curve, values in part.shown().items():
                labels = [curve] if len(values) == 1 < len(names) else [f"{curve}/{name}" for name in names]
                for label, value in some_of(list(zip(labels, values, strict=True)), CURVES):
                    self.curves.add_number(label, value, step)

    @torch.no_grad()
    def show(self, step: int, model: DefocusModel, scene: Scene) -> None:
        """Add picture strips of one or two training photos to the curves."""
        for index in some_of(range(len(scene.train_views)), STRIP_VIEWS):
            name = scene.train_views[index].name
            picture = to_picture(strip(model, scene, index))
            self.curves.add_picture(f"photo, prediction, sharp, CoC/{name}", picture, step)


def strip(model: DefocusModel, scene: Scene, index: int) -> Tensor:
    """(3, H, 3 W or 4 W) in [0, 1]: a training photo, its prediction, the sharp view and, unless the
    model is a pinhole, the circle of confusion (see `colored_coc`)."""
    view = scene.train_views[index]
    camera = model.camera(view)
    sharp = model.sharp(camera, with_depth=True)
    pictures = [scene.photo(view), model.defocused(camera, index), sharp.colors[0]]
    if model.lens.has_lens:
        assert sharp.depths is not None
        coc = model.lens.coc_map(sharp.depths[0], camera, index)
        pictures.append(colored_coc(coc, sharp.alphas[0]))
    return torch.cat([picture.cpu().clamp(0, 1) for picture in pictures], dim=2)
