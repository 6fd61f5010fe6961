"""Train the GenOT encoder on one slice or on several, apply it, save it.

Top to bottom: :func:`train_encoder` and :func:`embed`; the loop of epochs; the loss, that of GenOT
(https://github.com/wrab12/GenOT)::

    loss = 10 * mean (H - X)^2 + contrast,   fits = s(G_i, Z_i),  misfits = s(G_i, Z_other)
    contrast = mean of softplus(-fits) + softplus(misfits), for the tissue and the permuted tissue

(deep graph infomax, arXiv:1809.10341: a spot must fit its own neighbourhood better than a spot from
elsewhere does); what the encoder is trained on; a trained encoder on disk. The network is in
:mod:`genot_helpers.encoder.encoder`.

Every epoch is one step on all spots. Mini-batches are not needed: memory holds the propagated
features (K + 1 copies) and some ten arrays of hidden vectors, 100,000 spots take less than 3 GB,
and the gradient is exact.
"""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import sparse
from torch.nn import functional
from tqdm.auto import tqdm

from ..arguments import checked, choose_device
from ..files import atomic_path
from ..preprocessing.graph import (
    graph_operator,
    nearest_neighbour_graph,
    row_normalised,
    spatial_graph,
)
from ..slices.sections import Slices, by_section, joint_embeddings, named_slices
from ..slices.slices import SliceError, record
from .encoder import (
    EncoderConfiguration,
    GenOTEncoder,
    SparseOperator,
    configuration_named,
    sparse_operator,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Losses = dict[str, NDArray[np.float64]]
    from collections.abc import Mapping, Sequence


class EncoderTraining(NamedTuple):
    """What :func:`train_encoder` returns.

    ``losses`` holds one float64 array per term ("total", and before weighting "reconstruction" and
    "contrastive"), one value per epoch; ``seconds`` is the time of the training alone.
    """

    encoder: GenOTEncoder
    losses: Losses
    n_epochs: int
    converged: bool
    interrupted: bool
    seconds: float

    @property
    def message(self) -> str:
        """How the training ended."""
        if self.interrupted:
            return f"interrupted after {self.n_epochs} epochs; the encoder is partly trained"
        if self.converged:
            return f"converged after {self.n_epochs} epochs"
        return f"ended after {self.n_epochs} epochs, the most allowed, without having converged"


@by_section
@checked
def train_encoder(
    slices: Slices,
    *,
    configuration: str | EncoderConfiguration = "default",
    seed: int = 0,
    device: str = "auto",
    use_rep: str = "X_pca",
    key_added: str = "X_genot",
    progress: bool = True,
    section_key: str | None = None,
) -> EncoderTraining:
    """Learn an embedding of the spots from their expression and that of their neighbours.

    Several slices share the weights of one encoder and keep their own graphs; their features must
    come from one joint principal component analysis, or the columns would not mean the same.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number, with ``obsm[use_rep]`` (n, p) and
        coordinates in ``obsm["spatial"]``. With ``graph="spatial"`` in the configuration the graph
        is ``obsp["spatial_connectivities"]``, made and stored where it is missing.
    configuration
        "default", "paper" (the published settings), or an :class:`EncoderConfiguration`.
    seed
        Of weights, dropout and permutations: the same bits on the same machine (and number of
        threads); the global random state is neither read nor changed.
    device
        "auto" (a GPU where there is one), or a name that torch knows ("cpu", "cuda").
    use_rep, key_added
        Slots of the features and of the embedding.
    progress
        Show a progress bar (in a terminal or notebook only).
    section_key
        Column of ``obs`` with the sections of one AnnData, to which results are written back.

    Returns
    -------
    The trained encoder (on the CPU), the loss curve and how the training ended. Every slice gets
    ``obsm[key_added]``, (n, p) float32 or, with ``output="hidden"``, (n, d), and
    ``uns["genot"]["encoder"]``: settings, seed, versions, loss curve, outcome.

    Raises
    ------
    SliceError
        A slice lacks features or coordinates, holds values that are not finite, has too few spots
        for the graph, or the slices differ in their number of components.
    TypeError, ValueError
        ``slices`` holds something that is no AnnData; unknown configuration or device.
    FloatingPointError
        The loss is no longer finite; nothing is written.

    Notes
    -----
    Interrupting (Ctrl-C, the stop button of the notebook) ends the training early: the embedding
    by the partly trained encoder is written and marked as interrupted.

    Examples
    --------
    >>> train_encoder(adata).message
    'converged after 92 epochs'
    """
    named = named_slices(slices)
    configuration = configuration_named(configuration)
    target = choose_device(device)
    features = _leading_components(named, use_rep, configuration.n_components)
    graphs = [_spot_graphs(adata, configuration) for adata in named.values()]

    start = time.perf_counter()
    encoder = GenOTEncoder(features[0].shape[1], configuration, seed=seed)
    if configuration.unit_scale:
        squares = np.mean(np.square(np.concatenate(features), dtype=np.float64))
        encoder.feature_scale.fill_(float(squares) ** 0.5 or 1.0)
    encoder.to(target)
    data = stack(features, graphs, encoder.feature_scale)
    losses, converged, interrupted = _fit(encoder, data, seed, progress)
    encoder.cpu().eval()
    seconds = time.perf_counter() - start

    training = EncoderTraining(
        encoder, losses, len(losses["total"]), converged, interrupted, seconds
    )
    facts = {name: value for name, value in training._asdict().items() if name != "encoder"}
    facts |= {"message": training.message, "seed": seed, "device": str(target)}
    facts |= {"slices": np.array(list(named), dtype=str)}
    for adata, matrix, graph in zip(named.values(), features, graphs, strict=True):
        _write_embedding(adata, encoder, matrix, graph, use_rep, key_added, facts)
    if interrupted:
        warnings.warn(f"training was {training.message}; train again for more", stacklevel=2)
    return training


@checked
def embed(
    encoder: GenOTEncoder, adata: AnnData, *, use_rep: str = "X_pca", key_added: str = "X_genot"
) -> None:
    """Apply a trained encoder to a slice, the one it was trained on or another.

    ``obsm[use_rep]`` must hold the components the encoder was trained on, that is, from the same
    (joint) principal component analysis. Writes ``obsm[key_added]`` and
    ``uns["genot"]["encoder"]``; raises what :func:`train_encoder` raises.
    """
    configuration = encoder.configuration
    (features,) = _leading_components({"the slice": adata}, use_rep, configuration.n_components)
    if features.shape[1] != encoder.n_features:
        raise SliceError(
            f"obsm[{use_rep!r}] has {features.shape[1]} components and the encoder was trained on "
            f"{encoder.n_features}; use the same principal component analysis for both"
        )
    facts = {"message": "applied an encoder trained before"}
    graph = _spot_graphs(adata, configuration)
    _write_embedding(adata, encoder, features, graph, use_rep, key_added, facts)


def _fit(
    encoder: GenOTEncoder, data: TrainingData, seed: int, progress: bool
) -> tuple[Losses, bool, bool]:
    """Minimise the loss; returns the loss curve, and whether it converged, was interrupted."""
    configuration = encoder.configuration
    # Not the stream that the initial weights came from.
    stream = int(np.random.SeedSequence(seed).generate_state(1)[0])
    generator = torch.Generator(data.features.device).manual_seed(stream)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=configuration.learning_rate)
    losses: dict[str, list[float]] = {"total": [], "reconstruction": [], "contrastive": []}
    converged = interrupted = False
    epochs = tqdm(
        range(configuration.max_epochs),
        desc="encoder",
        unit="epoch",
        disable=None if progress else True,
    )
    try:
        inputs = encoder.inputs(data.features, data.operator)
        for _ in epochs:
            optimiser.zero_grad()
            terms = objective(encoder, data, inputs, generator)
            terms[0].backward()
            optimiser.step()
            for curve, term in zip(losses.values(), terms, strict=True):
                curve.append(float(term.detach()))
            epochs.set_postfix(loss=f"{losses['total'][-1]:.4f}", refresh=False)
            if _has_converged(losses["total"], configuration.window, configuration.tolerance):
                converged = True
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        epochs.close()
    return {name: np.array(curve) for name, curve in losses.items()}, converged, interrupted


