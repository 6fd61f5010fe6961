"""Notebook 01: what it says is true of what it scores; slices of a few dozen spots run too."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from notebook_runs import SEEDS, cells_of, messages, outputs_of, shared_demo_run
from scipy import sparse

import genot_helpers as gh
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("01", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("01", tmp_path_factory, request.param)


def said_by(run: NotebookRun) -> str:
    return "".join(str(one.get("text", "")) for one in outputs_of(run))


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    metrics, said = seed_run.metrics, said_by(seed_run)
    assert f"components explain {metrics['components_explain']:.0%}" in said
    assert f"{metrics['genes_kept']:,} of 1,200 genes kept, which is all of them" in said
    right, wrong = metrics["confidence_right"], metrics["confidence_wrong"]
    assert f"mean confidence {right:.2f} of right spots, {wrong:.2f} of wrong ones" in said
    assert f"row {metrics['ari'] - metrics['baseline_ari']:+.3f}" in said
    assert metrics["front_door_model"] == "mixture"
    assert "Neighbours agree on" in said


def test_a_simulated_section_never_carries_a_real_name_in_a_title(demo_run: NotebookRun) -> None:
    shown = [
        line
        for cell in cells_of(demo_run)
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if "title" in line
    ]
    assert shown
    assert not [line for line in shown if "GenOT" in line or "{section}" in line]


def test_measured_sections_stand_beside_simulated_ones() -> None:
    scores = gh.real_scores("01")
    assert {"simulated", "151673", "151674", "151675"} <= set(scores["slice"])


@pytest.mark.parametrize("n_spots", [49, 64])
def test_a_few_dozen_spots_are_analysed(n_spots: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.random((n_spots, 2)) * 1000
    domain = np.minimum(points[:, 1] / 250, 3.9).astype(int)
    rates = rng.gamma(1, 3, 200) * np.where(rng.random((4, 200)) < 0.15, 3.0, 1.0)[domain]
    small = ad.AnnData(sparse.csr_matrix(rng.poisson(rates).astype("float32")))
    small.obs_names = [f"s{number}" for number in range(n_spots)]
    small.var_names = [f"G{number}" for number in range(200)]
    small.obsm["spatial"] = points
    path = gh.write_slice(small, tmp_path / "small.h5ad")
    parameters = {"data_source": str(path), "n_domains": 4, "quick": True}
    run = run_notebook("01", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert run.metrics["n_spots"] == n_spots
    solved = [cell for cell in cells_of(run) if "### BEGIN SOLUTION" in cell.source]
    assert solved and not any(cell.outputs for cell in solved), "exercises are not run"
