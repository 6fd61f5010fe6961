"""Other ways from an embedding to domains, for comparison with the default, cluster_mixture.

:func:`cluster_with` takes any clusterer of scikit-learn, :func:`cluster_leiden` and
:func:`cluster_louvain` find communities of the neighbour graph, :func:`cluster_mclust` calls R's
mclust (Scrucca et al. 2016, doi 10.32614/RJ-2016-021) by rpy2, which is optional. All write the
slots of :func:`genot_helpers.domains.cluster_mixture`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse
from sklearn.base import ClusterMixin, DensityMixin, clone
from sklearn.neighbors import KNeighborsTransformer

from ..arguments import checked
from ..slices.sections import Slices, by_section, named_slices
from .mixture import stacked_embedding, write_domains

_MANY_SPOTS = 8192  # from here on scanpy asks a searcher for neighbours


@by_section
@checked
def cluster_with(
    slices: Slices,
    clusterer: ClusterMixin | DensityMixin,
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    key_added: str = "genot_domain",
    section_key: str | None = None,
) -> None:
    """Find domains with any clusterer of scikit-learn.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number.
    clusterer
        For example ``KMeans(7, random_state=0)``, ``MiniBatchKMeans``, ``AgglomerativeClustering``,
        ``SpectralClustering(7, affinity="nearest_neighbors")``, ``Birch`` or ``GaussianMixture``.
        It is cloned, not changed. Agglomerative clustering without a connectivity graph
        needs memory for all pairs of spots: a few thousand spots at most.
    use_rep, n_dimensions
        The leading principal axes of ``obsm[use_rep]`` that are clustered.
    key_added
        Writes ``obs[key_added]`` and ``uns["genot"][key_added]``.
    section_key
        As for :func:`cluster_mixture`.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> cluster_with(adata, KMeans(7, random_state=0), key_added="kmeans")  # doctest: +SKIP
    """
    if not hasattr(clusterer, "fit_predict") or not hasattr(clusterer, "get_params"):
        raise TypeError(
            f"cluster_with: clusterer is {clusterer!r:.60}; give an estimator of scikit-learn that "
            "has fit_predict, such as KMeans(7)."
        )
    named = named_slices(slices)
    n_domains = getattr(clusterer, "n_clusters", getattr(clusterer, "n_components", None))
    embedding = stacked_embedding(named, use_rep, n_domains)[:, :n_dimensions]
    labels = clone(clusterer).fit_predict(embedding)
    write_domains(named, labels, key_added, method=repr(clusterer), use_rep=use_rep)


@by_section
@checked
def cluster_leiden(
    slices: Slices,
    n_domains: int | None = None,
    *,
    resolution: float | None = None,
    use_rep: str = "X_genot",
    n_neighbors: int = 15,
    key_added: str = "genot_domain",
    seed: int = 0,
    section_key: str | None = None,
) -> float:
    """Find domains as Leiden communities of the embedding's neighbour graph (scanpy, igraph).

    Traag et al. 2019, doi 10.1038/s41598-019-41695-z.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number.
    n_domains
        Searches the resolution that gives this many; give this or ``resolution``.
    resolution
        Give it, or ``n_domains``.
    use_rep, n_neighbors, seed
        Embedding slot, neighbours of a spot in it, random seed.
    key_added
        Writes ``obs[key_added]`` and ``uns["genot"][key_added]``.
    section_key
        As for :func:`cluster_mixture`.

    Returns
    -------
    float
        The resolution used.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of another width in one of the slices.
    ValueError
        If not exactly one of ``n_domains`` and ``resolution`` is given, or no resolution gives
        that many communities.
    """
    named = named_slices(slices)
    holder = _community_graph(named, n_domains, resolution, use_rep, n_neighbors, seed)

    def communities(at: float) -> np.ndarray:
        options = {"flavor": "igraph", "n_iterations": -1, "directed": False, "random_state": seed}
        sc.tl.leiden(holder, resolution=at, key_added="found", **options)
        return holder.obs["found"].cat.codes.to_numpy()

    return _write_communities(named, communities, n_domains, resolution, key_added, "leiden", seed)


@by_section
@checked
def cluster_louvain(
    slices: Slices,
    n_domains: int | None = None,
    *,
    resolution: float | None = None,
    use_rep: str = "X_genot",
    n_neighbors: int = 15,
    key_added: str = "genot_domain",
    seed: int = 0,
    section_key: str | None = None,
) -> float:
    """Find domains as Louvain communities of the embedding's neighbour graph (networkx).

    Blondel et al. 2008, doi 10.1088/1742-5468/2008/10/P10008. Kept for comparison with older
    work; Leiden avoids its badly connected communities. Parameters, result and errors as
    in :func:`cluster_leiden`.
    """
    import networkx as nx

    named = named_slices(slices)
    holder = _community_graph(named, n_domains, resolution, use_rep, n_neighbors, seed)
    graph = nx.from_scipy_sparse_array(holder.obsp["connectivities"])

    def communities(at: float) -> np.ndarray:
        labels = np.empty(holder.n_obs, dtype=int)
        parts = nx.community.louvain_communities(graph, resolution=at, seed=seed)
        for number, members in enumerate(parts):
            labels[list(members)] = number
        return labels

    return _write_communities(named, communities, n_domains, resolution, key_added, "louvain", seed)


def _write_communities(named, communities, n_domains, resolution, key_added, method, seed) -> float:
    """Write the communities at the resolution given or found; return the resolution."""
    if resolution is None:
        labels, resolution = _search_resolution(communities, n_domains)
    else:
        labels = communities(resolution)
    write_domains(named, labels, key_added, method=method, resolution=float(resolution), seed=seed)
    return float(resolution)


def _community_graph(
    named: Mapping[str, ad.AnnData],
    n_domains: int | None,
    resolution: float | None,
    use_rep: str,
    n_neighbors: int,
    seed: int,
) -> ad.AnnData:
    """Nearest-neighbour graph in the embedding, by scanpy, on an otherwise empty AnnData."""
    if (n_domains is None) == (resolution is None):
        raise ValueError("Give either n_domains or resolution, not both and not neither.")
    embedding = stacked_embedding(named, use_rep, n_domains)
    holder = ad.AnnData(obsm={"X": embedding}, shape=(len(embedding), 0))
    search = _ExactNeighbours(n_neighbors=n_neighbors) if len(embedding) >= _MANY_SPOTS else None
    sc.pp.neighbors(
        holder, n_neighbors=n_neighbors, use_rep="X", random_state=seed, transformer=search
    )
    return holder


class _ExactNeighbours(KNeighborsTransformer):
    """Exact neighbours for scanpy, which cannot read the sparse array of scikit-learn 1.9."""

    def fit_transform(self, X: np.ndarray, y: None = None) -> sparse.csr_matrix:
        """Return the distances to the nearest spots, (n, n) sparse."""
        return sparse.csr_matrix(super().fit_transform(X))


def _search_resolution(communities, n_domains: int) -> tuple[np.ndarray, float]:
    """Halve the interval of resolutions until ``communities(resolution)`` gives ``n_domains``."""
    low, high = 0.0, 1.0
    while len(np.unique(communities(high))) < n_domains and high < 64:
        low, high = high, 2 * high
    closest: tuple[float, Any, float] = (np.inf, None, high)
    for _ in range(24):
        middle = (low + high) / 2
        labels = communities(middle)
        n_found = len(np.unique(labels))
        closest = min(closest, (abs(n_found - n_domains), labels, middle), key=lambda c: c[0])
        if n_found == n_domains:
            break
        low, high = (middle, high) if n_found < n_domains else (low, middle)
    distance, labels, resolution = closest
    if distance:
        raise ValueError(
            f"No resolution gives exactly {n_domains} communities (closest: "
            f"{len(np.unique(labels))} at resolution {resolution:.4f}). "
            "Pass that resolution, or another number of domains."
        )
    return labels, resolution


# -------------------------------------------------------------------------------------------------
# R's mclust from Python.


@by_section
@checked
def cluster_mclust(
    slices: Slices,
    n_domains: int,
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    model: str = "EEE",
    key_added: str = "genot_domain",
    seed: int = 0,
    section_key: str | None = None,
) -> None:
    """Find domains with R's mclust (one hierarchical start), as the published GenOT does.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number.
    n_domains
        Number of domains, at most the number of spots.
    use_rep, n_dimensions
        The leading principal axes of ``obsm[use_rep]`` that are clustered.
    model
        Covariance model of mclust; "EEE" is one covariance shared by all domains.
    key_added
        Writes ``obs[key_added]`` and ``uns["genot"][key_added]``.
    seed
        Same seed and machine: the same domains.
    section_key
        As for :func:`cluster_mixture`.

    Raises
    ------
    ImportError
        If rpy2, R or R's mclust is missing; the message says how to get them.
    ValueError
        If mclust cannot fit the model.
    """
    named = named_slices(slices)
    embedding = stacked_embedding(named, use_rep, n_domains)[:, :n_dimensions]
    labels = _run_mclust(embedding, n_domains, model, seed)
    facts = {"method": f"mclust {model}", "use_rep": use_rep, "seed": seed}
    write_domains(named, labels, key_added, **facts)


@contextmanager
def _library_path_kept() -> Iterator[None]:
    """Undo what rpy2 does to LD_LIBRARY_PATH when it is imported."""
    # A notebook started from here would load Python's own libraries from the system's folders.
    before = os.environ.get("LD_LIBRARY_PATH")
    try:
        yield
    finally:
        os.environ.pop("LD_LIBRARY_PATH", None)
        if before is not None:
            os.environ["LD_LIBRARY_PATH"] = before


def _run_mclust(embedding: np.ndarray, n_domains: int, model: str, seed: int) -> np.ndarray:
    try:
        with _library_path_kept():
            import rpy2.robjects as robjects
            from rpy2.robjects import numpy2ri

        robjects.r("suppressPackageStartupMessages(library(mclust))")
    except Exception as problem:  # rpy2 raises several kinds, depending on what is missing
        raise ImportError(
            "cluster_mclust needs R with its package mclust, and rpy2. Debian and Ubuntu: "
            "apt install r-base-core r-cran-mclust; conda: conda install -c conda-forge "
            "r-base r-mclust rpy2; elsewhere install R, then run install.packages('mclust') in "
            f"it. cluster_mixture fits the same model without R. (Cause: {problem!r})"
        ) from problem
    with (robjects.default_converter + numpy2ri.converter).context() as conversion:
        points = conversion.py2rpy(embedding)
    robjects.r["set.seed"](seed)
    fit = robjects.r["Mclust"](points, G=n_domains, modelNames=model, verbose=False)
    if fit is robjects.NULL:
        raise ValueError(
            f"mclust could not fit model {model} with {n_domains} domains to {len(embedding)} "
            f"spots of {embedding.shape[1]} dimensions. Use fewer domains or dimensions."
        )
    return np.asarray(fit.rx2("classification"), dtype=int)
