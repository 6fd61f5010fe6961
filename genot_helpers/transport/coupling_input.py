"""Checks of the arrays that couplings are made from, before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..slices.slices import SliceError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["check_embeddings", "check_masses", "check_points", "joint_scale"]


def check_points(values: ArrayLike, name: str) -> NDArray:
    """Return coordinates as float64 after checking them."""
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] != 2:
        raise SliceError(
            f"{name} has shape {points.shape}; give at least two spots, one row (x, y) each."
        )
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise SliceError(
            f"{name} has {(~finite).sum():,} of {finite.size:,} spots with NaN or infinite "
            f"coordinates (first: row {finite.argmin()}); remove those spots."
        )
    return points


def check_embeddings(
    left: ArrayLike | None, right: ArrayLike | None, n_left: int, n_right: int
) -> tuple[NDArray, NDArray] | None:
    """Return both embeddings as float64 after checking them; None where there is none."""
    if left is None and right is None:
        return None
    if left is None or right is None:
        missing = "left_embedding" if left is None else "right_embedding"
        raise SliceError(f"{missing} is missing; give the embedding of both slices, or of neither.")
    arrays = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    for array, n_spots, name in zip(arrays, (n_left, n_right), ("left", "right"), strict=True):
        if array.ndim != 2 or len(array) != n_spots:
            raise SliceError(
                f"{name}_embedding has shape {array.shape}; the slice has {n_spots:,} spots, "
                "one row each."
            )
        if not np.isfinite(array).all():
            raise SliceError(f"{name}_embedding holds NaN or infinite values; compute it anew.")
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise SliceError(
            f"left_embedding has {arrays[0].shape[1]} dimensions and right_embedding "
            f"{arrays[1].shape[1]}; compute both together, for example with joint_components."
        )
    return arrays


def check_masses(
    left: ArrayLike | None, right: ArrayLike | None, n_left: int, n_right: int
) -> tuple[NDArray, NDArray]:
    """Return the masses; uniform where none are given, with the total of the other slice or 1."""
    given = [
        None if mass is None else _mass(mass, n_spots, name)
        for mass, n_spots, name in ((left, n_left, "left_mass"), (right, n_right, "right_mass"))
    ]
    totals = [mass.sum() for mass in given if mass is not None] or [1.0]
    return tuple(
        np.full(n_spots, totals[0] / n_spots) if mass is None else mass
        for mass, n_spots in zip(given, (n_left, n_right), strict=True)
    )


def _mass(values: ArrayLike, n_spots: int, name: str) -> NDArray:
    """Return the masses of one slice as float64 after checking them."""
    mass = np.asarray(values, dtype=np.float64)
    if mass.shape != (n_spots,):
        raise SliceError(f"{name} has shape {mass.shape}; needed: one number per spot, {n_spots}.")
    if not np.isfinite(mass).all() or mass.min() < 0 or not mass.sum() > 0:
        raise SliceError(f"{name} must be finite, not negative, and not zero everywhere.")
    return mass


def joint_scale(left: NDArray, right: NDArray) -> float:
    """Root mean squared distance of a left row and a right row drawn at random; 1 if that is 0."""
    mean_square = left.var(axis=0) + right.var(axis=0) + (left.mean(0) - right.mean(0)) ** 2
    return float(np.sqrt(mean_square.sum())) or 1.0
