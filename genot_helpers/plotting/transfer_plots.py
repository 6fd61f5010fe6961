"""Figures of a transfer from one technology to another: which genes survived it, and why.

The numbers are explained in :mod:`genot_helpers.evaluation.carried_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar

from ..evaluation.carried_scores import carried_maps
from ..evaluation.transfer_scores import VERDICTS
from .plotting import PALETTE, SCALE_BAR, micrometres_per_unit

__all__ = ["plot_by_depth", "plot_gene_maps", "plot_survival"]

_COLOURS = dict(zip(VERDICTS, (PALETTE[0], PALETTE[1], PALETTE[5], "#BBBBBB"), strict=True))
_LINES = ("-", "--", "-.", ":")
_AXES = {
    "measured_mean": "mean per measured spot (target)",
    "carried_mean": "mean per carried spot (source)",
}


def plot_survival(judged: pd.DataFrame, *, named: Sequence[str] = ()) -> Figure:
    """Draw for every gene how well it was carried, against how well it could be measured at all.

    Parameters
    ----------
    judged
        From :func:`genot_helpers.evaluation.judge_genes`.
    named
        Genes to name in the figure; those that are not in the table are left out.
    """
    figure, ax = plt.subplots(figsize=(6.6, 5.0), layout="constrained")
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
    ax.spines[["top", "right"]].set_visible(False)
    return figure


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
    table
        From :func:`genot_helpers.evaluation.score_transfer`.
    score
        Which score.
    against
        Scores of the first row to draw along x (logarithmic); a mapping names the axes.
    n_groups
        Groups of equally many genes; lines join their medians.
    """
    rows = list(table.columns.get_level_values(0).unique())
    words = dict(against) if isinstance(against, Mapping) else {x: _AXES.get(x, x) for x in against}
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


def plot_gene_maps(
    rows: Mapping[str, AnnData], measured: AnnData, genes: Sequence[str], *, name: str = "measured"
) -> Figure:
    """Draw the maps that are compared: a row for each gene, the measured one first.

    Parameters
    ----------
    rows
        Name → carried slice, in the frame of the measured one.
    measured
        The target as it was measured.
    genes
        Genes that all slices have.
    name
        What to call the measured slice.
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
    facts, scale = adata.uns.get("genot", {}), micrometres_per_unit(adata)
    if facts.get("y_axis") != "up":
        ax.invert_yaxis()
    if scale is not None:
        ax.add_artist(ScaleBar(scale, "um", **SCALE_BAR))
    if facts.get("simulated"):
        place = {"ha": "right", "va": "bottom", "transform": ax.transAxes, "fontsize": 7}
        ax.text(1.0, 0.0, "simulated tissue", color="0.35", **place)
