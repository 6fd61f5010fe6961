"""Positions of a generated slice, and the table of real spots that stand there.

A coupling pairs spots of the left slice with spots of the right one. At position t a pair stands at
(1 - t) x_left + t x_right (McCann 1997, doi 10.1006/aima.1997.1634). A spot without partner stands
at its own place, with probability 1 - t if it is a left one and t if it is a right one.

Top to bottom: pairs drawn from the coupling, their positions, spacing made like that of real
slices, a first real spot for each position; then the checks of t and of the number of spots, and
the generated table. Random draws go by row, so rows are first sorted by names and neighbourhood
(:func:`order_of_spots`): the result does not depend on the order in which spots were given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from ..arguments import ANY, checked
from ..slices.geometry import nearest_distance
from ..slices.slices import SliceError
from ..slices.values import plain_matrix
from ..transport.transport import Coupling, coupling_pairs
from .local_means import chain_neighbours

__all__ = [
    "Pairs",
    "as_given",
    "check_position",
    "count_spots",
    "draw_pairs",
    "facts_between",
    "first_choice",
    "gather_spots",
    "genes_of_both",
    "order_of_spots",
    "place_between",
    "position_between",
    "roughen",
    "slice_positions",
    "spread",
]

_TIGHT = 0.85  # of the real distance between neighbours; closer positions are pushed apart
_PUSHES = 30


class Pairs(NamedTuple):
    """Row of the left and of the right slice for each position; -1 for none."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]


def draw_pairs(coupling: Coupling, t: float, n_spots: int, rng: np.random.Generator) -> Pairs:
    """Draw n_spots pairs, or single spots without partner, from a coupling."""
    # Systematic sampling (Madow & Madow 1944, doi 10.1214/aoms/1177731312): the pairs lie on a
    # line, each as long as its mass, and are read off at equal steps; only the start is random. At
    # steps of one, a pair of mass one is drawn exactly once.
    left, right, mass = coupling_pairs(coupling)
    alone = (
        np.flatnonzero(coupling.left_unmatched > 0),
        np.flatnonzero(coupling.right_unmatched > 0),
    )
    none = [np.full(len(spots), -1) for spots in alone]
    lengths = np.concatenate(
        [
            mass,
            (1.0 - t) * coupling.left_unmatched[alone[0]],
            t * coupling.right_unmatched[alone[1]],
        ]
    )
    ends = np.cumsum(lengths)
    marks = (np.arange(n_spots) + rng.uniform(0.25, 0.75)) * ends[-1] / n_spots
    drawn = np.minimum(np.searchsorted(ends, marks), len(ends) - 1)
    return Pairs(
        np.concatenate([left, alone[0], none[1]])[drawn],
        np.concatenate([right, none[0], alone[1]])[drawn],
    )


def place_between(pairs: Pairs, left: NDArray, right: NDArray, t: float) -> NDArray[np.float64]:
    """Return the positions (n, 2) of pairs at t, from coordinates already warped to t."""
    positions = (1.0 - t) * left[pairs.left] + t * right[pairs.right]
    positions[pairs.right < 0] = left[pairs.left[pairs.right < 0]]
    positions[pairs.left < 0] = right[pairs.right[pairs.left < 0]]
    return positions


def roughen(
    positions: NDArray, wanted_spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Move positions a little at random until neighbours are as close as in real slices."""
    # Midpoints of irregular spots are more regular than the spots, so nearest neighbours are too
    # far apart; random steps of the right size undo that. Grids are left alone.
    draws = rng.normal(size=positions.shape)
    if nearest_distance(positions) <= 1.005 * wanted_spacing:
        return positions
    steps = _directed(draws, positions)
    low, high = 0.0, 0.5 * wanted_spacing
    for _ in range(12):  # bisection: the larger the steps, the closer the nearest neighbour
        size = (low + high) / 2
        if nearest_distance(positions + size * steps) > wanted_spacing:
            low = size
        else:
            high = size
    return positions + low * steps


def _directed(draws: NDArray, positions: NDArray) -> NDArray[np.float64]:
    """Turn draws to point from the centre and across it, so that steps rotate with the slice."""
    along = positions - positions.mean(axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-300)
    return draws[:, :1] * along + draws[:, 1:] * along[:, ::-1] * (-1.0, 1.0)


def spread(
    positions: NDArray, wanted_spacing: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Push positions in tight groups apart until neighbours are as far apart as in real slices."""
    # In tissue that has grown, a spot has several partners, and the positions on the way to them
    # form a tight group, with gaps between groups. Neighbours that are too close push each other
    # apart in small steps. Other positions are left alone.
    enough = _TIGHT * wanted_spacing
    if nearest_distance(positions) >= enough:
        return positions
    draws = rng.normal(size=positions.shape)
    positions = positions + 1e-3 * wanted_spacing * _directed(draws, positions)
    for _ in range(_PUSHES):
        i, j = cKDTree(positions).query_pairs(wanted_spacing, output_type="ndarray").T
        way = positions[i] - positions[j]
        length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12 * wanted_spacing)
        push = 0.2 * (wanted_spacing - length) * way / length
        for axis in (0, 1):
            positions[:, axis] += np.bincount(i, push[:, axis], len(positions))
            positions[:, axis] -= np.bincount(j, push[:, axis], len(positions))
        if nearest_distance(positions) >= enough:
            break
    return positions


