"""From an embedding or cell types to spatial domains, with a confidence for each spot."""

from .clusterers import cluster_leiden, cluster_louvain, cluster_mclust, cluster_with
from .composition import CompositionDomains, choose_n_compositions, cluster_composition
from .domains import (
    THRESHOLD,
    FoundDomains,
    choose_n_domains,
    find_domains,
    neighbour_agreement,
    refine_domains,
)
from .mixture import Consensus, cluster_mixture

__all__ = [
    "THRESHOLD",
    "CompositionDomains",
    "Consensus",
    "FoundDomains",
    "choose_n_compositions",
    "choose_n_domains",
    "cluster_composition",
    "cluster_leiden",
    "cluster_louvain",
    "cluster_mclust",
    "cluster_mixture",
    "cluster_with",
    "find_domains",
    "neighbour_agreement",
    "refine_domains",
]
