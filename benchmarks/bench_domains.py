"""How well are annotated domains found? Every method, every real slice, several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/bench_domains.py
Options: --slices 151673 merfish_9   --methods baseline spectral   --seeds 5
Prints one Markdown row per slice and method: mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

import genot_helpers as gh

SLICES = ("151673", "151674", "151675", "merfish_4", "merfish_9", "merfish_14")
METHODS = ("baseline", "spectral", "default")


def prepared(name: str):
    """Load a slice and take it to joint components and graph, as notebook 01 does."""
    adata = gh.load_slice(name, data_source="local")
    gh.normalise(adata)
    gh.select_highly_variable(adata, n_genes=3000)
    gh.joint_components(adata, n_components=30)
    gh.spatial_graph(adata)
    return adata


def embed(adata, method: str, seed: int) -> None:
    """Write the embedding of one method to obsm["X_genot"]."""
    if method == "baseline":
        gh.smooth_components(adata, key_added="X_genot")
    elif method == "spectral":
        gh.spectral_embedding(adata)
    else:
        gh.train_encoder(adata, configuration=method, seed=seed, progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", nargs="+", default=SLICES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    if "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    print("| slice | method | ARI | sd | macro F1 | agreement | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in chosen.slices:
        adata = prepared(name)
        n_domains = adata.obs["domain_truth"].nunique()
        for method in chosen.methods:
            begin, scores, agreement = time.perf_counter(), [], []
            for seed in range(chosen.seeds):
                embed(adata, method, seed)
                found = gh.cluster_mixture(adata, n_domains, seed=seed, progress=False)
                scores.append(gh.score_domains(adata))
                agreement.append(found.agreement)
            seconds = (time.perf_counter() - begin) / chosen.seeds
            ari = [score["ari"] for score in scores]
            f1 = [score["macro_f1"] for score in scores]
            print(
                f"| {name} | {method} | {np.mean(ari):.3f} | {np.std(ari):.3f} | {np.mean(f1):.3f} "
                f"| {np.mean(agreement):.2f} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
