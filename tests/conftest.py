"""What all tests share: a small slice with planted domains, and where the real slices are."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # no window, also in the notebooks that tests start

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

LIBRARY_PATH = os.environ.get("LD_LIBRARY_PATH")


# Warnings are errors, but for kinds that Python does not show to readers: what scanpy is going to
# give up, and options of pandas that anndata (0.13, with pandas 3.1) reads for every table.
OUR_WARNINGS_ARE_ERRORS = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The '.*' option is deprecated"),
]


@pytest.fixture(autouse=True)
def library_path_stays():
    """Undo what importing rpy2 in a test does: kernels started later would load other libraries."""
    yield
    os.environ.pop("LD_LIBRARY_PATH", None)
    if LIBRARY_PATH is not None:
        os.environ["LD_LIBRARY_PATH"] = LIBRARY_PATH


def plant_slice(
    n_domains: int = 4,
    *,
    seed: int = 0,
    n_rows: int = 15,
    n_columns: int = 20,
    n_genes: int = 60,
) -> ad.AnnData:
    """Make a Visium-like slice whose domains are vertical bands, each with marker genes.

    The expression of a domain does not depend on the seed, so slices of different seeds are
    sections of one tissue. Coordinates are in µm, neighbouring spots are 100 µm apart.
    """
    tissue, rng = np.random.default_rng(1000), np.random.default_rng(seed)
    row, column = (grid.ravel() for grid in np.mgrid[:n_rows, :n_columns])
    array_col = 2 * column + row % 2
    domain = column * n_domains // n_columns
    programme = np.tile(tissue.gamma(4.0, 0.5, n_genes), (n_domains, 1))
    for number in range(n_domains):
        programme[number, number :: n_domains + 1] *= 4.0  # the last class of genes marks nothing
    depth = rng.lognormal(0.0, 0.2, len(domain))
    counts = rng.poisson(programme[domain] * depth[:, None]).astype(np.float32)
    names = [f"spot{number}" for number in range(len(domain))]
    labels = pd.Categorical([f"band {number + 1}" for number in domain])
    obs = {"array_row": row, "array_col": array_col, "domain_truth": labels}
    coordinates = np.column_stack([50.0 * array_col, 50.0 * np.sqrt(3.0) * row])
    return ad.AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame(obs, index=names),
        var=pd.DataFrame(index=[f"gene{number}" for number in range(n_genes)]),
        obsm={"spatial": coordinates},
    )


@pytest.fixture
def make_slice():
    """Return the function that makes slices with planted domains, see :func:`plant_slice`."""
    return plant_slice


@pytest.fixture
def planted():
    """One slice: 300 spots, 60 genes, 4 planted domains in obs["domain_truth"]."""
    return plant_slice()


@pytest.fixture
def real_data_dir() -> Path:
    """Folder of the real measured slices; skips the test where there is none."""
    folder = os.environ.get("GENOT_DATA_DIR")
    if not folder:
        pytest.skip("needs real measured slices: set GENOT_DATA_DIR to their folder")
    if not Path(folder).is_dir():
        pytest.fail(f"GENOT_DATA_DIR is {folder}, which is no folder")
    return Path(folder)
