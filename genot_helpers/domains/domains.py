"""Spatial domains: one front door, votes that smooth borders, and how many domains to ask for.

Two models are at hand. Where neighbouring spots look alike, each spot already looks like its
domain: a Gaussian mixture of smoothed components fits (:func:`cluster_mixture`). Where each spot
differs from its neighbours, as a cell does among cells of other types, a domain is a composition of
types (:func:`cluster_composition`). What tells the two apart, without any label, is the share of
reproducible variance that neighbours agree on (:func:`neighbour_agreement`); :func:`find_domains`
measures it and runs the model that fits. Several slices are clustered together, so that a domain
carries the same name in each. Labels made by people are never an input here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from ..arguments import checked
from ..encoder.closed_form import spectral_embedding
from ..preprocessing.graph import spatial_graph
from ..preprocessing.preprocessing import preprocess
from ..slices.geometry import positions_of
from ..slices.sections import Slices, by_section, named_slices, rows_of_each
from ..slices.slices import SliceError, check_drawable, record
from ..slices.values import holds_counts, holds_logarithms, plain_matrix
from .composition import CompositionDomains, check_number_of_domains, cluster_composition
from .composition_field import share_around
from .mixture import (
    Consensus,
    Mixture,
    best_partitions,
    cluster_mixture,
    confidence_key,
    stacked_embedding,
)

THRESHOLD = 0.65
"""Share of reproducible variance that neighbours agree on, below which compositions fit.

Midway, rounded, between two slices on each of which one model is clearly better: .49 (osmFISH,
mouse cortex; compositions) and .86 (Visium, human cortex 151673; mixture).
"""

_CLOSE = 0.1  # so near the threshold, both models are worth a look
_MODELS = {
    "composition": "domains are compositions of cell types (cluster_composition)",
    "mixture": "each spot looks like its domain (cluster_mixture on smoothed components)",
}


class FoundDomains(NamedTuple):
    """What :func:`find_domains` did and found; ``print(found.why)`` says it in one sentence.

    Attributes
    ----------
    model
        "composition" or "mixture", the one that was run.
    agreement_of_neighbours
        Slice name → share of reproducible variance that neighbours agree on.
    why
        One sentence: what was measured, and which model was run for that reason.
    written
        Slots that were not there before, or were written anew, in every slice.
    result
        From :func:`cluster_composition` or :func:`cluster_mixture`.
    """

    model: str
    agreement_of_neighbours: dict[str, float]
    why: str
    written: list[str]
    result: CompositionDomains | Consensus


def _as_counts(adata: AnnData) -> sparse.csr_matrix:
    """Whole numbers to split: counts, or the closest to counts that the values allow."""
    X = sparse.csr_matrix(plain_matrix(adata.X), dtype=np.float64, copy=True)
    if not (np.isfinite(X.data).all() and (X.data >= 0).all()):
        raise SliceError("X holds values that are negative or not finite; give counts or values.")
    if holds_counts(adata):
        return X
    if holds_logarithms(adata):
        X.data = np.expm1(X.data)
        X.eliminate_zeros()
        # Scaled to one depth, the smallest value of a spot is what one count has become.
        filled = np.flatnonzero(np.diff(X.indptr))
        least = np.ones(X.shape[0])
        least[filled] = np.minimum.reduceat(X.data, X.indptr[filled])
        X.data /= np.repeat(least, np.diff(X.indptr))
    X.data = np.rint(X.data)
    return X


def _log_depth(counts: sparse.csr_matrix, depth: float) -> sparse.csr_matrix:
    """Bring all spots to one depth and take logarithms; a spot without counts stays empty."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    scaled = sparse.diags(depth / np.maximum(total, 1.0)) @ counts
    return sparse.csr_matrix(scaled.log1p())


