"""Figures of generated slices: beside the real ones, where their spots are from, how they arose.

Panels share axes, orientation and scale bar of the left slice, and one colour per label or one
scale per gene, so that all differences are differences of the tissue. Left is blue, right
vermilion. Top to bottom: slices side by side; sources of spots; alignment, coupling and warp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.tri import Triangulation
from matplotlib_scalebar.scalebar import ScaleBar
from scipy.spatial import cKDTree

from ..arguments import checked
from ..slices.geometry import micrometres_per_unit, nearest_distance, positions_of, spot_spacing
from ..slices.sections import by_pair, by_section, no_gene
from ..slices.slices import as_labels, check_drawable, joint_labels
from ..slices.values import holds_logarithms
from ..transport.transport import coupling_pairs
from .plotting import (
    PALETTE,
    SCALE_BAR,
    UNANNOTATED,
    draw_slice,
    frame_tissue,
    grows_upwards,
    is_simulated,
    legend_dots,
    make_panels,
    say_simulated,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ..interpolation.warp import SmoothWarp
    from ..transport.transport import Coupling


LEFT, RIGHT = PALETTE[0], PALETTE[5]
"""Blue and vermilion: what comes from the left and from the right slice."""

_SMALLER = 0.72  # than a slice that stands alone
_ACROSS = 4  # slices side by side, at most


@by_section(writes=False)
@checked
def plot_series(
    slices: Mapping[str, AnnData],
    color: str | Sequence[str],
    *,
    layer: str | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw slices of one frame side by side, one row for each label column or gene.

    Parameters
    ----------
    slices
        Title → slice; more than four take several lines. The first says what the frame is: unit,
        orientation, depth of a spot.
    color
        A column of ``obs`` with labels (generated slices show ``obs["genot_domain"]`` for it), or a
        gene, or several. Genes are drawn as log(1 + expression scaled to one depth).
    layer
        Read genes from this layer of every slice, not from ``X``.
    colours
        Label → colour; labels that it does not name get the next free ones.

    Raises
    ------
    KeyError
        If no slice has the column, or a slice lacks the gene.
    """
    return _rows([_Panel(title, adata, layer) for title, adata in slices.items()], color, colours)


