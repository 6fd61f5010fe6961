"""What the tests of sweeps share: a notebook of a second, and what of a results table is fixed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat

CHECKOUT = Path(__file__).resolve().parent.parent
PARAMETERS = """\
section = "a"  # name of a section
n_domains = 7  # domains to look for
rate = 0.1  # of learning, or "auto"
names = ["left", "right"]  # of slices
seed = 0  # of chance
wait = 0.0  # seconds to take
fail = ""  # "error": fail in a cell; "die": lose the process
output_dir = "somewhere"
"""
WORK = """\
import json, os, pathlib, time
folder = pathlib.Path(output_dir)
with (folder.parent.parent / "executions.txt").open("a") as file:
    file.write(folder.name + "\\n")
time.sleep(wait)
"""
FAIL = """\
if fail == "error":
    raise ValueError("told to fail")
if fail == "die":
    os.kill(os.getpid(), 9)
"""
WRITE = """\
threads = [os.environ[name + "_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")]
metrics = {"ari": 0.5 + n_domains / 100 + seed / 1000, "baseline_ari": 0.5, "threads": threads}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""
TIMES = {"wall_seconds", "cpu_seconds", "peak_memory_mb", "started", "ended", "git_dirty"}


def write_tiny(path: Path) -> Path:
    """Write a notebook that needs nothing but the standard library."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python",
        "language": "python",
    }
    cells = (PARAMETERS, WORK, FAIL, WRITE)
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, path)
    return path


def sweep_command(table: Path, folder: Path, *options: str) -> list[str]:
    """Return the command line of a sweep."""
    start = [sys.executable, "-m", "genot_helpers", "sweep", str(table)]
    return [*start, "--output-dir", str(folder), *options]


def sweep(table: Path, folder: Path, *options: str, **environment: str):
    """Run a sweep as a user does; return the completed process."""
    command, start = sweep_command(table, folder, *options), time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=sweep_environment(**environment), **pipes)
    try:
        said = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends Snakemake and its runs
        said = process.communicate()
        raise AssertionError(f"{time.monotonic() - start:.0f} s were not enough: {said}") from None
    return subprocess.CompletedProcess(command, process.returncode, *said)


def sweep_environment(**more: str) -> dict[str, str]:
    """Return an environment in which the checkout's code is found."""
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def executions(folder: Path) -> Counter:
    """Count how often each run of a sweep began."""
    log = folder / "executions.txt"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def results(folder: Path) -> dict[str, dict[str, str]]:
    """Read results.csv: name of the run → its row."""
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def without_times(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Leave out what differs between two executions of the same run."""
    return {
        name: {
            column: value
            for column, value in row.items()
            if column not in TIMES and "seconds" not in column and "memory" not in column
        }
        for name, row in rows.items()
    }


def wait_for(condition, seconds=300):
    """Wait until a condition holds; fail if it takes longer."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
