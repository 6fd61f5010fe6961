"""What a sweep costs beside its notebooks: planning, overhead per run, results table, memory.

    python benchmarks/bench_sweep.py [number of runs]

A notebook without work; 1,000 runs are planned (checked, then a dry run of Snakemake) and collected
from folders written here; a few are executed, alone and by Snakemake. Seconds are processor time of
the commands and all they start, which a busy machine changes less than wall time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

CHECKOUT = Path(__file__).resolve().parent.parent
N_EXECUTED = 6


def measure(*command: str) -> tuple[float, float, float]:
    """Run a Python command; return processor seconds, wall seconds and peak memory in MB."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
    )
    begin = time.perf_counter()
    run = [sys.executable, "-c", code, sys.executable, *command]
    said = subprocess.run(run, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    seconds, memory = map(float, said.split())
    return seconds, time.perf_counter() - begin, memory


def write_notebook(path: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    kernel = {"name": "python3", "display_name": "Python", "language": "python"}
    notebook.metadata.kernelspec = kernel
    source = 'seed = 0  # of chance\noutput_dir = "here"'
    tags = {"tags": ["parameters"]}
    notebook.cells = [nbformat.v4.new_code_cell(source, metadata=tags)]
    nbformat.write(notebook, path)


def write_table(path: Path, n_runs: int) -> Path:
    rows = "".join(f"empty.ipynb,{seed}\n" for seed in range(n_runs))
    path.write_text("notebook,seed\n" + rows)
    return path


def write_runs(folder: Path) -> None:
    """Write what runs leave: a record and forty metrics each."""
    metrics = json.dumps({f"metric_{number}": number / 7 for number in range(40)})
    for name, run in json.loads((folder / "plan.json").read_text())["runs"].items():
        one = folder / "runs" / name
        one.mkdir(parents=True)
        record = {"status": "finished", "error": None, "parameters": run["parameters"]}
        (one / "run.json").write_text(json.dumps(record))
        (one / "metrics.json").write_text(metrics)


def main() -> None:
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("| what | processor s | wall s | peak memory, MB |")
    print("|---|---|---|---|")

    def row(what: str, measured: tuple[float, float, float]) -> float:
        print("| " + " | ".join([what, *(f"{one:.1f}" for one in measured)]) + " |", flush=True)
        return measured[0]

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_notebook(place / "empty.ipynb")
        sweep = ["-m", "genot_helpers", "sweep"]
        many, folder = str(write_table(place / "many.csv", n_runs)), place / "many"
        code = f"import genot_runner; genot_runner.read_sweep({many!r})"
        row(f"check a table of {n_runs:,} rows", measure("-c", code))
        options = ["--output-dir", str(folder), "--dry-run"]
        row(f"check and plan {n_runs:,} runs (dry run)", measure(*sweep, many, *options))
        write_runs(folder)
        collect = ["-m", "genot_runner.sweep_results", str(folder)]
        row(f"results table of {n_runs:,} runs", measure(*collect))
        alone = ["-m", "genot_helpers", "run", str(place / "empty.ipynb")]
        row("one empty notebook alone", measure(*alone, "--output-dir", str(place / "alone")))
        few = str(write_table(place / "few.csv", N_EXECUTED))
        only = ["--", "--until", "run"]
        one = row(
            "a sweep of 1 empty notebook",
            measure(
                *sweep,
                str(write_table(place / "one.csv", 1)),
                "--output-dir",
                str(place / "1"),
                *only,
            ),
        )
        more = row(
            f"a sweep of {N_EXECUTED}",
            measure(*sweep, few, "--output-dir", str(place / "few"), *only),
        )
    print(f"\nEach further run: {(more - one) / (N_EXECUTED - 1):.1f} s of processor time.")


if __name__ == "__main__":
    main()
