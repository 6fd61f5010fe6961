"""Train the GenOT encoder on one slice or on several, and apply it.

The loop around the model: optimiser, stopping, seeds, device, progress. The loss is in
:mod:`genot_helpers.encoder.objective`, what it is computed from in
:mod:`genot_helpers.encoder.training_data`.

Every epoch is one step on all spots. There are no mini-batches because memory is not short: the
propagated features (K + 1 copies) and some ten arrays of hidden vectors are all that is held,
100,000 spots take less than 3 GB, and the gradient is exact.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from tqdm.auto import tqdm

from ..devices import choose_device
from ..slices.records import record
from ..slices.several import Slices, named_slices
from ..slices.slices import SliceError
from .configuration import EncoderConfiguration, configuration_named
from .encoder import GenOTEncoder, sparse_operator
from .objective import objective
from .training_data import TrainingData, leading_components, spot_graphs, stack

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    Losses = dict[str, NDArray[np.float64]]

__all__ = ["EncoderTraining", "embed", "train_encoder"]


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


def train_encoder(
    slices: Slices,
    *,
    configuration: str | EncoderConfiguration = "default",
    seed: int = 0,
    device: str = "auto",
    use_rep: str = "X_pca",
    key_added: str = "X_genot",
    progress: bool = True,
) -> EncoderTraining:
    """Learn an embedding of the spots that knows about their surroundings.

    Several slices share the weights of one encoder and keep their own graphs; their features must
    come from one joint principal component analysis, or the columns would not mean the same.

    Parameters
    ----------
    slices
        One slice, or a list or dictionary of any number, with ``obsm[use_rep]`` (n, p) and
        coordinates in ``obsm["spatial"]``. With ``graph="spatial"`` in the configuration the graph
        is ``obsp["spatial_connectivities"]``, made and stored where it is missing.
    configuration
        "default", "paper" (the published settings), or an
        :class:`~genot_helpers.encoder.EncoderConfiguration`.
    seed
        Seed of weights, dropout and permutations. The same seed on the same machine (and number of
        threads) gives the same bits; the global random state is neither read nor changed.
    device
        "auto" (a GPU where there is one), or a name that torch knows ("cpu", "cuda").
    use_rep
        Slot of the features.
    key_added
        Slot of the embedding.
    progress
        Show a progress bar (in a terminal or notebook only).

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
    ValueError
        The configuration or the device does not exist.
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
    features = leading_components(named, use_rep, configuration.n_components)
    graphs = [spot_graphs(adata, configuration) for adata in named.values()]

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


def embed(
    encoder: GenOTEncoder, adata: AnnData, *, use_rep: str = "X_pca", key_added: str = "X_genot"
) -> None:
    """Apply a trained encoder to a slice, the one it was trained on or another.

    ``obsm[use_rep]`` must hold the components the encoder was trained on, that is, from the same
    (joint) principal component analysis. Writes ``obsm[key_added]`` and
    ``uns["genot"]["encoder"]``; raises what :func:`train_encoder` raises.
    """
    configuration = encoder.configuration
    (features,) = leading_components({"the slice": adata}, use_rep, configuration.n_components)
    if features.shape[1] != encoder.n_features:
        raise SliceError(
            f"obsm[{use_rep!r}] has {features.shape[1]} components and the encoder was trained on "
            f"{encoder.n_features}; use the same principal component analysis for both"
        )
    facts = {"message": "applied an encoder trained before"}
    graph = spot_graphs(adata, configuration)
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
