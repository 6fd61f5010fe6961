"""How good is the slice in between, and what does it cost? Scores, time and memory.

Scores need the real slices: GENOT_DATA_DIR=<folder> python benchmarks/bench_interpolation.py
Options: --triples merfish dlpfc fly heart   --seeds 3   --t 0.5   --sizes 5500 20000 100000
Either list may be empty: then that part is left out.

Scores: a real section is held out and generated from its neighbours, at the position its depth
gives. Right and held-out section are aligned to the left one; the held-out one for scoring only.
Per score, Markdown rows of everything in the table of genot_helpers.evaluation.generated_scores:
mean ± standard deviation over seeds, which also decide how the held-out section is halved.

Sizes: scattered simulated spots with 150 genes in both slices, independent of each other, which is
harder than real neighbouring sections. One process per size and step, so that peak memory is its
own; imports and the slices themselves (0.2 GB at 100,000 spots) are included in memory, not in
time. With and without layers["mean"], which is dense.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from anndata import AnnData, read_h5ad
from scipy import sparse

FLY, HEART = "stereoseq_drosophila/drosophila_stereoseq_E14-16h", "heart_st/heart_ST_6.5pcw"
TRIPLES = {  # left, right, held out; column for the composition of niches
    "merfish": ("merfish_4", "merfish_14", "merfish_9", "cell_class"),
    "dlpfc": ("151673", "151675", "151674", None),
    "fly": (*(f"{FLY}_S0{number}.h5ad" for number in (1, 3, 2)), None),
    "heart": (
        *(f"{HEART}_{section}.h5ad" for section in ("3_CN73_D2", "5_CN74_E1", "4_CN73_C2")),
        None,
    ),
}
LABELS = {"fly": "annotation", "heart": "region"}  # what the files call their domains
REGISTERED = {"heart"}  # as distributed, to an atlas
N_GENES = 150


def load_triple(name: str) -> list[AnnData]:
    """Load left, right and held-out section, all in the frame of the left one."""
    from genot_helpers import align, apply_alignment, load_slice

    if name in LABELS:
        slices = [read_file(file, LABELS[name]) for file in TRIPLES[name][:3]]
    else:
        slices = [load_slice(section, data_source="local") for section in TRIPLES[name][:3]]
    for moving in slices[1:] if name not in REGISTERED else ():
        # Thin sections of few bins agree too little for the verdict of the alignment, not for it.
        found = align(slices[0], moving, on_poor="return" if name in LABELS else "raise")
        apply_alignment(moving, found, key_added="spatial")
    return slices


def read_file(file: str, label_key: str) -> AnnData:
    """Read a slice that no registry names; of spots in one place, keep the first."""
    adata = read_h5ad(Path(os.environ["GENOT_DATA_DIR"]) / file)
    points = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2]
    first = np.sort(np.unique(points, axis=0, return_index=True)[1])
    adata.obsm["spatial"] = points
    adata.obs["domain_truth"] = adata.obs[label_key].astype(str)
    adata.uns = {}
    return adata[first].copy()


def score_triple(name: str, seeds: int, t: float | None) -> None:
    from genot_helpers import gap_closed, interpolate, position_between, score_table

    left, right, held_out = load_triple(name)
    if t is None:
        t = 0.5 if name in LABELS else position_between(left, right, held_out)
    tables, gaps, seconds = [], [], []
    for seed in range(seeds):
        begin = time.perf_counter()
        generated = interpolate(left, right, t, seed=seed, progress=False)
        seconds.append(time.perf_counter() - begin)
        table = score_table(
            generated, left, right, held_out, t=t, niche_key=TRIPLES[name][3], seed=seed
        )
        tables.append(table)
        gaps.append(gap_closed(table))
    values = np.array([table.to_numpy() for table in tables])
    mean, spread = values.mean(axis=0), values.std(axis=0)
    print(f"\n{name}: {left.n_obs:,} + {right.n_obs:,} spots, t = {t:.3f}, {seeds} seeds\n")
    print("| score | " + " | ".join(tables[0].index) + " |")
    print("|---|" + "---|" * len(tables[0]))
    for column, score in enumerate(tables[0].columns):
        cells = (
            f"{value:,.0f}" if score.startswith("n_") else f"{value:.3f} ± {sd:.3f}"
            for value, sd in zip(mean[:, column], spread[:, column], strict=True)
        )
        print(f"| {score} | " + " | ".join(cells) + " |")
    print(f"\ngap closed (map): {np.mean(gaps):.2f} ± {np.std(gaps):.2f}")
    print(f"seconds, with layers['mean']: {np.mean(seconds):.1f}", flush=True)


def scattered_slice(n_spots: int, seed: int) -> AnnData:
    """Simulate one spot per unit of area: ten kinds of cells, whose mixture varies in space."""
    tissue, rng = np.random.default_rng(0), np.random.default_rng(seed)
    points = rng.uniform(0, np.sqrt(n_spots), (n_spots, 2))
    programme = tissue.gamma(0.5, 1.0, (10, N_GENES))
    waves = tissue.normal(size=(2, 10)) * 0.1
    mixture = np.exp(np.sin(points @ waves + 3.0 * seed / 100) * 2 + rng.gumbel(size=(n_spots, 10)))
    kind = mixture.argmax(axis=1)
    counts = [  # a block at a time: the dense rates of all would be most of the memory
        sparse.csr_matrix(rng.poisson(programme[kind[begin : begin + 5000]]).astype(np.float32))
        for begin in range(0, n_spots, 5000)
    ]
    adata = AnnData(sparse.vstack(counts, format="csr"), obsm={"spatial": points})
    adata.obs["domain_truth"] = kind.astype(str)
    return adata


def timed(function) -> tuple[object, list[float]]:
    """Call a function; return its result, and seconds on the clock and of all processors."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, [time.perf_counter() - clock, time.process_time() - cpu]


