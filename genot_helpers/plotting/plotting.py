"""Figures of slices, drawn by squidpy, with colours that colour-blind readers can tell apart.

All functions return the matplotlib figure and change nothing but the colours that scanpy and
squidpy keep in ``uns["<column>_colors"]``. As in images, y grows downwards, unless
``uns["genot"]["y_axis"]`` is "up".

Top to bottom: colours and one panel (:func:`draw_slice`, used by all other files of this folder);
domains, confidence, genes; curves and bars of a training and of recall; domains of several slices
side by side; two halves of one tissue along their cut.
"""

from __future__ import annotations

import difflib
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib_scalebar.scalebar import ScaleBar
from PIL import Image
from scipy.spatial import cKDTree

from ..arguments import checked
from ..evaluation.evaluation import majority_domains, match_domains
from ..evaluation.measures import cut_strip, domains_by_height
from ..files import atomic_path
from ..preprocessing.graph import sq
from ..simulation.embryo import EMBRYO
from ..slices.geometry import micrometres_per_unit, nearest_distance, own_pictures, spot_side
from ..slices.slices import check_drawable

__all__ = [
    "PALETTE",
    "SCALE_BAR",
    "UNANNOTATED",
    "colour_domains",
    "draw_slice",
    "frame_tissue",
    "join_halves",
    "make_panels",
    "plot_confidence",
    "plot_cut",
    "plot_domains",
    "plot_eigenvalues",
    "plot_genes",
    "plot_loss",
    "plot_recall",
    "plot_side_by_side",
    "plot_stripes",
    "save_figure",
]

# Okabe & Ito 2008 (jfly.uni-koeln.de/color), then Paul Tol's "muted" scheme and more, for tissues
# with many domains. From the tenth on, each is the one farthest from all before it, for readers
# with and without red-green blindness; no palette keeps more than about eight apart for everyone.
PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#332288"),
    *("#DDCC77", "#661100", "#882255", "#AA7744", "#114477", "#999933", "#88CCEE", "#BBBBBB"),
    *("#AA4488", "#6699CC", "#AA4499", "#117733", "#CC6677", "#44AA99", "#777711"),
    "#000000",  # of Okabe & Ito too, but on tissue it looks as if something were missing
)
UNANNOTATED = "#DDDDDD"
SCALE_BAR = {"location": "lower left", "box_alpha": 0.7, "border_pad": 0.2, "length_fraction": 0.25}
SCALE_BAR |= {"width_fraction": 0.012, "font_properties": {"size": 9}}
_LARGE = 600_000  # bytes of a figure
_MANY = 30_000  # spots, from which a panel is an image of the nearest spots
_PIXELS = 1_000  # on the longer side of such a panel


@checked
def colour_domains(
    adata: ad.AnnData, *, key: str = "genot_domain", truth: str | None = "domain_truth"
) -> dict[str, str]:
    """Choose a colour per domain; found domains take the colour of the annotated one they match.

    Parameters
    ----------
    adata
        A slice with ``obs[key]``.
    key
        Domain column.
    truth
        Annotated column to match colours to (greatest overlap, one to one, and only where more than
        half of a found domain lies in the annotated one; others get colours of their own); None, or
        a column that is missing, gives colours in order.

    Returns
    -------
    dict
        Domain → colour. Also written to `uns[key + "_colors"]`.
    """
    if not isinstance(adata.obs[key].dtype, pd.CategoricalDtype):
        adata.obs[key] = adata.obs[key].astype("category")
    found = list(adata.obs[key].cat.categories)
    matched: Mapping[object, object] = {}
    annotated: list[object] = []
    if truth != key and truth in adata.obs and adata.obs[truth].notna().any():
        annotated = list(adata.obs[truth].astype("category").cat.categories)
        complete = adata.obs[key].notna().to_numpy()  # spots without a domain match nothing
        both = ad.AnnData(obs=adata.obs.loc[complete, [truth, key]])
        if both.obs[truth].notna().any():
            majority = majority_domains(both, truth=truth, predicted=key)
            pairs = match_domains(both, truth=truth, predicted=key)
            matched = {name: one for name, one in pairs.items() if majority[name] == one}
    annotated = _in_order(annotated)
    own = _in_order(found) if not annotated else []
    spare = itertools.count(len(annotated))
    colours = {}
    for name in found:
        partner = matched.get(name)
        if own:
            number = own.index(name)
        else:
            number = next(spare) if partner is None else annotated.index(partner)
        colours[str(name)] = PALETTE[number % len(PALETTE)]
    adata.uns[f"{key}_colors"] = list(colours.values())
    return colours


