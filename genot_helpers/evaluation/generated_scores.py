"""Score a generated slice against a real one that was held out, beside baselines and a ceiling.

An average over neighbours has the best correlations and has lost all variance; a copy of a
neighbouring slice has perfect variance and the wrong tissue. So :func:`score_generated` returns
many scores, and :func:`score_table` puts baselines and a ceiling beside them, all at the same
number of spots. Top to bottom: one slice, the table, a whole stack, the
baselines, the draws of spots. ``reading_scores.py`` reads a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from ..arguments import checked
from ..comparable import (
    check_overlap,
    comparable_places,
    coordinates,
    label_codes,
    log_profiles,
    shared_genes,
)
from ..interpolation.stack import PATHS, depths_of_stack, interpolate_stack
from ..slices.sections import by_pair, by_section
from ..slices.slices import SliceError, find_labels
from ..slices.values import plain_matrix
from . import measures
from .gene_maps import compare_maps
from .measures import averaging

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


_FEWEST_SPOTS = 20
_OF_PLACE = ("density", "sliced_wasserstein", "spacing")  # scores that need no expression


@checked
def score_generated(
    generated: AnnData,
    held_out: AnnData,
    *,
    label_key: str = "domain_truth",
    generated_label_key: str = "genot_domain",
    niche_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    n_spots: int | None = None,
    max_genes: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """Score a generated slice against a held-out real one.

    Both are first thinned at random, by the names of their spots, to the same number; coordinates
    are taken as they are. Expression is that of the genes both have, without control probes (named
    Blank...). Counts and other non-negative values are scaled to the depth of the held-out slice's
    median spot and log(1 + x) is taken; values with fractions that all stay below 20 are taken for
    logarithms.

    Parameters
    ----------
    generated, held_out, spatial_key
        Slices in one frame and unit; ``X`` of the same kind in both. Nothing is written.
    label_key, generated_label_key
        Columns of ``obs`` with the real and the carried labels; NaN for spots without one. If
        either is missing, the scores that need them are NaN.
    niche_key
        Column of ``obs`` in both slices (a cell type, say) for the scores of kinds of spots; if not
        given, the labels above.
    layer
        Layer of the generated slice to score in place of its ``X``, in the unit of the held-out
        ``X``: ``"mean"`` for the denoised product.
    n_spots
        Spots to compare; the smaller of both slices if not given, or if there are fewer.
    max_genes
        Of more genes, the most variable ones in the held-out slice (variance of the log values).
    seed
        Of the random draws; the same seed gives the same scores.

    Returns
    -------
    ``n_spots``, ``n_genes``, and (in brackets what two samples of one tissue would give):

    - ``map``, ``ssim``, ``density`` [high]: :func:`.gene_maps.compare_maps`,
    - ``nearest``, ``knn`` [high], ``knn_rmse`` [low]: :func:`.measures.compare_nearest`,
    - ``ari``, ``accuracy`` [high]: :func:`.measures.compare_labels`,
    - ``niche`` [low]: :func:`.measures.compare_niches`,
    - ``variance`` [1], ``gene_gene`` [low]: :func:`.measures.compare_genes`,
    - ``c2st`` [0.5]: :func:`.measures.classifier_auc`,
    - ``sliced_wasserstein`` [low], ``spacing`` [1]: :func:`.measures.compare_points`,
    - ``moran``, ``moran_correlation`` [1]: :func:`.measures.compare_autocorrelation`,
    - ``soft_accuracy`` [high], ``grid_l1``, ``grid_kl``, ``type_abundance`` [low]:
      :func:`.measures.compare_types`,
    - ``soft_spearman`` [high]: :func:`.measures.soft_spearman`,
    - ``ghosts`` [0]: :func:`.measures.excess_bands`.

    Raises
    ------
    SliceError
        If the slices share no gene, hold different kinds of values or unusable ones, have too few
        spots, or their coordinates are missing, not finite, or do not overlap.
    """
    q = coordinates(generated, "generated", spatial_key)
    p = coordinates(held_out, "held-out", spatial_key)
    n = min(generated.n_obs, held_out.n_obs, n_spots or held_out.n_obs)
    if n < _FEWEST_SPOTS:
        raise SliceError(f"{n} spots are too few to score: at least {_FEWEST_SPOTS} are needed.")
    check_overlap(p, q)
    if niche_key is not None:
        find_labels(held_out, niche_key)  # raises for a misspelt name
    chosen = [by_name(a)[subset(a.n_obs, n, seed)] for a in (held_out, generated)]
    p, q = p[chosen[0]], q[chosen[1]]
    real, ours = held_out[chosen[0]], generated[chosen[1]]
    x, y = log_profiles(ours, real, layer=layer, max_genes=max_genes)
    labels = label_codes(ours, real, generated_label_key, label_key)
    kinds = labels if niche_key is None else label_codes(ours, real, niche_key, niche_key)
    return {
        "n_spots": n,
        "n_genes": x.shape[1],
        **compare_maps(p, q, x, y),
        **measures.compare_nearest(p, q, x, y),
        **measures.compare_labels(p, q, *labels),
        "niche": measures.compare_niches(p, q, *kinds),
        **measures.compare_genes(x, y),
        "c2st": measures.classifier_auc(x, y, seed=seed),
        **measures.compare_points(p, q, seed=seed),
        **measures.compare_autocorrelation(p, q, x, y),
        **measures.compare_types(p, q, *kinds),
        "soft_spearman": measures.soft_spearman(p, q, x, y),
        "ghosts": measures.excess_bands(p, q, *labels),
    }


@checked
def score_table(
    generated: AnnData,
    left: AnnData,
    right: AnnData,
    held_out: AnnData,
    *,
    t: float = 0.5,
    label_key: str = "domain_truth",
    generated_label_key: str = "genot_domain",
    niche_key: str | None = None,
    spatial_key: str = "spatial",
    n_spots: int | None = None,
    max_genes: int = 500,
    n_repeats: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a generated slice, the baselines and the ceiling, all alike.

    Every row is scored against the same random half of the held-out slice, with as many spots as
    that half has, or fewer if a slice has fewer; the ceiling is the other half. Genes are those
    that all four slices have. Two halves never share a place, as no two samples would: the ceiling
    of the scores of place (``density``, ``sliced_wasserstein``, ``spacing``) is that of two
    independent draws from the whole held-out slice.

    Parameters
    ----------
    generated
        The slice under test, made from ``left`` and ``right`` at ``t``, in their frame.
    left, right, held_out, t
        See :func:`baseline_slices`. Nothing is written.
    niche_key
        As in :func:`score_generated`. If the generated slice does not have it, its spots take the
        values of the real spots that they come from (``obs["genot_source"]``,
        ``obs["genot_source_spot"]``).
    n_repeats
        How often to halve and draw anew, with seeds ``seed``, ``seed + 1``, ...
    label_key, generated_label_key, spatial_key, n_spots, max_genes, seed
        As in :func:`score_generated`.

    Returns
    -------
    Means over the repetitions, one row each for ``genot``, ``genot_mean`` (if there is
    ``layers["mean"]``), ``copy_left``, ``copy_right``, ``union``, ``neighbour_mean``, ``ceiling``;
    columns as in :func:`score_generated`. ``attrs["n_repeats"]``, and ``attrs["spread"]``: score ->
    row -> standard deviation over the repetitions (divisor n - 1; NaN for one), the noise of
    scoring. It is not what another seed of the interpolation or another tissue would change.

    Raises
    ------
    SliceError
        As :func:`score_generated`.
    """
    genes = shared_genes(
        {"generated": generated, "left": left, "right": right, "held-out": held_out}
    )
    if niche_key is not None and niche_key not in generated.obs:
        generated = _with_source_values(generated, left, right, niche_key)
    generated, left, right, held_out = (s[:, genes] for s in (generated, left, right, held_out))
    n = min(held_out.n_obs // 2, generated.n_obs, left.n_obs, right.n_obs, n_spots or np.inf)
    n = int(min(n, largest_union(left.n_obs, right.n_obs, t)))
    names = dict(label_key=label_key, spatial_key=spatial_key)
    options = dict(niche_key=niche_key, n_spots=n, max_genes=max_genes, **names)
    tables = []
    for number in range(seed, seed + n_repeats):
        rows = {"genot": (generated, None, generated_label_key)}
        if "mean" in generated.layers:
            rows["genot_mean"] = generated, "mean", generated_label_key
        baselines = baseline_slices(left, right, held_out, t=t, n_spots=n, seed=number, **names)
        for name, adata in baselines.items():
            rows[name] = adata, "mean" if name == "neighbour_mean" else None, "genot_domain"
        real = held_out[halves_of(held_out, number)[0]]
        scores = {
            name: _score(name, real, *row, seed=number, **options) for name, row in rows.items()
        }
        scores["ceiling"] |= _ceiling_of_place(held_out, spatial_key, n, number)
        tables.append(pd.DataFrame.from_dict(scores, orient="index"))
    table = sum(tables) / n_repeats
    spread = np.std([t.to_numpy() for t in tables], axis=0, ddof=1) if n_repeats > 1 else np.nan
    # Plain dictionaries: pandas compares attrs when it joins tables, and frames do not compare.
    table.attrs["n_repeats"] = n_repeats
    table.attrs["spread"] = pd.DataFrame(spread, table.index, table.columns).to_dict()
    return table


def _score(
    row: str, held_out: AnnData, adata: AnnData, layer: str | None, label: str, **options: Any
) -> dict[str, float]:
    """Score one row of the table; an error says which."""
    try:
        return score_generated(adata, held_out, layer=layer, generated_label_key=label, **options)
    except SliceError as error:
        raise SliceError(f"Row {row} cannot be scored. {error}") from error


def _ceiling_of_place(
    held_out: AnnData, spatial_key: str, n_spots: int, seed: int
) -> dict[str, float]:
    """Score the places of two independent draws from the held-out slice, thinned alike."""
    rows = by_name(held_out)
    points = coordinates(held_out, "held-out", spatial_key)[rows]
    drawn = [points[subset(len(points), n_spots, [seed, number])] for number in (4, 5)]
    same = np.zeros((n_spots, 1))  # no gene is looked at
    found = compare_maps(*drawn, same, same) | measures.compare_points(*drawn, seed=seed)
    return {score: found[score] for score in _OF_PLACE}


def _with_source_values(generated: AnnData, left: AnnData, right: AnnData, key: str) -> AnnData:
    """Return the generated slice with the value of the real spot that each spot comes from."""
    if not {"genot_source", "genot_source_spot"} <= set(generated.obs):
        return generated
    source, spot = generated.obs["genot_source"], generated.obs["genot_source_spot"]
    values = pd.Series(np.nan, index=generated.obs_names, dtype=object)
    for name, adata in (("left", left), ("right", right)):
        here = (source == name).to_numpy()
        if key in adata.obs:
            found = adata.obs[key].astype(object).reindex(spot[here].astype(object))
            values[here] = found.to_numpy()
    generated = generated.copy()
    generated.obs[key] = pd.Categorical(values)
    return generated


@by_section(writes=False)
@checked
def score_stack(
    sections: Sequence[AnnData],
    *,
    depths: Sequence[float] | None = None,
    paths: Sequence[str] = PATHS,
    n_repeats: int = 3,
    seed: int = 0,
    niche_key: str | None = None,
    spatial_key: str = "spatial",
    **options,
) -> pd.DataFrame:
    """Generate every inner section of a stack from the others, by each path, and score it.

    Parameters
    ----------
    sections, depths, spatial_key
        As for :func:`genot_helpers.interpolation.interpolate_stack`; three sections at least.
    paths
        Which ways through the gap to compare.
    n_repeats, niche_key, seed
        As for :func:`score_table`.
    **options
        Of :func:`genot_helpers.interpolation.prepare_interpolation`.

    Returns
    -------
    pandas.DataFrame
        Rows: number of the section left out (in the order given), and row: each of ``paths``,
        ``copy`` (the one with the higher ``map``), ``union`` and ``ceiling``. Columns as in
        :func:`score_generated`. ``attrs["spread"]``: largest standard deviation of each score over
        the repetitions.

    Raises
    ------
    SliceError
        If there are fewer than three sections, or as for both functions above.
    """
    sections = list(sections)
    if len(sections) < 3:
        raise SliceError(f"sections has {len(sections)} slices: three are needed to leave one out.")
    at = depths_of_stack(sections, depths)
    order, rows, spread = np.argsort(at), {}, {}
    for place in range(1, len(order) - 1):
        number, sides = order[place], (order[place - 1], order[place + 1])
        others = np.delete(np.arange(len(sections)), number)
        left, right = (sections[side] for side in sides)
        t = float((at[number] - at[sides[0]]) / (at[sides[1]] - at[sides[0]]))
        for path in paths:
            generated = interpolate_stack(
                [sections[i] for i in others], [float(at[number])], depths=at[others], path=path,
                seed=seed, spatial_key=spatial_key, **options,
            )[0]  # fmt: skip
            table = score_table(
                generated, left, right, sections[number], t=t, niche_key=niche_key,
                spatial_key=spatial_key, n_repeats=n_repeats, seed=seed,
            )  # fmt: skip
            rows[number, path] = table.loc["genot"]
            for row, values in pd.DataFrame(table.attrs["spread"]).items():
                spread[row] = max(spread.get(row, 0.0), np.nan_to_num(values["genot"]))
        better = table.loc[["copy_left", "copy_right"], "map"].idxmax()
        rows |= {(number, "copy"): table.loc[better]}
        rows |= {(number, row): table.loc[row] for row in ("union", "ceiling")}
    result = pd.DataFrame(rows).T.rename_axis(index=["left_out", "row"])
    result.attrs["spread"] = {score: float(value) for score, value in spread.items()}
    return result


# -------------------------------------------------------------------------------------------------
# Baselines: the left or the right slice as it is, a random mixture of both, the mean of the nearest
# spots of both; and as a ceiling a fresh sample of the held-out tissue itself.


@checked
def baseline_slices(
    left: AnnData,
    right: AnnData,
    held_out: AnnData,
    *,
    t: float = 0.5,
    label_key: str = "domain_truth",
    spatial_key: str = "spatial",
    n_neighbors: int = 5,
    n_spots: int | None = None,
    seed: int = 0,
) -> dict[str, AnnData]:
    """Make the slices that a generated slice is compared with.

    Parameters
    ----------
    left, right, held_out
        Three slices in one coordinate frame. They are not changed.
    t
        Position of the held-out slice between left (0) and right (1).
    label_key, spatial_key
        Column of ``obs`` with the annotation (may be missing), slot of ``obsm`` with the
        coordinates.
    n_neighbors
        Spots of each slice in the mean of neighbours.
    n_spots
        Spots of each baseline, or as many as there are. If not given, copies are whole and the
        union has (1 - t) of the left plus t of the right slice's number.
    seed
        Of all random draws. The same seed gives the same slices.

    Returns
    -------
    Dictionary of new slices, each with the annotation in ``obs["genot_domain"]``:

    - ``copy_left``, ``copy_right``: the neighbours as they are,
    - ``union``: spots of both, a share of 1 - t from the left (``obs["genot_source"]``),
    - ``neighbour_mean``: the places of the union; ``X`` and ``layers["mean"]`` are (1 - t) times
      the mean over the nearest left spots plus t times that over the nearest right ones. No counts:
      score it with ``layer="mean"``,
    - ``ceiling``: half of the held-out slice, to be scored against the other half.

    Raises
    ------
    SliceError
        If left and right share no gene, or coordinates are missing.
    """
    genes = shared_genes({"left": left, "right": right})
    half = halves_of(held_out, seed)[1]
    union = _union(left[:, genes], right[:, genes], t, spatial_key, n_spots, seed)
    slices = {
        "copy_left": left[draw_spots(left, n_spots, seed)].copy(),
        "copy_right": right[draw_spots(right, n_spots, seed + 1)].copy(),
        "union": union,
        "neighbour_mean": union.copy(),
        "ceiling": held_out[half[subset(len(half), n_spots, 0)]].copy(),
    }
    mean = sum(
        share * (averaging(s.obsm[spatial_key], union.obsm[spatial_key], n_neighbors) @ s.X)
        for s, share in ((left[:, genes], 1 - t), (right[:, genes], t))
    )
    if not sparse.issparse(mean):  # a sparse plus a dense one would be a numpy.matrix
        mean = np.asarray(mean)
    slices["neighbour_mean"].X = mean.astype(np.float32)
    slices["neighbour_mean"].layers["mean"] = slices["neighbour_mean"].X
    for adata in slices.values():
        if label_key in adata.obs:
            adata.obs["genot_domain"] = pd.Categorical(adata.obs[label_key])
    return slices


@by_pair
@checked(n_neighbors=(1, 100_000))
def nearest_expression(
    source: AnnData, target: AnnData, *, n_neighbors: int = 1, spatial_key: str = "spatial"
) -> AnnData:
    """Carry expression without transport: each target spot gets its nearest source spots.

    The trivial baseline of :func:`genot_helpers.interpolation.carry_expression`.

    Parameters
    ----------
    source, target, spatial_key
        Slices in one frame and unit. Neither is changed.
    n_neighbors
        Source spots to average, 1 or more; 1 copies the nearest one, counts and all.

    Returns
    -------
    AnnData
        As from ``carry_expression``; every spot is covered.

    Raises
    ------
    SliceError
        If coordinates are missing or the slices do not overlap.
    """
    at, points = comparable_places(target, source, ("target", "source"), spatial_key=spatial_key)
    values = averaging(points, at, n_neighbors) @ sparse.csr_matrix(plain_matrix(source.X))
    carried = ad.AnnData(
        sparse.csr_matrix(values, dtype=np.float32), obs=target.obs.copy(), var=source.var.copy()
    )
    carried.obsm["spatial"] = at
    carried.obs["genot_covered"] = True
    carried.uns["genot"] = {
        "source": "Expression of the nearest spots of another slice.",
        "n_neighbors": int(n_neighbors),
    }
    return carried


def halves(n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Split the numbers below n into two random halves of equal size, each sorted."""
    order = np.random.default_rng([seed, 1]).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 : 2 * (n // 2)])


def subset(n: int, n_spots: int | None, seed: int | list[int]) -> NDArray:
    """Draw ``n_spots`` of the numbers below n, sorted; all of them if there are not more."""
    if n_spots is None or n_spots >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:n_spots])


def by_name(adata: AnnData) -> NDArray:
    """Return the rows of a slice in the order of its names: what is drawn from them stays drawn."""
    return np.argsort(adata.obs_names.to_numpy(dtype=str), kind="stable")


def draw_spots(adata: AnnData, n_spots: int | None, seed: int) -> NDArray:
    """Draw rows of a slice, sorted, by the names of its spots; all of them if there are fewer."""
    return np.sort(by_name(adata)[subset(adata.n_obs, n_spots, seed)])


def halves_of(adata: AnnData, seed: int) -> tuple[NDArray, NDArray]:
    """Split the rows of a slice into two random halves by the names of its spots; each in order."""
    names = by_name(adata)
    return tuple(names[half] for half in halves(adata.n_obs, seed))


def largest_union(n_left: int, n_right: int, t: float) -> int:
    """Spots that a union can have with a share of t from the right and no spot used twice."""
    return int(min(n_left / (1 - t) if t < 1 else np.inf, n_right / t if t > 0 else np.inf))


def _union(
    left: AnnData, right: AnnData, t: float, spatial_key: str, n_spots: int | None, seed: int
) -> AnnData:
    """Draw spots of both slices."""
    n_all = largest_union(left.n_obs, right.n_obs, t)
    wanted = round((1 - t) * left.n_obs + t * right.n_obs) if n_spots is None else n_spots
    n = min(wanted, n_all)
    n_right = min(round(t * n), right.n_obs)
    n_left = min(n - n_right, left.n_obs)
    parts = {}
    for name, adata, size, offset in (("left", left, n_left, 2), ("right", right, n_right, 3)):
        chosen = adata[draw_spots(adata, size, seed + offset)]
        # Without other slots, which may not fit together.
        parts[name] = ad.AnnData(
            chosen.X, obs=chosen.obs, var=chosen.var[[]], obsm={"spatial": chosen.obsm[spatial_key]}
        )
    union = ad.concat(parts, label="genot_source", index_unique="-")
    if spatial_key != "spatial":
        union.obsm[spatial_key] = union.obsm.pop("spatial")
    return union