@checked(n_neighbors=(1, 1_000))
@threadpool_limits.wrap(limits=1)
def neighbour_agreement(
    adata: AnnData,
    *,
    n_neighbors: int = 6,
    n_components: int = 20,
    spatial_key: str = "spatial",
    seed: int = 0,
) -> float:
    r"""Measure the share of reproducible variance that a spot's neighbours agree on.

    The counts of each spot are split at random into halves A and B (count splitting; Neufeld et
    al. 2022, doi 10.1093/biostatistics/kxac047). Both are brought to one depth, logarithms are
    taken, and both are projected on principal axes :math:`x`. With N(i) the nearest spots of i,

    .. math:: s = \frac{\mathbb{E}\, \langle x^A_i,\ \mathrm{mean}_{j \in N(i)} x^B_j \rangle}
                       {\mathbb{E}\, \langle x^A_i,\ x^B_i \rangle}.

    Noise of measurement is independent between halves and drops out of both, so that s does not
    follow depth. The axes are those of one half (axes that had seen both would fit the noise of
    both); the mean over both choices is returned.

    Parameters
    ----------
    adata
        A slice with ``obsm[spatial_key]`` (n, 2). Where ``X`` does not hold counts, logarithms are
        undone and divided by the smallest value of each spot, and the rest is rounded. Nothing is
        written.
    n_neighbors, n_components
        Nearest spots, and principal axes.
    spatial_key
        Slot of the positions.
    seed
        Of the split.

    Returns
    -------
    float
        About 1: a spot looks like its neighbours. About 0: its neighbours say nothing about it.

    Raises
    ------
    SliceError
        If positions are missing or not finite, values negative or not finite, or there are fewer
        spots than the axes or the neighbours need.
    TypeError, ValueError
        If an argument is of another kind or out of range.
    """
    if spatial_key not in adata.obsm:
        raise SliceError(f"obsm[{spatial_key!r}] is missing; store the positions of spots there.")
    points = positions_of(adata, spatial_key)
    if not np.isfinite(points).all():
        raise SliceError(f"obsm[{spatial_key!r}] holds values that are not finite.")
    counts = _as_counts(adata)
    filled = np.asarray(counts.sum(axis=1)).ravel() >= 2
    counts, points = counts[filled], points[filled]
    if len(points) <= n_neighbors + 1:
        raise SliceError(
            f"{len(points)} spots hold two counts or more; more than {n_neighbors + 1} are needed."
        )
    order = np.lexsort((points[:, 1], points[:, 0]))
    counts, points = counts[order], points[order]
    rng = np.random.default_rng(seed)
    one, other = counts.copy(), counts.copy()
    one.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(np.float64)
    other.data = counts.data - one.data
    depth = float(np.median(np.asarray(counts.sum(axis=1)))) / 2
    halves = [_log_depth(half, depth) for half in (one, other)]
    nearest = cKDTree(points).query(points, n_neighbors + 1)[1][:, 1:]
    top = bottom = 0.0
    for half in halves:
        width = min(n_components + 1, *half.shape)
        axes = randomized_svd(half, width, random_state=0)[2].T
        a, b = (np.asarray(one @ axes) for one in halves)
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        top += float((a * b[nearest].mean(axis=1)).sum())
        bottom += float((a * b).sum())
    return top / bottom if bottom > 0 else 0.0


@by_section
@checked(threshold=(0, 1))
def find_domains(
    slices: Slices,
    n_domains: int,
    *,
    model: str = "auto",
    type_key: str | None = None,
    threshold: float = THRESHOLD,
    key_added: str = "genot_domain",
    seed: int = 0,
    progress: bool | None = None,
    section_key: str | None = None,
) -> FoundDomains:
    """Find spatial domains by the model that fits the slices, and say why.

    s (:func:`neighbour_agreement`) is measured on each slice. If its mean is below ``threshold``,
    :func:`cluster_composition` is run on unsmoothed components; else :func:`cluster_mixture` on the
    embedding. What is missing is made first, for all slices together: components and graphs by
    :func:`preprocess`, the embedding by :func:`spectral_embedding`. What is there is used as it is.
    Both functions have more settings; call them yourself to change one.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number, of one technology. ``X`` holds counts or
        other non-negative values, ``obsm["spatial"]`` (n, 2) positions.
    n_domains
        Number of domains, at most the number of spots. :func:`choose_n_domains` suggests one.
    model
        "auto", or "composition" or "mixture" to overrule the measurement.
    type_key
        Column of ``obs`` with annotated cell types; then the composition model is meant.
    threshold
        s from which neighbours look alike, between 0 and 1. Measured: MERFISH .24 to .27, beads of
        Slide-seq .37 and .57, bins of Stereo-seq .35 to .50, osmFISH .49, spots of Spatial
        Transcriptomics .51 to .66, Visium .78 to .86, cells of an embryo (seqFISH) .79.
    key_added
        Writes ``obs[key_added]`` and its confidence (float32): for both models the share of a spot
        and its 60 nearest that are in its domain; of spots given .8 about .8 are right. Writes to
        ``uns["genot"][key_added]``, besides the facts that the model writes, ``model``,
        ``neighbour_agreement`` and ``why``. What else is written is listed in the result.
    seed
        Same seed and machine: the same domains.
    progress
        None shows a progress bar in a terminal or notebook only.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    FoundDomains
        Model, s of each slice, the reason in one sentence, slots written, and the result.

    Raises
    ------
    SliceError
        If a slice is not fit for use.
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Examples
    --------
    >>> found = find_domains(adata, 8)  # doctest: +SKIP
    >>> print(found.why)  # doctest: +SKIP
    """
    named = named_slices(slices)
    check_number_of_domains(named, n_domains)
    if model not in ("auto", *_MODELS):
        raise ValueError(f"model is {model!r}; choose auto, composition or mixture.")
    if type_key is not None and model == "mixture":
        raise ValueError("type_key is for the composition model; model is 'mixture'. Drop one.")
    for name, adata in named.items():
        check_drawable(adata, name=name)
    before = {name: _slots(adata) for name, adata in named.items()}
    agreement = {name: neighbour_agreement(adata, seed=seed) for name, adata in named.items()}
    asked = "composition" if type_key is not None else model
    chosen, why = _choice(float(np.mean(list(agreement.values()))), threshold, asked, type_key)
    options = {"key_added": key_added, "seed": seed, "progress": progress}
    if chosen == "composition":
        if type_key is None:
            _make_components(named)
        result = cluster_composition(named, n_domains, type_key=type_key, **options)
    else:
        _make_embedding(named)
        result = _with_confidence(named, cluster_mixture(named, n_domains, **options), key_added)
    for name, adata in named.items():
        made_by = adata.uns["genot"][key_added]
        facts = {"model": chosen, "neighbour_agreement": agreement[name], "why": why}
        record(adata, **{key_added: {**made_by, **facts}})
    always = {f"obs[{key_added!r}]", f"obs[{confidence_key(key_added)!r}]", "uns['genot']"}
    written = set().union(*(_slots(one) - before[name] for name, one in named.items()), always)
    return FoundDomains(chosen, agreement, why, sorted(written), result)


