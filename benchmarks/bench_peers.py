"""Peers beside this project: the same slices, numbers of domains, spots and scores, one run.

Peers are other packages. They live in environments of their own and are never dependencies: each
run is a process of that environment's Python, which reads one .h5ad file and writes another
(`peers_exchange.py`). A peer that cannot be imported there is skipped, and the table says why.

Make the environments (torch for the processor saves gigabytes), for example:

    python -m venv peers
    peers/bin/pip install torch "anndata<0.13" graphst-modern stagate-modern pybanksy nichepca
    peers/bin/pip install squidpy torchgmm sknw rasterio session-info igraph louvain moscot
    peers/bin/pip install --no-deps cellcharter SpaGCN paste-bio
    python -m venv older
    older/bin/pip install "numpy<2" "pandas<3" "scanpy<1.12" torch feast-py pytorch-lightning
    older/bin/pip install torchdiffeq einops timm plotly pyvista ipywidgets anywidget
    older/bin/pip install --no-deps deepspatial

The second is for peers that need NumPy 1. SpatialZ is not packaged: clone its repository and name
the folder with --spatialz.

Run, with the real slices in GENOT_DATA_DIR (see data/README.md):

    python benchmarks/bench_peers.py domains --python peers/bin/python older/bin/python
    python benchmarks/bench_peers.py between --python peers/bin/python older/bin/python

Options: --peers banksy graphst   --slices merfish_9 (or --triples)   --seeds 3   --limit 600
         --list   says which peers there are and which can run, and runs none
Every run is written to benchmarks/results/peers_domains.json (or peers_between.json) as it ends,
with date and command, and is not run again while it stands there (--again runs it again). All first
seeds come first, so that a table cut short has a row for everyone. One run at a time, one thread.
Seconds are those of the processor for the whole process, memory is its peak.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from peers_exchange import write_exchange

import genot_helpers as gh

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SMALL = 1_000  # spots of the held-out section below which one draw of its halves says little
PATIENCE = 4  # times the limit, by the clock: others may use the machine
OWN = "genot_helpers"  # methods of this project run with this Python


class Peer(NamedTuple):
    """A method of the table: its name there, the module it needs, what it is installed as."""

    title: str
    module: str
    package: str


DOMAINS = {
    "banksy": Peer("BANKSY", "banksy", "pybanksy"),
    "nichepca": Peer("NichePCA", "nichepca", "nichepca"),
    "graphst": Peer("GraphST", "GraphST", "graphst-modern"),
    "cellcharter": Peer("CellCharter (components)", "cellcharter", "cellcharter"),
    "stagate": Peer("STAGATE", "STAGATE_pyG", "stagate-modern"),
    "spagcn": Peer("SpaGCN (no image)", "SpaGCN", "SpaGCN"),
    "baseline": Peer("trivial baseline", OWN, ""),
    "closed_form": Peer("closed form", OWN, ""),
    "closed_form_plain": Peer("closed form, ten starts", OWN, ""),
    "find_domains": Peer("find_domains", OWN, ""),
}
BETWEEN = {
    "placed_spots": Peer("placed spots", OWN, ""),
    "barycenters": Peer("published barycenters", OWN, ""),
    "knn_mean": Peer("mean of near spots", OWN, ""),
    "paste": Peer("PASTE, centre slice", "paste", "paste-bio"),
    "moscot": Peer("moscot", "moscot", "moscot"),
    "deepspatial": Peer("DeepSpatial", "deepspatial", "deepspatial"),
    "feast": Peer("FEAST (sees the places)", "FEAST", "feast-py"),
    "spatialz": Peer("SpatialZ", "ot", ""),
    "spatialz_fast": Peer("SpatialZ, 200 steps, fast", "ot", ""),
}
SLICES = {  # name here -> name of the file, column with the annotation, platform
    "151673": ("151673", "auto", "visium"),
    "151674": ("151674", "auto", "visium"),
    "151675": ("151675", "auto", "visium"),
    "merfish_4": ("merfish_4", "auto", "cells"),
    "merfish_9": ("merfish_9", "auto", "cells"),
    "merfish_14": ("merfish_14", "auto", "cells"),
    "osmfish": ("osmfish_somatosensory_cortex_33genes", "region", "cells"),
}
TRIPLES = {  # left, right, held out; annotation; column of cell types; position of the held-out one
    "heart": (
        ("heart_ST_6.5pcw_3_CN73_D2", "heart_ST_6.5pcw_5_CN74_E1", "heart_ST_6.5pcw_4_CN73_C2"),
        *("region", None, 0.5),
    ),
    "fly": (
        tuple(f"drosophila_stereoseq_E14-16h_S0{number}" for number in (1, 3, 2)),
        *("annotation", None, 0.5),
    ),
    "merfish": (("merfish_4", "merfish_14", "merfish_9"), "auto", "cell_class", 0.5),
}


def without_doubles(adata: AnnData) -> AnnData:
    """Keep one spot of those at one place, which neither the graphs nor the scores can use."""
    return adata[~pd.DataFrame(adata.obsm["spatial"]).duplicated().to_numpy()].copy()


def load(name: str, label_key: str) -> AnnData:
    """Load a real slice, one spot for each place."""
    options = dict(data_source="local", label_key=label_key, check=False)
    return without_doubles(gh.load_slices([name], **options)[name])


def reason_not_to_run(peer: Peer, pythons: list[str], spatialz: str | None) -> tuple[str, str]:
    """Return the Python that can import a peer, and "", or "" and why there is none."""
    if peer.module == OWN:
        there = peer.title != "find_domains" or hasattr(gh, "find_domains")
        return (sys.executable, "") if there else ("", "not in genot_helpers")
    if peer.title.startswith("SpatialZ") and not (spatialz and Path(spatialz).is_dir()):
        return "", "name the folder of its repository with --spatialz"
    why = "no environment named with --python"
    for python in pythons:
        if not Path(python).is_file():
            why = f"there is no Python at {Path(python).name}"
            continue
        trial = [python, str(HERE / "peers_exchange.py"), peer.module]
        answer = subprocess.run(trial, capture_output=True, text=True, env=one_thread())
        if answer.returncode == 0:
            return python, ""
        why = answer.stderr.strip().splitlines()[-1][:200]
    return "", why


def one_thread() -> dict[str, str]:
    """Return the environment of a run: one thread, no window, our module on the path."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA")
    threads = {f"{name}_NUM_THREADS": "1" for name in names}
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return (
        os.environ | threads | {"MPLBACKEND": "Agg", "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    )


def run_once(
    python: str, script: str, name: str, given: Path, wanted: Path, limit: int, package: str = ""
) -> dict[str, object]:
    """Run one peer once; return its status, and cost if it came to an end."""
    command = [python, str(HERE / script), name, str(given), str(wanted), str(limit)]
    command += [package] if package else []
    wanted.unlink(missing_ok=True)
    options = dict(capture_output=True, text=True, env=one_thread())
    too_long = {"status": f"did not finish in {limit} s"}
    try:  # by the clock only if the system cannot limit seconds of the processor
        answer = subprocess.run(command, timeout=PATIENCE * limit, **options)
    except subprocess.TimeoutExpired:
        return too_long
    if answer.returncode in (-9, -24):  # SIGKILL, SIGXCPU
        return too_long
    if answer.returncode != 0 or not wanted.is_file():
        lines = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
        return {"status": f"failed: {lines[-1][:200]}"}
    return {"status": "done", **json.loads(wanted.with_suffix(".json").read_text())}


def score_between(adata: AnnData, slices: dict[str, AnnData], settings: dict) -> dict[str, float]:
    """Score a generated slice by gh.score_table, and its distance to copy and ceiling."""
    left, right, held_out = (slices[name] for name in ("left", "right", "held_out"))
    table = gh.score_table(
        adata, left, right, held_out, t=settings["t"], niche_key=settings["niche_key"],
        seed=settings["seed"], n_repeats=5 if held_out.n_obs < SMALL else 1,
    )  # fmt: skip
    if "mean" in adata.layers:  # a denoised product: its scores are those of the layer
        table = table.drop("genot").rename(index={"genot_mean": "genot"})
    rows = table.T.to_dict()
    made = {**rows.pop("genot"), "n_spots_made": adata.n_obs}
    return {**made, "gap_closed": gh.gap_closed(table), "rows": rows}


class Record:
    """The runs that a file of results holds; written anew after each."""

    def __init__(self, path: Path, task: str) -> None:
        self.path, self.task = path, task
        self.runs: list[dict] = json.loads(path.read_text())["runs"] if path.is_file() else []

    def has(self, **which: object) -> bool:
        """Say whether a run stands there that ended, well or by the limit."""
        found = [r for r in self.runs if all(r[key] == value for key, value in which.items())]
        return any(r["status"] == "done" or r["status"].startswith("did not") for r in found)

    def add(self, run: dict, **which: object) -> None:
        """Put a run in place of an earlier one, and write the file."""
        self.runs = [r for r in self.runs if any(r.get(k) != v for k, v in which.items())]
        now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d")
        self.runs.append({**which, "date": now, **rounded(run)})
        runs = sorted(self.runs, key=lambda r: (r["slice"], r["peer"], r["seed"]))
        command = f"python benchmarks/bench_peers.py {self.task} --python PYTHON ..."
        self.path.parent.mkdir(exist_ok=True)
        lines, head = ",\n  ".join(map(json.dumps, runs)), json.dumps(command)
        self.path.write_text(f'{{"command": {head}, "runs": [\n  {lines}\n]}}\n')


def rounded(value: object) -> object:
    """Round the numbers of a record to four digits; None for those that are none."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, float | np.floating):
        return round(float(value), 4) if np.isfinite(value) else None
    return value


def table(record: Record, peers: dict[str, Peer], columns: dict[str, str]) -> str:
    """Return Markdown: mean ± standard deviation over seeds; a status where no run ended."""
    lines = ["| slice | method | " + " | ".join(columns.values()) + " | CPU, s | MB | seeds |"]
    lines.append("|---|---|" + "---|" * (len(columns) + 3))
    frame = pd.DataFrame(record.runs)
    for (where, name), runs in frame.groupby(["slice", "peer"], sort=False):
        done = runs[runs["status"] == "done"]
        title = peers[name].title if name in peers else name
        if done.empty:
            lines.append(f"| {where} | {title} | {runs['status'].iloc[0]} |")
            continue
        cells = []
        for column in columns:
            values = done[column].to_numpy(dtype=float)
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
        cost = [f"{done[key].mean():,.0f}" for key in ("cpu_seconds", "peak_memory_mb")]
        lines.append(f"| {where} | {title} | " + " | ".join([*cells, *cost, str(len(done))]) + " |")
    return "\n".join(lines)


def domains(chosen: argparse.Namespace, pythons: dict[str, str], folder: Path) -> None:
    """Run and score every peer on every slice; all slices with the first seed come first."""
    record = Record(chosen.results or RESULTS / "peers_domains.json", "domains")
    for seed in range(chosen.seeds):
        for where in chosen.slices:
            file, label_key, platform = SLICES[where]
            adata = load(file, label_key)
            n_domains = adata.obs["domain_truth"].nunique()
            settings = dict(n_domains=n_domains, seed=seed, platform=platform)
            write_exchange(folder / "slice.h5ad", adata, [], settings)
            for name, python in pythons.items():
                which = {"slice": where, "peer": name, "seed": seed}
                if record.has(**which) and not chosen.again:
                    continue
                paths = folder / "slice.h5ad", folder / "answer.h5ad"
                run = run_once(
                    python, "peers_domains.py", name, *paths, chosen.limit, DOMAINS[name].package
                )
                if run["status"] == "done":
                    found = read_h5ad(paths[1]).obs["domain"]
                    adata.obs["genot_domain"] = found.reindex(adata.obs_names).to_numpy()
                    run |= gh.score_domains(adata)
                record.add(run, **which)
                print(where, name, seed, run["status"], run.get("ari", ""), flush=True)
    print(table(record, DOMAINS, {"ari": "ARI", "nmi": "NMI", "macro_f1": "macro F1"}))


def between(chosen: argparse.Namespace, pythons: dict[str, str], folder: Path) -> None:
    """Generate and score the held-out slice of every triple by every peer."""
    record = Record(chosen.results or RESULTS / "peers_between.json", "between")
    for seed in range(chosen.seeds):
        for where in chosen.triples:
            slices, settings = load_triple(where)
            settings |= {"seed": seed, "spatialz": chosen.spatialz}
            for side, adata in slices.items():
                columns = ["domain_truth", *([settings["niche_key"]] * bool(settings["niche_key"]))]
                if side == "held_out":  # its places only: for the peer that needs them
                    adata, columns = AnnData(obs=adata.obs[[]], obsm=dict(adata.obsm)), []
                    adata.X = np.zeros((adata.n_obs, 0), dtype=np.float32)
                write_exchange(folder / f"{side}.h5ad", adata, columns, settings)
            for name, python in pythons.items():
                which = {"slice": where, "peer": name, "seed": seed}
                if record.has(**which) and not chosen.again:
                    continue
                paths = folder / "left.h5ad", folder / "answer.h5ad"
                run = run_once(
                    python, "peers_between.py", name, *paths, chosen.limit, BETWEEN[name].package
                )
                if run["status"] == "done":
                    run |= score_between(read_h5ad(paths[1]), slices, settings)
                record.add(run, **which)
                print(where, name, seed, run["status"], run.get("map", ""), flush=True)
    columns = {"map": "map", "knn": "nearest 10", "ari": "ARI", "niche": "niche"}
    columns |= {"variance": "variance", "c2st": "told from real", "spacing": "spacing"}
    print(table(record, BETWEEN, columns | {"gap_closed": "gap closed"}))


def load_triple(name: str) -> tuple[dict[str, AnnData], dict]:
    """Load a triple in the frame of its left slice, with the genes that all three have."""
    names, label_key, niche_key, t = TRIPLES[name]
    left, right, held_out = (load(file, label_key) for file in names)
    for moving in (right, held_out):
        # The sections of the fly agree little (correlation 0.4); all rows share the alignment.
        found = gh.align(left, moving, on_poor="warn")
        gh.apply_alignment(moving, found, key_added="spatial")
    genes = left.var_names.intersection(right.var_names).intersection(held_out.var_names)
    slices = dict(zip(("left", "right", "held_out"), (left, right, held_out), strict=True))
    slices = {side: adata[:, genes].copy() for side, adata in slices.items()}
    n_spots = round((1 - t) * left.n_obs + t * right.n_obs)
    return slices, {"t": t, "niche_key": niche_key, "n_spots": n_spots}


def main() -> None:
    parser = argparse.ArgumentParser(description="Peers beside this project.")
    parser.add_argument("task", choices=["domains", "between"])
    parser.add_argument("--python", nargs="*", default=[], help="Pythons of the environments")
    parser.add_argument("--peers", nargs="+")
    parser.add_argument("--slices", nargs="+", default=list(SLICES), choices=list(SLICES))
    parser.add_argument("--triples", nargs="+", default=list(TRIPLES), choices=list(TRIPLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds of the processor")
    parser.add_argument("--spatialz", help="folder of the repository of SpatialZ")
    parser.add_argument("--results", type=Path, help="another file of results")
    parser.add_argument("--again", action="store_true", help="also runs that stand in the file")
    parser.add_argument("--list", action="store_true", help="say which peers can run")
    chosen = parser.parse_args()
    peers = DOMAINS if chosen.task == "domains" else BETWEEN
    unknown = sorted(set(chosen.peers or peers) - set(peers))
    if unknown:
        parser.error(f"unknown peers {', '.join(unknown)}; there are {', '.join(peers)}.")
    ready = {}
    for name in chosen.peers or peers:
        ready[name], why = reason_not_to_run(peers[name], chosen.python, chosen.spatialz)
        print(f"{name}: {'ready' if not why else 'skipped: ' + why}", flush=True)
    ready = {name: python for name, python in ready.items() if python}
    if chosen.list:
        return
    if "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    with tempfile.TemporaryDirectory() as folder:
        (domains if chosen.task == "domains" else between)(chosen, ready, Path(folder))


if __name__ == "__main__":
    main()
