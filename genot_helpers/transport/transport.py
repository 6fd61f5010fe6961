r"""Couplings between two slices: how much of the mass of each left spot goes to which right spot.

The cost of a pair of spots is their squared distance in space, in squared spot spacings, plus a
weight times their squared distance in an embedding. Only nearest neighbours can be partners
(:mod:`.support`), so memory is proportional to the number of spots, and mass may stay unmatched at
a price, for tissue that grows or is cut off.

=========================  =====================================================================
function                   what it solves
=========================  =====================================================================
:func:`sparse_coupling`    partial optimal transport, exactly (linear programme)
:func:`entropic_coupling`  the same with entropy: blurred, but products of matrices only, so that
                           it runs on a GPU
=========================  =====================================================================

The programme and its solvers are in :mod:`.solvers`. Below the two functions: the
:class:`Coupling` and what to read from it. Optimal transport in general: Peyré and Cuturi,
Computational Optimal Transport, 2019, doi 10.1561/2200000073. For slices whose coordinates cannot
be compared see :mod:`.gromov`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from ..arguments import checked
from .solvers import solve_exactly, solve_in_tiles, solve_with_entropy
from .support import neighbour_support

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .support import Support

__all__ = [
    "Coupling",
    "barycentric_targets",
    "coupling_pairs",
    "entropic_coupling",
    "sparse_coupling",
    "unmatched_mass",
]


@checked
def sparse_coupling(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike | None = None,
    right_embedding: ArrayLike | None = None,
    *,
    embedding_weight: float = 0.0,
    n_neighbors: int = 40,
    unmatched_cost: float | str | None = "auto",
    left_mass: ArrayLike | None = None,
    right_mass: ArrayLike | None = None,
    max_exact: int = 20_000,
    tile_spots: int = 5_000,
) -> Coupling:
    r"""Couple two slices by exact partial optimal transport between neighbouring spots.

    The problem solved is at the top of :mod:`genot_helpers.transport.solvers`, with the cost

    .. math::

        c_{ij} = \frac{\lVert x_i - y_j \rVert^2}{s^2}
               + \beta \frac{\lVert e_i - f_j \rVert^2}{\overline{\lVert e - f \rVert^2}}

    for coordinates x, y, embeddings e, f and spot spacing s (the side of the square a spot has to
    itself; geometric mean of the slices). The bar is the mean over all left and right spots.

    Parameters
    ----------
    left_points, right_points
        (n_left, 2) and (n_right, 2) coordinates in one frame and one unit.
    left_embedding, right_embedding
        (n_left, d) and (n_right, d), computed together; both or neither.
    embedding_weight
        β, without unit: the price, in squared spot spacings, of pairing two spots that differ as
        much as spots drawn at random. With 1, expression decides between near spots only.
    n_neighbors
        Candidates of a spot are so many nearest spots of the other slice, and the spots there that
        have it among their nearest.
    unmatched_cost
        Price of leaving a unit of mass unmatched in both slices, in squared spot spacings; a pair
        that costs more is never used, and a lower price leaves more mass unmatched.

        "auto": the squared radius of three neighbourhoods, 9 · ``n_neighbors`` / π, plus
        ``embedding_weight``. Slices that cover the same tissue are then matched almost completely
        (independent scattered spots to 99.6 %, MERFISH sections 100 µm apart to 99.9 %). Where
        slices overlap in part only, the mass without counterpart shifts the rest, by about
        ``unmatched_cost`` / (2 · width of the overlap in spacings): 1.5 spacings for an overlap of
        35. There, give the squared radius of one neighbourhood, 13 for 40 neighbours: .2 spacings,
        with 2 % unmatched within the overlap.

        None: only mass without partner among the neighbours, and the surplus, stays unmatched.
    left_mass, right_mass
        (n_left,) and (n_right,) non-negative. Default: uniform, with the total of the other slice
        if that is given and 1 otherwise. Totals may differ; the surplus stays unmatched.
    max_exact
        Slices of up to so many spots are solved at once; larger ones are cut into tiles.
    tile_spots
        Left spots in a tile.

    Returns
    -------
    Coupling
        With ``support`` "exact" or "tiled".

    Raises
    ------
    SliceError
        Coordinates, embeddings or masses have the wrong shape, are NaN or infinite, or masses are
        negative; spots share their position; no spot has a partner within reach (disjoint tissue).
    ValueError
        A setting is out of range.
    NotConvergedError
        The solver failed. A broken plan is never returned.

    Notes
    -----
    The result depends neither on the order of the spots nor, up to rounding, on a rigid motion of
    both slices. Masses are rounded to 2⁻⁵⁰ of their total.

    Measured on one core of a busy machine: 1 s for 5,500 × 5,500 spots, 26 s and 0.7 GB for
    100,000 × 100,000 in tiles. Tiles make the objective at most 0.1 % larger there (scattered
    spots, coordinates only; 0.5 % with an embedding of noise and small tiles).

    Examples
    --------
    >>> coupling = sparse_coupling(left.obsm["spatial"], right.obsm["spatial"])
    >>> coupling.unmatched_fraction
    """
    begin = time.perf_counter()
    support = neighbour_support(
        left_points,
        right_points,
        left_embedding,
        right_embedding,
        embedding_weight=embedding_weight,
        n_neighbors=n_neighbors,
        unmatched_cost=unmatched_cost,
        left_mass=left_mass,
        right_mass=right_mass,
    )
    if max(support.costs.shape) <= max_exact:
        flow, kind = solve_exactly(support), "exact"
    else:
        flow, kind = solve_in_tiles(support, tile_spots), "tiled"
    return _as_coupling(support, flow, kind, n_neighbors, begin)


@checked
def entropic_coupling(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike | None = None,
    right_embedding: ArrayLike | None = None,
    *,
    embedding_weight: float = 0.0,
    n_neighbors: int = 40,
    unmatched_cost: float | str | None = "auto",
    left_mass: ArrayLike | None = None,
    right_mass: ArrayLike | None = None,
    epsilon: float = 0.5,
    max_iterations: int = 20_000,
    tolerance: float = 1e-4,
    device: str = "auto",
) -> Coupling:
    r"""Couple two slices by entropic partial optimal transport between neighbouring spots.

    To the problem of :func:`sparse_coupling` is added

    .. math:: \varepsilon \sum_{ij} P_{ij} \Bigl(\log \frac{P_{ij}}{r_{ij}} - 1\Bigr),
        \quad r_{ij} = \frac{\sqrt{a_i b_j}}{k},

    k being the mean number of candidates of a spot. Each spot then sends a little to every near
    partner, within about √ε spot spacings. The plan tends to the exact one as ε falls.

    Parameters
    ----------
    left_points, right_points, left_embedding, right_embedding
        As in :func:`sparse_coupling`.
    embedding_weight, n_neighbors, unmatched_cost, left_mass, right_mass
        As in :func:`sparse_coupling`.
    epsilon
        Strength of the entropy, in squared spot spacings. Smaller is sharper and takes longer.
    max_iterations
        Iterations at the final ε.
    tolerance
        Mass in the wrong place, relative to all mass, at which the iteration stops.
    device
        "auto" (a GPU if there is one), "cpu", "cuda", as torch calls them.

    Returns
    -------
    Coupling
        With ``support`` "entropic". What was in the wrong place is taken off the plan and counted
        as unmatched, so that masses add up.

    Raises
    ------
    NotConvergedError
        ``tolerance`` was not reached; the message says what was, and what to change.
    SliceError, ValueError
        As in :func:`sparse_coupling`.
    """
    begin = time.perf_counter()
    if not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon is {epsilon}; give a number above 0 (squared spot spacings).")
    support = neighbour_support(
        left_points,
        right_points,
        left_embedding,
        right_embedding,
        embedding_weight=embedding_weight,
        n_neighbors=n_neighbors,
        unmatched_cost=unmatched_cost,
        left_mass=left_mass,
        right_mass=right_mass,
    )
    flow, error = solve_with_entropy(
        support, epsilon, max_iterations=max_iterations, tolerance=tolerance, device=device
    )
    return _as_coupling(support, flow, "entropic", n_neighbors, begin, error)


# -------------------------------------------------------------------------------------------------
# A coupling of two slices (transport plan), and what to read from it.

_NOTHING = 1e-9  # of the mean mass of a spot: smaller remainders are rounding


@dataclass(frozen=True, eq=False)
class Coupling:
    """A transport plan between two slices, with its costs, masses and settings.

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
        """The minimised value: the cost plus the price of the mass left unmatched."""
        unmatched = float(self.left_unmatched.sum() + self.right_unmatched.sum())
        return self.cost + 0.5 * self.unmatched_cost * unmatched

    @checked
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


@checked
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


@checked
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


def _as_coupling(
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
    """Return the mass (n,) left to each spot, and the largest deviation over the mean mass."""
    mean = mass.sum() / mass.size
    left_over = mass - np.bincount(spots, flow, mass.size)
    unmatched = np.where(left_over > _NOTHING * mean, left_over, 0.0)
    return unmatched, float(np.abs(left_over - unmatched).max() / mean)


def _reordered(values: NDArray, order: NDArray) -> NDArray:
    """Undo the sorting of spots."""
    given = np.empty_like(values)
    given[order] = values
    return given
