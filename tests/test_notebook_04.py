"""Notebook 04: one olfactory bulb by two technologies, and which genes survive a transfer."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from notebook_runs import DOMAIN_METRICS, SEEDS, messages, outputs_of, shared_demo_run

from genot_helpers import write_slice
from genot_runner import NotebookError, NotebookRun, run_notebook

pytestmark = pytest.mark.notebook

FIGURES = {"alignment", "layers", "confidence", "gene_maps", "survival", "depth"}


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("04", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("04", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    assert {path.stem for path in demo_run.output_dir.glob("*.png")} == FIGURES | {"recall"}
    assert set(demo_run.metrics) >= DOMAIN_METRICS
    for side in ("target", "source"):
        assert {f"{side}.{key}" for key in ("ari", "baseline_ari", "n_spots")} <= set(
            demo_run.metrics
        )
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.n_obs == demo_run.metrics["n_spots"] > 4000
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 7
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]
    carried = ad.read_h5ad(demo_run.output_dir / "carried.h5ad")
    assert list(carried.obs_names) == list(result.obs_names)
    assert carried.obs["genot_covered"].mean() > 0.9
    assert len(set(carried.var_names) - set(result.var_names)) == 125  # of the source alone


def test_the_frame_is_found_and_both_technologies_show_rings(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert metrics["alignment_ok"] == 1
    assert metrics["scale"] == 1
    assert metrics["alignment_agreement"] > 0.6
    for side in ("target", "source"):
        assert max(metrics[f"{side}.ari"], metrics[f"{side}.baseline_ari"]) > 0.1
    assert metrics["agreement.annotation"] > 0.6
    assert 0.05 < metrics["agreement.baseline"] < metrics["agreement.annotation"]


def test_scores_stand_between_floor_and_bound_and_depth_is_the_reason(
    seed_run: NotebookRun,
) -> None:
    metrics = seed_run.metrics
    rows = ("transport", "zeros_back", "nearest", "mean_of_12")
    assert abs(metrics["shuffled.map"]) < 0.03
    for row in rows:
        assert metrics[f"{row}.map"] > metrics["shuffled.map"] + 0.1
        assert metrics[f"{row}.identity"] > 0.65 > 0.6 > metrics["shuffled.identity"]
    assert metrics["zeros.transport"] < metrics["zeros.zeros_back"]
    assert metrics["zeros.zeros_back"] == pytest.approx(metrics["zeros.source"], abs=0.02)
    assert metrics["zeros.mean_of_12"] < 0.4
    survived = "as_good_as_measured_again"
    assert metrics[f"genes.{survived}"] > 1.2 * metrics[f"thinned.{survived}"]
    ways = (*rows[2:], "transport", "transport_with_expression")
    lost = {way: metrics[f"pushed_0.{way}"] - metrics[f"pushed_4.{way}"] for way in ways}
    assert all(value > 0.01 for value in lost.values())
    assert lost["transport"] < lost["nearest"]
    genes = pd.read_csv(seed_run.output_dir / "genes.csv", index_col="gene")
    assert len(genes) == metrics["n_scored_genes"] == 750
    assert genes["verdict"].value_counts()["as good as measured again"] > 100
    assert genes.loc[["Apod", "Meis2"], "map"].min() > 0.6


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    text = " ".join(" ".join(str(one.get("text", "")) for one in outputs_of(seed_run)).split())
    metrics = seed_run.metrics
    agree = {"baseline": metrics["agreement.baseline"], "closed form": metrics["agreement.genot"]}
    assert f"the agreement picks: {max(agree, key=agree.get)}" in text
    for role in ("target", "source"):
        aris = {"baseline": metrics[f"{role}.baseline_ari"], "closed form": metrics[f"{role}.ari"]}
        same = max(aris, key=aris.get) == max(agree, key=agree.get)
        assert ("so does the annotation" in text) or not same
    ways = ("nearest", "mean of 12", "transport", "transport, with expression")
    for steps in (0, 4):
        keys = {way: f"pushed_{steps}.{way.replace(',', '').replace(' ', '_')}" for way in ways}
        ahead = max((metrics[key], way) for way, key in keys.items())[1]
        assert f"{steps} spacings off: ahead is {ahead}" in text


def test_own_slices_without_labels_and_with_other_units(make_slice, tmp_path: Path) -> None:
    for number, name in enumerate(("mine_a", "mine_b")):
        own = make_slice(seed=number, n_rows=20, n_columns=30)
        del own.obs["domain_truth"]
        if number:  # turned by a right angle, in other units, and without ten of the genes
            own.obsm["spatial"] = own.obsm["spatial"][:, ::-1] * np.array([1.5, -1.5])
            own = own[:, :50].copy()
        write_slice(own, tmp_path / "own" / f"{name}.h5ad")
    parameters = {"data_source": str(tmp_path / "own"), "section": "mine_a", "source": "mine_b"}
    parameters |= {"n_domains": 4, "quick": True}
    run = run_notebook("04", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert {path.stem for path in run.output_dir.glob("*.png")} == FIGURES
    assert run.metrics["n_spots"] == 600
    assert run.metrics["n_shared_genes"] == 50
    assert "ari" not in run.metrics
    assert run.metrics["scale"] == pytest.approx(1 / 1.5, rel=0.03)
    assert run.metrics["agreement.genot"] > 0.7
    assert run.metrics["transport.map"] > 0.5
    assert not ad.read_h5ad(run.output_dir / "slice.h5ad").uns["genot"]["simulated"]


def test_a_single_file_is_refused(make_slice, tmp_path: Path) -> None:
    path = write_slice(make_slice(), tmp_path / "one.h5ad")
    with pytest.raises(NotebookError, match="Two slices are needed"):
        run_notebook("04", {"data_source": str(path)}, output_dir=tmp_path / "out", progress=False)


@pytest.mark.real_data
def test_real_slices_of_values_that_are_no_counts(real_data_dir: Path, tmp_path: Path) -> None:
    """No olfactory bulb, but two real sections of one tissue, one of them as the source."""
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "quick": True}
    parameters |= {"section": "merfish_9", "source": "merfish_4", "n_domains": 8}
    run = run_notebook("04", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["ari"] > 0.25
    assert run.metrics["alignment_ok"] == 1
    assert run.metrics["shuffled.map"] < 0.1 < 0.25 < run.metrics["transport.map"]
    assert not any(key.startswith("thinned") for key in run.metrics)
