"""Quantiles of many numbers. torch's own take at most 16 million, which two large photos have."""

import torch
from torch import Tensor

MOST = 1_000_000


def quantiles(values: Tensor, *parts: float) -> Tensor:
    """As torch.nanquantile of all numbers in `values`, or of a million of them that lie evenly.

    Args:
        parts: in [0, 1].

    Returns:
        One value per part, or a single one (0-d) for one part.
    """
    chosen = values.flatten()[:: max(1, values.numel() // MOST)]
    result = torch.nanquantile(chosen, torch.tensor(parts).to(chosen))
    return result if len(parts) > 1 else result[0]
