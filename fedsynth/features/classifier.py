"""The default feature space: the penultimate layer of the `federated` classification network. No download is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedsynth.features import Extractor, ExtractorError, in_batches

if TYPE_CHECKING:
    from torch import nn

    from fedsynth.uses import Use


class Classifier(Extractor):
    """Features (N, F) of a use's `federated` network: a classifier's penultimate layer, a segmenter's coarsest level.

    `use` is a block of `score.uses` whose network has `embed(x) -> (B, F)`. Such features capture what separates the
    classes and little else: a defect of the synthetic images that is irrelevant to the classes may not show.
    """

    title = "penultimate layer of the federated classification network"

    def __init__(self, use: str = "classification"):
        self.use = use

    def open(self, networks: dict[str, tuple[Use, nn.Module]], folder: Path) -> Classifier:
        from fedsynth.networks.device import device

        if self.use not in networks:
            there = ", ".join(networks) or "none"
            raise ExtractorError(
                f"the features come from the federated network of the use {self.use!r}, and the references have none"
                f" (they have: {there}); add the use to score.uses, name another one with score.features.args.use, or"
                " take another extractor"
            )
        self.net = networks[self.use][1].eval().to(device())
        if not callable(getattr(self.net, "embed", None)):
            raise ExtractorError(f"the network of the use {self.use!r} has no features `embed`; name another use")
        features = getattr(getattr(self.net, "head", None), "in_features", None)
        layer = f"penultimate layer of the federated {self.use} network, {features} features" if features else ""
        self.title = layer or f"coarsest level of the federated {self.use} network"
        return self

    def features(self, images: np.ndarray) -> np.ndarray:
        return in_batches(self.net.embed, images, next(self.net.parameters()).device)  # type: ignore[arg-type]
