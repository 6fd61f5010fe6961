"""The slice in between by fused Gromov–Wasserstein barycenters, as published with GenOT.

For comparison with what this package does by default; for slices of at most 2,000 spots. See
:mod:`genot_helpers.transport.gromov` for the problem solved and its trade-off α.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ot
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ..slices.slices import SliceError
from .coupling_input import check_embeddings, check_points, joint_scale
from .exact import NotConvergedError
from .gromov_problem import SIMPLEX_ITERATIONS, check_alpha, check_size, run_pot, structure_scale

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["GromovBarycenter", "fused_gromov_wasserstein_barycenter"]


class GromovBarycenter(NamedTuple):
    """A slice between two slices, as published with GenOT.

    Attributes
    ----------
    points
        (n, 2) coordinates of the spatial barycenter.
    embedding
        (n, d) the embedding barycenter, one row matched to each point.
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
    r"""Put a slice between two small slices, as published with GenOT.

    Twice a barycenter (Vayer et al., equation 5)

    .. math::

        \min_{Y, C} \; (1 - t) \, \mathrm{FGW}_\alpha\bigl((Y, C), (Y_0, C_0)\bigr)
        + t \, \mathrm{FGW}_\alpha\bigl((Y, C), (Y_1, C_1)\bigr) ,

    with C the distances between the rows of Y: once with coordinates for Y, once with embeddings.
    Point i of the first and row j of the second belong together if they send their mass to the same
    spots; with plans T (space) and S (embedding), the matching is the one-to-one assignment of
    least cost

    .. math:: \sum_{s \in \{0, 1\}} \lVert T^{(s)}_{i \cdot} - S^{(s)}_{j \cdot} \rVert^2 .

    Parameters
    ----------
    left_points, right_points
        (n_left, 2) and (n_right, 2) coordinates in one frame.
    left_embedding, right_embedding
        (n_left, d) and (n_right, d), computed together.
    t
        Position between left (0) and right (1).
    n_spots
        Spots of the new slice. Default: between the numbers of the two.
    alpha
        Weight of structure. The text beside the code published with GenOT names the two ends the
        other way round; the code is as here.
    max_spots
        Larger slices are refused.
    max_iterations, tolerance
        The iteration stops when the loss changes by less than ``tolerance``, relative to itself.
    seed
        Draws the spots of both slices that the iteration starts from (published: normal noise).

    Returns
    -------
    GromovBarycenter

    Raises
    ------
    SliceError, ValueError, NotConvergedError
        As :func:`fused_gromov_wasserstein_coupling`; ``t`` outside [0, 1].

    Notes
    -----
    On MERFISH sections, averaging the embeddings over the spatial plans agreed better with the
    section in between than the matched embedding barycenter did:
    ``n * ((1 - t) * left_plan @ left_embedding + t * right_plan @ right_embedding)``.
    """
    begin = time.perf_counter()
    if not 0 <= t <= 1:
        raise ValueError(f"t is {t}; give a position from 0 (left) to 1 (right).")
    points = check_points(left_points, "left_points"), check_points(right_points, "right_points")
    sizes = [len(p) for p in points]
    embeddings = check_embeddings(left_embedding, right_embedding, *sizes)
    if embeddings is None:
        raise SliceError("The embeddings are missing; the barycenter needs both.")
    check_alpha(alpha)
    n_spots = round((1 - t) * sizes[0] + t * sizes[1]) if n_spots is None else int(n_spots)
    if n_spots < 2:
        raise ValueError(f"n_spots is {n_spots}; give 2 or more.")
    check_size(max(*sizes, n_spots), max_spots)

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
    scale = structure_scale(*structures)
    first = np.vstack([rows[chosen] for rows, chosen in zip(scaled, start, strict=True)])
    rows, _, log = run_pot(
        ot.gromov.fgw_barycenters,
        len(first),
        scaled,
        [structure / scale for structure in structures],
        lambdas=[1 - t, t],
        stop_criterion="loss",
        init_X=first,
        init_C=cdist(first, first) / scale,
        numItermaxEmd=SIMPLEX_ITERATIONS,
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
    """Draw the spots to start from, 1 − t of them from the left slice."""
    from_right = round(t * n_spots)
    return tuple(
        np.sort(rng.choice(size, n, replace=n > size))
        for size, n in zip(sizes, (n_spots - from_right, from_right), strict=True)
    )
