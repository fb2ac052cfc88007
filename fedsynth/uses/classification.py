"""Downstream use: image classification."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsynth.training.supervised import Budget
from fedsynth.uses import Table, Use, predict


class Classification(Use):
    """A small convolutional classifier with GroupNorm, trained with cross-entropy (label smoothing 0.05).

    `images`: number of image channels I; `labels`: number of classes K; `label_names`: their names; `size`: *S.
    `steps`, `batch`, `lr`: the training budget. `width`: channels at full resolution, a multiple of 4, doubled twice;
    `features`: units before the last layer.
    """

    headline = "balanced_accuracy"
    lower = frozenset({"ece"})

    def __init__(
        self,
        images: int,
        labels: int,
        size: tuple[int, ...],
        label_names: tuple[str, ...] = (),
        steps: int = 200,
        batch: int = 24,
        lr: float = 5e-3,
        width: int = 12,
        features: int = 8,
    ):
        self.images, self.labels, self.size, self.label_names = images, labels, size, label_names
        self.steps, self.batch, self.lr, self.width, self.features = steps, batch, lr, width, features
        self.budget = Budget(steps, batch, lr)

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        by_class = [f"{metric}.{name}" for metric in ("sensitivity", "specificity") for name in self.label_names]
        return ("balanced_accuracy", "auroc", "sensitivity", "specificity", "ece", *by_class)

    def chance(self, n: Mapping[str, int | str | None]) -> float:
        """Return 1 / the number of classes that the images have: the balanced accuracy of any answer that is
        independent of the image. A class whose number of images is not told counts as there.
        """
        return 1 / max(1, self.labels - sum(n.get(f"sensitivity.{name}") == 0 for name in self.label_names))

    def network(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Classifier(len(self.size), self.images, self.labels, self.width, self.features)

    def loss(self, output: Tensor, masks: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y, label_smoothing=0.05)

    def judge(self, net: nn.Module, images: Tensor, masks: Tensor, y: Tensor) -> Table:
        """Return `logits` (N, K) and `y` (N,)."""
        return {"logits": predict(net, images, self.labels).numpy(), "y": y.numpy()}

    def summarise(self, table: Table) -> tuple[dict[str, float], dict[str, int]]:
        """Return balanced accuracy, AUROC, sensitivity, specificity and calibration error.

        - `balanced_accuracy`: mean recall over the classes that the images have (as scikit-learn); NaN for fewer than
          two.
        - `auroc`: one class against the rest, mean over all K classes; NaN if a class has no image, because a mean over
          fewer classes is another quantity (Hand & Till 2001 and scikit-learn require all classes, too).
        - `sensitivity`, `specificity`: of each class against the rest, and their means over all K classes; NaN as for
          AUROC.
        - `ece`: expected calibration error of the predicted class with 10 bins (Guo et al. 2017, arXiv:1706.04599,
          equation 3).
        """
        logits, y = torch.from_numpy(table["logits"]), torch.from_numpy(table["y"])
        found = logits.argmax(1)
        metrics = {"balanced_accuracy": balanced_accuracy(logits, y), "auroc": auroc(logits, y)}
        sensitivity = [_share(found[y == k] == k) for k in range(self.labels)]
        specificity = [_share(found[y != k] != k) for k in range(self.labels)]
        metrics |= {
            "sensitivity": _mean(sensitivity),
            "specificity": _mean(specificity),
            "ece": calibration_error(*confidence(table)),
        }
        n = dict.fromkeys(metrics, len(y))
        for k, name in enumerate(self.label_names):
            metrics |= {f"sensitivity.{name}": sensitivity[k], f"specificity.{name}": specificity[k]}
            n |= {f"sensitivity.{name}": int((y == k).sum()), f"specificity.{name}": int((y != k).sum())}
        return metrics, n

    def value(self, table: Table) -> float:
        return balanced_accuracy(torch.from_numpy(table["logits"]), torch.from_numpy(table["y"]))


def _share(right: Tensor) -> float:
    return float(right.double().mean())  # the mean of an empty tensor is NaN


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class Classifier(nn.Module):
    """A convolutional network (B, I, *S) -> (B, K) logits; `embed` gives the input of the last layer, (B, `features`).

    Each image and channel is standardised first, so that a scanner's gain and offset do not matter. What leads to the
    last layer is normalised and has no activation: with few features a SiLU leaves some seeds without most of them, and
    then a set's worth would follow from the seed of the network that judges it (docs/decisions/0020).
    """

    def __init__(self, dimensions: int, images: int, labels: int, width: int, features: int):
        super().__init__()
        from fedsynth.networks.monai_imports import monai_imports

        with monai_imports():
            from monai.networks.blocks import Convolution
            from monai.networks.layers.factories import Norm, Pool

        def block(c_in: int, c_out: int, stride: int) -> nn.Module:
            return Convolution(dimensions, c_in, c_out, strides=stride, act="RELU", norm=("group", {"num_groups": 4}))

        w = width
        self.standardise = Norm[Norm.INSTANCE, dimensions](images)
        self.features = nn.Sequential(
            block(images, w, 1), block(w, 2 * w, 2), block(2 * w, 4 * w, 2), block(4 * w, 4 * w, 2)
        )
        # The maximum shows a small lesion, the mean a change of the whole image.
        self.mean, self.max = Pool[Pool.ADAPTIVEAVG, dimensions](1), Pool[Pool.ADAPTIVEMAX, dimensions](1)
        # Few features, because FID uses this space and its covariance needs more images than features; a small site
        # has about a dozen images.
        self.norm, self.last = nn.LayerNorm(8 * w), nn.Linear(8 * w, features)
        self.head = nn.Linear(features, labels)

    def embed(self, x: Tensor) -> Tensor:
        h = self.features(self.standardise(x))
        found: Tensor = self.last(self.norm(torch.cat([self.mean(h), self.max(h)], 1).flatten(1)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


def balanced_accuracy(logits: Tensor, y: Tensor) -> float:
    """Return the mean recall of logits (N, K) over the classes in y (N,).

    NaN for fewer than two classes, where a constant answer would score 1.
    """
    found = logits.argmax(1)
    present = y.unique()
    if len(present) < 2:
        return float("nan")
    return float(torch.stack([(found[y == k] == k).double().mean() for k in present]).mean())


def auroc(logits: Tensor, y: Tensor) -> float:
    """Return the area under the ROC curve of each class against the rest, mean over the classes.

    `logits` (N, K), `y` (N,). NaN if a class is not in y.
    """
    from fedsynth.networks.monai_imports import monai_imports

    with monai_imports():
        from monai.metrics.rocauc import compute_roc_auc
    labels = logits.shape[1]
    if len(y.unique()) < max(labels, 2):
        return float("nan")
    truth = F.one_hot(y, labels).float()
    return float(compute_roc_auc(logits.softmax(1), truth, average="macro"))  # type: ignore[arg-type]


def confidence(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) the probability of the named class, and (N,) 1 where it is right; no temperature is fitted."""
    from scipy.special import softmax

    if not len(table["y"]):  # the logits of no image may have any shape
        return np.empty(0), np.empty(0)
    shares = softmax(table["logits"].astype(np.float64), axis=1)
    return shares.max(1), (shares.argmax(1) == table["y"]).astype(np.float64)


def calibration_error(sure: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: the sum over the bins of confidence of n_b / N |accuracy - confidence|
    (Guo et al. 2017, arXiv:1706.04599, equation 3).

    `sure`, `right` (N,) as of `confidence`. NaN if there is no image, or one of which the network says nothing finite.
    """
    if not len(sure) or not np.isfinite(sure).all():
        return float("nan")
    places = np.minimum((sure * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(places, sure - right, bins)).sum() / len(sure))
