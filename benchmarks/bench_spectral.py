"""How the default way, closed-form encoder and consensus of mixtures, grows with the slice.

    python benchmarks/bench_spectral.py [number of spots ...]

One process per size, so that peak memory is that size's own; imports included. Spots on a jittered
grid, 30 components, seven wavy layers.
"""

from __future__ import annotations

import subprocess
import sys
import time

from layers import N_DOMAINS, layered_slice


def measure(n_spots: int) -> None:
    import genot_helpers as gh

    adata = layered_slice(n_spots, 30)
    seconds = []
    for step in (
        gh.spatial_graph,
        gh.spectral_embedding,
        lambda one: gh.cluster_mixture(one, N_DOMAINS),
    ):
        begin = time.perf_counter()
        step(adata)
        seconds.append(time.perf_counter() - begin)
    memory = gh.peak_memory_mb()
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
