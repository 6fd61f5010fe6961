"""Training: what is written, that it can be repeated, stopped, saved and applied elsewhere."""

from __future__ import annotations

import dataclasses
import warnings

import anndata
import numpy as np
import pytest
import torch
from anndata import AnnData
from random_state import left_alone
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from genot_helpers import (
    EncoderConfiguration,
    SliceError,
    embed,
    load_encoder,
    save_encoder,
    train_encoder,
)
from genot_helpers.encoder import training as training_module
from genot_helpers.encoder.encoder import DEFAULT, PAPER
from genot_helpers.encoder.training import permutation_within

QUICK = dataclasses.replace(DEFAULT, max_epochs=15, tolerance=0.0)


def two_halves(n_rows=12, n_columns=11, n_features=8, seed=0):
    """Simulate a slice whose left and right half differ a little in noisy features."""
    rng = np.random.default_rng(seed)
    row, column = (index.ravel() for index in np.mgrid[:n_rows, :n_columns])
    adata = AnnData(shape=(row.size, 0))
    adata.obsm["spatial"] = np.column_stack([column + row % 2 / 2, row * 0.866])
    right = column >= n_columns // 2
    adata.obs["domain_truth"] = np.where(right, "right", "left")
    shift = np.zeros(n_features)
    shift[:2] = 1.2
    features = rng.normal(size=(row.size, n_features)) + right[:, None] * shift
    adata.obsm["X_pca"] = (features - features.mean(axis=0)).astype(np.float32)
    return adata


def found_halves(adata, use_rep):
    labels = KMeans(2, n_init=5, random_state=0).fit_predict(adata.obsm[use_rep])
    return adjusted_rand_score(adata.obs["domain_truth"], labels)


def test_embedding_finds_what_single_spots_hide():
    adata = two_halves()
    training = train_encoder(adata)
    assert adata.obsm["X_genot"].shape == (132, 8)
    assert adata.obsm["X_genot"].dtype == np.float32
    assert training.losses["total"][-1] < training.losses["total"][0]
    assert found_halves(adata, "X_genot") > 0.8 > found_halves(adata, "X_pca")


def test_record_says_how_and_survives_h5ad(tmp_path):
    adata = two_halves()
    adata.uns["genot"] = {"kept": 1}
    training = train_encoder(adata, configuration=QUICK, seed=4)
    adata.write_h5ad(tmp_path / "slice.h5ad")
    read = anndata.read_h5ad(tmp_path / "slice.h5ad")
    assert read.uns["genot"]["kept"] == 1
    record = read.uns["genot"]["encoder"]
    assert EncoderConfiguration(**record["configuration"]) == QUICK
    assert (record["seed"], record["n_epochs"], record["use_rep"]) == (4, 15, "X_pca")
    assert record["message"] == training.message
    assert not record["converged"]
    assert not record["interrupted"]
    assert record["versions"]["torch"] == torch.__version__
    for name, losses in training.losses.items():
        assert np.array_equal(record["losses"][name], losses)
        assert len(losses) == 15
    weighted = 10 * training.losses["reconstruction"] + training.losses["contrastive"]
    assert np.allclose(training.losses["total"], weighted, rtol=1e-5)
    assert np.array_equal(read.obsm["X_genot"], adata.obsm["X_genot"])


def test_only_documented_slots_are_written():
    adata = two_halves()
    before = adata.obsm["X_pca"].copy()
    train_encoder(adata, configuration=QUICK, key_added="mine")
    assert set(adata.obsm) == {"spatial", "X_pca", "mine"}
    assert set(adata.obsp) == {"spatial_connectivities", "spatial_distances"}
    assert set(adata.uns) == {"spatial_neighbors", "genot"}
    assert np.array_equal(adata.obsm["X_pca"], before)
    adata = two_halves()
    train_encoder(adata, configuration=dataclasses.replace(QUICK, graph="nearest"))
    assert not adata.obsp


