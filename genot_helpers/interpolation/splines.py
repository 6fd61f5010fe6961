"""A displacement field as a bicubic spline on a coarse grid of control points.

Free-form deformation: Rueckert et al. 1999, doi 10.1109/42.796284. Places count from 0 to 1 along
either axis here.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["N_CONTROL", "basis", "bending", "evaluate"]

N_CONTROL = 10
"""Control points along each side."""

_KNOTS = np.concatenate([np.zeros(3), np.linspace(0.0, 1.0, N_CONTROL - 2), np.ones(3)])


def basis(places: NDArray) -> NDArray[np.float64]:
    """Evaluate the cubic B-splines at places (n,): (n, control points)."""
    result = np.zeros((len(places), N_CONTROL))
    shares = np.empty(4)
    for row, place in enumerate(places):
        first = _four_splines(place, _KNOTS, shares)
        result[row, first : first + 4] = shares
    return result


def evaluate(coefficients: NDArray, places: NDArray) -> NDArray[np.float64]:
    """Evaluate the field at places.

    Parameters
    ----------
    coefficients
        (control points, control points, 2).
    places
        (n, 2); outside of 0 to 1 the value of the border is taken.

    Returns
    -------
    (n, 2).
    """
    result = np.empty((len(places), 2))
    _evaluate(np.ascontiguousarray(coefficients), places, _KNOTS, result)
    return result


def bending() -> NDArray[np.float64]:
    """Bending energy of a field given by its coefficients, and a trace of its size.

    Squared second differences, as of a thin plate; the last term keeps coefficients that no spot
    bears upon at 0.
    """
    first, second = (np.diff(np.eye(N_CONTROL), n, axis=0) for n in (1, 2))
    first, second, one = first.T @ first, second.T @ second, np.eye(N_CONTROL)
    plate = np.kron(second, one) + np.kron(one, second) + 2 * np.kron(first, first)
    return plate + 0.01 * np.eye(N_CONTROL**2)


@numba.njit(cache=True)
def _four_splines(place, knots, shares):
    """Write the four cubic B-splines that are not 0 at a place; return which is the first.

    By the recurrence of de Boor (Journal of Approximation Theory 1972,
    doi 10.1016/0021-9045(72)90080-9) and Cox.
    """
    n_spans = len(knots) - 7
    place = min(max(place, 0.0), 1.0)
    span = 3 + min(int(place * n_spans), n_spans - 1)
    shares[0] = 1.0
    for degree in range(1, 4):
        saved = 0.0
        for r in range(degree):
            right, left = knots[span + r + 1], knots[span + 1 - degree + r]
            part = shares[r] / (right - left)
            shares[r] = saved + (right - place) * part
            saved = (place - left) * part
        shares[degree] = saved
    return span - 3


@numba.njit(cache=True)
def _evaluate(coefficients, places, knots, result):
    across, along = np.empty(4), np.empty(4)
    for i in range(len(places)):
        row = _four_splines(places[i, 0], knots, across)
        column = _four_splines(places[i, 1], knots, along)
        result[i] = 0.0
        for a in range(4):
            for b in range(4):
                share = across[a] * along[b]
                for axis in range(2):
                    result[i, axis] += share * coefficients[row + a, column + b, axis]