def _has_converged(losses: list[float], window: int, tolerance: float) -> bool:
    if not np.isfinite(losses[-1]):
        raise FloatingPointError(
            f"the loss is {losses[-1]} in epoch {len(losses)}; use a smaller learning_rate, "
            "or features of a smaller scale (unit_scale=True)"
        )
    if tolerance == 0 or len(losses) < 2 * window:
        return False
    before, now = np.mean(losses[-2 * window : -window]), np.mean(losses[-window:])
    return bool(before - now < tolerance * abs(before))


def _write_embedding(
    adata: AnnData,
    encoder: GenOTEncoder,
    features: NDArray[np.float32],
    graph: tuple[sparse.csr_matrix, sparse.csr_matrix],
    use_rep: str,
    key_added: str,
    facts: dict,
) -> None:
    """Embed one slice and say in ``uns`` how, in types that h5ad can hold."""
    with torch.no_grad():
        embedding = encoder(torch.from_numpy(features), sparse_operator(graph[0])).numpy()
    adata.obsm[key_added] = embedding
    packages = ("anndata", "numpy", "scipy", "squidpy", "torch")
    facts = facts | {
        "configuration": asdict(encoder.configuration),
        "n_features": encoder.n_features,
        "use_rep": use_rep,
        "key_added": key_added,
        "versions": {name: version(name) for name in packages},
    }
    record(adata, encoder=facts)


