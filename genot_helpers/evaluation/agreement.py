"""Domains of two slices in one frame: whether they agree, and names in common.

Two technologies that see the same tissue do not share their errors. Where both find a border in the
same place, it is probably in the tissue; no annotation is needed to see that. The agreement is the
adjusted Rand index (Hubert & Arabie, J. of Classification 1985, doi 10.1007/BF01908075) of the
domain of each spot and the domain that its nearest spots in the other slice have.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..pairs.comparable import check_overlap, coordinates, label_codes
from ..slices.labels import as_labels
from ..slices.slices import SliceError
from .evaluation import match_domains
from .slice_measures import compare_labels

__all__ = ["domain_agreement", "name_domains_like"]


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
        Slices in one frame and unit. Names are compared: see :func:`name_domains_like`. The index
        itself does not depend on names *within* a slice. Nothing is written.
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
    p, q = _places(one, other, key, spatial_key)
    a, b = label_codes(other, one, key, key)
    there = compare_labels(p, q, a, b, k=n_neighbors)["ari"]
    back = compare_labels(q, p, b, a, k=n_neighbors)["ari"]
    return (there + back) / 2


def name_domains_like(
    reference: AnnData,
    other: AnnData,
    *,
    key: str = "genot_domain",
    spatial_key: str = "spatial",
) -> dict[str, str]:
    """Give the domains of a slice the names of the domains they lie on in another slice.

    Domains are matched one to one, by the number of reference spots whose nearest spot in ``other``
    has them (:func:`genot_helpers.evaluation.match_domains`). No annotation is looked at.

    Parameters
    ----------
    reference
        Slice whose names are taken. It is not changed.
    other
        Slice in the same frame. ``obs[key]`` is written anew: the same partition under other names.
    key
        Column of ``obs``, in both.
    spatial_key
        Slot of ``obsm`` with the coordinates.

    Returns
    -------
    dict
        Old name → new name. A domain without a partner gets a name that is not taken yet.

    Raises
    ------
    SliceError
        As :func:`domain_agreement`.
    """
    p, q = _places(reference, other, key, spatial_key)
    found = other.obs[key].astype("category")
    near = found.to_numpy()[cKDTree(q).query(p)[1]]
    table = pd.DataFrame({"theirs": reference.obs[key].to_numpy(), "ours": near}, dtype="category")
    table["ours"] = pd.Categorical(near, categories=found.cat.categories)
    known = table.notna().all(axis=1)
    matched = match_domains(
        ad.AnnData(obs=table[known].set_axis(reference.obs_names[known])),
        truth="theirs",
        predicted="ours",
    )
    taken = {str(name) for name in reference.obs[key].dropna().unique()}
    spare = (str(n) for n in range(1, len(taken) + len(found.cat.categories) + 1))
    free = (name for name in spare if name not in taken)
    names = {
        str(ours): str(theirs) if theirs is not None else next(free)
        for ours, theirs in ((ours, matched.get(ours)) for ours in found.cat.categories)
    }
    renamed = found.astype(object).map(lambda name: names[str(name)], na_action="ignore")
    other.obs[key] = as_labels(renamed)
    return names


def _places(one: AnnData, other: AnnData, key: str, spatial_key: str) -> list[NDArray]:
    """Return the coordinates of both; refuse slices apart, and slices without a domain."""
    for adata in (one, other):
        if key not in adata.obs or not np.any(adata.obs[key].notna()):
            raise SliceError(
                f"obs[{key!r}] is missing or empty. Columns found: {list(adata.obs.columns)}."
            )
    names = ("first", "second")
    places = [coordinates(a, n, spatial_key) for a, n in zip((one, other), names, strict=True)]
    check_overlap(*places)
    return places
