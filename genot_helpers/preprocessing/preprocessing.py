"""From counts to the principal components that the encoder and the baseline start from.

:func:`preprocess` does everything with the defaults: check, :func:`normalise`, select genes without
labels (:mod:`.genes`), build the spatial graph (:mod:`.graph`), :func:`joint_components`. The
notebooks call the steps one by one. :func:`smooth_components` is the baseline without training.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.decomposition import PCA

from ..arguments import checked
from ..slices.geometry import positions_of, squares
from ..slices.sections import (
    Slices,
    by_section,
    embedding,
    genes_of_all,
    named_slices,
    rows_of_each,
)
from ..slices.slices import as_labels, check_slice, record
from ..slices.values import plain_matrix, slice_kind
from .genes import select_highly_variable
from .graph import neighbour_mean, smooth, spatial_graph


@by_section
@checked
def preprocess(
    slices: Slices,
    *,
    n_genes: int = 3000,
    n_components: int = 30,
    n_neighbors: int = 6,
    section_key: str | None = None,
) -> None:
    """Check, normalise, select genes, compute joint components, build the spatial graphs.

    Writes ``layers["log1p"]``, ``var["genot_selected"]``, ``var["genot_variability"]``,
    ``obsm["X_pca"]``, ``obsp["spatial_connectivities"]``, ``obsp["spatial_distances"]``,
    ``uns["spatial_neighbors"]`` and ``uns["genot"]``.

    Parameters
    ----------
    slices
        Slices with ``X`` (counts or other non-negative values) and ``obsm["spatial"]``.
    n_genes
        Highly variable genes kept per slice; all are kept if there are fewer.
    n_components
        Joint principal components.
    n_neighbors
        Neighbours in the spatial graph where spots do not lie on a hexagonal grid.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Raises
    ------
    SliceError, ValueError
        If a slice is not fit for use (nothing is written then); as :func:`joint_components`.
    """
    named = named_slices(slices)
    for name, adata in named.items():
        check_slice(adata, name=name, min_spots=n_neighbors + 2)
    normalise(named)
    for adata in named.values():
        select_highly_variable(adata, n_genes=n_genes)
        spatial_graph(adata, n_neighbors=n_neighbors)
    joint_components(named, n_components=n_components)


@by_section
@checked
def normalise(
    slices: Slices, *, scale: bool = False, key_added: str = "log1p", section_key: str | None = None
) -> None:
    """Bring all spots to the same depth and take logarithms.

    Each spot is scaled to the median total of all slices together, so that slices have the same
    depth too; then log(1 + x). Values that are not counts are treated alike. ``X`` stays as it is.

    Parameters
    ----------
    slices
        ``X`` holds counts or other non-negative values.
    scale
        Divide each gene by its standard deviation within the slice and cut at 10, as the
        published GenOT does. Not the default: it raises the noise of rare genes to the level
        of the informative ones.
    key_added
        Writes ``layers[key_added]``, float32, as sparse as ``X``.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Raises
    ------
    ValueError
        If ``X`` holds negative values or NaN, or logarithms in some slices only. Where all are
        logarithms, they are taken as they are, with a warning.
    """
    named = named_slices(slices)
    for name, adata in named.items():
        values = adata.X.data if sparse.issparse(adata.X) else np.asarray(adata.X)
        if np.size(values) and not np.min(values) >= 0:  # also refuses NaN
            raise ValueError(
                f"{name}: X holds negative or missing values (NaN). Put counts, or other "
                "non-negative values that are not centred or scaled, into X."
            )
    if _take_logarithms(named, scale, key_added):
        return
    plain = [plain_matrix(adata.X) for adata in named.values()]
    totals = np.concatenate([np.asarray(X.sum(axis=1, dtype=float)).ravel() for X in plain])
    depth = float(np.median(totals[totals > 0]))
    for adata, X in zip(named.values(), plain, strict=True):
        layer = ad.AnnData(X.astype(np.float32, copy=True))
        sc.pp.normalize_total(layer, target_sum=depth)
        sc.pp.log1p(layer)
        if scale:
            sc.pp.scale(layer, zero_center=False, max_value=10)
        adata.layers[key_added] = layer.X


def _take_logarithms(named: Mapping[str, ad.AnnData], scale: bool, key_added: str) -> bool:
    """Take values that are logarithms already as they are; say whether that was done."""
    kinds = {name: slice_kind(adata).kind for name, adata in named.items()}
    logged = [name for name, kind in kinds.items() if kind == "logarithms"]
    if not logged:
        return False
    if len(logged) < len(named):
        other = next(name for name in named if name not in logged)
        raise ValueError(
            f"{logged[0]} holds logarithms and {other} {kinds[other]}: give the same kind of "
            "values in all slices (counts are best; `gh.slices.undo_logarithm` turns logarithms "
            "back)."
        )
    warnings.warn(
        f"X holds logarithms ({', '.join(logged)}): taken as they are, not taken again. If they "
        "are none: `adata.uns.setdefault('genot', {})['values'] = 'values'`.",
        stacklevel=3,
    )
    for adata in named.values():
        layer = ad.AnnData(plain_matrix(adata.X).astype(np.float32, copy=True))
        if scale:
            sc.pp.scale(layer, zero_center=False, max_value=10)
        adata.layers[key_added] = layer.X
    return True


@by_section
@checked
def joint_components(
    slices: Slices,
    *,
    n_components: int = 30,
    layer: str = "log1p",
    genes: str | None = "genot_selected",
    key_added: str = "X_pca",
    section_key: str | None = None,
) -> np.ndarray:
    """Compute principal components of all slices together.

    Genes are centred over all spots of all slices; nothing is centred per slice, which would
    remove biology together with the batch (measured: it lowers agreement with annotation).

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number, with ``layers[layer]``.
    n_components
        At most the number of genes used and of spots.
    layer
        Expression, as written by :func:`normalise`.
    genes
        Boolean ``var`` column; genes selected in at least one slice and measured in all are
        used. None uses every shared gene.
    key_added
        Writes ``obsm[key_added]`` (n_spots, n_components) float32, and the settings to
        ``uns["genot"][key_added]``.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    numpy.ndarray of float, shape (n_components,)
        Share of the variance that each component explains.

    Raises
    ------
    KeyError, ValueError
        If the layer or the gene column is missing; if the slices share no gene, or there are more
        components than genes or spots.
    """
    named = named_slices(slices)
    for name, adata in named.items():
        if layer not in adata.layers:
            raise KeyError(f"{name} has no layers[{layer!r}]. Run normalise first.")
    names, found = _shared_genes(named, genes), list(named.values())
    n_spots = sum(adata.n_obs for adata in found)
    if not 1 <= n_components <= min(len(names), n_spots):
        raise ValueError(
            f"n_components is {n_components}, but there are {len(names)} genes and {n_spots} spots."
            f" Choose at most {min(len(names), n_spots)} components, or select more genes."
        )
    blocks = [sparse.csr_matrix(adata[:, names].layers[layer]) for adata in found]
    expression = sparse.vstack(blocks, format="csr").astype(np.float64)
    if n_spots < len(names) / 2:  # a small slice: the dense matrix is small, its covariance large
        model = PCA(n_components, svd_solver="full")
        components = model.fit_transform(expression.toarray())
    else:  # through the genes × genes covariance: exact, deterministic, and the matrix stays sparse
        model = PCA(n_components, svd_solver="covariance_eigh")
        components = model.fit_transform(expression)
    facts = {
        "n_components": n_components,
        "n_genes": len(names),
        "n_slices": len(found),
        "variance_ratio": model.explained_variance_ratio_,
    }
    for adata, rows in rows_of_each(found, components):
        adata.obsm[key_added] = rows.astype(np.float32)
        record(adata, **{key_added: dict(facts)})
    return model.explained_variance_ratio_


def _shared_genes(named: Mapping[str, ad.AnnData], genes: str | None) -> list[str]:
    """Genes measured in every slice and, where ``genes`` is given, selected in at least one."""
    slices = list(named.values())
    shared = genes_of_all(slices)
    if not len(shared):
        raise ValueError(
            "The slices have no gene in common (first genes: "
            + "; ".join(", ".join(adata.var_names[:3]) for adata in slices)
            + "). Use the same kind of gene name, symbols or identifiers, in all of them."
        )
    if genes is None:
        return list(shared)
    for name, adata in named.items():
        if genes not in adata.var:
            raise KeyError(
                f"{name} has no var[{genes!r}]. Select genes first, for example with "
                "select_highly_variable, or pass genes=None for all of them."
            )
    chosen = np.any([adata.var.loc[shared, genes].to_numpy(dtype=bool) for adata in slices], axis=0)
    return list(shared[chosen])


@by_section
@checked
def smooth_components(
    slices: Slices,
    *,
    n_steps: int = 4,
    use_rep: str = "X_pca",
    key_added: str = "X_smooth",
    section_key: str | None = None,
) -> None:
    """Average the components over the spatial neighbourhood: the baseline without training.

    Each step replaces a spot by the mean over itself and its neighbours. NichePCA (Schaub
    et al. 2025, doi 10.1093/bioinformatics/btaf005) showed how strong this is.

    Parameters
    ----------
    slices
        With ``obsp["spatial_connectivities"]`` (:func:`spatial_graph`).
    n_steps
        How often the mean is taken.
    use_rep, key_added
        Reads ``obsm[use_rep]``, writes ``obsm[key_added]``, same shape, float32.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Raises
    ------
    SliceError
        If components or graph are missing, or components are not finite.
    """
    for name, adata in named_slices(slices).items():
        components = embedding(adata, name, use_rep)
        adata.obsm[key_added] = smooth(components, neighbour_mean(adata, name), n_steps)


# -------------------------------------------------------------------------------------------------
# Cells pooled into squares. Resolution can be taken away, not added: two slices that are analysed
# together are both brought to the resolution of the coarser one.


@checked
def middle_square(adata: AnnData, n_spots: int, *, spatial_key: str = "spatial") -> AnnData:
    """Cut a slice to a square around its middle that holds about so many spots.

    A random part of a slice has lost the neighbours of its spots; a square keeps them. Nothing is
    written to the slice.

    Parameters
    ----------
    adata, spatial_key
        A slice with ``obsm[spatial_key]``, (n, 2).
    n_spots
        Spots wanted. A slice that has no more is returned as it is.

    Returns
    -------
    AnnData
        The slice itself, or a copy of the ``n_spots`` spots that are nearest to the middle (the
        median of each coordinate) by the larger of both distances; ties in the order of rows.

    Raises
    ------
    SliceError
        If positions are missing.
    """
    if adata.n_obs <= n_spots:
        return adata
    points = positions_of(adata, spatial_key)
    away = np.abs(points - np.median(points, axis=0)).max(axis=1)
    return adata[np.sort(np.argsort(away, kind="stable")[:n_spots])].copy()


@checked(side=(-np.inf, np.inf))  # its own error says that 0 is too small
def pool_spots(
    adata: AnnData,
    side: float,
    *,
    label_keys: Sequence[str] = ("domain_truth",),
    key_added: str = "genot_pool",
    spatial_key: str = "spatial",
) -> AnnData:
    """Sum the spots in squares.

    Resolution can be taken away, not added: two slices that are analysed together are both brought
    to the resolution of the coarser one.

    Parameters
    ----------
    adata
        The finer slice, counts or other plain values (sums of logarithms mean nothing). Gets
        ``obs[key_added]``: the row of the pooled slice that a spot went to.
    side
        Side of a square, in the unit of the coordinates.
    label_keys
        Columns of ``obs`` to keep by majority (ties: the first by name); missing ones are skipped.
    key_added, spatial_key
        See ``adata``; slot of ``obsm`` with the coordinates.

    Returns
    -------
    AnnData
        One row per square that holds a spot: ``X`` (csr, float32), the sum; ``obs["n_spots"]``;
        ``obsm["spatial"]``, the middle of the square; ``var`` and ``uns["genot"]`` of the slice.

    Raises
    ------
    SliceError, ValueError
        If coordinates are missing; if ``side`` is not a positive number.
    """
    points = positions_of(adata, spatial_key)
    places, member = squares(points, side)
    adata.obs[key_added] = member
    ones = np.ones(len(member), dtype=np.float32)
    pool = sparse.csr_matrix((ones, (member, np.arange(len(member)))))
    names = [f"square{number + 1:05d}" for number in range(len(places))]
    pooled = ad.AnnData(
        sparse.csr_matrix(pool @ sparse.csr_matrix(plain_matrix(adata.X)), dtype=np.float32),
        obs=pd.DataFrame({"n_spots": np.bincount(member)}, index=names),
        var=adata.var.copy(),
        obsm={"spatial": points.min(axis=0) + (places + 0.5) * side},
    )
    for key in (key for key in label_keys if key in adata.obs):
        pooled.obs[key] = _majority(adata.obs[key], pool, names)
    pooled.uns["genot"] = dict(adata.uns.get("genot", {})) | {"pooled_to": float(side)}
    return pooled


def _majority(labels: pd.Series, pool: sparse.csr_matrix, names: list[str]) -> pd.Series:
    """Return the label that most spots of a square have; NaN where none has any."""
    codes = as_labels(labels).cat
    votes = pool @ (codes.codes.to_numpy()[:, None] == np.arange(len(codes.categories)))
    best = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return pd.Series(pd.Categorical.from_codes(best, list(codes.categories)), index=names)
