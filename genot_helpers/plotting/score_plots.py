"""Figures of numbers about generated slices: a table of scores, and what changes along t.

The scores are explained in :mod:`genot_helpers.evaluation.generated_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .plotting import PALETTE

__all__ = ["plot_scores", "plot_trend"]

SHOWN = ("map", "knn", "ari", "niche", "variance", "gene_gene", "c2st", "moran")
"""Scores that are drawn if none are named: each catches what others miss."""

_SHORTEST_AXIS = 0.1
_ROWS = {
    "genot": "GenOT, real spots (X)",
    "genot_mean": "GenOT, mean",
    "copy_left": "copy of left",
    "copy_right": "copy of right",
    "union": "union of both",
    "neighbour_mean": "mean of neighbours",
    "ceiling": "ceiling",
}


class _Measure(NamedTuple):
    """How a score is drawn: in words, what is best, and whether it is a ratio."""

    words: str
    best: str = "high"
    ideal: float | None = None
    ratio: bool = False


_MEASURES = {
    "map": _Measure("map correlation"),
    "knn": _Measure("10 nearest spots, correlation"),
    "nearest": _Measure("nearest spot, correlation"),
    "ari": _Measure("domains, ARI"),
    "accuracy": _Measure("domains, accuracy"),
    "density": _Measure("density, correlation"),
    "ssim": _Measure("structural similarity"),
    "moran_correlation": _Measure("Moran's I, correlation"),
    "niche": _Measure("niche difference", "low"),
    "knn_rmse": _Measure("10 nearest spots, error", "low"),
    "gene_gene": _Measure("gene-gene correlation, error", "low"),
    "sliced_wasserstein": _Measure("sliced Wasserstein", "low"),
    "c2st": _Measure("told from real (AUC)", "0.5", 0.5),
    "variance": _Measure("variance, over real", "1", 1.0, True),
    "moran": _Measure("Moran's I, over real", "1", 1.0, True),
    "spacing": _Measure("spacing, over real", "1", 1.0, True),
}


def plot_trend(
    table: pd.DataFrame,
    real: pd.DataFrame | None = None,
    *,
    ylabel: str,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw how quantities change along t.

    Parameters
    ----------
    table
        Positions t in the index, one quantity (the area of a domain, the level of a gene) a column.
    real
        The same of real slices, where there are some: open circles.
    ylabel
        What is drawn, with its unit.
    colours
        Column → colour, where the same domains were drawn before; a column that it does not name
        gets the colour of its number.
    """
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for number, name in enumerate(table):
        colour = (colours or {}).get(name, PALETTE[number % len(PALETTE)])
        ax.plot(table.index, table[name], color=colour, marker=".", label=str(name))
        if real is not None:
            ax.plot(real.index, real[name], ls="", marker="o", ms=9, mfc="none", mec=colour)
    if real is not None:
        ax.plot([], [], ls="", marker="o", ms=9, mfc="none", mec="0.3", label="measured")
    ax.set(xlabel="t (0: left, 1: right)", ylabel=ylabel)
    ax.set_ylim(bottom=0.0)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_scores(
    table: pd.DataFrame,
    scores: Sequence[str] = (
        "map",
        "knn",
        "ari",
        "niche",
        "variance",
        "gene_gene",
        "c2st",
        "moran",
    ),
    *,
    n_columns: int = 4,
) -> Figure:
    """Draw a score table: one panel a score, one line a method, the ceiling as a dashed line.

    Parameters
    ----------
    table
        From :func:`genot_helpers.evaluation.generated_scores.score_table`.
    scores
        Its columns to draw; those without any value (no labels) are left out. A dotted line marks
        the ideal where that is not simply the highest or lowest value. Ratios have log axes.
    n_columns
        Panels in a row.
    """
    scores = [score for score in scores if table[score].notna().any()]
    n_rows = -(-len(scores) // n_columns)
    size = 2.6 * n_columns + 1.4, (0.28 * len(table) + 0.7) * n_rows
    options = {"sharey": True, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, **options)
    for ax in axes.flat[len(scores) :]:
        ax.set_axis_off()
    for score, ax in zip(scores, axes.flat, strict=False):
        _draw_score(table[score], _MEASURES.get(score, _Measure(score)), ax)
    axes[0, 0].invert_yaxis()
    figure.get_layout_engine().set(hspace=0.08)
    return figure


def _draw_score(column: pd.Series, measure: _Measure, ax: plt.Axes) -> None:
    """Draw one score of all methods, with the numbers beside the dots."""
    if measure.ratio:
        ax.set_xscale("log")
    for place, (row, value) in enumerate(column.items()):
        if not np.isfinite(value):
            continue
        ours = str(row).startswith("genot")
        ax.plot(value, place, "o" if ours else "s", color=PALETTE[0] if ours else "0.45", ms=6)
        number = f"{value:.3f}" if abs(value) < 1 and not measure.ratio else f"{value:.2f}"
        text = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        box = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
        ax.annotate(number, (value, place), bbox=box, **text)
    if "ceiling" in column.index:
        ax.axvline(column["ceiling"], color=PALETTE[5], ls="--", lw=1, zorder=0)
    if measure.ideal is not None:
        ax.axvline(measure.ideal, color="0.3", ls=":", lw=1, zorder=0)
    ax.set_xlim(*_limits(ax, measure.ratio))
    ax.set_yticks(range(len(column)), [_ROWS.get(row, str(row)) for row in column.index])
    ax.set_title(f"{measure.words}\n(best: {measure.best})", fontsize=9)
    ax.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def _limits(ax: plt.Axes, ratio: bool) -> tuple[float, float]:
    """Room for the numbers, and no axis so short that a difference of nothing fills it."""
    low, high = np.log(ax.dataLim.intervalx) if ratio else ax.dataLim.intervalx
    middle, width = (low + high) / 2, max(high - low, np.log(2) if ratio else _SHORTEST_AXIS)
    limits = middle - 0.6 * width, middle + 1.0 * width
    return tuple(np.exp(limits)) if ratio else limits
