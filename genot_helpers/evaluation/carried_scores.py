"""Which genes survive when expression is carried from one technology to the places of another.

A carried gene is compared with the same gene as the target measured it, map against map
(``gene_maps.py``), because spot against spot the counting noise of a bead hides everything else.
The scores are those of the benchmark of Li et al. 2022, doi 10.1038/s41592-022-01480-9. Top to
bottom: one carried slice and its maps; several, with floor, ceiling and verdicts; levels; carried
labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score

from ..arguments import checked
from ..comparable import comparable_places, coordinates, sparse_log_profiles
from ..slices.geometry import squares
from ..slices.slices import SliceError
from .gene_maps import FLAT, MapPair, column_correlation, column_divergence, map_similarity
from .generated_scores import halves
from .measures import averaging

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_FEWEST_SPOTS = 20


@checked
def score_carried(
    carried: AnnData,
    measured: AnnData,
    *,
    n_others: int = 300,
    spatial_key: str = "spatial",
    seed: int = 0,
) -> pd.DataFrame:
    r"""Score every shared gene of a carried slice against the measured one.

    With a and b the smoothed maps of log expression of a gene, measured and carried, over the bins
    that hold spots of both slices, scaled to the same depth.

    Parameters
    ----------
    carried
        From :func:`genot_helpers.interpolation.carry_expression` or
        :func:`genot_helpers.evaluation.nearest_expression`, or any slice in the frame of the
        measured one. Spots with ``obs["genot_covered"]`` False are left out. Nothing is written.
    measured, spatial_key
        The target as it was measured: counts or other plain values, or logarithms in both.
    n_others, seed
        Other genes to compare with, drawn at random; all if there are fewer.

    Returns
    -------
    pandas.DataFrame
        One row for each shared gene, in the order of ``measured.var_names``. In the slices:
        ``measured_mean``, ``carried_mean`` (of ``X``, each in its own unit), ``measured_share``,
        ``carried_share`` (of spots with any of it), ``level`` (log2 of how much more of it the
        carried slice holds, at the same depth). Of maps, NaN where the measured one is constant:

        - ``map``: Pearson correlation of a and b, 0 if b is constant; ``ssim``: structural
          similarity,
        - ``rmse``: root mean square of b - a, in standard deviations of a; it counts a wrong level,
        - ``js``: Jensen-Shannon divergence in bits, 0 to 1, of both maps scaled to sum 1,
        - ``other_gene``: 95 % quantile of the correlation of b with the measured maps of other
          genes; ``identity``: share of these genes that it resembles less than its own. Genes of
          one programme have the same map, so a perfect gene may have a low identity.

    Raises
    ------
    SliceError
        If no gene is shared, coordinates are missing, the slices do not overlap, fewer than 20
        spots are covered, or the values cannot be compared.
    """
    carried, pair, genes, real, ours = _compare(carried, measured, spatial_key)
    scores, maps = _score_maps(pair, real, ours)
    facts = _facts(measured[:, genes].X, carried[:, genes].X, real, ours)
    table = pd.DataFrame(facts | scores | _against_others(*maps, n_others, seed), index=genes)
    flat = np.ptp(maps[0], axis=0) <= FLAT
    columns = ["map", "ssim", "rmse", "js", "other_gene", "identity"]
    table.loc[flat, columns] = np.nan
    return table.rename_axis("gene")


def _compare(carried: AnnData, measured: AnnData, spatial_key: str):
    """Return the covered part, a MapPair, shared genes, and log expression, measured first."""
    if "genot_covered" in carried.obs:
        carried = carried[carried.obs["genot_covered"].to_numpy(dtype=bool)]
    options = {"spatial_key": spatial_key, "min_spots": _FEWEST_SPOTS}
    places = comparable_places(measured, carried, ("measured", "carried"), **options)
    profiles = carried_log_profiles(carried, measured)
    pair = MapPair(*places)
    pair.check_overlap()
    return carried, pair, *profiles


def carried_log_profiles(
    carried: AnnData, measured: AnnData
) -> tuple[pd.Index, sparse.csc_matrix, sparse.csc_matrix]:
    """Return shared genes and their log expression at one depth, measured first."""
    # As a layer, because means of counts have fractions and X would be taken for logarithms.
    as_layer = AnnData(carried.X, var=carried.var[[]], layers={"carried": carried.X})
    genes, real, ours = sparse_log_profiles(as_layer, measured, layer="carried")
    return genes, sparse.csc_matrix(real), sparse.csc_matrix(ours)


def _score_maps(pair: MapPair, real, ours) -> tuple[dict[str, NDArray], tuple[NDArray, NDArray]]:
    """Score maps gene by gene; also return them, (bins of both slices, genes) float32."""
    here = pair.both
    names = ("map", "ssim", "rmse", "js")
    scores = {name: np.full(real.shape[1], np.nan) for name in names}
    maps = tuple(np.empty((here.sum(), real.shape[1]), np.float32) for _ in range(2))
    for part, a, b in pair.blocks(real, ours):
        scores["ssim"][part] = [
            map_similarity(a[..., i], b[..., i], here) for i in range(a.shape[2])
        ]
        a, b = a[here], b[here]
        maps[0][:, part], maps[1][:, part] = a, b
        scores["map"][part] = np.nan_to_num(column_correlation(a, b))
        spread = np.where(a.std(axis=0) > FLAT, a.std(axis=0), np.nan)
        scores["rmse"][part] = np.sqrt(((b - a) ** 2).mean(axis=0)) / spread
        scores["js"][part] = np.nan_to_num(column_divergence(a, b), nan=1.0)  # one is empty
    return scores, maps


def _facts(measured, carried, real, ours) -> dict[str, NDArray]:
    """Mean and share of spots of each gene in both slices, and the ratio of levels."""
    both = [sparse.csc_matrix(matrix) for matrix in (measured, carried)]
    means = [np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel() for matrix in both]
    shares = [matrix.getnnz(axis=0) / matrix.shape[0] for matrix in both]
    levels = [np.asarray(matrix.expm1().mean(axis=0)).ravel() for matrix in (real, ours)]
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log2(levels[1] / levels[0])
    names = ("measured_mean", "carried_mean", "measured_share", "carried_share", "level")
    return dict(zip(names, (*means, *shares, level), strict=True))


def _against_others(real: NDArray, ours: NDArray, n_others: int, seed: int) -> dict[str, NDArray]:
    """Correlate each carried map with the measured maps of other genes."""
    n_genes = real.shape[1]
    usable = np.flatnonzero(np.ptp(real, axis=0) > FLAT)
    drawn = np.sort(np.random.default_rng(seed).permutation(usable)[:n_others])
    if not len(drawn):
        return {name: np.full(n_genes, np.nan) for name in ("other_gene", "identity")}
    real, ours = (_standardised(maps) for maps in (real, ours))
    own = (real * ours).sum(axis=0)
    others = ours.T @ real[:, drawn]
    others[drawn, np.arange(len(drawn))] = np.nan  # leave out the gene itself
    alone = np.isnan(others).all(axis=1)
    others[alone] = 0.0
    quantile = np.where(alone, np.nan, np.nanquantile(others, 0.95, axis=1))
    less = (others < own[:, None]).sum(axis=1) / np.maximum((~np.isnan(others)).sum(axis=1), 1)
    return {"other_gene": quantile, "identity": np.where(alone, np.nan, less)}


def _standardised(maps: NDArray) -> NDArray:
    """Columns with mean 0 and length 1; a constant one becomes 0."""
    maps = maps - maps.mean(axis=0, dtype=np.float64)
    length = np.sqrt((maps**2).sum(axis=0))
    return np.where(length > FLAT, maps / np.where(length > FLAT, length, 1.0), 0.0)


class CarriedMaps(NamedTuple):
    """Maps of some genes, measured and carried, as :func:`score_carried` compares them.

    Attributes
    ----------
    measured, carried
        (bins in x, bins in y, genes) smoothed log expression; NaN in bins without spots of both.
    corner, side
        Lower corner of the first bin, (2,), and side of a bin.
    correlation
        (genes,), the score ``map``.
    """

    measured: NDArray
    carried: NDArray
    corner: NDArray
    side: float
    correlation: NDArray


@checked
def carried_maps(
    carried: AnnData, measured: AnnData, genes: Sequence[str], *, spatial_key: str = "spatial"
) -> CarriedMaps:
    """Return the maps of some genes, for figures.

    Parameters
    ----------
    carried, measured, spatial_key
        As in :func:`score_carried`; errors too.
    genes
        Which genes, of those that both slices have.

    Raises
    ------
    KeyError
        If a gene is not in both.
    """
    _, pair, shared, real, ours = _compare(carried, measured, spatial_key)
    missing = [gene for gene in genes if gene not in shared]
    if missing:
        raise KeyError(f"Genes not in both slices: {', '.join(missing)}.")
    columns = shared.get_indexer(list(genes))
    blocks = list(pair.blocks(real[:, columns], ours[:, columns]))
    maps = [np.concatenate([block[k] for block in blocks], axis=2) for k in (1, 2)]
    correlation = np.nan_to_num(column_correlation(*(one[pair.both] for one in maps)))
    for one in maps:
        one[~pair.both] = np.nan
    return CarriedMaps(*maps, pair.grid.corner, pair.grid.side, correlation)


# -------------------------------------------------------------------------------------------------
# Several carried slices beside a floor and a ceiling, and a verdict for each gene.

VERDICTS = ("as good as measured again", "in part", "lost", "cannot tell")  # the best first


@checked
def score_transfer(
    rows: Mapping[str, AnnData],
    measured: AnnData,
    *,
    n_repeats: int = 1,
    spatial_key: str = "spatial",
    seed: int = 0,
) -> pd.DataFrame:
    """Score several carried slices, the floor and the ceiling, all against the same spots.

    Everything is scored against a random half of the measured spots; the other half is the ceiling.
    Noise in the measurement limits every method (Spearman 1904, doi 10.2307/1412159): if two halves
    correlate with r, a map free of noise can reach √r.

    Parameters
    ----------
    rows
        Name → carried slice, for example of ``carry_expression`` and ``nearest_expression``.
    measured, spatial_key
        The target as it was measured. Nothing is written.
    n_repeats, seed
        How often to halve anew; the table holds the means.

    Returns
    -------
    pandas.DataFrame
        Genes that all slices have, by (row, score): the rows given, ``"other half"`` (the ceiling)
        and ``"shuffled"`` (the other half with its spots shuffled: the floor); scores of
        :func:`score_carried`.

    Raises
    ------
    ValueError
        If no row is given, or one has the name of the floor or the ceiling.
    SliceError
        As :func:`score_carried`.
    """
    taken = {"other half", "shuffled"} & set(rows)
    if taken or not rows:
        found = f"{sorted(taken)}, names of other rows" if taken else "empty"
        raise ValueError(f"rows holds {found}: give one carried slice or more, by other names.")
    tables = []
    for number in range(seed, seed + n_repeats):
        first, second = (measured[half] for half in halves(measured.n_obs, number))
        shuffled = second.copy()
        order = np.random.default_rng([number, 2]).permutation(second.n_obs)
        shuffled.obsm[spatial_key] = np.asarray(second.obsm[spatial_key])[order]
        every = {**rows, "other half": second, "shuffled": shuffled}
        options = {"spatial_key": spatial_key, "seed": number}
        scores = {name: score_carried(one, first, **options) for name, one in every.items()}
        tables.append(pd.concat(scores, axis=1, join="inner", names=["row", "score"]))
    return sum(tables) / n_repeats


@checked
def judge_genes(table: pd.DataFrame, row: str, *, noise: float = 0.99) -> pd.DataFrame:
    """Judge for every gene, by its map alone, whether it survived the transfer.

    Parameters
    ----------
    table, row
        From :func:`score_transfer`, and which carried slice of it.
    noise
        Quantile of the shuffled maps' correlations, over genes, that counts as noise.

    Returns
    -------
    pandas.DataFrame
        Best first: ``map``, ``ceiling`` (the other half), ``bound`` (its root: what a map free of
        noise could reach) and ``verdict``, an ordered categorical: ``as good as measured again``
        (above noise, and at least as good as the other half of the measurement), ``in part`` (above
        noise, but less than that), ``lost`` (not above noise, though the two halves agree),
        ``cannot tell`` (neither agrees).

    Raises
    ------
    KeyError
        If there is no such row.
    """
    rows = list(table.columns.get_level_values(0).unique())
    if row not in rows:
        raise KeyError(f"There is no row {row!r} in the table. Rows: {rows}.")
    found, ceiling = table[row]["map"], table["other half"]["map"]
    limit = float(table["shuffled"]["map"].quantile(noise))
    verdict = np.select(
        [(found > limit) & (found >= ceiling), found > limit, ceiling > limit],
        VERDICTS[:3],
        default=VERDICTS[3],
    )
    judged = {"map": found, "ceiling": ceiling, "bound": np.sqrt(ceiling.clip(lower=0.0))}
    judged["verdict"] = pd.Categorical(verdict, categories=VERDICTS, ordered=True)
    result = pd.DataFrame(judged, index=table.index)
    result.attrs["noise"] = limit
    return result.sort_values(["verdict", "map"], ascending=[True, False], kind="stable")


# -------------------------------------------------------------------------------------------------
# Three levels: between places, within places, and both (the law of total variance). A source whose
# spots are as large as a square has not measured the variation within squares.


@checked
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
    measured, spatial_key
        The target as it was measured, and the slot of its coordinates.
    side
        Side of a square, in their unit: how coarse the source is.

    Returns
    -------
    pandas.DataFrame
        One row for each shared gene: ``spots``, Pearson correlation over all spots (0 if the
        carried gene is constant); ``between``, of the means of squares, weighted by spots;
        ``within``, of what is left; ``share_within``, share of the measured variance that lies
        within squares. NaN for a gene that does not vary in the measured slice.

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


def zeros_by_counting(means: ArrayLike, totals: ArrayLike) -> NDArray[np.float64]:
    """Compute the share of spots without a molecule of a gene that counting alone explains.

    A gene with m molecules per spot on average has none in a spot of relative depth d with
    probability exp(-m d), if molecules are caught at random (Svensson 2020, doi
    10.1038/s41587-019-0379-5).

    Parameters
    ----------
    means, totals
        (n_genes,) mean molecules per spot of each gene; (n_spots,) molecules of each spot.

    Returns
    -------
    ndarray of float64
        (n_genes,) Shares from 0 to 1.

    Raises
    ------
    ValueError
        If a mean is negative, or no spot has a molecule.

    Examples
    --------
    >>> import genot_helpers as gh
    >>> gh.evaluation.zeros_by_counting([0.0, 1.0], [500, 500]).round(3).tolist()
    [1.0, 0.368]
    """
    means, totals = np.asarray(means, dtype=float), np.asarray(totals, dtype=float)
    if (means < 0).any() or not totals.sum() > 0:
        raise ValueError("means should be 0 or more, and totals should sum to more than 0.")
    depth = np.quantile(totals / totals.mean(), np.linspace(0.005, 0.995, 100))
    return np.exp(-np.outer(means, depth)).mean(axis=1)


@checked
def expression_around(
    measured: AnnData, side: float, *, n_neighbors: int = 25, spatial_key: str = "spatial"
) -> AnnData:
    """Predict each spot from the measured spots near it that lie in other squares.

    About the most that place alone can tell of a spot: what a perfect twin of the tissue, measured
    with spots as large as a square, would say.

    Parameters
    ----------
    measured, side, spatial_key
        As for :func:`score_levels`. Nothing is written.
    n_neighbors
        Nearest spots, the spot itself among them, of which those in other squares count.

    Returns
    -------
    AnnData
        Spots and genes of ``measured``, ``X`` (csr, float32) their sum over those neighbours;
        ``obs["genot_covered"]`` is False where all neighbours lie in the spot's own square. For
        :func:`score_levels`, which brings all spots to one depth.

    Raises
    ------
    SliceError, ValueError
        If coordinates are missing, or ``side`` is not a positive number.
    """
    points = coordinates(measured, "measured", spatial_key)
    _, member = squares(points, side)
    weights = averaging(points, points, n_neighbors)
    rows = np.repeat(np.arange(len(points)), np.diff(weights.indptr))
    weights.data = (member[rows] != member[weights.indices]).astype(float)
    weights.eliminate_zeros()
    values = sparse.csr_matrix(weights @ sparse.csr_matrix(measured.X), dtype=np.float32)
    around = AnnData(values, obs=measured.obs[[]].copy(), var=measured.var[[]].copy())
    around.obsm["spatial"] = points
    around.obs["genot_covered"] = np.diff(weights.indptr) > 0
    return around


@checked
def flat_transfer(
    scores: pd.DataFrame, levels: pd.DataFrame, rows: Mapping[str, str]
) -> dict[str, float]:
    """Write the means of both tables as one flat dictionary, for ``metrics.json``.

    Parameters
    ----------
    scores, levels
        From :func:`score_transfer`; means of :func:`score_levels`, a row for each carried slice.
    rows
        Short name → row of the tables; a row that a table lacks is passed over.

    Returns
    -------
    dict
        ``"<short name>.<score>"`` → mean over genes, of map, ssim, rmse, js, spots, between,
        within.
    """
    mean, flat = scores.mean(), {}
    for short, name in rows.items():
        for score in ("map", "ssim", "rmse", "js"):
            if (name, score) in mean.index:
                flat[f"{short}.{score}"] = float(mean[name, score])
        for part in ("spots", "between", "within"):
            if name in levels.index:
                flat[f"{short}.{part}"] = float(levels.loc[name, part])
    return flat


# -------------------------------------------------------------------------------------------------
# Labels that were carried along.


@checked
def score_carried_labels(
    rows: Mapping[str, AnnData],
    measured: AnnData,
    *,
    key: str = "genot_domain",
    truth: str = "domain_truth",
) -> pd.DataFrame:
    """Compare carried labels with the annotation of the spots that they were carried to.

    Parameters
    ----------
    rows
        Name → carried slice with ``obs[key]`` and ``obs["genot_confidence"]``, as from
        ``carry_expression(..., label_key=...)``; slices without are left out. Same spots in the
        same order as ``measured``.
    measured, key, truth
        The target, and the columns of ``obs`` of carried and own labels.

    Returns
    -------
    pandas.DataFrame
        One row for each slice: ``cells`` that have both labels; ``nmi``, normalised mutual
        information; ``right``, the share with the same label, ``right, surer half`` and ``right,
        other half``: above the median confidence and not above it. The last three are NaN where
        most labels of one side are unknown to the other, as different words cannot be compared.
    """
    table = {}
    for name, one in rows.items():
        if key not in one.obs or "genot_confidence" not in one.obs:
            continue
        both = (one.obs[key].notna() & measured.obs[truth].notna().to_numpy()).to_numpy()
        ours = one.obs[key].astype(str).to_numpy()[both]
        own = measured.obs[truth].astype(str).to_numpy()[both]
        confidence = one.obs["genot_confidence"].to_numpy()
        sure = (confidence > np.median(confidence))[both]
        right = (ours == own).astype(float)
        if not have_one_vocabulary(ours, own):
            right[:] = np.nan
        parts = {"right": right, "right, surer half": right[sure]}
        parts["right, other half"] = right[~sure]
        table[name] = {
            "cells": int(both.sum()),
            "nmi": normalized_mutual_info_score(own, ours) if both.any() else np.nan,
            **{name: float(part.mean()) if len(part) else np.nan for name, part in parts.items()},
        }
    return pd.DataFrame.from_dict(table, orient="index")


@checked
def have_one_vocabulary(one, other) -> bool:
    """Say whether more than half of the labels of two columns stand in both."""
    first, second = (set(pd.Series(labels).dropna().astype(str)) for labels in (one, other))
    return len(first & second) > 0.5 * max(len(first | second), 1)
