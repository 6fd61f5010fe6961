"""Figures of domains: how found, what they are made of; several slices; a cut; stripes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..arguments import checked
from ..evaluation.evaluation import cut_strip, domains_by_height, match_domains
from ..slices.geometry import micrometres_per_unit, positions_of
from ..slices.sections import by_section, no_gene
from ..slices.slices import check_drawable, missing
from .plotting import (
    PALETTE,
    check_titles,
    colour_domains,
    draw_many,
    draw_slice,
    frame_tissue,
    grows_upwards,
    is_simulated,
    legend_dots,
    make_panels,
    plain_axes,
)

_LARGEST_DOT = 130.0  # points squared, where all spots of a domain express the gene
_LEAST_PRINTED = 0.005  # of a composition; smaller shares are left blank


@checked
def plot_loss(losses: Mapping[str, Sequence[float]], *, title: str = "Training loss") -> Figure:
    """Draw the loss curves of a training, one line per term."""
    figure, ax = plain_axes(6.0, 3.4)
    for number, (name, values) in enumerate(losses.items()):
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=PALETTE[number], label=name)
    ax.set(xlabel="epoch", ylabel="loss", title=title)
    ax.legend(frameon=False)
    return figure


@checked
def plot_eigenvalues(eigenvalues: Sequence[float]) -> Figure:
    """Draw the eigenvalues of :func:`genot_helpers.encoder.spectral_embedding`."""
    figure, ax = plain_axes(6.0, 3.0)
    ax.bar(np.arange(1, len(eigenvalues) + 1), eigenvalues, color=PALETTE[0])
    ax.set(xlabel="direction of the embedding", ylabel="share of variance\nneighbours agree on")
    ax.set_title("What neighbours agree on")
    return figure


@checked
def plot_recall(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the share of each annotated domain that was found, one bar per method.

    Parameters
    ----------
    tables
        Method name → table of :func:`genot_helpers.evaluation.recall_per_domain`.
    """
    recall = pd.DataFrame({name: table["recall"] for name, table in tables.items()})
    figure, ax = plain_axes(7.0, 3.4)
    recall.plot.bar(ax=ax, color=list(PALETTE[: recall.shape[1]]), width=0.8, rot=0)
    if max(len(str(name)) for name in recall.index) > 6:  # long names would lie over each other
        plt.setp(ax.get_xticklabels(), rotation=40, ha="right")
    ax.set(xlabel="annotated domain", ylabel="recall", ylim=(0, 1))
    ax.set_title("Share of each annotated domain that was found")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@checked
def plot_n_domains(table: pd.DataFrame, chosen: int) -> Figure:
    """Draw the information criterion by number of domains, scaled to run from 0 to 1.

    Parameters
    ----------
    table
        From :func:`genot_helpers.choose_n_domains`, or from
        :func:`genot_helpers.choose_n_compositions` (then its evidence, turned round).
    chosen
        The number that is used: a vertical line.
    """
    figure, ax = plain_axes(6.4, 3.4)
    curves = {"bic": "neighbours counted as alike", "bic_independent": "every spot counted in full"}
    if "evidence" not in table and not {*curves} <= {*table}:
        raise KeyError("The table holds no criterion: give one that choose_n_domains returned.")
    if "evidence" in table:
        table = table.assign(bic=-table["evidence"])
        curves = {"bic": "evidence, turned round"}
    elif np.allclose(table["bic"], table["bic_independent"]):
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
    return figure


