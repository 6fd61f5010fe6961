"""How well are annotated domains found? Every method, every real slice, several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/bench_domains.py
Options: --slices 151673 merfish_9 osmfish   --methods baseline composition find_domains   --seeds 5
         --together   sections of one tissue share embedding and domains (`together_with` in 01)
         --keep 01    write the scores where notebook 01 finds them (gh.real_scores)
The slice "simulated" is the cortex that notebook 01 shows without data, drawn anew for each seed.
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
from real_scores import keep, row
from sklearn.metrics import adjusted_rand_score

import genot_helpers as gh

SLICES = ("151673", "151674", "151675", "merfish_4", "merfish_9", "merfish_14")
SAID = {"spectral": "closed form"}  # in words
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


def prepared(names: list[str], seed: int = 0):
    """Load slices and take them to joint components and graphs, as notebook 01 does."""
    own = {"osmfish": osmfish, "simulated": lambda: simulated(seed)}
    own |= {name: lambda name=name: fly(name[4:]) for name in names if name.startswith("fly")}
    others = [name for name in names if name not in own]
    slices = dict(gh.load_slices(others, data_source="local")) if others else {}
    slices |= {name: read() for name, read in own.items() if name in names}
    n_genes = min(adata.n_vars for adata in slices.values())
    gh.preprocess(slices, n_genes=3000, n_components=min(30, n_genes - 1))
    return slices


def simulated(seed: int) -> ad.AnnData:
    """Simulate the cortex that stands in for 151673 where there is no data."""
    return gh.load_slice("151673", data_source="demo", seed=seed)


def fly(section: str) -> ad.AnnData:
    """Read a section of a fly embryo, Stereo-seq ("fly S01"), with its annotated tissues."""
    folder = Path(os.environ["GENOT_DATA_DIR"]) / "stereoseq_drosophila"
    path = next(folder.glob(f"*{section}.h5ad"))
    return gh.load_slice(section, data_source=str(path), label_key="annotation")


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


def measure(names: list[str], method: str, seeds: int) -> dict[str, list[dict[str, float]]]:
    """Cluster slices together, once for every seed; print a row for each, return their scores."""
    slices = prepared(names)
    labels = [set(adata.obs["domain_truth"].cat.categories) for adata in slices.values()]
    begin, runs, scores = time.process_time(), [], {name: [] for name in slices}
    for seed in range(seeds):
        if names == ["simulated"]:  # another seed, another tissue
            slices = prepared(names, seed)
        runs.append(found_by(slices, method, len(set.union(*labels)), seed))
        for name, adata in slices.items():
            scores[name].append(gh.score_domains(adata))
    seconds = (time.process_time() - begin) / seeds
    within = np.mean([run.agreement for run in runs])
    pairs = itertools.combinations([run.labels for run in runs], 2)
    alike = seeds > 1 and names != ["simulated"]
    between = np.mean([adjusted_rand_score(*pair) for pair in pairs]) if alike else np.nan
    for name, found in scores.items():
        ari = [score["ari"] for score in found]
        f1 = np.mean([score["macro_f1"] for score in found])
        print(
            f"| {name} | {method} | {np.mean(ari):.3f} | {np.std(ari):.3f} | {f1:.3f} "
            f"| {within:.2f} | {between:.2f} | {seconds:.1f} |",
            flush=True,
        )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", nargs="+", default=SLICES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--keep", metavar="NOTEBOOK")
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
            scores = measure(names, method, chosen.seeds)
            rows = [
                row(name, SAID.get(method, method), score, [one[score] for one in found])
                for name, found in scores.items()
                for score in ("ari", "macro_f1")
            ]
            if chosen.keep:
                keep(
                    chosen.keep, rows, f"python benchmarks/bench_domains.py --seeds {chosen.seeds}"
                )


if __name__ == "__main__":
    main()
