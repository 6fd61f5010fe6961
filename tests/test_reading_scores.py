"""Tables of scores in words: sentences and verdicts follow the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import genot_helpers as gh

ROWS = ("genot", "copy_left", "copy_right", "union", "ceiling")


def _table(spread: float | None = 0.01, **scores: tuple[float, ...]) -> pd.DataFrame:
    """Return a table of scores, each with one value a row; all of the same spread."""
    table = pd.DataFrame(scores, index=list(ROWS))
    if spread is not None:
        table.attrs["spread"] = (0.0 * table + spread).to_dict()
    return table


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.5, 0.4, 0.3, 0.4, 0.6), "0.50 of the gap is closed."),
        ((0.35, 0.4, 0.3, 0.4, 0.6), "-0.25 of the gap is closed. Below 0: a copy is the better"),
        ((0.41, 0.4, 0.3, 0.4, 0.405), "no room for any method to gain. The generated slice is"),
        ((0.20, 0.27, 0.2, 0.2, 0.229), "bounds nothing, and no share of a gap can be given. The"),
        ((0.20, 0.27, 0.2, 0.2, 0.229), "is 0.070 below the better copy"),
    ],
)
def test_the_gap_is_described_as_the_numbers_are(values: tuple[float, ...], said: str) -> None:
    assert said in gh.gap_in_words(_table(map=values))


def test_a_gap_within_the_noise_of_scoring_is_no_gap() -> None:
    values = (0.5, 0.4, 0.3, 0.4, 0.45)
    assert "of the gap is closed" in gh.gap_in_words(_table(map=values))
    assert "no room" in gh.gap_in_words(_table(0.05, map=values))


def test_a_difference_counts_only_beyond_the_spread() -> None:
    table = _table(
        map=(0.316, 0.31, 0.314, 0.3, 0.5),
        knn=(0.5, 0.4, 0.3, 0.2, 0.6),
        niche=(0.5, 0.4, 0.3, 0.2, 0.1),
        variance=(0.5, 2.5, 1.9, 3.0, 1.0),
        c2st=(0.6, 0.9, 0.45, 0.9, 0.5),
        ari=(np.nan,) * 5,
    )
    found = gh.beside_rivals(table)
    expected = {"map": "level", "knn": "better", "niche": "worse", "variance": "worse"}
    assert found["verdict"].to_dict() == expected | {"c2st": "worse"}
    assert found["best rival"].to_dict() == {
        **{"map": "copy_right", "knn": "copy_left", "niche": "union"},
        **{"variance": "copy_right", "c2st": "copy_right"},
    }
    assert found.loc["map", "spread"] == pytest.approx(0.01 * np.sqrt(2))
    assert set(gh.beside_rivals(_table(None, map=table["map"]))["verdict"]) == {"one draw"}


def test_scores_whose_ceiling_is_none_are_named_with_the_rows_above_it() -> None:
    table = _table(
        map=(0.5, 0.4, 0.3, 0.4, 0.6),  # holds
        ari=(0.9, 0.7, 0.81, 0.7, 0.8),  # the last but two is within the spread
        niche=(0.2, 0.1, 0.3, 0.3, 0.2),  # low is good
        c2st=(0.5, 0.9, 0.9, 0.9, 0.45),  # half is good
    )
    over = gh.evaluation.above_ceiling(table)
    assert over == {"ari": ["genot"], "niche": ["copy_left"], "c2st": ["genot"]}
    assert gh.evaluation.above_ceiling(_table(0.2, ari=(0.9, 0.7, 0.8, 0.7, 0.8))) == {}
