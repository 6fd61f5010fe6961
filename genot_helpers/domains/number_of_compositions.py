r"""How many domains of cells: what the evidence says, what stability says, and whether they agree.

The evidence for a partition (:func:`genot_helpers.domains.composition_field.log_evidence`) is the
log probability of the types, their compositions integrated out, and of the partition itself, less
that of one domain for all. Each new composition and each border has to be paid for by cells that
are described better. It is that of one partition, not of a sum over all, so read it as a
comparison. Stability is the agreement of partitions from different seeds (von Luxburg 2010, doi
10.1561/2200000008); it likes few domains. The two need not agree, and then the data do not say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..arguments import checked
from ..runtime import progress_off
from ..slices.sections import Slices, named_slices
from .composition import ALIKE, Cells, check_number_of_domains, prepare_cells
from .composition_field import log_evidence, solutions

__all__ = ["choose_n_compositions"]


@checked(
    n_types=(1, 10_000),
    n_codebooks=(1, 1_000),
    n_neighbors=(1, 1_000),
    prior_cells=(1e-6, 1e9),
    n_seeds=(2, 1_000),
)
@threadpool_limits.wrap(limits=1)
def choose_n_compositions(
    slices: Slices,
    candidates: Iterable[int] = range(2, 13),
    *,
    type_key: str | None = None,
    use_rep: str = "X_pca",
    n_components: int = 20,
    n_types: int = 30,
    n_codebooks: int = 5,
    neighbour_weight: float = 10.0,
    n_neighbors: int = 8,
    prior_cells: float = 10.0,
    n_starts: int = 20,
    n_kept: int = 4,
    n_seeds: int = 3,
    spatial_key: str = "spatial",
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare numbers of domains for :func:`cluster_composition`, by evidence and by stability.

    Nothing is written.

    Parameters
    ----------
    slices
        One slice, or several that are clustered together.
    candidates
        Numbers of domains to try, each 1 or more.
    type_key, use_rep, n_components, n_types, n_codebooks, neighbour_weight, n_neighbors
        As for :func:`cluster_composition`; fewer codebooks and starts do here.
    prior_cells, n_starts, n_kept, spatial_key
        As for :func:`cluster_composition`.
    n_seeds
        Independent searches, each with types and starts of its own, 2 or more.
    seed
        Same seed and machine: the same table.
    progress
        None shows a progress bar in a terminal or notebook only.

    Returns
    -------
    pandas.DataFrame
        Index ``n_domains``; columns ``evidence`` (float, nats, mean over seeds; higher is better),
        ``spread`` (float, standard deviation between seeds), ``stability`` (float, mean adjusted
        Rand index between the best partitions of two seeds) and ``chosen`` (bool, highest
        evidence). ``table.attrs["says"]`` is one sentence: the number, or that the data do not say.

    Raises
    ------
    SliceError
        If positions, components or the column of types are missing or not usable.
    TypeError, ValueError
        If an argument is of another kind or out of range.
    """
    named = named_slices(slices)
    candidates = list(candidates)
    if not candidates:
        raise ValueError("candidates is empty; give one number of domains or more.")
    for number in candidates:
        check_number_of_domains(named, number)
    model = {
        "type_key": type_key,
        "use_rep": use_rep,
        "n_components": n_components,
        "n_types": n_types,
        "n_codebooks": n_codebooks,
        "neighbour_weight": neighbour_weight,
        "n_neighbors": n_neighbors,
        "prior_cells": prior_cells,
        "spatial_key": spatial_key,
        "layer": "",
    }
    seeds = [n_seeds * seed + number for number in range(n_seeds)]
    cells = [prepare_cells(named, seed=one, **model) for one in seeds]
    rows = {}
    for n_domains in tqdm(sorted(set(candidates)), "domains", disable=progress_off(progress)):
        found = [
            _best(one, n_domains, n_starts=n_starts, n_kept=n_kept, seed=number)
            for one, number in zip(cells, seeds, strict=True)
        ]
        heights = [height for height, _ in found]
        pairs = itertools.combinations([labels for _, labels in found], 2)
        stability = np.mean([adjusted_rand_score(*pair) for pair in pairs])
        rows[n_domains] = [np.mean(heights), np.std(heights), stability]
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["evidence", "spread", "stability"]
    )
    table["chosen"] = table["evidence"] == table["evidence"].max()
    table.attrs["says"] = _says(table)
    return table.rename_axis("n_domains")


def _best(cells: Cells, n_domains: int, **search) -> tuple[float, np.ndarray]:
    """Evidence and labels, in an order common to all seeds, of the likeliest partition."""
    _, labels = solutions(cells.field, cells.points, n_domains, **search)[0]
    return log_evidence(cells.field, labels, n_domains), labels[cells.back]


def _says(table: pd.DataFrame) -> str:
    """Say in one sentence which number both criteria bear out, or that none is."""
    best = table["evidence"].idxmax()
    stable = table.loc[best, "stability"]
    near = table.index[table["evidence"] > table.loc[best, "evidence"] - table["spread"].max()]
    found = f"Evidence is highest for {best} domains, and seeds agree on them to {stable:.2f}"
    if best == table.index.max() and len(table) > 1:
        return f"{found}; it still rises at the largest number tried: the data do not say."
    if stable < ALIKE:
        steadiest = table["stability"].idxmax()
        agreed = table["stability"].max()
        return f"{found}; most stable are {steadiest} ({agreed:.2f}): the data do not say."
    if len(near) > 1:
        others = f"{near.min()} to {near.max()}"
        return f"{found}; within the spread between seeds it is as high for {others}."
    return f"{found}: {best}."
