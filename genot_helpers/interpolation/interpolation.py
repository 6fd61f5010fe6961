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

Every width and weight is set from the two slices; the slice in between is never looked at. The
GenOT paper (Wang et al. 2026, doi 10.1186/s13059-026-04166-z) interpolates by fused
Gromov-Wasserstein barycenters instead; for small slices that is in
:mod:`genot_helpers.transport.gromov`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata import AnnData

from ..decoder.decoder import Decoder, train_decoder
from ..pairs.pairs import check_pair
from ..pairs.shared_space import shared_space
from ..slices.slices import SliceError, find_labels
from ..slices.spacing import spot_spacing
from ..transport.support import neighbour_support
from ..transport.transport import sparse_coupling
from .between import Interpolation
from .carried_labels import prepare_labels
from .depths import check_position, count_spots, position_between
from .gathering import order_of_spots
from .local_means import choose_bandwidth, local_mean
from .warp import fit_warp

__all__ = ["interpolate", "interpolate_many", "position_between", "prepare_interpolation"]

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
    """
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