def measure(step: str, n_spots: int) -> None:
    """Print seconds and memory of one step, in a process of its own."""
    from genot_helpers import peak_memory_mb, prepare_interpolation, sparse_coupling

    left, right = (scattered_slice(n_spots, seed) for seed in (0, 1))
    options = {"mean": step == "mean", "progress": False}
    small = [adata[:300].copy() for adata in (left, right)]
    prepare_interpolation(*small, **options).at(0.5)  # loads what is compiled
    if step == "coupling":
        points = (adata.obsm["spatial"] for adata in (left, right))
        masses = {side: np.ones(n_spots) for side in ("left_mass", "right_mass")}
        seconds = timed(lambda: sparse_coupling(*points, **masses))[1]
    else:
        prepared, seconds = timed(lambda: prepare_interpolation(left, right, **options))
        seconds += timed(lambda: prepared.at(0.5))[1]
    memory = peak_memory_mb()
    print(*seconds, memory)


STEPS = {
    "coupling": "coupling alone",
    "all": "prepare (with the coupling) + place",
    "mean": 'the same, with `layers["mean"]`',
}


def measure_sizes(sizes: list[int]) -> None:
    print("\n| spots in each slice | step | seconds | CPU, s | peak memory, MB |")
    print("|---|---|---|---|---|")
    for n_spots in sizes:
        for step, text in STEPS.items():
            command = [sys.executable, __file__, "--one", step, str(n_spots)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            *seconds, memory = map(float, answer.split())
            clock, cpu = (" + ".join(f"{s:.1f}" for s in seconds[first::2]) for first in (0, 1))
            print(f"| {n_spots:,} | {text} | {clock} | {cpu} | {memory:,.0f} |", flush=True)


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--one":
        measure(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triples", nargs="*", default=list(TRIPLES), choices=list(TRIPLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--t", type=float, help="position, if not from the depths")
    parser.add_argument("--sizes", nargs="*", type=int, default=[5_500, 20_000, 100_000])
    chosen = parser.parse_args()
    if chosen.triples and "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    if chosen.sizes:  # first: Linux counts a child's peak memory from that of its parent
        measure_sizes(chosen.sizes)
    for name in chosen.triples:
        score_triple(name, chosen.seeds, chosen.t)


if __name__ == "__main__":
    main()
