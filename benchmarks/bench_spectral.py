"""How the default way, closed-form encoder and consensus of mixtures, grows with the slice.

    python benchmarks/bench_spectral.py [number of spots ...]

One process per size, so that peak memory is that size's own; imports included. Spots on a jittered
grid, 30 components, seven wavy layers.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np
from anndata import AnnData


def layered_slice(n_spots: int, seed: int = 0) -> AnnData:
    """Simulate components of spots in seven wavy layers that single spots hardly show."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n_spots**0.5))
    grid = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)[:n_spots].astype(float)
    depth = grid[:, 1] / side + 0.05 * np.sin(4 * np.pi * grid[:, 0] / side)
    domain = np.clip((depth * 7).astype(int), 0, 6)
    features = rng.normal(size=(n_spots, 30)).astype(np.float32)
    features[:, :10] += rng.normal(size=(7, 10)).astype(np.float32)[domain] * 0.5
    adata = AnnData(shape=(n_spots, 0))
    adata.obsm["spatial"] = grid + rng.uniform(-0.2, 0.2, grid.shape)
    adata.obsm["X_pca"] = features
    return adata


def measure(n_spots: int) -> None:
    import genot_helpers as gh

    adata = layered_slice(n_spots)
    seconds = []
    for step in (gh.spatial_graph, gh.spectral_embedding, lambda one: gh.cluster_mixture(one, 7)):
        begin = time.perf_counter()
        step(adata)
        seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {n_spots:,} | " + " | ".join(f"{s:.2f}" for s in seconds) + f" | {memory:,.0f} |")


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        measure(int(sys.argv[2]))
        return
    print(
        "| spots | graph, s | encoder, s | clustering, s | peak memory, MB |\n|---|---|---|---|---|"
    )
    for n_spots in sys.argv[1:] or ("3600", "10000", "50000", "100000", "200000"):
        subprocess.run([sys.executable, __file__, "--one", n_spots], check=True)


if __name__ == "__main__":
    main()
