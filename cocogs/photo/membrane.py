"""What a picture hides, filled smoothly: the solution of Laplace's equation between known values.

Nearness (one over the depth) is what to fill with it: that of a plane is linear in the picture, and a linear
function solves the equation, so that planes behind an object come out exactly. Depth itself would bend.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from scipy.sparse import linalg
from skimage import measure

DIRECT = 20_000  # unknown pixels that are solved for at once; more start from a solution at half the size
ACCURACY, STEPS = 1e-5, 400  # of the remainder, relative; of the conjugate gradients, at most


def fill_smoothly(
    values: Float[np.ndarray, "H W"], known: Bool[np.ndarray, "H W"], wanted: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """`values` with the wanted pixels as the mean of their neighbours, as far as these are known or wanted.

    Nothing flows over other borders. A part without known neighbours takes the mean of all that is known.

    Args:
        known: where `values` holds; at least one pixel, not wanted.

    Returns:
        float64; the other pixels are those of `values`.
    """
    filled = values.astype(np.float64)
    if not wanted.any():
        return filled
    rows, columns = (np.flatnonzero(wanted.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, at[0] - 1), at[-1] + 2) for at in (rows, columns))
    if not known[box].any():
        filled[wanted] = values[known].mean()
        return filled
    filled[box][wanted[box]] = _solved(filled[box], known[box], wanted[box])
    return filled


def _solved(values: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(count of wanted,) float64."""
    parts = np.asarray(measure.label(wanted, connectivity=1))
    reached = np.unique(parts[wanted & ndimage.binary_dilation(known)])
    solvable = np.isin(parts, reached) & wanted
    result = np.where(wanted, values[known].mean(), 0)
    if (count := int(solvable.sum())) > 0:
        matrix, right = _equations(values, known, solvable)
        if count <= DIRECT:
            result[solvable] = linalg.spsolve(matrix, right)
        else:
            start = _coarse(values, known, solvable)
            result[solvable] = linalg.cg(matrix, right, start, rtol=ACCURACY, maxiter=STEPS)[0]
    return result[wanted]


def _equations(
    values: np.ndarray, known: np.ndarray, wanted: np.ndarray
) -> tuple[sparse.csr_matrix, np.ndarray]:
    count = int(wanted.sum())
    number = np.full(wanted.shape, -1)
    number[wanted] = np.arange(count)
    diagonal, right, pairs = np.zeros(count), np.zeros(count), []
    first, last = slice(-1), slice(1, None)
    for before, after in (((first, ...), (last, ...)), ((..., first), (..., last))):
        for here, there in ((before, after), (after, before)):
            met = wanted[here] & (wanted[there] | known[there])
            own = number[here][met]
            np.add.at(diagonal, own, 1)
            fixed = ~wanted[there][met]
            np.add.at(right, own[fixed], values[there][met][fixed])
            pairs.append(np.stack([own[~fixed], number[there][met][~fixed]]))
    row, column = np.concatenate(pairs, axis=1)
    all_rows = np.concatenate([row, np.arange(count)])
    all_columns = np.concatenate([column, np.arange(count)])
    entries = np.concatenate([np.full(len(row), -1.0), diagonal])
    return sparse.csr_matrix((entries, (all_rows, all_columns)), (count, count)), right


def _coarse(values: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A guess from the same problem at half the size."""
    height, width = wanted.shape
    share = _halved(known.astype(float))
    coarse = _halved(np.where(known, values, 0)) / np.maximum(share, 1e-9)
    known_there, wanted_there = share > 0, (share == 0) & (_halved(wanted.astype(float)) > 0)
    coarse[wanted_there] = _solved(coarse, known_there, wanted_there)
    y, x = ((np.arange(size) + 0.5) / 2 - 0.5 for size in (height, width))
    y, x = np.meshgrid(y, x, indexing="ij")
    return ndimage.map_coordinates(coarse, [y[wanted], x[wanted]], order=1, mode="nearest")


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 px; an odd last row or column counts with 0 beside it."""
    height, width = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2)))
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
