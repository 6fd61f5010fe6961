"""Notebook 11: the method written out, each part equal to the helper's.

The equalities are asserted in the notebook itself, so a run that ends has shown them; here is what
a run leaves, and that the sentences beside its figures are true of its numbers.
"""

from __future__ import annotations

import math
from pathlib import Path

import anndata as ad
import nbformat
import numpy as np
import pytest
from notebook_runs import DOMAIN_METRICS, SEEDS, messages, shared_demo_run

from genot_runner import NotebookRun, run_notebook
from genot_runner.notebooks import CHECKOUT

NOTEBOOK = CHECKOUT / "notebooks" / "11_inside_the_method.ipynb"
FIGURES = {"losses", "eigenvalues", "mixture", "plans"}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("11", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("11", tmp_path_factory, request.param)


def lesson() -> list[str]:
    """Return the code of the lesson, cell by cell, from the parameters to the exercises."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    end = next(number for number, cell in enumerate(cells) if cell.id == "exercises")
    return [cell.source for cell in cells[:end] if cell.cell_type == "code"]


def test_the_method_takes_few_lines() -> None:
    parts = (
        "average",
        "hidden",
        "train",
        "closed_form",
        "gaussian",
        "partial_plan",
        "place",
        "unit",
    )
    names = tuple(f"def {part}(" for part in parts)
    method = [source for source in lesson() if source.startswith(names) or "SGConv" in source]
    assert len(method) == 9
    assert sum(bool(line.strip()) for source in method for line in source.splitlines()) <= 150


def check_text(metrics: dict) -> None:
    """Check the sentences of the lesson against the numbers of a run."""
    chance = 2 * math.log(2)
    assert metrics["contrast.both losses"] < chance < metrics["contrast.without contrast"]
    assert metrics["cut.with neighbours"] < metrics["cut.without neighbours"]
    correlation = {
        name: metrics[f"autocorrelation.{name}"] for name in ("λ = 0", "λ = 10", "λ = 100")
    }
    assert correlation["λ = 0"] < metrics["autocorrelation.wanted"] < correlation["λ = 100"]
    assert metrics["on_line"] > 0.8


@pytest.mark.notebook
def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    assert {path.stem for path in demo_run.output_dir.glob("*.png")} >= FIGURES
    assert set(demo_run.metrics) >= DOMAIN_METRICS
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"]
    assert result.obs["genot_confidence"].between(0, 1).all()
    generated = ad.read_h5ad(demo_run.output_dir / "generated.h5ad")
    assert np.isfinite(generated.obsm["spatial"]).all()
    assert demo_run.metrics["peak_memory_mb"] < 1500


@pytest.mark.notebook
def test_demo_run_says_what_the_text_says(seed_run: NotebookRun) -> None:
    check_text(seed_run.metrics)


@pytest.mark.slow  # minutes; its scores stand in benchmarks/results
@pytest.mark.notebook
@pytest.mark.real_data
def test_the_middle_of_real_sections(real_data_dir: Path, tmp_path: Path) -> None:
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "quick": True}
    run = run_notebook("11", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert 350 < run.metrics["n_spots"] < 450
    assert run.metrics["contrast.both losses"] < 2 * math.log(2)
