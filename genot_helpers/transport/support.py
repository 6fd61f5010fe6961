"""Which spots of two slices may become partners, and what each pair would cost.

Optimal transport between n and m spots has n·m possible pairs, but tissue moves little between
neighbouring slices: a spot and its partner are near each other once the slices are aligned. So only
the nearest spots are candidates (:func:`neighbour_support`), which takes memory in proportion to
the number of spots. Leaving out the far pairs is the idea of the "shielding neighbourhoods" of
Schmitzer, Journal of Mathematical Imaging and Vision 2016, doi 10.1007/s10851-016-0653-9, but
without the proof that nothing is lost: the tests compare with all pairs. The second half checks the
arrays that couplings are made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from ..slices.geometry import spot_side
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Support",
    "check_embeddings",
    "check_masses",
    "check_points",
    "joint_scale",
    "nearest_pairs",
    "neighbour_support",
    "pair_costs",
]

REACH = 3.0
"""Largest distance of a move by default, in radii of a neighbourhood of n_neighbors spots."""

_PAIRS_AT_ONCE = 200_000


def neighbour_support(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike | None,
    right_embedding: ArrayLike | None,
    *,
    embedding_weight: float,
    n_neighbors: int,
    unmatched_cost: float | str | None,
    left_mass: ArrayLike | None,
    right_mass: ArrayLike | None,
) -> Support:
    """Check everything, then find the candidate pairs; arguments are those of sparse_coupling."""
    left, right = (
        check_points(left_points, "left_points"),
        check_points(right_points, "right_points"),
    )
    embeddings = check_embeddings(left_embedding, right_embedding, len(left), len(right))
    _check_numbers(embedding_weight, n_neighbors, unmatched_cost, embeddings is not None)
    masses = check_masses(left_mass, right_mass, len(left), len(right))
    left_order, right_order = np.lexsort(left.T[::-1]), np.lexsort(right.T[::-1])

    spacing = float(np.sqrt(_spacing(left, "left_points") * _spacing(right, "right_points")))
    left, right = left[left_order] / spacing, right[right_order] / spacing
    left_places, right_places = left, right
    if embeddings is not None and embedding_weight > 0:
        inside = embeddings[0][left_order], embeddings[1][right_order]
        factor = np.sqrt(embedding_weight) / joint_scale(*inside)
        left_places = np.hstack([left, factor * inside[0]])
        right_places = np.hstack([right, factor * inside[1]])
    rows, columns = nearest_pairs(left, right, n_neighbors)
    costs = pair_costs(left_places, right_places, rows, columns)
    reach = REACH * np.sqrt(n_neighbors / np.pi)  # a spot has 1 squared spacing to itself
    limit = reach**2 + embedding_weight
    if unmatched_cost is None:
        # More than a chain of moves from spot to spot across the tissue costs, yet small enough for
        # the costs not to vanish in its rounding.
        price = 4.0 * np.sqrt(len(left) + len(right)) * max(costs.max(), 1.0)
        within = np.full(costs.shape, costs.min() <= limit)
    else:
        price = limit = limit if unmatched_cost == "auto" else float(unmatched_cost)
        within = costs <= limit  # a pair that costs more is never used
    if not within.any():
        raise _disjoint(left, right, limit)
    kept = (costs[within], (rows[within], columns[within]))
    return Support(
        costs=sparse.csr_matrix(kept, shape=(len(left), len(right))),
        left_places=left_places,
        right_places=right_places,
        left_mass=masses[0][left_order],
        right_mass=masses[1][right_order],
        left_order=left_order,
        right_order=right_order,
        spacing=spacing,
        unmatched_cost=float(price),
    )


@dataclass(frozen=True, eq=False)
class Support:
    """Candidate pairs of two slices."""

    # Spots are sorted by their coordinates: the result does not depend on the order in which they
    # are given, even where several plans are equally good (grids are full of such ties).

    # (n, m), one entry for each candidate pair, zeros included; sorted columns
    costs: sparse.csr_matrix
    left_places: NDArray  # (n, 2 + d): coordinates in spot spacings, weighted embedding
    right_places: NDArray  # (m, 2 + d); the cost of a pair is the squared distance of its places
    left_mass: NDArray  # (n,)
    right_mass: NDArray  # (m,)
    left_order: NDArray  # row, in the arrays given, of each sorted spot
    right_order: NDArray  # the same for the right slice
    spacing: float  # in the unit of the coordinates
    unmatched_cost: float  # of a unit of mass in both slices, in squared spot spacings


def nearest_pairs(left: NDArray, right: NDArray, n_neighbors: int) -> tuple[NDArray, NDArray]:
    """Pair every spot with its nearest of the other slice, both ways; sorted rows and columns."""
    there = _nearest(left, right, n_neighbors)
    back = _nearest(right, left, n_neighbors)
    pairs = (there + back.T).tocsr()
    pairs.sort_indices()
    return np.repeat(np.arange(len(left)), np.diff(pairs.indptr)), pairs.indices


def pair_costs(left: NDArray, right: NDArray, rows: NDArray, columns: NDArray) -> NDArray:
    """Squared distances of pairs of places, (pairs,) float64."""
    costs = np.empty(len(rows))
    for begin in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        difference = left[rows[part]] - right[columns[part]]
        costs[part] = np.einsum("ij,ij->i", difference, difference)
    return costs


def _nearest(queries: NDArray, points: NDArray, n_neighbors: int) -> sparse.csr_matrix:
    """Mark the nearest points of each query, (queries, points) CSR bool."""
    k = min(n_neighbors, len(points))
    columns = cKDTree(points).query(queries, k=np.arange(1, k + 1))[1].ravel()
    indptr = np.arange(0, columns.size + 1, k)
    shape = (len(queries), len(points))
    return sparse.csr_matrix((np.ones(columns.size, dtype=bool), columns, indptr), shape=shape)


def _spacing(points: NDArray, name: str) -> float:
    """Return the spot spacing of a slice, which must not be zero."""
    spacing = spot_side(points)
    if not spacing > 0:
        raise SliceError(f"most spots of {name} share their position; keep one spot per position.")
    return spacing


def _check_numbers(
    embedding_weight: float, n_neighbors: int, unmatched_cost: float | str | None, embedded: bool
) -> None:
    """Refuse settings that mean nothing."""
    if not 0 <= embedding_weight < np.inf:
        raise ValueError(f"embedding_weight is {embedding_weight}; give a number from 0 up.")
    if embedding_weight > 0 and not embedded:
        raise ValueError("embedding_weight is set, but no embedding is given.")
    if n_neighbors < 1 or n_neighbors != int(n_neighbors):
        raise ValueError(f"n_neighbors is {n_neighbors}; give a whole number, 1 or more.")
    if unmatched_cost is None or unmatched_cost == "auto":
        return
    if isinstance(unmatched_cost, str) or not 0 < unmatched_cost < np.inf:
        raise ValueError(
            f"unmatched_cost is {unmatched_cost!r}; give 'auto', a number above 0 (squared spot "
            "spacings), or None to match all that can be matched."
        )


def _disjoint(left: NDArray, right: NDArray, limit: float) -> SliceError:
    """Say how far apart two slices are that have no pair within reach."""
    nearest = cKDTree(right).query(left)[0].min()
    centres = np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))
    return SliceError(
        f"No spot has a partner within reach ({np.sqrt(limit):.1f} spot spacings): the slices are "
        f"at least {nearest:.1f} spot spacings apart, their centres {centres:.1f}. Align them "
        "first, check that both use the same unit, or give a larger unmatched_cost (with an "
        "embedding: or a smaller embedding_weight)."
    )


# -------------------------------------------------------------------------------------------------
# Checks of the arrays that couplings are made from, before any work is done.


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
