"""Leave every inner section of a stack out in turn, to see whether those beyond the next help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..arguments import checked
from ..interpolation.stack import PATHS, depths_of_stack, interpolate_stack
from ..slices.slices import SliceError
from .generated_scores import score_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

__all__ = ["score_stack"]


@checked
def score_stack(
    sections: Sequence[AnnData],
    *,
    depths: Sequence[float] | None = None,
    paths: Sequence[str] = PATHS,
    n_repeats: int = 3,
    seed: int = 0,
    niche_key: str | None = None,
    spatial_key: str = "spatial",
    **options,
) -> pd.DataFrame:
    """Generate every inner section from the others, by each path, and score it.

    Parameters
    ----------
    sections, depths, spatial_key
        As for :func:`genot_helpers.interpolation.interpolate_stack`; three sections at least.
    paths
        Which ways through the gap to compare.
    n_repeats, niche_key, seed
        As for :func:`genot_helpers.evaluation.score_table`.
    **options
        Of :func:`genot_helpers.interpolation.prepare_interpolation`.

    Returns
    -------
    pandas.DataFrame
        Rows: number of the section left out (in the order given), and row: each of ``paths``,
        ``copy`` (of the two copies, that with the higher ``map``), ``union`` and ``ceiling``.
        Columns as in :func:`genot_helpers.evaluation.score_generated`. ``attrs["spread"]``: largest
        standard deviation of each score over the repetitions, by which to judge differences.

    Raises
    ------
    SliceError
        If there are fewer than three sections, or as
        :func:`genot_helpers.interpolation.interpolate_stack`.

    Examples
    --------
    >>> scores = score_stack(sections)
    >>> scores["map"].unstack()
    """
    sections = list(sections)
    if len(sections) < 3:
        raise SliceError(f"sections has {len(sections)} slices: three are needed to leave one out.")
    at = depths_of_stack(sections, depths)
    order, rows, spread = np.argsort(at), {}, {}
    for place in range(1, len(order) - 1):
        number, sides = order[place], (order[place - 1], order[place + 1])
        others = np.delete(np.arange(len(sections)), number)
        left, right = (sections[side] for side in sides)
        t = float((at[number] - at[sides[0]]) / (at[sides[1]] - at[sides[0]]))
        for path in paths:
            generated = interpolate_stack(
                [sections[i] for i in others], [float(at[number])], depths=at[others], path=path,
                seed=seed, spatial_key=spatial_key, **options,
            )[0]  # fmt: skip
            table = score_table(
                generated, left, right, sections[number], t=t, niche_key=niche_key,
                spatial_key=spatial_key, n_repeats=n_repeats, seed=seed,
            )  # fmt: skip
            rows[number, path] = table.loc["genot"]
            for row, values in pd.DataFrame(table.attrs["spread"]).items():
                spread[row] = max(spread.get(row, 0.0), np.nan_to_num(values["genot"]))
        better = table.loc[["copy_left", "copy_right"], "map"].idxmax()
        rows |= {(number, "copy"): table.loc[better]}
        rows |= {(number, row): table.loc[row] for row in ("union", "ceiling")}
    result = pd.DataFrame(rows).T.rename_axis(index=["left_out", "row"])
    result.attrs["spread"] = {score: float(value) for score, value in spread.items()}
    return result
