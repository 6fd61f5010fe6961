r"""At which level a carried gene is right: between places, or between the cells of one place.

The squares of a grid split what a gene does into what differs between squares and what differs
between the spots of one square (the law of total variance). A source whose spots are as large as a
square has never seen the second part; whether a carried slice knows any of it is a question of its
own, which a map, an average over spots, cannot answer.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from ..pairs.comparable import coordinates
from ..slices.slices import SliceError
from ..slices.squares import squares
from .carried_scores import carried_log_profiles
from .grid_maps import column_correlation

__all__ = ["score_levels"]


def score_levels(
    carried: AnnData, measured: AnnData, side: float, *, spatial_key: str = "spatial"
) -> pd.DataFrame:
    r"""Correlate a carried slice with the measured one, spot by spot, at three levels.

    With x the log expression of a gene in spot i of square q, and a bar for the mean over a square:

    .. math:: x_i = \bar x_q + (x_i - \bar x_q).

    Parameters
    ----------
    carried
        Same spots in the same order as the measured slice, as from
        :func:`genot_helpers.interpolation.carry_expression`. Spots with ``obs["genot_covered"]``
        False are left out of both.
    measured
        The target as it was measured.
    side
        Side of a square, in the unit of the coordinates: how coarse the source is.
    spatial_key
        Slot of ``obsm`` with the coordinates of the measured slice.

    Returns
    -------
    pandas.DataFrame
        One row for each shared gene:

        - ``spots``: Pearson correlation over all spots; 0 if the carried gene is constant,
        - ``between``: of the means of squares, each weighted by its number of spots,
        - ``within``: of what is left,
        - ``share_within``: share of the measured variance that lies within squares.

        NaN for a gene that does not vary in the measured slice.

    Raises
    ------
    SliceError
        If the spots differ, no gene is shared, or the values cannot be compared.
    ValueError
        If ``side`` is not a positive number.
    """
    if not carried.obs_names.equals(measured.obs_names):
        raise SliceError("Carried and measured slice differ in their spots (obs_names).")
    points = coordinates(measured, "measured", spatial_key)
    if "genot_covered" in carried.obs:
        covered = carried.obs["genot_covered"].to_numpy(dtype=bool)
        carried, measured, points = carried[covered], measured[covered], points[covered]
    _, member = squares(points, side)
    genes, real, ours = carried_log_profiles(carried, measured)
    real, ours = real.toarray(), ours.toarray()
    shape = (member.max() + 1, len(member))
    pool = sparse.csr_matrix((1.0 / np.bincount(member)[member], (member, range(shape[1]))), shape)
    means = [(pool @ values)[member] for values in (real, ours)]
    rests = [values - mean for values, mean in zip((real, ours), means, strict=True)]
    varies = real.std(axis=0) > 1e-9
    pairs = {"spots": (real, ours), "between": means, "within": rests}
    scores = {
        name: np.where(varies, np.nan_to_num(column_correlation(*pair)), np.nan)
        for name, pair in pairs.items()
    }
    total = np.where(varies, real.var(axis=0), np.nan)
    scores["share_within"] = rests[0].var(axis=0) / total
    return pd.DataFrame(scores, index=genes).rename_axis("gene")