def _choice(s: float, threshold: float, asked: str, type_key: str | None) -> tuple[str, str]:
    """Choose the model to run, and the sentence that says why."""
    fits = "composition" if s < threshold else "mixture"
    side = "less" if s < threshold else "not less"
    why = f"Neighbours agree on {s:.0%} of the reproducible variance, {side} than {threshold:.0%}"
    if type_key is not None:
        return (
            "composition",
            f"{why}; obs[{type_key!r}] gives cell types: {_MODELS['composition']}.",
        )
    if asked not in ("auto", fits):
        return asked, f"{why}, which speaks for {fits}; {asked} was asked for and run."
    close = abs(s - threshold) < _CLOSE and asked == "auto"
    doubt = " That is close to the border: look at the other model too." if close else ""
    return fits, f"{why}: {_MODELS[fits]}.{doubt}"


def _with_confidence(named: Mapping[str, AnnData], result: Consensus, key_added: str) -> Consensus:
    """Give both models the same kind of confidence: how far a spot lies from other domains."""
    points = [positions_of(one) for one in named.values()]
    confidence = share_around(points, result.labels)
    for adata, rows in rows_of_each(named.values(), confidence):
        adata.obs[confidence_key(key_added)] = rows.astype(np.float32)
    return result._replace(confidence=confidence)


def _slots(adata: AnnData) -> set[str]:
    """Names of the slots that a slice has."""
    parts = ("obs", "var", "obsm", "obsp", "layers", "uns")
    return {f"{part}[{key!r}]" for part in parts for key in getattr(adata, part)}


def _make_components(named: Mapping[str, AnnData]) -> None:
    """Joint components, where a slice has none."""
    if any("X_pca" not in adata.obsm for adata in named.values()):
        shared = set.intersection(*(set(adata.var_names) for adata in named.values()))
        n_spots = sum(adata.n_obs for adata in named.values())
        preprocess(named, n_components=max(1, min(30, len(shared) - 1, n_spots - 1)))


def _make_embedding(named: Mapping[str, AnnData]) -> None:
    """Components, graphs and the closed-form embedding, where a slice has none."""
    _make_components(named)
    for adata in named.values():
        if "spatial_connectivities" not in adata.obsp:
            spatial_graph(adata)
    if any("X_genot" not in adata.obsm for adata in named.values()):
        spectral_embedding(named)


# -------------------------------------------------------------------------------------------------
# Ragged borders smoothed; and how many domains to ask for: a criterion to start from, no truth.


