"""How well are annotated domains found? Every method, every real slice, several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/bench_domains.py
Options: --slices 151673 merfish_9   --methods baseline spectral   --seeds 5
         --together   sections of one tissue share embedding and domains (`together_with` in 01)
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


def prepared(names: list[str]):
    """Load slices and take them to joint components and graphs, as notebook 01 does."""
    slices = gh.load_slices(names, data_source="local")
    gh.preprocess(slices, n_genes=3000, n_components=30)
    return slices


def embed(slices, method: str, seed: int) -> None:
    """Write the embedding of one method to obsm["X_genot"]."""
    if method == "baseline":
        gh.smooth_components(slices, key_added="X_genot")
    elif method == "spectral":
        gh.spectral_embedding(slices)
    else:
        gh.train_encoder(slices, configuration=method, seed=seed, progress=False)


def measure(names: list[str], method: str, seeds: int) -> None:
    """Cluster slices together, once for every seed, and print a row for each of them."""
    slices = prepared(names)
    labels = [set(adata.obs["domain_truth"].cat.categories) for adata in slices.values()]
    begin, agreement, scores = time.process_time(), [], {name: [] for name in slices}
    for seed in range(seeds):
        embed(slices, method, seed)
        found = gh.cluster_mixture(slices, len(set.union(*labels)), seed=seed, progress=False)
        agreement.append(found.agreement)
        for name, adata in slices.items():
            scores[name].append(gh.score_domains(adata))
    seconds = (time.process_time() - begin) / seeds
    for name, found in scores.items():
        ari = [score["ari"] for score in found]
        f1 = np.mean([score["macro_f1"] for score in found])
        print(
            f"| {name} | {method} | {np.mean(ari):.3f} | {np.std(ari):.3f} | {f1:.3f} "
            f"| {np.mean(agreement):.2f} | {seconds:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", nargs="+", default=SLICES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--together", action="store_true")
    chosen = parser.parse_args()
    if "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    groups = [[name] for name in chosen.slices]
    if chosen.together:
        mouse = [name for name in chosen.slices if name.startswith("merfish")]
        groups = [[name for name in chosen.slices if name not in mouse], mouse]
    print("| slice | method | ARI | sd | macro F1 | agreement | CPU seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for names in filter(None, groups):
        for method in chosen.methods:
            measure(names, method, chosen.seeds)


if __name__ == "__main__":
    main()
