"""What the tests of all notebooks share: reading an executed notebook, and the promised metrics."""

from __future__ import annotations

import nbformat

from genot_helpers.reruns.reruns import NotebookRun

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