@checked
def refine_domains(
    adata: AnnData,
    *,
    key: str = "genot_domain",
    n_neighbors: int = 50,
    spatial_key: str = "spatial",
    key_added: str | None = None,
) -> int:
    """Give each spot the domain most common among its nearest spots (majority vote).

    Smooths ragged borders and removes lone spots; thin layers can lose width, so it is optional.
    Ties go to the domain with the smaller number.

    Parameters
    ----------
    adata
        One slice: neighbours are never looked for across slices.
    key, key_added
        Domain column that is read, and the one that is written; None writes back to ``key``.
    n_neighbors
        Nearest spots that vote, the spot itself not among them (the published GenOT: 50).
    spatial_key
        Coordinates in ``obsm``.

    Returns
    -------
    int
        Number of spots that changed domain.

    Raises
    ------
    KeyError
        If the domains or the coordinates are missing.
    ValueError
        If a spot has no domain, or ``n_neighbors`` does not fit the number of spots.
    """
    if key not in adata.obs:
        raise KeyError(f"There is no obs[{key!r}] to refine. Run cluster_mixture first.")
    if adata.obs[key].isna().any():
        raise ValueError(
            f"obs[{key!r}] has no domain for {int(adata.obs[key].isna().sum())} spots (NaN). "
            "Give every spot a domain, or refine a slice without these spots."
        )
    if not 1 <= n_neighbors < adata.n_obs:
        raise ValueError(
            f"n_neighbors is {n_neighbors}, but the slice has {adata.n_obs} spots. "
            f"Choose from 1 to {adata.n_obs - 1}."
        )
    domains = adata.obs[key].astype("category")
    one_hot = np.eye(len(domains.cat.categories), dtype=np.int32)[domains.cat.codes]
    index = NearestNeighbors(n_neighbors=n_neighbors).fit(adata.obsm[spatial_key])
    votes = index.kneighbors_graph() @ one_hot
    winner = votes.argmax(axis=1)
    adata.obs[key_added or key] = pd.Categorical.from_codes(winner, domains.cat.categories)
    return int((winner != domains.cat.codes.to_numpy()).sum())


@by_section
@checked(spots_per_independent=(1, 10**9))
def choose_n_domains(
    slices: Slices,
    candidates: Iterable[int] = range(2, 16),
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    n_starts: int = 20,
    spots_per_independent: float = 1.0,
    seed: int = 0,
    section_key: str | None = None,
) -> pd.DataFrame:
    r"""Compare numbers of domains by the Bayesian information criterion.

    Nothing is written. The criterion (Schwarz 1978, doi 10.1214/aos/1176344136) takes spots to be
    independent. After averaging over neighbours they are not, and it asks for as many domains as it
    is allowed: with :math:`s = 1` read the table as an upper bound. If only one in :math:`s` of the
    n spots says something of its own,

    .. math:: \mathrm{BIC} = -2 \frac{\log L}{s} + p \log \frac{n}{s}

    with the likelihood L of all spots and p free parameters.
    :func:`genot_helpers.preprocessing.spots_averaged` gives an s. Tissue itself makes neighbours
    alike too, so even that s is a low guess. The lowest value is a place to start from, no truth:
    look at the curve, at markers, and at what you know of the tissue.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number.
    candidates
        Numbers of domains to try.
    use_rep, n_dimensions
        Slot of the embedding, and how many of its leading dimensions are used.
    n_starts, seed
        Starts of the mixture, for each number of domains, and their seed.
    spots_per_independent
        s above, 1 or more.
    section_key
        Column of ``obs`` with the sections of one AnnData.

    Returns
    -------
    pandas.DataFrame
        Index ``n_domains``, columns ``bic`` (lower is better), ``chosen`` (True for the lowest),
        and ``bic_independent``, the criterion with s = 1.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of another width in one of the slices.
    ValueError
        If ``candidates`` or ``spots_per_independent`` are out of range.
    """
    candidates = sorted(set(candidates))
    if not candidates or candidates[0] < 1:
        raise ValueError(f"candidates is {candidates}; give numbers of domains, each 1 or more.")
    embedding = stacked_embedding(named_slices(slices), use_rep, max(candidates))
    embedding = embedding[:, :n_dimensions]
    scores = {}
    for n_domains in candidates:
        mixtures = best_partitions(embedding, n_domains, n_starts=n_starts, n_kept=1, seed=seed)
        scores[n_domains] = [
            _bic(mixtures[0], s) if mixtures else np.inf for s in (spots_per_independent, 1.0)
        ]
    columns = ["bic", "bic_independent"]
    table = pd.DataFrame.from_dict(scores, orient="index", columns=columns)
    table.insert(1, "chosen", table["bic"] == table["bic"].min())
    return table.rename_axis("n_domains")


def _bic(mixture: Mixture, spots_per_independent: float) -> float:
    """Bayesian information criterion, if one in so many spots is independent."""
    n_spots, n_domains = mixture.membership.shape
    n_dimensions = mixture.means.shape[1]
    covariances = n_dimensions * (n_dimensions + 1) / 2
    n_parameters = n_domains - 1 + n_domains * n_dimensions + covariances
    n_independent = n_spots / spots_per_independent
    penalty = n_parameters * np.log(max(n_independent, 2.0))
    return float(penalty - 2 * n_independent * mixture.likelihood)
