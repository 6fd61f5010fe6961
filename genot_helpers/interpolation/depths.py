"""Where a slice lies between two others: what may be asked for, and what is known of it then."""

from __future__ import annotations

from numbers import Real

from anndata import AnnData

from ..slices.slices import SliceError

__all__ = ["check_position", "count_spots", "facts_between", "position_between"]

_KEPT_FACTS = ("y_axis", "micrometres_per_unit", "simulated")
_FEWEST_SPOTS = 20  # as of a slice that is given


def check_position(t: float) -> None:
    """Raise SliceError unless t is a number from 0 to 1."""
    if not (isinstance(t, Real) and 0.0 <= t <= 1.0):
        raise SliceError(
            f"t is {t!r}, but a position lies between 0 (left) and 1 (right). For slices of known "
            "depth position_between computes it."
        )


def count_spots(left: AnnData, right: AnnData, t: float, n_spots: int | None = None) -> int:
    """Return how many spots the slice at t has: ``n_spots``, or what both have there on average.

    Raises
    ------
    SliceError
        If more are asked for than that, or fewer than 20.
    """
    most = round((1.0 - t) * left.n_obs + t * right.n_obs)
    if n_spots is None:
        return most
    if not _FEWEST_SPOTS <= n_spots <= most:
        raise SliceError(
            f"n_spots is {n_spots}, but at t = {t:g} it can be {_FEWEST_SPOTS} to {most}."
        )
    return int(n_spots)


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


def _depth(adata: AnnData, name: str) -> float:
    facts = adata.uns.get("genot", {})
    if "position_um" not in facts:
        raise SliceError(
            f'The {name} slice has no uns["genot"]["position_um"]. Write its position in the '
            "tissue there, or give t yourself."
        )
    return float(facts["position_um"])


def facts_between(left: AnnData, right: AnnData, t: float) -> dict:
    """Collect what ``uns["genot"]`` says of the slice at t, its depth among other things."""
    facts = {k: v for k, v in left.uns.get("genot", {}).items() if k in _KEPT_FACTS}
    depths = [a.uns.get("genot", {}).get("position_um") for a in (left, right)]
    if None not in depths:
        facts["position_um"] = float((1.0 - t) * depths[0] + t * depths[1])
    return facts | {
        "source": "Generated between two slices by optimal transport; every spot is real."
    }
