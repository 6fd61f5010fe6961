r"""Fused Gromov–Wasserstein: couplings and barycenters by distances within each slice.

Where the coordinates of two slices cannot be compared, because one is turned or bent, distances
within each slice still can. With distance matrices C and D within the slices, costs M between them,
and masses p and q, a coupling solves

.. math::

    \min_{T \ge 0} \; (1 - \alpha) \sum_{ij} M_{ij} T_{ij}
    + \alpha \sum_{ijkl} (C_{ik} - D_{jl})^2 \, T_{ij} T_{kl}
    \quad \text{with} \quad T 1 = p,\ T^\top 1 = q ,

so **α = 1 is structure only (pure Gromov–Wasserstein), α = 0 expression only (pure Wasserstein)**,
as in POT, which solves it (Vayer et al. 2019, arXiv:1805.09114; with partial mass: Chapel et al.
2020, arXiv:2002.08276). PASTE (Zeira et al. 2022, doi 10.1038/s41592-022-01459-6) aligns sections
in this way. C, D and M are scaled so that each of the two sums is 1 when spots are paired at
random: α has no unit. The problem is not convex: nearly symmetric tissue may come out turned or
mirrored. Memory grows with n², time faster.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ot
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ..arguments import checked
from ..slices.geometry import spot_side
from ..slices.slices import SliceError
from .transport import (
    Coupling,
    NotConvergedError,
    check_embeddings,
    check_masses,
    check_points,
    joint_scale,
    unmatched_mass,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@checked
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
    initial_plan: ArrayLike | sparse.spmatrix | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
) -> Coupling:
    """Couple two small slices by distances within each slice and by expression between them.

    The problem is at the top of this file. The slices need not be aligned.

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
        (n_left, n_right) plan with the masses given, where the search starts, such as that of
        :func:`sparse_coupling`. Default: the product of the masses.
    max_iterations, tolerance
        The iteration (conditional gradient) stops when the loss changes by less than ``tolerance``,
        relative to itself.

    Returns
    -------
    Coupling
        With ``support`` "dense"; ``cost`` is the value minimised, 1 for slices paired at random.

    Raises
    ------
    SliceError, ValueError
        Arrays that cannot be used, slices of more than ``max_spots``, or totals that differ.
    NotConvergedError
        The iteration or a linear programme inside it did not end.
    """
    begin = time.perf_counter()
    embeddings, masses = (left_embedding, right_embedding), (left_mass, right_mass)
    problem = _DenseProblem((left_points, right_points), embeddings, masses, alpha, max_spots)
    left, right, total = problem.left_mass, problem.right_mass, problem.total
    if not np.isclose(left.sum(), right.sum(), rtol=1e-6):
        raise ValueError(
            f"The left masses sum to {left.sum() * total:g} and the right ones to "
            f"{right.sum() * total:g}; give equal totals, or use "
            "partial_fused_gromov_wasserstein_coupling."
        )
    plan, log = _run_pot(
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
        numItermaxEmd=_SIMPLEX_ITERATIONS,
        log=True,
    )
    if len(log["loss"]) > max_iterations:
        raise NotConvergedError(
            f"The loss still changes after {max_iterations:,} iterations; raise max_iterations or "
            "tolerance."
        )
    return problem.coupling(plan, float(log["fgw_dist"]), begin)


@checked(matched_share=(1e-9, 1))
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
    initial_plan: ArrayLike | sparse.spmatrix | None = None,
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
        Cut or filled up to the mass that is to be matched. Strongly recommended: without it the
        result is often poor, even where a perfect match exists.
    """
    begin = time.perf_counter()
    embeddings, masses = (left_embedding, right_embedding), (left_mass, right_mass)
    problem = _DenseProblem((left_points, right_points), embeddings, masses, alpha, max_spots)
    left, right = problem.left_mass, problem.right_mass
    mass = matched_share * min(left.sum(), right.sum())
    # The mass is fixed, so a constant added to the costs changes the loss (by 1) but not the plan.
    # POT needs it: dummy spots get their price from the largest cost, which must not be 0, and a
    # loss of 0 would never meet the relative tolerance.
    features, *structures = problem.matrices
    weight = min(alpha, 1 - 1e-6)
    plan, log = _run_pot(
        ot.gromov.partial_fused_gromov_wasserstein,
        features + 1 / ((1 - weight) * mass),
        *structures,
        left,
        right,
        m=mass,
        symmetric=True,
        alpha=weight,
        G0=problem.start(initial_plan, mass),
        numItermax=_SIMPLEX_ITERATIONS,  # POT uses it for the linear programmes inside, too
        tol=tolerance,
        log=True,
    )
    return problem.coupling(plan, float(log["partial_fgw_dist"]) - 1, begin)


