"""Domains of two slices in one frame, compared place by place.

Two technologies that see the same tissue do not share their errors. Where both find a border in the
same place, it is probably in the tissue; no annotation is needed to see that. The agreement is the
adjusted Rand index (Hubert & Arabie, J. of Classification 1985, doi 10.1007/BF01908075) of the
domain of each spot and the domain that its nearest spots in the other slice have.
"""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..pairs.comparable import comparable_places, coordinates, label_codes
from ..slices.slices import SliceError
from ..slices.spacing import spot_spacing
from .domain_columns import found_domains
from .slice_measures import compare_labels

__all__ = ["agreement_in_place", "domain_agreement", "places_of_domains"]


def domain_agreement(
    one: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    n_neighbors: int = 5,
    spatial_key: str = "spatial",
) -> float:
    """Compare the domains of two slices of the same tissue, place by place.

    Parameters
    ----------
    one, other
        Slices in one frame and unit. What the domains are called, in either, plays no part.
        Nothing is written.
    key
        Column of ``obs``, in both.
    n_neighbors
        Nearest spots of the other slice that vote.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    float
        Adjusted Rand index, mean over both directions: 1 for the same borders, about 0 for borders
        that have nothing to do with each other. Two annotations drawn by the same hand do not reach
        1 either, as spots never lie in the same places: compute it for them too, as a ceiling.

    Raises
    ------
    SliceError
        If the column or coordinates are missing, or the slices do not overlap.
    """
    p, q = places_of_domains(one, other, key, spatial_key)
    a, b = label_codes(other, one, key, key)
    there = compare_labels(p, q, a, b, k=n_neighbors)["ari"]
    back = compare_labels(q, p, b, a, k=n_neighbors)["ari"]
    return (there + back) / 2


def agreement_in_place(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    spatial_key: str = "spatial",
    max_distance: float = 1.5,
) -> dict[str, float]:
    """Tell how often spots of two slices that lie on each other are in domains of the same name.

    Other than :func:`domain_agreement` it goes by names: an independent check of domains that were
    matched by markers, which know nothing of places.

    Parameters
    ----------
    reference, other
        Slices in one frame with ``obs[key]``. Nothing is written.
    key, spatial_key
        Column of the domains, and slot of the coordinates.
    max_distance
        How far the nearest spot of the reference may be, in its spot spacings.

    Returns
    -------
    dict of str to float
        ``covered``, the share of the spots of ``other`` that have a spot of the reference near
        enough; of these, ``share``, that of spots in a domain of the same name as the nearest spot
        of the reference, and ``by_chance``, that share if places were shuffled. The two are NaN if
        no spot is near enough.

    Raises
    ------
    SliceError
        If the column or coordinates are missing.
    """
    still = coordinates(reference, "reference", spatial_key)
    distance, near = cKDTree(still).query(coordinates(other, "other", spatial_key))
    here = distance <= max_distance * spot_spacing(still)
    if not here.any():
        return {"share": np.nan, "by_chance": np.nan, "covered": 0.0}
    ours = found_domains(other, key).astype(str).to_numpy()[here]
    theirs = found_domains(reference, key).astype(str).to_numpy()[near[here]]
    chance = sum((ours == name).mean() * (theirs == name).mean() for name in np.unique(ours))
    same = float((ours == theirs).mean())
    return {"share": same, "by_chance": float(chance), "covered": float(here.mean())}


def places_of_domains(one: AnnData, other: AnnData, key: str, spatial_key: str) -> list[NDArray]:
    """Return the coordinates of both; refuse slices apart, and slices without a domain."""
    for adata in (one, other):
        if not len(found_domains(adata, key).cat.categories):
            raise SliceError(f"obs[{key!r}] is empty: no spot has a domain.")
    return comparable_places(one, other, ("first", "second"), spatial_key=spatial_key)
