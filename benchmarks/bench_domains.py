"""How well are annotated domains found? Every method, every real slice, several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/bench_domains.py
Options: --slices 151673 merfish_9 osmfish   --methods baseline composition find_domains   --seeds 5
         --together   sections of one tissue share embedding and domains (`together_with` in 01)
Prints one Markdown row per slice and method: mean and standard deviation over seeds; agreement of
the solutions of one run, and of the domains of all slices between seeds (adjusted Rand index).
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

import anndata as ad
import numpy as np
from sklearn.metrics import adjusted_rand_score

import genot_helpers as gh

SLICES = ("151673", "151674", "151675", "merfish_4", "merfish_9", "merfish_14")
METHODS = ("baseline", "spectral", "composition", "find_domains", "default")


def osmfish() -> ad.AnnData:
    """Read the cortex of osmFISH; cells that share a position (476 of them) move a little apart."""
    folder = Path(os.environ["GENOT_DATA_DIR"]) / "osmfish_cortex"
    adata = ad.read_h5ad(next(folder.glob("*.h5ad")))
    points = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2]
    step = 1e-5 * np.ptp(points, axis=0)
    adata.obsm["spatial"] = points + np.random.default_rng(0).normal(size=points.shape) * step
    region = adata.obs["region"].astype(str)
    adata.obs["domain_truth"] = region.where(~region.isin(["Excluded", "nan"])).astype("category")
    return adata


def prepared(names: list[str]):
    """Load slices and take them to joint components and graphs, as notebook 01 does."""
    own = {"osmfish": osmfish} if "osmfish" in names else {}
    others = [name for name in names if name not in own]
    slices = dict(gh.load_slices(others, data_source="local")) if others else {}
    slices |= {name: read() for name, read in own.items()}
    n_genes = min(adata.n_vars for adata in slices.values())
    gh.preprocess(slices, n_genes=3000, n_components=min(30, n_genes - 1))
    return slices


def found_by(slices, method: str, n_domains: int, seed: int):
    """Find domains by one method, and return what its function returns."""
    options = {"seed": seed, "progress": False}
    if method == "composition":
        return gh.cluster_composition(slices, n_domains, **options)
    if method == "find_domains":
        for adata in slices.values():
            adata.obsm.pop("X_genot", None)
        return gh.find_domains(slices, n_domains, **options).result
    if method == "baseline":
        gh.smooth_components(slices, key_added="X_genot")
    elif method == "spectral":
        gh.spectral_embedding(slices)
    else:
        gh.train_encoder(slices, configuration=method, seed=seed, progress=False)
    return gh.cluster_mixture(slices, n_domains, **options)


def measure(names: list[str], method: str, seeds: int) -> None:
    """Cluster slices together, once for every seed, and print a row for each of them."""
    slices = prepared(names)
    labels = [set(adata.obs["domain_truth"].cat.categories) for adata in slices.values()]
    begin, runs, scores = time.process_time(), [], {name: [] for name in slices}
    for seed in range(seeds):
        runs.append(found_by(slices, method, len(set.union(*labels)), seed))
        for name, adata in slices.items():
            scores[name].append(gh.score_domains(adata))
    seconds = (time.process_time() - begin) / seeds
    within = np.mean([run.agreement for run in runs])
    pairs = itertools.combinations([run.labels for run in runs], 2)
    between = np.mean([adjusted_rand_score(*pair) for pair in pairs]) if seeds > 1 else 1.0
    for name, found in scores.items():
        ari = [score["ari"] for score in found]
        f1 = np.mean([score["macro_f1"] for score in found])
        print(
            f"| {name} | {method} | {np.mean(ari):.3f} | {np.std(ari):.3f} | {f1:.3f} "
            f"| {within:.2f} | {between:.2f} | {seconds:.1f} |",
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
    print("| slice | method | ARI | sd | macro F1 | agreement | of seeds | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for names in filter(None, groups):
        for method in chosen.methods:
            measure(names, method, chosen.seeds)


if __name__ == "__main__":
    main()
