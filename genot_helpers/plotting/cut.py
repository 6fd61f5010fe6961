"""Two halves of one tissue on two slides: join them in a figure, compare them along the cut.

Tissue that was cut in two goes on beyond the cut, so the domains found in the two halves should
meet there. That can be checked without any annotation: take the strip of spots along the cut in
both halves, and compare, from top to bottom, which domains it runs through. Coordinates of the two
slides have nothing to do with each other, so height is relative: 0 at the upper end of the cut, 1
at the lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import NamedTuple

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.stats import theilslopes

from ..slices.slices import SliceError
from .plotting import micrometres_per_unit

__all__ = [
    "CutAgreement",
    "cut_agreement",
    "cut_offset",
    "cut_strip",
    "join_halves",
    "plot_cut",
]

REACH = 8.0  # spots: rows whose tissue ends further than this from the outermost one do not count


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
    spacing = float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    outwards = xy[:, 0] if side == "right" else -xy[:, 0]
    row = np.floor((xy[:, 1] - xy[:, 1].min()) / spacing).astype(int)
    end = pd.Series(outwards).groupby(row).max()
    end = end[end > end.max() - REACH * spacing]
    slope, intercept, *_ = theilslopes(end, end.index)  # the cut is straight, and may be tilted
    end = end[np.abs(end - intercept - slope * end.index) < 2 * spacing]
    strip = outwards > end.reindex(row).to_numpy() - (width - 0.5) * spacing  # NaN: not in it
    height = xy[strip, 1]
    height = (height - height.min()) / max(np.ptp(height), np.finfo(float).tiny)
    return pd.Series(height, index=adata.obs_names[strip], name="height")


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
        _profile(half, key, side, width, n_bins)
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


def _profile(adata: AnnData, key: str, side: str, width: float, n_bins: int) -> pd.DataFrame:
    """Return the share of each domain (columns) at each height (n_bins rows) along the cut."""
    if key not in adata.obs:
        raise SliceError(f"obs[{key!r}] is missing. Columns found: {list(adata.obs.columns)}.")
    height = cut_strip(adata, side, width=width)
    bins = np.minimum((height * n_bins).astype(int), n_bins - 1)
    names = adata.obs.loc[height.index, key].astype(object)
    table = pd.crosstab(bins, names).reindex(range(n_bins), fill_value=0)
    table.columns = table.columns.astype(str)
    return table.div(table.sum(axis=1).clip(lower=1), axis=0)


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


def join_halves(
    left: Mapping[str, AnnData],
    right: Mapping[str, AnnData],
    *,
    sides: tuple[str, str] = ("right", "left"),
    gap_um: float = 300.0,
) -> AnnData:
    """Put all slices into one AnnData, halves side by side and sections below each other.

    For figures and for scores over all slices: one colour per domain everywhere. Halves are
    shifted, never turned, until the middles of their cuts lie at one height.

    Parameters
    ----------
    left, right
        Name → slice, section by section: the first of each make a pair.
    sides
        Where the cut is in each.
    gap_um
        Empty space between slices, µm.

    Returns
    -------
    AnnData
        A copy: genes that all slices have; ``obs["slice"]``; ``obsm["spatial"]`` in µm where the
        scale of every slice is known, else in its own units; spot names end in ``-<slice>``.
        ``uns["genot"]`` says whether anything in it is simulated.
    """
    placed: dict[str, AnnData] = {}
    top = 0.0
    for pair in zip_longest(left.items(), right.items()):
        halves = [(*half, side) for half, side in zip(pair, sides, strict=True) if half is not None]
        row, begin = {}, 0.0
        for name, adata, side in halves:
            xy = np.asarray(adata.obsm["spatial"], float) * (micrometres_per_unit(adata) or 1.0)
            strip = adata.obs_names.isin(cut_strip(adata, side).index)
            middle = (xy[strip, 1].min() + xy[strip, 1].max()) / 2
            row[name] = xy - [xy[:, 0].min() - begin, middle]
            begin = row[name][:, 0].max() + gap_um
        highest = min(xy[:, 1].min() for xy in row.values())
        for name, adata, _ in halves:
            placed[name] = adata.copy()
            placed[name].obsm["spatial"] = row[name] + [0.0, top - highest]
        top = max(placed[name].obsm["spatial"][:, 1].max() for name in row) + 2 * gap_um
    joined = ad.concat(placed, label="slice", index_unique="-")
    facts = [adata.uns.get("genot", {}) for adata in placed.values()]
    known = all(micrometres_per_unit(adata) for adata in (*left.values(), *right.values()))
    joined.uns["genot"] = {
        "simulated": any(bool(fact.get("simulated")) for fact in facts),
        "source": str(facts[0].get("source", "")),
        **({"micrometres_per_unit": 1.0} if known else {}),
    }
    return joined


def plot_cut(
    left: AnnData,
    right: AnnData,
    colours: Mapping[str, str],
    *,
    key: str = "genot_domain",
    sides: tuple[str, str] = ("right", "left"),
    width: float = 3.0,
    n_bins: int = 20,
    titles: tuple[str, str] = ("left half", "right half"),
) -> Figure:
    """Draw which domains both sides of a cut run through, height by height.

    Parameters
    ----------
    left, right, key, sides, width, n_bins
        As in :func:`cut_agreement`.
    colours
        Domain → colour, see :func:`genot_helpers.plotting.colour_domains`.
    titles
        What to call the halves.

    Returns
    -------
    matplotlib.figure.Figure
        Bars back to back: the shares of the domains left and right of the cut. Where the halves
        agree the figure is its own mirror image.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 4.5), sharey=True, layout="constrained")
    heights = (np.arange(n_bins) + 0.5) / n_bins
    shown: dict[str, object] = {}
    for half, side, title, ax in zip((left, right), sides, titles, axes, strict=True):
        shares = _profile(half, key, side, width, n_bins)
        begin = np.zeros(n_bins)
        for name in (name for name in colours if name in shares):
            options = {"height": 1 / n_bins, "color": colours[name], "edgecolor": "white"}
            shown[name] = ax.barh(heights, shares[name], left=begin, linewidth=0.4, **options)
            begin += shares[name].to_numpy()
        ax.set(title=title, xlabel="share of the strip", xlim=(0, 1), ylim=(1, 0))
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].invert_xaxis()
    axes[0].set_ylabel("height along the cut (0: top)")
    figure.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False)
    return figure
