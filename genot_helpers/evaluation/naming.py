"""Names in common for the domains of two slices, and with the names the colours.

:func:`name_domains_like` matches by place and names in one step, for slices in one frame;
:func:`rename_domains` takes any match, that of
:func:`genot_helpers.evaluation.match_domains_by_markers` for instance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from ..slices.labels import as_labels
from ..slices.slices import SliceError
from .agreement import places_of_domains
from .domain_columns import found_domains
from .evaluation import match_overlap

__all__ = ["name_domains_like", "rename_domains"]


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
        If the column or coordinates are missing, or the slices do not overlap.
    """
    p, q = places_of_domains(reference, other, key, spatial_key)
    found = other.obs[key].astype("category")
    theirs = pd.Series(reference.obs[key].to_numpy()).astype("category")
    ours = pd.Series(found.array[cKDTree(q).query(p)[1]])
    pairs = match_overlap(pd.crosstab(theirs, ours))
    partner = {ours: theirs for theirs, ours in pairs.items()}
    taken = {str(name) for name in theirs.dropna().unique()}
    spare = (str(n) for n in range(1, len(taken) + len(found.cat.categories) + 1))
    free = (name for name in spare if name not in taken)
    names = {
        str(name): str(partner[name]) if name in partner else next(free)
        for name in found.cat.categories
    }
    renamed = found.astype(object).map(lambda name: names[str(name)], na_action="ignore")
    other.obs[key] = as_labels(renamed)
    return names


def rename_domains(
    adata: AnnData,
    matched: Mapping[str, str | None],
    *,
    like: AnnData,
    key: str = "genot_domain",
    like_key: str | None = None,
    key_added: str | None = None,
) -> None:
    """Give domains the names, and so the colours, of those they were matched with.

    Parameters
    ----------
    adata
        The slice to rename in. Writes ``obs[key_added]``: categorical with the categories of the
        reference, in its order, then those without a match, named "new ..." after their old name.
    matched
        From :func:`match_domains_by_markers`.
    like
        The reference.
    key, like_key, key_added
        Column that is read; column of the reference (the same if not given); column that is written
        (``key`` if not given). Colours kept in ``uns`` for the old names are dropped.

    Raises
    ------
    SliceError
        If a domain is not in ``matched``, or two have the same match.
    """
    old = found_domains(adata, key)
    names = {str(one): matched.get(str(one), old) for one in old.cat.categories}
    missing = [one for one, name in names.items() if name is old]
    if missing:
        raise SliceError(f"no match is given for domain {missing[0]!r} of obs[{key!r}].")
    given = [name for name in names.values() if name is not None]
    if len(set(given)) < len(given):
        raise SliceError("two domains have the same match; a match is one to one.")
    names = {one: f"new {one}" if name is None else str(name) for one, name in names.items()}
    reference = [str(one) for one in found_domains(like, like_key or key).cat.categories]
    categories = reference + [name for name in names.values() if name not in reference]
    column = adata.obs[key].astype(object).map(lambda one: names.get(str(one), np.nan))
    adata.obs[key_added or key] = pd.Categorical(column, categories=categories)
    adata.uns.pop(f"{key_added or key}_colors", None)
