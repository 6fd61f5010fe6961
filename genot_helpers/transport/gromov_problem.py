"""Two small slices as the dense matrices that Gromov–Wasserstein solvers of POT take.

What couplings (:mod:`genot_helpers.transport.gromov`) and barycenters share: checks, scales, and
the call.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

from ..slices.slices import SliceError
from ..slices.spacing import spot_side
from .coupling_input import check_embeddings, check_masses, check_points, joint_scale
from .couplings import Coupling, unmatched_mass
from .exact import NotConvergedError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "SIMPLEX_ITERATIONS",
    "DenseProblem",
    "check_alpha",
    "check_size",
    "run_pot",
    "structure_scale",
]

SIMPLEX_ITERATIONS = 10**7
"""Limit of each linear programme inside; POT's own is too low for some slices."""

_SECONDS_FOR_1000, _GROWTH = 15.0, 2.7  # measured, for the message that refuses


class DenseProblem:
    """Two slices as matrices for POT. Masses are relative to the left total."""

    def __init__(
        self,
        points: tuple[ArrayLike, ArrayLike],
        embeddings: tuple[ArrayLike | None, ArrayLike | None],
        masses: tuple[ArrayLike | None, ArrayLike | None],
        alpha: float,
        max_spots: int,
    ):
        left, right = (
            check_points(points[0], "left_points"),
            check_points(points[1], "right_points"),
        )
        sizes = len(left), len(right)
        checked = check_embeddings(*embeddings, *sizes)
        check_alpha(alpha)
        if checked is None and alpha < 1:
            raise ValueError(
                f"alpha is {alpha:g}, but no embedding is given. Give both embeddings, or alpha=1 "
                "for structure only."
            )
        check_size(max(sizes), max_spots)
        left_mass, right_mass = check_masses(*masses, *sizes)
        self.total = float(left_mass.sum())
        self.left_mass, self.right_mass = left_mass / self.total, right_mass / self.total
        self.spacing = float(np.sqrt(spot_side(left) * spot_side(right)))
        features = np.zeros(sizes)
        if checked is not None and alpha < 1:
            features = cdist(*checked, "sqeuclidean") / joint_scale(*checked) ** 2
        structures = cdist(left, left), cdist(right, right)
        scale = structure_scale(*structures)
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
        return plan * (1 - 1e-12)  # POT takes no excess at all, not even rounding

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


def structure_scale(left: NDArray, right: NDArray) -> float:
    """Scale of two distance matrices: squared differences are 1 on average for random pairs."""
    return joint_scale(left.reshape(-1, 1), right.reshape(-1, 1))


def run_pot(solver: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call POT, which only warns when a linear programme inside fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return solver(*args, **kwargs)
        except UserWarning as warning:
            raise NotConvergedError(f"A linear programme failed inside POT: {warning}") from warning


def check_alpha(alpha: float) -> None:
    """Refuse what is no weight."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; give 0 (expression only) to 1 (structure only).")


def check_size(n_spots: int, max_spots: int) -> None:
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
