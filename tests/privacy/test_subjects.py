"""DP-SGD whose unit is a subject: all images of one person count as one, however many they are."""

import numpy as np
import pytest
import torch

from fedsynth.algorithms.fedavg import FedAvg
from fedsynth.privacy import PrivacyError
from fedsynth.privacy.dpsgd import DPSGD, together
from fedsynth.training.trainer import Trainer
from tests import toys
from tests.privacy.test_dpsgd import initial, no_chance, silent  # noqa: F401

OWNERS = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])  # of eight images


def protected(subjects=OWNERS, batch=None, **changes):
    """With a batch of all images each subject is in every batch."""
    mechanism, family = DPSGD(8, unit="subject", **changes), toys.Toy()
    optimizers = {name: torch.optim.SGD(p.parameters(), lr=0.1) for name, p in family.players().items()}
    training = toys.training(rounds=1, batch=batch or len(subjects))
    mechanism.protect(family, optimizers, training, len(subjects), 10, subjects)
    return mechanism


def summed(mechanism, x, y):
    """The sum of the clipped gradients of one whole batch, without noise."""
    (places,) = silent(mechanism).batches(1)
    torch.manual_seed(5)
    mechanism.gradient("first", x[places], y[places], None)
    return (
        torch.cat([p.grad.flatten() for p in mechanism.family.first.parameters()])
        * mechanism.rate
        * len(mechanism.units)
    )


def test_a_subject_with_all_of_its_images_changes_the_sum_by_no_more_than_the_clip():
    x, y = toys.images(0, 8)
    x[3:] *= 1000  # each of this subject's images would turn every gradient its way
    with_them, without = (
        summed(protected(max_grad_norm=0.5), x, y),
        summed(protected(OWNERS[:3], max_grad_norm=0.5), x, y),
    )
    assert 0.4 < (with_them - without).norm() <= 0.5 + 1e-5
    as_images = [summed(protected(torch.arange(n), max_grad_norm=0.5), x, y) for n in (8, 3)]
    assert (as_images[0] - as_images[1]).norm() > 1  # of which each has its own clip where the unit is the image


@pytest.mark.parametrize("at_once", [1, 3, 32])
def test_a_subjects_gradient_is_the_mean_of_its_images_however_many_fit_into_memory(no_chance, at_once):  # noqa: F811
    x, y = toys.images(0, 8)
    mechanism = protected(at_once=at_once)
    (places,) = silent(mechanism).batches(1)
    found = list(mechanism.by_unit("first", x[places], y[places], None))
    each = mechanism.samples("first", x, y, None)
    for p in mechanism.family.first.parameters():
        expected = torch.stack([each[p][subject == OWNERS].mean(0) for subject in range(3)])
        assert torch.allclose(torch.cat([means[p] for means in found]), expected, atol=1e-6)


def test_where_each_subject_has_one_image_it_is_the_unit_image_to_the_last_bit():
    def difference(unit):
        t = Trainer(
            toys.Toy(),
            FedAvg(),
            toys.training(rounds=1),
            *toys.images(0, 20),
            None,
            1,
            privacy=DPSGD(3, unit=unit),
            subjects=torch.arange(20),
        )
        t.privacy.random = np.random.default_rng(4)
        for optimizer in t.privacy.noisy.values():
            optimizer.random = t.privacy.random
        return t.round(initial(t.family), 0).difference

    by_image, by_subject = difference("image"), difference("subject")
    assert all((by_image[name] == by_subject[name]).all() for name in by_image)


def test_the_images_of_a_subject_come_together_and_subjects_by_themselves_with_the_rate_of_the_plan():
    mechanism = protected(batch=4)
    mechanism.begin(0)
    counts = np.stack([np.bincount(places, minlength=8) for places in mechanism.batches(1000)])
    assert (counts[:, 1] == counts[:, 2]).all()
    assert (counts[:, 3:] == counts[:, 3:4]).all()
    assert abs(counts.mean(0) - 0.5).max() < 0.08  # 5 standard deviations
    assert abs(np.corrcoef(counts[:, [0, 1, 3]].T)[np.triu_indices(3, 1)]).max() < 0.16


def test_of_a_subject_with_more_images_some_are_drawn_anew_in_each_step():
    mechanism = protected(images_per_subject=2)
    mechanism.begin(0)
    drawn = [places.tolist() for places in mechanism.batches(60)]
    assert {len(places) for places in drawn} == {5}
    assert all(places[:3] == [0, 1, 2] and len(set(places)) == 5 for places in drawn)
    assert set().union(*drawn) == set(range(8))
    assert len({tuple(sorted(places)) for places in drawn}) > 5


def test_subjects_need_the_same_noise_multiplier_as_images_so_that_fewer_of_them_drown_in_it_sooner():
    """The rate is batch / images for both: what an epsilon costs is that the sum has 3 gradients instead of 8."""
    by_subject, by_image = protected(batch=4), protected(torch.arange(8), batch=4)
    for mechanism in (by_subject, by_image):
        mechanism.begin(0)
    assert by_subject.noise == by_image.noise
    expected = [m.noisy["first"].expected_batch_size for m in (by_subject, by_image)]
    assert expected == [1.5, 4]


def test_an_image_that_is_no_number_leaves_no_mark():
    x, y = toys.images(0, 8)
    x[5] = torch.nan
    assert summed(protected(), x, y).isfinite().all()


def test_a_batch_without_any_subject_is_a_step_of_noise_alone():
    mechanism = protected(batch=4)
    mechanism.begin(0)
    mechanism.sizes = []
    mechanism.gradient("first", *toys.images(0, 0), None)
    assert all(p.grad.abs().max() > 0 for p in mechanism.family.first.parameters())


@pytest.mark.parametrize(
    ("sizes", "groups"), [([1, 2, 5, 1], [[1, 2], [5], [1]]), ([1, 1, 1], [[1, 1, 1]]), ([7], [[7]]), ([], [[]])]
)
def test_units_come_together_as_far_as_their_images_fit(sizes, groups):
    assert list(together(sizes, 3)) == groups


@pytest.mark.parametrize("subjects", [None, torch.arange(3)])
def test_without_knowing_whose_the_images_are_it_is_refused(subjects):
    with pytest.raises(PrivacyError, match="whose the images are"):
        DPSGD(8, unit="subject").protect(toys.Toy(), {}, toys.training(), 8, 10, subjects)


def test_a_delta_is_held_against_the_number_of_subjects():
    with pytest.raises(PrivacyError, match="3 subjects"):
        protected(delta=0.4)
