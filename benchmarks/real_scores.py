"""What notebooks score on measured tissue, over several seeds.

Needs the real slices: GENOT_DATA_DIR=<folder> python benchmarks/real_scores.py 03
Options: --slices ...   --seeds 3
Runs the lesson of a notebook headless once per slice and seed, and writes its scores into
benchmarks/results/real_<number>.json, which the notebook itself shows beside what it has just
scored: `gh.real_scores("03")`. To add a notebook, name below what to run and which metrics to keep.
(Notebooks 01 and 02 have the scores of bench_domains.py, with its option --keep; so have domains of
notebook 09: --slices merfish_4 merfish_9 merfish_14 --keep 09, with --methods composition and
--together, and with --methods baseline.)
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

import anndata as ad
import numpy as np
from scipy.sparse import csr_matrix

import genot_helpers as gh
from genot_runner import run_notebook

BEADS = "slideseq_cerebellum/slideseqV1_cerebellum_Puck_180819_11_10000beads.h5ad"
FOLDER = Path(__file__).resolve().parent / "results"
DOMAINS = {"baseline": "baseline_{}", "closed form": "{}"}
FLY = "stereoseq_drosophila/"
STAGES = {"left": "S01", "held_out": "S02", "right": "S03"}
DEMO = {"data_source": "demo"}

# Notebook → slice → parameters. A source with a slash is a file below the folder of real slices.
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "00": {"simulated": DEMO, "200 spots of 151673": {"data_source": "local", "section": "151673"}},
    "03": {
        "hippocampus, Slide-seqV2": {
            "data_source": "slideseqv2_hippocampus_window/slideseqV2_vesalius_1052beads.h5ad",
            "quick": True,
        },
        "cerebellum, Slide-seq": {"data_source": BEADS, "quick": True},
    },
    "04": {
        "simulated": DEMO,
        "olfactory bulb, molecules dealt in two": {
            **{"data_source": "parts of the bulb", "section": "first", "source": "second"},
            **{"n_domains": 5},
        },
    },
    "05": {
        "simulated": DEMO,
        "anterior section, cut in two": {
            **{"data_source": "parts of the brain", "anterior": ["west"], "posterior": ["east"]},
            **{"n_domains": 8},
        },
    },
    "06": {"simulated": DEMO, "151673 + 151675 → 151674": {"data_source": "local"}},
    "07": {
        "simulated": {**DEMO, "quick": True},
        "fly S01 + S03 → S02": {
            **{"data_source": FLY, "grows": False},
            **{role: f"drosophila_stereoseq_E14-16h_{s}" for role, s in STAGES.items()},
        },
    },
    "08": {
        "seqFISH embryo 2, z2 to z5": {
            **{"data_source": "seqfish_embryo/", "bins": "seqfish_mouse_embryo2_z2"},
            **{"cells": "seqfish_mouse_embryo2_z5", "allow_reflection": False},
        },
    },
    "09": {"merfish_9 from 4 and 14": {"data_source": "local"}},
    "10": {
        "simulated": DEMO,
        "151673 + 151675, between them 151674": {
            **{"data_source": "local", "left": "151673", "right": "151675"},
            **{"held_out": "151674"},
        },
        "merfish_4 + merfish_14, between them 9": {
            **{"data_source": "local", "left": "merfish_4", "right": "merfish_14"},
            **{"held_out": "merfish_9"},
        },
    },
}
GENERATED = {
    **{"generated": "genot.{}", "copy of left": "copy_left.{}", "copy of right": "copy_right.{}"},
    **{"mixture": "union.{}", "ceiling": "ceiling.{}"},
}
# Notebook → name of a method → its metric; {} stands for the score.
METHODS: dict[str, dict[str, str]] = {
    **{"00": {"not averaged": "baseline_{}", "once": "{}"}},
    "03": {**DOMAINS, "beads alone": "beads_{}", "chosen model": "chosen_{}"},
    "04": {
        **{"closed form": "{}", "baseline": "baseline_{}", "transport": "transport.{}"},
        **{"nearest": "nearest.{}", "mean of 12": "mean_of_12.{}"},
        **{"measured again": "other_half.{}", "shuffled": "shuffled.{}"},
    },
    "05": {
        **{"no correction": "none_{}", "centred": "centre_{}", "anchors": "anchors_{}"},
        **{"baseline, anchors": "baseline_{}"},
    },
    "08": {
        **{"chosen on the tuning genes": "genot.{}", "expression alone": "expression.{}"},
        **{"OT, place, blurred": "place.{}", "nearest bin": "nearest.{}"},
        **{"mean of the domain": "domain_mean.{}", "wrong gene": "wrong_gene.{}"},
        **{"shuffled": "floor.{}", "other half": "ceiling.{}"},
    },
    **dict.fromkeys(("06", "07", "09"), GENERATED),
    "10": {"found": "{}", "baseline": "baseline_{}", **GENERATED},
}
SCORES: dict[str, tuple[str, ...]] = {
    **{"00": ("ari", "pas"), "03": ("chaos", "pas")},
    **{"04": ("ari", "map"), "05": ("ari", "jump", "cut_agreement")},
    **dict.fromkeys(("06", "07"), ("map", "knn", "ari", "c2st")),
    **{"08": ("map", "ssim", "rmse", "js")},
    **{"09": ("map", "knn", "variance", "c2st")},  # ari: of its domains, by bench_domains.py
    **{"10": ("n_domains", "ari", "map", "c2st")},
}


def parts_of_the_brain(folder: Path) -> None:
    """Cut the sagittal section at its middle: the cut is real, and there is no batch effect."""
    whole = ad.read_h5ad(next(data_folder("visium_sagittal_anterior").glob("*.h5ad")))
    west = whole.obsm["spatial"][:, 0] < np.median(whole.obsm["spatial"][:, 0])
    for name, rows in (("west", west), ("east", ~west)):
        gh.write_slice(whole[rows].copy(), folder / f"{name}.h5ad")


def parts_of_the_bulb(folder: Path) -> None:
    """Deal the molecules of the olfactory bulb in two: one tissue measured twice, half as deep."""
    whole = ad.read_h5ad(next(data_folder("olfactory_bulb_st").glob("*.h5ad")))
    whole.X = csr_matrix(whole.X)
    first = whole.copy()
    first.X.data = np.random.default_rng(0).binomial(whole.X.data.astype(int), 0.5).astype("f4")
    second = whole.copy()
    second.X.data = whole.X.data - first.X.data
    for name, part in (("first", first), ("second", second)):
        part.X.eliminate_zeros()
        gh.write_slice(part, folder / f"{name}.h5ad")


PARTS = {"parts of the brain": parts_of_the_brain, "parts of the bulb": parts_of_the_bulb}
"""Pairs of slices made of one real section, where there is no real pair."""


def data_folder(name: str) -> Path:
    """Return a folder of real slices."""
    return Path(os.environ["GENOT_DATA_DIR"], name)


def metrics_of(notebook: str, parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Run the lesson of a notebook once and return its metrics."""
    asked = {**parameters, "seed": seed}
    if "/" in asked["data_source"]:
        asked["data_source"] = str(Path(os.environ["GENOT_DATA_DIR"], asked["data_source"]))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as parts:
        if asked["data_source"] in PARTS:
            PARTS[asked["data_source"]](Path(parts))
            asked["data_source"] = parts
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
