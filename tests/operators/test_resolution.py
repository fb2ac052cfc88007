"""Coarse pixels are means of fine ones, and the mean is what a model has to keep."""

import pytest
import torch

from fedsynth.operators.resolution import Coarse

X = torch.rand((2, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
NONE = torch.Generator()


def test_each_block_holds_its_mean():
    given = Coarse(4).degrade(X, NONE)
    torch.testing.assert_close(given[:, :4, :4], X[:, :4, :4].mean((1, 2)).view(2, 1, 1).expand(2, 4, 4))


def test_factor_one_changes_nothing():
    for made in (Coarse(1).degrade(X, NONE), Coarse(1).estimate(X), Coarse(1).consistent(-X, X)):
        torch.testing.assert_close(made, X)


def test_after_consistency_the_blocks_have_the_true_means_and_the_models_detail():
    operator, guess = Coarse(2), -X.flip(0)
    made, given = operator.consistent(guess, operator.degrade(X, NONE)), operator.degrade(X, NONE)
    torch.testing.assert_close(operator.degrade(made, NONE), given)
    torch.testing.assert_close(made - operator.degrade(made, NONE), guess - operator.degrade(guess, NONE))


def test_interpolation_is_nearer_to_a_smooth_image_than_blocks_are():
    ramp = torch.linspace(-0.9, 0.9, 16).expand(1, 16, 16)
    given = Coarse(4).degrade(ramp, NONE)
    assert (Coarse(4).estimate(given) - ramp).abs().mean() < 0.5 * (given - ramp).abs().mean()


def test_a_size_that_is_no_multiple_is_named():
    with pytest.raises(ValueError, match=r"\[8, 8\] must be a multiple of 3"):
        Coarse(3).degrade(X, NONE)
