"""The table of peers: who can run, what goes to a peer and comes back, and what is recorded."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
FOREIGN = ("banksy", "nichepca", "graphst", "cellcharter", "stagate", "spagcn")

PEER = """
import time
from peers_exchange import serve

def echo(adata, settings):
    adata.obs["domain"] = [str(settings["n_domains"])] * adata.n_obs
    return adata

def broken(adata, settings):
    raise ValueError("no such tissue")

def endless(adata, settings):
    while True:
        pass

serve({"echo": echo, "broken": broken, "endless": endless})
"""


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_peers")


@pytest.fixture
def small() -> ad.AnnData:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(2.0, (60, 12)).astype(np.float32))
    adata = ad.AnnData(counts, obsm={"spatial": rng.uniform(0, 10, (60, 2))})
    adata.obs["domain_truth"] = np.where(adata.obsm["spatial"][:, 0] < 5, "a", "b")
    adata.obs["kind"] = pd.Categorical(rng.choice(["x", "y"], 60))
    return adata


def test_list_says_who_can_run_and_why_not(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", "domains", "--list"])
    bench.main()
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert set(said) == set(bench.DOMAINS)
    assert said["closed_form"] == "ready"
    for name in FOREIGN:
        assert said[name] == "skipped: no environment named with --python"


def test_a_missing_environment_or_package_is_a_reason(bench, tmp_path):
    peer = bench.Peer("Nobody", "package_that_nobody_has", "")
    absent = str(tmp_path / "python")
    assert bench.reason_not_to_run(peer, [absent], None) == ("", "there is no Python at python")
    python, why = bench.reason_not_to_run(peer, [absent, sys.executable], None)
    assert not python
    assert "No module named 'package_that_nobody_has'" in why
    there = bench.Peer("NumPy", "numpy", "")
    assert bench.reason_not_to_run(there, [absent, sys.executable], None) == (sys.executable, "")


def test_spatialz_needs_the_folder_of_its_repository(bench, tmp_path):
    python, why = bench.reason_not_to_run(bench.BETWEEN["spatialz"], [sys.executable], None)
    assert not python
    assert "--spatialz" in why
    found = bench.reason_not_to_run(bench.BETWEEN["spatialz"], [sys.executable], str(tmp_path))
    assert found == (sys.executable, "")


def test_unknown_peers_are_refused(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", "between", "--peers", "bansky"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "unknown peers bansky" in capsys.readouterr().err


def test_exchange_round_trip(bench, small, tmp_path):
    exchange = importlib.import_module("peers_exchange")
    settings = {"n_domains": 2, "seed": 1, "niche_key": None, "t": 0.5}
    exchange.write_exchange(tmp_path / "slice.h5ad", small, ["kind"], settings)
    read, answered = exchange.read_exchange(tmp_path / "slice.h5ad")
    assert answered == settings
    np.testing.assert_array_equal(read.X.toarray(), small.X.toarray())
    np.testing.assert_array_equal(read.obsm["spatial"], small.obsm["spatial"])
    assert list(read.obs_names) == list(small.obs_names)
    assert list(read.var_names) == list(small.var_names)
    assert list(read.obs["kind"]) == list(small.obs["kind"].astype(str))
    assert list(read.obs) == ["kind"]  # the annotation stays here
    assert not read.uns


def test_a_run_ends_done_or_failed_or_by_the_limit(bench, small, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))
    script = tmp_path / "peer.py"
    script.write_text(PEER)
    given, wanted = tmp_path / "slice.h5ad", tmp_path / "answer.h5ad"
    bench.write_exchange(given, small, [], {"n_domains": 3})
    run = bench.run_once(sys.executable, str(script), "echo", given, wanted, 60, "numpy")
    assert run["status"] == "done"
    assert run["version"] == np.__version__
    assert 0 < run["cpu_seconds"] < 60
    assert set(ad.read_h5ad(wanted).obs["domain"]) == {"3"}
    run = bench.run_once(sys.executable, str(script), "broken", given, wanted, 60)
    assert run == {"status": "failed: ValueError: no such tissue"}
    assert not wanted.exists()  # an older answer is not taken for this one
    run = bench.run_once(sys.executable, str(script), "endless", given, wanted, 5)
    assert run == {"status": "did not finish in 5 s"}


def test_record_keeps_one_run_of_each_kind(bench, tmp_path):
    path = tmp_path / "results" / "peers.json"
    record = bench.Record(path, "domains")
    cost = {"cpu_seconds": 2.0, "peak_memory_mb": 300.0}
    for seed, ari in ((0, 0.1), (0, 0.4), (1, 0.6)):
        which = {"slice": "a", "peer": "banksy", "seed": seed}
        record.add({"status": "done", "ari": ari, "nmi": np.nan, **cost}, **which)
    record.add({"status": "did not finish in 600 s"}, slice="a", peer="graphst", seed=0)
    record.add({"status": "failed: ValueError: x"}, slice="a", peer="stagate", seed=0)
    kept = json.loads(path.read_text())
    assert kept["command"].startswith("python benchmarks/bench_peers.py domains")
    assert all(run["date"] for run in kept["runs"])
    again = bench.Record(path, "domains")
    assert again.has(slice="a", peer="banksy", seed=0)
    assert again.has(slice="a", peer="graphst", seed=0)
    assert not again.has(slice="a", peer="stagate", seed=0)  # a failure is tried again
    assert not again.has(slice="b", peer="banksy", seed=0)
    rows = bench.table(again, bench.DOMAINS, {"ari": "ARI"}).splitlines()
    assert "| a | BANKSY | 0.500 ± 0.100 | 2 | 300 | 2 |" in rows
    assert "| a | GraphST | did not finish in 600 s |" in rows


def test_the_mean_of_near_spots_is_made_by_a_worker(bench, small, tmp_path):
    settings = {"t": 0.25, "n_spots": 40, "seed": 0, "niche_key": "kind"}
    columns = ["domain_truth", "kind"]
    for side in ("left", "right"):
        bench.write_exchange(tmp_path / f"{side}.h5ad", small, columns, settings)
    paths = tmp_path / "left.h5ad", tmp_path / "answer.h5ad"
    run = bench.run_once(sys.executable, "peers_between.py", "knn_mean", *paths, 120)
    assert run["status"] == "done", run
    made = ad.read_h5ad(paths[1])
    assert made.shape == (40, small.n_vars)
    # Counts came in, means go out: the layer holds them, X holds real spots.
    assert {tuple(row) for row in made.X.toarray()} <= {tuple(row) for row in small.X.toarray()}
    spot = made.obsm["spatial"][0]
    near = np.argsort(np.linalg.norm(small.obsm["spatial"] - spot, axis=1))[:5]
    expected = small.X.toarray()[near].mean(axis=0)
    np.testing.assert_allclose(made.layers["mean"].toarray()[0], expected, rtol=1e-5)
    assert set(made.obs["genot_domain"]) <= {"a", "b"}
    assert set(made.obs["kind"]) <= {"x", "y"}
