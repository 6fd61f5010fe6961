"""Notebook 07: a generated stage of an embryo, and three slices of the reader's own."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import pytest
from notebook_runs import SEEDS, messages, outputs_of, shared_demo_run
from PIL import Image

from genot_helpers import write_slice
from genot_helpers.simulation import simulate_embryo
from genot_runner import NotebookRun, run_notebook

pytestmark = pytest.mark.notebook

ROWS = ("genot", "copy_left", "copy_right", "union", "neighbour_mean", "ceiling")


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return shared_demo_run("07", tmp_path_factory)


@pytest.fixture(scope="module", params=SEEDS)
def seed_run(request: pytest.FixtureRequest, tmp_path_factory) -> NotebookRun:
    return shared_demo_run("07", tmp_path_factory, request.param)


def test_demo_run_leaves_everything_promised(demo_run: NotebookRun) -> None:
    assert messages(demo_run) == []
    assert demo_run.html.exists()
    figures = {path.stem for path in demo_run.output_dir.glob("*.png")}
    assert figures >= {"stages", "alignment", "coupling", "generated", "sources", "scores"}
    assert figures >= {"composition", "genes_along_t", "genes"}
    scores = ("map", "knn", "ari", "niche", "variance", "c2st", "density", "spacing")
    promised = {f"{row}.{score}" for row in ROWS for score in scores}
    promised |= {"gap_closed.map", "coupling_seconds", "t", "peak_memory_mb"}
    assert set(demo_run.metrics) >= promised
    generated = ad.read_h5ad(demo_run.output_dir / "generated.h5ad")
    assert generated.n_obs == demo_run.metrics["n_spots"]
    assert generated.layers["mean"].shape == generated.shape
    assert set(generated.obs["genot_source"]) == {"left", "right"}
    with Image.open(demo_run.output_dir / "film.gif") as film:
        assert film.n_frames == 8  # five stages, there and back


def test_demo_run_shows_what_the_text_says(seed_run: NotebookRun) -> None:
    metrics = seed_run.metrics
    assert metrics["t"] == 0.5
    assert metrics["size_right"] > metrics["size_at_t"] > 1.1
    assert abs(metrics["size_at_t"] - metrics["size_held_out"]) < 0.1
    # Growth: units leave the surplus without partner, relative masses less.
    assert metrics["unmatched_units"] > 0.3 > metrics["unmatched_fraction"]
    # A baseline at the wrong size is easily beaten.
    assert metrics["copy_right.map.scaled"] > metrics["copy_right.map.own_size"] + 0.03


def printed(run: NotebookRun) -> str:
    """Return all that cells printed, on one line."""
    return " ".join(" ".join(str(one.get("text", "")) for one in outputs_of(run)).split())


def check_sentences(run: NotebookRun) -> None:
    """Check that marked sentences are true of the numbers."""
    metrics, text = run.metrics, printed(run)
    assert ("the warp is used" in text) == metrics["used_warp"]
    assert metrics["used_warp"] == (
        metrics["unmatched_warped"] <= metrics["unmatched_straight"] + 0.01
    )
    assert ("NOT CONFIRMED" in text) == (not metrics["alignment_trusted"])
    won, level, lost = (metrics[f"scores_{one}"] for one in ("won", "level", "lost"))
    assert won + level + lost == metrics["scores_compared"]
    assert f"better than copies and union on {won}, level on {level}, worse on {lost}" in text
    copy = max(metrics["copy_left.map"], metrics["copy_right.map"])
    assert f"generated {metrics['genot.map']:.3f}, ceiling {metrics['ceiling.map']:.3f}." in text
    if "a copy is the better answer" in text:
        assert metrics["genot.map"] < copy
    if "no share of a gap can be given" in text:
        assert metrics["ceiling.map"] < copy
    assert f"{metrics['filling']}: " in text


def test_sentences_are_true_of_the_numbers(seed_run: NotebookRun) -> None:
    check_sentences(seed_run)
    ways = [seed_run.metrics[f"unmatched_{way}"] for way in ("warped", "straight")]
    # A warp that tears outlines is not used.
    assert seed_run.metrics["unmatched_fraction"] <= min(ways) + 0.01 < 0.06


@pytest.mark.real_data
def test_real_sections_of_a_fly_embryo(real_data_dir: Path, tmp_path: Path) -> None:
    """Stage names that hold other numbers too; where they lie stands in obs["z"]."""
    name = "drosophila_stereoseq_E14-16h_S0{}"
    parameters = {"data_source": str(real_data_dir / "stereoseq_drosophila"), "grows": False}
    parameters |= {"left": name.format(1), "held_out": name.format(2), "right": name.format(3)}
    run = run_notebook("07", {**parameters, "quick": True}, output_dir=tmp_path, progress=False)
    check_sentences(run)
    assert run.metrics["t"] == pytest.approx(0.5)
    assert run.metrics["genot.map"] > 0.08
    assert not ad.read_h5ad(run.output_dir / "generated.h5ad").uns["genot"]["simulated"]


def test_demo_run_scores_between_a_copy_and_the_ceiling(demo_run: NotebookRun) -> None:
    metrics = demo_run.metrics
    assert metrics["ceiling.map"] > metrics["genot.map"] + 0.1
    assert metrics["genot.map"] > metrics["copy_right.map"] > 0.1
    assert metrics["genot.map"] > 0.2
    assert metrics["genot.ari"] > 0.25
    assert 0.8 < metrics["genot.variance"] < 1.4
    assert metrics["composition_error"] < 0.25


def test_readers_own_stages_without_labels(tmp_path: Path) -> None:
    stages = simulate_embryo(["E9.5", "E10", "E10.5"], n_bins=700, n_genes=150, seed=3)
    for name, own in zip(("early", "middle", "late"), stages.values(), strict=True):
        bare = ad.AnnData(own.X, var=own.var[[]], obsm={"spatial": own.obsm["spatial"]})
        bare.obs_names = own.obs_names
        write_slice(bare, tmp_path / "own" / f"{name}.h5ad")
    parameters = {"data_source": str(tmp_path / "own"), "quick": True, "t": 0.5}
    parameters |= {"left": "early", "held_out": "middle", "right": "late", "markers": ["nothing"]}
    run = run_notebook("07", parameters, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    assert run.metrics["genot.map"] > 0.05
    assert "composition_error" not in run.metrics
    assert "genot_domain" not in ad.read_h5ad(run.output_dir / "generated.h5ad").obs