def test_stored_graph_is_used():
    first, second = two_halves(), two_halves()
    train_encoder(first, configuration=QUICK)
    train_encoder(second, configuration=dataclasses.replace(QUICK, n_neighbors=3))
    assert not np.array_equal(first.obsm["X_genot"], second.obsm["X_genot"])
    stored = two_halves()
    stored.obsp["spatial_connectivities"] = second.obsp["spatial_connectivities"]
    train_encoder(stored, configuration=QUICK)
    assert np.array_equal(stored.obsm["X_genot"], second.obsm["X_genot"])


@pytest.mark.parametrize("configuration", [DEFAULT, PAPER], ids=["default", "paper"])
def test_same_seed_same_bits_and_global_state_untouched(configuration):
    configuration = dataclasses.replace(configuration, max_epochs=8)
    results = []
    for seed, state in ((0, 1), (0, 2), (1, 2)):
        adata = two_halves()
        with left_alone(state):
            train_encoder(adata, configuration=configuration, seed=seed)
        results.append(adata.obsm["X_genot"])
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_training_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_encoder(two_halves(), configuration=QUICK, progress=False)


def test_several_slices_share_the_weights_and_keep_their_graphs():
    small, large = two_halves(8, 9, seed=1), two_halves(10, 12, seed=2)
    training = train_encoder({"small": small, "large": large}, configuration=QUICK)
    assert small.obsm["X_genot"].shape == (72, 8)
    assert large.obsm["X_genot"].shape == (120, 8)
    assert list(large.uns["genot"]["encoder"]["slices"]) == ["small", "large"]
    # Every slice alone gives the same embedding: no edge leads from one slice to another.
    for adata in (small, large):
        together = adata.obsm["X_genot"]
        embed(training.encoder, adata)
        assert np.array_equal(adata.obsm["X_genot"], together)


def test_list_and_dictionary_are_the_same():
    as_list = [two_halves(seed=seed) for seed in range(3)]
    as_dict = {f"section {seed}": two_halves(seed=seed) for seed in range(3)}
    train_encoder(as_list, configuration=QUICK)
    train_encoder(as_dict, configuration=QUICK)
    for one, other in zip(as_list, as_dict.values(), strict=True):
        assert np.array_equal(one.obsm["X_genot"], other.obsm["X_genot"])


def test_permutation_keeps_spots_in_their_slice():
    order = permutation_within((5, 1, 30), torch.Generator().manual_seed(0)).numpy()
    assert sorted(order[:5]) == list(range(5))
    assert order[5] == 5
    assert sorted(order[6:]) == list(range(6, 36))
    assert not np.array_equal(order, np.arange(36))


def test_stops_when_converged():
    generous = dataclasses.replace(DEFAULT, max_epochs=2000, tolerance=0.02)
    adata = two_halves()
    training = train_encoder(adata, configuration=generous)
    assert training.converged
    assert 20 <= training.n_epochs < 2000
    assert training.message == f"converged after {training.n_epochs} epochs"
    assert adata.uns["genot"]["encoder"]["converged"]
    impatient = dataclasses.replace(generous, max_epochs=5)
    assert not train_encoder(adata, configuration=impatient).converged


def test_no_epochs_gives_the_untrained_encoder():
    adata = two_halves()
    training = train_encoder(adata, configuration=dataclasses.replace(QUICK, max_epochs=0))
    assert training.n_epochs == 0
    assert np.isfinite(adata.obsm["X_genot"]).all()


