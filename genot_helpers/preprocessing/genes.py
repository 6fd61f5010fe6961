"""Gene selection without labels: genes that vary, and genes that vary in space.

Pearson residuals of counts (Lause et al. 2021, doi 10.1186/s13059-021-02451-7), dispersion of other
values (Satija et al. 2015, doi 10.1038/nbt.3192), Moran's I (doi 10.1093/biomet/37.1-2.17), and the
idea of SOMDE (Hao et al. 2021, doi 10.1093/bioinformatics/btab471): condense spots to nodes, give
the nodes to the test of SpatialDE (Svensson et al. 2018, doi 10.1038/nmeth.4636). Both fit gene by
gene; here all genes share one eigendecomposition per length scale and are fitted by matrix
products, so that a whole transcriptome takes seconds. No function here looks at an annotation.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import linalg, sparse, stats
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..arguments import checked
from ..slices.sections import by_each_section
from ..slices.slices import SliceError
from ..slices.values import holds_counts, plain_matrix
from .graph import sq

_MAX_NODES = 1000  # bounds the eigendecompositions, whose time grows with the cube


@by_each_section
@checked
def select_highly_variable(
    adata: AnnData,
    *,
    n_genes: int = 3000,
    key_added: str = "genot_selected",
    section_key: str | None = None,
) -> pd.DataFrame:
    """Keep the genes that vary more between spots than their mean expression explains.

    The score of a gene is, for counts, the variance of its Pearson residuals; for other values
    (such as volume-normalised MERFISH) its dispersion among genes of similar mean, in a copy that
    is scaled to equal totals and logged.

    Parameters
    ----------
    adata
        A slice; ``X`` (n spots, genes) sparse or dense, non-negative. Values that are not counts
        are taken as logarithms if ``uns["log1p"]`` exists (written by ``scanpy.pp.log1p``).
    n_genes
        How many genes to keep. A slice with fewer keeps all of them.
    key_added
        Column of ``var`` for the selection.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    All genes, best first, with the columns written to ``adata.var``: ``key_added`` (bool) and
    ``genot_variability`` (float; NaN for a gene with the same value in every spot).
    ``uns["genot"]["gene_selection"]`` says how genes were selected.

    Raises
    ------
    SliceError
        If values are negative or not finite, spots are empty, or no gene varies.
    TypeError, ValueError
        If ``n_genes`` is not a positive whole number.
    """
    genes, varies = _varying_genes(adata, n_genes=n_genes)
    if holds_counts(genes):
        chunk = max(1, min(1000, 20_000_000 // adata.n_obs))  # bounds the dense residuals
        table = sc.experimental.pp.highly_variable_genes(
            genes, n_top_genes=genes.n_vars, check_values=False, chunksize=chunk, inplace=False
        )
        score = table["residual_variances"]
    else:
        _log_normalise(genes)
        table = sc.pp.highly_variable_genes(genes, flavor="seurat", inplace=False)
        score = table["dispersions_norm"]
    scores = {"genot_variability": score.to_numpy()}
    return _record(adata, varies, scores, n_genes, key_added, method="highly_variable")


@checked
def select_by_moran(
    adata: AnnData, *, n_genes: int = 3000, key_added: str = "genot_selected"
) -> pd.DataFrame:
    r"""Keep the genes with the largest Moran's I: neighbouring spots have similar expression.

    .. math:: I = \frac{n}{\sum_{ij} w_{ij}}
              \frac{\sum_{ij} w_{ij} (x_i - \bar x)(x_j - \bar x)}{\sum_i (x_i - \bar x)^2}

    with :math:`w` the graph ``obsp["spatial_connectivities"]``, rows scaled to sum 1, and
    :math:`x` log-normalised expression. 1: neighbours are alike; 0: no pattern.

    Parameters, result and errors as for :func:`select_highly_variable`; the score is
    ``genot_moran``. A missing graph is an error.
    """
    genes, varies = _varying_genes(adata, n_genes=n_genes)
    if "spatial_connectivities" not in adata.obsp:
        raise SliceError(
            "obsp['spatial_connectivities'] is missing: Moran's I needs the spatial graph; build "
            f"it first (spatial_graph). Keys found: {list(adata.obsp)}."
        )
    _log_normalise(genes)
    genes.obsp["spatial_connectivities"] = adata.obsp["spatial_connectivities"]
    table = sq.gr.spatial_autocorr(genes, genes=genes.var_names, corr_method=None, copy=True)
    scores = {"genot_moran": table.loc[genes.var_names, "I"].to_numpy()}
    return _record(adata, varies, scores, n_genes, key_added, method="moran")


@checked
def select_by_gaussian_process(
    adata: AnnData,
    *,
    n_genes: int = 3000,
    spatial_key: str = "spatial",
    spots_per_node: int = 10,
    n_length_scales: int = 10,
    seed: int = 0,
    key_added: str = "genot_selected",
) -> pd.DataFrame:
    r"""Keep the genes whose expression a smooth function of place explains best.

    1. Spots are condensed to n / ``spots_per_node`` nodes (at most 1,000) by k-means on
       ``obsm[spatial_key]``, where SOMDE uses a self-organising map. A node's expression is the
       mean of the largest and the average value among its spots.
    2. Unless they are logs, values are stabilised, :math:`y = \log(x + 1 / 2\phi)` with
       :math:`\mathrm{var} = \mu + \phi \mu^2` fitted over genes, and the linear effect of the
       log total of the node is removed, as SpatialDE does.
    3. For each gene :math:`y \sim N(\mu 1, \sigma^2 (K + \delta I))`, :math:`K = \exp(-d^2 /
       2 l^2)`, is compared with noise, :math:`N(\mu 1, \sigma^2 I)`. The score is the log ratio
       of their largest likelihoods over :math:`\mu, \sigma, \delta` and ``n_length_scales`` values
       of :math:`l`, log-spaced from half the smallest to twice the largest distance of nodes.

    The p-value takes *twice* the log ratio as chi-squared with one degree of freedom (Wilks 1938);
    SpatialDE and SOMDE leave the factor 2 out and get larger ones. It is approximate: the search
    for a length scale makes it smaller, a variance that cannot be negative larger. The ranking
    does not depend on it. Time is linear in spots and genes, cubic in nodes; memory is a sparse
    copy of ``X`` and some (nodes, nodes) arrays. The order of spots plays no role.

    Parameters, result and errors as for :func:`select_highly_variable`; the score is
    ``genot_gp_log_ratio`` (0: only noise), with ``genot_gp_pvalue``, ``genot_gp_qvalue``
    (Benjamini-Hochberg) and ``genot_gp_length_scale`` (unit of the coordinates) beside it.
    Missing coordinates, or fewer than 10 nodes, are errors.
    """
    parameters = {"spots_per_node": spots_per_node, "n_length_scales": n_length_scales}
    genes, varies = _varying_genes(adata, n_genes=n_genes, **parameters)
    n_nodes = min(_MAX_NODES, adata.n_obs // spots_per_node)
    if n_nodes < 10:
        raise SliceError(
            f"{adata.n_obs} spots make {n_nodes} nodes with spots_per_node={spots_per_node}, but "
            "at least 10 are needed to see a pattern: choose a smaller spots_per_node."
        )
    coords = np.asarray(adata.obsm[spatial_key], dtype=float)
    blocks = -(-len(varies) // _GENES_PER_BLOCK)
    # One thread: the same numbers on every machine, and no fight for cores on a busy one.
    with threadpool_limits(limits=1), tqdm(total=blocks, desc="spatial genes", disable=None) as bar:
        nodes = _assign_to_nodes(coords, n_nodes, seed)
        eigen = _spectra(coords, nodes, n_length_scales)
        fits = []
        for block in _prepared_blocks(genes, nodes):
            fits.append(_best_fit(block, eigen))
            bar.update()
    log_ratio, length_scale = np.hstack(fits)
    pvalue = stats.chi2.sf(2 * log_ratio, df=1)
    scores = {
        "genot_gp_log_ratio": log_ratio,
        "genot_gp_pvalue": pvalue,
        "genot_gp_qvalue": stats.false_discovery_control(pvalue),
        "genot_gp_length_scale": length_scale,
    }
    made_by = {"method": "gaussian_process", "seed": seed, "n_nodes": n_nodes, **parameters}
    return _record(adata, varies, scores, n_genes, key_added, **made_by)


def _record(
    adata: AnnData,
    varies: np.ndarray,
    scores: dict,
    n_genes: int,
    key_added: str,
    **made_by: object,
) -> pd.DataFrame:
    """Write scores (the first one ranks the genes) and selection; return them, best first."""
    for name, score in scores.items():
        adata.var[name] = pd.Series(score, index=varies).reindex(range(adata.n_vars)).to_numpy()
    order = np.argsort(-adata.var[next(iter(scores))].to_numpy(), kind="stable")  # NaN comes last
    adata.var[key_added] = np.isin(np.arange(adata.n_vars), order[:n_genes])
    kept = {"n_genes_wanted": n_genes, "n_genes_kept": min(n_genes, adata.n_vars)}
    adata.uns.setdefault("genot", {})["gene_selection"] = {**made_by, **kept}
    return adata.var[[key_added, *scores]].iloc[order]


def _varying_genes(adata: AnnData, **numbers: int) -> tuple[AnnData, np.ndarray]:
    """Check the input; return the expression of the genes that vary, and which they are."""
    for name, number in numbers.items():
        if number < 1:
            raise SliceError(f"{name} must be a whole number of at least 1, but is {number!r}.")
    values = sparse.csc_matrix(plain_matrix(adata.X))
    if not np.isfinite(values.data).all() or (values.data < 0).any():
        raise SliceError("X has negative, NaN or infinite values: give counts or their logs.")
    if n_empty := int((np.ravel(values.sum(axis=1)) == 0).sum()):
        raise SliceError(f"X has {n_empty} spots without any expression: drop them first.")
    spread = values.max(axis=0).toarray() - values.min(axis=0).toarray()
    varies = np.flatnonzero(spread.ravel() > 0)
    if not len(varies):
        raise SliceError("X holds no gene that varies between spots: check the expression.")
    genes = AnnData(values[:, varies])
    if "log1p" in adata.uns and not holds_counts(genes):
        genes.uns["log1p"] = adata.uns["log1p"]
    return genes, varies


def _log_normalise(genes: AnnData) -> None:
    """Scale spots to equal totals and take logs, unless that has been done."""
    if "log1p" not in genes.uns:
        sc.pp.normalize_total(genes)
        sc.pp.log1p(genes)


# -------------------------------------------------------------------------------------------------
# The engine of :func:`select_by_gaussian_process`: nodes, stabilised genes, one eigendecomposition
# per length scale, the best likelihood of all genes together. The equations are in that function.

_GENES_PER_BLOCK = 1000
# Logs of the noise-to-signal ratios δ that are tried: the range of SpatialDE, in steps so fine that
# a parabola through the best three points gives the largest log-likelihood to within 1e-4.
_LOG_RATIOS = np.linspace(-10.0, 10.0, 401)


def _assign_to_nodes(coords: np.ndarray, n_nodes: int, seed: int) -> np.ndarray:
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
    for start in range(0, genes.n_vars, _GENES_PER_BLOCK):
        block = genes.X[:, start : start + _GENES_PER_BLOCK]
        shape = (block.shape[1], len(size))
        gene = np.repeat(np.arange(block.shape[1]), np.diff(block.indptr))
        place = gene * len(size) + nodes[block.indices]
        total = np.bincount(place, block.data, minlength=shape[0] * shape[1])
        largest = np.zeros_like(total)
        np.maximum.at(largest, place, block.data.astype(float))
        yield (largest.reshape(shape) + total.reshape(shape) / size) / 2


def _prepared_blocks(genes: AnnData, nodes: np.ndarray) -> Iterator[np.ndarray]:
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
        # The residual of a gene that is proportional to the totals is rounding error: zero.
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


def _spectra(coords: np.ndarray, nodes: np.ndarray, n_length_scales: int) -> list[tuple]:
    """Length scale, eigenvalues (rank,) and eigenvectors (nodes, rank) of each covariance."""
    centres = np.column_stack([np.bincount(nodes, axis) / np.bincount(nodes) for axis in coords.T])
    squared = pdist(centres, "sqeuclidean")
    shortest, longest = np.sqrt(squared[squared > 0].min()), np.sqrt(squared.max())
    found = []
    for length_scale in np.geomspace(shortest / 2, longest * 2, n_length_scales):
        covariance = np.exp(-squareform(squared) / (2 * length_scale**2))
        values, vectors = linalg.eigh(covariance, overwrite_a=True)
        kept = values > 1e-10  # long length scales leave few, which saves most of the time
        found.append((length_scale, values[kept], vectors[:, kept]))
    return found


def _best_fit(y: np.ndarray, spectra: list[tuple]) -> np.ndarray:
    """Largest log-likelihood ratio of each gene, at least 0, and its length scale: (2, genes)."""
    ratios = np.array([_log_ratio(y, values, vectors) for _, values, vectors in spectra])
    length_scales = np.array([length_scale for length_scale, _, _ in spectra])
    ratio = np.where(y.any(axis=1), ratios.max(axis=0), 0.0)
    return np.stack([np.maximum(ratio, 0.0), length_scales[ratios.argmax(axis=0)]])


def _log_ratio(y: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of all genes, maximised over the noise-to-signal ratios δ."""
    # With eigenvectors U, eigenvalues s and w_k = 1 / (s_k + δ), the residual around the best mean
    # is q = Σ w_k (Uᵀy)_k² - (Σ w_k (Uᵀy)_k (Uᵀ1)_k)² / Σ w_k (Uᵀ1)_k², and the log ratio is
    # -(n log(q / n) + Σ log(s_k + δ)) / 2: matrix products for all genes and all δ at once.
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
