"""How large can a slice be? Simulated bins, from a file to domains: seconds and memory.

python benchmarks/bench_size.py --spots 100000 200000 --genes 500 --counts 25
Options: --model auto|composition|mixture   --keep 12   write rows where notebook 12 finds them
         --folder FOLDER   where the file is put (default: a temporary folder)
Every size runs in a process of its own, so that its peak memory is its own: the file is made first
(not counted), then read by `gh.load_slice`, and domains found by `gh.find_domains` and drawn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_DOMAINS = 6


def make(path: Path, n_spots: int, n_genes: int, counts: float) -> None:
    """Simulate bins and write them into a file."""
    import genot_helpers as gh

    made = gh.simulation.simulate_high_resolution(
        n_spots, n_genes=n_genes, counts_per_bin=counts, kinds=("bins",)
    )
    gh.write_slice(made["bins"], path)


def measure(path: Path, model: str) -> dict[str, float | str]:
    """Take the file to domains and a figure, and measure each step."""
    import matplotlib as mpl

    mpl.use("agg")
    import genot_helpers as gh

    begin, cpu, steps = time.perf_counter(), time.process_time(), {}

    def done(step: str) -> None:
        steps[step] = time.perf_counter() - begin - sum(steps.values())

    adata = gh.load_slice(path.stem, data_source=path)
    done("read")
    found = gh.find_domains(adata, N_DOMAINS, model=model, progress=False)
    done("domains")
    cpu = time.process_time() - cpu
    gh.save_figure(gh.plot_domains(adata, "genot_domain"), path.with_suffix(".png"))
    done("figure")
    return {
        **{"spots": adata.n_obs, "genes": adata.n_vars, "model": found.model},
        **{"CPU seconds": cpu, "peak MB": gh.peak_memory_mb()},
        **{f"{step}, seconds": seconds for step, seconds in steps.items()},
        **{"zeros": 1 - adata.X.nnz / (adata.n_obs * adata.n_vars)},
        **{"ari": gh.score_domains(adata)["ari"]},
    }


def in_a_process(*arguments: str) -> str:
    """Run this script once more and return what it prints last."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Read the arguments, run each size, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spots", nargs="+", type=int, default=[100_000])
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--counts", type=float, default=25.0)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--keep", metavar="NOTEBOOK")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=["make", "measure"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = (asked.folder or Path(temporary)) / "bins.h5ad"
        if asked.step == "make":
            make(path, asked.spots[0], asked.genes, asked.counts)
            return
        if asked.step == "measure":
            print(json.dumps(measure(path, asked.model)))
            return
        for n_spots in asked.spots:
            same = ["--spots", str(n_spots), "--genes", str(asked.genes)]
            same += ["--counts", str(asked.counts), "--model", asked.model]
            same += ["--folder", str(path.parent)]
            in_a_process(*same, "--step", "make")
            found = json.loads(in_a_process(*same, "--step", "measure").splitlines()[-1])
            print(" | ".join(f"{name} {value}" for name, value in found.items()), flush=True)
            if asked.keep:
                _keep(asked.keep, found, asked)


def _keep(notebook: str, found: dict, asked: argparse.Namespace) -> None:
    """Write one size into the file of a notebook."""
    from real_scores import keep, row

    name = f"simulated, {found['spots']:,} bins, {asked.genes} genes"
    shown = ("spots", "CPU seconds", "peak MB")
    rows = [row(name, "find_domains", score, [found[score]]) for score in shown]
    keep(notebook, rows, f"python benchmarks/bench_size.py --genes {asked.genes}")


if __name__ == "__main__":
    main()
