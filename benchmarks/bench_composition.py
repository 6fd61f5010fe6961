"""Measure how long the composition model takes, and how much memory, as cells grow in number.

python benchmarks/bench_composition.py --cells 10000 100000 1000000

Cells are simulated: ten domains as vertical bands, each a mixture of twenty types in other shares.
Every size runs in a process of its own. Prints one Markdown row each: CPU seconds, peak memory with
the data, and the adjusted Rand index against the bands.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import anndata as ad
import numpy as np
from sklearn.metrics import adjusted_rand_score

import genot_helpers as gh


def bands(n_cells: int, *, n_domains: int = 10, n_types: int = 20, seed: int = 0) -> ad.AnnData:
    """Simulate cells with components, (n_cells, 20) float32, and no genes."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n_cells, 2)) * np.sqrt(n_cells)
    band = np.minimum((xy[:, 0] / np.sqrt(n_cells) * n_domains).astype(int), n_domains - 1)
    shares = rng.dirichlet(np.full(n_types, 0.5), n_domains)
    types = (rng.random(n_cells)[:, None] > shares[band].cumsum(axis=1)).sum(axis=1)
    types = np.minimum(types, n_types - 1)
    centres = rng.normal(size=(n_types, 20)) * 2.0
    adata = ad.AnnData(shape=(n_cells, 0))
    noise = rng.standard_normal((n_cells, 20), dtype=np.float32)
    adata.obsm["X_pca"] = centres[types].astype(np.float32) + noise
    adata.obsm["spatial"] = xy
    adata.obs["band"] = band
    return adata


def measure(n_cells: int) -> None:
    """Run once and print a row."""
    adata = bands(n_cells)
    begin, wall = time.process_time(), time.perf_counter()
    found = gh.cluster_composition(adata, 10, progress=False)
    cpu, wall = time.process_time() - begin, time.perf_counter() - wall
    peak = gh.peak_memory_mb()
    agreement = adjusted_rand_score(adata.obs["band"], found.labels)
    print(f"| {n_cells:,} | {cpu:.0f} | {wall:.0f} | {peak:,.0f} | {agreement:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", nargs="+", type=int, default=(10_000, 100_000))
    parser.add_argument("--alone", action="store_true", help="run here, without a header")
    chosen = parser.parse_args()
    if chosen.alone:
        measure(chosen.cells[0])
        return
    print(
        "| cells | CPU seconds | wall seconds | peak MB | ARI |\n|---|---|---|---|---|", flush=True
    )
    for n_cells in chosen.cells:
        command = [sys.executable, __file__, "--alone", "--cells", str(n_cells)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
