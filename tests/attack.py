"""Bad values for every argument of every public function; run as a program, for it may crash.

Prints one line of JSON per call: function, argument, value, and how the call ended. The calls run
in a process of their own, with an alarm for each, so that a call that hangs or kills the
interpreter is one line that is missing, and not the end of the tests.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

import genot_helpers as gh

SECONDS = 5
SKIPPED = ("finish_run", "peak_memory_mb", "real_scores", "write_report", "load_encoder")


def tissue(n_spots: int = 60, n_genes: int = 20, seed: int = 0) -> AnnData:
    """Make a small slice with everything that functions ask for."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_spots)))
    points = np.array([(i % side, i // side) for i in range(n_spots)], dtype=float)
    domain = (points[:, 0] > side / 2).astype(int)
    counts = rng.poisson(2 + 4 * (np.arange(n_genes)[None] % 2 == domain[:, None]))
    adata = AnnData(sparse.csr_matrix(counts.astype("float32")))
    adata.obs_names = [f"spot{i}" for i in range(n_spots)]
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.obsm["spatial"] = points + rng.normal(0, 0.05, points.shape)
    adata.obsm["spatial_aligned"] = adata.obsm["spatial"].copy()
    for key in ("domain_truth", "genot_domain", "cell_type"):
        adata.obs[key] = pd.Categorical(np.where(domain, "a", "b"))
    adata.obs["genot_confidence"] = rng.random(n_spots)
    adata.obs["section"] = pd.Categorical(["one"] * n_spots)
    adata.layers["log1p"] = adata.X.log1p()
    adata.obsm["X_pca"] = rng.normal(size=(n_spots, 15)).astype("float32")
    adata.obsm["X_pca"][:, 0] += 5 * domain
    adata.obsm["X_genot"] = adata.obsm["X_pca"].copy()
    gh.spatial_graph(adata)
    return adata


def damaged(adata: AnnData, part: str, change: object) -> AnnData:
    """Return a copy whose sparse matrix is broken."""
    adata = adata.copy()
    if part == "indices":
        adata.X.indices[3] = change
    else:
        adata.X.indptr[5] = change
    return adata


def broken_slices() -> dict[str, object]:
    """Make slices that nothing can be done with, or that are too small."""
    whole = tissue()
    made = {name: whole.copy() for name in ("no positions", "NaN positions", "far", "object")}
    del made["no positions"].obsm["spatial"]
    made["NaN positions"].obsm["spatial"][3, 0] = np.nan
    made["far"].obsm["spatial"] = made["far"].obsm["spatial"] * 1e200
    made["object"].X = whole.X.toarray().astype(object)
    made["NaN values"] = whole.copy()
    made["NaN values"].X.data[5] = np.nan
    made["twice"] = whole.copy()
    made["twice"].obs_names = ["spot"] * whole.n_obs
    made |= {"empty": whole[:0].copy(), "1 spot": whole[:1].copy(), "2 spots": whole[:2].copy()}
    made["index out of range"] = damaged(whole, "indices", 10_000_000)
    made["index below zero"] = damaged(whole, "indices", -9)
    made["pointer falls"] = damaged(whole, "indptr", 0)
    made["pointer too far"] = damaged(whole, "indptr", 10**8)
    return made


NUMBERS = {
    **{"None": None, "text": "x", "list": [], "nan": float("nan"), "inf": float("inf")},
    **{"-1": -1, "1e9": 10**9, "1e12": 1e12, "1e200": 1e200, "True": True, "half": 0.5},
}
TEXTS = {"None": None, "nope": "nope", "3": 3, "list": [], "surrogate": "\udc80", "empty": ""}
ARRAYS = {
    **{"None": None, "text": "x", "empty": [], "nan": np.full((60, 2), np.nan)},
    **{"1e200": np.full((60, 2), 1e200), "3-d": np.ones((2, 2, 2)), "one row": np.ones((1, 2))},
    "object": np.full((60, 2), None),
}
OTHERS = {"None": None, "text": "x", "3": 3, "empty": [], "object": object()}


def attacks(annotation: str) -> dict[str, object]:
    """Choose bad values by the annotation of an argument."""
    if "AnnData" in annotation or "Slices" in annotation:
        broken = broken_slices()
        if annotation.startswith("Mapping"):
            broken = {k: {"a": tissue(), "b": v} for k, v in broken.items()}
        elif annotation.startswith(("Sequence", "list")):
            broken = {k: [tissue(), v, tissue(seed=2)] for k, v in broken.items()}
        return {**OTHERS, "True": True, **broken}
    if "Array" in annotation or "ndarray" in annotation:
        return ARRAYS
    if annotation.startswith(("int", "float")):
        return NUMBERS
    return TEXTS if annotation.startswith(("str", "Path", "bool")) else OTHERS


def valid(folder: Path) -> dict[str, object]:
    """Make valid arguments, by name; ``function.name`` goes before ``name``."""
    one, two, three = tissue(), tissue(seed=1), tissue(seed=2)
    points = one.obsm["spatial"]
    table = gh.score_table(two, one, three, two.copy())
    return {
        **dict.fromkeys(("adata", "left", "source", "reference", "generated", "carried"), one),
        **dict.fromkeys(("right", "target", "other", "held_out", "measured", "real"), three),
        **{"one": one, "like": three, "slices": one, "points": points, "at": 0.5, "t": 0.5},
        **{"left_points": points, "right_points": three.obsm["spatial"]},
        **{"n_domains": 2, "candidates": [2, 3], "sections": [one, two, three]},
        **{"positions": [0.5], "side": 2.0, "genes": ["gene0", "gene1"], "gene": "gene0"},
        **{"color": "domain_truth", "rows": {"a": one}, "path": folder / "out.txt"},
        **{"table": table, "losses": {"a": [1.0, 0.5]}, "eigenvalues": [3.0, 2.0, 1.0]},
        **{"operator": gh.row_normalised(one.obsp["spatial_connectivities"]), "n_steps": 1},
        **{"adjacency": one.obsp["spatial_connectivities"], "features": one.obsm["X_pca"]},
        **{"data": {"a": 1}, "matched": {"a": "a", "b": "b"}, "name": "slice", "names": ["151673"]},
        **{"section_key": "section", "keys": ["genot_domain"], "figure": None},
        **{"max_epochs": 2, "n_starts": 4, "n_kept": 2, "n_codebooks": 2, "n_types": 4},
        **{"max_genes": 20, "n_repeats": 1, "n_sections": 2, "n_spots": 200, "n_genes": 60},
        "smooth.n_steps": 1,
        "split_sections.adata": one,
        "film.slices": {"a": one, "b": three},
        "stack_figure.slices": {"a": one, "b": three},
        "gene_along_stack.slices": {"a": one, "b": three},
        "plot_series.slices": {"a": one, "b": three},
        "plot_side_by_side.slices": {"a": one, "b": three},
        "slice_positions.slices": {"slice_1": one, "slice_2": three},
        "join_results.sections": {"one": one},
        "load_slice.name": "151673",
        "write_slice.path": folder / "slice.h5ad",
        "film.path": folder / "film.gif",
        "set_positions.source": ["genot_confidence", "genot_confidence"],
        "interpolate_stack.n_spots": None,
        "score_generated.n_spots": None,
        "score_table.n_spots": None,
    }


class TooLong(BaseException):
    """A call did not end in time."""


def _alarm(*_: object) -> None:
    raise TooLong


def outcome(call: object, argument: str) -> tuple[str, str]:
    """Call, and say whether the error is ours, raw, or there is none."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except TooLong:
        return "hang", ""
    except Exception as error:
        text = str(error)
        ours = "genot_helpers" in (inspect.trace()[-1].filename or "")
        clear = ours and isinstance(error, ValueError | TypeError | KeyError | OSError)
        return "clear" if clear else "raw", f"{type(error).__name__}: {text[:160]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        plt.close("all")
    return "passed", ""


def main(every: int = 1, *chosen: str) -> None:
    """Attack the functions named, or all of them, with every so-manieth bad value."""
    signal.signal(signal.SIGPROF, _alarm)
    plt.switch_backend("Agg")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # "nope" is a folder to some functions
        given = valid(Path(folder))
        names = [n for n in dir(gh) if inspect.isfunction(getattr(gh, n)) and n not in SKIPPED]
        for name in [n for n in names if not chosen or n in chosen]:
            attack(name, getattr(gh, name), given, every)


_COUNT = itertools.count()


def attack(name: str, function: object, given: dict[str, object], every: int) -> None:
    """Put every bad value in the place of every argument in turn."""
    parameters = inspect.signature(function).parameters
    usable = {
        key: given.get(f"{name}.{key}", given.get(key))
        for key, one in parameters.items()
        if one.default is one.empty or (key in given and key not in ("like", "positions"))
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    if name != "split_sections" and not isinstance(usable.get("slices"), AnnData):
        usable.pop("section_key", None)  # two slices are given, or several
    for key, one in parameters.items():
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            continue
        for value, bad in attacks(str(one.annotation).replace("ad.", "")).items():
            if next(_COUNT) % every:
                continue
            copied = {k: v.copy() if isinstance(v, AnnData) else v for k, v in usable.items()}
            copied[key] = bad
            line = {"function": name, "argument": key, "value": value}
            print(json.dumps({**line, "end": "crash", "message": ""}), flush=True)
            start = time.perf_counter()
            end, message = outcome(lambda copied=copied: function(**copied), key)
            took = time.perf_counter() - start
            line |= {"end": end, "message": message, "seconds": round(took, 2)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
