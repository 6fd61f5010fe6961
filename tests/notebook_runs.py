"""What the tests of all notebooks share: one run of each, reading it, and the promised metrics."""

from __future__ import annotations

import os
import pickle
import sys

import nbformat
import pytest
from filelock import FileLock

from genot_runner.notebooks import CHECKOUT
from genot_runner.runs import NotebookRun, run_notebook

sys.path.insert(0, str(CHECKOUT))  # teaching/ is part of the checkout, not of the package

from teaching.trial import run_trial

# What the text says must be true of every tissue that is simulated; the others take minutes.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]

DOMAIN_METRICS = {
    *("n_spots", "n_domains", "ari", "nmi", "homogeneity", "completeness", "macro_f1"),
    *("baseline_ari", "baseline_macro_f1", "training_seconds", "n_epochs", "peak_memory_mb"),
}


def cells_of(run: NotebookRun) -> list:
    """Return the cells of the executed notebook."""
    return nbformat.read(run.notebook, as_version=4).cells


def outputs_of(run: NotebookRun) -> list:
    """Return the outputs of all cells, in order."""
    return [output for cell in cells_of(run) for output in cell.get("outputs", [])]


def messages(run: NotebookRun) -> list[str]:
    """Collect what cells wrote to the error stream: warnings, mostly."""
    return [output.text for output in outputs_of(run) if output.get("name") == "stderr"]


def shared_demo_run(number: str, factory: pytest.TempPathFactory, seed: int = 0) -> NotebookRun:
    """Run a notebook on simulated tissue, quick; once for all tests, on all workers.

    With seed 0 it tries wrong and right answers too, which tests/test_teaching.py looks at.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # the workers have this folder in common
    folder, record = root / f"demo-{number}-{seed}", root / f"demo-{number}-{seed}.pickle"
    parameters = {"quick": True, "seed": seed}
    with FileLock(f"{record}.lock"):
        if not record.exists():
            if seed == 0:
                run = run_trial(number, parameters, output_dir=folder)
            else:
                run = run_notebook(number, parameters, output_dir=folder, progress=False)
            record.write_bytes(pickle.dumps(run))
        return pickle.loads(record.read_bytes())