def first_choice(
    pairs: Pairs,
    positions: NDArray,
    pool_points: NDArray,
    n_left: int,
    t: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose a real spot (row of left stacked on right) for each position, none twice."""
    # A position wants one spot of its pair, the right one with probability t. If that is taken, it
    # gets the nearest free spot, of the same slice if there is one.
    right = np.where(pairs.right >= 0, n_left + pairs.right, -1)
    prefer_right = rng.random(len(positions)) < t
    wish = np.where(prefer_right, right, pairs.left)
    wish = np.where(wish < 0, np.maximum(right, pairs.left), wish)  # a spot without partner
    chosen = np.full(len(positions), -1, dtype=np.int64)
    _, once = np.unique(wish, return_index=True)  # the first position gets it
    chosen[once] = wish[once]
    free = np.ones(len(pool_points), dtype=bool)
    free[wish] = False
    is_right = np.arange(len(pool_points)) >= n_left
    while (chosen < 0).any():
        for side in (False, True):
            left_over = np.flatnonzero((chosen < 0) & ((wish >= n_left) == side))
            if not len(left_over):
                continue
            same = free & (is_right == side)
            rows = np.flatnonzero(same if same.any() else free)
            nearest = rows[cKDTree(pool_points[rows]).query(positions[left_over])[1]]
            _, once = np.unique(nearest, return_index=True)
            chosen[left_over[once]] = nearest[once]
            free[nearest[once]] = False
    return chosen


# -------------------------------------------------------------------------------------------------
# What may be asked for, and the slots of the result.

_KEPT_FACTS = ("y_axis", "micrometres_per_unit", "simulated")
_FEWEST_SPOTS = 20  # as for a given slice


def check_position(t: float) -> None:
    """Raise SliceError unless t is a number from 0 to 1."""
    if not (isinstance(t, Real) and 0.0 <= t <= 1.0):
        raise SliceError(
            f"t is {t!r}, but a position lies between 0 (left) and 1 (right). For slices of known "
            "depth position_between computes it."
        )


def count_spots(left: AnnData, right: AnnData, t: float, n_spots: int | None = None) -> int:
    """Return ``n_spots`` if it is possible at t, or by default (1 - t) n + t m."""
    most = round((1.0 - t) * left.n_obs + t * right.n_obs)
    if n_spots is None:
        return most
    if not _FEWEST_SPOTS <= n_spots <= most:
        raise SliceError(
            f"n_spots is {n_spots}, but at t = {t:g} it can be {_FEWEST_SPOTS} to {most}."
        )
    return int(n_spots)


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
    z_left, z_right = _depth(left, "left"), _depth(right, "right")
    z = _depth(at, "third") if isinstance(at, AnnData) else float(at)
    if z_left == z_right:
        raise SliceError(f"Both slices are at position {z_left}: nothing lies between them.")
    t = (z - z_left) / (z_right - z_left)
    if not 0.0 <= t <= 1.0:
        raise SliceError(f"Position {z} does not lie between {z_left} and {z_right}.")
    return t


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
    4. the names of the slices: the only number in which they differ, 1, 2, 3 of "fly_E14_S01",
       "fly_E14_S02", "fly_E14_S03", or 9.5, 10.5 of "E9.5", "E10.5".

    Parameters
    ----------
    slices : mapping of str to AnnData
        Name → slice, two or more. Nothing is written.
    key : str, optional
        The only name to look for in ``obs`` and ``uns``.
    given : mapping of str to float, optional
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

    See Also
    --------
    position_between : t of a third slice, from depths in ``uns["genot"]["position_um"]``.

    Examples
    --------
    >>> import anndata as ad, numpy as np, genot_helpers as gh
    >>> names = ("embryo_E9.5", "embryo_E10.5")
    >>> gh.slice_positions({name: ad.AnnData(np.ones((2, 1))) for name in names})
    {'embryo_E9.5': 9.5, 'embryo_E10.5': 10.5}
    """
    if len(slices) < 2:
        raise ValueError(f"slices holds {len(slices)}; positions tell two or more apart.")
    wanted = (key,) if key is not None else _POSITION_NAMES
    sources = [{n: _number(_of_obs(a, one)) for n, a in slices.items()} for one in wanted]
    sources += [{n: _number(_of_uns(a, one)) for n, a in slices.items()} for one in wanted]
    if given is not None:
        sources.append(_given_positions(slices, given))
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


def _given_positions(slices: Mapping[str, AnnData], given: Mapping[str, float]) -> dict:
    """Check the positions that a caller gives."""
    for name in slices:
        if _number(given.get(name)) is None:
            raise ValueError(f"given[{name!r}] is {given.get(name)!r}; give a finite number.")
    return {name: _number(given[name]) for name in slices}


def _numbers_of_names(names: list[str]) -> dict[str, float | None]:
    """Return the only number in which names differ, None for all if there is not exactly one."""
    numbers = [[float(one) for one in _A_NUMBER.findall(name)] for name in names]
    if len({len(row) for row in numbers}) > 1:
        return dict.fromkeys(names)
    differing = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    return (
        dict(zip(names, differing[0], strict=True)) if len(differing) == 1 else dict.fromkeys(names)
    )


def _depth(adata: AnnData, name: str) -> float:
    """Read the position of a slice, in micrometres or as a time."""
    facts = adata.uns.get("genot", {})
    if "position_um" not in facts:
        raise SliceError(
            f'The {name} slice has no uns["genot"]["position_um"]. Write its position in the '
            "tissue there, or give t yourself."
        )
    return float(facts["position_um"])


def facts_between(left: AnnData, right: AnnData, t: float) -> dict:
    """Collect what both slices say about the slice at t, such as its depth, for ``uns``."""
    facts = {k: v for k, v in left.uns.get("genot", {}).items() if k in _KEPT_FACTS}
    where = [a.uns.get("genot", {}).get("position_um") for a in (left, right)]
    if None not in where:
        facts["position_um"] = float((1.0 - t) * where[0] + t * where[1])
    return facts | {
        "source": "Generated between two slices by optimal transport; every spot is real."
    }


def order_of_spots(adata: AnnData, points: NDArray) -> NDArray[np.intp]:
    """Sort the rows of a slice by name, then from neighbour to neighbour."""
    names = np.argsort(adata.obs_names.to_numpy(dtype=str), kind="stable")  # names are unique
    return names[chain_neighbours(points[names])]


def genes_of_both(left: AnnData, right: AnnData) -> pd.Index:
    """Genes that both slices have, in the order of the left one."""
    return left.var_names[left.var_names.isin(right.var_names)]


def gather_spots(left: AnnData, right: AnnData, chosen: NDArray, *, hidden: set[str]) -> AnnData:
    """Make a slice of chosen rows of left stacked on right: unchanged X, shared columns of obs."""
    genes = genes_of_both(left, right)
    X = sparse.vstack(
        [sparse.csr_matrix(plain_matrix(a[:, genes].X)) for a in (left, right)], format="csr"
    )
    X = X[chosen] if sparse.issparse(left.X) else X[chosen].toarray()
    obs = _known(left, right, chosen, hidden)
    names = np.concatenate([left.obs_names, right.obs_names])
    side = np.where(chosen < left.n_obs, "left", "right")
    obs["genot_source"] = pd.Categorical(side, categories=["left", "right"])
    obs["genot_source_spot"] = names[chosen].astype(str)
    return AnnData(X, obs=obs.set_axis(_names(len(chosen))), var=left[:, genes].var.copy())


def as_given(generated: AnnData, end: AnnData) -> AnnData:
    """Return the slice at an end with its spots in the order of that end."""
    rows = end.obs_names.astype(str).get_indexer(generated.obs["genot_source_spot"])
    generated = generated[np.argsort(rows)].copy()
    generated.obs_names = _names(generated.n_obs)
    return generated


def _names(n: int) -> list[str]:
    """Name generated spots."""
    return [f"generated_{i}" for i in range(n)]


def _known(left: AnnData, right: AnnData, chosen: NDArray, hidden: set[str]) -> pd.DataFrame:
    """Take the columns of ``obs`` that both slices have."""
    shared = [c for c in left.obs if c in right.obs and c not in hidden]
    shared = [c for c in shared if not c.startswith("genot_")]
    obs = pd.concat([left.obs[shared], right.obs[shared]]).iloc[chosen].copy()
    for column in obs.select_dtypes("object"):  # categories of both slices, as categories
        if any(isinstance(a.obs[column].dtype, pd.CategoricalDtype) for a in (left, right)):
            obs[column] = obs[column].astype("category")
    return obs