def test_interrupted_training_keeps_what_it_has(monkeypatch):
    objective, calls = training_module.objective, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return objective(*arguments)

    partial, short = two_halves(), two_halves()
    train_encoder(short, configuration=dataclasses.replace(QUICK, max_epochs=6))
    monkeypatch.setattr(training_module, "objective", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 6 epochs"):
        training = train_encoder(partial, configuration=QUICK)
    assert training.interrupted
    assert not training.converged
    assert partial.uns["genot"]["encoder"]["interrupted"]
    assert np.array_equal(partial.obsm["X_genot"], short.obsm["X_genot"])


def test_scale_of_the_features_does_not_matter():
    adata, blown_up = two_halves(), two_halves()
    blown_up.obsm["X_pca"] = blown_up.obsm["X_pca"] * 1024  # a power of two: no rounding
    train_encoder(adata, configuration=QUICK)
    train_encoder(blown_up, configuration=QUICK)
    assert np.allclose(blown_up.obsm["X_genot"], adata.obsm["X_genot"] * 1024, rtol=1e-3, atol=1)


@pytest.mark.parametrize("output", ["reconstruction", "hidden"])
def test_saved_encoder_gives_the_same_embedding(tmp_path, output):
    adata = two_halves()
    training = train_encoder(adata, configuration=dataclasses.replace(QUICK, output=output))
    expected = adata.obsm.pop("X_genot")
    save_encoder(training.encoder, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    embed(loaded, adata)
    assert np.array_equal(adata.obsm["X_genot"], expected)
    assert loaded.configuration == training.encoder.configuration
    assert expected.shape[1] == (8 if output == "reconstruction" else 64)


def test_encoder_applies_to_an_unseen_slice():
    seen, unseen = two_halves(seed=0), two_halves(14, 10, seed=7)
    embed(train_encoder(seen).encoder, unseen)
    assert found_halves(unseen, "X_genot") > 0.8 > found_halves(unseen, "X_pca")
    assert "trained before" in unseen.uns["genot"]["encoder"]["message"]


def test_files_that_hold_no_encoder(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError):
        load_encoder(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("not an encoder")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other.safetensors"):
        with pytest.raises(ValueError, match="not an encoder that this version can read"):
            load_encoder(tmp_path / name)


def spoiled(spoil):
    adata = two_halves()
    spoil(adata)
    return adata


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda adata: adata.obsm.pop("X_pca"), r"obsm\['X_pca'\] is missing .*holds: spatial"),
        (lambda adata: adata.obsm["X_pca"].__setitem__((3, 2), np.nan), "not finite"),
        (lambda adata: adata.obsm.pop("spatial"), r"obsm\['spatial'\] is missing"),
    ],
)
@pytest.mark.parametrize("configuration", [QUICK, PAPER], ids=["default", "paper"])
def test_bad_slices_are_named_before_any_work(spoil, message, configuration):
    adata = spoiled(spoil)
    with pytest.raises(SliceError, match=message):
        train_encoder(adata, configuration=configuration)
    assert "X_genot" not in adata.obsm
    assert "genot" not in adata.uns


def test_too_few_spots_for_the_graph():
    with pytest.raises(SliceError, match="6 spots and the graph needs more than 6"):
        train_encoder(two_halves()[:6].copy(), configuration=QUICK)


def test_slices_must_have_the_same_components():
    slices = {"a": two_halves(n_features=8), "b": two_halves(n_features=9)}
    with pytest.raises(SliceError, match=r"'a': 8, 'b': 9.*joint principal component"):
        train_encoder(slices)
    encoder = train_encoder(slices["a"], configuration=QUICK).encoder
    with pytest.raises(SliceError, match="9 components and the encoder was trained on 8"):
        embed(encoder, slices["b"])


@pytest.mark.parametrize("slices", [[], {}])
def test_no_slices(slices):
    with pytest.raises(SliceError, match="give one AnnData"):
        train_encoder(slices)


@pytest.mark.parametrize(
    ("slices", "found"), [([1], r"\[1\]"), ({"a": None}, r"\{'a': None\}"), (None, "None")]
)
def test_what_is_no_slice(slices, found):
    with pytest.raises(TypeError, match=rf"argument slices is {found}.*; needed: an AnnData, or"):
        train_encoder(slices)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no encoder configuration is called 'papr'.*paper"):
        train_encoder(two_halves(), configuration="papr")
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        train_encoder(two_halves(), device="abacus")


def test_loss_that_explodes_is_reported():
    adata = two_halves()
    wild = dataclasses.replace(QUICK, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="use a smaller learning_rate"):
        train_encoder(adata, configuration=wild)
    assert "X_genot" not in adata.obsm