# -------------------------------------------------------------------------------------------------
# The slice in between by fused Gromov–Wasserstein barycenters, as published with GenOT.


class GromovBarycenter(NamedTuple):
    """A slice between two slices, as published with GenOT.

    Attributes
    ----------
    points, embedding
        (n, 2) coordinates of the spatial barycenter; (n, d), the row of the embedding barycenter
        that is matched to each.
    left_plan, right_plan
        (n, n_left) and (n, n_right) CSR, from the spatial barycenter to the slices; rows sum to
        1 / n. ``n * left_plan @ values`` averages any values of the left spots.
    seconds
        Time taken.
    """

    points: NDArray
    embedding: NDArray
    left_plan: sparse.csr_matrix
    right_plan: sparse.csr_matrix
    seconds: float


@checked(n_spots=(2, 10**9))
def fused_gromov_wasserstein_barycenter(
    left_points: ArrayLike,
    right_points: ArrayLike,
    left_embedding: ArrayLike,
    right_embedding: ArrayLike,
    t: float = 0.5,
    *,
    n_spots: int | None = None,
    alpha: float = 0.5,
    max_spots: int = 2000,
    max_iterations: int = 50,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> GromovBarycenter:
    r"""Generate a slice between two small slices, as published with GenOT.

    Two barycenters (Vayer et al., equation 5)

    .. math::

        \min_{Y, C} \; (1 - t) \, \mathrm{FGW}_\alpha\bigl((Y, C), (Y_0, C_0)\bigr)
        + t \, \mathrm{FGW}_\alpha\bigl((Y, C), (Y_1, C_1)\bigr) ,

    with C the distances between the rows of Y: once with coordinates for Y, once with embeddings.
    Point i of the first and row j of the second belong together if they send their mass to the same
    spots; with plans T (space) and S (embedding), the matching is the one-to-one assignment of
    least cost :math:`\sum_{s \in \{0, 1\}} \lVert T^{(s)}_{i \cdot} - S^{(s)}_{j \cdot} \rVert^2`.

    Parameters
    ----------
    left_points, right_points, left_embedding, right_embedding
        (n_left, 2) and (n_right, 2) in one frame; (n_left, d) and (n_right, d), computed together.
    t
        Position between left (0) and right (1).
    n_spots
        Spots of the new slice. Default: between the numbers of the two.
    alpha
        Weight of structure. The text beside the code published with GenOT names the two ends the
        other way round; the code is as here.
    max_spots, max_iterations, tolerance
        As in :func:`fused_gromov_wasserstein_coupling`.
    seed
        Draws the spots of both slices that the iteration starts from (published: normal noise).

    Returns
    -------
    GromovBarycenter

    Raises
    ------
    SliceError, ValueError, NotConvergedError
        As :func:`fused_gromov_wasserstein_coupling`.

    Notes
    -----
    On MERFISH sections, averaging the embeddings over the spatial plans agreed better with the
    section in between than the matched embedding barycenter did:
    ``n * ((1 - t) * left_plan @ left_embedding + t * right_plan @ right_embedding)``.
    """
    begin = time.perf_counter()
    points = check_points(left_points, right_points)
    sizes = [len(p) for p in points]
    embeddings = check_embeddings(left_embedding, right_embedding, *sizes)
    if embeddings is None:
        raise SliceError("The embeddings are missing; the barycenter needs both.")
    n_spots = round((1 - t) * sizes[0] + t * sizes[1]) if n_spots is None else int(n_spots)
    _check_size(max(*sizes, n_spots), max_spots)

    start = _draw(sizes, t, n_spots, np.random.default_rng(seed))
    settings = {"alpha": alpha, "max_iter": max_iterations, "tol": tolerance}
    place, spatial = _barycenter(points, t, start, **settings)
    profile, molecular = _barycenter(embeddings, t, start, **settings)
    costs = sum(ot.dist(a, b) for a, b in zip(spatial, molecular, strict=True))
    matched = linear_sum_assignment(costs)[1]
    plans = [sparse.csr_matrix(plan) for plan in spatial]
    return GromovBarycenter(place, profile[matched], *plans, time.perf_counter() - begin)


def _barycenter(
    values: tuple[NDArray, NDArray], t: float, start: tuple[NDArray, NDArray], **settings: Any
) -> tuple[NDArray, list[NDArray]]:
    """Compute a barycenter of rows and their distances; returns the rows, and a plan per slice."""
    unit = joint_scale(*values)
    scaled = [rows / unit for rows in values]
    structures = [cdist(rows, rows) for rows in scaled]
    scale = _structure_scale(*structures)
    first = np.vstack([rows[chosen] for rows, chosen in zip(scaled, start, strict=True)])
    rows, _, log = _run_pot(
        ot.gromov.fgw_barycenters,
        len(first),
        scaled,
        [structure / scale for structure in structures],
        lambdas=[1 - t, t],
        stop_criterion="loss",
        init_X=first,
        init_C=cdist(first, first) / scale,
        numItermaxEmd=_SIMPLEX_ITERATIONS,
        log=True,
        **settings,
    )
    if not log["err_rel_loss"][-1] <= settings["tol"]:
        raise NotConvergedError(
            f"The barycenter still changes after {settings['max_iter']} iterations; raise "
            "max_iterations or tolerance."
        )
    return rows * unit, log["T"]


def _draw(
    sizes: list[int], t: float, n_spots: int, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Draw the spots to start from, a share 1 − t of them from the left slice."""
    from_right = round(t * n_spots)
    return tuple(
        np.sort(rng.choice(size, n, replace=n > size))
        for size, n in zip(sizes, (n_spots - from_right, from_right), strict=True)
    )


# -------------------------------------------------------------------------------------------------
# Two small slices as the dense matrices that the Gromov–Wasserstein solvers of POT take.

_SIMPLEX_ITERATIONS = 10**7
"""Limit of each linear programme inside; POT's own is too low for some slices."""

_SECONDS_FOR_1000, _GROWTH = 15.0, 2.7  # measured, for the message that refuses


class _DenseProblem:
    """Two slices as matrices for POT. Masses are relative to the left total."""

    def __init__(
        self,
        points: tuple[ArrayLike, ArrayLike],
        embeddings: tuple[ArrayLike | None, ArrayLike | None],
        masses: tuple[ArrayLike | None, ArrayLike | None],
        alpha: float,
        max_spots: int,
    ):
        left, right = check_points(*points)
        sizes = len(left), len(right)
        checked = check_embeddings(*embeddings, *sizes)
        if checked is None and alpha < 1:
            raise ValueError(
                f"alpha is {alpha:g}, but no embedding is given. Give both embeddings, or alpha=1 "
                "for structure only."
            )
        _check_size(max(sizes), max_spots)
        left_mass, right_mass = check_masses(*masses, *sizes)
        self.total = float(left_mass.sum())
        self.left_mass, self.right_mass = left_mass / self.total, right_mass / self.total
        self.spacing = float(np.sqrt(spot_side(left) * spot_side(right)))
        features = np.zeros(sizes)
        if checked is not None and alpha < 1:
            features = cdist(*checked, "sqeuclidean") / joint_scale(*checked) ** 2
        structures = cdist(left, left), cdist(right, right)
        scale = _structure_scale(*structures)
        self.matrices = features, structures[0] / scale, structures[1] / scale

    def start(self, plan: ArrayLike | None, mass: float | None = None) -> NDArray | None:
        """Check the plan to start from; with ``mass``, make it hold that much."""
        if plan is None:
            return None
        plan = plan.toarray() if sparse.issparse(plan) else np.asarray(plan, dtype=np.float64)
        shape = (self.left_mass.size, self.right_mass.size)
        if plan.shape != shape or not np.isfinite(plan).all() or plan.min() < 0 or not plan.any():
            raise ValueError(f"initial_plan must be {shape}, finite, not negative and not empty.")
        plan = plan / self.total
        if mass is not None:
            return self._fitted(plan, mass)
        errors = self.left_mass - plan.sum(axis=1), self.right_mass - plan.sum(axis=0)
        if max(np.abs(error).max() for error in errors) > 1e-8:
            raise ValueError(
                "initial_plan does not have the masses given. A plan of sparse_coupling does with "
                "unmatched_cost=None, if nothing stays unmatched."
            )
        return plan

    def _fitted(self, plan: NDArray, mass: float) -> NDArray:
        """Cut a plan to the masses of the spots, and fill it up to ``mass`` evenly."""
        plan = plan * min(1.0, mass / plan.sum())
        plan *= np.minimum(1, self.left_mass / np.maximum(plan.sum(axis=1), 1e-300))[:, None]
        plan *= np.minimum(1, self.right_mass / np.maximum(plan.sum(axis=0), 1e-300))
        rows = np.maximum(self.left_mass - plan.sum(axis=1), 0)
        columns = np.maximum(self.right_mass - plan.sum(axis=0), 0)
        missing = max(mass - plan.sum(), 0.0) / max(rows.sum() * columns.sum(), 1e-300)
        plan += missing * rows[:, None] * columns
        return plan * (1 - 1e-12)  # POT refuses any excess, even rounding

    def coupling(self, plan: NDArray, cost: float, begin: float) -> Coupling:
        """Wrap a plan of POT."""
        plan = sparse.coo_matrix(np.where(plan > 1e-9 * plan.max(), plan, 0.0) * self.total)
        left, left_error = unmatched_mass(self.left_mass * self.total, plan.row, plan.data)
        right, right_error = unmatched_mass(self.right_mass * self.total, plan.col, plan.data)
        return Coupling(
            plan=plan.tocsr(),
            left_unmatched=left,
            right_unmatched=right,
            cost=cost,
            support="dense",
            n_neighbors=max(plan.shape),
            unmatched_cost=0.0,
            spacing=self.spacing,
            marginal_error=max(left_error, right_error),
            seconds=time.perf_counter() - begin,
        )


def _structure_scale(left: NDArray, right: NDArray) -> float:
    """Scale of two distance matrices: squared differences are 1 on average for random pairs."""
    return joint_scale(left.reshape(-1, 1), right.reshape(-1, 1))


def _run_pot(solver: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call POT, which only warns when a linear programme inside fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return solver(*args, **kwargs)
        except UserWarning as warning:
            raise NotConvergedError(f"A linear programme failed inside POT: {warning}") from warning


def _check_size(n_spots: int, max_spots: int) -> None:
    """Refuse slices that would take too long."""
    if n_spots > max_spots:
        minutes = _SECONDS_FOR_1000 * (n_spots / 1000) ** _GROWTH / 60
        gigabytes = 8 * 8 * n_spots**2 / 1e9
        raise SliceError(
            f"Fused Gromov–Wasserstein is for small slices: {n_spots:,} spots are more than "
            f"max_spots={max_spots:,} and would take about {minutes:,.0f} minutes and "
            f"{gigabytes:,.1f} GB. Use sparse_coupling, which needs slices in one frame, take "
            "fewer spots, or raise max_spots if you can wait."
        )