@checked
def plot_generated(
    left: AnnData,
    generated: AnnData,
    right: AnnData,
    held_out: AnnData | None = None,
    *,
    color: str | Sequence[str] = "domain_truth",
    mean: bool = True,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a generated slice between the real ones it was made from, and the one it should equal.

    Parameters
    ----------
    left, generated, right, held_out
        Slices in one frame; the last, if there is one, is the real slice at that position.
    color, colours
        As in :func:`plot_series`.
    mean
        For genes, draw ``layers["mean"]`` too where the generated slice has it.
    """
    t = generated.uns.get("genot", {}).get("t")
    title = "generated" if t is None else f"generated, t = {t:.2g}"
    made, ends = [_Panel(title, generated)], [_Panel("left", left), _Panel("right", right)]
    genes = [one for one in _as_list(color) if not _is_label([left, generated], one)]
    if mean and genes and "mean" in generated.layers:
        made.append(_Panel(f"{title}, mean", generated, "mean"))
    between = [] if held_out is None else [_Panel("held out", held_out)]
    if len(made) + len(between) > 2:  # two lines: what was measured, and below what was made
        return _rows([ends[0], *between, ends[1], *made], color, colours)
    return _rows([ends[0], *made, *between, ends[1]], color, colours)


class _Panel(NamedTuple):
    """A slice to draw; ``layer`` for genes only."""

    title: str
    adata: AnnData
    layer: str | None = None


def _as_list(color: str | Sequence[str]) -> list[str]:
    return [color] if isinstance(color, str) else list(color)


def _is_label(slices: Sequence[AnnData], name: str) -> bool:
    """Whether the name is one of a column of labels; a gene of that name comes second."""
    return any(name in adata.obs for adata in slices)


def _rows(
    panels: list[_Panel], color: str | Sequence[str], given: Mapping[str, str] | None = None
) -> Figure:
    """Draw one row for each column or gene, all panels in the frame of the first slice."""
    colors, frame = _as_list(color), panels[0].adata
    if not colors:
        raise ValueError("color is empty; give a column of obs, or genes.")
    labels = [one for one in colors if _is_label([panel.adata for panel in panels], one)]
    if labels and len(labels) < len(colors):
        raise ValueError(f"Draw labels ({labels}) and genes in figures of their own.")
    if labels and any(panel.layer is None for panel in panels):  # a mean has no labels of its own
        panels = [panel for panel in panels if panel.layer is None]
    for panel in panels:
        check_drawable(panel.adata)
    every = np.vstack([np.asarray(panel.adata.obsm["spatial"]) for panel in panels])
    whole = ad.AnnData(obsm={"spatial": every.astype(float)})
    lines = -(-len(panels) // _ACROSS)
    across = -(-len(panels) // lines)
    figure, axes = make_panels(len(colors) * lines * across, whole, across)
    figure.set_size_inches(_SMALLER * figure.get_size_inches())
    axes = np.reshape(axes, (len(colors), lines * across))
    for ax in axes[:, len(panels) :].flat:
        ax.set_axis_off()
    for name, row_axes in zip(colors, axes, strict=True):
        if labels:
            _label_row(name, panels, row_axes, frame, every, given or {})
        else:
            _gene_row(name, panels, row_axes, frame, every)
    if not labels:
        what = "expression" if holds_logarithms(frame) else "log(1 + expression at one depth)"
        figure.suptitle(what, fontsize=11)
    return figure


def _label_row(
    name: str, row: list[_Panel], axes: Sequence[plt.Axes], frame, every, given: Mapping[str, str]
) -> None:
    """Draw labels: one colour for each, one legend for all."""
    columns = []
    for panel in row:
        key = name if name in panel.adata.obs else "genot_domain"
        found = panel.adata.obs.get(key, pd.Series(np.nan, panel.adata.obs_names, dtype=object))
        columns.append(as_labels(found))
    labels = joint_labels(columns)
    known = {label: given[label] for label in labels if label in given}
    spare = [colour for colour in PALETTE if colour not in given.values()] or list(PALETTE)
    rest = [label for label in labels if label not in known]
    colours = known | {label: spare[n % len(spare)] for n, label in enumerate(rest)}
    for panel, values, ax in zip(row, columns, axes, strict=False):
        values = values.cat.set_categories(labels)
        _draw_panel(panel, values, ax, frame, every, colours=colours, legend_loc=None)
    named = {label: colours[label] for label in labels}
    if any(values.isna().any() for values in columns):
        named["unannotated"] = UNANNOTATED
    where = (1.0, 0.5) if len(axes) == len(row) else (0.0, 0.5)  # beside, or where no slice is
    axes[-1].legend(
        handles=legend_dots(named), loc="center left", bbox_to_anchor=where, frameon=False
    )


def _gene_row(name: str, row: list[_Panel], axes: Sequence[plt.Axes], frame, every) -> None:
    """Draw a gene on one scale; it ends where one spot in 200 of the real values is higher."""
    logs, depth = holds_logarithms(frame), _median_total(frame)
    columns = [
        expression_of(panel.adata, name, layer=panel.layer, depth=depth, logs=logs) for panel in row
    ]
    real = [values for values, panel in zip(columns, row, strict=True) if panel.layer is None]
    drawn = np.concatenate(real or columns)
    norm = plt.Normalize(0.0, max(float(np.quantile(drawn, 0.995)), 1e-6))
    for panel, values, ax in zip(row, columns, axes, strict=False):
        values = pd.Series(values, index=panel.adata.obs_names)
        titled = panel._replace(title=f"{name}: {panel.title}")
        _draw_panel(titled, values, ax, frame, every, cmap="magma", norm=norm, colorbar=False)
    scale = plt.cm.ScalarMappable(norm, "magma")
    axes[0].figure.colorbar(scale, ax=list(axes), shrink=0.85, aspect=25, pad=0.01)


def _draw_panel(panel: _Panel, values: pd.Series, ax, frame: AnnData, every, **options) -> None:
    """Draw one slice with the unit and the orientation of the frame, and the axes of all."""
    facts = {k: v for k, v in frame.uns.get("genot", {}).items() if k == "y_axis"}
    scale = micrometres_per_unit(frame)
    if scale is not None:
        facts["micrometres_per_unit"] = scale
    facts["simulated"] = is_simulated(panel.adata)
    obsm = {"spatial": positions_of(panel.adata)}
    shown = ad.AnnData(obs=values.to_frame(), obsm=obsm, uns={"genot": facts})
    draw_slice(shown, values, ax, title=panel.title, **options)
    strip = 0.1 if facts["simulated"] or scale is not None else 0.0
    frame_tissue(ax, every, strip, upwards=grows_upwards(frame))


def _median_total(adata: AnnData) -> float:
    """Total of the median spot: the depth of a slice."""
    return float(np.median(np.asarray(adata.X.sum(axis=1)).ravel()))


def expression_of(
    adata: AnnData,
    gene: str,
    *,
    layer: str | None = None,
    depth: float | None = None,
    logs: bool | None = None,
) -> NDArray[np.float64]:
    """Return log(1 + expression of a gene scaled to one depth), (n,)."""
    if gene not in adata.var_names:
        raise KeyError(f"There is no gene, and no column of obs, {gene!r}: {no_gene(gene, adata)}")
    matrix = adata.X if layer is None else adata.layers[layer]
    column = matrix[:, adata.var_names.get_loc(gene)]
    values = np.asarray(column.todense() if hasattr(column, "todense") else column, float).ravel()
    if holds_logarithms(adata) if logs is None else logs:
        return values
    total = np.asarray(matrix.sum(axis=1), float).ravel()
    return np.log1p(
        values / np.maximum(total, 1e-12) * (_median_total(adata) if depth is None else depth)
    )


@checked
def plot_sources(generated: AnnData) -> Figure:
    """Draw from which of the two slices each spot of a generated slice was taken."""
    if "genot_source" not in generated.obs:
        raise KeyError('There is no obs["genot_source"]: this slice was not generated.')
    source = generated.obs["genot_source"].astype("category")
    share = source.value_counts(normalize=True)
    figure, (ax,) = make_panels(1, generated)
    left, right = (share.get(side, 0) for side in ("left", "right"))
    title = f"{left:.0%} from the left slice, {right:.0%} from the right"
    draw_slice(generated, source, ax, title=title, colours={"left": LEFT, "right": RIGHT})
    return figure


# -------------------------------------------------------------------------------------------------
# Between two slices: alignment, coupling, warp, in the frame of the left slice.

_N_SMOOTH = 40  # spots averaged for a contour line
_LEVELS = (0.6, 0.85)  # contour lines: quantiles of the smoothed gene, each slice its own
_LONGEST_SIDE = 3.0  # of a triangle between spots, in spot spacings
_GRID_LINES = 16


@by_pair
@checked
def plot_alignment(
    left: AnnData,
    right: AnnData,
    *,
    gene: str | None = None,
    spatial_key: str = "spatial",
    aligned_key: str = "spatial_aligned",
) -> Figure:
    """Draw two slices on top of each other, before and after the alignment.

    Parameters
    ----------
    left, right
        The slices; the right one after :func:`genot_helpers.alignment.apply_alignment`.
    gene
        Gene whose contour lines are drawn for both: around the 40 % and the 15 % of the spots that
        express it most, after averaging over 40 spots. Those of a good alignment lie on each other.
    spatial_key, aligned_key
        Slots of ``obsm``: coordinates before and after.

    Raises
    ------
    KeyError
        If the right slice has not been aligned, or a slice lacks the gene.
    """
    if aligned_key not in right.obsm:
        raise KeyError(f"There is no obsm[{aligned_key!r}] in the right slice: align it first.")
    still = positions_of(left, spatial_key)
    moved = [positions_of(right, key) for key in (spatial_key, aligned_key)]
    titles = "Before: as on the slides", "After alignment"
    figure, axes = _axes(left, titles, [still, *moved])
    for ax, places in zip(axes, moved, strict=True):
        for side, where, colour in ((left, still, LEFT), (right, places, RIGHT)):
            _discs(ax, where, facecolors=colour, alpha=0.25)
            if gene is not None:
                _contours(ax, where, expression_of(side, gene), colour)
    legend = {"left": LEFT, "right": RIGHT}
    handles = [_mark(name, colour, "o", "-" if gene else "") for name, colour in legend.items()]
    title = f"lines: {gene} is\nhigh inside" if gene else None
    axes[-1].legend(handles=handles, title=title, **_OUTSIDE)
    return figure


@by_pair
@checked
def plot_coupling(
    left: AnnData,
    right: AnnData,
    coupling: Coupling,
    *,
    n_arrows: int = 250,
    zoom: float = 12.0,
    spatial_key: str = "spatial",
    seed: int = 0,
) -> Figure:
    """Draw which left spot goes to which right spot: all of the tissue, and a window of it.

    Parameters
    ----------
    left, right, coupling, spatial_key
        Slices in one frame, and the coupling of these two.
    n_arrows, seed
        Pairs drawn on the whole tissue, chosen at random by their mass.
    zoom
        Side of the window, in spot spacings; in it all pairs are drawn, wider for more mass.

    Raises
    ------
    ValueError
        If the coupling is of other slices.
    """
    points = [positions_of(adata, spatial_key) for adata in (left, right)]
    if coupling.plan.shape != (len(points[0]), len(points[1])):
        raise ValueError(
            "The coupling is of {} and {} spots, ".format(*coupling.plan.shape)
            + f"the slices have {len(points[0])} and {len(points[1])}: it belongs to others."
        )
    i, j, mass = coupling_pairs(coupling)
    start, end = points[0][i], points[1][j]
    unmatched = coupling.left_unmatched, coupling.right_unmatched
    alone = [masses > 0.5 * mass.max() for masses in unmatched]
    n_arrows = min(n_arrows, len(i))
    titles = f"{n_arrows} of {len(i):,} pairs", "A window of it, all pairs"
    figure, (whole, window) = _axes(left, titles, points)
    drawn = np.random.default_rng(seed).choice(len(i), n_arrows, replace=False, p=mass / mass.sum())
    _discs(whole, points[0], facecolors=UNANNOTATED)
    true_length = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "width": 0.003}
    whole.quiver(*start[drawn].T, *(end - start)[drawn].T, color="0.1", **true_length)

    middle, half = np.median(points[0], axis=0), 0.5 * zoom * spot_spacing(points[0])
    near = [(np.abs(places - middle) < 1.1 * half).all(axis=1) for places in (start, end)]
    near = near[0] | near[1]
    lines, widths = np.stack([start[near], end[near]], axis=1), 2.5 * mass[near] / mass.max()
    window.add_collection(LineCollection(lines, colors="0.2", linewidths=widths, zorder=2))
    handles = []
    for where, lonely, colour, name in zip(
        points, alone, (LEFT, RIGHT), ("left", "right"), strict=True
    ):
        cross = {"c": colour, "marker": "x", "zorder": 3}
        whole.scatter(*where[lonely].T, s=14, linewidths=1, **cross)
        window.scatter(*where[lonely].T, s=50, **cross)
        _discs(window, where[~lonely], 0.35, facecolors=colour, zorder=3)
        handles += [_mark(f"{name} spot", colour, "o"), _mark("no partner", colour, "x")]
    up = -1 if whole.yaxis_inverted() else 1
    window.set_xlim(middle[0] - half, middle[0] + half)
    window.set_ylim(middle[1] - up * half, middle[1] + up * half)
    window.legend(handles=handles, **_OUTSIDE)
    return figure


@checked
def plot_warp(warp: SmoothWarp, left: AnnData, *, spatial_key: str = "spatial") -> Figure:
    """Draw how a warp bends the left slice towards the right one.

    Parameters
    ----------
    warp, left, spatial_key
        ``prepared.warp`` of an interpolation, its left slice, and the slot of its coordinates.

    Returns
    -------
    matplotlib.figure.Figure
        A straight grid on the left slice, the same grid moved all the way into the right slice, and
        the length of the way in spot spacings.
    """
    points = positions_of(left, spatial_key)
    tree, spacing = cKDTree(points), spot_spacing(points)
    moved = warp.move_left(points, 1.0)
    titles = "A straight grid, and bent", "How far"
    figure, (bent, length) = _axes(left, titles, [points, moved])
    low, high = points.min(axis=0), points.max(axis=0)
    side = (high - low).max() / _GRID_LINES
    for axis in (0, 1):
        for level in np.arange(low[axis] + side / 2, high[axis], side):
            line = np.empty((300, 2))
            line[:, axis] = level
            line[:, 1 - axis] = np.linspace(low[1 - axis], high[1 - axis], len(line))
            inside = (tree.query(line)[0] < 2.0 * spacing)[:, None]
            bent.plot(*np.where(inside, line, np.nan).T, color="0.8", lw=1.0)
            bent.plot(*np.where(inside, warp.move_left(line, 1.0), np.nan).T, color=RIGHT, lw=1.2)
    handles = [_mark("left", "0.8", "", "-"), _mark("moved to right", RIGHT, "", "-")]
    bent.legend(handles=handles, **_OUTSIDE)
    way = np.linalg.norm(moved - points, axis=1) / spacing
    shown = _discs(length, points, array=way, cmap="viridis")
    shown.set_clim(0.0, max(1.0, float(way.max())))
    figure.colorbar(shown, ax=length, label="spot spacings", shrink=0.6)
    return figure


_OUTSIDE = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}


def _axes(
    left: AnnData, titles: Sequence[str], points: Sequence[NDArray]
) -> tuple[Figure, list[plt.Axes]]:
    """Make panels of one frame, as plotting makes them: orientation, scale bar, no axes."""
    figure, axes = make_panels(len(titles), left)
    scale = micrometres_per_unit(left)
    for title, ax in zip(titles, axes, strict=True):
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_axis_off()
        if scale is not None:
            ax.add_artist(ScaleBar(scale, "um", **SCALE_BAR))
        frame_tissue(ax, np.vstack(points), 0.1, upwards=grows_upwards(left))
    if is_simulated(left):
        say_simulated(axes[0])
    return figure, axes


def _discs(ax: plt.Axes, points: NDArray, share: float = 1.0, **options) -> EllipseCollection:
    """Draw spots as discs with a diameter of this share of the spot spacing."""
    wide = np.full(len(points), share * (nearest_distance(points) if len(points) > 1 else 1.0))
    place = {"units": "xy", "offsets": points, "offset_transform": ax.transData}
    discs = EllipseCollection(wide, wide, np.zeros(len(points)), linewidths=0, **place, **options)
    ax.add_collection(discs, autolim=False)
    return discs


def _contours(ax: plt.Axes, points: NDArray, values: NDArray, colour: str) -> None:
    """Draw lines around the places where a gene is high, on average over near spots."""
    if len(points) < 3:
        return  # no triangle, no line
    near = cKDTree(points).query(points, k=min(_N_SMOOTH, len(points)))[1]
    smooth = values[near.reshape(len(points), -1)].mean(axis=1)
    levels = np.unique(np.quantile(smooth, _LEVELS))
    mesh = Triangulation(*points.T)
    corners = points[mesh.triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    mesh.set_mask(
        longest > _LONGEST_SIDE * spot_spacing(points)
    )  # no line where there is no tissue
    ax.tricontour(mesh, smooth, levels=levels, colors=colour, linewidths=(1.0, 2.0))


def _mark(name: str, colour: str, marker: str, line: str = "") -> Line2D:
    """Make an entry of a legend."""
    return Line2D([], [], color=colour, marker=marker, ls=line, label=name)
