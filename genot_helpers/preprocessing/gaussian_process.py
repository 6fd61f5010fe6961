"""The Gaussian-process engine behind ``spatial_genes.select_by_gaussian_process``.

Spots are condensed to nodes; one eigendecomposition per length scale then serves all genes,
which are fitted together by matrix products. Equations and sources are in that function.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from anndata import AnnData
from scipy import linalg
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans

__all__ = ["GENES_PER_BLOCK", "assign_to_nodes", "best_fit", "prepared_blocks", "spectra"]

GENES_PER_BLOCK = 1000
# Logs of the noise-to-signal ratios δ that are tried: the range of SpatialDE, in steps so fine that
# a parabola through the best three points gives the largest log-likelihood to within 1e-4.
_LOG_RATIOS = np.linspace(-10.0, 10.0, 401)


def assign_to_nodes(coords: np.ndarray, n_nodes: int, seed: int) -> np.ndarray:
    """Give each spot the number of its node, 0 to n_nodes - 1."""
    order = np.lexsort(coords.T)  # by place, so that the order of the rows plays no role
    means = KMeans(n_nodes, n_init=1, max_iter=30, random_state=seed)
    labels = means.fit_predict(coords[order])
    nodes = np.empty(len(coords), dtype=np.intp)
    nodes[order] = np.unique(labels, return_inverse=True)[1]
    return nodes


def _node_blocks(genes: AnnData, nodes: np.ndarray) -> Iterator[np.ndarray]:
    """Expression of the nodes, (genes, nodes), for one block of genes after the other."""
    size = np.bincount(nodes)
    for start in range(0, genes.n_vars, GENES_PER_BLOCK):
        block = genes.X[:, start : start + GENES_PER_BLOCK]
        shape = (block.shape[1], len(size))
        gene = np.repeat(np.arange(block.shape[1]), np.diff(block.indptr))
        place = gene * len(size) + nodes[block.indices]
        total = np.bincount(place, block.data, minlength=shape[0] * shape[1])
        largest = np.zeros_like(total)
        np.maximum.at(largest, place, block.data.astype(float))
        yield (largest.reshape(shape) + total.reshape(shape) / size) / 2


def prepared_blocks(genes: AnnData, nodes: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of stabilised genes, each scaled to mean 0 and variance 1 over the nodes."""
    logged = "log1p" in genes.uns
    if not logged:
        pseudocount, log_total = _stabiliser(_node_blocks(genes, nodes))
    for block in _node_blocks(genes, nodes):
        y = block if logged else np.log(block + pseudocount)
        y = y - y.mean(axis=1, keepdims=True)
        if not logged:
            y -= np.outer(y @ log_total, log_total)
        spread = y.std(axis=1, keepdims=True)
        # What remains of a gene that is proportional to the totals is rounding errors: zero.
        yield np.where(spread > 1e-9, y / np.maximum(spread, 1e-9), 0.0)


def _stabiliser(blocks: Iterator[np.ndarray]) -> tuple[float, np.ndarray]:
    """Pseudocount 1 / 2φ for the logarithm, and the log totals of the nodes as a unit vector."""
    above_poisson = squares = total = 0.0
    for block in blocks:
        mean, variance = block.mean(axis=1), block.var(axis=1)
        above_poisson += (mean**2 * (variance - mean)).sum()
        squares += (mean**4).sum()
        total = total + block.sum(axis=0)
    # Least squares of variance - mean = φ mean². Without overdispersion φ would vanish or turn
    # negative; the floor then leaves values all but linear.
    dispersion = max(above_poisson / squares, 0.01)
    log_total = np.log(total) - np.log(total).mean()
    return 1 / (2 * dispersion), log_total / max(np.linalg.norm(log_total), 1e-9)


def spectra(coords: np.ndarray, nodes: np.ndarray, n_length_scales: int) -> list[tuple]:
    """Length scale, eigenvalues (rank,) and eigenvectors (nodes, rank) of each covariance."""
    centres = np.column_stack([np.bincount(nodes, axis) / np.bincount(nodes) for axis in coords.T])
    squared = pdist(centres, "sqeuclidean")
    shortest, longest = np.sqrt(squared[squared > 0].min()), np.sqrt(squared.max())
    spectra = []
    for length_scale in np.geomspace(shortest / 2, longest * 2, n_length_scales):
        covariance = np.exp(-squareform(squared) / (2 * length_scale**2))
        values, vectors = linalg.eigh(covariance, overwrite_a=True)
        kept = values > 1e-10  # long length scales leave few, which saves most of the time
        spectra.append((length_scale, values[kept], vectors[:, kept]))
    return spectra


def best_fit(y: np.ndarray, spectra: list[tuple]) -> np.ndarray:
    """Largest log-likelihood ratio of each gene, at least 0, and its length scale: (2, genes)."""
    ratios = np.array([_log_ratio(y, values, vectors) for _, values, vectors in spectra])
    length_scales = np.array([length_scale for length_scale, _, _ in spectra])
    ratio = np.where(y.any(axis=1), ratios.max(axis=0), 0.0)
    return np.stack([np.maximum(ratio, 0.0), length_scales[ratios.argmax(axis=0)]])


def _log_ratio(y: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    r"""Log-likelihood ratio of all genes, maximised over :math:`\delta`.

    With eigenvectors :math:`U`, eigenvalues :math:`s` and :math:`w_k = 1 / (s_k + \delta)`, the
    residual around the best mean is :math:`q = \sum_k w_k (U^T y)_k^2 - (\sum_k w_k (U^T y)_k
    (U^T 1)_k)^2 / \sum_k w_k (U^T 1)_k^2`, and the log ratio :math:`-(n \log(q / n) + \sum_k
    \log(s_k + \delta)) / 2`: matrix products for all genes and all :math:`\delta` at once.
    """
    n = y.shape[1]
    rotated, ones = y @ vectors, vectors.sum(axis=0)
    # The last term stands for all eigenvectors that were dropped, whose eigenvalue is 0.
    noise = np.append(values, 0.0)[:, None] + np.exp(_LOG_RATIOS)
    times = np.append(np.ones(len(values)), n - len(values))
    squares = _with_rest(rotated**2, (y**2).sum(axis=1)) @ (1 / noise)
    products = _with_rest(rotated * ones, y.sum(axis=1)) @ (1 / noise)
    weight = _with_rest(ones[None] ** 2, [n]) @ (1 / noise)
    residual = np.maximum(squares - products**2 / weight, np.finfo(float).tiny)
    profile = -(n * np.log(residual / n) + times @ np.log(noise)) / 2
    middle = np.clip(profile.argmax(axis=1), 1, len(_LOG_RATIOS) - 2)
    left, centre, right = (profile[np.arange(len(y)), middle + step] for step in (-1, 0, 1))
    slope, bend = (right - left) / 2, 2 * centre - left - right
    peak = centre + slope**2 / (2 * np.where(bend > 0, bend, np.inf))
    return np.where(centre >= np.maximum(left, right), peak, np.maximum(left, right))


def _with_rest(parts: np.ndarray, total) -> np.ndarray:
    """Append a column with what is missing to the total."""
    return np.column_stack([parts, total - parts.sum(axis=1)])
