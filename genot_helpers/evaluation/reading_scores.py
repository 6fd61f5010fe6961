"""Read a table of :func:`.score_table`: means with their spread, the gap that is closed, rivals.

A single draw of spots moves every score a little, so differences are compared with the standard
deviation over repetitions (``n_repeats=3``) before they are called differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from ..arguments import checked

# Distance of a score to its best value: the highest, the lowest, a ratio of 1 (half is as far as
# twice), or chance.
_DISTANCES: dict[str, Callable[[float], float]] = {
    "high": lambda value: -value,
    "low": lambda value: value,
    "one": lambda value: abs(math.log(value)) if value > 0 else math.inf,
    "half": lambda value: abs(value - 0.5),
}
_BEST = dict.fromkeys(("map", "ssim", "knn", "ari", "accuracy"), "high")
_BEST |= dict.fromkeys(("niche", "gene_gene", "sliced_wasserstein"), "low")
_BEST |= dict.fromkeys(("variance", "moran", "spacing"), "one") | {"c2st": "half"}


@checked
def with_spread(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Write the scores of a table as text: mean ± standard deviation over the repetitions.

    Parameters
    ----------
    table, digits
        From ``score_table``, or a part of it; decimal places (numbers of spots and genes have
        none).

    Returns
    -------
    Text in the same rows and columns. Means alone if there was only one repetition, or the table
    has lost its ``attrs["spread"]``.
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


def check_scores(there: Iterable, scores: Iterable[str]) -> None:
    """Raise KeyError for scores that are not among the columns of a table."""
    there = list(there)
    if lacking := [score for score in scores if score not in there]:
        names = ", ".join(map(repr, lacking))
        raise KeyError(f"The table has no score {names}. There: {', '.join(map(str, there))}.")


@checked
def gap_closed(table: pd.DataFrame, score: str = "map") -> float:
    """Compute the share of the gap between the better copy and the ceiling that is closed.

    (genot - best copy) / (ceiling - best copy): 0 is as good as a copy, 1 as good as possible.

    Parameters
    ----------
    table, score
        From ``score_table``, and a column of it in which more is better.

    Returns
    -------
    NaN if the ceiling is less than 0.01 above the better copy, where the ratio would be noise.
    """
    check_scores(table, [score])
    copy = table.loc[["copy_left", "copy_right"], score].max()
    gap = table.loc["ceiling", score] - copy
    return float((table.loc["genot", score] - copy) / gap) if gap >= 0.01 else float("nan")


@checked
def gap_in_words(table: pd.DataFrame, score: str = "map") -> str:
    """Say how far a generated slice goes from the better copy to the ceiling, or why one cannot.

    Parameters
    ----------
    table, score
        As for :func:`gap_closed`; with ``n_repeats`` of 3 or more differences are compared with
        noise.

    Returns
    -------
    str
        A sentence or two, chosen by the numbers: the share of the gap; that a copy is the better
        answer; that there is no room above a copy; or that the ceiling lies below a copy, so that
        it is none.

    Examples
    --------
    >>> import pandas as pd, genot_helpers as gh
    >>> rows = {"genot": 0.5, "copy_left": 0.4, "copy_right": 0.3, "ceiling": 0.6}
    >>> gh.gap_in_words(pd.DataFrame({"map": rows}))
    'map: better copy 0.400 (copy_left), generated 0.500, ceiling 0.600. 0.50 of the gap is closed.'
    """
    check_scores(table, [score])
    copy = table.loc[["copy_left", "copy_right"], score].idxmax()
    best, ours, ceiling = (table.loc[row, score] for row in (copy, "genot", "ceiling"))
    noise = _noise(table, score, copy, "ceiling")
    start = (
        f"{score}: better copy {best:.3f} ({copy}), generated {ours:.3f}, ceiling {ceiling:.3f}."
    )
    noise = max(noise, 0.01)
    if ceiling < best - noise:
        end = (
            "Here the ceiling, half of the held-out slice, lies below a whole copy: it bounds "
            "nothing, and no share of a gap can be given."
        )
    elif ceiling - best < noise:
        end = "Here a copy is level with the ceiling: there is no room for any method to gain."
    else:
        end = f"{gap_closed(table, score):.2f} of the gap is closed."
        if ours < best:
            end += " Below 0: a copy is the better answer."
    if ceiling - best < noise:
        way = "above" if ours > best else "below"
        end += f" The generated slice is {abs(ours - best):.3f} {way} the better copy."
    return f"{start} {end}"


@checked
def beside_rivals(
    table: pd.DataFrame, rivals: Sequence[str] = ("copy_left", "copy_right", "union")
) -> pd.DataFrame:
    """Compare a generated slice with the best of its rivals, score by score.

    Parameters
    ----------
    table : pandas.DataFrame
        From ``score_table`` with ``n_repeats`` of 2 or more: a difference is called one only
        if it exceeds the noise of scoring.
    rivals : sequence of str
        Rows of the table, the mixture and the copies by default.

    Returns
    -------
    pandas.DataFrame
        One row a score that has a best value and is not missing: ``generated``, ``best rival``
        (name), ``its score``, ``spread`` (root of the summed squares of both standard deviations
        over the repetitions; NaN for one), ``verdict``: "better" or "worse" if the generated
        slice is nearer to, or further from, the best value by more than the spread, else "level";
        "one draw" without a spread.

    Raises
    ------
    KeyError
        If the table has no such row.
    """
    if lacking := [one for one in (*rivals, "genot") if one not in table.index]:
        there = ", ".join(map(str, table.index))
        raise KeyError(
            f"The table has no row {lacking[0]!r}; score_table makes one. There: {there}."
        )
    found = {}
    for score in (one for one in _BEST if one in table and table[one].notna().all()):
        distance = table[score].map(_DISTANCES[_BEST[score]])
        rival = distance[list(rivals)].idxmin()
        noise = _noise(table, score, "genot", rival)
        gain = distance[rival] - distance["genot"]
        verdict = "level" if abs(gain) <= noise else "better" if gain > 0 else "worse"
        found[score] = {
            "generated": table.loc["genot", score],
            "best rival": rival,
            "its score": table.loc[rival, score],
            "spread": noise if noise > 0 else np.nan,
            "verdict": verdict if noise > 0 else "one draw",
        }
    return pd.DataFrame.from_dict(found, orient="index")


@checked
def above_ceiling(table: pd.DataFrame) -> dict[str, list[str]]:
    """Say for which scores the ceiling is none, because other rows do better.

    The ceiling bounds what *spots of another sample* can reach where only tissue and noise count; a
    smooth map, more annotated spots in a vote, or a slice of other density can score higher.

    Parameters
    ----------
    table
        From ``score_table``, better with ``n_repeats`` of 3 or more.

    Returns
    -------
    dict of str to list of str
        Score → rows that are nearer to its best value than the ceiling, by more than the noise.
        Scores whose ceiling holds are left out.

    Examples
    --------
    >>> rows = {"copy_left": 0.9, "union": 0.7, "ceiling": 0.8}
    >>> above_ceiling(pd.DataFrame({"ari": rows}))
    {'ari': ['copy_left']}
    """
    best = {**_BEST, "density": "high"}
    found = {}
    for score in (one for one in best if one in table and pd.notna(table.loc["ceiling", one])):
        distance = table[score].map(_DISTANCES[best[score]])
        gain = distance["ceiling"] - distance
        over = [row for row in table.index if gain[row] > _noise(table, score, row, "ceiling")]
        found |= {score: over} if over else {}
    return found


def _noise(table: pd.DataFrame, score: str, *rows: str) -> float:
    """Return the root of the summed squares of the spreads of rows, 0 where none is known."""
    spread = table.attrs.get("spread", {}).get(score, {})
    values = [spread.get(row, math.nan) for row in rows]
    return math.sqrt(sum(value**2 for value in values if not math.isnan(value)))


@checked
def flat_scores(table: pd.DataFrame) -> dict[str, float]:
    """Return a table of ``score_table`` as one flat dictionary for ``metrics.json``.

    Returns
    -------
    ``"<row>.<score>"`` -> number for every cell, and ``"gap_closed.map"``.
    """
    flat = {f"{row}.{key}": float(table.loc[row, key]) for row in table.index for key in table}
    return {**flat, "gap_closed.map": gap_closed(table)}
