"""What the decoder is trained on: slices checked, one under the other, a part held out.

Expression stays as it comes, sparse or dense; only the spots of one minibatch are made dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from ..slices.matrices import is_numeric, scan
from ..slices.slices import SliceError
from .likelihoods import LIKELIHOODS

__all__ = ["DecoderData", "Part", "check_expression", "check_settings", "stack"]

_MIN_SPOTS = 20  # with any expression, per slice
_BLOCK_SPOTS = 1024


class Part(NamedTuple):
    """A few spots: expression (k, genes), embedding, library size and slice as below."""

    values: torch.Tensor
    embedding: torch.Tensor
    library: torch.Tensor
    slice_weights: torch.Tensor


class DecoderData(NamedTuple):
    """All n spots of all slices, and which of them to train on."""

    values: sparse.csr_matrix | NDArray  # (n, genes)
    embedding: torch.Tensor  # (n, d) float32
    library: torch.Tensor  # (n, 1) float32, total of each spot
    slice_weights: torch.Tensor  # (n, slices) float32, 1 where the spot belongs
    depth: float  # median library size
    training: NDArray[np.intp]  # numbers of the spots, ascending
    held_out: NDArray[np.intp]

    def to(self, device: torch.device) -> DecoderData:
        """Move all but the expression to a device."""
        names = ("embedding", "library", "slice_weights")
        return self._replace(**{name: getattr(self, name).to(device) for name in names})

    def part(self, spots: NDArray[np.intp]) -> Part:
        """Look up some spots, on the device of the embedding."""
        values = torch.from_numpy(_dense(self.values, spots)).to(self.embedding.device)
        index = torch.from_numpy(spots).to(self.embedding.device)
        return Part(values, self.embedding[index], self.library[index], self.slice_weights[index])


def stack(
    named: Mapping[str, AnnData],
    embeddings: list[NDArray[np.float32]],
    held_out_fraction: float,
    rng: np.random.Generator,
) -> DecoderData:
    """Put the slices one under the other and hold out the same share of each.

    Spots without any expression are in neither part: they say nothing about the composition.
    """
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
    return DecoderData(
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


def check_expression(named: Mapping[str, AnnData], likelihood: str) -> bool:
    """Make sure that the slices can be trained on together; says whether they hold counts.

    Raises
    ------
    SliceError
        Genes differ; ``X`` is missing, not numeric, holds NaN, infinite or negative values; too few
        spots with expression; counts in one slice and other values in another; or no counts where
        the likelihood needs them.
    """
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
    """Raise where X cannot be used; says whether it holds whole numbers."""
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


_RANGES = {
    **dict.fromkeys(("n_hidden", "patience", "batch_size"), (1, np.inf)),
    "max_epochs": (0, np.inf),
    "held_out_fraction": (1e-3, 0.5),
    "learning_rate": (1e-12, np.inf),
}


def check_settings(likelihood: str, **settings: float) -> None:
    """Raise one error that lists all settings that make no sense."""
    problems = [
        f"{name} is {settings[name]}; give a number from {low} to {high}"
        for name, (low, high) in _RANGES.items()
        if not low <= settings[name] <= high
    ]
    if likelihood not in ("auto", *LIKELIHOODS):
        problems.append(f"likelihood is {likelihood!r}; choose auto or {' or '.join(LIKELIHOODS)}")
    if problems:
        raise ValueError("settings of the decoder: " + "; ".join(problems))
