r"""Fused Gromov–Wasserstein couplings: slices of which only the shape and expression compare.

Where the coordinates of two slices cannot be compared, because one is turned or bent, distances
within each slice still can. With distance matrices C and D within the slices, costs M between them,
and masses p and q, a coupling solves

.. math::

    \min_{T \ge 0} \; (1 - \alpha) \sum_{ij} M_{ij} T_{ij}
    + \alpha \sum_{ijkl} (C_{ik} - D_{jl})^2 \, T_{ij} T_{kl}
    \quad \text{with} \quad T 1 = p,\ T^\top 1 = q ,

so **α = 1 is structure only (pure Gromov–Wasserstein), α = 0 expression only (pure Wasserstein)**,
as in POT, which solves it (Vayer et al., ICML 2019, arXiv:1805.09114; with partial mass: Chapel et
al., NeurIPS 2020, arXiv:2002.08276). PASTE (Zeira et al., Nature Methods 2022, doi
10.1038/s41592-022-01459-6) aligns sections in this way; for the barycenters of
GenOT see :mod:`genot_helpers.transport.gromov_barycenter`.

C, D and M are scaled so that each of the two sums is 1 when spots are paired at random: α has no
unit, and .5 gives both the same say.

The problem is not convex. What is found is a local optimum near the start, and tissue that is
nearly symmetric may come out turned or mirrored (1,000 spots each of two MERFISH sections did, with
α = .5 and no start given). Memory grows with n², time faster. The default of
this package is :func:`genot_helpers.transport.sparse_coupling`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import ot

from .exact import NotConvergedError
from .gromov_barycenter import GromovBarycenter, fused_gromov_wasserstein_barycenter
from .gromov_problem import SIMPLEX_ITERATIONS, DenseProblem, run_pot

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .couplings import Coupling

__all__ = [
    "GromovBarycenter",
    "fused_gromov_wasserstein_barycenter",
    "fused_gromov_wasserstein_coupling",
    "partial_fused_gromov_wasserstein_coupling",
]


def fused_gromov_wasserstein_coupling(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike | None = None,
    right_embedding: ArrayLike | None = None,
    *,
    alpha: float = 0.5,
    max_spots: int = 2000,
    left_mass: ArrayLike | None = None,
    right_mass: ArrayLike | None = None,
    initial_plan: ArrayLike | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Coupling:
    """Couple two small slices by distances within each slice and by expression between them.

    The problem is at the top of this file. Neither slice need be turned or shifted to the other.

    Parameters
    ----------
    left_points, right_points
        (n_left, 2) and (n_right, 2) coordinates in one unit.
    left_embedding, right_embedding
        (n_left, d) and (n_right, d), computed together. Needed unless ``alpha`` is 1.
    alpha
        Weight of structure, 0 (expression only) to 1 (structure only).
    max_spots
        Larger slices are refused.
    left_mass, right_mass
        (n_left,) and (n_right,) non-negative, with the same total. Default: uniform, total 1.
    initial_plan
        (n_left, n_right) plan with the masses given, where the search starts; for example that of
        :func:`genot_helpers.transport.sparse_coupling`. Default: everything goes everywhere.
    max_iterations, tolerance
        The iteration (conditional gradient) stops when the loss changes by less than ``tolerance``,
        relative to itself.

    Returns
    -------
    Coupling
        With ``support`` "dense"; ``cost`` is the value minimised, 1 for slices paired at random.

    Raises
    ------
    SliceError
        Arrays that cannot be used (see :func:`genot_helpers.transport.sparse_coupling`), or slices
        of more than ``max_spots``.
    ValueError
        ``alpha`` is not in [0, 1], or totals differ.
    NotConvergedError
        The iteration or a linear programme inside it did not end.
    """
    begin = time.perf_counter()
    problem = DenseProblem(
        (left_points, right_points),
        (left_embedding, right_embedding),
        (left_mass, right_mass),
        alpha,
        max_spots,
    )
    left, right, total = problem.left_mass, problem.right_mass, problem.total
    if not np.isclose(left.sum(), right.sum(), rtol=1e-6):
        raise ValueError(
            f"The left masses sum to {left.sum() * total:g} and the right ones to "
            f"{right.sum() * total:g}; give equal totals, or use "
            "partial_fused_gromov_wasserstein_coupling."
        )
    plan, log = run_pot(
        ot.gromov.fused_gromov_wasserstein,
        *problem.matrices,
        left,
        right * (left.sum() / right.sum()),
        symmetric=True,
        alpha=alpha,
        G0=problem.start(initial_plan),
        max_iter=max_iterations,
        tol_rel=tolerance,
        tol_abs=1e-5 * tolerance,  # a loss of 0 never meets the relative one
        numItermaxEmd=SIMPLEX_ITERATIONS,
        log=True,
    )
    if len(log["loss"]) > max_iterations:
        raise NotConvergedError(
            f"The loss still changes after {max_iterations:,} iterations; raise max_iterations or "
            "tolerance."
        )
    return problem.coupling(plan, float(log["fgw_dist"]), begin)


def partial_fused_gromov_wasserstein_coupling(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike | None = None,
    right_embedding: ArrayLike | None = None,
    *,
    matched_share: float,
    alpha: float = 0.5,
    max_spots: int = 2000,
    left_mass: ArrayLike | None = None,
    right_mass: ArrayLike | None = None,
    initial_plan: ArrayLike | None = None,
    tolerance: float = 1e-7,
) -> Coupling:
    """Couple two small slices that overlap in part: only a share of the mass is matched.

    Parameters, result and errors are those of :func:`fused_gromov_wasserstein_coupling`, except:

    Parameters
    ----------
    matched_share
        Share of the mass of the lighter slice that finds a partner, above 0 up to 1.
    left_mass, right_mass
        Totals may differ.
    initial_plan
        Cut or filled up to the mass that is to be matched. Strongly recommended: from a cold start
        the result is often poor, even where a perfect match exists.
    """
    begin = time.perf_counter()
    if not 0 < matched_share <= 1:
        raise ValueError(f"matched_share is {matched_share}; give a share above 0, up to 1.")
    problem = DenseProblem(
        (left_points, right_points),
        (left_embedding, right_embedding),
        (left_mass, right_mass),
        alpha,
        max_spots,
    )
    left, right = problem.left_mass, problem.right_mass
    mass = matched_share * min(left.sum(), right.sum())
    # The mass is fixed, so a constant added to the costs changes the loss (by 1) but not the plan.
    # POT needs it: dummy spots get their price from the largest cost, which must not be 0, and a
    # loss of 0 would never meet the relative tolerance.
    features, *structures = problem.matrices
    weight = min(alpha, 1 - 1e-6)
    plan, log = run_pot(
        ot.gromov.partial_fused_gromov_wasserstein,
        features + 1 / ((1 - weight) * mass),
        *structures,
        left,
        right,
        m=mass,
        symmetric=True,
        alpha=weight,
        G0=problem.start(initial_plan, mass),
        numItermax=SIMPLEX_ITERATIONS,  # POT uses it for the linear programmes inside, too
        tol=tolerance,
        log=True,
    )
    return problem.coupling(plan, float(log["partial_fgw_dist"]) - 1, begin)
