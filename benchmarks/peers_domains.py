"""Domains found by other packages and by ours: one function each, slice in, obs["domain"] out.

Run by `bench_peers.py` with the Python of the peers' environment; see there. Each function follows
the tutorial of its package. Where a package leaves the partition to the reader (GraphST, STAGATE,
BANKSY, NichePCA), all get the same one: a Gaussian mixture with tied covariance, ten starts. SpaGCN
and CellCharter bring their own. Settings: `n_domains`, `seed`, `platform` ("visium" or "cells").
"""

from __future__ import annotations

import anndata as ad
import numpy as np
from peers_exchange import serve
from scipy import sparse

N_COMPONENTS = 20  # of an embedding, before it is partitioned
FEW_GENES = 1000  # panels of fewer genes are used whole


def partition(embedding: np.ndarray, settings: dict) -> np.ndarray:
    """Cluster an embedding by a mixture with tied covariance, the likeliest of ten starts."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        settings["n_domains"], covariance_type="tied", n_init=10, random_state=settings["seed"]
    )
    return model.fit_predict(np.asarray(embedding, dtype=np.float64))


def components(values: np.ndarray, seed: int, n: int = N_COMPONENTS) -> np.ndarray:
    """Return the leading principal components, fewer where there are fewer columns."""
    from sklearn.decomposition import PCA

    return PCA(min(n, *(size - 1 for size in values.shape)), random_state=seed).fit_transform(
        values
    )


def with_domains(adata: ad.AnnData, labels: np.ndarray) -> ad.AnnData:
    """Return an answer: names and domains, nothing else."""
    answer = ad.AnnData(sparse.csr_matrix((adata.n_obs, 0), dtype=np.float32))
    answer.obs_names = adata.obs_names
    answer.obs["domain"] = np.asarray(labels).astype(str)
    return answer


def normalised(adata: ad.AnnData, n_genes: int = 3000) -> ad.AnnData:
    """Normalise depth, take logarithms, mark variable genes (all of a small panel)."""
    import scanpy as sc

    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    if adata.n_vars > FEW_GENES:
        sc.pp.highly_variable_genes(adata, n_top_genes=min(n_genes, adata.n_vars))
    else:
        adata.var["highly_variable"] = True
    return adata


def graphst(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Train GraphST, a contrastive graph network, 600 epochs; cluster its reconstruction.

    Its own steps before training (logarithm, then unit variance) on all genes of a small panel, for
    which its gene selection has no use; the sparse graph that it keeps for cells and beads.
    """
    import scanpy as sc
    import torch
    from GraphST import GraphST

    if adata.n_vars <= FEW_GENES:
        normalised(adata)
        sc.pp.scale(adata, zero_center=False, max_value=10)
    kind = "10X" if settings["platform"] == "visium" else "Slide"
    model = GraphST.GraphST(
        adata, device=torch.device("cpu"), random_seed=settings["seed"], datatype=kind
    )
    trained = model.train()
    return with_domains(
        adata, partition(components(trained.obsm["emb"], settings["seed"]), settings)
    )