def _in_order(names: Sequence[object]) -> list[object]:
    """Put organs into one order, so that each keeps its colour at all stages; leave others."""
    organs = sorted(EMBRYO.domains)
    return organs if names and set(names) <= set(organs) else list(names)


def _image_of(adata: ad.AnnData) -> tuple[dict, float]:
    """Return the tissue image as squidpy wants it (or nothing) and its pixels per unit."""
    for stored in own_pictures(adata).values():
        images, factors = dict(stored.get("images", {})), dict(stored.get("scalefactors", {}))
        for resolution in sorted(images):  # the high resolution comes first
            factor = factors.get(f"tissue_{resolution}_scalef")
            if factor is not None and "spot_diameter_fullres" in factors:
                chosen = {"images": {resolution: images[resolution]}, "scalefactors": factors}
                return chosen, float(factor)
    return {}, 1.0


def draw_slice(
    adata: ad.AnnData,
    values: pd.Series,
    ax: plt.Axes,
    *,
    title: str,
    colours: Mapping[str, str] | None = None,
    image: bool = False,
    **options,
) -> None:
    """Draw one panel with squidpy, and a scale bar; spots of a grid touch without overlap."""
    coordinates = np.asarray(adata.obsm["spatial"], dtype=float)
    picture, factor = _image_of(adata) if image else ({}, 1.0)
    # Squidpy gets an AnnData of its own, so that the slice stays as it is.
    shown = ad.AnnData(obs=values.to_frame("value"), obsm={"spatial": coordinates})
    shown.uns["spatial"] = {"slice": picture}
    if colours is not None:
        shown.uns["value_colors"] = [colours[str(name)] for name in values.cat.categories]
    if len(coordinates) > _MANY and not picture:
        _draw_many(adata, values, ax, title=title, colours=colours, **options)
        return
    radius = 0.5 * max(nearest_distance(coordinates), 0.85 * spot_side(coordinates))
    if picture:  # spots with gaps between them, so that the image shows; size in spot diameters
        size = 0.75 * radius / (0.5 * picture["scalefactors"]["spot_diameter_fullres"])
        options |= {"img": True, "img_res_key": next(iter(picture["images"])), "size": size}
    else:
        options |= {"img": False, "size": radius}
    scale = micrometres_per_unit(adata)
    if scale is not None:
        options |= {"scalebar_dx": scale / factor, "scalebar_kwargs": SCALE_BAR}
    options |= {"frameon": False, "na_color": UNANNOTATED, "library_id": "slice"}
    sq.pl.spatial_scatter(shown, color="value", ax=ax, title=title, **options)
    for text in ax.get_legend().get_texts() if ax.get_legend() else ():
        text.set_text("unannotated" if text.get_text() == "NA" else text.get_text())
    simulated = bool(adata.uns.get("genot", {}).get("simulated", False))
    if simulated:  # the figure itself says so, wherever it ends up
        place = {"x": 1.0, "y": 0.01, "ha": "right", "va": "bottom", "transform": ax.transAxes}
        ax.text(s="simulated tissue", fontsize=8, color="0.35", **place)
    strip = 0.1 if simulated or scale is not None else 0.0
    upwards = not picture and adata.uns.get("genot", {}).get("y_axis") == "up"
    frame_tissue(ax, coordinates * factor, strip, upwards=upwards)


