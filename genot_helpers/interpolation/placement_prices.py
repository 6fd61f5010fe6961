"""What a spot costs, so that the chosen spots stay a fair sample of all there are.

Picking spots that suit their place favours some kinds of spots over others, and variances and
gene-gene correlations drift. So whatever is used more than its share becomes dearer from sweep to
sweep, where kinds are told apart by the components and by the products of the leading ones: means
of products are variances and correlations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prices"]

_N_PRODUCTS = 20  # leading components whose products are kept as they are
_RATE = 30.0


class Prices:
    """Prices that rise with what has been used too much so far.

    Parameters
    ----------
    embedding
        (p, d), components of all spots of the pool.
    pool_slice
        (p,) int, slice of each.
    start
        (n,) int, a choice with the right share of each slice. The target is the mean if every spot
        of a slice were equally likely, at these shares.
    """

    def __init__(self, embedding: NDArray, pool_slice: NDArray, start: NDArray) -> None:
        self._embedding = np.asarray(embedding, dtype=np.float32)
        centred = self._embedding - self._embedding.mean(axis=0)
        products = _second_moments(self._embedding[:, :_N_PRODUCTS] ** 2)
        variances = np.triu(products - _second_moments(self._embedding[:, :_N_PRODUCTS]) ** 2)
        # Both groups of kinds are scaled to a total variance of one, and so count alike.
        self._scale = float((centred**2).sum(axis=1).mean()), float(variances.sum())
        slices, counts = np.unique(pool_slice[start], return_counts=True)
        means = [_moments(self._embedding[pool_slice == number]) for number in slices]
        self._fair = [np.average(m, axis=0, weights=counts) for m in zip(*means, strict=True)]
        self._debt = [np.zeros_like(fair) for fair in self._fair]

    def after(self, chosen: NDArray) -> NDArray[np.float32]:
        """Add one more choice (n,) to what has been used; return the prices (p,)."""
        used = _moments(self._embedding[chosen])
        parts = []
        for debt, mean, fair, scale in zip(self._debt, used, self._fair, self._scale, strict=True):
            debt += mean - fair
            parts.append((_RATE / max(scale, 1e-12) * debt).astype(np.float32))
        leading = self._embedding[:, :_N_PRODUCTS]
        return self._embedding @ parts[0] + ((leading @ parts[1]) * leading).sum(axis=1)


def _moments(values: NDArray) -> tuple[NDArray, NDArray]:
    """Return means (d,), and means of the products of the leading components, each pair once."""
    return values.mean(axis=0), np.triu(_second_moments(values[:, :_N_PRODUCTS]))


def _second_moments(values: NDArray) -> NDArray:
    """Return the means of all products of two columns."""
    return values.T @ values / len(values)