def stagate(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Train STAGATE, a graph attention autoencoder, 1,000 epochs, six nearest neighbours."""
    import STAGATE_pyG

    adata = normalised(adata)
    STAGATE_pyG.Cal_Spatial_Net(adata, k_cutoff=6, model="KNN")
    trained = STAGATE_pyG.train_STAGATE(adata, random_seed=settings["seed"], verbose=False)
    trained = adata if trained is None else trained
    return with_domains(adata, partition(trained.obsm["STAGATE"], settings))


def banksy(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run BANKSY: own values, means and azimuthal gradients of 15 neighbours, 20 components.

    The weight of the neighbourhood is that of its authors: 0.8 for domains of cells, 0.2 in their
    lesson on the Visium sections. That lesson uses 6 neighbours, no gradient and no logarithm,
    which did worse here (151673: .129 for .388), so the gradient and the logarithm stay.
    """
    from banksy.embed_banksy import generate_banksy_matrix
    from banksy.initialize_banksy import initialize_banksy

    adata = normalised(adata, 2000)
    adata = adata[:, adata.var["highly_variable"]].copy()
    adata.X = adata.X.toarray()
    adata.obs["x"], adata.obs["y"] = adata.obsm["spatial"].T
    plots = dict.fromkeys(
        ("plt_edge_hist", "plt_nbr_weights", "plt_agf_angles", "plt_theta"), False
    )
    options = dict(nbr_weight_decay="scaled_gaussian", max_m=1, **plots)
    graphs = initialize_banksy(adata, ("x", "y", "spatial"), 15, **options)
    weight = 0.2 if settings["platform"] == "visium" else 0.8
    _, joined = generate_banksy_matrix(adata, graphs, [weight], 1, verbose=False)
    values = np.nan_to_num(np.asarray(joined.X))
    return with_domains(adata, partition(components(values, settings["seed"]), settings))


def nichepca(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run NichePCA: normalise, logarithm, mean over 25 neighbours, 30 components."""
    import nichepca as npc

    few = min(30, adata.n_vars - 1)
    adata.layers.clear()
    npc.utils.check_for_raw_counts = lambda *_, **__: None  # MERFISH volumes are not whole numbers
    npc.wf.nichepca(adata, knn=25, n_comps=few)
    return with_domains(adata, partition(adata.obsm["X_npca"], settings))


def cellcharter(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run CellCharter: components beside means over three layers of neighbours; its mixture.

    Components stand in for the latent variables of scVI, which its tutorials train on counts.
    """
    import cellcharter as cc
    import squidpy as sq

    adata = normalised(adata)
    chosen = adata[:, adata.var["highly_variable"]].X.toarray()
    adata.obsm["X_pca"] = components(chosen, settings["seed"], 30).astype(np.float32)
    sq.gr.spatial_neighbors(adata, coord_type="generic", delaunay=True, percentile=99)
    cc.gr.remove_long_links(adata)
    cc.gr.aggregate_neighbors(adata, n_layers=3, use_rep="X_pca", out_key="X_cellcharter")
    model = cc.tl.Cluster(n_clusters=settings["n_domains"], random_state=settings["seed"])
    model.fit(adata, use_rep="X_cellcharter")
    return with_domains(adata, model.predict(adata, use_rep="X_cellcharter"))


def spagcn(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run SpaGCN without an image: its length scale at p = 0.5, k-means start, refinement."""
    import random

    import SpaGCN as spg
    import torch

    random.seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002, the generator it draws from
    torch.manual_seed(settings["seed"])
    adata = normalised(adata)
    adata.X = adata.X.toarray()
    x, y = adata.obsm["spatial"].T.tolist()
    distances = spg.calculate_adj_matrix(x=x, y=y, histology=False)
    model = spg.SpaGCN()
    step = float(np.median(np.partition(distances, 1, axis=1)[:, 1]))
    model.set_l(spg.search_l(0.5, distances, start=0.01 * step, end=100 * step, tol=0.01))
    model.train(
        adata,
        distances,
        num_pcs=min(50, adata.n_vars - 1),
        init_spa=True,
        init="kmeans",
        n_clusters=settings["n_domains"],
        max_epochs=200,
        lr=0.05,
        tol=5e-3,
    )
    found, _ = model.predict()
    shape = "hexagon" if settings["platform"] == "visium" else "square"
    refined = spg.refine(adata.obs_names.tolist(), list(found), distances, shape=shape)
    return with_domains(adata, np.asarray(refined))


def _ours(adata: ad.AnnData, settings: dict, embed: str, consensus: bool) -> ad.AnnData:
    """Embed by the function of genot_helpers named, partition by its consensus or as the peers."""
    import genot_helpers as gh

    gh.preprocess(adata, n_genes=3000, n_components=30)
    getattr(gh, embed)(adata, key_added="X_genot")
    if not consensus:
        return with_domains(adata, partition(adata.obsm["X_genot"][:, :N_COMPONENTS], settings))
    gh.cluster_mixture(adata, settings["n_domains"], seed=settings["seed"], progress=False)
    return with_domains(adata, adata.obs["genot_domain"])


def baseline(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Smooth components four times (the trivial baseline); consensus of mixtures."""
    return _ours(adata, settings, "smooth_components", True)


def closed_form(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Embed by the closed form; consensus of mixtures."""
    return _ours(adata, settings, "spectral_embedding", True)


def closed_form_plain(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Embed by the closed form; partition as the peers do."""
    return _ours(adata, settings, "spectral_embedding", False)


def find_domains(adata: ad.AnnData, settings: dict) -> ad.AnnData:
    """Let the project choose its model."""
    import genot_helpers as gh

    gh.find_domains(adata, settings["n_domains"], seed=settings["seed"])
    return with_domains(adata, adata.obs["genot_domain"])


PEERS = {
    "banksy": banksy,
    "nichepca": nichepca,
    "graphst": graphst,
    "cellcharter": cellcharter,
    "stagate": stagate,
    "spagcn": spagcn,
    "baseline": baseline,
    "closed_form": closed_form,
    "closed_form_plain": closed_form_plain,
    "find_domains": find_domains,
}

if __name__ == "__main__":
    serve(PEERS)
