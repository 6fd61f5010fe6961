"""From an embedding or cell types to spatial domains, with a confidence for each spot."""

from .clusterers import cluster_leiden, cluster_louvain, cluster_mclust, cluster_with
from .composition import CompositionDomains, choose_n_compositions, cluster_composition
from .domains import choose_n_domains, cluster_mixture, refine_domains
from .front_door import THRESHOLD, FoundDomains, find_domains, neighbour_agreement
from .mixture import Consensus

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
