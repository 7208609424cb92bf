"""How the coefficients of spherical harmonics change when the scene is rotated."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor


def harmonics_rotations(vector: Float64[Tensor, "3"]) -> list[Float64[Tensor, "_ _"]]:
    """The matrices by which a rotation R acts on coefficients of degree 1, 2 and 3: (3, 3), (5, 5), (7, 7).

    For coefficients c of one degree and the matrix M of that degree, M c gives in the direction R d the
    colour that c gives in the direction d. Order and signs are those of 3DGS. They are the complex harmonics
    of quantum mechanics (with the Condon-Shortley phase), split into real parts: sqrt(2) Im Y_l|m| for m < 0,
    Y_l0, sqrt(2) Re Y_lm for m > 0.

    Source: the rotation by the vector v is exp(i v.L), and any textbook has the matrices of the angular
    momentum L (Sakurai, *Modern Quantum Mechanics*, 3.5). The identity comes out exactly.

    Args:
        vector: the rotation vector v of R: its axis, as long as its angle in radians.
    """
    generators = (torch.tensordot(vector, _generators(degree), dims=1) for degree in (1, 2, 3))
    return [torch.linalg.matrix_exp(generator) for generator in generators]


def _generators(degree: int) -> Float64[Tensor, "3 _ _"]:
    """Derivatives of the real harmonics when the direction turns about x, y and z: i L in that basis."""
    m = torch.arange(-degree, degree + 1, dtype=torch.float64)
    # L+ Y_m = sqrt(l(l + 1) - m(m + 1)) Y_(m+1), and L- is its adjoint.
    up = torch.diag((degree * (degree + 1) - m[:-1] * (m[:-1] + 1)).sqrt(), 1).to(torch.complex128)
    down = up.T
    momentum = torch.stack([(up + down) / 2, (up - down) / 2j, torch.diag(m).to(torch.complex128)])
    real = _real_from_complex(degree)
    return (real @ (1j * momentum) @ real.mH).real


def _real_from_complex(degree: int) -> Tensor:
    """(2l + 1, 2l + 1) complex128, unitary: from the complex to the real harmonics, both from m = -l to l."""
    root = torch.tensor(1 / math.sqrt(2), dtype=torch.complex128)
    matrix = torch.zeros(2 * degree + 1, 2 * degree + 1, dtype=torch.complex128)
    matrix[degree, degree] = 1
    for m in range(1, degree + 1):
        sign, plus, minus = (-1) ** m, degree + m, degree - m  # Y_(-m) = (-1)^m times the conjugate of Y_m
        matrix[plus, plus], matrix[plus, minus] = root, sign * root
        matrix[minus, plus], matrix[minus, minus] = -1j * root, 1j * sign * root
    return matrix
