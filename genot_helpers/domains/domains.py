"""Spatial domains: an embedding becomes one domain and one confidence per spot.

`cluster_mixture` is a consensus of Gaussian mixtures (see mixture.py); methods that readers
know from elsewhere are in clusterers.py. All take one slice or several, and several are
clustered together, so that a domain carries the same name in every slice. Labels made by
people are never an input here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ..slices.slices import Slices, as_list
from .mixture import Consensus, best_partitions, mixture_consensus

__all__ = ["choose_n_domains", "cluster_mixture", "refine_domains"]


def stacked_embedding(slices: list[ad.AnnData], use_rep: str, n_domains: int | None) -> np.ndarray:
    """Stack the embeddings of all slices, ordered by variance; complain early and clearly."""
    for number, adata in enumerate(slices):
        if use_rep not in adata.obsm:
            raise KeyError(
                f"Slice {number} has no obsm[{use_rep!r}] (found: {sorted(adata.obsm)}). "
                "Make an embedding first: preprocess, then train_encoder or smooth_components."
            )
        if not np.isfinite(adata.obsm[use_rep]).all():
            raise ValueError(
                f"obsm[{use_rep!r}] of slice {number} holds NaN or infinite values. "
                "Run check_slice on the slice, then make the embedding again."
            )
    widths = {adata.obsm[use_rep].shape[1] for adata in slices}
    if len(widths) > 1:
        raise ValueError(
            f"obsm[{use_rep!r}] has different numbers of columns in the slices: {sorted(widths)}. "
            "Slices that are clustered together need one joint embedding."
        )
    stacked = np.concatenate([np.asarray(adata.obsm[use_rep], dtype=float) for adata in slices])
    if n_domains is not None and not 1 <= n_domains <= len(stacked):
        raise ValueError(
            f"n_domains is {n_domains}, but there are {len(stacked)} spots. "
            f"Choose a number from 1 to {len(stacked)}."
        )
    # Rotate to principal axes, so that "the leading dimensions" is well defined.
    n_axes = min(stacked.shape)
    return PCA(n_axes, svd_solver="covariance_eigh").fit_transform(stacked)


def write_domains(
    slices: list[ad.AnnData],
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
    begin = 0
    for adata in slices:
        part = slice(begin, begin + adata.n_obs)
        begin += adata.n_obs
        adata.obs[key_added] = pd.Categorical(names[part].astype(str), categories=categories)
        if confidence is not None:
            adata.obs[confidence_key(key_added)] = confidence[part].astype(np.float32)
        record = dict(adata.uns.get("genot", {}))
        record[key_added] = {"n_domains": len(categories), "n_slices": len(slices), **facts}
        adata.uns["genot"] = record


def confidence_key(key_added: str) -> str:
    """Name of the confidence column that goes with a domain column."""
    return key_added.removesuffix("_domain") + "_confidence"


def _without_extremes(embedding: np.ndarray, n_deviations: float | None) -> np.ndarray:
    """Draw values in to `n_deviations` standard deviations; the columns have mean zero."""
    if n_deviations is None:
        return embedding
    if not n_deviations > 0:
        raise ValueError(f"n_deviations is {n_deviations}; choose a positive number, or None.")
    limit = n_deviations * embedding.std(axis=0)
    return np.clip(embedding, -limit, limit)


def cluster_mixture(
    slices: Slices,
    n_domains: int,
    *,
    use_rep: str | Sequence[str] = "X_genot",
    key_added: str = "genot_domain",
    dimensions: tuple[int, ...] = (12, 14, 16, 20),
    n_starts: int = 80,
    n_kept: int = 6,
    n_deviations: float | None = 2.5,
    seed: int = 0,
    progress: bool | None = None,
) -> Consensus:
    """Find domains as a consensus of Gaussian mixtures.

    Parameters
    ----------
    slices : AnnData, list or dict of AnnData
        Slices with an embedding in `obsm[use_rep]`, shape (n_spots, n_dimensions).
    n_domains : int
        Number of domains, at most the number of spots. :func:`choose_n_domains` suggests one.
    use_rep : str or sequence of str
        Slot of the embedding; of several embeddings, each is clustered
        alone and all partitions enter one consensus.
    key_added : str
        Writes `obs[key_added]` (categorical "1", "2", … by size), the share of votes in
        `obs["genot_confidence"]` (float32; `<key>_confidence` for another key), and the
        parameters in `uns["genot"][key_added]`.
    dimensions, n_starts, n_kept
        See :func:`genot_helpers.domains.mixture.mixture_consensus`.
    n_deviations : float or None
        Values further than this many standard deviations from the mean of their dimension are
        drawn in to that limit (winsorised), so that a few extreme spots cannot claim a domain
        of their own; None leaves them. Chosen on one section of cortex and one of hypothalamus.
    seed : int
        Same seed and machine: the same domains, bit for bit.
    progress : bool or None
        None shows a progress bar in a terminal or notebook only.

    Returns
    -------
    Consensus
        Labels and confidences of all spots, slices one after the other, as found (before
        domains are numbered by size), the agreement between partitions and their number.

    Raises
    ------
    KeyError
        If the embedding is missing.
    ValueError
        If it is not finite, or `n_domains` does not fit the number of spots.
    """
    found = as_list(slices)
    names = [use_rep] if isinstance(use_rep, str) else list(use_rep)
    embeddings = [
        _without_extremes(stacked_embedding(found, name, n_domains), n_deviations) for name in names
    ]
    result = mixture_consensus(
        embeddings,
        n_domains,
        dimensions=dimensions,
        n_starts=n_starts,
        n_kept=n_kept,
        seed=seed,
        progress=progress,
    )
    facts = {
        "method": "consensus of tied-covariance Gaussian mixtures",
        "use_rep": np.asarray(names),
        "dimensions": np.asarray(dimensions),
        "n_starts": n_starts,
        "n_kept": n_kept,
        "n_deviations": np.inf if n_deviations is None else n_deviations,
        "seed": seed,
        "agreement": result.agreement,
        "n_partitions": result.n_partitions,
    }
    write_domains(found, result.labels, key_added, result.confidence, **facts)
    return result


def choose_n_domains(
    slices: Slices,
    candidates: Iterable[int] = range(2, 16),
    *,
    use_rep: str = "X_genot",
    n_dimensions: int = 16,
    n_starts: int = 20,
    spots_per_independent: float = 1.0,
    seed: int = 0,
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
    slices : AnnData, list or dict of AnnData
    candidates : iterable of int
        Numbers of domains to try.
    use_rep : str
    n_dimensions : int
        Leading dimensions of the embedding that are used.
    n_starts : int
    spots_per_independent : float
        s above, 1 or more.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Index `n_domains`, columns `bic` (lower is better), `chosen` (True for the lowest), and
        `bic_independent`, the criterion with s = 1.
    """
    candidates = sorted(set(candidates))
    if not candidates or candidates[0] < 1:
        raise ValueError(f"candidates is {candidates}; give numbers of domains, each 1 or more.")
    if not spots_per_independent >= 1:
        raise ValueError(f"spots_per_independent is {spots_per_independent}; give 1 or more.")
    embedding = stacked_embedding(as_list(slices), use_rep, max(candidates, default=1))
    embedding = embedding[:, :n_dimensions]
    scores = {}
    for n_domains in candidates:
        mixtures = best_partitions(embedding, n_domains, n_starts=n_starts, n_kept=1, seed=seed)
        scores[n_domains] = [
            _bic(mixtures[0], embedding, s) if mixtures else np.inf
            for s in (spots_per_independent, 1.0)
        ]
    columns = ["bic", "bic_independent"]
    table = pd.DataFrame.from_dict(scores, orient="index", columns=columns)
    table.insert(1, "chosen", table["bic"] == table["bic"].min())
    return table.rename_axis("n_domains")


def _bic(mixture, embedding: np.ndarray, spots_per_independent: float) -> float:
    """Bayesian information criterion, if one in so many spots is independent."""
    n_spots = len(embedding)
    likelihood = 2 * n_spots * mixture.score(embedding)
    penalty = mixture.bic(embedding) + likelihood  # parameters times log n
    shrunk = np.log(max(n_spots / spots_per_independent, 2.0)) / np.log(n_spots)
    return float(penalty * shrunk - likelihood / spots_per_independent)


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
    adata : AnnData
        One slice: neighbours are never looked for across slices.
    key : str
        Domain column that is read.
    n_neighbors : int
        Nearest spots that vote, the spot itself not among them (the published GenOT: 50).
    spatial_key : str
        Coordinates in `obsm`.
    key_added : str, optional
        Column that is written; None writes back to `key`.

    Returns
    -------
    int
        Number of spots that changed domain.

    Raises
    ------
    KeyError
        If the domains or the coordinates are missing.
    ValueError
        If a spot has no domain, or `n_neighbors` does not fit the number of spots.
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
