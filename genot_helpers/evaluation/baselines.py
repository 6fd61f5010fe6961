"""What a generated slice has to beat, and what nobody can beat, as slices.

Without any method one can take the left or the right slice as it is, a random mixture of both, or
the mean of the nearest spots of both. A fresh sample of the very tissue, the best that any method
could hope for, is a random half of the held-out slice, scored against its other half. A generated
slice means nothing without these beside it: neighbouring sections are often so alike that a copy
scores well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from ..pairs.comparable import comparable_places
from ..slices.slices import SliceError
from .slice_measures import averaging

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = [
    "baseline_slices",
    "halves",
    "largest_union",
    "nearest_expression",
    "subset",
    "subset_of",
]


def baseline_slices(
    left: AnnData,
    right: AnnData,
    held_out: AnnData,
    *,
    t: float = 0.5,
    label_key: str = "domain_truth",
    spatial_key: str = "spatial",
    n_neighbors: int = 5,
    n_spots: int | None = None,
    seed: int = 0,
) -> dict[str, AnnData]:
    """Make the slices that a generated slice is compared with.

    Parameters
    ----------
    left, right, held_out
        Three slices in one coordinate frame. They are not changed.
    t
        Position of the held-out slice between left (0) and right (1).
    label_key
        Column of ``obs`` with the annotation; may be missing.
    spatial_key
        Slot of ``obsm`` with the coordinates.
    n_neighbors
        Spots of each slice in the mean of neighbours.
    n_spots
        Spots of each baseline, or as many as there are. If not given, copies are whole and the
        union has (1 - t) of the left plus t of the right slice's number.
    seed
        Of all random draws. The same seed gives the same slices.

    Returns
    -------
    Dictionary of new slices, each with the annotation in ``obs["genot_domain"]``:

    - ``copy_left``, ``copy_right``: the neighbours as they are,
    - ``union``: spots drawn from both, a share of 1 - t from the left; which one is in
      ``obs["genot_source"]``,
    - ``neighbour_mean``: the places of the union; ``X`` and ``layers["mean"]`` are (1 - t) times
      the mean over the nearest left spots plus t times that over the nearest right ones. No counts
      any more: score it with ``layer="mean"``,
    - ``ceiling``: half of the held-out slice. Score it against the other half
      (:func:`genot_helpers.evaluation.generated_scores.score_table` does), never against the whole.

    Raises
    ------
    SliceError
        If left and right share no gene, or coordinates are missing.
    ValueError
        If ``t`` is outside [0, 1].
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t is {t}; it lies between 0 (left) and 1 (right).")
    for name, adata in (("left", left), ("right", right), ("held-out", held_out)):
        if spatial_key not in adata.obsm:
            raise SliceError(f"the {name} slice has no obsm[{spatial_key!r}] with coordinates.")
    genes = left.var_names[left.var_names.isin(right.var_names)]
    if not len(genes):
        raise SliceError("the left and the right slice have no gene in common.")
    union = _union(left[:, genes], right[:, genes], t, spatial_key, n_spots, seed)
    slices = {
        "copy_left": left[subset(left.n_obs, n_spots, seed)].copy(),
        "copy_right": right[subset(right.n_obs, n_spots, seed + 1)].copy(),
        "union": union,
        "neighbour_mean": union.copy(),
        "ceiling": held_out[subset_of(halves(held_out.n_obs, seed)[1], n_spots)].copy(),
    }
    mean = sum(
        share * (averaging(s.obsm[spatial_key], union.obsm[spatial_key], n_neighbors) @ s.X)
        for s, share in ((left[:, genes], 1 - t), (right[:, genes], t))
    )
    if not sparse.issparse(mean):  # a sparse plus a dense one would be a numpy.matrix
        mean = np.asarray(mean)
    slices["neighbour_mean"].X = mean.astype(np.float32)
    slices["neighbour_mean"].layers["mean"] = slices["neighbour_mean"].X
    for adata in slices.values():
        if label_key in adata.obs:
            adata.obs["genot_domain"] = pd.Categorical(adata.obs[label_key])
    return slices


def nearest_expression(
    source: AnnData, target: AnnData, *, n_neighbors: int = 1, spatial_key: str = "spatial"
) -> AnnData:
    """Carry expression without transport: each target spot gets its nearest source spots.

    The trivial baseline of :func:`genot_helpers.interpolation.carry_expression`.

    Parameters
    ----------
    source, target
        Slices in one frame and unit. Neither is changed.
    n_neighbors
        Source spots to average; 1 copies the nearest one, counts and all.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        As from ``carry_expression``; every spot is covered.

    Raises
    ------
    SliceError
        If coordinates are missing or the slices do not overlap.
    ValueError
        If ``n_neighbors`` is below 1.
    """
    if n_neighbors < 1:
        raise ValueError(f"n_neighbors is {n_neighbors}; give 1 or more.")
    at, points = comparable_places(target, source, ("target", "source"), spatial_key=spatial_key)
    values = averaging(points, at, n_neighbors) @ sparse.csr_matrix(source.X)
    carried = ad.AnnData(
        sparse.csr_matrix(values, dtype=np.float32), obs=target.obs.copy(), var=source.var.copy()
    )
    carried.obsm["spatial"] = at
    carried.obs["genot_covered"] = True
    carried.uns["genot"] = {
        "source": "Expression of the nearest spots of another slice.",
        "n_neighbors": int(n_neighbors),
    }
    return carried


def halves(n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Split the numbers below n into two random halves of equal size, each sorted."""
    order = np.random.default_rng([seed, 1]).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 : 2 * (n // 2)])


def subset(n: int, n_spots: int | None, seed: int) -> NDArray:
    """Draw ``n_spots`` of the numbers below n, sorted; all of them if there are not more."""
    if n_spots is None or n_spots >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:n_spots])


def subset_of(numbers: NDArray, n_spots: int | None) -> NDArray:
    """Draw ``n_spots`` of the given numbers, sorted; all of them if there are not more."""
    return numbers[subset(len(numbers), n_spots, 0)]


def largest_union(n_left: int, n_right: int, t: float) -> int:
    """Spots that a union can have with a share of t from the right and no spot used twice."""
    return int(min(n_left / (1 - t) if t < 1 else np.inf, n_right / t if t > 0 else np.inf))


def _union(
    left: AnnData, right: AnnData, t: float, spatial_key: str, n_spots: int | None, seed: int
) -> AnnData:
    """Draw spots of both slices."""
    n_all = largest_union(left.n_obs, right.n_obs, t)
    wanted = round((1 - t) * left.n_obs + t * right.n_obs) if n_spots is None else n_spots
    n = min(wanted, n_all)
    n_right = min(round(t * n), right.n_obs)
    n_left = min(n - n_right, left.n_obs)
    parts = {}
    for name, adata, size, offset in (("left", left, n_left, 2), ("right", right, n_right, 3)):
        chosen = adata[subset(adata.n_obs, size, seed + offset)]
        # A clean slice: what else the two carry may not fit together.
        parts[name] = ad.AnnData(
            chosen.X, obs=chosen.obs, var=chosen.var[[]], obsm={"spatial": chosen.obsm[spatial_key]}
        )
    union = ad.concat(parts, label="genot_source", index_unique="-")
    if spatial_key != "spatial":
        union.obsm[spatial_key] = union.obsm.pop("spatial")
    return union
