"""A smooth warp that brings two slices into register beyond rotation and shift.

:func:`fit_warp` finds a smooth displacement field u after alignment. Each slice moves half of the
way, so that neither is the template (symmetric registration: Avants et al. 2008, doi
10.1016/j.media.2007.06.004)::

    minimise over u   sum over places y of  |L(y - u/2) - R(y + u/2)|^2  +  stiffness * bending(u)

L and R are maps of expression components on a grid of squares, u is a bicubic spline on 10 x 10
control points (free-form deformation: Rueckert et al. 1999, doi 10.1109/42.796284). Gauss-Newton
steps find it, on coarse maps first. The stiffness is chosen by fitting on half of the spots and
judging on the other half; no warp is one of the choices. Then: the maps and steps; the splines.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from ..arguments import checked
from ..slices.geometry import spot_spacing

STIFFNESS = (np.inf, 1.0, 0.1, 0.01)
"""What ``stiffness="auto"`` chooses from; infinite means no warp."""

_N_COMPONENTS = 20  # leading components that are compared
_SMALLEST_AREA = 0.1  # of the original; a field that shrinks tissue further is refused
_LARGEST_DISAGREEMENT = 0.5  # of the warped maps; unrelated maps have 1


@dataclass(frozen=True, eq=False)
class SmoothWarp:
    """A displacement field between two slices, half of it for each.

    Attributes
    ----------
    corner, size, coefficients
        (2,) each, the rectangle that the spline covers; (k, k, 2), displacement at the control
        points, from left to right. In the unit of the coordinates.
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

    @checked
    def displacement(self, points: NDArray) -> NDArray[np.float64]:
        """Evaluate u, the way from the left to the right slice, at places (n, 2) halfway."""
        return evaluate(self.coefficients, (points - self.corner) / self.size)

    @checked
    def move_left(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points (n, 2) of the left slice to position t; 0 leaves them, 1 moves them right."""
        return points + t * self._pull(points, 0.5)

    @checked
    def move_right(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points of the right slice to position t; 1 leaves them, 0 moves them to the left."""
        return points - (1.0 - t) * self._pull(points, -0.5)

    @checked
    def smallest_jacobian(self, points: NDArray) -> float:
        """Smallest change of area of either half around points (n, 2); above 0 nothing folds."""
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
@checked
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
        Weight of the bending penalty: 1 is stiff, .01 is soft, infinite means no warp. "auto" fits
        infinity, 1, .1 and .01 on half of the spots and takes the value with which the other halves
        agree best; no warp where they disagree with every value.
    seed
        Decides which spots are in which half.

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
    """Measure, for each stiffness, how the spots that it was not fitted on disagree."""
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
            parts.append(_disagreement(frame, moved, _pick(features, held)))
        errors[stiffness] = float(np.mean(parts))
    return errors


def _pick(arrays, chosen):
    """Take the chosen rows of the array of each slice."""
    return [array[keep] for array, keep in zip(arrays, chosen, strict=True)]


def _fit(frame: Frame, points, features, stiffness: float, trials) -> SmoothWarp:
    """Fit the field at one stiffness."""
    coefficients = _fit_coefficients(frame, points, features, stiffness)
    return SmoothWarp(frame.corner, frame.size, coefficients, stiffness, trials)


# -------------------------------------------------------------------------------------------------
# Maps of two slices on one grid, and Gauss-Newton steps. The basis is a product of splines along
# rows and along columns, so sums over bins are products of small matrices.

_BLURS = (3.0, 2.0)  # width of the Gaussian in bins: coarse first, then finer
_N_STEPS = 10  # Gauss-Newton steps at each blur, at most
_SMALLEST_STEP = 0.02  # in bins; steps end when no coefficient moves further
_BIN_SPACINGS = 2.0  # side of a bin in spot spacings ...
_MOST_BINS = 64  # ... unless that gives more bins than this along a side
_DENSITY_WEIGHT = 0.3  # of the logarithm of the spot density beside the components


class Frame(NamedTuple):
    """The grid both slices are drawn on, and the splines at its rows and columns."""

    corner: NDArray[np.float64]
    bin_side: float
    shape: tuple[int, int]
    across: NDArray[np.float64]
    along: NDArray[np.float64]

    @property
    def size(self) -> NDArray[np.float64]:
        """Sides of the grid, in the unit of the coordinates."""
        return np.array(self.shape) * self.bin_side

    def field(self, coefficients: NDArray) -> NDArray[np.float64]:
        """Evaluate a field (control points squared, d) in all bins: (bins, d)."""
        grid = coefficients.reshape(N_CONTROL, N_CONTROL, -1)
        return np.einsum("ri,ijd,cj->rcd", self.across, grid, self.along, optimize=True).reshape(
            -1, grid.shape[2]
        )

    def gather(self, values: NDArray) -> NDArray[np.float64]:
        """Add up values (bins,) with the weight each control point has there."""
        return (self.across.T @ values.reshape(self.shape) @ self.along).ravel()

    def gather_pairs(self, values: NDArray) -> NDArray[np.float64]:
        """Add up values (bins,) with the product of the weights of two control points."""
        across, along = (
            (side[:, :, None] * side[:, None, :]).reshape(len(side), -1)
            for side in (self.across, self.along)
        )
        pairs = (across.T @ values.reshape(self.shape) @ along).reshape((N_CONTROL,) * 4)
        return pairs.swapaxes(1, 2).reshape(N_CONTROL**2, N_CONTROL**2)


def make_frame(left: NDArray, right: NDArray) -> Frame:
    """Lay a grid of squares over two slices (n, 2) and (m, 2)."""
    low = np.minimum(left.min(axis=0), right.min(axis=0))
    high = np.maximum(left.max(axis=0), right.max(axis=0))
    spacing = (spot_spacing(left) + spot_spacing(right)) / 2
    side = max(_BIN_SPACINGS * spacing, float((high - low).max()) / _MOST_BINS)
    # With a margin, so that points may move out a little. Its width keeps the lines between bins
    # off the spots of a grid, where rounding would decide the bin.
    corner = low - 3.3 * side
    shape = tuple(int(n) for n in np.ceil((high - low) / side + 6.3))
    return Frame(corner, side, shape, *(basis((np.arange(n) + 0.5) / n) for n in shape))


def _draw(frame: Frame, points: NDArray, values: NDArray, blur: float):
    """Draw smoothed maps: mean of the values (rows, columns, d), spots per bin over their mean."""
    bins = ((points - frame.corner) / frame.bin_side).astype(int)
    bins = np.clip(bins, 0, np.array(frame.shape) - 1)
    flat = bins[:, 0] * frame.shape[1] + bins[:, 1]
    adding = sparse.csr_matrix(
        (np.ones(len(flat)), (flat, np.arange(len(flat)))),
        shape=(frame.shape[0] * frame.shape[1], len(flat)),
    )
    number = np.asarray(adding.sum(axis=1)).reshape(*frame.shape, 1)
    total = (adding @ values).reshape(*frame.shape, -1)
    number, total = (gaussian_filter(a, (blur, blur, 0), mode="constant") for a in (number, total))
    filled = number[number > 0.05 * number.max()]
    return total / np.maximum(number, 1e-3 * number.max()), number[..., 0] / filled.mean()


def _disagreement(frame: Frame, moved: list[NDArray], features: list[NDArray]) -> float:
    """Squared difference of the maps of two slices, over their variance."""
    maps = [_draw(frame, p, e, _BLURS[-1]) for p, e in zip(moved, features, strict=True)]
    weight = (maps[0][1] * maps[1][1])[..., None]
    (a, _), (b, _) = maps
    difference, size = (weight * (a - b) ** 2).sum(), (weight * (a**2 + b**2)).sum()
    return float(difference / size) if size > 0 else 1.0


def _fit_coefficients(
    frame: Frame, points: list[NDArray], features: list[NDArray], stiffness: float
) -> NDArray[np.float64]:
    """Find the field, (control points, control points, 2), in the unit of the coordinates."""
    coefficients = np.zeros((N_CONTROL**2, 2))
    if np.isfinite(stiffness):
        for blur in _BLURS:
            maps = [_draw(frame, p, e, blur) for p, e in zip(points, features, strict=True)]
            coefficients = _descend(frame, maps, coefficients, stiffness)
    return coefficients.reshape(N_CONTROL, N_CONTROL, 2) * frame.bin_side


def _descend(frame, maps, coefficients, stiffness):
    """Take Gauss-Newton steps. Displacements are counted in bins here."""
    inside = [(density > 0.3).astype(float) for _, density in maps]
    pictures = [
        np.dstack([values, _DENSITY_WEIGHT * np.log(density + 0.1)]) for values, density in maps
    ]
    slopes = [np.stack(np.gradient(picture, axis=(0, 1)), axis=-1) for picture in pictures]
    n_bins, n_values = int(np.prod(frame.shape)), pictures[0].shape[2]
    inside, pictures, slopes = (
        [a.reshape(n_bins, -1) for a in arrays] for arrays in (inside, pictures, slopes)
    )
    bins = np.indices(frame.shape).reshape(2, -1).T.astype(float)
    plate, scale = np.kron(np.eye(2), _bending()), None
    for _ in range(_N_STEPS):
        u = frame.field(coefficients)
        left, right = _reader(frame.shape, bins - u / 2), _reader(frame.shape, bins + u / 2)
        error = left @ pictures[0] - right @ pictures[1]
        weight = (left @ inside[0]) * (right @ inside[1])
        slope = -(left @ slopes[0] + right @ slopes[1]).reshape(n_bins, n_values, 2) / 2
        if scale is None:  # makes the stiffness a pure number
            scale = (weight[:, :, None] * slope**2).sum() / N_CONTROL**2
            if scale == 0:  # the slices do not overlap, so there is no information on u
                return coefficients
        curvature, gradient = _normal_equations(frame, weight, slope, error)
        penalty = stiffness * scale * plate
        x = coefficients.T.ravel()
        step = np.linalg.solve(curvature + penalty, gradient + penalty @ x)
        coefficients = (x - step).reshape(2, -1).T
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    return coefficients


def _reader(shape: tuple[int, int], places: NDArray) -> sparse.csr_matrix:
    """Bilinear interpolation as a matrix: times the bins of a picture, its values at places."""
    places = np.clip(places, 0.0, np.array(shape) - 1.0)
    base = np.minimum(places.astype(int), np.array(shape) - 2)
    (r, c), (dr, dc) = base.T, (places - base).T
    bins = [(r + i) * shape[1] + c + j for i in (0, 1) for j in (0, 1)]
    shares = [(1 - dr) * (1 - dc), (1 - dr) * dc, dr * (1 - dc), dr * dc]
    entries = np.stack(shares, axis=1).ravel(), np.stack(bins, axis=1).ravel()
    return sparse.csr_matrix(
        (*entries, np.arange(0, 4 * len(places) + 1, 4)), shape=(len(places), shape[0] * shape[1])
    )


def _normal_equations(frame, weight, slope, error):
    """Curvature and gradient of the squared error for the coefficients of both directions."""
    products = {
        (a, b): frame.gather_pairs((weight * slope[..., a] * slope[..., b]).sum(axis=1))
        for a, b in ((0, 0), (0, 1), (1, 1))
    }
    blocks = [[products[0, 0], products[0, 1]], [products[0, 1], products[1, 1]]]
    gradient = [frame.gather((weight * slope[..., a] * error).sum(axis=1)) for a in (0, 1)]
    return np.block(blocks), np.concatenate(gradient)


# -------------------------------------------------------------------------------------------------
# The bicubic spline. Places run from 0 to 1 along either axis.

N_CONTROL = 10
"""Control points along each side."""

_KNOTS = np.concatenate([np.zeros(3), np.linspace(0.0, 1.0, N_CONTROL - 2), np.ones(3)])


def basis(places: NDArray) -> NDArray[np.float64]:
    """Evaluate the cubic B-splines at places (n,): (n, control points)."""
    result = np.zeros((len(places), N_CONTROL))
    shares = np.empty(4)
    for row, place in enumerate(places):
        first = _four_splines(place, _KNOTS, shares)
        result[row, first : first + 4] = shares
    return result


def evaluate(coefficients: NDArray, places: NDArray) -> NDArray[np.float64]:
    """Evaluate the field at places (n, 2), clipped to 0 to 1."""
    result = np.empty((len(places), 2))
    _evaluate(np.ascontiguousarray(coefficients), places, _KNOTS, result)
    return result


def _bending() -> NDArray[np.float64]:
    """Bending energy of a field as a quadratic form of its coefficients, plus a small ridge."""
    # Squared second differences, as of a thin plate; the ridge keeps those without data at 0.
    first, second = (np.diff(np.eye(N_CONTROL), n, axis=0) for n in (1, 2))
    first, second, one = first.T @ first, second.T @ second, np.eye(N_CONTROL)
    plate = np.kron(second, one) + np.kron(one, second) + 2 * np.kron(first, first)
    return plate + 0.01 * np.eye(N_CONTROL**2)


@numba.njit(cache=True)
def _four_splines(place, knots, shares):
    """Write the four cubic B-splines that are not 0 at a place; return the number of the first."""
    # Recurrence of Cox and de Boor (J. Approximation Theory 1972, 10.1016/0021-9045(72)90080-9).
    n_spans = len(knots) - 7
    place = min(max(place, 0.0), 1.0)
    span = 3 + min(int(place * n_spans), n_spans - 1)
    shares[0] = 1.0
    for degree in range(1, 4):
        saved = 0.0
        for r in range(degree):
            right, left = knots[span + r + 1], knots[span + 1 - degree + r]
            part = shares[r] / (right - left)
            shares[r] = saved + (right - place) * part
            saved = (place - left) * part
        shares[degree] = saved
    return span - 3


@numba.njit(cache=True)
def _evaluate(coefficients, places, knots, result):
    """Evaluate the field at places into result; compiled."""
    across, along = np.empty(4), np.empty(4)
    for i in range(len(places)):
        row = _four_splines(places[i, 0], knots, across)
        column = _four_splines(places[i, 1], knots, along)
        result[i] = 0.0
        for a in range(4):
            for b in range(4):
                share = across[a] * along[b]
                for axis in range(2):
                    result[i, axis] += share * coefficients[row + a, column + b, axis]
