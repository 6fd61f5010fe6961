"""Expression of one technology, carried onto the places of another.

Two technologies see the same tissue with other genes, another resolution and another depth. Once
the slices are in one frame (:mod:`genot_helpers.alignment`), an optimal transport coupling says
which spots of the source a spot of the target corresponds to. The mean of these, weighted by mass,
is what the source would have seen there (barycentric projection: Ferradans et al., SIAM J. Imaging
Sciences 2014, doi 10.1137/130929886). A mean has fewer zeros than what was measured; a threshold
for each gene gives them back.

Place is one witness of what corresponds, expression another. :func:`carry_by_expression` listens to
expression alone, nearest neighbours in the components of the shared genes, as imputation for
imaging panels does (SpaGE: Abdelaal et al., Nucleic Acids Research 2020, doi 10.1093/nar/gkaa740).
It needs no frame, and cannot tell two places of the same cell type apart.

What can be transferred is the pattern of a gene at the resolution of the coarser slice, not the
depth, and not what cells of one place differ in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from ..shared_features import check_pair, shared_space
from ..slices.slices import SliceError, as_labels
from ..slices.values import plain_matrix
from ..transport.transport import entropic_coupling, sparse_coupling
from .local_means import choose_bandwidth, compare_errors

__all__ = [
    "CarriedLabels",
    "carry_by_expression",
    "carry_expression",
    "keep_composition",
    "prepare_labels",
]


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
    check_pair(source, target, spatial_key=spatial_key)
    _check_labels(source, label_key)
    embeddings: tuple = (None, None)
    if embedding_weight:
        space = shared_space(source, target)
        embeddings = space.left, space.right
    points = [np.asarray(a.obsm[spatial_key], dtype=np.float64)[:, :2] for a in (source, target)]
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
    source, target
        As in :func:`carry_expression`, but in any frame.
    n_neighbors
        Source spots nearest in expression, whose mean each target spot gets; all if there are
        fewer.
    n_components
        Leading joint components of the shared genes to look at
        (:func:`genot_helpers.pairs.shared_space.shared_space`: each slice centred, genes of equal
        variance).
    label_key, spatial_key
        As in :func:`carry_expression`; a label's share is that of the neighbours.

    Returns
    -------
    AnnData
        As from :func:`carry_expression`; every spot is covered.

    Raises
    ------
    SliceError
        As :func:`carry_expression`.
    ValueError
        If ``n_neighbors`` or ``n_components`` is below 1.
    """
    for name, value in (("n_neighbors", n_neighbors), ("n_components", n_components)):
        if value < 1:
            raise ValueError(f"{name} is {value}; give 1 or more.")
    check_pair(source, target, spatial_key=spatial_key)
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
    points = np.asarray(target.obsm[spatial_key], dtype=np.float64)[:, :2]
    return _carried(weights, source, target, points, facts, label_key)


def _check_labels(source: AnnData, label_key: str | None) -> None:
    """Refuse a column without labels before any work."""
    if label_key is not None and label_key not in source.obs:
        raise SliceError(f"obs[{label_key!r}] of the source is missing: {list(source.obs)}.")
    if label_key is not None and source.obs[label_key].isna().all():
        raise SliceError(f"obs[{label_key!r}] of the source names no spot.")


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
    carried = AnnData(values, obs=target.obs.copy(), var=source.var.copy())
    carried.obsm["spatial"] = points
    carried.obs["genot_covered"] = covered
    carried.uns["genot"] = facts
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


# -------------------------------------------------------------------------------------------------
# Labels of two slices, carried to places between them by a vote of the surroundings.
#
# An annotation is drawn by hand: its borders are a little off in every slice, differently in each.
# So a label is voted on by the surroundings in both slices, and the weights follow from how often
# either is wrong. How sharp the vote is (its width in space) is what predicts the labels of each
# slice best from the other. The labels of a held-out slice have no part in it.
#
# A vote prefers what is large: where a thin layer and its thick neighbours vote, the layer loses
# more places than it wins. So labels that win too few places get more weight, all over the slice,
# until each has the share of the places that it has of the spots of both slices (a correction of
# class priors: Saerens, Latinne & Decaestecker 2002, doi 10.1162/089976602753284446).

_LARGEST_WEIGHT = 3.0  # of a label in the vote; the smallest is 1
_STEPS = np.geomspace(0.5, 0.02, 40)
_FLOOR = 1e-3  # share below which nothing is corrected much


