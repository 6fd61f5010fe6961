"""Labels of two slices, carried to places between them by a vote of the surroundings.

An annotation is drawn by hand: its borders are a little off in every slice, differently in each. So
a label is voted on by the surroundings in both slices, and the weights follow from how often either
is wrong. How sharp the vote is (its width in space) is what predicts the labels of each slice best
from the other. The labels of a held-out slice have no part in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from ..slices.labels import as_labels
from ..slices.slices import SliceError
from .local_means import choose_bandwidth, compare_errors, local_mean

__all__ = ["CarriedLabels", "prepare_labels"]


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

    def carry(
        self, t: float, moved: tuple[NDArray, NDArray], places: NDArray, spacing: float
    ) -> tuple[pd.Categorical, NDArray[np.float64]]:
        """Vote at places.

        Parameters
        ----------
        t
            Position between the slices.
        moved
            (n, 2) and (m, 2), coordinates of both slices, warped to t.
        places
            (p, 2).
        spacing
            Spot spacing.

        Returns
        -------
        labels : pandas.Categorical
            NaN where no spot near by has a label.
        shares : ndarray of float64, shape (p,)
            Share of the vote for it.
        """
        shares = sum(
            weight * local_mean(points, votes, places, self.bandwidth, spacing)
            for weight, points, votes in zip(self.weights(t), moved, self.votes, strict=True)
        )
        total = shares.sum(axis=1)
        winner = np.where(total > 0, shares.argmax(axis=1), -1)
        confidence = shares.max(axis=1) / np.maximum(total, 1e-12)
        return pd.Categorical.from_codes(winner, categories=self.names), confidence


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
