"""A stack of slices: what its slices are called, how deep they lie, and what colours mean in it.

Shared by the figures (:mod:`genot_helpers.plotting.stack_plots`) and the film
(:mod:`genot_helpers.plotting.stack_film`), so that both show a gene or a label on the same scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..slices.labels import as_labels
from .generated_plots import expression_of
from .plotting import PALETTE, UNANNOTATED

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

__all__ = ["ColourAxis", "as_stack", "gene_along_stack", "slice_depths", "stack_values"]


class ColourAxis(NamedTuple):
    """What the colours of a stack mean: a range of numbers, or labels by their number."""

    title: str
    low: float
    high: float
    labels: list[str] | None = None
    colours: list[str] | None = None

    def name(self, code: float) -> str:
        """Return the label with a number."""
        return self.labels[int(code)]

    def sizes(self, values: NDArray, size: float) -> float | NDArray[np.float32]:
        """Draw high values larger, so that low ones do not hide them; labels all alike."""
        if self.labels is not None:
            return size
        share = (values - self.low) / max(self.high - self.low, 1e-12)
        return np.float32(np.round(size * (0.5 + 0.9 * np.clip(share, 0.0, 1.0)), 1))


def as_stack(slices: Mapping[str, AnnData] | Sequence[AnnData]) -> dict[str, AnnData]:
    """Name slices that have no name."""
    if not isinstance(slices, Mapping):
        facts = [adata.uns.get("genot", {}) for adata in slices]
        names = [
            str(known.get("name", "generated" if "t" in known else "slice")) for known in facts
        ]
        slices = {
            f"{n + 1}: {name}": one for n, (name, one) in enumerate(zip(names, slices, strict=True))
        }
    if not slices:
        raise ValueError("There is no slice to draw.")
    return dict(slices)


def slice_depths(slices: Iterable[AnnData]) -> NDArray[np.float64]:
    """Return the depth of each slice; its number in the stack where one of them has none."""
    found = [adata.uns.get("genot", {}).get("position_um") for adata in slices]
    return np.arange(float(len(found))) if None in found else np.array(found, dtype=float)


def stack_values(
    stack: Mapping[str, AnnData], color: str, *, n_smooth: int = 1, layer: str | None = None
) -> tuple[list[NDArray[np.float64]], ColourAxis]:
    """Read what to colour spots by, on one scale for all slices.

    Parameters
    ----------
    stack
        Name → slice.
    color
        A column of ``obs`` with labels (generated slices show ``obs["genot_domain"]`` where they
        lack it) or numbers; else a gene, as log(1 + expression scaled to one depth). The scale of
        a gene ends at its 99.5th percentile.
    n_smooth, layer
        As in :func:`genot_helpers.plotting.stack_plots.stack_figure`.

    Returns
    -------
    One array (n_spots,) for each slice, labels as numbers, and the scale.
    """
    slices = list(stack.values())
    if not any(color in adata.obs for adata in slices):
        depth = float(np.median(np.asarray(slices[0].X.sum(axis=1))))
        values = [
            _smooth(
                adata,
                expression_of(adata, color, layer=_layer(adata, layer), depth=depth),
                n_smooth,
            )
            for adata in slices
        ]
        high = max(float(np.quantile(np.concatenate(values), 0.995)), 1e-6)
        return values, ColourAxis(f"{color}<br>log(1 + x)", 0.0, high)
    columns = [_column(name, adata, color) for name, adata in stack.items()]
    if all(pd.api.types.is_numeric_dtype(column) for column in columns):
        values = [column.to_numpy(float) for column in columns]
        every = np.concatenate(values)
        return values, ColourAxis(color, float(np.nanmin(every)), float(np.nanmax(every)))
    columns = [as_labels(column) for column in columns]
    labels = list(dict.fromkeys(label for column in columns for label in column.cat.categories))
    labels = list(as_labels(pd.Series(labels)).cat.categories)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(labels))]
    codes = [column.cat.set_categories(labels).cat.codes.to_numpy(float) for column in columns]
    if any((code < 0).any() for code in codes):
        labels, colours = [*labels, "unannotated"], [*colours, UNANNOTATED]
        codes = [np.where(code < 0, len(labels) - 1, code) for code in codes]
    return codes, ColourAxis(color, -0.5, len(labels) - 0.5, [str(one) for one in labels], colours)


def gene_along_stack(
    slices: Mapping[str, AnnData] | Sequence[AnnData], gene: str, *, by: str | None = None
) -> pd.DataFrame:
    """Average a gene over each slice, or over each label in each slice.

    Parameters
    ----------
    slices
        In the order of the stack.
    gene
        As log(1 + expression scaled to one depth).
    by
        Column of ``obs`` with labels (``obs["genot_domain"]`` for it in generated slices).

    Returns
    -------
    pandas.DataFrame
        Depths in the index (twice, if two slices have one), a column for each label; NaN where a
        slice has no spot of a label.
    """
    stack = as_stack(slices)
    values, _ = stack_values(stack, gene)
    rows = []
    for (name, adata), level in zip(stack.items(), values, strict=True):
        labels = np.full(len(level), "all spots") if by is None else _column(name, adata, by)
        rows.append(pd.Series(level).groupby(np.asarray(labels, dtype=object)).mean())
    return pd.DataFrame(rows, index=pd.Index(slice_depths(stack.values()), name="depth"))


def _column(name: str, adata: AnnData, color: str) -> pd.Series:
    """Return a column of ``obs``; for a generated slice the carried label."""
    key = color if color in adata.obs or "genot_domain" not in adata.obs else "genot_domain"
    if key not in adata.obs:
        raise KeyError(f"Slice {name!r} has no obs[{color!r}] to draw.")
    return adata.obs[key]


def _layer(adata: AnnData, layer: str | None) -> str | None:
    return layer if layer in adata.layers else None


def _smooth(adata: AnnData, values: NDArray, n: int) -> NDArray[np.float64]:
    """Average over the n nearest spots, the spot itself among them."""
    if n <= 1:
        return values
    points = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2]
    return values[cKDTree(points).query(points, min(n, len(points)))[1]].mean(axis=1)
