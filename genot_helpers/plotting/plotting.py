"""Figures of slices, drawn by squidpy, with colours that colour-blind readers can tell apart.

Functions return the matplotlib figure and change nothing but the colours that scanpy and squidpy
keep in ``uns["<column>_colors"]``. As in images, y grows downwards, unless
``uns["genot"]["y_axis"]`` is "up". Top to bottom: colours; one panel (:func:`draw_slice`); domains,
confidence, genes, depth; files of figures. Several slices together: :mod:`.domain_plots`.
"""

from __future__ import annotations

import io
import itertools
import warnings
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
from ..files import atomic_path
from ..preprocessing.graph import sq
from ..simulation.embryo import EMBRYO
from ..slices.geometry import (
    micrometres_per_unit,
    nearest_distance,
    own_pictures,
    positions_of,
    spot_side,
)
from ..slices.sections import no_gene
from ..slices.slices import check_drawable, missing

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
    adata, key
        A slice, and its column of ``obs`` with domains.
    truth
        Annotated column to match colours to (greatest overlap, one to one, and only where more than
        half of a found domain lies in the annotated one); None, or a column that is missing, gives
        colours in order.

    Returns
    -------
    dict
        Domain → colour. Also written to `uns[key + "_colors"]`.
    """
    if key not in adata.obs:
        raise KeyError(f"{missing('obs', key, adata.obs.columns)} Find domains first.")
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


def is_simulated(adata: AnnData) -> bool:
    """Whether a slice says that it is simulated."""
    return bool(adata.uns.get("genot", {}).get("simulated", False))


def grows_upwards(adata: AnnData) -> bool:
    """Whether a slice says that y grows upwards."""
    return adata.uns.get("genot", {}).get("y_axis") == "up"


def say_simulated(ax: plt.Axes, low: float = 0.01, size: int = 8) -> None:
    """Say in the figure itself that a tissue is simulated, wherever it ends up."""
    place = {"ha": "right", "va": "bottom", "transform": ax.transAxes}
    ax.text(1.0, low, "simulated tissue", fontsize=size, color="0.35", **place)


def plain_axes(width: float, height: float) -> tuple[Figure, plt.Axes]:
    """Make a figure with one pair of axes, open at the top and the right."""
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def legend_dots(colours: Mapping[str, str]) -> list[Line2D]:
    """Make the entries of a legend, a dot for each name."""
    return [
        Line2D([], [], marker="o", ls="", color=colour, label=name)
        for name, colour in colours.items()
    ]


def _in_order(names: Sequence[object]) -> list[object]:
    """Put organs into one order, so that each keeps its colour at all stages; leave others."""
    organs: list[object] = sorted(EMBRYO.domains)
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
    if len(coordinates) > _MANY and not picture:
        draw_many(adata, values, ax, title=title, colours=colours, **options)
        return
    # Squidpy gets an AnnData of its own, so that the slice stays as it is.
    shown = ad.AnnData(obs=values.to_frame("value"), obsm={"spatial": coordinates})
    shown.uns["spatial"] = {"slice": picture}
    if colours is not None:
        shown.uns["value_colors"] = [colours[str(name)] for name in values.cat.categories]
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
    with warnings.catch_warnings():
        # squidpy 1.8.3 reads colours by a method that anndata 0.13 is giving up.
        warnings.filterwarnings("ignore", "The method obs_vector is deprecated", FutureWarning)
        sq.pl.spatial_scatter(shown, color="value", ax=ax, title=title, **options)
    for text in ax.get_legend().get_texts() if ax.get_legend() else ():
        text.set_text("unannotated" if text.get_text() == "NA" else text.get_text())
    _frame_slice(ax, adata, coordinates * factor, upwards=not picture and grows_upwards(adata))


def draw_many(
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
    points = positions_of(adata)
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
        named = {name: colours[name] for name in names}
        named |= {"unannotated": UNANNOTATED} if values.isna().any() else {}
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
        ax.legend(handles=legend_dots(named), **beside)
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
    scale = micrometres_per_unit(adata)
    if scale is not None:
        ax.add_artist(ScaleBar(scale, units="um", **SCALE_BAR))
    _frame_slice(ax, adata, points, upwards=grows_upwards(adata))


def _frame_slice(ax: plt.Axes, adata: AnnData, points: np.ndarray, *, upwards: bool) -> None:
    """Say where a slice is simulated, and crop the panel to it."""
    if is_simulated(adata):
        say_simulated(ax)
    strip = 0.1 if is_simulated(adata) or micrometres_per_unit(adata) is not None else 0.0
    frame_tissue(ax, points, strip, upwards=upwards)


def frame_tissue(ax: plt.Axes, coordinates: np.ndarray, strip: float, *, upwards: bool) -> None:
    """Crop the panel to the tissue, with a strip for the scale bar below it."""
    (left, low), (right, high) = coordinates.min(axis=0), coordinates.max(axis=0)
    margin = max(0.02 * max(right - left, high - low), 0.6 * nearest_distance(coordinates))
    strip *= high - low
    ax.set_xlim(left - margin, right + margin)
    ends = (
        (low - margin - strip, high + margin) if upwards else (high + margin + strip, low - margin)
    )
    ax.set_ylim(*ends)


def make_panels(
    n_panels: int, adata: ad.AnnData, n_columns: int = 3
) -> tuple[Figure, list[plt.Axes]]:
    """Make a grid of panels whose shape follows the tissue's."""
    check_drawable(adata)
    n_columns = min(n_panels, n_columns)
    n_rows = -(-n_panels // n_columns)
    width, height = np.ptp(adata.obsm["spatial"], axis=0)
    panel_height = float(np.clip(4.0 * height / width, 2.5, 6.0))
    size = 4.9 * n_columns, panel_height * n_rows + 0.4
    options = {"figsize": size, "squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(n_rows, n_columns, **options)
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
    adata
        A slice.
    keys, titles
        Columns of `obs` (default: those of "domain_truth" and "genot_domain" that are there), and
        what to call them.
    truth
        Column that the colours of the others follow, see :func:`colour_domains`.
    like
        Another slice, clustered together with this one, whose colours are taken.
    image
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
            f"draw (found: {', '.join(map(str, adata.obs)) or 'none'}). Run find_domains first, or "
            "name another column."
        )
    check_titles(titles, keys)
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


def check_titles(titles: Sequence[str] | None, keys: Sequence[str]) -> None:
    """Raise ValueError where there is not one title for each column that is drawn."""
    if titles and len(titles) != len(keys):
        raise ValueError(f"{len(titles)} titles are given for {len(keys)} columns ({list(keys)}).")


@checked
def plot_confidence(adata: ad.AnnData, key: str = "genot_confidence") -> Figure:
    """Draw the confidence of each spot, from 0 to 1, as ``obs[key]`` holds it."""
    if key not in adata.obs:
        raise KeyError(f"There is no obs[{key!r}] to draw. Run find_domains first.")
    figure, (ax,) = make_panels(1, adata)
    options = {"cmap": "viridis", "norm": plt.Normalize(0.0, 1.0)}
    draw_slice(adata, adata.obs[key], ax, title="Confidence", **options)
    return figure


@checked
def plot_genes(
    adata: ad.AnnData, genes: Sequence[str], *, layer: str | None = "log1p", n_columns: int = 3
) -> Figure:
    """Draw the expression of genes on the tissue; genes that are not measured are left out."""
    measured = [gene for gene in genes if gene in adata.var_names]
    if not measured:
        asked = " ".join(no_gene(gene, adata) for gene in list(genes)[:3])
        raise ValueError(f"None of the genes {list(genes)} is in var_names. {asked}")
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
def plot_depth(adata: AnnData, *, image: bool = True) -> Figure:
    """Draw how much was measured where: the total and the number of genes of each spot.

    Parameters
    ----------
    adata
        A slice; ``X`` not negative.
    image
        Draw the image of the tissue too, with spots on it, where the slice has one.
    """
    total = pd.Series(np.asarray(adata.X.sum(axis=1), float).ravel(), adata.obs_names)
    n_genes = pd.Series(np.asarray((adata.X > 0).sum(axis=1), float).ravel(), adata.obs_names)
    with_image = image and any(one.get("images") for one in own_pictures(adata).values())
    figure, axes = make_panels(2 + with_image, adata)
    if with_image:
        place = pd.Series(pd.Categorical(["spot"] * adata.n_obs), adata.obs_names)
        draw_slice(
            adata, place, axes[0], title="Spots on the image", image=True, alpha=0.35,
            colours={"spot": PALETTE[0]}, legend_loc=None,
        )  # fmt: skip
    maps = {"Total of a spot": total, "Genes found in a spot": n_genes}
    for ax, (title, values) in zip(axes[with_image:], maps.items(), strict=True):
        norm = plt.Normalize(0.0, max(float(values.quantile(0.99)), 1e-9))
        draw_slice(adata, values, ax, title=title, cmap="viridis", norm=norm)
    return figure


@checked
def save_figure(figure: Figure, path: str | Path, *, note: str = "") -> None:
    """Write a figure as PNG, completely or not at all; a large one in 256 colours.

    Parameters
    ----------
    figure
        It is drawn as it is, with the note.
    path
        File to write, ending in ".png".
    note
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
