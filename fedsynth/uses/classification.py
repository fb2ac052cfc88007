"""Downstream use: tell the class of an image from its image channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.supervised import Budget, train
from fedsynth.uses import Use, predict


class Classification(Use):
    """A small convolutional network with GroupNorm and a cross-entropy; `width` channels at full resolution
    (a multiple of 4), doubled twice.

    `images`: image channels I; `labels`: classes K; `size`: *S. `steps`, `batch`, `lr`: the budget, the same for every row.
    """

    headline = "balanced_accuracy"
    metrics = ("balanced_accuracy", "auroc")

    def __init__(
        self, images: int, labels: int, size: tuple[int, ...], steps: int = 200, batch: int = 24, lr: float = 5e-3, width: int = 12
    ):
        self.images, self.labels, self.size = images, labels, size
        self.steps, self.batch, self.lr, self.width = steps, batch, lr, width

    def network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Classifier(len(self.size), self.images, self.labels, self.width)

    def fit(self, images: Tensor, masks: Tensor, y: Tensor, seed: int, weights: Tensor | None = None) -> nn.Module:
        def loss(logits: Tensor, _: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(logits, target, label_smoothing=0.05)

        return train(self.network(seed), loss, images, masks, y, Budget(self.steps, self.batch, self.lr), seed, weights)

    def score(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> tuple[dict[str, float], dict[str, int]]:
        """`balanced_accuracy`: mean recall over the classes that the images have (as scikit-learn), NaN below two classes.
        `auroc`: one class against the rest, mean over all K classes; NaN where a class has no image, because a mean over fewer
        classes is another quantity (Hand & Till 2001 and scikit-learn ask for all of them, too).
        """
        logits = predict(net, images, self.labels)
        n = len(y)
        return {"balanced_accuracy": balanced_accuracy(logits, y), "auroc": auroc(logits, y)}, {"balanced_accuracy": n, "auroc": n}


class Classifier(nn.Module):
    """(B, I, *S) -> (B, K) logits. Each image and channel is standardised first, so that a scanner's gain and offset do not matter."""

    def __init__(self, dimensions: int, images: int, labels: int, width: int):
        super().__init__()
        from fedsynth.lean import monai_imports

        with monai_imports():
            from monai.networks.blocks import Convolution
            from monai.networks.layers.factories import Norm, Pool

        def block(c_in: int, c_out: int, stride: int) -> nn.Module:
            return Convolution(dimensions, c_in, c_out, strides=stride, act="RELU", norm=("group", {"num_groups": 4}))

        w = width
        self.standardise = Norm[Norm.INSTANCE, dimensions](images)
        self.features = nn.Sequential(block(images, w, 1), block(w, 2 * w, 2), block(2 * w, 4 * w, 2), block(4 * w, 4 * w, 2))
        # A small lesion shows in the maximum, a change of the whole image in the mean.
        self.mean, self.max = Pool[Pool.ADAPTIVEAVG, dimensions](1), Pool[Pool.ADAPTIVEMAX, dimensions](1)
        self.head = nn.Linear(8 * w, labels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(self.standardise(x))
        return self.head(torch.cat([self.mean(h), self.max(h)], 1).flatten(1))


def balanced_accuracy(logits: Tensor, y: Tensor) -> float:
    """Mean over the classes in y (N,) of the share that logits (N, K) find; NaN below two, where a constant answer would score 1."""
    found = logits.argmax(1)
    present = y.unique()
    if len(present) < 2:
        return float("nan")
    return float(torch.stack([(found[y == k] == k).double().mean() for k in present]).mean())


def auroc(logits: Tensor, y: Tensor) -> float:
    """Area under the ROC curve of each class against the rest by its probability, mean over the classes; NaN where one is not in y."""
    from fedsynth.lean import monai_imports

    with monai_imports():
        from monai.metrics.rocauc import compute_roc_auc
    labels = logits.shape[1]
    if len(y.unique()) < max(labels, 2):
        return float("nan")
    return float(compute_roc_auc(logits.softmax(1), F.one_hot(y, labels).float(), average="macro"))  # type: ignore[arg-type]