# -------------------------------------------------------------------------------------------------
# The loss.


def objective(
    encoder: GenOTEncoder, data: TrainingData, inputs: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One forward pass of the training: total loss, and its two terms before weighting."""
    configuration = encoder.configuration
    order = permutation_within(data.sizes, generator)
    hidden = encoder.hidden(inputs, data.operator, generator)
    if configuration.negatives == "permuted_features":
        permuted = encoder.inputs(data.features[order], data.operator)
        other = encoder.hidden(permuted, data.operator, generator)
    else:
        other = hidden[order]
    recovered = encoder.reconstruction(hidden, data.operator)
    reconstruction = functional.mse_loss(recovered, data.features)
    contrastive = _contrastive_loss(encoder, hidden, other, data.readout)
    total = (
        configuration.reconstruction_weight * reconstruction
        + configuration.contrastive_weight * contrastive
    )
    return total, reconstruction, contrastive


def _contrastive_loss(
    encoder: GenOTEncoder, hidden: torch.Tensor, other: torch.Tensor, readout: SparseOperator
) -> torch.Tensor:
    """Cross-entropy of the agreement scores: spots fit their own neighbourhood, not the other."""
    loss = hidden.new_zeros(())
    for own, foreign in ((hidden, other), (other, hidden)):
        surroundings = encoder.neighbourhood(own, readout)
        fits = encoder.agreement(surroundings, own)
        misfits = encoder.agreement(surroundings, foreign)
        loss = loss + (functional.softplus(-fits) + functional.softplus(misfits)).mean() / 2
    return loss


def permutation_within(sizes: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Draw an order of the spots that keeps every spot in its own slice."""
    starts = np.cumsum([0, *sizes[:-1]])
    return torch.cat(
        [
            int(start) + torch.randperm(size, generator=generator, device=generator.device)
            for start, size in zip(starts, sizes, strict=True)
        ]
    )


# -------------------------------------------------------------------------------------------------
# The data: components and graphs of the slices, checked and stacked.


class TrainingData(NamedTuple):
    """All slices stacked: scaled features X (n, p), operator P and readout R block by block."""

    features: torch.Tensor
    operator: SparseOperator
    readout: SparseOperator
    sizes: tuple[int, ...]


def _leading_components(
    named: Mapping[str, AnnData], use_rep: str, n_components: int
) -> list[NDArray[np.float32]]:
    """Return the leading components of every slice, (n_i, p) each, or say why they are unfit."""
    found = joint_embeddings(named, use_rep, dtype=np.float32)
    return [np.ascontiguousarray(features[:, :n_components]) for features in found]


def _spot_graphs(
    adata: AnnData, configuration: EncoderConfiguration
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Return operator P and readout R of one slice, (n, n) each; a missing graph is stored."""
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


# -------------------------------------------------------------------------------------------------
# A trained encoder on disk: numbers and settings in a safetensors file that holds no code.


@checked
def save_encoder(encoder: GenOTEncoder, path: str | Path) -> None:
    """Write an encoder to a file, completely or not at all."""
    settings = {"n_features": encoder.n_features, "configuration": asdict(encoder.configuration)}
    tensors = {name: value.cpu().contiguous() for name, value in encoder.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"genot_encoder": json.dumps(settings)})


@checked
def load_encoder(path: str | Path) -> GenOTEncoder:
    """Read an encoder that :func:`save_encoder` wrote.

    Raises FileNotFoundError, or ValueError where the file is damaged or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["genot_encoder"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        configuration = EncoderConfiguration(**settings["configuration"])
        encoder = GenOTEncoder(settings["n_features"], configuration)
        encoder.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not an encoder that this version can read ({error}); train it again"
        ) from error
    return encoder.eval()
