"""From an embedding to spatial domains, with a confidence for each spot."""

from .clusterers import cluster_leiden, cluster_louvain, cluster_mclust, cluster_with
from .domains import choose_n_domains, cluster_mixture, refine_domains
from .mixture import Consensus

__all__ = [
    "Consensus",
    "choose_n_domains",
    "cluster_leiden",
    "cluster_louvain",
    "cluster_mclust",
    "cluster_mixture",
    "cluster_with",
    "refine_domains",
]
