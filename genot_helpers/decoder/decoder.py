"""Train the decoder, from embedding to expression, on all slices together.

Top to bottom: :func:`train_decoder`; the passes over the data in minibatches; the slices checked
and stacked, with a part held out. The network, what it predicts and the likelihoods are in
:mod:`.model`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from tqdm.auto import tqdm

from ..arguments import checked, choose_device, progress_off
from ..slices.sections import by_section, joint_embeddings, named_slices
from ..slices.slices import SliceError
from ..slices.values import is_numeric, scan
from .model import LIKELIHOODS, Decoder, DecoderNetwork, one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..slices.sections import Slices
    from .model import Gaussian, Poisson


@by_section
@one_thread()
@checked(held_out_fraction=(1e-3, 0.5), learning_rate=(1e-12, 1_000))
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
    section_key: str | None = None,
) -> Decoder:
    """Learn which expression to expect at a given embedding.

    Train on the kind of embedding that will be decoded. The embedding of a generated slice is an
    average over places, so train on one smoothed over the spatial graph (see
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
        loss (by more than 1/500 of what has been gained so far).
    held_out_fraction
        Share of each slice's spots that is not trained on but decides when to stop.
    batch_size, learning_rate
        Spots per step, and the step size of Adam.
    seed
        Of the initial weights, the held-out part and the order of spots: the same bits on the same
        machine, with any number of threads; the global random state is neither read nor changed.
    device
        "auto" (a GPU where there is one), or a name that torch knows ("cpu", "cuda").
    progress
        None: a progress bar in a terminal or notebook only; True: always; False: never.
    section_key
        Column of ``obs`` with the sections of one AnnData.

    Returns
    -------
    Decoder
        With ``predict``, ``held_out_gain``, ``history``, ``best_epoch``; on the CPU.

    Raises
    ------
    SliceError
        A slice lacks the embedding, or it is unfit; genes differ; ``X`` holds negative or missing
        values, or another kind than the likelihood or the other slices; too few spots.
    ValueError
        A setting is out of range, or the device does not exist.
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
    if likelihood not in ("auto", *LIKELIHOODS):
        known = " or ".join(LIKELIHOODS)
        raise ValueError(f"likelihood is {likelihood!r}; choose auto or {known}")
    target = choose_device(device)
    embeddings = joint_embeddings(named, use_rep, dtype=np.float32)
    counts = _check_expression(named, likelihood)
    if likelihood == "auto":
        likelihood = "negative_binomial" if counts else "gaussian"

    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    data = _stack(named, embeddings, held_out_fraction, rng).to(target)
    sizes = (embeddings[0].shape[1], n_hidden, data.values.shape[1], len(named))
    network = DecoderNetwork(*sizes, seed=seed).to(target)
    network.slice_intercepts.requires_grad_(slice_intercepts)
    loop = TrainingLoop(network, LIKELIHOODS[likelihood], data, rng)
    mean_only = loop.start_at_mean()
    bar = tqdm(range(max_epochs), desc="decoder", unit="epoch", disable=progress_off(progress))
    outcome = loop.fit(bar, patience, batch_size, learning_rate)
    held_out_losses = loop.held_out_losses(mean_only)
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


# -------------------------------------------------------------------------------------------------
# The training: minibatches (the only expression that is ever dense), Adam (Kingma and Ba,
# arXiv:1412.6980), and early stopping (Prechelt 1998, doi:10.1007/3-540-49430-8_3): the weights
# with the lowest loss on the held-out spots are kept.

_EVALUATION_SPOTS = 1024  # looked at in one go where nothing is learned
_RAKING_STEPS = 5  # fix the calibration to about a thousandth
_WORTHWHILE = 0.002  # share of the gain so far that keeps the training going


class TrainingLoop:
    """The network, the data, and the passes over them."""

    def __init__(
        self,
        network: DecoderNetwork,
        likelihood: Poisson | Gaussian,
        data: _DecoderData,
        rng: np.random.Generator,
    ) -> None:
        self.network, self.likelihood, self.data, self.rng = network, likelihood, data, rng
        sample = rng.permutation(data.training)[: len(data.held_out)]
        self.watched = {"train": np.sort(sample), "held_out": data.held_out}

    def batches(
        self, spots: NDArray[np.intp], size: int = _EVALUATION_SPOTS
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield target, output of the network (n, genes) and library size (n, 1), in parts."""
        for begin in range(0, len(spots), size):
            part = self.data.part(spots[begin : begin + size])
            target = self.likelihood.target(part.values, part.library, self.data.depth)
            yield target, self.network(part.embedding, part.slice_weights), part.library

    @torch.no_grad()
    def start_at_mean(self) -> torch.Tensor:
        """Make the network the mean-only model; return its output (genes,)."""
        network, embedding = self.network, self.data.embedding
        network.centre.copy_(embedding.mean(dim=0))
        scale = embedding.std(dim=0)
        network.scale.copy_(torch.where(scale > 1e-5 * network.centre.abs(), scale, 1.0))
        sums = sum(target.sum(dim=0).double() for target, _, _ in self.batches(self.data.training))
        network.output_bias.copy_(self.likelihood.initial_output(sums, len(self.data.training)))
        moments = 0
        for target, output, library in self.batches(self.data.training):
            location = self.likelihood.location(output, library)
            moments = moments + self.likelihood.moments(target, location).double()
        network.dispersion.copy_(self.likelihood.dispersion(moments))
        return network.output_bias.detach().clone()

    def fit(self, bar: tqdm, patience: int, batch_size: int, learning_rate: float) -> dict:
        """Train with early stopping, keep the best weights; return fields of Decoder."""
        parameters = [one for one in self.network.parameters() if one.requires_grad]
        optimiser = torch.optim.Adam(parameters, lr=learning_rate)
        curves = {name: [self._loss(spots)] for name, spots in self.watched.items()}
        losses = curves["held_out"]
        best, best_epoch, interrupted, idle, reference = self._state(), 0, False, 0, losses[0]
        try:
            for epoch in bar:
                self.epoch(optimiser, batch_size)
                # Both before either is kept: an interruption must not leave one curve longer.
                new = {name: self._loss(spots) for name, spots in self.watched.items()}
                for name, loss in new.items():
                    curves[name].append(loss)
                _require_finite(losses)
                if losses[-1] < losses[best_epoch]:
                    best, best_epoch = self._state(), epoch + 1
                worthwhile = _WORTHWHILE * (losses[0] - losses[best_epoch])
                idle = 0 if reference - losses[-1] > worthwhile else idle + 1
                if idle == 0:
                    reference = losses[-1]
                if idle >= patience:
                    break
                bar.set_postfix(held_out=f"{losses[-1]:.4f}", refresh=False)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            bar.close()
        self.network.load_state_dict(best)
        return {
            "history": {name: np.array(curve) for name, curve in curves.items()},
            "best_epoch": best_epoch,
            "stopped_early": idle >= patience,
            "interrupted": interrupted,
        }

    def epoch(self, optimiser: torch.optim.Optimizer, batch_size: int) -> None:
        """One step per minibatch; afterwards the dispersions, from the same passes."""
        moments = 0
        order = self.rng.permutation(self.data.training)
        for target, output, library in self.batches(order, batch_size):
            optimiser.zero_grad()
            location = self.likelihood.location(output, library)
            self.likelihood.loss(target, location, self.network.dispersion).mean().backward()
            optimiser.step()
            with torch.no_grad():
                moments = moments + self.likelihood.moments(target, location).double()
        self.network.dispersion.copy_(self.likelihood.dispersion(moments))

    @torch.no_grad()
    def _loss(self, spots: NDArray[np.intp]) -> float:
        """Mean negative log-likelihood per value."""
        likelihood, dispersion, total = self.likelihood, self.network.dispersion, 0.0
        for target, output, library in self.batches(spots):
            losses = likelihood.loss(target, likelihood.location(output, library), dispersion)
            total += float((losses.double() + likelihood.constant(target, dispersion)).sum())
        return total / (len(spots) * self.data.values.shape[1])

    @torch.no_grad()
    def held_out_losses(self, mean_only: torch.Tensor) -> NDArray[np.float64]:
        """Losses (3, genes) of the held-out spots: mean-only, decoder, every value known."""
        likelihood, dispersion, sums = self.likelihood, self.network.dispersion, 0
        for target, output, library in self.batches(self.data.held_out):
            locations = [
                likelihood.location(one, library) for one in (mean_only.expand_as(output), output)
            ]
            losses = [likelihood.loss(target, location, dispersion) for location in locations]
            losses.append(likelihood.saturated(target, dispersion))
            sums = sums + torch.stack([loss.double().sum(dim=0) for loss in losses])
        return sums.cpu().numpy()

    @torch.no_grad()
    def calibrate(self) -> None:
        """Make the mean of each gene right, which the logarithm has shifted (Gaussian only)."""
        # Raking: compositions sum to one for every spot, and to the observed mean for every gene.
        if self.likelihood.counts:
            return
        factors = self.network.calibration
        for _ in range(_RAKING_STEPS):
            observed = expected = 0
            for target, output, _ in self.batches(self.data.training):
                shares = self.likelihood.shares(output) * factors
                composition = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-30)
                observed = observed + torch.expm1(target).double().sum(dim=0) / self.data.depth
                expected = expected + composition.double().sum(dim=0)
            factors.mul_(torch.where(expected > 0, observed / expected, 1.0))

    def _state(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def _require_finite(losses: list[float]) -> None:
    if not np.isfinite(losses[-1]):
        raise FloatingPointError(
            f"the loss is {losses[-1]} in epoch {len(losses) - 1}; use a smaller learning_rate"
        )


# -------------------------------------------------------------------------------------------------
# What the decoder is trained on: slices checked, stacked, a part held out. X stays sparse or dense.

_MIN_SPOTS = 20  # with any expression, per slice
_BLOCK_SPOTS = 1024


class Part(NamedTuple):
    """A few spots: expression (k, genes), embedding, library size and slice as below."""

    values: torch.Tensor
    embedding: torch.Tensor
    library: torch.Tensor
    slice_weights: torch.Tensor


class _DecoderData(NamedTuple):
    """All n spots of all slices, and which of them to train on."""

    values: sparse.csr_matrix | NDArray  # (n, genes)
    embedding: torch.Tensor  # (n, d) float32
    library: torch.Tensor  # (n, 1) float32, total of each spot
    slice_weights: torch.Tensor  # (n, slices) float32, 1 where the spot belongs
    depth: float  # median library size
    training: NDArray[np.intp]  # numbers of the spots, ascending
    held_out: NDArray[np.intp]

    def to(self, device: torch.device) -> _DecoderData:
        """Move all but the expression to a device."""
        names = ("embedding", "library", "slice_weights")
        return self._replace(**{name: getattr(self, name).to(device) for name in names})

    def part(self, spots: NDArray[np.intp]) -> Part:
        """Look up some spots, on the device of the embedding."""
        values = torch.from_numpy(_dense(self.values, spots)).to(self.embedding.device)
        index = torch.from_numpy(spots).to(self.embedding.device)
        return Part(values, self.embedding[index], self.library[index], self.slice_weights[index])


def _stack(
    named: Mapping[str, AnnData],
    embeddings: list[NDArray[np.float32]],
    held_out_fraction: float,
    rng: np.random.Generator,
) -> _DecoderData:
    """Stack the slices and hold out the same share of each; empty spots are in neither part."""
    matrices = [adata.X for adata in named.values()]
    if any(sparse.issparse(matrix) for matrix in matrices):
        values = sparse.vstack(matrices, format="csr")
    else:
        values = np.concatenate([np.asarray(matrix) for matrix in matrices])
    starts = range(0, values.shape[0], _BLOCK_SPOTS)
    blocks = (_dense(values, slice(start, start + _BLOCK_SPOTS)) for start in starts)
    library = np.concatenate([block.sum(axis=1, dtype=np.float64) for block in blocks])
    belongs = np.repeat(np.eye(len(named), dtype=np.float32), [*map(len, embeddings)], axis=0)
    held_out = np.zeros(len(library), dtype=bool)
    for column in belongs.T:
        spots = rng.permutation(np.flatnonzero((library > 0) & (column > 0)))
        held_out[spots[: max(1, round(held_out_fraction * len(spots)))]] = True
    return _DecoderData(
        values,
        torch.from_numpy(np.concatenate(embeddings)),
        torch.from_numpy(library.astype(np.float32)[:, None]),
        torch.from_numpy(belongs),
        float(np.median(library[library > 0])),
        np.flatnonzero((library > 0) & ~held_out),
        np.flatnonzero(held_out),
    )


def _dense(values: sparse.csr_matrix | NDArray, spots: NDArray[np.intp] | slice) -> NDArray:
    """Rows as float32 (k, genes): the one place where expression becomes dense."""
    rows = values[spots]
    rows = rows.toarray() if sparse.issparse(rows) else rows
    return np.ascontiguousarray(rows, dtype=np.float32)


def _check_expression(named: Mapping[str, AnnData], likelihood: str) -> bool:
    """Raise unless the slices can be trained on together; return whether they hold counts."""
    (first_name, first), *others = named.items()
    for name, adata in others:
        if not adata.var_names.equals(first.var_names):
            shared = first.var_names.isin(adata.var_names).sum()
            raise SliceError(
                f"{name}: var_names differ from those of {first_name} ({adata.n_vars:,} and "
                f"{first.n_vars:,} genes, {shared:,} shared); give both the same genes in the same "
                "order: shared = a.var_names.intersection(b.var_names), then a[:, shared].copy() "
                "and b[:, shared].copy()"
            )
    whole = {name: _check_values(name, adata) for name, adata in named.items()}
    if len(set(whole.values())) > 1:
        kinds = ", ".join(
            f"{name}: {'counts' if yes else 'no counts'}" for name, yes in whole.items()
        )
        raise SliceError(
            f"X holds counts in one slice and other values in another ({kinds}); put the same kind "
            "into X of all, e.g. adata.X = adata.layers['counts']"
        )
    needed = likelihood != "auto" and LIKELIHOODS[likelihood].counts
    if needed and not whole[first_name]:
        raise SliceError(
            f"X holds fractions, and likelihood={likelihood!r} needs counts; take "
            "likelihood='gaussian' or 'auto', or put counts there: adata.X = adata.layers['counts']"
        )
    return whole[first_name]


def _check_values(name: str, adata: AnnData) -> bool:
    """Raise where X cannot be used; return whether it holds whole numbers."""
    if adata.X is None or not is_numeric(adata.X) or not adata.n_vars:
        raise SliceError(f"{name}: X holds no numbers; store counts or other values there")
    bad, used_spots, _ = scan(adata.X)
    for kind in ("NaN or infinite", "negative"):
        if bad[kind]:
            number, spot, gene, value = bad[kind]
            raise SliceError(
                f"{name}: X holds {number:,} values that are {kind} (first: {value:g} in spot "
                f"{adata.obs_names[spot]!r}, gene {adata.var_names[gene]!r}); put counts, or other "
                "values that are not centred or scaled, into X"
            )
    if used_spots.sum() < _MIN_SPOTS:
        raise SliceError(
            f"{name}: X has {used_spots.sum()} spots with any expression, too few to train on (at "
            f"least {_MIN_SPOTS}); check the filter applied before"
        )
    return not bad["fractions"]
