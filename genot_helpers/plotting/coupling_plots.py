"""Figures of what happens between two slices: alignment, coupling, warp.

All in the frame and orientation of the left slice; left is blue, right vermilion. Spots are discs
that touch, so that a length is a length. The figures of the result are in
:mod:`genot_helpers.plotting.generated_plots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.tri import Triangulation
from matplotlib_scalebar.scalebar import ScaleBar
from scipy.spatial import cKDTree

from ..slices.spacing import nearest_distance, spot_spacing
from ..transport.couplings import coupling_pairs
from .generated_plots import LEFT, RIGHT, expression_of
from .plotting import (
    SCALE_BAR,
    UNANNOTATED,
    _frame_tissue,
    _panels,
    micrometres_per_unit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from ..interpolation.warp import SmoothWarp
    from ..transport.couplings import Coupling

__all__ = ["plot_alignment", "plot_coupling", "plot_warp"]

_N_SMOOTH = 40  # spots averaged for a contour line
_LEVELS = (0.6, 0.85)  # contour lines: quantiles of the smoothed gene, each slice its own
_LONGEST_SIDE = 3.0  # of a triangle between spots, in spot spacings
_GRID_LINES = 16


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
        The slices; the right one with ``obsm[aligned_key]`` of
        :func:`genot_helpers.alignment.apply_alignment`.
    gene
        Gene whose contour lines are drawn for both slices: around the 40 % and the 15 % of the
        spots that express it most, after averaging over 40 spots. The lines of a good alignment
        lie on each other.
    spatial_key, aligned_key
        Slots of ``obsm``: coordinates before and after.

    Raises
    ------
    KeyError
        If the right slice has not been aligned, or a slice lacks the gene.
    """
    if aligned_key not in right.obsm:
        raise KeyError(f"There is no obsm[{aligned_key!r}] in the right slice: align it first.")
    still = _points(left, spatial_key)
    moved = [_points(right, key) for key in (spatial_key, aligned_key)]
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
    left, right
        Slices in one frame.
    coupling
        Of these two.
    n_arrows
        Pairs drawn on the whole tissue, chosen at random by their mass.
    zoom
        Side of the window, in spot spacings; in it all pairs are drawn, wider for more mass.
    spatial_key
        Slot of ``obsm`` with the coordinates.
    seed
        Of the choice of arrows.

    Raises
    ------
    ValueError
        If the coupling is of other slices.
    """
    points = [_points(adata, spatial_key) for adata in (left, right)]
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


def plot_warp(warp: SmoothWarp, left: AnnData, *, spatial_key: str = "spatial") -> Figure:
    """Draw how a warp bends the left slice towards the right one.

    Parameters
    ----------
    warp
        From :func:`genot_helpers.interpolation.warp.fit_warp`, or ``prepared.warp`` of an
        interpolation.
    left
        The left slice.
    spatial_key
        Slot of ``obsm`` with its coordinates.

    Returns
    -------
    matplotlib.figure.Figure
        A straight grid on the left slice, the same grid moved all the way into the right slice,
        and the length of the way in spot spacings.
    """
    points = _points(left, spatial_key)
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


def _points(adata: AnnData, key: str) -> NDArray[np.float64]:
    return np.asarray(adata.obsm[key], dtype=float)[:, :2]


def _axes(
    left: AnnData, titles: Sequence[str], points: Sequence[NDArray]
) -> tuple[Figure, list[plt.Axes]]:
    """Make panels of one frame, as plotting makes them: orientation, scale bar, no axes."""
    figure, axes = _panels(len(titles), left)
    facts, scale = left.uns.get("genot", {}), micrometres_per_unit(left)
    for title, ax in zip(titles, axes, strict=True):
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_axis_off()
        if scale is not None:
            ax.add_artist(ScaleBar(scale, "um", **SCALE_BAR))
        _frame_tissue(ax, np.vstack(points), 0.1, upwards=facts.get("y_axis") == "up")
    if facts.get("simulated", False):
        place = {"ha": "right", "va": "bottom", "transform": axes[0].transAxes}
        axes[0].text(1.0, 0.01, "simulated tissue", fontsize=8, color="0.35", **place)
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
