"""Components of expression that mean the same in two slices, for everything between them.

Log expression of the genes both slices have, centred in each slice (a shift of a whole slice is
batch, not tissue), every gene with the same variance (a gene that a score weighs like any other
should count like any other), then principal components of both together. The overall size is
scaled so that the mean squared length of a spot is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans

from ..preprocessing.preprocessing import normalise
from ..preprocessing.spatial_genes import select_highly_variable
from ..slices.slices import SliceError
from .comparable import shared_genes
from .pairs import holds_logarithms

__all__ = ["SharedSpace", "expression_states", "shared_space"]

_BLOCK_SPOTS = 4096  # spots made dense at a time


class SharedSpace(NamedTuple):
    """Two slices in the same coordinates of expression.

    Attributes
    ----------
    left, right
        (n, d) and (m, d) float32, components, the largest first.
    genes
        Genes that were used.
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    genes: pd.Index


def shared_space(
    left: AnnData, right: AnnData, *, n_components: int = 60, n_genes: int = 1000
) -> SharedSpace:
    """Compute the components. Nothing is written to the slices.

    Parameters
    ----------
    left, right
        ``X`` holds counts or other non-negative values, or logarithms in both.
    n_components
        At most the number of genes used.
    n_genes
        Of more shared genes, the most variable are used (no labels are looked at).

    Raises
    ------
    SliceError
        If no gene is shared, or none of them varies.
    """
    genes = shared_genes({"right": right, "left": left})
    plain = [
        AnnData(sparse.csr_matrix(a[:, genes].X), var=pd.DataFrame(index=genes))
        for a in (left, right)
    ]
    if holds_logarithms(left):
        for slice_ in plain:
            slice_.layers["log1p"] = slice_.X
    else:
        normalise(plain)
    if len(genes) > n_genes:
        for slice_ in plain:
            select_highly_variable(slice_, n_genes=n_genes)
        chosen = np.any([a.var["genot_selected"] for a in plain], axis=0)
        plain = [a[:, chosen] for a in plain]
    values = [sparse.csr_matrix(a.layers["log1p"], dtype=np.float32) for a in plain]
    used = plain[0].var_names
    return SharedSpace(*_components(values, min(n_components, len(used))), used)


def _components(values: list[sparse.csr_matrix], d: int) -> list[NDArray[np.float32]]:
    """Principal components of both, each centred, genes of equal variance."""
    means = [np.asarray(v.mean(axis=0)).ravel() for v in values]
    covariance = sum(_scatter(v, m) for v, m in zip(values, means, strict=True))
    covariance /= sum(v.shape[0] for v in values)
    deviation = np.sqrt(np.diag(covariance))
    varies = deviation > 1e-4 * np.abs(np.mean(means, axis=0))  # less is rounding
    if not varies.any():
        raise SliceError("X: no shared gene varies between spots, so nothing tells places apart.")
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    size, directions = np.linalg.eigh(covariance * scale * scale[:, None])
    directions = directions[:, ::-1][:, :d]
    # An eigenvector's sign is arbitrary: the largest entry is made positive.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(d)])
    loading = (directions * scale[:, None] / np.sqrt(size[::-1][:d].sum())).astype(np.float32)
    return [v @ loading - (m @ loading) for v, m in zip(values, means, strict=True)]


def _scatter(values: sparse.csr_matrix, mean: NDArray) -> NDArray[np.float64]:
    """Sum over spots of the outer product of what is left after the mean."""
    total = np.zeros((values.shape[1],) * 2)
    for begin in range(0, values.shape[0], _BLOCK_SPOTS):
        block = values[begin : begin + _BLOCK_SPOTS].toarray() - mean
        total += block.T @ block
    return total


def expression_states(
    embedding: NDArray, n_states: int = 20, *, seed: int = 0
) -> NDArray[np.float32]:
    """Sort spots into states of expression, cell types for instance, without names.

    Parameters
    ----------
    embedding
        (n, d), components.
    n_states
        k-means clusters, found on at most 20,000 spots.
    seed
        For k-means.

    Returns
    -------
    ndarray of float32, shape (n, n_states)
        1 for the state of a spot, 0 elsewhere; columns centred, mean squared length of a row 4:
        the mixture of states is to count twice as much as the components.
    """
    chosen = np.random.default_rng(seed).permutation(len(embedding))[:20_000]
    n_states = min(n_states, len(embedding) // 10 + 1)
    model = KMeans(n_states, n_init=1, random_state=seed).fit(embedding[np.sort(chosen)])
    states = np.eye(n_states, dtype=np.float32)[model.predict(embedding)]
    states -= states.mean(axis=0)
    return 2.0 * states / np.sqrt(np.maximum((states**2).sum(axis=1).mean(), 1e-12))
