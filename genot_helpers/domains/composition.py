r"""Domains as compositions of cell types: for slices whose spots are single cells.

Cells that lie side by side in one domain are of different types, so no cell looks like the domain
it is in. What a domain has of its own is how often each type occurs. The model says just that (the
idea of BASS, Li and Zhou 2022, doi 10.1186/s13059-022-02734-7, here without sampling):

* **types**: :math:`y_i \in 1, \ldots, C`, from unsmoothed principal components by Gaussians
  with one covariance, or given by the reader;
* **emission**: :math:`p(y_i = c \mid z_i = k) = \pi_{kc}`, the composition of domain k, with a
  Dirichlet prior worth a cells of the composition :math:`w` of all slices together;
* **field**: :math:`\log p(z) = \beta \sum_{i<j} A_{ij} [z_i = z_j] + \text{const}`, where A joins a
  cell to its nearest and is divided by its mean degree (a Potts model, one graph per slice).

It is fitted by mean field from many starts (:mod:`genot_helpers.domains.composition_field` has the
bound and its updates). No one set of found types is right, so there are several (codebooks), each
from another start; and cells are looked at in three ways: alone, with their surroundings, and along
the directions that they share with these. Each view has types and a search of its own; a view whose
domains are others altogether than those of cells alone is left out. The best distinct maxima vote,
and their consensus is the result.
How many domains to ask for stands at the end of this file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..arguments import checked, progress_off
from ..slices.geometry import positions_of
from ..slices.sections import Slices, by_section, joint_embeddings, named_slices, rows_of_each
from ..slices.slices import SliceError, record
from .composition_field import (
    Field,
    field_of,
    find_types,
    given_types,
    log_evidence,
    most_typical,
    potts_graph,
    share_around,
    solutions,
    type_names,
    type_shares,
    views_of_cells,
)
from .mixture import confidence_key, consensus_of, paired_with

COMPARED = 5_000  # two partitions are compared on about this many cells
WORTH_SHOWING = 0.01  # weight that other solutions need, for the best of them to be shown
ALL_VIEWS = 50_000  # cells up to which they are looked at in three ways, and
WHOLE_SEARCH = 100_000  # cells up to which all starts are climbed, so that time stays in bounds
_RANGES: dict[str, tuple[float, float]] = {
    "n_types": (1, 10_000),
    "n_codebooks": (1, 1_000),
    "n_neighbors": (1, 1_000),
    "prior_cells": (1e-6, 1e9),
}
OF_ONE_KIND = 0.5  # adjusted Rand index with the domains of cells alone that another view needs
ALIKE = 0.9  # adjusted Rand index from which two partitions tell the same story


class CompositionDomains(NamedTuple):
    """What :func:`cluster_composition` found; cells stand slice after slice.

    Attributes
    ----------
    labels
        (n_cells,) int, 0 … n_domains − 1: domain "1" of ``obs`` is 0 here.
    confidence
        (n_cells,) float, share of a cell and its 60 nearest that are in its domain. Measured on six
        real sections, of spots given .8 about .8 are right (.65 to .91; benchmarks/README.md).
    votes
        (n_cells,) float, weighted share of the solutions that put the cell there. It says how far
        solutions agree; it does not tell right from wrong.
    agreement, n_partitions
        Mean adjusted Rand index between two solutions (1 if all say the same), and their number.
    compositions
        Table, types × domains: share of each type among the cells of a domain. Columns sum to 1.
    second, second_weight
        (n_cells,) int, the likeliest solution that tells another story than ``labels`` (adjusted
        Rand index below .9), numbered like ``labels``, None if all such weigh less than .01; and
        the weight of all such solutions, from 0 to 1.
    bound
        F of the best solution of the first view, cells alone, in nats.
    """

    labels: np.ndarray
    confidence: np.ndarray
    votes: np.ndarray
    agreement: float
    n_partitions: int
    compositions: pd.DataFrame
    second: np.ndarray | None
    second_weight: float
    bound: float

    @property
    def settled(self) -> bool:
        """Whether solutions agree to .9 or more; otherwise this is one partition of several."""
        return self.agreement >= ALIKE


class Cells(NamedTuple):
    """Slices made ready: fields and positions in an order of their own, and the way back."""

    # Sorted within each slice by place: the order in which a file lists its cells changes nothing.
    fields: list[Field]  # one of each view of the cells
    points: list[np.ndarray]  # (n, 2) of each slice
    back: np.ndarray  # (n_cells,) int, from that order to the reader's
    types: pd.Categorical  # in the reader's order: given, or the codebook that is shown


def _by_size(labels: np.ndarray, n_domains: int) -> np.ndarray:
    """Renumber domains from the largest to the smallest."""
    order = np.argsort(-np.bincount(labels, minlength=n_domains), kind="stable")
    return np.argsort(order, kind="stable")[labels]


def check_number_of_domains(named: Mapping[str, AnnData], n_domains: int) -> None:
    """Refuse more domains than cells."""
    n_cells = sum(adata.n_obs for adata in named.values())
    if not 1 <= n_domains <= n_cells:
        raise ValueError(f"n_domains is {n_domains}; give a number from 1 to {n_cells}, the cells.")


def _positions(named: Mapping[str, AnnData], spatial_key: str) -> list[np.ndarray]:
    """Positions of each slice, (n, 2) float; refuse what cannot be used before any work."""
    points = []
    for name, adata in named.items():
        if spatial_key not in adata.obsm:
            raise SliceError(f"{name}: obsm[{spatial_key!r}] is missing; store positions there.")
        points.append(positions_of(adata, spatial_key))
        if not np.isfinite(points[-1]).all():
            raise SliceError(f"{name}: obsm[{spatial_key!r}] holds values that are not finite.")
        if adata.n_obs < 2:
            raise SliceError(f"{name} has {adata.n_obs} cells; needed are 2 or more.")
    return points


def _order_by_place(points: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    """Rows of all slices, slice after slice, each by x, then y, then the first value."""
    order, begin = [], 0
    for xy, more in zip(points, values, strict=True):
        order.append(begin + np.lexsort((more, xy[:, 1], xy[:, 0])))
        begin += len(xy)
    return np.concatenate(order)


def prepare_cells(
    named: Mapping[str, AnnData],
    *,
    type_key: str | None, use_rep: str, n_components: int, n_types: int, n_codebooks: int,
    neighbour_weight: float, n_neighbors: int, prior_cells: float, spatial_key: str, layer: str,
    seed: int, all_views: bool,
) -> Cells:  # fmt: skip
    """Check slices, find or read types, and build the fields; see :func:`cluster_composition`."""
    places = _positions(named, spatial_key)
    sizes = np.cumsum([len(one) for one in places])
    if type_key is None:
        components = np.concatenate(joint_embeddings(named, use_rep))[:, :n_components]
        ties = components[:, 0]
    else:
        types = given_types(named, type_key)
        ties = types.codes
    order = _order_by_place(places, np.split(ties, sizes[:-1]))
    back = np.argsort(order, kind="stable")
    points = np.split(np.concatenate(places)[order], sizes[:-1])
    if type_key is None:
        values = np.ascontiguousarray(components[order])
        n_types = min(n_types, len(values))
        seeds = range(1000 * seed, 1000 * seed + n_codebooks)
        codebooks = [
            np.stack([find_types(view, n_types, one) for one in seeds])
            for view in (views_of_cells(values, points) if all_views else [values])
        ]
        shown = most_typical(codebooks[0])[back]  # of the cells alone: those have marker genes
        types = pd.Categorical.from_codes(shown, type_names(named, shown, layer))
    else:
        codebooks = [np.asarray(types.codes, dtype=int)[order][None]]
    graph = sparse.block_diag([potts_graph(one, n_neighbors) for one in points], "csr")
    fields = [field_of(one, graph, neighbour_weight, prior_cells) for one in codebooks]
    return Cells(fields, points, back, types)


def _consensus(searches, n_domains: int, same_within: float, seed: int):
    """Partition that solutions agree on, and how much each had to say, by its bound."""
    weights = []
    for found in searches:  # bounds of two views cannot be compared: each view has the same say
        heights = np.array([height for height, _ in found])
        weights.append(np.exp((heights - heights.max()) / same_within))
        weights[-1] /= weights[-1].sum() * len(searches)
    weights = np.concatenate(weights)
    found = [labels for one in searches for _, labels in one]
    return consensus_of(found, n_domains, weights, seed=seed), weights


def _of_one_kind(searches, *how) -> list:
    """Leave out views that find other domains altogether than the first, cells alone."""
    # Where tissue has no directions that cells share, for example, that view sees only noise.
    if len(searches) == 1:
        return searches
    alone, *others = (_consensus([found], *how)[0].labels for found in searches)
    alike = [adjusted_rand_score(alone, labels) for labels in others]
    return searches[:1] + [
        found for found, like in zip(searches[1:], alike, strict=True) if like >= OF_ONE_KIND
    ]


def _agreed(cells: Cells, searches, n_domains: int, same_within: float, seed: int):
    """Consensus of solutions as a result, in the reader's order of cells."""
    vote, weights = _consensus(searches, n_domains, same_within, seed)
    found = [labels for one in searches for _, labels in one]
    labels = _by_size(vote.labels, n_domains)
    step = max(1, len(labels) // COMPARED)
    alike = [adjusted_rand_score(labels[::step], one[::step]) for one in found]
    others = np.flatnonzero(np.array(alike) < ALIKE)
    second = None
    if weights[others].sum() >= WORTH_SHOWING:
        likeliest = others[weights[others].argmax()]
        second = paired_with(labels, found[likeliest], n_domains)
    confidence = share_around(cells.points, labels)[cells.back]
    labels = labels[cells.back]
    return CompositionDomains(
        labels=labels,
        confidence=confidence,
        votes=vote.confidence[cells.back],
        agreement=vote.agreement,
        n_partitions=vote.n_partitions,
        compositions=type_shares(cells.types, labels),
        second=None if second is None else second[cells.back],
        second_weight=float(weights[others].sum()),
        bound=float(searches[0][0][0]),
    )


def _write(named, result: CompositionDomains, types, key_added: str, facts: dict) -> None:
    """Write domains, confidence, second partition, found types, and how they were made."""
    stem = confidence_key(key_added).removesuffix("_confidence")
    names = list(result.compositions.columns)
    columns = {key_added: pd.Categorical.from_codes(result.labels, names)}
    columns[confidence_key(key_added)] = result.confidence.astype(np.float32)
    if result.second is not None:
        more = [str(number) for number in range(1, result.second.max() + 2)]
        columns[f"{stem}_second"] = pd.Categorical.from_codes(result.second, more)
    if types is not None:
        columns[f"{stem}_type"] = types
    found = {
        "n_domains": len(names),
        "n_slices": len(named),
        "agreement": result.agreement,
        "n_partitions": result.n_partitions,
        "second_weight": result.second_weight,
        "bound": result.bound,
    }
    rows = np.arange(len(result.labels))
    for adata, here in rows_of_each(named.values(), rows):
        adata.obs.drop(columns=[f"{stem}_second"], errors="ignore", inplace=True)
        for key, values in columns.items():
            adata.obs[key] = values[here]
        made_by = {**facts, **found, "compositions": result.compositions.copy()}
        record(adata, **{key_added: made_by})


@checked(same_within=(1e-6, 1e9), **_RANGES)
@by_section
@threadpool_limits.wrap(limits=1)  # sums in one order, bit for bit, and no waiting for each other
def cluster_composition(
    slices: Slices,
    n_domains: int,
    *,
    type_key: str | None = None,
    use_rep: str = "X_pca",
    n_components: int = 20,
    n_types: int = 30,
    n_codebooks: int = 15,
    neighbour_weight: float = 10.0,
    n_neighbors: int = 8,
    prior_cells: float = 10.0,
    n_starts: int | None = None,
    n_kept: int | None = None,
    same_within: float | None = None,
    spatial_key: str = "spatial",
    layer: str = "log1p",
    key_added: str = "genot_domain",
    seed: int = 0,
    progress: bool | None = None,
    section_key: str | None = None,
) -> CompositionDomains:
    """Find domains of single cells as compositions of cell types, coherent in space.

    Model and equations are at the top of :mod:`genot_helpers.domains.composition`. Several slices
    share types and compositions; their graphs stay apart. Where spots hold many cells,
    :func:`cluster_mixture` fits better; :func:`find_domains` tells which one fits.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number, with ``obsm[spatial_key]`` (n, 2) and
        joint, unsmoothed components ``obsm[use_rep]`` (:func:`preprocess`); the components are not
        needed if ``type_key`` is given.
    n_domains
        Number of domains, at most the number of cells.
    type_key
        Column of ``obs`` with annotated cell types (NaN: unknown). None: types are found.
    use_rep, n_components
        Slot of the components, and how many of the leading ones are used to find types.
    n_types, n_codebooks
        Types in a codebook, and number of codebooks of each view, where types are found.
    neighbour_weight, n_neighbors
        β of the field, and nearest cells that a cell is joined to.
    prior_cells
        a of the Dirichlet prior, in cells.
    n_starts, n_kept
        Starts of each view, and distinct solutions that enter the consensus, as many of each view.
        None: 80 and 24; in more than 100,000 cells fewer, in proportion, but not less than 16 and
        6, so that time stays linear. Above 50,000 cells the one view is cells alone.
    same_within
        Nats: a solution this far below the best has 1/e of its weight. Cells side by side share
        information, so the bound overstates differences. None: a fortieth of the number of cells,
        but not less than 20 and not more than 100.
    spatial_key
        Slot of the positions.
    layer
        Log expression from which found types get the names of marker genes; without it they are
        called "type 1", "type 2", ….
    key_added
        Writes ``obs[key_added]`` (categorical "1", "2", … by size), ``obs["genot_confidence"]``
        (float32, see the result), ``obs["genot_type"]`` (only if types are found),
        ``obs["genot_second"]`` (only if there is a second partition), for another key with
        ``<key>`` in place of ``genot``, and parameters, agreement and the table of compositions to
        ``uns["genot"][key_added]``.
    seed
        Same seed and machine: the same domains, bit for bit, whatever the order of cells.
    progress
        None shows a progress bar in a terminal or notebook only.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    CompositionDomains
        Labels, confidence, agreement, the table of compositions, and the second partition.

    Raises
    ------
    SliceError
        If positions, components or the column of types are missing or not usable.
    TypeError, ValueError
        If an argument is of another kind or out of range.

    Examples
    --------
    >>> found = cluster_composition(adata, 8)  # doctest: +SKIP
    >>> found.compositions.idxmax()  # the most frequent type of each domain  # doctest: +SKIP
    """
    named = named_slices(slices)
    check_number_of_domains(named, n_domains)
    model = {
        "use_rep": use_rep, "n_components": n_components, "n_types": n_types,
        "n_codebooks": n_codebooks, "neighbour_weight": neighbour_weight,
        "n_neighbors": n_neighbors, "prior_cells": prior_cells, "spatial_key": spatial_key,
        "layer": layer, "seed": seed,
    }  # fmt: skip
    n_cells = sum(adata.n_obs for adata in named.values())
    share = min(1.0, WHOLE_SEARCH / n_cells)
    cells = prepare_cells(named, type_key=type_key, all_views=n_cells <= ALL_VIEWS, **model)
    n_starts, n_kept = n_starts or max(16, int(80 * share)), n_kept or max(6, int(24 * share))
    search = {"n_starts": n_starts, "n_kept": n_kept, "seed": seed}
    each = search | {"n_kept": -(-n_kept // len(cells.fields))}
    searches = [
        solutions(field, cells.points, n_domains, progress=progress, **each)
        for field in cells.fields
    ]
    if same_within is None:
        same_within = float(np.clip(n_cells / 40, 20, 100))
    how = n_domains, same_within, seed
    searches = _of_one_kind(searches, *how)
    result = _agreed(cells, searches, *how)
    facts = {**model, **search, "method": "composition of cell types", "same_within": same_within}
    facts["n_views"] = len(searches)
    facts["type_key"] = type_key or ""
    _write(named, result, None if type_key else cells.types, key_added, facts)
    return result


# -------------------------------------------------------------------------------------------------
# How many domains of cells: what the evidence says, what stability says, and whether they agree.
#
# The evidence for a partition (:func:`genot_helpers.domains.composition_field.log_evidence`) is
# the log probability of the types, their compositions integrated out, and of the partition itself,
# less that of one domain for all. Each new composition and each border has to be paid for by cells
# that are described better. It is that of one partition, not of a sum over all, so read it as a
# comparison. Stability is the agreement of partitions from different seeds (von Luxburg 2010, doi
# 10.1561/2200000008); it likes few domains. The two need not agree, and then the data do not say.


@by_section(writes=False)
@checked(n_seeds=(2, 1_000), **_RANGES)
@threadpool_limits.wrap(limits=1)
def choose_n_compositions(
    slices: Slices,
    candidates: Iterable[int] = range(2, 13),
    *,
    type_key: str | None = None,
    use_rep: str = "X_pca",
    n_components: int = 20,
    n_types: int = 30,
    n_codebooks: int = 5,
    neighbour_weight: float = 10.0,
    n_neighbors: int = 8,
    prior_cells: float = 10.0,
    n_starts: int = 20,
    n_kept: int = 4,
    n_seeds: int = 3,
    spatial_key: str = "spatial",
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Compare numbers of domains for :func:`cluster_composition`, by evidence and by stability.

    Nothing is written. Parameters that are not listed are those of :func:`cluster_composition`;
    fewer codebooks and starts do here.

    Parameters
    ----------
    slices
        One slice, or several that are clustered together.
    candidates
        Numbers of domains to try, each 1 or more.
    n_seeds
        Independent searches, each with types and starts of its own, 2 or more.
    seed
        Same seed and machine: the same table.

    Returns
    -------
    pandas.DataFrame
        Index ``n_domains``; columns ``evidence`` (float, nats, mean over seeds; higher is better),
        ``spread`` (float, standard deviation between seeds), ``stability`` (float, mean adjusted
        Rand index between the best partitions of two seeds) and ``chosen`` (bool, highest
        evidence). ``table.attrs["says"]`` is one sentence: the number, or that the data do not say.

    Raises
    ------
    SliceError, TypeError, ValueError
        As :func:`cluster_composition`.
    """
    named = named_slices(slices)
    candidates = list(candidates)
    if not candidates:
        raise ValueError("candidates is empty; give one number of domains or more.")
    for number in candidates:
        check_number_of_domains(named, number)
    model = {
        "use_rep": use_rep, "n_components": n_components, "n_types": n_types,
        "n_codebooks": n_codebooks, "neighbour_weight": neighbour_weight,
        "n_neighbors": n_neighbors, "prior_cells": prior_cells, "spatial_key": spatial_key,
        "layer": "", "type_key": type_key,
    }  # fmt: skip
    seeds = [n_seeds * seed + number for number in range(n_seeds)]
    cells = [prepare_cells(named, seed=one, all_views=False, **model) for one in seeds]
    rows = {}
    for n_domains in tqdm(sorted(set(candidates)), "domains", disable=progress_off(progress)):
        found = [
            _best(one, n_domains, n_starts=n_starts, n_kept=n_kept, seed=number)
            for one, number in zip(cells, seeds, strict=True)
        ]
        heights = [height for height, _ in found]
        pairs = itertools.combinations([labels for _, labels in found], 2)
        stability = np.mean([adjusted_rand_score(*pair) for pair in pairs])
        rows[n_domains] = [np.mean(heights), np.std(heights), stability]
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["evidence", "spread", "stability"]
    )
    table["chosen"] = table["evidence"] == table["evidence"].max()
    table.attrs["says"] = _says(table)
    return table.rename_axis("n_domains")


def _best(cells: Cells, n_domains: int, **search) -> tuple[float, np.ndarray]:
    """Evidence and labels, in an order common to all seeds, of the likeliest partition."""
    field = cells.fields[0]
    _, labels = solutions(field, cells.points, n_domains, **search)[0]
    return log_evidence(field, labels, n_domains), labels[cells.back]


def _says(table: pd.DataFrame) -> str:
    """Say in one sentence which number both criteria bear out, or that none is."""
    best = table["evidence"].idxmax()
    stable = table.loc[best, "stability"]
    near = table.index[table["evidence"] > table.loc[best, "evidence"] - table["spread"].max()]
    found = f"Evidence is highest for {best} domains, and seeds agree on them to {stable:.2f}"
    if best == table.index.max() and len(table) > 1:
        return f"{found}; it still rises at the largest number tried: the data do not say."
    if stable < ALIKE:
        steadiest = table["stability"].idxmax()
        agreed = table["stability"].max()
        return f"{found}; most stable are {steadiest} ({agreed:.2f}): the data do not say."
    if len(near) > 1:
        others = f"{near.min()} to {near.max()}"
        return f"{found}; within the spread between seeds it is as high for {others}."
    return f"{found}: {best}."
