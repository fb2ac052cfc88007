"""What a model is asked and what becomes of its answer: labels that it is not told, what was measured, the baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedsynth.data.dataset import ImageSet
from fedsynth.families import Family
from fedsynth.operators import operator
from fedsynth.stages.ingest import ingest
from fedsynth.training import sampling
from tests.sets import make_set, tiny_params

KSPACE = {"class_path": "fedsynth.operators.kspace.Undersample", "args": {"factor": 2}}
DERIVED = {"t1_low": {"of": "t1", "operator": KSPACE}}
RECONSTRUCTION = {
    "channels": {"t1_low": "image", "t1": "image", "lesion": "mask"},
    "given": ["t1_low"],
    "aside": ["lesion"],
    "derived": DERIVED,
}


class Constant(Family):
    """Draws `value` everywhere and remembers what it was asked."""

    def __init__(self, value: float = 0.0, channels: int = 1):
        super().__init__()
        self.value, self.channels, self.asked = value, channels, []

    def players(self):
        return {}

    def loss(self, player, x, y, given):
        raise NotImplementedError

    def sample(self, y, given=None, generator=None):
        self.asked.append((y, given))
        return torch.full((len(y), self.channels, *(given.shape[2:] if given is not None else (16, 16))), self.value)


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory):
    params = tiny_params(image=RECONSTRUCTION)
    folder = tmp_path_factory.mktemp("sites")
    ingest(params, folder)
    return params, ImageSet.load(folder / "north")


def test_a_derived_channel_is_what_the_operator_makes_of_the_scaled_one(reconstruction):
    params, images = reconstruction
    low, whole = (torch.from_numpy(images.channels(params.image, [name])[:, 0]) for name in ("t1_low", "t1"))
    torch.testing.assert_close(operator(params.image, "t1_low").degrade(whole, torch.Generator()), low)
    assert whole.amax() == 1


def test_a_set_with_a_derived_channel_is_the_same_again_and_its_noise_another_for_each_image(tmp_path):
    noise = {"class_path": "fedsynth.operators.dose.LowDose"}
    params = tiny_params(image=RECONSTRUCTION | {"derived": {"t1_low": {"of": "t1", "operator": noise}}})
    first, again = ingest(params, tmp_path / "a"), ingest(params, tmp_path / "b")
    assert first["north"].equals(again["north"])
    images = ImageSet.load(tmp_path / "a" / "north").images
    difference = images[:, 0] - images[:, 1]
    assert not np.array_equal(difference[0], difference[1])


def test_uses_see_no_derived_channel(reconstruction):
    params, images = reconstruction
    assert params.image.context()["images"] == images.tensors(params.image)[0].shape[1] == 1
    assert params.image.generated == ["t1"]


def test_what_a_model_draws_is_made_to_agree_with_what_was_measured(reconstruction):
    params, images = reconstruction
    made = sampling.convert(Constant(), params.image, images, seed=1)
    true, found = (torch.from_numpy(of.channels(params.image, ["t1"])) for of in (images, made))
    # of a constant, which without it would be wrong everywhere
    assert (found - true).square().mean() < 0.7 * true.square().mean()
    np.testing.assert_array_equal(made.channels(params.image, ["lesion"]), images.channels(params.image, ["lesion"]))


@pytest.mark.parametrize(
    ("given", "told"), [(["lesion"], True), (["t1"], False), (["t1", "lesion"], False), ([], True)]
)
def test_a_model_is_told_the_label_unless_an_image_is_given(tmp_path, given, told):
    image = tiny_params(image={"given": given}).image
    channels = len(image.generated)
    images, family = make_set(tmp_path, tiny_params(), n=6), Constant(channels=channels)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    sampling.draw(family, image, y, torch.zeros(6, len(given), 16, 16) if given else None)
    assert family.asked[0][0].tolist() == (y if told else 0 * y).tolist()
    assert (
        images.condition_labels(image).tolist() == (images.labels(image) if told else 0 * images.labels(image)).tolist()
    )


def test_the_baseline_of_a_derived_channel_is_its_operators_estimate(reconstruction):
    params, images = reconstruction
    base = sampling.baseline(params.image, images, sampling.means_of(params.image, images))
    low = torch.from_numpy(images.channels(params.image, ["t1_low"])[:, 0])
    np.testing.assert_array_equal(
        base.channels(params.image, ["t1"])[:, 0], operator(params.image, "t1_low").estimate(low).numpy()
    )


def test_the_baseline_of_a_conversion_is_the_mean_training_image_and_for_a_mask_that_of_its_label(tmp_path):
    images = make_set(tmp_path, tiny_params(), n=12)
    for given, places in (
        (["t1"], np.arange(12)),
        (["lesion", "t1"], np.arange(12)),
        (["lesion"], np.arange(0, 12, 3)),
    ):
        image = tiny_params(image={"given": given}).image
        base = sampling.baseline(image, images, sampling.means_of(image, images)).channels(image, ["t2"])
        np.testing.assert_allclose(base[0, 0], images.channels(image, ["t2"])[places, 0].mean(0), atol=1e-6)
