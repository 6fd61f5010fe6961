"""The loss of the encoder: that of GenOT (https://github.com/wrab12/GenOT).

The features must be recovered from the neighbourhood's hidden vectors, and a spot must fit its own
neighbourhood better than a spot from elsewhere does (deep graph infomax, arXiv:1809.10341).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .encoder import GenOTEncoder, SparseOperator
    from .training_data import TrainingData

__all__ = ["contrastive_loss", "objective", "permutation_within"]


def objective(
    encoder: GenOTEncoder,
    data: TrainingData,
    inputs: torch.Tensor,
    generator: torch.Generator,
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
    contrastive = contrastive_loss(encoder, hidden, other, data.readout)
    total = (
        configuration.reconstruction_weight * reconstruction
        + configuration.contrastive_weight * contrastive
    )
    return total, reconstruction, contrastive


def contrastive_loss(
    encoder: GenOTEncoder, hidden: torch.Tensor, other: torch.Tensor, readout: SparseOperator
) -> torch.Tensor:
    """Spots must fit their own neighbourhood and not that of the permuted tissue, and vice versa.

    Binary cross-entropy of the agreement scores, summed over the two kinds of neighbourhood.
    """
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
