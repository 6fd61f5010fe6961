"""The sparse encoder against a dense textbook version of the published model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings, strategies as st
from scipy import sparse
from torch.nn import functional

from genot_helpers import EncoderConfiguration, row_normalised
from genot_helpers.encoder import GenOTEncoder
from genot_helpers.encoder.encoder import (
    DEFAULT,
    PAPER,
    configuration_named,
    drop,
    propagate,
    sparse_operator,
)
from genot_helpers.encoder.training import TrainingData, objective, permutation_within
from genot_helpers.preprocessing import nearest_neighbour_graph
from genot_helpers.preprocessing.graph import symmetric_normalised

N_SPOTS, N_FEATURES = 40, 7


def example(configuration, *, seed=0, dtype=torch.float32):
    """Make an encoder, the data it trains on, and the directed graph as an array."""
    rng = np.random.default_rng(seed)
    adata = AnnData(shape=(N_SPOTS, 0), obsm={"spatial": rng.uniform(size=(N_SPOTS, 2))})
    nearest_neighbour_graph(adata, n_neighbors=3)
    adjacency = adata.obsp["spatial_connectivities"]
    operator = symmetric_normalised(symmetric_normalised(adjacency, self_loops=0))
    data = TrainingData(
        torch.from_numpy(rng.normal(size=(N_SPOTS, N_FEATURES))).to(dtype),
        sparse_operator(operator, dtype=dtype),
        sparse_operator(row_normalised(adjacency), dtype=dtype),
        (N_SPOTS,),
    )
    encoder = GenOTEncoder(N_FEATURES, configuration, seed=seed).to(dtype)
    for parameter in (encoder.hidden_bias, encoder.output_bias, encoder.agreement_bias):
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(seed))
    return encoder, data, adjacency.toarray().astype(float)


class Textbook:
    """The published model, written with dense (n, n) matrices in float64, as in its description.

    Normalise the undirected 3-nearest-neighbour graph, add the identity, normalise again;
    concatenate the features at 0 to K hops; graph convolution to the hidden vectors; leaky ReLU;
    graph convolution back. Contrast by a bilinear form.
    """

    def __init__(self, encoder, directed):
        self.n_hops = encoder.configuration.n_hops
        self.weights = {
            name: value.detach().double().clone().requires_grad_()
            for name, value in encoder.named_parameters()
        }
        undirected = np.maximum(directed, directed.T)
        self.adjacency = torch.from_numpy(
            self.normalised(self.normalised(undirected) + np.eye(len(directed)))
        )
        self.neighbourhood = torch.from_numpy(directed + np.eye(len(directed)))

    @staticmethod
    def normalised(adjacency):
        scale = np.diag(adjacency.sum(axis=1) ** -0.5)
        return scale @ adjacency @ scale

    def hops(self, features):
        blocks = [features]
        for _ in range(self.n_hops):
            blocks.append(self.adjacency @ blocks[-1])
        return torch.cat(blocks, dim=1)

    def hidden_from_hops(self, hops):
        weight = torch.cat(list(self.weights["hop_weights"]))
        return functional.leaky_relu(self.adjacency @ (hops @ weight) + self.weights["hidden_bias"])

    def reconstruction(self, hidden):
        convolved = self.adjacency @ (hidden @ self.weights["output_weight"])
        return convolved + self.weights["output_bias"]

    def readout(self, hidden):
        mean = (self.neighbourhood @ hidden) / self.neighbourhood.sum(dim=1, keepdim=True)
        return torch.sigmoid(mean / mean.norm(dim=1, keepdim=True))

    def score(self, summary, hidden):
        pairs = torch.einsum("id,de,ie->i", hidden, self.weights["agreement_weight"], summary)
        return pairs + self.weights["agreement_bias"]

    def loss(self, features, hidden, other):
        entropy = 0
        labels = torch.stack([torch.ones(len(hidden)), torch.zeros(len(hidden))], 1).double()
        for own, foreign in ((hidden, other), (other, hidden)):
            summary = self.readout(own)
            logits = torch.stack([self.score(summary, own), self.score(summary, foreign)], 1)
            entropy = entropy + functional.binary_cross_entropy_with_logits(logits, labels)
        error = functional.mse_loss(self.reconstruction(hidden), features)
        return 10 * error + entropy


def textbook_loss(textbook, data, configuration, seed):
    """One training step's loss, with the same random draws in the same order."""
    generator = torch.Generator().manual_seed(seed)
    features, rate = data.features.double(), configuration.dropout
    order = permutation_within(data.sizes, generator)
    dtype = data.features.dtype

    def hidden(values):
        if configuration.dropout_on == "features":
            dropped = drop(values.to(dtype), rate, generator).double()
            return textbook.hidden_from_hops(textbook.hops(dropped))
        # Dropout on the propagated features: the convolution comes before it.
        hops = textbook.adjacency @ textbook.hops(values)
        dropped = drop(hops.to(dtype), rate, generator).double()
        weight = torch.cat(list(textbook.weights["hop_weights"]))
        return functional.leaky_relu(dropped @ weight + textbook.weights["hidden_bias"])

    own = hidden(features)
    if configuration.negatives == "permuted_features":
        return textbook.loss(features, own, hidden(features[order]))
    return textbook.loss(features, own, own[order])


VARIANTS = {
    "paper": PAPER,
    "paper without dropout": dataclasses.replace(PAPER, dropout=0.0),
    "default": DEFAULT,
    "hops, permuted features": dataclasses.replace(DEFAULT, negatives="permuted_features"),
    "features, permuted spots": dataclasses.replace(PAPER, negatives="permuted_spots", n_hops=0),
}


