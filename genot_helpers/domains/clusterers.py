"""Other ways from an embedding to domains: scikit-learn's clusterers, and communities.

One function per method, all with the slots of :func:`genot_helpers.domains.cluster_mixture`, which
is the default. They are here to compare with, and because readers know them.
"""

from __future__ import annotations

from collections.abc import Mapping

import anndata as ad
import numpy as np
import scanpy as sc
from sklearn.base import ClusterMixin, DensityMixin, clone

from ..slices.several import Slices, named_slices
from .domains import stacked_embedding, write_domains

__all__ = ["cluster_leiden", "cluster_louvain", "cluster_with"]


def cluster_with(
    slices: Slices,
    clusterer: ClusterMixin | DensityMixin,
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    key_added: str = "genot_domain",
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

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> cluster_with(adata, KMeans(7, random_state=0), key_added="kmeans")  # doctest: +SKIP
    """
    named = named_slices(slices)
    n_domains = getattr(clusterer, "n_clusters", getattr(clusterer, "n_components", None))
    embedding = stacked_embedding(named, use_rep, n_domains)[:, :n_dimensions]
    labels = clone(clusterer).fit_predict(embedding)
    write_domains(named, labels, key_added, method=repr(clusterer), use_rep=use_rep)


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
    sc.pp.neighbors(holder, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    return holder


def _search_resolution(communities, n_domains: int) -> tuple[np.ndarray, float]:
    """Halve the interval of resolutions until ``communities(resolution)`` gives ``n_domains``."""
    low, high = 0.0, 1.0
    while len(np.unique(communities(high))) < n_domains and high < 64:
        low, high = high, 2 * high
    closest = (np.inf, None, high)
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


def cluster_leiden(
    slices: Slices,
    n_domains: int | None = None,
    *,
    resolution: float | None = None,
    use_rep: str = "X_genot",
    n_neighbors: int = 15,
    key_added: str = "genot_domain",
    seed: int = 0,
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
        sc.tl.leiden(
            holder,
            resolution=at,
            flavor="igraph",
            n_iterations=-1,
            directed=False,
            random_state=seed,
            key_added="found",
        )
        return holder.obs["found"].cat.codes.to_numpy()

    return _write_communities(named, communities, n_domains, resolution, key_added, "leiden", seed)


def cluster_louvain(
    slices: Slices,
    n_domains: int | None = None,
    *,
    resolution: float | None = None,
    use_rep: str = "X_genot",
    n_neighbors: int = 15,
    key_added: str = "genot_domain",
    seed: int = 0,
) -> float:
    """Find domains as Louvain communities of the embedding's neighbour graph (networkx).

    Blondel et al. 2008, doi 10.1088/1742-5468/2008/10/P10008. Kept for comparison with older
    work; Leiden mends its badly connected communities. Parameters, result and errors as
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
    """Settle the resolution, write the communities, return the resolution."""
    if resolution is None:
        labels, resolution = _search_resolution(communities, n_domains)
    else:
        labels = communities(resolution)
    write_domains(named, labels, key_added, method=method, resolution=float(resolution), seed=seed)
    return float(resolution)
