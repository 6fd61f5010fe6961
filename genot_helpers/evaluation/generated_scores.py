"""Score a generated slice against a real one that was held out, beside baselines and a ceiling.

One number hides more than it shows: an average over neighbours wins on every correlation and has
lost all variance; a copy has perfect variance and the wrong tissue. So a row holds many scores, and
a table the rows that say what each is worth: :func:`score_table`. All slices are compared at the
same number of spots, as every score depends on it. The measures are explained in
:mod:`genot_helpers.evaluation.grid_maps`, :mod:`genot_helpers.evaluation.slice_measures` and
:mod:`genot_helpers.evaluation.profile_measures`, the other rows in
:mod:`genot_helpers.evaluation.baselines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..pairs.comparable import check_overlap, coordinates, label_codes, log_profiles, shared_genes
from ..slices.slices import SliceError, find_labels
from . import slice_measures as measures
from .baselines import baseline_slices, halves, largest_union, subset
from .grid_maps import compare_maps
from .profile_measures import classifier_auc, compare_genes

if TYPE_CHECKING:
    from anndata import AnnData
__all__ = ["score_generated", "score_table"]

_FEWEST_SPOTS = 20


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

    Both are first thinned at random to the same number of spots, their coordinates taken as they
    are: bring them into one frame and unit before. Expression is that of the genes both have,
    without control probes (named Blank...). Counts and other non-negative values are scaled to the
    depth of the held-out slice's median spot and log(1 + x) is taken; values with fractions that
    all stay below 20 are taken for logarithms and left alone.

    Parameters
    ----------
    generated, held_out
        Slices; ``X`` of the same kind in both, ``obsm[spatial_key]`` (n, 2). Nothing is written.
    label_key, generated_label_key
        Columns of ``obs`` with the real and the carried labels; NaN for spots without one. If
        either is missing, the scores that need them are NaN.
    niche_key
        Column of ``obs`` in both slices (a cell type, say) for the score ``niche``; if not given,
        the labels above.
    layer
        Score this layer of the generated slice in place of its ``X``, in the unit of the held-out
        ``X``: ``"mean"`` for the denoised product.
    n_spots
        Spots to compare; the smaller of both slices if not given, or if there are fewer.
    max_genes
        Of more genes, the most variable ones in the held-out slice (variance of the log values) are
        used: most genes of a whole transcriptome are nearly all zeros, and mostly noise.
    seed
        Of the random draws; the same seed gives the same scores.

    Returns
    -------
    ``n_spots``, ``n_genes``, and (in brackets what two samples of one tissue would give):

    - ``map``, ``ssim``, ``density`` [high]:
      :func:`genot_helpers.evaluation.grid_maps.compare_maps`,
    - ``nearest``, ``knn`` [high], ``knn_rmse`` [low]: :func:`.slice_measures.compare_nearest`,
    - ``ari``, ``accuracy`` [high]: :func:`.slice_measures.compare_labels`,
    - ``niche`` [low]: :func:`.slice_measures.compare_niches`,
    - ``variance`` [1], ``gene_gene`` [low]: :func:`.profile_measures.compare_genes`,
    - ``c2st`` [0.5]: :func:`.profile_measures.classifier_auc`,
    - ``sliced_wasserstein`` [low], ``spacing`` [1]: :func:`.slice_measures.compare_points`,
    - ``moran``, ``moran_correlation`` [1]: :func:`.slice_measures.compare_autocorrelation`.

    Raises
    ------
    SliceError
        If the slices share no gene, hold different kinds of values or unusable ones, have too few
        spots, or their coordinates are missing, not finite, or do not overlap.

    Examples
    --------
    >>> score_generated(generated, held_out)["map"]
    """
    q = coordinates(generated, "generated", spatial_key)
    p = coordinates(held_out, "held-out", spatial_key)
    n = min(generated.n_obs, held_out.n_obs, n_spots or held_out.n_obs)
    if n < _FEWEST_SPOTS:
        raise SliceError(f"{n} spots are too few to score: at least {_FEWEST_SPOTS} are needed.")
    check_overlap(p, q)
    if niche_key is not None:
        find_labels(held_out, niche_key)  # a misspelt name is an error
    chosen = subset(held_out.n_obs, n, seed), subset(generated.n_obs, n, seed)
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
        **compare_genes(x, y),
        "c2st": classifier_auc(x, y, seed=seed),
        **measures.compare_points(p, q, seed=seed),
        **measures.compare_autocorrelation(p, q, x, y),
    }


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
    that all four slices have.

    Parameters
    ----------
    generated
        The slice under test, made from ``left`` and ``right`` at ``t``, in their frame.
    left, right, held_out, t
        See :func:`genot_helpers.evaluation.baselines.baseline_slices`. Nothing is written.
    niche_key
        As in :func:`score_generated`; a column of ``left``, ``right`` and ``held_out``. If the
        generated slice does not have it, its spots take the values of the real spots that they come
        from (``obs["genot_source"]``, ``obs["genot_source_spot"]``).
    n_repeats
        How often to halve and draw anew, with seeds ``seed``, ``seed + 1``, ...; the table holds
        the means, and remembers how far the repetitions spread: :func:`.score_reading.with_spread`
        shows both.
    label_key, generated_label_key, spatial_key, n_spots, max_genes, seed
        As in :func:`score_generated`.

    Returns
    -------
    One row each for ``genot``, ``genot_mean`` (if there is ``layers["mean"]``), ``copy_left``,
    ``copy_right``, ``union``, ``neighbour_mean``, ``ceiling``; columns as in
    :func:`score_generated`. ``attrs["n_repeats"]``, and ``attrs["spread"]``: score -> row ->
    standard deviation over the repetitions (divisor n - 1; NaN for one). What differs between
    repetitions is which half of the held-out slice is scored against, which spots are drawn for
    the rows, and the draws of the scores; the generated slice is the same. So it is the noise of
    scoring, for telling rows apart. How much another seed of the interpolation changes, or another
    tissue, is not in it.

    Raises
    ------
    SliceError
        As :func:`score_generated`.
    """
    if n_repeats < 1:
        raise ValueError(f"n_repeats is {n_repeats}; give 1 or more.")
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
        real = held_out[halves(held_out.n_obs, number)[0]]
        scores = {
            name: _score(name, real, *row, seed=number, **options) for name, row in rows.items()
        }
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
