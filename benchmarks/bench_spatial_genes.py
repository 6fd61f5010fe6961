"""Time the three label-free gene selections, on a real section and on a whole transcriptome.

The forerunner's tutorial needs about 8 minutes for the Gaussian-process selection (SOMDE) of 33,538
genes on 3,639 spots, fitting one gene after the other. Run it with

    GENOT_DATA_DIR=path/to/slices python benchmarks/bench_spatial_genes.py

Without GENOT_DATA_DIR only the simulated section is timed. Times are wall clock and depend on the
machine; fix the number of threads with OMP_NUM_THREADS to compare.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
import squidpy as sq
from scipy import sparse

from genot_helpers import select_by_gaussian_process, select_by_moran, select_highly_variable

SELECTIONS = {
    "highly variable": select_highly_variable,
    "Moran's I": select_by_moran,
    "Gaussian process": select_by_gaussian_process,
}


def read_section(folder: Path) -> anndata.AnnData:
    """Read counts and coordinates of a Visium section as Space Ranger 1.x writes it."""
    adata = sc.read_10x_h5(folder / "filtered_feature_bc_matrix.h5")
    adata.var_names_make_unique()
    places = pd.read_csv(folder / "spatial" / "tissue_positions_list.csv", header=None, index_col=0)
    adata.obsm["spatial"] = places.loc[adata.obs_names, [5, 4]].to_numpy(dtype=float)
    return adata


def simulate_section(n_spots: int, n_genes: int, *, counts_per_spot: int = 3000, seed: int = 0):
    """Simulate Poisson counts on a hexagonal grid; every tenth gene is a gradient along x."""
    rng = np.random.default_rng(seed)
    n_rows = int(np.sqrt(n_spots))
    column, row = np.divmod(np.arange(n_spots), n_rows)
    coords = np.column_stack([column * np.sqrt(3) / 2, row + 0.5 * (column % 2)])
    mean = rng.lognormal(sigma=2.0, size=n_genes)
    mean *= counts_per_spot / mean.sum()
    # Poisson counts drawn molecule by molecule: the total of a gene, then the spot of each one.
    gene = np.repeat(np.arange(n_genes), rng.poisson(mean * n_spots))
    place = rng.random(len(gene))
    # Spots are numbered along x, so squaring moves molecules to the left.
    place = np.where(gene % 10 == 0, place**1.5, place)
    spot = (place * n_spots).astype(np.intp)
    ones = np.ones(len(gene), dtype=np.float32)
    counts = sparse.coo_matrix((ones, (spot, gene)), shape=(n_spots, n_genes)).tocsr()
    return anndata.AnnData(counts, obsm={"spatial": coords})


def time_selections(name: str, adata: anndata.AnnData, n_genes: int) -> list[dict]:
    """Time each selection once, after the spatial graph has been built."""
    sq.gr.spatial_neighbors_knn(adata, n_neighs=6)
    rows = []
    for method, select in SELECTIONS.items():
        start = time.perf_counter()
        ranked = select(adata, n_genes=n_genes)
        rows.append(
            {
                "section": name,
                "spots": adata.n_obs,
                "genes": adata.n_vars,
                "method": method,
                "seconds": round(time.perf_counter() - start, 1),
                "best genes": " ".join(ranked.index[:5]),
            }
        )
    return rows


def main() -> None:
    """Print one row for each section and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spots", type=int, default=3639, help="spots of the simulated section")
    parser.add_argument("--genes", type=int, default=33538, help="genes of the simulated section")
    parser.add_argument("--keep", type=int, default=3000, help="genes to select")
    options = parser.parse_args()
    # The first call compiles squidpy's and scanpy's numba functions: not to be timed.
    time_selections("warm-up", simulate_section(400, 50), 10)
    rows = []
    if "GENOT_DATA_DIR" in os.environ:
        folder = Path(os.environ["GENOT_DATA_DIR"]) / "dlpfc" / "151673"
        rows += time_selections("151673", read_section(folder), options.keep)
    rows += time_selections(
        "simulated", simulate_section(options.spots, options.genes), options.keep
    )
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
