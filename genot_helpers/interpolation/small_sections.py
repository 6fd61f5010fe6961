"""Small or noisy sections: components weighed by their signal; placed spots, a mixture or a copy.

In sections of some hundred spots most principal components are noise of the measurement.
:func:`weigh_by_signal` lets each count by how much of it neighbours share.

Placing real spots (:mod:`genot_helpers.interpolation.placement`) follows an expectation, and where
sections are small or measured poorly, the expectation is mostly noise. Then a mixture of both
sections, or one of them as it is, is closer to the section that is missing. Which of them, is
decided by left and right alone:

1. Of two small sections, one of which is much noisier than the other, the better one is copied: a
   mixture would carry the noise of the poorer one. Noise shows in Moran's I of the shared
   components, which counts it in the denominator.
2. Otherwise both sections are cut at random into halves. One half of each is what is given, and
   the other halves together are a sample of the tissue midway. Spots are placed at the places of a
   random mixture of the given halves. If their local means (ten spots) correlate better with those
   of the kept halves than the local means of the mixture do, on average over several cuts, spots
   are placed. They are too if both are level: cut in half, sections are even smaller, so trials
   understate the gain. Else spots are mixed.

Sections of 1,000 spots and more are not tried: placing has been better there on all that was looked
at (benchmarks/README.md), and takes long enough once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..comparable import expression_states
from .local_means import local_weights
from .placement import autocorrelation, place_spots

__all__ = ["LARGE", "WAYS", "Filling", "choose_filling", "weigh_by_signal"]

WAYS = ("placed", "mixture", "copy")
"""How a slice can be filled."""

LARGE = 1000
"""Spots of the smaller slice from which on nothing here is done: spots are placed."""

_SMALL = 300  # spots of the smaller slice below which one slice may be copied
_MUCH_NOISIER = 1.5  # ratio of Moran's I ...
_CLEARLY = 0.1  # ... and their difference: both are near 0 in the smallest sections, by chance
_LOSS = -0.01  # of correlation: a gain below this is a loss; halves understate what placing gains
_N_TRIALS = 4
_AROUND = 8  # neighbours for Moran's I
_NEAREST = 10  # spots that a local mean is over


class Filling(NamedTuple):
    """How the slice in between is filled, and why.

    Attributes
    ----------
    way
        "placed", "mixture" or "copy".
    reason
        One sentence.
    signal
        Moran's I of the shared components in the left and in the right slice; empty if it was not
        looked at.
    gain
        Correlation of local means with those of kept halves, of placed spots minus that of mixed
        ones; NaN if it was not tried.
    """

    way: str
    reason: str
    signal: tuple[float, ...] = ()
    gain: float = float("nan")

    def copied_side(self, t: float) -> int:
        """Side to copy at position t, 0 left and 1 right: the nearer one, weighed by its signal."""
        left, right = (max(s, 1e-6) for s in self.signal or (1.0, 1.0))
        return int(t * right > (1.0 - t) * left)


def weigh_by_signal(
    points: tuple[NDArray, NDArray], embeddings: tuple[NDArray, NDArray]
) -> list[NDArray[np.float32]]:
    """Multiply each component by the root of its Moran's I, relative to the largest.

    Parameters
    ----------
    points, embeddings
        (n, 2) and (m, 2), (n, d) and (m, d), of the left and of the right slice.

    Returns
    -------
    list of ndarray of float32
        (n, d) and (m, d), with a mean squared length of 1 again. As they were if no component has
        any signal.
    """
    signal = np.zeros(embeddings[0].shape[1])
    for places, values in zip(points, embeddings, strict=True):
        nearest = cKDTree(places).query(places, min(_AROUND, len(places) - 1) + 1)[1][:, 1:]
        centred = values - values.mean(axis=0)
        around = sum(centred[column] for column in nearest.T) / nearest.shape[1]
        signal += (centred * around).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    signal = np.clip(signal, 0.0, None)
    if not signal.any():
        return list(embeddings)
    weighed = [values * np.sqrt(signal / signal.max()) for values in embeddings]
    size = sum((v**2).sum() for v in weighed) / sum(map(len, weighed))
    return [(v / np.sqrt(size)).astype(np.float32) for v in weighed]


def choose_filling(
    middle: tuple[NDArray, NDArray],
    embeddings: tuple[NDArray, NDArray],
    signal: tuple[float, ...],
    bandwidth: float,
    spacing: float,
    *,
    has_grown: bool = False,
    seed: int = 0,
) -> Filling:
    """Decide between placed spots, a mixture and a copy. See the top of this file.

    Parameters
    ----------
    middle
        (n, 2) and (m, 2), coordinates of both slices, warped to halfway.
    embeddings
        (n, d) and (m, d), shared components.
    signal
        Moran's I of the components of either slice, before they are weighed; not needed for large
        sections.
    bandwidth, spacing
        Width of the mean that spots are placed by, and spot spacing.
    has_grown
        Whether one slice has many more spots: then neither is a copy of what lies between.
    seed
        Of the cuts.
    """
    smaller = min(map(len, middle))
    if smaller >= LARGE:
        return Filling("placed", "Spots are placed: the sections are large enough.")
    low, high = np.clip(sorted(signal), 1e-6, None)
    differ = high > _MUCH_NOISIER * low and high - low > _CLEARLY
    if smaller < _SMALL and not has_grown and differ:
        side = "left" if signal[0] == max(signal) else "right"
        return Filling(
            "copy",
            f"The {side} section is copied: the sections are small ({smaller} spots), and the "
            f"other one is {high / low:.1f} times as noisy (Moran's I {low:.2f} against "
            f"{high:.2f}), which a mixture would take over.",
            signal,
        )
    kinds = expression_states(np.vstack(embeddings), seed=seed)
    states = np.split(kinds, [len(embeddings[0])])
    gains = [
        _gain(middle, embeddings, states, bandwidth, spacing, [seed, 7, number])
        for number in range(_N_TRIALS)
    ]
    gain = float(np.mean(gains))
    error = float(np.std(gains, ddof=1) / np.sqrt(_N_TRIALS))
    tried = f"(correlation with local means of kept halves: {gain:+.3f} ± {error:.3f})"
    if gain > _LOSS:
        return Filling(
            "placed",
            f"Spots are placed: mixed ones do not meet kept spots better {tried}.",
            signal,
            gain,
        )
    return Filling(
        "mixture",
        f"The sections are mixed: too small or too noisy for placing spots to gain {tried}.",
        signal,
        gain,
    )


def _gain(middle, embeddings, states, bandwidth, spacing, seed) -> float:
    """How much better placed spots meet the kept halves than a mixture does, in one cut."""
    rng = np.random.default_rng(seed)
    cuts = [np.array_split(rng.permutation(len(p)), 2) for p in middle]
    (given_left, kept_left), (given_right, kept_right) = cuts
    given = given_left, given_right
    n_left = len(given_left)
    pool, kinds, kept = (
        np.vstack([v[0][rows[0]], v[1][rows[1]]])
        for v, rows in (
            (middle, given), (embeddings, given), (embeddings, (kept_left, kept_right))
        )
    )  # fmt: skip
    places = np.vstack([middle[0][kept_left], middle[1][kept_right]])
    mixed = np.sort(rng.permutation(len(pool))[: len(pool) // 2])
    around = [
        local_weights(middle[side][given[side]], pool[mixed], bandwidth, spacing) for side in (0, 1)
    ]
    expected, expected_states = (
        sum(w @ v[side][given[side]] for side, w in enumerate(around)) / 2
        for v in (embeddings, states)
    )
    target = sum(
        autocorrelation(middle[side][given[side]], embeddings[side][given[side]]) for side in (0, 1)
    ) / 2  # fmt: skip
    chosen = place_spots(
        pool[mixed], expected, pool, kinds, mixed,
        pool_slice=(np.arange(len(pool)) >= n_left).astype(int),
        states=np.vstack([states[0][given_left], states[1][given_right]]),
        expected_states=expected_states, target=target, seed=int(rng.integers(2**31)),
        progress=False,
    ).chosen  # fmt: skip
    wanted = _around(places, places, kept)
    maps = [_around(pool[mixed], places, kinds[rows]) for rows in (mixed, chosen)]
    before, after = (_correlation(found, wanted) for found in maps)
    return after - before


def _around(points: NDArray, places: NDArray, values: NDArray) -> NDArray:
    """Mean over the ten nearest points."""
    k = min(_NEAREST, len(points))
    return values[cKDTree(points).query(places, k)[1].reshape(len(places), k)].mean(axis=1)


def _correlation(one: NDArray, other: NDArray) -> float:
    """Pearson correlation of two tables of values, over places and components at once."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return float((one * other).sum() / np.sqrt(max((one**2).sum() * (other**2).sum(), 1e-300)))