def _draw_many(
    adata: ad.AnnData,
    values: pd.Series,
    ax: plt.Axes,
    *,
    title: str,
    colours: Mapping[str, str] | None,
    cmap: str = "viridis",
    norm: plt.Normalize | None = None,
    **_options,
) -> None:
    """Draw a panel of very many spots as an image: each pixel shows the spot nearest to it."""
    points = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2]
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    pixel = float(size.max()) / _PIXELS
    shape = np.maximum(np.ceil(size / pixel).astype(int), 1)
    across, down = (low[axis] + (np.arange(shape[axis]) + 0.5) * pixel for axis in (0, 1))
    where = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    reach = max(pixel, spot_side(points))
    distance, nearest = cKDTree(points).query(where, distance_upper_bound=reach)
    shown = np.where(np.isfinite(distance), nearest, -1).reshape(shape[1], shape[0])
    if colours is not None:
        names = [str(name) for name in values.cat.categories]
        lookup = np.array([to_rgba(colours[name]) for name in names] + [to_rgba(UNANNOTATED)])
        image = lookup[values.cat.codes.to_numpy()[shown]]  # code -1, no label, is the last colour
        _legend_of(ax, names, [colours[name] for name in names], values.isna().any())
    else:
        number = values.to_numpy(dtype=float)
        norm = norm or plt.Normalize(np.nanmin(number), np.nanmax(number))
        image = plt.get_cmap(cmap)(norm(number))[shown]
        ax.figure.colorbar(plt.cm.ScalarMappable(norm, cmap), ax=ax, shrink=0.7)
    image[shown < 0] = (0.0, 0.0, 0.0, 0.0)
    edges = np.array([low[0], low[0] + shape[0] * pixel, low[1], low[1] + shape[1] * pixel])
    ax.imshow(image, extent=tuple(edges), origin="lower", interpolation="nearest", aspect="equal")
    ax.set_title(title)
    ax.set_axis_off()
    facts = adata.uns.get("genot", {})
    scale = micrometres_per_unit(adata)
    if scale is not None:
        ax.add_artist(ScaleBar(scale, units="um", **SCALE_BAR))
    if facts.get("simulated", False):
        place = {"x": 1.0, "y": 0.01, "ha": "right", "va": "bottom", "transform": ax.transAxes}
        ax.text(s="simulated tissue", fontsize=8, color="0.35", **place)
    strip = 0.1 if facts.get("simulated", False) or scale is not None else 0.0
    frame_tissue(ax, points, strip, upwards=facts.get("y_axis") == "up")


