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
