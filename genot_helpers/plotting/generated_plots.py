"""Figures of generated slices: beside the real ones, and where their spots are from.

Panels share axes, orientation (``uns["genot"]["y_axis"]`` of the left slice), scale bar, and one
colour per label or one scale per gene, so that what differs is the tissue. Slices are drawn by
squidpy through :mod:`genot_helpers.plotting`. The figures of what happens between two slices are in
:mod:`genot_helpers.plotting.coupling_plots`, those of scores in
:mod:`genot_helpers.plotting.score_plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..pairs.pairs import holds_logarithms
from ..slices.labels import as_labels
from .plotting import (
    PALETTE,
    UNANNOTATED,
    _draw,
    _frame_tissue,
    _panels,
    micrometres_per_unit,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["expression_of", "plot_generated", "plot_series", "plot_sources"]

LEFT, RIGHT = PALETTE[0], PALETTE[5]
"""Blue and vermilion: what comes from the left and from the right slice."""

_SMALLER = 0.72  # than a slice that stands alone
_ACROSS = 4  # slices side by side, at most


def plot_series(
    slices: Mapping[str, AnnData],
    color: str | Sequence[str],
    *,
    layer: str | None = None,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw slices of one frame side by side, one row for each label column or gene.

    More than four slices take several lines, so that each stays large enough to be read.

    Parameters
    ----------
    slices
        Title → slice. The first says what the frame is: unit, orientation, depth of a spot.
    color
        A column of ``obs`` with labels (generated slices show ``obs["genot_domain"]`` for it), or a
        gene, or several. Genes are drawn as log(1 + expression scaled to one depth), with one
        colour scale for a row.
    layer
        Read genes from this layer of every slice, not from ``X``.
    colours
        Label → colour, where labels were drawn before and should keep theirs; labels that it does
        not name get the next free ones.

    Raises
    ------
    KeyError
        If no slice has the column, or a slice lacks the gene.
    """
    return _rows([_Panel(title, adata, layer) for title, adata in slices.items()], color, colours)


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
    left, generated, right
        Slices in one frame.
    held_out
        The real slice at that position, if there is one.
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
    labels = [one for one in colors if _is_label([panel.adata for panel in panels], one)]
    if labels and len(labels) < len(colors):
        raise ValueError(f"Draw labels ({labels}) and genes in figures of their own.")
    if labels and any(panel.layer is None for panel in panels):  # a mean has no labels of its own
        panels = [panel for panel in panels if panel.layer is None]
    every = np.vstack([np.asarray(panel.adata.obsm["spatial"]) for panel in panels])
    whole = ad.AnnData(obsm={"spatial": every.astype(float)})
    lines = -(-len(panels) // _ACROSS)
    across = -(-len(panels) // lines)
    figure, axes = _panels(len(colors) * lines * across, whole, across)
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
    labels = list(dict.fromkeys(label for column in columns for label in column.cat.categories))
    labels = list(as_labels(pd.Series(labels)).cat.categories)
    known = {label: given[label] for label in labels if label in given}
    spare = [colour for colour in PALETTE if colour not in given.values()] or list(PALETTE)
    rest = [label for label in labels if label not in known]
    colours = known | {label: spare[n % len(spare)] for n, label in enumerate(rest)}
    for panel, values, ax in zip(row, columns, axes, strict=False):
        values = values.cat.set_categories(labels)
        _draw_panel(panel, values, ax, frame, every, colours=colours, legend_loc=None)
    handles = [Line2D([], [], ls="", marker="o", color=colours[one], label=one) for one in labels]
    if any(values.isna().any() for values in columns):
        handles.append(Line2D([], [], ls="", marker="o", color=UNANNOTATED, label="unannotated"))
    where = (1.0, 0.5) if len(axes) == len(row) else (0.0, 0.5)  # beside, or where no slice is
    axes[-1].legend(handles=handles, loc="center left", bbox_to_anchor=where, frameon=False)


def _gene_row(name: str, row: list[_Panel], axes: Sequence[plt.Axes], frame, every) -> None:
    """Draw a gene on one scale; it ends where one spot in 200 of the real values is higher."""
    logs, depth = holds_logarithms(frame), _depth(frame)
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
    own = panel.adata.uns.get("genot", {})
    facts["simulated"] = bool(own.get("simulated", False))
    spatial = np.asarray(panel.adata.obsm["spatial"], dtype=float)[:, :2]
    shown = ad.AnnData(obs=values.to_frame(), obsm={"spatial": spatial}, uns={"genot": facts})
    _draw(shown, values, ax, title=panel.title, **options)
    strip = 0.1 if facts["simulated"] or scale is not None else 0.0
    _frame_tissue(ax, every, strip, upwards=facts.get("y_axis") == "up")


def _depth(adata: AnnData) -> float:
    """Total of the median spot."""
    return float(np.median(np.asarray(adata.X.sum(axis=1)).ravel()))


def expression_of(
    adata: AnnData,
    gene: str,
    *,
    layer: str | None = None,
    depth: float | None = None,
    logs: bool | None = None,
) -> NDArray[np.float64]:
    """Return log(1 + expression of a gene scaled to one depth), (n,).

    Parameters
    ----------
    adata, gene, layer
        Where to read: ``X`` if no layer is named.
    depth
        Total that every spot is scaled to; that of the slice's median spot if not given.
    logs
        Whether the values are logarithms already, which are returned as they are; found out from
        ``X`` if not given.
    """
    if gene not in adata.var_names:
        raise KeyError(f"There is no gene {gene!r} in var_names, and no such column of obs.")
    matrix = adata.X if layer is None else adata.layers[layer]
    column = matrix[:, adata.var_names.get_loc(gene)]
    values = np.asarray(column.todense() if hasattr(column, "todense") else column, float).ravel()
    if holds_logarithms(adata) if logs is None else logs:
        return values
    total = np.asarray(matrix.sum(axis=1), float).ravel()
    return np.log1p(values / np.maximum(total, 1e-12) * (_depth(adata) if depth is None else depth))


def plot_sources(generated: AnnData) -> Figure:
    """Draw from which of the two slices each spot of a generated slice was taken."""
    if "genot_source" not in generated.obs:
        raise KeyError('There is no obs["genot_source"]: this is no generated slice.')
    source = generated.obs["genot_source"].astype("category")
    share = source.value_counts(normalize=True)
    figure, (ax,) = _panels(1, generated)
    left, right = (share.get(side, 0) for side in ("left", "right"))
    title = f"{left:.0%} from the left slice, {right:.0%} from the right"
    _draw(generated, source, ax, title=title, colours={"left": LEFT, "right": RIGHT})
    return figure
