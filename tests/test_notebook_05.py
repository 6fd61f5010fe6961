"""Notebook 05: four slices of one brain, and two slices of the reader's own."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest
from notebook_runs import SEEDS, messages, outputs_of, shared_demo_run

from genot_helpers import write_slice
from genot_runner import NotebookError, NotebookRun, run_notebook

pytestmark = pytest.mark.notebook


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("05", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("05", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures >= {"slices", "components", "corrections", "domains", "cut", "confidence"}
    promised = {"n_spots", "n_domains", "ari", "nmi", "homogeneity", "completeness", "macro_f1"}
    promised |= {"baseline_ari", "baseline_macro_f1", "training_seconds", "n_epochs"}
    assert set(demo_run.metrics) >= promised | {"peak_memory_mb"}
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.n_obs == demo_run.metrics["n_spots"]
    assert result.obs["slice"].nunique() == demo_run.metrics["n_slices"] == 4
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 12
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]


def test_demo_run_shows_what_the_text_says(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert metrics["ari"] > 0.6
    assert metrics["baseline_ari"] > 0.6
    for name in ("centre", "anchors"):  # both corrections mix the sections of a half ...
        assert metrics[f"{name}_mixing"] > 0.35 > 0.25 > metrics["none_mixing"]
    # ... but centring tears the halves apart.
    assert metrics["anchors_jump"] < 0.35 < 0.45 < metrics["none_jump"] < metrics["centre_jump"]
    assert metrics["anchors_cut_agreement"] > 0.75 > 0.5 > metrics["cut_shuffled"]


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    text = " ".join(" ".join(str(one.get("text", "")) for one in outputs_of(seed_run)).split())
    ahead = seed_run.metrics["ari"] - seed_run.metrics["baseline_ari"]
    assert f"minus that of the baseline: {ahead:+.3f}." in text
    assert ("level here" in text) == (abs(ahead) < 0.03)


def test_readers_own_halves_without_labels(make_slice, tmp_path: Path) -> None:
    for number, name in enumerate(("mine_left", "mine_right")):
        own = make_slice(seed=number)
        del own.obs["domain_truth"]
        write_slice(own, tmp_path / "own" / f"{name}.h5ad")
    parameters = {"data_source": str(tmp_path / "own"), "quick": True, "n_domains": 4}
    parameters |= {"anterior": ["mine_left"], "posterior": ["mine_right"], "correction": "none"}
    run = run_notebook("05", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert run.metrics["n_spots"] == 600
    assert "ari" not in run.metrics
    assert not ad.read_h5ad(run.output_dir / "slice.h5ad").uns["genot"]["simulated"]


def test_a_single_file_is_refused(make_slice, tmp_path: Path) -> None:
    path = write_slice(make_slice(), tmp_path / "one.h5ad")
    with pytest.raises(NotebookError, match="Several slices are needed"):
        run_notebook("05", {"data_source": str(path)}, output_dir=tmp_path / "out", progress=False)


@pytest.mark.real_data
def test_real_sections_in_place_of_halves(real_data_dir: Path, tmp_path: Path) -> None:
    """No halved brain, but two real slices of one tissue: every step runs."""
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "quick": True}
    parameters |= {"anterior": ["151673"], "posterior": ["151674"], "n_domains": 7, "n_genes": 500}
    run = run_notebook("05", parameters, output_dir=tmp_path, progress=False)
    assert messages(run) == []
    assert run.metrics["ari"] > 0.35
    assert run.metrics["anchors_mixing"] is None  # there is no other section of a half
