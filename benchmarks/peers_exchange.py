"""What goes to a peer and what comes back: files, seconds, memory.

A peer is another package, in an environment of its own. `bench_peers.py` writes one .h5ad file,
starts `peers_domains.py` or `peers_between.py` with the Python of that environment, and reads one
.h5ad file back. This file is imported on both sides, so it needs anndata, numpy and scipy only,
and nothing of genot_helpers. As a script with the name of a module, it tries to import it.
The .h5ad file holds what a method may see: values, names, coordinates, columns that the task
gives. The annotation that is scored is never among them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import anndata as ad
import numpy as np
from scipy import sparse

__all__ = [
    "import_peer",
    "limit_processor",
    "peak_memory_mb",
    "read_exchange",
    "serve",
    "write_exchange",
]

SETTINGS = "peers"  # the key of uns that holds the settings, as JSON


def write_exchange(path: str | Path, adata: ad.AnnData, columns: list[str], settings: dict) -> None:
    """Write values, coordinates, the columns of obs named, and settings to an .h5ad file."""
    kept = ad.AnnData(
        sparse.csr_matrix(adata.X, dtype=np.float32),
        obs=adata.obs[columns].astype(str),
        obsm={"spatial": np.asarray(adata.obsm["spatial"], dtype=np.float64)},
    )
    kept.obs_names, kept.var_names = adata.obs_names.astype(str), adata.var_names.astype(str)
    kept.uns[SETTINGS] = json.dumps(settings)
    kept.write_h5ad(path)


def read_exchange(path: str | Path) -> tuple[ad.AnnData, dict]:
    """Read an .h5ad file of :func:`write_exchange`: the slice and the settings."""
    adata = ad.read_h5ad(path)
    return adata, json.loads(str(adata.uns.pop(SETTINGS)))


def peak_memory_mb() -> float:
    """Return the peak memory of this process, in MB; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def import_peer(module: str) -> ModuleType:
    """Import a peer; a torchvision built for GPUs does not stop one that makes no use of it."""
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    import torch

    for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool"):
        try:
            torch.library.define(f"torchvision::{name}", "(Tensor a) -> Tensor")
        except RuntimeError:  # this one is there
            continue
    return importlib.import_module(module)


def limit_processor(seconds: int) -> None:
    """End this process after so many seconds of the processor, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the script that started us ends it by the clock
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))


def serve(peers: dict[str, Callable[[ad.AnnData, dict], ad.AnnData]]) -> None:
    """Run one peer: `script PEER IN.h5ad OUT.h5ad SECONDS [PACKAGE]`; its cost goes to OUT.json.

    Seconds are those of the processor, of the whole process: importing the peer is part of them.
    """
    name, given, wanted, limit, *package = sys.argv[1:]
    limit_processor(int(limit))
    adata, settings = read_exchange(given)
    answer = peers[name](adata, settings)
    answer.write_h5ad(wanted)
    cost = {"cpu_seconds": time.process_time(), "peak_memory_mb": peak_memory_mb()}
    if package:
        cost["version"] = importlib.metadata.version(*package)
    Path(wanted).with_suffix(".json").write_text(json.dumps(cost))


if __name__ == "__main__":
    import_peer(sys.argv[1])
