"""Notebook 12: bins and cells of one simulated tissue, stripes, domains, and a reader's own cells.

Bounds are well below what was measured: they catch a broken step, they do not claim a level.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from notebook_runs import SEEDS, messages, outputs_of, shared_demo_run

import genot_helpers as gh
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("12", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("12", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    wanted = {"n_spots", "n_domains", "ari", "nmi", "macro_f1", "baseline_ari", "peak_memory_mb"}
    assert wanted <= set(demo_run.metrics)
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures >= {"stripes", "domains", "cells", "gene"}
    adata = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert adata.n_obs == demo_run.metrics["n_spots"]
    assert adata.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"]
    assert adata.uns["genot"]["simulated"]


def test_what_is_said_of_stripes_and_controls_is_true(seed_run: NotebookRun) -> None:
    found = seed_run.metrics
    assert found["stripes_after"] < 0.5 * found["stripes_before"]
    assert found["stripe_correlation"] > 0.8
    assert found["stripes_in_pca"] < 0.5 * found["stripes_in_depth"]
    text = "".join(output.get("text", "") for output in outputs_of(seed_run))
    assert "Blank-1" in text and "NegControlProbe" in text


def test_bins_and_cells_tell_the_same_domains(seed_run: NotebookRun) -> None:
    found = seed_run.metrics
    assert found["ari"] > 0.5 and found["cells.ari"] > 0.5
    assert found["cells.share"] > found["cells.by_chance"] + 0.3


def test_a_readers_cells_without_labels_or_grid(tmp_path: Path) -> None:
    made = gh.simulation.simulate_high_resolution(2500, n_genes=60, kinds=("cells",))["cells"]
    del made.obs["domain_truth"], made.obs["cell_type"]
    gh.write_slice(made, tmp_path / "mine.h5ad")
    parameters = {"data_source": str(tmp_path / "mine.h5ad"), "n_spots": 900, "n_domains": 4}
    run = run_notebook("12", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert run.metrics["n_spots"] == 900
    assert "ari" not in run.metrics
    part = ad.read_h5ad(run.output_dir / "slice.h5ad").obsm["spatial"]
    # A square of 900 of the cells: its side is the root of their share.
    width = np.ptp(part, axis=0).max() / np.ptp(made.obsm["spatial"], axis=0).max()
    assert abs(width - np.sqrt(900 / made.n_obs)) < 0.05
