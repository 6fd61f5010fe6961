r"""More than two sections: a slice at any depth of a stack, or at any time of a series.

Between two sections a spot moves on a straight line. The sections beyond tell how the tissue bends:
a place in the gap between sections 1 and 2 moves on a cubic that passes its places in both, with a
velocity there that is the mean of the velocities before and after (cubic Hermite spline with the
tangents of Catmull & Rom 1974, for unequal gaps)::

    x(t) = (1 - t) x1 + t x2  +  h (t (1 - t)^2 (v1 - v)  -  t^2 (1 - t) (v2 - v))

h is the gap, v = (x2 - x1) / h, and v1, v2 are the velocities at both ends, from the warps between
neighbouring sections; at the ends of the stack v1 or v2 is v itself. A cubic also follows the
jitter of sections mounted one by one: :func:`genot_helpers.evaluation.score_stack` tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from ..arguments import ANY, checked
from ..comparable import check_pair, shared_space
from ..slices.geometry import positions_of
from ..slices.sections import by_section
from ..slices.slices import SliceError
from .interpolation import prepare_interpolation
from .warp import SmoothWarp, fit_warp

PATHS = ("linear", "cubic")
"""How spots move through a gap."""


@dataclass(frozen=True, eq=False)
class BentWarp(SmoothWarp):
    """The warp between two sections, with the way through the gap bent by the sections beyond.

    ``before`` and ``after`` are the warps to those sections, None where there is none; ``gaps`` are
    the depths between the four sections, in any unit: before, between, after.
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


@by_section(writes=False)
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
        depths = [_depth(adata, f"Section {number}") for number, adata in enumerate(sections)]
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
    points = [positions_of(a, spatial_key) for a in (left, right)]
    return fit_warp(*points, space.left, space.right, stiffness=stiffness, seed=seed)


def _mean_velocity(here: NDArray, beyond: NDArray, gap: float, gap_beyond: float) -> NDArray:
    """Velocity at a section: that of the parabola through it and its neighbours on both sides."""
    return (gap_beyond * here + gap * beyond) / (gap + gap_beyond)


# -------------------------------------------------------------------------------------------------
# Where slices lie, in depth or in time.


def _depth(adata: AnnData, name: str) -> float:
    """Read the position of a slice, in micrometres or as a time."""
    facts = adata.uns.get("genot", {})
    if "position_um" not in facts:
        raise SliceError(
            f'{name} has no uns["genot"]["position_um"]. Write its position in the tissue there, '
            "or give t or depths yourself."
        )
    return float(facts["position_um"])


@checked(sound=False, at=ANY)
def position_between(left: AnnData, right: AnnData, at: AnnData | float) -> float:
    """Compute t from real positions: t = (z - z_left) / (z_right - z_left).

    Parameters
    ----------
    left, right
        Slices with ``uns["genot"]["position_um"]``, the depth in the tissue (or the time).
    at
        A third such slice, or the position itself in the same unit.

    Raises
    ------
    SliceError
        If a position is missing, both slices have the same one, or the third is not between them.
    """
    z_left, z_right = _depth(left, "The left slice"), _depth(right, "The right slice")
    z = _depth(at, "The third slice") if isinstance(at, AnnData) else float(at)
    if z_left == z_right:
        raise SliceError(f"Both slices are at position {z_left}: nothing lies between them.")
    t = (z - z_left) / (z_right - z_left)
    if not 0.0 <= t <= 1.0:
        raise SliceError(f"Position {z} does not lie between {z_left} and {z_right}.")
    return t


