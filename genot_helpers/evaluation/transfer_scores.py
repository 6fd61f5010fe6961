"""A transfer from one technology to another, judged gene by gene beside floor and ceiling.

A score of :func:`genot_helpers.evaluation.score_carried` means little alone. Beside it stand, for
every gene:

- what the trivial answer gives: the expression of the nearest source spots, no transport
  (:func:`genot_helpers.evaluation.nearest_expression`),
- a floor: the same measurement with its spots shuffled,
- a ceiling: one random half of the measured spots against the other half. Noise in the measurement
  limits what any method can reach (the attenuation of Spearman 1904, doi 10.2307/1412159): if two
  halves agree with correlation r, a carried map free of noise can reach the root of r.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData

from .baselines import halves
from .carried_scores import score_carried

__all__ = ["VERDICTS", "judge_genes", "score_transfer"]

VERDICTS = ("as good as measured again", "in part", "lost", "cannot tell")
"""What can become of a gene, the best first."""


def score_transfer(
    rows: Mapping[str, AnnData],
    measured: AnnData,
    *,
    n_repeats: int = 1,
    spatial_key: str = "spatial",
    seed: int = 0,
) -> pd.DataFrame:
    """Score several carried slices, the floor and the ceiling, all against the same spots.

    Everything is scored against a random half of the measured spots, so that the other half can be
    the ceiling.

    Parameters
    ----------
    rows
        Name → carried slice, for example of ``carry_expression`` and ``nearest_expression``.
    measured
        The target as it was measured. Nothing is written.
    n_repeats
        How often to halve anew; the table holds the means.
    spatial_key
        Slot of ``obsm`` with the coordinates.
    seed
        Of the halves.

    Returns
    -------
    pandas.DataFrame
        Genes that all slices have, by (row, score): the rows given, ``"other half"`` (the ceiling)
        and ``"shuffled"`` (the other half with its spots shuffled: the floor). Scores are those of
        ``score_carried``. ``table.xs("map", axis=1, level="score")`` has one column a row.

    Raises
    ------
    ValueError
        If no row is given, one has the name of the floor or the ceiling, or ``n_repeats`` is
        below 1.
    SliceError
        As :func:`genot_helpers.evaluation.score_carried`.
    """
    taken = {"other half", "shuffled"} & set(rows)
    if taken or not rows or n_repeats < 1:
        raise ValueError(
            f"{sorted(taken)} are names of other rows."
            if taken
            else f"n_repeats is {n_repeats} and there are {len(rows)} rows: give 1 of each or more."
        )
    tables = []
    for number in range(seed, seed + n_repeats):
        first, second = (measured[half] for half in halves(measured.n_obs, number))
        shuffled = second.copy()
        order = np.random.default_rng([number, 2]).permutation(second.n_obs)
        shuffled.obsm[spatial_key] = np.asarray(second.obsm[spatial_key])[order]
        every = {**rows, "other half": second, "shuffled": shuffled}
        options = {"spatial_key": spatial_key, "seed": number}
        found = {name: score_carried(one, first, **options) for name, one in every.items()}
        tables.append(pd.concat(found, axis=1, join="inner", names=["row", "score"]))
    return sum(tables) / n_repeats


def judge_genes(table: pd.DataFrame, row: str, *, noise: float = 0.99) -> pd.DataFrame:
    """Say for every gene whether it survived the transfer, by its map alone.

    Parameters
    ----------
    table
        From :func:`score_transfer`.
    row
        Which carried slice.
    noise
        Quantile of the shuffled maps' correlations, over genes, that counts as noise.

    Returns
    -------
    pandas.DataFrame
        Best first: ``map``, ``ceiling`` (the other half), ``bound`` (its root: what a carried map
        free of noise could reach) and ``verdict``, an ordered categorical:

        - ``as good as measured again``: the carried map agrees with the measured one above noise,
          and at least as well as the other half of the measurement does (a source that sees more
          molecules can do better than the target itself),
        - ``in part``: above noise, but less than that,
        - ``lost``: not above noise, though the two halves agree with each other,
        - ``cannot tell``: neither the carried map nor the other half agrees above noise. The target
          saw too little of this gene, or it has no pattern.

    Raises
    ------
    KeyError
        If there is no such row.
    """
    rows = list(table.columns.get_level_values(0).unique())
    if row not in rows:
        raise KeyError(f"There is no row {row!r} in the table. Rows: {rows}.")
    found, ceiling = table[row]["map"], table["other half"]["map"]
    limit = float(table["shuffled"]["map"].quantile(noise))
    verdict = np.select(
        [(found > limit) & (found >= ceiling), found > limit, ceiling > limit],
        VERDICTS[:3],
        default=VERDICTS[3],
    )
    judged = {"map": found, "ceiling": ceiling, "bound": np.sqrt(ceiling.clip(lower=0.0))}
    judged["verdict"] = pd.Categorical(verdict, categories=VERDICTS, ordered=True)
    result = pd.DataFrame(judged, index=table.index)
    result.attrs["noise"] = limit
    return result.sort_values(["verdict", "map"], ascending=[True, False], kind="stable")
