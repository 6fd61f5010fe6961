"""Simulated tissue at high resolution: single transcripts, counted in bins and in cells.

Cells of several types lie in bands; each sheds transcripts that land near it. Counting them on a
grid gives bins, as of Visium HD; counting them by cell gives cells, as of imaging instruments. Rows
and columns of the grid catch more or less, which shows as stripes; the factors are known.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from ..arguments import checked
from .simulation import generator, label, smooth_field

_DOMAINS = ("outer", "upper", "middle", "inner", "deep", "core")
_N_TYPES = 14
_CELL_UM2 = 130.0  # area of tissue for one cell
_SHED_UM = 4.0  # how far from its cell a transcript lands, one standard deviation
_N_CONTROLS = 8
_CHUNK = 200_000  # cells at a time, so that memory is that of the counts


@checked(
    n_bins=(100, 10**9), n_genes=(50, 10**6), bin_um=(1e-3, 10**6), counts_per_bin=(0, 10**6),
    stripes=(0, 100),
)  # fmt: skip
def simulate_high_resolution(
    n_bins: int = 30_000,
    *,
    n_genes: int = 300,
    bin_um: float = 8.0,
    counts_per_bin: float = 25.0,
    stripes: float = 0.2,
    kinds: tuple[str, ...] = ("bins", "cells"),
    seed: int = 0,
) -> dict[str, ad.AnnData]:
    """Simulate one square of tissue at high resolution, counted in bins and in cells.

    Six domains lie in wavy bands and differ by the proportions of fourteen cell types. About 1 in
    300 counts is of a control feature, which no gene explains.

    Parameters
    ----------
    n_bins
        About so many bins (the next smaller square number), 100 or more; empty ones are left out.
    n_genes
        Number of genes, 50 or more.
    bin_um, counts_per_bin
        Side of a bin, µm, and mean number of transcripts in it.
    stripes
        Standard deviation of the logarithm of what rows, and columns, of the grid catch.
    kinds
        "bins", "cells" or both: what is counted.
    seed
        The same seed gives bit-identical slices.

    Returns
    -------
    dict of str to AnnData
        Kind → slice. ``X``: CSR float32, counts; ``var["control"]``: bool; ``obsm["spatial"]``: (n,
        2) float64, µm; ``obs["domain_truth"]``: the domain at the place. Bins have
        ``obs["array_row"]``, ``obs["array_col"]`` and ``obs["stripe_truth"]``, the product of the
        factors of row and column; cells ``obs["cell_type"]``.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> bins = simulate_high_resolution(400, kinds=("bins",))["bins"]
    >>> int(bins.obs["array_row"].max())
    19
    """
    if not kinds or set(kinds) - {"bins", "cells"}:
        raise ValueError(f'kinds is {kinds!r}: give "bins", "cells" or both.')
    side = int(np.sqrt(n_bins))
    width = side * bin_um
    bend = smooth_field(generator(seed, 2), 0.35)
    share, rate = _types(generator(seed, 3), n_genes)
    per_side = max(5, round(width / _CELL_UM2**0.5))  # a cell in each field: they fill a tissue
    field = np.stack(np.divmod(np.arange(per_side**2), per_side), axis=1)
    places = (field + generator(seed, 1).random(field.shape)) * (width / per_side)
    n_cells = len(places)
    cell_domain = _domain_at(places / width, bend)
    total = share[cell_domain].cumsum(axis=1)
    cell_type = (generator(seed, 4).random(n_cells)[:, None] * total[:, -1:] > total).sum(axis=1)
    factors = np.exp(stripes * generator(seed, 5).normal(size=(2, side)))
    caught = factors / factors.max(axis=1, keepdims=True)
    mean = counts_per_bin * side**2 / n_cells / float(np.prod(caught.mean(axis=1)))
    shape = {"bins": side**2, "cells": n_cells}
    counts = {
        kind: sparse.csr_matrix((shape[kind], n_genes + _N_CONTROLS), dtype=np.float32)
        for kind in kinds
    }
    for start in range(0, n_cells, _CHUNK):
        cells = np.arange(start, min(start + _CHUNK, n_cells))
        own = generator(seed, 6, start)
        where, gene, owner = _shed(own, places[cells], cell_type[cells], rate, mean)
        grid = np.floor(where / bin_um).astype(np.int64)
        inside = ((grid >= 0) & (grid < side)).all(axis=1)
        row, column = np.clip(grid, 0, side - 1).T[::-1]
        kept = inside & (own.random(len(gene)) < caught[0, row] * caught[1, column])
        index = {"bins": row * side + column, "cells": cells[owner]}
        # Stripes belong to the grid: cells see every transcript inside the square, thinned alike.
        seen = {"bins": kept, "cells": inside & (own.random(len(gene)) < caught.mean() ** 2)}
        for kind in kinds:
            found = index[kind][seen[kind]], gene[seen[kind]]
            ones = np.ones(len(found[0]), dtype=np.float32)
            counts[kind] += sparse.coo_matrix((ones, found), shape=counts[kind].shape).tocsr()
    rows, columns = np.divmod(np.arange(side**2), side)
    centres = (np.column_stack([columns, rows]) + 0.5) * bin_um
    types = pd.Categorical.from_codes(cell_type, [f"type {k + 1}" for k in range(_N_TYPES)])
    known = {"cells": {"cell_type": types}, "bins": {"array_row": rows, "array_col": columns}}
    known["bins"]["stripe_truth"] = factors[0, rows] * factors[1, columns]
    at = {"bins": (centres, _domain_at(centres / width, bend)), "cells": (places, cell_domain)}
    facts = {"n_bins": n_bins, "n_genes": n_genes, "bin_um": float(bin_um)}
    made = {}
    for kind in kinds:
        adata = ad.AnnData(counts[kind], var=_features(kind, n_genes))
        adata.obsm["spatial"] = at[kind][0].astype(float)
        adata.obs["domain_truth"] = pd.Categorical.from_codes(at[kind][1], list(_DOMAINS))
        for name, values in known[kind].items():
            adata.obs[name] = values
        made[kind] = adata[np.diff(adata.X.indptr) > 0].copy()  # as instruments report them
        label(made[kind], kind, seed, {**facts, "stripes": float(stripes)})
        made[kind].uns["genot"]["micrometres_per_unit"] = 1.0
    return made


def _types(rng: np.random.Generator, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of types (domains, types), and of genes and controls (types, features)."""
    share = rng.dirichlet(np.full(_N_TYPES, 0.5), len(_DOMAINS)) + 0.02
    level = rng.normal(0, 1.0, n_genes)
    rate = np.exp(level + 1.0 * rng.normal(size=(_N_TYPES, n_genes)))
    rate /= rate.sum(axis=1, keepdims=True)
    controls = np.full((_N_TYPES, _N_CONTROLS), 1 / 300 / _N_CONTROLS)
    rate = np.hstack([rate * (1 - 1 / 300), controls])
    return share / share.sum(axis=1, keepdims=True), rate


