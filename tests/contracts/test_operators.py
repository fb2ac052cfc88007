"""Every file of fedsynth/operators keeps the contract of its `__init__`, in slices and volumes."""

import inspect

import pytest
import torch

from fedsynth import operators
from fedsynth.operators import Operator
from tests.contracts.kinds import classes


@pytest.fixture(params=classes(operators, Operator), ids=lambda c: c.__name__)
def made(request):
    return request.param()


@pytest.fixture(params=[(16, 12), (8, 12, 8)], ids=["2-D", "3-D"])
def x(request):
    """Images that use their whole range, two of the corners of a box among them: the worst for ringing."""
    drawn = torch.rand((4, *request.param), generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn[0], drawn[1] = -1, 1
    drawn[2] = torch.where(drawn[2] > 0, 1.0, -1.0)
    return drawn


def degraded(made, x, seed=1):
    return made.degrade(x, torch.Generator().manual_seed(seed))


def test_the_given_channel_has_the_shape_of_its_image_and_stays_in_range(made, x):
    given = degraded(made, x)
    assert given.shape == x.shape
    assert given.dtype == torch.float32
    assert given.abs().max() <= 1


def test_the_generator_alone_decides_it(made, x):
    first = degraded(made, x)
    torch.manual_seed(99)
    assert torch.equal(first, degraded(made, x))


def test_the_estimate_is_an_image_of_the_same_scale(made, x):
    estimate = made.estimate(degraded(made, x))
    assert estimate.shape == x.shape
    assert estimate.abs().max() <= 1
    smooth = torch.full_like(x, 0.3)
    assert (made.estimate(degraded(made, smooth)).mean() - 0.3).abs() < 0.05


def test_the_true_image_is_consistent_with_what_was_measured_of_it(made, x):
    torch.testing.assert_close(made.consistent(x, degraded(made, x)), x, atol=1e-5, rtol=0)


def test_consistency_is_a_projection_that_brings_every_image_nearer_to_the_true_one(made, x):
    given, other = degraded(made, x), x.flip(0)
    once = made.consistent(other, given)
    torch.testing.assert_close(made.consistent(once, given), once, atol=1e-5, rtol=0)
    assert ((once - x).square().sum() <= (other - x).square().sum() + 1e-4).all()


def test_constructor_arguments_become_attributes(made):
    for name, parameter in inspect.signature(type(made)).parameters.items():
        assert getattr(made, name) == parameter.default
