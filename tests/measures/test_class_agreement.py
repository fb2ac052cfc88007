"""Agreement of classes is the balanced accuracy of the real-trained network on the synthetic set, with its real
counterpart as floor.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fedsynth.data.dataset import ImageSet
from fedsynth.measures import MeasureInputs
from fedsynth.measures.class_agreement import ClassAgreement
from tests.measures.seen import look, untrained
from tests.sets import tiny_params


class Reads(nn.Module):
    """Names the class that the first pixel tells: -1, 0 or 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        told = (x[:, 0].flatten(1)[:, 0] + 1).round().long()
        return nn.functional.one_hot(told, 3).float() * self.one


def told(images: ImageSet, places: list[int] | None = None) -> ImageSet:
    """The same set, whose images tell their class, or the one in `places` for each class."""
    names = ["none", "infiltrating", "extra_axial"]
    changed = images.images.copy()
    for i, label in enumerate(images.manifest["label"]):
        k = names.index(label)
        changed[i, 0] = (places[k] if places else k) - 1
    return ImageSet(images.manifest, changed)


@pytest.fixture(params=[(16, 16), (8, 8, 8)], ids=["2d", "3d"])
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> MeasureInputs:
    params = tiny_params(image={"size": request.param})
    real = look(tmp_path, params, 60, 60)
    use = untrained(params)["classification"][0]
    network = {"kinds": (use, Reads())}
    return MeasureInputs(
        params.image, told(real.synthetic), real.extractor, network, told(real.held_out), real.train, seed=1
    )  # type: ignore[arg-type]


def test_images_of_their_class_agree_wholly(seen: MeasureInputs) -> None:
    found = ClassAgreement().at_site(seen).values["class_agreement"]
    assert (found.value, found.floor, found.low, found.high) == (1, 1, 1, 1)
    assert found.n == {"real": len(seen.held_out), "synthetic": 60}  # type: ignore[arg-type]


def test_one_class_that_looks_like_another_costs_its_share(seen: MeasureInputs) -> None:
    seen.synthetic = told(seen.synthetic, [0, 1, 1])
    found = ClassAgreement().at_site(seen).values["class_agreement"]
    assert found.value == pytest.approx(2 / 3)
    assert found.floor == 1


def test_each_class_counts_alike_however_few_images_it_has(seen: MeasureInputs) -> None:
    wrong = told(seen.synthetic, [0, 1, 1])
    third = wrong.manifest["label"] == "extra_axial"
    first = third.to_numpy().nonzero()[0][0]
    seen.synthetic = wrong.where([not t or i == first for i, t in enumerate(third)])  # type: ignore[arg-type]
    found = ClassAgreement().at_site(seen).values["class_agreement"]
    assert found.value == pytest.approx(2 / 3)
    assert found.low < found.high  # type: ignore[operator]


def test_without_a_classification_network_or_with_one_class_there_is_none(seen: MeasureInputs) -> None:
    one = seen.synthetic.where(seen.synthetic.manifest["label"] == "none")
    for networks, synthetic in (({}, seen.synthetic), (seen.networks, one)):
        alone = MeasureInputs(seen.image, synthetic, seen.extractor, networks, seen.held_out, seen.train)
        assert ClassAgreement().at_site(alone).values["class_agreement"].value is None
