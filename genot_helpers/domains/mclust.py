"""R's mclust (Scrucca et al. 2016, doi 10.32614/RJ-2016-021) from Python, by rpy2; optional."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..slices.several import Slices, named_slices
from .domains import stacked_embedding, write_domains

__all__ = ["cluster_mclust"]


def cluster_mclust(
    slices: Slices,
    n_domains: int,
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    model: str = "EEE",
    key_added: str = "genot_domain",
    seed: int = 0,
) -> None:
    """Find domains with R's mclust (one hierarchical start), as the published GenOT does.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number.
    n_domains
        Number of domains, at most the number of spots.
    use_rep, n_dimensions
        The leading principal axes of ``obsm[use_rep]`` that are clustered.
    model
        Covariance model of mclust; "EEE" is one covariance shared by all domains.
    key_added
        Writes ``obs[key_added]`` and ``uns["genot"][key_added]``.
    seed
        Same seed and machine: the same domains.

    Raises
    ------
    ImportError
        If rpy2, R or R's mclust is missing; the message says how to get them.
    ValueError
        If mclust cannot fit the model.
    """
    named = named_slices(slices)
    embedding = stacked_embedding(named, use_rep, n_domains)[:, :n_dimensions]
    write_domains(
        named,
        _run_mclust(embedding, n_domains, model, seed),
        key_added,
        method=f"mclust {model}",
        use_rep=use_rep,
        seed=seed,
    )


@contextmanager
def _library_path_kept() -> Iterator[None]:
    """Undo what rpy2 does to LD_LIBRARY_PATH when it is imported.

    This process does not need it any more, and a notebook started from here would look for Python's
    own libraries among the system's, where they may be of another version.
    """
    before = os.environ.get("LD_LIBRARY_PATH")
    try:
        yield
    finally:
        os.environ.pop("LD_LIBRARY_PATH", None)
        if before is not None:
            os.environ["LD_LIBRARY_PATH"] = before


def _run_mclust(embedding: np.ndarray, n_domains: int, model: str, seed: int) -> np.ndarray:
    try:
        with _library_path_kept():
            import rpy2.robjects as robjects
            from rpy2.robjects import numpy2ri

        robjects.r("suppressPackageStartupMessages(library(mclust))")
    except Exception as problem:  # rpy2 raises several kinds, depending on what is missing
        raise ImportError(
            "cluster_mclust needs R with its package mclust, and rpy2. Debian and Ubuntu: "
            "apt install r-base-core r-cran-mclust; conda: conda install -c conda-forge "
            "r-base r-mclust rpy2; elsewhere install R, then run install.packages('mclust') in "
            f"it. cluster_mixture fits the same model without R. (Cause: {problem!r})"
        ) from problem
    with (robjects.default_converter + numpy2ri.converter).context() as conversion:
        points = conversion.py2rpy(embedding)
    robjects.r["set.seed"](seed)
    fit = robjects.r["Mclust"](points, G=n_domains, modelNames=model, verbose=False)
    if fit is robjects.NULL:
        raise ValueError(
            f"mclust could not fit model {model} with {n_domains} domains to {len(embedding)} "
            f"spots of {embedding.shape[1]} dimensions. Use fewer domains or dimensions."
        )
    return np.asarray(fit.rx2("classification"), dtype=int)
