"""The default features are the federated network's own, and a missing network is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedsynth.features import ExtractorError
from fedsynth.features.classifier import Classifier
from fedsynth.uses.classification import Classification


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def test_the_features_are_what_the_last_layer_of_the_network_sees(size: tuple[int, ...]) -> None:
    use = Classification(2, 3, size)
    net = use.network(1)
    extractor = Classifier().open({"classification": (use, net)}, Path("nowhere"))
    images = np.random.default_rng(0).uniform(-1, 1, (70, 2, *size)).astype(np.float32)  # more than one batch
    features = extractor.features(images)
    assert features.shape == (70, 8)
    assert features.dtype == np.float64
    with torch.no_grad():
        logits = net(torch.from_numpy(images))
        torch.testing.assert_close(net.head(torch.from_numpy(features).float()), logits, atol=1e-5, rtol=1e-4)
    assert extractor.title == "penultimate layer of the federated classification network, 8 features"


def test_the_network_is_only_looked_at() -> None:
    use = Classification(1, 2, (16, 16))
    net = use.network(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = Classifier().open({"classification": (use, net)}, Path()).features(np.zeros((3, 1, 16, 16), np.float32))
    assert np.ptp(found, axis=0).max() == 0
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_use_that_is_not_there_is_named_with_what_to_do() -> None:
    with pytest.raises(ExtractorError, match=r"'classification'.*they have: none.*score\.uses"):
        Classifier().open({}, Path())


def test_a_network_without_a_penultimate_layer_is_an_error() -> None:
    use = Classification(1, 2, (16, 16))
    with pytest.raises(ExtractorError, match="embed"):
        Classifier(use="other").open({"other": (use, nn.Linear(2, 2))}, Path())
