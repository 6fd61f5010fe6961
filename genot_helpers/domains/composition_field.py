r"""The hidden Markov random field under the composition model, and the search for its maxima.

Types of cells :math:`y`, domains :math:`z`, compositions :math:`\pi` and a Potts field on the graph
A of near cells, all as in :mod:`genot_helpers.domains.composition`. With memberships
:math:`q_{ik}` for :math:`z_i`, the mean field bound

.. math:: F = \sum_{ik} q_{ik} (\ell_{ik} - \log q_{ik})
          + \tfrac{\beta}{2} \sum_{ij} A_{ij}\, q_i^\top q_j + a \sum_{kc} w_c \log(\pi_{kc} / w_c),
          \qquad \ell_{ik} = \log(\pi_{k y_i} / w_{y_i})

is climbed by turns: :math:`\pi_{kc} \propto \sum_i q_{ik} [y_i = c] + a w_c` and
:math:`q_{ik} \propto \exp(\ell_{ik} + \beta \sum_j A_{ij} q_{jk})`. Of several codebooks of types,
:math:`\ell` and the prior are means: a cell counts once. F has many maxima, so many starts are
climbed a few steps, and the best distinct ones to the end.

Every step is a product with a sparse matrix: time and memory grow with the number of cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.linalg import eigh
from scipy.spatial import cKDTree
from scipy.special import gammaln, logsumexp
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from tqdm.auto import tqdm

from ..arguments import progress_off
from ..slices.sections import genes_of_all
from ..slices.slices import SliceError, as_labels
from .mixture import climb, seen_by, view_of

BLOCK = 20_000  # cells looked at in one go; axes of the starts are fitted on at most twice as many
COMPARED = 5_000  # two partitions are compared on about this many cells
AROUND = 15  # nearest cells that are a cell's surroundings, and
SAID_BY_AROUND = 0.2  # their share of the variance: both as BANKSY sets them to find types of cells
DIRECTIONS = 8  # components of a cell that its surroundings agree on most
NEIGHBOURHOOD = 30  # nearest cells whose types a start looks at
DAMPING = 0.3  # share of the old memberships kept in a step; without it, neighbours swap for ever
SAME = 0.98  # adjusted Rand index from which two partitions are one


class Field(NamedTuple):
    """Cells as the model sees them."""

    # (n_cells, n_codebooks * n_types) float32, 1 where a cell is of a type. The row of a cell of
    # unknown type is empty: its neighbours decide.
    types: sparse.csr_matrix
    shares: np.ndarray  # (n_codebooks * n_types,), share of each type among all cells
    n_codebooks: int
    graph: sparse.csr_matrix  # (n_cells, n_cells) float32, β A
    prior: float  # a, in cells


def _nearest(points: np.ndarray, k: int) -> sparse.csr_matrix:
    """Join every cell to itself and its k nearest, (n, n) CSR of ones."""
    n, k = len(points), min(k, len(points) - 1)
    found = cKDTree(points).query(points, k + 1)[1].reshape(n, k + 1)
    ends = np.arange(0, n * (k + 1) + 1, k + 1)
    return sparse.csr_matrix((np.ones(n * (k + 1), np.float32), found.ravel(), ends), (n, n))


def potts_graph(points: np.ndarray, k: int) -> sparse.csr_matrix:
    """Symmetric graph of the k nearest, divided by its mean degree."""
    graph = _nearest(points, k)
    graph.setdiag(0)
    graph.eliminate_zeros()
    graph = graph.maximum(graph.T).tocsr()
    return graph / np.float32(max(graph.nnz / len(points), 1.0))


def share_around(points: list[np.ndarray], labels: np.ndarray, n_nearest: int = 60) -> np.ndarray:
    """Share (n_spots,) of a spot and its nearest, in its own slice, that are in its domain."""
    shares, begin = [], 0
    for xy in points:
        here, tree = labels[begin : begin + len(xy)], cKDTree(xy)
        begin += len(xy)
        for at in range(0, len(xy), BLOCK):
            nearest = tree.query(xy[at : at + BLOCK], min(n_nearest + 1, len(xy)))[1]
            shares.append((here[nearest] == here[at : at + BLOCK, None]).mean(axis=1))
    return np.concatenate(shares)


def field_of(
    codebooks: np.ndarray, graph: sparse.csr_matrix, neighbour_weight: float, prior: float
) -> Field:
    """Prepare the model from types, (n_codebooks, n_cells) int, −1 for unknown, and graph A."""
    n_codebooks, n_cells = codebooks.shape
    n_types = int(codebooks.max()) + 1
    cells, books = np.nonzero(codebooks.T >= 0)
    columns = codebooks[books, cells] + books * n_types
    ones = np.ones(len(cells), np.float32)
    types = sparse.csr_matrix((ones, (cells, columns)), (n_cells, n_codebooks * n_types))
    counts = np.asarray(types.sum(axis=0)).reshape(n_codebooks, n_types)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    # A type that a codebook does not use must not divide by zero; no cell ever asks for it.
    shares = np.maximum(shares.ravel(), 1e-9)
    return Field(types, shares, n_codebooks, graph * np.float32(neighbour_weight), prior)


def _log_ratios(field: Field, q: np.ndarray) -> np.ndarray:
    """Logarithm of pi_kc / w_c for every domain and type, under memberships q (the M step)."""
    pi = (field.types.T @ q).T + field.prior * field.shares
    pi = pi.reshape(len(pi), field.n_codebooks, -1)
    pi = pi / pi.sum(axis=2, keepdims=True)
    return np.log(pi.reshape(len(pi), -1) / field.shares)


def _emission(field: Field, ratios: np.ndarray) -> np.ndarray:
    """Mean over codebooks of log(pi_k,y / w_y), (n_cells, n_domains) float32."""
    return field.types @ np.ascontiguousarray(ratios.T / field.n_codebooks, dtype=np.float32)


def climb_field(field: Field, q: np.ndarray, n_steps: int) -> tuple[float, np.ndarray]:
    """Climb the bound from memberships q, (n_cells, n_domains) float32; return F and the new q."""
    for _ in range(n_steps):
        new = _emission(field, _log_ratios(field, q)) + field.graph @ q
        new -= new.max(axis=1, keepdims=True)
        np.exp(new, out=new)
        new /= new.sum(axis=1, keepdims=True)
        change = float(np.abs(new - q).max(axis=1).mean())
        q = np.float32(DAMPING) * q + np.float32(1 - DAMPING) * new
        if change < 1e-3:
            break
    return bound(field, q), q


def bound(field: Field, q: np.ndarray) -> float:
    """F of memberships q, with the compositions that go with them."""
    ratios = _log_ratios(field, q)
    each = _emission(field, ratios) - np.log(np.maximum(q, 1e-9)) + 0.5 * (field.graph @ q)
    prior = field.prior * float((ratios * field.shares).sum()) / field.n_codebooks
    return float((q * each).sum(dtype=np.float64)) + prior


def log_evidence(field: Field, labels: np.ndarray, n_domains: int) -> float:
    r"""Log probability of a partition and of the types in it, less that of one domain for all.

    Compositions are integrated out (Dirichlet-multinomial distribution; a mean over codebooks):

    .. math:: \sum_k \Bigl[ \log \frac{\Gamma(a)}{\Gamma(a + n_k)}
              + \sum_c \log \frac{\Gamma(a w_c + n_{kc})}{\Gamma(a w_c)} \Bigr]
              + \sum_i \log \frac{\exp(\beta \sum_j A_{ij} [z_i = z_j])}
                                {\sum_k \exp(\beta \sum_j A_{ij} [k = z_j])}

    The last term is the pseudo-likelihood of the field (Besag 1975, doi 10.2307/2987782): borders
    cost something, so that types scattered at random make one domain.
    """
    member = np.eye(n_domains, dtype=np.float32)[labels]
    counts = (field.types.T @ member).T.astype(float)
    together = counts.sum(axis=0, keepdims=True)
    gain = _log_polya(field, counts) - _log_polya(field, together)
    around = (field.graph @ member).astype(float)
    border = around[np.arange(len(labels)), labels] - logsumexp(around, axis=1)
    return gain / field.n_codebooks + float(border.sum())


def _log_polya(field: Field, counts: np.ndarray) -> float:
    """Dirichlet-multinomial log probability of type counts, (n_domains, n_codebooks * n_types)."""
    counts = counts.reshape(len(counts), field.n_codebooks, -1)
    prior = field.prior * field.shares.reshape(1, field.n_codebooks, -1)
    total = prior.sum(axis=2)
    inside = (gammaln(prior + counts) - gammaln(prior)).sum()
    return float(inside + (gammaln(total) - gammaln(total + counts.sum(axis=2))).sum())


def _neighbourhoods(field: Field, points: list[np.ndarray]) -> np.ndarray:
    """Leading axes of the square root of type frequencies around a cell, (n_cells, 30) float32.

    Distances between square roots of frequencies are those of Hellinger: rare types count too.
    """
    window = sparse.block_diag([_nearest(one, NEIGHBOURHOOD) for one in points], "csr")
    n_cells = field.types.shape[0]
    step = max(1, n_cells // BLOCK)

    def rows(at) -> np.ndarray:
        summed = (window[at] @ field.types).toarray()
        return np.sqrt(summed / np.maximum(summed.sum(axis=1, keepdims=True), 1.0))

    some = rows(slice(None, None, step))
    mean = some.mean(axis=0)
    _, vectors = np.linalg.eigh((some - mean).T @ (some - mean))
    axes = vectors[:, ::-1][:, : min(30, len(mean))]
    blocks = range(0, n_cells, BLOCK)
    return np.concatenate([(rows(slice(at, at + BLOCK)) - mean) @ axes for at in blocks])


def _softened(labels: np.ndarray, n_domains: int) -> np.ndarray:
    """Memberships that are nearly certain, so that a start can still move."""
    return np.eye(n_domains, dtype=np.float32)[labels] * np.float32(0.9) + np.float32(
        0.1 / n_domains
    )


def _best_distinct(found: list[tuple[float, np.ndarray]], n_kept: int):
    """Sort (F, labels) best first and leave out what is nearly the same as a better one."""
    kept: list[tuple[float, np.ndarray]] = []
    step = max(1, len(found[0][1]) // COMPARED)
    for height, labels in sorted(found, key=lambda one: -one[0]):
        if len(kept) == n_kept:
            break
        alike = (adjusted_rand_score(labels[::step], other[::step]) for _, other in kept)
        if all(one < SAME for one in alike):
            kept.append((height, labels))
    return kept


def solutions(
    field: Field,
    points: list[np.ndarray],
    n_domains: int,
    *,
    n_starts: int,
    n_kept: int,
    seed: int,
    progress: bool | None = False,
) -> list[tuple[float, np.ndarray]]:
    """Find the highest distinct maxima of the bound: (F, labels) each, best first."""
    rng = np.random.default_rng(seed)
    around = _neighbourhoods(field, points)
    some = around
    if len(around) > BLOCK // 2:
        some = around[np.sort(rng.choice(len(around), BLOCK // 2, replace=False))]

    def climbed(labels: np.ndarray, n_steps: int) -> tuple[float, np.ndarray]:
        height, q = climb_field(field, _softened(labels, n_domains), n_steps)
        return height, q.argmax(axis=1).astype(np.int32)

    found = []
    bar = tqdm(range(n_starts), "starts", disable=progress_off(progress), leave=False)
    for number in bar:
        # Half of the starts are seeded without care, so that they differ more.
        k_means = few_steps_of_k_means(some, n_domains, rng, 5, trials=None if number % 2 else 1)
        found.append(climbed(k_means.predict(around), 8))
    found = [climbed(labels, 100) for _, labels in _best_distinct(found, 2 * n_kept)]
    return _best_distinct(found, n_kept)


# -------------------------------------------------------------------------------------------------
# Types of cells: found by mixtures, given by the reader, named by their marker genes.
#
# There is no one right set of types: where to cut a continuum, and how many pieces to make, is
# open. So found types come as several *codebooks*, each a Gaussian mixture with one covariance for
# all types (:mod:`genot_helpers.domains.mixture`, without neighbours) from another start, and what
# follows is averaged over them.

FITTED_ON = 20_000  # types are fitted on at most this many cells
MARKER_EFFECT = 0.5  # standard deviations by which a marker gene is higher in its type


def find_types(points: np.ndarray, n_types: int, seed: int) -> np.ndarray:
    """Types of all cells by one Gaussian mixture with a common covariance, (n_cells,) int."""
    rng = np.random.default_rng(seed)
    some = points
    if len(points) > FITTED_ON:
        some = points[np.sort(rng.choice(len(points), FITTED_ON, replace=False))]
    start = few_steps_of_k_means(some, n_types, rng, 10).labels_
    mixture = climb(view_of(some), np.eye(n_types)[start], 60)
    blocks = range(0, len(points), FITTED_ON)
    return np.concatenate(
        [seen_by(view_of(points[at : at + FITTED_ON]), mixture).labels for at in blocks]
    )


def views_of_cells(values: np.ndarray, points: list[np.ndarray]) -> list[np.ndarray]:
    """Three ways to look at cells before types are found: each (n_cells, …), cells in order.

    The cell's own components; these together with its surroundings; and the directions among them
    that cells share with their surroundings.
    """
    own = np.asarray(values, dtype=np.float64)
    own = own - own.mean(axis=0)
    return [values, _with_surroundings(own, points), _shared_directions(own, points)]


def _around(points: np.ndarray, k: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Graph of a slice's k nearest without the cell itself, and the direction of each of its edges.

    Directions are complex numbers of length one, those to the cell itself (or to a cell at the very
    same place, which lies in no direction) zero.
    """
    graph = _nearest(points, k).astype(np.float64)
    ends = graph.indices.reshape(len(points), -1)
    away = points[ends] - points[:, None]
    away = (away[..., 0] + 1j * away[..., 1]).ravel()
    graph.data = (graph.indices != np.repeat(np.arange(len(points)), ends.shape[1])).astype(float)
    return graph, away / np.maximum(np.abs(away), np.finfo(float).tiny)


