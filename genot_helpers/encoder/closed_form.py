r"""The contrastive encoder without epochs: its best linear weights, in closed form.

Contrastive learning pulls the embeddings of a positive pair together and pushes all others
apart. The spectral contrastive loss (HaoChen et al. 2021, arXiv:2106.04156)

.. math:: L(f) = -2\,\mathbb{E}\,[f(x)^\top f(x^+)] + \mathbb{E}\,[(f(x)^\top f(x'))^2]

measures this by squares. For a linear encoder :math:`f(x) = W^\top x` its minimum is known: the
leading solutions of the generalised eigenproblem

.. math:: C_+ w = \lambda\, C\, w, \qquad C = X^\top X / n, \qquad C_+ = (P^k X)^\top (P^k X) / n.

:math:`P` is the mean over a spot and its neighbours. :math:`C_+` is the covariance between the
two members of a positive pair: two spots that random walks of :math:`k` steps reach from a
common spot, hence from the same place in the tissue. The eigenvalue :math:`\lambda` is
the share of a direction's variance that neighbours agree on: tissue structure near 1, noise
near 0. (On directed nearest-neighbour graphs, where some spots are neighbours of none, it can
exceed 1 slightly.) As in the published encoder, neighbourhoods are aggregated hop by hop; the
embedding is :math:`P^k X W \Lambda`.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import eigh

from ..arguments import checked
from ..preprocessing.graph import neighbour_mean, smooth
from ..slices.sections import Slices, by_section, joint_embeddings, named_slices, rows_of_each
from ..slices.slices import record


@by_section
@checked(n_features=(1, 10**9))
def spectral_embedding(
    slices: Slices,
    *,
    n_hops: int = 4,
    use_rep: str = "X_pca",
    n_features: int | None = None,
    key_added: str = "X_genot",
    section_key: str | None = None,
) -> np.ndarray:
    """Embed spots by the closed-form contrastive encoder; slices share its weights.

    Exact and deterministic: there is no seed, no epoch and no stopping rule. O(n) in spots.

    Parameters
    ----------
    slices
        With ``obsm[use_rep]``, joint principal components of shape (n_spots, n_features), and
        ``obsp["spatial_connectivities"]``; see :func:`genot_helpers.preprocessing.preprocess`.
    n_hops
        Steps k of the random walk that makes positive pairs.
    use_rep, n_features
        Slot of the components, and how many leading ones the encoder sees; None means all.
    key_added
        Writes ``obsm[key_added]`` (n_spots, n_features) float32, columns by falling eigenvalue,
        each with standard deviation equal to its eigenvalue over all slices, and the settings
        to ``uns["genot"]["encoder"]``.
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    numpy.ndarray of float, shape (n_features,)
        The eigenvalues λ, largest first.

    Raises
    ------
    SliceError, ValueError
        If features or graph are missing or unfit; if there are too few spots for the features.
    """
    named = named_slices(slices)
    blocks = [block[:, :n_features] for block in joint_embeddings(named, use_rep)]
    operators = [neighbour_mean(adata, name) for name, adata in named.items()]
    features, aggregated = _features_and_aggregates(blocks, operators, n_hops)
    eigenvalues, weights = _solve(features, aggregated)
    embedding = aggregated @ weights
    embedding *= eigenvalues / np.maximum(embedding.std(axis=0), np.finfo(float).tiny)
    facts = {
        "key": key_added,
        "configuration": "spectral",
        "use_rep": use_rep,
        "n_hops": n_hops,
        "n_features": features.shape[1],
        "n_slices": len(named),
        "eigenvalues": eigenvalues,
    }
    for adata, rows in rows_of_each(named.values(), embedding):
        adata.obsm[key_added] = rows.astype(np.float32)
        record(adata, encoder=dict(facts))
    return eigenvalues


def _features_and_aggregates(
    blocks: list[np.ndarray], operators: list[sparse.csr_matrix], n_hops: int
) -> tuple[np.ndarray, np.ndarray]:
    """Stack centred features X and their aggregates P^k X, both (n_spots, n_features)."""
    n_spots, width = sum(map(len, blocks)), blocks[0].shape[1]
    if n_spots <= width:
        raise ValueError(
            f"There are {n_spots} spots for {width} features; the encoder needs more spots than "
            "features. Use fewer components."
        )
    mean = np.concatenate(blocks).mean(axis=0)
    centred = [block - mean for block in blocks]
    aggregates = [
        smooth(block, operator, n_hops) for block, operator in zip(centred, operators, strict=True)
    ]
    return np.concatenate(centred), np.concatenate(aggregates).astype(np.float64)


def _solve(features: np.ndarray, aggregated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve the generalised eigenproblem; eigenvalues fall, the sign of each vector is fixed."""
    total = features.T @ features / len(features)
    shared = aggregated.T @ aggregated / len(features)
    # A tiny ridge keeps the problem solvable when components have no variance.
    total.flat[:: len(total) + 1] += 1e-9 * np.trace(total) / len(total)
    eigenvalues, vectors = eigh(shared, total)
    order = np.argsort(-eigenvalues)
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return np.clip(eigenvalues[order], 0.0, None), vectors * signs