class CarriedLabels(NamedTuple):
    """Labels as votes, and how they are counted.

    Attributes
    ----------
    key
        Column of ``obs`` they come from.
    names
        All labels of both slices.
    votes
        (n, k) and (m, k) float64: 1 for the label of a spot; nothing for a spot without one.
    bandwidth
        Width of the vote, in the unit of the coordinates.
    own_error, other_error
        Mean squared error with which a spot's label is predicted from its own slice, and from the
        other one.
    """

    key: str
    names: list[str]
    votes: tuple[NDArray[np.float64], NDArray[np.float64]]
    bandwidth: float
    own_error: float
    other_error: float

    def weights(self, t: float) -> tuple[float, float]:
        """Weigh both slices at position t: two estimates, each by the inverse of its error.

        The error grows with the distance from its own to the other; a slice is wrong even in its
        own place, so the farther one has more to say than its share of t.
        """
        growth = self.other_error - self.own_error
        left, right = (1.0 / max(self.own_error + growth * far, 1e-9) for far in (t, 1.0 - t))
        return left / (left + right), right / (left + right)

    def composition(self, t: float) -> NDArray[np.float64]:
        """Share of each label among labelled spots, at position t between both slices."""
        shares = [votes.sum(axis=0) for votes in self.votes]
        weights = [w * (s.sum() > 0) for w, s in zip((1.0 - t, t), shares, strict=True)]
        if not sum(weights):  # an end without annotation
            weights = [float(s.sum() > 0) for s in shares]
        mixed = sum(w * s / max(s.sum(), 1.0) for w, s in zip(weights, shares, strict=True))
        return mixed / mixed.sum()

    def carry(
        self, t: float, around: tuple[sparse.csr_matrix, sparse.csr_matrix]
    ) -> tuple[pd.Categorical, NDArray[np.float64]]:
        """Vote at places.

        Parameters
        ----------
        t
            Position between the slices.
        around
            (p, n) and (p, m), weights of the spots of both slices around each place, of width
            ``bandwidth``: :func:`genot_helpers.interpolation.local_means.local_weights`.

        Returns
        -------
        labels : pandas.Categorical
            NaN where no spot near by has a label.
        shares : ndarray of float64, shape (p,)
            Share of the vote for it, before labels are weighed.
        """
        shares = sum(
            weight * (spots @ votes)
            for weight, spots, votes in zip(self.weights(t), around, self.votes, strict=True)
        )
        total = shares.sum(axis=1)
        winner = np.full(len(shares), -1)
        winner[total > 0] = keep_composition(shares[total > 0], self.composition(t))
        confidence = shares[np.arange(len(shares)), winner] / np.maximum(total, 1e-12)
        return pd.Categorical.from_codes(winner, categories=self.names), confidence


def keep_composition(shares: NDArray, wanted: NDArray) -> NDArray[np.int64]:
    """Choose a label for each place such that every label gets about its share of the places.

    Votes for a label that wins too few places are multiplied by one weight, at most 3, found step
    by step; no label is made weaker.

    Parameters
    ----------
    shares
        (p, k), votes for each label; not all 0 at any place.
    wanted
        (k,), share of the places each label should have; sums to 1.

    Returns
    -------
    ndarray of int64, shape (p,)
        Number of the label. A label without votes at a place cannot win there.
    """
    winner, weights = shares.argmax(axis=1), np.zeros(len(wanted))
    limit = np.log(_LARGEST_WEIGHT)
    for step in _STEPS:
        found = np.bincount(winner, minlength=len(wanted)) / max(len(winner), 1)
        if np.abs(found - wanted).max() * len(winner) < 0.5:  # no place could be given elsewhere
            break
        missing = np.log(wanted + _FLOOR) - np.log(found + _FLOOR)
        weights = np.minimum(weights + step * np.maximum(missing, 0.0), limit)
        winner = (shares * np.exp(weights)).argmax(axis=1)
    return winner


def prepare_labels(
    left: AnnData,
    right: AnnData,
    key: str,
    middle: tuple[NDArray, NDArray],
    spacing: float,
    *,
    seed: int = 0,
) -> CarriedLabels:
    """Read the labels of both slices and decide how the vote is taken.

    Parameters
    ----------
    left, right
        Slices with ``obs[key]``.
    middle
        (n, 2) and (m, 2), their coordinates, warped to halfway.
    spacing
        Spot spacing.
    seed
        Which spots the width is judged on, if there are many.

    Raises
    ------
    SliceError
        If no spot has a label.
    """
    labels = [as_labels(adata.obs[key]) for adata in (left, right)]
    names = [str(name) for name in pd.unique(np.concatenate([c.cat.categories for c in labels]))]
    if not names:
        raise SliceError(
            f"obs[{key!r}] names no spot in either slice. Name another column, or pass "
            "label_key=None to carry no labels."
        )
    columns = [column.astype(object).to_numpy() for column in labels]
    votes = tuple((column[:, None] == np.array(names)).astype(float) for column in columns)
    bandwidth = choose_bandwidth(*middle, *votes, spacing, seed=seed)
    errors = compare_errors(*middle, *votes, bandwidth, spacing, seed=seed)
    return CarriedLabels(key, names, votes, bandwidth, *errors)
