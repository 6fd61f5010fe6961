"""Labels of two slices, carried to places between them by a vote of the surroundings.

An annotation is drawn by hand: its borders are a little off in every slice, differently in each. So
a label is voted on by the surroundings in both slices, and the weights follow from how often either
is wrong. How sharp the vote is (its width in space) is what predicts the labels of each slice best
from the other. The labels of a held-out slice have no part in it.

A vote prefers what is large: where a thin layer and its thick neighbours vote, the layer loses more
places than it wins. So labels that win too few places get more weight, all over the slice, until
each has the share of the places that it has of the spots of both slices (a correction of class
priors: Saerens, Latinne & Decaestecker 2002, doi 10.1162/089976602753284446).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..slices.labels import as_labels
from ..slices.slices import SliceError
from .local_means import choose_bandwidth, compare_errors

__all__ = ["CarriedLabels", "keep_composition", "prepare_labels"]

_LARGEST_WEIGHT = 3.0  # of a label in the vote; the smallest is 1
_STEPS = np.geomspace(0.5, 0.02, 40)
_FLOOR = 1e-3  # share below which nothing is corrected much


class CarriedLabels(NamedTuple):
    """Labels as votes, and how they are counted.

    Attributes
    ----------
    key
        Column of ``obs`` they come from.
    names
        All labels of both slices.
    votes
        (n, k) and (m, k) float64: 1 for the label of a spot; nothing for a spot without one.
    bandwidth
        Width of the vote, in the unit of the coordinates.
    own_error, other_error
        Mean squared error with which a spot's label is predicted from its own slice, and from the
        other one.
    """

    key: str
    names: list[str]
    votes: tuple[NDArray[np.float64], NDArray[np.float64]]
    bandwidth: float
    own_error: float
    other_error: float

    def weights(self, t: float) -> tuple[float, float]:
        """Weigh both slices at position t: two estimates, each by the inverse of its error.

        The error grows with the distance from its own to the other; a slice is wrong even in its
        own place, so the farther one has more to say than its share of t.
        """
        growth = self.other_error - self.own_error
        left, right = (1.0 / max(self.own_error + growth * far, 1e-9) for far in (t, 1.0 - t))
        return left / (left + right), right / (left + right)

    def composition(self, t: float) -> NDArray[np.float64]:
        """Share of each label among labelled spots, at position t between both slices."""
        shares = [votes.sum(axis=0) for votes in self.votes]
        weights = [w * (s.sum() > 0) for w, s in zip((1.0 - t, t), shares, strict=True)]
        if not sum(weights):  # an end without annotation
            weights = [float(s.sum() > 0) for s in shares]
        mixed = sum(w * s / max(s.sum(), 1.0) for w, s in zip(weights, shares, strict=True))
        return mixed / mixed.sum()

    def carry(
        self, t: float, around: tuple[sparse.csr_matrix, sparse.csr_matrix]
    ) -> tuple[pd.Categorical, NDArray[np.float64]]:
        """Vote at places.

        Parameters
        ----------
        t
            Position between the slices.
        around
            (p, n) and (p, m), weights of the spots of both slices around each place, of width
            ``bandwidth``: :func:`genot_helpers.interpolation.local_means.local_weights`.

        Returns
        -------
        labels : pandas.Categorical
            NaN where no spot near by has a label.
        shares : ndarray of float64, shape (p,)
            Share of the vote for it, before labels are weighed.
        """
        shares = sum(
            weight * (spots @ votes)
            for weight, spots, votes in zip(self.weights(t), around, self.votes, strict=True)
        )
        total = shares.sum(axis=1)
        winner = np.full(len(shares), -1)
        winner[total > 0] = keep_composition(shares[total > 0], self.composition(t))
        confidence = shares[np.arange(len(shares)), winner] / np.maximum(total, 1e-12)
        return pd.Categorical.from_codes(winner, categories=self.names), confidence


def keep_composition(shares: NDArray, wanted: NDArray) -> NDArray[np.int64]:
    """Choose a label for each place such that every label gets about its share of the places.

    Votes for a label that wins too few places are multiplied by one weight, at most 3, found step
    by step; no label is made weaker.

    Parameters
    ----------
    shares
        (p, k), votes for each label; not all 0 at any place.
    wanted
        (k,), share of the places each label should have; sums to 1.

    Returns
    -------
    ndarray of int64, shape (p,)
        Number of the label. A label without votes at a place cannot win there.
    """
    winner, weights = shares.argmax(axis=1), np.zeros(len(wanted))
    limit = np.log(_LARGEST_WEIGHT)
    for step in _STEPS:
        found = np.bincount(winner, minlength=len(wanted)) / max(len(winner), 1)
        if np.abs(found - wanted).max() * len(winner) < 0.5:  # no place could be given elsewhere
            break
        missing = np.log(wanted + _FLOOR) - np.log(found + _FLOOR)
        weights = np.minimum(weights + step * np.maximum(missing, 0.0), limit)
        winner = (shares * np.exp(weights)).argmax(axis=1)
    return winner


def prepare_labels(
    left: AnnData,
    right: AnnData,
    key: str,
    middle: tuple[NDArray, NDArray],
    spacing: float,
    *,
    seed: int = 0,
) -> CarriedLabels:
    """Read the labels of both slices and decide how the vote is taken.

    Parameters
    ----------
    left, right
        Slices with ``obs[key]``.
    middle
        (n, 2) and (m, 2), their coordinates, warped to halfway.
    spacing
        Spot spacing.
    seed
        Which spots the width is judged on, if there are many.

    Raises
    ------
    SliceError
        If no spot has a label.
    """
    labels = [as_labels(adata.obs[key]) for adata in (left, right)]
    names = [str(name) for name in pd.unique(np.concatenate([c.cat.categories for c in labels]))]
    if not names:
        raise SliceError(
            f"obs[{key!r}] names no spot in either slice. Name another column, or pass "
            "label_key=None to carry no labels."
        )
    columns = [column.astype(object).to_numpy() for column in labels]
    votes = tuple((column[:, None] == np.array(names)).astype(float) for column in columns)
    bandwidth = choose_bandwidth(*middle, *votes, spacing, seed=seed)
    errors = compare_errors(*middle, *votes, bandwidth, spacing, seed=seed)
    return CarriedLabels(key, names, votes, bandwidth, *errors)