def _legend_of(ax: plt.Axes, names: list[str], shades: list[str], missing: bool) -> None:
    """Put names and colours beside a panel, and the grey of spots without a label."""
    pairs = [*zip(names, shades, strict=True), *([("unannotated", UNANNOTATED)] * bool(missing))]
    marks = [Line2D([], [], marker="o", ls="", color=shade, label=name) for name, shade in pairs]
    ax.legend(handles=marks, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


@checked
def plot_stripes(adata: ad.AnnData, *, key: str = "destriped") -> Figure:
    """Draw the depth of the bins of a grid as they are and without stripes, and the factors.

    Parameters
    ----------
    adata : AnnData
        Bins after :func:`genot_helpers.preprocessing.correct_stripes`: ``layers[key]``,
        ``obs[key + "_factor"]``, ``obs["array_row"]`` and ``obs["array_col"]``.
    key : str
        What the corrected counts were called.

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
        _draw_many(
            adata,
            series,
            ax,
            title=f"counts per bin, {name}",
            colours=None,
            cmap="magma",
            norm=norm,
        )
    log_factor = np.log2(adata.obs[f"{key}_factor"])
    for number, (column, name) in enumerate({"array_row": "row", "array_col": "column"}.items()):
        mean = log_factor.groupby(adata.obs[column]).mean()
        axes[2].plot(mean.index, mean.to_numpy(), lw=0.8, color=PALETTE[number], label=name)
    axes[2].set(xlabel="number of the row or column", ylabel="log2 of its factor", title="stripes")
    axes[2].legend(frameon=False)
    axes[2].spines[["top", "right"]].set_visible(False)
    return figure


def frame_tissue(ax: plt.Axes, coordinates: np.ndarray, strip: float, *, upwards: bool) -> None:
    """Crop the panel to the tissue, with a strip for the scale bar below it."""
    (left, low), (right, high) = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = max(0.02 * max(right - left, high - low), 0.6 * nearest_distance(coordinates))
    strip *= high - low
    ax.set_xlim(left - margin, right + margin)
    if upwards:
        ax.set_ylim(low - margin - strip, high + margin)
    else:
        ax.set_ylim(high + margin + strip, low - margin)


def make_panels(
    n_panels: int, adata: ad.AnnData, n_columns: int = 3
) -> tuple[Figure, list[plt.Axes]]:
    """Make a grid of panels whose shape follows the tissue's."""
    check_drawable(adata)
    n_columns = min(n_panels, n_columns)
    n_rows = -(-n_panels // n_columns)
    width, height = np.ptp(adata.obsm["spatial"], axis=0)
    panel_height = float(np.clip(4.0 * height / width, 2.5, 6.0))
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(4.9 * n_columns, panel_height * n_rows + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[n_panels:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:n_panels])


@checked
def plot_domains(
    adata: ad.AnnData,
    keys: str | Sequence[str] | None = None,
    *,
    titles: Sequence[str] | None = None,
    truth: str | None = "domain_truth",
    like: ad.AnnData | None = None,
    image: bool = False,
) -> Figure:
    """Draw domains on the tissue, one panel per column of `obs`, colours matched to the truth.

    Parameters
    ----------
    adata : AnnData
    keys : str or sequence of str, optional
        Columns of `obs`; default: those of "domain_truth" and "genot_domain" that are there.
    titles : sequence of str, optional
    truth : str or None
        Column that the colours of the others follow, see :func:`colour_domains`.
    like : AnnData, optional
        Another slice, clustered together with this one: domains take the colours they have there,
        so that one domain has one colour in both.
    image : bool
        Draw on the tissue image where the slice has one.

    Raises
    ------
    KeyError
        If there is no such column, or `like` lacks it.
    ValueError
        If the slice has domains that `like` does not know.
    """
    if keys is None:
        keys = [key for key in ("domain_truth", "genot_domain") if key in adata.obs]
    keys = [keys] if isinstance(keys, str) else list(keys)
    if not keys or not set(keys) <= set(adata.obs):
        raise KeyError(
            f"There is no obs column {sorted(set(keys) - set(adata.obs)) or 'with domains'} to "
            f"draw (found: {list(adata.obs)}). Run cluster_mixture first, or name another column."
        )
    palettes = [colour_domains(adata, key=key, truth=truth) for key in keys]
    if like is not None:
        palettes = [
            _colours_of(like, key, truth, own) for key, own in zip(keys, palettes, strict=True)
        ]
    figure, axes = make_panels(len(keys), adata)
    for key, title, colours, ax in zip(keys, titles or keys, palettes, axes, strict=True):
        adata.uns[f"{key}_colors"] = list(colours.values())
        values = adata.obs[key].cat.remove_unused_categories()
        draw_slice(adata, values, ax, title=title, colours=colours, image=image)
    return figure


def _colours_of(like: ad.AnnData, key: str, truth: str | None, own: dict) -> dict[str, str]:
    """Return the colours that the domains of `own` have on another slice."""
    if key not in like.obs:
        raise KeyError(f"The slice to take colours from has no obs[{key!r}].")
    colours = colour_domains(like, key=key, truth=truth)
    strange = sorted(set(own) - set(colours))
    if strange:
        raise ValueError(
            f"obs[{key!r}] holds {strange}, which the slice to take colours from does not have. "
            "Cluster both slices together first."
        )
    return colours


@checked
def plot_confidence(adata: ad.AnnData, key: str = "genot_confidence") -> Figure:
    """Draw the share of votes per spot, from 0 to 1."""
    if key not in adata.obs:
        raise KeyError(f"There is no obs[{key!r}] to draw. Run cluster_mixture first.")
    figure, (ax,) = make_panels(1, adata)
    options = {"cmap": "viridis", "norm": plt.Normalize(0.0, 1.0)}
    draw_slice(adata, adata.obs[key], ax, title="Confidence (share of votes)", **options)
    return figure


@checked
def plot_genes(
    adata: ad.AnnData, genes: Sequence[str], *, layer: str | None = "log1p", n_columns: int = 3
) -> Figure:
    """Draw the expression of genes on the tissue; genes that are not measured are left out."""
    measured = [gene for gene in genes if gene in adata.var_names]
    if not measured:
        near = [difflib.get_close_matches(gene, adata.var_names, n=3) for gene in genes]
        raise ValueError(f"None of the genes {list(genes)} is in var_names. Near: {near}.")
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"There is no layers[{layer!r}]. Run normalise first, or pass layer=None.")
    figure, axes = make_panels(len(measured), adata, n_columns)
    for gene, ax in zip(measured, axes, strict=True):
        values = adata[:, [gene]].to_df(layer)[gene].astype(float)
        draw_slice(adata, values, ax, title=gene, cmap="magma")
    what = "log(1 + normalised counts)" if layer == "log1p" else layer or "X"
    figure.suptitle(f"Expression, {what}", fontsize=11)
    return figure


@checked
def plot_loss(losses: Mapping[str, Sequence[float]], *, title: str = "Training loss") -> Figure:
    """Draw the loss curves of a training, one line per term."""
    figure, ax = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    for number, (name, values) in enumerate(losses.items()):
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, color=PALETTE[number], label=name)
    ax.set(xlabel="epoch", ylabel="loss", title=title)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


