"""How couplings of two slices grow with the number of spots: time, memory, and cost of tiles.

    python benchmarks/bench_transport.py [number of spots ...]

One process per size and way, so that peak memory is its own; imports included in memory, not in
time. Spots are scattered evenly and independently in both slices, which is harder than real
neighbouring sections. "above exact" is the objective relative to the exact solution, where that
takes minutes at most; the entropic coupling blurs on purpose.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

LARGEST_EXACT = 100_000


def measure(way: str, n_spots: int) -> None:
    from genot_helpers import entropic_coupling, peak_memory_mb, sparse_coupling

    rng = np.random.default_rng(0)
    left, right = (rng.uniform(0, np.sqrt(n_spots), (n_spots, 2)) for _ in range(2))
    if way == "entropic":
        coupling = entropic_coupling(left, right)
    else:
        coupling = sparse_coupling(
            left, right, max_exact=n_spots if way == "exact" else n_spots - 1
        )
    memory = peak_memory_mb()
    print(coupling.seconds, memory, coupling.objective, coupling.unmatched_fraction)


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--one":
        measure(sys.argv[2], int(sys.argv[3]))
        return
    print("| spots in each slice | way | time, s | peak memory, MB | unmatched | above exact |")
    print("|---|---|---|---|---|---|")
    for n_spots in map(int, sys.argv[1:] or ("5500", "20000", "50000", "100000")):
        best = np.nan
        for way in ("exact", "tiled", "entropic"):
            if (way == "exact" and n_spots > LARGEST_EXACT) or (
                way == "tiled" and n_spots < 10_000
            ):
                continue
            command = [sys.executable, __file__, "--one", way, str(n_spots)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds, memory, objective, unmatched = map(float, answer.split())
            best = objective if way == "exact" else best
            print(
                f"| {n_spots:,} | {way} | {seconds:.1f} | {memory:,.0f} | {unmatched:.2%} "
                f"| {objective / best - 1:.3%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
