"""Types of cells: found by mixtures, given by the reader, named by their marker genes.

There is no one right set of types: where to cut a continuum, and how many pieces to make, is open.
So found types come as several *codebooks*, each a Gaussian mixture with one covariance for all
types (:mod:`genot_helpers.domains.mixture`, without neighbours) from another start, and
what follows is averaged over them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from ..slices.slices import SliceError, as_labels
from .mixture import climb, seen_by, view_of

__all__ = [
    "few_steps_of_k_means",
    "find_types",
    "given_types",
    "most_typical",
    "type_names",
    "type_shares",
]

FITTED_ON = 20_000  # types are fitted on at most this many cells
MARKER_EFFECT = 0.5  # standard deviations by which a marker gene is higher in its type


def find_types(points: np.ndarray, n_types: int, seed: int) -> np.ndarray:
    """Types of all cells by one Gaussian mixture with a common covariance, (n_cells,) int."""
    rng = np.random.default_rng(seed)
    some = points
    if len(points) > FITTED_ON:
        some = points[np.sort(rng.choice(len(points), FITTED_ON, replace=False))]
    start = few_steps_of_k_means(some, n_types, rng, 10).labels_
    mixture = climb(view_of(some), np.eye(n_types)[start], 60)
    blocks = range(0, len(points), FITTED_ON)
    return np.concatenate(
        [seen_by(view_of(points[at : at + FITTED_ON]), mixture).labels for at in blocks]
    )


def few_steps_of_k_means(
    points, n_clusters: int, rng, n_steps: int, trials: int | None = None
) -> KMeans:
    """Run a few steps of k-means from one careful start."""
    seed = int(rng.integers(2**31))
    centres, _ = kmeans_plusplus(points, n_clusters, random_state=seed, n_local_trials=trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops early on purpose
        return KMeans(n_clusters, init=centres, n_init=1, max_iter=n_steps).fit(points)


def given_types(named: Mapping[str, AnnData], type_key: str) -> pd.Categorical:
    """Annotated types of all cells, one set of categories for all slices; NaN is unknown."""
    for name, adata in named.items():
        if type_key not in adata.obs:
            columns = ", ".join(map(str, adata.obs.columns)) or "nothing"
            raise SliceError(f"{name}: obs[{type_key!r}] is missing (obs holds: {columns}).")
    stacked = pd.concat([adata.obs[type_key].astype(object) for adata in named.values()])
    labels = as_labels(stacked.reset_index(drop=True))
    if labels.nunique() < 2:
        raise SliceError(
            f"obs[{type_key!r}] names {labels.nunique()} type; needed are two or more "
            "(leave type_key out to have types found)."
        )
    return pd.Categorical(labels)


def most_typical(codebooks: np.ndarray) -> np.ndarray:
    """Pick the codebook that agrees best with all others, and number its types by size."""
    step = max(1, codebooks.shape[1] // 2_000)
    some = codebooks[:, ::step]
    scores = [[adjusted_rand_score(one, other) for other in some] for one in some]
    types = codebooks[int(np.sum(scores, axis=1).argmax())]
    order = np.argsort(-np.bincount(types), kind="stable")
    return np.argsort(order, kind="stable")[types]


def type_names(named: Mapping[str, AnnData], types: np.ndarray, layer: str) -> list[str]:
    """Name each type by its strongest marker gene (two where one is not enough), by effect size."""
    n_types = types.max() + 1
    plain = [f"type {number}" for number in range(1, n_types + 1)]
    slices = list(named.values())
    if any(layer not in one.layers for one in slices):
        return plain
    genes = slices[0].var_names
    for one in slices[1:]:
        genes = genes[genes.isin(one.var_names)]
    if not len(genes):
        return plain
    X = sparse.vstack([sparse.csr_matrix(one[:, genes].layers[layer]) for one in slices], "csr")
    member = np.eye(n_types)[types]
    size = member.sum(axis=0)[:, None]
    sums, total = (X.T @ member).T, np.asarray(X.sum(axis=0))
    spread = np.sqrt(np.maximum(X.multiply(X).mean(axis=0) - np.square(X.mean(axis=0)), 1e-12))
    inside, outside = sums / np.maximum(size, 1), (total - sums) / np.maximum(len(types) - size, 1)
    effect = np.asarray((inside - outside) / np.asarray(spread))
    best = np.argsort(-effect, axis=1, kind="stable")[:, :3]
    names: list[str] = []
    for number, order in enumerate(best):
        options = [" ".join(genes[order[:length]]) for length in range(1, len(order) + 1)]
        options = (
            [*options, plain[number]]
            if effect[number, order[0]] > MARKER_EFFECT
            else [plain[number]]
        )
        names.append(next((one for one in options if one not in names), plain[number]))
    return names


def type_shares(types: pd.Categorical, labels: np.ndarray) -> pd.DataFrame:
    """Share of each type among the cells of each domain; cells of unknown type are left out."""
    n_domains = int(labels.max()) + 1
    table = np.zeros((len(types.categories), n_domains))
    known = types.codes >= 0
    np.add.at(table, (types.codes[known], labels[known]), 1.0)
    table /= np.maximum(table.sum(axis=0), 1.0)
    columns = pd.Index([str(number) for number in range(1, n_domains + 1)], name="domain")
    return pd.DataFrame(table, pd.Index(list(types.categories), name="type"), columns)