@checked
def plot_eigenvalues(eigenvalues: Sequence[float]) -> Figure:
    """Draw the eigenvalues of :func:`genot_helpers.encoder.spectral_embedding`."""
    figure, ax = plt.subplots(figsize=(6.0, 3.0), layout="constrained")
    ax.bar(np.arange(1, len(eigenvalues) + 1), eigenvalues, color=PALETTE[0])
    ax.set(xlabel="direction of the embedding", ylabel="share of variance\nneighbours agree on")
    ax.set_title("What neighbours agree on")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


@checked
def plot_recall(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the share of each annotated domain that was found, one bar per method.

    Parameters
    ----------
    tables : mapping
        Method name → table of :func:`genot_helpers.evaluation.recall_per_domain`.
    """
    recall = pd.DataFrame({name: table["recall"] for name, table in tables.items()})
    figure, ax = plt.subplots(figsize=(7.0, 3.4), layout="constrained")
    recall.plot.bar(ax=ax, color=list(PALETTE[: recall.shape[1]]), width=0.8, rot=0)
    if max(len(str(name)) for name in recall.index) > 6:  # long names would lie over each other
        plt.setp(ax.get_xticklabels(), rotation=40, ha="right")
    ax.set(xlabel="annotated domain", ylabel="recall", ylim=(0, 1))
    ax.set_title("Share of each annotated domain that was found")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return figure


@checked
def save_figure(figure: Figure, path: str | Path, *, note: str = "") -> None:
    """Write a figure as PNG, completely or not at all.

    A large one, of many thousand spots, in 256 colours: that takes a third of the room.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It is drawn as it is, with the note.
    path : str or Path
        File to write, ending in ".png".
    note : str
        Small text below the lower right corner, such as "simulated tissue" for curves and bars,
        which do not say so themselves as maps do. It stays in the figure.
    """
    if note:
        style = {"fontsize": 8, "color": "0.35", "ha": "right", "va": "top"}
        figure.text(1.0, 0.0, note, **style)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, bbox_inches="tight", format="png")
    if drawn.tell() > _LARGE:
        with Image.open(drawn) as picture:
            picture = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        drawn = io.BytesIO()
        picture.save(drawn, format="png")
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(drawn.getvalue())


# -------------------------------------------------------------------------------------------------
# Domains of several slices of one frame: a row for each slice, a column for each partition.


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
        names of domains mean the same domain in all
        (:func:`genot_helpers.evaluation.name_domains_like`). They are not changed.
    keys
        Columns of ``obs`` in all of them, one column of panels each.
    titles
        What to call the columns.
    truth
        Annotation whose colours the others follow, matched over all slices together; None, or a
        column that is missing, gives colours in order.

    Raises
    ------
    KeyError
        If a slice lacks a column.
    """
    for name, adata in slices.items():
        missing = [key for key in keys if key not in adata.obs]
        if missing:
            raise KeyError(f"{name} has no obs columns {missing} (found: {list(adata.obs)}).")
        check_drawable(adata)
    truth = truth if all(truth in adata.obs for adata in slices.values()) else None
    whole = _together(slices, [*keys, *([truth] if truth and truth not in keys else [])])
    every = np.vstack([np.asarray(adata.obsm["spatial"])[:, :2] for adata in slices.values()])
    figure, axes = make_panels(
        len(slices) * len(keys), ad.AnnData(obsm={"spatial": every.astype(float)}), len(keys)
    )
    upwards = next(iter(slices.values())).uns.get("genot", {}).get("y_axis") == "up"
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
    handles = [Line2D([], [], ls="", marker="o", color=c, label=name) for name, c in names.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
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


# -------------------------------------------------------------------------------------------------
# Two halves of one tissue on two slides: joined in one figure, and the domains along the cut.


@checked
def join_halves(
    left: Mapping[str, AnnData],
    right: Mapping[str, AnnData],
    *,
    sides: tuple[str, str] = ("right", "left"),
    gap_um: float = 300.0,
) -> AnnData:
    """Put all slices into one AnnData, halves side by side and sections below each other.

    For figures and for scores over all slices: one colour per domain everywhere. Halves are
    shifted, never turned, until the middles of their cuts lie at one height.

    Parameters
    ----------
    left, right
        Name → slice, section by section: the first of each make a pair.
    sides
        Where the cut is in each.
    gap_um
        Empty space between slices, µm.

    Returns
    -------
    AnnData
        A copy: genes that all slices have; ``obs["slice"]``; ``obsm["spatial"]`` in µm where the
        scale of every slice is known, else in its own units; spot names end in ``-<slice>``.
        ``uns["genot"]`` says whether anything in it is simulated.
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
        "simulated": any(bool(fact.get("simulated")) for fact in facts),
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
