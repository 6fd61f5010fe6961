r"""Partial transport with entropy: blurred, but products of matrices only, so it runs on a GPU.

The scaling algorithm on candidate pairs only: :math:`P_{ij} = r_{ij} \exp((f_i + g_j - c_{ij}) /
\varepsilon)`, where the potentials f and g are set in turn so that rows and columns have their
masses. No potential may exceed half the price of unmatched mass; a spot at this limit keeps mass
for itself (total variation in Chizat et al. 2018, doi 10.1090/mcom/3303). As in Schmitzer 2019, doi
10.1137/16M1106018, the kernel is sparse, large factors are absorbed into the potentials, and ε
falls in steps from the largest cost. Half-steps are overrelaxed (Thibault et al. 2021, doi
10.3390/a14050143).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from ..arguments import checked, choose_device
from ..encoder.encoder import sparse_operator
from .transport import PRICES, Coupling, NotConvergedError, as_coupling, neighbour_support

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .transport import Support

_CHECK_EVERY = 20
_STEPS_ON_THE_WAY = 500
_LARGE = 1e50
_TINY = 1e-200
_RELAXATION = 1.8


@checked(epsilon=(1e-12, 1e12), **PRICES)
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
    left_points, right_points, left_embedding, right_embedding, embedding_weight, n_neighbors
        As in :func:`sparse_coupling`.
    unmatched_cost, left_mass, right_mass
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
    support = neighbour_support(
        left_points, right_points, left_embedding, right_embedding,
        embedding_weight=embedding_weight, n_neighbors=n_neighbors, unmatched_cost=unmatched_cost,
        left_mass=left_mass, right_mass=right_mass,
    )  # fmt: skip
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
    return as_coupling(support, solver.plan(epsilon), "entropic", n_neighbors, begin, error)


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
