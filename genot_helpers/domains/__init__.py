"""From an embedding to spatial domains, with a confidence for each spot."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "domains": [
            "choose_n_domains",
            "cluster_mixture",
            "refine_domains",
        ],
        "clusterers": [
            "cluster_leiden",
            "cluster_louvain",
            "cluster_mclust",
            "cluster_with",
        ],
    },
)
