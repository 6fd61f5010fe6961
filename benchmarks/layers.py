"""The simulated slice that the timing benchmarks share."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

N_DOMAINS = 7


def layered_slice(n_spots: int, n_components: int, seed: int = 0) -> AnnData:
    """Simulate spots on a jittered grid, in seven wavy layers that single spots hardly show."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n_spots**0.5))
    grid = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)[:n_spots].astype(float)
    adata = AnnData(shape=(n_spots, 0))
    adata.obsm["spatial"] = grid + rng.uniform(-0.2, 0.2, grid.shape)
    depth = grid[:, 1] / side + 0.05 * np.sin(4 * np.pi * grid[:, 0] / side)
    domain = np.clip((depth * N_DOMAINS).astype(int), 0, N_DOMAINS - 1)
    adata.obs["domain_truth"] = domain.astype(str)
    spread = np.linspace(1, 0.3, n_components)  # as the spectrum of real principal components
    features = rng.normal(size=(n_spots, n_components)).astype(np.float32) * spread
    features[:, :10] += rng.normal(size=(N_DOMAINS, 10))[domain] * 0.5
    adata.obsm["X_pca"] = (features - features.mean(axis=0)).astype(np.float32)
    return adata
