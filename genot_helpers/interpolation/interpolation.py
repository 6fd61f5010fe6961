"""The slice in between: two slices and a position t between them become a third slice.

:func:`prepare_interpolation` does once what does not depend on t; :meth:`Interpolation.at` then
generates the slice at any t. After the displacement interpolation of McCann (1997, doi
10.1006/aima.1997.1634): mass that an optimal coupling sends from x to y is at (1 - t) x + t y. The
steps, in the order in which the functions stand here:

1. components of expression that both slices share (:mod:`genot_helpers.comparable`);
2. a smooth warp of both slices towards each other (``warp.py``);
3. an exact sparse coupling of the warped coordinates (:mod:`genot_helpers.transport`). Expression
   does not enter: it would pull spots of a grid on top of each other;
4. positions: each coupled pair on the straight line between its ends; local means of both slices,
   and a vote on the label, at each position (``places.py``);
5. ``X``: one real spot for each position, chosen to reproduce the local means; small or noisy
   sections are treated with more caution (``placement.py``);
6. ``layers["mean"]``: every gene's local mean, or from a decoder (:mod:`genot_helpers.decoder`).

Every width and weight is set from the two slices; the slice in between is never looked at. The
GenOT paper (Wang et al. 2026, doi 10.1186/s13059-026-04166-z) interpolates by fused
Gromov-Wasserstein barycenters instead: see :mod:`genot_helpers.transport`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..arguments import ANY, checked
from ..comparable import check_pair, expression_states, shared_space
from ..decoder.decoder import train_decoder
from ..decoder.model import Decoder
from ..slices.geometry import nearest_distance, positions_of, spot_spacing
from ..slices.sections import by_pair
from ..slices.slices import SliceError, find_labels
from ..slices.values import plain_matrix
from ..transport.transport import Coupling, neighbour_support, sparse_coupling
from .placement import (
    LARGE,
    WAYS,
    Filling,
    autocorrelation,
    choose_filling,
    place_spots,
    weigh_by_signal,
)
from .places import (
    CarriedLabels,
    Nearest,
    choose_bandwidth,
    draw_pairs,
    expected_expression,
    first_choice,
    local_mean,
    order_of_spots,
    place_between,
    prepare_labels,
    roughen,
    spread,
)
from .warp import SmoothWarp, fit_warp

_SAME_SIZE = 1.5  # a slice with more times the spots of the other has grown
_FEWEST_SPOTS = 20  # as for a given slice


@by_pair
@checked(t=ANY)
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
    return interpolate_many(left, right, [t], **options)[0]


@by_pair
@checked
def interpolate_many(
    left: AnnData, right: AnnData, positions: Iterable[float], **options
) -> list[AnnData]:
    """Generate slices at several positions, each 0 to 1, from one coupling: a stack, or a film.

    The other parameters are those of :func:`interpolate`.
    """
    positions = list(positions)
    n_spots = options.pop("n_spots", None)
    for t in positions:
        _count_spots(left, right, t, n_spots)
    prepared = prepare_interpolation(left, right, **options)
    return [prepared.at(t, n_spots=n_spots) for t in positions]


@by_pair
@checked(n_neighbors=(1, 100_000))
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
    left, right, spatial_key
        Slices in one frame, with coordinates in ``obsm[spatial_key]``; nothing is written to them.
    label_key
        Column of ``obs`` with labels to carry, in both slices; "auto" finds it, None carries none.
        Labels influence nothing but the carried label.
    stiffness
        Of the warp, see :func:`fit_warp`; infinite means no warp. Choose that where the slices
        share only part of the tissue, because borders would pull the warp.
    n_neighbors, unmatched_cost
        Of the coupling, see :func:`genot_helpers.transport.sparse_coupling`.
    filling
        What the slice is filled with: "placed", real spots placed one by one; "mixture", spots of
        both slices at random; "copy", the spots of one slice. "auto" places spots, unless the
        slices are so small or noisy that trials on halves of both show no gain
        (:mod:`genot_helpers.interpolation.placement`); ``uns["genot"]`` of the result says why.
    mean
        Write ``layers["mean"]``. It is dense: leave it out where spots times genes are too many.
    decode
        Take the mean from a decoder that is trained on both slices instead of from local means.
        Training takes longer than all other steps together.
    seed, progress
        The seed decides every random choice. Progress bars: None shows them where someone can see.

    Returns
    -------
    Interpolation
        Ready for :meth:`Interpolation.at`.

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
    points = [positions_of(a, spatial_key) for a in given]
    orders = [order_of_spots(*spots) for spots in zip(given, points, strict=True)]
    left, right = left[orders[0]], right[orders[1]]
    points = [p[order] for p, order in zip(points, orders, strict=True)]
    # Made again after the warp. Here it raises if the slices are out of each other's reach.
    neighbour_support(
        *points, None, None, embedding_weight=0.0, n_neighbors=n_neighbors,
        unmatched_cost=unmatched_cost, left_mass=None, right_mass=None,
    )  # fmt: skip
    space = shared_space(left, right)
    signal: tuple[float, ...] = ()
    if min(left.n_obs, right.n_obs) < LARGE:
        signal = tuple(autocorrelation(p, e) for p, e in zip(points, space[:2], strict=True))
        weighed = weigh_by_signal(points, space[:2])
        space = space._replace(left=weighed[0], right=weighed[1])
    warp = fit_warp(*points, space.left, space.right, stiffness=stiffness, seed=seed)
    middle = warp.move_left(points[0], 0.5), warp.move_right(points[1], 0.5)
    ratio = right.n_obs / left.n_obs
    has_grown = not 1 / _SAME_SIZE < ratio < _SAME_SIZE
    # One spot is one unit of mass, so that spots are coupled whole. If the tissue has grown, both
    # slices have the same total mass instead, and a spot has several partners.
    masses = [None if has_grown else np.ones(a.n_obs) for a in (left, right)]
    coupling_begin = time.perf_counter()
    coupling = sparse_coupling(
        *middle, n_neighbors=n_neighbors, unmatched_cost=unmatched_cost,
        left_mass=masses[0], right_mass=masses[1],
    )  # fmt: skip
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
        left, right, *points, space.left, space.right, warp, coupling, spacing, bandwidth,
        mean_bandwidth, chosen, labels, mean, seed, progress,
    )  # fmt: skip
    if mean and decode:
        prepared.decoder = _train(prepared)
    prepared.seconds |= {"coupling": coupling_seconds, "prepare": time.perf_counter() - begin}
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


def _count_spots(left: AnnData, right: AnnData, t: float, n_spots: int | None = None) -> int:
    """Return ``n_spots`` if t and it are possible, or by default (1 - t) n + t m."""
    if not (isinstance(t, Real) and 0.0 <= t <= 1.0):
        raise SliceError(
            f"t is {t!r}, but a position lies between 0 (left) and 1 (right). For slices of known "
            "depth position_between computes it."
        )
    most = round((1.0 - t) * left.n_obs + t * right.n_obs)
    if n_spots is None:
        return most
    if not _FEWEST_SPOTS <= n_spots <= most:
        raise SliceError(
            f"n_spots is {n_spots}, but at t = {t:g} it can be {_FEWEST_SPOTS} to {most}."
        )
    return int(n_spots)


_KEPT_FACTS = ("y_axis", "micrometres_per_unit", "simulated")


@dataclass(eq=False)
class Interpolation:
    """Two slices, coupled: ask for the slice at any position between them.

    Attributes
    ----------
    left, right, left_points, right_points, left_embedding, right_embedding
        The slices, their coordinates and shared components.
    warp, coupling
        The smooth warp and the coupling of the warped coordinates.
    spacing, bandwidth, mean_bandwidth
        Spot spacing; standard deviation of the Gaussian for the expected components, and for
        ``layers["mean"]``. All in the unit of the points.
    filling
        Whether spots are placed, mixed or copied (``way``), and why (``reason``).
    labels, decoder
        Votes of both slices, and the decoder trained on both; None without.
    mean, seed, progress
        Of :func:`prepare_interpolation`.
    seconds
        Of the keys ``coupling``, ``prepare`` (all of it) and ``place`` (the last time).
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
        return self.left.var_names[self.left.var_names.isin(self.right.var_names)]

    @checked(t=ANY, n_spots=ANY)
    def at(self, t: float, *, n_spots: int | None = None) -> AnnData:
        """Generate the slice at position t.

        Parameters
        ----------
        t
            0 returns the left slice, 1 the right one, in the coordinates they were given with.
        n_spots
            Number of spots, at most (1 - t) n + t m, which is the default; drawn before real spots
            are placed.

        Returns
        -------
        AnnData
            - ``X``: unchanged expression of real spots; genes that both slices have;
            - ``layers["mean"]`` (float32), if wanted: denoised expectation in the unit of ``X``,
              for maps of genes. Use ``X`` for all that needs the variation between spots;
            - ``obsm["spatial"]``; ``obsm["X_genot"]`` (float32), the expected shared components;
            - ``obs["genot_source"]`` ("left" or "right") and ``obs["genot_source_spot"]``: the real
              spot; other columns of ``obs`` that both slices have are taken from that spot;
            - ``obs["genot_domain"]``, ``obs["genot_confidence"]``, if there are labels: the label
              carried by a vote of the neighbourhood in both slices, in which each label keeps its
              share of the slice; and that label's share of the vote;
            - ``uns["genot"]``: how it was made; ``filling`` ("placed", "mixture" or "copy") and
              ``filling_reason`` say with what, and why. A copy has the spots of one slice, at most.

        Raises
        ------
        SliceError
            If t is not in [0, 1], or ``n_spots`` is below 20 or above (1 - t) n + t m.
        """
        n_spots = _count_spots(self.left, self.right, t, n_spots)
        left_order = order_of_spots(self.left, self.left_points)
        right_order = order_of_spots(self.right, self.right_points)
        generated = self.reordered(left_order, right_order)._generate(t, n_spots)
        if t in (0.0, 1.0):  # the spots of that end, in their order
            names = (self.left, self.right)[round(t)].obs_names.astype(str)
            rows = names.get_indexer(generated.obs["genot_source_spot"])
            generated = generated[np.argsort(rows)].copy()
            generated.obs_names = _names(generated.n_obs)
        return generated

    @checked
    def reordered(self, left_order: NDArray, right_order: NDArray) -> Interpolation:
        """Return the same pair with the spots of both slices in another order: (n,), (m,) int."""
        if all((np.diff(order) == 1).all() for order in (left_order, right_order)):
            return self
        labels = self.labels
        if labels is not None:
            left_votes, right_votes = labels.votes
            labels = labels._replace(votes=(left_votes[left_order], right_votes[right_order]))
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
        """Generate from spots sorted by :func:`order_of_spots`: positions, means, real spots."""
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
        """Draw positions, and a first real spot for each: a row of left stacked on right."""
        pool = np.vstack([left, right])
        rng = np.random.default_rng([self.seed, 1])
        if self._copies(t):  # the end itself
            side = round(t) if t in (0.0, 1.0) else self.filling.copied_side(t)
            rows = len(left) + np.arange(len(right)) if side else np.arange(len(left))
            rows = np.sort(rng.permutation(rows)[:n_spots])
            return pool[rows], rows
        pairs = draw_pairs(self.coupling, t, n_spots, rng)
        positions = place_between(pairs, left, right, t)
        density = np.sqrt(_count_spots(self.left, self.right, t) / n_spots)
        spacing = (1 - t) * nearest_distance(left) + t * nearest_distance(right)
        positions = spread(positions, spacing * density, rng)
        positions = roughen(positions, spacing * density, rng)
        return positions, first_choice(pairs, positions, pool, len(left), t, rng)

    def _copies(self, t: float) -> bool:
        """Whether the slice at t is one of the two, moved: at the ends, or where that is best."""
        return t in (0.0, 1.0) or self.filling.way == "copy"

    def _look_around(self, t, positions, moved) -> _Neighbourhood:
        """Find and weigh the spots of both slices around the positions."""
        widths = [self.bandwidth, self.mean_bandwidth]
        widest = max(widths + ([self.labels.bandwidth] if self.labels else []))
        nearest = tuple(Nearest(points, positions, widest, self.spacing) for points in moved)
        weights = tuple(spots.weights(self.bandwidth) for spots in nearest)
        return _Neighbourhood(t, positions, moved, nearest, weights)

    def _place(self, around: _Neighbourhood, expected: NDArray, start: NDArray):
        """Choose real spots for the positions; return them and a record of the search."""
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
            positions, expected, np.vstack(around.moved), embedding, start,
            pool_slice=np.repeat([0, 1], [n_left, self.right.n_obs]),
            states=states,
            expected_states=around.expect(states[:n_left], states[n_left:]),
            target=target,
            # Near an end spots should stay where they are; halfway they are free to move.
            anchor=1.0 / (4.0 * t * (1.0 - t)) - 1.0,
            seed=self.seed, progress=self.progress,
        )  # fmt: skip
        record = {
            "alignment_weight": placement.alignment_weight,
            "autocorrelation": np.array(placement.autocorrelation),
            "autocorrelation_target": placement.target,
        }
        return placement.chosen, record

    def _assemble(self, around: _Neighbourhood, expected: NDArray, chosen: NDArray):
        """Write the slots of the generated slice."""
        generated = self._gather(chosen)
        generated.obsm["spatial"] = around.positions
        generated.obsm["X_genot"] = np.asarray(expected, dtype=np.float32)
        if self.labels is not None:
            labels, shares = self._label(around, chosen)
            generated.obs["genot_domain"], generated.obs["genot_confidence"] = labels, shares
        if self.mean:
            generated.layers["mean"] = self._mean(around, generated.obsm["X_genot"])
        generated.uns["genot"] = self._facts(around.t)
        return generated

    def _mean(self, around: _Neighbourhood, expected: NDArray) -> NDArray[np.float32]:
        """Return the denoised expectation of every gene, in the unit of ``X``."""
        shares = 1.0 - around.t, around.t
        if self.decoder is not None:
            return self.decoder.predict(expected, slice_weights=shares, genes=self.genes)
        return expected_expression(
            [a[:, self.genes] for a in (self.left, self.right)],
            [spots.weights(self.mean_bandwidth) for spots in around.nearest],
            shares,
        )

    def _label(self, around: _Neighbourhood, chosen: NDArray):
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

    def _gather(self, chosen: NDArray) -> AnnData:
        """Make a slice of rows of left stacked on right: unchanged X, shared columns of obs."""
        left, right, genes = self.left, self.right, self.genes
        X = sparse.vstack(
            [sparse.csr_matrix(plain_matrix(a[:, genes].X)) for a in (left, right)], format="csr"
        )
        X = X[chosen] if sparse.issparse(left.X) else X[chosen].toarray()
        # Labels are voted on, not copied from the real spot.
        hidden = {"domain_truth", self.labels.key if self.labels else ""}
        shared = [c for c in left.obs if c in right.obs and c not in hidden]
        shared = [c for c in shared if not c.startswith("genot_")]
        obs = pd.concat([left.obs[shared], right.obs[shared]]).iloc[chosen].copy()
        for column in obs.select_dtypes("object"):  # categories of both slices, as categories
            if any(isinstance(a.obs[column].dtype, pd.CategoricalDtype) for a in (left, right)):
                obs[column] = obs[column].astype("category")
        names = np.concatenate([left.obs_names, right.obs_names])
        side = np.where(chosen < left.n_obs, "left", "right")
        obs["genot_source"] = pd.Categorical(side, categories=["left", "right"])
        obs["genot_source_spot"] = names[chosen].astype(str)
        return AnnData(X, obs=obs.set_axis(_names(len(chosen))), var=left[:, genes].var.copy())

    def _facts(self, t: float) -> dict:
        """Collect ``uns["genot"]``."""
        given = [a.uns.get("genot", {}) for a in (self.left, self.right)]
        facts = {k: v for k, v in given[0].items() if k in _KEPT_FACTS}
        depths = [one.get("position_um") for one in given]
        if None not in depths:
            facts["position_um"] = float((1.0 - t) * depths[0] + t * depths[1])
        return facts | {
            "source": "Generated between two slices by optimal transport; every spot is real.",
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


class _Neighbourhood(NamedTuple):
    """Spots of both slices around the generated positions, with their weights."""

    t: float
    positions: NDArray[np.float64]
    moved: tuple[NDArray[np.float64], NDArray[np.float64]]
    nearest: tuple[Nearest, Nearest]
    weights: tuple[sparse.csr_matrix, sparse.csr_matrix]

    def expect(self, left_values: NDArray, right_values: NDArray) -> NDArray[np.float32]:
        """Average values over the surroundings in both slices."""
        left, right = self.weights
        return (1.0 - self.t) * (left @ left_values) + self.t * (right @ right_values)


def _names(n: int) -> list[str]:
    """Name generated spots."""
    return [f"generated_{i}" for i in range(n)]
