"""How many domains to ask for: a criterion to start from, no truth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..slices.several import Slices, named_slices
from .domains import stacked_embedding
from .mixture import best_partitions

__all__ = ["choose_n_domains"]


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
        Slot of the embedding.
    n_dimensions : int
        Leading dimensions of the embedding that are used.
    n_starts : int
        Starts of the mixture, for each number of domains.
    spots_per_independent : float
        s above, 1 or more.
    seed : int
        Of the starts.

    Returns
    -------
    pandas.DataFrame
        Index `n_domains`, columns `bic` (lower is better), `chosen` (True for the lowest), and
        `bic_independent`, the criterion with s = 1.

    Raises
    ------
    SliceError
        If the embedding is missing, not finite, or of another width in one of the slices.
    ValueError
        If `candidates` or `spots_per_independent` are out of range.
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