@checked
def plot_markers(
    adata: AnnData, genes: Sequence[str], *, key: str = "genot_domain", layer: str = "log1p"
) -> Figure:
    """Draw genes by domain: colour for the mean, size of the dot for the share of spots with it.

    Parameters
    ----------
    adata
        A slice.
    genes
        In the order wanted; those that are not measured are left out.
    key, layer
        Column of ``obs`` with the domains, and the expression that is averaged.

    Raises
    ------
    ValueError
        If none of the genes is measured.
    """
    asked = list(dict.fromkeys(genes))
    genes = [gene for gene in asked if gene in adata.var_names]
    if not genes:
        said = " ".join(no_gene(gene, adata) for gene in asked[:3])
        raise ValueError(f"None of the genes {asked} is in var_names. {said}")
    if key not in adata.obs:
        raise KeyError(f"{missing('obs', key, adata.obs.columns)} Find domains first.")
    if layer not in adata.layers:
        raise KeyError(f"{missing('layers', layer, adata.layers)} Run normalise first.")
    values = adata[:, genes].to_df(layer)
    groups = adata.obs[key]
    mean = values.groupby(groups, observed=True).mean()
    share = (values > 0).groupby(groups, observed=True).mean()
    # Each gene on its own scale: the question is where it is high, not which gene is higher.
    scaled = (mean - mean.min()) / (mean.max() - mean.min()).replace(0.0, 1.0)
    figure, ax = plain_axes(0.27 * len(genes) + 2.6, 0.32 * len(mean) + 1.5)
    x, y = np.meshgrid(range(len(genes)), range(len(mean)))
    area = _LARGEST_DOT * share.to_numpy().ravel()
    look = {"cmap": "viridis", "edgecolors": "0.4", "linewidths": 0.5}  # a rim for yellow
    dots = ax.scatter(x.ravel(), y.ravel(), s=area, c=scaled.to_numpy().ravel(), **look)
    ax.set_xticks(range(len(genes)), genes, rotation=90, fontsize=8)
    ax.set_yticks(range(len(mean)), [str(name) for name in mean.index])
    ax.set(xlim=(-0.7, len(genes) - 0.3), ylim=(len(mean) - 0.4, -0.6), ylabel="domain")
    ax.set_title("Markers of the domains (dot: share of spots with the gene)", fontsize=10)
    bar = figure.colorbar(dots, ax=ax, shrink=0.9, aspect=12)
    bar.set_ticks([0, 1], labels=["lowest\ndomain", "highest"], fontsize=8)
    bar.set_label("mean log expression", fontsize=8)
    return figure


