"""Two slices and a position between them: the slice in between.

After the displacement interpolation of McCann (Advances in Mathematics 1997,
doi 10.1006/aima.1997.1634): mass that the optimal coupling sends from x to y is at (1 - t) x + t y
at position t. On top of it the steps that make the result a slice and not a cloud:

1. components of expression that both slices share (:mod:`genot_helpers.pairs.shared_space`);
2. a smooth warp of both towards each other (:mod:`genot_helpers.interpolation.warp`);
3. positions: an exact sparse coupling of the warped coordinates (:mod:`genot_helpers.transport`),
   and each coupled pair on the straight line between its ends. Expression has no say here: it would
   pull spots of a grid on top of each other;
4. what to expect at each position: the mean of the surroundings in both slices
   (:mod:`genot_helpers.interpolation.local_means`);
5. ``X``: a real spot for each position, such that the surroundings are as expected
   (:mod:`genot_helpers.interpolation.placement`); ``layers["mean"]``: the expectation of every
   gene, as a local mean or from a decoder (:mod:`genot_helpers.decoder`).

Small or noisy sections are treated with more caution, and the result says so
(:mod:`genot_helpers.interpolation.small_sections`). Every width and weight is set from the two
slices; the slice in between is never looked at. The GenOT paper (Wang et al. 2026,
doi 10.1186/s13059-026-04166-z) interpolates by fused Gromov-Wasserstein barycenters instead; for
small slices that is in :mod:`genot_helpers.transport.gromov`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..decoder.decoder import train_decoder
from ..decoder.model import Decoder
from ..shared_features import check_pair, expression_states, shared_space
from ..slices.geometry import nearest_distance, spot_spacing
from ..slices.slices import SliceError, find_labels
from ..transport.support import neighbour_support
from ..transport.transport import Coupling, sparse_coupling
from .carry import CarriedLabels, prepare_labels
from .local_means import Nearest, choose_bandwidth, expected_expression, local_mean
from .placement import autocorrelation, place_spots
from .positions import (
    as_given,
    check_position,
    count_spots,
    draw_pairs,
    facts_between,
    first_choice,
    gather_spots,
    genes_of_both,
    order_of_spots,
    place_between,
    position_between,
    roughen,
    spread,
)
from .small_sections import LARGE, WAYS, Filling, choose_filling, weigh_by_signal
from .warp import SmoothWarp, fit_warp

__all__ = [
    "Interpolation",
    "interpolate",
    "interpolate_many",
    "position_between",
    "prepare_interpolation",
]

_SAME_SIZE = 1.5  # a slice with more times the spots of the other has grown


def interpolate(left: AnnData, right: AnnData, t: float, **options) -> AnnData:
    """Generate the slice at one position between two slices.

    Parameters
    ----------
    left, right
        Slices in one frame (:func:`genot_helpers.alignment.align`), with the same kind of values in
        ``X``, counts or not. Nothing is written to them.
    t
        Position: 0 is the left slice, 1 the right one. See :func:`position_between`.
    **options
        Of :func:`prepare_interpolation`, and ``n_spots`` of :meth:`Interpolation.at`.

    Returns
    -------
    AnnData
        The generated slice; see :meth:`Interpolation.at` for its slots.

    Examples
    --------
    >>> generated = interpolate(left, right, 0.5, decode=False)
    >>> generated.obs["genot_source"].value_counts()
    """
    n_spots = options.pop("n_spots", None)
    check_position(t)
    if n_spots is not None:
        count_spots(left, right, t, n_spots)
    return prepare_interpolation(left, right, **options).at(t, n_spots=n_spots)


def interpolate_many(
    left: AnnData, right: AnnData, positions: Iterable[float], **options
) -> list[AnnData]:
    """Generate slices at several positions from one coupling: a stack, or the frames of a film.

    Parameters
    ----------
    left, right, **options
        As for :func:`interpolate`.
    positions
        Each between 0 and 1.
    """
    positions = list(positions)
    n_spots = options.pop("n_spots", None)
    for t in positions:
        check_position(t)
        if n_spots is not None:
            count_spots(left, right, t, n_spots)
    prepared = prepare_interpolation(left, right, **options)
    return [prepared.at(t, n_spots=n_spots) for t in positions]


def prepare_interpolation(
    left: AnnData,
    right: AnnData,
    *,
    label_key: str | None = "auto",
    spatial_key: str = "spatial",
    stiffness: float | str = "auto",
    n_neighbors: int = 40,
    unmatched_cost: float | str | None = "auto",
    filling: str = "auto",
    mean: bool = True,
    decode: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Interpolation:
    """Do everything that does not depend on the position: once for a whole stack.

    Parameters
    ----------
    left, right
        Slices in one frame; nothing is written to them.
    label_key
        Column of ``obs`` with labels to carry, in both slices; "auto" finds it, None carries none.
        Labels decide nothing but the carried label.
    spatial_key
        Slot of ``obsm`` with the coordinates.
    stiffness
        Of the warp, see :func:`genot_helpers.interpolation.warp.fit_warp`; infinite means no warp,
        which is advisable where the slices hold the same tissue in part only: borders then pull
        the warp.
    n_neighbors, unmatched_cost
        Of the coupling, see :func:`genot_helpers.transport.sparse_coupling`.
    filling
        What the slice is filled with: "placed", real spots placed one by one; "mixture", spots of
        both slices at random; "copy", the spots of one slice. "auto" places spots, unless the
        slices are so small or noisy that trials on halves of both show no gain
        (:mod:`genot_helpers.interpolation.small_sections`). What was chosen, and why, is in
        ``uns["genot"]`` of the generated slice.
    mean
        Write ``layers["mean"]``. It is dense: leave it out where spots times genes are too many.
    decode
        Take it from a decoder that is trained on both slices, not from local means. Takes longer
        than all the rest.
    seed
        Decides every random choice.
    progress
        Show progress bars; None decides by whether anyone can see them.

    Raises
    ------
    SliceError
        If a slice is unsound, no gene is shared, one holds logarithms and the other does not, or
        no spot of one is within reach of the other. Before any work.
    ValueError
        If ``filling`` is none of those above.
    """
    if filling != "auto" and filling not in WAYS:
        raise ValueError(f'filling is {filling!r}: give "auto", "placed", "mixture" or "copy".')
    check_pair(left, right, spatial_key=spatial_key)
    key = _label_key(left, right, label_key)
    begin = time.perf_counter()
    given = left, right
    points = [np.asarray(a.obsm[spatial_key], dtype=np.float64)[:, :2] for a in given]
    orders = [order_of_spots(*spots) for spots in zip(given, points, strict=True)]
    left, right = left[orders[0]], right[orders[1]]
    points = [p[order] for p, order in zip(points, orders, strict=True)]
    # Made again after the warp; here it finds out whether the slices are within reach at all.
    neighbour_support(
        *points, None, None, embedding_weight=0.0, n_neighbors=n_neighbors,
        unmatched_cost=unmatched_cost, left_mass=None, right_mass=None,
    )  # fmt: skip
    space = shared_space(left, right)
    signal = ()
    if min(left.n_obs, right.n_obs) < LARGE:
        signal = tuple(autocorrelation(p, e) for p, e in zip(points, space[:2], strict=True))
        weighed = weigh_by_signal(points, space[:2])
        space = space._replace(left=weighed[0], right=weighed[1])
    warp = fit_warp(*points, space.left, space.right, stiffness=stiffness, seed=seed)
    middle = warp.move_left(points[0], 0.5), warp.move_right(points[1], 0.5)
    ratio = right.n_obs / left.n_obs
    has_grown = not 1 / _SAME_SIZE < ratio < _SAME_SIZE
    # One spot is one unit of mass, so that spots are coupled whole; unless the tissue has grown:
    # then each slice is as much as the other, and spots have several partners.
    masses = {} if has_grown else {
        f"{side}_mass": np.ones(a.n_obs) for side, a in (("left", left), ("right", right))
    }  # fmt: skip
    coupling_begin = time.perf_counter()
    coupling = sparse_coupling(
        *middle, n_neighbors=n_neighbors, unmatched_cost=unmatched_cost, **masses
    )
    coupling_seconds = time.perf_counter() - coupling_begin
    spacing = (spot_spacing(middle[0]) + spot_spacing(middle[1])) / 2
    known = *middle, space.left, space.right, spacing
    bandwidth, mean_bandwidth = (
        choose_bandwidth(*known, from_both=both, seed=seed) for both in (False, True)
    )
    labels = None
    if key is not None:
        labels = prepare_labels(left, right, key, middle, spacing, seed=seed)
    if filling == "auto":
        chosen = choose_filling(
            middle, space[:2], signal, bandwidth, spacing, has_grown=has_grown, seed=seed
        )
    else:
        chosen = Filling(filling, "So it was asked for.", signal)
    prepared = Interpolation(
        left=left,
        right=right,
        left_points=points[0],
        right_points=points[1],
        left_embedding=space.left,
        right_embedding=space.right,
        warp=warp,
        coupling=coupling,
        spacing=spacing,
        bandwidth=bandwidth,
        mean_bandwidth=mean_bandwidth,
        filling=chosen,
        labels=labels,
        mean=mean,
        seed=seed,
        progress=progress,
    )
    if mean and decode:
        prepared.decoder = _train(prepared)
    seconds = {"coupling": coupling_seconds, "prepare": time.perf_counter() - begin}
    prepared.seconds |= seconds
    prepared = prepared.reordered(*map(np.argsort, orders))
    return replace(prepared, left=given[0], right=given[1])


def _label_key(left: AnnData, right: AnnData, label_key: str | None) -> str | None:
    """Find the column of labels; "auto" takes it only if both slices have it."""
    key = find_labels(left, label_key)
    if key is None or key in right.obs:
        return key
    if label_key == "auto":
        return None
    raise SliceError(
        f"obs[{key!r}] is in the left slice only. Name a column that both have, or pass "
        "label_key=None to carry no labels."
    )


def _train(prepared: Interpolation) -> Decoder:
    """Train the decoder on what each slice expects at its own spots."""
    slices = []
    for adata, points, values in (
        (prepared.left, prepared.left_points, prepared.left_embedding),
        (prepared.right, prepared.right_points, prepared.right_embedding),
    ):
        smooth = local_mean(points, values, points, prepared.bandwidth, prepared.spacing)
        slices.append(AnnData(adata[:, prepared.genes].X, var=pd.DataFrame(index=prepared.genes)))
        slices[-1].obsm["X_genot"] = smooth.astype(np.float32)
    return train_decoder(slices, use_rep="X_genot", seed=prepared.seed, progress=prepared.progress)


# -------------------------------------------------------------------------------------------------
# Two slices, coupled, and the slice at any position between them.
#
# :func:`genot_helpers.interpolation.prepare_interpolation` makes the pair; here a slice is put
# together from it. What each step does is said in :mod:`genot_helpers.interpolation`.


class _Surroundings(NamedTuple):
    """What lies around the generated positions: found once, used for all that is expected there."""

    t: float
    positions: NDArray[np.float64]
    moved: tuple[NDArray[np.float64], NDArray[np.float64]]
    nearest: tuple[Nearest, Nearest]
    weights: tuple[sparse.csr_matrix, sparse.csr_matrix]

    def expect(self, left_values: NDArray, right_values: NDArray) -> NDArray[np.float32]:
        """Average values over the surroundings in both slices."""
        left, right = self.weights
        return (1.0 - self.t) * (left @ left_values) + self.t * (right @ right_values)


@dataclass(eq=False)
class Interpolation:
    """Two slices, coupled: ask for the slice at any position between them.

    Attributes
    ----------
    left, right
        The slices.
    left_points, right_points, left_embedding, right_embedding
        Their coordinates and shared components.
    warp, coupling
        See :mod:`genot_helpers.interpolation.warp` and :mod:`genot_helpers.transport`.
    spacing, bandwidth, mean_bandwidth
        Spot spacing, width of the mean that says which real spots to expect where, and of the
        narrower one that ``layers["mean"]`` is, all in the unit of the points.
    filling
        Whether spots are placed, mixed or copied, and why:
        :mod:`genot_helpers.interpolation.small_sections`.
    labels
        See :mod:`genot_helpers.interpolation.carried_labels`; None if none are carried.
    mean
        Whether ``layers["mean"]`` is written.
    seed, progress
        Of :func:`genot_helpers.interpolation.prepare_interpolation`.
    decoder
        See :mod:`genot_helpers.decoder`; None: the mean is a local one.
    seconds
        How long the coupling, the whole preparation and, last time, the placing of spots took
        (keys ``coupling``, ``prepare``, ``place``).
    """

    left: AnnData
    right: AnnData
    left_points: NDArray[np.float64]
    right_points: NDArray[np.float64]
    left_embedding: NDArray[np.float32]
    right_embedding: NDArray[np.float32]
    warp: SmoothWarp
    coupling: Coupling
    spacing: float
    bandwidth: float
    mean_bandwidth: float
    filling: Filling
    labels: CarriedLabels | None = None
    mean: bool = True
    seed: int = 0
    progress: bool | None = None
    decoder: Decoder | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def genes(self) -> pd.Index:
        """Genes that both slices have, in the order of the left one."""
        return genes_of_both(self.left, self.right)

    def at(self, t: float, *, n_spots: int | None = None) -> AnnData:
        """Generate the slice at position t.

        Parameters
        ----------
        t
            0 gives the left slice back, 1 the right one (moved into the left's frame by no more
            than was done to it before).
        n_spots
            Fewer spots than the (1 - t) n + t m that the slices have there on average; drawn
            before real spots are placed.

        Returns
        -------
        AnnData
            - ``X``: unchanged expression of real spots; genes that both slices have;
            - ``layers["mean"]`` (float32): denoised expectation in the unit of ``X``, if
              one is wanted. Use it for maps of single genes. Use ``X`` for everything that lives on
              variation between spots: clustering, correlation, differential expression;
            - ``obsm["spatial"]``; ``obsm["X_genot"]`` (float32), the expected shared components;
            - ``obs["genot_source"]`` ("left" or "right") and ``obs["genot_source_spot"]``: which
              real spot; other columns of ``obs`` that both slices have are those of that spot;
            - ``obs["genot_domain"]``, ``obs["genot_confidence"]``: carried label, by vote of the
              surroundings of both slices such that each label keeps its share of the slice, and
              its share of the vote, if there are labels;
            - ``uns["genot"]``: how it was made; ``filling`` ("placed", "mixture" or "copy") and
              ``filling_reason`` say with what, and why. A copy has the spots of one slice, at most.

        Raises
        ------
        SliceError
            If t is not in [0, 1] or ``n_spots`` is not between 20 and what there is.
        """
        check_position(t)
        n_spots = count_spots(self.left, self.right, t, n_spots)
        orders = (
            order_of_spots(self.left, self.left_points),
            order_of_spots(self.right, self.right_points),
        )
        generated = self.reordered(*orders)._generate(t, n_spots)
        if t in (0.0, 1.0):
            generated = as_given(generated, (self.left, self.right)[round(t)])
        return generated

    def reordered(self, left_order: NDArray, right_order: NDArray) -> Interpolation:
        """Return the same pair with the spots of both slices in another order.

        Parameters
        ----------
        left_order, right_order
            (n,) and (m,) int, a row for each place.
        """
        if all((np.diff(order) == 1).all() for order in (left_order, right_order)):
            return self
        labels = self.labels
        if labels is not None:
            votes = labels.votes[0][left_order], labels.votes[1][right_order]
            labels = labels._replace(votes=votes)
        return replace(
            self,
            left=self.left[left_order],
            right=self.right[right_order],
            left_points=self.left_points[left_order],
            right_points=self.right_points[right_order],
            left_embedding=self.left_embedding[left_order],
            right_embedding=self.right_embedding[right_order],
            coupling=self.coupling.reordered(left_order, right_order),
            labels=labels,
        )

    def _generate(self, t: float, n_spots: int) -> AnnData:
        """Generate, the spots being in an order of their own."""
        begin = time.perf_counter()
        moved = self.warp.move_left(self.left_points, t), self.warp.move_right(self.right_points, t)
        positions, start = self._positions(t, n_spots, *moved)
        around = self._look_around(t, positions, moved)
        expected = around.expect(self.left_embedding, self.right_embedding)
        chosen, record = start, {}
        if 0.0 < t < 1.0 and self.filling.way == "placed":
            chosen, record = self._place(around, expected, start)
        generated = self._assemble(around, expected, chosen)
        generated.uns["genot"] |= record  # no times in it: the same run leaves the same file
        self.seconds["place"] = time.perf_counter() - begin
        return generated

    def _positions(
        self, t: float, n_spots: int, left: NDArray, right: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Positions at t and, for each, a real spot to begin with: a row of left, then of right."""
        pool = np.vstack([left, right])
        if self._copies(t):  # the end itself
            rows = np.arange(len(left))
            if self._copied_side(t):
                rows = len(left) + np.arange(len(right))
            rows = np.sort(self._rng(1).permutation(rows)[:n_spots])
            return pool[rows], rows
        rng = self._rng(1)
        pairs = draw_pairs(self.coupling, t, n_spots, rng)
        positions = place_between(pairs, left, right, t)
        density = np.sqrt(count_spots(self.left, self.right, t) / n_spots)
        spacing = (1 - t) * nearest_distance(left) + t * nearest_distance(right)
        positions = spread(positions, spacing * density, rng)
        positions = roughen(positions, spacing * density, rng)
        return positions, first_choice(pairs, positions, pool, len(left), t, rng)

    def _copies(self, t: float) -> bool:
        """Whether the slice at t is one of the two, moved: at the ends, or where that is best."""
        return t in (0.0, 1.0) or self.filling.way == "copy"

    def _copied_side(self, t: float) -> int:
        return round(t) if t in (0.0, 1.0) else self.filling.copied_side(t)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number])

    def _look_around(self, t, positions, moved) -> _Surroundings:
        """Weigh what lies around the positions in either slice."""
        widths = [self.bandwidth, self.mean_bandwidth]
        widest = max(widths + ([self.labels.bandwidth] if self.labels else []))
        nearest = tuple(Nearest(points, positions, widest, self.spacing) for points in moved)
        weights = tuple(spots.weights(self.bandwidth) for spots in nearest)
        return _Surroundings(t, positions, moved, nearest, weights)

    def _place(self, around: _Surroundings, expected: NDArray, start: NDArray):
        """Real spots for the positions, and a record of how that went."""
        t, positions = around.t, around.positions
        embedding = np.vstack([self.left_embedding, self.right_embedding])
        n_left = self.left.n_obs
        states = expression_states(embedding, seed=self.seed)
        target = sum(
            weight * autocorrelation(points, values)
            for points, values, weight in (
                (self.left_points, self.left_embedding, 1.0 - t),
                (self.right_points, self.right_embedding, t),
            )
        )
        placement = place_spots(
            positions,
            expected,
            np.vstack(around.moved),
            embedding,
            start,
            pool_slice=np.repeat([0, 1], [n_left, self.right.n_obs]),
            states=states,
            expected_states=around.expect(states[:n_left], states[n_left:]),
            target=target,
            # Halfway between the slices a spot has no place of its own; near an end it has.
            anchor=1.0 / (4.0 * t * (1.0 - t)) - 1.0,
            seed=self.seed,
            progress=self.progress,
        )
        record = {
            "alignment_weight": placement.alignment_weight,
            "autocorrelation": np.array(placement.autocorrelation),
            "autocorrelation_target": placement.target,
        }
        return placement.chosen, record

    def _assemble(self, around: _Surroundings, expected: NDArray, chosen: NDArray):
        """Put the slots together."""
        generated = gather_spots(self.left, self.right, chosen, hidden=self._hidden)
        generated.obsm["spatial"] = around.positions
        generated.obsm["X_genot"] = np.asarray(expected, dtype=np.float32)
        if self.labels is not None:
            labels, shares = self._label(around, chosen)
            generated.obs["genot_domain"], generated.obs["genot_confidence"] = labels, shares
        if self.mean:
            generated.layers["mean"] = self._mean(around, generated.obsm["X_genot"])
        generated.uns["genot"] = self._facts(around.t)
        return generated

    def _mean(self, around: _Surroundings, expected: NDArray) -> NDArray[np.float32]:
        """Return the denoised expectation of every gene, in the unit of ``X``."""
        shares = 1.0 - around.t, around.t
        if self.decoder is not None:
            return self.decoder.predict(expected, slice_weights=shares, genes=self.genes)
        return expected_expression(
            [a[:, self.genes] for a in (self.left, self.right)],
            [spots.weights(self.mean_bandwidth) for spots in around.nearest],
            shares,
        )

    def _label(self, around: _Surroundings, chosen: NDArray):
        """Return labels and their share of the vote; in a copy, or where it fails, spots' own."""
        weights = tuple(spots.weights(self.labels.bandwidth) for spots in around.nearest)
        labels, shares = self.labels.carry(around.t, weights)
        if not (self._copies(around.t) or self.labels.is_lost(labels, around.t)):
            return labels, shares
        own = np.vstack(self.labels.votes)[chosen]
        known = own.any(axis=1)
        codes = np.where(known, own.argmax(axis=1), labels.codes)
        labels = pd.Categorical.from_codes(codes, categories=self.labels.names)
        return labels, np.where(known, 1.0, shares)

    @property
    def _hidden(self) -> set[str]:
        """Columns that are not carried along: labels are voted on."""
        return {"domain_truth"} | ({self.labels.key} if self.labels else set())

    def _facts(self, t: float) -> dict:
        return facts_between(self.left, self.right, t) | {
            "t": float(t),
            "seed": self.seed,
            "stiffness": self.warp.stiffness,
            "bandwidth": self.bandwidth,
            "mean_bandwidth": self.mean_bandwidth,
            "spacing": self.spacing,
            "unmatched_fraction": self.coupling.unmatched_fraction,
            "filling": self.filling.way,
            "filling_reason": self.filling.reason,
        }
