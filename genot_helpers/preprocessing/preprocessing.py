"""From counts to the principal components that the encoder and the baseline start from.

normalise → select genes (spatial_genes.py, without labels) → joint principal components.
`preprocess` does all of it with the defaults; the notebooks call the steps one by one.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse
from sklearn.decomposition import PCA

from ..slices.records import record
from ..slices.several import Slices, as_list, embedding, named_slices, rows_of_each
from ..slices.slices import check_slice
from .graph import neighbour_mean, smooth
from .neighbours import spatial_graph
from .spatial_genes import select_highly_variable

__all__ = ["joint_components", "normalise", "preprocess", "smooth_components"]


def normalise(slices: Slices, *, scale: bool = False, key_added: str = "log1p") -> None:
    """Bring all spots to the same depth and take logarithms.

    Each spot is scaled to the median total of all slices together, so that depth is the same
    across slices too; then log(1 + x). Values that are not counts (volume-normalised
    fluorescence, say) are treated alike. `X` stays as it is.

    Parameters
    ----------
    slices : AnnData, list or dict of AnnData
        `X` holds counts or other non-negative values.
    scale : bool
        Divide each gene by its standard deviation within the slice and cut at 10, as the
        published GenOT does. Not the default: it raises the noise of rare genes to the level
        of the informative ones.
    key_added : str
        Writes `layers[key_added]`, float32, as sparse as `X`.

    Raises
    ------
    ValueError
        If `X` holds negative values, which have been centred or scaled already, or NaN.
    """
    found = as_list(slices)
    for number, adata in enumerate(found):
        values = adata.X.data if sparse.issparse(adata.X) else adata.X
        if np.size(values) and not np.min(values) >= 0:  # also refuses NaN
            raise ValueError(
                f"X of slice {number} holds negative or missing values (NaN). Put counts, or other "
                "non-negative values that are not centred or scaled, into X."
            )
    totals = np.concatenate([np.asarray(adata.X.sum(axis=1)).ravel() for adata in found])
    depth = float(np.median(totals[totals > 0]))
    for adata in found:
        layer = ad.AnnData(adata.X.astype(np.float32, copy=True))
        sc.pp.normalize_total(layer, target_sum=depth)
        sc.pp.log1p(layer)
        if scale:
            sc.pp.scale(layer, zero_center=False, max_value=10)
        adata.layers[key_added] = layer.X


def _shared_genes(slices: list[ad.AnnData], genes: str | None) -> list[str]:
    """Genes measured in every slice and, where `genes` is given, selected in at least one."""
    shared = slices[0].var_names
    for adata in slices[1:]:
        shared = shared[shared.isin(adata.var_names)]
    if not len(shared):
        raise ValueError(
            "The slices have no gene in common (first genes: "
            + "; ".join(", ".join(adata.var_names[:3]) for adata in slices)
            + "). Use the same kind of gene name, symbols or identifiers, in all of them."
        )
    if genes is None:
        return list(shared)
    for number, adata in enumerate(slices):
        if genes not in adata.var:
            raise KeyError(
                f"Slice {number} has no var[{genes!r}]. Select genes first, for example with "
                "select_highly_variable, or pass genes=None for all of them."
            )
    chosen = np.any([adata.var.loc[shared, genes].to_numpy(dtype=bool) for adata in slices], axis=0)
    return list(shared[chosen])


def joint_components(
    slices: Slices,
    *,
    n_components: int = 30,
    layer: str = "log1p",
    genes: str | None = "genot_selected",
    key_added: str = "X_pca",
) -> np.ndarray:
    """Compute principal components of all slices together.

    Genes are centred over all spots of all slices; nothing is centred per slice, which would
    remove biology together with the batch (measured: it lowers agreement with annotation).

    Parameters
    ----------
    slices : AnnData, list or dict of AnnData
    n_components : int
        At most the number of genes used and of spots.
    layer : str
        Expression, as written by :func:`normalise`.
    genes : str or None
        Boolean `var` column; genes selected in at least one slice and measured in all are
        used. None uses every shared gene.
    key_added : str
        Writes `obsm[key_added]` (n_spots, n_components) float32, and the settings to
        `uns["genot"][key_added]`.

    Returns
    -------
    numpy.ndarray of float, shape (n_components,)
        Share of the variance that each component explains.

    Raises
    ------
    KeyError
        If the layer or the gene column is missing.
    ValueError
        If the slices share no gene, or there are more components than genes or spots.
    """
    found = as_list(slices)
    for number, adata in enumerate(found):
        if layer not in adata.layers:
            raise KeyError(f"Slice {number} has no layers[{layer!r}]. Run normalise first.")
    names = _shared_genes(found, genes)
    n_spots = sum(adata.n_obs for adata in found)
    if not 1 <= n_components <= min(len(names), n_spots):
        raise ValueError(
            f"n_components is {n_components}, but there are {len(names)} genes and {n_spots} spots."
            f" Choose at most {min(len(names), n_spots)} components, or select more genes."
        )
    blocks = [sparse.csr_matrix(adata[:, names].layers[layer]) for adata in found]
    # Through the genes × genes covariance: exact, deterministic, and the matrix stays sparse.
    model = PCA(n_components, svd_solver="covariance_eigh")
    components = model.fit_transform(sparse.vstack(blocks, format="csr").astype(np.float64))
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


def smooth_components(
    slices: Slices, *, n_steps: int = 4, use_rep: str = "X_pca", key_added: str = "X_smooth"
) -> None:
    """Average the components over the spatial neighbourhood: the baseline without training.

    Each step replaces a spot by the mean over itself and its neighbours. NichePCA (Schaub
    et al. 2025, doi 10.1093/bioinformatics/btaf005) showed how strong this is.

    Parameters
    ----------
    slices : AnnData, list or dict of AnnData
        With `obsp["spatial_connectivities"]`, see
        :func:`genot_helpers.preprocessing.neighbours.spatial_graph`.
    n_steps : int
        How often the mean is taken.
    use_rep, key_added : str
        Reads `obsm[use_rep]`, writes `obsm[key_added]`, same shape, float32.

    Raises
    ------
    SliceError
        If components or graph are missing, or components are not finite.
    """
    for name, adata in named_slices(slices).items():
        components = embedding(adata, name, use_rep)
        adata.obsm[key_added] = smooth(components, neighbour_mean(adata, name), n_steps)


def preprocess(
    slices: Slices,
    *,
    n_genes: int = 3000,
    n_components: int = 30,
    n_neighbors: int = 6,
) -> None:
    """Check, normalise, select genes, compute joint components, build the spatial graphs.

    Parameters
    ----------
    slices : AnnData, list or dict of AnnData
        Slices with `X` (counts or other non-negative values) and `obsm["spatial"]`.
    n_genes : int
        Highly variable genes kept per slice; all are kept if there are fewer.
    n_components : int
        Joint principal components.
    n_neighbors : int
        Neighbours in the spatial graph where spots do not lie on a hexagonal grid.

    Notes
    -----
    Writes `layers["log1p"]`, `var["genot_selected"]`, `obsm["X_pca"]`,
    `obsp["spatial_connectivities"]`, `obsp["spatial_distances"]` and `uns["genot"]`.

    Raises
    ------
    SliceError
        If a slice is not fit for use; nothing is written then.
    """
    found = as_list(slices)
    names = list(slices) if isinstance(slices, dict) else range(len(found))
    for name, adata in zip(names, found, strict=True):
        check_slice(adata, name=f"slice {name}", min_spots=n_neighbors + 2)
    normalise(found)
    for adata in found:
        select_highly_variable(adata, n_genes=n_genes)
        spatial_graph(adata, n_neighbors=n_neighbors)
    joint_components(found, n_components=n_components)
