"""Trains a model on one set of images, without a federation: a reference model of the audit, or on public images."""

from __future__ import annotations

import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.data.dataset import ImageSet
from fedsynth.families import Family, leave_out
from fedsynth.params import Block, Image, Training
from fedsynth.training.trainer import Batch, Trainer


def train_alone(family: Block, training: Training, image: Image, images: ImageSet, seed: int,
                what: str = "reference model") -> Family:  # fmt: skip
    """Returns a new model of this family, trained as `training` says on these images and no others.

    It has neither a privacy mechanism nor a state on disk: of patients' images it never leaves the process that trains
    it. `what`: its name in the lines of its rounds. The random state is left as it was.
    """
    images = images.with_given(image)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Family = leave_out(family.build(**image.context()), images.lacking(image))
        trainer = Trainer(model, FedAvg(), training, *tensors(images, image), seed=seed)
        for number in range(training.rounds):
            trainer.round({name: p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}, number)
            print(f"{what}: round {number + 1} of {training.rounds}", flush=True)  # resets stall_s
    return model.eval()


def tensors(images: ImageSet, image: Image) -> Batch:
    """Returns generated channels, labels and given channels (None without any), as the trainer takes them.

    Those of a set on disk stay there (data/stored.py).
    """
    x = images.planes_or_nan(image, image.generated)
    given = images.planes(image, image.given) if image.given else None
    return x, torch.from_numpy(images.condition_labels(image)), given
