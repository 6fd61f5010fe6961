"""Figures of a first look at a slice: its depth, how many domains, their markers, gene by gene."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plotting import PALETTE, _draw, _panels

__all__ = ["plot_depth", "plot_gene_similarity", "plot_markers", "plot_n_domains"]

_MEASURES = {
    "pearson": "correlation (1: same pattern)",
    "cosine": "cosine (1: same direction)",
    "rmse": "error, log expression (0: none)",
    "jensen_shannon": "Jensen-Shannon, bits (0: same places)",
    "ssim": "structural similarity (1: same map)",
}
_LARGEST_DOT = 130.0  # points squared, where all spots of a domain express the gene


def plot_depth(adata: AnnData, *, image: bool = True) -> Figure:
    """Draw how much was measured where: the total and the number of genes of each spot.

    Parameters
    ----------
    adata
        A slice; ``X`` counts or other values that are not negative. Where the slice has an image of
        the tissue, it is drawn too, with spots on it.
    image
        False: never draw the image.
    """
    total = pd.Series(np.asarray(adata.X.sum(axis=1), float).ravel(), adata.obs_names)
    n_genes = pd.Series(np.asarray((adata.X > 0).sum(axis=1), float).ravel(), adata.obs_names)
    with_image = image and any(one.get("images") for one in adata.uns.get("spatial", {}).values())
    figure, axes = _panels(2 + with_image, adata)
    if with_image:
        place = pd.Series(pd.Categorical(["spot"] * adata.n_obs), adata.obs_names)
        _draw(
            adata, place, axes[0], title="Spots on the image", image=True, alpha=0.35,
            colours={"spot": PALETTE[0]}, legend_loc=None,
        )  # fmt: skip
    for ax, values, title in zip(
        axes[with_image:],
        (total, n_genes),
        ("Total of a spot", "Genes found in a spot"),
        strict=True,
    ):
        norm = plt.Normalize(0.0, max(float(values.quantile(0.99)), 1e-9))
        _draw(adata, values, ax, title=title, cmap="viridis", norm=norm)
    return figure


def plot_n_domains(table: pd.DataFrame, chosen: int) -> Figure:
    """Draw the information criterion by number of domains, scaled to run from 0 to 1.

    Parameters
    ----------
    table
        From :func:`genot_helpers.domains.choose_n_domains`.
    chosen
        The number that is used: a vertical line.
    """
    figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    curves = {"bic": "neighbours counted as alike", "bic_independent": "every spot counted in full"}
    if np.allclose(table["bic"], table["bic_independent"]):
        del curves["bic"]
    for number, (column, words) in enumerate(curves.items()):
        values = table[column].replace(np.inf, np.nan)
        scaled = (values - values.min()) / max(values.max() - values.min(), 1e-9)
        ax.plot(table.index, scaled, "o-", ms=4, color=PALETTE[number], label=words)
        best = values.idxmin()
        ax.plot(best, scaled[best], "o", ms=11, mfc="none", mec=PALETTE[number], mew=1.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.axvline(chosen, color="0.3", ls=":", lw=1.2, label=f"used: {chosen}")
    ax.set(xlabel="number of domains", ylabel="criterion, 0: lowest", ylim=(-0.06, 1.04))
    ax.set_title("How many domains? (circles: lowest of a curve)")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_markers(
    adata: AnnData,
    genes: Sequence[str],
    *,
    key: str = "genot_domain",
    layer: str = "log1p",
) -> Figure:
    """Draw genes by domain: colour for the mean, size of the dot for the share of spots with it.

    Parameters
    ----------
    adata
        With ``layers[layer]`` and ``obs[key]``.
    genes
        In the order wanted; those that are not measured are left out.
    key, layer
        Column of ``obs`` with the domains, and the expression that is averaged.

    Raises
    ------
    ValueError
        If none of the genes is measured.
    """
    genes = [gene for gene in dict.fromkeys(genes) if gene in adata.var_names]
    if not genes:
        raise ValueError("None of the genes is in var_names.")
    values = adata[:, genes].to_df(layer)
    groups = adata.obs[key]
    mean = values.groupby(groups, observed=True).mean()
    share = (values > 0).groupby(groups, observed=True).mean()
    # Each gene on its own scale: the question is where it is high, not which gene is higher.
    scaled = (mean - mean.min()) / (mean.max() - mean.min()).replace(0.0, 1.0)
    size = (0.27 * len(genes) + 2.6, 0.32 * len(mean) + 1.5)
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    x, y = np.meshgrid(range(len(genes)), range(len(mean)))
    area = _LARGEST_DOT * share.to_numpy().ravel()
    dots = ax.scatter(x.ravel(), y.ravel(), s=area, c=scaled.to_numpy().ravel(), cmap="viridis_r")
    ax.set_xticks(range(len(genes)), genes, rotation=90, fontsize=8)
    ax.set_yticks(range(len(mean)), [str(name) for name in mean.index])
    ax.set(xlim=(-0.7, len(genes) - 0.3), ylim=(len(mean) - 0.4, -0.6), ylabel="domain")
    ax.set_title("Markers of the domains (dot: share of spots with the gene)", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    bar = figure.colorbar(dots, ax=ax, shrink=0.9, aspect=12)
    bar.set_ticks([0, 1], labels=["lowest\ndomain", "highest"], fontsize=8)
    bar.set_label("mean log expression", fontsize=8)
    return figure


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
    columns = [c for c in _MEASURES if c in first and first[c].notna().any()]
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
        ax.set_xlabel(_MEASURES[column], fontsize=9)
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
