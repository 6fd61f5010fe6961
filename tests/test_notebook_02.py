"""Notebook 02: organs of an embryo, and what picking genes with the labels does to the score."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest
from notebook_runs import DOMAIN_METRICS, SEEDS, messages, outputs_of, shared_demo_run

import genot_helpers as gh
from genot_helpers import write_slice
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook

FIGURES = {"resolution", "leiden", "number_of_domains", "domains", "confidence"}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("02", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("02", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    assert set(demo_run.metrics) >= DOMAIN_METRICS
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures == FIGURES | {"annotation", "recall", "leakage"}
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 10
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]


def test_nothing_that_was_tried_stays_in_the_result(demo_run: NotebookRun) -> None:
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.uns["genot"]["gene_selection"]["method"] == "highly_variable"
    assert not [name for name in result.obs if name.startswith("trial")]
    assert "X_trial" not in result.obsm


def test_organs_are_found(demo_run: NotebookRun) -> None:
    assert demo_run.metrics["ari"] > 0.45
    assert demo_run.metrics["baseline_ari"] > 0.45
    assert demo_run.metrics["macro_f1"] > 0.5


def test_leiden_cuts_averaged_tissue_into_patches(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert metrics["near_averaged_components"] > 0.8
    assert metrics["near_chance"] < 0.05 < metrics["near_components"] < 0.6
    assert metrics["patches_ari"] < metrics["ari"] - 0.1
    assert metrics["patches_pas"] < metrics["leiden_pas"], "smooth, and wrong"


def test_genes_picked_with_labels_promise_what_they_do_not_keep(demo_run: NotebookRun) -> None:
    metrics = demo_run.metrics
    with_labels = metrics["genes_40_with_the_annotation_ari"]
    assert with_labels > metrics["genes_40_at_random_(1)_ari"] + 0.05
    assert metrics["genes_f1_label_used"] > metrics["genes_f1_label_withheld"] + 0.1


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    said = "".join(str(one.get("text", "")) for one in outputs_of(seed_run))
    assert f"with the annotation: {metrics['annotated_genes_gain_ari']:+.3f} ARI" in said
    used, withheld = metrics["genes_f1_label_used"], metrics["genes_f1_label_withheld"]
    assert f"not having been told costs {used - withheld:+.2f}" in said
    assert f"closed form {metrics['agreement']:.2f}" in said


def test_simulated_organs_stand_beside_measured_ones() -> None:
    scores = gh.real_scores("02")
    assert {"fly S01", "fly S02", "fly S03"} <= set(scores["slice"])


def test_readers_own_slice_without_labels(make_slice, tmp_path: Path) -> None:
    own = make_slice()
    del own.obs["domain_truth"]
    path = write_slice(own, tmp_path / "own.h5ad")
    parameters = {"data_source": str(path), "section": "mine", "n_domains": 4, "quick": True}
    run = run_notebook("02", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert {path.stem for path in run.output_dir.glob("*.png")} == FIGURES
    assert run.metrics["n_spots"] == 300
    assert "ari" not in run.metrics
    assert run.metrics["pas"] < 0.2


@pytest.mark.real_data
def test_real_section_of_cortex(real_data_dir: Path, tmp_path: Path) -> None:
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "section": "151673"}
    parameters |= {"n_domains": 7, "n_neighbors": 6, "quick": True}
    run = run_notebook("02", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["ari"] > 0.4
    assert run.metrics["near_averaged_components"] > 0.8
    assert run.metrics["patches_ari"] < run.metrics["ari"]
    assert run.metrics["genes_f1_label_used"] > run.metrics["genes_f1_label_withheld"]


@pytest.mark.real_data
def test_real_stereoseq(real_data_dir: Path, tmp_path: Path) -> None:
    path = next((real_data_dir / "stereoseq_drosophila").glob("*S02.h5ad"))
    parameters = {"data_source": str(path), "section": "S02", "n_domains": 9, "quick": True}
    run = run_notebook("02", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["ari"] > 0
    assert run.metrics["near_averaged_components"] > run.metrics["near_components"]
