"""Notebook 00: the toy, its couplings, and 200 spots of the reader's own slice."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest
from notebook_runs import SEEDS, messages, outputs_of, shared_demo_run

from genot_helpers import real_scores, write_slice
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("00", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("00", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures >= {"annotation", "genes", "hops", "averaging", "domains"}
    assert figures >= {"displacement", "carried"}
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.n_obs == demo_run.metrics["n_spots"]
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 7
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]


def test_demo_run_says_what_the_text_says(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert 150 < metrics["n_spots"] < 250
    assert metrics["ari"] > 0.25
    assert metrics["coupling_cost"] < metrics["pairing_cost_median"]
    assert metrics["pairs_right"] < 5 == metrics["pairs_right_aligned"]
    assert metrics["carried_error_mm"] < 0.05 < 1 < metrics["average_error_mm"]
    assert metrics["mass_in_layer_optimal"] > 0.6 > 0.3 > metrics["mass_in_layer_independent"]


def test_printed_sentences_are_true_of_the_metrics(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    said = "".join(str(one.get("text", "")) for one in outputs_of(seed_run))
    for how, key in (("as they lie", "pairs_right"), ("turned back", "pairs_right_aligned")):
        assert f"{how}: {metrics[key]} of 5 spots paired rightly" in said
    assert f"optimal {metrics['mass_in_layer_optimal']:.0%}" in said
    assert f"carried: {metrics['carried_error_mm']:.2f} mm off" in said


def test_readers_own_slice_without_labels(make_slice, tmp_path: Path) -> None:
    own = make_slice()
    del own.obs["domain_truth"]
    path = write_slice(own, tmp_path / "own.h5ad")
    parameters = {"data_source": str(path), "section": "mine", "n_domains": 3, "quick": True}
    run = run_notebook("00", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert run.metrics["n_spots"] == 200
    assert "ari" not in run.metrics
    assert not ad.read_h5ad(run.output_dir / "slice.h5ad").uns["genot"]["simulated"]


@pytest.mark.real_data
def test_the_middle_of_a_real_section(real_data_dir: Path, tmp_path: Path) -> None:
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "quick": True}
    run = run_notebook("00", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["n_spots"] == 200
    assert -0.5 < run.metrics["ari"] < 1


def test_measured_spots_score_what_the_text_says() -> None:
    scores = real_scores("00").set_index(["slice", "score"]).sort_index()
    assert scores.loc[("200 spots of 151673", "ari"), "mean"].max() <= 0
    assert scores.loc[("simulated", "ari"), "mean"].min() > 0.3