def _domain_at(unit: np.ndarray, bend) -> np.ndarray:
    """Return the code of the domain at points (n, 2) in a frame from 0 to 1."""
    height = unit[:, 1] + 0.08 * bend(unit)
    return np.clip((height * len(_DOMAINS)).astype(int), 0, len(_DOMAINS) - 1)


def _shed(
    rng: np.random.Generator, places: np.ndarray, types: np.ndarray, rate: np.ndarray, mean: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the transcripts of cells: where they land, which feature, and whose they are."""
    number = rng.poisson(mean * rng.gamma(4.0, 0.25, len(places)))
    owner = np.repeat(np.arange(len(places)), number)
    gene = np.empty(len(owner), dtype=np.int32)
    for kind in np.unique(types):
        its = np.flatnonzero(types[owner] == kind)
        edges = rate[kind].cumsum()
        drawn = np.searchsorted(edges, rng.random(len(its)) * edges[-1], side="right")
        gene[its] = np.minimum(drawn, len(edges) - 1)
    return places[owner] + _SHED_UM * rng.normal(size=(len(owner), 2)), gene, owner


def _features(kind: str, n_genes: int) -> pd.DataFrame:
    """Name genes and controls as instruments do."""
    genes = [f"SIM{number + 1:04d}" for number in range(n_genes)]
    form = "NegControlProbe_{:05d}" if kind == "cells" else "Blank-{}"
    var = pd.DataFrame(index=genes + [form.format(number + 1) for number in range(_N_CONTROLS)])
    return var.assign(control=np.arange(len(var)) >= n_genes)
