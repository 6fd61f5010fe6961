"""A figure of what domains are made of: types × domains.

The table comes from :func:`genot_helpers.domains.composition.cluster_composition`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..arguments import checked

__all__ = ["plot_composition"]

_LEAST_PRINTED = 0.005  # smaller shares are left blank


@checked(n_types=(1, 10_000))
def plot_composition(
    table: pd.DataFrame, *, n_types: int | None = 30, title: str | None = None
) -> Figure:
    """Draw how often each type occurs in each domain, as a heat map.

    The number in a field is the share of the type among the cells of the domain, in per cent. The
    colour says in which domain a type is at home: it is that share, divided by the largest in the
    row, so that rare types show too. Types stand in the order of the domain they are at home in.
    The colours (cividis) keep their order for colour-blind readers and in print.

    Parameters
    ----------
    table
        Types × domains, float; columns sum to 1: ``cluster_composition(...).compositions``, or
        ``uns["genot"]["genot_domain"]["compositions"]`` of a slice.
    n_types
        At most so many types, those with the largest share in any domain; None draws all.
    title
        Above the figure.

    Returns
    -------
    Figure
        Nothing else is changed.

    Raises
    ------
    ValueError
        If the table is empty or holds values that are negative or not finite.

    Examples
    --------
    >>> found = gh.cluster_composition(adata, 8)  # doctest: +SKIP
    >>> gh.plot_composition(found.compositions)  # doctest: +SKIP
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
