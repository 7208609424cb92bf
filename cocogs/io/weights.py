"""Weights of networks, as files that the user has: their hash, and networks that transformers runs."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocogs.errors import InputError, optional_package, reason_of
from cocogs.io.json_file import read_json

CHUNK = 1 << 22  # bytes
MODEL = "model.safetensors"
FILES = ("config.json", "preprocessor_config.json", MODEL)


@dataclass(frozen=True)
class NetworkKind:
    """Networks that transformers runs.

    Args:
        name: for messages.
        type: `model_type` in config.json.
        network, prepare: classes of transformers: of the network, of what prepares its input.
        purpose: what it is for, as the beginning of a sentence.
        where: weights are found, as a clause.
    """

    name: str
    type: str
    network: str
    prepare: str
    purpose: str
    where: str


def digest_of(weights: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; results name the weights by it.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with weights.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def open_network(weights: Path, kind: NetworkKind) -> tuple[Any, Any]:
    """A network from a folder with `FILES`, and what prepares its input. Nothing is downloaded.

    Raises:
        InputError: files or the package transformers are missing, or they are of another network.
    """
    missing = [name for name in FILES if not (weights / name).is_file()]
    if missing:
        raise InputError(
            f"{weights} has no {', '.join(missing)}: put the network's files there; {kind.where}."
        )
    config = read_json(weights / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != kind.type:
        raise InputError(f"{weights} holds another network than {kind.name}; {kind.where}.")
    transformers = optional_package(
        "transformers",
        f"{kind.purpose} needs the package transformers: run `pip install 'cocogs[depth-network]'`.",
    )
    local: dict[str, Any] = {"local_files_only": True}
    try:
        with _quiet(transformers.utils.logging):
            prepare = getattr(transformers, kind.prepare).from_pretrained(str(weights), **local)
            network, told = getattr(transformers, kind.network).from_pretrained(
                str(weights), use_safetensors=True, output_loading_info=True, **local
            )
        if told["missing_keys"] or told["mismatched_keys"]:  # transformers would draw them at random
            raise ValueError(f"{MODEL} lacks parts of the network")
    except Exception as error:  # of several packages
        raise InputError(
            f"The network in {weights} cannot be read ({reason_of(error)}): copy its files again; "
            f"{kind.where}."
        ) from error
    return network.eval(), prepare


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Neither bars nor reports of transformers on the terminal."""
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()
