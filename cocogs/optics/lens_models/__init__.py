"""The lens models, one class each; `ModelConfig.lens` names one."""

from cocogs.config import ModelConfig
from cocogs.optics.lens_models.base import LensModel, Start
from cocogs.optics.lens_models.paper import Paper
from cocogs.optics.lens_models.pinhole import Pinhole
from cocogs.optics.lens_models.sampled import Sampled
from cocogs.optics.lens_models.widened import Widened

LENS_MODELS = {"pinhole": Pinhole, "widened": Widened, "sampled": Sampled, "paper": Paper}


def make_lens(config: ModelConfig, start: Start) -> LensModel:
    """The model that `config.lens` names, at its start."""
    return LENS_MODELS[config.lens](config, start)
