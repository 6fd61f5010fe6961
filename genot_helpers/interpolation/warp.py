"""A smooth warp that brings two slices into register beyond what rotation and shift can do.

Neighbouring sections are stretched differently when they are cut and mounted, and the tissue itself
changes from one to the next. After alignment (:mod:`genot_helpers.alignment`) a smooth displacement
field u is left to find. Both slices move, each half of the way, so that neither is the template
(symmetric registration: Avants et al. 2008, doi 10.1016/j.media.2007.06.004)::

    minimise over u   sum over places y of  |L(y - u/2) - R(y + u/2)|^2  +  stiffness * bending(u)

L and R are maps of expression components on a grid
(:mod:`genot_helpers.interpolation.warp_steps`), u is a bicubic spline
(:mod:`genot_helpers.interpolation.splines`). How stiff the field must be is decided by the slices
themselves: it is fitted on half of the spots of each and judged on the other half; no warp at all
is one of the choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .splines import evaluate
from .warp_steps import Frame, disagreement, fit_coefficients, make_frame

__all__ = ["SmoothWarp", "fit_warp"]

STIFFNESS = (np.inf, 1.0, 0.1, 0.01)
"""What ``stiffness="auto"`` chooses from; infinite means no warp."""

_N_COMPONENTS = 20  # leading components that are compared
_SMALLEST_AREA = 0.1  # of what it was; a field that shrinks tissue further is refused
_LARGEST_DISAGREEMENT = 0.5  # of the warped maps; at 1 they are unrelated, and a warp is chance


@dataclass(frozen=True, eq=False)
class SmoothWarp:
    """A displacement field between two slices, half of it for each.

    Attributes
    ----------
    corner, size
        (2,) float64, the rectangle the spline covers, in the unit of the coordinates.
    coefficients
        (k, k, 2) float64, displacement at the control points, from left to right.
    stiffness
        Weight of the bending penalty; infinite if there is no warp.
    trials
        Stiffness → disagreement of the held-out halves, if it was chosen; smaller is better.
    """

    corner: NDArray[np.float64]
    size: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    stiffness: float
    trials: dict[float, float]

    @property
    def is_identity(self) -> bool:
        """True if nothing moves."""
        return not self.coefficients.any()

    def displacement(self, points: NDArray) -> NDArray[np.float64]:
        """Evaluate u, the way from the left to the right slice, at places halfway.

        Parameters
        ----------
        points
            (n, 2), in the frame halfway between the slices.
        """
        return evaluate(self.coefficients, (points - self.corner) / self.size)

    def move_left(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points of the left slice to position t.

        Parameters
        ----------
        points
            (n, 2), coordinates in the left slice.
        t
            0 leaves them where they are, 1 moves them into the right slice's frame.
        """
        return points + t * self._pull(points, 0.5)

    def move_right(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points of the right slice to position t; 1 leaves them, 0 moves them to the left."""
        return points - (1.0 - t) * self._pull(points, -0.5)

    def smallest_jacobian(self, points: NDArray) -> float:
        """Smallest local change of area of either half; above 0 the field does not fold.

        Parameters
        ----------
        points
            (n, 2), where to look: halfway between the slices, where there is tissue.
        """
        step = 1e-4 * self.size.max()
        d = np.stack(
            [
                (self.displacement(points + shift) - self.displacement(points - shift)) / (2 * step)
                for shift in step * np.eye(2)
            ],
            axis=2,
        )
        halves = (np.linalg.det(np.eye(2) + sign * d / 2) for sign in (1, -1))
        return float(min(area.min() for area in halves))

    def _pull(self, points: NDArray, half: float) -> NDArray[np.float64]:
        """Find u at y where y = point + half * u(y): what is known is the point, not y."""
        points = np.asarray(points, dtype=np.float64)
        if self.is_identity:
            return np.zeros_like(points)
        u = np.zeros_like(points)
        for _ in range(40):  # a contraction, because the field does not fold
            previous, u = u, self.displacement(points + half * u)
            if np.abs(u - previous).max() < 1e-9 * self.size.max():
                break
        return u


@threadpool_limits.wrap(limits=1)  # small matrices: threads would wait for each other
def fit_warp(
    left_points: NDArray,
    right_points: NDArray,
    left_embedding: NDArray,
    right_embedding: NDArray,
    *,
    stiffness: float | str = "auto",
    seed: int = 0,
) -> SmoothWarp:
    """Find the smooth warp between two aligned slices.

    Parameters
    ----------
    left_points, right_points
        (n, 2) and (m, 2), coordinates in one frame, in one unit.
    left_embedding, right_embedding
        (n, d) and (m, d), components of expression that mean the same in both slices, the leading
        ones first, centred in each slice. The first 20 are used.
    stiffness
        Weight of the bending penalty: 1 hardly gives, .01 gives readily. "auto" fits each value of
        :data:`STIFFNESS` on half of the spots and takes the one that brings the other halves into
        the best agreement; infinite, one of them, means no warp. It is taken too where the other
        halves hardly agree with any.
    seed
        Which spots are in which half.

    Returns
    -------
    SmoothWarp
        Never folds: a stiffness that would make the field fold is passed over, or multiplied by
        ten until it does not.

    Raises
    ------
    ValueError
        If the stiffness is neither "auto" nor a number above 0.
    """
    if stiffness != "auto" and not (isinstance(stiffness, Real) and stiffness > 0):
        raise ValueError(f'stiffness is {stiffness!r}: give "auto" or a number above 0.')
    points = [np.asarray(p, dtype=np.float64) for p in (left_points, right_points)]
    features = [np.asarray(e)[:, :_N_COMPONENTS] for e in (left_embedding, right_embedding)]
    frame = make_frame(*points)
    trials: dict[float, float] = {}
    if stiffness == "auto":
        trials = _trials(frame, points, features, np.random.default_rng(seed))
        stiffness = min(trials, key=trials.__getitem__)
        if trials[stiffness] > _LARGEST_DISAGREEMENT:
            stiffness = np.inf
    while True:
        warp = _fit(frame, points, features, float(stiffness), trials)
        if warp.is_identity or warp.smallest_jacobian(np.vstack(points)) > _SMALLEST_AREA:
            return warp
        stiffness *= 10.0


def _trials(frame, points, features, rng) -> dict[float, float]:
    """Disagreement of the halves a warp was not fitted on, for each stiffness."""
    first = [rng.random(len(p)) < 0.5 for p in points]
    errors: dict[float, float] = {}
    for stiffness in STIFFNESS:
        parts = []
        for fitted in (first, [~chosen for chosen in first]):
            held = [~chosen for chosen in fitted]
            warp = _fit(frame, _pick(points, fitted), _pick(features, fitted), stiffness, {})
            if not warp.is_identity and warp.smallest_jacobian(np.vstack(points)) <= _SMALLEST_AREA:
                parts.append(np.inf)
                continue
            moved = [
                move(p[keep], 0.5)
                for move, p, keep in zip(
                    (warp.move_left, warp.move_right), points, held, strict=True
                )
            ]
            parts.append(disagreement(frame, moved, _pick(features, held)))
        errors[stiffness] = float(np.mean(parts))
    return errors


def _pick(arrays, chosen):
    return [array[keep] for array, keep in zip(arrays, chosen, strict=True)]


def _fit(frame: Frame, points, features, stiffness: float, trials) -> SmoothWarp:
    coefficients = fit_coefficients(frame, points, features, stiffness)
    return SmoothWarp(frame.corner, frame.size, coefficients, stiffness, trials)
