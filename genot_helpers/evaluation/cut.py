"""Two halves of one tissue on two slides, compared along the cut. No annotation is needed.

Tissue that was cut in two continues beyond the cut, so the domains found in the two halves should
meet there. The strip of spots along the cut is taken in both halves, and the domains at each height
are compared (:func:`cut_agreement`), or the embedding (:func:`cut_offset`). Coordinates of the two
slides are unrelated, so height is relative: 0 at the upper end of the cut, 1 at the lower. The
figures are :func:`genot_helpers.plotting.plot_cut` and :func:`genot_helpers.plotting.join_halves`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import theilslopes

from ..slices.geometry import nearest_distance
from ..slices.slices import SliceError

__all__ = [
    "CutAgreement",
    "cut_agreement",
    "cut_offset",
    "cut_strip",
    "domains_by_height",
]

_REACH = 8.0  # spots: rows whose tissue ends further from the outermost one are left out


class CutAgreement(NamedTuple):
    """How well two halves agree along their cut.

    Attributes
    ----------
    agreement
        Share of the strips, height by height, that carry the same domain: 0 to 1.
    shuffled
        The same after the heights of one half were shuffled: what the mere shares of the domains
        give. Mean over shuffles.
    upside_down
        The same with one half upside down.
    """

    agreement: float
    shuffled: float
    upside_down: float


def cut_agreement(
    left: AnnData,
    right: AnnData,
    *,
    key: str = "genot_domain",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
    n_shuffles: int = 200,
    seed: int = 0,
) -> CutAgreement:
    r"""Compare the domains of two halves along their cut.

    With :math:`p_b, q_b` the shares of the domains at height b in the two strips, the agreement is

    .. math:: \frac{1}{B} \sum_b \sum_d \min(p_{bd}, q_{bd}),

    one minus the mean total variation distance.

    Parameters
    ----------
    left, right
        The halves; nothing is written.
    key
        Column of ``obs``; the same names must mean the same domains in both.
    sides
        Where the cut is in the first and in the second half. Two sections of the same half can be
        compared too, by giving the same side twice: as good as agreement can be expected to get.
    width
        See :func:`cut_strip`.
    n_bins
        Heights that are told apart.
    n_shuffles, seed
        Of the shuffled baseline.

    Returns
    -------
    CutAgreement

    Raises
    ------
    SliceError
        If the column is missing, or no height has spots with a domain in both halves.
    """
    shares = [
        domains_by_height(half, key, side, width, n_bins)
        for half, side in zip((left, right), sides, strict=True)
    ]
    names = sorted(set(shares[0].columns) | set(shares[1].columns))
    one, other = (share.reindex(columns=names, fill_value=0.0).to_numpy() for share in shares)

    def agreement(one, other):
        both = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
        return float(np.minimum(one, other)[both].sum() / both.sum()) if both.any() else np.nan

    found = agreement(one, other)
    if np.isnan(found):
        raise SliceError(f"No height along the cut has spots with obs[{key!r}] in both halves.")
    rng = np.random.default_rng(seed)
    shuffled = [agreement(one, rng.permutation(other)) for _ in range(n_shuffles)]
    return CutAgreement(found, float(np.nanmean(shuffled)), agreement(one, other[::-1]))


def cut_offset(
    left: AnnData,
    right: AnnData,
    *,
    use_rep: str = "X_pca",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
) -> float:
    """Measure the jump of an embedding at the cut, in units of its variation along the cut.

    Expression should not change where the knife went. The mean difference between facing pieces of
    the two strips is a shift that only the slides can explain.

    Parameters
    ----------
    left, right, sides, width, n_bins
        As in :func:`cut_agreement`.
    use_rep
        Embedding in ``obsm``.

    Returns
    -------
    float
        Length of the mean difference over heights, divided by the root mean square distance of the
        heights of a strip from their mean. 0: no jump; 1: as large as the tissue's own variation.
    """
    means = []
    for half, side in zip((left, right), sides, strict=True):
        height = cut_strip(half, side, width=width)
        bins = np.minimum((height * n_bins).astype(int), n_bins - 1).to_numpy()
        values = pd.DataFrame(half.obsm[use_rep], index=half.obs_names).loc[height.index]
        means.append(values.groupby(bins).mean().reindex(range(n_bins)).to_numpy(dtype=float))
    both = np.isfinite(means[0]).all(axis=1) & np.isfinite(means[1]).all(axis=1)
    one, other = means[0][both], means[1][both]
    spread = np.sqrt(np.mean([((part - part.mean(0)) ** 2).sum(1).mean() for part in (one, other)]))
    return float(np.linalg.norm((one - other).mean(axis=0)) / spread)


def cut_strip(adata: AnnData, side: str, *, width: float = 3.0) -> pd.Series:
    """Find the spots along a cut, and how high each lies.

    Rows of the tissue (as high as the spots are apart) are followed to their last spot on that
    side; spots within ``width`` of it belong to the strip. Rows that end away from the straight
    line through the others, because the outline recedes there, are left out.

    Parameters
    ----------
    adata
        A slice, with y downwards in ``obsm["spatial"]``.
    side
        ``"left"`` or ``"right"``: where the cut is.
    width
        Width of the strip, in distances between neighbouring spots.

    Returns
    -------
    pandas.Series
        Height from 0 (top) to 1 (bottom) of the spots in the strip, by spot name.

    Raises
    ------
    ValueError
        If the side is neither.
    """
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}: give 'left' or 'right', where the cut is.")
    xy = np.asarray(adata.obsm["spatial"], dtype=float)
    spacing = nearest_distance(xy)
    outwards = xy[:, 0] if side == "right" else -xy[:, 0]
    row = np.floor((xy[:, 1] - xy[:, 1].min()) / spacing).astype(int)
    end = pd.Series(outwards).groupby(row).max()
    end = end[end > end.max() - _REACH * spacing]
    slope, intercept, *_ = theilslopes(end, end.index)  # the cut is straight, and may be tilted
    end = end[np.abs(end - intercept - slope * end.index) < 2 * spacing]
    strip = outwards > end.reindex(row).to_numpy() - (width - 0.5) * spacing  # NaN: not in it
    height = xy[strip, 1]
    height = (height - height.min()) / max(np.ptp(height), np.finfo(float).tiny)
    return pd.Series(height, index=adata.obs_names[strip], name="height")


def domains_by_height(
    adata: AnnData, key: str, side: str, width: float, n_bins: int
) -> pd.DataFrame:
    """Return the share of each domain (columns) at each height (n_bins rows) along the cut."""
    if key not in adata.obs:
        raise SliceError(f"obs[{key!r}] is missing. Columns found: {list(adata.obs.columns)}.")
    height = cut_strip(adata, side, width=width)
    bins = np.minimum((height * n_bins).astype(int), n_bins - 1)
    names = adata.obs.loc[height.index, key].astype(object)
    table = pd.crosstab(bins, names).reindex(range(n_bins), fill_value=0)
    table.columns = table.columns.astype(str)
    return table.div(table.sum(axis=1).clip(lower=1), axis=0)
