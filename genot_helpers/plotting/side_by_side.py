"""Domains of several slices of one frame: a row for each slice, a column for each partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..evaluation.evaluation import match_domains
from .plotting import _draw, _frame_tissue, _panels, colour_domains

__all__ = ["plot_side_by_side"]


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
    truth = truth if all(truth in adata.obs for adata in slices.values()) else None
    whole = _together(slices, [*keys, *([truth] if truth and truth not in keys else [])])
    every = np.vstack([np.asarray(adata.obsm["spatial"])[:, :2] for adata in slices.values()])
    figure, axes = _panels(
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
            _draw(adata, values, ax, title=f"{label}\n{name}", **options)
            _frame_tissue(ax, every, 0.1, upwards=upwards)
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
