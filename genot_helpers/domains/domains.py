"""Spatial domains: an embedding becomes one domain and one confidence per spot.

:func:`cluster_mixture` is a consensus of Gaussian mixtures (see mixture.py); methods that readers
know from elsewhere are in clusterers.py and mclust.py, how many domains to ask for in
number_of_domains.py, and a majority vote that smooths borders in refinement.py. All take one slice
or several, and several are clustered together, so that a domain carries the same name in every
slice. Labels made by people are never an input here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ..arguments import checked
from ..preprocessing.graph import connectivities, row_normalised
from ..slices.sections import Slices, by_section, joint_embeddings, named_slices, rows_of_each
from ..slices.slices import record
from .mixture import Consensus, Mixture, best_partitions, mixture_consensus

__all__ = [
    "choose_n_domains",
    "cluster_mixture",
    "confidence_key",
    "refine_domains",
    "stacked_embedding",
    "write_domains",
]


def stacked_embedding(
    named: Mapping[str, ad.AnnData], use_rep: str, n_domains: int | None
) -> np.ndarray:
    """Stack the embeddings of all slices, ordered by variance; complain early and clearly."""
    stacked = np.concatenate(joint_embeddings(named, use_rep))
    if n_domains is not None and not 1 <= n_domains <= len(stacked):
        raise ValueError(
            f"n_domains is {n_domains}, but there are {len(stacked)} spots. "
            f"Choose a number from 1 to {len(stacked)}."
        )
    # Rotate to principal axes, so that "the leading dimensions" is well defined.
    n_axes = min(stacked.shape)
    return PCA(n_axes, svd_solver="covariance_eigh").fit_transform(stacked)


def write_domains(
    named: Mapping[str, ad.AnnData],
    labels: np.ndarray,
    key_added: str,
    confidence: np.ndarray | None = None,
    **facts,
) -> None:
    """Split labels back onto the slices, number domains by size, and note how they were made."""
    by_size = pd.Series(labels).value_counts(sort=True).index  # largest first
    rank = pd.Series(np.arange(1, len(by_size) + 1), index=by_size)
    names = rank.loc[labels].to_numpy()
    categories = [str(number) for number in range(1, len(by_size) + 1)]
    for adata, rows in rows_of_each(named.values(), np.arange(len(labels))):
        adata.obs[key_added] = pd.Categorical(names[rows].astype(str), categories=categories)
        if confidence is not None:
            adata.obs[confidence_key(key_added)] = confidence[rows].astype(np.float32)
        made_by = {"n_domains": len(categories), "n_slices": len(named), **facts}
        record(adata, **{key_added: made_by})


def confidence_key(key_added: str) -> str:
    """Name of the confidence column that goes with a domain column."""
    return key_added.removesuffix("_domain") + "_confidence"


def _without_extremes(embedding: np.ndarray, n_deviations: float | None) -> np.ndarray:
    """Draw values in to ``n_deviations`` standard deviations; the columns have mean zero."""
    if n_deviations is None:
        return embedding
    if not n_deviations > 0:
        raise ValueError(f"n_deviations is {n_deviations}; choose a positive number, or None.")
    limit = n_deviations * embedding.std(axis=0)
    return np.clip(embedding, -limit, limit)


def _neighbours(named: Mapping[str, ad.AnnData], weight: float) -> sparse.csr_matrix | None:
    """Averages over the neighbours of each spot, in its own slice, times the weight."""
    if not 0 <= weight < np.inf:
        raise ValueError(f"neighbour_weight is {weight}; choose a number, 0 or more.")
    if weight == 0:
        return None
    otherwise = ", or give neighbour_weight=0 for domains that ignore neighbours"
    graphs = [connectivities(one, name, otherwise=otherwise) for name, one in named.items()]
    means = sparse.block_diag([row_normalised(graph, self_loops=0.0) for graph in graphs], "csr")
    # A spot without neighbours was given itself; it must not bear itself out.
    return (means - sparse.diags(means.diagonal())) * weight


@by_section
@checked
def cluster_mixture(
    slices: Slices,
    n_domains: int,
    *,
    use_rep: str | Sequence[str] = "X_genot",
    key_added: str = "genot_domain",
    neighbour_weight: float = 2.0,
    dimensions: tuple[int, ...] = (12, 14, 16, 20),
    n_starts: int = 80,
    n_kept: int = 6,
    n_deviations: float | None = 2.5,
    seed: int = 0,
    progress: bool | None = None,
    section_key: str | None = None,
) -> Consensus:
    """Find domains as a consensus of Gaussian mixtures, in which neighbours have a say.

    Parameters
    ----------
    slices
        Slices with an embedding in ``obsm[use_rep]``, shape (n_spots, n_dimensions), and the graph
        of neighbours in ``obsp["spatial_connectivities"]``.
    n_domains
        Number of domains, at most the number of spots. :func:`choose_n_domains` suggests one.
    use_rep
        Slot of the embedding; of several embeddings, each is clustered
        alone and all partitions enter one consensus.
    key_added
        Writes ``obs[key_added]`` (categorical "1", "2", … by size), the share of votes in
        ``obs["genot_confidence"]`` (float32; ``<key>_confidence`` for another key), and the
        parameters in ``uns["genot"][key_added]``.
    neighbour_weight
        β of :mod:`genot_helpers.domains.mixture`: a domain to which all neighbours of a
        spot belong is exp(β) times as likely for it, before its own embedding is looked at, as one
        to which none of them belongs. 0: neighbours have no say, and no graph is needed.
    dimensions, n_starts, n_kept
        See :func:`genot_helpers.domains.mixture.mixture_consensus`.
    n_deviations
        Values further than this many standard deviations from the mean of their dimension are
        drawn in to that limit (winsorised), so that a few extreme spots cannot claim a domain
        of their own; None leaves them. Chosen on one section of cortex and one of hypothalamus.
    seed
        Same seed and machine: the same domains, bit for bit.
    progress
        None shows a progress bar in a terminal or notebook only.
    section_key
        Column of ``obs`` that tells the sections apart, where one AnnData holds several; results
        are written back to it (:func:`genot_helpers.slices.split_sections`).

    Returns
    -------
    Consensus
        Labels and confidences of all spots, slices one after the other, as found (before
        domains are numbered by size), the agreement between partitions and their number.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of another width in one of the slices; or if
        neighbours should have a say and a slice has no graph.
    ValueError
        If a number is out of range, or ``n_domains`` does not fit the number of spots.
    """
    named = named_slices(slices)
    slots = [use_rep] if isinstance(use_rep, str) else list(use_rep)
    embeddings = [
        _without_extremes(stacked_embedding(named, slot, n_domains), n_deviations) for slot in slots
    ]
    neighbours = _neighbours(named, neighbour_weight)
    result = mixture_consensus(
        embeddings,
        n_domains,
        neighbours=neighbours,
        dimensions=dimensions,
        n_starts=n_starts,
        n_kept=n_kept,
        seed=seed,
        progress=progress,
    )
    facts = {
        "method": "consensus of spatial Gaussian mixtures",
        "use_rep": np.asarray(slots),
        "neighbour_weight": neighbour_weight,
        "dimensions": np.asarray(dimensions),
        "n_starts": n_starts,
        "n_kept": n_kept,
        "n_deviations": np.inf if n_deviations is None else n_deviations,
        "seed": seed,
        "agreement": result.agreement,
        "n_partitions": result.n_partitions,
    }
    write_domains(named, result.labels, key_added, result.confidence, **facts)
    return result


# -------------------------------------------------------------------------------------------------
# Ragged borders smoothed: every spot gets the domain that most of its neighbours have.


@checked
def refine_domains(
    adata: ad.AnnData,
    *,
    key: str = "genot_domain",
    n_neighbors: int = 50,
    spatial_key: str = "spatial",
    key_added: str | None = None,
) -> int:
    """Give each spot the domain most common among its nearest spots (majority vote).

    Smooths ragged borders and removes lone spots; thin layers can lose width, so it is
    optional. Ties go to the domain with the smaller number.

    Parameters
    ----------
    adata
        One slice: neighbours are never looked for across slices.
    key
        Domain column that is read.
    n_neighbors
        Nearest spots that vote, the spot itself not among them (the published GenOT: 50).
    spatial_key
        Coordinates in ``obsm``.
    key_added
        Column that is written; None writes back to ``key``.

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
    if spatial_key not in adata.obsm:
        raise KeyError(f"There is no obsm[{spatial_key!r}] (found: {sorted(adata.obsm)}).")
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


# -------------------------------------------------------------------------------------------------
# How many domains to ask for: a criterion to start from, no truth.


@by_section
@checked
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

    Nothing is written. The criterion (Schwarz, Annals of Statistics 1978, doi
    10.1214/aos/1176344136) takes spots to be independent. After averaging over neighbours they are
    not, and it asks for as many domains as it is allowed: with :math:`s = 1` read the table as an
    upper bound. If only one in :math:`s` of the n spots says something of its own,

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
    use_rep
        Slot of the embedding.
    n_dimensions
        Leading dimensions of the embedding that are used.
    n_starts
        Starts of the mixture, for each number of domains.
    spots_per_independent
        s above, 1 or more.
    seed
        Of the starts.
    section_key
        Column of ``obs`` that tells the sections apart, where one AnnData holds several; results
        are written back to it (:func:`genot_helpers.slices.split_sections`).

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
    if not spots_per_independent >= 1:
        raise ValueError(f"spots_per_independent is {spots_per_independent}; give 1 or more.")
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
