"""Train the decoder, embedding to expression, on both slices together.

The equations are in :mod:`.model`, what expression scatters like in :mod:`.likelihoods`, the passes
over the data in :mod:`.loop`.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ..devices import choose_device
from ..progress import progress_off
from ..slices.several import joint_embeddings, named_slices
from .data import check_expression, check_settings, stack
from .likelihoods import LIKELIHOODS
from .loop import TrainingLoop
from .model import Decoder, DecoderNetwork, one_thread

if TYPE_CHECKING:
    from ..slices.several import Slices

__all__ = ["Decoder", "train_decoder"]


@one_thread()
def train_decoder(
    slices: Slices,
    *,
    use_rep: str = "X_pca",
    likelihood: str = "auto",
    slice_intercepts: bool = True,
    n_hidden: int = 128,
    max_epochs: int = 60,
    patience: int = 5,
    held_out_fraction: float = 0.1,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
    progress: bool | None = None,
) -> Decoder:
    """Learn what expression to expect at a given embedding.

    Train on the kind of embedding that will be decoded: for the embedding of a generated slice,
    which is an average over places, that is one smoothed over the spatial graph (see
    :func:`genot_helpers.preprocessing.smooth_components`). The slices are not changed.

    Parameters
    ----------
    slices
        Any number (two, to interpolate), with the same genes in the same order, ``X`` all counts
        or all continuous values, sparse or dense, and ``obsm[use_rep]`` (n, d) from one joint
        analysis. Spots without any expression are left out.
    use_rep
        Slot of the embedding.
    likelihood
        "auto": negative binomial for counts, Gaussian otherwise; or "negative_binomial", "poisson"
        (both need counts), "gaussian" (normalised to one depth, log(1 + x)).
    slice_intercepts
        Let each gene have its own level in each slice (batch effect); averaged when predicting.
    n_hidden
        Width of the hidden layer.
    max_epochs, patience
        At most so many epochs, and stop after so many in a row that did not lower the held-out
        loss (by more than 1/500 of what has been gained so far: the last crumbs take longest).
    held_out_fraction
        Share of each slice's spots that is not trained on but decides when to stop.
    batch_size, learning_rate
        Spots per step, and the step size of Adam.
    seed
        Seed of the initial weights, the held-out part and the order of spots. The same seed on the
        same machine gives the same bits, with any number of threads (it works on one); the global
        random state is neither read nor changed.
    device
        "auto" (a GPU where there is one), or a name that torch knows ("cpu", "cuda").
    progress
        None: a progress bar in a terminal or notebook only; True: always; False: never.

    Returns
    -------
    Decoder
        With ``predict``, ``held_out_gain``, ``history``, ``best_epoch``; on the CPU.

    Raises
    ------
    SliceError
        A slice lacks the embedding; it is not finite or of another width; genes differ; ``X`` holds
        negative or missing values, or counts in one slice and other values in another, or no counts
        where the likelihood needs them; too few spots. Before any work.
    ValueError
        A setting makes no sense, or the device does not exist.
    FloatingPointError
        The loss is no longer finite.

    Notes
    -----
    Interrupting (Ctrl-C, the stop button of the notebook) keeps the best weights so far.

    Examples
    --------
    >>> decoder = train_decoder([left, right], use_rep="X_smooth")
    >>> mean = decoder.predict(embedding, slice_weights=(1 - t, t))
    """
    named = named_slices(slices)
    check_settings(
        likelihood,
        n_hidden=n_hidden,
        max_epochs=max_epochs,
        patience=patience,
        held_out_fraction=held_out_fraction,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    target = choose_device(device)
    embeddings = joint_embeddings(named, use_rep, dtype=np.float32)
    counts = check_expression(named, likelihood)
    if likelihood == "auto":
        likelihood = "negative_binomial" if counts else "gaussian"

    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    data = stack(named, embeddings, held_out_fraction, rng).to(target)
    sizes = (embeddings[0].shape[1], n_hidden, data.values.shape[1], len(named))
    network = DecoderNetwork(*sizes, seed=seed).to(target)
    network.slice_intercepts.requires_grad_(slice_intercepts)
    loop = TrainingLoop(network, LIKELIHOODS[likelihood], data, rng)
    mean_only = loop.start_at_mean()
    bar = tqdm(range(max_epochs), desc="decoder", unit="epoch", disable=progress_off(progress))
    outcome = loop.fit(bar, patience, batch_size, learning_rate)
    held_out_losses = loop.compare(mean_only)
    loop.calibrate()
    decoder = Decoder(
        network=network.cpu().eval(),
        likelihood=likelihood,
        genes=next(iter(named.values())).var_names.copy(),
        slices=tuple(map(str, named)),
        use_rep=use_rep,
        library_size=data.depth,
        seed=seed,
        held_out_losses=held_out_losses,
        **outcome,
        seconds=time.perf_counter() - start,
    )
    if decoder.interrupted:
        warnings.warn(f"training was {decoder.message}; train again for more", stacklevel=3)
    return decoder