@by_section(writes=False)
@checked
def slice_positions(
    slices: Mapping[str, AnnData],
    *,
    key: str | None = None,
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Find where slices lie, in depth or in time: in ``obs``, in ``uns``, as given, or by name.

    The first of these sources that holds a number for every slice, not the same for all, is taken
    for all of them, so that a depth is never compared with a day:

    1. a column of ``obs`` that holds one number, or a text with one number in it such as "E9.5",
       for all spots of a slice: `key`, or else one of z, position_um, position, depth, bregma,
       embryonic_day, day, age, time, timepoint, stage (upper or lower case);
    2. the same names in ``uns["genot"]``, in ``uns["genot"]["parameters"]``, in ``uns``;
    3. `given`;
    4. the names of the slices: the only number in which they differ, such as 9.5, 10.5 of "E9.5",
       "E10.5".

    Parameters
    ----------
    slices
        Name → slice, two or more. Nothing is written.
    key
        The only name to look for in ``obs`` and ``uns``.
    given
        Name → position, for slices that do not say it themselves.

    Returns
    -------
    dict of str to float
        Name → position, in the unit of the source; in the order of `slices`.

    Raises
    ------
    SliceError
        If no source tells the slices apart; the message says what was looked for.
    ValueError
        If there are fewer than two slices, or `given` lacks one or holds no finite number.

    Examples
    --------
    >>> import anndata as ad, numpy as np, genot_helpers as gh
    >>> names = ("embryo_E9.5", "embryo_E10.5")
    >>> gh.interpolation.slice_positions({name: ad.AnnData(np.ones((2, 1))) for name in names})
    {'embryo_E9.5': 9.5, 'embryo_E10.5': 10.5}
    """
    if len(slices) < 2:
        raise ValueError(f"slices holds {len(slices)}; positions tell two or more apart.")
    wanted = (key,) if key is not None else _POSITION_NAMES
    sources = [{n: _number(_of_obs(a, one)) for n, a in slices.items()} for one in wanted]
    sources += [{n: _number(_of_uns(a, one)) for n, a in slices.items()} for one in wanted]
    if given is not None:
        for name in slices:
            if _number(given.get(name)) is None:
                raise ValueError(f"given[{name!r}] is {given.get(name)!r}; give a finite number.")
        sources.append({name: _number(given[name]) for name in slices})
    sources.append(_numbers_of_names(list(slices)))
    for source in sources:
        if None not in source.values() and len(set(source.values())) > 1:
            return {name: float(value) for name, value in source.items()}
    raise SliceError(
        f"The positions of {', '.join(slices)} are not known: no column of obs and no entry of uns "
        f"named {', '.join(wanted)} holds one number per slice that differs between them, and "
        "neither do the names differ in exactly one number. Write one into obs, such as "
        'adata.obs["z"], or give the positions (or t) yourself.'
    )


_POSITION_NAMES = ("z", "position_um", "position", "depth", "bregma", "embryonic_day", "day")
_POSITION_NAMES += ("age", "time", "timepoint", "stage")
_A_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _of_obs(adata: AnnData, name: str) -> Any:
    """Return the value that all spots share in a column, or None."""
    column = next((c for c in adata.obs if str(c).lower() == name.lower()), None)
    values = [] if column is None else adata.obs[column].unique()
    return values[0] if len(values) == 1 else None


def _of_uns(adata: AnnData, name: str) -> Any:
    """Return an entry of ``uns["genot"]``, of its parameters, or of ``uns``, or None."""
    facts = adata.uns.get("genot", {})
    for place in (facts, facts.get("parameters", {}), adata.uns):
        found = {str(k).lower(): v for k, v in place.items()}.get(name.lower())
        if found is not None:
            return found
    return None


def _number(value: Any) -> float | None:
    """Read a number, or a text that holds exactly one; None otherwise."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            found = _A_NUMBER.findall(value)
            value = float(found[0]) if len(found) == 1 else None
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(value) else None


def _numbers_of_names(names: list[str]) -> dict[str, float | None]:
    """Return the only number in which names differ, None for all if there is not exactly one."""
    numbers = [[float(one) for one in _A_NUMBER.findall(name)] for name in names]
    if len({len(row) for row in numbers}) > 1:
        return dict.fromkeys(names)
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    found = differing[0] if len(differing) == 1 else [None] * len(names)
    return dict(zip(names, found, strict=True))
