"""TRTS: whether a classification network trained on real images predicts the label of a synthetic image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import SHARE, About, Answer, Measure, MeasureInputs, Value
from fedsynth.measures._needs import a_use
from fedsynth.measures._statistics import bootstrap

if TYPE_CHECKING:
    from collections.abc import Collection

    from fedsynth.params import Image
    from fedsynth.uses import Use


class ClassAgreement(Measure):
    """Balanced accuracy of the `federated` classification network on the synthetic set.

    This is "train on real, test on synthetic" (Esteban et al. 2017, arXiv:1706.02633, section 4.2). The value depends
    on the synthetic set alone and is the same at every site; the floor is the site's own. None if no use is a
    classification or there is one class. The value may exceed the floor: synthetic images can show their class more
    clearly than real ones.
    """

    about: ClassVar = {
        "class_agreement": About(
            "higher",
            "class agreement",
            "Balanced accuracy on synthetic images of the classification network trained on real images; the floor is"
            " the same on held-out real images.",
            SHARE,
        ),
    }
    independent = False

    def lacks(self, image: Image, uses: Collection[Use]) -> dict[str, str]:
        from fedsynth.uses.classification import Classification

        missing = a_use(Classification, uses)
        return dict.fromkeys(self.about, missing) if missing else {}

    def at_site(self, seen: MeasureInputs) -> Answer:
        held_out = seen.real[0]
        counts = {"real": len(held_out), "synthetic": len(seen.synthetic)}
        made = answers(seen, seen.synthetic)
        if made is None:
            return Answer({"class_agreement": Value(None, counts)})
        real = answers(seen, held_out)
        floor = None if real is None else accuracy(real)
        return Answer(
            {"class_agreement": bootstrap(seen, accuracy, made, purpose="class_agreement", n=counts, floor=floor)}
        )


def answers(seen: MeasureInputs, images: ImageSet) -> np.ndarray | None:
    """Returns (N, K + 1): logits and true class of each image; None without a network or images."""
    from fedsynth.uses import of_kind, predict
    from fedsynth.uses.classification import Classification

    network = of_kind(seen.networks, Classification)
    if network is None or not len(images):
        return None
    use, net = network
    pixels, _, y = images.tensors(seen.image)
    return np.column_stack([predict(net, pixels, use.labels).numpy(), y.numpy()])


def accuracy(table: np.ndarray) -> float:
    """Returns the balanced accuracy of `answers`, NaN for fewer than two classes."""
    import torch

    from fedsynth.uses.classification import balanced_accuracy

    return balanced_accuracy(torch.from_numpy(table[:, :-1]), torch.from_numpy(table[:, -1]).long())
