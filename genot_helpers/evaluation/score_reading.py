"""Read a table of scores: means with their spread, the gap that is closed, figures for a file."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["flat_scores", "gap_closed", "with_spread"]


def with_spread(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Write the scores of a table as text: mean ± standard deviation over the repetitions.

    Parameters
    ----------
    table
        From :func:`.generated_scores.score_table`, or some of its rows and columns.
    digits
        Decimal places. Numbers of spots and genes have none.

    Returns
    -------
    Text in the same rows and columns; what the deviation is one of is said there.
    Means alone where there was one repetition only, or the table has lost its ``attrs["spread"]``.
    """
    spread = pd.DataFrame(table.attrs.get("spread", {})).reindex_like(table)
    text = table.astype(object)
    for score in table:
        places = 0 if score.startswith("n_") else digits
        for row in table.index:
            deviation = spread.loc[row, score]
            tail = "" if places == 0 or np.isnan(deviation) else f" ± {deviation:.{places}f}"
            text.loc[row, score] = f"{table.loc[row, score]:,.{places}f}{tail}"
    return text


def gap_closed(table: pd.DataFrame, score: str = "map") -> float:
    """Tell how much of the way from the better copy to the ceiling a generated slice has gone.

    (genot - best copy) / (ceiling - best copy): 0 is as good as a copy, 1 as good as possible.

    Parameters
    ----------
    table
        From :func:`.generated_scores.score_table`.
    score
        A column in which more is better.

    Returns
    -------
    NaN if the ceiling is not above the better copy by 0.01 or more: there is no gap to close then,
    and the ratio would be noise. So it is for sections 10 µm apart, as pairs of the cortex are.
    """
    copy = table.loc[["copy_left", "copy_right"], score].max()
    gap = table.loc["ceiling", score] - copy
    return float((table.loc["genot", score] - copy) / gap) if gap >= 0.01 else float("nan")


def flat_scores(table: pd.DataFrame) -> dict[str, float]:
    """Return a table as one flat dictionary for ``metrics.json``.

    Parameters
    ----------
    table
        From :func:`.generated_scores.score_table`.

    Returns
    -------
    ``"<row>.<score>"`` -> number for every cell, and ``"gap_closed.map"``.
    """
    flat = {f"{row}.{key}": float(table.loc[row, key]) for row in table.index for key in table}
    return {**flat, "gap_closed.map": gap_closed(table)}