@pytest.mark.parametrize("configuration", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_are_those_of_the_textbook(configuration, dtype):
    weights = {"reconstruction_weight": 10.0, "contrastive_weight": 1.0}
    configuration = dataclasses.replace(configuration, **weights)
    encoder, data, directed = example(configuration, dtype=dtype)
    textbook = Textbook(encoder, directed)
    expected = textbook_loss(textbook, data, configuration, seed=5)
    expected.backward()
    inputs = encoder.inputs(data.features, data.operator)
    found, *_ = objective(encoder, data, inputs, torch.Generator().manual_seed(5))
    found.backward()

    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 0}
    )
    assert np.isclose(found.item(), expected.item(), **tolerance)
    for name, parameter in encoder.named_parameters():
        gradient, reference = parameter.grad.double(), textbook.weights[name].grad
        assert torch.allclose(gradient, reference, rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("configuration", [PAPER, DEFAULT], ids=["paper", "default"])
def test_embedding_is_that_of_the_textbook(configuration):
    encoder, data, directed = example(configuration)
    textbook = Textbook(encoder, directed)
    hidden = textbook.hidden_from_hops(textbook.hops(data.features.double()))
    with torch.no_grad():
        embedding = encoder(data.features, data.operator)
        assert torch.allclose(embedding.double(), textbook.reconstruction(hidden), atol=1e-5)
        encoder.configuration = dataclasses.replace(configuration, output="hidden")
        assert torch.allclose(encoder(data.features, data.operator).double(), hidden, atol=1e-5)


def test_hidden_layer_is_the_graph_convolution_of_torch_geometric():
    geometric = pytest.importorskip("torch_geometric.nn")
    encoder, data, directed = example(PAPER, dtype=torch.float64)
    textbook = Textbook(encoder, directed)
    once = Textbook.normalised(np.maximum(directed, directed.T)) + np.eye(N_SPOTS)
    edges = torch.from_numpy(np.vstack(once.nonzero()))
    weights = torch.from_numpy(once[once.nonzero()])
    layer = geometric.GCNConv(N_FEATURES * (PAPER.n_hops + 1), PAPER.n_hidden).double()
    with torch.no_grad():
        layer.lin.weight.copy_(torch.cat(list(encoder.hop_weights)).T)
        layer.bias.copy_(encoder.hidden_bias)
        convolved = layer(textbook.hops(data.features), edges, weights)
        found = encoder.hidden(encoder.inputs(data.features, data.operator), data.operator)
    assert torch.allclose(found, functional.leaky_relu(convolved), atol=1e-10)


def test_both_places_of_dropout_agree_after_training():
    """Without dropout the propagation commutes with the weights: the two schemes are one."""
    encoder, data, _ = example(PAPER)
    with torch.no_grad():
        horner = encoder(data.features, data.operator)
        encoder.configuration = dataclasses.replace(PAPER, dropout_on="hops")
        assert torch.allclose(encoder(data.features, data.operator), horner, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([PAPER, DEFAULT]))
@settings(deadline=None, max_examples=10)
def test_order_of_spots_does_not_matter(seed, configuration):
    encoder, data, _ = example(configuration, seed=seed % 1000)
    order = np.random.default_rng(seed).permutation(N_SPOTS)
    dense = data.operator.matrix.to_dense().numpy()[np.ix_(order, order)]
    shuffled = sparse_operator(sparse.csr_matrix(dense))
    with torch.no_grad():
        expected = encoder(data.features, data.operator)[order]
        found = encoder(data.features[order], shuffled)
    assert torch.allclose(found, expected, atol=1e-5)


def test_gradient_of_propagation_uses_the_transpose():
    rng = np.random.default_rng(0)
    operator = sparse_operator(
        row_normalised(sparse.csr_matrix(rng.random((9, 9)) * (rng.random((9, 9)) < 0.3))),
        dtype=torch.float64,
    )
    dense = torch.from_numpy(rng.normal(size=(9, 4))).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: propagate(operator, values), (dense,))


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    ones = torch.ones(400, 400)
    dropped = drop(ones, 0.3, torch.Generator().manual_seed(0))
    assert abs(float((dropped == 0).float().mean()) - 0.3) < 0.01
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert drop(ones, 0.3, None) is ones


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = GenOTEncoder(N_FEATURES, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = GenOTEncoder(N_FEATURES, seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["hop_weights"], GenOTEncoder(N_FEATURES, seed=4).state_dict()["hop_weights"]
    )


def test_paper_settings_are_the_published_ones():
    assert (PAPER.n_hops, PAPER.n_neighbors, PAPER.n_components) == (12, 3, 200)
    assert (PAPER.n_hidden, PAPER.dropout, PAPER.dropout_on) == (64, 0.3, "features")
    assert (PAPER.learning_rate, PAPER.max_epochs, PAPER.tolerance) == (1e-3, 700, 0)
    assert (PAPER.reconstruction_weight, PAPER.contrastive_weight) == (10, 1)


def test_configuration_by_name():
    assert configuration_named("paper") is PAPER
    assert configuration_named(PAPER) is PAPER
    with pytest.raises(ValueError, match="did you mean paper"):
        configuration_named("papper")
    with pytest.raises(ValueError, match="did you mean default or paper"):
        configuration_named("xyz")


def test_configuration_reports_every_mistake_at_once():
    with pytest.raises(ValueError, match=r"graph is 'knn'.*dropout is 1\.0") as caught:
        EncoderConfiguration(graph="knn", dropout=1.0, n_hops=-1, learning_rate=0.0)
    assert "n_hops is -1" in str(caught.value)
    assert "learning_rate is 0.0" in str(caught.value)
