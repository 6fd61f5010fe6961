"""Notebooks run headless by papermill, on embedded and on real slices, and score as they should.

Bounds on scores are well below what was measured (benchmarks/README.md): they catch a broken step,
they do not claim a level.
"""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import nbformat
import numpy as np
import pandas as pd
import pytest
from notebook_runs import DOMAIN_METRICS, messages, outputs_of, shared_demo_run

import genot_helpers as gh
from genot_runner.notebooks import CHECKOUT
from genot_runner.runs import NotebookRun, run_notebook

NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("01", tmp_path_factory)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_as_agreed(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("parameters" in cell.metadata.get("tags", []) for cell in code)
    assert not any(cell.outputs or cell.execution_count for cell in code)
    parameters = next(cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    assert all("#" in line for line in parameters.source.splitlines()), "comment every parameter"
    text = "".join(cell.source for cell in notebook.cells)
    assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_of_few_and_short_cells(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    lesson = cells[: [cell.id for cell in cells].index("exercises")]
    assert len(lesson) <= 30
    for cell in lesson:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 12, f"{cell.id} has {len(lines)} lines"
            assert "from genot_helpers" not in cell.source
            assert "import resource" not in cell.source


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_shows_where_it_was_made(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = shared_demo_run(path.stem[:2], tmp_path_factory)
    shown = json.dumps(outputs_of(run), ensure_ascii=False)
    assert len(shown) > 1000, "the run has outputs"
    for place in (f"{CHECKOUT}", f"{run.output_dir}", f"{Path.home()}/"):
        position = shown.find(place)
        assert position < 0, f"an output shows a path of this machine: {shown[position:][:200]}"


@pytest.mark.notebook
def test_an_organ_has_one_colour_in_all_notebooks(tmp_path_factory: pytest.TempPathFactory) -> None:
    worn = {}
    for number, file, key in (
        ("02", "slice.h5ad", "domain_truth"),
        ("07", "generated.h5ad", "genot_domain"),
        ("08", "carried.h5ad", "genot_domain"),
    ):
        adata = ad.read_h5ad(shared_demo_run(number, tmp_path_factory).output_dir / file)
        if number == "08":  # coloured there while it draws
            gh.colour_domains(adata, key=key, truth=None)
        colours = adata.uns[f"{key}_colors"]
        for organ, colour in zip(adata.obs[key].cat.categories, colours, strict=True):
            assert worn.setdefault(organ, colour) == colour, organ
    assert len(worn) >= 10


@pytest.mark.notebook
def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert set(demo_run.metrics) >= DOMAIN_METRICS
    assert demo_run.html.exists()
    assert len(list(demo_run.output_dir.glob("*.png"))) >= 6
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"] == 7
    assert result.obs["genot_confidence"].between(0, 1).all()
    assert result.uns["genot"]["simulated"]


@pytest.mark.notebook
def test_demo_run_finds_layers_and_says_nothing_alarming(demo_run: NotebookRun) -> None:
    assert demo_run.metrics["ari"] > 0.4
    assert demo_run.metrics["baseline_ari"] > 0.3
    assert messages(demo_run) == []


@pytest.mark.notebook
def test_same_seed_same_result(demo_run: NotebookRun, tmp_path: Path) -> None:
    again = run_notebook("01", {"quick": True}, output_dir=tmp_path, progress=False)
    first = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    second = ad.read_h5ad(again.output_dir / "slice.h5ad")
    assert (first.obs["genot_domain"] == second.obs["genot_domain"]).all()
    np.testing.assert_array_equal(first.obsm["X_genot"], second.obsm["X_genot"])


@pytest.mark.notebook
def test_sections_clustered_together(tmp_path: Path) -> None:
    parameters = {"quick": True, "together_with": ["151674"]}
    run = run_notebook("01", parameters, output_dir=tmp_path, progress=False)
    assert run.metrics["n_sections"] == 2
    assert run.metrics["together_with"] == "151674"
    assert run.metrics["ari"] > 0.4
    assert run.metrics["151674.ari"] > 0.4
    first = ad.read_h5ad(tmp_path / "slice.h5ad")
    second = ad.read_h5ad(tmp_path / "slice_151674.h5ad")
    domains = [list(one.obs["genot_domain"].cat.categories) for one in (first, second)]
    assert domains[0] == domains[1] == [str(number) for number in range(1, 8)]
    assert first.uns["genot"]["genot_domain"]["n_slices"] == 2
    assert (tmp_path / "domains_151674.png").exists()
    # One name, one domain: the annotated layers are the same tissue in both sections.
    for name in first.obs["genot_domain"].cat.categories:
        shares = []
        for one in (first, second):
            layers = one.obs.loc[one.obs["genot_domain"] == name, "domain_truth"]
            shares.append(layers.value_counts(normalize=True))
        assert np.minimum(*pd.concat(shares, axis=1).fillna(0.0).to_numpy().T).sum() > 0.5
    assert messages(run) == []


@pytest.mark.notebook
@pytest.mark.real_data
def test_real_section_of_cortex(real_data_dir: Path, tmp_path: Path) -> None:
    parameters = {"data_source": "local", "data_dir": str(real_data_dir), "section": "151673"}
    run = run_notebook("01", parameters, output_dir=tmp_path, progress=False)
    assert run.metrics["ari"] > 0.52
    assert run.metrics["ari"] > run.metrics["baseline_ari"] - 0.03
    assert messages(run) == []


@pytest.mark.notebook
@pytest.mark.real_data
def test_readers_own_slice(real_data_dir: Path, tmp_path: Path) -> None:
    own = real_data_dir / "merfish_hypothalamus" / "merfish_9_paste.h5ad"
    parameters = {"data_source": str(own), "section": "mine", "n_domains": 8, "quick": True}
    run = run_notebook("01", parameters, output_dir=tmp_path, progress=False)
    assert run.metrics["ari"] > 0.4
    assert messages(run) == []


@pytest.mark.notebook
def test_trained_encoder_runs_on_embedded_tissue(tmp_path: Path) -> None:
    run = run_notebook(
        "01", {"quick": True, "encoder": "default"}, output_dir=tmp_path, progress=False
    )
    assert run.metrics["n_epochs"] > 10
    assert run.metrics["ari"] > 0.25
