"""A prepared interpolation in a file: the same bits again, decoder, alignment; bad files."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy import sparse

import genot_helpers as gh


def same(one, other):
    """Say whether two generated slices agree to the bit, but for the times taken."""
    assert (one.obs == other.obs).all().all() or one.obs.equals(other.obs)
    assert one.var_names.equals(other.var_names)
    for a, b in ((one.X, other.X), *((one.layers[k], other.layers[k]) for k in one.layers)):
        a, b = (m.toarray() if sparse.issparse(m) else m for m in (a, b))
        np.testing.assert_array_equal(a, b)
    for slot in ("spatial", "X_genot"):
        np.testing.assert_array_equal(one.obsm[slot], other.obsm[slot])
    facts = [{k: v for k, v in a.uns["genot"].items() if k != "seconds"} for a in (one, other)]
    assert facts[0].keys() == facts[1].keys()
    for name, value in facts[0].items():
        np.testing.assert_array_equal(value, facts[1][name])


@pytest.fixture(scope="module")
def pair():
    from conftest import plant_slice

    slices = [plant_slice(seed=seed) for seed in (0, 1)]
    for number, adata in enumerate(slices):
        adata.obs_names = [f"{number}_{name}" for name in adata.obs_names]
        adata.uns["genot"] = {"position_um": 100.0 * number}
    return slices


@pytest.mark.parametrize("decode", [False, True])
def test_the_same_bits_again(pair, tmp_path, decode):
    prepared = gh.prepare_interpolation(*pair, decode=decode, progress=False)
    gh.save_interpolation(prepared, tmp_path / "film.h5")
    loaded = gh.load_interpolation(tmp_path / "film.h5")
    assert (loaded.decoder is not None) == decode
    assert loaded.coupling.objective == prepared.coupling.objective
    assert loaded.warp.trials == prepared.warp.trials
    for t in (0.0, 0.4):
        same(prepared.at(t), loaded.at(t))


def test_no_labels_and_a_bent_tissue(pair, tmp_path):
    prepared = gh.prepare_interpolation(
        *pair, label_key=None, mean=False, stiffness=0.1, progress=False
    )
    gh.save_interpolation(prepared, tmp_path / "film.h5")
    loaded = gh.load_interpolation(tmp_path / "film.h5")
    assert loaded.labels is None and not loaded.warp.is_identity
    same(prepared.at(0.5), loaded.at(0.5))


def test_the_alignment_is_kept(pair, tmp_path):
    moved = pair[1].copy()
    moved.obsm["spatial"] = moved.obsm["spatial"] @ np.array([[0.8, 0.6], [-0.6, 0.8]]) + 50.0
    alignment = gh.align(pair[0], moved, on_poor="return")
    prepared = gh.prepare_interpolation(*pair, mean=False, stiffness=np.inf, progress=False)
    gh.save_interpolation(prepared, tmp_path / "film.h5", alignment=alignment)
    found = gh.load_alignment(tmp_path / "film.h5")
    assert found.problems == alignment.problems and found.overlap == alignment.overlap
    points = moved.obsm["spatial"]
    np.testing.assert_array_equal(found.transform.apply(points), alignment.transform.apply(points))
    gh.save_interpolation(prepared, tmp_path / "plain.h5")
    assert gh.load_alignment(tmp_path / "plain.h5") is None


def test_bad_files_and_arguments(pair, tmp_path):
    prepared = gh.prepare_interpolation(*pair, mean=False, stiffness=np.inf, progress=False)
    with pytest.raises(ValueError, match=r"ends in \.h5"):
        gh.save_interpolation(prepared, tmp_path / "film.pkl")
    with pytest.raises(TypeError, match="prepare_interpolation"):
        gh.save_interpolation(pair[0], tmp_path / "film.h5")
    with pytest.raises(FileNotFoundError, match="not there"):
        gh.load_interpolation(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no such thing")
    with pytest.raises(gh.SliceError, match="damaged"):
        gh.load_interpolation(tmp_path / "text.h5")
    gh.save_interpolation(prepared, tmp_path / "film.h5")
    with h5py.File(tmp_path / "film.h5", "a") as file:
        del file["coupling"]["plan"]
    with pytest.raises(gh.SliceError, match="lacks a part"):
        gh.load_interpolation(tmp_path / "film.h5")
