"""Notebook 03: beads, zeros, cell types against domains, and thin layers."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from notebook_runs import DOMAIN_METRICS, SEEDS, messages, outputs_of, shared_demo_run

from genot_helpers import load_slice, write_slice
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook

FIGURES = {"zeros", "domains", "confidence", "composition", "neighbourhood", "markers"}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("03", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("03", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    assert set(demo_run.metrics) >= DOMAIN_METRICS
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures == FIGURES | {"annotation", "recall", "thin_domains"}
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.n_obs == 8000
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 8
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]


def test_domains_are_found_and_cell_types_are_something_else(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert metrics["ari"] > 0.4
    assert metrics["baseline_ari"] > 0.4
    assert metrics["beads_ari_cell_types"] > metrics["beads_ari"] + 0.1
    assert metrics["ari_cell_types"] < 0.3
    assert metrics["pas"] < 0.1 < 0.4 < metrics["beads_pas"]


def test_zeros_are_mostly_counting_and_thin_layers_are_not_blurred(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert 0.9 * metrics["zeros"] < metrics["zeros_by_counting"] < metrics["zeros"]
    assert metrics["told_f1_2_hops"] > metrics["told_f1_0_hops"] + 0.2
    assert metrics["told_f1_2_hops"] > metrics["thin_f1"]
    assert metrics["strongest_enrichment"] > 20


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    said = "".join(str(one.get("text", "")) for one in outputs_of(seed_run))
    beyond = metrics["zeros"] - metrics["zeros_by_counting"]
    assert f"zeros beyond counting: {beyond:.1%} of the table" in said
    assert f"F1 of the three thinnest: {metrics['thin_f1']:.2f} in the mean" in said
    assert f"agree on {metrics['neighbour_agreement']:.0%} of the reproducible variance" in said


def test_labels_called_cluster_are_taken_as_cell_types(tmp_path: Path) -> None:
    real = load_slice("slideseqv2")[:1500].copy()  # laid out like the published slice
    real.obs["cluster"] = real.obs["cell_type"]
    real.obs = real.obs[["cluster"]]
    del real.uns["genot"]
    path = write_slice(real, tmp_path / "slideseqv2.h5ad")
    parameters = {"data_source": str(path), "micrometres_per_unit": 1.0, "quick": True}
    run = run_notebook("03", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert "ari" not in run.metrics
    assert run.metrics["beads_ari_cell_types"] > run.metrics["ari_cell_types"]
    result = ad.read_h5ad(run.output_dir / "slice.h5ad")
    assert "domain_truth" not in result.obs


def test_readers_own_slice_without_labels(make_slice, tmp_path: Path) -> None:
    own = make_slice()
    del own.obs["domain_truth"]
    path = write_slice(own, tmp_path / "own.h5ad")
    parameters = {"data_source": str(path), "section": "mine", "n_domains": 4, "quick": True}
    run = run_notebook("03", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert {path.stem for path in run.output_dir.glob("*.png")} == FIGURES
    assert run.metrics["n_spots"] == 300
    assert "ari" not in run.metrics
    assert np.isfinite(run.metrics["pas"])


@pytest.mark.real_data
def test_real_slice_of_cells(real_data_dir: Path, tmp_path: Path) -> None:
    own = real_data_dir / "merfish_hypothalamus" / "merfish_9_paste.h5ad"
    parameters = {"data_source": str(own), "section": "mine", "quick": True}
    run = run_notebook("03", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["ari"] > 0.35
    assert run.metrics["beads_ari"] < run.metrics["ari"]


@pytest.mark.real_data
def test_real_beads(real_data_dir: Path, tmp_path: Path) -> None:
    path = next((real_data_dir / "slideseqv2_hippocampus_window").glob("*.h5ad"))
    parameters = {"data_source": str(path), "section": "window", "quick": True}
    run = run_notebook("03", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["chosen_model"] == "composition"
    assert run.metrics["pas"] < run.metrics["beads_pas"]
