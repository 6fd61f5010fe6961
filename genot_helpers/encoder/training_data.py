"""What the encoder is trained on: components and graphs of the slices, checked and stacked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from scipy import sparse

from ..preprocessing.graph import graph_operator, row_normalised
from ..preprocessing.neighbours import nearest_neighbour_graph, spatial_graph
from ..slices.several import joint_embeddings
from .encoder import SparseOperator, sparse_operator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from .configuration import EncoderConfiguration

__all__ = ["TrainingData", "leading_components", "spot_graphs", "stack"]


class TrainingData(NamedTuple):
    """All slices stacked: scaled features X (n, p), operator P and readout R block by block."""

    features: torch.Tensor
    operator: SparseOperator
    readout: SparseOperator
    sizes: tuple[int, ...]


def leading_components(
    named: Mapping[str, AnnData], use_rep: str, n_components: int
) -> list[NDArray[np.float32]]:
    """Return the leading components of every slice, (n_i, p) each, or say why they are unfit."""
    found = joint_embeddings(named, use_rep, dtype=np.float32)
    return [np.ascontiguousarray(features[:, :n_components]) for features in found]


def spot_graphs(
    adata: AnnData, configuration: EncoderConfiguration
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return operator P and readout R of one slice, (n, n) each.

    With ``graph="spatial"`` the graph is ``obsp["spatial_connectivities"]``, made and stored where
    it is missing.
    """
    holder = adata
    if configuration.graph == "nearest":
        positions = {"spatial": adata.obsm["spatial"]} if "spatial" in adata.obsm else {}
        holder = AnnData(shape=(adata.n_obs, 0), obsm=positions)
        nearest_neighbour_graph(holder, n_neighbors=configuration.n_neighbors)
    elif "spatial_connectivities" not in adata.obsp:
        spatial_graph(adata, n_neighbors=configuration.n_neighbors)
    adjacency = holder.obsp["spatial_connectivities"]
    return graph_operator(adjacency, configuration.normalisation), row_normalised(adjacency)


def stack(
    features: list[NDArray[np.float32]],
    graphs: list[tuple[sparse.csr_matrix, sparse.csr_matrix]],
    scale: torch.Tensor,
) -> TrainingData:
    """Put all slices into one graph without edges between them, on the device of ``scale``."""
    operators = [
        sparse_operator(sparse.block_diag(blocks, format="csr"), device=scale.device)
        for blocks in zip(*graphs, strict=True)
    ]
    stacked = torch.from_numpy(np.concatenate(features)).to(scale.device) / scale
    return TrainingData(stacked, *operators, tuple(map(len, features)))
