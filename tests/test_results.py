"""What a notebook leaves: metrics, slices, time, memory, versions, on any operating system."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version

import anndata as ad
import numpy as np
import psutil
import pytest

import genot_helpers as gh


def test_metrics_and_slices_are_kept_and_told(planted, tmp_path, capsys):
    folder = tmp_path / "results"
    metrics = {"ari": np.float32(0.5), "n_spots": np.int64(300), "source": "x", "room": np.nan}
    path = gh.finish_run(folder, metrics, {"slice.h5ad": planted}, begin=time.perf_counter() - 2)
    written = json.loads(path.read_text())
    assert list(written) == ["ari", "n_spots", "source", "room", "seconds", "peak_memory_mb"]
    assert written["ari"] == 0.5
    assert written["room"] is None
    assert 2 <= written["seconds"] < 60
    assert written["peak_memory_mb"] >= psutil.Process().memory_info().rss / 1e6 * 0.5
    assert ad.read_h5ad(folder / "slice.h5ad").n_obs == planted.n_obs
    said = capsys.readouterr().out
    assert "written: metrics.json, slice.h5ad" in said
    assert f"anndata {version('anndata')}" in said


def test_without_a_beginning_time_counts_from_the_start_of_the_process(tmp_path):
    path = gh.finish_run(tmp_path, {})
    age = time.time() - psutil.Process().create_time()
    assert age - 60 < json.loads(path.read_text())["seconds"] <= age + 1


def test_values_that_the_notebook_measured_itself_are_kept(tmp_path):
    written = json.loads(gh.finish_run(tmp_path, {"seconds": 3.5, "k": 1}).read_text())
    assert written["seconds"] == 3.5
    assert list(written) == ["seconds", "k", "peak_memory_mb"]


@pytest.mark.parametrize(
    ("metrics", "slices", "error", "message"),
    [
        ({"table": [1, 2]}, {}, TypeError, r"metrics\['table'\] is a list"),
        ({"of": {"a": 1}}, {}, TypeError, "is a dict"),
        ({}, {"slice.csv": None}, ValueError, "'slice.csv' should be the name of a file"),
        ({}, {"../slice.h5ad": None}, ValueError, "should be the name of a file"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(
    tmp_path, metrics, slices, error, message
):
    with pytest.raises(error, match=message):
        gh.finish_run(tmp_path / "results", metrics, slices)
    assert not (tmp_path / "results").exists()


def test_peak_memory_is_a_peak():
    code = (
        "import genot_helpers as gh\nmuch = bytearray(200_000_000)\ndel much\n"
        "print(gh.peak_memory_mb())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 200
    assert gh.peak_memory_mb(psutil.Process()) > 1


def test_scores_on_measured_tissue_say_when_and_how(tmp_path, monkeypatch):
    row = {"slice": "a", "method": "baseline", "score": "ari", "mean": 0.5, "sd": 0.1, "seeds": 5}
    row |= {"date": "2026-12-01", "command": "python measure.py 01"}
    (tmp_path / "real_01.json").write_text(json.dumps([row]))
    monkeypatch.setattr("genot_helpers.results.SCORES", (tmp_path / "none", tmp_path))
    assert gh.real_scores("01").to_dict("records") == [row]
    with pytest.raises(ValueError, match=r"no scores for '07', only for: 01\."):
        gh.real_scores("07")


def test_every_kept_score_was_measured_more_than_once():
    with pytest.raises(ValueError, match="no scores for 'none'"):
        gh.real_scores("none")
    table = gh.real_scores("01")
    assert {"slice", "method", "score", "mean", "sd", "seeds"} <= set(table.columns)
    assert (table["seeds"] >= 2).all()
    assert table["mean"].between(-1, 1).all()


def test_scores_on_measured_tissue_as_a_table(monkeypatch, tmp_path, capsys):
    rows = [
        {"slice": "b", "method": "ours", "score": "map", "mean": 0.5, "sd": 0.01, "seeds": 3},
        {"slice": "b", "method": "copy", "score": "map", "mean": 0.25, "sd": 0.0, "seeds": 3},
        {"slice": "a", "method": "ours", "score": "ari", "mean": 0.125, "sd": 0.0, "seeds": 1},
    ]
    made = {"date": "2026-12-01", "command": "python some.py"}
    (tmp_path / "real_99.json").write_text(json.dumps([{**row, **made} for row in rows]))
    monkeypatch.setattr("genot_helpers.results.SCORES", (tmp_path,))
    table = gh.real_scores_table("99")
    assert list(table.index) == [("b", "ours"), ("b", "copy"), ("a", "ours")]
    assert list(table.columns) == ["map", "ari"]
    assert table.loc[("b", "ours"), "map"] == "0.500 ± 0.010"
    assert table.loc[("a", "ours"), "ari"] == "0.125"
    assert table.loc[("a", "ours"), "map"] == ""
    assert "2026-12-01: python some.py (3 seeds)" in capsys.readouterr().out