@checked(n_types=(1, 10_000))
def plot_composition(
    table: pd.DataFrame, *, n_types: int | None = 30, title: str | None = None
) -> Figure:
    """Draw how often each type occurs in each domain, as a heat map.

    The number in a field is the share of the type among the cells of the domain, in per cent; the
    colour is that share divided by the largest in the row, so that rare types show too. Types stand
    in the order of the domain they are at home in.

    Parameters
    ----------
    table
        Types × domains; columns sum to 1: ``cluster_composition(...).compositions``.
    n_types, title
        At most so many types, those with the largest share in any domain (None: all); heading.

    Raises
    ------
    ValueError
        If the table is empty or holds values that are negative or not finite.
    """
    values = table.to_numpy(dtype=float)
    if not values.size or not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(
            f"table has shape {table.shape}; needed are types × domains with shares of 0 or more."
        )
    shown = values.max(axis=1).argsort(kind="stable")[::-1][:n_types]
    home = values.argmax(axis=1)
    shown = np.array(sorted(shown, key=lambda row: (home[row], -values[row, home[row]])))
    values = values[shown]
    relative = values / np.maximum(values.max(axis=1, keepdims=True), np.finfo(float).tiny)
    size = 1.8 + 0.55 * table.shape[1], 1.0 + 0.24 * len(shown)
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    image = ax.imshow(relative, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
    for row, column in np.argwhere(values >= _LEAST_PRINTED):
        colour = "black" if relative[row, column] > 0.6 else "white"
        text = f"{100 * values[row, column]:.0f}"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    names = [str(name).replace("$", r"\$") for name in table.index[shown]]
    ax.set_yticks(range(len(shown)), names, fontsize=8)
    ax.set_xticks(range(table.shape[1]), [str(name) for name in table.columns])
    ax.set(xlabel="domain", ylabel="type", title=title)
    bar = figure.colorbar(image, ax=ax, shrink=0.6)
    bar.set_label("share, relative to the domain where it is largest")
    return figure


# -------------------------------------------------------------------------------------------------
# Several slices side by side, two halves along their cut, and the stripes of a grid.


@by_section(writes=False)
@checked
def plot_side_by_side(
    slices: Mapping[str, AnnData],
    keys: Sequence[str],
    *,
    titles: Sequence[str] | None = None,
    truth: str | None = "domain_truth",
) -> Figure:
    """Draw domains of slices of one frame, so that a domain has one colour in all panels.

    Parameters
    ----------
    slices
        Name → slice, all in one frame and unit; unit and orientation of the first are shown. Equal
        names mean the same domain in all (:func:`genot_helpers.evaluation.name_domains_like`).
    keys, titles
        Columns of ``obs`` in all of them, one column of panels each, and what to call them.
    truth
        Annotation whose colours the others follow, matched over all slices together; None, or a
        column that is missing, gives colours in order.

    Raises
    ------
    KeyError
        If a slice lacks a column.
    """
    for name, adata in slices.items():
        if lacking := [key for key in keys if key not in adata.obs]:
            raise KeyError(f"{name}: {missing('obs', lacking[0], adata.obs.columns)}")
        check_drawable(adata)
    check_titles(titles, keys)
    truth = truth if all(truth in adata.obs for adata in slices.values()) else None
    whole = _together(slices, [*keys, *([truth] if truth and truth not in keys else [])])
    every = np.vstack([positions_of(adata) for adata in slices.values()])
    figure, axes = make_panels(
        len(slices) * len(keys), ad.AnnData(obsm={"spatial": every}), len(keys)
    )
    upwards = grows_upwards(next(iter(slices.values())))
    names: dict[str, str] = {}
    for column, key in enumerate(keys):
        colours = colour_domains(whole, key=key, truth=truth)
        names |= _legend(whole, key, colours, truth)
        for row, (name, adata) in enumerate(slices.items()):
            values = adata.obs[key].astype(object).map(str, na_action="ignore")
            values = pd.Series(pd.Categorical(values, list(colours)), adata.obs_names)
            ax, label = axes[row * len(keys) + column], (titles or keys)[column]
            options = {"colours": colours, "legend_loc": None}
            draw_slice(adata, values, ax, title=f"{label}\n{name}", **options)
            frame_tissue(ax, every, 0.1, upwards=upwards)
    figure.legend(handles=legend_dots(names), loc="outside right center", frameon=False)
    return figure


def _together(slices: Mapping[str, AnnData], keys: Sequence[str]) -> AnnData:
    """Put the columns of all slices below each other."""
    parts = [
        adata.obs[list(keys)].astype(object).map(str, na_action="ignore")
        for adata in slices.values()
    ]
    obs = pd.concat(parts, keys=list(slices))
    obs.index = [f"{name}-{spot}" for name, spot in obs.index]
    return AnnData(obs=obs.astype("category"))


def _legend(whole: AnnData, key: str, colours: Mapping[str, str], truth: str | None) -> dict:
    """Name → colour: annotated domains by name; found ones only where they match none of these."""
    if truth is None or key == truth:
        return dict(colours)
    both = AnnData(obs=whole.obs.dropna(subset=[truth, key]))
    matched = match_domains(both, truth=truth, predicted=key)
    annotated = colour_domains(whole, key=truth, truth=None)
    alone = {n: c for n, c in colours.items() if matched.get(n) is None}
    return annotated | {f"{n} (matches none)": c for n, c in alone.items()}


@checked
def join_halves(
    left: Mapping[str, AnnData],
    right: Mapping[str, AnnData],
    *,
    sides: tuple[str, str] = ("right", "left"),
    gap_um: float = 300.0,
) -> AnnData:
    """Put all slices into one AnnData, halves side by side and sections below each other.

    For figures and for scores over all slices. Halves are shifted, never turned, until the middles
    of their cuts lie at one height.

    Parameters
    ----------
    left, right
        Name → slice, section by section: the first of each make a pair.
    sides, gap_um
        Where the cut is in each; empty space between slices, µm.

    Returns
    -------
    AnnData
        A copy: genes that all slices have; ``obs["slice"]``; ``obsm["spatial"]`` in µm where the
        scale of every slice is known; spot names end in ``-<slice>``.
    """
    placed: dict[str, AnnData] = {}
    top = 0.0
    for pair in itertools.zip_longest(left.items(), right.items()):
        halves = [(*half, side) for half, side in zip(pair, sides, strict=True) if half is not None]
        row, begin = {}, 0.0
        for name, adata, side in halves:
            xy = np.asarray(adata.obsm["spatial"], float) * (micrometres_per_unit(adata) or 1.0)
            strip = adata.obs_names.isin(cut_strip(adata, side).index)
            middle = (xy[strip, 1].min() + xy[strip, 1].max()) / 2
            row[name] = xy - [xy[:, 0].min() - begin, middle]
            begin = row[name][:, 0].max() + gap_um
        highest = min(xy[:, 1].min() for xy in row.values())
        for name, adata, _ in halves:
            placed[name] = adata.copy()
            placed[name].obsm["spatial"] = row[name] + [0.0, top - highest]
        top = max(placed[name].obsm["spatial"][:, 1].max() for name in row) + 2 * gap_um
    joined = ad.concat(placed, label="slice", index_unique="-")
    facts = [adata.uns.get("genot", {}) for adata in placed.values()]
    known = all(micrometres_per_unit(adata) for adata in (*left.values(), *right.values()))
    joined.uns["genot"] = {
        "simulated": any(is_simulated(adata) for adata in placed.values()),
        "source": str(facts[0].get("source", "")),
        **({"micrometres_per_unit": 1.0} if known else {}),
    }
    return joined


@checked
def plot_cut(
    left: AnnData,
    right: AnnData,
    colours: Mapping[str, str],
    *,
    key: str = "genot_domain",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
    titles: tuple[str, str] = ("left half", "right half"),
) -> Figure:
    """Draw which domains both sides of a cut run through, height by height.

    Parameters
    ----------
    left, right, key, sides, width, n_bins
        As in :func:`genot_helpers.evaluation.cut_agreement`.
    colours
        Domain → colour, see :func:`genot_helpers.plotting.colour_domains`.
    titles
        What to call the halves.

    Returns
    -------
    matplotlib.figure.Figure
        Bars back to back: the shares of the domains left and right of the cut. Where the halves
        agree the figure is its own mirror image.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 4.5), sharey=True, layout="constrained")
    heights = (np.arange(n_bins) + 0.5) / n_bins
    shown: dict[str, object] = {}
    for half, side, title, ax in zip((left, right), sides, titles, axes, strict=True):
        shares = domains_by_height(half, key, side, width, n_bins)
        begin = np.zeros(n_bins)
        for name in (name for name in colours if name in shares):
            options = {"height": 1 / n_bins, "color": colours[name], "edgecolor": "white"}
            shown[name] = ax.barh(heights, shares[name], left=begin, linewidth=0.4, **options)
            begin += shares[name].to_numpy()
        ax.set(title=title, xlabel="share of the strip", xlim=(0, 1), ylim=(1, 0))
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].invert_xaxis()
    axes[0].set_ylabel("height along the cut (0: top)")
    figure.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False)
    return figure


@checked
def plot_stripes(adata: ad.AnnData, *, key: str = "destriped") -> Figure:
    """Draw the depth of the bins of a grid as they are and without stripes, and the factors.

    Parameters
    ----------
    adata, key
        Bins after :func:`genot_helpers.preprocessing.correct_stripes`, and its ``key_added``.

    Returns
    -------
    Figure
        Two maps of the total per bin on one scale, and the mean factor of each row and column.

    Raises
    ------
    KeyError
        If there are no corrected counts.
    """
    if key not in adata.layers or f"{key}_factor" not in adata.obs:
        raise KeyError(f"There is no layers[{key!r}] to draw. Run correct_stripes first.")
    totals = {"as counted": adata.X, "without stripes": adata.layers[key]}
    totals = {name: np.asarray(X.sum(axis=1)).ravel() for name, X in totals.items()}
    norm = plt.Normalize(0, float(np.quantile(totals["as counted"], 0.99)))
    figure, axes = plt.subplots(1, 3, figsize=(14.0, 4.4), layout="constrained")
    for (name, total), ax in zip(totals.items(), axes, strict=False):
        series = pd.Series(total, index=adata.obs_names)
        options = {"colours": None, "cmap": "magma", "norm": norm}
        draw_many(adata, series, ax, title=f"counts per bin, {name}", **options)
    log_factor = np.log2(adata.obs[f"{key}_factor"])
    for number, (column, name) in enumerate({"array_row": "row", "array_col": "column"}.items()):
        mean = log_factor.groupby(adata.obs[column]).mean()
        axes[2].plot(mean.index, mean.to_numpy(), lw=0.8, color=PALETTE[number], label=name)
    axes[2].set(xlabel="number of the row or column", ylabel="log2 of its factor", title="stripes")
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    return figure
