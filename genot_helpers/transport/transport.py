r"""Couplings between two slices: how much of the mass of each left spot goes to which right spot.

The cost c of a pair of spots is their squared distance in space, in squared spot spacings, plus a
weight times their squared distance in an embedding. With masses a and b and the price p of leaving
a unit of mass unmatched in both slices (for tissue that grows or is cut off), a coupling solves

.. math::

    \min_{P \ge 0} \sum_{ij} c_{ij} P_{ij}
    + \frac{p}{2} \sum_i \Bigl(a_i - \sum_j P_{ij}\Bigr)
    + \frac{p}{2} \sum_j \Bigl(b_j - \sum_i P_{ij}\Bigr)
    \quad \text{with} \quad \sum_j P_{ij} \le a_i,\ \sum_i P_{ij} \le b_j .

This is partial optimal transport (Caffarelli and McCann 2010, doi 10.4007/annals.2010.171.673).
Top to bottom: :func:`sparse_coupling` solves it exactly; the :class:`Coupling`; the candidate
pairs; the linear programme, at once or in tiles; the checks. With entropy: :mod:`.entropic`; for
slices whose coordinates cannot be compared: :mod:`.gromov`.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import ot
from scipy import sparse
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from ..arguments import checked
from ..slices.geometry import spot_side
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PRICES = {"embedding_weight": (0.0, 1e100), "n_neighbors": (1, 100_000)}
"""Ranges of the settings of a coupling."""


class NotConvergedError(RuntimeError):
    """A solver stopped without a usable result; the message says what to do."""


@checked(**PRICES)
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

    The problem at the top of this file is solved with the cost

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
        (MERFISH sections 100 µm apart to 99.9 %). Where slices overlap in part only, the mass
        without counterpart shifts the rest, by about ``unmatched_cost`` / (2 · width of the overlap
        in spacings). There, give the squared radius of one neighbourhood, 13 for 40 neighbours.

        None: only mass without partner among the neighbours, and the surplus, stays unmatched.
    left_mass, right_mass
        (n_left,) and (n_right,) non-negative. Default: uniform, with the total of the other slice
        if that is given and 1 otherwise. Totals may differ; the surplus stays unmatched.
    max_exact, tile_spots
        Slices of up to so many spots are solved at once, larger ones in tiles of so many.

    Returns
    -------
    Coupling
        With ``support`` "exact" or "tiled".

    Raises
    ------
    SliceError
        Coordinates, embeddings or masses have the wrong shape or sign; spots share their position;
        no spot has a partner within reach (disjoint tissue).
    ValueError
        A setting is out of range.
    NotConvergedError
        The solver failed. A broken plan is never returned.

    Notes
    -----
    The result depends neither on the order of the spots nor, up to rounding, on a rigid motion of
    both slices. Masses are rounded to 2⁻⁵⁰ of their total. Measured on one core of a busy machine:
    1 s for 5,500 × 5,500 spots, 26 s and 0.7 GB for 100,000 × 100,000 in tiles, which make the
    objective at most 0.1 % larger there (0.5 % with an embedding of noise and small tiles).

    Examples
    --------
    >>> coupling = sparse_coupling(left.obsm["spatial"], right.obsm["spatial"])
    >>> coupling.unmatched_fraction
    """
    begin = time.perf_counter()
    support = neighbour_support(
        left_points, right_points, left_embedding, right_embedding,
        embedding_weight=embedding_weight, n_neighbors=n_neighbors, unmatched_cost=unmatched_cost,
        left_mass=left_mass, right_mass=right_mass,
    )  # fmt: skip
    if max(support.costs.shape) <= max_exact:
        flow, kind = _solve_at_once(support), "exact"
    else:
        flow, kind = _solve_in_tiles(support, tile_spots), "tiled"
    return as_coupling(support, flow, kind, n_neighbors, begin)


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
        (n_left,) and (n_right,), mass without partner: what the sums of the plan lack.
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
        Largest deviation from a mass given, relative to the mean mass of a spot. Entropic: the mass
        in the wrong place, relative to all, when the iteration stopped.
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
        """Return the coupling with the spots in another order, (n_left,) and (n_right,) int."""
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
    """List the pairs of spots that exchange mass: left spots, right spots, mass, (pairs,) each.

    Sorted by left spot and then by right spot; all masses are above 0.
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
        left_unmatched=left[np.argsort(support.left_order)],
        right_unmatched=right[np.argsort(support.right_order)],
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


# -------------------------------------------------------------------------------------------------
# Candidate pairs. There are n·m pairs, but tissue moves little between neighbouring slices, so only
# the nearest spots are candidates: memory is proportional to the number of spots (the "shielding
# neighbourhoods" of Schmitzer 2016, doi 10.1007/s10851-016-0653-9, without the proof that nothing
# is lost: the tests compare with all pairs).

_REACH = 3.0  # largest distance of a move by default, in radii of a neighbourhood of n_neighbors
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
    left, right = check_points(left_points, right_points)
    embeddings = check_embeddings(left_embedding, right_embedding, len(left), len(right))
    if embedding_weight > 0 and embeddings is None:
        raise ValueError("embedding_weight is set, but no embedding is given.")
    if unmatched_cost not in (None, "auto") and not (
        isinstance(unmatched_cost, Real) and 0 < unmatched_cost < np.inf
    ):
        raise ValueError(
            f"unmatched_cost is {unmatched_cost!r}; give 'auto', a number above 0 (squared spot "
            "spacings), or None to match all that can be matched."
        )
    masses = check_masses(left_mass, right_mass, len(left), len(right))
    left_order, right_order = np.lexsort(left.T[::-1]), np.lexsort(right.T[::-1])

    spacing = float(np.sqrt(spot_side(left) * spot_side(right)))
    if not spacing > 0:
        raise SliceError("most spots of a slice share their position; keep one spot per position.")
    left, right = left[left_order] / spacing, right[right_order] / spacing
    left_places, right_places = left, right
    if embeddings is not None and embedding_weight > 0:
        inside = embeddings[0][left_order], embeddings[1][right_order]
        factor = np.sqrt(embedding_weight) / joint_scale(*inside)
        left_places = np.hstack([left, factor * inside[0]])
        right_places = np.hstack([right, factor * inside[1]])
    rows, columns = _nearest_pairs(left, right, n_neighbors)
    costs = _pair_costs(left_places, right_places, rows, columns)
    reach = _REACH * np.sqrt(n_neighbors / np.pi)  # a spot has 1 squared spacing to itself
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


def _nearest_pairs(left: NDArray, right: NDArray, n_neighbors: int) -> tuple[NDArray, NDArray]:
    """Pair every spot with its nearest of the other slice, both ways; sorted rows and columns."""
    there = _nearest(left, right, n_neighbors)
    back = _nearest(right, left, n_neighbors)
    pairs = (there + back.T).tocsr()
    pairs.sort_indices()
    return np.repeat(np.arange(len(left)), np.diff(pairs.indptr)), pairs.indices


def _pair_costs(left: NDArray, right: NDArray, rows: NDArray, columns: NDArray) -> NDArray:
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
# The linear programme. One more row and column that take the unmatched mass (slack) make it an
# ordinary transport problem, which always has a solution; the network simplex of POT finds it
# (Bonneel et al. 2011, doi 10.1145/2070781.2024192; Flamary et al., JMLR 2021). Its time grows with
# the square of the number of spots, so large slices are cut into tiles: a coarse problem between
# groups of spots says how much mass each tile may take from where, tiles are solved one after the
# other, and once more with tiles shifted by half their size, which repairs the seams (domain
# decomposition; Bonafini and Schmitzer 2021, doi 10.1007/s00211-021-01245-0).

# Mass is counted in whole quanta. Sums of whole numbers below 2**53 are exact in float64, while
# the rounding of fractions makes the simplex report feasible problems as infeasible.
_QUANTA = 2.0**50
_SPOTS_PER_CELL = 2
_MAX_CELLS = 32_768
_CELL_NEIGHBORS = 20


def _solve_at_once(support: Support) -> NDArray:
    """Solve the problem at once. Returns the mass moved by each pair of ``support.costs``."""
    left, right, unit = _to_quanta(support.left_mass, support.right_mass)
    return _solve(support.costs, left, right, support.unmatched_cost) * unit


def _solve_in_tiles(support: Support, tile_spots: int) -> NDArray:
    """Solve tiles of about ``tile_spots`` left spots in turn, twice."""
    # Marginals are as exact as without tiles. The cost is a little higher: in two rounds, mass
    # cannot move across several tiles.
    left, right, unit = _to_quanta(support.left_mass, support.right_mass)
    costs, points = support.costs, support.left_places
    pair_number = sparse.csr_matrix(
        (np.arange(costs.nnz), costs.indices, costs.indptr), shape=costs.shape
    )
    flow = np.zeros(costs.nnz)
    tiles = _blocks(points, tile_spots)
    promised = _coarse_shares(support, left, right, tiles)
    free = right - np.asarray(promised.sum(axis=1)).ravel()
    rounds = [(tile, q) for q, tile in enumerate(_members(tiles))]
    rounds += [(tile, None) for tile in _members(_blocks(points, tile_spots, shift=0.5))]
    for tile, q in tqdm(rounds, desc="tiles", unit="tile", leave=False, disable=None):
        if q is not None:
            free += promised[:, [q]].toarray().ravel()
        rows = pair_number[tile]
        pairs, columns = rows.data, rows.indices
        free += np.bincount(columns, flow[pairs], free.size)  # what the tile holds is dealt anew
        partners, local = np.unique(columns, return_inverse=True)
        shape = (tile.size, partners.size)
        part = sparse.csr_matrix((costs.data[pairs], local, rows.indptr), shape=shape)
        flow[pairs] = _solve(part, left[tile], free[partners], support.unmatched_cost)
        free -= np.bincount(columns, flow[pairs], free.size)
    return flow * unit


def _to_quanta(left: NDArray, right: NDArray) -> tuple[NDArray, NDArray, float]:
    """Turn masses into whole numbers, and return how much mass one is."""
    # Rounding the running sum keeps totals exact; totals that differ by rounding become equal.
    total = max(left.sum(), right.sum())
    counted = []
    for mass in (left, right):
        running = np.cumsum(mass)
        share = running[-1] / total
        goal = _QUANTA if np.isclose(share, 1.0, rtol=1e-9, atol=0.0) else share * _QUANTA
        counted.append(np.diff(np.rint(running / running[-1] * goal), prepend=0.0))
    return *counted, total / _QUANTA


def _solve(costs: sparse.csr_matrix, left: NDArray, right: NDArray, price: float) -> NDArray:
    """Solve one linear programme in quanta; returns the quanta moved by each pair, in order."""
    n, m = costs.shape
    rows = np.repeat(np.arange(n), np.diff(costs.indptr))
    columns = costs.indices.astype(np.int64)
    i, j = np.arange(n), np.arange(m)
    extended = sparse.coo_matrix(
        (
            np.concatenate([costs.data, np.full(n + m, price / 2), [0.0]]),
            (
                np.concatenate([rows, i, np.full(m, n), [n]]),
                np.concatenate([columns, np.full(n, m), j, [m]]),
            ),
        ),
        shape=(n + 1, m + 1),
    )
    total = 2 * _QUANTA  # a power of two: POT divides by it and multiplies with it
    supply, demand = np.append(left, total - left.sum()), np.append(right, total - right.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # POT warns and returns nothing: see below
        plan, log = ot.emd(supply, demand, extended, numItermax=10**9, log=True)
    if log["warning"] is not None:
        raise NotConvergedError(
            f"The network simplex found no plan ({log['warning']}). Give fewer n_neighbors or a "
            "smaller embedding_weight, and check masses for values of very different size."
        )
    real = (plan.row < n) & (plan.col < m)
    flow = np.zeros(costs.nnz)
    found = plan.row[real].astype(np.int64) * m + plan.col[real]
    flow[np.searchsorted(rows * m + columns, found)] = plan.data[real]
    return flow


def _coarse_shares(
    support: Support, left: NDArray, right: NDArray, tiles: NDArray
) -> sparse.csc_matrix:
    """Plan between cells of two or more spots: quanta of right spots per tile, (m, tiles)."""
    size = max(_SPOTS_PER_CELL, max(left.size, right.size) / _MAX_CELLS)
    cells = [_blocks(places, size) for places in (support.left_places, support.right_places)]
    means, quanta = [], []
    for cell, places, mass in zip(
        cells, (support.left_places, support.right_places), (left, right), strict=True
    ):
        counts = np.bincount(cell)
        means.append(_membership(cell).T @ places / counts[:, None])
        quanta.append(np.bincount(cell, mass))
    rows, columns = _nearest_pairs(means[0][:, :2], means[1][:, :2], _CELL_NEIGHBORS)
    shape = (quanta[0].size, quanta[1].size)
    costs = sparse.csr_matrix((_pair_costs(*means, rows, columns), (rows, columns)), shape=shape)
    costs.data = _solve(costs, *quanta, support.unmatched_cost)
    in_tile = sparse.csr_matrix((left / np.maximum(quanta[0][cells[0]], 1), (cells[0], tiles)))
    share = sparse.diags(1 / np.maximum(quanta[1], 1)) @ (costs.T @ in_tile)
    promised = sparse.csc_matrix(sparse.diags(right) @ share.tocsr()[cells[1]])
    promised.data = np.floor(promised.data)
    return promised


def _blocks(points: NDArray, size: float, shift: float = 0.0) -> NDArray:
    """Return the block of each spot: strips along x, cut along y to about ``size`` spots."""
    # Strips, and blocks of a strip, hold equally many spots; shift=0.5 puts borders in the middles.
    n_blocks = max(1.0, len(points) / size)
    width, height = np.ptp(points[:, :2], axis=0)
    n_strips = int(np.clip(np.sqrt(n_blocks * width / max(height, 1e-12)), 1, n_blocks) + 0.5)
    n_cuts = int(n_blocks / n_strips + 0.5) or 1
    rank = np.empty(len(points))
    rank[np.argsort(points[:, 0], kind="stable")] = np.arange(len(points))
    strip = (rank / len(points) * n_strips + shift).astype(int)
    order = np.lexsort((points[:, 1], strip))
    counts = np.bincount(strip)
    within = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
    block = np.empty(len(points), dtype=int)
    share = within / np.repeat(counts, counts)
    block[order] = strip[order] * (n_cuts + 1) + (share * n_cuts + shift).astype(int)
    return np.unique(block, return_inverse=True)[1]


def _members(blocks: NDArray) -> list[NDArray]:
    """List the spots of each block."""
    return np.split(np.argsort(blocks, kind="stable"), np.cumsum(np.bincount(blocks))[:-1])


def _membership(cells: NDArray) -> sparse.csr_matrix:
    """Mark the cell of each spot, (spots, cells)."""
    return sparse.csr_matrix((np.ones(cells.size), cells, np.arange(cells.size + 1)))


# -------------------------------------------------------------------------------------------------
# Checks of the arrays that couplings are made from; that they are finite, @checked has seen.


def check_points(*points: ArrayLike) -> list[NDArray]:
    """Return the coordinates of left and right as float64 after checking them."""
    arrays = [np.asarray(values, dtype=np.float64) for values in points]
    for array, name in zip(arrays, ("left", "right"), strict=True):
        if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] != 2:
            raise SliceError(
                f"{name}_points has shape {array.shape}; give at least two spots, one row (x, y) "
                "each."
            )
    return arrays


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
    if mass.min() < 0 or not mass.sum() > 0:
        raise SliceError(f"{name} must not be negative, and not zero everywhere.")
    return mass


def joint_scale(left: NDArray, right: NDArray) -> float:
    """Root mean squared distance of a left row and a right row drawn at random; 1 if that is 0."""
    mean_square = left.var(axis=0) + right.var(axis=0) + (left.mean(0) - right.mean(0)) ** 2
    return float(np.sqrt(mean_square.sum())) or 1.0
