r"""Solvers of partial transport: the linear programme, at once or in tiles, and with entropy.

With masses a and b, costs c of the candidate pairs and the price p of leaving a unit of mass
unmatched in both slices,

.. math::

    \min_{P \ge 0} \sum_{ij} c_{ij} P_{ij}
    + \frac{p}{2} \sum_i \Bigl(a_i - \sum_j P_{ij}\Bigr)
    + \frac{p}{2} \sum_j \Bigl(b_j - \sum_i P_{ij}\Bigr)
    \quad \text{with} \quad \sum_j P_{ij} \le a_i,\ \sum_i P_{ij} \le b_j .

This is the partial optimal transport of Caffarelli and McCann, Annals of Mathematics 2010, doi
10.4007/annals.2010.171.673. One more row and column that take the unmatched mass (slack) make it
an ordinary transport problem, which always has a solution. It is solved by the network simplex of
POT (Bonneel et al., ACM Transactions on Graphics 2011, doi 10.1145/2070781.2024192; Flamary et
al., JMLR 2021). The time of the simplex grows with the square of the number of spots, so large
slices are cut into tiles: a coarse problem between groups of spots says how much mass each tile may
take from where, tiles are solved one after the other, and then once more with tiles shifted by half
their size, which repairs the seams (Benamou's domain decomposition, after a coarse start; Bonafini
and Schmitzer, Numerische Mathematik 2021, doi 10.1007/s00211-021-01245-0).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import ot
import torch
from scipy import sparse
from tqdm.auto import tqdm

from ..arguments import choose_device
from ..encoder.encoder import sparse_operator
from .support import nearest_pairs, pair_costs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .support import Support

__all__ = [
    "NotConvergedError",
    "solve_exactly",
    "solve_in_tiles",
    "solve_with_entropy",
]

# Mass is counted in whole quanta. Sums of whole numbers below 2**53 are exact in float64, while
# the rounding of fractions makes the simplex report feasible problems as infeasible.
_QUANTA = 2.0**50
_SPOTS_PER_CELL = 2
_MAX_CELLS = 32_768
_CELL_NEIGHBORS = 20


class NotConvergedError(RuntimeError):
    """A solver stopped without a usable result; the message says what to do."""


def solve_exactly(support: Support) -> NDArray:
    """Solve the problem at once. Returns the mass moved by each pair of ``support.costs``."""
    left, right, unit = _to_quanta(support.left_mass, support.right_mass)
    return _solve(support.costs, left, right, support.unmatched_cost) * unit


def solve_in_tiles(support: Support, tile_spots: int) -> NDArray:
    """Solve tiles of about ``tile_spots`` left spots in turn, twice; see the top of this file."""
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
    rows, columns = nearest_pairs(means[0][:, :2], means[1][:, :2], _CELL_NEIGHBORS)
    shape = (quanta[0].size, quanta[1].size)
    costs = sparse.csr_matrix((pair_costs(*means, rows, columns), (rows, columns)), shape=shape)
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
# Partial transport with entropy, by the scaling algorithm on candidate pairs only: :math:`P_{ij} =
# r_{ij} \exp((f_i + g_j - c_{ij}) / \varepsilon)`, where the potentials f and g are set in turn so
# that rows and columns have their masses. No potential may exceed half the price of unmatched mass;
# a spot at this limit keeps mass for itself (total variation in Chizat et al., Mathematics of
# Computation 2018, doi 10.1090/mcom/3303). As in Schmitzer, SIAM Journal on Scientific Computing
# 2019, doi 10.1137/16M1106018, the kernel is sparse, large factors are absorbed into the
# potentials, and ε falls in steps from the largest cost. Half-steps are overrelaxed (Thibault et
# al., Algorithms 2021, doi 10.3390/a14050143).

_CHECK_EVERY = 20
_STEPS_ON_THE_WAY = 500
_LARGE = 1e50
_TINY = 1e-200
_RELAXATION = 1.8


def solve_with_entropy(
    support: Support, epsilon: float, *, max_iterations: int, tolerance: float, device: str
) -> tuple[NDArray, float]:
    """Return the mass moved by each candidate pair, and the share of mass in the wrong place."""
    solver = _Scaling(support, device)
    stage = max(float(support.costs.data.max()), epsilon)
    while stage > epsilon:
        solver.run(stage, _STEPS_ON_THE_WAY, max(tolerance, 1e-3))
        stage /= 2
    error = solver.run(epsilon, max_iterations, tolerance)
    if not error <= tolerance:
        raise NotConvergedError(
            f"After {max_iterations:,} iterations {error:.1e} of the mass is in the wrong place "
            f"(tolerance {tolerance:.1e}). Raise epsilon (now {epsilon:g} squared spot spacings) "
            "or max_iterations, or lower unmatched_cost; sparse_coupling solves the problem "
            "without entropy."
        )
    return solver.plan(epsilon), error


class _Scaling:
    """The potentials of a problem, and the steps that improve them."""

    def __init__(self, support: Support, device: str):
        self.costs = costs = support.costs
        self.device = choose_device(device)
        self.rows = np.repeat(np.arange(costs.shape[0]), np.diff(costs.indptr))
        self.unit = support.left_mass.sum() / support.left_mass.size
        self.left, self.right = support.left_mass / self.unit, support.right_mass / self.unit
        candidates = 2 * costs.nnz / sum(costs.shape)
        self.reference = np.sqrt(self.left[self.rows] * self.right[costs.indices]) / candidates
        self.limit = support.unmatched_cost / 2
        self.potentials = np.zeros(costs.shape[0]), np.zeros(costs.shape[1])

    def run(self, epsilon: float, max_steps: int, tolerance: float) -> float:
        """Iterate until rows and columns fit; return the share of mass in the wrong place."""
        error, done = np.inf, 0
        while done < max_steps and not error <= tolerance:
            steps, error = self._run_until_absorbed(epsilon, max_steps - done, tolerance)
            done += steps
        return error

    def plan(self, epsilon: float) -> NDArray:
        """Return the mass of each pair, cut so that no row or column exceeds what it has."""
        flow, columns = self._kernel(epsilon), self.costs.indices
        for spots, mass in ((self.rows, self.left), (columns, self.right)):
            sums = np.bincount(spots, flow, mass.size)
            flow = flow * np.minimum(1.0, mass / np.maximum(sums, _TINY))[spots]
        return flow * self.unit

    def _kernel(self, epsilon: float) -> NDArray:
        """Return the plan that the potentials stand for, pair by pair."""
        f, g = self.potentials
        exponent = (f[self.rows] + g[self.costs.indices] - self.costs.data) / epsilon
        return self.reference * np.exp(exponent)

    def _run_until_absorbed(
        self, epsilon: float, max_steps: int, tolerance: float
    ) -> tuple[int, float]:
        """Iterate with one kernel until done or until the factors grow too large for it."""
        layout = (self.costs.indices, self.costs.indptr)
        matrix = sparse.csr_matrix((self._kernel(epsilon), *layout), shape=self.costs.shape)
        kernel = sparse_operator(matrix, device=self.device, dtype=torch.float64)
        masses = [torch.from_numpy(mass).to(self.device) for mass in (self.left, self.right)]
        most = [  # factors that bring the potentials to their limit; exp(700) is nearly the largest
            torch.from_numpy(np.exp(np.minimum((self.limit - p) / epsilon, 700))).to(self.device)
            for p in self.potentials
        ]
        u, v = (torch.ones_like(mass) for mass in masses)
        for step in range(1, max_steps + 1):
            check = step % _CHECK_EVERY == 0 or step == max_steps
            power = 1.0 if check or step == 1 else _RELAXATION
            u = _half_step(u, masses[0], kernel.matrix @ v, most[0], power)
            v = _half_step(v, masses[1], kernel.transposed @ u, most[1], power)
            if check:  # columns fit now; measure how far rows are from their masses
                sums = kernel.matrix @ v
                wanted = _half_step(u, masses[0], sums, most[0], 1.0)
                error = float(((u - wanted).abs() * sums).sum() / masses[0].sum())
                if error <= tolerance or max(float(u.max()), float(v.max())) > _LARGE:
                    break
        with np.errstate(divide="ignore"):  # spots without mass: minus infinity
            self.potentials = tuple(
                potential + epsilon * np.log(factor.cpu().numpy())
                for potential, factor in zip(self.potentials, (u, v), strict=True)
            )
        return step, error


def _half_step(
    factor: torch.Tensor, mass: torch.Tensor, sums: torch.Tensor, most: torch.Tensor, power: float
) -> torch.Tensor:
    """Move the factors of one side to those that give its masses; beyond, with a power over 1."""
    wanted = mass / sums.clamp_min(_TINY)
    if power != 1.0:
        wanted = factor ** (1 - power) * wanted**power
    return torch.minimum(wanted, most)
