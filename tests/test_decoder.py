"""The decoder: planted relations are found, units kept, and bad input is refused with reasons."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from anndata import AnnData
from random_state import left_alone
from scipy import sparse, special, stats

from genot_helpers import SliceError, train_decoder
from genot_helpers.decoder import decoder as decoder_data
from genot_helpers.decoder.decoder import TrainingLoop
from genot_helpers.decoder.model import LIKELIHOODS

N_GENES = 12
FAST = {"learning_rate": 5e-3, "batch_size": 64, "progress": False}
QUICK = {**FAST, "max_epochs": 4}


def planted_slice(kind="poisson", *, seed=0, n_spots=400, batch=0.0, curved=True):
    """Simulate spots whose expected expression is a known function of a 3-dimensional embedding.

    The slice keeps the expectation in layers["truth"]; ``batch`` shifts the logarithm of half the
    genes. Values for the Gaussian have multiplicative noise.
    """
    tissue, rng = np.random.default_rng(5), np.random.default_rng(seed)
    slopes, level = tissue.normal(0, 0.5, (4, N_GENES)), tissue.normal(0, 0.7, N_GENES)
    embedding = rng.normal(size=(n_spots, 3))
    bend = np.abs(embedding[:, :1]) * 2 - 1.6 if curved else np.zeros((n_spots, 1))
    logarithm = level + np.hstack([embedding, bend]) @ slopes
    logarithm[:, ::2] += batch
    share = np.exp(logarithm) / np.exp(logarithm).sum(axis=1, keepdims=True)
    truth = share * rng.lognormal(np.log(100), 0.3, (n_spots, 1))
    if kind == "gaussian":
        noise = rng.lognormal(-0.08, 0.4, truth.shape)  # expectation 1
        values = truth * noise
    elif kind == "negative_binomial":
        values = rng.poisson(truth * rng.gamma(3.0, 1 / 3.0, truth.shape))
    else:
        values = rng.poisson(truth)
    adata = AnnData(sparse.csr_matrix(values.astype(np.float32)))
    adata.var_names = [f"gene{number}" for number in range(N_GENES)]
    adata.obsm["X_pca"] = embedding.astype(np.float32)
    adata.layers["truth"] = truth
    return adata


def pair(kind="poisson", **kwargs):
    return {name: planted_slice(kind, seed=seed, **kwargs) for seed, name in enumerate("ab")}


def totals(adata):
    return np.asarray(adata.X.sum(axis=1)).ravel()


@pytest.mark.parametrize("curved", [False, True], ids=["linear", "curved"])
@pytest.mark.parametrize("kind", list(LIKELIHOODS))
def test_finds_the_planted_expectation(kind, curved):
    decoder = train_decoder(pair(kind, curved=curved), likelihood=kind, **FAST)
    fresh = planted_slice(kind, seed=9, curved=curved)
    size = fresh.layers["truth"].sum(axis=1)
    predicted = decoder.predict(fresh.obsm["X_pca"], library_size=size)
    assert predicted.dtype == np.float32
    assert predicted.shape == fresh.shape
    share, truth = predicted / size[:, None], fresh.layers["truth"] / size[:, None]
    error = np.square(share - truth).sum()
    assert error < 0.15 * np.square(truth.mean(axis=0) - truth).sum()
    assert decoder.held_out_gain > 0.3
    assert (decoder.gene_gain > 0).mean() > 0.8
    assert list(decoder.gene_gain.index) == list(fresh.var_names) == list(decoder.genes)
    assert np.allclose(predicted.mean(axis=0), fresh.layers["truth"].mean(axis=0), rtol=0.15)


def test_automatic_likelihood():
    assert train_decoder(pair("poisson"), **QUICK).likelihood == "negative_binomial"
    assert train_decoder(pair("gaussian"), **QUICK).likelihood == "gaussian"


def test_dispersion_is_estimated():
    decoder = train_decoder(pair("negative_binomial", n_spots=800), **FAST)
    # Planted is 3; more is found as the library size takes part of the scatter (12 genes only).
    assert 2.5 < np.median(decoder.network.dispersion) < 5
    assert np.median(train_decoder(pair("poisson"), **FAST).network.dispersion) > 20


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_without_training_it_is_the_mean_of_each_gene(kind):
    slices = pair(kind)
    decoder = train_decoder(slices, max_epochs=0)
    assert decoder.best_epoch == 0
    assert decoder.held_out_gain == pytest.approx(0, abs=1e-6)
    predicted = decoder.predict(np.zeros((2, 3)))
    assert np.allclose(predicted[0], predicted[1])
    values = np.vstack([adata.X.toarray() for adata in slices.values()])
    shares = values / values.sum(axis=1, keepdims=True)
    expected = values.sum(axis=0) / values.sum() if kind == "poisson" else shares.mean(axis=0)
    # A tenth is held out, so not to the last digit.
    assert np.allclose(predicted[0] / decoder.library_size, expected, rtol=0.05)


def test_an_embedding_that_tells_nothing_gains_nothing():
    slices = pair()
    for seed, adata in enumerate(slices.values()):
        adata.obsm["X_pca"] = np.random.default_rng(50 + seed).normal(size=(adata.n_obs, 3))
    decoder = train_decoder(slices, **FAST)
    assert decoder.stopped_early
    assert -0.005 < decoder.held_out_gain < 0.03


def test_stops_early_with_the_best_weights():
    slices = pair(n_spots=150)
    decoder = train_decoder(slices, max_epochs=300, patience=4, n_hidden=256, **FAST)
    held_out, train = decoder.history["held_out"], decoder.history["train"]
    assert decoder.stopped_early
    assert len(held_out) == len(train) < 301
    assert decoder.best_epoch == held_out.argmin() < len(held_out) - 1
    assert held_out[decoder.best_epoch] < held_out[0]
    # The same run, ended there, gives the same weights.
    again = train_decoder(slices, max_epochs=decoder.best_epoch, patience=4, n_hidden=256, **FAST)
    embedding = slices["a"].obsm["X_pca"]
    assert np.array_equal(again.predict(embedding), decoder.predict(embedding))
    assert again.held_out_gain == decoder.held_out_gain
    assert not again.stopped_early
    assert again.message.endswith("the most allowed")


def test_same_seed_same_bits_and_global_state_untouched():
    results = []
    for seed, state in ((0, 1), (0, 2), (1, 2)):
        slices = pair()
        with left_alone(state):
            decoder = train_decoder(slices, seed=seed, **QUICK)
            results.append(decoder.predict(slices["a"].obsm["X_pca"]))
        assert decoder.seed == seed
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_the_number_of_threads_makes_no_difference():
    slices, before, results = pair(), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            decoder = train_decoder(slices, **QUICK)
            results.append(decoder.predict(slices["a"].obsm["X_pca"]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*results)


@pytest.mark.parametrize("kind", ["negative_binomial", "gaussian"])
def test_sparse_and_dense_are_the_same(kind):
    results = []
    for convert in (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, lambda X: X.toarray()):
        slices = pair(kind)
        for adata in slices.values():
            adata.X = convert(adata.X)
        results.append(train_decoder(slices, **QUICK).predict(slices["b"].obsm["X_pca"]))
    assert all(np.array_equal(result, results[0]) for result in results[1:])


def test_only_a_few_spots_are_dense_at_a_time(monkeypatch):
    rows, original = [], decoder_data._dense

    def watched(values, spots):
        block = original(values, spots)
        rows.append(len(block))
        return block

    monkeypatch.setattr(decoder_data, "_dense", watched)
    train_decoder(pair(n_spots=1500), **{**QUICK, "max_epochs": 1})
    assert max(rows) <= 1024


@pytest.mark.parametrize("kind", list(LIKELIHOODS))
def test_proportional_to_the_library_size(kind):
    slices = pair(kind)
    decoder = train_decoder(slices, likelihood=kind, **QUICK)
    embedding = slices["a"].obsm["X_pca"]
    median = np.median(np.concatenate([totals(adata) for adata in slices.values()]))
    assert decoder.library_size == pytest.approx(median)
    standard = decoder.predict(embedding)
    assert (standard >= 0).all()
    assert np.allclose(decoder.predict(embedding, library_size=median), standard, rtol=1e-5)
    sizes = np.linspace(0, 3 * median, len(embedding))
    each = decoder.predict(embedding, library_size=sizes)
    assert np.allclose(each, standard * (sizes / median)[:, None], rtol=1e-4, atol=1e-4)
    assert np.allclose(each.sum(axis=1), sizes, rtol=1e-4)


def test_values_come_back_in_their_units():
    slices = pair("gaussian")
    decoder = train_decoder(slices, **FAST)
    for adata in slices.values():
        predicted = decoder.predict(adata.obsm["X_pca"], library_size=totals(adata))
        # exp(mean of logarithms) would be some 8 % too low here.
        assert np.allclose(predicted.mean(axis=0), adata.X.toarray().mean(axis=0), rtol=0.06)


def test_slice_weights_blend_a_batch_effect():
    slices = {"a": planted_slice(seed=0), "b": planted_slice(seed=1, batch=1.0)}
    decoder = train_decoder(slices, **FAST)
    embedding = np.zeros((1, 3), dtype=np.float32)
    a, average, b = (
        decoder.predict(embedding, slice_weights=weights)[0]
        for weights in ((1, 0), (0.5, 0.5), (0, 1))
    )
    shifted = np.log(b[::2] / b[1::2]) - np.log(a[::2] / a[1::2])
    assert np.allclose(shifted.mean(), 1, atol=0.15)
    assert np.array_equal(average, decoder.predict(embedding)[0])
    raised = b > a
    assert raised[::2].all()
    assert ((average > a) == raised).all()
    assert ((average < b) == raised).all()
    one_level = train_decoder(slices, slice_intercepts=False, **FAST)
    a, b = (one_level.predict(embedding, slice_weights=weights) for weights in ((1, 0), (0, 1)))
    assert np.array_equal(a, b)
    assert one_level.held_out_gain < decoder.held_out_gain


def test_one_slice_or_three_and_lists_work():
    assert train_decoder(planted_slice(), **FAST).held_out_gain > 0.3
    three = [planted_slice(seed=seed) for seed in range(3)]
    decoder = train_decoder(three, **QUICK)
    assert len(decoder.slices) == 3
    assert decoder.predict(np.zeros((4, 3)), slice_weights=(0.2, 0.3, 0.5)).shape == (4, N_GENES)


def test_names_of_spots_are_used_once():
    slices = pair()
    slices["b"].obs_names = ["same"] * slices["b"].n_obs
    with pytest.raises(SliceError, match=r"\['b'\], obs_names: .*'same'.*obs_names_make_unique"):
        train_decoder(slices, **QUICK)


def test_duplicates_empty_spots_and_silent_genes_do_no_harm():
    slices = pair()
    for adata in slices.values():
        X = adata.X.toarray()
        X[50:60], adata.obsm["X_pca"][50:60] = X[50], adata.obsm["X_pca"][50]
        X[:5] = 0
        X[:, 3] = 0
        adata.X = sparse.csr_matrix(X)
        adata.obsm["X_pca"][:, 2] = 4.2  # a constant column
    for kind in LIKELIHOODS:
        decoder = train_decoder(slices, likelihood=kind, **QUICK)
        predicted = decoder.predict(slices["a"].obsm["X_pca"])
        assert np.isfinite(predicted).all()
        assert predicted[:, 3].max() < 0.02
        assert decoder.held_out_gain > 0


def test_chosen_genes_only():
    slices = pair()
    decoder = train_decoder(slices, **QUICK)
    embedding = slices["a"].obsm["X_pca"]
    some = decoder.predict(embedding, genes=["gene7", "gene2"])
    assert np.array_equal(some, decoder.predict(embedding)[:, [7, 2]])
    with pytest.raises(ValueError, match=r"does not know 1 of the genes .*'Gad1'"):
        decoder.predict(embedding, genes=["gene7", "Gad1"])


def test_nothing_is_written_and_nothing_said(capfd):
    slices = pair()
    before = {name: adata.copy() for name, adata in slices.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_decoder(slices, **QUICK)
    for name, adata in slices.items():
        assert not adata.uns
        assert set(adata.obsm) == {"X_pca"}
        assert np.array_equal(adata.obsm["X_pca"], before[name].obsm["X_pca"])
        assert (adata.X != before[name].X).nnz == 0
    assert capfd.readouterr() == ("", "")


def test_interrupted_training_keeps_the_best_so_far(monkeypatch):
    original, calls = TrainingLoop.epoch, []

    def stopped(loop, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(loop, *arguments)

    monkeypatch.setattr(TrainingLoop, "epoch", stopped)
    with pytest.warns(UserWarning, match="interrupted"):
        decoder = train_decoder(pair(), **FAST)
    assert decoder.interrupted
    assert len(decoder.history["held_out"]) == 3
    assert decoder.held_out_gain > 0


def without_embedding(adata):
    del adata.obsm["X_pca"]


def wider(adata):
    adata.obsm["X_pca"] = np.zeros((adata.n_obs, 5))


def not_a_number(adata):
    adata.obsm["X_pca"][3, 1] = np.nan


def with_value(value):
    def change(adata):
        adata.X = adata.X.toarray()
        adata.X[7, 2] = value

    return change


def other_genes(adata):
    adata.var_names = [*adata.var_names[:-1], "other"]


def nearly_empty(adata):
    X = adata.X.toarray()
    X[15:] = 0
    adata.X = X


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_embedding, r"b: obsm\['X_pca'\] is missing"),
        (wider, r"differ in the number of components"),
        (not_a_number, r"b: obsm\['X_pca'\] holds values that are not finite"),
        (with_value(np.nan), r"'b'\], X: 1 values are NaN .*first: nan in spot '7', gene 'gene2'"),
        (with_value(np.inf), r"'b'\], X: 1 values are NaN or inf.*inf in spot '7', gene 'gene2'"),
        (with_value(-1), r"b: X holds 1 values that are negative .*not centred"),
        (with_value(0.5), r"counts in one slice and other values in another \(a: counts, b: no"),
        (other_genes, r"b: var_names differ from those of a .*11 shared.*intersection"),
        (nearly_empty, r"b: X has 15 spots with any expression, too few"),
    ],
)
def test_unfit_slices_are_refused_before_any_work(spoil, message, monkeypatch):
    monkeypatch.setattr(
        "genot_helpers.decoder.decoder._stack", None
    )  # calling it would be a TypeError
    slices = pair()
    spoil(slices["b"])
    with pytest.raises(SliceError, match=message):
        train_decoder(slices)


def test_counts_where_they_are_needed():
    for likelihood in ("poisson", "negative_binomial"):
        with pytest.raises(SliceError, match="needs counts; take likelihood='gaussian'"):
            train_decoder(pair("gaussian"), likelihood=likelihood)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"likelihood": "normal"}, "'normal'; choose auto or negative_binomial or poisson"),
        ({"held_out_fraction": 0}, "held_out_fraction is 0; give a number from 0.001 to 0.5"),
        ({"n_hidden": 0}, "n_hidden is 0; give a number from 1"),
        ({"patience": 0}, "patience is 0; give a number from 1"),
        ({"device": "abacus"}, "'abacus' cannot be used"),
    ],
)
def test_settings_that_make_no_sense(setting, message):
    with pytest.raises(ValueError, match=message):
        train_decoder(pair(), **setting)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding": np.zeros((3, 2))}, r"shape \(3, 2\).*with 3 columns"),
        ({"embedding": np.full((3, 3), np.nan)}, "embedding has 3 of 3 rows with NaN or infinite"),
        ({"library_size": [1.0, 2.0]}, r"shape \(2,\); give one number or one per spot, \(3,\)"),
        ({"library_size": -1.0}, "negative or missing"),
        ({"slice_weights": (0.5, 0.6)}, "2 numbers that sum to 1, for the slices a, b"),
        ({"slice_weights": (1,)}, "2 numbers that sum to 1"),
    ],
)
def test_predict_refuses_what_does_not_fit(arguments, message):
    decoder = train_decoder(pair(), max_epochs=0)
    with pytest.raises(ValueError, match=message):
        decoder.predict(**{"embedding": np.zeros((3, 3)), **arguments})


@pytest.mark.parametrize("kind", list(LIKELIHOODS))
def test_likelihoods_against_scipy(kind):
    rng = np.random.default_rng(3)
    output = torch.from_numpy(rng.normal(size=(40, 5)).astype(np.float32))
    library = torch.from_numpy(rng.uniform(5, 80, (40, 1)).astype(np.float32))
    dispersion = torch.tensor([0.1, 0.9, 3.0, 50.0, 1e4])
    values = torch.from_numpy(rng.poisson(8, (40, 5)).astype(np.float32))
    values[:, 0] = 0
    model, theta = LIKELIHOODS[kind], dispersion.numpy().astype(float)
    target = model.target(values, library, 30.0)
    location = model.location(output, library)
    loss = model.loss(target, location, dispersion)
    found = (loss + model.constant(target, dispersion)).numpy()
    x = target.numpy().astype(float)
    if kind == "gaussian":
        assert np.allclose(x, np.log1p((values * 30.0 / library).numpy()))
        expected = -stats.norm.logpdf(x, output.numpy(), np.sqrt(theta))
    else:
        mean = (model.shares(output) * library).numpy().astype(float)
        assert np.allclose(mean, np.exp(location.numpy()), rtol=1e-5)
        models = {
            "poisson": stats.poisson(mean),
            "negative_binomial": stats.nbinom(theta, theta / (theta + mean)),
        }
        expected = -models[kind].logpmf(x)
        expected -= special.gammaln(x + 1)  # log(x!)
    assert np.allclose(found, expected, rtol=1e-4, atol=2e-3)
    assert (model.saturated(target, dispersion) <= loss + 2e-3).all()
    if kind != "gaussian":
        perfect = model.loss(values[:, 1:], torch.log(values[:, 1:] + 1e-30), dispersion[1:])
        assert np.allclose(model.saturated(values, dispersion)[:, 1:], perfect, atol=2e-3)


@pytest.mark.real_data
def test_real_slices_are_decoded_better_than_by_the_mean(real_data_dir):
    from genot_helpers import joint_components, load_slices, normalise

    names = ["merfish_4", "merfish_14"]
    slices = load_slices(names, data_source="local", data_dir=real_data_dir)
    normalise(slices)
    joint_components(slices, genes=None)
    decoder = train_decoder(slices, max_epochs=5, progress=False)
    assert decoder.likelihood == "gaussian"
    assert decoder.held_out_gain > 0.5
    adata = slices["merfish_4"]
    predicted = decoder.predict(adata.obsm["X_pca"], library_size=totals(adata))
    assert np.median(predicted.mean(axis=0) / np.asarray(adata.X.mean(axis=0)).ravel()) < 1.1
