"""A coupling of two slices (transport plan), and what to read from it.

Made by :mod:`genot_helpers.transport` and :mod:`genot_helpers.transport.gromov`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .support import Support

__all__ = ["Coupling", "as_coupling", "barycentric_targets", "coupling_pairs", "unmatched_mass"]

_NOTHING = 1e-9  # of the mean mass of a spot: what rounding leaves over


@dataclass(frozen=True, eq=False)
class Coupling:
    """A transport plan between two slices, and what is known about it.

    Attributes
    ----------
    plan
        (n_left, n_right) CSR float64: mass that goes from a left to a right spot.
    left_unmatched, right_unmatched
        (n_left,) and (n_right,), mass without partner. Row sums of the plan plus ``left_unmatched``
        are the left masses, column sums plus ``right_unmatched`` the right ones.
    cost
        Mass times cost, summed over the plan; costs are in squared spot spacings.
    support
        ``"exact"``, ``"tiled"`` (exact in tiles), ``"entropic"``, or ``"dense"`` (all pairs).
    n_neighbors
        Nearest spots of each spot that were possible partners.
    unmatched_cost
        Price of leaving a unit of mass unmatched in both slices, in squared spot spacings.
    spacing
        Spot spacing, in the unit of the coordinates.
    marginal_error
        Largest deviation from a mass given, relative to the mean mass of a spot. For the entropic
        coupling: the mass in the wrong place, relative to all, when the iteration stopped.
    seconds
        Time taken.
    """

    plan: sparse.csr_matrix
    left_unmatched: NDArray
    right_unmatched: NDArray
    cost: float
    support: str
    n_neighbors: int
    unmatched_cost: float
    spacing: float
    marginal_error: float
    seconds: float

    @property
    def mass(self) -> float:
        """Mass that has a partner."""
        return float(self.plan.sum())

    @property
    def unmatched_fraction(self) -> float:
        """Share of the mass of both slices that has no partner, 0 to 1."""
        unmatched = float(self.left_unmatched.sum() + self.right_unmatched.sum())
        return unmatched / (unmatched + 2.0 * self.mass)

    @property
    def objective(self) -> float:
        """What was minimised: the cost plus the price of the mass left unmatched."""
        unmatched = float(self.left_unmatched.sum() + self.right_unmatched.sum())
        return self.cost + 0.5 * self.unmatched_cost * unmatched

    def reordered(self, left_order: NDArray, right_order: NDArray) -> Coupling:
        """Return the coupling of the same slices with their spots in another order.

        Parameters
        ----------
        left_order, right_order
            (n_left,) and (n_right,) int, a row for each place.
        """
        plan = self.plan[left_order][:, right_order]
        plan.sort_indices()
        return replace(
            self,
            plan=plan,
            left_unmatched=self.left_unmatched[left_order],
            right_unmatched=self.right_unmatched[right_order],
        )


def coupling_pairs(coupling: Coupling) -> tuple[NDArray, NDArray, NDArray]:
    """List the pairs of spots that exchange mass.

    Parameters
    ----------
    coupling
        A coupling.

    Returns
    -------
    left, right : ndarray of int
        (pairs,) spots of each pair, sorted by left spot and then by right spot.
    mass : ndarray of float
        (pairs,) their mass, all above 0.
    """
    plan = coupling.plan
    left = np.repeat(np.arange(plan.shape[0]), np.diff(plan.indptr))
    return left, plan.indices.astype(np.int64), plan.data.copy()


def barycentric_targets(coupling: Coupling, right_points: ArrayLike) -> NDArray:
    """Return where the mass of each left spot goes on average (barycentric projection).

    Parameters
    ----------
    coupling
        A coupling.
    right_points
        (n_right, d), the coordinates of the right spots, or anything else that can be averaged.

    Returns
    -------
    ndarray
        (n_left, d) float64; NaN for spots without partner.
    """
    right_points = np.asarray(right_points, dtype=np.float64)
    if right_points.ndim != 2 or len(right_points) != coupling.plan.shape[1]:
        raise ValueError(
            f"right_points has shape {right_points.shape}; the coupling has "
            f"{coupling.plan.shape[1]:,} right spots, one row each."
        )
    mass = np.asarray(coupling.plan.sum(axis=1))
    sums = coupling.plan @ right_points
    return np.divide(sums, mass, out=np.full_like(sums, np.nan), where=mass > 0)


def as_coupling(
    support: Support,
    flow: NDArray,
    kind: str,
    n_neighbors: int,
    begin: float,
    error: float | None = None,
) -> Coupling:
    """Put spots back into the order given, and check the masses."""
    shape = support.costs.shape
    tiny = _NOTHING * support.left_mass.sum() / shape[0]
    moved = flow > tiny
    rows = np.repeat(np.arange(shape[0]), np.diff(support.costs.indptr))[moved]
    columns, flow = support.costs.indices[moved], flow[moved]
    left, left_error = unmatched_mass(support.left_mass, rows, flow)
    right, right_error = unmatched_mass(support.right_mass, columns, flow)
    pairs = (support.left_order[rows], support.right_order[columns])
    plan = sparse.csr_matrix((flow, pairs), shape=shape)
    plan.sort_indices()
    return Coupling(
        plan=plan,
        left_unmatched=_reordered(left, support.left_order),
        right_unmatched=_reordered(right, support.right_order),
        cost=float(flow @ support.costs.data[moved]),
        support=kind,
        n_neighbors=int(n_neighbors),
        unmatched_cost=support.unmatched_cost,
        spacing=support.spacing,
        marginal_error=max(left_error, right_error) if error is None else error,
        seconds=time.perf_counter() - begin,
    )


def unmatched_mass(mass: NDArray, spots: NDArray, flow: NDArray) -> tuple[NDArray, float]:
    """Return the mass that a plan leaves to each spot, and how far it misses the masses given.

    Parameters
    ----------
    mass
        (n,) mass of each spot of one slice.
    spots, flow
        (pairs,) the spot of that slice in each pair, and the mass that the pair moves.

    Returns
    -------
    unmatched : ndarray
        (n,) never negative.
    error : float
        Largest deviation relative to the mean mass.
    """
    mean = mass.sum() / mass.size
    left_over = mass - np.bincount(spots, flow, mass.size)
    unmatched = np.where(left_over > _NOTHING * mean, left_over, 0.0)
    return unmatched, float(np.abs(left_over - unmatched).max() / mean)


def _reordered(values: NDArray, order: NDArray) -> NDArray:
    """Undo the sorting of spots."""
    given = np.empty_like(values)
    given[order] = values
    return given
