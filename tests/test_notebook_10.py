"""Notebook 10: from the reader's own file or folder to a report; mistakes stop with clear words."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice
from notebook_runs import DOMAIN_METRICS, SEEDS, messages, shared_demo_run

from genot_helpers import simulate_cortex, write_slice
from genot_runner import NotebookError, NotebookRun, run_notebook
from genot_runner.notebooks import find_notebook

pytestmark = pytest.mark.notebook

ALONE = {"depth", "n_domains", "domains", "confidence", "markers", "genes"}
TWO = {"matched", "alignment", "generated", "gene_similarity"}


def run_quick(folder: Path, **parameters) -> NotebookRun:
    return run_notebook("10", {"quick": True} | parameters, output_dir=folder, progress=False)


def figures(run: NotebookRun) -> set[str]:
    return {path.stem for path in run.output_dir.glob("*.png")}


def report(run: NotebookRun) -> str:
    return (run.output_dir / "report.html").read_text(encoding="utf-8")


def cortex_sections(n: int) -> dict[str, ad.AnnData]:
    """Sections as a reader may have them: counts and positions, nothing else."""
    sections = simulate_cortex(n, n_spots=1500, n_genes=300, seed=5)
    bare = {}
    for name, section in sections.items():
        bare[name] = ad.AnnData(section.X, var=section.var[[]], obs=section.obs[[]].copy())
        bare[name].obsm["spatial"] = 2 * section.obsm["spatial"]  # in units of their own
    return bare


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("10", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("10", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    assert figures(demo_run) == ALONE | TWO | {"scores"}
    promised = DOMAIN_METRICS | {"genot.map", "ceiling.map", "gap_closed.map", "coupling_seconds"}
    assert set(demo_run.metrics) >= promised | {"t", "suggested_domains"}
    result = ad.read_h5ad(demo_run.output_dir / "slice.h5ad")
    generated = ad.read_h5ad(demo_run.output_dir / "generated.h5ad")
    assert result.obs["genot_domain"].nunique() == demo_run.metrics["n_domains"]
    assert generated.layers["mean"].shape == generated.shape
    table = pd.read_csv(demo_run.output_dir / "domains.csv", index_col="Barcode")
    assert list(table.index) == list(result.obs_names)
    assert (table["genot_domain"].astype(str) == result.obs["genot_domain"].astype(str)).all()


def test_demo_run_is_as_good_as_it_says(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert 4 <= metrics["suggested_domains"] <= 14
    assert metrics["ari"] > 0.3
    assert metrics["baseline_ari"] > 0.3
    assert metrics["alignment.right.good"] is True
    assert metrics["domains_matched"] >= metrics["n_domains"] - 4
    assert metrics["in_place.share"] > metrics["in_place.by_chance"] + 0.2
    assert metrics["genot.map"] > metrics["copy_left.map"]
    assert metrics["generated, spots: pearson"] > metrics["copy of the nearer: pearson"]


def test_demo_report_can_be_sent_on(demo_run: NotebookRun) -> None:
    page = report(demo_run)
    assert demo_run.metrics["report_kb"] < 5000
    assert page.count("data:image/png;base64") == len(figures(demo_run))
    for words in ("In short", "Against the annotation", "What this cannot tell", "simulated"):
        assert words in page
    for words in ("anndata ", "10.1186/s13059-026-04166-z", "held out", "151674"):
        assert words in page


def test_readers_own_slice_without_labels_unit_or_slot_of_positions(tmp_path: Path) -> None:
    own = plant_slice(n_genes=120)
    points = own.obsm.pop("spatial")
    places = ["east", "north"]  # names that no reader knows
    own.obs = pd.DataFrame(dict(zip(places, points.T, strict=True)), index=own.obs_names)
    own.X = own.X.log1p()  # and logarithms, to make it worse
    path = write_slice(own, tmp_path / "tissue.h5ad")
    run = run_quick(tmp_path / "out", data_source=str(path), positions=places, n_domains=4)
    assert messages(run) == []
    assert figures(run) == ALONE
    assert run.metrics["section"] == "tissue"
    assert run.metrics["n_domains"] == 4
    assert run.metrics["checks_mend"] >= 1
    assert run.metrics["interpolated"] is False
    assert "ari" not in run.metrics
    page = report(run)
    for words in ("one slice was given", "no domain was compared with a truth", "unit of length"):
        assert words in page
    found = ad.read_h5ad(run.output_dir / "slice.h5ad").obs["genot_domain"]
    bands = plant_slice(n_genes=120).obs["domain_truth"]
    assert pd.crosstab(found, bands).max(axis=1).sum() > 0.9 * len(bands)


def test_three_files_of_the_readers_own(tmp_path: Path) -> None:
    names = ("early", "middle", "late")
    for name, section in zip(names, cortex_sections(3).values(), strict=True):
        write_slice(section, tmp_path / "own" / f"{name}.h5ad")
    parameters = {"left": "early", "held_out": "middle", "right": "late", "n_domains": 6}
    run = run_quick(tmp_path / "out", data_source=str(tmp_path / "own"), **parameters)
    assert messages(run) == []
    assert figures(run) == ALONE | TWO | {"scores"}
    assert run.metrics["t"] == 0.5
    assert run.metrics["genot.map"] > 0.2
    assert run.metrics["in_place.share"] > run.metrics["in_place.by_chance"] + 0.1
    carried = ad.read_h5ad(run.output_dir / "generated.h5ad").obs["genot_domain"]
    left = ad.read_h5ad(run.output_dir / "slice.h5ad").obs["genot_domain"]
    assert set(carried) & set(left)  # domains found here, carried by name


def test_slices_that_do_not_fit_are_not_interpolated(tmp_path: Path) -> None:
    (section,) = cortex_sections(1).values()
    write_slice(section, tmp_path / "own" / "a.h5ad")
    rng = np.random.default_rng(0)
    section.X = section.X[rng.permutation(section.n_obs)]
    write_slice(section, tmp_path / "own" / "b.h5ad")
    parameters = {"left": "a", "right": "b", "n_domains": 4}
    run = run_quick(tmp_path / "out", data_source=str(tmp_path / "own"), **parameters)
    assert messages(run) == []
    assert run.metrics["alignment.right.good"] is False
    assert run.metrics["interpolated"] is False
    assert not (run.output_dir / "generated.h5ad").exists()
    assert "the alignment is not good enough" in report(run)


@pytest.mark.parametrize("n_spots", [49, 64])
def test_small_slices_reach_the_report(n_spots: int, tmp_path: Path) -> None:
    side = int(np.sqrt(n_spots))
    names = ("a", "b")
    for seed, name in enumerate(names):
        small = plant_slice(2, seed=seed, n_rows=side, n_columns=side)
        del small.obs["domain_truth"]
        write_slice(small, tmp_path / "own" / f"{name}.h5ad")
    run = run_quick(tmp_path / "out", data_source=str(tmp_path / "own"), left="a", right="b")
    assert messages(run) == []
    assert run.metrics["n_spots"] == n_spots
    assert "spots and" in report(run)


def test_sections_of_one_file(tmp_path: Path) -> None:
    sections = [plant_slice(seed=seed, n_genes=120) for seed in (1, 2)]
    both = ad.concat(sections, label="animal", keys=["x", "y"], index_unique="-")
    path = write_slice(both, tmp_path / "both.h5ad")
    given = {"section_key": "animal", "section": "y", "n_domains": 4}
    run = run_quick(tmp_path / "out", data_source=str(path), **given)
    assert messages(run) == []
    assert run.metrics["section"] == "y"
    assert run.metrics["n_spots"] == sections[1].n_obs


def test_the_lesson_opens_the_method() -> None:
    cells = nbformat.read(find_notebook("10"), as_version=4).cells
    lesson = cells[: [cell.id for cell in cells].index("exercises")]
    text = "\n".join(cell.source for cell in lesson if cell.cell_type == "markdown")
    assert text.count("$$") >= 4, "formulas stand before the calls"


def test_mistakes_stop_with_clear_words(tmp_path: Path) -> None:
    own = plant_slice()
    own.X.data[3] = -1
    path = str(write_slice(own, tmp_path / "own.h5ad"))
    with pytest.raises(NotebookError, match="1 values are negative"):
        run_quick(tmp_path / "out", data_source=path)
    with pytest.raises(NotebookError, match="give both left and right"):
        run_quick(tmp_path / "out", data_source=path, left="own")
    with pytest.raises(NotebookError, match="holds 1 slice"):
        run_quick(tmp_path / "out", data_source=path, left="own", right="other")
    with pytest.raises(NotebookError, match="different slices"):
        run_quick(tmp_path / "out", data_source=path, left="own", right="own")
    with pytest.raises(NotebookError, match="no known source and no existing path"):
        run_quick(tmp_path / "out", data_source=path + "d")


@pytest.mark.real_data
def test_readers_own_space_ranger_folder(real_data_dir: Path, tmp_path: Path) -> None:
    folder = real_data_dir / "dlpfc" / "151673"
    run = run_quick(tmp_path, data_source=str(folder), n_domains=7)
    assert messages(run) == []
    assert figures(run) == ALONE
    assert run.metrics["ari"] > 0.4
    assert run.metrics["checks_mend"] == 0
    assert 4 <= run.metrics["suggested_domains"] <= 14
