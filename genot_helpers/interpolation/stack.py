r"""More than two sections: a slice at any depth of a stack, or at any time of a series.

Between two sections a spot moves on a straight line. The sections beyond tell how the tissue bends:
with four sections at depths z\ :sub:`0` < z\ :sub:`1` < z\ :sub:`2` < z\ :sub:`3`, a place in the
gap between the inner two moves on a cubic that passes its places in both, with a velocity there
that is the mean of the velocities before and after (cubic Hermite spline with the tangents of
Catmull & Rom 1974, for unequal gaps)::

    x(t) = (1 - t) x1 + t x2  +  h (t (1 - t)^2 (v1 - v)  -  t^2 (1 - t) (v2 - v))

h is the gap, v = (x2 - x1) / h, and v1, v2 are the velocities at both ends. All of them come from
the warps between neighbouring sections (:mod:`genot_helpers.interpolation.warp`), so the bend is a
smooth field, and at the ends of the stack, where a neighbour is missing, v1 or v2 is v itself and
the bend is half as strong. Which spots stand where is decided as between two sections.

Whether a stack is smooth enough for that is a question for the data: sections that were mounted one
by one jitter, and a cubic follows the jitter.
:func:`genot_helpers.evaluation.score_stack` leaves out every inner section in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from ..arguments import checked
from ..comparable import check_pair, shared_space
from ..slices.slices import SliceError
from .interpolation import prepare_interpolation
from .warp import SmoothWarp, fit_warp

__all__ = ["PATHS", "BentWarp", "depths_of_stack", "interpolate_stack"]

PATHS = ("linear", "cubic")
"""How spots move through a gap."""


@dataclass(frozen=True, eq=False)
class BentWarp(SmoothWarp):
    """The warp between two sections, with the way through the gap bent by the sections beyond.

    Attributes
    ----------
    before, after
        Warps from the section before to the left one, and from the right one to the section after;
        None where there is none.
    gaps
        Depths between the four sections, in any unit: before, between, after.
    """

    before: SmoothWarp | None
    after: SmoothWarp | None
    gaps: tuple[float, float, float]

    def move_left(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points of the left slice to position t, on the cubic."""
        return self._bend(super().move_left(points, t), t)

    def move_right(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Move points of the right slice to position t, on the cubic."""
        return self._bend(super().move_right(points, t), t)

    def _bend(self, points: NDArray, t: float) -> NDArray[np.float64]:
        """Add what the cubic has beyond the straight line."""
        if t in (0.0, 1.0):
            return points
        first, here, last = self.gaps
        straight = self.displacement(points) / here
        at_left, at_right = (
            0.0 if warp is None else _mean_velocity(straight, warp.displacement(points) / gap,
                                                    here, gap) - straight
            for warp, gap in ((self.before, first), (self.after, last))
        )  # fmt: skip
        return points + here * (t * (1 - t) ** 2 * at_left - t**2 * (1 - t) * at_right)


@checked
def interpolate_stack(
    sections: Sequence[AnnData],
    positions: Iterable[float],
    *,
    depths: Sequence[float] | None = None,
    path: str = "linear",
    n_spots: int | None = None,
    spatial_key: str = "spatial",
    seed: int = 0,
    **options,
) -> list[AnnData]:
    """Generate slices at positions in a stack of sections, each from the two next to it.

    Parameters
    ----------
    sections
        Two or more, in one frame (:func:`genot_helpers.alignment.align`), in any order. Nothing is
        written to them.
    positions
        Depths or times at which slices are wanted, in the unit of the depths, from the first
        section to the last.
    depths
        Of the sections; if not given, ``uns["genot"]["position_um"]`` of each.
    path
        "linear": spots move on straight lines; "cubic": the sections beyond the two decide how the
        way bends. Needs three sections at least to differ.
    n_spots, spatial_key, seed, **options
        As for :func:`genot_helpers.interpolation.interpolate`.

    Returns
    -------
    list of AnnData
        One per position, as from :meth:`Interpolation.at`; ``uns["genot"]`` also tells
        ``position`` (in the unit of the depths), ``path``, and ``between`` (numbers of the two
        sections in the list).

    Raises
    ------
    SliceError
        If a depth is missing or two are equal, a position lies outside of the stack, or two
        neighbouring sections do not fit together.
    ValueError
        If ``path`` is none of the two, or fewer than two sections are given.

    Examples
    --------
    >>> generated = interpolate_stack([left, middle, right], [75.0, 125.0], path="cubic")
    """
    sections, positions = list(sections), list(positions)
    if path not in PATHS:
        raise ValueError(f'path is {path!r}: give "linear" or "cubic".')
    if len(sections) < 2:
        raise ValueError(f"sections has {len(sections)} slices: give two at least.")
    at = depths_of_stack(sections, depths)
    order = np.argsort(at)
    at = at[order]
    for z in positions:
        if not (isinstance(z, Real) and at[0] <= z <= at[-1]):
            raise SliceError(
                f"positions holds {z!r}, but the sections reach from {at[0]:g} to {at[-1]:g}."
            )
    gaps = [int(np.clip(np.searchsorted(at, z, "right") - 1, 0, len(at) - 2)) for z in positions]
    for gap in set(gaps):
        check_pair(*(sections[order[gap + side]] for side in (0, 1)), spatial_key=spatial_key)
    found: dict[int, AnnData] = {}
    for gap in sorted(set(gaps)):
        left, right = order[gap], order[gap + 1]
        prepared = prepare_interpolation(
            sections[left], sections[right], spatial_key=spatial_key, seed=seed, **options
        )
        if path == "cubic":
            stiffness = options.get("stiffness", "auto")
            ordered = [sections[number] for number in order]
            warp = _bent_warp(prepared.warp, ordered, at, gap, spatial_key, stiffness, seed)
            prepared = replace(prepared, warp=warp)
        for number, z in enumerate(positions):
            if gaps[number] != gap:
                continue
            t = float((z - at[gap]) / (at[gap + 1] - at[gap]))
            found[number] = prepared.at(t, n_spots=n_spots)
            facts = {"position": float(z), "path": path, "between": np.array([left, right])}
            found[number].uns["genot"] |= facts
    return [found[number] for number in range(len(positions))]


def depths_of_stack(
    sections: Sequence[AnnData], depths: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Return the depth of every section, given or noted in it; SliceError if two are equal."""
    if depths is None:
        depths = []
        for number, adata in enumerate(sections):
            facts = adata.uns.get("genot", {})
            if "position_um" not in facts:
                raise SliceError(
                    f'Section {number} has no uns["genot"]["position_um"]. Write its depth there, '
                    "or give depths."
                )
            depths.append(facts["position_um"])
    at = np.asarray(depths, dtype=np.float64)
    if at.shape != (len(sections),) or not np.isfinite(at).all():
        raise SliceError(f"depths is {depths!r}: give one finite number for each section.")
    if len(np.unique(at)) < len(at):
        raise SliceError(f"Two sections lie at one depth ({sorted(at.tolist())}): leave one out.")
    return at


def _bent_warp(warp, sections, at, gap, spatial_key, stiffness, seed) -> BentWarp:
    """Bend the warp of a gap by the sections before and after it, which are in order."""
    beyond, lengths = [], []
    for first in (gap - 1, gap + 1):
        if not 0 <= first < len(at) - 1:  # an end of the stack
            beyond.append(None)
            lengths.append(1.0)
            continue
        pair = sections[first], sections[first + 1]
        beyond.append(_warp_between(*pair, spatial_key, stiffness, seed))
        lengths.append(float(at[first + 1] - at[first]))
    spans = lengths[0], float(at[gap + 1] - at[gap]), lengths[1]
    return BentWarp(**vars(warp), before=beyond[0], after=beyond[1], gaps=spans)


def _warp_between(
    left: AnnData, right: AnnData, spatial_key: str, stiffness: float | str, seed: int
) -> SmoothWarp:
    """Fit the warp alone."""
    check_pair(left, right, spatial_key=spatial_key)
    space = shared_space(left, right)
    points = [np.asarray(a.obsm[spatial_key], dtype=np.float64)[:, :2] for a in (left, right)]
    return fit_warp(*points, space.left, space.right, stiffness=stiffness, seed=seed)


def _mean_velocity(here: NDArray, beyond: NDArray, gap: float, gap_beyond: float) -> NDArray:
    """Velocity at a section: that of the parabola through it and its neighbours on both sides."""
    return (gap_beyond * here + gap * beyond) / (gap + gap_beyond)
