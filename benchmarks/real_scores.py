"""What notebooks score on measured tissue, and on simulated tissue, over several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/real_scores.py 02
Options: --slices fly_S01 ...   --seeds 3
Runs the lesson of a notebook headless once per slice and seed, and writes its scores into
benchmarks/results/real_<number>.json, which the notebook itself shows beside what it has just
scored: `gh.real_scores("02")`. To add a notebook, name below what to run and which metrics to keep.
(Notebook 01 has the scores of bench_domains.py, which does the same: bench_domains.py --keep 01.)
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genot_runner import run_notebook

FOLDER = Path(__file__).resolve().parent / "results"
DOMAINS = {"baseline": "baseline_{}", "closed form": "{}"}
FLY = "stereoseq_drosophila/"
DEMO = {"data_source": "demo"}

# Notebook → slice → parameters. A source with a slash is a file below the folder of real slices.
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "00": {"simulated": DEMO, "200 spots of 151673": {"data_source": "local", "section": "151673"}},
    "08": {
        "seqFISH embryo 2, z2 to z5": {
            **{"data_source": "seqfish_embryo/", "bins": "seqfish_mouse_embryo2_z2"},
            **{"cells": "seqfish_mouse_embryo2_z5", "allow_reflection": False},
        },
    },
}
# Notebook → name of a method → its metric; {} stands for the score.
METHODS: dict[str, dict[str, str]] = {
    "00": {"not averaged": "baseline_{}", "once": "{}"},
    "08": {
        **{"chosen on the tuning genes": "genot.{}", "expression alone": "expression.{}"},
        **{"OT, place, blurred": "place.{}", "nearest bin": "nearest.{}"},
        **{"mean of the domain": "domain_mean.{}", "wrong gene": "wrong_gene.{}"},
        **{"shuffled": "floor.{}", "other half": "ceiling.{}"},
    },
}
SCORES: dict[str, tuple[str, ...]] = {
    "00": ("ari", "pas"),
    "08": ("map", "ssim", "rmse", "js"),
}


def metrics_of(notebook: str, parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Run the lesson of a notebook once and return its metrics."""
    asked = {**parameters, "seed": seed}
    if "/" in asked["data_source"]:
        asked["data_source"] = str(Path(os.environ["GENOT_DATA_DIR"], asked["data_source"]))
    with tempfile.TemporaryDirectory() as folder:
        run = run_notebook(notebook, asked, output_dir=folder, progress=False, exercises=False)
        return dict(run.metrics)


def row(slice_name: str, method: str, score: str, found: Iterable[float]) -> dict[str, Any]:
    """Return one row of scores: mean and standard deviation over seeds, and each of them."""
    values = np.array(list(found), dtype=float)
    return {
        **{"slice": slice_name, "method": method, "score": score},
        **{"mean": round(float(values.mean()), 4), "sd": round(float(values.std()), 4)},
        **{"seeds": len(values), "each": " ".join(f"{value:.3f}" for value in values)},
    }


def keep(notebook: str, rows: Iterable[Mapping[str, Any]], command: str) -> Path:
    """Write rows into the file of a notebook, in place of older ones of the same names."""
    path = FOLDER / f"real_{notebook}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    made = {"date": str(datetime.datetime.now(datetime.UTC).date()), "command": command}
    named = {(one["slice"], one["method"], one["score"]): one for one in before}
    named |= {(one["slice"], one["method"], one["score"]): {**one, **made} for one in rows}
    body = ",\n".join(json.dumps(one, ensure_ascii=False) for one in named.values())
    path.write_text(f"[\n{body}\n]\n", encoding="utf-8")
    return path


def main() -> None:
    """Read the arguments, run, and write after every slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", choices=sorted(RUNS))
    parser.add_argument("--slices", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    if "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    command = f"python benchmarks/real_scores.py {asked.notebook} --seeds {asked.seeds}"
    methods, scores = METHODS[asked.notebook], SCORES[asked.notebook]
    for name in asked.slices or RUNS[asked.notebook]:
        parameters = RUNS[asked.notebook][name]
        runs = [metrics_of(asked.notebook, parameters, seed) for seed in range(asked.seeds)]
        for (method, metric), score in itertools.product(methods.items(), scores):
            found = [run[metric.format(score)] for run in runs if metric.format(score) in run]
            if found:
                print(keep(asked.notebook, [row(name, method, score, found)], command), flush=True)


if __name__ == "__main__":
    main()