def _with_surroundings(own: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    r"""Leading components of cells together with their surroundings, as many as cells have.

    Beside a cell's own values :math:`x_i` stand the mean of its nearest and their azimuthal
    gradient :math:`|\sum_j x_j e^{\mathrm{i} \theta_{ij}}|`, where :math:`\theta_{ij}` is the
    direction from i to j: does what lies around differ from side to side? (BANKSY; Singhal et al.
    2024, doi 10.1038/s41588-024-01664-3.) The three parts have .80, .15 and .05 of the variance.
    """
    means, gradients = np.empty_like(own), np.empty_like(own)
    begin = 0
    for xy in points:
        rows = slice(begin, begin + len(xy))
        begin += len(xy)
        graph, turn = _around(xy, AROUND)
        means[rows] = graph @ own[rows]
        graph.data = turn.real.copy()
        sideways = graph @ own[rows]
        graph.data = turn.imag.copy()
        gradients[rows] = np.hypot(sideways, graph @ own[rows])
    weights = (1 - SAID_BY_AROUND, 0.75 * SAID_BY_AROUND, 0.25 * SAID_BY_AROUND)
    parts = []
    for weight, part in zip(weights, (own, means, gradients), strict=True):
        part = part - part.mean(axis=0)
        variance = max(np.square(part).sum() / len(part), np.finfo(float).tiny)
        parts.append(part * np.sqrt(weight / variance))
    together = np.concatenate(parts, axis=1)
    _, axes = np.linalg.eigh(together.T @ together)
    return together @ axes[:, ::-1][:, : own.shape[1]]


def _shared_directions(own: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Directions that a cell shares with its 30 nearest, as the closed-form encoder finds them.

    The values are those of the cell alone, not averaged (:mod:`genot_helpers.encoder.closed_form`
    has the equation).
    """
    means = np.empty_like(own)
    begin = 0
    for xy in points:
        rows = slice(begin, begin + len(xy))
        begin += len(xy)
        means[rows] = _around(xy, NEIGHBOURHOOD)[0] @ own[rows]
    total = own.T @ own
    # A tiny ridge keeps the problem solvable when components have no variance.
    total.flat[:: len(total) + 1] += 1e-9 * np.trace(total) / len(total) + np.finfo(float).tiny
    _, directions = eigh(means.T @ means, total)
    return own @ directions[:, ::-1][:, :DIRECTIONS]


def few_steps_of_k_means(
    points, n_clusters: int, rng, n_steps: int, trials: int | None = None
) -> KMeans:
    """Run a few steps of k-means from one careful start."""
    seed = int(rng.integers(2**31))
    centres, _ = kmeans_plusplus(points, n_clusters, random_state=seed, n_local_trials=trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops early on purpose
        return KMeans(n_clusters, init=centres, n_init=1, max_iter=n_steps).fit(points)


def given_types(named: Mapping[str, AnnData], type_key: str) -> pd.Categorical:
    """Annotated types of all cells, one set of categories for all slices; NaN is unknown."""
    for name, adata in named.items():
        if type_key not in adata.obs:
            columns = ", ".join(map(str, adata.obs.columns)) or "nothing"
            raise SliceError(f"{name}: obs[{type_key!r}] is missing (obs holds: {columns}).")
    stacked = pd.concat([adata.obs[type_key].astype(object) for adata in named.values()])
    labels = as_labels(stacked.reset_index(drop=True))
    if labels.nunique() < 2:
        raise SliceError(
            f"obs[{type_key!r}] names {labels.nunique()} type; needed are two or more "
            "(leave type_key out to have types found)."
        )
    return pd.Categorical(labels)


def most_typical(codebooks: np.ndarray) -> np.ndarray:
    """Pick the codebook that agrees best with all others, and number its types by size."""
    step = max(1, codebooks.shape[1] // 2_000)
    some = codebooks[:, ::step]
    scores = [[adjusted_rand_score(one, other) for other in some] for one in some]
    types = codebooks[int(np.sum(scores, axis=1).argmax())]
    order = np.argsort(-np.bincount(types), kind="stable")
    return np.argsort(order, kind="stable")[types]


def type_names(named: Mapping[str, AnnData], types: np.ndarray, layer: str) -> list[str]:
    """Name each type by its strongest marker gene (two where one is not enough), by effect size."""
    n_types = types.max() + 1
    plain = [f"type {number}" for number in range(1, n_types + 1)]
    slices = list(named.values())
    if any(layer not in one.layers for one in slices):
        return plain
    genes = genes_of_all(slices)
    if not len(genes):
        return plain
    X = sparse.vstack([sparse.csr_matrix(one[:, genes].layers[layer]) for one in slices], "csr")
    member = np.eye(n_types)[types]
    size = member.sum(axis=0)[:, None]
    sums, total = (X.T @ member).T, np.asarray(X.sum(axis=0))
    spread = np.sqrt(np.maximum(X.multiply(X).mean(axis=0) - np.square(X.mean(axis=0)), 1e-12))
    inside, outside = sums / np.maximum(size, 1), (total - sums) / np.maximum(len(types) - size, 1)
    effect = np.asarray((inside - outside) / np.asarray(spread))
    best = np.argsort(-effect, axis=1, kind="stable")[:, :3]
    names: list[str] = []
    for number, order in enumerate(best):
        options = [" ".join(genes[order[:length]]) for length in range(1, len(order) + 1)]
        options = (
            [*options, plain[number]]
            if effect[number, order[0]] > MARKER_EFFECT
            else [plain[number]]
        )
        names.append(next((one for one in options if one not in names), plain[number]))
    return names


def type_shares(types: pd.Categorical, labels: np.ndarray) -> pd.DataFrame:
    """Share of each type among the cells of each domain; cells of unknown type are left out."""
    n_domains = int(labels.max()) + 1
    table = np.zeros((len(types.categories), n_domains))
    known = types.codes >= 0
    np.add.at(table, (types.codes[known], labels[known]), 1.0)
    table /= np.maximum(table.sum(axis=0), 1.0)
    columns = pd.Index([str(number) for number in range(1, n_domains + 1)], name="domain")
    return pd.DataFrame(table, pd.Index(list(types.categories), name="type"), columns)
