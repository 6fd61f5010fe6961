"""Expression of one technology, carried onto the places of another.

In one frame, an optimal transport coupling P says which source spots j a target spot i corresponds
to (:func:`carry_expression`; barycentric projection: Ferradans et al., doi 10.1137/130929886)::

    carried_i  =  sum_j P_ji x_j / sum_j P_ji

A mean has fewer zeros than the measurement; a threshold for each gene restores their share.
:func:`carry_by_expression` uses expression alone (as SpaGE: Abdelaal et al. 2020, doi
10.1093/nar/gkaa740): no common frame, but it cannot tell apart two places of one cell type. What
can be transferred is the pattern of a gene at the resolution of the coarser slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from ..arguments import checked
from ..comparable import check_pair, shared_space
from ..slices.geometry import positions_of
from ..slices.sections import by_pair
from ..slices.slices import SliceError, as_labels
from ..slices.values import plain_matrix
from ..transport.entropic import entropic_coupling
from ..transport.transport import sparse_coupling


@by_pair
@checked
def carry_expression(
    source: AnnData,
    target: AnnData,
    *,
    embedding_weight: float = 0.0,
    n_neighbors: int = 40,
    epsilon: float | None = None,
    threshold: bool = False,
    label_key: str | None = None,
    spatial_key: str = "spatial",
) -> AnnData:
    """Carry the expression of a slice onto the spots of another one.

    Parameters
    ----------
    source
        Slice whose ``X`` is carried; all its genes are.
    target
        Slice whose spots are filled, in the same frame and unit. At least one gene must be shared;
        shared genes are carried too, so that they can be compared with what the target measured.
    embedding_weight
        How much expression of the shared genes counts beside the place, see
        :func:`genot_helpers.transport.sparse_coupling`; 0: by place alone.
    n_neighbors
        Candidate partners of a spot.
    epsilon
        None: the exact coupling, in which a spot has few partners: with more target than source
        spots often a single one, noise and all. A number: the entropic coupling of that strength,
        in squared spot spacings (:func:`genot_helpers.transport.entropic_coupling`): the mean of
        partners within about √ε spacings.
    threshold
        Set the smallest carried values of each gene to 0, until it has the share of zeros that it
        has in the source.
    label_key
        Column of the source's ``obs`` with labels to carry along.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        Spots, ``obs`` and coordinates of the target; genes of the source. ``X`` (csr, float32) in
        the unit of the source; ``obs["genot_covered"]`` (bool) is False where no mass arrived: such
        a spot has no expression. ``uns["genot"]`` says how it was made. Neither slice is changed.
        With ``label_key`` also ``obsm["genot_shares"]``, a table with the share of the arriving
        mass that has each label; ``obs["genot_domain"]``, the largest (NaN where no labelled mass
        arrived), and ``obs["genot_confidence"]``, its share.

    Raises
    ------
    SliceError
        If a slice is unsound, no gene is shared, one holds logarithms and the other does not, or
        the slices do not touch; or the source has no labels in ``label_key``.
    """
    check_pair(source, target, spatial_key=spatial_key, one_matrix=False)
    _check_labels(source, label_key)
    embeddings: tuple = (None, None)
    if embedding_weight:
        space = shared_space(source, target)
        embeddings = space.left, space.right
    points = [positions_of(a, spatial_key) for a in (source, target)]
    options: dict[str, Any] = {"embedding_weight": embedding_weight, "n_neighbors": n_neighbors}
    if epsilon is None:
        coupling = sparse_coupling(*points, *embeddings, **options)
    else:
        coupling = entropic_coupling(*points, *embeddings, epsilon=epsilon, **options)
    arrived = np.asarray(coupling.plan.sum(axis=0)).ravel()
    if not (arrived > 0).any():
        raise SliceError("No spot of the target has a partner in the source. Align them first.")
    share = np.where(arrived > 0, 1.0 / np.maximum(arrived, 1e-300), 0.0)
    facts = {
        "source": "Expression of another slice, carried onto these places by optimal transport.",
        "embedding_weight": float(embedding_weight),
        "threshold": threshold,
        "unmatched_fraction": coupling.unmatched_fraction,
    }
    if epsilon is not None:
        facts["epsilon"] = float(epsilon)
    weights = sparse.csr_matrix(sparse.diags(share) @ coupling.plan.T)
    return _carried(weights, source, target, points[1], facts, label_key)


@by_pair
@checked(n_neighbors=(1, 10**7))
def carry_by_expression(
    source: AnnData,
    target: AnnData,
    *,
    n_neighbors: int = 50,
    n_components: int = 30,
    label_key: str | None = None,
    spatial_key: str = "spatial",
) -> AnnData:
    """Carry expression from the source spots that look alike, wherever they lie.

    Parameters
    ----------
    source, target, label_key, spatial_key
        As in :func:`carry_expression`, but in any frame; a label's share is that of the neighbours.
    n_neighbors
        Source spots nearest in expression, whose mean each target spot gets; all if there are
        fewer.
    n_components
        Leading joint components of the shared genes to look at
        (:func:`genot_helpers.comparable.shared_space`).

    Returns
    -------
    AnnData
        As from :func:`carry_expression`; every spot is covered.

    Raises
    ------
    SliceError, ValueError
        As :func:`carry_expression`; if ``n_neighbors`` or ``n_components`` is below 1.
    """
    check_pair(source, target, spatial_key=spatial_key, one_matrix=False)
    _check_labels(source, label_key)
    space = shared_space(source, target, n_components=n_components)
    k = min(n_neighbors, source.n_obs)
    near = cKDTree(space.left).query(space.right, k=k)[1].reshape(-1)
    rows = np.repeat(np.arange(target.n_obs), k)
    shape = (target.n_obs, source.n_obs)
    weights = sparse.csr_matrix((np.full(len(rows), 1.0 / k), (rows, near)), shape=shape)
    facts = {
        "source": "Expression of the spots of another slice that look most alike.",
        "n_neighbors": k,
        "n_components": space.left.shape[1],
    }
    points = positions_of(target, spatial_key)
    return _carried(weights, source, target, points, facts, label_key)


@by_pair
@checked
def carry_by_label(
    source: AnnData,
    target: AnnData,
    *,
    label_key: str = "genot_domain",
    spatial_key: str = "spatial",
) -> AnnData:
    """Give each target spot the mean of the source spots that have its label: a trivial way.

    It knows domains and nothing else, so it is the baseline of every way that claims to know more.

    Parameters
    ----------
    source, target
        Slices in any frame with labels of one vocabulary in ``obs[label_key]``, such as domains
        that were found in both together. Neither is changed.
    label_key, spatial_key
        That column, and the slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        As from :func:`carry_expression`. A spot without a label, or with one that no source spot
        has, is not covered.

    Raises
    ------
    SliceError
        If a slice is unsound, no gene is shared, or a slice has no labels in that column.
    """
    check_pair(source, target, spatial_key=spatial_key, one_matrix=False)
    for adata in (source, target):
        _check_labels(adata, label_key)
    labels = as_labels(source.obs[label_key])
    given = labels.cat.codes.to_numpy()
    wanted = labels.cat.categories.get_indexer(target.obs[label_key].astype(object))
    counts = np.bincount(given[given >= 0], minlength=len(labels.cat.categories))
    from_spots, to_spots = np.flatnonzero(given >= 0), np.flatnonzero(wanted >= 0)
    shares = 1.0 / counts[given[from_spots]]
    means = sparse.csr_matrix(
        (shares, (given[from_spots], from_spots)), (len(counts), source.n_obs)
    ) @ sparse.csr_matrix(source.X)
    spread = sparse.csr_matrix(
        (np.ones(len(to_spots)), (to_spots, wanted[to_spots])), (target.n_obs, len(counts))
    )
    values = sparse.csr_matrix(spread @ means, dtype=np.float32)
    facts = {
        "source": "Mean expression of the spots of another slice with the same label.",
        "label_key": label_key,
    }
    points = positions_of(target, spatial_key)
    return _slice_of(values, source, target, points, wanted >= 0, facts)


def _check_labels(source: AnnData, label_key: str | None) -> None:
    """Refuse a column without labels before any work."""
    if label_key is not None and label_key not in source.obs:
        raise SliceError(f"obs[{label_key!r}] is missing. Found: {list(source.obs)}.")
    if label_key is not None and source.obs[label_key].isna().all():
        raise SliceError(f"obs[{label_key!r}] names no spot.")


def _carried(
    weights: sparse.csr_matrix,
    source: AnnData,
    target: AnnData,
    points: NDArray,
    facts: dict[str, Any],
    label_key: str | None,
) -> AnnData:
    """Make the carried slice from weights (target spots, source spots); rows sum to 1 or 0."""
    covered = np.diff(weights.indptr) > 0
    values = sparse.csr_matrix(
        weights @ sparse.csr_matrix(plain_matrix(source.X)), dtype=np.float32
    )
    if facts.get("threshold"):
        values = _with_zeros_of(values, sparse.csc_matrix(plain_matrix(source.X)), covered)
    carried = _slice_of(values, source, target, points, covered, facts)
    if label_key is not None:
        labels = as_labels(source.obs[label_key]).cat
        votes = labels.codes.to_numpy()[:, None] == np.arange(len(labels.categories))
        shares = weights @ votes.astype(np.float64)
        total = shares.sum(axis=1, keepdims=True)
        shares = shares / np.where(total > 0, total, 1.0)
        best = np.where(total[:, 0] > 0, shares.argmax(axis=1), -1)
        carried.obs["genot_domain"] = pd.Categorical.from_codes(best, list(labels.categories))
        carried.obs["genot_confidence"] = shares.max(axis=1)
        names = pd.Index(labels.categories, dtype=str)
        carried.obsm["genot_shares"] = pd.DataFrame(shares, carried.obs_names, names)
    return carried


def _slice_of(values, source, target, points, covered, facts) -> AnnData:
    """Put carried values (target spots, source genes) into a slice."""
    carried = AnnData(values, obs=target.obs.copy(), var=source.var.copy())
    carried.obsm["spatial"] = points
    carried.obs["genot_covered"] = covered
    carried.uns["genot"] = facts
    return carried


def _with_zeros_of(
    values: sparse.csr_matrix, original: sparse.csc_matrix, covered: NDArray[np.bool_]
) -> sparse.csr_matrix:
    """Drop the smallest values of each gene until the covered spots have its share of zeros."""
    expressed = original.getnnz(axis=0) / original.shape[0]
    columns, n_covered = values.tocsc(), int(covered.sum())
    for gene, share in enumerate(expressed):
        part = slice(columns.indptr[gene], columns.indptr[gene + 1])
        kept = round(share * n_covered)
        stored = columns.data[part]
        if kept < len(stored):
            order = np.argsort(-stored, kind="stable")
            stored[order[kept:]] = 0.0
    columns.eliminate_zeros()
    return columns.tocsr()
