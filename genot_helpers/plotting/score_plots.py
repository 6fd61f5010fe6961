"""Figures of numbers: scores of generated slices, quantities along t, genes after a transfer.

The scores are explained in ``evaluation/generated_scores.py`` and ``evaluation/carried_scores.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar

from ..arguments import checked
from ..evaluation.carried_scores import VERDICTS, carried_maps
from ..evaluation.reading_scores import check_scores
from ..slices.geometry import micrometres_per_unit
from ..slices.sections import by_pair
from .plotting import PALETTE, SCALE_BAR, grows_upwards, is_simulated, plain_axes, say_simulated

SHOWN = ("map", "knn", "ari", "niche", "variance", "gene_gene", "c2st", "moran")
"""Scores that are drawn if none are named: each catches what others miss."""

_SHORTEST_AXIS = 0.1
_ROWS = {
    "genot": "generated, real spots (X)",
    "genot_mean": "generated, expectation",
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


@checked
def plot_trend(
    table: pd.DataFrame,
    real: pd.DataFrame | None = None,
    *,
    ylabel: str,
    colours: Mapping[str, str] | None = None,
    real_name: str = "measured",
) -> Figure:
    """Draw how quantities change along t.

    Parameters
    ----------
    table
        Positions t in the index, one quantity (the area of a domain, the level of a gene) a column.
    real, real_name
        The same of real slices, where there are some: open circles, and what the legend calls them.
    ylabel
        What is drawn, with its unit.
    colours
        Column → colour; a column that it does not name gets the colour of its number.
    """
    figure, ax = plain_axes(6.4, 3.6)
    for number, name in enumerate(table):
        colour = (colours or {}).get(name, PALETTE[number % len(PALETTE)])
        ax.plot(table.index, table[name], color=colour, marker=".", label=str(name))
        if real is not None:
            ax.plot(real.index, real[name], ls="", marker="o", ms=9, mfc="none", mec=colour)
    if real is not None:
        ax.plot([], [], ls="", marker="o", ms=9, mfc="none", mec="0.3", label=real_name)
    ax.set(xlabel="t (0: left, 1: right)", ylabel=ylabel)
    ax.set_ylim(bottom=0.0)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@checked
def plot_scores(
    table: pd.DataFrame, scores: Sequence[str] = SHOWN, *, n_columns: int = 4
) -> Figure:
    """Draw a score table: one panel a score, one line a method, the ceiling as a dashed line.

    Parameters
    ----------
    table
        From :func:`genot_helpers.evaluation.generated_scores.score_table`.
    scores
        Its columns to draw; those without any value are left out. A dotted line marks an ideal that
        is not simply the highest or lowest value. Ratios have log axes.
    n_columns
        Panels in a row.
    """
    check_scores(table, scores)
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


# -------------------------------------------------------------------------------------------------
# How alike genes are in two slices.

_SIMILARITY_MEASURES = {
    "pearson": "correlation (1: same pattern)",
    "cosine": "cosine (1: same direction)",
    "rmse": "error, log expression (0: none)",
    "jensen_shannon": "Jensen-Shannon, bits (0: same places)",
    "ssim": "structural similarity (1: same map)",
}


@checked
def plot_gene_similarity(
    tables: dict[str, pd.DataFrame] | pd.DataFrame, genes: Sequence[str] = ()
) -> Figure:
    """Draw how similar genes are between two slices: a histogram for each measure.

    Parameters
    ----------
    tables
        From :func:`genot_helpers.evaluation.gene_similarity`; or name → such a table, to compare
        (lines, with a dashed line at each median).
    genes
        Genes to mark by name in the first table.
    """
    if isinstance(tables, pd.DataFrame):
        tables = {"": tables}
    first = next(iter(tables.values()))
    columns = [c for c in _SIMILARITY_MEASURES if c in first and first[c].notna().any()]
    across = min(3, len(columns))
    lines = -(-len(columns) // across)
    options = {"figsize": (2.9 * across + 0.3, 3.1 * lines), "layout": "constrained"}
    figure, axes = plt.subplots(lines, across, squeeze=False, **options)
    for ax in axes.flat[len(columns) :]:
        ax.set_axis_off()
    for column, ax in zip(columns, axes.flat, strict=False):
        everything = pd.concat([table[column] for table in tables.values()]).dropna()
        low, high = everything.quantile([0.005, 0.995])
        edges = np.linspace(low, max(high, low + 1e-9), 26)
        for number, (name, table) in enumerate(tables.items()):
            colour = PALETTE[number]
            values = table[column].dropna().clip(low, high)
            if len(tables) == 1:
                ax.hist(values, edges, alpha=0.3, color=colour)
            ax.hist(values, edges, histtype="step", lw=1.5, color=colour, label=name or None)
            ax.axvline(values.median(), color=colour, ls="--", lw=1)
        _mark_genes(ax, first[column].reindex(genes).dropna().clip(low, high))
        ax.set_xlabel(_SIMILARITY_MEASURES[column], fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("genes")
    if len(tables) > 1:
        empty = axes.size > len(columns)
        options = {"loc": "upper left", "bbox_to_anchor": (0.0 if empty else 1.0, 1.0)}
        handles, names = axes[0, 0].get_legend_handles_labels()
        axes[-1, -1].legend(handles, names, frameon=False, title="dashed: median", **options)
    return figure


def _mark_genes(ax: plt.Axes, values: pd.Series) -> None:
    """Write the names of genes above the axes, pointing to their values."""
    low, high = ax.get_xlim()
    last = -np.inf
    for gene, value in values.sort_values().items():
        last = max(last + 0.08 * (high - low), value)  # names side by side, not on each other
        ax.annotate(
            str(gene), (value, 0.97), (last, 1.06), xycoords=("data", "axes fraction"),
            textcoords=("data", "axes fraction"), rotation=90, fontsize=8, ha="center", va="bottom",
            arrowprops={"arrowstyle": "-", "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


# -------------------------------------------------------------------------------------------------
# A transfer from one technology to another: which genes survived it.

_COLOURS = dict(zip(VERDICTS, (PALETTE[0], PALETTE[1], PALETTE[5], "#BBBBBB"), strict=True))
_LINES = ("-", "--", "-.", ":")
_AXES = {
    "measured_mean": "mean per measured spot (target)",
    "carried_mean": "mean per carried spot (source)",
}


@by_pair
@checked
def plot_gene_levels(
    source: AnnData, target: AnnData, genes: Sequence[str], *, names: Sequence[str] | None = None
) -> Figure:
    """Draw the mean of each gene in two slices against each other: an efficiency for each gene.

    Parameters
    ----------
    source, target
        Slices with these genes: counts or other plain values.
    genes
        Which to draw; those without any value in one of the slices are left out.
    names
        What to call a spot of each, such as ``("bin", "cell")``; default: ("source", "target").

    Returns
    -------
    matplotlib.figure.Figure
        Logarithmic axes, and the line of slices that differ in depth alone.
    """
    names = names or ("source", "target")
    level = [np.asarray(one[:, list(genes)].X.mean(axis=0)).ravel() for one in (source, target)]
    seen = (level[0] > 0) & (level[1] > 0)
    level = [one[seen] for one in level]
    figure, ax = plain_axes(5.2, 3.9)
    ax.scatter(*level, s=10, color=PALETTE[0], label="a shared gene")
    ends = np.array([level[0].min(), level[0].max()])
    ax.plot(ends, ends * level[1].sum() / level[0].sum(), color="0.3", label="depth alone")
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel=f"mean per {names[0]}", ylabel=f"mean per {names[1]}")
    made = " (simulated)" if is_simulated(source) or is_simulated(target) else ""
    ax.set_title(f"The same genes, two instruments{made}")
    ax.legend(frameon=False)
    return figure


@checked
def plot_survival(judged: pd.DataFrame, *, named: Sequence[str] = ()) -> Figure:
    """Draw for every gene how well it was carried, against how well it could be measured at all.

    Parameters
    ----------
    judged
        From :func:`genot_helpers.evaluation.judge_genes`.
    named
        Genes to name in the figure; those that are not in the table are left out.
    """
    figure, ax = plain_axes(6.6, 5.0)
    counts = judged["verdict"].value_counts()
    for verdict in reversed(VERDICTS):  # what cannot be told lies below the rest
        here = judged[judged["verdict"] == verdict]
        name = f"{verdict} ({counts.get(verdict, 0):,})"
        ax.scatter(here["ceiling"], here["map"], s=12, color=_COLOURS[verdict], label=name)
    low = float(np.nanmin([judged["ceiling"].min(), judged["map"].min(), -0.1]))
    ax.plot([0, 1], [0, 1], color="0.3", lw=1, label="as well as the other half")
    reach = np.linspace(0, 1, 100)
    ax.plot(reach, np.sqrt(reach), color="0.3", lw=1, ls=":", label="without any noise of its own")
    if "noise" in judged.attrs:
        ax.axhline(
            judged.attrs["noise"], color="0.6", lw=1, ls="--", label="noise (spots shuffled)"
        )
        ax.axvline(judged.attrs["noise"], color="0.6", lw=1, ls="--")
    box = {"boxstyle": "square,pad=0.05", "fc": "white", "ec": "none", "alpha": 0.7}
    known = judged.loc[[one for one in named if one in judged.index]].sort_values("map")
    for number, (gene, row) in enumerate(known.iterrows()):  # names left and right in turn
        left = number % 2 == 1
        place = {"xytext": (-6, 5) if left else (6, -5), "textcoords": "offset points"}
        place |= {"ha": "right" if left else "left", "va": "bottom" if left else "top"}
        ax.annotate(str(gene), (row["ceiling"], row["map"]), fontsize=8, bbox=box, **place)
        ax.plot(row["ceiling"], row["map"], "o", ms=5, mfc="none", mec="black")
    ax.set(xlim=(low, 1.03), ylim=(low, 1.03), title="Which genes survive the transfer")
    ax.set(xlabel="ceiling: measured half against the other half, r")
    ax.set(ylabel="carried against measured half, r")
    handles, labels = ax.get_legend_handles_labels()
    order = [3, 2, 1, 0, *range(4, len(handles))]
    legend = {"frameon": False, "loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 9}
    ax.legend([handles[k] for k in order], [labels[k] for k in order], **legend)
    return figure


@checked
def plot_by_depth(
    table: pd.DataFrame,
    *,
    score: str = "map",
    against: Sequence[str] | Mapping[str, str] = ("measured_mean", "carried_mean"),
    n_groups: int = 8,
) -> Figure:
    """Draw a score of all rows against how much of a gene there is, one panel for each side.

    Parameters
    ----------
    table, score
        From :func:`genot_helpers.evaluation.score_transfer`, and which score of it.
    against
        Scores of the first row to draw along x (logarithmic); a mapping names the axes.
    n_groups
        Groups of equally many genes; lines join their medians.
    """
    rows = list(table.columns.get_level_values(0).unique())
    words = dict(against) if isinstance(against, Mapping) else {x: _AXES.get(x, x) for x in against}
    check_scores(table.columns.get_level_values(-1).unique(), [score, *words])
    size = (3.7 * len(words) + 2.2, 3.6)
    figure, axes = plt.subplots(1, len(words), figsize=size, sharey=True, squeeze=False)
    figure.set_layout_engine("constrained")
    for (column, label), ax in zip(words.items(), axes[0], strict=True):
        x = table[rows[0]][column]
        seen = x > 0
        groups = pd.qcut(x[seen].rank(method="first"), min(n_groups, int(seen.sum())), labels=False)
        ax.scatter(x[seen], table[rows[0]][score][seen], s=4, color=PALETTE[0], alpha=0.25)
        for number, row in enumerate(rows):
            fixed = {"other half": ("0.2", "--"), "shuffled": ("0.6", ":")}.get(row)
            colour, line = fixed or (PALETTE[number % len(PALETTE)], _LINES[number % len(_LINES)])
            middle = table[row][score][seen].groupby(groups).median()
            ax.plot(x[seen].groupby(groups).median(), middle, ls=line, color=colour, label=row)
        ax.set(xscale="log", xlabel=label)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel({"map": "map correlation"}.get(score, score))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle("A dot is a gene; lines join medians of groups of genes", fontsize=10)
    return figure


@checked
def plot_gene_maps(
    rows: Mapping[str, AnnData], measured: AnnData, genes: Sequence[str], *, name: str = "measured"
) -> Figure:
    """Draw the maps that are compared: a row for each gene, the measured one first.

    Parameters
    ----------
    rows
        Name → carried slice, in the frame of the measured one.
    measured, name
        The target as it was measured, and what to call it.
    genes
        Genes that all slices have.
    """
    maps = {row: carried_maps(carried, measured, genes) for row, carried in rows.items()}
    first = next(iter(maps.values()))
    panels = {name: first.measured} | {row: one.carried for row, one in maps.items()}
    wide, high = np.array(first.measured.shape[:2]) * first.side
    size = (2.7 * len(panels) + 0.6, (2.7 * high / wide + 0.35) * len(genes) + 0.3)
    shape = {"nrows": len(genes), "ncols": len(panels), "figsize": size}
    figure, axes = plt.subplots(**shape, squeeze=False, layout="constrained")
    left, low = first.corner
    frame = {"extent": (left, left + wide, low, low + high), "origin": "lower"}
    for g, gene in enumerate(genes):
        every = np.concatenate([one[..., g].ravel() for one in panels.values()])
        norm = plt.Normalize(0.0, max(float(np.nanquantile(every, 0.995)), 1e-6))
        for (row, one), ax in zip(panels.items(), axes[g], strict=True):
            picture = ax.imshow(one[..., g].T, cmap="magma", norm=norm, **frame)
            told = "" if row == name else f", r = {maps[row].correlation[g]:.2f}"
            ax.set_title(f"{gene}: {row}{told}", fontsize=9)
            _dress(ax, measured)
        figure.colorbar(picture, ax=axes[g].tolist(), shrink=0.8, label="log(1 + x)")
    return figure


def _dress(ax: plt.Axes, adata: AnnData) -> None:
    """Add what a map of tissue needs: orientation, scale bar, and whether it is simulated."""
    ax.set_axis_off()
    scale = micrometres_per_unit(adata)
    if not grows_upwards(adata):
        ax.invert_yaxis()
    if scale is not None:
        ax.add_artist(ScaleBar(scale, "um", **SCALE_BAR))
    if is_simulated(adata):
        say_simulated(ax, 0.0, 7)
