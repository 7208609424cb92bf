"""Weights of networks, as files that the user has."""

import hashlib
from pathlib import Path

CHUNK = 1 << 22  # bytes


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
